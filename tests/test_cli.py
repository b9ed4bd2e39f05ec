"""The command line, as a user meets it: what it makes, what it says, how it fails."""

import json
import subprocess
import sys
from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from planted import Planted
from typer.testing import CliRunner

import pymcdust
from pymcdust import cli, terminal
from pymcdust.commands.options import read_setting
from pymcdust.sky.store import open_store

MODEL = '''
from pymcdust import Prior, VoxelMBB, fixed, per_superpixel, per_voxel

class Mine(VoxelMBB):
    """Mine."""

    temperature = per_voxel(Prior("Normal", mu=18.0, sigma=2.0), unit="K")
    beta = fixed(1.6)
    rho = per_superpixel(Prior("LogNormal", mu=-9.2, sigma=1.0), unit="mag-1")
    offset = fixed(0.0, unit="MJy/sr")
'''


def test_the_road_from_a_simulation_to_maps_and_figures(run, tmp_path):
    sky, fit = tmp_path / "sky.zarr", tmp_path / "fit.zarr"
    geometry = ["--nside", 32, "--superpixel-nside", 4, "--center", 100, 10, "--radius", 15]
    edges = ["--edge", 0, "--edge", 0.5, "--edge", 2]
    status, out, _ = run("simulate", "--out", sky, *geometry, *edges, "--seed", 3)
    assert status == 0
    assert "pymcdust fit" in out
    status, out, _ = run("fit", sky, "--out", fit, "--model", "single_temperature")
    assert status == 0
    assert "converged" in out
    assert "superpixels/s" in out

    status, _, _ = run("export", fit, sky, "--out", tmp_path / "maps")
    assert status == 0
    exported = hp.read_map(tmp_path / "maps" / "parameters.fits", nest=True)
    opened = pymcdust.open_sky(sky)
    fitted = exported[opened.superpixel.values]
    assert np.all(fitted != hp.UNSEEN)
    assert np.count_nonzero(exported != hp.UNSEEN) == opened.sizes["superpixel"]

    status, _, _ = run("plot", fit, sky, "--out", tmp_path / "figures", "--format", "svg")
    assert status == 0
    assert (tmp_path / "figures" / "truth.svg").is_file()


def test_a_model_in_a_file(run, skies, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MODEL)
    status, out, _ = run("fit", skies / "sky.zarr", "--out", tmp_path / "f.zarr", "--model", file)
    assert status == 0
    status, out, _ = run("info", tmp_path / "f.zarr")
    assert status == 0
    assert "mine" in out


def test_simulated_temperatures_on_a_given_reddening(run, skies, tmp_path):
    reddening = ["--reddening", skies / "sky.zarr"]
    status, _, _ = run("simulate", "--out", tmp_path / "s.zarr", *reddening, "--seed", 5)
    assert status == 0
    given, made = pymcdust.open_sky(skies / "sky.zarr"), pymcdust.open_sky(tmp_path / "s.zarr")
    np.testing.assert_array_equal(made.reddening, given.reddening)
    assert not np.allclose(made.emission, given.emission)


def test_models_prints_the_whole_gallery(run):
    status, out, _ = run("models")
    assert status == 0
    for name in pymcdust.models.available():
        assert name in out
    assert "11 free parameters per superpixel of 9 voxels" in out
    assert "and some over the sky" in out


def test_one_model(run):
    status, out, _ = run("models", "all_per_voxel", "--voxels", 2)
    assert status == 0
    assert "6 free parameters per superpixel of 2 voxels" in out
    assert "single_temperature" not in out


def test_the_road_from_a_sky_to_a_report(run, skies, tmp_path):
    out = tmp_path / "posterior.zarr"
    opened = pymcdust.open_sky(skies / "sky.zarr")
    chosen = [int(index) for index in opened.superpixel.values[:2]]
    which = [word for index in chosen for word in ("--superpixel", index)]
    status, told, _ = run(
        "sample", skies / "sky.zarr", "--out", out, "--method", "laplace", *which,
        "--set", "draws=300", "--set", "rounds = 4", "--seed", 3,
    )  # fmt: skip
    assert status == 0
    assert "worst R-hat" in told
    assert "pymcdust report" in told
    posterior = pymcdust.open_posterior(out)
    assert dict(posterior.posterior.sizes)["draw"] == 300
    assert list(posterior.posterior.superpixel) == chosen
    expected = pymcdust.sample(
        "temperature_per_voxel", opened, method="laplace", superpixel=chosen, draws=300, rounds=4,
        seed=3,
    )  # fmt: skip
    assert (posterior.posterior.beta == expected.posterior.beta).all()

    status, told, _ = run("info", out)
    assert status == 0
    assert "a posterior of" in told
    assert "pareto_k" in told

    status, told, _ = run("report", out, "--out", tmp_path / "report.html")
    assert status == 0
    assert "<!doctype html>" in (tmp_path / "report.html").read_text().lower()
    status, _, err = run("report", out, "--out", tmp_path / "report.html")
    assert status == 2
    assert "already holds report.html" in err


def test_compare_and_sensitivity(run, skies, tmp_path):
    sky = pymcdust.open_sky(skies / "sky.zarr").isel(superpixel=slice(0, 4))
    pymcdust.save_sky(sky, tmp_path / "sky.zarr")
    out = tmp_path / "comparison.zarr"
    mine = tmp_path / "mine.py"
    mine.write_text(MODEL)
    words = ["compare", tmp_path / "sky.zarr", "single_temperature", mine, "--out", out]
    words += ["--method", "laplace", "--set", "draws=500", "--folds", "4", "--seed", "2"]
    status, told, err = run(*words)
    assert (status, err) == (0, "")
    assert "Compared with single_temperature" in told
    assert f"pymcdust report {out}" in told
    comparison = pymcdust.open_comparison(out)
    assert comparison.model.values.tolist() == ["single_temperature", "mine"]
    drawn = tmp_path / "comparison.zarr.posteriors"
    expected = pymcdust.compare(
        [drawn / "single_temperature.zarr", drawn / "mine.zarr"], sky, folds=4, seed=2
    )
    np.testing.assert_allclose(comparison.elpd, expected.elpd, rtol=1e-8)
    assert "a comparison of" in run("info", out)[1]
    page = tmp_path / "comparison.html"
    status, _, _ = run("report", out, "--out", page, "--reference", "mine")
    assert status == 0
    assert "minus that of mine" in page.read_text()

    words = ["sensitivity", drawn / "mine.zarr", "--out", tmp_path / "s.zarr"]
    status, told, _ = run(*words, "--figures", tmp_path / "figures")
    assert status == 0
    assert "temperature, voxel 1" in told
    assert (tmp_path / "figures" / "prior_dominated_temperature.png").is_file()
    words[-1] = tmp_path / "study.zarr"
    vary = ["--vary", "temperature.mu=17,19", "--vary", "rho.sigma=0.5"]
    status, told, _ = run(*words, *vary, "--figures", tmp_path / "figures")
    assert status == 0
    assert (tmp_path / "figures" / "tornado.png").is_file()
    study = open_store(tmp_path / "study.zarr")
    assert study.sizes["prior"] == 4
    assert study.attrs["model"] == "mine"
    for store, kind in (("s", "sensitivity"), ("study", "study of priors")):
        assert f"a {kind} of" in run("info", tmp_path / f"{store}.zarr")[1]
        status, _, err = run("report", tmp_path / f"{store}.zarr", "--out", tmp_path / "s.html")
        assert status == 2
        assert f"no report of a {kind}" in err
    words[-1] = tmp_path / "other.zarr"
    for wrong in ("temperature=3", "temperature.mu", "temperature.mu=warm"):
        status, _, err = run(*words, "--vary", wrong)
        assert status == 2
        assert "NAME.NUMBER=VALUE" in err


def as_toml(section, name=""):
    """Write a configuration as TOML."""
    tables = {key: value for key, value in section.items() if isinstance(value, dict)}
    lines = [f"[{name}]"] if name else []
    for key, value in section.items():
        if key not in tables:
            lines.append(f"{key} = {json.dumps(str(value) if isinstance(value, Path) else value)}")
    for key, table in tables.items():
        lines.append(as_toml(table, f"{name}.{key}" if name else key))
    return "\n".join(lines)


def test_prepare_and_its_report(run, tmp_path):
    planted = Planted(tmp_path)
    toml, out, page = (tmp_path / name for name in ("sky.toml", "sky.zarr", "sky.zarr.html"))
    toml.write_text(as_toml(planted.configuration()))
    page.write_text("mine")
    status, told, err = run("prepare", toml, "--out", out)
    assert status == 2
    assert f"{page}, where the report goes, exists already" in err
    assert page.read_text() == "mine"
    assert not out.exists()
    status, told, _ = run("prepare", toml, "--out", out, "--overwrite")
    assert status == 0
    assert "44 superpixels; left out: 0 too poorly covered, 4 outside the maps" in told
    # The emission was drawn at random: it does not follow the reddening.
    assert "the report warns: " in told
    assert "<!doctype html>" in page.read_text().lower()


def test_names_of_files_are_no_markup():
    with terminal.console.capture() as captured:
        terminal.made("The [bold]sky[/]", Path("sky[/x][bold].zarr"), "look")
    assert "The [bold]sky[/] in sky[/x][bold].zarr; next: look" in captured.get().replace("\n", "")


def test_settings_are_read_as_what_they_look_like():
    read = [read_setting(word) for word in ("a=5", "b=0.5", "c=true", "d=None", "e=nutpie")]
    assert read == [("a", 5), ("b", 0.5), ("c", True), ("d", None), ("e", "nutpie")]


def test_info_tells_a_sky_from_a_fit(run, skies):
    assert "a sky of" in run("info", skies / "sky.zarr")[1]
    status, out, _ = run("info", skies / "fit.zarr")
    assert status == 0
    assert "a fit of" in out
    assert "temperature_per_voxel" in out
    assert "parameter at bound" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "{}/nowhere.zarr", "--out", "{}/x.zarr"], "no such file"),
        (["fit", "{}/sky.zarr", "--out", "{}/x.zarr", "--model", "al_per_voxel"], "did you mean"),
        (["fit", "{}/sky.zarr", "--out", "{}/x.zarr", "--model", "x.py"], "no file"),
        (["fit", "{}/sky.zarr", "--out", "{}/fit.zarr"], "exists already"),
        (["fit", "{}/fit.zarr", "--out", "{}/x.zarr"], "reddening"),
        (["fit", "{}/sky.zarr", "--out", "{}/x.zarr", "--starts", "0"], "1 or more"),
        (["prepare", "{}/nowhere.toml", "--out", "{}/x.zarr"], "nowhere.toml"),
        (["simulate", "--out", "{}/x.zarr", "--nside", "100"], "power of"),
        (["simulate", "--out", "{}/x.zarr", "--radius", "-1", "--center", "0", "0"], "radius"),
        (["simulate", "--out", "{}/sky.zarr", "--nside", "16"], "exists already"),
        (
            ["simulate", "--out", "{}/x.zarr", "--reddening", "{}/sky.zarr", "--nside", "16"],
            "together with nside",
        ),
        (["export", "{}/sky.zarr", "{}/sky.zarr", "--out", "{}/maps"], "temperature"),
        (["plot", "{}/fit.zarr", "{}/fit.zarr", "--out", "{}/figures"], "reddening"),
        (["info", "{}/nowhere.zarr"], "no such file"),
        (
            ["sample", "{}/sky.zarr", "--out", "{}/x.zarr", "--method", "nutz"],
            "did you mean 'nuts'",
        ),
        (["sample", "{}/sky.zarr", "--out", "{}/x.zarr", "--set", "draw=5"], "'draws'"),
        (["sample", "{}/sky.zarr", "--out", "{}/x.zarr", "--set", "draws"], "NAME=VALUE"),
        (["sample", "{}/sky.zarr", "--out", "{}/x.zarr", "--superpixel", "9999"], "9999"),
        (["sample", "{}/sky.zarr", "--out", "{}/fit.zarr"], "exists already"),
        (
            ["report", "{}/fit.zarr", "--out", "{}/report.html"],
            "there is no report of a fit",
        ),
        (["report", "{}/nowhere.zarr", "--out", "{}/report.html"], "no such file"),
        (["compare", "{}/sky.zarr", "single_temperature", "--out", "{}/x.zarr"], "two variants"),
        (
            ["compare", "{}/sky.zarr", *2 * ["single_temperature"], "--out", "{}/x.zarr"],
            "two variants are called single_temperature",
        ),
        (
            ["compare", "{}/sky.zarr", "single_temperature", "{}/fit.zarr", "--out", "{}/x.zarr"],
            "not a posterior but a fit",
        ),
        (["sensitivity", "{}/fit.zarr", "--out", "{}/x.zarr"], "not a posterior but a fit"),
    ],
)
def test_what_is_wrong_is_one_message_and_status_2(run, skies, words, said):
    before = sorted(path.name for path in skies.iterdir())
    status, _, err = run(*(word.format(skies) for word in words))
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert "Traceback" not in err
    assert sorted(path.name for path in skies.iterdir()) == before


@pytest.mark.parametrize("words", [["prepare", "nowhere.toml"], ["simulate"]])
def test_a_place_that_is_taken_is_refused_before_the_work(run, skies, monkeypatch, words):
    monkeypatch.setattr(pymcdust, "simulate_sky", lambda *_, **__: pytest.fail("worked first"))
    status, _, err = run(*words, "--out", skies / "sky.zarr")
    assert status == 2
    assert "exists already" in err


def test_an_unknown_command_is_named(run):
    status, _, err = run("fitt")
    assert status == 2
    assert "fit" in err


def test_help_of_every_command():
    runner = CliRunner()
    for command in cli.COMMANDS:
        result = runner.invoke(cli.app, [command.__name__, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.output


def test_help_keeps_units_in_brackets():
    """Rich would take them for markup."""
    output = CliRunner().invoke(cli.app, ["simulate", "--help"]).output
    assert "[kpc]" in output
    assert "[deg]" in output


def test_the_installed_command_fails_with_status_2(tmp_path):
    done = subprocess.run(
        [Path(sys.executable).with_name("pymcdust"), "info", "nowhere.zarr"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: nowhere.zarr: there is no such file or folder\n"
