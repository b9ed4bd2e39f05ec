"""How well a model predicts blocks of pixels that it has not seen.

Two estimates of the expected log predictive density (elpd; Vehtari, Gelman & Gabry 2017, Statistics
and Computing 27, 1413) of a block of pixels, all bands together. In leave-one-out (LOO) the block
alone is withheld, in K-fold cross-validation a tenth of all blocks, of which the block is one. Both
are got from the draws of the posterior of all data, weighted by one over the likelihood of what is
withheld, with Pareto-smoothed weights (Vehtari et al. 2024, JMLR 25, 72). Where k-hat says that
these cannot be relied on, the predictive density of a block is found as a ratio of evidences.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from arviz_stats import ELPDData, ELPDDataLOO, ELPDDataLOOKFold

from pymcdust.errors import ConfigurationError, ResultError, listing, unknown
from pymcdust.infer import weights
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.weights import log_mean
from pymcdust.judge.crossvalidation import Evidences, Withheld
from pymcdust.judge.pointwise import (
    check_same,
    log_likelihoods,
    matching_sky,
    posterior_values,
    stored_log_likelihood,
)
from pymcdust.judge.withheld import leave_all_out, leave_one_out
from pymcdust.sky.blocks import PixelBlocks, fold_blocks, pixel_blocks
from pymcdust.sky.morphology import random_stream

#: Where withholding a block makes a smaller difference of elpd than this, the weights hardly vary,
#: and k-hat, which has no scale, says nothing.
NEGLIGIBLE = 0.01

_BY_FOLD = ("pareto_k_fold", "refitted")

_LONG_NAMES = {
    "elpd_loo": "expected log predictive density, the block alone withheld",
    "elpd_kfold": "expected log predictive density, the fold withheld",
    "lpd": "log predictive density, nothing withheld",
    "pareto_k_loo": "k-hat of the weights of the posterior's draws, the block alone withheld",
    "pareto_k_fold": "k-hat of the weights of the posterior's draws, the fold withheld",
    "reliable_loo": "whether elpd_loo can be relied on",
    "reliable_kfold": "whether elpd_kfold can be relied on",
    "refitted": "whether elpd_kfold of the fold is a ratio of evidences",
    "refitted_loo": "whether elpd_loo is a ratio of evidences",
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
    largest_k: float | None = None,
    refit_loo: bool = True,
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
        Seed of the folds, and of the evidences. What comes of it for a superpixel depends on
        the superpixel's index; the folds do not depend on the model.
    compiled : CompiledPosterior, optional
        The model, compiled in quantile coordinates, for the chunks of a sky to share.
    largest_k : float, optional
        k-hat from which weights are given up for a ratio of evidences; by default 0.7, or less for
        few draws (see `pymcdust.infer.weights.largest_k`). Already from 0.5 upwards the errors of
        weights shrink slowly with the number of draws, to some tenths for a fold: a smaller value
        costs time, and infinity trusts all weights.
    refit_loo : bool, optional
        Whether weights are given up for single blocks as well, not for folds alone. Otherwise
        `reliable_loo` is false where they cannot be relied on.

    Returns
    -------
    Dataset
        By superpixel and block, NaN where a block has no valid data: `elpd_loo`, `elpd_kfold` and
        `lpd` (of the posterior that has seen the block), each over all valid data of the block;
        `pareto_k_loo`, of the weights of the draws; `refitted_loo`, whether they were given up for
        a ratio of evidences; `reliable_loo` and `reliable_kfold`, whether the score can be relied
        on in the end; `fold` (-1 without data) and `n_data`. By superpixel and fold, NaN where a
        superpixel has fewer folds: `pareto_k_fold` and `refitted`. Weights are given up where their
        k-hat is the attribute `largest_k` or more, unless withholding makes a difference of less
        than `NEGLIGIBLE`. Where superpixels are coupled, those that a block is not in are all seen.

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
    stored = stored_log_likelihood(posterior)
    limit = weights.largest_k(stored.shape[-1]) if largest_k is None else largest_k
    scores = _Scores.empty(fold, folds, limit)
    found = np.zeros(stored.shape)
    likelihoods = log_likelihoods(posterior_values(posterior), sky, blocks)
    for superpixel, log_likelihood in enumerate(likelihoods):
        found[superpixel if found.ndim > 1 else ...] += log_likelihood.sum(axis=1)
        scores.weigh(superpixel, log_likelihood)
    check_same(found, stored)
    criteria = ("kfold", "loo") if refit_loo else ("kfold",)
    _refit(scores, Evidences(posterior, sky, compiled), blocks, sky, seed, criteria)
    attrs = {"model": posterior.attrs["model"], "seed": seed, "draws": stored.shape[-1]}
    return scores.dataset(sky, blocks).assign_attrs(attrs)


def elpd_data(
    prediction: xr.Dataset,
    superpixel: int | None = None,
    *,
    criterion: Literal["kfold", "loo"] = "kfold",
) -> ELPDData:
    """Return a prediction as ArviZ takes it, such as for ``arviz.compare``.

    Parameters
    ----------
    prediction : Dataset
        What `predict` returned.
    superpixel : int, optional
        NESTED index of a superpixel; by default the blocks of all superpixels are pooled.
    criterion : {"kfold", "loo"}, optional
        Whether the folds or the blocks are withheld.

    Returns
    -------
    arviz_stats.ELPDData
        Pointwise, a point being a block with valid data. Its `pareto_k` is NaN where the score does
        not rest on weights, or hardly depends on them.

    Raises
    ------
    ResultError
        If the prediction has no such superpixel.
    ConfigurationError
        If there is no such criterion.

    Examples
    --------
    >>> score = [[-14.0, -14.5, -15.1, -13.8]]
    >>> names = ("elpd_kfold", "lpd", "pareto_k_loo", "reliable_kfold")
    >>> prediction = xr.Dataset(
    ...     {name: (("superpixel", "block"), score) for name in names}, {"superpixel": [7]}
    ... )
    >>> prediction = prediction.assign_attrs(draws=4000, largest_k=0.7, folds=2)
    >>> round(float(elpd_data(prediction, 7).elpd), 3)
    -57.4
    """
    if criterion not in ("kfold", "loo"):
        raise ConfigurationError(unknown("criterion", criterion, ("kfold", "loo")))
    if superpixel is not None:
        known = prediction["superpixel"].values
        if superpixel not in known:
            raise ResultError(
                f"the prediction has no superpixel {superpixel}; it has {known.size}: "
                f"{listing(known[:5])}{' ...' * (known.size > 5)}"
            )
        prediction = prediction.sel(superpixel=[superpixel])
    prediction = prediction.stack(point=("superpixel", "block"))
    prediction = prediction.isel(point=prediction["lpd"].notnull().values)
    elpd = prediction[f"elpd_{criterion}"]
    reliable = prediction[f"reliable_{criterion}"].astype(bool)
    common = {
        "elpd": float(elpd.sum()),
        "se": float(np.sqrt(elpd.size * elpd.var(ddof=1))),
        "p": float(prediction["lpd"].sum() - elpd.sum()),
        "n_samples": prediction.attrs["draws"],
        "n_data_points": elpd.size,
        "scale": "log",
        "warning": not bool(reliable.all()),
        "elpd_i": elpd,
    }
    if criterion == "kfold":
        return ELPDDataLOOKFold(**common, good_k=None, n_folds=prediction.attrs["folds"])
    good_k = prediction.attrs["largest_k"]
    rests = ~reliable | (prediction["pareto_k_loo"] < good_k)
    pareto_k = prediction["pareto_k_loo"].where(rests)
    return ELPDDataLOO(**common, good_k=good_k, pareto_k=pareto_k)


@dataclass
class _Scores:
    """What `predict` returns, as far as it is known."""

    fold: np.ndarray  # (superpixel, block)
    largest_k: float
    elpd_loo: np.ndarray
    elpd_kfold: np.ndarray
    lpd: np.ndarray
    pareto_k_loo: np.ndarray
    reliable_loo: np.ndarray
    reliable_kfold: np.ndarray
    refitted_loo: np.ndarray
    pareto_k_fold: np.ndarray  # (superpixel, fold)
    refitted: np.ndarray

    @classmethod
    def empty(cls, fold: np.ndarray, n_fold: int, k: float) -> "_Scores":
        by_block, by_fold = fold.shape, (len(fold), n_fold)
        numbers = [np.full(by_block, np.nan) for _ in range(4)]
        flags = [np.zeros(by_block, bool) for _ in range(3)]
        return cls(fold, k, *numbers, *flags, np.full(by_fold, np.nan), np.zeros(by_fold, bool))

    def weigh(self, superpixel: int, log_likelihood: np.ndarray) -> None:
        """Score the blocks of a superpixel by the draws (draw, block) of the posterior."""
        own = self.fold[superpixel]
        for number in range(own.max(initial=-1) + 1):
            place = superpixel, np.flatnonzero(own == number)
            of_block = log_likelihood.T[place[1]]
            lpd, loo, fold = log_mean(of_block), leave_one_out(of_block), leave_all_out(of_block)
            self.lpd[place], self.elpd_loo[place], self.elpd_kfold[place] = lpd, loo.elpd, fold.elpd
            self.pareto_k_loo[place] = loo.pareto_k
            self.pareto_k_fold[superpixel, number] = fold.pareto_k[0]
            small = lpd - loo.elpd < NEGLIGIBLE
            self.reliable_loo[place] = (loo.pareto_k < self.largest_k) | small
            small = np.all(lpd - fold.elpd < NEGLIGIBLE)
            self.reliable_kfold[place] = (fold.pareto_k < self.largest_k) | small

    def unreliable(self) -> Iterator[tuple[str, int, int]]:
        """Yield the scores that cannot be relied on: criterion, superpixel and block."""
        for criterion, reliable in (("loo", self.reliable_loo), ("kfold", self.reliable_kfold)):
            for superpixel, block in np.argwhere(~reliable & (self.fold >= 0)):
                yield criterion, superpixel, block

    def replace(self, criterion: str, place: tuple[int, int], elpd: float, reliable: bool) -> None:
        """Take another score of a block."""
        if criterion == "loo":
            self.elpd_loo[place], self.reliable_loo[place] = elpd, reliable
            self.refitted_loo[place] = True
        else:
            self.elpd_kfold[place], self.reliable_kfold[place] = elpd, reliable
            self.refitted[place[0], self.fold[place]] = True

    def dataset(self, sky: xr.Dataset, blocks: PixelBlocks) -> xr.Dataset:
        """Put the scores into a dataset."""
        variables = {
            name: (("superpixel", "fold_number" if name in _BY_FOLD else "block"), values)
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


def _refit(
    scores: _Scores,
    evidences: Evidences,
    blocks: PixelBlocks,
    sky: xr.Dataset,
    seed: int,
    criteria: tuple[str, ...],
) -> None:
    """Score blocks by evidences where the weights of draws cannot be relied on.

    The predictive density of a block is the evidence of what is seen and the block, over that of
    what is seen.
    """
    wanted: dict[tuple[int, bytes], Withheld] = {}
    scored = []
    for criterion, superpixel, block in scores.unreliable():
        if criterion not in criteria:
            continue
        fold = scores.fold[superpixel]
        chosen = np.arange(blocks.n_block) == block
        hidden = chosen if criterion == "loo" else fold == fold[block]
        keys = []
        for mask in (hidden & ~chosen, hidden):
            keys.append((superpixel, mask.tobytes()))
            wanted[keys[-1]] = Withheld(superpixel, np.repeat(mask, blocks.size))
        scored.append((criterion, (superpixel, block), *keys))
    if not wanted:
        return
    # Evidences of a superpixel share their random numbers, and with them most of their errors.
    seeds = [
        random_stream(seed, "folds", sky.superpixel.values[superpixel], 0)
        for superpixel, _ in wanted
    ]
    found, good = evidences(list(wanted.values()), seeds)
    position = {key: number for number, key in enumerate(wanted)}
    for criterion, place, more, less in scored:
        with_it, without = position[more], position[less]
        elpd = found[with_it] - found[without]
        scores.replace(criterion, place, elpd, bool(good[with_it] and good[without]))
