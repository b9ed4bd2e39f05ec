"""The command, as it is registered: what it prints, what it writes, what it refuses."""

import re

import healpy as hp
import numpy as np
import pytest
import typer
from astropy.table import Table
from typer.testing import CliRunner

from pymcdust.commands.query import query as command
from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.products.query import DustTemperatureQuery
from pymcdust.sky.dataset import save_sky
from pymcdust.sky.store import write_store

PLACE = (100.0, -10.0)
AWAY = (280.0, 40.0)


@pytest.fixture(scope="module")
def stores(make_sky, make_fit, make_posterior, tmp_path_factory):
    here = hp.ang2pix(4, *PLACE, nest=True, lonlat=True)
    sky = make_sky([here, 5], edges=(0.0, 0.5, 2.0)).assign_coords(
        pixel=np.arange(16), voxel=[0, 1]
    )
    sky = sky.assign_attrs(reddening_unit="bayestar2019")
    fit = make_fit(sky)
    fit["temperature_sd"][0, 1] = 8.9
    fit["converged"][1] = False
    folder = tmp_path_factory.mktemp("query")
    save_sky(sky, folder / "sky.zarr")
    write_store(fit, folder / "fit.zarr", superpixels_per_chunk=4)
    write_store(make_posterior(fit), folder / "posterior.zarr", superpixels_per_chunk=4)
    return folder


@pytest.fixture
def run(stores, monkeypatch):
    """Run the command on the stores; return what it prints, line by line."""
    monkeypatch.setenv("COLUMNS", "160")
    app = typer.Typer()
    app.command()(command)

    def call(*words):
        from pymcdust import terminal

        monkeypatch.setattr(terminal.console, "width", 160)
        paths = [str(stores / "fit.zarr"), str(stores / "sky.zarr")]
        result = CliRunner().invoke(app, paths + [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return call


def rows(output):
    """Return the cells of a printed table, its head first."""
    lines = [re.split(r"[│┃]", line.strip())[1:-1] for line in output.splitlines()]
    return [[cell.strip() for cell in line] for line in lines if len(line) > 3]


def test_all_voxels_of_directions(run, stores):
    held = DustTemperatureQuery(stores / "fit.zarr", stores / "sky.zarr")
    head, near, far, away = rows(run("--at", "100,-10", "--at", "280 40"))
    assert head == ["l [deg]", "b [deg]", "distance [kpc]", "temperature [K]", "beware"]
    expected = held.query_gal(*PLACE)
    assert near == ["100", "-10", "0–0.5", f"{expected[0]:.5g}", ""]
    assert far == ["100", "-10", "0.5–2", f"{expected[1]:.5g}", "prior dominates"]
    assert away == ["280", "40", "–", "nan", "outside the map"]


def test_distances_and_percentiles(run, stores):
    held = DustTemperatureQuery(*(stores / f"{n}.zarr" for n in ("fit", "sky", "posterior")))
    options = ["--posterior", stores / "posterior.zarr", "--mode", "percentile"]
    options += ["--pct", 16, "--pct", 84, "--quantity", "emission", "--frequency", 353]
    output = run("--at", "100,-10", "--distance", 0.7, "--distance", 3, "--cumulative", *options)
    head, here, beyond = rows(output)
    assert head[3:5] == ["emission [MJy/sr] 16 %", "emission [MJy/sr] 84 %"]
    asked = {"quantity": "emission", "frequency": 353, "cumulative": True}
    expected = held.query_gal(*PLACE, 0.7, mode="percentile", pct=[16, 84], **asked)
    assert here[2:5] == ["0.7", *(f"{number:.5g}" for number in expected)]
    assert beyond[2:] == ["3", "nan", "nan", "in no voxel, or without data"]


def test_one_percentile(run, stores, tmp_path):
    held = DustTemperatureQuery(*(stores / f"{n}.zarr" for n in ("fit", "sky", "posterior")))
    options = ["--posterior", stores / "posterior.zarr", "--mode", "percentile", "--pct", 84]
    head, row = rows(run("--at", "100,-10", "--distance", 0.3, *options))
    assert head[3] == "temperature [K] 84 %"
    assert row[3] == f"{held.query_gal(*PLACE, 0.3, mode='percentile', pct=84):.5g}"
    Table({"l": [100.0], "b": [-10.0], "distance": [0.3]}).write(tmp_path / "in.ecsv")
    run("--table", tmp_path / "in.ecsv", "--out", tmp_path / "out.ecsv", *options)
    assert Table.read(tmp_path / "out.ecsv")["temperature_percentile"].shape == (1,)


def test_a_fit_that_stopped_short(run):
    lon, lat = hp.pix2ang(4, 5, nest=True, lonlat=True)
    _, *voxels = rows(run("--at", f"{lon},{lat}"))
    assert [row[-1] for row in voxels] == ["not converged", "not converged"]


def test_table(run, stores, tmp_path):
    source = tmp_path / "in.ecsv"
    table = Table({"l": [PLACE[0], AWAY[0]], "b": [PLACE[1], AWAY[1]], "distance": [0.3, 0.3]})
    table.write(source)
    out = tmp_path / "out.ecsv"
    assert "The table of 2 places" in run("--table", source, "--out", out, "--quantity", "beta")
    found = Table.read(out)
    held = DustTemperatureQuery(stores / "fit.zarr", stores / "sky.zarr")
    expected = held.query_gal(table["l"].data, table["b"].data, 0.3 * np.ones(2), quantity="beta")
    np.testing.assert_allclose(found["beta"], expected)
    assert list(found["beta_in_footprint"]) == [True, False]
    assert "temperature_per_voxel" in found.meta["QUERIES"]
    with pytest.raises(ConfigurationError, match="already holds"):
        run("--table", source, "--out", out)
    run("--table", source, "--out", out, "--overwrite")
    assert "temperature" in Table.read(out).colnames


def test_tables_of_odd_places(run, tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.ecsv"
    source.write_text("l,b\n10,5\n20,96\n")
    with pytest.raises(ConfigurationError, match="latitude is beyond ±90 degrees: 96 in row 1"):
        run("--table", source, "--out", out)
    assert not out.exists()
    for head, ending in (("l,b", "fits"), ("l,b,distance", "ecsv")):
        source.write_text(head + "\n")
        out = tmp_path / f"out.{ending}"
        assert "The table of 0 places" in run("--table", source, "--out", out)
        found = Table.read(out)
        assert len(found) == 0
        assert "temperature" in found.colnames


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "either by --at L,B or by --table"),
        (["--at", "1,2", "--table", "x"], "either by --at"),
        (["--at", "1,2", "--out", "x"], "belong together"),
        (["--table", "x"], "belong together"),
        (["--table", "x", "--out", "y", "--distance", 1], "column 'distance'"),
        (["--at", "1"], "such as 98.4,8.4, not '1'"),
        (["--at", "1,x"], "not '1,x'"),
        (["--at", "1,91"], "beyond ±90"),
        (["--at", "1,2", "--mode", "samples"], "too many to print"),
        (["--at", "1,2", "--mode", "maps"], "did you mean 'map'"),
        (["--at", "1,2", "--pct", 16], "pct is of the mode 'percentile'"),
    ],
)
def test_what_is_refused(run, words, message):
    with pytest.raises(ConfigurationError, match=message):
        run(*words)


def test_without_posterior(run):
    with pytest.raises(ResultError, match="needs a posterior"):
        run("--at", "100,10", "--mode", "mean")
