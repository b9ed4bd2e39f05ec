"""Importance weights: their mean, the smoothing of their tails, and whether they can be relied on.

Draws of one density are draws of another when weighted by the ratio of the two. A few that the
first density makes rare may carry all of the weight. The largest weights are therefore replaced by
quantiles of a generalised Pareto distribution, whose shape k-hat tells whether that is enough
(Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25, 72).
"""

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

#: Largest k-hat of weights that can be relied on, however many there are (Vehtari et al. 2024).
RELIABLE_K = 0.7

#: Log weights that differ by less than this are the same.
SAME = 1e-9

#: Below this a log weight, relative to the largest, is that of nothing.
NOTHING = -700.0


def log_mean(log_weight: np.ndarray) -> np.ndarray:
    """Return the log of the mean weight over the last axis of (..., draw)."""
    return logsumexp(log_weight, axis=-1) - np.log(log_weight.shape[-1])


def largest_k(n_draw: int) -> float:
    """Return the k-hat from which the weights of so many draws cannot be relied on.

    Examples
    --------
    >>> round(largest_k(4000), 3), round(largest_k(1000), 3)
    (0.7, 0.667)
    """
    return float(min(1 - 1 / np.log10(max(n_draw, 11)), RELIABLE_K))


def smooth_weights(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smooth the tails of importance weights.

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
    >>> log_weight, pareto_k = smooth_weights(np.zeros((1, 100)))
    >>> np.exp(log_weight).sum().round(6), pareto_k.tolist()
    (np.float64(1.0), [0.0])
    """
    log_weight = log_weight - log_weight.max(axis=1, keepdims=True)
    # The fit of the tail takes finite numbers alone.
    smoothed = np.maximum(log_weight, NOTHING)
    pareto_k = np.zeros(len(log_weight))
    for row in np.flatnonzero(log_weight.min(axis=1) < -SAME):
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
    smoothed -= logsumexp(smoothed, axis=1, keepdims=True)
    return smoothed, pareto_k
