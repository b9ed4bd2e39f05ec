"""The sky contract: what was observed, as one validated dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from pymcdust.errors import FileFormatError, SkyError, listing
from pymcdust.physics.bands import BANDS, FREQUENCY
from pymcdust.sky.store import open_store, write_store
from pymcdust.sky.validation import DIMS, superpixels_per_block, validate_sky

__all__ = ["build_sky", "open_sky", "save_sky", "split_superpixels", "validate_sky"]

_VARIABLE_ATTRS: dict[str, dict[str, str]] = {
    "reddening": {"long_name": "differential reddening", "unit": "mag"},
    "emission": {"long_name": "dust emission", "unit": "MJy/sr"},
    "sigma": {"long_name": "standard deviation of the emission", "unit": "MJy/sr"},
    "valid": {"long_name": "pixel takes part in the fit", "unit": ""},
    "distance_edge": {"long_name": "distance of the voxel edges", "unit": "kpc"},
    "superpixel": {"long_name": "NESTED HEALPix index of the superpixel", "unit": ""},
    "pixel": {"long_name": "pixel inside its superpixel, NESTED", "unit": ""},
    "voxel": {"long_name": "voxel along the sightline, nearest first", "unit": ""},
    "band": {"long_name": "band", "unit": ""},
    "frequency": {"long_name": "frequency", "unit": "GHz"},
}


def build_sky(
    reddening: ArrayLike,
    emission: ArrayLike,
    sigma: ArrayLike,
    distance_edge: ArrayLike,
    superpixel: ArrayLike,
    *,
    nside: int,
    superpixel_nside: int,
    bands: Sequence[str] = BANDS,
    frequency: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    reddening_unit: str,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Put arrays together into a sky that keeps the sky contract.

    Pixel j of superpixel s is the NESTED pixel ``s * K + j``, ``K = (nside / superpixel_nside)^2``.
    Arrays of float32 or float64 are kept as they are, without a copy.

    Parameters
    ----------
    reddening : (superpixel, pixel, voxel) array [mag]
        Differential reddening of each voxel, in the unit named by `reddening_unit`.
    emission : (superpixel, pixel, band) array [MJy/sr]
        Dust emission.
    sigma : (band,) or (superpixel, pixel, band) array [MJy/sr]
        Standard deviation of the emission.
    distance_edge : (voxel_edge,) or (superpixel, voxel_edge) array [kpc]
        Edges of the voxels, one more than there are voxels; the first is 0.
    superpixel : (superpixel,) array
        NESTED indices of the superpixels at `superpixel_nside`.
    nside, superpixel_nside : int
        HEALPix resolution of the pixels and of the superpixels.
    bands : sequence of str
        Names of the bands.
    frequency : (band,) array [GHz], optional
        Frequency of each band; by default the nominal one.
    valid : (superpixel, pixel) or (superpixel, pixel, band) array of bool, optional
        Which pixels have weight; by default all. Others may hold anything, NaN included.
    reddening_unit : str
        A key of `pymcdust.sky.validation.REDDENING_UNITS`.
    attrs : mapping, optional
        Provenance and the like, added to the attributes.

    Returns
    -------
    xarray.Dataset
        The sky, validated.

    Raises
    ------
    SkyError
        If the arrays do not make a sky.

    Examples
    --------
    >>> sky = build_sky(
    ...     reddening=np.full((1, 4, 2), 0.1),
    ...     emission=np.ones((1, 4, 5)),
    ...     sigma=[0.5, 3.0, 9.0, 25.0, 30.0],
    ...     distance_edge=[0.0, 0.3, 1.0],
    ...     superpixel=[7],
    ...     nside=2,
    ...     superpixel_nside=1,
    ...     reddening_unit="bayestar2019",
    ... )
    >>> dict(sky.sizes)
    {'superpixel': 1, 'pixel': 4, 'voxel': 2, 'band': 5, 'voxel_edge': 3}
    """
    arrays: dict[str, np.ndarray] = {
        "reddening": np.asarray(reddening),
        "emission": np.asarray(emission),
        "sigma": np.asarray(sigma),
        "distance_edge": np.asarray(distance_edge, dtype=float),
    }
    superpixels = np.asarray(superpixel)
    if superpixels.ndim != 1 or not np.issubdtype(superpixels.dtype, np.integer):
        raise SkyError(
            f"superpixel has the shape {superpixels.shape} and the type {superpixels.dtype}; "
            "it must be a one-dimensional array of integer NESTED indices"
        )
    for name in ("reddening", "emission"):
        if arrays[name].ndim != 3:
            raise SkyError(
                f"{name} has the shape {arrays[name].shape}; it must have the three dimensions "
                f"{listing(DIMS[name][0])}"
            )
    arrays["valid"] = (
        np.ones(arrays["reddening"].shape[:2], dtype=bool) if valid is None else np.asarray(valid)
    )
    if frequency is None:
        # A band without a nominal frequency is unknown: validation says so.
        frequency = [FREQUENCY.get(str(band), np.nan) for band in bands]
    try:
        sky = xr.Dataset(
            {name: (_dims_by_rank(name, array), array) for name, array in arrays.items()},
            coords={
                "superpixel": superpixels.astype(np.int64),
                "pixel": np.arange(arrays["reddening"].shape[1]),
                "voxel": np.arange(arrays["reddening"].shape[2]),
                "band": [str(band) for band in bands],
                "frequency": ("band", np.asarray(frequency, dtype=float)),
            },
        )
    except ValueError as error:
        raise SkyError(f"the arrays' shapes do not go together: {error}") from error
    for name, variable_attrs in _VARIABLE_ATTRS.items():
        sky[name].attrs = dict(variable_attrs)
    sky["reddening"].attrs["reddening_unit"] = reddening_unit
    sky.attrs = {
        **(attrs or {}),
        "nside": _plain_integer(nside),
        "superpixel_nside": _plain_integer(superpixel_nside),
        "ordering": "nested",
        "frame": "galactic",
        "reddening_unit": reddening_unit,
    }
    validate_sky(sky)
    return sky


#: How the sightlines are cut: what results keep of a sky. `n_voxel`, where it is there, tells how
#: many voxels are no padding.
CUTS = ("distance_edge", "n_voxel")

#: What a prepared sky tells of its superpixels as wholes, which is not so of their parts.
OF_WHOLE_SUPERPIXELS = (
    "coverage",
    "masked",
    "singular_value",
    "condition",
    "correlation",
    "sky_coverage",
    "sky_reason",
)


def cuts_of(dataset: xr.Dataset) -> dict[str, xr.Variable]:
    """Return what tells how the sightlines of a sky, or of a result, are cut: those of `CUTS`."""
    return {name: dataset[name].variable for name in CUTS if name in dataset}


def beam_of(sky: xr.Dataset) -> float | None:
    """Return the beam that a sky was smoothed to, FWHM [arcmin]; None where it does not tell."""
    beam = sky.attrs.get("beam")
    return float(beam) if isinstance(beam, int | float) else None


def split_superpixels(sky: xr.Dataset, superpixel_nside: int) -> xr.Dataset:
    """Return the same pixels as a sky of smaller superpixels.

    Parameters
    ----------
    sky : xarray.Dataset
        A sky.
    superpixel_nside : int
        HEALPix resolution of the smaller superpixels: from the sky's own up to that of the pixels.

    Returns
    -------
    xarray.Dataset
        A sky, validated. What has no pixels (truth, or edges of each superpixel) is repeated; what
        was found of the larger superpixels as wholes, such as their conditioning, is left out.

    Raises
    ------
    SkyError
        If there are no such superpixels between the sky's and its pixels.

    Examples
    --------
    >>> from pymcdust import simulate_sky
    >>> sky = simulate_sky(nside=32, superpixel_nside=2, superpixels=[3], distance_edge=[0, 1])
    >>> split_superpixels(sky, 4).superpixel.values
    array([12, 13, 14, 15])
    """
    own, nside = sky.attrs["superpixel_nside"], sky.attrs["nside"]
    allowed = [n for n in (2**power for power in range(30)) if own <= n <= nside]
    if superpixel_nside not in allowed:
        raise SkyError(
            f"superpixel_nside is {superpixel_nside}; superpixels of Nside {own} with pixels of "
            f"Nside {nside} can be split into those of Nside {listing(allowed)}"
        )
    # In NESTED order the children of a superpixel are consecutive, and so are their pixels.
    n_child = (superpixel_nside // own) ** 2
    n_superpixel = n_child * sky.sizes["superpixel"]
    superpixel = (sky.superpixel.values[:, None] * n_child + np.arange(n_child)).ravel()
    variables = {}
    for name, variable in sky.drop_vars(OF_WHOLE_SUPERPIXELS, errors="ignore").data_vars.items():
        dims, values = variable.dims, variable.values
        if "superpixel" in dims:
            order = sorted(dims, key=lambda dim: ("superpixel", "pixel", dim).index(dim))
            variable = variable.transpose(*order)
            dims, values = variable.dims, np.repeat(variable.values, n_child, axis=0)
            if "pixel" in dims:
                values = variable.values.reshape(n_superpixel, -1, *values.shape[2:])
        variables[name] = (dims, values, variable.attrs)
    coords = {name: sky[name].variable for name in ("voxel", "band", "frequency")}
    n_pixel = sky.sizes["pixel"] // n_child
    coords |= {
        "superpixel": ("superpixel", superpixel, sky.superpixel.attrs),
        "pixel": ("pixel", np.arange(n_pixel), sky.pixel.attrs),
    }
    split = xr.Dataset(variables, coords, {**sky.attrs, "superpixel_nside": superpixel_nside})
    validate_sky(split)
    return split


def save_sky(sky: xr.Dataset, path: str | Path, overwrite: bool = False) -> None:
    """Write a sky as a Zarr store, in chunks of superpixels.

    The store appears under its name only when it is whole.

    Parameters
    ----------
    sky : xarray.Dataset
        A sky; it is validated first.
    path : path
        Folder of the store.
    overwrite : bool
        Replace a store that is already there.

    Raises
    ------
    SkyError
        If `sky` does not keep the sky contract.
    ConfigurationError
        If `path` exists and may not be replaced.
    """
    validate_sky(sky)
    write_store(sky, path, superpixels_per_chunk=superpixels_per_block(sky), overwrite=overwrite)


def open_sky(path: str | Path) -> xr.Dataset:
    """Open a sky lazily from its Zarr store, and validate it.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    xarray.Dataset
        The sky; arrays are read when they are asked for.

    Raises
    ------
    FileFormatError
        If there is no Zarr store at `path`, or if it is cut short.
    SkyError
        If what it holds does not keep the sky contract.
    """
    sky = open_store(path)
    try:
        validate_sky(sky)
    except SkyError as error:
        raise SkyError(f"{path}: {error}") from error
    # Only reading can fail otherwise, and each codec fails in its own way.
    except Exception as error:
        raise FileFormatError(
            f"{path}: cut short or damaged, a chunk cannot be read ({error}); write it anew"
        ) from error
    return sky


def _dims_by_rank(name: str, array: np.ndarray) -> tuple[str, ...]:
    for dims in DIMS[name]:
        if len(dims) == array.ndim:
            return dims
    allowed = " or ".join(str(dims) for dims in DIMS[name])
    raise SkyError(f"{name} has the shape {array.shape}; its dimensions must be {allowed}")


def _plain_integer(number: Any) -> Any:
    """Make a NumPy integer a Python one, as attributes need it; leave the rest to validation."""
    return int(number) if isinstance(number, np.integer) else number
