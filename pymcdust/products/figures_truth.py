"""The temperature of a simulated sky, its estimate and its error, beside each other."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pymcdust.errors import ResultError
from pymcdust.products.figures_parameters import COLOURS, LABELS
from pymcdust.products.marks import FAILED, PADDING, PRIOR, Painter
from pymcdust.products.panels import (
    chosen_voxels,
    distance_ranges,
    in_view,
    new_figure,
    panel_size,
)
from pymcdust.products.reconstruction import require
from pymcdust.products.reliability import prior_dominated, voxels_in_use
from pymcdust.products.scales import is_wide, sequential


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
        If the sky does not know its truth, the fit lacks the temperature or its error, or nothing
        of it is in view.
    ConfigurationError
        If there is no such voxel, or the zoom is impossible.
    """
    if "true_temperature" not in sky:
        raise ResultError("the sky has no true_temperature: only a simulated sky knows its truth")
    require(fit, ("temperature", "temperature_sd", "converged"))
    fit, sky_image = in_view(fit, center, radius)
    chosen = chosen_voxels(fit, voxels)
    here = sky["true_temperature"]
    if "superpixel" in here.dims:
        here = here.sel(superpixel=fit["superpixel"].values)
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
    temperature = sequential(truth, COLOURS["temperature"], logarithmic=False)
    width = sequential(error, "viridis", logarithmic=is_wide(error))
    panel_width, panel_height = panel_size(sky_image, len(chosen), columns=3)
    figure = new_figure(3 * panel_width, len(chosen) * panel_height + 1.2)
    grid = figure.add_gridspec(len(chosen), 3)
    axes = [
        [figure.add_subplot(grid[row, column]) for column in range(3)] for row in range(len(chosen))
    ]
    titles = distance_ranges(fit)
    painter = Painter(sky_image, 3 * len(chosen))
    for row, voxel in enumerate(chosen):
        absent = ~in_use[row]
        unsure = {PRIOR: prior[row], FAILED: ~converged[row] & in_use[row], PADDING: absent}
        for panel, values, scale, marks, what in zip(
            axes[row],
            (truth[row], estimate[row], error[row]),
            (temperature, temperature, width),
            ({PADDING: absent}, unsure, unsure),
            ("truth", "estimate", "standard deviation"),
            strict=True,
        ):
            painter.paint(panel, sky_image.sample(values), scale, marks)
            panel.set_title(f"{titles[voxel]}: {what}", fontsize=8)
    left = [panel for row in axes for panel in row[:2]]
    temperature.bar(figure, left, LABELS["temperature"], vertical=False)
    width.bar(figure, [row[2] for row in axes], r"Standard deviation of $T$ [K]", vertical=False)
    painter.write_legend(figure)
    return figure
