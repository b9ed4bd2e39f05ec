"""The numbers of the bands, against astropy and each other."""

import numpy as np
import pytest
from astropy import constants
from astropy import units as u

from pymcdust.physics.bands import (
    BANDS,
    FREQUENCY,
    K_CMB_TO_MJY_SR,
    PAPER_SIGMA,
    REFERENCE_FREQUENCY,
)
from pymcdust.physics.blackbody import planck

CMB_TEMPERATURE = 2.72548

# The monochromatic conversion over that of the measured bandpass: why there is a table at all.
MONOCHROMATIC_ERROR = {"217": 0.99989, "353": 1.03198, "545": 0.98412, "857": 0.63295}


def monochromatic_conversion(band: str) -> float:
    """Return MJy/sr per K_CMB at the nominal frequency, as astropy has it."""
    equivalency = u.thermodynamic_temperature(FREQUENCY[band] * u.GHz, CMB_TEMPERATURE * u.K)
    return (1 * u.K).to_value(u.MJy / u.sr, equivalencies=equivalency)


def test_every_table_has_the_bands_in_order():
    assert tuple(FREQUENCY) == tuple(PAPER_SIGMA) == BANDS
    assert tuple(K_CMB_TO_MJY_SR) == BANDS[:4]
    assert FREQUENCY["353"] == REFERENCE_FREQUENCY


def test_the_last_band_is_100_micrometres():
    wavelength = (constants.c / (FREQUENCY["2998"] * u.GHz)).to_value(u.um)
    assert wavelength == pytest.approx(100.0, rel=1e-4)


@pytest.mark.parametrize("band", K_CMB_TO_MJY_SR)
def test_conversion_differs_from_the_monochromatic_as_published(band):
    ratio = monochromatic_conversion(band) / K_CMB_TO_MJY_SR[band]
    assert ratio == pytest.approx(MONOCHROMATIC_ERROR[band], abs=2e-5)


@pytest.mark.parametrize("band", K_CMB_TO_MJY_SR)
def test_derivative_of_planck_is_the_monochromatic_conversion(band):
    step = 1e-4
    hotter, colder = planck(FREQUENCY[band], CMB_TEMPERATURE + np.array([step, -step]))
    slope = (hotter - colder) / (2 * step)
    assert slope == pytest.approx(monochromatic_conversion(band), rel=1e-6)
