"""Files that appear whole or not at all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pymcdust.errors import ConfigurationError, listing
from pymcdust.sky.store import check_free


@contextmanager
def staged(folder: Path, names: Sequence[str], overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder to write in, and move what was written into `folder` at the end.

    Where the body of the ``with`` statement fails, nothing of it remains.

    Parameters
    ----------
    folder : Path
        Folder of the finished files, made where it is missing.
    names : sequence of str
        Names of the files that the body writes into the folder given to it.
    overwrite : bool
        Whether files of these names may be replaced.

    Yields
    ------
    Path
        The folder to write in, on the same disk as `folder`.

    Raises
    ------
    ConfigurationError
        As `check_names` does.
    """
    check_names(folder, names, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
        yield Path(unfinished)
        for name in names:
            (Path(unfinished) / name).replace(folder / name)


def check_names(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Refuse names that are taken, before the work whose results are to have them.

    Parameters
    ----------
    folder : Path
        Folder of the files; it need not exist.
    names : sequence of str
        Names of files, and of Zarr stores (``.zarr``), to be written.
    overwrite : bool
        Whether files and stores of these names may be replaced.

    Raises
    ------
    ConfigurationError
        If `folder` is a file; if it holds one of `names`, and `overwrite` is false or what it holds
        is of another kind.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file; give a folder to write {listing(names)} in")
    present = [name for name in names if (folder / name).exists()]
    if present and not overwrite:
        raise ConfigurationError(
            f"{folder} already holds {listing(present)}; give another folder, or ask to overwrite "
            "(--overwrite, in Python overwrite=True)"
        )
    for path in (folder / name for name in present):
        if path.suffix == ".zarr":
            check_free(path, overwrite)
        elif path.is_dir():
            raise ConfigurationError(
                f"{path} is a folder and will not be overwritten; give another one to write "
                f"{listing(names)} in"
            )
