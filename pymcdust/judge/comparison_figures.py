"""Figures of a comparison: maps of what each superpixel prefers, and the sums over the sky."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pymcdust.judge.figures import CHAINS
from pymcdust.judge.preference import (
    DECIDED,
    differences,
    reference_of,
    spoken,
    summarise_variants,
    winner,
)
from pymcdust.products.panels import (
    draw_panel,
    new_figure,
    panel_groups,
    panel_size,
    sky_image_of,
    striped_patch,
    stripes,
)
from pymcdust.products.plots import plot_temperature
from pymcdust.products.projection import NO_DATA_COLOUR, frame
from pymcdust.products.scales import Scale, symmetric
from pymcdust.sky.dataset import cuts_of

#: Fill of superpixels without a winner.
UNDECIDED_COLOUR = "0.62"

#: Stripes where a difference is smaller than `SIGNIFICANT` times its standard error.
UNCERTAIN_COLOURS = ("0.75", "0.55")

#: Largest difference on a linear scale; on others, what is linear.
LARGEST_LINEAR = 40.0
LINEAR = 3.0

#: Standard errors from which a difference is drawn without stripes.
SIGNIFICANT = 2.0


def plot_bayes_factors(comparison: xr.Dataset, reference: str | None = None) -> Figure:
    """Draw the log Bayes factor of each variant over a reference, on the sky.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    reference : str, optional
        Name of a variant, by default the first.

    Returns
    -------
    Figure
        One panel for each other variant, all on one scale; blue where the variant is preferred.
    """
    name, others = _others(comparison, reference)
    values = differences(comparison, name)["ln_bayes_factor"]
    shown = {other: values.sel(model=other).values for other in others}
    return _maps(comparison, shown, f"ln Bayes factor over {spoken(name)}")


def plot_elpd_differences(comparison: xr.Dataset, reference: str | None = None) -> Figure:
    """Draw by how much better each variant predicts than a reference, on the sky.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    reference : str, optional
        Name of a variant, by default the first.

    Returns
    -------
    Figure
        One panel for each other variant, all on one scale; blue where the variant predicts better,
        striped where the difference is below two standard errors.
    """
    name, others = _others(comparison, reference)
    against = differences(comparison, name)
    shown, uncertain = {}, {}
    for other in others:
        here = against.sel(model=other)
        shown[other] = here["elpd_difference"].values
        error = here["elpd_difference_error"].values
        uncertain[other] = np.abs(shown[other]) < SIGNIFICANT * error
    return _maps(comparison, shown, f"ELPD minus that of {spoken(name)}", uncertain)


def plot_winner(comparison: xr.Dataset) -> Figure:
    """Draw which variant each superpixel prefers by its evidence.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.

    Returns
    -------
    Figure
        A map: grey where no variant is at least `DECIDED` probable.
    """
    best = winner(comparison).where(comparison["probability"].notnull().all("model"), -2)
    sky_image = sky_image_of(comparison)
    image = sky_image.sample(best.values.astype(float))
    colours = np.empty((*image.shape, 4))
    colours[:] = to_rgba(NO_DATA_COLOUR)
    colours[image == -1] = to_rgba(UNDECIDED_COLOUR)
    patches = []
    for number, name in enumerate(comparison["model"].values):
        colour = CHAINS[number % len(CHAINS)]
        colours[image == number] = to_rgba(colour)
        patches.append(Patch(color=colour, label=f"{spoken(name)} ({int((best == number).sum())})"))
    undecided = f"undecided: below {100 * DECIDED:.0f} % ({int((best == -1).sum())})"
    patches.append(Patch(color=UNDECIDED_COLOUR, label=undecided))
    width, height = panel_size(sky_image, 1)
    legend = 0.22 * -(-len(patches) // 2)
    figure = new_figure(1.35 * width + 0.2, 1.35 * height + legend + 0.2)
    panel = figure.add_subplot()
    sky_image.draw(panel, colours)
    frame(panel, sky_image.projection)
    figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def plot_weights(comparison: xr.Dataset) -> Figure:
    """Draw the stacking weight of each variant on the sky.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.

    Returns
    -------
    Figure
        One panel for each variant.
    """
    shown = {str(m): comparison["weight"].sel(model=m).values for m in comparison["model"].values}
    colours = colormaps["cividis"].with_extremes(bad=NO_DATA_COLOUR)
    scale = Scale(colours, Normalize(0, 1), "neither")
    return _maps(comparison, shown, "stacking weight", scale=scale)


def plot_averaged_temperature(comparison: xr.Dataset) -> Figure:
    """Draw the temperature in each distance voxel, averaged over the variants by their weights.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.

    Returns
    -------
    Figure
        One panel for each voxel, striped where the prior dominates: where the average is nearly as
        wide as the prior of the first variant.
    """
    averaged = comparison["temperature_averaged"].assign_attrs(comparison["temperature"].attrs)
    return plot_temperature(
        xr.Dataset(
            {
                "temperature": averaged.transpose("superpixel", "voxel"),
                "temperature_sd": comparison["temperature_averaged_sd"],
                **cuts_of(comparison),
                "converged": averaged.notnull().all("voxel"),
            },
            attrs=comparison.attrs,
        )
    )


def plot_variants(comparison: xr.Dataset, reference: str | None = None) -> Figure:
    """Draw what the whole sky says of each variant: differences of ELPD, and log Bayes factors.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    reference : str, optional
        Name of a variant, by default the first.

    Returns
    -------
    Figure
        Two panels with a row for each variant, the best prediction above. Bars are two standard
        errors.
    """
    name, _ = _others(comparison, reference)
    rows = summarise_variants(comparison, name)[::-1]
    figure = new_figure(7.2, 1.0 + 0.36 * len(rows))
    panels = figure.subplots(1, 2, sharey=True)
    y = np.arange(len(rows))
    for panel, key, label in (
        (panels[0], "elpd_difference", f"ELPD minus that of {spoken(name)}"),
        (panels[1], "ln_bayes_factor", f"ln Bayes factor over {spoken(name)}"),
    ):
        values = np.array([row[key] for row in rows])
        errors = SIGNIFICANT * np.array([row[f"{key}_error"] for row in rows])
        panel.axvline(0, color="0.6", linewidth=0.8)
        panel.errorbar(values, y, xerr=errors, fmt="o", color=CHAINS[0], markersize=5, capsize=3)
        panel.set_xlabel(label, fontsize=9)
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    panels[0].set_yticks(y, [spoken(row["model"]) for row in rows], fontsize=9)
    panels[0].set_ylim(-0.6, len(rows) - 0.4)
    return figure


def plot_pit(comparison: xr.Dataset) -> Figure:
    """Draw how the observed pixels lie among the predictions of each variant, band by band.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.

    Returns
    -------
    Figure
        One panel for each band: density of the probability integral transform, which is 1
        everywhere where predictions are calibrated; higher at the ends where they are too narrow,
        in the middle where they are too wide.
    """
    count = comparison["pit_count"].sum("superpixel")
    bands = comparison["band"].values
    figure = new_figure(2.0 * len(bands) + 0.6, 2.6)
    panels = np.atleast_1d(figure.subplots(1, len(bands), sharey=True))
    edges = np.linspace(0, 1, count.sizes["bin"] + 1)
    for panel, band in zip(panels, bands, strict=True):
        panel.axhline(1, color="0.6", linewidth=0.8)
        for number, name in enumerate(comparison["model"].values):
            here = count.sel(model=name, band=band).values
            density = here / max(here.sum(), 1) * len(here)
            colour = CHAINS[number % len(CHAINS)]
            panel.stairs(density, edges, color=colour, linewidth=1.3, label=spoken(name))
        panel.set_title(f"{band} GHz", fontsize=9)
        panel.set(xlabel="PIT", xlim=(0, 1))
        panel.tick_params(labelsize=8)
    # They share their limits, which must hold the highest of all.
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("density")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def plot_residuals(comparison: xr.Dataset, model: str | None = None) -> Figure:
    """Draw the mean residual of one variant in every superpixel, band by band.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    model : str, optional
        Name of a variant, by default that of the highest ELPD of the sky.

    Returns
    -------
    Figure
        One panel for each band, in units of sigma of a pixel; red where there is more emission
        than the model predicts.
    """
    if model is None:
        model = str(comparison["model"].values[int(comparison["elpd_sky"].argmax("model"))])
    values = comparison["residual"].sel(model=reference_of(comparison, model))
    shown = {f"{band} GHz": values.sel(band=band).values for band in comparison["band"].values}
    scale = symmetric(np.stack(list(shown.values())), "RdBu_r")
    return _maps(comparison, shown, rf"mean residual of {spoken(model)} [$\sigma$]", scale=scale)


def _others(comparison: xr.Dataset, reference: str | None) -> tuple[str, list[str]]:
    name = reference_of(comparison, reference)
    return name, [str(other) for other in comparison["model"].values if str(other) != name]


def _maps(
    comparison: xr.Dataset,
    shown: Mapping[str, np.ndarray],
    label: str,
    uncertain: Mapping[str, np.ndarray] | None = None,
    scale: Scale | None = None,
) -> Figure:
    """Draw maps (superpixel,) on one scale, by default one that is blue above zero."""
    sky_image = sky_image_of(comparison)
    scale = scale or _differences_scale(np.stack(list(shown.values())))
    figure, groups = panel_groups([len(shown)], sky_image)
    panels: Sequence[Axes] = groups[0]
    for panel, (name, values) in zip(panels, shown.items(), strict=True):
        overlays = []
        if uncertain is not None:
            where = sky_image.sample(uncertain[name].astype(float))
            overlays.append(stripes(where, UNCERTAIN_COLOURS))
        draw_panel(panel, sky_image, values, scale, overlays)
        panel.set_title(spoken(name), fontsize=9)
    bar = scale.bar(figure, list(panels), label, vertical=False)
    if isinstance(scale.norm, SymLogNorm):
        powers = 10.0 ** np.arange(1, np.floor(np.log10(scale.norm.vmax)) + 1)
        bar.set_ticks([*-powers[::-1], 0, *powers])
        bar.minorticks_off()
        bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if uncertain is not None:
        patch = striped_patch(UNCERTAIN_COLOURS, "less than two standard errors")
        figure.legend(handles=[patch], loc="outside lower center", frameon=False, fontsize=8)
    return figure


def _differences_scale(values: np.ndarray) -> Scale:
    """Return a scale that is blue above zero, and logarithmic where there are large values."""
    scale = symmetric(values, "RdBu")
    if scale.norm.vmax > LARGEST_LINEAR:
        scale = replace(scale, norm=SymLogNorm(LINEAR, vmin=scale.norm.vmin, vmax=scale.norm.vmax))
    return scale
