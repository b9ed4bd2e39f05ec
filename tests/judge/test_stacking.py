"""Stacking weights against ArviZ, and where no model is better than another."""

import numpy as np
import pytest
import xarray as xr
from arviz_stats import ELPDData, compare

from pymcdust.judge.stacking import TOLERANCE, stacking_weights


def log_score(weights, log_score):
    return np.log(np.exp(log_score - log_score.max(axis=1, keepdims=True)) @ weights).sum()


def of_arviz(scores):
    """Return ArviZ's weights of the models, in their order."""
    data = {}
    for number, values in enumerate(scores.T):
        pointwise = xr.DataArray(values, dims="unit")
        data[str(number)] = ELPDData(
            elpd=values.sum(),
            se=1.0,
            p=0.0,
            n_samples=1000,
            n_data_points=len(values),
            scale="log",
            warning=False,
            good_k=0.7,
            elpd_i=pointwise,
            pareto_k=xr.zeros_like(pointwise),
        )
    table = compare(data, round_to="none")
    return table["weight"][[str(number) for number in range(scores.shape[1])]].to_numpy()


@pytest.mark.filterwarnings("ignore:The difference in performance")
def test_the_score_is_that_of_arviz_or_better():
    rng = np.random.default_rng(3)
    scores = rng.normal(-1, 1, size=(40, 64, 4)) + rng.normal(0, 0.3, size=(40, 1, 4))
    weights = stacking_weights(scores)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    for ours, problem in zip(weights, scores, strict=True):
        theirs = of_arviz(problem)
        assert log_score(ours, problem) >= log_score(theirs, problem) - TOLERANCE
        # Where a second weight would cost little both may differ a bit.
        np.testing.assert_allclose(ours, theirs, atol=0.03)


def test_scores_far_below_one_do_not_matter():
    scores = np.random.default_rng(1).normal(size=(64, 3))
    far = scores + np.random.default_rng(2).normal(-5000, 1000, size=(64, 1))
    np.testing.assert_allclose(stacking_weights(far), stacking_weights(scores), atol=1e-6)


def test_models_that_predict_the_same_have_even_weights():
    scores = np.random.default_rng(1).normal(size=(64, 1)) + np.zeros(3)
    np.testing.assert_allclose(stacking_weights(scores), 1 / 3, rtol=1e-12)
    nearly = scores + 1e-5 * np.random.default_rng(4).normal(size=scores.shape)
    np.testing.assert_allclose(stacking_weights(nearly), 1 / 3, atol=0.01)


def test_a_model_that_wins_everywhere_has_all_the_weight():
    scores = np.zeros((64, 3))
    scores[:, 1] = 2.0
    np.testing.assert_allclose(stacking_weights(scores), [0, 1, 0], atol=1e-3)


def test_models_that_know_halves_share():
    scores = np.zeros((64, 2))
    scores[:32, 0], scores[32:, 1] = 5.0, 5.0
    np.testing.assert_allclose(stacking_weights(scores), 0.5, atol=1e-3)


def test_units_without_a_score_are_left_out():
    scores = np.random.default_rng(5).normal(size=(2, 64, 3))
    masked = scores.copy()
    masked[0, 32:, 1] = np.nan
    masked[1] = np.nan
    weights = stacking_weights(masked)
    np.testing.assert_allclose(weights[0], stacking_weights(scores[0, :32]), rtol=1e-12)
    assert np.isnan(weights[1]).all()


def test_a_prior_keeps_weights_near_even_until_the_data_tell():
    better = np.stack([np.zeros(64), np.full(64, 0.1 / 64)], axis=1)
    assert stacking_weights(better)[1] > 0.98
    np.testing.assert_allclose(stacking_weights(better, prior_count=1), 0.5, atol=0.02)
    strong = np.stack([np.zeros(64), np.full(64, 1.0)], axis=1)
    assert stacking_weights(strong, prior_count=1)[1] > 0.95


def test_a_prior_is_that_of_dirichlet():
    """The weights maximise log score plus log prior, as a search over the triangle finds it."""
    scores = np.random.default_rng(6).normal(size=(20, 3))
    weights = stacking_weights(scores, prior_count=1, tolerance=1e-9)

    def objective(w):
        return log_score(w, scores) + np.log(w).sum()

    grid = np.random.default_rng(7).dirichlet(np.ones(3), size=20_000)
    assert objective(weights) > max(map(objective, grid)) - 1e-9
    assert objective(weights) < max(map(objective, grid)) + 0.01
