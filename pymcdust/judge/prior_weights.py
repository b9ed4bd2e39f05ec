"""Draws of one posterior, weighted so that they are draws of another prior's."""

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from pymcdust.infer.priors import free_variables, log_prior
from pymcdust.infer.weights import SAME
from pymcdust.judge.posterior import independent_draws
from pymcdust.judge.prior_grid import Alternative
from pymcdust.modeling.voxel_mbb import VoxelMBB

#: Probability inside of the interval between `low` and `high`: ArviZ's default.
INTERVAL = 0.89

#: What is said of every value, under every prior.
SUMMARIES = ("mean", "sd", "low", "high")


def log_ratios(
    model: VoxelMBB, priors: tuple[Alternative, ...], draws: xr.Dataset, block: list[str]
) -> np.ndarray:
    """Return the log of every prior over the declared one at draws of the declared one's posterior.

    Parameters
    ----------
    model : VoxelMBB
        The model.
    priors : tuple of Alternative
        The priors.
    draws : Dataset
        Draws of all variables.
    block : list of str
        ``["superpixel"]``, or nothing where superpixels are coupled.

    Returns
    -------
    (prior, block, draw) array
        Summed over the values of a block; draws chain after chain.
    """
    kept = ("chain", "draw", *block)
    n_draw = draws.sizes["chain"] * draws.sizes["draw"]
    n_block = draws.sizes["superpixel"] if block else 1
    ratios = np.zeros((len(priors), n_block, n_draw))
    for name in free_variables(model):
        declared, known = None, {}
        for position, prior in enumerate(priors):
            own = {n: value for n, value in prior.numbers.items() if n.split(".")[0] == name}
            if not own:
                continue
            if declared is None:
                declared = log_prior(model, draws, name)
            if (key := tuple(own.items())) not in known:
                ratio = log_prior(model, draws, name, own) - declared
                ratio = ratio.sum([dim for dim in ratio.dims if dim not in kept])
                ratio = ratio.transpose(*block, "chain", "draw")
                known[key] = ratio.values.reshape(n_block, n_draw)
            ratios[position] += known[key]
    return ratios


def efficiency(posterior: xr.DataTree, block: list[str]) -> np.ndarray:
    """Return what a draw is worth, in independent ones, at most 1: (block,)."""
    draws, stats = posterior["posterior"].dataset, posterior["sample_stats"].dataset
    worth = []
    for values in draws.data_vars.values():
        values = values.transpose(*block, ..., "chain", "draw")
        with np.errstate(divide="ignore", invalid="ignore"):
            each = array_stats.ess(values.values, relative=True)
        worth.append(np.reshape(each, (draws.sizes["superpixel"] if block else 1, -1)).min(axis=1))
    efficiency = np.min(worth, axis=0)
    if "importance_ess" in stats:
        n_draw = draws.sizes["chain"] * draws.sizes["draw"]
        left = np.atleast_1d(stats["importance_ess"].values) / n_draw
        efficiency = np.where(np.atleast_1d(independent_draws(posterior)), left, efficiency)
    return np.minimum(efficiency, 1.0)


def equal_weights(log_weight: np.ndarray) -> np.ndarray:
    """Return where all draws (..., draw) that are left at all have the same weight."""
    top = log_weight.max(axis=-1)
    lowest = np.where(np.isfinite(log_weight), log_weight, np.inf).min(axis=-1)
    return np.isfinite(top) & (top - lowest < SAME)


def summarise(values: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Return the `SUMMARIES` of weighted draws.

    Parameters
    ----------
    values : (row, value, draw) array
        Draws.
    weight : (row, draw) array
        Weights, whose sum is 1 in each row.

    Returns
    -------
    dict of (row, value) arrays
        Mean, standard deviation and the ends of the interval.
    """
    order = np.argsort(values, axis=-1)
    return summarise_sorted(np.take_along_axis(values, order, axis=-1), order, weight)


def summarise_sorted(
    values: np.ndarray, order: np.ndarray, weight: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what `summarise` does, of values that `order` has sorted already."""
    weight = np.take_along_axis(weight[:, None], order, axis=-1)
    mean = (weight * values).sum(axis=-1)
    variance = (weight * np.square(values - mean[..., None])).sum(axis=-1)
    found = {"mean": mean, "sd": np.sqrt(variance)}
    below = np.cumsum(weight, axis=-1)
    for name, share in (("low", 0.5 - INTERVAL / 2), ("high", 0.5 + INTERVAL / 2)):
        place = np.minimum((below < share).sum(axis=-1), values.shape[-1] - 1)
        found[name] = np.take_along_axis(values, place[..., None], axis=-1)[..., 0]
    return found
