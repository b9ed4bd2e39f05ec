"""Checks of predictions, against closed forms and simulation."""

import sys
from pathlib import Path

import arviz_stats
import numpy as np
import pytest
import xarray as xr
from scipy.stats import kstest, norm

from pymcdust.errors import ResultError
from pymcdust.judge.pointwise import block_log_likelihood
from pymcdust.judge.predictive_check import check_predictions, pit_uniformity
from pymcdust.sky.blocks import pixel_blocks

sys.path.insert(0, str(Path(__file__).parent))
from linear import SIGMA, Exact, exact_posterior, linear_sky

VALID = np.random.default_rng(3).random((2, 16, 5)) > 0.2


@pytest.fixture(scope="module")
def sky():
    return linear_sky(
        valid=VALID, sigma=SIGMA * np.random.default_rng(4).uniform(0.5, 2, (2, 16, 5))
    )


@pytest.fixture(scope="module")
def posterior(sky):
    return exact_posterior(sky)


@pytest.fixture(scope="module")
def check(sky, posterior):
    return check_predictions(posterior, sky)


def test_residuals_are_those_of_the_posterior_mean(sky, check):
    for superpixel in range(2):
        exact = Exact.of(sky, superpixel)
        mean, _ = exact.posterior(np.ones(16, dtype=bool))
        difference = np.where(exact.valid, exact.emission - exact.design @ mean, np.nan)
        found = check.isel(superpixel=superpixel)
        # Of 1,000 draws of a posterior that is narrower than sigma.
        np.testing.assert_allclose(found.residual, difference / exact.sigma, atol=0.08)
        np.testing.assert_allclose(found.difference, found.residual * exact.sigma)


def test_the_pit_is_that_of_the_prediction_without_the_block(sky, check):
    for superpixel in range(2):
        exact = Exact.of(sky, superpixel)
        expected = np.full((16, 5), np.nan)
        for pixel in range(16):
            mean, covariance = exact.posterior(np.arange(16) != pixel)
            row, sigma = exact.design[pixel], exact.sigma[pixel]
            spread = np.sqrt(np.einsum("bi,ij,bj->b", row, covariance, row) + sigma**2)
            expected[pixel] = norm.cdf((exact.emission[pixel] - row @ mean) / spread)
        expected[~exact.valid] = np.nan
        np.testing.assert_allclose(check.pit.isel(superpixel=superpixel), expected, atol=0.03)


def test_chi_square_is_that_of_replicated_data(sky, check):
    rng = np.random.default_rng(5)
    for superpixel in range(2):
        exact = Exact.of(sky, superpixel)
        mean, covariance = exact.posterior(np.ones(16, dtype=bool))
        draws = rng.multivariate_normal(mean, covariance, size=4000)
        mu = np.einsum("pbi,di->dpb", exact.design, draws)
        weight = exact.valid / exact.sigma**2
        observed = (weight * (exact.emission - mu) ** 2).sum(axis=1)
        noise = rng.normal(size=mu.shape)
        replicated = (exact.valid * noise**2).sum(axis=1)
        found = check.isel(superpixel=superpixel)
        share = (replicated > observed).mean(axis=0)
        np.testing.assert_allclose(found.chi2_p, share, atol=0.03)
        np.testing.assert_allclose(found.chi2, observed.mean(axis=0), rtol=0.03)
        assert np.array_equal(found.n_data, exact.valid.sum(axis=0))


def test_the_pit_is_that_of_arviz(sky, posterior, check):
    """Whose draws of the predictive distribution are numbers, where ours are averaged over."""
    rng = np.random.default_rng(6)
    exact = Exact.of(sky, 0)
    thinned = posterior.isel(superpixel=[0], draw=slice(None, None, 4))
    draws = thinned["posterior"].to_dataset().isel(superpixel=0)
    vector = np.concatenate([draws.rho.values[..., None], draws.offset.values], axis=2)
    mu = np.einsum("pbi,cdi->cdpb", exact.design, vector)
    replicated = mu + exact.sigma * rng.normal(size=mu.shape)
    log_likelihood = block_log_likelihood(thinned, sky, pixel_blocks(sky))[0].reshape(4, 250, 16)
    used = exact.valid.any(axis=1)
    for band in range(5):
        tree = xr.DataTree.from_dict(
            {
                "posterior": thinned["posterior"].to_dataset(),
                "posterior_predictive": xr.Dataset(
                    {"y": (("chain", "draw", "point"), replicated[:, :, used, band])}
                ),
                "observed_data": xr.Dataset({"y": ("point", exact.emission[used, band])}),
                "log_likelihood": xr.Dataset(
                    {"y": (("chain", "draw", "point"), log_likelihood[:, :, used])}
                ),
            }
        )
        theirs = arviz_stats.loo_pit(tree, random_state=1)["y"].values
        ours = check.pit.isel(superpixel=0, band=band).values[used]
        valid = exact.valid[used, band]
        np.testing.assert_allclose(ours[valid], theirs[valid], atol=0.05)


def test_blocks_withhold_their_pixels_together(posterior, sky, check):
    by_block = check_predictions(posterior, sky, block=4)
    assert by_block.sizes["block"] == 4
    assert by_block.attrs["block"] == 4
    xr.testing.assert_allclose(by_block.residual, check.residual)
    assert not np.allclose(by_block.pit, check.pit, equal_nan=True, atol=1e-3)


def test_uniformity_is_told_band_by_band():
    rng = np.random.default_rng(17)
    pit = xr.DataArray(rng.random((4, 100, 5)), dims=("superpixel", "pixel", "band"))
    pit = pit.assign_coords(band=list("abcde"))
    pit[..., 1] = norm.cdf(1.5 * norm.ppf(pit[..., 1]))
    pit[0, :50] = np.nan
    p = pit_uniformity(pit)
    assert (p.drop_sel(band="b") > 0.01).all()
    assert p.sel(band="b") < 1e-4
    assert pit_uniformity(pit[:1, 45:55]).isnull().all()


def test_pits_of_the_true_model_are_uniform():
    sky = linear_sky(n_superpixel=30, n_pixel=64, seed=5)
    found = check_predictions(exact_posterior(sky, n_draw=1000), sky)
    assert (found.pit_p > 0.01).all()
    for band in range(5):
        values = found.pit.values[..., band]
        assert kstest(values[np.isfinite(values)], "uniform").pvalue > 0.01
    # A posterior predictive p-value uses the data twice, and is drawn towards a half.
    assert abs(found.chi2_p.mean() - 0.5) < 0.1
    noisy = sky.assign(
        emission=sky.emission
        + 0.7 * SIGMA * np.random.default_rng(8).normal(size=sky.emission.shape)
    )
    found = check_predictions(exact_posterior(noisy, n_draw=1000), noisy)
    assert (found.pit_p < 1e-4).all()
    assert found.chi2_p.median() < 0.05


def test_the_sky_must_be_the_one_that_was_drawn_from(sky, posterior):
    with pytest.raises(ResultError, match="give the sky that the posterior was drawn from"):
        check_predictions(posterior, sky.assign(reddening=1.001 * sky.reddening))
    with pytest.raises(ResultError, match="no pixel of the posterior's superpixels is valid"):
        check_predictions(posterior, sky.assign(valid=sky.valid & False))
