"""How much of a posterior is prior: against ArviZ, by hand, and where there is dust or none."""

import json

import numpy as np
import pytest
import xarray as xr
from arviz_stats import psense
from scipy import stats

from pymcdust import Prior, per_superpixel, per_voxel
from pymcdust.errors import ModelError, ResultError
from pymcdust.judge import sensitivity as module
from pymcdust.judge.sensitivity import DOMINATED_WIDTH, sensitivity
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.store import open_tree, write_store

LAWS = {
    "temperature": stats.truncnorm((5 - 18.1) / 9, (100 - 18.1) / 9, 18.1, 9),
    "beta": stats.truncnorm((1 - 1.6) / 0.3, (3 - 1.6) / 0.3, 1.6, 0.3),
    "rho": stats.lognorm(1.0, scale=1e-4),
}


def with_likelihood(posterior):
    """Let the likelihood depend on temperature and beta, and a little on chance."""
    draws = posterior["posterior"].dataset
    near = -0.5 * np.square((draws["temperature"] - 17) / 2).sum("voxel")
    near = near - 0.5 * np.square((draws["beta"] - 1.7) / 0.1)
    posterior["log_likelihood"] = xr.DataTree(near.rename("emission").to_dataset())
    return posterior


@pytest.fixture(scope="module")
def posterior(make_posterior):
    return with_likelihood(make_posterior(draws=300))


@pytest.fixture(scope="module")
def found(posterior):
    return sensitivity(posterior)


@pytest.mark.parametrize("position", [0, 2])
def test_power_scaling_is_that_of_arviz(posterior, found, position):
    draws = posterior["posterior"].dataset.isel(superpixel=position)
    log_prior = xr.Dataset(
        {name: draws[name].copy(data=law.logpdf(draws[name])) for name, law in LAWS.items()}
    )
    likelihood = posterior["log_likelihood"].dataset.isel(superpixel=position)
    tree = xr.DataTree.from_dict(
        {"posterior": draws, "log_prior": log_prior, "log_likelihood": likelihood}
    )
    result = found.isel(superpixel=position)
    by_likelihood = psense(tree, group="likelihood")
    for name in LAWS:
        np.testing.assert_allclose(
            result[f"{name}_likelihood_sensitivity"], by_likelihood[name], rtol=1e-8
        )
    for prior in LAWS:
        by_prior = psense(tree, group="prior", group_var_names=prior)
        for name in LAWS:
            ours = result[f"{name}_declared_sensitivity"].sel(prior=prior)
            np.testing.assert_allclose(ours, by_prior[name], rtol=1e-8)
    np.testing.assert_allclose(
        result["beta_prior_sensitivity"], result["beta_declared_sensitivity"].sel(prior="beta")
    )
    # The prior of one voxel's temperature alone, which no group of a posterior holds.
    for voxel in range(2):
        own = xr.Dataset({"temperature": log_prior["temperature"].isel(voxel=voxel)})
        tree["log_prior"] = xr.DataTree(own)
        alone = psense(tree, group="prior")["temperature"].isel(voxel=voxel)
        ours = result["temperature_prior_sensitivity"].isel(voxel=voxel)
        np.testing.assert_allclose(ours, alone, rtol=1e-8)


def test_widths_are_ratios_in_quantiles_of_the_prior(posterior, found):
    draws = posterior["posterior"].dataset
    ln_rho = np.log(draws["rho"]).std(("chain", "draw"), ddof=1)
    np.testing.assert_allclose(found["rho_width"], ln_rho, rtol=1e-6)
    # Far inside of the bounds a truncated normal is nearly a normal, whose quantiles are linear.
    np.testing.assert_allclose(found["beta_width"], 0.1 / 0.3, rtol=0.08)
    for name, law in LAWS.items():
        u = stats.norm.ppf(law.cdf(draws[name]))
        assert found[f"{name}_width"].dims == draws[name].dims[2:]
        np.testing.assert_allclose(found[f"{name}_width"], u.std((0, 1), ddof=1), rtol=1e-6)
        np.testing.assert_allclose(found[f"{name}_location"], u.mean((0, 1)), rtol=1e-6)


def test_a_value_at_a_bound_is_a_conflict(make_posterior):
    posterior = make_posterior(draws=300)
    draws = posterior["posterior"].to_dataset()
    draws["temperature"][..., 0] = 5.0 + 0.003 * abs(draws["temperature"][..., 0] - 18)
    posterior["posterior"] = xr.DataTree(draws)
    found = sensitivity(with_likelihood(posterior))
    assert (found["temperature_location"].values[:, 0] < -3).all()
    assert found["temperature_conflict"].values.tolist() == [[True, False]] * 3


def test_verdicts_follow_their_rules(posterior, monkeypatch):
    monkeypatch.setattr(module, "SENSITIVE", 0.03)
    found = sensitivity(posterior)
    for name in LAWS:
        width, prior, likelihood = (
            found[f"{name}_{key}"]
            for key in ("width", "prior_sensitivity", "likelihood_sensitivity")
        )
        restrained, informed = prior >= 0.03, likelihood >= 0.03
        dominated = (width >= DOMINATED_WIDTH) | (restrained & ~informed)
        xr.testing.assert_equal(found[f"{name}_prior_dominated"], dominated)
        tail = abs(found[f"{name}_location"]) >= 3
        conflict = ~dominated & ((restrained & informed) | tail)
        xr.testing.assert_equal(found[f"{name}_conflict"], conflict)
        assert found[f"{name}_conflict"].dtype == bool


def test_a_voxel_without_dust_is_prior_and_one_with_dust_is_not(thin_posterior):
    found = sensitivity(thin_posterior)
    width = found["temperature_width"].values
    much, none, little = np.moveaxis(width, 1, 0)
    assert (much < 0.2).all()
    np.testing.assert_allclose(none, 1, atol=0.06)
    assert ((much < little) & (little < none)).all()
    dominated = found["temperature_prior_dominated"].values
    assert dominated.T[:2].tolist() == [[False] * 3, [True] * 3]
    likelihood = found["temperature_likelihood_sensitivity"].values
    assert (likelihood[:, 1] < 0.05).all()
    assert (likelihood[:, 0] > likelihood[:, 1]).all()
    # A tenth of the dust: its prior has a say, by which the temperature is kept from the cold.
    assert (found["temperature_prior_sensitivity"].values[:, 0] < 0.05).all()
    assert (found["temperature_prior_sensitivity"].values[:, 1:].min(axis=0) > 0.02).all()
    # Where the voxel is empty, what is declared of it is all that there is to know.
    own = found["temperature_declared_sensitivity"].sel(prior="temperature")
    others = found["temperature_declared_sensitivity"].sel(prior=["beta", "rho"])
    assert (own[:, 1] > 2 * others[:, :, 1]).all()


def test_lazy_posteriors_are_read_in_parts(posterior, found, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    write_store(posterior, tmp_path / "posterior.zarr", superpixels_per_chunk=2)
    steps = []
    by_parts = sensitivity(
        open_tree(tmp_path / "posterior.zarr"), progress=lambda *step: steps.append(step)
    )
    assert steps == [(2, 3), (3, 3)]
    xr.testing.assert_allclose(by_parts, found, rtol=1e-12)
    write_store(by_parts, tmp_path / "sensitivity.zarr", superpixels_per_chunk=2)


def test_coupled_superpixels_share_their_weights(make_posterior):
    posterior = make_posterior(coupled=True, draws=100)
    draws = posterior["posterior"].to_dataset()
    draws["temperature_sigma"] = np.exp(draws["beta"].isel(superpixel=0, drop=True) / 3)
    posterior["posterior"] = xr.DataTree(draws)
    emission = -0.5 * np.square(draws["temperature"] - 18).sum(("superpixel", "voxel"))
    posterior["log_likelihood"] = xr.DataTree(emission.rename("emission").to_dataset())
    found = sensitivity(posterior)
    assert found["temperature_mu_width"].dims == ()
    assert found["temperature_declared_sensitivity"].dims == ("prior", "superpixel", "voxel")
    assert found["prior"].values.tolist() == [
        "temperature",
        "temperature_sigma",
        "temperature_mu",
        "beta",
        "rho",
    ]
    # The prior of temperature given its mean and scatter, each of them drawn.
    mu, sigma = draws["temperature_mu"], draws["temperature_sigma"]
    u = ((draws["temperature"] - mu) / sigma).std(("chain", "draw"), ddof=1)
    np.testing.assert_allclose(found["temperature_width"], u, rtol=1e-3)


def test_a_flat_prior_changes_nothing(make_posterior):
    posterior = with_likelihood(make_posterior(draws=100))
    flat = TemperaturePerVoxel(
        temperature=per_voxel(Prior("Uniform", lower=5.0, upper=100.0), unit="K")
    )
    posterior.attrs["model_definition"] = json_of(flat)
    found = sensitivity(posterior)
    np.testing.assert_allclose(found["temperature_prior_sensitivity"], 0, atol=1e-5)
    assert (found["temperature_likelihood_sensitivity"] > 0.01).all()


def test_what_cannot_be_judged_is_refused(make_posterior):
    with pytest.raises(ResultError, match="need 100 or more"):
        sensitivity(with_likelihood(make_posterior(draws=24)))
    posterior = with_likelihood(make_posterior(draws=100))
    gamma = TemperaturePerVoxel(beta=per_superpixel(Prior("Gamma", mu=1.6, sigma=0.3)))
    posterior.attrs["model_definition"] = json_of(gamma)
    with pytest.raises(ModelError, match="Gamma"):
        sensitivity(posterior)
    del posterior["log_likelihood"]
    with pytest.raises(ResultError, match="log_likelihood"):
        sensitivity(posterior)


def json_of(model):
    return json.dumps(model.to_dict())
