"""Corner plot: every parameter of a superpixel, and every pair of them (Fig. 11)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, ScalarFormatter

from pymcdust.errors import ResultError
from pymcdust.products.density import Density, density_of
from pymcdust.products.draws import Draws, Quantity, collect, ordered
from pymcdust.products.panels import PAGE_WIDTH
from pymcdust.products.scales import LOGARITHMIC_RATIO

#: More parameters than this make panels that cannot be read.
MOST_PARAMETERS = 12

#: More than this cannot be read at the width of a page: the figure is wider.
MOST_ON_PAGE = 6

#: Fewer parameters than this make large panels, with larger letters.
FEW = 5

#: Width of a panel at most [inch].
PANEL_WIDTH = 1.9

#: Colours of the posteriors (Okabe & Ito), which the colour-blind tell apart as well; also in grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")

MAP_COLOUR, TRUTH_COLOUR = "#D55E00", "black"

#: Points that are drawn outside the contours of a panel, at most.
MOST_POINTS = 400

#: Height of a line over a histogram, in units of the size of the letters.
LINE = 1.75

#: Width of a letter, in units of its size.
LETTER = 0.6

_SYMBOLS = {"temperature": "T", "beta": r"\beta", "rho": r"\rho", "offset": "O"}

_TRUTH_STYLE = {"color": TRUTH_COLOUR, "linestyle": (0, (4, 2)), "linewidth": 1.0}
_MAP_STYLE = {"linestyle": "-", "linewidth": 1.0}


def plot_corner(
    posterior: xr.DataTree | Mapping[str, xr.DataTree],
    superpixel: int | Mapping[str, int] | None = None,
    *,
    variables: Sequence[str] | None = None,
    fit: xr.Dataset | Mapping[str, xr.Dataset] | None = None,
    truth: xr.Dataset | Mapping[str, Any] | None = None,
) -> Figure:
    """Draw the posterior of one superpixel in all its parameters (Fig. 11, Zelko et al. 2022).

    On the diagonal histograms, each as high as the panel, whose part between the 16 and the 84 %
    quantile is filled and whose median is a line; above them the median with the distances to
    these quantiles. Below the diagonal contours that hold 39 and 86 % of the draws (one and two
    standard deviations of a Gaussian in two dimensions), and draws outside them as points. rho is
    drawn in 1e-4 per mag, or all logarithms if one of it spans more than a factor of eight.

    The figure is at most 7.1 inch wide for up to six parameters, and about an inch wider for each
    one more.

    Parameters
    ----------
    posterior : DataTree or mapping of str to DataTree
        A posterior; or several by their labels, which are drawn over each other: other methods,
        models, or sizes of superpixels.
    superpixel : int or mapping of str to int, optional
        NESTED index of the superpixel, or one for each label. It can be left out where a posterior
        has one only.
    variables : sequence of str, optional
        The parameters to draw, in this order; by default all.
    fit : Dataset or mapping of str to Dataset, optional
        A fit, whose maximum a posteriori (MAP) is marked by lines; or one for each label, marked
        in the colour of its posterior.
    truth : Dataset or mapping, optional
        True values, marked by dashed lines: a simulated sky, or numbers by parameter as for
        `simulate_sky`, such as ``{"temperature": ("voxel", [19.8, 17.2]), "beta": 1.6}``.

    Returns
    -------
    Figure
        The corner plot.

    Raises
    ------
    ResultError
        If there is no such superpixel or parameter, none of several superpixels is chosen, there
        are too many parameters to be read, distances differ between the posteriors, or something
        else is given than a posterior, a fit or a truth.
    """
    samples = collect(posterior, superpixel, variables, fit, truth)
    quantities = ordered(q for sample in samples for q in sample.columns)
    if len(quantities) > MOST_PARAMETERS:
        names = list(dict.fromkeys(q.name for q in quantities))
        raise ResultError(
            f"{len(quantities)} parameters are too many for a legible corner plot; allowed are "
            f"{MOST_PARAMETERS}: choose among {', '.join(names)} by variables, or voxels by "
            "posterior.isel(voxel=[0, 1])"
        )
    if len(samples) > len(COLOURS):
        raise ResultError(
            f"{len(samples)} posteriors are too many to be told apart; allowed are {len(COLOURS)}"
        )
    logarithmic = _is_rho_logarithmic(quantities, samples)
    scaled = {q: _Axis(q, samples, logarithmic) for q in quantities}
    styles = {
        # Lines that coincide show beside each other: the later, the thinner.
        sample.label: _Style(COLOURS[number], 0.9 + 0.6 * (len(samples) - 1 - number))
        for number, sample in enumerate(samples)
    }

    n = len(quantities)
    figure, panels, font = _grid(n, len(samples))
    separator = ", " if n < FEW else "\n"
    for row, y in enumerate(scaled.values()):
        for column, x in enumerate(scaled.values()):
            panel = panels[row, column]
            together = any({x.quantity, y.quantity} <= s.columns.keys() for s in samples)
            if column > row or not together:
                panel.set_axis_off()
                continue
            if column == row:
                _draw_histograms(panel, x, samples, styles)
                _write_titles(panel, x, samples, styles, font, separator)
            else:
                _draw_pairs(panel, x, y, samples, styles)
            _mark(panel, x, y if column < row else None, samples, styles)
            other = y if column < row else None
            _label(panel, x, other, font, last=row == n - 1)
            if column:
                panel.tick_params(labelleft=False)
                panel.set_ylabel("")
    figure.align_labels()
    _write_legend(figure, samples, styles, font, pairs=n > 1)
    return figure


class _Style(NamedTuple):
    """How a posterior is drawn: its colour, and the width of its lines [pt]."""

    colour: str
    width: float


class _Axis:
    """How a quantity is drawn: scaled, labelled, and from where to where."""

    def __init__(self, quantity: Quantity, samples: Sequence[Draws], logarithmic: bool) -> None:
        here = [sample for sample in samples if quantity in sample.columns]
        self.quantity = quantity
        self.logarithmic = logarithmic
        low, high = _ends(quantity, samples)
        marks = [
            self.scale(mark[quantity])
            for sample in here
            for mark in (sample.maximum, sample.truth)
            if quantity in mark
        ]
        low, high = self.scale(low), self.scale(high)
        margin = 0.08 * (high - low) or 1e-3 * abs(low) or 1.0
        # What is marked is seen, with air around it.
        self.low = min([low - margin, *(mark - margin for mark in marks)])
        self.high = max([high + margin, *(mark + margin for mark in marks)])

    def scale(self, values: Any) -> Any:
        """Return values as they are drawn."""
        if self.quantity.name != "rho":
            return values
        return np.log10(values) if self.logarithmic else 1e4 * values

    @property
    def name(self) -> str:
        """Symbol and unit."""
        quantity = self.quantity
        symbol = _SYMBOLS.get(quantity.name)
        text = f"${symbol}$" if symbol else quantity.name.replace("_", " ")
        if quantity.name == "rho":
            return (
                r"$\log_{10}(\rho\,/\,\mathrm{mag}^{-1})$"
                if self.logarithmic
                else r"$\rho$ [$10^{-4}$ mag$^{-1}$]"
            )
        return f"{text} [{quantity.unit}]" if quantity.unit else text


def _ends(quantity: Quantity, samples: Sequence[Draws]) -> tuple[float, float]:
    """Return the least and the greatest value of a quantity but for outliers."""
    columns = [sample.columns[quantity] for sample in samples if quantity in sample.columns]
    ends = np.array([np.quantile(column, [0.002, 0.998]) for column in columns])
    return ends[:, 0].min(), ends[:, 1].max()


def _is_rho_logarithmic(quantities: Sequence[Quantity], samples: Sequence[Draws]) -> bool:
    """Return whether all rho are drawn as logarithms: they are positive, and one is wide."""
    ends = [_ends(quantity, samples) for quantity in quantities if quantity.name == "rho"]
    return all(low > 0 for low, _ in ends) and any(
        high > LOGARITHMIC_RATIO * low for low, high in ends
    )


def _grid(n: int, n_posterior: int) -> tuple[Figure, np.ndarray, float]:
    """Return a figure with n x n panels, and the size of its letters [pt]."""
    font = 8.0 if n < FEW else 7.0
    lines = n_posterior if n < FEW else n_posterior + 1
    left, bottom, top = 0.75, 0.6, 0.3 + lines * LINE * font / 72  # [inch]
    # A small corner leaves little room for the legend above its diagonal.
    right = 2.9 if n < 3 else 0.65 if n == 3 else 0.15
    size = min(PANEL_WIDTH, (PAGE_WIDTH - left - right) / min(n, MOST_ON_PAGE))
    width, height = n * size + left + right, n * size + bottom + top
    figure = Figure((width, height))
    edges = {
        "left": left / width,
        "right": 1 - right / width,
        "bottom": bottom / height,
        "top": 1 - top / height,
    }
    spaces = {"wspace": 0.06, "hspace": 0.06}
    panels = figure.subplots(n, n, squeeze=False, gridspec_kw=edges | spaces)
    return figure, panels, font


def _draw_histograms(
    panel: Axes, x: _Axis, samples: Sequence[Draws], styles: Mapping[str, _Style]
) -> None:
    for sample in samples:
        if x.quantity not in sample.columns:
            continue
        draws = x.scale(sample.columns[x.quantity])
        ends = np.quantile(draws, [0.002, 0.16, 0.5, 0.84, 0.998])
        n_bin = int(np.clip(len(np.unique(draws)) ** (1 / 3) * 1.5, 12, 40))
        counts, edges = np.histogram(draws, n_bin, (ends[0], ends[-1]) if np.ptp(ends) else None)
        height = counts / counts.max()
        colour, width = styles[sample.label]
        panel.stairs(height, edges, color=colour, linewidth=width)
        # The 68 % interval ends inside bins.
        inside = np.unique(np.concatenate([edges, ends[[1, 3]]]))
        middle = (inside[1:] + inside[:-1]) / 2
        bins = np.clip(np.searchsorted(edges, middle) - 1, 0, n_bin - 1)
        kept = (middle > ends[1]) & (middle < ends[3])
        area = {"color": colour, "alpha": 0.3 if len(samples) == 1 else 0.2, "linewidth": 0}
        panel.stairs(np.where(kept, height[bins], 0), inside, fill=True, zorder=0.9, **area)
        at_median = height[np.clip(np.searchsorted(edges, ends[2]) - 1, 0, n_bin - 1)]
        panel.plot([ends[2]] * 2, [0, at_median], color=colour, linewidth=width)
    panel.set(xlim=(x.low, x.high), ylim=(0, 1.08), yticks=[])


def _draw_pairs(
    panel: Axes, x: _Axis, y: _Axis, samples: Sequence[Draws], styles: Mapping[str, _Style]
) -> None:
    for sample in samples:
        if not {x.quantity, y.quantity} <= sample.columns.keys():
            continue
        draws = [x.scale(sample.columns[x.quantity]), y.scale(sample.columns[y.quantity])]
        style = styles[sample.label]
        density = density_of(*draws)
        outside = density.outside if density else np.ones(len(draws[0]), bool)
        shown = np.flatnonzero(outside)
        shown = shown[:: max(1, -(-len(shown) // MOST_POINTS))]
        point = {"color": style.colour, "markersize": 1.6, "alpha": 0.45, "markeredgewidth": 0}
        panel.plot(draws[0][shown], draws[1][shown], ".", rasterized=True, **point)
        if density:
            _draw_contours(panel, density, style, alone=len(samples) == 1)
    panel.set(xlim=(x.low, x.high), ylim=(y.low, y.high))


def _draw_contours(panel: Axes, density: Density, style: _Style, *, alone: bool) -> None:
    grid = (density.x, density.y, density.height)
    strengths = (0.22, 0.5) if alone else (0.1, 0.25)
    shades = [to_rgba(style.colour, alpha) for alpha in strengths][-len(density.levels) :]
    panel.contourf(*grid, levels=[*density.levels, np.inf], colors=shades, zorder=0.9)
    line = {"colors": [style.colour], "linewidths": style.width, "zorder": 2}
    panel.contour(*grid, levels=density.levels, **line)


def _mark(
    panel: Axes,
    x: _Axis,
    y: _Axis | None,
    samples: Sequence[Draws],
    styles: Mapping[str, _Style],
) -> None:
    """Draw lines through the maximum and the truth; a symbol where both coordinates are known."""
    drawn = set()
    for sample in samples:
        own = styles[sample.label].colour if sample.own_maximum else MAP_COLOUR
        for mark, style, symbol in (
            (sample.maximum, _MAP_STYLE | {"color": own}, "s"),
            (sample.truth, _TRUTH_STYLE, "x"),
        ):
            known = [axis for axis in (x, y) if axis and axis.quantity in mark]
            place = [axis.scale(mark[axis.quantity]) for axis in known]
            if (symbol, style["color"], *place) in drawn:  # that of all posteriors
                continue
            drawn.add((symbol, style["color"], *place))
            # The lines of several maxima would hide the draws.
            if symbol == "x" or not sample.own_maximum:
                for axis, value in zip(known, place, strict=True):
                    line = panel.axvline if axis is x else panel.axhline
                    line(value, zorder=3, **style)
            if len(known) == 2 or (known and not y and sample.own_maximum and symbol == "s"):
                point = {"color": style["color"], "markersize": 4, "zorder": 4}
                edge = {"markeredgecolor": "white", "markeredgewidth": 0.5} if symbol == "s" else {}
                panel.plot(*place, *([] if y else [0.04]), symbol, **point, **edge)


def _label(panel: Axes, x: _Axis, y: _Axis | None, font: float, *, last: bool) -> None:
    panel.tick_params(labelsize=font - 1, length=2.5, direction="in", top=y is not None)
    # How many letters of the ticks' labels are as wide as the panel.
    width = panel.get_position().width * panel.get_figure().get_figwidth()
    room = width * 72 / (LETTER * (font - 1))
    for axis, shown in ((panel.xaxis, x), (panel.yaxis, y)):
        if shown is None:
            continue
        axis.set_major_locator(FixedLocator(_ticks(shown.low, shown.high, room)))
        axis.set_major_formatter(ScalarFormatter(useOffset=False))
        axis.set_label_text("\n".join(filter(None, (shown.name, shown.quantity.place))))
        axis.label.set_fontsize(font)
    if not last:
        panel.tick_params(labelbottom=False)
        panel.set_xlabel("")


def _ticks(low: float, high: float, room: float) -> np.ndarray:
    """Return round values on an axis `room` letters wide, whose labels do not touch."""
    # Labels near the corners would touch those of the next panel.
    edge = 0.12 * (high - low)
    for count in (5, 4, 3, 2):
        ticks = MaxNLocator(count).tick_values(low, high)
        step = room * (ticks[1] - ticks[0]) / (high - low)
        inside = ticks[(ticks > low + edge) & (ticks < high - edge)]
        if max((len(f"{tick:g}") for tick in inside), default=0) + 1 < step:
            break
    return inside


def _write_titles(
    panel: Axes,
    x: _Axis,
    samples: Sequence[Draws],
    styles: Mapping[str, _Style],
    font: float,
    separator: str,
) -> None:
    """Write over a histogram what it shows, and median and interval of every posterior."""
    lines = [
        (interval(x.scale(sample.columns[x.quantity])), styles[sample.label].colour)
        for sample in samples
        if x.quantity in sample.columns
    ]
    height = LINE * font
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center"}
    for number, (text, colour) in enumerate(reversed(lines)):
        # Light colours are for areas; letters need more contrast.
        colour = 0.75 * np.array(to_rgb(colour)) if len(lines) > 1 else "black"
        at = (0, 3 + number * height)
        panel.annotate(text, (0.5, 1), at, color=colour, fontsize=font + 1, va="bottom", **place)
    title = separator.join(filter(None, (x.name, x.quantity.place)))
    at = (0, 4 + len(lines) * height)
    panel.annotate(title, (0.5, 1), at, fontsize=font, va="bottom", **place)


def interval(draws: np.ndarray) -> str:
    """Write the median of draws and the distances to their 16 and 84 % quantiles.

    Two digits of the smaller distance are told.

    Examples
    --------
    >>> interval(np.array([18.0, 19.0, 20.5, 21.0, 23.0]))
    '$20.5^{+1.2}_{-1.9}$'
    """
    low, middle, high = np.quantile(draws, [0.16, 0.5, 0.84])
    smaller = min(high - middle, middle - low) or max(high - middle, middle - low)
    decimals = int(np.clip(1 - np.floor(np.log10(smaller)), 0, 6)) if smaller > 0 else 2
    up, down = high - middle, middle - low
    return f"${middle:.{decimals}f}^{{+{up:.{decimals}f}}}_{{-{down:.{decimals}f}}}$"


def _write_legend(
    figure: Figure,
    samples: Sequence[Draws],
    styles: Mapping[str, _Style],
    font: float,
    *,
    pairs: bool,
) -> None:
    places = list(dict.fromkeys(sample.place for sample in samples))
    shared = len(places) == 1
    handles: list[Any] = []
    for sample in samples if len(samples) > 1 or not shared else ():
        text = sample.label if shared else f"{sample.label}: {sample.place}"
        colour = styles[sample.label].colour
        handles.append(Patch(facecolor=to_rgba(colour, 0.4), edgecolor=colour, label=text))
    for sample in samples:
        if sample.maximum and (sample.own_maximum or sample is samples[0]):
            colour = styles[sample.label].colour if sample.own_maximum else MAP_COLOUR
            text = "MAP" if not sample.own_maximum else f"MAP, {sample.label}"
            text += "" if sample.converged else " (not converged)"
            line = {"linestyle": "none"} if sample.own_maximum else _MAP_STYLE
            handles.append(
                Line2D([], [], color=colour, marker="s", markersize=4, label=text, **line)
            )
    if any(sample.truth for sample in samples):
        handles.append(Line2D([], [], marker="x", markersize=4, label="truth", **_TRUTH_STYLE))
    if pairs:
        text = "39 % and 86 % of the draws\n(contours)"
        handles.append(Patch(facecolor="0.6", edgecolor="0.3", label=text))
    handles.append(Patch(facecolor="0.8", label="16–84 %, with the median\n(histograms)"))
    title = places[0] if shared else None
    legend = figure.legend(
        handles=handles,
        loc="upper right",
        fontsize=font,
        title=title,
        title_fontsize=font + 1,
        alignment="left",
        frameon=False,
    )
    legend.set_in_layout(True)
