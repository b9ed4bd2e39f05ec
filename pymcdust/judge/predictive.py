"""How well a model predicts blocks of pixels that it has not seen.

Two estimates of the expected log predictive density (elpd; Vehtari, Gelman & Gabry 2017, Statistics
and Computing 27, 1413) of a block of pixels, all bands together. In leave-one-out (LOO) the block
alone is withheld, in K-fold cross-validation a tenth of all blocks, of which the block is one. Both
are got from the draws of the posterior of all data, weighted by one over the likelihood of what is
withheld, with Pareto-smoothed weights (Vehtari et al. 2024, JMLR 25, 72). Where k-hat says that
these cannot be relied on, the posterior without the fold is drawn anew.
"""

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from pymcdust.errors import ResultError
from pymcdust.infer.posterior import model_of
from pymcdust.judge.pointwise import log_likelihoods, matching_sky, posterior_values
from pymcdust.judge.psis import largest_k, smoothed_weights
from pymcdust.sky.blocks import fold_blocks, pixel_blocks

_LONG_NAMES = {
    "elpd_loo": "expected log predictive density, the block alone withheld",
    "pareto_k_loo": "k-hat of the weights of the draws, the block alone withheld",
    "elpd_kfold": "expected log predictive density, the fold withheld",
    "pareto_k_fold": "k-hat of the weights of the draws, the fold withheld",
    "lpd": "log predictive density of the block, nothing withheld",
    "fold": "fold of the block, -1 of blocks without data",
    "n_data": "valid data of the block, over all bands",
}


def predict(
    posterior: xr.DataTree,
    sky: xr.Dataset,
    *,
    block: int | None = None,
    folds: int = 10,
    seed: int = 0,
) -> xr.Dataset:
    """Estimate how well the model of a posterior predicts blocks of pixels that are withheld.

    Parameters
    ----------
    posterior : DataTree
        A posterior, or a chunk of its superpixels, in memory.
    sky : Dataset
        The sky that it was drawn from, or more.
    block : int, optional
        Pixels of a block, a power of 4; by default at least as wide as the beam (see
        `pymcdust.sky.blocks.pixel_blocks`).
    folds : int, optional
        Number of folds.
    seed : int, optional
        Seed of the folds. Those of a superpixel depend on it and on the superpixel's index, not on
        the model.

    Returns
    -------
    Dataset
        By superpixel and block, NaN where a block has no valid data: `elpd_loo`, `elpd_kfold`,
        `lpd` (that of the posterior that has seen the block), `pareto_k_loo`, `fold` and `n_data`;
        by superpixel and fold, NaN where a superpixel has fewer folds: `pareto_k_fold`.

    Raises
    ------
    ResultError
        If the posterior was not drawn from this sky, or lacks its log likelihood.
    ConfigurationError
        If there are no such blocks or folds.
    """
    sky = matching_sky(posterior, sky)
    blocks = pixel_blocks(sky, block)
    fold = fold_blocks(sky, blocks, folds, seed)
    together = model_of(posterior).couples_superpixels
    scores = _empty(*fold.shape, folds)
    n_superpixel = len(fold)
    likelihoods = log_likelihoods(posterior_values(posterior), sky, blocks)
    stored = _stored_log_likelihood(posterior)
    for group in [range(n_superpixel)] if together else [[s] for s in range(n_superpixel)]:
        own = slice(group[0], group[-1] + 1)
        log_likelihood = np.stack([next(likelihoods) for _ in group])
        _check_same(log_likelihood.sum(axis=(0, 2)), stored if together else stored[group[0]])
        _score_loo(scores, own, log_likelihood, fold[own])
        _score_folds(scores, own, log_likelihood, fold[own])
    by_block = {
        name: (("superpixel", "block"), scores[name])
        for name in ("elpd_loo", "elpd_kfold", "lpd", "pareto_k_loo")
    }
    valid = sky.valid.transpose("superpixel", "pixel", ...).values
    shape = (*valid.shape[:2], sky.sizes["band"])
    valid = np.broadcast_to(valid.reshape(*shape[:2], -1), shape)
    result = xr.Dataset(
        {
            **by_block,
            "pareto_k_fold": (("superpixel", "fold_number"), scores["pareto_k_fold"]),
            "fold": (("superpixel", "block"), fold),
            "n_data": (("superpixel", "block"), blocks.split(valid, axis=1).sum(axis=(2, 3))),
        },
        coords={"superpixel": sky.superpixel.values},
        attrs={
            "model": posterior.attrs["model"],
            "block": blocks.size,
            "folds": folds,
            "seed": seed,
            "largest_k": largest_k(stored.shape[-1]),
        },
    )
    for name, text in _LONG_NAMES.items():
        result[name].attrs["long_name"] = text
    return result


def _empty(n_superpixel: int, n_block: int, n_fold: int) -> dict[str, np.ndarray]:
    names = ("elpd_loo", "elpd_kfold", "lpd", "pareto_k_loo")
    scores = {name: np.full((n_superpixel, n_block), np.nan) for name in names}
    return scores | {"pareto_k_fold": np.full((n_superpixel, n_fold), np.nan)}


def _score_loo(
    scores: dict[str, np.ndarray], own: slice, log_likelihood: np.ndarray, fold: np.ndarray
) -> None:
    """Score every block of some superpixels, each withheld alone."""
    used = np.nonzero(fold >= 0)
    of_block = log_likelihood.transpose(0, 2, 1)[used]
    log_weight, pareto_k = smoothed_weights(-of_block)
    scores["lpd"][own][used] = logsumexp(of_block, axis=1) - np.log(of_block.shape[1])
    scores["elpd_loo"][own][used] = logsumexp(log_weight + of_block, axis=1)
    scores["pareto_k_loo"][own][used] = pareto_k


def _score_folds(
    scores: dict[str, np.ndarray], own: slice, log_likelihood: np.ndarray, fold: np.ndarray
) -> None:
    """Score every block of some superpixels, whose folds are withheld together."""
    for number in range(fold.max(initial=-1) + 1):
        members = np.nonzero(fold == number)
        of_block = log_likelihood.transpose(0, 2, 1)[members]
        log_weight, pareto_k = smoothed_weights(-of_block.sum(axis=0)[None])
        scores["elpd_kfold"][own][members] = logsumexp(log_weight + of_block, axis=1)
        scores["pareto_k_fold"][own, number] = pareto_k[0]


def _stored_log_likelihood(posterior: xr.DataTree) -> np.ndarray:
    """Return the log likelihood that a posterior carries, (superpixel, draw) or (draw,)."""
    if "log_likelihood" not in posterior.children:
        raise ResultError(
            "the posterior lacks the group log_likelihood, by which its sky is recognised; "
            "give it as sample returned it"
        )
    stored = posterior["log_likelihood"]["emission"].transpose(..., "chain", "draw").values
    return stored.reshape(*stored.shape[:-2], -1)


def _check_same(found: np.ndarray, stored: np.ndarray) -> None:
    """Refuse a sky whose likelihood is not the one that was drawn from."""
    worst = np.max(np.abs(found - stored) / (1 + np.abs(stored)))
    if not worst < 1e-6:
        raise ResultError(
            "the draws of the posterior have another log likelihood on this sky (by up to "
            f"{np.max(np.abs(found - stored)):.3g}); give the sky that the posterior was drawn from"
        )
