"""The reddening of the sky in each distance voxel (Fig. 1, Zelko et al. 2022)."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pymcdust.products.dust import seen_reddening
from pymcdust.products.marks import PADDING, Painter
from pymcdust.products.panels import chosen_voxels, distance_ranges, in_view, panel_groups
from pymcdust.products.reconstruction import BLOCK_SIZE
from pymcdust.products.reliability import voxels_in_use
from pymcdust.products.scales import sequential


def plot_reddening(
    sky: xr.Dataset,
    *,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
    voxels: Sequence[int] | None = None,
) -> Figure:
    """Draw the reddening in each distance voxel (Fig. 1, Zelko et al. 2022).

    Parameters
    ----------
    sky : Dataset
        The sky.
    center, radius : optional
        Galactic direction (l, b) and half width of a gnomonic zoom [deg]; by default all is drawn.
    voxels : sequence of int, optional
        Numbers of the voxels to draw, 1 being the nearest; by default all.

    Returns
    -------
    Figure
        One panel for each voxel, all on one scale; striped where a superpixel has no such voxel.

    Raises
    ------
    ResultError
        If nothing of the sky is in view.
    ConfigurationError
        If there is no such voxel, or the zoom is impossible.
    """
    sky, sky_image = in_view(sky, center, radius)
    chosen = chosen_voxels(sky, voxels)
    in_use = voxels_in_use(sky).variable
    shape = {"superpixel": sky.sizes["superpixel"], "voxel": sky.sizes["voxel"]}
    in_use = in_use.set_dims(shape).transpose(*shape).values
    images = sky_image.collect(_blocks(sky, in_use))[chosen]
    scale = sequential(images, "inferno", logarithmic=True)
    titles = distance_ranges(sky)
    figure, (panels,) = panel_groups([len(chosen)], sky_image)
    painter = Painter(sky_image, len(chosen))
    for panel, voxel, image in zip(panels, chosen, images, strict=True):
        painter.paint(panel, image, scale, {PADDING: ~in_use[:, voxel]})
        panel.set_title(titles[voxel], fontsize=8)
    unit = sky.attrs["reddening_unit"]
    label = "$E(B-V)$ [mag]" if unit == "E(B-V)" else f"$E(B-V)$ [mag, {unit}]"
    scale.bar(figure, panels, f"{label} in each voxel", vertical=False)
    painter.write_legend(figure)
    return figure


def _blocks(sky: xr.Dataset, in_use: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the reddening (superpixel, pixel, voxel), NaN where not valid and where padding."""
    step = max(1, BLOCK_SIZE // (sky.sizes["pixel"] * sky.sizes["voxel"]))
    for start in range(0, sky.sizes["superpixel"], step):
        part = slice(start, start + step)
        seen = seen_reddening(sky[["reddening", "valid"]].isel(superpixel=part))
        yield part, np.where(in_use[part, None, :], seen, np.nan)
