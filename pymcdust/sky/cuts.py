"""Which pixels are kept, and why others are not."""

from enum import IntFlag

import healpy
import numpy as np
from astropy.coordinates import SkyCoord

#: Least part of a pixel's area that must be observed for the mean over it to stand for the pixel.
LEAST_AREA = 0.5


class Mask(IntFlag):
    """Why a pixel has no weight; several reasons may hold at once (Zelko et al. 2022, Sec. 3.3)."""

    OUTSIDE = 1  #: not in the reddening map
    NOT_CONVERGED = 2  #: the fit of the sightline's reddening did not converge
    NO_STARS = 4  #: no star, hence no least reliable distance
    UNRELIABLE = 8  #: an edge lies outside the reliable distances
    NOT_FINITE = 16  #: the reddening is not a number
    DECLINATION = 32  #: outside the range of declinations that was asked for
    NO_EMISSION = 64  #: a band, or the CMB, is missing
    MASK_EDGE = 128  #: too little of the beam is observed
    THINNED = 256  #: one pixel of each beam is kept, and this is another one


def declination_of(nside: int, pixel: np.ndarray) -> np.ndarray:
    """Compute the declination of pixels of a Galactic map.

    Parameters
    ----------
    nside : int
        HEALPix resolution.
    pixel : array of int
        NESTED indices.

    Returns
    -------
    array [deg]
        Declination (ICRS) of their centres.

    Examples
    --------
    The north celestial pole lies at l = 122.93, b = 27.13 deg:

    >>> pole = healpy.ang2pix(1024, 122.932, 27.128, nest=True, lonlat=True)
    >>> declination_of(1024, np.array([pole])).round(1)
    array([90.])
    """
    pole = SkyCoord(0, 90, unit="deg", frame="icrs").galactic.cartesian.xyz.value
    sine = pole @ np.array(healpy.pix2vec(nside, pixel, nest=True))
    return np.rad2deg(np.arcsin(np.clip(sine, -1, 1)))
