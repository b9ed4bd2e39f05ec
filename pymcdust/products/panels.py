"""The panels of a figure: what is in view, how many panels, how large, what is drawn into each."""

from collections.abc import Sequence
from itertools import pairwise

import healpy
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.products.projection import SkyImage, choose_projection, frame, zoom_on
from pymcdust.products.reliability import voxels_in_use
from pymcdust.products.scales import Scale

#: Width of a panel at most, and of a figure: two columns of a journal, so that its letters are
#: printed as large as they are [inch].
PANEL_WIDTH = 3.4
PAGE_WIDTH = 7.1

#: Height of a figure of several rows, about, unless there are very many [inch].
PAGE_HEIGHT = 9.0

#: Width of a panel at least: a title such as ``0.178–0.316 kpc`` is as wide [inch].
LEAST_WIDTH = 1.1

#: More columns than this leave less than `LEAST_WIDTH`.
MOST_COLUMNS = 6

STRIPE = 9  # [image points]


def sky_image_of(
    dataset: xr.Dataset, center: tuple[float, float] | None = None, radius: float | None = None
) -> SkyImage:
    """Return the projection of a sky or a fit onto paper.

    Parameters
    ----------
    dataset : Dataset
        What is to be drawn.
    center : tuple of float, optional
        Galactic longitude and latitude of a gnomonic zoom [deg]. Without it the whole sky is
        drawn, in Mollweide's projection, or the patch where the superpixels are.
    radius : float, optional
        From the centre of the zoom to the middle of its sides [deg].

    Returns
    -------
    SkyImage
        The projection.

    Raises
    ------
    ResultError
        If the Nside of the superpixels is not known.
    ConfigurationError
        If only one of `center` and `radius` is given, or one is impossible.
    """
    if "superpixel_nside" not in dataset.attrs:
        raise ResultError("what is to be drawn lacks the attribute superpixel_nside")
    superpixel, nside = dataset["superpixel"].values, int(dataset.attrs["superpixel_nside"])
    if (center is None) != (radius is None):
        raise ConfigurationError(
            f"center is {center}, radius {radius}; a zoom needs both, such as "
            "center=(353.0, 17.0), radius=10.0"
        )
    if center is None:
        return SkyImage(choose_projection(superpixel, nside), superpixel, nside)
    return SkyImage(zoom_on(center, radius), superpixel, nside)


def in_view(
    dataset: xr.Dataset, center: tuple[float, float] | None, radius: float | None
) -> tuple[xr.Dataset, SkyImage]:
    """Return the superpixels of a sky or a fit that are seen, and their projection onto paper.

    Parameters
    ----------
    dataset, center, radius
        As for `sky_image_of`.

    Returns
    -------
    dataset : Dataset
        The part in view: it alone sets scales and titles.
    sky_image : SkyImage
        The projection of this part.

    Raises
    ------
    ResultError
        If nothing of the data set is in view, or the Nside of its superpixels is not known.
    ConfigurationError
        As for `sky_image_of`.
    """
    sky_image = sky_image_of(dataset, center, radius)
    if center is None:
        return dataset, sky_image
    row, _ = sky_image.place(1)
    rows = np.unique(row[row >= 0])
    if not len(rows):
        nside = sky_image.superpixel_nside
        vectors = healpy.pix2vec(nside, sky_image.superpixel, nest=True)
        nearest = np.argmax(healpy.ang2vec(*center, lonlat=True) @ np.array(vectors))
        longitude, latitude = healpy.pix2ang(
            nside, sky_image.superpixel[nearest], nest=True, lonlat=True
        )
        raise ResultError(
            f"there are no data within {radius:g} deg of l = {center[0]:g}, b = {center[1]:g}; "
            f"the nearest superpixel lies at l = {longitude:.1f}, b = {latitude:.1f}"
        )
    shown = SkyImage(sky_image.projection, sky_image.superpixel[rows], sky_image.superpixel_nside)
    return dataset.isel(superpixel=rows), shown


def chosen_voxels(dataset: xr.Dataset, voxels: Sequence[int] | None) -> list[int]:
    """Return the positions of the voxels to draw.

    Parameters
    ----------
    dataset : Dataset
        A sky or a fit.
    voxels : sequence of int, optional
        Numbers of voxels as titles count them, 1 being the nearest; by default all that some
        superpixel of the data set has.

    Raises
    ------
    ConfigurationError
        If there is no such voxel, or none is chosen.
    """
    in_use = voxels_in_use(dataset)
    if voxels is None:
        here = in_use.any("superpixel") if "superpixel" in in_use.dims else in_use
        return np.flatnonzero(here.values).tolist()
    count = in_use.sizes["voxel"]
    wrong = [voxel for voxel in voxels if voxel not in range(1, count + 1)]
    if wrong or not len(voxels):
        raise ConfigurationError(
            f"voxels are {list(voxels)}; allowed are numbers from 1, the nearest, to {count}"
        )
    return [int(voxel) - 1 for voxel in voxels]


def distance_ranges(dataset: xr.Dataset) -> list[str]:
    """Return the distance range of each voxel in words, such as ``0.5–2 kpc``.

    Where the superpixels that have the voxel do not agree in its edges, there is no such range.

    Examples
    --------
    >>> distance_ranges(xr.Dataset({"distance_edge": ("voxel_edge", [0.0, 0.841, 3.758])}))
    ['0–0.841 kpc', '0.841–3.76 kpc']
    >>> edges = [[0.0, 0.5, 2.0], [0.0, 0.5, 3.0]]
    >>> distance_ranges(xr.Dataset({"distance_edge": (("superpixel", "voxel_edge"), edges)}))
    ['0–0.5 kpc', 'voxel 2 (edges differ)']
    """
    return [
        words or f"voxel {voxel} (edges differ)"
        for voxel, words in enumerate(_common_ranges(dataset), start=1)
    ]


def voxel_titles(dataset: xr.Dataset, voxels: Sequence[int]) -> tuple[list[str], str]:
    """Return short titles of voxels, and what a legend says of them once.

    Parameters
    ----------
    dataset : Dataset
        A sky or a fit.
    voxels : sequence of int
        Positions of the voxels.

    Returns
    -------
    titles : list of str
        The range of distances, or the number of the voxel where edges differ.
    note : str
        What a number means, empty where there are none.

    Examples
    --------
    >>> edges = [[0.0, 0.5, 2.0], [0.0, 0.5, 3.0]]
    >>> fit = xr.Dataset({"distance_edge": (("superpixel", "voxel_edge"), edges)})
    >>> voxel_titles(fit, [0, 1])
    (['0–0.5 kpc', 'voxel 2'], 'voxels with a number: edges differ between superpixels')
    """
    ranges = _common_ranges(dataset)
    titles = [ranges[voxel] or f"voxel {voxel + 1}" for voxel in voxels]
    in_use = voxels_in_use(dataset).values.reshape(-1, len(ranges)).any(axis=0)
    differ = any(in_use[voxel] and not ranges[voxel] for voxel in voxels)
    return titles, "voxels with a number: edges differ between superpixels" if differ else ""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size [inch] that arranges its panels itself."""
    return Figure((width, height), layout="constrained")


def panel_size(sky_image: SkyImage, rows: int, columns: int = 1) -> tuple[float, float]:
    """Return width and height [inch] of a panel and its title, smaller where there are many."""
    tallest = 3.2 if rows < 3 else min(2.2, PAGE_HEIGHT / rows - 0.3)
    aspect = sky_image.projection.aspect
    width = min(PANEL_WIDTH, PAGE_WIDTH / columns, max(tallest / aspect, LEAST_WIDTH))
    # Labels of the graticule beside the map, the title above it.
    return width, (width - 0.25) * aspect + 0.35


def panel_groups(counts: Sequence[int], sky_image: SkyImage) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a group of panels for each of `counts`, and the groups."""
    if len(counts) > 1 and max(counts) == 1:
        columns, rows = len(counts), [0] * len(counts)
        places = [[(0, group)] for group in range(len(counts))]
        total = 1
    else:
        columns = _columns(counts, sky_image)
        # Each group begins a row of its own.
        rows = [-(-count // columns) for count in counts]
        total = sum(rows)
        places = [
            [divmod(columns * sum(rows[:group]) + index, columns) for index in range(count)]
            for group, count in enumerate(counts)
        ]
    width, height = panel_size(sky_image, total, columns)
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
    draw_image(panel, sky_image, sky_image.sample(values), scale, overlays)


def draw_image(
    panel: Axes,
    sky_image: SkyImage,
    image: np.ndarray,
    scale: Scale,
    overlays: Sequence[np.ndarray] = (),
    *,
    labels: bool = True,
) -> None:
    """Draw an image (y, x) into a panel, and images (y, x, RGBA) over it."""
    sky_image.draw(panel, scale.clip(image), cmap=scale.colours, norm=scale.norm)
    for overlay in overlays:
        sky_image.draw(panel, overlay)
    frame(panel, sky_image.projection, labels=labels)


def stripes(where: np.ndarray, colours: tuple[str, str], *, rising: bool = True) -> np.ndarray:
    """Return an image (y, x, RGBA) of diagonal stripes where `where` is 1, else transparent."""
    y, x = np.indices(where.shape)
    # The origin of images is below: along a rising stripe x - y stays the same.
    stripe = (x - y if rising else x + y) // STRIPE % 2
    image = np.array([to_rgba(colour) for colour in colours])[stripe]
    image[..., 3] = where == 1
    return image


def striped_patch(colours: tuple[str, str], label: str, *, rising: bool = True) -> Patch:
    """Return the entry of a legend for `stripes`."""
    face, hatch = colours
    style = {"hatch": "//////" if rising else "\\\\\\\\\\\\", "linewidth": 0}
    return Patch(facecolor=face, edgecolor=hatch, label=label, **style)


def panel_width(panel: Axes) -> float:
    """Return the share that a panel of a grid has of the width of its figure [inch]."""
    return panel.get_figure().get_figwidth() / panel.get_subplotspec().get_gridspec().ncols


def _columns(counts: Sequence[int], sky_image: SkyImage) -> int:
    """Return how many columns groups of panels have: of many panels, what makes them largest."""
    most = max(counts)
    fewest = most if most < 4 else 2 if most == 4 else 3 if most < 13 else 4
    if most < 13:
        return fewest

    def width(columns: int) -> float:
        return panel_size(sky_image, sum(-(-count // columns) for count in counts), columns)[0]

    return max(range(fewest, MOST_COLUMNS + 1), key=width)


def _common_ranges(dataset: xr.Dataset) -> list[str]:
    """Return the distance range of each voxel in words, empty where superpixels differ in it."""
    edges = dataset["distance_edge"].transpose(..., "voxel_edge").values
    if edges.ndim == 1:
        return [_range(near, far) for near, far in pairwise(edges)]
    words = []
    for voxel, used in enumerate(voxels_in_use(dataset).values.T):
        ends = edges[used, voxel : voxel + 2]
        alike = len(ends) > 0 and np.allclose(ends, ends[0], rtol=1e-6)
        words.append(_range(*ends[0]) if alike else "")
    return words


def _range(near: float, far: float) -> str:
    return f"{near:.3g}–{far:.3g} kpc"
