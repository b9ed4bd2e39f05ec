"""Laplace widths against numerical Hessians and quadrature."""

import numpy as np
import pytest
from scipy import integrate, stats

from pymcdust.infer.compiled import Evaluation
from pymcdust.infer.importance import Proposal
from pymcdust.infer.laplace import LARGEST_LEARNT, laplace_approximation, learn


def at_maximum(gradient, hessian, slope, curvature):
    arrays = (np.atleast_2d(np.asarray(a, float)) for a in (gradient, slope, curvature))
    gradient, slope, curvature = arrays
    hessian = np.asarray(hessian, float).reshape(*gradient.shape, gradient.shape[1])
    zero = np.zeros(len(gradient))
    return Evaluation(zero, zero, gradient, hessian, slope, slope, curvature)


def test_inside_the_covariance_is_the_inverse_of_the_curvature():
    precision = np.array([[4.0, 1.0], [1.0, 2.0]])
    slope = np.array([3.0, 0.1])
    found = laplace_approximation(
        at_maximum([0, 0], -slope[:, None] * precision * slope, slope, [7.0, -2.0])
    )
    np.testing.assert_allclose(found.covariance[0], np.linalg.inv(precision), rtol=1e-12)
    np.testing.assert_allclose(found.sd[0], np.sqrt(np.diag(np.linalg.inv(precision))))
    assert not found.at_bound.any()


@pytest.mark.parametrize("rise", [0.01, 0.3, 1.0, 5.0, 50.0, 5e3, 1e8])
@pytest.mark.parametrize("precision", [1.0, 1e-6])
def test_at_a_bound_the_width_is_that_of_the_cut_off_density(rise, precision):
    # x in (0, 4), log density -rise x - precision x^2 / 2, in the coordinate ln(x / (4 - x)).
    theta = -20.0
    s = 1 / (1 + np.exp(-theta))
    slope, bend = 4 * s * (1 - s), 4 * s * (1 - s) * (1 - 2 * s)
    gradient = -rise * slope
    hessian = -precision * slope**2 - rise * bend
    found = laplace_approximation(at_maximum([gradient], [[[hessian]]], [slope], [bend]))
    assert found.at_bound.all()
    scale = min(1 / rise, precision**-0.5)

    def moment(k):
        def density(x):
            return x**k * np.exp(-rise * x * scale - 0.5 * precision * (x * scale) ** 2)

        return integrate.quad(density, 0, np.inf, epsabs=0, epsrel=1e-11)[0]

    mean = moment(1) / moment(0)
    expected = scale * np.sqrt(moment(2) / moment(0) - mean**2)
    assert found.sd[0, 0] == pytest.approx(expected, rel=1e-4)


def test_a_bound_leaves_the_others_their_conditional_covariance():
    precision = np.array([[4.0, 1.0, 0.5], [1.0, 2.0, 0.3], [0.5, 0.3, 1.0]])
    slope = np.array([1.0, 1e-8, 1.0])
    hessian = -slope[:, None] * precision * slope
    hessian[1, 1] -= 2.0 * slope[1]
    found = laplace_approximation(at_maximum([0, -2e-8, 0], hessian, slope, [0, 1e-8, 0]))
    assert found.at_bound[0].tolist() == [False, True, False]
    rest = np.ix_([0, 2], [0, 2])
    np.testing.assert_allclose(found.covariance[0][rest], np.linalg.inv(precision[rest]))
    assert np.all(found.covariance[0][1, [0, 2]] == 0)
    assert np.all(found.covariance[0][[0, 2], 1] == 0)
    start = 2.0 / np.sqrt(precision[1, 1])
    law = stats.truncnorm(start, np.inf, 0, 1 / np.sqrt(precision[1, 1]))
    assert found.sd[0, 1] == pytest.approx(law.std(), rel=1e-6)


def test_a_saddle_has_no_covariance_and_harms_no_neighbour():
    hessian = np.array([np.diag([-1.0, 2.0]), np.diag([-1.0, -4.0])])
    ones, zeros = np.ones((2, 2)), np.zeros((2, 2))
    found = laplace_approximation(at_maximum(zeros, hessian, ones, zeros))
    assert np.isnan(found.covariance[0]).all()
    np.testing.assert_allclose(found.sd[1], [1.0, 0.5])


class Away:
    """Standard normal posteriors, of some parameters, five widths from where one begins."""

    def __init__(self, n_parameter):
        self.n_parameter = n_parameter

    def log_posterior(self, points, blocks):
        return -0.5 * np.square(points - 5.0).sum(axis=2)

    def generators(self):
        return [np.random.default_rng(3)]


def test_proposals_learn_where_blocks_are_small():
    first = Proposal(np.full((1, 2), 2.0), np.eye(2)[None])
    learnt = learn(Away(2), first, 500)
    assert learnt.rounds[0] > 1
    np.testing.assert_allclose(learnt.proposal.location, 5.0, atol=0.2)
    np.testing.assert_allclose(learnt.theta.mean(axis=1), 5.0, atol=0.2)
    assert learn(Away(2), first, 500, max_rounds=1).rounds[0] == 1


def test_proposals_of_many_parameters_do_not_learn():
    n = LARGEST_LEARNT + 1
    first = Proposal(np.full((1, n), 5.1), np.eye(n)[None])
    once = learn(Away(n), first, 500)
    assert once.rounds[0] == 1
    assert once.proposal is first
