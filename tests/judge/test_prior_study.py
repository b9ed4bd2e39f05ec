"""Other priors: by weights against quadrature, by refits against weights, and what is refused."""

from functools import partial

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.integrate import quad

from pymcdust import Prior, fixed, over_sky, per_voxel, sample
from pymcdust.errors import ConfigurationError, ModelError, ResultError
from pymcdust.infer import compiled as compiled_module
from pymcdust.infer.nuts import Nuts
from pymcdust.judge import prior_refit, prior_study
from pymcdust.judge.prior_moments import expected_moments
from pymcdust.judge.prior_study import HOW, PriorStudy
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.store import open_tree, write_store

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


# Drawn anew


def brute_force(sky, **numbers):
    """Draw the posterior of the model declared with other numbers, compiled for itself."""
    prior = {"mu": 18.1, "sigma": 9.0, "lower": 5.0, "upper": 100.0} | numbers
    model = TemperaturePerVoxel(temperature=per_voxel(Prior("TruncatedNormal", **prior), unit="K"))
    return sample(model, sky, method="laplace", draws=1000, chains=4, seed=9)


def assert_same(result, posterior, name="temperature"):
    """Compare one prior's numbers with draws that owe nothing to them."""
    draws = posterior["posterior"][name]
    worth = np.minimum(result.ess, posterior["sample_stats"]["importance_ess"])
    error = 4 * draws.std(("chain", "draw")) * np.sqrt(2 / worth)
    off = abs(result[f"{name}_mean"] - draws.mean(("chain", "draw")))
    assert (off < error).all(), (off / error).values
    np.testing.assert_allclose(result[f"{name}_sd"], draws.std(("chain", "draw")), rtol=0.12)
    low, high = draws.quantile([0.055, 0.945], ("chain", "draw")).values
    spread = (result[f"{name}_high"] - result[f"{name}_low"]).values
    assert (abs(result[f"{name}_low"] - low) < 0.1 * spread).all()
    assert (abs(result[f"{name}_high"] - high) < 0.1 * spread).all()


@pytest.fixture(scope="module")
def compilations():
    """Count what is compiled while this module's studies run."""
    return []


@pytest.fixture(scope="module")
def refitted(thin_posterior, compilations):
    """A study with a prior that weights reach, and two that they do not; drawn in three parts."""
    study = PriorStudy(
        "temperature_per_voxel", temperature={"mu": [20], "sigma": [1], "lower": [2]}
    )
    function = compiled_module.pytensor.function
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior_study, "LARGEST_CHUNK", 4 * 4000)
        patch.setattr(
            compiled_module.pytensor,
            "function",
            lambda *a, **k: compilations.append(1) or function(*a, **k),
        )
        steps = []
        result = study.run(thin_posterior, progress=lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    return result


def test_only_what_weights_do_not_reach_is_drawn_anew(refitted):
    how = [HOW[value] for value in refitted.how.max("superpixel").values]
    assert how == ["declared", "reweighted", "refitted", "refitted"]
    assert (refitted.how == refitted.how.max("superpixel")).all()
    assert refitted.reliable.all()


def test_other_priors_are_compiled_once(refitted, compilations):
    # The likelihood at many points, and the natural parameters; for three parts and two priors.
    assert len(compilations) == 2


@pytest.mark.parametrize("numbers", [{"sigma": 1.0}, {"lower": 2.0}])
def test_posteriors_drawn_anew_are_those_of_a_declaration(
    refitted, thin_sky, thin_posterior, numbers
):
    witness = brute_force(thin_sky, **numbers)
    ((name, value),) = numbers.items()
    result = refitted.sel(prior=f"temperature {name}={value:g}")
    for variable in ("temperature", "beta", "rho"):
        assert_same(result, witness, variable)
    stats = [tree["sample_stats"].dataset for tree in (witness, thin_posterior)]
    change = stats[0]["ln_evidence"] - stats[1]["ln_evidence"]
    np.testing.assert_allclose(result.ln_evidence_change, change, atol=0.08)


def test_weighted_draws_agree_with_those_drawn_anew(refitted, thin_posterior):
    study = PriorStudy("temperature_per_voxel", temperature={"mu": [20]}, beta={"sigma": [0.2]})
    weighted = study.run(thin_posterior, refit="none").isel(prior=slice(1, None))
    anew = study.run(thin_posterior, refit="all")
    assert anew.how.values.tolist() == [[0] * 3, [2] * 3, [2] * 3]
    anew = anew.isel(prior=slice(1, None))
    assert weighted.reliable.all()
    for name in ("temperature", "beta", "rho"):
        sd = anew[f"{name}_sd"]
        error = 4 * sd * np.sqrt(1 / weighted.ess + 1 / anew.ess)
        assert (abs(weighted[f"{name}_mean"] - anew[f"{name}_mean"]) < error).all()
        np.testing.assert_allclose(weighted[f"{name}_sd"], sd, rtol=0.12)
    np.testing.assert_allclose(weighted.ln_evidence_change, anew.ln_evidence_change, atol=0.08)


def other_ways(monkeypatch, posterior, **settings):
    """Draw two priors anew, as if importance sampling had failed."""
    for name, value in {"RELIABLE_K": -np.inf, **settings}.items():
        monkeypatch.setattr(prior_refit, name, value)
    study = PriorStudy("temperature_per_voxel", temperature={"mu": [20], "sigma": [1]})
    return study.run(posterior, refit="all").isel(prior=slice(1, None))


@pytest.mark.parametrize("share", [0.7, 0.97])
def test_draws_that_are_carried_over_are_those_of_a_declaration(
    share, refitted, thin_posterior, monkeypatch
):
    one = thin_posterior.isel(superpixel=[0])
    with monkeypatch.context() as patch:
        patch.setattr(prior_refit.Refitter, "_by_nuts", None)
        carried = other_ways(patch, one, KEPT=(share,))
    assert (carried.how == HOW.index("refitted")).all()
    assert (carried.pareto_k < 0.7).all()
    witness = refitted.isel(prior=[1, 2], superpixel=[0])
    assert witness.prior.values.tolist() == carried.prior.values.tolist()
    for name in ("temperature", "rho", "beta"):
        error = 4 * witness[f"{name}_sd"] * np.sqrt(1 / carried.ess + 1 / witness.ess)
        assert (abs(witness[f"{name}_mean"] - carried[f"{name}_mean"]) < error).all()
        np.testing.assert_allclose(carried[f"{name}_sd"], witness[f"{name}_sd"], rtol=0.12)
    np.testing.assert_allclose(carried.ln_evidence_change, witness.ln_evidence_change, atol=0.08)


def test_where_all_weights_fail_nuts_draws(refitted, thin_posterior, monkeypatch):
    nuts = partial(Nuts, sampler="pymc")
    monkeypatch.setattr(prior_refit, "Nuts", nuts)
    drawn = other_ways(monkeypatch, thin_posterior.isel(superpixel=[0]), KEPT=())
    assert np.isnan(drawn.pareto_k).all()
    assert (drawn.ess > 200).all()
    witness = refitted.isel(prior=[1, 2], superpixel=[0])
    for name in ("temperature", "rho", "beta"):
        error = 4 * witness[f"{name}_sd"] * np.sqrt(1 / drawn.ess + 1 / witness.ess)
        assert (abs(witness[f"{name}_mean"] - drawn[f"{name}_mean"]) < error).all()
    np.testing.assert_allclose(drawn.ln_evidence_change, witness.ln_evidence_change, atol=0.1)


def test_a_coupled_sky_is_drawn_anew_as_a_whole(thin_sky):
    prior = Prior("TruncatedNormal", mu=1.6, sigma=0.3, lower=1.0, upper=3.0)
    model = TemperaturePerVoxel(beta=over_sky(prior))
    posterior = sample(model, thin_sky, method="laplace", draws=1000, chains=4)
    study = PriorStudy(model, beta={"mu": [1.5], "sigma": [0.2]})
    weighted = study.run(posterior, refit="none").isel(prior=slice(1, None))
    anew = study.run(posterior, refit="all").isel(prior=slice(1, None))
    assert anew.how.dims == ("prior",)
    assert weighted.reliable.all()
    assert anew.reliable.all()
    for name in ("temperature", "rho", "beta"):
        error = 4 * anew[f"{name}_sd"] * np.sqrt(1 / weighted.ess + 1 / anew.ess)
        assert (abs(weighted[f"{name}_mean"] - anew[f"{name}_mean"]) < error).all()
        assert weighted[f"{name}_mean"].dims[1:] == posterior["posterior"][name].dims[2:]
    np.testing.assert_allclose(weighted.ln_evidence_change, anew.ln_evidence_change, atol=0.1)


def test_results_are_kept_in_a_store(refitted, tmp_path):
    write_store(refitted, tmp_path / "study.zarr", superpixels_per_chunk=2)
    xr.testing.assert_identical(
        open_tree(tmp_path / "study.zarr").to_dataset().load(), refitted.load()
    )


def test_where_all_is_gaussian_the_expected_moments_are_exact():
    rng = np.random.default_rng(2)
    precision = np.array([[[5.0, 1.0], [1.0, 0.5]]])  # of the likelihood
    pull = np.array([[2.0, -1.0]])
    posterior = np.linalg.inv(precision[0] + np.eye(2))
    old = rng.multivariate_normal(posterior @ pull[0], posterior, 200_000)[None]
    # The new prior is N(0.5, 0.5^2) and N(-1, 3^2) in units of the old one, whose quantiles are
    # (x - mu) / sigma.
    mu, sigma = np.array([0.5, -1.0]), np.array([0.5, 3.0])
    location, factor = expected_moments(old, (old - mu) / sigma)
    covariance = np.linalg.inv(precision[0] + np.diag(1 / sigma**2))
    mean = covariance @ (pull[0] + mu / sigma**2)
    np.testing.assert_allclose(location[0], (mean - mu) / sigma, atol=0.02)
    found = factor[0] @ factor[0].T
    np.testing.assert_allclose(found, covariance / np.outer(sigma, sigma), rtol=0.02, atol=1e-3)


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


def test_refits_need_the_data(posterior):
    study = PriorStudy("temperature_per_voxel", temperature={"mu": [150.0]})
    with pytest.raises(ResultError, match="refit='none'"):
        study.run(posterior.isel(draw=slice(0, 500)))
    with pytest.raises(ConfigurationError, match="did you mean 'none'"):
        study.run(posterior, refit="nonne")
