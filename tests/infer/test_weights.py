"""Smoothed weights against ArviZ, and where nothing can be fitted to their tail."""

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy.special import logsumexp

from pymcdust.infer.weights import largest_k, log_mean, smooth_weights


def test_rows_are_smoothed_as_arviz_does():
    log_weight = np.random.default_rng(1).standard_t(4, size=(5, 800))
    smoothed, pareto_k = smooth_weights(log_weight + 1e4)
    for row, own, k in zip(log_weight, smoothed, pareto_k, strict=True):
        theirs, their_k = array_stats.psislw(-row)
        np.testing.assert_allclose(own, theirs - logsumexp(theirs), atol=1e-9)
        assert k == pytest.approx(their_k, rel=1e-9)
    np.testing.assert_allclose(logsumexp(smoothed, axis=1), 0, atol=1e-12)


def test_weights_that_do_not_vary_are_good():
    log_weight, k = smooth_weights(np.full((2, 500), 3.0))
    np.testing.assert_allclose(np.exp(log_weight), 1 / 500)
    assert k.tolist() == [0.0, 0.0]


def test_one_draw_with_all_the_weight_is_not():
    repeated = np.zeros((1, 500))
    repeated[0, :200] = 5.0
    assert smooth_weights(repeated)[1].tolist() == [np.inf]
    single = np.zeros((1, 500))
    single[0, 0] = 2000.0
    assert smooth_weights(single)[1][0] > 0.7


def test_the_mean_is_that_of_the_weights():
    weight = np.random.default_rng(2).gamma(1.0, size=(3, 4, 50))
    np.testing.assert_allclose(log_mean(np.log(weight)), np.log(weight.mean(axis=2)))
    np.testing.assert_allclose(log_mean(np.log(weight) - 5000), np.log(weight.mean(axis=2)) - 5000)


def test_few_draws_must_have_a_smaller_k():
    assert largest_k(10**6) == largest_k(10**4) == 0.7
    assert largest_k(100) == 0.5
