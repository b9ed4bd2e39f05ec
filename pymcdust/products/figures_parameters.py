"""What was inferred: temperature, rho and beta on the sky (Figs. 8 and 9, Zelko et al. 2022)."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pymcdust.products.marks import FAILED, PADDING, PRIOR, Painter
from pymcdust.products.panels import chosen_voxels, in_view, panel_groups, voxel_titles
from pymcdust.products.reconstruction import require
from pymcdust.products.reliability import is_fixed, prior_dominated, voxels_in_use
from pymcdust.products.scales import sequential

#: What parameters are called in figures, and their colours.
LABELS = {
    "temperature": "Dust temperature $T$ [K]",
    "beta": r"Emissivity index $\beta$",
    "rho": r"Conversion factor $\rho$ [$10^{-4}$ mag$^{-1}$]",
}
COLOURS = {"temperature": "inferno", "beta": "cividis", "rho": "viridis"}


def plot_parameters(
    fit: xr.Dataset,
    *,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
    voxels: Sequence[int] | None = None,
) -> Figure:
    """Draw the maps of rho and beta (Fig. 8, Zelko et al. 2022).

    Parameters
    ----------
    fit : Dataset
        The fit.
    center, radius : optional
        Galactic direction (l, b) and half width of a gnomonic zoom [deg]; by default all is drawn.
    voxels : sequence of int, optional
        Numbers of the voxels to draw of a parameter that is tied per voxel, 1 being the nearest;
        by default all.

    Returns
    -------
    Figure
        One panel for each parameter, or for each voxel where it is tied per voxel; marked as by
        `plot_temperature`.

    Raises
    ------
    ResultError
        If the fit lacks a parameter, or nothing of it is in view.
    ConfigurationError
        If there is no such voxel, or the zoom is impossible.
    """
    return _plot(fit, ("rho", "beta"), center, radius, voxels)


def plot_temperature(
    fit: xr.Dataset,
    *,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
    voxels: Sequence[int] | None = None,
) -> Figure:
    """Draw the temperature in each distance voxel (Fig. 9, Zelko et al. 2022).

    What is no measurement is striped: voxels whose temperature is dominated by the prior,
    superpixels that have no such voxel, and fits that did not converge.

    Parameters
    ----------
    fit : Dataset
        The fit.
    center, radius : optional
        Galactic direction (l, b) and half width of a gnomonic zoom [deg]; by default all is drawn.
    voxels : sequence of int, optional
        Numbers of the voxels to draw, 1 being the nearest; by default all.

    Returns
    -------
    Figure
        One panel for each voxel, or a single one where the temperature is shared along the
        sightline.

    Raises
    ------
    ResultError
        If the fit lacks the temperature, or nothing of it is in view.
    ConfigurationError
        If there is no such voxel, or the zoom is impossible.
    """
    return _plot(fit, ("temperature",), center, radius, voxels)


def _plot(
    fit: xr.Dataset,
    names: Sequence[str],
    center: tuple[float, float] | None,
    radius: float | None,
    voxels: Sequence[int] | None,
) -> Figure:
    """Draw parameters in their voxels, each parameter with a colour bar."""
    require(fit, (*names, "converged", "distance_edge"))
    fit, sky_image = in_view(fit, center, radius)
    chosen = chosen_voxels(fit, voxels)
    titles, note = voxel_titles(fit, chosen)
    failed = ~fit["converged"].values.astype(bool)
    per_voxel = ["voxel" in fit[name].dims for name in names]
    counts = [len(chosen) if several else 1 for several in per_voxel]
    figure, groups = panel_groups(counts, sky_image)
    painter = Painter(sky_image, sum(counts))
    for panels, name, several in zip(groups, names, per_voxel, strict=True):
        rows = chosen if several else [0]
        values = _rows(fit[name], fit)[rows] * (1e4 if name == "rho" else 1)
        padding = ~_rows(voxels_in_use(fit), fit)[rows] & several
        dominated = _rows(prior_dominated(fit, name), fit)[rows] & ~failed & ~padding
        measured = np.where(dominated | failed | padding, np.nan, values)
        scale = sequential(measured, COLOURS[name], logarithmic=name == "rho")
        for panel, title, row, prior, absent in zip(
            panels, titles if several else [""], measured, dominated, padding, strict=True
        ):
            marks = {PRIOR: prior, FAILED: failed & ~absent, PADDING: absent}
            painter.paint(panel, sky_image.sample(row), scale, marks)
            panel.set_title(title, fontsize=8)
        fixed = " (fixed)" if is_fixed(fit[name]) else ""
        scale.bar(figure, panels, LABELS[name] + fixed, vertical=False)
    painter.write_legend(figure, note if any(per_voxel) else "")
    return figure


def _rows(variable: xr.DataArray, fit: xr.Dataset) -> np.ndarray:
    """Return a parameter of any tying as (voxel, superpixel), one row where it has no voxels."""
    shape = {"superpixel": fit.sizes["superpixel"]}
    if "voxel" in variable.dims:
        shape = {"voxel": variable.sizes["voxel"], **shape}
    values = variable.variable.set_dims(shape).transpose(*shape).values
    return values.reshape(-1, fit.sizes["superpixel"])
