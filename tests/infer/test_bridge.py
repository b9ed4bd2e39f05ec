"""Bridge sampling of targets whose normalisation is known."""

import numpy as np
import pytest
from scipy import stats

from pymcdust.errors import ResultError
from pymcdust.infer.bridge import Bridge, bridge_sample, shape_proposal

#: Blocks of one target, each with draws of its own: so often is a target estimated.
REPEATS = 200

#: Log of the evidence that the targets are given.
LN_EVIDENCE = -1234.5


def autoregressive(rng, shape, memory):
    """Return standard normal chains (chain, draw, ...), each draw like the one before."""
    draws = rng.standard_normal(shape)
    for number in range(1, shape[1]):
        new = np.sqrt(1 - memory**2) * draws[:, number]
        draws[:, number] = memory * draws[:, number - 1] + new
    return draws


def log_normal(z):
    return -0.5 * np.square(z).sum(axis=-1) - 0.5 * z.shape[-1] * np.log(2 * np.pi)


def gaussian(z):
    """Correlated, of very different widths."""
    n = z.shape[-1]
    factor = np.tril(np.random.default_rng(n).normal(size=(n, n)), -1) / n + np.eye(n)
    factor *= np.logspace(-2, 1, n)[:, None]
    law = stats.multivariate_normal(np.arange(n), factor @ factor.T)
    return z @ factor.T + np.arange(n), law.logpdf


def bent(z):
    """A banana: the second coordinate bends with the square of the first, which is wide."""
    x = z.copy()
    x[..., 0] *= 3
    x[..., 1] += 0.1 * x[..., 0] ** 2

    def log_density(x):
        back = x.copy()
        back[..., 1] -= 0.1 * x[..., 0] ** 2
        back[..., 0] /= 3
        return log_normal(back) - np.log(3)

    return x, log_density


def one_sided(z):
    """Two log-normal coordinates, without density below zero."""
    x = z.copy()
    x[..., :2] = np.exp(0.6 * z[..., :2])

    def log_density(x):
        inside = (x[..., :2] > 0).all(axis=-1)
        back = x.copy()
        back[..., :2] = np.log(np.where(inside[..., None], x[..., :2], 1.0)) / 0.6
        slope = np.log(0.6) * 2 + 0.6 * back[..., :2].sum(axis=-1)
        return np.where(inside, log_normal(back) - slope, -np.inf)

    return x, log_density


def heavy(z):
    """A Student t of each coordinate, with five degrees of freedom."""
    law = stats.t(5)
    return law.ppf(stats.norm.cdf(z)), lambda x: law.logpdf(x).sum(axis=-1)


@pytest.mark.parametrize(
    ("make", "n_parameter", "memory", "n_chain"),
    [
        (gaussian, 2, 0.0, 2),
        (gaussian, 20, 0.0, 4),
        (gaussian, 10, 0.7, 4),
        (heavy, 5, 0.0, 2),
        (bent, 2, 0.0, 1),
        (bent, 10, 0.7, 4),
        (one_sided, 6, 0.0, 3),
    ],
)
def test_the_evidence_is_as_wrong_as_it_says(make, n_parameter, memory, n_chain):
    shape = (n_chain, 2000 // n_chain, REPEATS, n_parameter)
    theta, log_density = make(autoregressive(np.random.default_rng(3), shape, memory))
    bridge = bridge_sample(
        lambda x, blocks: log_density(x) + LN_EVIDENCE,
        theta,
        log_density(theta) + LN_EVIDENCE,
        [np.random.default_rng((4, block)) for block in range(REPEATS)],
        points=1000,
    )
    away = (bridge.ln_evidence - LN_EVIDENCE) / bridge.ln_evidence_error
    # The spread of 200 standard normals is known to a twentieth, their mean to a fourteenth.
    assert abs(away.mean()) < 0.28
    assert 0.8 < away.std() < 1.2
    assert 0.8 < bridge.half_difference.std() < 1.2
    assert bridge.ln_evidence_error.max() < 0.15
    assert bridge.overlap.min() > 0.3


def test_repeated_draws_are_not_taken_for_new_ones():
    """A chain that stays for ten draws where it is has the error of a tenth of its draws."""
    few, log_density = bent(np.random.default_rng(5).standard_normal((4, 50, REPEATS, 3)))
    theta = few.repeat(10, axis=1)
    bridge = bridge_sample(
        lambda x, blocks: log_density(x),
        theta,
        log_density(theta),
        [np.random.default_rng((6, block)) for block in range(REPEATS)],
        points=100,
    )
    assert 0.75 < (bridge.ln_evidence / bridge.ln_evidence_error).std() < 1.25


def test_maxima_that_lie_apart_are_all_bridged():
    """Chains that never met, two in either of two maxima of the same weight."""
    theta = np.random.default_rng(7).standard_normal((4, 500, 1, 3))
    theta[2:] += 6

    def log_density(x):
        return np.logaddexp(log_normal(x), log_normal(x - 6)) - np.log(2)

    bridge = bridge_sample(
        lambda x, blocks: log_density(x), theta, log_density(theta), [np.random.default_rng(8)]
    )
    assert abs(bridge.ln_evidence[0]) < 5 * bridge.ln_evidence_error[0] < 0.2
    assert 0.4 < bridge.overlap[0] < 0.8


def test_a_block_does_not_depend_on_its_neighbours():
    theta, log_density = bent(np.random.default_rng(9).standard_normal((2, 300, 3, 2)))
    lp = log_density(theta)

    def of(blocks):
        generators = [np.random.default_rng((10, block)) for block in blocks]
        return bridge_sample(
            lambda x, _: log_density(x), theta[:, :, blocks], lp[:, :, blocks], generators, 500
        )

    together, alone = of([0, 1, 2]), of([1])
    np.testing.assert_allclose(together.ln_evidence[1], alone.ln_evidence[0], atol=1e-5)
    np.testing.assert_allclose(together.pareto_k[1], alone.pareto_k[0], atol=1e-6)


def test_what_has_no_bridge_says_so():
    """Chains that stand still, a target without density, and one that is as it should be."""
    theta = np.random.default_rng(11).standard_normal((2, 200, 3, 2))
    theta[:, :, 0] = 0.5
    lp = log_normal(theta)

    def log_posterior(x, blocks):
        return np.where(blocks[:, None] == 1, -np.inf, log_normal(x))

    generators = [np.random.default_rng((12, block)) for block in range(3)]
    bridge = bridge_sample(log_posterior, theta, lp, generators, 500)
    assert np.isnan(bridge.ln_evidence[:2]).all()
    assert np.isinf(bridge.ln_evidence_error[:2]).all()
    assert (bridge.overlap[:2] == 0).all()
    assert abs(bridge.ln_evidence[2]) < 5 * bridge.ln_evidence_error[2] < 0.2
    _, usable = shape_proposal(np.moveaxis(theta.reshape(400, 3, 2), 0, 1))
    assert usable.tolist() == [False, True, True]


def test_too_few_draws_are_refused():
    theta = np.zeros((1, 19, 1, 2))
    with pytest.raises(ResultError, match=r"19 draws of 2 parameters; .* 20 or more"):
        bridge_sample(lambda x, blocks: x[..., 0], theta, theta[..., 0], [None])


def test_a_bridge_is_relied_on_if_its_error_is_small_and_its_halves_agree():
    error = np.array([0.1, 0.3, 0.1, np.inf, 0.1])
    difference = np.array([1.0, 1.0, -4.5, np.nan, np.nan])
    bridge = Bridge(np.zeros(5), error, difference, np.ones(5), np.zeros(5))
    assert bridge.reliable(0.25).tolist() == [True, False, False, False, False]
    assert bridge.reliable(0.5).tolist() == [True, True, False, False, False]
