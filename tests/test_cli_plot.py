"""``pymcdust plot``, as a user meets it: all figures, or one of them."""

import shutil

import matplotlib.image
import numpy as np
import pytest

import pymcdust
from pymcdust.products import projection
from pymcdust.products.figures_emission import plot_zoom
from pymcdust.sky.store import open_store

FIRST = "the first superpixel"


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    monkeypatch.setattr(projection, "RESOLUTION", 100)


@pytest.fixture(scope="module")
def folder(skies, tmp_path_factory):
    """A folder with a small simulated sky, a fit and a posterior."""
    folder = shutil.copytree(skies, tmp_path_factory.mktemp("plot") / "skies")
    sky = pymcdust.open_sky(folder / "sky.zarr")
    pymcdust.sample(
        "temperature_per_voxel",
        sky,
        out=folder / "posterior.zarr",
        method="laplace",
        superpixel=sky.superpixel.values[:2].tolist(),
        draws=100,
        rounds=2,
        seed=1,
    )
    return folder


@pytest.mark.parametrize("named", [[], ["all"]])
def test_all_figures_need_no_name(run, folder, tmp_path, named):
    words = [*named, folder / "fit.zarr", folder / "sky.zarr"]
    status, out, _ = run(
        "plot", *words, "--out", tmp_path / "figures", "--format", "svg", "--voxel", 1
    )
    assert status == 0
    assert "6 figures" in out
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {
        f"{name}.svg"
        for name in ("parameters", "temperature", "emission", "residual", "reddening", "truth")
    }
    assert "0.5–2 kpc" not in (tmp_path / "figures" / "temperature.svg").read_text()


def test_all_figures_with_options_first(run, folder, tmp_path):
    view = ["--center", 100, 10, "--radius", 9]
    words = ["--out", tmp_path, *view, folder / "fit.zarr", folder / "sky.zarr"]
    assert run("plot", *words)[0] == 0
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reddening", "sky.zarr", "--voxel", "2"], "0.5–2 kpc"),
        (["emission", "fit.zarr", "sky.zarr"], "Reconstructed"),
        (["residual", "fit.zarr", "sky.zarr"], "217 GHz: rms"),
        (["zoom", "fit.zarr", "sky.zarr", "--center", "100", "10", "--radius", "9"], "at 545 GHz"),
        (["zoom", "fit.zarr", "sky.zarr", "--band", "857"], "at 857 GHz"),
        (["parameters", "fit.zarr"], "Emissivity index"),
        (["temperature", "fit.zarr"], "0–0.5 kpc"),
        (["sightline", "sky.zarr", "--superpixel", "{}", "--cloud", "0.38"], ">0.38 kpc<"),
        (["sightline", "sky.zarr", "--superpixel", "{}", "--cut", "0", "--cut", "1"], "cut 0–1"),
        (["corner", "posterior.zarr", "--superpixel", "{}", "--fit", "fit.zarr"], "MAP"),
        (["corner", "posterior.zarr", "--superpixel", "{}", "--truth", "sky.zarr"], "truth"),
    ],
)
def test_one_figure(run, folder, tmp_path, words, said):
    first = int(pymcdust.open_sky(folder / "sky.zarr").superpixel[0])
    words = [folder / word if word.endswith(".zarr") else word.format(first) for word in words]
    status, out, _ = run("plot", *words, "--out", tmp_path / "figure.svg")
    assert status == 0
    assert "figure.svg" in out
    assert [path.name for path in tmp_path.iterdir()] == ["figure.svg"]
    assert said in (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize("words", [["reddening", "sky.zarr"], ["temperature", "fit.zarr"]])
def test_one_voxel(run, folder, tmp_path, words):
    status, _, _ = run(
        "plot", words[0], folder / words[1], "--voxel", 2, "--out", tmp_path / "figure.svg"
    )
    assert status == 0
    drawn = (tmp_path / "figure.svg").read_text()
    assert "0.5–2 kpc" in drawn
    assert "0–0.5 kpc" not in drawn


def test_the_command_line_draws_what_python_draws(run, folder, tmp_path):
    where = ["--center", 100, 10, "--radius", 9, "--band", 353]
    run(
        "plot",
        "zoom",
        folder / "fit.zarr",
        folder / "sky.zarr",
        *where,
        "--out",
        tmp_path / "a.png",
    )
    fit, sky = open_store(folder / "fit.zarr"), pymcdust.open_sky(folder / "sky.zarr")
    figure = plot_zoom(fit, sky, center=(100, 10), radius=9, band="353")
    pymcdust.products.figure_files.save_figure(figure, tmp_path / "b.png")
    drawn = [matplotlib.image.imread(tmp_path / f"{name}.png") for name in "ab"]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # Before anything is opened, let alone drawn.
        (["reddening", "{}/nowhere.zarr", "--out", "{}/x.pgn"], "did you mean 'png'"),
        (["reddening", "{}/fit.zarr", "--out", "{}/x.png"], "reddening"),
        (["reddenin", "{}/sky.zarr", "--out", "{}/x.png"], "no such file"),
        (["zoom", "{}/fit.zarr", "{}/sky.zarr", "--center", "0", "0", "--out", "{}/x.png"], "both"),
        (["temperature", "{}/fit.zarr", "--voxel", "3", "--out", "{}/x.png"], "to 2"),
        (["sightline", "{}/sky.zarr", "--out", "{}/x.png"], "choose it by superpixel"),
        (["corner", "{}/fit.zarr", "--out", "{}/x.png"], "posterior"),
        (
            [
                "sightline",
                "{}/sky.zarr",
                "--superpixel",
                FIRST,
                "--cloud",
                "9",
                "--out",
                "{}/x.png",
            ],
            "cloud '9 kpc' is at 9 kpc",
        ),
    ],
)
def test_what_is_wrong_is_one_message_and_no_file(run, folder, words, said):
    before = sorted(path.name for path in folder.iterdir())
    first = int(pymcdust.open_sky(folder / "sky.zarr").superpixel[0])
    words = [first if word is FIRST else word.format(folder) for word in words]
    status, _, err = run("plot", *words)
    assert status == 2
    assert err.startswith("error: ")
    assert said in err
    assert sorted(path.name for path in folder.iterdir()) == before
