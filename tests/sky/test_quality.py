"""The numbers of a sky's quality, each against brute force."""

import numpy as np
import pytest
import xarray as xr

from pymcdust import build_sky, open_sky, save_sky
from pymcdust.errors import SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky import quality, validation
from pymcdust.sky.quality import (
    column_correlation,
    fit_emission,
    singular_values,
    summarise_sky,
)

N_SUPERPIXEL, N_PIXEL, N_VOXEL = 7, 64, 3


def noisy_sky(valid_by_band=False, sigma_by_pixel=False, seed=0, **attrs):
    """Return a sky with negative reddening, masked pixels that hold NaN, and thin voxels."""
    rng = np.random.default_rng(seed)
    shape = (N_SUPERPIXEL, N_PIXEL)
    reddening = rng.normal(0.1, 0.1, (*shape, N_VOXEL)).astype(np.float32)
    slopes = np.array([1.0, 5.0, 15.0, 40.0, 60.0])
    emission = reddening.sum(axis=2)[..., None] * slopes + rng.normal(0.2, 0.5, (*shape, 5))
    valid = rng.random((*shape, 5) if valid_by_band else shape) < 0.7
    used = valid if valid_by_band else valid[..., None]
    reddening[~used.any(axis=2)] = np.nan
    emission[~np.broadcast_to(used, emission.shape)] = -1.6375e30
    sigma = np.array([0.5, 3.0, 9.0, 25.0, 30.0])
    if sigma_by_pixel:
        sigma = sigma * rng.uniform(0.5, 2, (*shape, 5))
    return build_sky(
        reddening,
        emission,
        sigma,
        np.linspace(0, 3, N_VOXEL + 1),
        np.arange(N_SUPERPIXEL) + 20,
        nside=16,
        superpixel_nside=2,
        valid=valid,
        reddening_unit="sfd",
        attrs=attrs,
    )


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(validation, "BLOCK_BYTES", 2 * N_PIXEL * 5 * 8)


def pixels_of(sky, band=None):
    """Return the valid pixels of each superpixel: column, reddening, emission."""
    valid = sky.valid.values
    if band is not None:
        valid = valid if valid.ndim == 2 else valid[..., band]
    elif valid.ndim == 3:
        valid = valid.any(axis=2)
    for superpixel, here in enumerate(valid):
        reddening = sky.reddening.values[superpixel, here].astype(float)
        yield reddening.sum(axis=1), reddening, sky.emission.values[superpixel, here]


def roughness(sky, superpixel, band):
    """Return half the mean square of steps between valid neighbours."""
    valid = sky.valid.values[superpixel]
    valid = valid if valid.ndim == 1 else valid[:, band]
    values = sky.emission.values[superpixel, :, band]
    steps = [values[j + 1] - values[j] for j in range(N_PIXEL - 1) if valid[j] and valid[j + 1]]
    return np.mean(np.square(steps)) / 2


@pytest.mark.parametrize("valid_by_band", [False, True])
@pytest.mark.parametrize("sigma_by_pixel", [False, True])
def test_every_number_is_that_of_brute_force(small_blocks, valid_by_band, sigma_by_pixel):
    sky = noisy_sky(valid_by_band, sigma_by_pixel)
    summary = summarise_sky(sky)
    assert summary.sizes["superpixel"] == N_SUPERPIXEL
    for i, (column, reddening, _) in enumerate(pixels_of(sky)):
        one = summary.isel(superpixel=i)
        assert one.n_valid == len(column)
        np.testing.assert_allclose(one.column, np.median(column))
        np.testing.assert_allclose(one.voxel_reddening, np.median(reddening, axis=0))
        np.testing.assert_array_equal(one.negative_reddening, (reddening < 0).sum(axis=0))
        np.testing.assert_allclose(one.negative_amount, -reddening.clip(max=0).sum(axis=0))
        np.testing.assert_allclose(one.amount, np.abs(reddening).sum(axis=0))
        assert one.missing_reddening == N_PIXEL - len(column)
        scaled = reddening / np.linalg.norm(reddening, axis=0)
        singular = np.linalg.svd(scaled, compute_uv=False)
        np.testing.assert_allclose(one.singular_value, singular)
        np.testing.assert_allclose(one.condition, singular[0] / singular[-1])
    for band in range(5):
        for i, (column, _, emission) in enumerate(pixels_of(sky, band)):
            one = summary.isel(superpixel=i, band=band)
            assert one.n_used == len(column)
            assert one.missing_emission == N_PIXEL - len(column)
            assert one.negative_emission == (emission[:, band] < 0).sum()
            np.testing.assert_allclose(one.emission, np.median(emission[:, band]))
            np.testing.assert_allclose(one.roughness, roughness(sky, i, band))
            if BANDS[band] == "353":
                expected = np.corrcoef(column, emission[:, band])[0, 1]
                np.testing.assert_allclose(one.correlation, expected)


def test_the_whole_sky_is_fitted_as_one_cloud_of_pixels(small_blocks):
    sky = noisy_sky(valid_by_band=True)
    fit = fit_emission(summarise_sky(sky))
    for band in range(5):
        column, emission = (
            np.concatenate([pixels[k] for pixels in pixels_of(sky, band)]) for k in (0, 2)
        )
        slope, intercept = np.polyfit(column, emission[:, band], 1)
        one = fit.isel(band=band)
        np.testing.assert_allclose([one.slope, one.intercept], [slope, intercept])
        expected = np.corrcoef(column, emission[:, band])[0, 1]
        np.testing.assert_allclose(one.correlation, expected)


def test_a_part_of_the_sky_is_fitted_alone(small_blocks):
    sky = noisy_sky()
    some = [1, 4]
    fit = fit_emission(summarise_sky(sky).isel(superpixel=some))
    alone = fit_emission(summarise_sky(sky.isel(superpixel=some)))
    xr.testing.assert_allclose(fit, alone)


@pytest.mark.parametrize("sigma_by_pixel", [False, True])
def test_quantiles_are_those_of_all_pixels(small_blocks, sigma_by_pixel):
    sky = noisy_sky(sigma_by_pixel=sigma_by_pixel)
    summary = summarise_sky(sky)
    valid = sky.valid.values
    assert summary.sizes["chosen"] == valid.sum()
    sigma = np.broadcast_to(sky.sigma.values, sky.emission.shape)[valid]
    for name, values in (
        ("reddening_quantile", sky.reddening.values[valid].astype(float)),
        ("emission_quantile", sky.emission.values[valid]),
        ("signal_to_noise", sky.emission.values[valid] / sigma),
    ):
        expected = np.quantile(values, quality.QUANTILES, axis=0)
        np.testing.assert_allclose(summary[name].transpose("quantile", ...), expected)
    column = sky.reddening.values[valid].sum(axis=1, dtype=float)
    np.testing.assert_allclose(summary["chosen_column"], column)


def test_of_many_pixels_every_nth_is_chosen_across_blocks(small_blocks, monkeypatch):
    sky = noisy_sky()
    monkeypatch.setattr(quality, "MOST_PIXELS", 100)
    summary = summarise_sky(sky)
    valid = sky.valid.values
    step = -(-valid.sum() // 100)
    step += step % 2 == 0
    assert step > 1
    expected = sky.emission.values[valid][::step]
    np.testing.assert_array_equal(summary["chosen_emission"], expected)


def test_what_a_prepared_sky_tells_of_itself_is_believed(small_blocks):
    sky = noisy_sky()
    sky["reddening"][:, :, 2] = 0.0
    sky["n_voxel"] = ("superpixel", np.full(N_SUPERPIXEL, 2))
    plain = summarise_sky(sky)
    # Padding is no voxel: it has no median, and makes no condition infinite.
    assert np.isnan(plain.voxel_reddening[:, 2]).all()
    assert np.isnan(plain.reddening_quantile[:, 2]).all()
    assert np.isnan(plain.singular_value[:, 2]).all()
    np.testing.assert_allclose(
        plain.condition, plain.singular_value[:, 0] / plain.singular_value[:, 1]
    )
    sky["singular_value"] = plain.singular_value + 1
    sky["condition"] = plain.condition + 1
    sky["correlation"] = plain.correlation / 2
    told = summarise_sky(sky)
    for name in ("singular_value", "condition", "correlation"):
        np.testing.assert_array_equal(told[name], sky[name])


def test_a_voxel_without_dust_makes_the_condition_infinite():
    sky = noisy_sky()
    sky["reddening"][3, :, 1] = 0.0
    assert (
        np.isinf(summarise_sky(sky).condition.values).tolist() == [False] * 3 + [True] + [False] * 3
    )


def test_pixels_of_a_coarser_map_are_found_out():
    sky = noisy_sky()
    sky["valid"][:] = True
    sky["emission"][:] = 1.0
    sky["reddening"][:] = np.repeat(np.random.default_rng(1).random((7, 16, 3)), 4, axis=1)
    summary = summarise_sky(sky)
    assert (summary.repeated == 48).all()
    sky["reddening"][2] = 0.0
    assert summarise_sky(sky).repeated[2] == 0  # no dust is not a copy


def test_a_file_that_was_given_for_two_bands_is_found_out():
    sky = noisy_sky()
    equal = summarise_sky(sky).equal_bands.values
    np.testing.assert_array_equal(equal, np.eye(5))
    sky["emission"][:, :, 3] = sky["emission"][:, :, 2]
    equal = summarise_sky(sky).equal_bands.values
    assert equal[2, 3] == equal[3, 2] == 1
    assert equal.sum() == 7


def test_a_lazy_sky_gives_the_same(tmp_path, small_blocks):
    sky = noisy_sky(valid_by_band=True)
    save_sky(sky, tmp_path / "sky.zarr")
    calls = []
    lazy = summarise_sky(open_sky(tmp_path / "sky.zarr"), lambda *call: calls.append(call))
    xr.testing.assert_identical(lazy, summarise_sky(sky))
    assert calls == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_what_is_not_valid_may_be_anything():
    reddening = np.random.default_rng(3).random((2, 10, 2))
    valid = np.arange(10) < 6
    emission = reddening.sum(axis=2) ** 2
    spoilt = reddening.copy()
    spoilt[:, 6:] = np.nan
    valid = np.broadcast_to(valid, (2, 10))
    np.testing.assert_allclose(
        singular_values(spoilt, valid), singular_values(reddening[:, :6], valid[:, :6])
    )
    np.testing.assert_allclose(
        column_correlation(spoilt, np.where(valid, emission, -np.inf), valid),
        [np.corrcoef(reddening[i, :6].sum(axis=1), emission[i, :6])[0, 1] for i in range(2)],
    )


def test_fewer_pixels_than_voxels_are_ill_conditioned():
    values = singular_values(np.ones((1, 2, 5)), np.ones((1, 2), dtype=bool))
    np.testing.assert_allclose(values[0], [np.sqrt(5), 0, 0, 0, 0], atol=1e-7)


def test_shapes_that_do_not_go_together():
    with pytest.raises(SkyError, match=r"shape \(1, 2, 3\) and valid of shape \(1, 3\)"):
        singular_values(np.ones((1, 2, 3)), np.ones((1, 3), dtype=bool))


def test_a_constant_column_correlates_with_nothing():
    column = np.full((1, 20, 1), 0.1, dtype=np.float32)
    emission = np.arange(20.0)[np.newaxis]
    valid = np.ones((1, 20), dtype=bool)
    assert np.isnan(column_correlation(column, emission, valid)[0])
    assert np.isnan(column_correlation(column + emission[..., None], np.ones((1, 20)), valid)[0])


def test_rounding_is_no_pattern():
    rng = np.random.default_rng(1)
    reddening = rng.exponential(size=(1, 50, 3))
    reddening[..., 2] *= 1e-8
    values = singular_values(reddening, np.ones((1, 50), dtype=bool))[0]
    assert values[2] == 0
    reddening[..., 2] *= 1e4
    assert singular_values(reddening, np.ones((1, 50), dtype=bool))[0, 2] > 0.1
