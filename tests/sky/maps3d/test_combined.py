"""Two maps with a seam: each where it alone is, both in the seam, nothing where neither is."""

import astropy.units as u
import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from pymcdust.errors import ConfigurationError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.maps3d.combined import CombinedMap
from pymcdust.sky.maps3d.gather import gather
from pymcdust.sky.maps3d.shells import Shells

NSIDE = 16
N = 12 * NSIDE**2
EDGES = np.array([0, 0.5, 1.0])
DECLINATION = SkyCoord(
    *healpy.pix2ang(NSIDE, np.arange(N), nest=True, lonlat=True), unit=u.deg, frame="galactic"
).icrs.dec.deg


def shells(level, pixel=None, unit="E(B-V)", flags=None, n_samples=0, nside=NSIDE):
    """A map of `level` and 3 `level` in two shells; sample k has (1 + k) times that."""
    pixel = np.arange(12 * nside**2) if pixel is None else pixel
    values = level * np.ones((len(pixel), 1)) * np.array([1.0, 3.0])
    if n_samples:
        values = values[:, np.newaxis] * (1.0 + np.arange(n_samples))[:, np.newaxis]
    return Shells(
        values,
        [0.5, 1.0],
        distance_unit="kpc",
        quantity="differential",
        unit=unit,
        nside=nside,
        ordering="nested",
        frame="galactic",
        pixel=pixel,
        flags=flags,
    )


def on_sky(source, nside=NSIDE, refuse=0, n_samples=0):
    out = np.empty((2, 12 * nside**2), dtype=np.float32)
    samples = np.empty((n_samples, *out.shape), dtype=np.float32) if n_samples else None
    area, flags, _ = gather(source, nside, EDGES, out, refuse=refuse, samples_out=samples)
    return out, area, flags, samples


def share_of_north(seam, width):
    return np.clip((DECLINATION - (seam - width / 2)) / width, 0, 1)


@pytest.mark.parametrize(("seam", "width"), [(-29.0, 10.0), (0.0, 40.0), (12.0, 0.001)])
def test_blend_is_linear_in_declination(seam, width):
    reddening, area, flags, _ = on_sky(CombinedMap(shells(1.0), shells(2.0), seam, width))
    expected = 2.0 - share_of_north(seam, width)
    np.testing.assert_allclose(reddening, [expected, 3 * expected], rtol=1e-5)
    assert (area == 1).all()
    assert not flags.any()


def test_sharp_seam():
    reddening, *_ = on_sky(CombinedMap(shells(1.0), shells(2.0), -29.0, 0))
    np.testing.assert_allclose(reddening[0], np.where(DECLINATION >= -29, 1, 2), rtol=1e-6)


def test_where_one_is_not_the_other_is_taken():
    """On either side of the seam and in it, whether it is outside or did not converge."""
    pixel = np.arange(N)
    without_north, without_south, without_both = (
        np.random.default_rng(0).permutation(N)[:900].reshape(3, 300)
    )
    north_pixel = np.setdiff1d(pixel, np.r_[without_north, without_both])
    flags = np.zeros(N, dtype=int)
    flags[without_south] = Mask.NOT_CONVERGED
    flags[without_both[:100]] = Mask.NO_STARS
    flags[without_both[100:]] = Mask.NOT_CONVERGED
    combined = CombinedMap(shells(1.0, north_pixel), shells(2.0, flags=flags), 0.0, 60.0)
    reddening, area, found, _ = on_sky(combined, refuse=Mask.NOT_CONVERGED | Mask.NO_STARS)
    expected = 2.0 - share_of_north(0.0, 60.0)
    expected[without_north], expected[without_south] = 2.0, 1.0
    expected[without_both] = np.nan
    np.testing.assert_allclose(reddening[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(area, np.isfinite(expected))
    reason = np.zeros(N)
    reason[without_both] = flags[without_both]
    np.testing.assert_array_equal(found, reason)


def test_what_neither_has_is_not_zero_for_those_who_refuse_nothing():
    flags = np.zeros(N, dtype=int)
    flags[7] = Mask.NOT_CONVERGED
    reddening, area, found, _ = on_sky(
        CombinedMap(shells(1.0, flags=flags), shells(2.0, flags=flags), 0.0, 10.0)
    )
    assert np.isnan(reddening[:, 7]).all()
    assert (area[7], found[7]) == (0, Mask.NOT_FINITE)
    assert np.isfinite(np.delete(reddening, 7, axis=1)).all()


def test_outside_both():
    pixel = np.arange(0, N, 2)
    combined = CombinedMap(shells(1.0, pixel), shells(2.0, pixel[::2]), 0.0, 10.0)
    _, area, flags, _ = on_sky(combined)
    np.testing.assert_array_equal(area, np.arange(N) % 2 == 0)
    np.testing.assert_array_equal(flags, np.where(area == 0, Mask.OUTSIDE, 0))


def test_reliability_is_that_of_the_maps_with_a_share():
    unreliable = np.full(N, int(Mask.UNRELIABLE))
    combined = CombinedMap(shells(1.0, flags=unreliable), shells(2.0), -20.0, 20.0)
    reddening, _, flags, _ = on_sky(combined, refuse=Mask.UNRELIABLE)
    np.testing.assert_array_equal(flags == Mask.UNRELIABLE, share_of_north(-20.0, 20.0) > 0)
    reddening, _, flags, _ = on_sky(combined)
    assert np.isfinite(reddening).all()
    assert not flags.any()


def test_samples_go_with_their_likes():
    combined = CombinedMap(
        shells(1.0, n_samples=5), shells(2.0, n_samples=3), declination=0, width=30
    )
    assert combined.n_samples == 3
    reddening, _, _, samples = on_sky(combined, n_samples=2)
    expected = (2.0 - share_of_north(0, 30)) * np.array([[1.0], [2.0]])
    np.testing.assert_allclose(samples[:, 0], expected, rtol=1e-5)
    # The medians are of the third sample of five, and of the second of three.
    north = share_of_north(0, 30)
    np.testing.assert_allclose(reddening[0], 3 * north + 4 * (1 - north), rtol=1e-5)
    with pytest.raises(ConfigurationError, match="it has 3"):
        on_sky(combined, n_samples=4)


def test_maps_of_different_resolution_meet_on_the_sky():
    combined = CombinedMap(shells(1.0, nside=4), shells(2.0, nside=32), -29.0, 10.0)
    assert (combined.nside, combined.unit) == (32, "E(B-V)")
    assert combined.beam == shells(1.0, nside=4).beam
    reddening, area, _, _ = on_sky(combined)
    np.testing.assert_allclose(reddening[0], 2.0 - share_of_north(-29.0, 10.0), rtol=1e-5)
    assert (area == 1).all()


def test_what_is_too_large_for_memory_goes_where_it_is_told(tmp_path):
    combined = CombinedMap(shells(1.0), shells(2.0), -29.0, 10.0, scratch=tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        on_sky(combined)
    expected, *_ = on_sky(CombinedMap(shells(1.0), shells(2.0), -29.0, 10.0))
    (tmp_path / "missing").mkdir()
    np.testing.assert_array_equal(on_sky(combined)[0], expected)
    assert not list((tmp_path / "missing").iterdir())


def test_parts_of_the_sky_do_not_matter(monkeypatch):
    combined = CombinedMap(shells(1.0), shells(2.0), -29.0, 10.0)
    expected, *_ = on_sky(combined)
    monkeypatch.setattr("pymcdust.sky.maps3d.combined._PIXELS", 100)
    found, *_ = on_sky(combined)
    np.testing.assert_array_equal(found, expected)


def test_units_must_agree():
    with pytest.raises(ConfigurationError, match="naming a conversion"):
        CombinedMap(shells(1.0, unit="bayestar2019"), shells(1.0), -29.0, 2.0)


@pytest.mark.parametrize(("seam", "width"), [(-91, 2), (0, -1), (np.nan, 2), (0, np.inf)])
def test_seam_that_is_not_on_the_sky(seam, width):
    with pytest.raises(ConfigurationError, match="these are degrees"):
        CombinedMap(shells(1.0), shells(2.0), seam, width)
