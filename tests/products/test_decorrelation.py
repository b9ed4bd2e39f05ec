import numpy as np
import pytest
import xarray as xr

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.physics.emission import emissivity
from pymcdust.products import decorrelation as module
from pymcdust.products.decorrelation import decorrelation

FREE = {"temperature": "per_voxel", "beta": "per_voxel"}


@pytest.fixture
def sky(make_sky):
    sky = make_sky([5, 40, 7], edges=(0, 0.3, 1, 4))
    sky["valid"][0, ::2] = False
    return sky


@pytest.fixture
def fit(sky, make_fit):
    return make_fit(sky, **FREE)


def brute_force(fit, sky, high=353.0, low=217.0):
    """Ratio, mean and dispersion of every superpixel, by its pixels' intensities."""
    found = []
    for superpixel in sky["superpixel"].values:
        here, dust = sky.sel(superpixel=superpixel), fit.sel(superpixel=superpixel)
        column = here["reddening"].values[here["valid"].values].mean(axis=0)
        bright, faint = (
            [
                column[v]
                * emissivity(
                    nu, float(dust.temperature[v]), float(dust.beta[v]), float(fit.rho.mean())
                )
                for v in range(len(column))
            ]
            for nu in (high, low)
        )
        ratio = np.divide(bright, faint)
        mean = np.average(ratio, weights=faint)
        found.append([*ratio, mean, np.sqrt(np.average((ratio - mean) ** 2, weights=faint))])
        assert np.isclose(mean, sum(bright) / sum(faint))
    return np.transpose(found)


def test_agrees_with_the_intensities_of_the_clouds(fit, sky):
    found = decorrelation(fit, sky)
    *ratio, mean, dispersion = brute_force(fit, sky)
    np.testing.assert_allclose(found["ratio"], np.transpose(ratio), rtol=1e-10)
    np.testing.assert_allclose(found["sightline_ratio"], mean, rtol=1e-10)
    np.testing.assert_allclose(found["dispersion"], dispersion, rtol=1e-9)
    np.testing.assert_allclose(found["relative_dispersion"], dispersion / mean, rtol=1e-9)
    np.testing.assert_allclose(found["weight"].sum("voxel"), 1)
    assert dict(found.sizes) == {"superpixel": 3, "voxel": 3, "voxel_edge": 4}
    assert list(found["superpixel"]) == [5, 40, 7]


def test_other_frequencies(fit, sky):
    found = decorrelation(fit, sky, frequencies=(857, 353))
    *_, mean, dispersion = brute_force(fit, sky, 857.0, 353.0)
    np.testing.assert_allclose(found["sightline_ratio"], mean, rtol=1e-10)
    np.testing.assert_allclose(found["dispersion"], dispersion, rtol=1e-9)


def test_one_spectrum_along_the_sightline_has_no_dispersion(sky, make_fit):
    found = decorrelation(make_fit(sky, temperature="per_superpixel"), sky)
    np.testing.assert_allclose(found["dispersion"], 0, atol=1e-7)
    assert (found["sightline_ratio"] > 1).all()


def test_two_clouds_of_equal_weight(sky, make_fit):
    # 0.29 in beta make the 15 % between clouds of Pelgrims et al. (2021), half of it a dispersion.
    sky = sky.isel(voxel=[0, 1], voxel_edge=[0, 1, 2])
    fit = make_fit(sky, **FREE)
    fit["temperature"][:] = 18.0
    fit["beta"][:] = [1.6, 1.89]
    fit["rho"][:] = 1e-4
    sky["reddening"][:, :, 0] = 1.0
    sky["reddening"][:, :, 1] = (217 / 353) ** -0.29
    found = decorrelation(fit, sky)
    np.testing.assert_allclose(found["weight"], 0.5)
    difference = (353 / 217) ** 0.29 - 1
    assert 0.14 < difference < 0.16
    expected = difference / 2 / (1 + difference / 2)
    np.testing.assert_allclose(found["relative_dispersion"], expected)


def test_padding_and_negative_dust_have_no_weight(fit, sky):
    sky["reddening"][1, :, 0] = -0.01
    sky["n_voxel"] = ("superpixel", [3, 3, 2])
    found = decorrelation(fit, sky)
    assert np.isnan(found["ratio"].values[2, 2])
    assert np.isnan(found["weight"].values[2, 2])
    assert found["weight"].values[1, 0] == 0
    np.testing.assert_allclose(found["weight"].sum("voxel"), 1)
    assert np.isfinite(found["dispersion"]).all()


def test_sightline_without_dust_is_nan(fit, sky):
    sky["reddening"][1] = 0.0
    sky["valid"][2] = False
    found = decorrelation(fit, sky)
    for name in ("sightline_ratio", "dispersion", "relative_dispersion", "prior_dominated_weight"):
        assert list(np.isnan(found[name].values)) == [False, True, True], name


def test_weight_of_what_tells_the_prior(fit, sky):
    fit["temperature_sd"][0, 1] = 8.9
    fit["beta_sd"][1, 2] = 0.29
    found = decorrelation(fit, sky)
    weight = found["weight"].values
    np.testing.assert_allclose(
        found["prior_dominated_weight"], [weight[0, 1], weight[1, 2], 0], rtol=1e-12
    )


def test_posterior_is_the_mean_over_its_draws(fit, sky, make_posterior, monkeypatch):
    posterior = make_posterior(fit)
    monkeypatch.setattr(module, "BLOCK_DRAWS", 1)
    found = decorrelation(fit, sky, posterior)
    draws = posterior["posterior"].to_dataset().stack(draw_of_all=("chain", "draw"))
    each = [
        decorrelation(fit.assign(draws.isel(draw_of_all=i, drop=True).drop_vars("voxel")), sky)
        for i in range(draws.sizes["draw_of_all"])
    ]
    for name in ("ratio", "weight", "sightline_ratio", "dispersion", "relative_dispersion"):
        stacked = np.stack([one[name].values for one in each])
        np.testing.assert_allclose(found[name], stacked.mean(0), rtol=1e-10, err_msg=name)
        np.testing.assert_allclose(found[f"{name}_sd"], stacked.std(0), rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("given", [(353, 353), (353,), (353, -1), (353, np.nan), "353"])
def test_impossible_frequencies(fit, sky, given):
    with pytest.raises(ConfigurationError, match="two different ones"):
        decorrelation(fit, sky, frequencies=given)


def test_fit_of_another_sky(fit, sky):
    with pytest.raises(ResultError, match="superpixels are not in the sky"):
        decorrelation(fit, sky.isel(superpixel=[0, 1]))


def test_result_can_be_stored(fit, sky, tmp_path):
    found = decorrelation(fit, sky)
    found.to_zarr(tmp_path / "found.zarr", consolidated=False)
    again = xr.open_zarr(tmp_path / "found.zarr", consolidated=False, chunks=None)
    xr.testing.assert_identical(again.load(), found)
