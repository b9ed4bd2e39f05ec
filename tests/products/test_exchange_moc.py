"""Coverage maps, as mocpy reads them, against positions that astropy transforms."""

import json
import sys

import healpy as hp
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from mocpy import MOC

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.products import coverage
from pymcdust.products.coverage import export_mocs, validity_moc


@pytest.fixture
def positions():
    """Return directions all over the sky, known by their equatorial coordinates."""
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 40_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 40_000)))
    return SkyCoord(ra, dec, unit="deg", frame="icrs")


def galactic_pixel(positions, nside):
    return hp.ang2pix(
        nside, positions.galactic.l.deg, positions.galactic.b.deg, nest=True, lonlat=True
    )


def clear_of_borders(positions, nside, radius, alike):
    """Return which positions are further than `radius` [rad] from a pixel that is not alike."""
    pixel = galactic_pixel(positions, nside)
    vectors = positions.galactic.cartesian.xyz.value.T
    return np.array(
        [
            np.all(alike[hp.query_disc(nside, vector, radius, inclusive=True, nest=True)] == value)
            for vector, value in zip(vectors, alike[pixel], strict=True)
        ]
    )


def by_centres(valid, order, at_order):
    """Return the ICRS cells of an order whose centres are valid, every cell looked at."""
    lon, lat = hp.pix2ang(2**at_order, np.arange(12 * 4**at_order), nest=True, lonlat=True)
    cells = SkyCoord(lon, lat, unit="deg", frame="icrs")
    return np.flatnonzero(valid[galactic_pixel(cells, 2**order)])


def flat(moc, order):
    moc = moc if moc.max_order == order else moc.to_order(order)
    return np.sort(moc.flatten())


@pytest.mark.parametrize("superpixel_nside", [1, 2, 4, 8])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_cells_are_those_whose_centres_are_valid(make_sky, make_fit, superpixel_nside, share):
    n = 12 * superpixel_nside**2
    rng = np.random.default_rng(superpixel_nside)
    sky = make_sky(np.arange(n), nside=2 * superpixel_nside, superpixel_nside=superpixel_nside)
    fit = make_fit(sky)
    fit["converged"] = ("superpixel", rng.permutation(np.arange(n) < max(1, share * n)))
    order = superpixel_nside.bit_length() - 1
    for finer in (0, 1, 4):
        moc = validity_moc(fit, max_order=order + finer)
        expected = by_centres(fit["converged"].values, order, order + finer)
        np.testing.assert_array_equal(flat(moc, order + finer), expected)


@pytest.mark.parametrize("nside", [1, 2, 4, 16, 64])
def test_a_cell_does_not_reach_beyond_the_neighbours(nside):
    rng = np.random.default_rng(5)
    centre = rng.standard_normal((20_000, 3))
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    away = np.cross(centre, rng.standard_normal((20_000, 3)))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    radius = hp.max_pixrad(nside * 2**coverage.MARGIN)
    reached = np.cos(radius) * centre + np.sin(radius) * away
    pixel = hp.vec2pix(nside, *centre.T, nest=True)
    around = np.vstack([pixel, hp.get_all_neighbours(nside, pixel, nest=True)])
    assert (around == hp.vec2pix(nside, *reached.T, nest=True)).any(axis=0).all()


def test_positions_inside_and_outside_agree_with_the_fit(fit, sky, positions):
    fit["converged"][3] = False
    fit["flag"][4] = 2
    valid = np.zeros(192, bool)
    valid[[5, 6, 40, 7]] = True
    moc = validity_moc(fit)
    assert moc.max_order == 5
    inside = moc.contains_skycoords(positions)
    clear = clear_of_borders(positions, 4, hp.max_pixrad(2**5), valid)
    truth = valid[galactic_pixel(positions, 4)]
    np.testing.assert_array_equal(inside[clear], truth[clear])
    assert (inside & clear).sum() > 200
    assert np.mean(clear) > 0.9
    np.testing.assert_allclose(moc.sky_fraction, 4 / 192, rtol=0.02)


def test_pixels_of_a_sky(sky, positions):
    sky["valid"][2, 3:9] = False
    valid = np.zeros(12 * 16**2, bool)
    pixels = sky["superpixel"].values[:, None] * 16 + np.arange(16)
    valid[pixels[sky["valid"].values]] = True
    moc = validity_moc(sky)
    assert moc.max_order == 5
    np.testing.assert_array_equal(flat(moc, 5), by_centres(valid, 4, 5))
    inside = validity_moc(sky, max_order=9).contains_skycoords(positions)
    assert np.mean(inside == valid[galactic_pixel(positions, 16)]) > 0.999


def test_a_pixel_with_one_band_is_valid(sky):
    whole = validity_moc(sky)
    valid = sky["valid"].expand_dims(band=sky["band"]).transpose("band", ...).copy()
    valid[1:] = False
    assert validity_moc(sky.assign(valid=valid)) == whole
    valid[0, 0, :4] = False
    smaller = validity_moc(sky.assign(valid=valid), max_order=8).sky_fraction
    np.testing.assert_allclose(smaller, (6 * 16 - 4) / 3072, rtol=0.01)


def test_flags_of_a_voxel_are_tolerated(fit):
    names = "not_converged parameter_at_bound voxel_without_dust"
    fit["flag"].attrs = {"flag_masks": [1, 2, 8], "flag_meanings": names}
    whole = validity_moc(fit)
    fit["flag"][:] = 8
    assert validity_moc(fit) == whole
    assert validity_moc(fit, tolerate=()).empty()
    fit["flag"][:] = 10
    assert validity_moc(fit).empty()
    assert validity_moc(fit, tolerate=["parameter_at_bound", "voxel_without_dust"]) == whole
    fit["flag"][:] = 64  # a bit without a name
    assert validity_moc(fit).empty()
    with pytest.raises(ConfigurationError, match="did you mean 'parameter_at_bound'"):
        validity_moc(fit, tolerate=["at_bound"])


def test_a_whole_sky_is_the_twelve_base_cells(make_sky, make_fit):
    fit = make_fit(make_sky(np.arange(192)))
    moc = validity_moc(fit)
    assert moc == MOC.from_string("0/0-11 5/")
    fit["converged"][:] = False
    assert validity_moc(fit).empty()


def test_files_come_back(fit, sky, tmp_path):
    fit.attrs |= {"versions": '{"numpy": "2.0"}', "configuration": '{"nside": 16}'}
    paths = export_mocs(fit, sky, tmp_path / "new")
    assert [path.name for path in paths] == ["fit.moc.fits", "data.moc.fits"]
    for path, data in zip(paths, (fit, sky), strict=True):
        assert MOC.load(path) == validity_moc(data)
        with fits.open(path) as file:
            file.verify("exception")
            header = file[1].header
        assert (header["MOCVERS"], header["MOCDIM"], header["ORDERING"]) == (
            "2.0",
            "SPACE",
            "RANGE",
        )
        assert header["COORDSYS"] == "C"
        assert header["MOCORD_S"] == 5
        assert json.loads(header["FILES"]) == json.loads(sky.attrs["files"])
        assert header["CREATOR"].startswith("pymcdust ")
        assert header.comments["CREATOR"] == "what wrote this file"
    header = fits.getheader(paths[0], 1)
    assert header["MODEL"] == fit.attrs["model"]
    assert json.loads(header["VERSIONS"]) == {"numpy": "2.0"}
    assert json.loads(header["CONFIG"]) == {"nside": 16}
    with pytest.raises(ConfigurationError, match=r"already holds fit.moc.fits"):
        export_mocs(fit, sky, tmp_path / "new")
    fit["converged"][0] = False
    export_mocs(fit, sky, tmp_path / "new", overwrite=True)
    assert MOC.load(paths[0]) == validity_moc(fit)


def test_a_fit_of_another_sky_makes_no_folder(make_sky, fit, tmp_path):
    with pytest.raises(ResultError, match="nside"):
        export_mocs(fit, make_sky([5, 6], nside=32), tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_without_mocpy(fit, sky, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mocpy", None)
    with pytest.raises(ConfigurationError, match=r"mocpy.*pip install 'pymcdust\[exchange\]'"):
        export_mocs(fit, sky, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("order", [1, 30])
def test_impossible_orders(fit, order):
    with pytest.raises(ConfigurationError, match=f"max_order is {order}; allowed are 2.*29"):
        validity_moc(fit, max_order=order)


def test_what_is_neither_fit_nor_sky(fit):
    with pytest.raises(ResultError, match="lacks converged"):
        validity_moc(fit.drop_vars("converged"))
    with pytest.raises(ResultError, match="frame are 'nested' and 'fk5'"):
        validity_moc(fit.assign_attrs(frame="fk5"))
