"""Arrays that are kept on disk until the sky is whole, so that a killed run goes on."""

import fcntl
import json
import os
import shutil
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from pymcdust.errors import ConfigurationError
from pymcdust.sky.store import check_free

_NOTE, _DRAFT, _LOCK = "fingerprint.json", "fingerprint.partial", "lock"


class Stages:
    """The intermediate arrays of a sky that is being prepared, in a folder beside its place.

    Parameters
    ----------
    out : Path
        Where the sky will be.
    fingerprint : dict
        What the arrays depend on, as JSON has it. A folder with another one is refused.
    overwrite : bool
        Whether a sky that is already at `out` may be replaced.

    Raises
    ------
    ConfigurationError
        If `out` is taken, or what was begun there depends on something else.
    """

    def __init__(self, out: Path, fingerprint: Mapping[str, Any], overwrite: bool = False) -> None:
        check_free(out, overwrite)
        self.folder = self.place(out)
        self._claim = Claim(self.folder, fingerprint, "sky")

    @staticmethod
    def place(out: Path) -> Path:
        """Name the folder beside the place of a sky."""
        return out.with_name(f"{out.name}.stages")

    def has(self, *names: str) -> bool:
        """Tell whether arrays are there, whole."""
        return all(self._path(name).exists() for name in names)

    def load(self, name: str) -> np.ndarray:
        """Map an array from disk into memory, to be read only."""
        return np.load(self._path(name), mmap_mode="r")

    def save(self, name: str, array: np.ndarray) -> None:
        """Keep an array."""
        with self.writing(**{name: (array.shape, array.dtype)}) as (stored,):
            stored[...] = array

    @contextmanager
    def writing(self, **arrays: tuple[tuple[int, ...], Any]) -> Iterator[tuple[np.ndarray, ...]]:
        """Give arrays on disk to fill, which take their names when all of them are filled.

        Parameters
        ----------
        **arrays : (shape, dtype)
            By name.

        Yields
        ------
        tuple of array
            Filled with zeros.
        """
        drafts = {name: self.folder / f".{name}.{uuid.uuid4().hex[:8]}.partial" for name in arrays}
        try:
            yield tuple(_allocate(drafts[name], *arrays[name]) for name in arrays)
            for name, draft in drafts.items():
                draft.replace(self._path(name))
        finally:
            for draft in drafts.values():
                draft.unlink(missing_ok=True)

    def remove(self, *names: str) -> None:
        """Delete arrays that nothing needs any more."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete everything: the sky is whole."""
        self._claim.discard()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


class Claim:
    """A folder for the beginnings of a result, new or with those of the same one.

    As long as the object lives other processes are refused.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    fingerprint : dict
        What the result depends on, as JSON has it.
    kind : str
        What the result is, for the message.

    Raises
    ------
    ConfigurationError
        If the folder holds the beginning of a result that depends on something else, or nobody
        knows on what; if another process is at work in it.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], kind: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
        weakref.finalize(self, os.close, lock)
        try:
            # It is the process that holds it, which may open the folder again.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"{folder} is in use: another process makes the same {kind}; wait for it, or "
                "choose another place"
            ) from error
        note = folder / _NOTE
        if not note.exists():
            self._begin(note, fingerprint)
            return
        try:
            begun = json.loads(note.read_text())
        except ValueError as error:
            raise ConfigurationError(
                f"{note} is damaged, so that nobody knows what {folder} holds the beginning of; "
                "remove the folder"
            ) from error
        changed = [key for key in fingerprint if begun.get(key) != fingerprint[key]]
        if changed:
            raise ConfigurationError(
                f"{folder} holds the beginning of a {kind} with another {' and '.join(changed)}; "
                "start that again to finish it, or remove the folder"
            )

    def _begin(self, note: Path, fingerprint: Mapping[str, Any]) -> None:
        draft = note.with_name(_DRAFT)
        if any(path.name not in (_LOCK, _DRAFT) for path in self.folder.iterdir()):
            raise ConfigurationError(
                f"{self.folder} does not say what it holds the beginning of; remove the folder"
            )
        draft.write_text(json.dumps(fingerprint))
        draft.replace(note)

    def discard(self) -> None:
        """Delete the folder; where that is cut short, nothing of it bears its name."""
        aside = self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex[:8]}.done")
        self.folder.rename(aside)
        shutil.rmtree(aside)


def take_room(file: IO[bytes], size: int) -> None:
    """Take the room of a file on disk before it is mapped.

    A disk that is full is then an `OSError`, where the first touch of a page that has no room would
    end the program.

    Parameters
    ----------
    file : file
        Open for writing.
    size : int
        Its length [bytes].
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file.fileno(), 0, size)


def _allocate(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        take_room(file, path.stat().st_size)
    return array
