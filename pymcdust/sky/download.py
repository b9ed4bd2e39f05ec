"""The surveys' public files, fetched into a folder of the user's and checked."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from pymcdust.errors import DownloadError, listing
from pymcdust.sky import archives
from pymcdust.sky.archives import DataFile, DataverseFile, expand
from pymcdust.sky.transfer import (
    announced_size,
    check_signature,
    digest,
    fetch,
    get_json,
    kept_bytes,
    readable,
)

#: Environment variable that names the folder.
FOLDER_VARIABLE = "PYMCDUST_DATA"

#: More than this is not downloaded unasked [bytes].
LARGE = 100e6

DATAVERSE = "https://dataverse.harvard.edu"


@dataclass(frozen=True)
class Transfer:
    """A file that is asked for: whose it is, where it goes, and what is known of it.

    `present` whether it is there; `kept` bytes of it are there from a run that was stopped;
    `url`, `size` and `checksum` may be None until the archive has been asked.
    """

    product: str
    file: DataFile
    path: Path
    present: bool
    kept: int
    url: str | None
    size: int | None
    checksum: str | None

    @property
    def bytes_left(self) -> float | None:
        """Bytes still to be fetched, as far as known; None if even roughly they are not."""
        size = self.size if self.size is not None else self.file.about
        return None if size is None else max(size - self.kept, 0)

    @property
    def size_text(self) -> str:
        """The size for people, with ``~`` where it is not known exactly."""
        if self.size is None and self.file.about is not None:
            return f"~{readable(self.file.about)}"
        return readable(self.size)


def data_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of downloads: `folder`, else ``PYMCDUST_DATA``, else the user's cache."""
    if folder is None:
        folder = os.environ.get(FOLDER_VARIABLE) or platformdirs.user_cache_dir("pymcdust")
    return Path(folder).expanduser()


def plan(names: str | Iterable[str], folder: str | Path | None = None) -> list[Transfer]:
    """List the files of products or groups, and which are there; no network is touched.

    Parameters
    ----------
    names : str or iterable of str
        Products, such as ``bayestar2019``, or groups, such as ``paper``: see
        :data:`pymcdust.sky.archives.PRODUCTS` and ``GROUPS``.
    folder : path, optional
        The folder of downloads: see :func:`data_folder`.

    Raises
    ------
    ConfigurationError
        If a name is unknown.
    """
    where = data_folder(folder)
    found = []
    for product in expand(names):
        for file in archives.PRODUCTS[product].files:
            path = where / file.name
            kept = kept_bytes(path)
            url = file.source if isinstance(file.source, str) else None
            found.append(
                Transfer(product, file, path, path.is_file(), kept, url, file.size, file.checksum)
            )
    return found


def download(
    names: str | Iterable[str],
    folder: str | Path | None = None,
    *,
    offline: bool = False,
    confirm: bool | Callable[[Sequence[Transfer]], bool] = False,
    progress: Callable[[str, int, int | None], object] = lambda name, done, total: None,
) -> dict[str, list[Path]]:
    """Fetch what is missing of the surveys' files; a run that was stopped goes on.

    Files are checked against the archive's checksums. Where none is known, the SHA-256 that was
    found is noted in ``NAME.json`` beside the file, and a later change is an error.

    Parameters
    ----------
    names : str or iterable of str
        Products or groups: see :func:`plan`.
    folder : path, optional
        Where they go: by default the folder that the environment variable ``PYMCDUST_DATA``
        names, else the user's cache.
    offline : bool
        Touch no network; files that are missing are an error.
    confirm : bool or callable
        Whether more than 100 MB, or a size that nobody tells, may be fetched; a callable is given
        the transfers and decides.
    progress : callable
        Called with the name of a file, the bytes that are there, and that there will be.

    Returns
    -------
    dict of list of Path
        The files of each product.

    Raises
    ------
    ConfigurationError
        If a name is unknown.
    DownloadError
        If a file cannot be had, is not what it should be, or was changed since; if the disk is
        too small; if `confirm` says no.
    """
    transfers = plan(names, folder)
    for transfer in transfers:
        if transfer.present:
            _check_present(transfer)
    missing = [transfer for transfer in transfers if not transfer.present]
    if missing and offline:
        lines = [f"{t.path.name} ({t.size_text}) from {t.file.source}" for t in missing]
        raise DownloadError(f"missing in {data_folder(folder)}: {listing(lines)}")
    if missing:
        missing = [_resolve(transfer) for transfer in missing]
        data_folder(folder).mkdir(parents=True, exist_ok=True)
        _check_room(missing, data_folder(folder))
        _ask(missing, confirm)
        for transfer in missing:
            _carry_out(transfer, progress)
    paths: dict[str, list[Path]] = {}
    for transfer in transfers:
        paths.setdefault(transfer.product, []).append(transfer.path)
    return paths


def _resolve(transfer: Transfer) -> Transfer:
    """Ask the archive for what the table does not know: address, size, checksum."""
    url, size, checksum = transfer.url, transfer.size, transfer.checksum
    if isinstance(transfer.file.source, DataverseFile):
        record = _dataverse_record(transfer.file.source)
        url = f"{DATAVERSE}/api/access/datafile/{record['id']}"
        size = size if size is not None else record.get("filesize")
        if checksum is None and record.get("md5"):
            checksum = f"md5:{record['md5']}"
    elif size is None:
        size = announced_size(transfer.file.source)
    return Transfer(
        transfer.product, transfer.file, transfer.path, False, transfer.kept, url, size, checksum
    )


def _dataverse_record(source: DataverseFile) -> dict:
    """Find the record of a file in a data set of the Dataverse."""
    query = {"persistentId": str(source)}
    answer = get_json(f"{DATAVERSE}/api/datasets/:persistentId", **query)
    try:
        records = [entry["dataFile"] for entry in answer["data"]["latestVersion"]["files"]]
    except (KeyError, TypeError):
        raise DownloadError(f"{DATAVERSE} does not list the files of {source}") from None
    for record in records:
        if all(record.get(key) == value for key, value in source.wanted):
            return record
    wanted = listing(f"{key} {value!r}" for key, value in source.wanted)
    there = listing(record.get("filename", "?") for record in records)
    raise DownloadError(f"{source} has no file of {wanted}; it has {there}")


def _check_room(missing: Sequence[Transfer], folder: Path) -> None:
    """Refuse before the first byte what the disk cannot hold."""
    needed = sum(transfer.bytes_left or 0 for transfer in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{folder} has {readable(free)} free, but {readable(needed)} are to be downloaded"
        )


def _ask(missing: Sequence[Transfer], confirm: bool | Callable[[Sequence[Transfer]], bool]) -> None:
    """Have a large download allowed."""
    left = [transfer.bytes_left for transfer in missing]
    total = sum(size or 0 for size in left)
    if None not in left and total <= LARGE:
        return
    allowed = confirm(missing) if callable(confirm) else confirm
    if not allowed:
        sizes = listing(f"{t.path.name} ({t.size_text})" for t in missing)
        raise DownloadError(f"nothing was downloaded: not confirmed were {sizes}")


def _carry_out(transfer: Transfer, progress: Callable[[str, int, int | None], object]) -> None:
    """Fetch one file, and note what it was."""
    name = transfer.path.name
    fetch(
        transfer.url,
        transfer.path,
        size=transfer.size,
        checksum=transfer.checksum,
        advance=lambda done, total: progress(name, done, total),
    )
    checksum = transfer.checksum or digest(transfer.path, "sha256")
    _note(transfer.path, transfer.url, checksum)


def _check_present(transfer: Transfer) -> None:
    """Refuse a file that is not what it should be, or not what it was; look into it only if new."""
    note, now = _read_note(transfer.path), transfer.path.stat()
    known = transfer.checksum or note.get("checksum")
    unchanged = (note.get("size"), note.get("mtime_ns")) == (now.st_size, now.st_mtime_ns)
    if unchanged and note.get("checksum") == known:
        return
    if transfer.size not in (None, now.st_size):
        raise DownloadError(
            f"{transfer.path} has {now.st_size} bytes, not {transfer.size}; remove it, and it is "
            "downloaded again"
        )
    check_signature(transfer.path)
    found = digest(transfer.path, known.partition(":")[0] if known else "sha256")
    if known and found != known:
        raise DownloadError(
            f"{transfer.path}: the checksum is {found}, not {known}; the file is another one or "
            "has changed; remove it, and it is downloaded again"
        )
    _note(transfer.path, note.get("url"), found)


def _note(path: Path, url: str | None, checksum: str) -> None:
    """Write beside a file what it is."""
    state = path.stat()
    content = {
        "url": url,
        "checksum": checksum,
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _note_path(path).write_text(json.dumps(content, indent=2) + "\n")


def _read_note(path: Path) -> dict:
    """Read what is noted of a file; nothing, where that is not to be had."""
    try:
        return json.loads(_note_path(path).read_text())
    except (OSError, ValueError):
        return {}


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")
