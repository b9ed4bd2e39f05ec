"""Zarr stores, as xarray and xdggs read them."""

import json
from datetime import datetime
from importlib.metadata import version

import healpy as hp
import numpy as np
import pytest
import xarray as xr
import xdggs
from astropy import units as u
from astropy.io.votable.ucd import parse_ucd

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.products import contents, reconstruction
from pymcdust.products.healpix_zarr import export_zarr
from pymcdust.products.reconstruction import reconstruct

SUPERPIXELS = [5, 6, 7, 40, 41, 100]


@pytest.fixture
def stores(fit, sky, tmp_path):
    return export_zarr(fit, sky, tmp_path / "new" / "maps")


def opened(path):
    return xr.open_zarr(path, chunks=None).pipe(xdggs.decode)


def test_xdggs_finds_the_grid(stores):
    for path, nside, cells in zip(stores, (4, 16), (6, 96), strict=True):
        store = opened(path)
        assert isinstance(store.xindexes["cell_ids"], xdggs.HealpixIndex)
        assert store.dggs.grid_info.nside == nside
        assert store.dggs.grid_info.nest
        assert store.sizes["cells"] == cells
        centres = store.dggs.cell_centers()
        lon, lat = hp.pix2ang(nside, store["cell_ids"].values, nest=True, lonlat=True)
        np.testing.assert_allclose(centres["longitude"], lon, atol=1e-10)
        np.testing.assert_allclose(centres["latitude"], lat, atol=1e-10)
    found = opened(stores[1]).dggs.sel_latlon(np.array([lat[20]]), np.array([lon[20]]))
    assert found["cell_ids"].item() == store["cell_ids"][20]


def test_parameters_come_back(fit, stores):
    store = opened(stores[0])
    assert store["cell_ids"].values.tolist() == SUPERPIXELS
    expected = fit.sel(superpixel=SUPERPIXELS)
    for name in ("temperature", "temperature_sd", "beta", "rho_sd", "chi2", "flag", "converged"):
        assert store[name].dtype in (np.float32, np.int32, bool)
        np.testing.assert_array_equal(store[name], expected[name].values.astype(store[name].dtype))
        assert store[name].dims[0] == "cells"
    np.testing.assert_array_equal(store["distance_edge"], fit["distance_edge"].astype("f4"))
    assert store["offset"].item() == 0.3
    assert store["flag"].attrs["flag_meanings"] == "not_converged at_bound"
    assert store.sel(cell_ids=40)["beta"].item() == np.float32(expected["beta"][3])


def test_emission_comes_back(fit, sky, tmp_path, monkeypatch):
    sky["valid"][0, 3] = False
    monkeypatch.setattr(reconstruction, "BLOCK_SIZE", 160)
    fit = fit.isel(superpixel=[0, 2, 3, 4])
    blocks = list(contents.emission_blocks(fit, sky))
    assert len(blocks) == 2  # or nothing would be appended
    store = opened(export_zarr(fit, sky, tmp_path)[1])
    ordered = fit.sortby("superpixel")
    emission = sky["emission"].where(sky["valid"]).sel(superpixel=ordered["superpixel"])
    predicted = reconstruct(ordered, sky).where(emission.notnull())
    cells = ordered["superpixel"].values[:, None] * 16 + np.arange(16)
    np.testing.assert_array_equal(store["cell_ids"], cells.ravel())
    for name, values in (
        ("observed", emission),
        ("reconstructed", predicted),
        ("residual", emission - predicted),
    ):
        np.testing.assert_allclose(
            store[name], values.values.reshape(-1, 5), rtol=1e-6, atol=1e-5, equal_nan=True
        )
    assert np.isnan(store["residual"]).sum() == 5
    assert store["band"].values.tolist() == sky["band"].values.tolist()
    np.testing.assert_array_equal(store["frequency"], sky["frequency"])


def test_units_are_those_of_astropy(stores):
    units = {}
    for path in stores:
        for name, variable in xr.open_zarr(path, chunks=None).data_vars.items():
            assert variable.attrs["long_name"]
            assert variable.attrs["ucd"]
            units[name] = u.Unit(variable.attrs["units"])
    assert units["temperature"] == units["temperature_sd"] == u.K
    assert units["rho"] == u.mag**-1
    assert units["observed"] == units["residual"] == u.MJy / u.sr
    assert units["distance_edge"] == u.kpc


def test_variables_tell_unit_ucd_and_name(make_fit, sky, tmp_path):
    fit = make_fit(sky, offset="per_superpixel", rho="fixed")
    words = {}
    for path in export_zarr(fit, sky, tmp_path):
        store = xr.open_zarr(path, chunks=None)
        for name in (*store.data_vars, "frequency"):
            attrs = store[name].attrs
            assert {"units", "ucd", "long_name"} <= set(attrs)
            parse_ucd(attrs["ucd"], check_controlled_vocabulary=True)
            words[name] = attrs["ucd"]
        assert store["frequency"].attrs["units"] == "GHz"
        np.testing.assert_array_equal(store["frequency"], sky["frequency"])
    assert words["observed"] == "phot.flux.density.sb;em.mm"
    assert words["reconstructed"] == "phot.flux.density.sb;em.mm;meta.modelled"
    assert words["residual"] == "stat.fit.residual;phot.flux.density.sb;em.mm"
    assert words["offset_sd"] == "stat.error;instr.offset;phot.flux.density.sb;em.mm"
    assert words["temperature"] == "phys.temperature"


def test_bands_of_one_kind_have_its_word(fit, sky, tmp_path):
    alike, unknown = (sky.isel(band=bands) for bands in ([0, 1], [0, 1, 2]))
    unknown["frequency"] = ("band", [217.0, 353.0, 3e4])
    for number, (part, word) in enumerate([(alike, ";em.mm.200-400GHz"), (unknown, "")]):
        path = export_zarr(fit.sel(band=part["band"]), part, tmp_path / str(number))[1]
        ucd = xr.open_zarr(path, chunks=None)["observed"].attrs["ucd"]
        assert ucd == "phot.flux.density.sb" + word


def test_stores_tell_where_the_data_come_from(fit, sky, tmp_path):
    fit.attrs |= {"versions": '{"numpy": "2.0"}', "configuration": '{"nside": 16}'}
    before = fit.copy(deep=True)
    for path in export_zarr(fit, sky, tmp_path):
        attrs = xr.open_zarr(path, chunks=None).attrs
        for name in ("model", "model_definition", "files", "versions", "configuration"):
            assert attrs[name] == fit.attrs[name]
        assert attrs["frame"] == "galactic"
        assert attrs["creator"] == f"pymcdust {version('pymcdust')}"
        datetime.strptime(attrs["date_created"], "%Y-%m-%dT%H:%M:%S")
    xr.testing.assert_identical(fit, before)


def test_padding_is_no_estimate(sky, make_fit, tmp_path):
    sky["n_voxel"] = ("superpixel", [2, 1, 2, 2, 1, 2])
    store = opened(export_zarr(make_fit(sky), sky, tmp_path)[0])
    padding = np.isin(store["cell_ids"], [6, 100])
    np.testing.assert_array_equal(np.isnan(store["temperature"].values[:, 1]), padding)
    assert np.isfinite(store["temperature"].values[:, 0]).all()
    assert store["n_voxel"].values.tolist() == np.where(padding, 1, 2).tolist()


def test_overwrites_when_told(fit, sky, stores):
    fit["beta"] = fit["beta"] + 0.1
    folder = stores[0].parent
    with pytest.raises(ConfigurationError, match=r"already holds parameters.zarr.*overwrite"):
        export_zarr(fit, sky, folder)
    export_zarr(fit, sky, folder, overwrite=True)
    beta = fit["beta"].sortby("superpixel").values.astype(np.float32)
    np.testing.assert_array_equal(opened(stores[0])["beta"], beta)
    assert sorted(folder.iterdir()) == sorted(stores)


def test_does_not_overwrite_what_is_no_store(fit, sky, tmp_path):
    (tmp_path / "emission.zarr").mkdir()
    (tmp_path / "emission.zarr" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not a Zarr store"):
        export_zarr(fit, sky, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["emission.zarr"]
    assert (tmp_path / "emission.zarr" / "mine.txt").read_text() == "mine"


def test_a_failure_leaves_the_old_stores(fit, sky, stores, monkeypatch):
    folder = stores[0].parent
    before = json.loads((stores[0] / "zarr.json").read_text())

    def broken(*_):
        yield from list(reconstruction.reconstruction_blocks(fit, sky))[:1]
        raise OSError("disk full")

    monkeypatch.setattr(contents, "reconstruction_blocks", broken)
    with pytest.raises(OSError, match="disk full"):
        export_zarr(fit, sky, folder, overwrite=True)
    assert sorted(folder.iterdir()) == sorted(stores)
    assert json.loads((stores[0] / "zarr.json").read_text()) == before


def test_a_fit_of_another_sky_makes_no_folder(make_sky, fit, tmp_path):
    with pytest.raises(ResultError, match="nside"):
        export_zarr(fit, make_sky([5, 6], nside=32), tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
