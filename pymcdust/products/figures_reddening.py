"""The reddening of the sky in each distance voxel (Fig. 1, Zelko et al. 2022)."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pymcdust.products.dust import seen_reddening
from pymcdust.products.marks import PADDING, Painter
from pymcdust.products.panels import chosen_voxels, in_view, panel_groups, voxel_titles
from pymcdust.products.reconstruction import BLOCK_SIZE
from pymcdust.products.reliability import voxels_in_use
from pymcdust.products.scales import sequential

#: What reddening is called in each of its units, and the unit.
LABELS = {
    "bayestar2019": "Reddening $E$ [unit of Bayestar19]",
    "bayestar2017": "Reddening $E$ [unit of Bayestar17]",
    "bayestar2015": "$E(B-V)$ of SFD, by Bayestar15 [mag]",
    "sfd": "$E(B-V)$ of SFD [mag]",
    "E(B-V)": "$E(B-V)$ [mag]",
    "edenhofer2023": "Reddening $E$ [unit of Zhang, Green & Rix 2023]",
    "leike2020": r"Extinction $\tau_G$ [e-foldings]",
}


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
    titles, note = voxel_titles(sky, chosen)
    figure, (panels,) = panel_groups([len(chosen)], sky_image)
    painter = Painter(sky_image, len(chosen))
    for panel, voxel, title, image in zip(panels, chosen, titles, images, strict=True):
        painter.paint(panel, image, scale, {PADDING: ~in_use[:, voxel]})
        panel.set_title(title, fontsize=8)
    label = reddening_label(sky.attrs["reddening_unit"])
    scale.bar(figure, panels, f"{label} in each voxel", vertical=False)
    painter.write_legend(figure, note)
    return figure


def reddening_label(unit: str) -> str:
    """Return what reddening in a unit is called in figures, with its symbol.

    Parameters
    ----------
    unit : str
        A key of `pymcdust.sky.validation.REDDENING_UNITS`; another is written as it is.

    Examples
    --------
    >>> reddening_label("E(B-V)")
    '$E(B-V)$ [mag]'
    >>> reddening_label("bayestar2019")
    'Reddening $E$ [unit of Bayestar19]'
    """
    return LABELS.get(unit, f"Reddening $E$ [{unit}]")


def _blocks(sky: xr.Dataset, in_use: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the reddening (superpixel, pixel, voxel), NaN where not valid and where padding."""
    step = max(1, BLOCK_SIZE // (sky.sizes["pixel"] * sky.sizes["voxel"]))
    for start in range(0, sky.sizes["superpixel"], step):
        part = slice(start, start + step)
        seen = seen_reddening(sky[["reddening", "valid"]].isel(superpixel=part))
        yield part, np.where(in_use[part, None, :], seen, np.nan)
