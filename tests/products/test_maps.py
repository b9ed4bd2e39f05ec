import json

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.products import contents, healpix_table, provenance, reconstruction
from pymcdust.products.maps import export_maps
from pymcdust.products.reconstruction import reconstruct


def read_columns(path):
    with fits.open(path) as file:
        file.verify("exception")
        table = file[1]
        return {name: np.array(table.data[name]) for name in table.columns.names}, table.header


def test_parameters_come_back(fit, sky, tmp_path):
    fit["flag"][1] = 2
    fit["converged"][1] = False
    paths = export_maps(fit, sky, tmp_path / "new" / "maps")
    assert [path.name for path in paths] == [
        "parameters.fits",
        *(f"emission_{band}.fits" for band in ("217", "353", "545", "857", "2998")),
    ]
    columns, header = read_columns(paths[0])
    expected = {
        "BETA": fit["beta"],
        "BETA_SD": fit["beta_sd"],
        "RHO": fit["rho"],
        "RHO_SD": fit["rho_sd"],
        "OBJECTIVE": fit["objective"],
        "CHI2": fit["chi2"],
        "N_DATA": fit["n_data"],
        "FLAG": fit["flag"],
        "CONVERGED": fit["converged"],
    }
    for voxel in range(2):
        expected[f"TEMPERATURE_{voxel:02d}"] = fit["temperature"][:, voxel]
        expected[f"TEMPERATURE_SD_{voxel:02d}"] = fit["temperature_sd"][:, voxel]
    assert set(columns) == set(expected)
    superpixel = fit["superpixel"].values
    outside = np.setdiff1d(np.arange(192), superpixel)
    for name, values in expected.items():
        np.testing.assert_array_equal(columns[name][superpixel], values.values.astype(np.float32))
        integer = name in ("N_DATA", "FLAG", "CONVERGED")
        np.testing.assert_array_equal(
            columns[name][outside], -1 if integer else np.float32(hp.UNSEEN)
        )
        assert columns[name].dtype.kind == ("i" if integer else "f")
        number = list(columns).index(name) + 1
        unit = "K" if "TEMP" in name else "mag-1" if "RHO" in name else None
        assert header.get(f"TUNIT{number}") == unit


def test_healpy_reads_the_right_direction(fit, sky, tmp_path):
    paths = export_maps(fit, sky, tmp_path)
    number = list(read_columns(paths[0])[0]).index("BETA")
    beta = hp.read_map(paths[0], field=number)  # healpy reorders to RING
    for superpixel, value in zip(fit["superpixel"].values, fit["beta"].values, strict=True):
        direction = hp.pix2ang(4, superpixel, nest=True, lonlat=True)
        assert beta[hp.ang2pix(4, *direction, lonlat=True)] == np.float32(value)


def test_header(fit, sky, tmp_path):
    fit.attrs["reddening_unit"] = "mag × 10"
    fit.attrs["seeds"] = np.array([1, 2])
    path, emission, *_ = export_maps(fit, sky, tmp_path)
    _, header = read_columns(path)
    assert [header[key] for key in ("NSIDE", "ORDERING", "COORDSYS", "PIXTYPE", "INDXSCHM")] == [
        4,
        "NESTED",
        "G",
        "HEALPIX",
        "IMPLICIT",
    ]
    assert [header[f"DEDGE{edge:02d}"] for edge in range(3)] == [0.0, 0.5, 2.0]
    assert "DEDGE03" not in header
    assert header["MODEL"] == "temperature_per_voxel"
    assert json.loads(header["MODELDEF"]) == json.loads(fit.attrs["model_definition"])
    assert header["PYMCDUST"] == "0.1.0"
    assert header["REDDUNIT"] == "mag \\u00d7 10"
    assert json.loads(header["FILES"]) == json.loads(sky.attrs["files"])
    assert json.loads(header["PROVENAN"]) == {"superpixels_kept": 6, "seeds": [1, 2]}
    # Readers differ in how they join an apostrophe, doubled and cut in two.
    assert "'" not in header["FILES"]
    assert "VERSIONS" not in header
    assert header["FIXED offset"] == 0.3
    assert header["FLAG 2"] == "at_bound"
    _, header = read_columns(emission)
    assert (header["NSIDE"], header["BAND"], header["FREQ"]) == (16, "217", 217.0)
    assert header["TUNIT3"] == "MJy/sr"
    assert header["DEDGE02"] == 2.0


def test_emission_comes_back(fit, sky, tmp_path):
    sky["valid"][0, 3] = False
    sky["emission"][0, 3] = np.nan
    fit = fit.isel(superpixel=[0, 1, 2, 4])
    paths = export_maps(fit, sky, tmp_path)
    predicted = reconstruct(fit, sky)
    emission = sky["emission"].sel(superpixel=fit["superpixel"])
    for band, path in enumerate(paths[1:]):
        read = hp.read_map(path, field=(0, 1, 2), nest=None)
        assert read.dtype == np.float32
        expected = np.full((3, 192, 16), hp.UNSEEN)
        superpixel = fit["superpixel"].values
        expected[0, superpixel] = emission[:, :, band]
        expected[1, superpixel] = predicted[:, :, band]
        expected[2, superpixel] = emission[:, :, band] - predicted[:, :, band]
        expected[:, superpixel[0], 3] = hp.UNSEEN
        np.testing.assert_allclose(read, expected.reshape(3, -1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("coverage", ["full", "partial"])
def test_blocks_write_the_same_bytes(fit, sky, tmp_path, monkeypatch, coverage):
    monkeypatch.setattr(provenance, "_now", lambda: "2026-01-01T00:00:00")
    whole = export_maps(fit, sky, tmp_path / "whole", coverage)
    monkeypatch.setattr(reconstruction, "BLOCK_SIZE", 70)
    monkeypatch.setattr(healpix_table, "BLOCK_ROWS", 100)
    blocks = export_maps(fit, sky, tmp_path / "blocks", coverage)
    for one, other in zip(whole, blocks, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_every_pixel_of_a_full_sky_is_written(make_sky, make_fit, tmp_path):
    sky = make_sky(np.arange(192))
    fit = make_fit(sky)
    path = export_maps(fit, sky, tmp_path)[1]
    np.testing.assert_array_equal(
        hp.read_map(path, nest=None), sky["emission"].values[:, :, 0].ravel().astype(np.float32)
    )


@pytest.mark.parametrize("tied", ["per_superpixel", "over_sky"])
def test_free_offsets_have_a_column_for_each_band(make_fit, sky, tmp_path, tied):
    fit = make_fit(sky, offset=tied, beta="over_sky", temperature="fixed")
    columns, header = read_columns(export_maps(fit, sky, tmp_path)[0])
    superpixel = fit["superpixel"].values
    for band in ("217", "2998"):
        np.testing.assert_array_equal(
            columns[f"OFFSET_{band}"][superpixel],
            fit["offset"].sel(band=band).broadcast_like(fit["chi2"]).values.astype(np.float32),
        )
        assert f"OFFSET_SD_{band}" in columns
    np.testing.assert_array_equal(columns["BETA"][superpixel], np.float32(fit["beta"]))
    assert not any(name.startswith("TEMPERATURE") for name in columns)
    assert header["FIXED temperature"] == 18.1


def test_edges_that_differ_between_superpixels_are_columns(make_fit, sky, tmp_path):
    edges = np.array([0.0, 0.5, 2.0]) * np.linspace(1, 2, 6)[:, None]
    sky["distance_edge"] = (("superpixel", "voxel_edge"), edges)
    columns, header = read_columns(export_maps(make_fit(sky), sky, tmp_path)[0])
    assert "DEDGE01" not in header
    np.testing.assert_array_equal(
        columns["DISTANCE_EDGE_02"][sky["superpixel"].values], edges[:, 2].astype(np.float32)
    )


def test_refuses_to_overwrite_unless_told(fit, sky, tmp_path):
    paths = export_maps(fit, sky, tmp_path)
    before = paths[0].read_bytes()
    fit["beta"] = fit["beta"] + 0.1
    with pytest.raises(ConfigurationError, match=r"already holds parameters.fits, .*overwrite"):
        export_maps(fit, sky, tmp_path)
    assert paths[0].read_bytes() == before
    export_maps(fit, sky, tmp_path, overwrite=True)
    assert paths[0].read_bytes() != before


def test_folder_that_is_a_file(fit, sky, tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(ConfigurationError, match="is a file"):
        export_maps(fit, sky, path, overwrite=True)
    assert path.read_text() == "mine"


def test_a_failure_leaves_nothing_new_and_nothing_lost(fit, sky, tmp_path, monkeypatch):
    paths = export_maps(fit, sky, tmp_path)
    before = [path.read_bytes() for path in paths]

    def broken(*_):
        yield from list(reconstruction.reconstruction_blocks(fit, sky))[:1]
        raise OSError("disk full")

    monkeypatch.setattr(contents, "reconstruction_blocks", broken)
    fit["beta"] = fit["beta"] + 0.1
    with pytest.raises(OSError, match="disk full"):
        export_maps(fit, sky, tmp_path, overwrite=True)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [path.read_bytes() for path in paths] == before
    with pytest.raises(OSError, match="disk full"):
        export_maps(fit, sky, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("name", ["beta_sd", "chi2", "flag"])
def test_a_fit_that_lacks_a_variable_makes_no_folder(fit, sky, tmp_path, name):
    with pytest.raises(ResultError, match=f"the fit lacks {name}"):
        export_maps(fit.drop_vars(name), sky, tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_a_fit_of_another_sky_makes_no_folder(make_sky, fit, tmp_path):
    with pytest.raises(ResultError, match="nside"):
        export_maps(fit, make_sky([5, 6], nside=32), tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
