"""The Planck function against astropy, its limits, fifty digits, and itself in other libraries."""

from decimal import Decimal, localcontext

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from astropy import constants
from astropy import units as u
from astropy.modeling.physical_models import BlackBody
from hypothesis import given
from hypothesis import strategies as st
from pytensor.xtensor import as_xtensor, xtensor

from pymcdust.physics.blackbody import PLANCK_OVER_BOLTZMANN, RADIANCE_SCALE, planck

FREQUENCIES = np.geomspace(100.0, 3000.0, 40)
TEMPERATURES = np.geomspace(3.0, 100.0, 30)

frequencies = st.floats(100.0, 3000.0)
temperatures = st.floats(3.0, 100.0)


def planck_in_fifty_digits(frequency: float, temperature: float) -> float:
    """Return the Planck function [MJy/sr] from the exact constants of the SI."""
    with localcontext(prec=50):
        h, k, c = Decimal("6.62607015e-34"), Decimal("1.380649e-23"), Decimal(299792458)
        nu = Decimal(frequency) * Decimal(10) ** 9
        x = h * nu / (k * Decimal(temperature))
        watts = 2 * h * nu**3 / c**2 / (x.exp() - 1)
        return float(watts * Decimal(10) ** 20)  # 1 MJy is 1e-20 W/m2/Hz


def test_agrees_with_astropy():
    expected = BlackBody(TEMPERATURES * u.K)(FREQUENCIES[:, None] * u.GHz).to_value(u.MJy / u.sr)
    np.testing.assert_allclose(planck(FREQUENCIES[:, None], TEMPERATURES), expected, rtol=1e-12)


def test_rayleigh_jeans_limit():
    frequency, temperature = 0.001, 100.0
    limit = 2 * (frequency * u.GHz) ** 2 * constants.k_B * (temperature * u.K) / constants.c**2
    x = PLANCK_OVER_BOLTZMANN * frequency / temperature
    # x = 5e-7: without expm1, six digits would be lost here.
    expected = limit.to_value(u.MJy) * (1 - x / 2)
    assert planck(frequency, temperature) == pytest.approx(expected, rel=1e-12)


def test_wien_limit():
    frequency, temperature = 3000.0, 4.0
    x = PLANCK_OVER_BOLTZMANN * frequency / temperature
    expected = RADIANCE_SCALE * frequency**3 * np.exp(-x)
    assert planck(frequency, temperature) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("frequency", "temperature"),
    [(2998.0, 3.0), (2998.0, 2.0), (2998.0, 0.21), (100.0, 100.0), (0.001, 100.0), (353.0, 18.1)],
)
def test_extremes_in_fifty_digits(frequency, temperature):
    # A rounding of x is a relative error of x in the result.
    x = PLANCK_OVER_BOLTZMANN * frequency / temperature
    tolerance = 4 * np.finfo(float).eps * max(1.0, x)
    expected = planck_in_fifty_digits(frequency, temperature)
    assert planck(frequency, temperature) == pytest.approx(expected, rel=tolerance, abs=0.0)


@given(frequencies, temperatures, st.floats(1e-9, 1.0))
def test_hotter_is_brighter(frequency, temperature, step):
    assert planck(frequency, temperature * (1 + step)) > planck(frequency, temperature)


@given(frequencies, temperatures, st.floats(0.1, 10.0))
def test_displacement_law(frequency, temperature, factor):
    # B depends on nu^3 and nu / T alone.
    scaled = planck(factor * frequency, factor * temperature)
    assert scaled == pytest.approx(factor**3 * planck(frequency, temperature), rel=1e-12)


def test_one_expression_for_every_library():
    nu = xr.DataArray(FREQUENCIES, dims="band")
    temperature = xr.DataArray(TEMPERATURES, dims="voxel")
    expected = planck(FREQUENCIES[:, None], TEMPERATURES)

    named = planck(nu, temperature)
    assert named.dims == ("band", "voxel")
    np.testing.assert_array_equal(named, expected)

    tensor = pt.vector("temperature")
    compiled = pytensor.function(
        [tensor], planck(FREQUENCIES[:, None], tensor), mode="FAST_COMPILE"
    )
    np.testing.assert_allclose(compiled(TEMPERATURES), expected, rtol=1e-14)

    named_tensor = xtensor("temperature", dims=("voxel",))
    graph = planck(as_xtensor(FREQUENCIES, dims=("band",)), named_tensor)
    assert graph.dims == ("band", "voxel")
    compiled = pytensor.function([named_tensor], graph, mode="FAST_COMPILE")
    np.testing.assert_allclose(compiled(TEMPERATURES), expected, rtol=1e-14)
