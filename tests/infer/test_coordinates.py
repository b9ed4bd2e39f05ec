"""Prior quantiles against scipy, and the log posterior in them against its own definition."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytensor.xtensor as px
import pytest
from scipy import stats

from pymcdust import Prior, fixed, per_superpixel, per_voxel
from pymcdust.errors import ModelError
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.coordinates import QUANTILES, from_normal, log_density, to_normal
from pymcdust.infer.target import Target
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.compression import as_rows, compress

U = np.linspace(-8, 8, 65)

#: Priors, and the same law by scipy.
LAWS = {
    "Normal": (Prior("Normal", mu=1.0, sigma=2.0), stats.norm(1, 2)),
    "LogNormal": (Prior("LogNormal", mu=-9.0, sigma=0.5), stats.lognorm(0.5, scale=np.exp(-9))),
    "HalfNormal": (Prior("HalfNormal", sigma=3.0), stats.halfnorm(scale=3)),
    "Uniform": (Prior("Uniform", lower=1.0, upper=3.0), stats.uniform(1, 2)),
    "Exponential": (Prior("Exponential", lam=0.2), stats.expon(scale=5)),
    "TruncatedNormal": (
        Prior("TruncatedNormal", mu=18.1, sigma=9.0, lower=5.0, upper=100.0),
        stats.truncnorm((5 - 18.1) / 9, (100 - 18.1) / 9, 18.1, 9),
    ),
    "TruncatedNormal below alone": (
        Prior("TruncatedNormal", mu=-2.0, sigma=1.0, lower=0.0),
        stats.truncnorm(2, np.inf, -2, 1),
    ),
    "TruncatedNormal above alone": (
        Prior("TruncatedNormal", mu=1.0, sigma=1.0, upper=3.0),
        stats.truncnorm(-np.inf, 2, 1, 1),
    ),
}

#: A hierarchy inside each superpixel.
HIERARCHY = TemperaturePerVoxel(
    temperature=per_voxel(
        Prior("Normal", mu=Prior("Normal", mu=18.0, sigma=3.0, dims="superpixel"), sigma=2.0),
        unit="K",
    )
)


def test_every_distribution_is_tested():
    assert {name.split()[0] for name in LAWS} == set(QUANTILES)


@pytest.mark.parametrize("name", LAWS)
def test_a_quantile_is_that_of_scipy(name):
    prior, law = LAWS[name]
    u = px.xtensor("u", dims=("point",), dtype="float64")
    x = from_normal(prior, u, prior.parameters).values.eval({u: U}, mode="FAST_COMPILE")
    low, high = law.support()
    if prior.distribution == "TruncatedNormal":
        # Scipy's own loses its digits far out: the shares of the normal law below and above x.
        mu, sigma = prior.parameters["mu"], prior.parameters["sigma"]
        start, stop = (low - mu) / sigma, (high - mu) / sigma
        inside = stats.norm.cdf(stop) - stats.norm.cdf(start)
        below = stats.norm.cdf(start) + stats.norm.cdf(U) * inside
        above = stats.norm.sf(stop) + stats.norm.sf(U) * inside
        z = np.where(below < above, stats.norm.ppf(below), stats.norm.isf(above))
        expected = mu + sigma * z
    else:
        # From the nearer tail, so that the witness keeps its digits.
        expected = np.where(U < 0, law.ppf(stats.norm.cdf(U)), law.isf(stats.norm.sf(U)))
    np.testing.assert_allclose(x, expected, rtol=1e-9, atol=1e-12)
    middle = np.abs(U) < 4
    np.testing.assert_allclose(x[middle], law.ppf(stats.norm.cdf(U[middle])), 1e-8, 1e-12)
    assert np.all((x >= low) & (x <= high))
    assert np.all(np.diff(x) >= 0)


@pytest.mark.parametrize("name", LAWS)
def test_to_normal_is_the_inverse(name):
    prior, law = LAWS[name]
    u = px.xtensor("u", dims=("point",), dtype="float64")
    x = from_normal(prior, u, prior.parameters).values.eval({u: U}, mode="FAST_COMPILE")
    back = to_normal(prior, x, prior.parameters)
    # Next to a bound x, which is rounded like numbers of the size of the law, tells less of u.
    slope = stats.norm.pdf(U) / np.maximum(law.pdf(x), 1e-300)
    rounding = np.spacing(np.abs(x) + law.std() + np.abs(law.mean()))
    allowed = 1e-9 + 8 * rounding / np.maximum(slope, 1e-300)
    certain = allowed < 0.1
    assert certain[np.abs(U) < 5].all()
    assert np.all(np.abs(back - U)[certain] <= allowed[certain])
    assert np.all(np.isfinite(back))


@pytest.mark.parametrize("name", LAWS)
def test_log_density_is_that_of_pymc(name):
    prior, law = LAWS[name]
    x = law.ppf([0.001, 0.3, 0.5, 0.999])
    dist = prior.pymc_distribution.dist(**prior.parameters)
    expected = pm.logp(dist, x).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(log_density(prior, x, prior.parameters), expected, rtol=1e-6)


def test_a_prior_far_from_its_bounds_keeps_its_digits():
    """Between bounds that lie 12 sigma above mu the shares are tails, which must not cancel."""
    far = Prior("TruncatedNormal", mu=0.0, sigma=1.0, lower=12.0, upper=15.0)
    x = np.array([12.01, 12.1, 12.5])
    below = (stats.norm.sf(12) - stats.norm.sf(x)) / (stats.norm.sf(12) - stats.norm.sf(15))
    np.testing.assert_allclose(stats.norm.cdf(to_normal(far, x, far.parameters)), below, rtol=1e-9)


def test_an_unknown_distribution_is_refused(sky):
    model = TemperaturePerVoxel(
        temperature=per_voxel(Prior("StudentT", nu=3.0, mu=18.0, sigma=3.0), unit="K")
    )
    with pytest.raises(ModelError, match=r"StudentT; allowed are Normal, LogNormal"):
        CompiledPosterior(model, compress(sky), "quantile")


@pytest.mark.parametrize(
    "model", ["temperature_per_voxel", "offsets_over_sky", "hierarchical_temperature", HIERARCHY]
)
def test_derivatives_in_quantiles_are_those_of_differences(model, compiled, sky):
    rows = compress(sky)
    posterior = compiled(model, rows, "quantile")
    n_block = 3 if posterior.by_superpixel else 1
    data = posterior.select(rows, slice(None))
    theta = 0.4 * np.random.default_rng(0).normal(size=(n_block, posterior.n_parameter))
    at = posterior(theta, data)
    step = 1e-5
    for j in range(posterior.n_parameter):
        shift = step * np.eye(posterior.n_parameter)[j]
        up, down = posterior(theta + shift, data), posterior(theta - shift, data)
        slope = (up.log_posterior - down.log_posterior) / (2 * step)
        np.testing.assert_allclose(at.gradient[:, j], slope, rtol=1e-5, atol=1e-3)
        bend = (up.gradient - down.gradient) / (2 * step)
        scale = np.abs(at.hessian).max()
        np.testing.assert_allclose(at.hessian[:, j], bend, rtol=1e-4, atol=1e-7 * scale)


@pytest.mark.parametrize("model", ["offsets_per_superpixel", HIERARCHY])
def test_the_prior_is_standard_normal_where_the_natural_one_is_what_was_declared(
    model, compiled, sky
):
    rows = compress(sky)
    posterior = compiled(model, rows, "quantile")
    points = np.random.default_rng(1).normal(size=(4, 3, posterior.n_parameter))
    natural, log_prior = posterior.natural(points)
    assert log_prior.shape == (4, 3, len(posterior.slots))
    # log p(x) + log |dx/du| = log of the standard normal density of u; the map is triangular.
    step = 1e-6
    jacobian = np.empty_like(points)
    for j in range(posterior.n_parameter):
        shift = step * np.eye(posterior.n_parameter)[j]
        up, down = posterior.natural(points + shift)[0], posterior.natural(points - shift)[0]
        jacobian[..., j] = (up - down)[..., j] / (2 * step)
    found = log_prior.sum(axis=2) + np.log(jacobian).sum(axis=2)
    np.testing.assert_allclose(found, stats.norm.logpdf(points).sum(axis=2), rtol=1e-6)
    at = posterior(points[0], posterior.select(rows, slice(None)))
    np.testing.assert_allclose(at.natural, natural[0], rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"valid": np.random.default_rng(5).random((3, 16, 5)) > 0.2},
        {"sigma": np.random.default_rng(6).uniform(0.3, 3.0, size=(3, 16, 5))},
    ],
    ids=["mask of pixels", "mask of bands", "sigma of pixels"],
)
@pytest.mark.parametrize("form", [compress, as_rows])
def test_the_likelihood_is_that_of_the_pixels(options, form, compiled, paper, sky_of):
    sky = sky_of(**options)
    rows = form(sky)
    posterior = compiled("offsets_per_superpixel", rows, "quantile")
    target = Target(posterior, rows, [np.random.SeedSequence(0)] * 3)
    points = 0.5 * np.random.default_rng(2).normal(size=(3, 4, posterior.n_parameter))
    found = target.log_likelihood(points, np.arange(3))
    natural = posterior.natural(points.transpose(1, 0, 2))[0].transpose(1, 0, 2)
    columns = {slot.name: slot.columns for slot in posterior.slots}
    for superpixel in range(3):
        one = paper.of(sky, superpixel)
        constant = -(np.log(one.sigma) + 0.5 * np.log(2 * np.pi))[one.valid].sum()
        for point in range(4):
            x = natural[superpixel, point]
            vector = np.concatenate(
                [
                    x[columns["offset"]],
                    np.repeat(x[columns["rho"]], 3),
                    np.repeat(x[columns["beta"]], 3),
                    x[columns["temperature"]],
                ]
            )
            expected = constant - 0.5 * one.chi2(vector)
            assert found[superpixel, point] == pytest.approx(expected, rel=1e-10)
    by_numba = replace(target, often=True).log_likelihood(points, np.arange(3))
    np.testing.assert_allclose(by_numba, found, rtol=1e-12)
    some = target.select(np.array([2, 0]))
    np.testing.assert_array_equal(some.log_likelihood(points[[2, 0]], np.arange(2)), found[[2, 0]])


def test_a_voxel_without_dust_is_a_standard_normal(compiled, sky_of):
    sky = sky_of()
    sky["reddening"] = sky.reddening.where(sky.voxel != 1, 0.0)
    rows = compress(sky)
    posterior = compiled("temperature_per_voxel", rows, "quantile")
    target = Target(posterior, rows, [np.random.SeedSequence(0)] * 3)
    column = next(s for s in posterior.slots if s.name == "temperature").start + 1
    laplace = target.laplace
    np.testing.assert_allclose(laplace.location[:, column], 0.0, atol=1e-6)
    covariance = laplace.factor @ laplace.factor.transpose(0, 2, 1)
    expected = np.eye(posterior.n_parameter)[column]
    np.testing.assert_allclose(covariance[:, column], np.tile(expected, (3, 1)), atol=1e-9)


def test_fixed_parameters_are_no_coordinates(compiled, sky):
    model = TemperaturePerVoxel(beta=fixed(1.6), rho=fixed(1e-4, unit="mag-1"))
    assert compiled(model, compress(sky), "quantile").n_parameter == 3
    shared = TemperaturePerVoxel(
        temperature=per_superpixel(Prior("Normal", mu=18.0, sigma=2.0), unit="K"), beta=fixed(1.6)
    )
    assert compiled(shared, compress(sky), "quantile").n_parameter == 2
