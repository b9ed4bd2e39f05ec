from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure

from pymcdust.errors import ResultError
from pymcdust.products.sightline import plot_sightline
from pymcdust.sky.morphology import mock_reddening

EDGES = np.geomspace(0.1, 4.0, 20)


@pytest.fixture
def thin():
    """Two superpixels cut into thin voxels."""
    return mock_reddening(
        nside=64, superpixel_nside=8, superpixels=[368, 369], distance_edge=[0.0, *EDGES]
    )


def test_the_sightline_shows_the_mean_of_every_voxel(thin):
    thin = thin.assign(valid=(("superpixel", "pixel"), np.ones((2, 64), bool)))
    thin["valid"][1, :10] = False
    figure = plot_sightline(thin, 369, cuts=[0, 0.841, 3.758], clouds={"Cepheus": 0.38})
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    steps = [patch for patch in axes.patches if hasattr(patch, "get_data")]
    mean = thin["reddening"].sel(superpixel=369)[10:].mean("pixel")
    np.testing.assert_allclose(steps[1].get_data().values, mean)
    assert "Cepheus" in [text.get_text() for text in axes.texts]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["68 % of the pixels", "mean", "cut 0–0.841 kpc", "cut 0.841–3.76 kpc"]
    figure.canvas.draw()


def test_what_has_no_sightline(thin):
    with pytest.raises(ResultError, match="has 2 superpixels; a sightline is of one"):
        plot_sightline(thin)
    with pytest.raises(ResultError, match=r"no superpixel 5908; .* the nearest index is 369"):
        plot_sightline(thin, 5908)
    with pytest.raises(ResultError, match="increase"):
        plot_sightline(thin, 369, cuts=[0, 2, 1])
    with pytest.raises(ResultError, match="superpixel 368 of the sky has no valid pixel"):
        plot_sightline(thin.assign(reddening=thin["reddening"] * np.nan), 368)
    one = thin.isel(superpixel=[1])
    assert plot_sightline(one).axes[0].get_title() == (
        "superpixel 369 (Nside 8, $l$ = 95.62°, $b$ = 9.59°), 20 voxels"
    )


def test_names_of_clouds_do_not_cover_each_other(thin):
    clouds = {f"{distance:g} kpc": distance for distance in (0.3, 0.38, 0.4, 0.42, 1.1, 3.9)}
    figure = plot_sightline(thin, 369, clouds=clouds)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 6
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    # All of them inside of the panel, and above what is drawn.
    frame = axes.get_window_extent()
    assert all(frame.x0 < box.x0 < box.x1 < frame.x1 for box in boxes)
    drawn = max(patch.get_data().values.max() for patch in axes.patches)
    assert min(box.y0 for box in boxes) > axes.transData.transform((1, drawn))[1]


@pytest.mark.parametrize("distance", [12.0, 0.01, -1.0, np.nan])
def test_a_cloud_beyond_the_sightline_is_refused(thin, distance):
    with pytest.raises(ResultError, match=r"cloud 'X' is at .* kpc; .* from 0.05 to 4 kpc"):
        plot_sightline(thin, 369, clouds={"X": distance})


def test_the_axis_tells_the_unit(thin):
    thin.attrs["reddening_unit"] = "edenhofer2023"
    (axes,) = plot_sightline(thin, 369).axes
    assert axes.get_ylabel() == "Reddening $E$ [unit of Zhang, Green & Rix 2023] in each voxel"


def test_padding_is_not_part_of_a_sightline(thin):
    edges = np.tile(thin["distance_edge"].values, (2, 1))
    edges[1, 4:] = edges[1, 3] + 1e-3 * np.arange(1, 18)
    thin = thin.assign(distance_edge=(("superpixel", "voxel_edge"), edges))
    thin["reddening"][1, :, 3:] = 0.0
    thin = thin.assign(n_voxel=("superpixel", [20, 3]))
    (axes,) = plot_sightline(thin, 369).axes
    steps = [patch for patch in axes.patches if hasattr(patch, "get_data")]
    np.testing.assert_allclose(
        steps[1].get_data().values, thin["reddening"][1, :, :3].mean("pixel")
    )
    assert axes.get_xlim()[1] == edges[1, 3]
    assert axes.get_title().endswith("3 voxels")
    assert plot_sightline(thin, 368).axes[0].get_title().endswith("20 voxels")
