"""Figures of many panels: every word can be read, and they fit into a page."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr

from pymcdust.errors import ResultError
from pymcdust.products import projection
from pymcdust.products.figure_files import save_figure
from pymcdust.products.panels import PAGE_WIDTH, voxel_titles
from pymcdust.products.plots import (
    plot_emission,
    plot_parameters,
    plot_reddening,
    plot_temperature,
    plot_truth,
    plot_zoom,
)

SEVENTEEN = np.r_[0.0, np.geomspace(0.1, 15.0, 17)]
NINE = np.r_[0.0, np.geomspace(0.1, 10.0, 9)]
NOTE = "voxels with a number: edges differ between superpixels"


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    monkeypatch.setattr(projection, "RESOLUTION", 60)


@pytest.fixture
def nine(make_sky, make_fit):
    """A simulated sky of nine voxels, and its fit."""
    sky = make_sky(np.arange(192), edges=NINE)
    sky["true_temperature"] = ((), 18.0)
    return sky, make_fit(sky)


@pytest.fixture(params=["sky", "patch"])
def seventeen(request, make_sky, make_fit):
    """Seventeen voxels whose edges differ, on the whole sky and in a patch; and a fit."""
    if request.param == "sky":
        sky = make_sky(np.arange(48), SEVENTEEN, nside=8, superpixel_nside=2)
    else:
        sky = make_sky(np.arange(40, 52), SEVENTEEN, nside=64, superpixel_nside=16)
    edges = np.tile(SEVENTEEN, (sky.sizes["superpixel"], 1))
    edges[::2, 1:-1] *= 1.01
    sky["distance_edge"] = (("superpixel", "voxel_edge"), edges)
    sky["true_temperature"] = ((), 18.0)
    return sky, make_fit(sky, rho="per_voxel", beta="per_voxel")


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def words(figure):
    """Return what is written beside and inside maps, and the box of each text [dots]."""
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in [axes.title, *axes.texts] if text.get_text()]
    return [(text.get_text(), text.get_window_extent()) for text in texts]


def check_layout(figure):
    """Check that no words overlap, and that the figure is no wider than a page."""
    for (one, box), (other, another) in combinations(words(figure), 2):
        assert not box.overlaps(another), (one, other)
    assert figure.get_figwidth() <= PAGE_WIDTH + 1e-9
    assert figure.get_tightbbox().width <= PAGE_WIDTH


def note(figure):
    return figure.legends[0].get_title().get_text() if figure.legends else ""


def test_truth_names_columns_and_rows_once(nine):
    sky, fit = nine
    figure = plot_truth(fit, sky)
    check_layout(figure)
    assert figure.get_figheight() < 10
    said = [text for text, _ in words(figure)]
    assert [said.count(what) for what in ("truth", "estimate", "standard deviation")] == [1, 1, 1]
    assert said.count("0.178–0.316\nkpc") == 1
    assert note(figure) == ""


def test_truth_of_voxels_with_different_edges(seventeen):
    sky, fit = seventeen
    for voxels in ([1, 2, 3, 4, 5], None):
        figure = plot_truth(fit, sky, voxels=voxels)
        check_layout(figure)
        assert "voxel 5" in [text for text, _ in words(figure)]
        assert note(figure) == NOTE
        widths = [panel.get_position().width * figure.get_figwidth() for panel in panels(figure)]
        assert min(widths) > 0.9


def test_parameters_of_many_voxels(seventeen):
    _, fit = seventeen
    figure = plot_parameters(fit)
    check_layout(figure)
    assert figure.get_figheight() < 10
    titles = [panel.get_title() for panel in panels(figure)]
    assert titles == 2 * [f"voxel {number}" for number in range(1, 18)]
    assert note(figure) == NOTE
    # Panels this narrow have no room for the labels of a graticule.
    assert all(not panel.texts for panel in panels(figure))


def test_temperature_and_reddening_of_many_voxels(seventeen):
    sky, fit = seventeen
    for figure in (plot_temperature(fit), plot_reddening(sky)):
        check_layout(figure)
        assert note(figure) == NOTE


def test_temperature_and_reddening_of_nine_voxels(nine):
    sky, fit = nine
    for figure in (plot_temperature(fit), plot_reddening(sky)):
        check_layout(figure)
        assert note(figure) == ""
        assert panels(figure)[0].texts


def test_edges_differ_only_where_there_are_any():
    edges = np.array([[0.0, 0.5, 2.0, 2.001], [0.0, 0.5, 3.0, 3.001]])
    fit = xr.Dataset(
        {
            "distance_edge": (("superpixel", "voxel_edge"), edges),
            "n_voxel": ("superpixel", [2, 2]),
        }
    )
    assert voxel_titles(fit, [0, 1]) == (["0–0.5 kpc", "voxel 2"], NOTE)
    assert voxel_titles(fit, [0]) == (["0–0.5 kpc"], "")
    # No superpixel has the third: there are no edges to differ.
    assert voxel_titles(fit, [2]) == (["voxel 3"], "")


def test_the_scale_of_the_truth_holds_the_estimates_too(nine):
    sky, fit = nine
    fit["temperature"][:] = np.linspace(10, 40, fit["temperature"].size).reshape(192, 9)
    figure = plot_truth(fit, sky)
    norm = panels(figure)[0].images[0].norm
    assert norm is panels(figure)[1].images[0].norm
    assert norm.vmin < 18 < 38 < norm.vmax


def extend(figure, label):
    """Return at which ends the colour bar of a label has an arrow."""
    (bar,) = [axes for axes in figure.axes if label in (axes.get_xlabel(), axes.get_ylabel())]
    return bar._colorbar.extend


def test_the_scale_of_the_emission_holds_its_reconstruction_too(make_sky, make_fit):
    sky = make_sky(np.arange(192))
    sky["emission"][:] = 1.0
    fit = make_fit(sky)
    fit["offset"] = fit["offset"] + 50.0
    for figure, label in (
        (plot_emission(fit, sky), "545 GHz\n[MJy/sr]"),
        (plot_zoom(fit, sky), "Emission at 545 GHz [MJy/sr]"),
    ):
        shown = panels(figure)[6:8] if len(panels(figure)) > 3 else panels(figure)[:2]
        drawn = np.concatenate([panel.images[0].get_array().compressed() for panel in shown])
        norm = shown[0].images[0].norm
        assert norm.vmax > 50
        assert (
            extend(figure, label)
            == {
                (False, False): "neither",
                (True, False): "min",
                (False, True): "max",
                (True, True): "both",
            }[bool(drawn.min() < norm.vmin), bool(drawn.max() > norm.vmax)]
        )


def test_a_bar_of_no_value_has_no_numbers(nine):
    _, fit = nine
    fit["converged"][:] = False
    figure = plot_temperature(fit)
    (bar,) = [axes for axes in figure.axes if axes.get_xlabel().startswith("Dust temperature")]
    assert len(bar.get_xticks()) == 0
    assert not bar._colorbar.outline.get_visible()
    figure.draw_without_rendering()
    assert bar.xaxis.get_offset_text().get_text() == ""


def test_the_truth_is_that_of_the_sky_that_was_fitted(nine, make_sky, make_fit):
    sky, fit = nine
    with pytest.raises(ResultError, match="1 of the fit's 192 superpixels are not in the sky: 7"):
        plot_truth(fit, sky.isel(superpixel=np.delete(np.arange(192), 7)))
    others = sky.assign(distance_edge=sky["distance_edge"] * 1.1)
    with pytest.raises(ResultError, match="different distance edges"):
        plot_truth(fit, others)
    with pytest.raises(ResultError, match="nside 16, the sky 32"):
        plot_truth(fit, sky.assign_attrs(superpixel_nside=8, nside=32))
    # The order of superpixels may be another.
    sky["true_temperature"] = ("superpixel", np.linspace(10, 30, 192))
    one, other = (
        panels(plot_truth(fit, there))[0].images[0].get_array()
        for there in (sky, sky.isel(superpixel=slice(None, None, -1)))
    )
    np.testing.assert_array_equal(one, other)


def test_a_file_is_no_wider_than_a_page(nine, tmp_path):
    sky, fit = nine
    for figure in (plot_temperature(fit), plot_truth(fit, sky), plot_reddening(sky)):
        svg = save_figure(figure, tmp_path / "figure.svg").read_text()
        width = float(svg.split('width="')[1].split("pt")[0]) / 72
        assert width <= PAGE_WIDTH
