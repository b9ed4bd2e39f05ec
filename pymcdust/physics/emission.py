"""Modified blackbody emission of dust, per voxel and summed along the sightline."""

from typing import Any

import numpy as np

from pymcdust.physics.bands import REFERENCE_FREQUENCY
from pymcdust.physics.blackbody import planck


def emissivity(frequency: Any, temperature: Any, beta: Any, rho: Any) -> Any:
    """Return the emission of dust per magnitude of reddening.

    A voxel whose reddening is dE emits dE times this: the optical depth at 353 GHz is rho dE
    (Eq. 2), and its spectrum a modified blackbody (Eq. 1, Zelko et al. 2022).

    Parameters
    ----------
    frequency : array
        Frequency [GHz].
    temperature : array
        Dust temperature [K].
    beta : array
        Emissivity index.
    rho : array
        Optical depth at 353 GHz per reddening [1/mag].

    Returns
    -------
    array
        rho (nu / 353 GHz)^beta B_nu(T) [MJy/sr/mag], all arguments broadcast; NumPy, xarray and
        PyTensor arguments give a result of their kind.
    """
    return rho * (frequency / REFERENCE_FREQUENCY) ** beta * planck(frequency, temperature)


def sightline_emission(
    reddening: np.ndarray, emissivity: np.ndarray, offset: np.ndarray | float = 0.0
) -> np.ndarray:
    """Return what the voxels of each sightline emit together (Eq. 4, Zelko et al. 2022).

    Dust is optically thin in the far infrared, so that voxels add up.

    Parameters
    ----------
    reddening : (..., pixel, voxel) array
        Differential reddening [mag].
    emissivity : (..., voxel, band) array
        Emission per reddening [MJy/sr/mag].
    offset : (..., band) array, optional
        Offset of each band [MJy/sr].

    Returns
    -------
    (..., pixel, band) array
        Emission [MJy/sr].
    """
    return reddening @ emissivity + np.atleast_1d(offset)[..., None, :]
