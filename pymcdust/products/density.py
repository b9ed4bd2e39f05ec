"""Contours of draws in two dimensions, smoothed along their own correlation."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.ndimage import gaussian_filter, map_coordinates

#: Parts of the draws inside the contours: what an ellipse of one and of two standard deviations
#: holds of a Gaussian in two dimensions, 1 - exp(-1/2) and 1 - exp(-2).
CONTOUR_MASS: tuple[float, float] = (1 - np.exp(-0.5), 1 - np.exp(-2.0))

#: Fewer different draws than this have no contours that mean something.
LEAST_DISTINCT = 50

#: The kernel's width in units of Scott's rule. A wider one makes contours calmer, and they hold the
#: same part of the draws.
WIDENING = 1.25

#: Most cells of the grid along each direction: heavy tails would ask for any number.
MOST_CELLS = 400


@dataclass(frozen=True)
class Density:
    """Where draws are dense.

    Parameters
    ----------
    x, y : (cell, cell) array
        Centres of the cells; the grid is sheared along the correlation of the draws.
    height : (cell, cell) array
        Density of draws, up to a factor.
    levels : tuple of float
        Heights that enclose `CONTOUR_MASS` of the draws, from the lower (outer) to the higher.
    outside : (draw,) array of bool
        Which draws lie outside the outer contour.
    """

    x: np.ndarray
    y: np.ndarray
    height: np.ndarray
    levels: tuple[float, ...]
    outside: np.ndarray


def density_of(x: np.ndarray, y: np.ndarray) -> Density | None:
    """Estimate the density of draws by smoothing them with a Gaussian.

    The kernel has the shape of the draws' own covariance, lest two parameters that are strongly
    correlated look less so. Levels are those of the draws themselves: smoothing widens a contour,
    but each holds as many draws as it says.

    Parameters
    ----------
    x, y : (draw,) arrays
        The draws.

    Returns
    -------
    Density or None
        None where the draws lie on a line, or too few of them differ.

    Examples
    --------
    >>> x, y = np.random.default_rng(0).standard_normal((2, 4000))
    >>> round(float(density_of(x, y).outside.mean()), 2)  # exp(-2)
    0.14
    """
    points = np.stack([x, y])
    scale = points.std(axis=1, keepdims=True)
    # Importance sampling draws the best points again and again.
    distinct = len(np.unique(x + 1j * y))
    if distinct < LEAST_DISTINCT or not (scale > 0).all():
        return None
    standard = (points - points.mean(axis=1, keepdims=True)) / scale
    covariance = np.cov(standard)
    if np.linalg.det(covariance) < 1e-12:
        return None
    factor = np.linalg.cholesky(covariance)
    white = solve_triangular(factor, standard, lower=True)

    bandwidth = distinct ** (-1 / 6) * WIDENING
    low, high = np.quantile(white, [0.0005, 0.9995], axis=1)
    low, high = low - 4 * bandwidth, high + 4 * bandwidth
    cells = np.clip(np.ceil((high - low) / (bandwidth / 2)), 40, MOST_CELLS).astype(int)
    edges = [np.linspace(*ends) for ends in zip(low, high, cells + 1, strict=True)]
    counts, *_ = np.histogram2d(*white, bins=edges)
    step = (high - low) / cells
    height = gaussian_filter(counts, bandwidth / step, mode="constant")

    place = (white - low[:, None]) / step[:, None] - 0.5
    at_draws = map_coordinates(height, place, order=1, mode="constant")
    inner, outer = np.quantile(at_draws, 1 - np.asarray(CONTOUR_MASS))
    centres = np.meshgrid(*[(e[1:] + e[:-1]) / 2 for e in edges], indexing="ij")
    back = factor @ np.stack([centre.ravel() for centre in centres])
    back = back * scale + points.mean(axis=1, keepdims=True)
    grid_x, grid_y = back.reshape(2, *height.shape)
    levels = (float(outer), float(inner)) if 0 < outer < inner else (float(inner),)
    return Density(grid_x, grid_y, height, levels, at_draws < outer)
