"""The Planck function, in the units of far-infrared maps."""

from functools import singledispatch
from typing import Any

import numpy as np
import pytensor.xtensor.math as ptx
from astropy import constants
from astropy import units as u
from pytensor.xtensor.type import XTensorVariable

#: h / k in K per GHz: the energy of a photon over the thermal energy is this times nu / T.
PLANCK_OVER_BOLTZMANN: float = float((constants.h / constants.k_B).to_value(u.K / u.GHz))

#: 2 h nu^3 / c^2 at 1 GHz, in MJy/sr.
RADIANCE_SCALE: float = float((2 * constants.h * u.GHz**3 / constants.c**2).to_value(u.MJy))


@singledispatch
def expm1(x: Any) -> Any:
    """Return exp(x) - 1 without loss of digits, whichever library `x` belongs to."""
    return np.expm1(x)


@expm1.register
def _(x: XTensorVariable) -> XTensorVariable:
    # NumPy's functions reach tensors through their methods; named-dimension tensors lack this one.
    return ptx.expm1(x)


def planck(frequency: Any, temperature: Any) -> Any:
    """Return the Planck function B_nu(T) = (2 h nu^3 / c^2) / (exp(h nu / k T) - 1).

    Parameters
    ----------
    frequency : array
        Frequency [GHz]: NumPy, xarray, or PyTensor.
    temperature : array
        Temperature [K], broadcast against `frequency`.

    Returns
    -------
    array
        Specific intensity [MJy/sr].

    Examples
    --------
    >>> round(float(planck(353.0, 18.0)), 1)
    41495.9
    """
    return RADIANCE_SCALE * frequency**3 / expm1(PLANCK_OVER_BOLTZMANN * frequency / temperature)
