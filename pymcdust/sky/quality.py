"""How well reddening tells the voxels of a superpixel apart, and whether emission follows it."""

import numpy as np

from pymcdust.errors import SkyError


def singular_values(reddening: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Compute the singular values of the design of superpixels, its columns scaled to unit norm.

    The columns are the voxels, the rows the valid pixels. Scaled so, the values tell how alike the
    patterns of the voxels are, not how much dust there is.

    Parameters
    ----------
    reddening : (superpixel, pixel, voxel) array
        Differential reddening; what is not valid may be anything.
    valid : (superpixel, pixel) array of bool
        Which pixels count.

    Returns
    -------
    (superpixel, voxel) array
        Descending. A voxel without dust adds a zero.

    Raises
    ------
    SkyError
        If the shapes do not go together.

    Examples
    --------
    Two voxels with orthogonal patterns, and two with the same:

    >>> design = np.array([[[1.0, 0.0], [0.0, 5.0]], [[1.0, 3.0], [1.0, 3.0]]])
    >>> singular_values(design, np.ones((2, 2), dtype=bool)).round(3)
    array([[1.   , 1.   ],
           [1.414, 0.   ]])
    """
    if reddening.shape[:2] != valid.shape:
        raise SkyError(f"reddening of shape {reddening.shape} and valid of shape {valid.shape}")
    columns = np.where(valid[..., np.newaxis], reddening, 0).astype(float)
    norm = np.linalg.norm(columns, axis=1, keepdims=True)
    np.divide(columns, norm, out=columns, where=norm > 0)
    values = np.linalg.svd(columns, compute_uv=False)
    missing = reddening.shape[2] - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing)])


def column_correlation(
    reddening: np.ndarray, emission: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Compute Pearson's correlation of the reddening's column with an emission, per superpixel.

    Parameters
    ----------
    reddening : (superpixel, pixel, voxel) array [mag]
        Differential reddening; what is not valid may be anything.
    emission : (superpixel, pixel) array [MJy/sr]
        Of one band.
    valid : (superpixel, pixel) array of bool
        Which pixels count.

    Returns
    -------
    (superpixel,) array
        NaN where fewer than two pixels count, or one of the two is constant.

    Examples
    --------
    >>> reddening = np.array([[[1.0, 1.0], [2.0, 1.0], [3.0, 3.0]]])
    >>> column_correlation(reddening, np.array([[4.0, 6.0, 12.0]]), np.ones((1, 3), dtype=bool))
    array([1.])
    """
    count = valid.sum(axis=1)
    column = _centred(reddening.sum(axis=2, dtype=float), valid)
    emission = _centred(emission.astype(float), valid)
    product = (column * emission).sum(axis=1)
    size = np.sqrt((column**2).sum(axis=1) * (emission**2).sum(axis=1))
    out = np.full(len(valid), np.nan)
    return np.divide(product, size, out=out, where=(count > 1) & (size > 0))


def _centred(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Subtract the mean over valid pixels, and put zero where a pixel is not valid."""
    values = np.where(valid, values, 0)
    mean = values.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
    # What differs from the mean by rounding only is constant.
    centred = np.where(valid, values - mean[:, np.newaxis], 0)
    centred[np.abs(centred) <= 1e-7 * np.abs(mean[:, np.newaxis])] = 0
    return centred
