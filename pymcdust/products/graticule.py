"""Lines of equal longitude and latitude: how they look, where they are, where labels stand."""

from typing import Any

import numpy as np
from matplotlib.patheffects import withStroke

LINE: dict[str, Any] = {"color": "0.35", "linewidth": 0.35, "alpha": 0.55}
LABEL: dict[str, Any] = {"color": "0.25", "fontsize": 6}
HALO = withStroke(linewidth=1.2, foreground="white", alpha=0.8)


def degrees(angle: float) -> str:
    """Write an angle with the minus sign that colour bars have."""
    return f"{angle:g}°".replace("-", "−")


def wrap(longitude: Any) -> Any:
    """Return longitudes [deg] between -180 and 180."""
    return (np.asarray(longitude) + 180) % 360 - 180


def round_step(span: float) -> float:
    """Return the round number of degrees nearest above `span`, which is less than 90."""
    if span > 10:
        return float(min(step for step in (20, 30, 60, 90) if step >= span))
    power = 10 ** np.floor(np.log10(span))
    return float(min(step for step in (1, 2, 5, 10) if step * power >= span) * power)


def round_values(values: np.ndarray, step: float) -> np.ndarray:
    """Return the multiples of `step` between the least and the greatest of `values`."""
    multiples = np.arange(np.ceil(values.min() / step), np.floor(values.max() / step) + 1)
    # Rounded, because 3 * 0.1 is not 0.3 to all digits.
    return np.round(multiples * step, 10) + 0.0  # lest there be a -0


def leaving(
    x: np.ndarray, y: np.ndarray, extent: tuple[float, float, float, float]
) -> tuple[float, float, str] | None:
    """Return where a line leaves a frame, and by which side; None if it does not.

    Parameters
    ----------
    x, y : array
        The line, from inside.
    extent : tuple of float
        Left, right, bottom and top of the frame.
    """
    left, right, bottom, top = extent
    for side, edge in (("bottom", bottom), ("top", top)):
        if (place := crossing(y, x, edge, left, right)) is not None:
            return place, edge, side
    for side, edge in (("left", left), ("right", right)):
        if (place := crossing(x, y, edge, bottom, top)) is not None:
            return edge, place, side
    return None


def crossing(
    across: np.ndarray, along: np.ndarray, edge: float, low: float, high: float
) -> float | None:
    """Return where a line first crosses the edge of a frame; None where it misses the edge."""
    crossed = np.diff(np.sign(across - edge))
    # Behind the observer a line has no place, and its difference is NaN.
    for place in np.flatnonzero(np.isfinite(crossed) & (crossed != 0)):
        weight = (edge - across[place]) / (across[place + 1] - across[place])
        there = float(along[place] + weight * (along[place + 1] - along[place]))
        if low < there < high:
            return there
    return None
