"""The dipole of the CMB that the motion of the Sun makes."""

import healpy
import numpy as np

#: Amplitude [K_CMB] and direction (l, b) [deg]: Planck 2020 results LVII, Sec. 8.
AMPLITUDE = 3366.6e-6
DIRECTION = (263.986, 48.247)

# Pixels that are computed at a time.
_PIXELS = 2**20


def subtract_dipole(values: np.ndarray, factor: float = 1.0) -> None:
    """Subtract the dipole of the Sun's motion from a map, in place.

    What is of second order in the velocity, 2 microkelvin at most, stays.

    Parameters
    ----------
    values : (12 nside^2,) array
        The map, NESTED, Galactic.
    factor : float
        What takes K_CMB to the unit of the map.

    Examples
    --------
    >>> values = np.zeros(12 * 64**2)
    >>> subtract_dipole(values, factor=1e6)
    >>> towards = healpy.ang2pix(64, *DIRECTION, nest=True, lonlat=True)
    >>> round(values[towards])
    -3367
    """
    nside = healpy.npix2nside(len(values))
    axis = factor * AMPLITUDE * healpy.ang2vec(*DIRECTION, lonlat=True)
    for start in range(0, len(values), _PIXELS):
        pixel = np.arange(start, min(start + _PIXELS, len(values)))
        values[pixel] -= axis @ np.stack(healpy.pix2vec(nside, pixel, nest=True))
