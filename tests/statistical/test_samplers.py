"""Every sampler draws from laws that are known, and all from the same one."""

from functools import cache

import numpy as np
import pytest
from astropy import constants
from laws import ERRORS, Sample, Weighted, assert_agree, assert_follows, chain_worth
from scipy import special, stats

from pymcdust import Prior, fixed, per_superpixel, per_voxel
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.laplace import Laplace
from pymcdust.infer.nuts import Nuts
from pymcdust.infer.smc import Smc
from pymcdust.infer.target import Target
from pymcdust.infer.tempering import Ptemcee
from pymcdust.infer.weights import RELIABLE_K
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.compression import compress
from pymcdust.sky.dataset import build_sky

pytestmark = pytest.mark.statistical

METHODS = {
    "laplace": Laplace(draws=8000),
    "nuts": Nuts(draws=1500, chains=4),
    "ptemcee": Ptemcee(temperatures=2, walkers=24, steps=3200, thin=4, ensembles=2),
    "smc": Smc(draws=1500, chains=4),
}

#: What a particle is worth: those that come from the same one have not forgotten it altogether.
PARTICLE = 0.5

FREQUENCY = np.array([217.0, 353.0, 545.0, 857.0, 2998.0])
SIGMA = np.array([0.5, 3.0, 9.0, 25.0, 30.0])
N_PIXEL = 16

#: Priors of `temperature_per_voxel`, by SciPy.
PRIORS = {
    "temperature": stats.truncnorm(-13.1 / 9, 81.9 / 9, 18.1, 9.0),
    "beta": stats.truncnorm(-2.0, 1.4 / 0.3, 1.6, 0.3),
    "rho": stats.lognorm(s=1.0, scale=1e-4),
}


def glow(temperature, beta, rho):
    """Emission per reddening [MJy/sr/mag], (..., band), by the constants of astropy."""
    temperature, beta, rho = (np.asarray(a, float)[..., None] for a in (temperature, beta, rho))
    hz = FREQUENCY * 1e9
    h, k, c = (constant.si.value for constant in (constants.h, constants.k_B, constants.c))
    planck = 2 * h * hz**3 / c**2 / np.expm1(h * hz / (k * temperature)) * 1e20
    return rho * (FREQUENCY / 353) ** beta * planck


def sky_of(reddening, spectra, offset=0.0, sigma=SIGMA, seed=1):
    """Reddening (superpixel, pixel, voxel), glowing with spectra (superpixel, voxel, band)."""
    rng = np.random.default_rng(seed)
    emission = reddening @ spectra + offset
    emission = emission + sigma * rng.standard_normal(emission.shape)
    return build_sky(
        reddening,
        emission,
        sigma,
        np.arange(reddening.shape[2] + 1.0),
        np.arange(len(reddening)),
        nside=64,
        superpixel_nside=16,
        valid=rng.random(emission.shape[:2]) > 0.2,
        reddening_unit="bayestar2019",
    )


@cache
def target_of(build):
    """Compile a model for its sky, once for all samplers."""
    model, sky = build()
    rows = compress(sky)
    posterior = CompiledPosterior(model, rows, "quantile")
    return Target(posterior, rows, np.random.SeedSequence(7).spawn(rows.sizes["superpixel"]))


@cache
def draws_of(method, build):
    """Draw once, whatever is asked of the draws."""
    return METHODS[method](target_of(build))


def natural(method, build, block):
    """Return the natural parameters (chain, draw) of one block, a list for every variable."""
    target, draws = target_of(build), draws_of(method, build)
    points = draws.theta.reshape(-1, *draws.theta.shape[2:])
    values = target.posterior.natural(points)[0][:, block].reshape(*draws.theta.shape[:2], -1)
    worth = worth_of(method, draws, block)
    return {
        slot.name: [Sample(values[..., i], worth) for i in range(slot.start, slot.stop)]
        for slot in target.posterior.slots
    }


def worth_of(method, draws, block):
    if method == "laplace":
        assert draws.stats["pareto_k"][1][block] < RELIABLE_K
        independent = min(draws.stats["importance_ess"][1][block], draws.theta.shape[1])
        return lambda values: independent
    if method == "smc":
        return lambda values: PARTICLE * values.size
    return chain_worth


# A posterior that is Gaussian: emission is linear in rho and in the offsets.

RHO, RHO_WIDTH, OFFSET_WIDTH = 1e-4, 5e-5, 5.0
TEMPERATURE, BETA = 18.0, 1.6


def linear():
    model = TemperaturePerVoxel(
        temperature=fixed(TEMPERATURE, unit="K"),
        beta=fixed(BETA),
        rho=per_voxel(Prior("Normal", mu=RHO, sigma=RHO_WIDTH), unit="mag-1"),
        offset=per_superpixel(Prior("Normal", mu=0.0, sigma=OFFSET_WIDTH), unit="MJy/sr"),
    )
    rng = np.random.default_rng(3)
    reddening = rng.lognormal(-1.0, 0.7, (2, N_PIXEL, 3))
    spectra = glow(np.full((2, 3), TEMPERATURE), np.full((2, 3), BETA), [[2e-4, 5e-5, 1e-4]] * 2)
    return model, sky_of(reddening, spectra, offset=rng.normal(0, 3, 5), sigma=5 * SIGMA)


def exact(block):
    """Mean and covariance of (rho of each voxel, offset of each band), and the ln evidence."""
    _, sky = linear()
    one = sky.isel(superpixel=block)
    valid = one.valid.values
    n = valid.sum()
    per_rho = one.reddening.values[valid][:, None, :] * glow(TEMPERATURE, BETA, 1.0)[:, None]
    bands = np.tile(np.eye(5), (n, 1, 1))
    design = np.concatenate([per_rho, bands], axis=2).reshape(n * 5, -1)
    data = one.emission.values[valid].ravel()
    noise = np.tile(one.sigma.values, n) ** 2
    prior_mean = np.array([RHO] * 3 + [0.0] * 5)
    prior = np.diag([RHO_WIDTH] * 3 + [OFFSET_WIDTH] * 5) ** 2
    marginal = np.diag(noise) + design @ prior @ design.T
    gain = np.linalg.solve(marginal, design @ prior).T
    away = data - design @ prior_mean
    covariance = prior - gain @ design @ prior
    ln_evidence = stats.multivariate_normal(cov=marginal).logpdf(away)
    return prior_mean + gain @ away, covariance, ln_evidence


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("block", [0, 1])
def test_a_gaussian(method, block):
    mean, covariance, _ = exact(block)
    found = natural(method, linear, block)
    samples = [*found["rho"], *found["offset"]]
    for i, sample in enumerate(samples):
        law = stats.norm(mean[i], np.sqrt(covariance[i, i]))
        assert_follows(sample, law, f"parameter {i}")
    values = np.stack([sample.values for sample in samples], axis=-1)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    independent = (values - mean) @ whitening.T
    for i in range(len(mean)):
        one = Sample(independent[..., i], samples[0].worth)
        assert_follows(one, stats.norm(), f"whitened direction {i}")


@pytest.mark.parametrize("block", [0, 1])
def test_the_evidence_of_a_gaussian(block):
    *_, expected = exact(block)
    stats_of_laplace = draws_of("laplace", linear).stats
    value, error = (stats_of_laplace[n][1][block] for n in ("ln_evidence", "ln_evidence_error"))
    assert error < 0.02
    assert abs(value - expected) < ERRORS * error
    by_chain = draws_of("smc", linear).stats["ln_evidence"][1][:, block]
    error = by_chain.std(ddof=1) / np.sqrt(len(by_chain))
    value = special.logsumexp(by_chain) - np.log(len(by_chain))
    assert error < 0.1
    # Four populations hardly tell their scatter.
    assert abs(value - expected) < ERRORS * max(error, 0.03)


# Two voxels. In the first superpixel the second has no dust, so that its temperature is that of the
# prior, and the first has three parameters that noise leaves bent around each other. In the others
# both have dust enough for all methods to be relied on.

NOISY = 0


def two_voxels():
    rng = np.random.default_rng(5)
    reddening = rng.lognormal(0.0, 0.8, (3, N_PIXEL, 2))
    reddening[NOISY] *= 0.25
    reddening[NOISY, :, 1] = 0.0
    spectra = glow([[19.0, 18.0], [17.0, 20.0], [21.0, 18.5]], 1.6 * np.ones((3, 2)), 1e-4)
    return TemperaturePerVoxel(), sky_of(reddening, spectra, seed=6)


@cache
def quadrature(n_grid=140, reach=5.0):
    """Return the posterior of the bent voxel on a grid of prior quantiles: values and weights."""
    _, sky = two_voxels()
    one = sky.isel(superpixel=NOISY)
    valid = one.valid.values
    dust, data = one.reddening.values[valid, 0], one.emission.values[valid]
    sums = np.square(dust).sum(), dust @ data, np.square(data).sum(axis=0)
    low, high = np.full(3, -reach), np.full(3, reach)
    for _ in range(4):
        axes = [np.linspace(a, b, n_grid) for a, b in zip(low, high, strict=True)]
        u = np.meshgrid(*axes, indexing="ij", sparse=True)
        values = [law.ppf(special.ndtr(x)) for law, x in zip(PRIORS.values(), u, strict=True)]
        spectrum = glow(*values)
        chi2 = (spectrum * (spectrum * sums[0] - 2 * sums[1]) + sums[2]) / SIGMA**2
        log_density = -0.5 * chi2.sum(axis=-1) - 0.5 * sum(x**2 for x in u)
        weights = np.exp(log_density - log_density.max())
        # Closer to where there is something, until nothing more is to be gained.
        for i, axis in enumerate(axes):
            others = tuple(j for j in range(3) if j != i)
            seen = np.flatnonzero(weights.max(axis=others) > 1e-7)
            low[i] = axis[max(seen[0] - 1, 0)]
            high[i] = axis[min(seen[-1] + 1, n_grid - 1)]
    return u, weights / weights.sum(), np.log(spectrum)


def laws_of_the_bent_voxel(n_grid=140):
    u, weights, brightness = quadrature(n_grid)
    laws = {
        name: Weighted(axis.ravel(), weights.sum(axis=tuple(j for j in range(3) if j != i)))
        for i, (name, axis) in enumerate(zip(PRIORS, u, strict=True))
    }
    # The emission of each band mixes all three, and is known better than any of them.
    for i, frequency in enumerate(FREQUENCY):
        laws[frequency] = Weighted(brightness[..., i], weights)
    return laws


def test_the_grid_is_fine_enough():
    fine, coarse = laws_of_the_bent_voxel(), laws_of_the_bent_voxel(100)
    for name, law in fine.items():
        assert law.mean() == pytest.approx(coarse[name].mean(), abs=0.01 * law.std())
        assert law.std() == pytest.approx(coarse[name].std(), rel=0.01)


def test_the_posterior_is_bent():
    """A parabola through the ridge of temperature over ln rho leaves less than a straight line."""
    u, weights, _ = quadrature()
    temperature, _, rho = (np.broadcast_to(axis, weights.shape).ravel() for axis in u)
    root = np.sqrt(weights.ravel())
    left = []
    for degree in (0, 1, 2):
        powers = root[:, None] * np.vander(rho, degree + 1)
        solution = np.linalg.lstsq(powers, root * temperature)[0]
        left.append(np.square(root * temperature - powers @ solution).sum())
    assert left[1] < 0.7 * left[0]
    assert left[2] < 0.95 * left[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_bent_posterior(method):
    found = natural(method, two_voxels, NOISY)
    first = {name: found[name][0] for name in PRIORS}
    u = {
        name: s.map(lambda x, law=PRIORS[name]: stats.norm.ppf(law.cdf(x)))
        for name, s in first.items()
    }
    laws = laws_of_the_bent_voxel()
    for name, sample in u.items():
        assert_follows(sample, laws[name], name)
    worth = first["rho"].worth
    brightness = np.log(glow(*(first[name].values for name in PRIORS)))
    for i, frequency in enumerate(FREQUENCY):
        one = Sample(brightness[..., i], worth)
        assert_follows(one, laws[frequency], f"log emission at {frequency:.0f} GHz")


@pytest.mark.parametrize("method", METHODS)
def test_a_voxel_without_dust_keeps_its_prior(method):
    _, empty = natural(method, two_voxels, NOISY)["temperature"]
    assert_follows(empty, PRIORS["temperature"], "temperature")


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "nuts"])
def test_all_methods_agree(method, block):
    reference, found = (all_of(natural(name, two_voxels, block)) for name in ("nuts", method))
    factor = np.linalg.cholesky(np.cov(reference.values.reshape(-1, 4), rowvar=False))
    for what, mixing in (("parameter", np.eye(4)), ("direction", np.linalg.inv(factor))):
        for i, row in enumerate(mixing):
            one, other = (s.map(lambda values, row=row: values @ row) for s in (found, reference))
            assert_agree(one, other, f"{what} {i}")


def all_of(variables):
    """Return all parameters of a block together, along a last dimension."""
    samples = [sample for name in PRIORS for sample in variables[name]]
    return Sample(np.stack([s.values for s in samples], axis=-1), samples[0].worth)
