"""The small real sky: the numbers of an independent fit, and nothing below the optimum."""

import healpy as hp
import numpy as np
import pytest
from arviz_stats.base import array_stats
from planted import real_configuration

from pymcdust import Prior, per_superpixel
from pymcdust.infer.engine import fit_map
from pymcdust.infer.sampling import sample
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.products.reconstruction import variance_explained
from pymcdust.sky.compression import compress
from pymcdust.sky.prepare import prepare_sky

pytestmark = [pytest.mark.realsky, pytest.mark.usefixtures("shared_compilation")]

#: The paper's bounds, and no prior on beta and rho, as in the published code.
PUBLISHED = TemperaturePerVoxel(
    beta=per_superpixel(Prior("Uniform", lower=1.0, upper=3.0)),
    rho=per_superpixel(Prior("Uniform", lower=1e-6, upper=1e3), unit="mag-1"),
)

#: Starts of least squares in every superpixel.
STARTS = 6


@pytest.fixture(scope="module")
def real(realsky):
    return prepare_sky(real_configuration(realsky, min_coverage=0.9))


@pytest.fixture(scope="module")
def fit(real):
    return fit_map(PUBLISHED, real)


@pytest.fixture(scope="module")
def off_the_plane(fit):
    """Superpixels wholly in the footprint, 5 < |b| < 30."""
    latitude = hp.pix2ang(8, fit.superpixel.values, nest=True, lonlat=True)[1]
    return (np.abs(latitude) > 5) & (np.abs(latitude) < 30)


def test_every_superpixel_converges(real, fit):
    whole = real.valid.all("pixel")
    assert int(whole.sum()) == 547
    assert fit.converged.all()


def test_the_numbers_are_those_of_an_independent_fit(real, fit, off_the_plane):
    chosen = fit.isel(superpixel=off_the_plane & real.valid.all("pixel").values)

    def quantiles(values):
        return np.quantile(values, [0.16, 0.5, 0.84])

    # Half a unit of the last printed digit.
    np.testing.assert_allclose(quantiles(chosen.rho) * 1e5, [6.5, 7.7, 9.6], atol=0.05)
    np.testing.assert_allclose(quantiles(chosen.beta), [1.57, 1.65, 1.75], atol=0.005)
    second = chosen.temperature.isel(voxel=1)
    np.testing.assert_allclose(quantiles(second), [18.0, 18.4, 18.9], atol=0.05)
    explained = variance_explained(chosen, real).median("superpixel")
    np.testing.assert_allclose(explained, [0.87, 0.93, 0.88, 0.87, 0.78], atol=0.005)


def test_no_least_squares_start_ends_below(real, fit, compiled, tied):
    rng = np.random.default_rng(0)
    witness = tied(PUBLISHED, real, compiled(PUBLISHED, compress(real)))
    best = np.array([witness.best([s], rng, STARTS) for s in range(real.sizes["superpixel"])])
    objective = fit.objective.values
    assert np.all(objective <= best * (1 + 1e-6))
    # And least squares finds the same minimum in nearly all.
    assert np.mean(objective > best * (1 - 1e-6)) > 0.9


def test_nuts_mixes_and_laplace_agrees_where_it_can_be_relied_on(real):
    some = real.isel(superpixel=real.valid.all("pixel").values).isel(superpixel=slice(0, None, 9))
    nuts = sample("temperature_per_voxel", some, method="nuts")
    names = ("temperature", "beta", "rho")
    rhat = [
        array_stats.rhat(nuts.posterior[name].values, chain_axis=0, draw_axis=1) for name in names
    ]
    assert max(value.max() for value in rhat) < 1.01
    assert float(nuts.sample_stats.diverging.mean()) < 0.005

    laplace = sample("temperature_per_voxel", some, method="laplace")
    reliable = laplace.sample_stats.pareto_k.values < 0.7
    assert 0.4 < reliable.mean() < 0.8
    away, narrow = np.zeros((2, *reliable.shape))
    for name in names:
        draws = [tree.posterior[name].isel(superpixel=reliable) for tree in (nuts, laplace)]
        if name == "rho":
            draws = [np.log(values) for values in draws]
        (mean, other), (sd, other_sd) = (
            [getattr(values, f)(("chain", "draw")).values for values in draws]
            for f in ("mean", "std")
        )
        shift = np.abs(other - mean) / sd
        loss = 1 - other_sd / sd
        away[reliable] = np.maximum(away[reliable], shift.reshape(len(shift), -1).max(axis=1))
        narrow[reliable] = np.maximum(narrow[reliable], loss.reshape(len(loss), -1).max(axis=1))
    # The worst of eleven parameters, the chance of both methods included: some 0.05 of each.
    assert np.quantile(away[reliable], 0.9) < 0.12
    assert np.quantile(narrow[reliable], 0.9) < 0.12
