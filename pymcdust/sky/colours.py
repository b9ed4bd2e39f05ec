"""The colours of the emission, against those of typical dust: a wrong unit shows."""

import numpy as np

from pymcdust.physics.bands import K_CMB_TO_MJY_SR
from pymcdust.physics.emission import emissivity

#: Typical dust (Zelko et al. 2022, Sec. 3.1.1) [K].
TYPICAL_TEMPERATURE = 18.1
TYPICAL_BETA = 1.6


def kelvin_factor(band: str) -> float | None:
    """Return what takes K_CMB to MJy/sr in a band; None where that cannot be said.

    Examples
    --------
    >>> kelvin_factor("353"), kelvin_factor("2998")
    (287.45, None)
    """
    return K_CMB_TO_MJY_SR.get(band)


def typical_emissivity(frequency: np.ndarray) -> np.ndarray:
    """Compute the emission of typical dust whose optical depth at 353 GHz is 1.

    Parameters
    ----------
    frequency : array [GHz]
        Any shape.

    Returns
    -------
    array [MJy/sr]
        Of the same shape.

    Examples
    --------
    >>> (typical_emissivity(np.array([353.0])) * 1e-4).round(1)  # of 1 mag where rho is 1e-4
    array([4.2])
    """
    return emissivity(frequency, TYPICAL_TEMPERATURE, TYPICAL_BETA, 1.0)


def colour_factors(emission: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Tell by which factor the emission of each band is off that of typical dust.

    Parameters
    ----------
    emission : (band,) array [MJy/sr]
        What bands have in common with dust: medians, or slopes.
    frequency : (band,) array [GHz]
        Their frequencies.

    Returns
    -------
    (band,) array
        The emission over a modified blackbody of `TYPICAL_TEMPERATURE` and `TYPICAL_BETA`, divided
        by the median of that over the bands, so that one wrong band stands alone. NaN where the
        emission is not positive.

    Examples
    --------
    A map in K_CMB that was taken for one in MJy/sr:

    >>> frequency = np.array([217.0, 353.0, 545.0, 857.0, 2998.0])
    >>> dust = 1e-4 * typical_emissivity(frequency)
    >>> colour_factors(dust / [1, 287.45, 1, 1, 1], frequency).round(4)
    array([1.    , 0.0035, 1.    , 1.    , 1.    ])
    """
    ratio = emission / typical_emissivity(frequency)
    ratio = np.where(ratio > 0, ratio, np.nan)
    return ratio / np.nanmedian(ratio) if np.isfinite(ratio).any() else ratio
