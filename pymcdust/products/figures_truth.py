"""The temperature of a simulated sky, its estimate and its error, beside each other."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pymcdust.errors import ResultError
from pymcdust.products.figures_parameters import COLOURS, LABELS
from pymcdust.products.marks import FAILED, PADDING, PRIOR, Painter
from pymcdust.products.panels import (
    LEAST_WIDTH,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    PANEL_WIDTH,
    chosen_voxels,
    in_view,
    new_figure,
    voxel_titles,
)
from pymcdust.products.projection import SkyImage
from pymcdust.products.reconstruction import match, require
from pymcdust.products.reliability import prior_dominated, voxels_in_use
from pymcdust.products.scales import is_wide, sequential

#: Width of the distances beside the rows [inch], and what labels of a graticule need of it [pt].
TITLE_WIDTH = 1.1
BESIDE_LABELS = 30


def plot_truth(
    fit: xr.Dataset,
    sky: xr.Dataset,
    *,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
    voxels: Sequence[int] | None = None,
) -> Figure:
    """Draw the temperature of a simulated sky beside its estimate and the error.

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the simulated sky that was fitted.
    center, radius : optional
        Galactic direction (l, b) and half width of a gnomonic zoom [deg]; by default all is drawn.
    voxels : sequence of int, optional
        Numbers of the voxels to draw, 1 being the nearest; by default all.

    Returns
    -------
    Figure
        A row for each voxel: truth, estimate and standard deviation, marked as by
        `plot_temperature`.

    Raises
    ------
    ResultError
        If the sky does not know its truth, the fit lacks the temperature or its error, fit and sky
        do not belong together, or nothing is in view.
    ConfigurationError
        If there is no such voxel, or the zoom is impossible.
    """
    if "true_temperature" not in sky:
        raise ResultError("the sky has no true_temperature: only a simulated sky knows its truth")
    require(fit, ("temperature", "temperature_sd", "converged"))
    fit, sky_image = in_view(fit, center, radius)
    chosen = chosen_voxels(fit, voxels)
    here = sky["true_temperature"].isel(superpixel=match(fit, sky), missing_dims="ignore")
    shape = {"voxel": sky.sizes["voxel"], "superpixel": fit.sizes["superpixel"]}
    truth, estimate, error, prior, in_use, converged = (
        variable.variable.set_dims(shape).transpose(*shape).values[chosen]
        for variable in (
            here,
            fit["temperature"],
            fit["temperature_sd"],
            prior_dominated(fit, "temperature"),
            voxels_in_use(fit),
            fit["converged"].astype(bool),
        )
    )
    prior &= converged & in_use
    truth = np.where(in_use, truth, np.nan)
    estimate, error = (np.where(prior | ~converged, np.nan, v) for v in (estimate, error))
    estimate, error = (np.where(in_use, v, np.nan) for v in (estimate, error))
    shown = np.stack([truth, estimate])
    temperature = sequential(shown, COLOURS["temperature"], logarithmic=False)
    width = sequential(error, "viridis", logarithmic=is_wide(error))
    titles, note = voxel_titles(fit, chosen)
    figure, axes, panel_width = _grid(len(chosen), sky_image)
    painter = Painter(sky_image, 3 * len(chosen), panel_width)
    for row in range(len(chosen)):
        absent = ~in_use[row]
        unsure = {PRIOR: prior[row], FAILED: ~converged[row] & in_use[row], PADDING: absent}
        for panel, values, scale, marks in zip(
            axes[row],
            (truth[row], estimate[row], error[row]),
            (temperature, temperature, width),
            ({PADDING: absent}, unsure, unsure),
            strict=True,
        ):
            painter.paint(panel, sky_image.sample(values), scale, marks)
    _write_beside([row[0] for row in axes], titles)
    left = [panel for row in axes for panel in row[:2]]
    temperature.bar(figure, left, LABELS["temperature"], vertical=False)
    width.bar(figure, [row[2] for row in axes], r"Standard deviation of $T$ [K]", vertical=False)
    painter.write_legend(figure, note)
    return figure


def _grid(rows: int, sky_image: SkyImage) -> tuple[Figure, list[list[Axes]], float]:
    """Return a figure with rows of three panels, the panels, and their width [inch]."""
    aspect = sky_image.projection.aspect
    height = min(2.2, (PAGE_HEIGHT - 1.1) / rows - 0.1)
    width = min((PAGE_WIDTH - TITLE_WIDTH) / 3, max(height / aspect, LEAST_WIDTH))
    page = max(TITLE_WIDTH + 3 * width, PANEL_WIDTH + 1)
    figure = new_figure(page, rows * (width * aspect + 0.1) + 1.1)
    axes = figure.subplots(rows, 3, squeeze=False).tolist()
    for panel, what in zip(axes[0], ("truth", "estimate", "standard deviation"), strict=True):
        panel.set_title(what, fontsize=8)
    return figure, axes, width


def _write_beside(panels: Sequence[Axes], titles: Sequence[str]) -> None:
    """Write titles to the left of panels, and of the labels of their graticules."""
    gap = BESIDE_LABELS if panels[0].texts else 4
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8}
    for panel, title in zip(panels, titles, strict=True):
        text = title.replace(" kpc", "\nkpc")
        panel.annotate(text, (0, 0.5), (-gap, 0), ha="right", va="center", **style)
