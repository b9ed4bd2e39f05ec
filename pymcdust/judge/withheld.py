"""Predictive densities of withheld blocks from draws of posteriors that have seen more, or less.

Draws of the posterior of all data are draws of that without some of the data when weighted by one
over the likelihood of these. Where the weights fail, draws of the posterior without a fold are made
and pooled with those of all data. The pool is a sample of the mixture of both, with the ratio of
their normalising constants as the only unknown (Bennett 1976; Shirts & Chodera 2008, J. Chem. Phys.
129, 124105): the predictive density of the fold. Those who know the fold cover what it favours,
those who do not what it excludes.
"""

from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

#: Log weights that differ by less than this are the same.
SAME = 1e-9

#: Below this a log weight, relative to the largest, is that of nothing.
NOTHING = -700.0

#: Iterations after which the predictive density of a fold is left as it is, and a change of its
#: logarithm that ends them.
MAX_ITERATIONS = 1000
TOLERANCE = 1e-8


class Score(NamedTuple):
    """The log predictive density of each of some blocks.

    Parameters
    ----------
    elpd : (block,) array
        The log predictive density, over the valid data of a block.
    pareto_k : (block,) array
        k-hat of the weights, or of what they are multiplied with.
    """

    elpd: np.ndarray
    pareto_k: np.ndarray


def log_mean(log_likelihood: np.ndarray) -> np.ndarray:
    """Return the log of the mean likelihood over the draws of (block, draw), (block,) array."""
    return logsumexp(log_likelihood, axis=1) - np.log(log_likelihood.shape[1])


def leave_one_out(log_likelihood: np.ndarray) -> Score:
    """Score every block by the posterior that has seen all others.

    Parameters
    ----------
    log_likelihood : (block, draw) array
        Log likelihood of the blocks at draws of the posterior of all data.
    """
    log_weight, pareto_k = smoothed_weights(-log_likelihood)
    return Score(logsumexp(log_weight + log_likelihood, axis=1), pareto_k)


def leave_all_out(log_likelihood: np.ndarray) -> Score:
    """Score the blocks of a fold by the posterior that has seen none of them.

    Parameters
    ----------
    log_likelihood : (block, draw) array
        Log likelihood of the fold's blocks at draws of the posterior of all data.
    """
    log_weight, pareto_k = smoothed_weights(-log_likelihood.sum(axis=0, keepdims=True))
    elpd = logsumexp(log_weight + log_likelihood, axis=1)
    return Score(elpd, np.broadcast_to(pareto_k, elpd.shape))


def pooled(seen: np.ndarray, unseen: np.ndarray) -> tuple[Score, Score]:
    """Score the blocks of a fold by draws with and without it.

    Parameters
    ----------
    seen : (block, draw) array
        Log likelihood of the fold's blocks at draws of the posterior of all data.
    unseen : (block, draw) array
        The same at draws of the posterior that has not seen the fold.

    Returns
    -------
    loo, fold : Score
        As of `leave_one_out` and `leave_all_out`. Here k-hat tells whether there are enough draws
        for the mean that is taken.
    """
    log_likelihood = np.concatenate([unseen, seen], axis=1)
    log_weight, of_fold = _mixture(log_likelihood.sum(axis=0), unseen.shape[1], seen.shape[1])
    # What is averaged over draws that have not seen the fold: the likelihood of a block.
    by_fold = log_weight + log_likelihood
    fold = Score(logsumexp(by_fold, axis=1), smoothed_weights(by_fold)[1])
    # And the likelihood of the other blocks of the fold: its mean is that of all over elpd.
    by_others = log_weight + log_likelihood.sum(axis=0) - log_likelihood
    loo = Score(of_fold - logsumexp(by_others, axis=1), smoothed_weights(by_others)[1])
    return loo, fold


def _mixture(of_fold: np.ndarray, n_unseen: int, n_seen: int) -> tuple[np.ndarray, float]:
    """Weigh pooled draws as draws of the posterior that has not seen the fold.

    The fold's predictive density is that with which the weights give it back.
    """
    density = float(logsumexp(of_fold[:n_unseen]) - np.log(n_unseen))
    for _ in range(MAX_ITERATIONS):
        log_weight = -np.logaddexp(np.log(n_unseen), np.log(n_seen) + of_fold - density)
        log_weight -= logsumexp(log_weight)
        former, density = density, float(logsumexp(log_weight + of_fold))
        if abs(density - former) < TOLERANCE:
            break
    return log_weight, density


def largest_k(n_draw: int) -> float:
    """Return the k-hat from which the weights of so many draws cannot be relied on.

    Examples
    --------
    >>> round(largest_k(4000), 3), round(largest_k(1000), 3)
    (0.7, 0.667)
    """
    return float(min(1 - 1 / np.log10(max(n_draw, 11)), 0.7))


def smoothed_weights(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smooth the tails of importance weights (Vehtari et al. 2024, JMLR 25, 72).

    Parameters
    ----------
    log_weight : (row, draw) array
        Log weights, up to a constant for each row.

    Returns
    -------
    log_weight : (row, draw) array
        Smoothed, and normalised.
    pareto_k : (row,) array
        Shape of the tail: 0 where the weights do not vary, infinite where it cannot be told.

    Examples
    --------
    >>> log_weight, pareto_k = smoothed_weights(np.zeros((1, 100)))
    >>> np.exp(log_weight).sum().round(6), pareto_k.tolist()
    (np.float64(1.0), [0.0])
    """
    log_weight = log_weight - log_weight.max(axis=1, keepdims=True)
    smoothed = np.maximum(log_weight, NOTHING)
    pareto_k = np.zeros(len(log_weight))
    varies = np.flatnonzero(log_weight.min(axis=1) < -SAME)
    for row in varies:
        try:
            own, pareto_k[row] = array_stats.psislw(-smoothed[row])
        except ValueError:  # the largest weights are all the same: one draw, many times
            pareto_k[row] = np.inf
            continue
        if np.isfinite(pareto_k[row]) and np.isfinite(own).all():
            smoothed[row] = own
        else:
            pareto_k[row] = np.inf
    smoothed -= np.log(np.exp(smoothed).sum(axis=1, keepdims=True))
    return smoothed, pareto_k
