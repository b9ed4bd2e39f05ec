"""Figures of a convergence report: small, one panel each, so that they can be read on a phone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pymcdust.products.panels import (
    PANEL_WIDTH,
    draw_panel,
    new_figure,
    panel_size,
    sky_image_of,
)
from pymcdust.products.projection import NO_DATA_COLOUR, SkyImage, frame
from pymcdust.products.scales import is_wide, sequential

#: Colours that the colour-blind can tell apart (Okabe & Ito 2008), for chains.
CHAINS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#D55E00", "#999999")

#: What passes, and what does not.
GOOD, BAD = "#56B4E9", "#D55E00"

#: How figures look, whatever the reader's own style of matplotlib is.
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "pymcdust",
    "savefig.facecolor": "white",
}

#: Width and height [inch] of a figure of one panel.
SIZE = (4.6, 3.0)

#: Points of a scatter plot; more only make it black.
MOST_POINTS = 1500
MOST_WALKER_POINTS = 6000

#: Where bars are higher than this, a single superpixel could not be seen on a linear axis.
LINEAR_COUNTS = 40

_RANK_BINS = 20


def plot_trace(
    draws: np.ndarray,
    label: str,
    *,
    step: np.ndarray | None = None,
    diverging: np.ndarray | None = None,
) -> Figure:
    """Draw the draws (chain, draw) of one value in the order in which they were made.

    Parameters
    ----------
    draws : (chain, draw) array
        The draws.
    label : str
        What they are, with their unit.
    step : (draw,) or (chain, draw) array of int, optional
        The step of an ensemble that each draw belongs to: its walkers are drawn as points, with
        their median.
    diverging : (chain, draw) array of bool, optional
        Divergent transitions, marked below.
    """
    figure, axes = _figure()
    steps = None if step is None else np.broadcast_to(step, draws.shape)
    for chain, (values, colour) in enumerate(zip(draws, _colours(len(draws)), strict=True)):
        if steps is None:
            axes.plot(values, color=colour, linewidth=0.5, alpha=0.8, label=f"{chain + 1}")
            continue
        when = steps[chain]
        # Evenly through the draws, which are ordered walker after walker.
        shown = _evenly(values.size, MOST_WALKER_POINTS)
        style = {"markersize": 3, "alpha": 0.35, "markeredgewidth": 0}
        axes.plot(when[shown], values[shown], ".", color=colour, **style)
        order = np.argsort(when, kind="stable")
        known, first = np.unique(when[order], return_index=True)
        medians = [np.median(part) for part in np.split(values[order], first[1:])]
        axes.plot(known, medians, color=colour, linewidth=1.2, label=f"{chain + 1}")
    if diverging is not None and diverging.any():
        where = np.flatnonzero(diverging.any(axis=0))
        low = axes.get_ylim()[0]
        axes.plot(where, np.full(where.size, low), "|", color=BAD, markersize=9, clip_on=False)
    axes.set(xlabel="draw" if step is None else "step", ylabel=label)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.margins(x=0.01)
    _legend_of_chains(figure, axes, len(draws))
    return figure


def plot_ranks(draws: np.ndarray, label: str) -> Figure:
    """Draw how the ranks of each chain's draws (chain, draw) among all draws are distributed.

    A single chain is cut in two halves. The grey band holds 99 % of the bars of independent draws.
    """
    names = [f"{chain + 1}" for chain in range(len(draws))]
    if len(draws) == 1:
        half = draws.shape[1] // 2
        draws = np.concatenate([draws[:, :half], draws[:, -half:]])
        names = ["first half", "second half"]
    ranks = array_stats.compute_ranks(draws.reshape(-1)).reshape(draws.shape)
    n_draw = draws.shape[1]
    bins = min(_RANK_BINS, max(2, n_draw // 10))
    edges = np.linspace(0.5, draws.size + 0.5, bins + 1)
    figure, axes = _figure()
    expected = n_draw / bins
    spread = 2.576 * np.sqrt(expected * (1 - 1 / bins))
    axes.axhspan(max(0.0, expected - spread), expected + spread, color="0.90", linewidth=0)
    axes.axhline(expected, color="0.5", linewidth=0.8)
    for values, colour, name in zip(ranks, _colours(len(ranks)), names, strict=True):
        counts = np.histogram(values, edges)[0]
        axes.stairs(counts, edges, baseline=None, color=colour, linewidth=1.3, label=name)
    axes.set(xlabel=f"rank of {label} among all draws", ylabel="draws of a chain", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.margins(x=0.01)
    _legend_of_chains(figure, axes, len(ranks))
    return figure


def plot_marginal(draws: np.ndarray, label: str) -> Figure:
    """Draw the distribution of independent draws (chain, draw), with its 68 and 89 % intervals."""
    figure, axes = _figure()
    axes.hist(draws.reshape(-1), bins=40, color=GOOD, histtype="stepfilled", density=True)
    ends = np.quantile(draws, [0.055, 0.16, 0.84, 0.945])
    for (low, high), width in (((ends[0], ends[3]), 1.5), ((ends[1], ends[2]), 4.0)):
        axes.plot([low, high], [0, 0], color="black", linewidth=width, clip_on=False, zorder=5)
    axes.set(xlabel=label, yticks=[], ylabel="density")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def plot_pairs(columns: Mapping[str, np.ndarray], diverging: np.ndarray | None = None) -> Figure:
    """Draw every pair of some values against each other.

    Parameters
    ----------
    columns : dict of (draw,) arrays
        Draws of each value by its label.
    diverging : (draw,) array of bool, optional
        Divergent transitions, drawn as crosses.
    """
    n = len(columns)
    figure = new_figure(1.3 * n + 0.6, 1.2 * n + 0.6)
    axes = figure.subplots(n, n, sharex="col", squeeze=False)
    size = len(next(iter(columns.values())))
    shown = _evenly(size, MOST_POINTS)
    for row, (label, y) in enumerate(columns.items()):
        for column, (other, x) in enumerate(columns.items()):
            panel = axes[row, column]
            if column > row:
                panel.set_axis_off()
                continue
            if column == row:
                panel.hist(x, bins=30, color=GOOD, histtype="stepfilled")
                panel.set_yticks([])
            else:
                panel.plot(x[shown], y[shown], ".", color=CHAINS[0], markersize=1.5, alpha=0.4)
                if diverging is not None and diverging.any():
                    panel.plot(x[diverging], y[diverging], "x", color=BAD, markersize=3.5)
                panel.yaxis.set_major_locator(MaxNLocator(3, prune="both"))
            panel.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
            if column == 0 and row:
                panel.set_ylabel(_wrapped(label))
            elif column:
                panel.tick_params(labelleft=False)
            if row == n - 1:
                panel.set_xlabel(_wrapped(other))
    figure.align_labels()
    return figure


def plot_energy(energy: np.ndarray) -> Figure:
    """Draw the energies (chain, draw) of NUTS, and the steps between them, both centred."""
    figure, axes = _figure()
    steps = np.diff(energy, axis=1).reshape(-1)
    centred = (energy - energy.mean()).reshape(-1)
    for values, colour, style, label in (
        (centred, CHAINS[0], "-", "energy less its mean"),
        (steps, CHAINS[1], "--", "step from draw to draw"),
    ):
        grid, density, _ = array_stats.kde(values)
        axes.fill_between(grid, density, color=colour, alpha=0.25, linewidth=0)
        axes.plot(grid, density, color=colour, linestyle=style, label=label)
    axes.set(xlabel="energy", yticks=[], ylabel="density", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def plot_distribution(
    values: np.ndarray,
    label: str,
    threshold: float | None = None,
    *,
    bad_above: bool = True,
    logarithmic: bool = False,
    bad_label: str = "does not pass",
) -> Figure:
    """Draw how a diagnostic is distributed over the superpixels, and which of them it condemns.

    Parameters
    ----------
    values : array
        The diagnostic; what is not finite is left out.
    label : str
        What it is.
    threshold : float, optional
        Where it becomes bad.
    bad_above : bool
        Whether it is bad above the threshold, or below.
    logarithmic : bool
        Whether the axis is logarithmic; only positive values are drawn then.
    bad_label : str
        What becomes of superpixels on the bad side.
    """
    values = values[np.isfinite(values)]
    if logarithmic:
        values = values[values > 0]
    figure, axes = _figure()
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    bins = int(np.clip(np.sqrt(values.size) * 2, 10, 40))
    if logarithmic:
        edges = np.geomspace(low / 1.05, high * 1.05, bins + 1)
        axes.set_xscale("log")
        if high < 100 * low:
            _plain_ticks(axes)
    else:
        margin = 0.02 * (high - low) or 0.5
        edges = np.linspace(low - margin, high + margin, bins + 1)
    if threshold is None:
        axes.hist(values, edges, color=GOOD)
    else:
        # A bin that the threshold cuts would be of both colours.
        edges[np.abs(edges - threshold).argmin()] = threshold
        bad = values >= threshold if bad_above else values < threshold
        axes.hist(values[~bad], edges, color=GOOD, label="passes")
        hatched = {"color": BAD, "hatch": "////", "edgecolor": "white", "linewidth": 0}
        axes.hist(values[bad], edges, label=bad_label, **hatched)
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    axes.set(xlabel=label, ylabel="superpixels")
    if axes.get_ylim()[1] > LINEAR_COUNTS:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.6)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def plot_map(
    diagnosis: xr.Dataset, values: np.ndarray, label: str, *, logarithmic: bool | None = None
) -> Figure:
    """Draw a diagnostic (superpixel,) on the sky, logarithmically by default where it is wide."""
    figure, panel, sky_image = _map(diagnosis)
    logarithmic = is_wide(values) if logarithmic is None else logarithmic
    scale = sequential(values, "viridis", logarithmic)
    draw_panel(panel, sky_image, values, scale)
    bar = scale.bar(figure, [panel], label, vertical=False)
    if logarithmic and bar.norm.vmax > 3 * bar.norm.vmin > 0:
        # The bar is short: more labels would touch each other.
        bar.ax.xaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if is_wide(values) else (1, 2, 3, 5))
        )
    return figure


def plot_passed(diagnosis: xr.Dataset, passed: np.ndarray) -> Figure:
    """Draw where superpixels passed."""
    figure, panel, sky_image = _map(diagnosis)
    image = sky_image.sample(passed.astype(float))
    colours = np.empty((*image.shape, 4))
    for where, colour in (
        (np.isnan(image), NO_DATA_COLOUR),
        (image == 1, GOOD),
        (image == 0, BAD),
    ):
        colours[where] = to_rgba(colour)
    sky_image.draw(panel, colours)
    frame(panel, sky_image.projection)
    patches = [
        Patch(color=GOOD, label="passed"),
        Patch(color=BAD, label="did not pass"),
        Patch(facecolor=NO_DATA_COLOUR, edgecolor="0.6", linewidth=0.5, label="no draws"),
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def plot_temperatures(acceptance: np.ndarray, swaps: np.ndarray) -> Figure:
    """Draw acceptance and swap rates (temperature, sample) of parallel tempering.

    Lines are medians over chains and superpixels, bands hold 90 % of them.
    """
    figure, axes = _figure()
    for values, colour, mark, label in (
        (acceptance, CHAINS[0], "o-", "moves accepted"),
        (swaps, CHAINS[1], "s--", "swaps accepted"),
    ):
        known = np.isfinite(values).any(axis=1)
        number = np.flatnonzero(known)
        low, middle, high = np.nanquantile(values[known], [0.05, 0.5, 0.95], axis=1)
        axes.fill_between(number, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(number, middle, mark, color=colour, markersize=4, label=label)
    axes.set(xlabel="temperature, 0 = the posterior", ylabel="fraction", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = new_figure(*SIZE)
    return figure, figure.add_subplot()


def _map(diagnosis: xr.Dataset) -> tuple[Figure, Axes, SkyImage]:
    """Return a figure for one map with something below it, its panel, and its projection."""
    sky_image = sky_image_of(diagnosis)
    width, height = panel_size(sky_image, rows=1)
    # No wider than its panel: the labels are small, and a phone makes them no larger.
    figure = new_figure(max(width, PANEL_WIDTH), height + 0.3)
    return figure, figure.add_subplot(), sky_image


def _evenly(size: int, most: int) -> np.ndarray:
    """Return at most so many positions, evenly spaced."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(int))


def _colours(n: int) -> list[str]:
    return [CHAINS[chain % len(CHAINS)] for chain in range(n)]


def _legend_of_chains(figure: Figure, axes: Axes, n: int) -> None:
    """Name the chains below, unless there is one or too many to tell apart."""
    if not 1 < n <= len(CHAINS):
        return
    handles, labels = axes.get_legend_handles_labels()
    title = "" if "half" in labels[0] else "chain "
    legend = figure.legend(
        handles,
        [title + label if not i else label for i, label in enumerate(labels)],
        loc="outside lower center",
        ncols=n,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.0,
    )
    for line in legend.get_lines():
        line.set(linewidth=2, alpha=1)


def _plain_ticks(axes: Axes) -> None:
    """Write 300 rather than 3 x 10^2 on a short logarithmic axis."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _wrapped(label: str) -> str:
    """Break a long label after its comma."""
    return label.replace(", ", ",\n")
