"""Importance sampling of targets whose law is known."""

import numpy as np
import pytest
from scipy import stats

from pymcdust.infer.importance import (
    MAX_ROUNDS,
    POINTS,
    RELIABLE_K,
    Proposal,
    importance_sample,
)

N_PARAMETER = 5
MEAN = np.array([0.3, -1.0, 0.0, 0.5, 2.0])
SHAPE = np.tril(np.random.default_rng(0).normal(size=(5, 5)), -1) * 0.2 + np.diag(
    [0.1, 0.5, 1.0, 0.3, 0.2]
)

#: Log of the evidence of each block.
LN_EVIDENCE = np.array([-1000.0, 3.0, 0.0])

#: Chance that a comparison of this file fails by bad luck.
SIGMAS = 4.5


def gaussian(points, blocks):
    law = stats.multivariate_normal(MEAN, SHAPE @ SHAPE.T)
    return law.logpdf(points) + LN_EVIDENCE[blocks, None]


def generators(seeds=(0, 1, 2)):
    return [np.random.default_rng(seed) for seed in seeds]


def proposal(location=0.0, scale=1.0, n_block=3):
    factor = np.tile(scale * SHAPE, (n_block, 1, 1))
    return Proposal(np.tile(MEAN + location * np.diag(SHAPE), (n_block, 1)), factor)


@pytest.mark.parametrize(("location", "scale"), [(0.0, 1.0), (2.0, 0.7), (1.0, 2.5)])
def test_a_gaussian_is_found_from_proposals_that_are_off(location, scale):
    found = importance_sample(gaussian, proposal(location, scale), 2000, generators())
    assert found.theta.shape == (3, 2000, N_PARAMETER)
    assert np.all(found.pareto_k < RELIABLE_K)
    width = np.sqrt(np.diag(SHAPE @ SHAPE.T))
    for block in range(3):
        n = found.ess[block]
        away = (found.theta[block].mean(axis=0) - MEAN) / width
        assert np.all(np.abs(away) < SIGMAS / np.sqrt(n))
        ratio = found.theta[block].std(axis=0) / width
        assert np.all(np.abs(ratio - 1) < SIGMAS / np.sqrt(2 * n))
        error = found.ln_evidence_error[block]
        assert abs(found.ln_evidence[block] - LN_EVIDENCE[block]) < SIGMAS * error
        assert error < 0.05
    # What it has learnt is where the target is, and how wide.
    np.testing.assert_allclose(found.proposal.location, np.tile(MEAN, (3, 1)), atol=0.1)
    np.testing.assert_allclose(found.proposal.factor[0], SHAPE, atol=0.1)


def test_the_error_of_the_evidence_is_that_of_repeated_runs():
    runs = [
        importance_sample(gaussian, proposal(0.5, 1.2), 500, generators(range(s, s + 3)), 1)
        for s in range(0, 120, 3)
    ]
    pulls = [(run.ln_evidence - LN_EVIDENCE) / run.ln_evidence_error for run in runs]
    assert 0.8 < np.std(pulls) < 1.2  # 120 numbers: five standard deviations of the estimate
    assert abs(np.mean(pulls)) < SIGMAS / np.sqrt(120)


def test_a_good_first_proposal_is_enough_and_a_bad_one_is_told():
    assert np.all(importance_sample(gaussian, proposal(), 500, generators()).rounds == 1)
    shifted = proposal(location=2.5, scale=0.5)
    bad = importance_sample(gaussian, shifted, 2000, generators(), max_rounds=1)
    assert np.all(bad.pareto_k > RELIABLE_K)
    np.testing.assert_array_equal(bad.pareto_k, bad.first_pareto_k)
    learnt = importance_sample(gaussian, shifted, 2000, generators())
    np.testing.assert_array_equal(learnt.first_pareto_k, bad.pareto_k)
    assert np.all(learnt.pareto_k < RELIABLE_K)
    assert np.all(learnt.ess > 10 * bad.ess)


def test_blocks_know_nothing_of_each_other():
    first = proposal(2.0, 0.7)
    together = importance_sample(gaussian, first, 300, generators())
    for block in range(3):
        one = np.array([block])
        alone = importance_sample(
            lambda points, blocks, one=one: gaussian(points, one[blocks]),
            first.select(one),
            300,
            generators([block]),
        )
        np.testing.assert_allclose(alone.theta[0], together.theta[block], rtol=1e-9)
        assert alone.ln_evidence[0] == pytest.approx(together.ln_evidence[block], rel=1e-9)


def test_blocks_that_are_done_are_evaluated_no_more():
    seen = []

    def counting(points, blocks):
        seen.append(blocks.copy())
        return gaussian(points, blocks)

    first = proposal()
    first.location[1] += 4 * np.diag(SHAPE)
    importance_sample(counting, first, 300, generators())
    np.testing.assert_array_equal(seen[0], [0, 1, 2])
    assert len(seen) > 1
    for blocks in seen[1:]:
        np.testing.assert_array_equal(blocks, [1])


def test_the_same_generators_give_the_same_draws():
    first, again, other = (
        importance_sample(gaussian, proposal(1.0), 100, generators(seeds)).theta
        for seeds in ((0, 1, 2), (0, 1, 2), (3, 4, 5))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


def test_points_without_a_density_weigh_nothing():
    def half(points, blocks):
        return np.where(points[..., 0] > MEAN[0], gaussian(points, blocks), np.nan)

    found = importance_sample(half, proposal(), 2000, generators())
    assert np.all(found.theta[..., 0] > MEAN[0])
    error = np.abs(found.ln_evidence - (LN_EVIDENCE + np.log(0.5)))
    assert np.all(error < SIGMAS * found.ln_evidence_error)


def test_what_cannot_be_sampled_is_told_and_not_hidden():
    def spike(points, blocks):
        return 1e5 * gaussian(points, blocks)

    found = importance_sample(spike, proposal(3.0), 200, generators())
    assert np.all(found.rounds == MAX_ROUNDS)
    assert np.all((found.pareto_k > RELIABLE_K) | (found.ess < 100))
    assert np.all(np.isfinite(found.theta))


def test_the_density_of_a_proposal_is_one_and_that_of_its_draws():
    one = proposal(n_block=1)
    law = stats.multivariate_t(MEAN, SHAPE @ SHAPE.T, df=5)
    points = one.draw(POINTS, [np.random.default_rng(3)])
    np.testing.assert_allclose(one.log_density(points)[0], law.logpdf(points[0]), rtol=1e-10)
    # Along one direction a multivariate t is a t.
    along = (points[0] - MEAN) @ np.linalg.inv(SHAPE).T[:, 0]
    assert stats.kstest(along, stats.t(5).cdf).pvalue > 1e-4
