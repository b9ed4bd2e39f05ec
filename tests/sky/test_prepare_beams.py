"""Skies whose maps come to one beam: smoothing, thinning, and masks that spread."""

import healpy
import numpy as np
import pytest
from planted import Convolved, on_sky

from pymcdust.errors import ConfigurationError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.cuts import Mask
from pymcdust.sky.prepare import prepare_sky


@pytest.fixture(scope="module")
def convolved(tmp_path_factory):
    return Convolved(tmp_path_factory.mktemp("convolved"))


def test_all_maps_come_to_one_beam(convolved):
    sky = prepare_sky(convolved.configuration())
    valid = sky.valid.values
    hole = on_sky(sky, np.arange(12 * 64**2) // 2 == 125)
    assert 0.99 < valid.mean() < 1
    assert not valid[hole].any()
    assert int(sky.masked.sel(reason="no_emission").sum()) == (~valid).sum()
    for i, band in enumerate(BANDS):
        expected = on_sky(sky, convolved.values(band, 200.0, 10.0 * (i + 1), 64))[valid]
        found = sky.emission.values[..., i][valid]
        assert np.abs(found - expected).max() < 0.02 * expected.std()
    for i, name in enumerate(("near", "far")):
        expected = on_sky(sky, convolved.values(name, 200.0, 5.0, 64))[valid]
        found = sky.reddening.values[..., i][valid]
        assert np.abs(found - expected).max() < 0.02 * expected.std()
        assert np.std(found - expected) < 2e-3 * expected.std()
    assert sky.attrs["beam"] == 200.0


def test_subtracting_at_unequal_beams_would_leave_the_cmb(convolved):
    configuration = convolved.configuration()
    configuration["cmb"]["beam"] = 100.0
    wrong = prepare_sky(configuration).emission.sel(band="353")
    right = prepare_sky(convolved.configuration()).emission.sel(band="353")
    assert (wrong - right).std() > 0.1 * right.std()


def test_missing_variance_does_not_spread(convolved, tmp_path):
    """A pixel whose variance is missing has no weight, in smoothing as well."""
    planted = Convolved.__new__(Convolved)
    planted.__dict__.update(convolved.__dict__)
    planted.folder = tmp_path
    planted.write()
    fine = 2 * planted.NSIDE
    for band in BANDS:
        path = tmp_path / f"{band}.fits"
        values, header = healpy.read_map(path, nest=True, h=True, dtype=np.float64)
        variance = np.full(12 * fine**2, 1e-4)
        variance[7000:7010] = healpy.UNSEEN
        unit = dict(header)["TUNIT1"]
        healpy.write_map(
            path,
            [values, variance],
            nest=True,
            coord="G",
            column_names=["I_STOKES", "II_COV"],
            column_units=[unit, f"{unit}^2"],
            dtype=np.float64,
            overwrite=True,
        )
    configuration = planted.configuration()
    configuration["noise"] = {"variance": True, "sigma": dict.fromkeys(BANDS, 0.0)}
    sky = prepare_sky(configuration)
    assert 0.99 < sky.valid.mean() < 1
    added = sky.sigma.sel(band="857").values[sky.valid.values] ** 2
    # Averaged over a beam of many pixels, in which the kernel is narrower than the beam.
    kernel = np.deg2rad(np.sqrt(200.0**2 - 100.0**2) / 60) / np.sqrt(8 * np.log(2))
    per_pixel = 4 * np.pi / (12 * fine**2) / (4 * np.pi * kernel**2)
    assert np.median(added) == pytest.approx(1e-4 * per_pixel, rel=0.05)


def test_one_pixel_of_each_beam_is_left(convolved):
    sky = prepare_sky(convolved.configuration(thin=True))
    blocks = sky.valid.values.reshape(-1, 16)
    assert blocks.sum(axis=1).max() == 1
    assert blocks.any(axis=1).mean() > 0.99
    assert int(sky.masked.sel(reason="thinned").sum()) == pytest.approx(
        sky.valid.size * 15 / 16, rel=0.01
    )
    assert sky.coverage.min() > 0.5
    # What thinning takes away is no reason for a superpixel to be poorly covered.
    assert not (sky.sky_reason.values & Mask.THINNED).any()


def test_reddening_beside_its_edge_is_masked_for_that(convolved, tmp_path):
    planted = Convolved.__new__(Convolved)
    planted.__dict__.update(convolved.__dict__)
    pixel = np.flatnonzero(np.arange(12 * 64**2) // 1024 != 40)
    planted.folder = tmp_path
    planted.write()
    planted.write_reddening(64, pixel, np.full((len(pixel), 120), 0.01, dtype=np.float32))
    sky = prepare_sky(planted.configuration())
    count = sky.masked.sum("superpixel")
    assert count.sel(reason="mask_edge") > 100
    assert sky.sky_reason.values[160:164].tolist() == [Mask.OUTSIDE] * 4
    # A constant stays what it is up to the edge of the mask.
    found = sky.reddening.values[sky.valid.values]
    np.testing.assert_allclose(found, np.broadcast_to([0.21, 0.3], found.shape), rtol=2e-6)
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), rtol=1e-6)


def test_pixel_of_which_too_little_is_mapped_has_no_weight(convolved, tmp_path):
    planted = Convolved.__new__(Convolved)
    planted.__dict__.update(convolved.__dict__)
    planted.folder = tmp_path
    planted.write()
    pixel = np.arange(12 * 128**2)
    # Of one pixel of the sky a quarter is in the map, of another three quarters.
    pixel = np.delete(pixel, [4001, 4002, 4003, 8001])
    planted.write_reddening(128, pixel, np.full((len(pixel), 120), 0.01, dtype=np.float32))
    sky = prepare_sky(planted.configuration())
    assert 0.99 < sky.valid.mean() < 1
    found = sky.reddening.values[sky.valid.values]
    np.testing.assert_allclose(found, np.broadcast_to([0.21, 0.3], found.shape), rtol=2e-6)


def test_wider_beam_than_the_skys_is_refused(convolved):
    configuration = convolved.configuration()
    configuration["emission"]["857"]["beam"] = 250.0
    with pytest.raises(ConfigurationError, match="must be at least 250 arcmin"):
        prepare_sky(configuration)
