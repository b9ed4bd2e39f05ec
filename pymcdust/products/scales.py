"""Colour scales of figures: limits that outliers do not set, and what is told of them."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import AsinhNorm, Colormap, LogNorm, Normalize
from matplotlib.figure import FigureBase
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
)

from pymcdust.products.projection import NO_DATA_COLOUR

#: Percentiles of the values at which a scale ends.
PERCENTILES = (2.0, 98.0)

#: A logarithmic scale spans no more than this: what is fainter by more is noise.
LARGEST_RATIO = 300.0

#: Positive values that span more than this get a logarithmic scale.
LOGARITHMIC_RATIO = 8.0


#: A linear scale spans at least this share of its middle, lest small differences look large.
SMALLEST_SPAN = 0.1


@dataclass(frozen=True)
class Scale:
    """How values become colours.

    Parameters
    ----------
    colours : Colormap
        The colours; light grey where there is no value.
    norm : Normalize
        Lowest and highest value, and what lies between.
    extend : {"neither", "min", "max", "both"}
        At which ends there are values beyond the scale.
    empty : bool
        Whether there is no value at all, so that the limits mean nothing.
    """

    colours: Colormap
    norm: Normalize
    extend: str
    empty: bool = False

    def clip(self, values: np.ndarray) -> np.ndarray:
        """Return values that the norm can show: a logarithm has no place for zero."""
        if isinstance(self.norm, LogNorm):
            return np.where(values <= 0, self.norm.vmin * (1 - 1e-6), values)
        return values

    def bar(self, figure: FigureBase, axes: list[Axes], label: str, vertical: bool) -> Colorbar:
        """Draw the colour bar beside (vertical) or below the axes, of no values only its label."""
        shape = (
            {"orientation": "vertical", "aspect": 16, "shrink": 0.85, "pad": 0.02}
            if vertical
            else {"orientation": "horizontal", "aspect": 35, "shrink": 0.7, "pad": 0.02}
        )
        bar = figure.colorbar(
            ScalarMappable(self.norm, self.colours), ax=axes, extend=self.extend, **shape
        )
        bar.set_label(label, fontsize=8)
        bar.ax.tick_params(labelsize=7, length=2.5)
        bar.outline.set_linewidth(0.5)
        axis = bar.ax.yaxis if vertical else bar.ax.xaxis
        if self.empty:
            axis.set_major_locator(NullLocator())
            axis.set_minor_locator(NullLocator())
            bar.solids.set_visible(False)
            bar.outline.set_visible(False)
        elif isinstance(self.norm, LogNorm):
            # The fewer decades, the more ticks between the powers of ten.
            decades = np.log10(self.norm.vmax / self.norm.vmin)
            ticks = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 3 else (1,)
            axis.set_major_locator(MaxNLocator(5) if decades < 0.5 else LogLocator(subs=ticks))
            axis.set_major_formatter(FuncFormatter(_plain))
            axis.set_minor_locator(NullLocator())
        elif isinstance(self.norm, AsinhNorm):
            ticks = _asinh_ticks(self.norm)
            axis.set_major_locator(FixedLocator(ticks) if len(ticks) > 2 else MaxNLocator(5))
            axis.set_major_formatter(FuncFormatter(_plain))
            axis.set_minor_locator(NullLocator())
        else:
            # Below one column there is less room.
            columns = {panel.get_subplotspec().colspan.start for panel in axes}
            axis.set_major_locator(MaxNLocator(5 if vertical else 6 if len(columns) > 1 else 4))
        return bar


def is_wide(values: np.ndarray) -> bool:
    """Return whether positive values span so much that they need a logarithmic scale."""
    low, high = _limits(values)
    return bool(high > LOGARITHMIC_RATIO * max(low, high / LARGEST_RATIO))


def sequential(
    values: np.ndarray, colours: str, logarithmic: bool, largest_ratio: float = LARGEST_RATIO
) -> Scale:
    """Return a scale for values that grow.

    Parameters
    ----------
    values : array
        What will be shown; NaN is left out.
    colours : str
        Name of a colour map.
    logarithmic : bool
        Whether the scale is logarithmic, if there are positive values at all.
    largest_ratio : float
        The most that a logarithmic scale spans.

    Returns
    -------
    Scale
        The scale between `PERCENTILES` of the values.
    """
    low, high = _limits(values)
    if logarithmic and high > 0:
        low = max(low, high / largest_ratio)
        low, high = (low, high) if high > 1.001 * low else (low / 1.1, high * 1.1)
        norm = LogNorm(low, high)
    else:
        half = max((high - low) / 2, SMALLEST_SPAN * abs(low + high) / 4) or 1.0
        norm = Normalize((low + high) / 2 - half, (low + high) / 2 + half)
    return _scale(values, colours, norm)


def noisy(values: np.ndarray, colours: str, noise: float) -> Scale:
    """Return a scale for positive values with noise, which may be negative.

    A logarithm would show every negative value as a hole.

    Parameters
    ----------
    values : array
        What will be shown; NaN is left out.
    colours : str
        Name of a colour map.
    noise : float
        Standard deviation of the noise: the scale is linear below, logarithmic far above.

    Returns
    -------
    Scale
        The inverse hyperbolic sine between `PERCENTILES` of the values.
    """
    low, high = _limits(values)
    norm = AsinhNorm(noise, low, high if high > low else low + noise)
    return _scale(values, colours, norm)


def symmetric(values: np.ndarray, colours: str) -> Scale:
    """Return a scale with zero in its middle.

    Parameters
    ----------
    values : array
        What will be shown; NaN is left out.
    colours : str
        Name of a diverging colour map.

    Returns
    -------
    Scale
        The scale up to the last of `PERCENTILES` of the absolute values.
    """
    limit = np.percentile(np.abs(_finite(values)), PERCENTILES[1]) or 1.0
    norm = Normalize(-limit, limit)
    return _scale(values, colours, norm)


def reaches_zero(values: np.ndarray) -> bool:
    """Return whether a scale between `PERCENTILES` of the values would hold zero or less."""
    return _limits(values)[0] <= 0


def _scale(values: np.ndarray, colours: str, norm: Normalize) -> Scale:
    empty = not np.isfinite(values).any()
    return Scale(_with_grey(colours), norm, _extend(values, norm), empty)


def _finite(values: np.ndarray) -> np.ndarray:
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    return finite if finite.size else np.zeros(1)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(_finite(values), PERCENTILES)
    return float(low), float(high)


def _plain(value: float, _: int) -> str:
    return f"{value:g}".replace("-", "−")


def _asinh_ticks(norm: AsinhNorm) -> list[float]:
    """Return round values, no two of them closer than a seventh of the scale."""
    low, high = norm.vmin, norm.vmax
    first = 10 ** np.floor(np.log10(norm.linear_width))
    count = max(1, int(np.ceil(np.log10(max(high, -low) / first))) + 1)
    steps = np.outer(first * 10.0 ** np.arange(count), [1, 2, 5]).ravel()
    ticks = [0.0] if low <= 0 <= high else []
    # From the far end, whose values are what the map is about.
    for tick in [*steps[::-1], *-steps[::-1]]:
        near = [abs(float(norm(tick)) - float(norm(other))) for other in ticks]
        if low <= tick <= high and min(near, default=1) > 1 / 7:
            ticks.append(float(tick))
    return sorted(ticks)


def _extend(values: np.ndarray, norm: Normalize) -> str:
    finite = _finite(values)
    below, above = finite.min() < norm.vmin, finite.max() > norm.vmax
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


def _with_grey(colours: str) -> Colormap:
    return colormaps[colours].with_extremes(bad=NO_DATA_COLOUR)
