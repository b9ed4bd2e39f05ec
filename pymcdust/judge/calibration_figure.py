"""The figure of a calibration: how the ranks of the truth are distributed."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from pymcdust.judge.uniformity import ecdf_band
from pymcdust.products.panels import new_figure
from pymcdust.products.reconstruction import PARAMETERS

#: What is ranked besides the parameters.
LOG_LIKELIHOOD = "log_likelihood"

#: Colours that the colour-blind can tell apart (Okabe & Ito 2008), for all mocks and some of them.
_COLOURS = {"all": "#0072B2", "reliable": "#D55E00"}

#: Probability of a bar of the histogram, and of a whole distribution function, in the grey bands.
_BAR, _WHOLE = 0.99, 0.95

_COLUMNS = 6


def ranked_values(calibration: xr.Dataset) -> Iterator[tuple[str, str, dict[str, int]]]:
    """Yield name, label and place of every value that was ranked, voxels from the nearest on.

    Parameters
    ----------
    calibration : Dataset
        What `pymcdust.judge.calibration.calibrate` returned.

    Yields
    ------
    name : str
        Name of the parameter, or of the log likelihood.
    label : str
        What to call the value.
    place : dict
        Positions along the dimensions of its tying other than `superpixel`.
    """
    for name in (*PARAMETERS, LOG_LIKELIHOOD):
        if f"{name}_rank" not in calibration:
            continue
        sizes = {d: n for d, n in calibration[f"{name}_rank"].sizes.items() if d != "superpixel"}
        for index in np.ndindex(*sizes.values()):
            place = dict(zip(sizes, index, strict=True))
            where = [f"{dim} {number + 1}" for dim, number in place.items()]
            yield name, ", ".join([name.replace("_", " "), *where]), place


def plot_ranks(calibration: xr.Dataset) -> Figure:
    """Draw how ranks are distributed: histograms, and distribution functions below them.

    Parameters
    ----------
    calibration : Dataset
        What `calibrate` returned.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each value. Bars hold all mocks; a line shows the reliable ones where they are
        fewer, as if they were as many. Of uniform ranks 99 % of the bars end in the grey band.
        Below, the distribution function minus the straight line that it should be; the grey band
        (dotted for the reliable ones) holds all of it 95 times out of 100.
    """
    values = list(ranked_values(calibration))
    columns = min(len(values), _COLUMNS)
    lines = -(-len(values) // columns)
    figure = new_figure(2.0 * columns + 0.6, 3.4 * lines + 0.4)
    axes = figure.subplots(2 * lines, columns, squeeze=False, sharex=True, sharey="row")
    names = {"all": f"all {int(calibration['n_mock'][0]):,} mocks"}
    some = int(calibration["n_mock"].sel(selection="reliable"))
    if 0 < some < int(calibration["n_mock"][0]):
        names["reliable"] = f"the {some:,} reliable ones"
    for number, (name, label, place) in enumerate(values):
        line, column = divmod(number, columns)
        histogram, difference = axes[2 * line, column], axes[2 * line + 1, column]
        rank = calibration[f"{name}_rank"].isel(place).values
        parts = {"all": rank, "reliable": rank[calibration["reliable"].values]}
        for selection in names:
            _draw_histogram(histogram, parts[selection], calibration, selection, len(rank))
            _draw_difference(difference, parts[selection], calibration, selection)
        histogram.set_title(label, fontsize=10)
        difference.set_xlabel("draws below the truth" if line == lines - 1 else "", fontsize=9)
        if column == 0:
            histogram.set_ylabel("mocks", fontsize=9)
            difference.set_ylabel("distribution\nminus uniform", fontsize=9)
    for panel in axes[:, :].flat:
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "½", "1"))
    for spare in range(len(values), lines * columns):
        for row in (0, 1):
            axes[2 * (spare // columns) + row, spare % columns].set_axis_off()
    if len(names) > 1:
        handles = [
            figure.axes[0].plot([], [], color=_COLOURS[selection], linewidth=2, label=text)[0]
            for selection, text in names.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_histogram(
    axes: Axes, rank: np.ndarray, calibration: xr.Dataset, selection: str, n_mock: int
) -> None:
    bins, n_rank = calibration.attrs["bins"], calibration.attrs["ranked"] + 1
    count = np.bincount(rank // (n_rank // bins), minlength=bins) * (n_mock / len(rank))
    edges = np.linspace(0, 1, bins + 1)
    if selection == "all":
        low, high = binom.interval(_BAR, n_mock, 1 / bins)
        axes.axhspan(low, high, color="0.88", linewidth=0)
        axes.axhline(n_mock / bins, color="0.5", linewidth=0.8)
        axes.stairs(count, edges, fill=True, color=_COLOURS[selection], alpha=0.65)
    else:
        axes.stairs(count, edges, color=_COLOURS[selection], linewidth=1.3)


def _draw_difference(axes: Axes, rank: np.ndarray, calibration: xr.Dataset, selection: str) -> None:
    n_rank = calibration.attrs["ranked"] + 1
    points, low, high = ecdf_band(len(rank), n_rank, _WHOLE)
    below = np.cumsum(np.bincount(rank, minlength=n_rank))[:-1] / len(rank)
    if selection == "all":
        axes.fill_between(points, low - points, high - points, color="0.88", linewidth=0)
        axes.axhline(0, color="0.5", linewidth=0.8)
    else:
        for edge in (low, high):
            axes.plot(points, edge - points, ":", color=_COLOURS[selection], linewidth=0.8)
    axes.plot(points, below - points, color=_COLOURS[selection], linewidth=1.3)
