"""Finer voxels, between which light is interpolated without any being lost or made."""

import healpy
import numpy as np

#: Times that neighbours are asked again what they lend: the last correction is then small.
ROUNDS = 8


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
    """Divide pixels, interpolating between their centres so that each keeps its mean.

    Bilinear interpolation flattens; what is interpolated is therefore corrected, by a factor for
    each pixel, until the pixel has its mean again. Empty pixels stay empty.

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
    finer = np.arange(healpy.nside2npix(nside * parts))
    theta, phi = healpy.pix2ang(nside * parts, finer, nest=True)
    lenders, weights = healpy.get_interp_weights(nside, theta, phi, nest=True)
    weights = weights.astype(emissivity.dtype)[..., None]
    result = np.empty((len(emissivity), len(finer), emissivity.shape[2]), emissivity.dtype)
    for layer, wanted in zip(result, emissivity, strict=True):
        lent = wanted
        for left in reversed(range(ROUNDS)):
            layer[...] = 0.0
            for lender, weight in zip(lenders, weights, strict=True):
                layer += lent[lender] * weight
            by_pixel = layer.reshape(len(wanted), parts**2, -1)
            mean = by_pixel.mean(axis=1, dtype=float)
            factor = np.divide(wanted, mean, out=np.zeros_like(mean), where=mean > 0)
            if left:
                lent = (lent * factor).astype(emissivity.dtype)
        by_pixel *= factor[:, None]
    return result
