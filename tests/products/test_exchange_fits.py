"""Headers and partial skies, as healpy and astropy read them."""

import json
from datetime import datetime
from importlib.metadata import version

import healpy as hp
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable.ucd import parse_ucd
from astropy.table import Table

from pymcdust.errors import ConfigurationError
from pymcdust.products.contents import band_ucd, emission_ucd
from pymcdust.products.maps import export_maps

SUPERPIXELS = [5, 6, 7, 40, 41, 100]


@pytest.fixture
def padded(sky, make_fit):
    """Return a fit with every kind of column, and its sky, where two superpixels have padding."""
    sky["n_voxel"] = ("superpixel", [2, 1, 2, 2, 1, 2])
    edges = np.array([0.0, 0.5, 2.0]) * np.linspace(1, 2, 6)[:, None]
    sky["distance_edge"] = (("superpixel", "voxel_edge"), edges)
    fit = make_fit(sky, offset="per_superpixel", rho="over_sky")
    fit["beta"].attrs["long_name"] = "beta"
    attrs = {"tying": "hyperparameter", "unit": "K", "long_name": "temperature_mu"}
    fit["temperature_mu"] = ((), 18.0, attrs)
    fit["temperature_mu_sd"] = ((), 0.5, {"unit": "K"})
    return fit, sky


def test_healpy_reads_partial_maps_of_parameters(fit, sky, tmp_path):
    fit["flag"][2] = 2
    full = export_maps(fit, sky, tmp_path / "full")[0]
    partial = export_maps(fit, sky, tmp_path / "partial", coverage="partial")[0]
    names = Table.read(full).colnames
    for number, name in enumerate(names):
        expected = np.asarray(hp.read_map(full, field=number, nest=True), float)
        if name in ("N_DATA", "FLAG", "CONVERGED"):
            # An integer cannot be UNSEEN in a full map; in a partial one it is not there.
            expected[np.setdiff1d(np.arange(192), SUPERPIXELS)] = hp.UNSEEN
        read = hp.read_map(partial, field=number, nest=True, partial=True)
        np.testing.assert_array_equal(read, expected.astype(read.dtype))
    assert np.count_nonzero(read != hp.UNSEEN) == 6


def test_healpy_reads_partial_maps_of_emission(fit, sky, tmp_path):
    sky["valid"][0, 3] = False
    fit = fit.isel(superpixel=[0, 1, 4])
    full = export_maps(fit, sky, tmp_path / "full")[1:]
    partial = export_maps(fit, sky, tmp_path / "partial", coverage="partial")[1:]
    for one, other in zip(full, partial, strict=True):
        maps = hp.read_map(other, field=None, nest=True)
        np.testing.assert_array_equal(maps, hp.read_map(one, field=None, nest=True))
        assert (maps != hp.UNSEEN).sum(axis=1).tolist() == [3 * 16 - 1] * 3
        # Only what was fitted costs disk.
        assert other.stat().st_size < one.stat().st_size


def test_astropy_finds_the_direction_of_a_row(fit, sky, tmp_path):
    table = Table.read(export_maps(fit, sky, tmp_path, coverage="partial")[0])
    row = table[4]
    lon, lat = hp.pix2ang(table.meta["NSIDE"], row["PIXEL"], nest=True, lonlat=True)
    # COORDSYS is G: the direction is Galactic, whatever the frame of the one who asks.
    asked = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs.galactic
    superpixel = hp.ang2pix(4, asked.l.deg, asked.b.deg, nest=True, lonlat=True)
    assert row["BETA"] == np.float32(fit["beta"].sel(superpixel=superpixel))
    assert table["PIXEL"].tolist() == SUPERPIXELS
    assert not table.has_masked_values


@pytest.mark.parametrize(
    ("coverage", "scheme", "sky_object", "grain", "present", "absent"),
    [
        ("full", "IMPLICIT", "FULLSKY", 0, {"FIRSTPIX": 0, "LASTPIX": 191}, ["OBS_NPIX"]),
        ("partial", "EXPLICIT", "PARTIAL", 1, {"OBS_NPIX": 6}, ["FIRSTPIX", "LASTPIX"]),
    ],
)
def test_indices_are_declared(
    fit, sky, tmp_path, coverage, scheme, sky_object, grain, present, absent
):
    paths = export_maps(fit, sky, tmp_path, coverage=coverage)
    header = fits.getheader(paths[0], 1)
    found = [header[key] for key in ("PIXTYPE", "ORDERING", "NSIDE", "COORDSYS")]
    assert found == ["HEALPIX", "NESTED", 4, "G"]
    assert [header[key] for key in ("INDXSCHM", "OBJECT", "GRAIN")] == [scheme, sky_object, grain]
    assert {key: header[key] for key in present} == present
    assert not [key for key in absent if key in header]
    emission = fits.getheader(paths[1], 1)
    if coverage == "partial":
        assert (emission["OBS_NPIX"], emission["NAXIS2"]) == (6 * 16, 6 * 16)
    else:
        assert (emission["LASTPIX"], emission["NAXIS2"]) == (12 * 16**2 - 1, 12 * 16**2)


@pytest.mark.parametrize("coverage", ["full", "partial"])
def test_every_column_has_unit_ucd_and_description(padded, tmp_path, coverage):
    fit, sky = padded
    for path in export_maps(fit, sky, tmp_path, coverage=coverage):
        with fits.open(path) as file:
            file.verify("exception")
            header = file[1].header
        for number in range(1, header["TFIELDS"] + 1):
            name = header[f"TTYPE{number}"]
            parse_ucd(header[f"TUCD{number}"], True, True)
            assert header[f"TCOMM{number}"]
            unit = header.get(f"TUNIT{number}")
            if unit is not None:
                u.Unit(unit, format="fits")
            expected = {
                "TEMPERATURE": "K",
                "RHO": "mag-1",
                "OFFSET": "MJy/sr",
                "DISTANCE": "kpc",
                "OBSERVED": "MJy/sr",
                "RECONSTRUCTED": "MJy/sr",
                "RESIDUAL": "MJy/sr",
            }.get(name.split("_")[0])
            assert unit == expected, name


def test_words_of_the_columns(padded, tmp_path):
    fit, sky = padded
    header = fits.getheader(export_maps(fit, sky, tmp_path)[0], 1)
    words = {
        header[f"TTYPE{number}"]: (header[f"TUCD{number}"], header[f"TCOMM{number}"])
        for number in range(1, header["TFIELDS"] + 1)
    }
    assert words["TEMPERATURE_01"] == ("phys.temperature", "dust temperature, voxel 1")
    assert words["BETA_SD"] == (
        "stat.error;spect.index",
        "standard deviation of emissivity index beta",
    )
    assert words["RHO"][1] == "optical depth at 353 GHz per reddening"
    assert words["OFFSET_545"] == (
        "instr.offset;phot.flux.density.sb;em.mm.400-750GHz",
        "offset of the emission, band 545",
    )
    assert words["TEMPERATURE_MU"] == ("stat.fit.param", "temperature_mu")
    assert words["DISTANCE_EDGE_02"] == ("pos.distance", "distance of voxel edge, voxel edge 2")


def test_voxels_are_told_by_their_distance(fit, sky, tmp_path):
    header = fits.getheader(export_maps(fit, sky, tmp_path)[0], 1)
    assert header["TCOMM2"] == "dust temperature, 0.5 to 2 kpc"


def test_ucd_of_frequencies():
    assert band_ucd(217.0) == "em.mm.200-400GHz"
    assert band_ucd(857.0) == "em.mm.750-1500GHz"
    assert band_ucd(143.0) == band_ucd(4997.0) == ""
    assert emission_ucd("observed", 143.0) == "phot.flux.density.sb"


def test_padding_is_no_estimate(padded, tmp_path):
    fit, sky = padded
    table = Table.read(export_maps(fit, sky, tmp_path, coverage="partial")[0])
    padding = np.isin(table["PIXEL"], [6, 100])  # n_voxel is given in the order of the sky.
    assert table["N_VOXEL"].tolist() == np.where(padding, 1, 2).tolist()
    for name in ("TEMPERATURE_01", "TEMPERATURE_SD_01", "DISTANCE_EDGE_02"):
        np.testing.assert_array_equal(table[name] == np.float32(hp.UNSEEN), padding)
    for name in ("TEMPERATURE_00", "DISTANCE_EDGE_01", "OFFSET_353", "BETA"):
        assert np.all(table[name] > -1e30)


def test_an_unknown_error_is_unseen(fit, sky, tmp_path):
    fit["beta_sd"][0] = np.nan
    number = Table.read(export_maps(fit, sky, tmp_path)[0]).colnames.index("BETA_SD")
    read = hp.read_map(tmp_path / "parameters.fits", field=number, nest=True)
    assert read[5] == np.float32(hp.UNSEEN)
    assert np.isfinite(read).all()


@pytest.mark.parametrize("coverage", ["full", "partial"])
def test_headers_tell_where_the_data_come_from(fit, sky, tmp_path, coverage):
    fit.attrs |= {"versions": '{"numpy": "2.0"}', "configuration": '{"nside": 16}'}
    for path in export_maps(fit, sky, tmp_path, coverage=coverage):
        header = fits.getheader(path, 1)
        datetime.strptime(header["DATE"], "%Y-%m-%dT%H:%M:%S")
        assert header["ORIGIN"] == "pymcdust"
        assert header["CREATOR"] == f"pymcdust {version('pymcdust')}"
        assert len(header["REFERENC"]) == 19  # a bibcode
        assert header["MODEL"] == fit.attrs["model"]
        assert json.loads(header["MODELDEF"]) == json.loads(fit.attrs["model_definition"])
        assert json.loads(header["FILES"]) == json.loads(fit.attrs["files"])
        assert json.loads(header["VERSIONS"]) == {"numpy": "2.0"}
        assert json.loads(header["CONFIG"]) == {"nside": 16}


def test_unknown_coverage(fit, sky, tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"unknown coverage 'part'.*did you mean 'partial'"
    ):
        export_maps(fit, sky, tmp_path / "maps", coverage="part")
    assert not (tmp_path / "maps").exists()
