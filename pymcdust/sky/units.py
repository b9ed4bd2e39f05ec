"""Conversions between units of reddening, each made only when it is asked for by its name."""

from typing import NamedTuple

from pymcdust.errors import ConfigurationError, listing, unknown


class Conversion(NamedTuple):
    """A conversion: `unit` times `factor` is `new_unit`. `source` says where it comes from."""

    unit: str
    new_unit: str
    factor: float
    source: str


#: The conversions that can be asked for. Those of Bayestar19 differ because its reddening law is
#: not the one behind E(B-V), so that the colour by which the two are matched counts.
CONVERSIONS: dict[str, Conversion] = {
    "green2019_g_r": Conversion(
        "bayestar2019",
        "E(B-V)",
        0.884,
        "argonaut.skymaps.info/usage: E(B-V) = 0.981 E(g-r), Bayestar19 being E(g-r) / 0.901",
    ),
    "green2019_r_z": Conversion(
        "bayestar2019",
        "E(B-V)",
        0.996,
        "argonaut.skymaps.info/usage: E(B-V) = 0.932 E(r-z), Bayestar19 being E(r-z) / 1.068",
    ),
    "schlafly2011": Conversion(
        "sfd", "E(B-V)", 0.86, "Schlafly & Finkbeiner (2011): SFD is 14 % too large"
    ),
}


def convert_factor(unit: str, name: str) -> tuple[float, str]:
    """Find the factor of a conversion, and the unit that it leads to.

    Parameters
    ----------
    unit : str
        Unit of what is to be converted, a key of `REDDENING_UNITS`.
    name : str
        A key of `CONVERSIONS`.

    Returns
    -------
    factor : float
        Reddening in `unit` times this is reddening in the new unit.
    new_unit : str
        A key of `REDDENING_UNITS`.

    Raises
    ------
    ConfigurationError
        If there is no such conversion, or it is one of another unit.

    Examples
    --------
    >>> convert_factor("bayestar2019", "green2019_g_r")
    (0.884, 'E(B-V)')
    """
    if name not in CONVERSIONS:
        raise ConfigurationError(unknown("conversion of reddening", name, CONVERSIONS))
    conversion = CONVERSIONS[name]
    if conversion.unit != unit:
        fitting = [key for key, other in CONVERSIONS.items() if other.unit == unit]
        allowed = listing(fitting) if fitting else "none is known, so leave `convert` out"
        raise ConfigurationError(
            f"conversion {name!r} is for reddening in {conversion.unit!r}, and this is in "
            f"{unit!r}; for that, {allowed}"
        )
    return conversion.factor, conversion.new_unit
