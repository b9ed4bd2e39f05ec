"""Other priors: by weights against quadrature, by refits against weights, and what is refused."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.integrate import quad

from pymcdust import Prior, fixed, per_voxel
from pymcdust.errors import ConfigurationError, ModelError, ResultError
from pymcdust.judge.prior_study import HOW, PriorStudy
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel

#: The posterior of each temperature in `make_posterior`.
POSTERIOR = stats.norm(18.0, 2.0)


def declared(mu=18.1, sigma=9.0, lower=5.0, upper=100.0):
    """Return the prior of temperature, by SciPy."""
    return stats.truncnorm((lower - mu) / sigma, (upper - mu) / sigma, mu, sigma)


def by_quadrature(**numbers):
    """Return mean, sd, evidence ratio and interval of one temperature under another prior."""

    def density(x):
        return POSTERIOR.pdf(x) * declared(**numbers).pdf(x) / declared().pdf(x)

    norm, mean, square = (
        quad(lambda x, n=n: x**n * density(x), 6, 30, epsabs=1e-11)[0] for n in range(3)
    )
    mean, square = mean / norm, square / norm
    grid = np.linspace(6, 30, 20_001)
    share = np.cumsum(density(grid))
    low, high = np.interp([0.055, 0.945], share / share[-1], grid)
    return mean, np.sqrt(square - mean**2), norm, low, high


@pytest.fixture(scope="module")
def posterior(make_posterior):
    """Independent Gaussian draws, 40,000 of each value, of two voxels."""
    return make_posterior(superpixels=(5, 6), chains=4, draws=10_000)


# By weights


@pytest.mark.parametrize("numbers", [{"mu": 15.0}, {"mu": 21.0, "sigma": 6.0}, {"sigma": 5.0}])
def test_weighted_draws_give_what_quadrature_gives(posterior, numbers):
    study = PriorStudy(
        "temperature_per_voxel",
        product=True,
        temperature={name: [value] for name, value in numbers.items()},
    )
    result = study.run(posterior, refit="none").isel(prior=1)
    mean, sd, evidence, low, high = by_quadrature(**numbers)
    assert result.reliable.all()
    assert (result.how == HOW.index("reweighted")).all()
    error = 5 * sd / np.sqrt(result.ess.values[:, None])
    assert (abs(result.temperature_mean.values - mean) < error).all()
    np.testing.assert_allclose(result.temperature_sd, sd, rtol=0.03)
    np.testing.assert_allclose(result.temperature_low, low, atol=0.1)
    np.testing.assert_allclose(result.temperature_high, high, atol=0.1)
    # Two voxels of independent posteriors: the evidences multiply.
    np.testing.assert_allclose(result.ln_evidence_change, 2 * np.log(evidence), atol=0.03)
    # What the draws do not connect with temperature does not move.
    np.testing.assert_allclose(result.beta_mean, 1.6, atol=0.005)


def test_the_declared_prior_is_the_posterior_itself(posterior):
    study = PriorStudy("temperature_per_voxel", temperature={"mu": [16.0, 18.1]})
    assert [prior.label for prior in study.priors] == ["declared", "temperature mu=16"]
    result = study.run(posterior, refit="none").isel(prior=0)
    draws = posterior["posterior"].dataset
    for name in ("temperature", "beta", "rho"):
        sample = draws[name].stack(sample=("chain", "draw"))
        np.testing.assert_allclose(result[f"{name}_mean"], sample.mean("sample"), rtol=1e-10)
        np.testing.assert_allclose(result[f"{name}_sd"], sample.std("sample"), rtol=1e-10)
        ends = sample.quantile([0.055, 0.945], "sample").values
        np.testing.assert_allclose(result[f"{name}_low"], ends[0], rtol=2e-3)
        np.testing.assert_allclose(result[f"{name}_high"], ends[1], rtol=2e-3)
    assert (result.how == 0).all()
    assert (result.ln_evidence_change == 0).all()
    assert result.temperature_mu == 18.1
    assert result.varied == ""


def test_weights_that_fail_are_not_relied_on(posterior):
    grid = {"mu": [16.0, 150.0], "lower": [2.0, 10.0]}
    result = PriorStudy("temperature_per_voxel", temperature=grid, beta={"sigma": [0.2]}).run(
        posterior, refit="none"
    )
    reliable = result.reliable.all("superpixel").to_series()
    assert reliable.to_dict() == {
        "declared": True,
        "temperature mu=16": True,
        "temperature mu=150": False,
        # Where the declared prior allowed nothing there are no draws, which k-hat cannot tell.
        "temperature lower=2": False,
        "temperature lower=10": True,
        "beta sigma=0.2": True,
    }
    assert np.isinf(result.pareto_k.sel(prior="temperature lower=2")).all()
    assert result.temperature_lower.values.tolist() == [5, 5, 5, 2, 10, 5]
    assert result.varied.values.tolist()[-1] == "beta.sigma"


def test_hyperparameters_are_varied_by_their_own_priors(make_posterior):
    posterior = make_posterior(coupled=True, draws=2000)
    draws = posterior["posterior"].to_dataset()
    draws["temperature_sigma"] = np.exp(draws["beta"].isel(superpixel=0, drop=True))
    posterior["posterior"] = xr.DataTree(draws)
    study = PriorStudy("hierarchical_temperature", temperature_mu={"mu": [17.0], "sigma": [1.0]})
    result = study.run(posterior, refit="none")
    assert result.how.dims == ("prior",)
    # N(18, 0.3) times N(17, 3) / N(18.1, 3), and times N(18.1, 1) / N(18.1, 3), by hand.
    np.testing.assert_allclose(result.temperature_mu_mean[1], 18 - 0.09 * 1.1 / 9, atol=0.01)
    precision = 1 / 0.09 + 1 - 1 / 9
    mean = (18 / 0.09 + 18.1 * (1 - 1 / 9)) / precision
    np.testing.assert_allclose(result.temperature_mu_mean[2], mean, atol=0.01)
    np.testing.assert_allclose(result.temperature_mu_sd[2], precision**-0.5, rtol=0.02)
    assert result.temperature_mu_sigma.values.tolist() == [3, 3, 1]


# What is refused


@pytest.mark.parametrize(
    ("numbers", "error", "words"),
    [
        ({"temprature": {"mu": [14]}}, ModelError, "did you mean 'temperature'"),
        ({"temperature": {"sigm": [3]}}, ConfigurationError, "did you mean 'sigma'"),
        ({"temperature": {"sigma": [3, 0]}}, ConfigurationError, "sigma of temperature is 0"),
        ({"temperature": {"mu": [np.nan]}}, ConfigurationError, "allowed are finite numbers"),
        ({"temperature": {"mu": ["warm"]}}, ConfigurationError, "'warm'"),
        ({"temperature": {"mu": "14"}}, ConfigurationError, "give a list"),
        ({"temperature": [14, 16]}, ConfigurationError, r'temperature=\{"mu": \[...\]\}'),
        ({"temperature": {"lower": [101]}}, ConfigurationError, "lower must be below upper"),
        ({"offset": {"mu": [1]}}, ModelError, "offset is fixed at 0"),
        ({}, ConfigurationError, "without numbers to vary"),
        ({"temperature": {"mu": [18.1]}}, ConfigurationError, "the declared one"),
    ],
)
def test_an_impossible_study_is_refused(numbers, error, words):
    with pytest.raises(error, match=words):
        PriorStudy("temperature_per_voxel", **numbers)


def test_the_parameter_of_a_hierarchy_points_to_its_own_prior():
    with pytest.raises(ConfigurationError, match=r'temperature_mu=\{"mu"'):
        PriorStudy("hierarchical_temperature", temperature={"mu": [14.0]})
    study = PriorStudy("hierarchical_temperature", temperature={"upper": [60.0]})
    assert study.priors[1].numbers == {"temperature.upper": 60.0}


def test_distributions_without_quantiles_are_refused():
    model = TemperaturePerVoxel(temperature=per_voxel(Prior("Gamma", mu=18.0, sigma=5.0)))
    with pytest.raises(ModelError, match="studied can be those of"):
        PriorStudy(model, temperature={"mu": [14.0]})


def test_bounds_may_leave_the_mode_outside():
    study = PriorStudy("temperature_per_voxel", temperature={"mu": [4.0], "lower": [20.0]})
    assert len(study.priors) == 3


def test_a_posterior_of_another_model_is_refused(posterior):
    study = PriorStudy(TemperaturePerVoxel(beta=fixed(1.6)), temperature={"mu": [14.0]})
    with pytest.raises(ResultError, match="the study is about"):
        study.run(posterior)
    with pytest.raises(ResultError, match="needs the group"):
        study.run(posterior["posterior"])
