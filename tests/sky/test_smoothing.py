import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtr

from pymcdust.errors import ConfigurationError
from pymcdust.sky.smoothing import (
    LEAST_WEIGHT,
    Smoother,
    beam_window,
    kernel_width,
    mean_over_children,
    pixels_per_beam,
)

NSIDE = 64
FWHM = 150.0


@pytest.fixture(scope="module")
def sky():
    """A map of a red spectrum, band-limited and free of noise, NESTED."""
    multipole = np.arange(2 * NSIDE)
    spectrum = np.where(multipole > 0, np.maximum(multipole, 1.0) ** -2.4, 0)
    np.random.seed(3)  # noqa: NPY002 - healpy draws from the global generator
    values = healpy.synfast(spectrum, NSIDE, lmax=2 * NSIDE - 1, new=True)
    return healpy.reorder(values / values.std() + 5, r2n=True)


def smooth(values, fwhm, nside):
    """Smooth one map: values, and the part of each pixel's beam that is observed."""
    smoother = Smoother(np.isfinite(values), fwhm, nside)
    return smoother.smooth(values), smoother.weight


def ring(values):
    return healpy.reorder(values, n2r=True)


@pytest.mark.parametrize(
    ("beam", "width"), [(5.5, 8.35), (5.0, 8.66), (6.1, 7.92), (3.44, 9.39), (10.0, 0), (9.9999, 0)]
)
def test_kernels_of_the_paper(beam, width):
    assert kernel_width(beam, 10.0) == pytest.approx(width, abs=0.006)


def test_maps_are_never_sharpened():
    with pytest.raises(ConfigurationError, match=r"must be at least 13\.7 arcmin"):
        kernel_width(13.7, 10.0)


def test_window_equals_healpy():
    np.testing.assert_allclose(
        beam_window(FWHM, 191), healpy.gauss_beam(np.deg2rad(FWHM / 60), 191), rtol=1e-12
    )


def test_whole_map_equals_healpy_divided_by_its_smoothing_of_one(sky):
    """healpy smooths by the same transforms, of which it iterates three by default."""

    def witness(values):
        return healpy.smoothing(
            values, np.deg2rad(FWHM / 60), lmax=3 * NSIDE - 1, iter=0, use_pixel_weights=False
        )

    expected = witness(ring(sky)) / witness(np.ones(len(sky)))
    smoothed = ring(smooth(sky, FWHM, NSIDE)[0])
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)


def test_division_takes_away_the_error_at_the_poles(sky):
    """The exact answer is the synthesis of the smoothed harmonics."""
    exact = healpy.smoothing(ring(sky), np.deg2rad(FWHM / 60), lmax=2 * NSIDE - 1, iter=30)
    smoothed = ring(smooth(sky, FWHM, NSIDE)[0])
    # In units of the standard deviation of the map: at a few pixels near the poles, and overall.
    assert np.abs(smoothed - exact).max() < 0.02
    assert np.std(smoothed - exact) < 1e-3
    undivided = healpy.smoothing(ring(sky), np.deg2rad(FWHM / 60), lmax=3 * NSIDE - 1, iter=0)
    assert np.abs(undivided - exact).max() > 0.1


def holes(rng):
    observed = np.ones(12 * NSIDE**2, dtype=bool)
    observed[3 * NSIDE**2 : 4 * NSIDE**2] = False
    observed[rng.integers(0, len(observed), 40)] = False
    return observed


@pytest.mark.parametrize("hole", [np.nan, healpy.UNSEEN, 1e6, np.inf])
def test_constant_map_stays_constant_up_to_the_edge_of_the_mask(hole):
    observed = holes(np.random.default_rng(0))
    values = np.where(observed, 7.0, hole)
    smoother = Smoother(observed, FWHM, NSIDE)
    smoothed = smoother.smooth(values)
    assert 0.5 < smoother.enough.mean() < 0.95
    np.testing.assert_allclose(smoothed[smoother.enough], 7.0, rtol=1e-6)
    assert np.isnan(smoothed[~smoother.enough]).all()


def test_weight_is_the_observed_part_of_the_beam():
    """At the straight edge of a mask half of the beam is observed."""
    latitude = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), nest=True, lonlat=True)[1]
    smoother = Smoother(latitude > 0, FWHM, NSIDE)
    sigma = FWHM / 60 / np.sqrt(8 * np.log(2))
    # The equator itself is a row of pixels, not observed here: the edge lies half a row north.
    edge = latitude[latitude > 0].min() / 2
    np.testing.assert_allclose(smoother.weight, ndtr((latitude - edge) / sigma), atol=0.02)
    assert (latitude[smoother.enough] > 0).all()


def test_masked_map_equals_brute_force_in_pixels(sky):
    observed = holes(np.random.default_rng(1))
    smoother = Smoother(observed, FWHM, NSIDE)
    smoothed = smoother.smooth(np.where(observed, sky, np.nan))
    vectors = np.array(healpy.pix2vec(NSIDE, np.arange(len(sky)), nest=True))
    sigma = np.deg2rad(FWHM / 60) / np.sqrt(8 * np.log(2))
    for pixel in np.flatnonzero(smoother.enough)[::997]:
        angle = np.arccos(np.clip(vectors[:, pixel] @ vectors, -1, 1))
        weight = np.exp(-0.5 * (angle / sigma) ** 2) * observed
        assert smoothed[pixel] == pytest.approx(weight @ sky / weight.sum(), rel=2e-3)


def test_rebinning_keeps_the_beam(sky):
    """A map of 128, smoothed to 64, equals its synthesis at 64 with the same beam."""
    np.random.seed(4)  # noqa: NPY002 - healpy draws from the global generator
    harmonics = healpy.synalm(1.0 / np.arange(1, 192.0) ** 2.4, lmax=190, new=True)
    fine = healpy.reorder(healpy.alm2map(harmonics, 2 * NSIDE, lmax=190), r2n=True)
    expected = healpy.alm2map(harmonics, NSIDE, lmax=190, fwhm=np.deg2rad(FWHM / 60))
    smoothed = ring(smooth(fine, FWHM, NSIDE)[0])
    assert np.abs(smoothed - expected).max() < 0.01 * expected.std()
    assert np.std(smoothed - expected) < 1e-3 * expected.std()


def test_equal_beams_are_kept(sky):
    """Averaging pixels would widen the beam by theirs; a map of the same pixels is left alone."""
    np.random.seed(5)  # noqa: NPY002 - healpy draws from the global generator
    window = beam_window(FWHM, 190)
    harmonics = healpy.almxfl(healpy.synalm(np.ones(191), lmax=190, new=True), window)
    fine = healpy.reorder(healpy.alm2map(harmonics, 2 * NSIDE, lmax=190), r2n=True)
    expected = healpy.alm2map(harmonics, NSIDE, lmax=190)
    assert np.std(ring(smooth(fine, 0.0, NSIDE)[0]) - expected) < 1e-3 * expected.std()
    assert np.std(ring(smooth(fine, None, NSIDE)[0]) - expected) > 1e-2 * expected.std()
    values = np.where(np.arange(len(sky)) < 9, np.nan, sky)
    np.testing.assert_array_equal(smooth(values, 0.0, NSIDE)[0], values.astype(np.float32))


def test_without_kernel_maps_are_averaged(sky):
    fine = np.repeat(sky, 4) + np.tile([0.0, 1.0, 2.0, 3.0], len(sky))
    fine[4:6] = np.nan
    fine[8:11] = np.nan
    smoothed, weight = smooth(fine, None, NSIDE)
    expected = sky + 1.5
    expected[1] = sky[1] + 2.5
    expected[2] = np.nan
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
    assert weight.tolist() == np.isfinite(expected).astype(float).tolist()


@pytest.mark.parametrize("fwhm", [2 * FWHM, None])
def test_variance_is_that_of_smoothed_noise(fwhm):
    """White noise of a known variance, many times: its scatter after smoothing."""
    rng = np.random.default_rng(7)
    nside, n_draw = 32, 400
    latitude = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True, lonlat=True)[1]
    variance = 1 + 3 * np.sin(np.deg2rad(latitude)) ** 2
    observed = np.ones(len(variance), dtype=bool)
    observed[: nside**2] = False
    smoother = Smoother(observed, fwhm, nside // 2)
    noise = rng.standard_normal((n_draw, len(variance))) * np.sqrt(variance)
    draws = np.stack([smoother.smooth(one)[smoother.enough] for one in noise])
    ratio = draws.var(axis=0) / smoother.variance(variance)[smoother.enough]
    # Each ratio scatters by sqrt(2 / 400) = 7 %.
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    assert np.abs(np.log(ratio)).max() < 0.45


def test_variance_beside_a_mask_equals_brute_force(sky):
    observed = holes(np.random.default_rng(1))
    smoother = Smoother(observed, FWHM, NSIDE)
    found = smoother.variance(np.ones(len(sky)))
    vectors = np.array(healpy.pix2vec(NSIDE, np.arange(len(sky)), nest=True))
    sigma = np.deg2rad(FWHM / 60) / np.sqrt(8 * np.log(2))
    beside = np.flatnonzero(smoother.enough & (smoother.weight < 0.97))
    assert len(beside) > 50
    for pixel in beside[::10]:
        angle = np.arccos(np.clip(vectors[:, pixel] @ vectors, -1, 1))
        kernel = np.exp(-0.5 * (angle / sigma) ** 2) * observed
        assert found[pixel] == pytest.approx((kernel**2).sum() / kernel.sum() ** 2, rel=0.01)


def test_pixels_per_beam():
    assert pixels_per_beam(10, 1024) == pytest.approx(9.6, abs=0.03)
    assert pixels_per_beam(10, 2048) == pytest.approx(4 * pixels_per_beam(10, 1024))


def test_half_observed_beams_are_left_out(sky):
    half = np.where(np.arange(len(sky)) < len(sky) // 2, sky, np.nan)
    smoothed, weight = smooth(half, FWHM, NSIDE)
    assert ((weight > LEAST_WEIGHT) == np.isfinite(smoothed)).all()


@pytest.mark.parametrize("nside", [1, 2, 8])
def test_mean_over_children_agrees_with_healpy(nside):
    values = np.random.default_rng(0).normal(size=12 * 64)
    expected = healpy.ud_grade(values, nside, order_in="NESTED", order_out="NESTED")
    np.testing.assert_allclose(mean_over_children(values, nside), expected, rtol=1e-12)


@settings(deadline=None)
@given(arrays(np.float32, 48, elements=st.sampled_from([np.nan, 0.0, 1.0, 5.0])))
def test_mean_over_children_leaves_out_what_is_not_observed(values):
    mean = mean_over_children(values, 1)
    for pixel, children in enumerate(values.reshape(12, 4)):
        observed = children[~np.isnan(children)]
        if len(observed) < 2:
            assert np.isnan(mean[pixel])
        else:
            assert mean[pixel] == pytest.approx(sum(observed) / len(observed))
