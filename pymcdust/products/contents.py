"""What the files of an exchange hold, whatever their format: parameters of a fit, its emission."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from pymcdust.errors import ResultError
from pymcdust.physics.bands import REFERENCE_FREQUENCY
from pymcdust.products.reconstruction import match, observed, reconstruction_blocks, require
from pymcdust.products.reliability import is_fixed, voxels_in_use

#: Variables per superpixel that are written beside the parameters: type, UCD, description.
DIAGNOSTICS: dict[str, tuple[type, str, str]] = {
    "objective": (np.float32, "stat.fit", "minus twice the log posterior, not normalised"),
    "chi2": (np.float32, "stat.fit.chi2", "chi-square"),
    "n_data": (np.int32, "meta.number", "number of valid data"),
    "flag": (np.int32, "meta.code.qual", "bits of what to know before use"),
    "converged": (np.bool_, "meta.code.status", "whether the fit has converged"),
}

#: Parameters: Unified Content Descriptor (UCD1+ of the IVOA), description.
DESCRIBED: dict[str, tuple[str, str]] = {
    "temperature": ("phys.temperature", "dust temperature"),
    "beta": ("spect.index", "emissivity index beta"),
    "rho": (
        "phys.absorption.opticalDepth;arith.ratio",
        f"optical depth at {REFERENCE_FREQUENCY:g} GHz per reddening",
    ),
    "offset": ("instr.offset;phot.flux.density.sb", "offset of the emission"),
}

#: UCD of any other parameter: those of the priors of a hierarchy.
OTHER_UCD = "stat.fit.param"

#: The maps of the emission: UCD before and after the word for the band, description.
EMISSION: dict[str, tuple[str, str, str]] = {
    "observed": ("phot.flux.density.sb", "", "observed emission"),
    "reconstructed": ("phot.flux.density.sb", "meta.modelled", "emission that the fit predicts"),
    "residual": ("stat.fit.residual;phot.flux.density.sb", "", "observed minus reconstructed"),
}

#: Edges of the bands of UCD1+ between 200 GHz and 100 um [GHz], and the word for all of them.
UCD_BANDS = (200, 400, 750, 1500, 3000)
UCD_ALL_BANDS = "em.mm"


def free_parameters(fit: xr.Dataset) -> list[str]:
    """Return the names of a fit's free parameters: those with a tying that is not ``fixed``.

    Those of the dust come first, in the order of `DESCRIBED`, whatever the order in the fit: a
    store gives its variables back by the alphabet.
    """
    free = [
        str(name)
        for name, variable in fit.data_vars.items()
        if "tying" in variable.attrs and not is_fixed(variable) and not str(name).endswith("_sd")
    ]
    return [*filter(free.__contains__, DESCRIBED), *sorted(set(free).difference(DESCRIBED))]


def fixed_parameters(fit: xr.Dataset) -> dict[str, float]:
    """Return the values of the parameters that a fit holds fixed, by name."""
    return {
        str(name): float(variable)
        for name, variable in fit.data_vars.items()
        if is_fixed(variable) and variable.ndim == 0
    }


def fitted_parameters(fit: xr.Dataset, sky: xr.Dataset) -> xr.Dataset:
    """Gather what is published of a fit, in the order of the superpixels.

    Parameters
    ----------
    fit : Dataset
        The fit; it may cover a part of the sky.
    sky : Dataset
        The sky that was fitted.

    Returns
    -------
    Dataset
        Every free parameter and its standard deviation, spread over the superpixels where it is
        shared between them, NaN in voxels that are padding; the diagnostics; ``distance_edge``,
        and ``n_voxel`` where the sky has it. Each variable has the attributes ``unit``, ``ucd``
        and ``description``.

    Raises
    ------
    ResultError
        If the fit lacks the standard deviation of a parameter, or a diagnostic; if fit and sky do
        not belong together.
    """
    fit = fit.sortby("superpixel")
    positions = match(fit, sky)
    names = free_parameters(fit)
    require(fit, [*(f"{name}_sd" for name in names), *DIAGNOSTICS])
    count = fit.sizes["superpixel"]
    in_use = voxels_in_use(sky).isel(superpixel=positions, missing_dims="ignore").variable.compute()
    published = xr.Dataset(coords=fit.coords)
    for name in names:
        unit = fit[name].attrs.get("unit", "")
        ucd, title = describe(fit[name])
        for full_name, ucd_here, description in (
            (name, ucd, title),
            (f"{name}_sd", f"stat.error;{ucd}", f"standard deviation of {title}"),
        ):
            variable = fit[full_name].variable
            _check_dimensions(full_name, variable)
            spread = variable.set_dims({"superpixel": count, **variable.sizes}).astype(np.float32)
            if "voxel" in spread.dims:
                # Padding returns its prior, which nobody should take for dust.
                spread = spread.where(in_use)
            spread.attrs = {"unit": unit, "ucd": ucd_here, "description": description}
            published[full_name] = spread
    for name, (kind, ucd, description) in DIAGNOSTICS.items():
        variable = fit[name].variable.astype(kind)
        variable.attrs = {**variable.attrs, "unit": "", "ucd": ucd, "description": description}
        published[name] = variable
    edges = fit["distance_edge"].variable.astype(np.float32)
    if "superpixel" in edges.dims:
        # The far edge of padding is none.
        bounds = in_use.pad(voxel=(1, 0), constant_values=True)
        edges = edges.transpose("superpixel", "voxel_edge").where(bounds.values)
    edges.attrs = {"unit": "kpc", "ucd": "pos.distance", "description": "distance of voxel edge"}
    published["distance_edge"] = edges
    if "n_voxel" in sky:
        attrs = {"unit": "", "ucd": "meta.number", "description": "voxels that are no padding"}
        published["n_voxel"] = ("superpixel", in_use.sum("voxel").values.astype(np.int32), attrs)
    return published


def emission_blocks(
    fit: xr.Dataset, sky: xr.Dataset
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Give observed and reconstructed emission block by block, in the order of the pixels.

    Parameters
    ----------
    fit, sky : Dataset
        A fit and the sky that was fitted.

    Yields
    ------
    pixels : (pixel,) array of int
        NESTED indices at the Nside of the data, ascending from block to block.
    maps : dict of (pixel, band) array
        ``observed``, ``reconstructed`` and ``residual`` [MJy/sr], NaN where not valid.
    """
    fit = fit.sortby("superpixel")
    per_superpixel = sky.sizes["pixel"]
    for part, block, predicted in reconstruction_blocks(fit, sky):
        superpixels = fit["superpixel"].values[part].astype(np.int64)
        pixels = superpixels[:, None] * per_superpixel + np.arange(per_superpixel)
        emission = observed(block)
        predicted = np.where(np.isnan(emission), np.nan, predicted)
        maps = zip(EMISSION, (emission, predicted, emission - predicted), strict=True)
        bands = emission.shape[2]
        yield pixels.ravel(), {name: values.reshape(-1, bands) for name, values in maps}


def describe(parameter: xr.DataArray) -> tuple[str, str]:
    """Return the UCD and the description of a parameter of a fit."""
    name = str(parameter.name)
    return DESCRIBED.get(name, (OTHER_UCD, str(parameter.attrs.get("long_name", name))))


def emission_ucd(name: str, frequency: float | np.ndarray) -> str:
    """Return the UCD of a map of the emission in a band, or in several.

    Parameters
    ----------
    name : str
        A map of `EMISSION`.
    frequency : float or array
        Frequency of the band, or of each [GHz].

    Examples
    --------
    >>> emission_ucd("reconstructed", 353.0)
    'phot.flux.density.sb;em.mm.200-400GHz;meta.modelled'
    """
    before, after, _ = EMISSION[name]
    return ";".join(filter(None, (before, band_ucd(frequency), after)))


def band_ucd(frequency: float | np.ndarray) -> str:
    """Return the word of UCD1+ for frequencies [GHz], empty outside of the known bands.

    Examples
    --------
    >>> band_ucd(2998.0)
    'em.mm.1500-3000GHz'
    >>> band_ucd(np.array([217.0, 2998.0]))
    'em.mm'
    """
    numbers = set(np.searchsorted(UCD_BANDS, np.atleast_1d(frequency)).tolist())
    if numbers & {0, len(UCD_BANDS)}:
        return ""
    if len(numbers) > 1:
        return UCD_ALL_BANDS
    number = numbers.pop()
    return f"em.mm.{UCD_BANDS[number - 1]}-{UCD_BANDS[number]}GHz"


def _check_dimensions(name: str, variable: xr.Variable) -> None:
    extra = [dim for dim in variable.dims if dim != "superpixel"]
    if len(extra) > 1 or not {"voxel", "band"}.issuperset(extra):
        raise ResultError(
            f"{name} of the fit has the dimensions {variable.dims}; "
            f"allowed are superpixel, and either voxel or band"
        )
