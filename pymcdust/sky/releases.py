"""The releases of emission maps: what is known of them beforehand, whatever a header says.

They differ in units, beams and in what they still contain.
"""

from dataclasses import dataclass, field

_KELVIN_AND_JANSKY = {"217": "K_CMB", "353": "K_CMB", "545": "MJy/sr", "857": "MJy/sr"}

_PLANCK = tuple(_KELVIN_AND_JANSKY)

#: Effective beams of the frequency maps [arcmin] (Planck 2015 results VIII, Table 6).
_PLANCK_BEAMS = {"217": 5.02, "353": 4.94, "545": 4.83, "857": 4.64}


@dataclass(frozen=True)
class Release:
    """What is known of a release beforehand.

    `bands` are those that it has; `units` of each band where the header may leave it out; `beams`
    the FWHM of each band [arcmin]; `has_cmb` whether the CMB is still in the maps, `has_dipole`
    whether that of the Sun's motion is; `bad_value` what stands for no value although the header
    does not say so; `about` what it is.
    """

    about: str
    bands: tuple[str, ...]
    units: dict[str, str] = field(default_factory=dict)
    beams: dict[str, float] = field(default_factory=dict)
    has_cmb: bool = True
    has_dipole: bool = False
    bad_value: float | None = None


RELEASES: dict[str, Release] = {
    "PR2": Release("Planck 2015", _PLANCK, _KELVIN_AND_JANSKY, _PLANCK_BEAMS),
    "PR3": Release("Planck 2018", _PLANCK, _KELVIN_AND_JANSKY, _PLANCK_BEAMS),
    # NPIPE's maps are not in the units of PR2 and PR3 in all bands: the header must say in which.
    "PR4": Release("Planck 2020, NPIPE", _PLANCK, {}, _PLANCK_BEAMS, has_dipole=True),
    # The resolution varies over the sky with the signal, from 5 to 21.8 arcmin: no beam is given,
    # nor a unit, because that of 353 GHz differs between PR2 and PR3.
    "GNILC": Release(
        "thermal dust of Planck by GNILC, CMB and anisotropies of the CIB removed",
        _PLANCK,
        has_cmb=False,
    ),
    "IRIS": Release(
        "IRAS at 100 um, reprocessed (Miville-Deschenes & Lagache 2005)",
        ("2998",),
        {"2998": "MJy/sr"},
        {"2998": 4.3},
        has_cmb=False,
        bad_value=-32768.0,
    ),
    "SFD": Release(
        "IRAS and DIRBE at 100 um; zodiacal light and CIB removed (Schlegel et al. 1998)",
        ("2998",),
        {"2998": "MJy/sr"},
        {"2998": 6.1},
        has_cmb=False,
    ),
}

#: Named sets of what is subtracted from the maps [MJy/sr].
ZERO_LEVELS: dict[str, dict[str, float]] = {
    "none": {},
    # The monopole of the cosmic infrared background as it was measured: Odegard et al. (2019).
    "odegard2019": {"217": 0.060, "353": 0.149, "545": 0.371, "857": 0.576},
    # The monopole that the zero level of Planck's maps was made to hold, from a model of galaxies:
    # Planck 2018 results III, Table 12.
    "planck2018": {"217": 0.033, "353": 0.13, "545": 0.35, "857": 0.64},
}
