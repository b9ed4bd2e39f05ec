"""``pymcdust export``: which files it writes, and what it refuses."""

import sys

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from pymcdust import cli
from pymcdust.errors import ConfigurationError
from pymcdust.sky.dataset import save_sky
from pymcdust.sky.store import write_store

FITS = ["parameters.fits", *(f"emission_{band}.fits" for band in (217, 353, 545, 857, 2998))]
ZARR = ["parameters.zarr", "emission.zarr"]
MOC = ["fit.moc.fits", "data.moc.fits"]


@pytest.fixture
def export(make_sky, make_fit, tmp_path):
    """Return a function that runs the command, and what it says of its end."""
    sky = make_sky([5, 6, 40]).assign_coords(pixel=np.arange(16), voxel=np.arange(2))
    sky.attrs["reddening_unit"] = "bayestar2019"
    save_sky(sky, tmp_path / "sky.zarr")
    write_store(make_fit(sky), tmp_path / "fit.zarr", superpixels_per_chunk=3)
    stores = [str(tmp_path / "fit.zarr"), str(tmp_path / "sky.zarr")]

    def run(*options):
        out = ["--out", str(tmp_path / "maps")]
        return CliRunner().invoke(cli.app, ["export", *stores, *out, *options])

    return run


@pytest.mark.parametrize(
    ("formats", "names"),
    [([], FITS), (["zarr"], ZARR), (["moc", "fits", "moc"], FITS + MOC)],
)
def test_formats(export, tmp_path, formats, names):
    result = export(*(word for name in formats for word in ("--format", name)))
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(names)
    for name in formats:
        assert f"({name})" in result.output


def test_coverage(export, tmp_path):
    assert export("--coverage", "partial").exit_code == 0
    assert Table.read(tmp_path / "maps" / "parameters.fits")["PIXEL"].tolist() == [5, 6, 40]
    assert isinstance(export().exception, ConfigurationError)
    assert export("--overwrite").exit_code == 0
    assert len(Table.read(tmp_path / "maps" / "parameters.fits")) == 192


def test_coverage_of_what_has_none(export, tmp_path):
    result = export("--coverage", "partial", "--format", "zarr", "--format", "moc")
    assert isinstance(result.exception, ConfigurationError)
    assert "--coverage is of FITS maps, but --format is zarr and moc" in str(result.exception)
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("there", ["fits", "zarr", "moc"])
def test_all_or_nothing(export, tmp_path, there):
    assert export("--format", there).exit_code == 0
    before = sorted((tmp_path / "maps").iterdir())
    every = [word for name in ("fits", "zarr", "moc") for word in ("--format", name)]
    error = export(*every).exception
    assert isinstance(error, ConfigurationError)
    assert str(before[-1].name) in str(error)
    assert "--overwrite" in str(error)
    assert sorted((tmp_path / "maps").iterdir()) == before
    assert export(*every, "--overwrite").exit_code == 0


@pytest.mark.parametrize("name", ["emission.zarr", "emission_2998.fits", "data.moc.fits"])
def test_what_is_of_another_kind_stops_all(export, tmp_path, name):
    (tmp_path / "maps" / name).mkdir(parents=True)
    every = [word for name in ("fits", "zarr", "moc") for word in ("--format", name)]
    error = export(*every, "--overwrite").exception
    assert isinstance(error, ConfigurationError)
    assert f"{name} is" in str(error)
    assert "will not be overwritten" in str(error)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [name]


def test_without_mocpy_nothing_is_written(export, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mocpy", None)
    error = export("--format", "fits", "--format", "moc").exception
    assert isinstance(error, ConfigurationError)
    assert "mocpy" in str(error)
    assert not (tmp_path / "maps").exists()


def test_unknown_format(export, tmp_path):
    result = export("--format", "hdf5")
    assert result.exit_code == 2
    assert "hdf5" in result.output
    assert "zarr" in result.output
    assert not (tmp_path / "maps").exists()
