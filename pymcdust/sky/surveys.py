"""Emission maps of the surveys, at their own resolution: how a file is read.

A header that contradicts its release is refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import healpy
import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError, listing, unknown
from pymcdust.physics.bands import BANDS, K_CMB_TO_MJY_SR
from pymcdust.sky.healpix_file import HealpixTable, check_band, open_healpix, stated_band
from pymcdust.sky.lambert import HEMISPHERES, pair, read_lambert
from pymcdust.sky.releases import RELEASES, Release

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
        _check_pair(source, band, variance)
        return SurveyMap(read_lambert(source.file, LAMBERT_NSIDE), "MJy/sr")
    return _look_at(source, band, variance).read()


def check_band_file(source: EmissionSource, band: str, *, variance: bool = False) -> int:
    """Check the file of one band as far as its header tells.

    Parameters
    ----------
    source, band, variance
        As for `read_band`.

    Returns
    -------
    int
        The HEALPix resolution of the map that `read_band` would return.

    Raises
    ------
    FileFormatError, ConfigurationError
        As for `read_band`.
    """
    if HEMISPHERES in str(source.file):
        _check_pair(source, band, variance)
        return LAMBERT_NSIDE
    return _look_at(source, band, variance).table.nside


def read_cmb_map(path: str | Path, column: str | None = None, unit: str | None = None) -> SurveyMap:
    """Read a map of the CMB, such as those of SMICA and Commander.

    Parameters
    ----------
    path : path
        HEALPix FITS file.
    column : str, optional
        Name of the column; by default I_STOKES, TEMPERATURE, INTENSITY or I, or the only one.
    unit : str, optional
        Unit of the column, for a file whose TUNIT is absent or not known.

    Returns
    -------
    SurveyMap
        In K_CMB.

    Raises
    ------
    FileFormatError
        As for `read_band`; if it is not in K_CMB; or if it says that it is of a frequency.
    """
    return _look_at_cmb(path, column, unit).read()


def check_cmb_file(path: str | Path, column: str | None = None, unit: str | None = None) -> int:
    """Check the file of the CMB as far as its header tells, and return its HEALPix resolution.

    Parameters
    ----------
    path, column, unit
        As for `read_cmb_map`.

    Raises
    ------
    FileFormatError
        As for `read_cmb_map`.
    """
    return _look_at_cmb(path, column, unit).table.nside


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
    return _found(open_healpix(path, frame_known=frame_known), column, unit).read()


class _Found(NamedTuple):
    """What is to be read of a file: columns, the unit that they are brought to, and by what."""

    table: HealpixTable
    column: str
    unit: str
    factor: float
    variance_column: str | None = None

    def read(self) -> SurveyMap:
        values, variance = self.table.column(self.column), None
        if self.variance_column is not None:
            variance = self.table.column(self.variance_column)
            # Where nothing was observed there is no variance, whatever the file holds.
            variance[~(variance > 0)] = np.nan
        if self.factor != 1:
            values *= np.float32(self.factor)
            if variance is not None:
                # The square of microkelvin does not underflow in single precision, but comes near.
                variance *= np.float32(self.factor) ** 2
        return SurveyMap(values, self.unit, variance)


def _found(
    table: HealpixTable,
    column: str | None,
    unit: str | None,
    usual: str | None = None,
    variance: bool = False,
) -> _Found:
    name = _choose_column(table, column)
    known, factor = _unit(table.path, table.units[name], name, unit, usual)
    second = _variance_column(table, name) if variance else None
    return _Found(table, name, known, factor, second)


def _look_at(source: EmissionSource, band: str, variance: bool) -> _Found:
    """Find what is to be read of the file of a band, to be brought to MJy/sr."""
    release = RELEASES[source.release] if source.release else Release("", BANDS)
    table = open_healpix(
        source.file, frame_known=source.release is not None, bad_value=release.bad_value
    )
    check_band(table, band, BANDS)
    if band not in release.bands:
        raise ConfigurationError(
            f"{source.file}: given for the band {band}, but the release {source.release} "
            f"({release.about}) has {listing(release.bands)}"
        )
    found = _found(table, source.column, source.unit, release.units.get(band), variance)
    if found.unit == "MJy/sr":
        return found
    if band not in K_CMB_TO_MJY_SR:
        raise FileFormatError(
            f"{source.file}: band {band} is in K_CMB, for which there is no conversion to MJy/sr; "
            f"factors exist for {listing(K_CMB_TO_MJY_SR)}"
        )
    return found._replace(unit="MJy/sr", factor=found.factor * K_CMB_TO_MJY_SR[band])


def _look_at_cmb(path: str | Path, column: str | None, unit: str | None) -> _Found:
    """Find what is to be read of a map of the CMB."""
    table = open_healpix(path, frame_known=True)
    if (stated := stated_band(table, BANDS)) is not None:
        raise FileFormatError(
            f"{path}: FREQ is {table.header['FREQ']!r}: this is the map of the band {stated}, not "
            "of the CMB"
        )
    found = _found(table, column, unit)
    if found.unit != "K_CMB":
        raise FileFormatError(f"{path}: a map of the CMB must be in K_CMB, not {found.unit}")
    return found


def _check_pair(source: EmissionSource, band: str, variance: bool) -> None:
    """Refuse what a pair of SFD's images cannot be."""
    if band != "2998":
        raise FileFormatError(f"{source.file}: SFD's maps are of the band 2998, not {band}")
    given = {
        "column": source.column,
        "unit": None if source.unit == "MJy/sr" else source.unit,
        "release": None if source.release == "SFD" else source.release,
    }
    foreign = [name for name, value in given.items() if value is not None]
    if foreign:
        raise ConfigurationError(
            f"{source.file}: {foreign[0]} is {given[foreign[0]]!r}, but the pairs of images are "
            "those of SFD in MJy/sr, which have no columns; leave it out"
        )
    if variance:
        raise FileFormatError(
            f"{source.file}: SFD's maps have no variance; leave the band out of `variance`, and "
            "give a sigma"
        )


def _variance_column(table: HealpixTable, column: str) -> str:
    """Find the column of the variance, which must be in the square of the unit of a column."""
    name = table.find(_VARIANCE_COLUMNS)
    if name is None:
        raise FileFormatError(
            f"{table.path}: has no column of the variance, {' or '.join(_VARIANCE_COLUMNS)}; it "
            f"has {listing(table.units)}. Leave the band out of `variance`, and give a sigma"
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


def _unit(
    path: Path, stated: str, column: str, given: str | None, usual: str | None
) -> tuple[str, float]:
    """Find the unit: what TUNIT says, which neither what was given nor the usual may contradict.

    What was given stands for a TUNIT that is not known, the usual one only for none at all.
    """
    known = _known_unit(stated)
    says = f"TUNIT of column {column} is {stated!r}" if stated else f"column {column} has no TUNIT"
    expected = given or usual
    if expected is None or (known is None and stated and given is None):
        if known is None:
            raise FileFormatError(
                f"{path}: {says}; known units are K_CMB and MJy/sr: say which it is, with the key "
                "`unit`"
            )
        return known
    asked = _known_unit(expected)
    if asked is None:
        raise ConfigurationError(unknown("unit", expected, ["K_CMB", "MJy/sr"]))
    if known is not None and known != asked:
        raise FileFormatError(
            f"{path}: {says}, but {expected!r} was expected; leave out the key `unit` or "
            "`release`, or correct the header"
        )
    return asked
