"""Emission maps of the surveys, at their own resolution: what each release is, and how it is read.

The releases differ in units, beams and in what they still contain; a header that contradicts its
release is refused.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import healpy
import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError, listing, unknown
from pymcdust.physics.bands import BANDS, K_CMB_TO_MJY_SR
from pymcdust.sky.healpix_file import HealpixTable, check_band, open_healpix
from pymcdust.sky.lambert import HEMISPHERES, pair, read_lambert

#: Spellings of units, without blanks; the case of the prefix counts (MJy is not mJy).
_UNITS: dict[str, tuple[str, float]] = {
    "Kcmb": ("K_CMB", 1.0),
    "mKcmb": ("K_CMB", 1e-3),
    "uKcmb": ("K_CMB", 1e-6),
    "MJy/sr": ("MJy/sr", 1.0),
    "MJysr-1": ("MJy/sr", 1.0),
    "kJy/sr": ("MJy/sr", 1e-3),
    "kJysr-1": ("MJy/sr", 1e-3),
}

_INTENSITY_COLUMNS = ("I_STOKES", "TEMPERATURE", "INTENSITY", "I")
_VARIANCE_COLUMNS = ("II_COV", "COV_II", "II")

_KELVIN_AND_JANSKY = {"217": "K_CMB", "353": "K_CMB", "545": "MJy/sr", "857": "MJy/sr"}

#: Effective beams of the frequency maps [arcmin] (Planck 2015 results VIII, Table 6).
_PLANCK_BEAMS = {"217": 5.02, "353": 4.94, "545": 4.83, "857": 4.64}


@dataclass(frozen=True)
class Release:
    """What is known of a release beforehand.

    `units` of each band where the header may leave it out; `beams` the FWHM of each band [arcmin];
    `has_cmb` whether the CMB is still in the maps; `bad_value` what stands for no value although
    the header does not say so; `about` what it is.
    """

    about: str
    units: dict[str, str] = field(default_factory=dict)
    beams: dict[str, float] = field(default_factory=dict)
    has_cmb: bool = True
    bad_value: float | None = None


RELEASES: dict[str, Release] = {
    "PR2": Release("Planck 2015", _KELVIN_AND_JANSKY, _PLANCK_BEAMS),
    "PR3": Release("Planck 2018", _KELVIN_AND_JANSKY, _PLANCK_BEAMS),
    # NPIPE's maps are not in the units of PR2 and PR3 in all bands: the header must say in which.
    "PR4": Release("Planck 2020, NPIPE", {}, _PLANCK_BEAMS),
    # The resolution varies over the sky with the signal, from 5 to 21.8 arcmin: no beam is given,
    # nor a unit, because that of 353 GHz differs between PR2 and PR3.
    "GNILC": Release("thermal dust of Planck by GNILC, CMB and CIB removed", has_cmb=False),
    "IRIS": Release(
        "IRAS at 100 um, reprocessed (Miville-Deschenes & Lagache 2005)",
        {"2998": "MJy/sr"},
        {"2998": 4.3},
        has_cmb=False,
        bad_value=-32768.0,
    ),
    "SFD": Release(
        "IRAS and DIRBE at 100 um; zodiacal light and CIB removed (Schlegel et al. 1998)",
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

#: HEALPix resolution at which SFD's images are sampled: pixels of 1.7 arcmin, those of the images
#: being 2.4 arcmin.
LAMBERT_NSIDE = 2048


@dataclass(frozen=True)
class EmissionSource:
    """Where the emission of one band is, and what its header may leave out.

    `file` may stand for the pair of SFD's hemispheres, as in ``SFD_i100_4096_{ngp,sgp}.fits``.
    """

    file: Path
    column: str | None = None
    unit: str | None = None
    release: str | None = None

    @property
    def files(self) -> dict[str, Path]:
        """The files on disk, by hemisphere where there are two."""
        return pair(self.file) if HEMISPHERES in str(self.file) else {"": self.file}


class SurveyMap(NamedTuple):
    """A full-sky map in NESTED Galactic order, (12 nside^2,) float32, NaN where not observed.

    `unit` is K_CMB or MJy/sr; `variance` that of each pixel, in its square, where it was asked for.
    """

    values: np.ndarray
    unit: str
    variance: np.ndarray | None = None

    @property
    def nside(self) -> int:
        """HEALPix resolution."""
        return healpy.npix2nside(len(self.values))


def read_band(source: EmissionSource, band: str, *, variance: bool = False) -> SurveyMap:
    """Read the emission map of one band.

    Parameters
    ----------
    source : EmissionSource
        The file.
    band : str
        Name of the band.
    variance : bool
        Read the variance of the pixels as well, from the column II_COV or its like.

    Returns
    -------
    SurveyMap
        In MJy/sr; K_CMB is converted by the factors of the IRAS convention.

    Raises
    ------
    FileFormatError
        If the file is missing or cut short; if its ordering, frame, unit or column is absent or
        unknown, or contradicts what was given; if it says that it is of another band; if it is in
        K_CMB in a band that has no factor; if it has no variance and that was asked for.
    ConfigurationError
        If the release or the unit is unknown.
    """
    if source.release is not None and source.release not in RELEASES:
        raise ConfigurationError(unknown("release", source.release, RELEASES))
    if HEMISPHERES in str(source.file):
        return _read_pair(source, band, variance)
    release = RELEASES[source.release] if source.release else Release("")
    table = open_healpix(
        source.file, frame_known=source.release is not None, bad_value=release.bad_value
    )
    check_band(table, band, BANDS)
    expected = source.unit or release.units.get(band)
    survey = _read(table, source.column, expected, variance)
    if survey.unit == "MJy/sr":
        return survey
    if band not in K_CMB_TO_MJY_SR:
        raise FileFormatError(
            f"{source.file}: band {band} is in K_CMB, for which there is no conversion to MJy/sr; "
            f"factors exist for {listing(K_CMB_TO_MJY_SR)}"
        )
    return _times(survey, K_CMB_TO_MJY_SR[band], "MJy/sr")


def read_cmb_map(path: str | Path, column: str | None = None) -> SurveyMap:
    """Read a map of the CMB, such as those of SMICA and Commander.

    Parameters
    ----------
    path : path
        HEALPix FITS file.
    column : str, optional
        Name of the column; by default I_STOKES, TEMPERATURE, INTENSITY or I, or the only one.

    Returns
    -------
    SurveyMap
        In K_CMB.

    Raises
    ------
    FileFormatError
        As for `read_band`; or if it is not in K_CMB.
    """
    survey = read_map(path, column=column, frame_known=True)
    if survey.unit != "K_CMB":
        raise FileFormatError(f"{path}: a map of the CMB must be in K_CMB, not {survey.unit}")
    return survey


def read_map(
    path: str | Path,
    *,
    column: str | None = None,
    unit: str | None = None,
    frame_known: bool = False,
) -> SurveyMap:
    """Read a HEALPix map from a FITS file, trusting only what its header says.

    Parameters
    ----------
    path : path
        FITS file with a HEALPix binary table, whole sky or explicitly indexed.
    column : str, optional
        Name of the column; by default I_STOKES, TEMPERATURE, INTENSITY or I, or the only one.
    unit : str, optional
        Unit of the column, for a file whose TUNIT is absent or not known.
    frame_known : bool
        Accept a header without COORDSYS, because the release is known to be Galactic.

    Returns
    -------
    SurveyMap
        In K_CMB or MJy/sr.

    Raises
    ------
    FileFormatError
        If the file is missing or cut short; if ordering, frame, indexing or unit is absent or
        unknown; if the column is missing.
    """
    return _read(open_healpix(path, frame_known=frame_known), column, unit, variance=False)


def _read(table: HealpixTable, column: str | None, unit: str | None, variance: bool) -> SurveyMap:
    name = _choose_column(table, column)
    known, factor = _unit(table.path, table.units[name], name, unit)
    values = table.column(name)
    second = None
    if variance:
        second = table.column(_variance_column(table, name))
        # Where nothing was observed there is no variance, whatever the file holds.
        second[~(second > 0)] = np.nan
    return _times(SurveyMap(values, known, second), factor, known)


def _read_pair(source: EmissionSource, band: str, variance: bool) -> SurveyMap:
    if band != "2998":
        raise FileFormatError(f"{source.file}: SFD's maps are of the band 2998, not {band}")
    if variance:
        raise FileFormatError(
            f"{source.file}: SFD's maps have no variance; leave out `variance`, and give a sigma"
        )
    return SurveyMap(read_lambert(source.file, LAMBERT_NSIDE), "MJy/sr")


def _times(survey: SurveyMap, factor: float, unit: str) -> SurveyMap:
    """Convert a map to another unit, in place."""
    values, _, variance = survey
    if factor != 1:
        values *= np.float32(factor)
        if variance is not None:
            # The square of microkelvin does not underflow in single precision, but comes near.
            variance *= np.float32(factor) ** 2
    return SurveyMap(values, unit, variance)


def _variance_column(table: HealpixTable, column: str) -> str:
    """Find the column of the variance, which must be in the square of the unit of a column."""
    name = table.find(_VARIANCE_COLUMNS)
    if name is None:
        raise FileFormatError(
            f"{table.path}: has no column of the variance, {' or '.join(_VARIANCE_COLUMNS)}; it "
            f"has {listing(table.units)}. Leave out `variance`, and give a sigma"
        )
    stated, unit = table.units[name], table.units[column]
    root = _known_unit(re.sub(r"(\*\*|\^)?2\s*$", "", stated.strip()))
    if root is not None and _known_unit(unit) not in (None, root):
        raise FileFormatError(
            f"{table.path}: the variance, column {name}, is in {stated!r}, which is not the square "
            f"of {unit!r}, in which column {column} is"
        )
    return name


def _choose_column(table: HealpixTable, column: str | None) -> str:
    if column is not None:
        if column not in table.units:
            raise FileFormatError(f"{table.path}: {unknown('column', column, table.units)}")
        return column
    name = table.find(_INTENSITY_COLUMNS)
    if name is not None:
        return name
    if len(table.units) != 1:
        raise FileFormatError(
            f"{table.path}: none of its columns is {' or '.join(_INTENSITY_COLUMNS)}; say which of "
            f"{listing(table.units)} it is, with the key `column`"
        )
    return next(iter(table.units))


def _known_unit(spelling: str) -> tuple[str, float] | None:
    plain = re.sub(r"[\s_.^*\[\]()]", "", spelling)
    for known, meaning in _UNITS.items():
        if plain[:1] == known[:1] and plain.lower() == known.lower():
            return meaning
    return None


def _unit(path: Path, stated: str, column: str, given: str | None) -> tuple[str, float]:
    """Find the unit: what TUNIT says; else what was given, which must not contradict it."""
    known = _known_unit(stated)
    says = f"TUNIT of column {column} is {stated!r}" if stated else f"column {column} has no TUNIT"
    if given is None:
        if known is None:
            raise FileFormatError(
                f"{path}: {says}; known units are K_CMB and MJy/sr: say which it is, with the key "
                "`unit`"
            )
        return known
    asked = _known_unit(given)
    if asked is None:
        raise ConfigurationError(unknown("unit", given, ["K_CMB", "MJy/sr"]))
    if known is not None and known != asked:
        raise FileFormatError(
            f"{path}: {says}, but {given!r} was expected; leave out the key `unit` or `release`, "
            "or correct the header"
        )
    return asked
