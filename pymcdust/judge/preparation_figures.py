"""Figures of a sky's quality: what it covers, what masks it, and how emission follows reddening."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from pymcdust.judge.figures import BAD, CHAINS, GOOD, MOST_POINTS, SIZE
from pymcdust.products.panels import (
    PANEL_WIDTH,
    draw_panel,
    new_figure,
    panel_size,
    sky_image_of,
)
from pymcdust.products.projection import NO_DATA_COLOUR, SkyImage, frame
from pymcdust.products.scales import is_wide, sequential
from pymcdust.sky.cuts import Mask

#: What masks a pixel, in a few words.
MASK_WORDS: dict[Mask, str] = {
    Mask.OUTSIDE: "outside of the reddening map",
    Mask.NOT_CONVERGED: "reddening did not converge",
    Mask.NO_STARS: "no stars",
    Mask.UNRELIABLE: "unreliable distances",
    Mask.NOT_FINITE: "reddening not a number",
    Mask.DECLINATION: "declination",
    Mask.NO_EMISSION: "a band is missing",
    Mask.MASK_EDGE: "edge of the mask",
    Mask.THINNED: "thinned",
}

#: Their colours, told apart by the colour-blind; thinning masks no superpixel.
MASK_COLOURS: dict[Mask, str] = dict(zip(list(Mask)[:-1], CHAINS, strict=True))

#: How much of its colour a superpixel that is kept has on the map of reasons.
_PALE = 0.3

#: Points along each side of a density.
_DENSITY_BINS = 60

#: Percentiles of the column and of the emission at which the picture of their density ends.
_SHOWN = (0.0, 99.5)


class Category(NamedTuple):
    """Superpixels of one colour: which, (superpixel,) array of bool; their name."""

    where: np.ndarray
    colour: str | tuple[float, ...]
    label: str


def plot_categories(
    sky_image: SkyImage, categories: Sequence[Category], columns: int = 1
) -> Figure:
    """Draw which superpixels belong to which category.

    Parameters
    ----------
    sky_image : SkyImage
        Of the superpixels that have a category.
    categories : sequence of Category
        Later ones are drawn over earlier ones. One that holds no superpixel is not named.
    columns : int
        Columns of the legend.

    Returns
    -------
    Figure
    """
    number = np.full(len(sky_image.superpixel), np.nan)
    for i, category in enumerate(categories):
        number[category.where] = i
    image = sky_image.sample(number)
    colours = np.empty((*image.shape, 4))
    colours[:] = to_rgba(NO_DATA_COLOUR)
    patches = []
    for i, category in enumerate(categories):
        colours[image == i] = to_rgba(category.colour)
        if category.where.any():
            label = f"{category.label} ({int(category.where.sum()):,})"
            patches.append(
                Patch(facecolor=category.colour, edgecolor="0.6", linewidth=0.5, label=label)
            )
    width, height = panel_size(sky_image, rows=1)
    rows = -(-len(patches) // columns)
    # The height of a panel counts a title, in whose place the first row of the legend stands.
    figure = new_figure(max(width, PANEL_WIDTH), height + 0.2 * rows - 0.1)
    panel = figure.add_subplot()
    sky_image.draw(panel, colours)
    frame(panel, sky_image.projection)
    figure.legend(
        handles=patches, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
    return figure


def plot_coverage(sky_image: SkyImage, kept: np.ndarray, coverage: np.ndarray) -> Figure:
    """Draw which superpixels (superpixel,) are kept, and which are valid in part."""
    partly = ~kept & (coverage > 0)
    return plot_categories(
        sky_image,
        [
            Category(~kept & (coverage <= 0), NO_DATA_COLOUR, "without valid pixels"),
            Category(partly, BAD, "dropped, valid in part"),
            Category(kept, GOOD, "kept"),
        ],
    )


def plot_reasons(sky_image: SkyImage, reason: np.ndarray, kept: np.ndarray) -> Figure:
    """Draw what masks most pixels of each superpixel.

    Parameters
    ----------
    sky_image : SkyImage
        Of all superpixels.
    reason : (superpixel,) array of int
        A value of `Mask`, 0 where no pixel is masked.
    kept : (superpixel,) array of bool
        Which are kept: these have a paler colour.

    Returns
    -------
    Figure
    """
    categories = [Category(reason == 0, "white", "nothing masked")]
    for mask, colour in MASK_COLOURS.items():
        here = reason == mask.value
        pale = tuple(1 - _PALE * (1 - part) for part in to_rgb(colour))
        categories.append(Category(here & ~kept, colour, MASK_WORDS[mask]))
        categories.append(Category(here & kept, pale, f"{MASK_WORDS[mask]}, kept"))
    return plot_categories(sky_image, categories)


def plot_voxel_counts(summary: xr.Dataset) -> Figure:
    """Draw how many voxels each superpixel has; `summary` is what `summarise_sky` returned."""
    n_voxel = summary["n_voxel"].values
    numbers = np.unique(n_voxel)
    most = max(int(numbers.max()), 2)
    categories = [
        Category(n_voxel == n, colormaps["viridis"]((n - 1) / (most - 1)), f"{n}") for n in numbers
    ]
    return plot_categories(sky_image_of(summary), categories, columns=min(len(numbers), 3))


def plot_voxel(summary: xr.Dataset, voxel: int, title: str, label: str) -> Figure:
    """Draw the median reddening of one voxel on the sky, on the scale of all voxels.

    Parameters
    ----------
    summary : Dataset
        What `summarise_sky` returned.
    voxel : int
        Which one, from 0.
    title, label : str
        Of the figure, and of its scale.

    Returns
    -------
    Figure
    """
    values = summary["voxel_reddening"].values
    sky_image = sky_image_of(summary)
    scale = sequential(values, "viridis", is_wide(values))
    width, height = panel_size(sky_image, rows=1)
    figure = new_figure(max(width, PANEL_WIDTH), height + 0.4)
    panel = figure.add_subplot()
    draw_panel(panel, sky_image, values[:, voxel], scale)
    panel.set_title(title, fontsize=9)
    bar = scale.bar(figure, [panel], label, vertical=False)
    if isinstance(scale.norm, LogNorm) and scale.norm.vmax > 100 * scale.norm.vmin:
        # The bar is short: more labels would touch each other.
        bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    return figure


def plot_line(
    column: np.ndarray, emission: np.ndarray, slope: float, intercept: float, unit: str
) -> Figure:
    """Draw how the emission of pixels goes with their column, and the line through all of them.

    Parameters
    ----------
    column : (pixel,) array [mag]
        Reddening of the whole sightline.
    emission : (pixel,) array [MJy/sr]
        Of 353 GHz.
    slope, intercept : float
        Of the line [MJy/sr/mag, MJy/sr].
    unit : str
        Unit of the reddening.

    Returns
    -------
    Figure
    """
    figure = new_figure(*SIZE)
    axes: Axes = figure.add_subplot()
    x_low, x_high = _limits(column)
    y_low, y_high = _limits(emission)
    if column.size <= MOST_POINTS:
        axes.plot(column, emission, ".", color=CHAINS[0], markersize=3, alpha=0.5)
    else:
        density = axes.hist2d(
            column,
            emission,
            bins=_DENSITY_BINS,
            range=[(x_low, x_high), (y_low, y_high)],
            cmap=colormaps["cividis"],
            norm=LogNorm(),
            cmin=1,
        )[3]
        bar = figure.colorbar(density, ax=axes, label="pixels")
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.outline.set_linewidth(0.5)
    ends = np.array([x_low, x_high])
    axes.plot(ends, intercept + slope * ends, color=BAD, linewidth=1.5)
    axes.set(
        xlabel=f"column [mag, {unit}]",
        ylabel="353 GHz [MJy/sr]",
        xlim=(x_low, x_high),
        ylim=(y_low, y_high),
    )
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, _SHOWN)
    margin = 0.03 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
