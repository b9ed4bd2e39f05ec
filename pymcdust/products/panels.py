"""The panels of a figure: how many, how large, and what is drawn into each."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pymcdust.errors import ResultError
from pymcdust.products.projection import SkyImage, choose_projection, frame
from pymcdust.products.scales import Scale

PANEL_WIDTH = 3.4  # [inch]

STRIPE = 9  # [image points]


def sky_image_of(dataset: xr.Dataset) -> SkyImage:
    """Return the projection of a sky or a fit onto paper."""
    if "superpixel_nside" not in dataset.attrs:
        raise ResultError("what is to be drawn lacks the attribute superpixel_nside")
    superpixel, nside = dataset["superpixel"].values, int(dataset.attrs["superpixel_nside"])
    return SkyImage(choose_projection(superpixel, nside), superpixel, nside)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size [inch] that arranges its panels itself."""
    return Figure((width, height), layout="constrained")


def panel_size(sky_image: SkyImage, rows: int) -> tuple[float, float]:
    """Return width and height [inch] of a panel and its title, smaller where there are many."""
    tallest = 3.2 if rows < 3 else 2.2
    width = min(PANEL_WIDTH, tallest / sky_image.projection.aspect)
    return width, width * sky_image.projection.aspect + 0.3


def panel_groups(counts: Sequence[int], sky_image: SkyImage) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a group of panels for each of `counts`, and the groups."""
    if len(counts) > 1 and max(counts) == 1:
        columns, rows = len(counts), [0] * len(counts)
        places = [[(0, group)] for group in range(len(counts))]
        total = 1
    else:
        most = max(counts)
        columns = most if most < 4 else 2 if most == 4 else 3 if most < 13 else 4
        # Each group begins a row of its own.
        rows = [-(-count // columns) for count in counts]
        total = sum(rows)
        places = [
            [divmod(columns * sum(rows[:group]) + index, columns) for index in range(count)]
            for group, count in enumerate(counts)
        ]
    width, height = panel_size(sky_image, total)
    bars = 1 if total == 1 else len(counts)
    figure = new_figure(max(columns * width, PANEL_WIDTH + 1), total * height + 0.6 * bars + 0.3)
    grid = figure.add_gridspec(total, columns)
    return figure, [[figure.add_subplot(grid[place]) for place in group] for group in places]


def draw_panel(
    panel: Axes,
    sky_image: SkyImage,
    values: np.ndarray,
    scale: Scale,
    overlays: Sequence[np.ndarray] = (),
) -> None:
    """Draw values (superpixel,) or (superpixel, pixel) into a panel, and images over them."""
    image = scale.clip(sky_image.sample(values))
    sky_image.draw(panel, image, cmap=scale.colours, norm=scale.norm)
    for overlay in overlays:
        sky_image.draw(panel, overlay)
    frame(panel, sky_image.projection)


def stripes(where: np.ndarray, colours: tuple[str, str]) -> np.ndarray:
    """Return an image (y, x, RGBA) of diagonal stripes where `where` is 1, else transparent."""
    y, x = np.indices(where.shape)
    stripe = (x + y) // STRIPE % 2
    image = np.array([to_rgba(colour) for colour in colours])[stripe]
    image[..., 3] = where == 1
    return image


def striped_patch(colours: tuple[str, str], label: str) -> Patch:
    """Return the entry of a legend for `stripes`."""
    face, hatch = colours
    return Patch(facecolor=face, edgecolor=hatch, hatch="//////", linewidth=0, label=label)
