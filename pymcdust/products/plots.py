"""All figures of a sky and a fit, and where to find each of them."""

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from pymcdust.products.figure_files import check_formats, save_figures
from pymcdust.products.figures_emission import plot_emission, plot_residual, plot_zoom
from pymcdust.products.figures_parameters import plot_parameters, plot_temperature
from pymcdust.products.figures_reddening import plot_reddening
from pymcdust.products.figures_truth import plot_truth

__all__ = [
    "plot_emission",
    "plot_parameters",
    "plot_reddening",
    "plot_residual",
    "plot_temperature",
    "plot_truth",
    "plot_zoom",
    "save_plots",
]


def save_plots(
    fit: xr.Dataset,
    sky: xr.Dataset,
    folder: str | Path,
    formats: Sequence[str] = ("png",),
    *,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
    voxels: Sequence[int] | None = None,
) -> list[Path]:
    """Draw and save all maps, in the place of those of an earlier call.

    A simulated sky, which knows its truth, has one figure more.

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the sky that was fitted.
    folder : path
        Folder for the figures, made where it is missing.
    formats : sequence of str
        Formats of files, such as ``"png"`` and ``"pdf"``.
    center, radius : optional
        Galactic direction (l, b) and half width of a gnomonic zoom [deg]; by default all is drawn.
    voxels : sequence of int, optional
        Numbers of the voxels to draw, 1 being the nearest; by default all.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ResultError
        If the fit lacks a variable, fit and sky do not belong together, or nothing is in view.
    ConfigurationError
        If a format is unknown, there is no such voxel, or the zoom is impossible.
    """
    check_formats(formats)
    view = {"center": center, "radius": radius}
    figures = {
        "parameters": plot_parameters(fit, **view, voxels=voxels),
        "temperature": plot_temperature(fit, **view, voxels=voxels),
        "emission": plot_emission(fit, sky, **view),
        "residual": plot_residual(fit, sky, **view),
        "reddening": plot_reddening(sky, **view, voxels=voxels),
    }
    if "true_temperature" in sky:
        figures["truth"] = plot_truth(fit, sky, **view, voxels=voxels)
    return save_figures(figures, folder, formats)
