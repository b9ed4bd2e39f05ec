"""Stepping stones over a likelihood whose evidence is known."""

from types import SimpleNamespace

import numpy as np
from scipy import stats

from pymcdust.infer.stepping_stones import SteppingStones

#: A measurement of the second coordinate, to a twentieth of its prior.
MEASURED, SIGMA = 1.3, 0.05


def log_likelihood(points, blocks):
    """Half of the prior has no likelihood at all, and none of it is finite far out."""
    inside = points[..., 0] > 0
    value = stats.norm(points[..., 1], SIGMA).logpdf(MEASURED)
    return np.where(inside, value, np.where(points[..., 2] > 0, -np.inf, np.nan))


def test_a_prior_without_likelihood_counts():
    """The share of the prior that the likelihood excludes is part of the evidence."""
    target = SimpleNamespace(
        n_block=5,
        n_parameter=3,
        seeds=np.random.SeedSequence(1).spawn(5),
        log_likelihood=log_likelihood,
    )
    stones = SteppingStones(steps=800)(target)
    expected = np.log(0.5) + stats.norm(0, np.hypot(1, SIGMA)).logpdf(MEASURED)
    away = (stones.ln_evidence - expected) / stones.ln_evidence_error
    assert np.all(stones.ln_evidence_error < 0.2)
    assert abs(away.mean()) < 4 / np.sqrt(5)
    assert 0.2 < away.std() < 2.1
    assert np.all(stones.rungs > 3)
    assert np.all(stones.ess > 20)
