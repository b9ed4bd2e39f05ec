"""Zarr stores that are whole or refused: written beside and renamed, checked on opening."""

import os
import shutil
import uuid
import warnings
from pathlib import Path

import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from pymcdust.errors import ConfigurationError, FileFormatError, listing

#: Root attribute that lists the arrays of a store, so that a lost one is noticed.
INVENTORY = "store_arrays"


def write_store(
    dataset: xr.Dataset, path: str | Path, *, superpixels_per_chunk: int, overwrite: bool = False
) -> None:
    """Write a dataset as a Zarr 3 store that appears under its name only when it is whole.

    Every chunk is written, even where it is empty, and carries a checksum: a chunk that is
    missing or cut short is then a fault, which Zarr would otherwise fill in silently.

    Parameters
    ----------
    dataset : xarray.Dataset
        What to write; variables may be lazy.
    path : path
        Folder of the store.
    superpixels_per_chunk : int
        Length of the chunks along ``superpixel``; other dimensions are not cut.
    overwrite : bool
        Replace a Zarr store that is already there.

    Raises
    ------
    ConfigurationError
        If `path` exists and may not be replaced.
    """
    path = Path(path)
    check_free(path, overwrite)
    dataset = dataset.assign_attrs({INVENTORY: sorted(map(str, dataset.variables))})
    encoding = {
        name: {
            "chunks": tuple(
                min(superpixels_per_chunk, size) if dim == "superpixel" else size
                for dim, size in variable.sizes.items()
            ),
            "compressors": (ZstdCodec(level=1), Crc32cCodec()),
        }
        for name, variable in dataset.variables.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        dataset.to_zarr(
            partial,
            mode="w-",
            zarr_format=3,
            consolidated=False,
            encoding=encoding,
            write_empty_chunks=True,
        )
        _move_into_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def open_store(path: str | Path) -> xr.Dataset:
    """Open a Zarr store lazily, after checking that every array and every chunk is there.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    xarray.Dataset
        Variables are read when they are asked for.

    Raises
    ------
    FileFormatError
        If there is no store at `path`, or if it is cut short.
    """
    path = Path(path)
    if not path.exists():
        raise FileFormatError(f"{path}: there is no such file or folder")
    if not (path / "zarr.json").is_file():
        raise FileFormatError(f"{path}: not a Zarr 3 store, it has no zarr.json")
    try:
        with warnings.catch_warnings():
            # An array that has lost its metadata: said below, as an error.
            warnings.filterwarnings("ignore", "Object at", UserWarning)
            group = zarr.open_group(path, mode="r")
            arrays = dict(group.arrays())
            dataset = xr.open_zarr(path, chunks=None, consolidated=False)
        lost = [name for name in group.attrs.get(INVENTORY, []) if name not in arrays]
        missing = {
            name: array.nchunks - array.nchunks_initialized for name, array in arrays.items()
        }
    # Zarr raises whatever its JSON, its codecs and its node classes raise.
    except Exception as error:
        raise FileFormatError(f"{path}: cut short or not a Zarr 3 group ({error})") from error
    if lost:
        raise FileFormatError(f"{path}: cut short, array {listing(lost)} is missing; write it anew")
    for name, count in missing.items():
        if count:
            raise FileFormatError(
                f"{path}: cut short, {count} of {arrays[name].nchunks} chunks of {name!r} are "
                "missing; write it anew"
            )
    dataset.attrs.pop(INVENTORY, None)
    return dataset


def check_free(path: str | Path, overwrite: bool) -> None:
    """Refuse a place that is taken, before the work whose result is to go there.

    Parameters
    ----------
    path : path
        Folder of a store to be written.
    overwrite : bool
        Whether a Zarr store that is already there may be replaced.

    Raises
    ------
    ConfigurationError
        If `path` exists and may not be replaced.
    """
    path = Path(path)
    if not path.exists():
        return
    if not overwrite:
        raise ConfigurationError(
            f"{path} exists already; choose another name or ask to overwrite it (overwrite=True)"
        )
    if not (path / "zarr.json").is_file():
        raise ConfigurationError(
            f"{path} is not a Zarr store and will not be overwritten; choose another name"
        )


def _move_into_place(partial: Path, path: Path) -> None:
    """Rename the finished store; one that it replaces is moved aside first, then deleted."""
    if not path.exists():
        os.rename(partial, path)
        return
    replaced = partial.with_suffix(".replaced")
    os.rename(path, replaced)
    try:
        os.rename(partial, path)
    except OSError:
        os.rename(replaced, path)
        raise
    shutil.rmtree(replaced)
