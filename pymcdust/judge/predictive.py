"""How well a model predicts blocks of pixels that it has not seen.

Two estimates of the expected log predictive density (elpd; Vehtari, Gelman & Gabry 2017, Statistics
and Computing 27, 1413) of a block of pixels, all bands together. In leave-one-out (LOO) the block
alone is withheld, in K-fold cross-validation a tenth of all blocks, of which the block is one. Both
are got from the draws of the posterior of all data, weighted by one over the likelihood of what is
withheld, with Pareto-smoothed weights (Vehtari et al. 2024, JMLR 25, 72). Where k-hat says that
these cannot be relied on, the posterior without the fold is drawn anew; of a single block that of
its fold is the start, weighted by the likelihood of the fold's other blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import logsumexp

from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.posterior import model_of
from pymcdust.judge.crossvalidation import TOGETHER, Redrawer
from pymcdust.judge.pointwise import (
    check_same,
    log_likelihoods,
    matching_sky,
    posterior_values,
    stored_log_likelihood,
)
from pymcdust.judge.psis import largest_k, smoothed_weights
from pymcdust.sky.blocks import PixelBlocks, fold_blocks, pixel_blocks
from pymcdust.sky.morphology import random_stream

_LONG_NAMES = {
    "elpd_loo": "expected log predictive density, the block alone withheld",
    "elpd_kfold": "expected log predictive density, the fold withheld",
    "lpd": "log predictive density, nothing withheld",
    "pareto_k_loo": "k-hat of the weights of the posterior's draws, the block alone withheld",
    "pareto_k_fold": "k-hat of the weights of the posterior's draws, the fold withheld",
    "reliable_loo": "whether elpd_loo can be relied on",
    "reliable_fold": "whether elpd_kfold of the fold can be relied on",
    "refitted": "whether the posterior without the fold was drawn anew",
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
    compiled: CompiledPosterior | None = None,
    refit: bool = True,
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
        Seed of the folds, and of what is drawn anew. What comes of it for a superpixel depends on
        the superpixel's index; the folds do not depend on the model.
    compiled : CompiledPosterior, optional
        The model, compiled in quantile coordinates, for the chunks of a sky to share.
    refit : bool, optional
        Draw anew where weights cannot be relied on.

    Returns
    -------
    Dataset
        By superpixel and block, NaN where a block has no valid data: `elpd_loo`, `elpd_kfold`,
        `lpd` (of the posterior that has seen the block) and `pareto_k_loo`; also `fold` (-1 without
        data), `n_data`, and `reliable_loo`. By superpixel and fold, NaN where a superpixel has
        fewer folds: `pareto_k_fold`; also `refitted` and `reliable_fold`. The attribute
        `largest_k` is the k-hat from which a fold is drawn anew. Where superpixels are coupled, a
        fold is withheld in all of them at once.

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
    coupled = model_of(posterior).couples_superpixels
    stored = stored_log_likelihood(posterior)
    scores = _Scores.empty(fold, folds, largest_k(stored.shape[-1]))
    n_superpixel = len(fold)
    groups = [slice(0, n_superpixel)]
    if not coupled:
        groups = [slice(s, s + 1) for s in range(n_superpixel)]
    likelihoods = log_likelihoods(posterior_values(posterior), sky, blocks)
    for own, expected in zip(groups, stored.reshape(len(groups), -1), strict=True):
        log_likelihood = np.stack([next(likelihoods) for _ in fold[own]])
        check_same(log_likelihood.sum(axis=(0, 2)), expected)
        scores.weigh(own, log_likelihood)
    wanted = scores.unreliable(groups)
    if refit and wanted:
        redrawer = Redrawer(posterior, compiled)
        step = 1 if coupled else TOGETHER
        for start in range(0, len(wanted), step):
            _draw_anew(scores, wanted[start : start + step], redrawer, sky, blocks, seed)
    return scores.dataset(sky, blocks).assign_attrs(model=posterior.attrs["model"], seed=seed)


@dataclass
class _Scores:
    """What `predict` returns, as far as it is known.

    Superpixels that are coupled are worked on as one group, others each for itself.
    """

    fold: np.ndarray  # (superpixel, block)
    largest_k: float
    elpd_loo: np.ndarray
    elpd_kfold: np.ndarray
    lpd: np.ndarray
    pareto_k_loo: np.ndarray
    reliable_loo: np.ndarray
    pareto_k_fold: np.ndarray  # (superpixel, fold)
    reliable_fold: np.ndarray
    refitted: np.ndarray

    @classmethod
    def empty(cls, fold: np.ndarray, n_fold: int, k: float) -> "_Scores":
        by_block, by_fold = fold.shape, (len(fold), n_fold)
        return cls(
            fold,
            k,
            *(np.full(by_block, np.nan) for _ in range(4)),
            np.zeros(by_block, bool),
            np.full(by_fold, np.nan),
            *(np.zeros(by_fold, bool) for _ in range(2)),
        )

    def weigh(self, own: slice, log_likelihood: np.ndarray) -> None:
        """Score the blocks of a group by weighted draws (superpixel, draw, block)."""
        by_block = log_likelihood.transpose(0, 2, 1)
        used = np.nonzero(self.fold[own] >= 0)
        of_block = by_block[used]
        log_weight, k = smoothed_weights(-of_block)
        self.lpd[own][used] = _log_mean(of_block)
        self.elpd_loo[own][used] = logsumexp(log_weight + of_block, axis=1)
        self.pareto_k_loo[own][used] = k
        self.reliable_loo[own][used] = k < self.largest_k
        for number in self.folds(own):
            members = np.nonzero(self.fold[own] == number)
            of_block = by_block[members]
            log_weight, k = smoothed_weights(-of_block.sum(axis=0)[None])
            self.elpd_kfold[own][members] = logsumexp(log_weight + of_block, axis=1)
            self.pareto_k_fold[own, number] = k
            self.reliable_fold[own, number] = k < self.largest_k

    def folds(self, own: slice) -> range:
        """Return the folds of a group."""
        return range(self.fold[own].max(initial=-1) + 1)

    def unreliable(self, groups: list[slice]) -> list[tuple[slice, int]]:
        """List the folds, with their groups, of which some weights cannot be relied on."""
        return [
            (own, number)
            for own in groups
            for number in self.folds(own)
            if not self.reliable_fold[own, number].all()
            or not self.reliable_loo[own][self.fold[own] == number].all()
        ]

    def score_anew(
        self, own: slice, number: int, log_likelihood: np.ndarray, reliable: bool
    ) -> None:
        """Score the blocks of a fold by draws of the posterior that has not seen it."""
        members = np.nonzero(self.fold[own] == number)
        of_block = log_likelihood.transpose(0, 2, 1)[members]
        self.elpd_kfold[own][members] = _log_mean(of_block)
        self.reliable_fold[own, number] = reliable
        self.refitted[own, number] = True
        bad = ~self.reliable_loo[own][members]
        members, withheld = tuple(index[bad] for index in members), of_block[bad]
        log_weight, k = smoothed_weights(of_block.sum(axis=0) - withheld)
        self.elpd_loo[own][members] = logsumexp(log_weight + withheld, axis=1)
        self.reliable_loo[own][members] = (k < largest_k(of_block.shape[1])) & reliable

    def dataset(self, sky: xr.Dataset, blocks: PixelBlocks) -> xr.Dataset:
        """Put the scores into a dataset."""
        by_fold = ("pareto_k_fold", "reliable_fold", "refitted")
        variables = {
            name: (("superpixel", "fold_number" if name in by_fold else "block"), values)
            for name, values in vars(self).items()
            if name != "largest_k"
        }
        dims = ("superpixel", "pixel", "band")
        valid = sky.valid.variable.set_dims({dim: sky.sizes[dim] for dim in dims}).transpose(*dims)
        n_data = blocks.split(valid.values, axis=1).sum(axis=(2, 3))
        result = xr.Dataset(
            {**variables, "n_data": (("superpixel", "block"), n_data)},
            {"superpixel": sky.superpixel.values},
            {
                "block": blocks.size,
                "folds": self.refitted.shape[1],
                "largest_k": self.largest_k,
            },
        )
        for name, text in _LONG_NAMES.items():
            result[name].attrs["long_name"] = text
        return result


def _draw_anew(
    scores: _Scores,
    wanted: list[tuple[slice, int]],
    redrawer: Redrawer,
    sky: xr.Dataset,
    blocks: PixelBlocks,
    seed: int,
) -> None:
    """Draw from the posteriors without some folds, and score their blocks."""
    positions = np.concatenate([np.arange(len(scores.fold))[own] for own, _ in wanted])
    withheld = np.concatenate([scores.fold[own] == number for own, number in wanted])
    whole = sky.isel(superpixel=positions)
    withheld = xr.Variable(("superpixel", "pixel"), np.repeat(withheld, blocks.size, axis=1))
    left = whole.assign(valid=whole.valid & ~withheld)
    first = [own.start for own, _ in wanted]
    keys = sky.superpixel.values[first]
    seeds = [
        random_stream(seed, "folds", key, number)
        for key, (_, number) in zip(keys, wanted, strict=True)
    ]
    redrawn = redrawer(left, np.array(first), seeds)
    likelihoods: Iterator[np.ndarray] = log_likelihoods(redrawn.values, whole, blocks)
    for (own, number), reliable in zip(wanted, redrawn.reliable, strict=True):
        log_likelihood = np.stack([next(likelihoods) for _ in scores.fold[own]])
        scores.score_anew(own, number, log_likelihood, bool(reliable))


def _log_mean(log_values: np.ndarray) -> np.ndarray:
    return logsumexp(log_values, axis=1) - np.log(log_values.shape[1])
