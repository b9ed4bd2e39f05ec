"""The emission that a fit reconstructs, and what it leaves of the observed one."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from pymcdust.errors import ResultError, listing
from pymcdust.physics.emission import emissivity, sightline_emission

#: Parameters of the voxel model; a fit holds all of them, the fixed ones as scalars.
PARAMETERS: tuple[str, ...] = ("temperature", "beta", "rho", "offset")

#: Attributes in which a fit and a sky must agree.
GRID: tuple[str, ...] = ("nside", "superpixel_nside", "ordering", "frame")

#: Attributes that tell where a sky comes from, which agree where both have them.
ORIGIN: tuple[str, ...] = ("emission_map", "seed", "noise", "files", "configuration")

#: Numbers of one block of reddening; 16 MB in double precision.
BLOCK_SIZE = 2**21


def reconstruct(fit: xr.Dataset, sky: xr.Dataset) -> xr.DataArray:
    """Return the emission that a fit predicts from the reddening (Eq. 4, Zelko et al. 2022).

    Parameters
    ----------
    fit : Dataset
        A fit of any tying; it may cover a part of the sky's superpixels.
    sky : Dataset
        The sky that was fitted.

    Returns
    -------
    (superpixel, pixel, band) DataArray
        Reconstructed emission [MJy/sr] for the superpixels of the fit, in their order; NaN where
        the reddening is NaN.

    Raises
    ------
    ResultError
        If the fit lacks a parameter, or fit and sky do not belong together.
    """
    emission = _empty_map(fit, sky, "reconstructed")
    for part, _, predicted in reconstruction_blocks(fit, sky):
        emission[part] = predicted
    return emission


def residual(fit: xr.Dataset, sky: xr.Dataset) -> xr.DataArray:
    """Return the observed minus the reconstructed emission.

    Parameters
    ----------
    fit, sky : Dataset
        As for `reconstruct`.

    Returns
    -------
    (superpixel, pixel, band) DataArray
        Residual [MJy/sr] for the superpixels of the fit, in their order; NaN where not valid.

    Raises
    ------
    ResultError
        If the fit lacks a parameter, or fit and sky do not belong together.
    """
    difference = _empty_map(fit, sky, "residual")
    for part, block, predicted in reconstruction_blocks(fit, sky):
        difference[part] = observed(block) - predicted
    return difference


def variance_explained(fit: xr.Dataset, sky: xr.Dataset) -> xr.DataArray:
    """Return the share of the emission's variance inside each superpixel that a fit explains.

    Parameters
    ----------
    fit, sky : Dataset
        As for `reconstruct`.

    Returns
    -------
    (superpixel, band) DataArray
        1 - mean(residual^2) / s^2 over the valid pixels, with the sample variance s^2 of the
        emission (n - 1): a wrong mean counts as unexplained. At most 1, negative where the fit is
        worse than the mean, NaN where the emission does not vary.

    Raises
    ------
    ResultError
        If the fit lacks a parameter, or fit and sky do not belong together.
    """
    parts = []
    for _, block, predicted in reconstruction_blocks(fit, sky):
        emission = observed(block)
        present = ~np.isnan(emission)
        count = np.maximum(present.sum(axis=1, keepdims=True), 1)
        mean = np.where(present, emission, 0).sum(axis=1, keepdims=True) / count
        total = (np.where(present, emission - mean, 0) ** 2).sum(axis=1)
        left = (np.where(present, emission - predicted, 0) ** 2).sum(axis=1)
        left *= 1 - 1 / count[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(np.where(total > 0, 1 - left / total, np.nan))
    return xr.DataArray(
        np.concatenate(parts),
        dims=("superpixel", "band"),
        coords={"superpixel": fit["superpixel"].values, "band": sky["band"].values},
        name="variance_explained",
    )


def reconstruction_blocks(
    fit: xr.Dataset, sky: xr.Dataset
) -> Iterator[tuple[slice, xr.Dataset, np.ndarray]]:
    """Reconstruct the emission block by block, so that a sky need not fit into memory.

    Parameters
    ----------
    fit, sky : Dataset
        As for `reconstruct`.

    Yields
    ------
    part : slice
        The block's place among the superpixels of the fit.
    block : Dataset
        The block of the sky.
    predicted : (superpixel, pixel, band) array
        Its reconstructed emission [MJy/sr].

    Raises
    ------
    ResultError
        If the fit lacks a parameter, or fit and sky do not belong together.
    """
    positions = match(fit, sky)
    sizes = sky.sizes
    step = max(1, BLOCK_SIZE // (sizes["pixel"] * max(sizes["voxel"], sizes["band"])))
    for start in range(0, len(positions), step):
        part = slice(start, min(start + step, len(positions)))
        block = sky.isel(superpixel=positions[part])
        shape = {"superpixel": part.stop - start, "voxel": sizes["voxel"], "band": sizes["band"]}
        # Variables broadcast by name alone: any tying is served, and no coordinate interferes.
        temperature, beta, rho, offset = (
            fit[name].isel(superpixel=part, missing_dims="ignore").variable for name in PARAMETERS
        )
        spectrum = emissivity(sky["frequency"].variable, temperature, beta, rho).set_dims(shape)
        del shape["voxel"]
        reddening = block["reddening"].transpose("superpixel", "pixel", "voxel")
        yield (
            part,
            block,
            sightline_emission(reddening.values, spectrum.values, offset.set_dims(shape).values),
        )


def observed(block: xr.Dataset) -> np.ndarray:
    """Return the observed emission of a sky, NaN where it is not valid.

    Parameters
    ----------
    block : Dataset
        A sky, or a part of one.

    Returns
    -------
    (superpixel, pixel, band) array
        Emission [MJy/sr].
    """
    emission = block["emission"].transpose("superpixel", "pixel", "band").variable
    valid = block["valid"].variable.set_dims(emission.sizes)
    return np.where(valid.values, emission.values, np.nan)


def match(fit: xr.Dataset, sky: xr.Dataset) -> np.ndarray:
    """Return where the superpixels of a fit are in the sky that was fitted.

    Parameters
    ----------
    fit, sky : Dataset
        A fit and a sky.

    Returns
    -------
    (superpixel,) array of int
        Position in the sky of each superpixel of the fit.

    Raises
    ------
    ResultError
        If the fit lacks a parameter, or fit and sky do not belong together.
    """
    require(fit, PARAMETERS)
    for name in GRID:
        if name not in fit.attrs:
            raise ResultError(f"the fit lacks the attribute {name}; needed are {listing(GRID)}")
        if fit.attrs[name] != sky.attrs.get(name):
            raise ResultError(
                f"the fit has {name} {fit.attrs[name]!r}, the sky {sky.attrs.get(name)!r}; give "
                "the sky that was fitted"
            )
    for name in ORIGIN:
        if name in fit.attrs and name in sky.attrs and fit.attrs[name] != sky.attrs[name]:
            raise ResultError(
                f"the fit is of another sky, which has the same superpixels but not the same "
                f"{name}; give the sky that was fitted"
            )
    bands = [str(band) for band in sky["band"].values]
    if "band" in fit.coords and [str(band) for band in fit["band"].values] != bands:
        raise ResultError(
            f"the fit has the bands {listing(fit['band'].values)}, the sky {listing(bands)}; "
            f"give the sky that was fitted"
        )
    positions = sky.get_index("superpixel").get_indexer(fit["superpixel"].values)
    missing = fit["superpixel"].values[positions < 0]
    if missing.size:
        shown = listing([*missing[:5], "others"] if missing.size > 5 else missing)
        raise ResultError(
            f"{missing.size} of the fit's {fit.sizes['superpixel']} superpixels are not in the "
            f"sky: {shown}; give the sky that was fitted"
        )
    edges = sky["distance_edge"].isel(superpixel=positions, missing_dims="ignore")
    _match_voxels(fit, edges, sky.sizes["voxel"])
    return positions


def require(fit: xr.Dataset, names: tuple[str, ...] | list[str]) -> None:
    """Raise a ResultError that says which of the variables `names` a fit lacks, if any."""
    missing = [name for name in names if name not in fit]
    if missing:
        raise ResultError(
            f"the fit lacks {listing(missing)}; needed are {listing(names)}; "
            f"it holds {listing(sorted(fit.data_vars))}"
        )


def _match_voxels(fit: xr.Dataset, edges: xr.DataArray, voxels: int) -> None:
    allowed = {"superpixel": fit.sizes["superpixel"], "voxel": voxels}
    for name in PARAMETERS:
        # Nothing else may carry a band: one spectrum has one temperature.
        known = set(allowed) if name != "offset" else {"superpixel", "band"}
        if not known.issuperset(fit[name].dims):
            raise ResultError(
                f"{name} of the fit has the dimensions {listing(fit[name].dims)}; "
                f"allowed are {listing(sorted(known))}"
            )
        if fit[name].sizes.get("voxel", voxels) != voxels:
            raise ResultError(
                f"{name} of the fit has {fit[name].sizes['voxel']} voxels, the sky {voxels}; "
                f"give the sky that was fitted"
            )
    require(fit, ["distance_edge"])
    fitted = fit["distance_edge"]
    if fitted.shape != edges.shape or not np.allclose(fitted, edges, rtol=1e-6):
        raise ResultError(
            "the fit and the sky have different distance edges; give the sky that was fitted"
        )


def _empty_map(fit: xr.Dataset, sky: xr.Dataset, name: str) -> xr.DataArray:
    dims = ("superpixel", "pixel", "band")
    shape = (fit.sizes["superpixel"], sky.sizes["pixel"], sky.sizes["band"])
    return xr.DataArray(
        np.empty(shape, sky["emission"].dtype),
        dims=dims,
        coords={
            "superpixel": fit["superpixel"].values,
            "band": sky["band"].values,
            "frequency": ("band", sky["frequency"].values),
        },
        name=name,
        attrs={"unit": "MJy/sr"},
    )
