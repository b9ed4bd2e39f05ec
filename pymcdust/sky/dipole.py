"""The dipole of the CMB that the motion of the Sun makes."""

import healpy
import numpy as np

#: Amplitude [K_CMB] and direction (l, b) [deg]: Planck 2020 results LVII, Sec. 8.
AMPLITUDE = 3366.6e-6
DIRECTION = (263.986, 48.247)

# Pixels that are computed at a time.
_PIXELS = 2**20


def solar_dipole(nside: int) -> np.ndarray:
    """Compute the dipole of the Sun's motion on all pixels.

    What is of second order in the velocity, 2 microkelvin at most, is left out.

    Parameters
    ----------
    nside : int
        HEALPix resolution.

    Returns
    -------
    (12 nside^2,) array of float32
        In K_CMB, NESTED, Galactic.

    Examples
    --------
    >>> dipole = solar_dipole(64)
    >>> towards = healpy.ang2pix(64, *DIRECTION, nest=True, lonlat=True)
    >>> round(1e6 * float(dipole[towards]))
    3366
    """
    axis = healpy.ang2vec(*DIRECTION, lonlat=True)
    dipole = np.empty(12 * nside**2, dtype=np.float32)
    for start in range(0, len(dipole), _PIXELS):
        pixel = np.arange(start, min(start + _PIXELS, len(dipole)))
        dipole[pixel] = AMPLITUDE * (axis @ np.stack(healpy.pix2vec(nside, pixel, nest=True)))
    return dipole
