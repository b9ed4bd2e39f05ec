"""Predictive densities of withheld blocks from draws of the posterior that has seen them.

Draws of the posterior of all data are draws of that without some of the data when weighted by one
over the likelihood of these (Vehtari, Gelman & Gabry 2017, Statistics and Computing 27, 1413).
Whether the weights can be relied on is told by the shape of their tail, Pareto k-hat.
"""

from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

#: Log weights that differ by less than this are the same.
SAME = 1e-9

#: Below this a log weight, relative to the largest, is that of nothing.
NOTHING = -700.0


class Score(NamedTuple):
    """The log predictive density of each of some blocks.

    Parameters
    ----------
    elpd : (block,) array
        The log predictive density, over the valid data of a block.
    pareto_k : (block,) array
        k-hat of the weights.
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
            # A heavy tail overflows where its last quantile is asked for.
            with np.errstate(over="ignore", invalid="ignore"):
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
