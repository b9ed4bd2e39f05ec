"""What is kept of each variant in some superpixels, and what all superpixels say together."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from scipy.special import softmax

from pymcdust.infer.posterior import model_of
from pymcdust.judge.predictive_check import PIT_BINS, pit_bins
from pymcdust.judge.preference import total_and_error
from pymcdust.judge.stacking import stacking_weights
from pymcdust.sky.dataset import cuts_of

#: Blocks that are counted for each variant beforehand: weights stay near even until a variant is
#: better by a few units of log score, less than which a superpixel cannot tell.
PRIOR_COUNT = 1.0

LONG_NAMES = {
    "ln_evidence": "log of the evidence",
    "ln_evidence_error": "standard error of the log of the evidence",
    "evidence_method": "how the evidence was estimated",
    "evidence_reliable": "whether the evidence can be relied on",
    "probability": "posterior probability, all variants being as likely beforehand",
    "elpd": "expected log predictive density, by cross-validation over folds of blocks",
    "elpd_error": "standard error of elpd, by the scatter of the blocks",
    "elpd_loo": "expected log predictive density, leaving out one block at a time",
    "elpd_block": "log predictive density of a block, its fold withheld",
    "pareto_k": "largest k-hat of the weights that withhold a fold",
    "pareto_k_loo": "largest k-hat of the weights that withhold a block",
    "n_refitted": "folds whose weights were given up for a ratio of evidences",
    "n_unreliable": "blocks whose prediction, their fold withheld, cannot be relied on",
    "n_block": "blocks with valid data",
    "n_data": "valid data, over all bands",
    "weight": "stacking weight",
    "temperature": "posterior mean of the temperature",
    "temperature_sd": "posterior standard deviation of the temperature",
    "temperature_averaged": "mean of the temperature, averaged over the variants by their weights",
    "temperature_averaged_sd": "standard deviation of the temperature, likewise",
    "residual": "mean residual over the pixels, data less model, in units of sigma",
    "chi2_p": "posterior predictive probability of a larger chi-square",
    "pit_count": "number of pixels by their probability integral transform",
    "column": "median reddening of the whole sightline",
    "ln_evidence_sky": "log of the evidence of all superpixels",
    "elpd_sky": "expected log predictive density of all superpixels",
    "weight_sky": "stacking weight over all superpixels",
}

_UNITS = {"temperature": "K", "temperature_sd": "K", "column": "mag"}
_UNITS |= {"temperature_averaged": "K", "temperature_averaged_sd": "K"}


def one_variant(
    posterior: xr.DataTree, evidence: xr.Dataset, prediction: xr.Dataset, check: xr.Dataset
) -> xr.Dataset:
    """Return what is kept of one variant in some superpixels.

    Parameters
    ----------
    posterior : DataTree
        Draws.
    evidence, prediction, check : Dataset
        What `evidence`, `predict` and `check_predictions` returned for them.

    Returns
    -------
    Dataset
        By superpixel; of a model that couples superpixels the evidence is that of the sky.
    """
    superpixel = prediction["superpixel"]
    coupled = "superpixel" not in evidence["ln_evidence"].dims
    result = xr.Dataset(coords={"superpixel": superpixel, "band": check["band"]})
    nowhere = xr.full_like(superpixel, np.nan, dtype=float)
    for name in ("ln_evidence", "ln_evidence_error"):
        result[name] = nowhere if coupled else evidence[name]
        result[f"{name}_sky"] = evidence[name] if coupled else np.nan
    result["evidence_method"] = evidence["evidence_method"].broadcast_like(superpixel)
    result["evidence_reliable"] = evidence["reliable"].broadcast_like(superpixel)
    result["elpd_block"] = prediction["elpd_kfold"]
    result["elpd"], result["elpd_error"] = total_and_error(prediction["elpd_kfold"], ["block"])
    result["elpd_loo"] = total_and_error(prediction["elpd_loo"], ["block"])[0]
    result["pareto_k"] = prediction["pareto_k_fold"].max("fold_number")
    result["pareto_k_loo"] = prediction["pareto_k_loo"].max("block")
    result["n_refitted"] = prediction["refitted"].sum("fold_number")
    unreliable = ~prediction["reliable_kfold"] & (prediction["n_data"] > 0)
    result["n_unreliable"] = unreliable.sum("block")
    result["n_block"] = (prediction["n_data"] > 0).sum("block")
    result["n_data"] = prediction["n_data"].sum("block")
    result["residual"] = check["residual"].mean("pixel")
    result["chi2_p"] = check["chi2_p"]
    result["pit_count"] = _histogram(check["pit"])
    result = result.drop_attrs()
    result["evidence_method"].attrs = evidence["evidence_method"].attrs
    result["temperature"], result["temperature_sd"] = _temperature(posterior, superpixel)
    return result.assign_attrs({"block": prediction.attrs["block"]})


def all_variants(columns: Mapping[str, xr.Dataset], pixels: xr.Dataset) -> xr.Dataset:
    """Put the variants side by side, with what their comparison gives in each superpixel.

    Parameters
    ----------
    columns : mapping of Dataset
        What `one_variant` returned, by the names of the variants.
    pixels : Dataset
        The sky in these superpixels.

    Returns
    -------
    Dataset
        With the dimension `model`.
    """
    names = xr.DataArray(list(columns), dims="model", name="model")
    together = {"coords": "minimal", "compat": "override", "join": "exact"}
    result = xr.concat(list(columns.values()), names, data_vars="all", **together)
    for name in ("n_block", "n_data"):
        result[name] = result[name].isel(model=0)
    known = result["ln_evidence"].notnull().all("model")
    probability = softmax(result["ln_evidence"].fillna(0.0), axis=0)
    result["probability"] = (result["ln_evidence"].dims, probability)
    result["probability"] = result["probability"].where(known)
    score = result["elpd_block"].transpose("superpixel", "block", "model").values
    result["weight"] = (("model", "superpixel"), stacking_weights(score, PRIOR_COUNT).T)
    result["temperature_averaged"], result["temperature_averaged_sd"] = _averaged(result)
    used = pixels["valid"] if pixels["valid"].ndim == 2 else pixels["valid"].any("band")
    result = result.assign(cuts_of(pixels))
    result["column"] = pixels["reddening"].sum("voxel").where(used).median("pixel")
    return result.transpose("model", "superpixel", "block", "voxel", "band", ...)


def over_the_sky(comparison: xr.Dataset) -> xr.Dataset:
    """Add what all superpixels say together: evidence, ELPD and stacking weights of the sky.

    Parameters
    ----------
    comparison : Dataset
        All superpixels.

    Returns
    -------
    Dataset
        The same with `ln_evidence_sky`, `elpd_sky`, their errors and `weight_sky`, (model,).
    """
    of_sky = comparison["ln_evidence_sky"].fillna(comparison["ln_evidence"].sum("superpixel"))
    error = np.sqrt(np.square(comparison["ln_evidence_error"]).sum("superpixel"))
    error = comparison["ln_evidence_error_sky"].fillna(error)
    elpd, elpd_error = total_and_error(comparison["elpd_block"], ["superpixel", "block"])
    score = comparison["elpd_block"].transpose("superpixel", "block", "model").values
    weight = stacking_weights(score.reshape(-1, score.shape[2]), PRIOR_COUNT)
    result = comparison.drop_vars("ln_evidence_error_sky").assign(
        ln_evidence_sky=of_sky,
        ln_evidence_sky_error=error,
        elpd_sky=elpd,
        elpd_sky_error=elpd_error,
        weight_sky=("model", weight),
    )
    for name, text in LONG_NAMES.items():
        result[name].attrs["long_name"] = text
        if name in _UNITS:
            result[name].attrs["unit"] = _UNITS[name]
    return result


def _temperature(
    posterior: xr.DataTree, superpixel: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return mean and standard deviation of the temperature, (superpixel, voxel) [K]."""
    constant = posterior["constant_data"]
    everywhere = xr.zeros_like(superpixel, dtype=float) + xr.zeros_like(
        constant["voxel"], dtype=float
    )
    draws = posterior["posterior"].dataset
    if "temperature" not in draws:
        value = model_of(posterior).parameters["temperature"].prior
        return everywhere + value, everywhere
    temperature = draws["temperature"]
    mean, sd = temperature.mean(("chain", "draw")), temperature.std(("chain", "draw"))
    kept = {"prior_sd": temperature.attrs["prior_sd"]}
    return (everywhere + mean).assign_attrs(kept), everywhere + sd


def _averaged(comparison: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Return mean and standard deviation of the mixture of the posteriors."""
    weight, mean = comparison["weight"], comparison["temperature"]
    averaged = (weight * mean).sum("model", skipna=False)
    square = np.square(comparison["temperature_sd"]) + np.square(mean - averaged)
    return averaged, np.sqrt((weight * square).sum("model", skipna=False))


def _histogram(pit: xr.DataArray) -> xr.DataArray:
    """Count the PIT of the valid pixels in bins, (superpixel, band, bin)."""
    bins = pit_bins(pit.transpose("superpixel", "band", "pixel"))
    counts = np.stack([(bins == number).sum("pixel") for number in range(PIT_BINS)], axis=2)
    coords = {"superpixel": pit["superpixel"], "band": pit["band"]}
    return xr.DataArray(counts, coords, ("superpixel", "band", "bin"))
