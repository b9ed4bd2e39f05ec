"""One file over HTTP: continued where it broke off, checked, and only then given its name."""

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import requests

from pymcdust.errors import DownloadError

#: Attempts in a row that bring nothing before it is given up.
ATTEMPTS = 5

#: Pause before the second attempt [s]; it doubles from one to the next.
PAUSE = 1.0

#: Bytes read at a time; so many must arrive for an attempt to have brought something.
BLOCK = 2**20

#: Longest wait for a connection, and for the next bytes [s].
TIMEOUT = (10.0, 60.0)

#: What files of a kind begin with: a page that asks for a login, or tells of an error, does not.
SIGNATURES = {".fits": b"SIMPLE  =", ".h5": b"\x89HDF\r\n\x1a\n"}

# Lengths and ranges are those of the file itself only where nothing compresses it on its way.
_HEADERS = {"Accept-Encoding": "identity"}


class _BrokenOffError(Exception):
    """An attempt that failed, where the next one may not."""


def readable(size: float | None) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> readable(727_902_836), readable(512), readable(None)
    ('728 MB', '512 B', 'unknown')
    """
    if size is None:
        return "unknown"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def digest(path: Path, algorithm: str) -> str:
    """Return the checksum of a file as ``algorithm:hexadecimal``."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def fetch(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
    advance: Callable[[int, int | None], object] = lambda done, total: None,
) -> None:
    """Download a file that appears under its name only when it is whole.

    Until then it is ``NAME.part``, with ``NAME.part.json`` beside it: what the server said of the
    file, by which a later run knows that what it continues is still the same.

    Parameters
    ----------
    url : str
        Its address.
    path : Path
        Where it goes; a file that is there already is left as it is.
    size : int, optional
        Its number of bytes.
    checksum : str, optional
        Its checksum, as ``md5:...``.
    advance : callable
        Called with the bytes that are there, and that there will be, or None.

    Raises
    ------
    DownloadError
        If the server refuses, breaks off too often, or sends something else; if the disk is full;
        if another process is at it.
    """
    with _locked_part(path) as part:
        if path.exists():
            # Another process has finished it between our look and the lock.
            return
        state = _beside(path, ".part.json")

        def attempt() -> None:
            _go_on(url, path, part, state, size, advance)

        def kept() -> int:
            return part.seek(0, os.SEEK_END)

        try:
            persist(attempt, kept)
        except DownloadError as error:
            if have := kept():
                raise DownloadError(
                    f"{path.name}: {error}; {readable(have)} are kept, and the next run goes on "
                    "from there where the archive allows it"
                ) from error
            raise DownloadError(f"{path.name}: {error}") from error
        _check(path, checksum)
        os.fsync(part)
        _beside(path, ".part").replace(path)
        state.unlink(missing_ok=True)


def persist[Result](attempt: Callable[[], Result], kept: Callable[[], int] = lambda: 0) -> Result:
    """Try until it works, or has brought nothing `ATTEMPTS` times in a row.

    `kept` is the number of bytes that are there; only a new maximum counts as progress, for a
    server that starts anew each time and breaks off each time would otherwise be asked for ever.
    """
    most, failures = kept(), 0
    while True:
        try:
            return attempt()
        except _BrokenOffError as error:
            have = kept()
            failures = 1 if have >= most + BLOCK else failures + 1
            most = max(most, have)
            if failures == ATTEMPTS:
                raise DownloadError(f"{error} ({ATTEMPTS} attempts)") from error
            time.sleep(PAUSE * 2 ** (failures - 1))


def announced_size(url: str) -> int | None:
    """Ask a server how large a file is, None if it does not say.

    Raises
    ------
    DownloadError
        If the server refuses the file.
    """
    try:
        with _answer(url, _HEADERS) as response:
            return _announced(response)
    except _BrokenOffError:
        # The transfer will try again, and tell.
        return None


def get_json(url: str, **query: str) -> Any:
    """Return the JSON that a server answers with.

    Raises
    ------
    DownloadError
        If the server refuses, or answers with something else.
    """

    def attempt() -> Any:
        with _answer(url, {}, query) as response:
            return response.json()

    try:
        return persist(attempt)
    except requests.exceptions.JSONDecodeError as error:
        raise DownloadError(f"{url} answers with something other than JSON") from error


@contextmanager
def _answer(
    url: str, headers: Mapping[str, str], query: Mapping[str, str] | None = None
) -> Iterator[requests.Response]:
    """Ask, and hand out the answer if it is of use; whatever fails meanwhile is broken off."""
    try:
        with requests.get(
            url, params=query, headers=headers, stream=True, timeout=TIMEOUT
        ) as response:
            status = response.status_code
            said = f"{url} answers {status} {response.reason}"
            if status in (408, 425, 429) or status >= 500:
                raise _BrokenOffError(said)
            if status >= 400 and status != 416:
                raise DownloadError(said)
            yield response
    except requests.exceptions.JSONDecodeError:
        raise
    except requests.RequestException as error:
        raise _BrokenOffError(f"{url} broke off: {error}") from error


def _go_on(
    url: str,
    path: Path,
    part: FileIO,
    state: Path,
    size: int | None,
    advance: Callable[[int, int | None], object],
) -> None:
    """Fetch what is missing of a file, or all of it if what is there cannot be continued."""
    have, known = part.seek(0, os.SEEK_END), _read(state)
    if known.get("url") != url or not known.get("validator"):
        have = 0
    if have and have == known["total"]:
        return
    ranged = {"Range": f"bytes={have}-", "If-Range": known["validator"]} if have else {}
    with _answer(url, _HEADERS | ranged) as response:
        if response.status_code == 206 and not _continues(response, have, known):
            part.truncate(0)
            raise _BrokenOffError(f"{url} continues with another file")
        if response.status_code == 416:
            # What is there is longer than the file: it is of another one.
            part.truncate(0)
            raise _BrokenOffError(f"{url} has no bytes after {have}")
        total = known["total"] if response.status_code == 206 else _announced(response)
        if "text/html" in response.headers.get("Content-Type", ""):
            raise DownloadError(f"{url} sends an HTML page, not the file: a login, or an error?")
        if size is not None and total is not None and total != size:
            raise DownloadError(f"{url} announces {total} bytes, but the file has {size}")
        if response.status_code == 200:
            part.truncate(0)
            have = 0
            validator = _validator(response)
            state.write_text(json.dumps({"url": url, "validator": validator, "total": total}))
        expected = size if size is not None else total
        for block in response.iter_content(BLOCK):
            if not have:
                _check_start(block, path, part)
            _write(part, block)
            have += len(block)
            advance(have, expected)
    if expected is not None and have < expected:
        raise _BrokenOffError(f"{url} ended after {have} of {expected} bytes")
    if expected is not None and have > expected:
        part.truncate(0)
        raise DownloadError(f"{url} sends {have} bytes, but the file has {expected}")


def _continues(response: requests.Response, have: int, known: Mapping[str, Any]) -> bool:
    """Tell whether the answer to a range is that range of the same file."""
    stated = response.headers.get("Content-Range", "")
    if not (found := re.fullmatch(r"bytes (\d+)-\d+/(\d+)", stated)):
        return False
    same = _validator(response) in (None, known["validator"])
    return same and int(found[1]) == have and int(found[2]) == known["total"]


def _validator(response: requests.Response) -> str | None:
    """Return what tells states of a file apart: a strong ETag, or the time of its change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _announced(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _write(part: FileIO, block: bytes) -> None:
    """Write a block whole, or tell why not; what has arrived stays."""
    rest = memoryview(block)
    try:
        while rest:
            rest = rest[part.write(rest) :]
    except OSError as error:
        raise DownloadError(f"cannot be written: {error.strerror}") from error


def check_signature(path: Path) -> None:
    """Refuse a file that does not begin as one of its kind does.

    Raises
    ------
    DownloadError
        Saying how it begins.
    """
    signature = SIGNATURES.get(path.suffix, b"")
    with path.open("rb") as file:
        start = file.read(20)
    if start[: len(signature)] != signature:
        raise DownloadError(
            f"{path} is no {path.suffix} file: it begins with {start!r}; remove it, and it is "
            "downloaded again"
        )


def _check_start(start: bytes, path: Path, part: FileIO) -> None:
    """Refuse what does not begin as a file of its kind does."""
    signature = SIGNATURES.get(path.suffix, b"")
    if start[: len(signature)] != signature[: len(start)]:
        part.truncate(0)
        raise DownloadError(
            f"what was sent is no {path.suffix} file: it begins with {start[:20]!r}; a login page, "
            "or an error?"
        )


def _check(path: Path, checksum: str | None) -> None:
    """Compare the checksum; a wrong file is removed, for nothing in it can be trusted."""
    if checksum is None:
        return
    part = _beside(path, ".part")
    found = digest(part, checksum.partition(":")[0])
    if found != checksum:
        part.unlink()
        _beside(path, ".part.json").unlink(missing_ok=True)
        raise DownloadError(
            f"{path.name}: the checksum is {found}, not {checksum}; the file was removed"
        )


@contextmanager
def _locked_part(path: Path) -> Iterator[FileIO]:
    """Open the unfinished file, for this process alone."""
    name = _beside(path, ".part")
    while True:
        part = FileIO(name, "a+")
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            part.close()
            raise DownloadError(
                f"{path.name} is being downloaded by another process; run again when it is done"
            ) from None
        # Whoever held the lock may have renamed the file that it was on.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(part.fileno()), name.stat()):
                break
        part.close()
    try:
        yield part
    finally:
        if name.exists() and not part.seek(0, os.SEEK_END):
            name.unlink()
            _beside(path, ".part.json").unlink(missing_ok=True)
        part.close()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def kept_bytes(path: Path) -> int:
    """Return how many bytes of a file are there from a run that was stopped."""
    try:
        return _beside(path, ".part").stat().st_size
    except FileNotFoundError:
        return 0


def _read(state: Path) -> dict[str, Any]:
    """Read what was noted of an unfinished file; nothing, where that is not to be had."""
    try:
        return json.loads(state.read_text())
    except (OSError, ValueError):
        return {}
