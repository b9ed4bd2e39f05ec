"""Stacking: the mixture of some models that predicts best what each of them has not seen."""

import numpy as np

#: The log score of the weights lies this close to the best one, or closer.
TOLERANCE = 1e-3

#: Steps after which weights are left as they are.
MAX_STEPS = 20_000


def stacking_weights(log_score: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """Return the weights of models whose mixture has the highest log score.

    Many problems at once, by expectation maximisation from even weights: models that predict the
    same keep even weights, where a general optimiser would end anywhere between them. The problem
    is concave, so that its slopes bound what is missing to the best score.

    Parameters
    ----------
    log_score : (..., unit, model) array
        Log predictive density of every unit by every model. A unit of which one is NaN is left out.
    tolerance : float, optional
        How far the log score, summed over the units, may be from the best.

    Returns
    -------
    (..., model) array
        Weights, which sum to one; NaN where there is no unit.

    References
    ----------
    Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13, 917.

    Examples
    --------
    >>> even, better = np.zeros((10, 2)), np.stack([np.zeros(10), np.ones(10)], axis=1)
    >>> stacking_weights(np.stack([even, better])).round(2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    log_score = np.asarray(log_score, dtype=float)
    *shape, n_unit, n_model = log_score.shape
    flat = log_score.reshape(-1, n_unit, n_model)
    used = np.isfinite(flat).all(axis=2)
    count = used.sum(axis=1)
    # Only ratios between models matter: those of the best have a density of one.
    best = np.max(flat, axis=2, keepdims=True, initial=-np.inf, where=used[:, :, None])
    density = np.exp(np.where(used[:, :, None], flat - np.where(used[:, :, None], best, 0.0), 0.0))
    share = np.where(used, 1.0, 0.0) / np.maximum(count, 1)[:, None]
    weights = np.full((len(flat), n_model), 1 / n_model)
    active = np.flatnonzero(count)
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        slope = _slope(density[active], share[active], weights[active])
        gap = count[active] * (slope.max(axis=1) - 1)
        active, slope = active[gap > tolerance], slope[gap > tolerance]
        weights[active] *= slope
        weights[active] /= weights[active].sum(axis=1, keepdims=True)
    weights[count == 0] = np.nan
    return weights.reshape(*shape, n_model)


def _slope(density: np.ndarray, share: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the derivative of the mean log score by each weight, (problem, model)."""
    mixture = (density @ weights[:, :, None])[..., 0]
    return np.einsum("pu,pum->pm", share / mixture, density)
