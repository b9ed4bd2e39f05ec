"""Emission maps of the surveys: HEALPix FITS files to MJy/sr in NESTED order."""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import healpy
import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from pymcdust.errors import ConfigurationError, FileFormatError, listing, unknown
from pymcdust.physics.bands import K_CMB_TO_MJY_SR
from pymcdust.sky.cuts import mean_over_children
from pymcdust.sky.validation import UNSEEN_BELOW, is_nside

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

#: What the releases of Planck's frequency maps are in; for PR4 the header must say it.
RELEASE_UNITS: dict[str, dict[str, str]] = {
    "PR2": {"217": "K_CMB", "353": "K_CMB", "545": "MJy/sr", "857": "MJy/sr"},
    "PR3": {"217": "K_CMB", "353": "K_CMB", "545": "MJy/sr", "857": "MJy/sr"},
    "PR4": {},
}

_INTENSITY_COLUMNS = ("I_STOKES", "TEMPERATURE", "I")
_INDEX_COLUMNS = ("PIXEL", "HPXINDEX")


class SurveyMap(NamedTuple):
    """A full-sky map in NESTED Galactic order, NaN where it is not observed, and its unit."""

    values: np.ndarray
    unit: str

    @property
    def nside(self) -> int:
        """HEALPix resolution."""
        return healpy.npix2nside(len(self.values))


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
        Name of the column; by default I_STOKES, TEMPERATURE or I, or the only one that there is.
    unit : str, optional
        Unit of the column, for a file whose TUNIT is absent or not known.
    frame_known : bool
        Accept a header without COORDSYS, because the release is known to be Galactic.

    Returns
    -------
    SurveyMap
        In K_CMB or MJy/sr, NESTED.

    Raises
    ------
    FileFormatError
        If the file is missing or cut short; if ordering, frame, indexing or unit is absent or
        unknown; if the column is missing.
    """
    path = Path(path)
    header, columns, units = _read_table(path)
    nside = header.get("NSIDE")
    if not is_nside(nside):
        raise FileFormatError(f"{path}: NSIDE is {nside!r}; it must be a power of two")
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering not in ("NESTED", "NEST", "RING"):
        raise FileFormatError(f"{path}: {_said(header, 'ORDERING')}; it must be NESTED or RING")
    _check_frame(path, header, frame_known)
    name = _choose_column(path, columns, column)
    unit, factor = _unit(path, units[name], name, unit)
    values = columns[name].ravel().astype(np.float32 if columns[name].itemsize <= 4 else float)
    bad = ~np.isfinite(values) | (values < UNSEEN_BELOW)
    if "BAD_DATA" in header:
        bad |= np.isclose(values, float(header["BAD_DATA"]), rtol=1e-6, atol=0)
    values[bad] = np.nan
    values *= values.dtype.type(factor)
    values = _whole_sky(path, header, columns, values, nside)
    if ordering == "RING":
        values = healpy.reorder(values, r2n=True)
    return SurveyMap(values, unit)


def read_emission(
    path: str | Path,
    band: str,
    nside: int,
    *,
    column: str | None = None,
    unit: str | None = None,
    release: str | None = None,
) -> np.ndarray:
    """Read the emission map of one band in MJy/sr.

    Parameters
    ----------
    path : path
        HEALPix FITS file.
    band : str
        Name of the band.
    nside : int
        Resolution to which the map is averaged; at most its own.
    column, unit : str, optional
        As for `read_map`.
    release : str, optional
        Planck release, which stands in for what the header leaves out: the Galactic frame, and
        in PR2 and PR3 the unit.

    Returns
    -------
    (12 nside^2,) array of float64 [MJy/sr]
        NESTED, Galactic; NaN where not observed.

    Raises
    ------
    FileFormatError
        As for `read_map`; or if the map is coarser than `nside`, or in K_CMB in a band that has
        no factor.
    ConfigurationError
        If the release is unknown.
    """
    if release is not None and release not in RELEASE_UNITS:
        raise ConfigurationError(unknown("release", release, RELEASE_UNITS))
    expected = unit or RELEASE_UNITS.get(release or "", {}).get(band)
    survey = read_map(path, column=column, unit=expected, frame_known=release is not None)
    emission = _at_nside(path, survey, nside)
    if survey.unit == "MJy/sr":
        return emission
    if band not in K_CMB_TO_MJY_SR:
        raise FileFormatError(
            f"{path}: band {band} is in K_CMB, for which there is no conversion to MJy/sr; "
            f"factors exist for {listing(K_CMB_TO_MJY_SR)}"
        )
    return emission * K_CMB_TO_MJY_SR[band]


def read_cmb(path: str | Path, nside: int) -> np.ndarray:
    """Read a map of the CMB in K_CMB.

    Parameters
    ----------
    path : path
        HEALPix FITS file.
    nside : int
        Resolution to which the map is averaged; at most its own.

    Returns
    -------
    (12 nside^2,) array of float64 [K_CMB]
        NESTED, Galactic; NaN where not observed.

    Raises
    ------
    FileFormatError
        As for `read_map`; or if the map is coarser than `nside` or not in K_CMB.
    """
    survey = read_map(path)
    if survey.unit != "K_CMB":
        raise FileFormatError(f"{path}: a map of the CMB must be in K_CMB, not {survey.unit}")
    return _at_nside(path, survey, nside)


def subtract_cmb(emission: np.ndarray, cmb: np.ndarray, band: str) -> np.ndarray:
    """Subtract the CMB from a band's emission; bands without a K_CMB factor are left alone.

    Parameters
    ----------
    emission : array [MJy/sr]
        Emission of the band.
    cmb : array [K_CMB]
        The CMB, at the same beam and pixels.
    band : str
        Name of the band.

    Returns
    -------
    array [MJy/sr]
        Emission without the CMB.
    """
    if band not in K_CMB_TO_MJY_SR:
        return emission
    return emission - K_CMB_TO_MJY_SR[band] * cmb


def _read_table(path: Path) -> tuple[fits.Header, dict[str, np.ndarray], dict[str, str]]:
    """Read the first HEALPix table of a file: header, columns, and the columns' TUNIT."""
    if not path.exists():
        raise FileFormatError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            # Astropy reads what is left of a truncated file, and only warns.
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            with path.open("rb") as stream, fits.open(stream, memmap=False) as hdus:
                for hdu in hdus:
                    if isinstance(hdu, fits.BinTableHDU) and "NSIDE" in hdu.header:
                        names = hdu.columns.names
                        columns = {name: np.asarray(hdu.data[name]) for name in names}
                        units = {name: hdu.columns[name].unit or "" for name in names}
                        return hdu.header, columns, units
    # Astropy raises many kinds of exception for damaged files.
    except Exception as error:
        raise FileFormatError(
            f"{path}: cut short, or not a FITS file ({error}); download it again"
        ) from error
    raise FileFormatError(
        f"{path}: has no binary table with the keyword NSIDE: not a HEALPix map, or cut short"
    )


def _said(header: fits.Header, keyword: str) -> str:
    return f"{keyword} is {header[keyword]!r}" if keyword in header else f"{keyword} is absent"


def _check_frame(path: Path, header: fits.Header, frame_known: bool) -> None:
    frame = str(header.get("COORDSYS", "")).strip().upper()
    if frame in ("G", "GALACTIC") or (not frame and frame_known):
        return
    hint = "rotate the map" if frame else "add the keyword to the header if the map is Galactic"
    raise FileFormatError(
        f"{path}: {_said(header, 'COORDSYS')}; the frame must be Galactic (G or GALACTIC): {hint}"
    )


def _choose_column(path: Path, columns: dict[str, np.ndarray], column: str | None) -> str:
    values = [name for name in columns if name.upper() not in _INDEX_COLUMNS]
    if column is not None:
        if column not in values:
            raise FileFormatError(f"{path}: {unknown('column', column, values)}")
        return column
    for name in values:
        if name.upper() in _INTENSITY_COLUMNS:
            return name
    if len(values) != 1:
        raise FileFormatError(
            f"{path}: none of its columns is {' or '.join(_INTENSITY_COLUMNS)}; say which of "
            f"{listing(values)} it is, with the key `column`"
        )
    return values[0]


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


def _whole_sky(
    path: Path,
    header: fits.Header,
    columns: dict[str, np.ndarray],
    values: np.ndarray,
    nside: int,
) -> np.ndarray:
    """Put the rows at their places on the whole sky; what is not in the file is NaN."""
    n_sky = 12 * nside**2
    scheme = str(header.get("INDXSCHM", "IMPLICIT")).strip().upper()
    if scheme == "IMPLICIT":
        if len(values) != n_sky:
            raise FileFormatError(
                f"{path}: holds {len(values)} pixels; nside {nside} has {n_sky}: the file is cut "
                "short, or it is a partial sky without INDXSCHM = 'EXPLICIT'"
            )
        return values
    if scheme != "EXPLICIT":
        raise FileFormatError(f"{path}: {unknown('INDXSCHM', scheme, ['IMPLICIT', 'EXPLICIT'])}")
    index_columns = [name for name in columns if name.upper() in _INDEX_COLUMNS]
    if not index_columns:
        raise FileFormatError(
            f"{path}: INDXSCHM is EXPLICIT, but there is no column {' or '.join(_INDEX_COLUMNS)}"
        )
    index = columns[index_columns[0]].ravel().astype(np.int64)
    if index.min(initial=0) < 0 or index.max(initial=0) >= n_sky:
        raise FileFormatError(f"{path}: pixel indices leave the range 0 to {n_sky - 1}")
    if len(np.unique(index)) != len(index):
        raise FileFormatError(f"{path}: some pixel indices are there more than once")
    sky = np.full(n_sky, np.nan, dtype=values.dtype)
    sky[index] = values
    return sky


def _at_nside(path: str | Path, survey: SurveyMap, nside: int) -> np.ndarray:
    if survey.nside < nside:
        raise FileFormatError(
            f"{path}: nside {survey.nside} is coarser than the sky's nside {nside}; maps are "
            f"averaged, never refined: choose an nside of at most {survey.nside}"
        )
    return mean_over_children(survey.values, nside)
