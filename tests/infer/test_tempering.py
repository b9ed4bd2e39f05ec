"""The tempered ensemble: the laws it draws from, what it says of itself, what it refuses."""

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy.special import ndtr

from pymcdust.errors import ConfigurationError, ModelError
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import Proposal
from pymcdust.infer.target import Target
from pymcdust.infer.tempering import PAPER, Ptemcee, mended_sampler, walker_order
from pymcdust.modeling.gallery import resolve
from pymcdust.sky.compression import compress

SHORT = Ptemcee(temperatures=2, walkers=12, steps=60, thin=2)


@dataclass
class Known:
    """A target of which all is known: a function of points, and where a search would end."""

    log_likelihood: object  # of points (block, point, parameter) and the positions of their blocks
    location: np.ndarray  # (block, parameter)
    seeds: list
    scale: float = 1.0

    @property
    def n_block(self):
        return self.location.shape[0]

    @property
    def n_parameter(self):
        return self.location.shape[1]

    @property
    def laplace(self):
        factor = np.tile(self.scale * np.eye(self.n_parameter), (self.n_block, 1, 1))
        return Proposal(self.location, factor)


def gaussian(n_block=2, n_parameter=3, seed=1):
    """A likelihood of width `s` around `m`: the posterior has precision 1 + s^-2."""
    width = np.linspace(0.1, 2.0, n_parameter)
    centre = np.linspace(-1.0, 1.0, n_block * n_parameter).reshape(n_block, n_parameter)

    def function(points, blocks):
        return -0.5 * np.square((points - centre[blocks][:, None]) / width).sum(axis=2)

    variance = 1 / (1 + width**-2)
    mean = centre * variance / width**2
    seeds = np.random.SeedSequence(seed).spawn(n_block)
    return Known(function, mean, seeds), mean, np.sqrt(variance)


def two_modes(n_parameter=2, apart=3.0, width=0.15, weight=0.2):
    """Modes at -apart and +apart in the first direction, with the weight of the second."""
    # The prior weighs both alike.
    centre = np.zeros((2, n_parameter))
    centre[:, 0] = -apart, apart
    log_weight = np.log([1 - weight, weight])

    def function(points, blocks):
        distance = np.square((points[:, :, None] - centre) / width).sum(axis=3)
        return np.logaddexp.reduce(log_weight - 0.5 * distance, axis=2)

    return Known(function, centre[:1] / (1 + width**2), [np.random.SeedSequence(1)], scale=width)


def ensemble_ess(walkers):
    """Effective size of an ensemble (walker, state), from the variance of its mean in time."""
    n_walker, n_state = walkers.shape
    away = walkers - walkers.mean()
    spectrum = np.abs(np.fft.rfft(away, 2 * n_state, axis=1)) ** 2
    correlation = np.fft.irfft(spectrum, axis=1)[:, :n_state].mean(axis=0)
    correlation /= correlation[0]
    tau = 2 * np.cumsum(correlation) - 1
    window = np.argmax(np.arange(n_state) > 5 * tau)  # Sokal's rule, as in emcee
    return n_walker * n_state / tau[window]


class TestLaw:
    @pytest.mark.statistical
    def test_of_a_gaussian_mean_width_and_tails(self):
        known, mean, sd = gaussian()
        draws = Ptemcee(temperatures=2, walkers=20, steps=5000, thin=4, ensembles=2)(known)
        theta = draws.theta
        assert theta.shape == (2, 20 * 624, 2, 3)
        for block in range(2):
            z = (theta[:, :, block] - mean[block]) / sd
            ess = array_stats.ess(z, chain_axis=0, draw_axis=1, method="mean")
            assert (ess > 1000).all()
            assert (np.abs(z.mean(axis=(0, 1))) < 4 / np.sqrt(ess)).all()
            assert np.std(z, axis=(0, 1)) == pytest.approx(np.ones(3), abs=4 / np.sqrt(ess.min()))
            for at in (-2, 2):
                share = (z < at).mean(axis=(0, 1))
                expected = ndtr(at)
                error = np.sqrt(expected * (1 - expected) / ess.min())
                assert share == pytest.approx(np.full(3, expected), abs=5 * error)

    @pytest.mark.statistical
    def test_finds_the_mode_that_one_temperature_misses(self):
        known = two_modes(weight=0.2)
        local = Ptemcee(temperatures=1, walkers=20, steps=2000)(known)
        assert (local.theta[..., 0] < 0).all()
        tempered = Ptemcee(temperatures=6, walkers=20, steps=12_000, thin=4, max_temperature=200.0)
        draws = tempered(known)
        share = draws.theta[..., 0] > 0
        ess = array_stats.ess(share[:, :, 0].astype(float), chain_axis=0, draw_axis=1)
        assert ess > 100
        assert share.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / ess))
        away = np.abs(draws.theta[..., 0])
        assert away.mean() == pytest.approx(3.0 / (1 + 0.15**2), abs=0.02)
        assert away.std() == pytest.approx(0.15 / np.sqrt(1 + 0.15**2), rel=0.1)

    @pytest.mark.statistical
    def test_the_hottest_draws_are_those_of_the_prior(self):
        known, *_ = gaussian(n_block=1)
        draws = Ptemcee(temperatures=4, walkers=20, steps=3000, thin=4, max_temperature=np.inf)(
            known
        )
        prior = np.random.default_rng(0).standard_normal((1, 100_000, 3))
        expected = known.log_likelihood(prior, np.array([0])).mean()
        assert draws.stats["inverse_temperature"][1][0, -1, 0] == 0
        assert draws.stats["mean_log_likelihood"][1][0, -1, 0] == pytest.approx(expected, rel=0.1)

    @pytest.mark.statistical
    def test_what_it_claims_to_be_worth_it_is_worth(self):
        """Means of many ensembles scatter as the effective sample size says."""
        known, _, sd = gaussian(n_block=1)
        settings = Ptemcee(temperatures=3, walkers=12, steps=800, thin=4, ensembles=40)
        theta = settings(known).theta[:, :, 0]
        claimed = [
            array_stats.ess(one[None], chain_axis=0, draw_axis=1, method="mean") for one in theta
        ]
        worth = sd**2 / theta.mean(axis=1).var(axis=0)
        # A variance of 40 numbers is known to 22 %.
        assert np.median(claimed, axis=0) / worth == pytest.approx(np.ones(3), abs=0.6)
        draws = theta.shape[1]
        by_step = theta.reshape(40, 2, 12, draws // 24, 3).transpose(0, 1, 3, 2, 4)
        hidden = [
            array_stats.ess(one.reshape(1, draws, 3), chain_axis=0, draw_axis=1, method="mean")
            for one in by_step
        ]
        assert (np.median(hidden, axis=0) / worth > 2.5).all()


class TestOrder:
    def test_every_state_occurs_once(self):
        rng = np.random.default_rng(0)
        walkers = np.array([rng.permutation(7)[:4] for _ in range(6)])
        state, slot = walker_order(walkers)
        assert sorted(zip(state, slot, strict=True)) == [(i, j) for i in range(6) for j in range(4)]
        assert (state[:12] < 3).all()
        for half in (slice(12), slice(12, None)):
            walker = walkers[state, slot][half]
            assert (np.diff(walker) >= 0).all()
            assert (np.diff(state[half])[np.diff(walker) == 0] > 0).all()

    @pytest.mark.statistical
    def test_arviz_sees_the_autocorrelation_of_walkers(self):
        n_walker, n_state, rho = 20, 2000, 0.9
        rng = np.random.default_rng(3)
        ensemble = np.empty((n_walker, n_state))
        ensemble[:, 0] = rng.standard_normal(n_walker)
        for i in range(1, n_state):
            noise = np.sqrt(1 - rho**2) * rng.standard_normal(n_walker)
            ensemble[:, i] = rho * ensemble[:, i - 1] + noise
        truth = n_walker * n_state * (1 - rho) / (1 + rho)
        assert ensemble_ess(ensemble) == pytest.approx(truth, rel=0.1)

        def ess(draws):
            return float(array_stats.ess(draws[None], method="mean", chain_axis=0, draw_axis=1))

        state, slot = walker_order(np.tile(np.arange(n_walker), (n_state, 1)))
        assert ess(ensemble[slot, state]) == pytest.approx(ensemble_ess(ensemble), rel=0.1)
        assert ess(ensemble.T.ravel()) > 4 * truth

    def test_split_rhat_compares_early_with_late(self):
        drift = np.repeat([[0.0], [3.0]], 50, axis=0)
        drift = drift + np.random.default_rng(0).standard_normal((100, 8))
        state, slot = walker_order(np.tile(np.arange(8), (100, 1)))
        two = np.stack([drift[state, slot]] * 2)
        assert array_stats.rhat(two, chain_axis=0, draw_axis=1) > 1.5


class TestDraws:
    @pytest.fixture(scope="class")
    @staticmethod
    def drawn():
        return replace(SHORT, ensembles=2)(gaussian()[0])

    def test_shapes(self, drawn):
        assert drawn.theta.shape == (2, 12 * 14, 2, 3)
        for dims, values in drawn.stats.values():
            sizes = {"chain": 2, "draw": 12 * 14, "block": 2, "temperature": 2}
            assert values.shape == tuple(sizes[dim] for dim in dims)
            assert np.isfinite(values).all()

    def test_steps_are_the_last_ones_thinned(self, drawn):
        step = drawn.stats["step"][1][0, :, 0]
        assert (np.unique(step) == np.arange(34, 61, 2)).all()
        assert (np.bincount(step)[34::2] == 12).all()
        assert (step[: 12 * 7] <= 46).all()

    def test_walkers_are_followed_through_the_temperatures(self, drawn):
        walker, step = (drawn.stats[name][1][0, :, 0] for name in ("walker", "step"))
        assert len(np.unique(walker)) > 12
        pairs = set(zip(walker, step, strict=True))
        assert len(pairs) == len(walker), "no walker is in two places at a time"
        # Where a walker did not move it has the same coordinates as before.
        theta = drawn.theta[0, :, 0]
        same = (np.diff(theta, axis=0) == 0).all(axis=1)
        assert same.any()
        assert (np.diff(walker)[same] == 0).all()

    def test_rates(self, drawn):
        for name in ("acceptance", "swap_acceptance"):
            assert ((drawn.stats[name][1] > 0) & (drawn.stats[name][1] < 1)).all()
        inverse = drawn.stats["inverse_temperature"][1]
        assert (inverse[:, 0] == 1).all()
        assert (inverse[:, 1] == inverse[0, 1, 0]).all()
        assert 0 < inverse[0, 1, 0] < 1
        cold, hot = drawn.stats["mean_log_likelihood"][1].mean(axis=(0, 2))
        assert cold > hot

    def test_one_temperature_swaps_nothing(self):
        draws = replace(SHORT, temperatures=1)(gaussian()[0])
        assert np.isnan(draws.stats["swap_acceptance"][1]).all()

    def test_the_ladder_is_adapted_before_draws_are_kept(self):
        known = gaussian(n_block=1)[0]
        settings = Ptemcee(temperatures=4, walkers=12, steps=400, max_temperature=1000.0)
        fixed = settings(known).stats["inverse_temperature"][1][0, :, 0]
        adapted = replace(settings, adapt=True)(known).stats["inverse_temperature"][1][0, :, 0]
        assert fixed == pytest.approx([1, 0.1, 0.01, 0.001])
        assert adapted[[0, -1]] == pytest.approx(fixed[[0, -1]])
        assert (np.abs(adapted / fixed - 1)[1:-1] > 0.01).all()

    def test_a_seed_gives_the_same_draws(self, drawn):
        settings = replace(SHORT, ensembles=2)
        again = settings(gaussian()[0])
        assert (again.theta == drawn.theta).all()
        other = settings(gaussian(seed=2)[0])
        assert (other.theta != drawn.theta).any(axis=(1, 3)).all()
        assert (drawn.theta[0] != drawn.theta[1]).any(axis=(0, 2)).all()

    def test_a_block_does_not_depend_on_the_others(self, drawn):
        known = gaussian()[0]
        alone = Known(
            lambda points, blocks: known.log_likelihood(points, blocks + 1),
            known.location[1:],
            known.seeds[1:],
        )
        theta = replace(SHORT, ensembles=2)(alone).theta
        assert (theta[:, :, 0] == drawn.theta[:, :, 1]).all()

    def test_starts_where_there_is_likelihood(self):
        """No draw comes from where the likelihood is NaN or nothing: most of the prior."""
        known = gaussian(n_block=1)[0]

        def function(points, blocks):
            value = known.log_likelihood(points, blocks)
            value = np.where(points[:, :, 1] > known.location[0, 1] + 0.01, -np.inf, value)
            return np.where(points[:, :, 1] < known.location[0, 1] - 0.01, np.nan, value)

        draws = SHORT(replace(known, log_likelihood=function))
        assert (np.abs(draws.theta[..., 1] - known.location[0, 1]) < 0.01).all()
        assert np.isfinite(draws.stats["mean_log_likelihood"][1]).all()

    def test_without_likelihood_at_the_maximum_there_is_no_start(self):
        def function(points, blocks):
            return np.full(points.shape[:2], np.nan)

        with pytest.raises(ModelError, match="block 0 is not finite at the maximum"):
            SHORT(replace(gaussian()[0], log_likelihood=function))


class TestPtemcee:
    def test_the_steps_are_those_of_ptemcee(self):
        """The same chain as its own way, walker by walker, to the last digit."""
        known = gaussian(n_block=1)[0]
        settings = replace(SHORT, temperatures=3, max_temperature=50.0)
        draws = settings(known)
        discarded = settings.steps - settings.kept * settings.thin
        child = np.random.SeedSequence(known.seeds[0].entropy, spawn_key=(0, 0))
        random = np.random.RandomState(np.random.MT19937(child))
        sampler = mended_sampler()(
            settings.walkers,
            3,
            lambda x: known.log_likelihood(x[None, None], np.array([0]))[0, 0],
            lambda x: -0.5 * np.dot(x, x),
            ntemps=3,
            Tmax=50.0,
            random=random,
        )
        start = known.location[0] + settings.scatter * random.standard_normal((3, 12, 3))
        sampler.run_mcmc(start, iterations=discarded, storechain=False)
        before = sampler.nswap_accepted.copy(), sampler.nprop_accepted.copy()
        sampler.run_mcmc(iterations=settings.steps - discarded)
        chain = sampler.chain[0, :, settings.thin - 1 :: settings.thin]
        state = (draws.stats["step"][1][0, :, 0] - discarded) // settings.thin - 1
        for number in range(settings.kept):
            ours, expected = draws.theta[0, state == number, 0], chain[:, number]
            ours, expected = ours[np.lexsort(ours.T)], expected[np.lexsort(expected.T)]
            assert ours == pytest.approx(expected, rel=1e-12)
        per_step = settings.steps - discarded
        swaps = (sampler.nswap_accepted - before[0]) / (12 * per_step) / [1, 2, 1]
        assert draws.stats["swap_acceptance"][1][0, :, 0] == pytest.approx(swaps)
        moves = (sampler.nprop_accepted - before[1]).mean(axis=1) / per_step
        assert draws.stats["acceptance"][1][0, :, 0] == pytest.approx(moves)

    def test_numpy_and_ptemcee_are_left_as_they_are(self):
        import ptemcee.sampler

        SHORT(gaussian()[0])
        assert not hasattr(np, "float")
        assert ptemcee.sampler.np is np
        assert ptemcee.Sampler.reset.__globals__ is vars(ptemcee.sampler)
        assert mended_sampler() is mended_sampler()

    def test_is_imported_when_it_is_needed(self):
        code = "import sys, pymcdust.infer.tempering; sys.exit('ptemcee' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"temperatures": 0}, "temperatures is 0; it must be a whole number, 1 or more"),
            ({"steps": 3e4}, r"steps is 30000\.0; it must be a whole number"),
            ({"walkers": 51}, "walkers is 51; it must be even.*52 would do"),
            ({"steps": 1001}, "steps is 1001; it must be a multiple of thin, 10; 1010 would do"),
            ({"keep": 1.0}, r"keep is 1\.0; it must be above 0 and below 1"),
            ({"keep": np.nan}, "keep is nan"),
            ({"steps": 60}, "keep 2 states of a walker; they must keep 4 or more"),
            ({"scatter": 0.0}, r"scatter is 0\.0; it must be above 0"),
            ({"max_temperature": 1.0}, r"max_temperature is 1\.0; it must be above 1"),
            ({"max_temperature": np.nan}, "max_temperature is nan; it must be above 1"),
            ({"temperatures": 1, "max_temperature": np.inf}, "temperatures=2 or more"),
        ],
    )
    def test_what_cannot_be_is_said(self, wrong, message):
        with pytest.raises(ConfigurationError, match=message):
            Ptemcee(**wrong)

    def test_too_few_walkers_for_the_parameters(self):
        with pytest.raises(ConfigurationError, match=r"walkers is 4, for 3.*walkers=6 would do"):
            replace(SHORT, walkers=4)(gaussian()[0])

    def test_the_paper_s(self):
        assert (PAPER.temperatures, PAPER.walkers, PAPER.steps) == (3, 50, 30_000)
        assert (PAPER.thin, PAPER.kept, PAPER.ensembles) == (10, 1500, 1)


@pytest.mark.statistical
def test_on_a_superpixel_it_agrees_with_plain_importance_sampling(sky_of):
    """Of three voxels, weighted draws of the prior itself and of a wide proposal know the truth."""
    rows = compress(sky_of(n_superpixel=1))
    posterior = CompiledPosterior(resolve("temperature_per_voxel"), rows, "quantile")
    target = Target(posterior, rows, np.random.SeedSequence(0).spawn(1))
    draws = Ptemcee(walkers=20, steps=2400, thin=4)(target).theta[0, :, 0]
    wide = Proposal(target.laplace.location, 2 * target.laplace.factor)
    points = wide.draw(100_000, target.generators())
    log_weight = target.log_posterior(points, np.array([0])) - wide.log_density(points)
    weight = np.exp(log_weight - log_weight.max())[0]
    mean = np.average(points[0], axis=0, weights=weight)
    sd = np.sqrt(np.average((points[0] - mean) ** 2, axis=0, weights=weight))
    assert (draws.mean(axis=0) - mean) / sd == pytest.approx(np.zeros(5), abs=0.15)
    assert draws.std(axis=0) / sd == pytest.approx(np.ones(5), abs=0.12)
