"""Conversions between units of reddening are made by name, and never between other units."""

import numpy as np
import pytest

from pymcdust.errors import ConfigurationError
from pymcdust.sky.units import CONVERSIONS, convert_factor
from pymcdust.sky.validation import REDDENING_UNITS


def test_published_values():
    assert convert_factor("bayestar2019", "green2019_g_r") == (0.884, "E(B-V)")
    assert convert_factor("bayestar2019", "green2019_r_z") == (0.996, "E(B-V)")
    assert convert_factor("sfd", "schlafly2011") == (0.86, "E(B-V)")


def test_factors_of_bayestar_follow_from_its_extinction_coefficients():
    """g, r, z of Table 1 of Green et al. (2019), and E(B-V) of a 7000 K star for R_V = 3.1."""
    g, r, z = 3.518, 2.617, 1.549
    np.testing.assert_allclose(CONVERSIONS["green2019_g_r"].factor, 0.981 * (g - r), atol=5e-4)
    np.testing.assert_allclose(CONVERSIONS["green2019_r_z"].factor, 0.932 * (r - z), atol=1e-3)


def test_every_conversion_is_between_known_units():
    for conversion in CONVERSIONS.values():
        assert conversion.unit in REDDENING_UNITS
        assert conversion.new_unit in REDDENING_UNITS
        assert conversion.unit != conversion.new_unit
        assert conversion.source


def test_name_that_is_unknown():
    with pytest.raises(ConfigurationError, match="did you mean 'green2019_g_r'"):
        convert_factor("bayestar2019", "green2019_gr")


@pytest.mark.parametrize("unit", ["E(B-V)", "edenhofer2023", "bayestar2017", "leike2020"])
def test_unit_that_has_no_conversion(unit):
    with pytest.raises(ConfigurationError, match="none is known, so leave `convert` out"):
        convert_factor(unit, "green2019_g_r")


def test_unit_that_has_another_conversion():
    with pytest.raises(ConfigurationError, match="for that, schlafly2011"):
        convert_factor("sfd", "green2019_g_r")
