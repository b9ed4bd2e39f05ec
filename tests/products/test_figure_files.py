import zlib

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure

from pymcdust.errors import ConfigurationError
from pymcdust.products import figure_files, projection
from pymcdust.products.figure_files import save_figure, save_figures
from pymcdust.products.plots import plot_reddening, save_plots


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    monkeypatch.setattr(projection, "RESOLUTION", 100)
    monkeypatch.setattr(figure_files, "DOTS_PER_INCH", 30)


@pytest.fixture
def sky(make_sky):
    return make_sky(np.arange(12, 192))


def test_all_figures_of_a_fit(sky, make_fit, tmp_path):
    paths = save_plots(make_fit(sky), sky, tmp_path / "new")
    assert [path.name for path in paths] == [
        "parameters.png",
        "temperature.png",
        "emission.png",
        "residual.png",
        "reddening.png",
    ]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_the_figure_of_the_truth_is_saved_for_a_simulated_sky(make_fit, sky, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: path.write_bytes(b""))
    sky["true_temperature"] = ((), 18.0)
    names = [path.name for path in save_plots(make_fit(sky), sky, tmp_path)]
    assert "truth.png" in names


def test_all_figures_share_a_view(make_fit, sky, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, **_: (seen.append(self), path.write_bytes(b""))
    )
    sky["true_temperature"] = ((), 18.0)
    view = {"center": (100.0, 0.0), "radius": 30.0}
    save_plots(make_fit(sky), sky, tmp_path, **view, voxels=[2])
    maps = [[axes for axes in figure.axes if axes.images] for figure in seen]
    assert [len(panels) for panels in maps] == [2, 1, 16, 6, 1, 3]
    half = np.degrees(np.tan(np.radians(30)))
    for panels in maps:
        for panel in panels:
            np.testing.assert_allclose(
                panel.images[0].get_extent(), np.array([-1, 1, -1, 1]) * half
            )


def test_every_format_is_saved(sky, make_fit, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: path.write_bytes(b""))
    paths = save_plots(make_fit(sky), sky, tmp_path, formats=("png", "pdf"))
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert len(paths) == 10
    assert {path.suffix for path in paths} == {".png", ".pdf"}


def test_unknown_format(fit, sky, tmp_path):
    with pytest.raises(ConfigurationError, match=r"unknown format of figures 'pgn'.*'png'"):
        save_plots(fit, sky, tmp_path / "new", formats=("pgn",))
    for name in ("figure", "figure.pgn"):
        with pytest.raises(ConfigurationError, match="unknown format of figures"):
            save_figure(Figure(), tmp_path / "new" / name)
    assert not (tmp_path / "new").exists()


def test_a_failure_leaves_no_half_of_the_figures(make_fit, sky, tmp_path, monkeypatch):
    def savefig(self, path, **_):
        if path.name == "emission.png":
            raise OSError("disk full")
        path.write_bytes(b"new")

    (tmp_path / "temperature.png").write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", savefig)
    with pytest.raises(OSError, match="disk full"):
        save_plots(make_fit(sky), sky, tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_text_of_vector_graphics_stays_text_and_maps_are_images(sky, tmp_path):
    before = dict(rcParams)
    figure = plot_reddening(sky)
    svg = save_figure(figure, tmp_path / "reddening.svg").read_text()
    assert ">0.5–2 kpc</text>" in svg
    assert svg.count("<image ") == 3  # two maps and a colour bar
    pdf = save_figure(figure, tmp_path / "reddening.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, which can be searched and edited
    assert pdf.count(b"/Subtype /Image") >= 2
    assert dict(rcParams) == before


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_the_same_figure_gives_the_same_bytes(sky, tmp_path, suffix):
    first, again = (
        save_figure(plot_reddening(sky), tmp_path / f"{name}.{suffix}").read_bytes()
        for name in ("first", "again")
    )
    assert zlib.crc32(first) == zlib.crc32(again)


def test_large_figures_have_fewer_dots_to_the_inch(tmp_path, monkeypatch):
    monkeypatch.setattr(figure_files, "DOTS_PER_INCH", 300)
    used = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, dpi, **_: (used.append(dpi), path.write_bytes(b""))
    )
    save_figures({"small": Figure((3, 2)), "large": Figure((7, 9))}, tmp_path)
    assert used[0] == 300
    assert used[1] ** 2 * 63 == pytest.approx(figure_files.MOST_POINTS)
