"""Sequential Monte Carlo: evidences that are known, the law it draws from, what it refuses."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from pymcdust.errors import ConfigurationError, ModelError
from pymcdust.infer import smc
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import Proposal
from pymcdust.infer.smc import Smc
from pymcdust.infer.target import Target
from pymcdust.modeling.gallery import resolve
from pymcdust.sky.compression import compress

SHORT = Smc(draws=100, chains=2)


@dataclass
class Known:
    """A target of which all is known: a function of points."""

    log_likelihood: object  # of points (block, point, parameter) and the positions of their blocks
    n_parameter: int
    seeds: list

    @property
    def n_block(self):
        return len(self.seeds)


def seeds(n_block=1, seed=1):
    return np.random.SeedSequence(seed).spawn(n_block)


def gaussian(n_parameter=3, n_block=2, narrow=1.0, seed=1):
    """Return a target, its posteriors' mean and covariance, and its ln evidence."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(n_parameter, n_parameter))
    width = np.geomspace(narrow, 1.0, n_parameter)
    noise = np.outer(width, width) * (mix @ mix.T + 0.1 * np.eye(n_parameter))
    data = rng.normal(size=(n_block, n_parameter))
    factor = np.linalg.cholesky(np.linalg.inv(noise))
    constant = -0.5 * np.linalg.slogdet(2 * np.pi * noise)[1]

    def function(points, blocks):
        away = (points - data[blocks][:, None]) @ factor
        return constant - 0.5 * np.square(away).sum(axis=2)

    covariance = np.linalg.inv(np.linalg.inv(noise) + np.eye(n_parameter))
    mean = data @ np.linalg.inv(noise) @ covariance
    marginal = multivariate_normal(np.zeros(n_parameter), noise + np.eye(n_parameter))
    return (
        Known(function, n_parameter, seeds(n_block, seed)),
        mean,
        covariance,
        marginal.logpdf(data),
    )


def pooled(ln_evidence):
    """Return the log of the mean evidence of the chains, and its standard error."""
    ratio = np.exp(ln_evidence - ln_evidence.max(axis=0))
    error = ratio.std(axis=0, ddof=1) / ratio.mean(axis=0) / np.sqrt(len(ratio))
    return logsumexp(ln_evidence, axis=0) - np.log(len(ln_evidence)), error


@pytest.mark.statistical
class TestLaw:
    def test_of_a_gaussian_evidence_mean_and_covariance(self):
        known, mean, covariance, ln_evidence = gaussian()
        draws = Smc(draws=1500, chains=6)(known)
        value, error = pooled(draws.stats["ln_evidence"][1])
        assert (error < 0.05).all()
        assert (np.abs(value - ln_evidence) < 4 * error + 0.01).all()
        for block in range(2):
            theta = draws.theta[:, :, block].reshape(-1, 3)
            sd = np.sqrt(np.diagonal(covariance))
            assert (theta.mean(axis=0) - mean[block]) / sd == pytest.approx(np.zeros(3), abs=0.06)
            whitened = np.linalg.solve(np.linalg.cholesky(covariance), (theta - mean[block]).T)
            assert np.cov(whitened) == pytest.approx(np.eye(3), abs=0.07)

    @pytest.mark.parametrize("narrow", [1e-2, 1e-5])
    def test_of_a_narrow_likelihood(self, narrow):
        """Log likelihoods of -1e10 in the prior, and variances that 1e-6 would swamp."""
        known, _, covariance, ln_evidence = gaussian(n_block=1, narrow=narrow)
        draws = Smc(draws=600, chains=4)(known)
        value, error = pooled(draws.stats["ln_evidence"][1])
        assert error < 0.2
        assert np.abs(value - ln_evidence) < 4 * error + 0.02
        assert (draws.stats["correlation"][1] < 0.25).all()
        assert draws.theta[:, :, 0].std(axis=(0, 1)) == pytest.approx(
            np.sqrt(np.diagonal(covariance)), rel=0.1
        )

    def test_of_one_parameter_as_quadrature_gives_it(self):
        """Two peaks, one of them cut off: neither Gaussian nor finite everywhere."""

        def log_likelihood(u):
            value = np.logaddexp(norm.logpdf(u, -1.5, 0.1), norm.logpdf(u, 0.8, 0.3))
            return np.where(u > 0.7, -np.inf, np.where(u < -3, np.nan, value))

        expected, _ = quad(
            lambda u: np.exp(log_likelihood(u)) * norm.pdf(u), -3, 0.7, points=[-1.5], epsabs=1e-10
        )
        known = Known(lambda points, blocks: log_likelihood(points[..., 0]), 1, seeds())
        draws = Smc(draws=6000, chains=6)(known)
        value, error = pooled(draws.stats["ln_evidence"][1])
        assert error < 0.01
        assert value == pytest.approx(np.log(expected), abs=0.02)
        left, _ = quad(lambda u: np.exp(log_likelihood(u)) * norm.pdf(u), -3, -0.9, points=[-1.5])
        assert (draws.theta < -0.9).mean() == pytest.approx(left / expected, abs=0.02)
        assert draws.theta.max() <= 0.7

    def test_of_a_bent_posterior_in_eleven_dimensions(self):
        """A ridge along which the width changes: the evidence is known, for it factorises."""

        def function(points, blocks):
            first, others = points[..., 0], points[..., 1:]
            ridge = norm.logpdf(others[..., 0], first**2, 0.05)
            return ridge + norm.logpdf(others[..., 1:], 0.5, 0.1).sum(axis=-1)

        one, _ = quad(lambda u: norm.pdf(u) * norm.pdf(u**2, 0, np.hypot(1, 0.05)), -8, 8)
        expected = np.log(one) + 9 * norm.logpdf(0.5, 0, np.hypot(1, 0.1))
        draws = Smc(draws=500, chains=6)(Known(function, 11, seeds()))
        value, error = pooled(draws.stats["ln_evidence"][1])
        assert error < 0.2
        assert np.abs(value - expected) < 4 * error
        assert (np.abs(draws.theta[:, :, 0, 0].mean(axis=1)) < 0.4).all(), "both arms"

    def test_of_a_superpixel(self, sky_of):
        rows = compress(sky_of(n_superpixel=1))
        posterior = CompiledPosterior(resolve("temperature_per_voxel"), rows, "quantile")
        target = Target(posterior, rows, seeds())
        draws = Smc(draws=500, chains=4)(target)
        wide = Proposal(target.laplace.location, 2 * target.laplace.factor)
        points = wide.draw(100_000, target.generators())
        log_weight = target.log_posterior(points, np.array([0])) - wide.log_density(points)
        weight = np.exp(log_weight - log_weight.max())[0]
        mean = np.average(points[0], axis=0, weights=weight)
        sd = np.sqrt(np.average((points[0] - mean) ** 2, axis=0, weights=weight))
        theta = draws.theta[:, :, 0].reshape(-1, 5)
        assert (theta.mean(axis=0) - mean) / sd == pytest.approx(np.zeros(5), abs=0.15)
        assert theta.std(axis=0) / sd == pytest.approx(np.ones(5), abs=0.12)
        value, error = pooled(draws.stats["ln_evidence"][1])
        assert error < 0.2
        assert np.abs(value - (logsumexp(log_weight) - np.log(100_000))) < 4 * error + 0.02


class TestDraws:
    @pytest.fixture(scope="class")
    @staticmethod
    def drawn():
        return SHORT(gaussian()[0])

    def test_shapes(self, drawn):
        assert drawn.theta.shape == (2, 100, 2, 3)
        assert set(drawn.stats) == {
            "ln_evidence",
            "stages",
            "moves",
            "acceptance_rate",
            "correlation",
        }
        for dims, values in drawn.stats.values():
            assert dims == ("chain", "block")
            assert values.shape == (2, 2)
        assert (drawn.stats["stages"][1] >= 2).all()
        assert (drawn.stats["moves"][1] >= drawn.stats["stages"][1]).all()
        first, second = drawn.stats["moves"][1]
        assert (second < 1.5 * first).all(), "every chain counts for itself"
        rate = drawn.stats["acceptance_rate"][1]
        assert ((rate > 0.05) & (rate < 1)).all()

    def test_particles_forget_where_they_were(self, drawn):
        assert (drawn.stats["correlation"][1] < SHORT.correlation_threshold).all()
        closer = replace(SHORT, correlation_threshold=0.9)(gaussian()[0])
        assert (closer.stats["moves"][1] < drawn.stats["moves"][1]).all()

    def test_more_stages_where_weights_are_to_be_worth_more(self, drawn):
        finer = replace(SHORT, threshold=0.9)(gaussian()[0])
        assert (finer.stats["stages"][1] > drawn.stats["stages"][1]).all()

    def test_a_likelihood_of_nothing_new_takes_one_stage(self):
        flat = Known(lambda points, blocks: np.full(points.shape[:2], -3.0), 2, seeds())
        draws = SHORT(flat)
        assert (draws.stats["stages"][1] == 1).all()
        assert draws.stats["ln_evidence"][1] == pytest.approx(np.full((2, 1), -3.0))

    def test_a_seed_gives_the_same_draws(self, drawn):
        again = SHORT(gaussian()[0])
        assert (again.theta == drawn.theta).all()
        assert (again.stats["ln_evidence"][1] == drawn.stats["ln_evidence"][1]).all()
        assert (SHORT(gaussian(seed=2)[0]).theta != drawn.theta).any(axis=(1, 3)).all()
        assert (drawn.theta[0] != drawn.theta[1]).any(axis=(0, 2)).all()

    def test_a_block_does_not_depend_on_the_others(self, drawn):
        known = gaussian()[0]
        alone = Known(
            lambda points, blocks: known.log_likelihood(points, blocks + 1), 3, known.seeds[1:]
        )
        assert (SHORT(alone).theta[:, :, 0] == drawn.theta[:, :, 1]).all()


class TestErrors:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"draws": 0}, "draws is 0; it must be a whole number, 1 or more"),
            ({"chains": 1.5}, r"chains is 1\.5; it must be a whole number, 1 or more"),
            ({"threshold": 1.0}, r"threshold is 1\.0; it must be above 0 and below 1"),
            ({"correlation_threshold": np.nan}, "correlation_threshold is nan"),
        ],
    )
    def test_what_cannot_be_is_said(self, wrong, message):
        with pytest.raises(ConfigurationError, match=message):
            Smc(**wrong)

    def test_too_few_particles_for_the_parameters(self):
        with pytest.raises(
            ConfigurationError, match=r"draws is 20 with .*for 3 .*draws=30 would do"
        ):
            replace(SHORT, draws=20)(gaussian()[0])

    def test_no_likelihood_anywhere(self):
        nowhere = Known(lambda points, blocks: np.full(points.shape[:2], np.nan), 2, seeds())
        with pytest.raises(ModelError, match="block 0 is finite at 0 of 100 draws"):
            SHORT(nowhere)

    def test_too_little_likelihood_for_a_population(self):
        def function(points, blocks):
            return np.where(points[..., 0] > 1.8, -1.0, -np.inf)

        with pytest.raises(ModelError, match=r"is finite at \d of 100 draws .* take more draws"):
            SHORT(Known(function, 2, seeds()))

    def test_too_many_stages(self, monkeypatch):
        monkeypatch.setattr(smc, "MAX_STAGES", 3)
        with pytest.raises(ConfigurationError, match=r"of block 0 is .* after 3 stages"):
            replace(SHORT, threshold=0.99)(gaussian()[0])
