"""Pareto-smoothed importance sampling, row by row (Vehtari et al. 2024, JMLR 25, 72)."""

import numpy as np
from arviz_stats.base import array_stats

#: Log weights that differ by less than this are the same.
SAME = 1e-9

#: Below this a log weight, relative to the largest, is that of nothing.
NOTHING = -700.0


def largest_k(n_draw: int) -> float:
    """Return the k-hat from which the weights of so many draws cannot be relied on.

    Examples
    --------
    >>> round(largest_k(4000), 3), round(largest_k(1000), 3)
    (0.7, 0.667)
    """
    return float(min(1 - 1 / np.log10(max(n_draw, 11)), 0.7))


def smoothed_weights(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
