"""Convolution of maps with a Gaussian beam, in which what is not observed has no weight.

A map m with weights w (1 where it is observed, else 0) is smoothed as smooth(w m) / smooth(w), so
that a hole neither darkens its surroundings nor spreads. The same division takes away the error of
HEALPix's quadrature, which near the poles is 3 % of the mean in a single analysis.
"""

import ducc0
import healpy
import numpy as np

from pymcdust.errors import ConfigurationError
from pymcdust.sky.cuts import LEAST_AREA

#: Least part of the beam that must be observed for a smoothed pixel to stand for the sky.
LEAST_WEIGHT = 0.95

#: Kernels narrower than this [arcmin] change no map: beams that differ by rounding are equal.
NARROWEST = 0.05

_SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))


def kernel_width(beam: float, target: float) -> float:
    """Find the Gaussian that takes a map from its own beam to a wider one.

    Parameters
    ----------
    beam, target : float [arcmin]
        FWHM of the map's beam, and of the beam that is wanted.

    Returns
    -------
    float [arcmin]
        FWHM of the kernel; 0 where the beams are equal.

    Raises
    ------
    ConfigurationError
        If the map's beam is the wider one: maps are smoothed, never sharpened.

    Examples
    --------
    Of Bayestar and of Planck at 353 GHz (Zelko et al. 2022, Sec. 3.2):

    >>> round(kernel_width(3.44, 10.0), 2), round(kernel_width(5.0, 10.0), 2)
    (9.39, 8.66)
    """
    if beam > target + NARROWEST:
        raise ConfigurationError(
            f"a map with a beam of {beam:g} arcmin cannot be brought to {target:g} arcmin; the "
            f"common beam must be at least {beam:g} arcmin"
        )
    squared = max(0.0, target**2 - beam**2)
    width = float(np.sqrt(squared))
    return width if width > NARROWEST else 0.0


class Smoother:
    """Smooths maps that are observed in the same pixels.

    Parameters
    ----------
    observed : (12 n^2,) array of bool or float
        Weight of each pixel, NESTED.
    fwhm : float or None [arcmin]
        Width of the Gaussian kernel. 0 keeps the beam; None averages the pixels of a finer map,
        which widens it by theirs.
    nside : int
        HEALPix resolution of the smoothed maps, at most n.

    Attributes
    ----------
    weight : (12 nside^2,) array of float32
        Part of the kernel that is observed, NESTED; where pixels are averaged, 1 where at least
        half of their area is observed.
    """

    def __init__(self, observed: np.ndarray, fwhm: float | None, nside: int) -> None:
        self.nside = nside
        self._observed = observed
        unchanged = fwhm == 0 and len(observed) == 12 * nside**2
        self._fwhm = None if unchanged else fwhm
        if self._fwhm is None:
            rebinned = mean_over_children(np.where(observed > 0, 1.0, np.nan), nside)
            self.weight = np.isfinite(rebinned).astype(np.float32)
            return
        # One map serves for both where all is observed.
        one = np.ones(len(observed))
        self._whole = self._convolve(one, self._fwhm)
        if (observed == 1).all():
            self._norm = self._whole
        else:
            self._norm = self._convolve(observed.astype(float), self._fwhm)
        self.weight = (self._norm / self._whole).astype(np.float32)

    @property
    def enough(self) -> np.ndarray:
        """Where the smoothed maps are valid, (12 nside^2,) array of bool."""
        return self.weight > LEAST_WEIGHT

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Smooth a map.

        Parameters
        ----------
        values : (12 n^2,) array
            Map in NESTED order; what is not observed may be anything, NaN included.

        Returns
        -------
        (12 nside^2,) array of float32
            NESTED, in the unit of `values`; NaN where `enough` is false.
        """
        if self._fwhm is None:
            return mean_over_children(self._seen(values, np.nan), self.nside).astype(np.float32)
        smoothed = self._convolve(self._weighted(values), self._fwhm)
        return self._divided(smoothed, self._norm)

    def variance(self, values: np.ndarray) -> np.ndarray:
        """Find the variance of the smoothed map from that of the map, its pixels independent.

        The square of a Gaussian kernel of width s is a Gaussian of width s / sqrt(2), times the
        sum of (2 l + 1) b_l^2 / (4 pi).

        Parameters
        ----------
        values : (12 n^2,) array
            Variance of each pixel of the map, NESTED.

        Returns
        -------
        (12 nside^2,) array of float32
            Variance of each smoothed pixel; NaN where `enough` is false. Neighbours within a
            beam are correlated.
        """
        if self._fwhm is None:
            children = len(values) // (12 * self.nside**2)
            mean = mean_over_children(self._seen(values, np.nan), self.nside)
            observed = (self._observed > 0).reshape(-1, children).sum(axis=1)
            return (mean / np.maximum(observed, 1)).astype(np.float32)
        multipole = np.arange(3 * self.nside)
        square = ((2 * multipole + 1) * beam_window(self._fwhm, multipole[-1]) ** 2).sum()
        smoothed = self._convolve(self._weighted(values), self._fwhm / np.sqrt(2))
        smoothed *= square / len(values)
        return self._divided(smoothed, self._norm**2 / self._whole)

    def _seen(self, values: np.ndarray, instead: float) -> np.ndarray:
        return np.where(self._observed > 0, values, instead)

    def _weighted(self, values: np.ndarray) -> np.ndarray:
        return self._seen(values, 0.0).astype(float, copy=False) * self._observed

    def _divided(self, smoothed: np.ndarray, norm: np.ndarray) -> np.ndarray:
        out = np.full(len(smoothed), np.nan, dtype=np.float32)
        np.divide(smoothed, norm, out=out, where=self.enough, casting="same_kind")
        return out

    def _convolve(self, values: np.ndarray, fwhm: float) -> np.ndarray:
        """Convolve a map of float64 without holes, (12 n^2,) to (12 nside^2,), both NESTED."""
        nside = healpy.npix2nside(len(values))
        # The kernel leaves nothing beyond what the smoothed map can hold.
        lmax = 3 * self.nside - 1
        ring = healpy.reorder(values, n2r=True)
        area = np.full(4 * nside - 1, 4 * np.pi / len(values))
        alm = ducc0.sht.adjoint_synthesis(
            map=ring[np.newaxis],
            lmax=lmax,
            spin=0,
            nthreads=0,
            ringfactor=area,
            **_rings(nside),
        )
        healpy.almxfl(alm[0], beam_window(fwhm, lmax), inplace=True)
        smoothed = ducc0.sht.synthesis(alm=alm, lmax=lmax, spin=0, nthreads=0, **_rings(self.nside))
        return healpy.reorder(smoothed[0], r2n=True)


def mean_over_children(values: np.ndarray, nside: int) -> np.ndarray:
    """Rebin a full-sky NESTED map to a coarser nside by the mean of the observed pixels.

    A pixel of which less than `LEAST_AREA` is observed becomes NaN.

    Parameters
    ----------
    values : (12 n^2,) array
        Map in NESTED order, NaN where it is not observed.
    nside : int
        The coarser resolution, at most n.

    Returns
    -------
    (12 nside^2,) array of float64
        Mean over the observed children of each pixel, in the unit of `values`.

    Examples
    --------
    >>> children = np.repeat(np.arange(12.0), 4)
    >>> children[:3] = np.nan
    >>> mean_over_children(children, 1)[:3]
    array([nan,  1.,  2.])
    """
    children = values.reshape(12 * nside**2, -1)
    observed = np.isfinite(children)
    count = observed.sum(axis=1)
    total = np.sum(children, axis=1, where=observed, dtype=np.float64)
    enough = count >= LEAST_AREA * children.shape[1]
    return np.divide(total, count, out=np.full(len(total), np.nan), where=enough)


def beam_window(fwhm: float, lmax: int) -> np.ndarray:
    """Compute the window b_l = exp(-l (l + 1) s^2 / 2) of a Gaussian beam of width s.

    Parameters
    ----------
    fwhm : float [arcmin]
        Full width at half maximum, s sqrt(8 ln 2).
    lmax : int
        Largest multipole.

    Returns
    -------
    (lmax + 1,) array
        1 at l = 0.
    """
    multipole = np.arange(lmax + 1.0)
    sigma = np.deg2rad(fwhm / 60) * _SIGMA_PER_FWHM
    return np.exp(-0.5 * multipole * (multipole + 1) * sigma**2)


def pixels_per_beam(fwhm: float, nside: int) -> float:
    """Count the pixels of a HEALPix map in the solid angle 2 pi s^2 of a Gaussian beam.

    Parameters
    ----------
    fwhm : float [arcmin]
        Full width at half maximum of the beam.
    nside : int
        HEALPix resolution of the pixels.

    Returns
    -------
    float

    Examples
    --------
    >>> round(pixels_per_beam(10.0, 1024), 1)
    9.6
    """
    sigma = np.deg2rad(fwhm / 60) * _SIGMA_PER_FWHM
    return float(2 * np.pi * sigma**2 / (4 * np.pi / (12 * nside**2)))


def _rings(nside: int) -> dict[str, np.ndarray]:
    return ducc0.healpix.Healpix_Base(nside, "RING").sht_info()
