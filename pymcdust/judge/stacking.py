"""Stacking: the mixture of some models that predicts best what each of them has not seen."""

import numpy as np

#: The log score of the weights lies this close to the best one, or closer.
TOLERANCE = 1e-3

#: Steps after which weights are left as they are.
MAX_STEPS = 20_000


def stacking_weights(
    log_score: np.ndarray, prior_count: float = 0.0, tolerance: float = TOLERANCE
) -> np.ndarray:
    """Return the weights of models whose mixture has the highest log score.

    Many problems at once, by expectation maximisation from even weights: models that predict the
    same keep even weights, where a general optimiser would end anywhere between them. The problem
    is concave, so that its slopes bound what is missing to the best score.

    Parameters
    ----------
    log_score : (..., unit, model) array
        Log predictive density of every unit by every model. A unit of which one is NaN is left out.
    prior_count : float, optional
        Units that are counted for each model beforehand: a Dirichlet prior of the weights, whose
        exponents are one larger. With 0 the weights are those of Yao et al. (2018), of which the
        better of two models takes all, however little it is better by; with 1 weights stay near
        even until a model is better by a few units of log score.
    tolerance : float, optional
        How far the log score, summed over the units, may be from the best.

    Returns
    -------
    (..., model) array
        Weights, which sum to one; NaN where there is no unit.

    References
    ----------
    Yao, Vehtari, Simpson & Gelman 2018, Bayesian Analysis 13, 917.
    Yao, Pirš, Vehtari & Gelman 2022, Bayesian Analysis 17, 1043 (a prior of the weights).

    Examples
    --------
    >>> even, better = np.zeros((10, 2)), np.stack([np.zeros(10), np.ones(10)], axis=1)
    >>> stacking_weights(np.stack([even, better])).round(2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    >>> stacking_weights(0.01 * better, prior_count=1).round(2).tolist()
    [0.49, 0.51]
    """
    log_score = np.asarray(log_score, dtype=float)
    *shape, n_unit, n_model = log_score.shape
    flat = log_score.reshape(-1, n_unit, n_model)
    used = np.isfinite(flat).all(axis=2)
    # Only ratios between models matter: those of the best have a density of one.
    flat = np.where(used[:, :, None], flat, 0.0)
    density = np.exp(flat - flat.max(axis=2, keepdims=True))
    total = used.sum(axis=1) + prior_count * n_model
    weights = np.full((len(flat), n_model), 1 / n_model)
    active = np.flatnonzero(used.any(axis=1))
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        old = weights[active]
        mixture = (density[active] @ old[:, :, None])[..., 0]
        slope = np.einsum("pu,pum->pm", used[active] / mixture, density[active])
        with np.errstate(divide="ignore"):
            gap = (slope + (prior_count / old if prior_count else 0.0)).max(axis=1) - total[active]
        wanting = gap > tolerance
        active, slope, old = active[wanting], slope[wanting], old[wanting]
        weights[active] = (old * slope + prior_count) / total[active, None]
    weights[~used.any(axis=1)] = np.nan
    return weights.reshape(*shape, n_model)
