"""The checks of the sky contract: each fault is named, with its place and what is allowed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, SkyError, listing, unknown
from pymcdust.physics.bands import BANDS, FREQUENCY

#: Units of reddening that a sky may carry; they are named, never converted.
REDDENING_UNITS: dict[str, str] = {
    "bayestar2019": "unit of Bayestar19, close to SFD E(B-V) (Green et al. 2019)",
    "bayestar2017": "unit of Bayestar17 (Green et al. 2018)",
    "bayestar2015": "unit of Bayestar15, the E(B-V) of SFD (Green et al. 2015)",
    "sfd": "E(B-V) of Schlegel, Finkbeiner & Davis (1998), before recalibration",
    "E(B-V)": "true E(B-V)",
    "edenhofer2023": "unit of Edenhofer et al. (2023), E of Zhang, Green & Rix (2023)",
    "leike2020": "e-foldings of extinction in Gaia's G band (Leike et al. 2020)",
}

#: HEALPix marks bad pixels by -1.6375e30, as float32 -1.637499996e30: all below this is bad.
UNSEEN_BELOW = -1.6e30

#: Size of the largest array in one block of superpixels [bytes]: of a chunk on disk, of a check.
BLOCK_BYTES = 8 * 2**20

# Dimensions that each variable may have.
DIMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "reddening": (("superpixel", "pixel", "voxel"),),
    "emission": (("superpixel", "pixel", "band"),),
    "sigma": (("band",), ("superpixel", "pixel", "band")),
    "valid": (("superpixel", "pixel"), ("superpixel", "pixel", "band")),
    "distance_edge": (("voxel_edge",), ("superpixel", "voxel_edge")),
}
_COORDINATES: dict[str, str] = {
    "superpixel": "superpixel",
    "pixel": "pixel",
    "voxel": "voxel",
    "band": "band",
    "frequency": "band",
}


def validate_sky(sky: xr.Dataset) -> None:
    """Check that a dataset keeps the sky contract.

    The large arrays are looked at in blocks of superpixels, so that a sky in memory is not
    copied and a sky on disk is not loaded. Voxels without dust and collinear voxels are allowed.

    Parameters
    ----------
    sky : xarray.Dataset
        What should be a sky.

    Raises
    ------
    SkyError
        Says what is wrong, where, and what is allowed.
    """
    _check_structure(sky)
    _check_attributes(sky)
    _check_superpixels(sky)
    _check_bands(sky)
    _check_distance_edges(sky)
    _check_values(sky)


def superpixel_blocks(sky: xr.Dataset) -> Iterator[slice]:
    """Cut the superpixels of a sky into blocks of a few megabytes, aligned with the chunks on disk.

    Parameters
    ----------
    sky : xarray.Dataset
        A sky.

    Yields
    ------
    slice
        Along ``superpixel``.
    """
    step = superpixels_per_block(sky)
    for start in range(0, sky.sizes["superpixel"], step):
        yield slice(start, start + step)


def superpixels_per_block(sky: xr.Dataset) -> int:
    """Count the superpixels that `BLOCK_BYTES` of the largest array hold, at least one."""
    largest = max(
        sky[name].nbytes // sky.sizes["superpixel"]
        for name, dims in DIMS.items()
        if sky[name].dims == dims[-1]
    )
    return int(max(1, BLOCK_BYTES // max(1, largest)))


def _check_structure(sky: xr.Dataset) -> None:
    for name, allowed in DIMS.items():
        if name not in sky.data_vars:
            raise SkyError(f"variable {name!r} is missing; a sky has {listing(DIMS)}")
        dims = sky[name].dims
        if dims not in allowed:
            message = f"{name} has the dimensions {dims}; allowed are {listing(allowed)}"
            if set(dims) in map(set, allowed):
                message += f"; bring them into order with sky[{name!r}].transpose(...)"
            raise SkyError(message)
    for name, dim in _COORDINATES.items():
        if name not in sky.coords:
            raise SkyError(f"coordinate {name!r} is missing; a sky has {listing(_COORDINATES)}")
        if sky[name].dims != (dim,):
            raise SkyError(f"coordinate {name} has the dimensions {sky[name].dims}, not ({dim!r},)")
    for name in ("reddening", "emission", "sigma"):
        if sky[name].dtype not in (np.float32, np.float64):
            raise SkyError(f"{name} is of type {sky[name].dtype}; allowed are float32 and float64")
    if sky["valid"].dtype != bool:
        raise SkyError(
            f"valid is of type {sky['valid'].dtype}, not bool; did you mean sky['valid'] != 0?"
        )
    for name, size in sky.sizes.items():
        if size == 0:
            raise SkyError(f"the sky is empty: its dimension {name!r} has length 0")


def _check_attributes(sky: xr.Dataset) -> None:
    for name in ("nside", "superpixel_nside", "ordering", "frame", "reddening_unit"):
        if name not in sky.attrs:
            raise SkyError(f"attribute {name!r} is missing")
    if sky.attrs["ordering"] != "nested":
        raise SkyError(
            f"ordering is {sky.attrs['ordering']!r}; a sky is 'nested': reorder the maps first, "
            "for instance with healpy.reorder(map, r2n=True)"
        )
    if sky.attrs["frame"] != "galactic":
        raise SkyError(
            f"frame is {sky.attrs['frame']!r}; a sky is 'galactic': rotate the maps first, "
            "for instance with healpy.Rotator"
        )
    unit = sky.attrs["reddening_unit"]
    if unit not in REDDENING_UNITS:
        raise SkyError(unknown("reddening unit", unit, REDDENING_UNITS))
    if sky["reddening"].attrs.get("reddening_unit", unit) != unit:
        raise SkyError(
            f"reddening is in the unit {sky['reddening'].attrs['reddening_unit']!r}, but the sky "
            f"says {unit!r}: which is it?"
        )
    for name in ("nside", "superpixel_nside"):
        value = sky.attrs[name]
        if not is_nside(value):
            raise SkyError(f"{name} is {value!r}; it must be a power of two, such as 64 or 1024")
    nside, superpixel_nside = int(sky.attrs["nside"]), int(sky.attrs["superpixel_nside"])
    if superpixel_nside > nside:
        raise SkyError(
            f"superpixel_nside {superpixel_nside} is finer than nside {nside}; "
            "were they interchanged?"
        )
    expected = (nside // superpixel_nside) ** 2
    if sky.sizes["pixel"] != expected:
        raise SkyError(
            f"{sky.sizes['pixel']} pixels in each superpixel; nside {nside} and superpixel_nside "
            f"{superpixel_nside} make (nside / superpixel_nside)^2 = {expected}"
        )


def check_nside(value: Any, name: str) -> int:
    """Refuse a resolution that HEALPix does not have in NESTED order.

    Parameters
    ----------
    value : Any
        What was given.
    name : str
        What it is called, for the message.

    Returns
    -------
    int

    Raises
    ------
    ConfigurationError
        If it is no power of two.

    Examples
    --------
    >>> check_nside(64, "nside")
    64
    """
    if not is_nside(value):
        hint = ""
        if isinstance(value, int | float) and 1 <= value < 2**29:
            hint = f"; did you mean {2 ** round(math.log2(value))}?"
        raise ConfigurationError(
            f"{name} is {value!r}; it must be a whole power of two, such as 8, 64 or 1024{hint}"
        )
    return int(value)


def is_nside(value: Any) -> bool:
    """Tell whether a number is a HEALPix nside of NESTED maps: a power of two up to 2^29."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return 1 <= value <= 2**29 and value & (value - 1) == 0


def _check_superpixels(sky: xr.Dataset) -> None:
    superpixels = sky["superpixel"].values
    if not np.issubdtype(superpixels.dtype, np.integer):
        raise SkyError(f"superpixel is of type {superpixels.dtype}; NESTED indices are integers")
    end = 12 * int(sky.attrs["superpixel_nside"]) ** 2
    outside = superpixels[(superpixels < 0) | (superpixels >= end)]
    if outside.size:
        raise SkyError(
            f"superpixel {outside[0]} is out of range; superpixel_nside "
            f"{sky.attrs['superpixel_nside']} has the indices 0 to {end - 1}"
        )
    names, counts = np.unique(superpixels, return_counts=True)
    if (counts > 1).any():
        raise SkyError(f"superpixel {_some(names[counts > 1])} is there more than once")
    for name in ("pixel", "voxel"):
        if not np.array_equal(sky[name].values, np.arange(sky.sizes[name])):
            raise SkyError(
                f"coordinate {name} must count 0, 1, 2 ... in order; pixels are in NESTED order "
                "inside their superpixel, voxels from near to far"
            )


def _check_bands(sky: xr.Dataset) -> None:
    bands = [str(band) for band in sky["band"].values]
    for band in bands:
        if band not in BANDS:
            raise SkyError(unknown("band", band, BANDS))
    missing = [band for band in BANDS if band not in bands]
    if missing:
        raise SkyError(
            f"bands are missing: {listing(missing)}; a sky has {listing(BANDS)}. To leave a band "
            "out of the fit, set `valid` (superpixel, pixel, band) to False there"
        )
    if bands != list(BANDS):
        raise SkyError(f"bands are {listing(bands)}; they must be, in order, {listing(BANDS)}")
    for band, frequency in zip(bands, sky["frequency"].values, strict=True):
        ratio = frequency / FREQUENCY[band]
        # 100 um is quoted as 2998 or 3000 GHz; more than a few per cent off is another band.
        if abs(ratio - 1) < 0.05:
            continue
        hint = "is it in Hz?" if abs(ratio / 1e9 - 1) < 0.05 else "are the bands in order?"
        raise SkyError(
            f"frequency of band {band} is {frequency:g} GHz; it should be near "
            f"{FREQUENCY[band]:g} GHz: {hint}"
        )


def _check_distance_edges(sky: xr.Dataset) -> None:
    edges = np.atleast_2d(sky["distance_edge"].values)
    if edges.shape[1] != sky.sizes["voxel"] + 1:
        raise SkyError(
            f"{edges.shape[1]} distance edges for {sky.sizes['voxel']} voxels; there must be one "
            "more edge than voxels"
        )
    faults = {
        "are not finite": ~np.isfinite(edges).all(axis=1),
        "must start at 0, the observer": edges[:, 0] != 0,
        "must increase": ~(np.diff(edges, axis=1) > 0).all(axis=1),
    }
    for fault, rows in faults.items():
        if rows.any():
            row = int(np.argmax(rows))
            of_superpixel = sky["distance_edge"].ndim == 2
            where = f" in superpixel {sky['superpixel'].values[row]}" if of_superpixel else ""
            raise SkyError(f"distance edges{where} {fault}: {edges[row].tolist()} kpc")


@dataclass
class _Tally:
    """Values of one variable that cannot be used although their pixels are valid."""

    name: str
    nan: int = 0
    unseen: int = 0
    infinite: int = 0
    not_positive: int = 0
    first: int | None = None

    def add(self, values: np.ndarray, used: np.ndarray, superpixels: np.ndarray) -> None:
        good = np.isfinite(values)
        good &= values > (0 if self.name == "sigma" else UNSEEN_BELOW)
        bad = ~good
        bad &= used
        if not bad.any():
            return
        if self.first is None:
            self.first = int(superpixels[np.argmax(bad.any(axis=(1, 2)))])
        found = values[bad]
        unseen = (found < UNSEEN_BELOW) & np.isfinite(found)
        self.nan += int(np.isnan(found).sum())
        self.unseen += int(unseen.sum())
        self.infinite += int(np.isinf(found).sum())
        self.not_positive += int((np.isfinite(found) & ~unseen).sum())

    def report(self) -> None:
        if self.first is None:
            return
        kinds = {
            "NaN": self.nan,
            "UNSEEN (-1.6375e30)": self.unseen,
            "infinite": self.infinite,
            "zero or negative": self.not_positive,
        }
        found = listing(f"{count} {kind}" for kind, count in kinds.items() if count)
        raise SkyError(
            f"{self.name} has values in valid pixels that cannot be used: {found}, first in "
            f"superpixel {self.first}; mark these pixels False in `valid`"
        )


def _check_values(sky: xr.Dataset) -> None:
    sigma_of_band = sky["sigma"].ndim == 1
    if sigma_of_band:
        for band, sigma in zip(sky["band"].values, sky["sigma"].values, strict=True):
            if not (np.isfinite(sigma) and sigma > 0):
                raise SkyError(
                    f"sigma of band {band} is {sigma:g}; it must be positive. To leave a band out "
                    "of the fit, set `valid` to False there"
                )
    tallies = {name: _Tally(name) for name in ("reddening", "emission", "sigma")}
    masked: list[int] = []
    for block in superpixel_blocks(sky):
        part = sky.isel(superpixel=block)
        superpixels = part["superpixel"].values
        valid = part["valid"].values
        used = valid if valid.ndim == 3 else valid[..., np.newaxis]
        pixel_used = used.any(axis=2, keepdims=True)
        masked.extend(superpixels[~pixel_used.any(axis=(1, 2))].tolist())
        tallies["reddening"].add(part["reddening"].values, pixel_used, superpixels)
        tallies["emission"].add(part["emission"].values, used, superpixels)
        if not sigma_of_band:
            tallies["sigma"].add(part["sigma"].values, used, superpixels)
    if masked:
        raise SkyError(
            f"all pixels of superpixel {_some(masked)} are masked ({len(masked)} of "
            f"{sky.sizes['superpixel']} superpixels); leave such superpixels out of the sky"
        )
    for tally in tallies.values():
        tally.report()


def _some(numbers: Sequence[int] | np.ndarray) -> str:
    """Write the first few numbers of what may be many."""
    shown = listing(numbers[:10])
    return shown if len(numbers) <= 10 else f"{shown} and others"
