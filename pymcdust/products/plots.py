"""Figures of a sky and of a fit: maps of parameters, temperature, emission and reddening."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr
from healpy import nside2npix
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pymcdust.errors import ConfigurationError, ResultError, unknown
from pymcdust.products.panels import (
    draw_panel,
    new_figure,
    panel_groups,
    panel_size,
    sky_image_of,
    striped_patch,
    stripes,
)
from pymcdust.products.projection import NO_DATA_COLOUR
from pymcdust.products.reconstruction import observed, reconstruct, require
from pymcdust.products.scales import is_wide, sequential, symmetric
from pymcdust.products.staging import staged

#: Posterior over prior standard deviation, above which the prior dominates an estimate.
PRIOR_DOMINATED = 0.7

DOTS_PER_INCH = 200

_PRIOR_COLOURS = ("0.76", "0.58")
_FAILED_COLOURS = ("0.20", "0.45")

_LABELS = {
    "temperature": "Dust temperature $T$ [K]",
    "beta": r"Emissivity index $\beta$",
    "rho": r"Conversion factor $\rho$ [$10^{-4}$ mag$^{-1}$]",
}
_COLOURS = {"temperature": "inferno", "beta": "cividis", "rho": "viridis"}


def prior_dominated(fit: xr.Dataset, name: str) -> xr.DataArray:
    """Return where an estimate tells the prior rather than the data.

    A voxel without dust returns its prior; it is not a measurement.

    Parameters
    ----------
    fit : Dataset
        The fit.
    name : str
        A parameter.

    Returns
    -------
    DataArray of bool
        Whether the standard deviation is above `PRIOR_DOMINATED` times the prior's, or unknown;
        with the dimensions of the parameter's tying. All false where the parameter is fixed, or
        its prior has no known width.

    Raises
    ------
    ResultError
        If the fit lacks the parameter, or its standard deviation.
    """
    require(fit, (name,))
    variable = fit[name]
    prior_sd = variable.attrs.get("prior_sd")
    if _is_fixed(variable) or prior_sd is None or not np.isfinite(prior_sd):
        return xr.zeros_like(variable, dtype=bool)
    require(fit, (f"{name}_sd",))
    # A standard deviation of NaN must not pass as a measurement.
    return ~(fit[f"{name}_sd"] <= PRIOR_DOMINATED * prior_sd)


def plot_parameter_maps(fit: xr.Dataset) -> Figure:
    """Draw the maps of rho and beta (Fig. 8, Zelko et al. 2022).

    Parameters
    ----------
    fit : Dataset
        The fit.

    Returns
    -------
    Figure
        One panel for each parameter, or for each voxel where it is tied per voxel.

    Raises
    ------
    ResultError
        If the fit lacks a parameter.
    """
    return _plot_parameters(fit, ("rho", "beta"))


def plot_temperature(fit: xr.Dataset) -> Figure:
    """Draw the temperature in each distance voxel (Fig. 9, Zelko et al. 2022).

    Voxels whose temperature is dominated by the prior are striped grey: theirs is no measurement.

    Parameters
    ----------
    fit : Dataset
        The fit.

    Returns
    -------
    Figure
        One panel for each voxel, or a single one where the temperature is shared along the
        sightline.

    Raises
    ------
    ResultError
        If the fit lacks the temperature.
    """
    return _plot_parameters(fit, ("temperature",))


def plot_emission(fit: xr.Dataset, sky: xr.Dataset) -> Figure:
    """Draw observed, reconstructed and residual emission (Figs. 2 and 6, Zelko et al. 2022).

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the sky that was fitted.

    Returns
    -------
    Figure
        A row for each band, and the chi2 per datum.

    Raises
    ------
    ResultError
        If the fit lacks a variable, or fit and sky do not belong together.
    """
    require(fit, ("chi2", "n_data"))
    reconstructed = reconstruct(fit, sky)
    observation = observed(sky.sel(superpixel=fit["superpixel"].values))
    model = np.where(np.isnan(observation), np.nan, reconstructed.values)
    sky_image = sky_image_of(fit)
    bands = sky.sizes["band"]
    width, height = panel_size(sky_image, rows=bands)
    figure = new_figure(3 * width + 1.8, (bands + 1) * height)
    grid = figure.add_gridspec(bands + 1, 3)
    # All bands or none, so that they compare.
    logarithmic = any(is_wide(observation[:, :, band]) for band in range(bands))
    for row, frequency in enumerate(sky["frequency"].values):
        axes = [figure.add_subplot(grid[row, column]) for column in range(3)]
        difference = observation[:, :, row] - model[:, :, row]
        brightness = sequential(observation[:, :, row], "inferno", logarithmic)
        remainder = symmetric(difference, "RdBu_r")
        for panel, values, scale in (
            (axes[0], observation[:, :, row], brightness),
            (axes[1], model[:, :, row], brightness),
            (axes[2], difference, remainder),
        ):
            draw_panel(panel, sky_image, values, scale)
        brightness.bar(figure, axes[:2], f"{frequency:.0f} GHz [MJy/sr]", vertical=True)
        remainder.bar(figure, axes[2:], "residual [MJy/sr]", vertical=True)
        if row == 0:
            for panel, title in zip(axes, ("Observed", "Reconstructed", "Residual"), strict=True):
                panel.set_title(title, fontsize=10)
    panel = figure.add_subplot(grid[bands, 1])
    ratio = chi2_per_datum(fit).values
    # Unlike emission, chi2 is positive without noise: all of its range means something.
    scale = sequential(ratio, "viridis", is_wide(ratio), largest_ratio=1e6)
    draw_panel(panel, sky_image, ratio, scale)
    scale.bar(figure, [panel], r"$\chi^2$ per datum", vertical=True)
    return figure


def plot_reddening(sky: xr.Dataset) -> Figure:
    """Draw the reddening in each distance voxel (Fig. 1, Zelko et al. 2022).

    Parameters
    ----------
    sky : Dataset
        The sky.

    Returns
    -------
    Figure
        One panel for each voxel, all on one scale.
    """
    sky_image = sky_image_of(sky)
    reddening = sky["reddening"].transpose("voxel", "superpixel", "pixel").values
    valid = sky["valid"].any("band") if "band" in sky["valid"].dims else sky["valid"]
    reddening = np.where(valid.transpose("superpixel", "pixel").values, reddening, np.nan)
    scale = sequential(reddening, "inferno", logarithmic=True)
    figure, (panels,) = panel_groups([len(reddening)], sky_image)
    for panel, values, title in zip(panels, reddening, distance_ranges(sky), strict=True):
        draw_panel(panel, sky_image, values, scale)
        panel.set_title(title, fontsize=8)
    unit = sky.attrs["reddening_unit"]
    label = "E(B-V) [mag]" if unit == "E(B-V)" else f"E(B-V) [mag, {unit}]"
    scale.bar(figure, panels, f"{label} in each voxel", vertical=False)
    return figure


def plot_truth(fit: xr.Dataset, sky: xr.Dataset) -> Figure:
    """Draw the temperature of a simulated sky beside its estimate and the error.

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the simulated sky that was fitted.

    Returns
    -------
    Figure
        A row for each voxel: truth, estimate (striped grey where the prior dominates) and standard
        deviation.

    Raises
    ------
    ResultError
        If the sky does not know its truth, or the fit lacks the temperature or its error.
    """
    if "true_temperature" not in sky:
        raise ResultError("the sky has no true_temperature: only a simulated sky knows its truth")
    require(fit, ("temperature", "temperature_sd"))
    sky_image = sky_image_of(fit)
    here = sky["true_temperature"]
    if "superpixel" in here.dims:
        here = here.sel(superpixel=fit["superpixel"].values)
    n_voxel = sky.sizes["voxel"]
    shape = {"voxel": n_voxel, "superpixel": fit.sizes["superpixel"]}
    truth, estimate, error, grey = (
        variable.variable.set_dims(shape).transpose(*shape).values
        for variable in (
            here,
            fit["temperature"],
            fit["temperature_sd"],
            prior_dominated(fit, "temperature"),
        )
    )
    estimate, error = np.where(grey, np.nan, estimate), np.where(grey, np.nan, error)
    temperature = sequential(truth, _COLOURS["temperature"], logarithmic=False)
    width = sequential(error, "viridis", logarithmic=is_wide(error))
    panel_width, panel_height = panel_size(sky_image, n_voxel)
    figure = new_figure(3 * panel_width, n_voxel * panel_height + 1.2)
    grid = figure.add_gridspec(n_voxel, 3)
    axes = [
        [figure.add_subplot(grid[row, column]) for column in range(3)] for row in range(n_voxel)
    ]
    titles = ("truth", "estimate", "standard deviation")
    for row, distance in enumerate(distance_ranges(sky)):
        overlay = [stripes(sky_image.sample(grey[row]), _PRIOR_COLOURS)]
        draw_panel(axes[row][0], sky_image, truth[row], temperature)
        draw_panel(axes[row][1], sky_image, estimate[row], temperature, overlay)
        draw_panel(axes[row][2], sky_image, error[row], width, overlay)
        for panel, title in zip(axes[row], titles, strict=True):
            panel.set_title(f"{distance}: {title}", fontsize=8)
    temperature.bar(
        figure, [panel for row in axes for panel in row[:2]], _LABELS["temperature"], vertical=False
    )
    width.bar(figure, [row[2] for row in axes], r"Standard deviation of $T$ [K]", vertical=False)
    if grey.any():
        text = rf"prior dominates ($\sigma / \sigma_\mathrm{{prior}} > {PRIOR_DOMINATED}$)"
        style = {"fontsize": 7.5, "frameon": False}
        patch = striped_patch(_PRIOR_COLOURS, text)
        figure.legend(handles=[patch], loc="outside lower center", **style)
    return figure


def save_plots(
    fit: xr.Dataset, sky: xr.Dataset, folder: str | Path, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Draw and save all figures, in the place of those of an earlier call.

    A simulated sky, which knows its truth, has one figure more.

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the sky that was fitted.
    folder : path
        Folder for the figures, made where it is missing.
    formats : sequence of str
        Formats of files, such as ``"png"`` and ``"pdf"``.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ResultError
        If the fit lacks a variable, or fit and sky do not belong together.
    ConfigurationError
        If a format is unknown.
    """
    supported = FigureCanvasBase.get_supported_filetypes()
    for suffix in formats:
        if suffix not in supported:
            raise ConfigurationError(unknown("format of figures", suffix, sorted(supported)))
    figures = {
        "parameter_maps": plot_parameter_maps(fit),
        "temperature": plot_temperature(fit),
        "emission": plot_emission(fit, sky),
        "reddening": plot_reddening(sky),
    }
    if "true_temperature" in sky:
        figures["truth"] = plot_truth(fit, sky)
    names = {f"{name}.{suffix}": name for name in figures for suffix in formats}
    folder = Path(folder)
    with staged(folder, list(names), overwrite=True) as unfinished:
        for file_name, name in names.items():
            figures[name].savefig(unfinished / file_name, dpi=DOTS_PER_INCH, bbox_inches="tight")
    return [folder / name for name in names]


def distance_ranges(dataset: xr.Dataset) -> list[str]:
    """Return the distance range of each voxel in words, such as ``0.5–2 kpc``.

    Where the edges differ between superpixels, the range is that of their medians.

    Examples
    --------
    >>> distance_ranges(xr.Dataset({"distance_edge": ("voxel_edge", [0.0, 0.841, 3.758])}))
    ['0–0.841 kpc', '0.841–3.76 kpc']
    """
    edges = dataset["distance_edge"]
    about = ""
    if "superpixel" in edges.dims:
        edges, about = edges.median("superpixel"), "≈ "
    words = [f"{edge:.3g}" for edge in edges.values]
    return [f"{about}{near}–{far} kpc" for near, far in pairwise(words)]


def chi2_per_datum(fit: xr.Dataset) -> xr.DataArray:
    """Return chi2 over the number of data of each superpixel; NaN where there are none."""
    return fit["chi2"] / fit["n_data"].where(fit["n_data"] > 0)


def _is_fixed(variable: xr.DataArray) -> bool:
    return variable.attrs.get("tying") == "fixed"


def _plot_parameters(fit: xr.Dataset, names: Sequence[str]) -> Figure:
    """Draw parameters in all their voxels, each with a colour bar, and what the greys mean."""
    require(fit, (*names, "converged", "distance_edge"))
    sky_image = sky_image_of(fit)
    failed = ~fit["converged"].values.astype(bool)
    any_dominated = False
    figure, groups = panel_groups([fit[name].sizes.get("voxel", 1) for name in names], sky_image)
    for panels, name in zip(groups, names, strict=True):
        values = _rows(fit[name], fit) * (1e4 if name == "rho" else 1)
        dominated = _rows(prior_dominated(fit, name), fit) & ~failed
        any_dominated |= dominated.any()
        measured = np.where(dominated | failed, np.nan, values)
        # With nothing measured, the scale still needs limits.
        scale = sequential(
            measured if np.isfinite(measured).any() else values, _COLOURS[name], name == "rho"
        )
        for panel, row, grey in zip(panels, measured, dominated, strict=True):
            marks = [(grey, _PRIOR_COLOURS), (failed, _FAILED_COLOURS)]
            overlays = [stripes(sky_image.sample(where), colours) for where, colours in marks]
            draw_panel(panel, sky_image, row, scale, overlays)
        if len(panels) > 1:
            for panel, title in zip(panels, distance_ranges(fit), strict=True):
                panel.set_title(title, fontsize=8)
        fixed = " (fixed)" if _is_fixed(fit[name]) else ""
        scale.bar(figure, panels, _LABELS[name] + fixed, vertical=False)
    legend = []
    if failed.size < nside2npix(sky_image.superpixel_nside):
        style = {"facecolor": NO_DATA_COLOUR, "edgecolor": "0.6", "linewidth": 0.5}
        legend.append(Patch(label="no data", **style))
    if any_dominated:
        text = rf"prior dominates ($\sigma / \sigma_\mathrm{{prior}} > {PRIOR_DOMINATED}$)"
        legend.append(striped_patch(_PRIOR_COLOURS, text))
    if failed.any():
        legend.append(striped_patch(_FAILED_COLOURS, "not converged"))
    if legend:
        style = {"ncols": 3, "fontsize": 7.5, "frameon": False}
        figure.legend(handles=legend, loc="outside lower center", **style)
    return figure


def _rows(variable: xr.DataArray, fit: xr.Dataset) -> np.ndarray:
    """Return a parameter of any tying as one row (panel, superpixel) for each panel."""
    shape = {"superpixel": fit.sizes["superpixel"]}
    if "voxel" in variable.dims:
        shape = {"voxel": variable.sizes["voxel"], **shape}
    return variable.variable.set_dims(shape).values.reshape(-1, fit.sizes["superpixel"])
