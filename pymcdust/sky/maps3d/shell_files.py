"""Files of shells: NumPy, Zarr, HDF5 and FITS, which declare themselves or are declared."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from astropy.io import fits

from pymcdust.errors import ConfigurationError, FileFormatError, listing, unknown
from pymcdust.sky.maps3d.interface import check_chunks
from pymcdust.sky.maps3d.shells import Shells

_ARRAYS = ("distance", "pixel", "flags")
_DECLARATIONS = ("distance_unit", "quantity", "unit", "nside", "ordering", "frame", "beam")

#: What can be declared of a file of shells.
SHELL_OPTIONS = _ARRAYS + _DECLARATIONS

_NEEDED = ("distance", "distance_unit", "quantity", "unit", "nside", "ordering", "frame")
# What FITS has no room for in a keyword of eight letters, or has a keyword of its own for.
_KEYWORDS = {"distance_unit": "DISTUNIT", "frame": "COORDSYS"}


def open_shells(path: str | Path, **declared: Any) -> Shells:
    """Open a file of shells.

    Parameters
    ----------
    path : path
        One of

        - ``.npz``: arrays ``reddening`` and ``distance``, and whatever else by its name;
        - ``.npy``: the array alone;
        - ``.zarr``: a group with the same arrays, the rest being attributes of the group or of
          ``reddening``; or the array alone;
        - ``.h5``, ``.hdf5``: the same;
        - ``.fits``: a table with a vector column ``reddening`` and possibly ``pixel`` and
          ``flags``, a table with a column ``distance``, and keywords QUANTITY, UNIT, DISTUNIT,
          NSIDE, ORDERING, COORDSYS in the header of the first.

    **declared
        The parameters of `Shells`, where the file does not have them.

    Returns
    -------
    Shells
        Only ``.npz`` and ``.fits`` are read at once; the others as they are used.

    Raises
    ------
    ConfigurationError
        If something is not declared, is declared in two ways, or is unknown.
    FileFormatError
        If the file is missing, cut short, or not in its layout.
    """
    path = Path(path)
    if not path.exists():
        raise FileFormatError(f"{path}: there is no such file")
    if path.suffix not in _READERS:
        raise FileFormatError(f"{path}: {unknown('kind of file', path.suffix, _READERS)}")
    try:
        found = _READERS[path.suffix](path)
    except FileFormatError:
        raise
    except Exception as error:
        # Every library below has exceptions of its own for a damaged file.
        raise FileFormatError(
            f"{path}: cut short, or not a {path.suffix} file ({error})"
        ) from error
    if "reddening" not in found:
        raise FileFormatError(f"{path}: has no array 'reddening'")
    values = found.pop("reddening")
    given = _together(path, found, declared)
    missing = [name for name in _NEEDED if name not in given]
    if missing:
        raise ConfigurationError(
            f"{path} does not say its {listing(missing)}; give that as an option of the map"
        )
    try:
        return Shells(values, **given)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error


def _together(path: Path, found: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Join what a file says and what its user says."""
    known = {name: found[name] for name in SHELL_OPTIONS if name in found}
    for name in ("ordering", "frame"):
        if name in known:
            known[name] = str(known[name]).lower()
    # FITS writes Galactic as G.
    if known.get("frame") == "g":
        known["frame"] = "galactic"
    for name, value in declared.items():
        if name in known and not np.array_equal(known[name], value):
            raise ConfigurationError(
                f"{path} says that {name} is {known[name]!r}, and you say {value!r}: which is it?"
            )
    return {**known, **declared}


def _plain(value: Any) -> Any:
    """Make text and numbers out of what files keep these in."""
    value = (
        value.item() if isinstance(value, np.ndarray | np.generic) and value.ndim == 0 else value
    )
    return value.decode() if isinstance(value, bytes) else value


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream, np.load(stream) as file:
        return {name: _plain(file[name]) for name in file.files}


def _read_npy(path: Path) -> dict[str, Any]:
    return {"reddening": np.load(path, mmap_mode="r")}


def _read_zarr(path: Path) -> dict[str, Any]:
    store = zarr.open(path, mode="r")
    if isinstance(store, zarr.Array):
        _check_chunks(path, store)
        return {**store.attrs, "reddening": store}
    if "reddening" not in store:
        return {}
    _check_chunks(path, store["reddening"])
    return {
        **store["reddening"].attrs,
        **store.attrs,
        **{name: store[name][...] for name in _ARRAYS if name in store},
        "reddening": store["reddening"],
    }


def _check_chunks(path: Path, values: zarr.Array) -> None:
    # A chunk that is missing is read as the fill value, which only NaN tells from a value.
    missing = values.nchunks - values.nchunks_initialized
    if missing and not np.isnan(values.fill_value):
        raise FileFormatError(
            f"{path}: {missing} of {values.nchunks} chunks are missing and would be read as "
            f"{values.fill_value}; if they are meant to be, write them (`write_empty_chunks`)"
        )


def _read_hdf5(path: Path) -> dict[str, Any]:
    # It stays open as long as the array does.
    file = h5py.File(path)
    if not isinstance(file.get("reddening"), h5py.Dataset):
        return {}
    check_chunks(path, file["reddening"])
    attributes = {**file["reddening"].attrs, **file.attrs}
    return {
        **{name: _plain(value) for name, value in attributes.items()},
        **{name: file[name][...] for name in _ARRAYS if name in file},
        "reddening": file["reddening"],
    }


def _read_fits(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with warnings.catch_warnings(), path.open("rb") as stream:
        # That a file is cut short is an error here, not a warning.
        warnings.simplefilter("error")
        for hdu in fits.open(stream, memmap=False):
            if not isinstance(hdu, fits.BinTableHDU):
                continue
            columns = {name.lower(): name for name in hdu.columns.names}
            for name in ("reddening", *_ARRAYS):
                if name in columns:
                    found[name] = np.asarray(hdu.data[columns[name]])
            if "reddening" in columns:
                for name in _DECLARATIONS:
                    keyword = _KEYWORDS.get(name, name.upper())
                    if keyword in hdu.header:
                        found[name] = hdu.header[keyword]
    return found


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".zarr": _read_zarr,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".fits": _read_fits,
}
