"""Colour scales of figures: limits that outliers do not set, and what is told of them."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import FigureBase
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

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
    """

    colours: Colormap
    norm: Normalize
    extend: str

    def clip(self, values: np.ndarray) -> np.ndarray:
        """Return values that the norm can show: a logarithm has no place for zero."""
        if isinstance(self.norm, LogNorm):
            return np.where(values <= 0, self.norm.vmin * (1 - 1e-6), values)
        return values

    def bar(self, figure: FigureBase, axes: list[Axes], label: str, vertical: bool) -> Colorbar:
        """Draw the colour bar beside (vertical) or below the axes."""
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
        if isinstance(self.norm, LogNorm):
            # The fewer decades, the more ticks between the powers of ten.
            decades = np.log10(self.norm.vmax / self.norm.vmin)
            ticks = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 3 else (1,)
            axis.set_major_locator(MaxNLocator(5) if decades < 0.5 else LogLocator(subs=ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        else:
            axis.set_major_locator(MaxNLocator(5 if vertical else 6))
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
        half = max((high - low) / 2, SMALLEST_SPAN * abs(low + high) / 4, 1e-12)
        norm = Normalize((low + high) / 2 - half, (low + high) / 2 + half)
    return Scale(_with_grey(colours), norm, _extend(values, norm))


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
    return Scale(_with_grey(colours), norm, _extend(values, norm))


def _finite(values: np.ndarray) -> np.ndarray:
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    return finite if finite.size else np.zeros(1)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(_finite(values), PERCENTILES)
    return float(low), float(high)


def _extend(values: np.ndarray, norm: Normalize) -> str:
    finite = _finite(values)
    below, above = finite.min() < norm.vmin, finite.max() > norm.vmax
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


def _with_grey(colours: str) -> Colormap:
    return colormaps[colours].with_extremes(bad=NO_DATA_COLOUR)
