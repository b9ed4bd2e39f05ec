"""What the explorer's page holds: a fit, and the means of its sky, as compact typed arrays."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from matplotlib.colors import LogNorm, to_hex
from pymc_extras.prior import Prior

from pymcdust.physics.bands import REFERENCE_FREQUENCY
from pymcdust.physics.blackbody import PLANCK_OVER_BOLTZMANN, RADIANCE_SCALE
from pymcdust.products.dust import mean_reddening
from pymcdust.products.reconstruction import BLOCK_SIZE, PARAMETERS, match, observed, require
from pymcdust.products.reliability import (
    PRIOR_DOMINATED,
    chi2_per_datum,
    flag_bits,
    is_fixed,
    prior_dominated,
    voxels_in_use,
)
from pymcdust.products.scales import LARGEST_RATIO, is_wide, sequential
from pymcdust.products.voxel_values import SPECTRUM, checked_draws

#: Colour maps that keep their order in grey, and for the colour-blind.
COLOURS: dict[str, str] = {
    "temperature": "inferno",
    "temperature_sd": "cividis",
    "beta": "cividis",
    "beta_sd": "cividis",
    "rho": "viridis",
    "rho_sd": "cividis",
    "reddening": "viridis",
    "cumulative": "viridis",
    "chi2": "viridis",
}

#: What lies between these shares of a posterior, or of a prior: one standard deviation of a normal.
SHARES: tuple[float, float] = (0.16, 0.84)

#: Endings of the names of error bars, which the page holds in 16 bits, and the largest ratio of two
#: of an array for which that is enough: the logarithm is then known to 0.0002.
BARS: tuple[str, ...] = ("_down", "_up")
MOST_RATIO = 1e12

#: The number of steps in which a colour map is written down.
COLOUR_STEPS = 64


def explorer_data(
    fit: xr.Dataset, sky: xr.Dataset, posterior: xr.DataTree | None = None
) -> dict[str, Any]:
    """Gather what the page shows.

    Parameters
    ----------
    fit : Dataset
        A fit of any tying.
    sky : Dataset
        The sky that was fitted.
    posterior : DataTree, optional
        Draws of the same superpixels, or of some of them.

    Returns
    -------
    dict
        What JSON can hold. An array is a dictionary of ``dims``, ``shape``, ``type`` (``"f4"``,
        ``"i4"``, ``"u1"`` or ``"u2"``, little-endian) and ``data`` (base64). Where it has ``least``
        and ``step`` its codes are 0 for NaN, 1 for 0, and k for exp(least + (k - 2) step).

    Raises
    ------
    ResultError
        If the fit lacks a variable, or fit, sky and posterior do not belong together.
    """
    require(fit, ("chi2", "n_data", "converged", "flag"))
    rows = match(fit, sky)
    means = _means(sky, rows)
    shape = {"superpixel": len(rows), "voxel": sky.sizes["voxel"]}
    in_use = voxels_in_use(sky.isel(superpixel=rows)).variable.set_dims(shape)
    in_use = xr.DataArray(in_use.values, dims=shape)
    means["n_voxel"] = in_use.sum("voxel")
    estimates = {"fit": _of_fit(fit)}
    if posterior is not None:
        estimates["posterior"] = _of_posterior(posterior, fit)
    means["chi2"] = _bare(chi2_per_datum(fit))
    return {
        "nside": int(fit.attrs["superpixel_nside"]),
        "model": str(fit.attrs.get("model", "unnamed")),
        "version": str(fit.attrs.get("pymcdust_version", "")),
        "reddening_unit": str(sky.attrs.get("reddening_unit", "")),
        "prior_dominated": PRIOR_DOMINATED,
        "physics": {
            "planck_over_boltzmann": PLANCK_OVER_BOLTZMANN,
            "radiance_scale": RADIANCE_SCALE,
            "reference_frequency": REFERENCE_FREQUENCY,
        },
        "bands": [str(band) for band in sky["band"].values],
        "frequency": sky["frequency"].values.tolist(),
        "flags": flag_bits(fit),
        "parameters": {name: _about(fit, name) for name in PARAMETERS},
        "scales": _scales(estimates["fit"], means, in_use, fit["converged"].values.astype(bool)),
        "arrays": {
            "superpixel": _encoded(fit["superpixel"]),
            "edge": _encoded(fit["distance_edge"]),
            "flag": _encoded(fit["flag"].astype(np.int32)),
            "converged": _encoded(fit["converged"].astype(bool)),
            "n_data": _encoded(fit["n_data"]),
            **{name: _encoded(values) for name, values in means.items()},
        },
        "estimates": {
            name: {
                key: _compact(values) if key.endswith(BARS) else _encoded(values)
                for key, values in estimate.items()
            }
            for name, estimate in estimates.items()
        },
    }


def _means(sky: xr.Dataset, rows: np.ndarray) -> dict[str, xr.DataArray]:
    """Average over the valid pixels of each superpixel, block by block."""
    sizes = sky.sizes
    step = max(1, BLOCK_SIZE // (sizes["pixel"] * max(sizes["voxel"], sizes["band"])))
    emission, scatter, noise = np.empty((3, len(rows), sizes["band"]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        block = sky.isel(superpixel=rows[part])
        glow = observed(block)
        emission[part] = _mean(glow)
        scatter[part] = np.sqrt(_mean((glow - emission[part][:, np.newaxis]) ** 2))
        shape = dict(zip(("superpixel", "pixel", "band"), glow.shape, strict=True))
        sigma = block["sigma"].variable.set_dims(shape).transpose(*shape).values
        noise[part] = np.sqrt(_mean(np.where(np.isfinite(glow), sigma, np.nan) ** 2))
    return {
        "reddening": xr.DataArray(mean_reddening(sky, rows)[:, 0], dims=("superpixel", "voxel")),
        "emission": xr.DataArray(emission, dims=("superpixel", "band")),
        "emission_sd": xr.DataArray(scatter, dims=("superpixel", "band")),
        "sigma": xr.DataArray(noise, dims=("superpixel", "band")),
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over pixels (superpixel, pixel, ...) that are not NaN; NaN without any."""
    present = np.isfinite(values)
    count = present.sum(axis=1)
    total = np.where(present, values, 0).sum(axis=1, dtype=float)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _of_fit(fit: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the maximum a posteriori and its standard deviation, and what the prior dominates."""
    estimate = {}
    for name in PARAMETERS:
        estimate[name] = _bare(fit[name])
        if f"{name}_sd" in fit:
            estimate[f"{name}_sd"] = _bare(fit[f"{name}_sd"])
        if name in SPECTRUM:
            estimate[f"{name}_prior_dominated"] = _bare(prior_dominated(fit, name))
    return estimate


def _of_posterior(posterior: xr.DataTree, fit: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return median, deviation and distances down and up to `SHARES` of the draws, as in a fit."""
    draws, position = checked_draws(posterior, fit)
    estimate = {}
    for name in SPECTRUM:
        attrs = fit[name].attrs
        if is_fixed(fit[name]):
            estimate[name] = _bare(fit[name])
            estimate[f"{name}_prior_dominated"] = _bare(prior_dominated(fit, name))
            continue
        summary = _summary(draws[name])
        if "superpixel" in summary.dims:
            known = xr.DataArray(position >= 0, dims="superpixel")
            summary = summary.isel(superpixel=position).drop_vars("superpixel").where(known)
        median = summary["median"].assign_attrs(attrs)
        known = fit.assign({name: median, f"{name}_sd": summary["sd"]})
        estimate[name] = _bare(median)
        estimate |= {f"{name}_{key}": _bare(summary[key]) for key in ("sd", "down", "up")}
        estimate[f"{name}_prior_dominated"] = _bare(
            prior_dominated(known, name) & np.isfinite(median)
        )
    return estimate


def _summary(draws: xr.DataArray) -> xr.Dataset:
    """Summarise draws, so many superpixels at a time as do not fill the memory."""
    parts = []
    for part in _parts(draws):
        part = part.load()
        # Draws that are NaN make their summary NaN: it is not that of the others.
        quantiles = part.quantile([*SHARES, 0.5], ("chain", "draw"), skipna=False)
        low, high, median = (quantiles.isel(quantile=k, drop=True) for k in range(3))
        sd = part.std(("chain", "draw"), ddof=1)
        widths = {"sd": sd, "down": median - low, "up": high - median}
        parts.append(xr.Dataset({"median": median, **widths}))
    return xr.concat(parts, "superpixel") if len(parts) > 1 else parts[0]


def _parts(draws: xr.DataArray) -> Iterator[xr.DataArray]:
    if "superpixel" not in draws.dims:
        yield draws
        return
    count = draws.sizes["superpixel"]
    step = max(1, BLOCK_SIZE * count // max(1, draws.size))
    for start in range(0, count, step):
        yield draws.isel(superpixel=slice(start, start + step))


def _about(fit: xr.Dataset, name: str) -> dict[str, Any]:
    """Tell how a parameter is tied, its unit, and what its prior expects."""
    attrs = fit[name].attrs
    return {
        "tying": str(attrs.get("tying", "")).replace("_", " "),
        "unit": str(attrs.get("unit", "")),
        "prior": _prior_range(fit, name),
    }


def _prior_range(fit: xr.Dataset, name: str) -> list[float] | None:
    """Return the `SHARES` of a parameter's prior; None where it is fixed, unknown or hierarchical.

    Hierarchical priors are inferred together with what they are priors of.
    """
    try:
        declared = json.loads(fit.attrs["model_definition"])["parameters"][name]["prior"]
        prior = Prior.from_dict(declared)
        distribution = prior.pymc_distribution.dist(**prior.parameters)
        shares = pm.icdf(distribution, np.array(SHARES)).eval(mode="FAST_COMPILE")
    except (KeyError, TypeError, ValueError, NotImplementedError):
        return None
    return shares.tolist() if np.isfinite(shares).all() else None


def _scales(
    estimate: dict[str, xr.DataArray],
    means: dict[str, xr.DataArray],
    in_use: xr.DataArray,
    converged: np.ndarray,
) -> dict[str, dict[str, Any]]:
    """Return how each quantity becomes colour: one scale for all distances, so that they compare.

    What the prior dominates, or a fit that did not converge, sets no limits.
    """
    usable = in_use & xr.DataArray(converged, dims="superpixel")
    scales = {}
    for name in SPECTRUM:
        shown = usable & (estimate[f"{name}_prior_dominated"] == 0)
        shown = shown if shown.any() else in_use
        scales[name] = _scale(estimate[name].where(shown), name, name == "rho")
        if f"{name}_sd" in estimate:
            values = estimate[f"{name}_sd"].where(usable)
            scales[f"{name}_sd"] = _scale(values, f"{name}_sd", is_wide(values.values))
    reddening = means["reddening"]
    for name, values in (("reddening", reddening), ("cumulative", reddening.cumsum("voxel"))):
        values = values.where(in_use)
        scales[name] = _scale(values, name, is_wide(values.values))
    # Unlike emission, chi2 is positive without noise: all of its range means something.
    chi2 = means["chi2"]
    scales["chi2"] = _scale(chi2, "chi2", is_wide(chi2.values), largest_ratio=1e6)
    return scales


def _scale(
    values: xr.DataArray, name: str, logarithmic: bool, largest_ratio: float = LARGEST_RATIO
) -> dict[str, Any]:
    scale = sequential(values.values, COLOURS[name], logarithmic, largest_ratio)
    return {
        "low": float(scale.norm.vmin),
        "high": float(scale.norm.vmax),
        "logarithmic": isinstance(scale.norm, LogNorm),
        "extend": scale.extend,
        "colours": [to_hex(scale.colours(x)) for x in np.linspace(0, 1, COLOUR_STEPS)],
    }


def _bare(variable: xr.DataArray) -> xr.DataArray:
    """Return a variable without its coordinates, so that arrays combine by place alone."""
    return xr.DataArray(variable.values, dims=variable.dims, attrs=variable.attrs)


def _compact(array: xr.DataArray) -> dict[str, Any]:
    """Write down an array of error bars in 16 bits, as steps of the logarithm."""
    values = array.values
    present = np.isfinite(values)
    positive = present & (values > 0)
    if not positive.any() or (values[present] < 0).any():
        return _encoded(array)
    logarithm = np.log(values, out=np.zeros(values.shape), where=positive)
    least, most = logarithm[positive].min(), logarithm[positive].max()
    if most - least > np.log(MOST_RATIO):
        return _encoded(array)
    last = np.iinfo(np.uint16).max - 2
    step = (most - least) / last or 1.0
    codes = np.where(positive, np.rint((logarithm - least) / step) + 2, present)
    packed = _encoded(array.copy(data=codes), "<u2")
    return {**packed, "least": float(least), "step": float(step)}


def _encoded(array: xr.DataArray, kind: str = "") -> dict[str, Any]:
    """Write down an array: real numbers in single precision, ``superpixel`` slowest."""
    array = array.transpose("superpixel", ..., missing_dims="ignore")
    kind = kind or {"i": "<i4", "u": "<u1", "b": "<u1"}.get(array.dtype.kind, "<f4")
    return {
        "dims": list(array.dims),
        "shape": list(array.shape),
        "type": kind[1:],
        "data": base64.b64encode(np.ascontiguousarray(array.values, kind).tobytes()).decode(),
    }
