"""Finer voxels, between which light is interpolated without any being lost or made."""

import healpy
import numpy as np
from scipy.sparse import csr_array

#: Most corrections of the values at the centres of pixels.
ROUNDS = 20

#: What is corrected of the logarithm of a pixel's mean, in units of what is missing: neighbours
#: have a part in the mean, so that 1 would be too little.
GAIN = 1.5

#: Largest error of a logarithm that needs no more correction. A factor for each pixel then
#: restores the mean, and is a step of that size.
CLOSE = 0.005


def refine_distance(
    emissivity: np.ndarray, edges: np.ndarray, parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide voxels along the sightline, with a linear profile in each of them.

    The slope is van Leer's (1974), and no steeper than leaves the profile between the neighbours'
    means: nothing becomes negative, no maximum is made, and each voxel keeps its sum.

    Parameters
    ----------
    emissivity : (voxel, pixel, channel) array
        Light per length.
    edges : (coarse pixel, voxel + 1) array
        Distances between the voxels, in one row for the whole sky or in NESTED order.
    parts : int
        Into how many parts, of the same depth, a voxel is divided.

    Returns
    -------
    emissivity : (parts * voxel, pixel, channel) array
        Mean light per length of each part.
    edges : (coarse pixel, parts * voxel + 1) array
        The edges of the parts.

    Examples
    --------
    >>> light = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1) * np.ones((3, 12, 1))
    >>> finer, edges = refine_distance(light, np.array([[0.0, 1.0, 2.0, 3.0]]), 2)
    >>> finer[:, 0, 0]
    array([1.  , 1.  , 1.75, 2.25, 3.  , 3.  ])
    """
    share = emissivity.shape[1] // len(edges)
    depth = np.repeat(np.diff(edges), share, axis=0).T[..., None]
    # Slopes between voxels, in the unit of the light over each voxel's depth.
    centre_step = 0.5 * (depth[1:] + depth[:-1])
    difference = np.diff(emissivity, axis=0)
    rise = np.zeros_like(emissivity)
    before, after = difference[:-1], difference[1:]
    same = before * after > 0
    slope_before, slope_after = before / centre_step[:-1], after / centre_step[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = 2 * slope_before * slope_after / (slope_before + slope_after)
    most = 2 * np.minimum(np.abs(before), np.abs(after))
    bounded = np.clip(slope * depth[1:-1], -most, most)
    rise[1:-1] = np.where(same, bounded, 0.0)
    place = (np.arange(parts) + 0.5) / parts - 0.5
    finer = emissivity[:, None] + rise[:, None] * place[:, None, None]
    fraction = np.arange(parts) / parts
    inner = edges[:, :-1, None] + np.diff(edges)[:, :, None] * fraction
    finer_edges = np.concatenate([inner.reshape(len(edges), -1), edges[:, -1:]], axis=1)
    return finer.reshape(-1, *emissivity.shape[1:]).astype(emissivity.dtype), finer_edges


def refine_angle(emissivity: np.ndarray, parts: int) -> np.ndarray:
    """Divide pixels, with light that is continuous and whose mean in each pixel is kept.

    Between the centres of pixels the logarithm is interpolated bilinearly, of values that are
    corrected until each pixel has its mean. Empty pixels stay empty, and others then end there.

    Parameters
    ----------
    emissivity : (voxel, pixel, channel) array
        Light per length, pixels of the whole sky in NESTED order.
    parts : int
        Into how many parts each side of a pixel is divided, a power of two.

    Returns
    -------
    (voxel, parts^2 * pixel, channel) array
        The finer pixels, NESTED.
    """
    nside = healpy.npix2nside(emissivity.shape[1])
    between = _bilinear(nside, nside * parts, emissivity.dtype)
    result = np.empty(
        (len(emissivity), emissivity.shape[1] * parts**2, emissivity.shape[2]), emissivity.dtype
    )
    for layer, wanted in zip(result, emissivity, strict=True):
        full = wanted > 0
        # Where some of the neighbours are empty, the others count for them.
        share = between @ full.astype(emissivity.dtype)
        share[share == 0] = 1
        by_pixel = layer.reshape(len(wanted), parts**2, -1)
        centre = np.log(wanted, out=np.zeros_like(wanted), where=full)
        for _ in range(ROUNDS):
            layer[...] = np.exp((between @ centre) / share)
            mean = by_pixel.mean(axis=1, dtype=float)
            factor = np.divide(wanted, mean, out=np.zeros_like(mean), where=full)
            correction = np.log(factor, out=np.zeros_like(mean), where=full)
            if np.abs(correction).max(initial=0) < CLOSE:
                break
            centre += GAIN * correction
        by_pixel *= factor[:, None]
    return result


def _bilinear(nside: int, finer: int, dtype: np.dtype) -> csr_array:
    """Return the weights that the pixels of one Nside have at the centres of finer ones, NESTED."""
    count, finer_count = healpy.nside2npix(nside), healpy.nside2npix(finer)
    theta, phi = healpy.pix2ang(finer, np.arange(finer_count), nest=True)
    lenders, weights = healpy.get_interp_weights(nside, theta, phi, nest=True)
    ends = np.arange(0, 4 * finer_count + 1, 4)
    return csr_array(
        (weights.T.ravel().astype(dtype), lenders.T.ravel(), ends), shape=(finer_count, count)
    )
