"""HEALPix maps in FITS tables: single columns, by blocks of rows, to NESTED order."""

import gzip
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import healpy
import numpy as np
from astropy.io import fits

from pymcdust.errors import FileFormatError, listing, unknown
from pymcdust.sky.validation import UNSEEN_BELOW, is_nside

#: Bytes of a table that are read at a time: a map of many columns may not fit into memory. Indices
#: for the pixels of a block take several times as much.
BLOCK_BYTES = 8 * 2**20

INDEX_COLUMNS = ("PIXEL", "HPXINDEX")

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class HealpixTable:
    """A HEALPix map on disk: what its header says. Values are read by `column`.

    Parameters
    ----------
    path : Path
        The file.
    header : astropy.io.fits.Header
        That of the table.
    units : dict of str
        TUNIT of each column of values, empty where there is none.
    dtype : numpy.dtype
        Of a row.
    begin : int
        Where the rows begin in the (uncompressed) file.
    bad_value : float, optional
        What stands for no value, besides NaN, UNSEEN and BAD_DATA.
    """

    path: Path
    header: fits.Header
    units: dict[str, str]
    dtype: np.dtype
    begin: int
    bad_value: float | None = None

    @property
    def nside(self) -> int:
        """HEALPix resolution."""
        return int(self.header["NSIDE"])

    def find(self, names: Sequence[str]) -> str | None:
        """Find the first of some names that is one of a column, whatever its case."""
        known = {name.upper(): name for name in self.units}
        return next((known[name] for name in names if name in known), None)

    def column(self, name: str) -> np.ndarray:
        """Read a column onto the whole sky.

        Parameters
        ----------
        name : str
            One of `units`.

        Returns
        -------
        (12 nside^2,) array of float32
            NESTED; NaN where the map has no value.

        Raises
        ------
        FileFormatError
            If the file is cut short, its rows are no map, or the column is missing.
        """
        if name not in self.units:
            raise FileFormatError(f"{self.path}: {unknown('column', name, self.units)}")
        n_sky = 12 * self.nside**2
        index_column = self._index_column()
        number = int(self.header["NAXIS2"]) * _elements(self.dtype[name])
        if index_column is None and number != n_sky:
            raise FileFormatError(
                f"{self.path}: holds {number} pixels; nside {self.nside} has {n_sky}: the file is "
                "cut short, or it is a partial sky without INDXSCHM = 'EXPLICIT'"
            )
        ring = _ordering(self.path, self.header) == "RING"
        sky = np.full(n_sky, np.nan, dtype=np.float32)
        seen = None if index_column is None else np.zeros(n_sky, dtype=bool)
        start = 0
        for rows in self._blocks():
            values = self._clean(name, rows)
            if index_column is None:
                pixel = slice(start, start + len(values))
                start += len(values)
            else:
                pixel = rows[index_column].ravel()
                self._check_indices(pixel, len(values), seen)
            if ring:
                # An index array for the whole sky would take twice the memory of the map.
                index = np.arange(pixel.start, pixel.stop) if index_column is None else pixel
                pixel = healpy.ring2nest(self.nside, index)
            sky[pixel] = values
        return sky

    def _index_column(self) -> str | None:
        """Return the column of pixel indices, None where the rows are the whole sky in order."""
        scheme = str(self.header.get("INDXSCHM", "IMPLICIT")).strip().upper()
        if scheme == "IMPLICIT":
            return None
        if scheme != "EXPLICIT":
            allowed = ["IMPLICIT", "EXPLICIT"]
            raise FileFormatError(f"{self.path}: {unknown('INDXSCHM', scheme, allowed)}")
        column = next((n for n in self.dtype.names if n.upper() in INDEX_COLUMNS), None)
        if column is None:
            raise FileFormatError(
                f"{self.path}: INDXSCHM is EXPLICIT, but there is no column "
                f"{' or '.join(INDEX_COLUMNS)}"
            )
        return column

    def _check_indices(self, index: np.ndarray, n_value: int, seen: np.ndarray) -> None:
        """Refuse impossible indices of pixels; mark the others in `seen`."""
        if len(index) != n_value:
            raise FileFormatError(
                f"{self.path}: has {n_value // len(index)} values for each pixel index; only one "
                "for each (GRAIN = 1) can be read"
            )
        if index.min() < 0 or index.max() >= len(seen):
            raise FileFormatError(
                f"{self.path}: pixel indices leave the range 0 to {len(seen) - 1} of nside "
                f"{self.nside}"
            )
        if seen[index].any() or len(np.unique(index)) != len(index):
            raise FileFormatError(f"{self.path}: some pixel indices are there more than once")
        seen[index] = True

    def _clean(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return a column of some rows as float32, scaled, NaN where it has no value."""
        stored = rows[name].ravel()
        number = self.dtype.names.index(name) + 1
        scale = self.header.get(f"TSCAL{number}", 1)
        zero = self.header.get(f"TZERO{number}", 0)
        scaled = stored if (scale, zero) == (1, 0) else stored * float(scale) + zero
        values = scaled.astype(np.float32)
        bad = ~np.isfinite(values) | (values < UNSEEN_BELOW)
        for value in (self.header.get("BAD_DATA"), self.bad_value):
            if value is not None:
                bad |= np.isclose(values, float(value), rtol=1e-6, atol=0)
        if f"TNULL{number}" in self.header:
            bad |= stored == self.header[f"TNULL{number}"]
        values[bad] = np.nan
        return values

    def _blocks(self) -> Iterator[np.ndarray]:
        """Yield the rows, some at a time."""
        n_row, width = int(self.header["NAXIS2"]), self.dtype.itemsize
        step = max(1, BLOCK_BYTES // width)
        with _open(self.path) as file:
            file.seek(self.begin)
            for start in range(0, n_row, step):
                content = _read(self.path, file, min(step, n_row - start) * width)
                yield np.frombuffer(content, dtype=self.dtype)


def _elements(dtype: np.dtype) -> int:
    """Return how many values a row has of a column."""
    return int(np.prod(dtype.shape, dtype=int))


def open_healpix(
    path: str | Path, *, frame_known: bool = False, bad_value: float | None = None
) -> HealpixTable:
    """Look at the HEALPix table of a FITS file, trusting only what its header says.

    Parameters
    ----------
    path : path
        FITS file, plain or gzipped, with a HEALPix binary table, whole sky or explicitly indexed.
    frame_known : bool
        Accept a header without COORDSYS, because the release is known to be Galactic.
    bad_value : float, optional
        What stands for no value in this release, besides NaN, UNSEEN and BAD_DATA.

    Returns
    -------
    HealpixTable
        Of the first table with the keyword NSIDE.

    Raises
    ------
    FileFormatError
        If the file is missing or cut short; if NSIDE, ordering or frame is absent or unknown.
    """
    path = Path(path)
    if not path.exists():
        raise FileFormatError(f"{path}: there is no such file")
    table = _first_table(path, bad_value)
    nside = table.header["NSIDE"]
    if not is_nside(nside):
        raise FileFormatError(f"{path}: NSIDE is {nside!r}; it must be a power of two")
    _ordering(path, table.header)
    _check_frame(path, table.header, frame_known)
    return table


def _first_table(path: Path, bad_value: float | None) -> HealpixTable:
    try:
        with warnings.catch_warnings(), _open(path) as stream:
            # A file that ends too early is found when its rows are read.
            warnings.simplefilter("ignore")
            with fits.open(stream, memmap=False) as hdus:
                for hdu in hdus:
                    if isinstance(hdu, fits.BinTableHDU) and "NSIDE" in hdu.header:
                        columns = hdu.columns
                        units = {
                            column.name: column.unit or ""
                            for column in columns
                            if column.name.upper() not in INDEX_COLUMNS
                        }
                        dtype = columns.dtype.newbyteorder(">")
                        place = hdu.fileinfo()
                        begin = place["datLoc"]
                        # What is compressed tells its length only when it is read.
                        if place["datSpan"] > _size(path) - begin:
                            raise EOFError(f"{_size(path)} bytes")
                        header = hdu.header.copy()
                        return HealpixTable(path, header, units, dtype, begin, bad_value)
    # Astropy raises many kinds of exception for damaged files.
    except Exception as error:
        raise FileFormatError(
            f"{path}: cut short, or not a FITS file ({error}); download it again"
        ) from error
    hint = ""
    if re.search("[ns]gp", path.name):
        both = re.sub("[ns]gp", "{ngp,sgp}", path.name)
        hint = f"; if it is one of a pair of SFD's images, name both: {both}"
    raise FileFormatError(
        f"{path}: has no binary table with the keyword NSIDE: not a HEALPix map, or cut short{hint}"
    )


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP


def _size(path: Path) -> float:
    """Return the number of bytes of a file, infinite where it is compressed."""
    return np.inf if _is_compressed(path) else path.stat().st_size


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if _is_compressed(path) else path.open("rb")


def _read(path: Path, file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise FileFormatError(f"{path}: cut short, rows are missing; download it again")
    return content


def _ordering(path: Path, header: fits.Header) -> str:
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering not in ("NESTED", "NEST", "RING"):
        raise FileFormatError(f"{path}: {_said(header, 'ORDERING')}; it must be NESTED or RING")
    return ordering


def _check_frame(path: Path, header: fits.Header, frame_known: bool) -> None:
    frame = str(header.get("COORDSYS", "")).strip().upper()
    if frame in ("G", "GALACTIC") or (not frame and frame_known):
        return
    hint = "rotate the map" if frame else "add the keyword to the header if the map is Galactic"
    raise FileFormatError(
        f"{path}: {_said(header, 'COORDSYS')}; the frame must be Galactic (G or GALACTIC): {hint}"
    )


def _said(header: fits.Header, keyword: str) -> str:
    return f"{keyword} is {header[keyword]!r}" if keyword in header else f"{keyword} is absent"


def stated_band(table: HealpixTable, bands: Sequence[str]) -> str | None:
    """Return the frequency that a header tells in its keyword FREQ; None where it tells none.

    Parameters
    ----------
    table : HealpixTable
        The map.
    bands : sequence of str
        The bands [GHz]; 3000 GHz is another name of 2998, and numbers may be in Hz.

    Returns
    -------
    str
        Its number, as the bands are written; whatever stands there if it begins with one of them.
    """
    stated = str(table.header.get("FREQ", "")).strip().upper()
    try:
        frequency = float(stated.removesuffix("GHZ"))
    except ValueError:
        # Such as a detector of a band: 857-5.
        begin = re.match(r"\d+", stated)
        return stated if begin is not None and begin[0] in bands else None
    name = f"{frequency / 1e9 if frequency > 1e6 else frequency:.0f}"
    return {"3000": "2998"}.get(name, name)


def check_band(table: HealpixTable, band: str, bands: Sequence[str]) -> None:
    """Refuse a map whose header says that it is of another band.

    Parameters
    ----------
    table : HealpixTable
        The map.
    band : str
        The band that it is given for [GHz].
    bands : sequence of str
        All bands.

    Raises
    ------
    FileFormatError
        If its keyword FREQ names another frequency.
    """
    stated = stated_band(table, bands)
    if stated is None or stated == band:
        return
    hint = ""
    if stated in bands:
        hint = f": were the files of {listing([band, stated])} GHz interchanged?"
    raise FileFormatError(
        f"{table.path}: FREQ is {table.header['FREQ']!r}, but the file is given for the band "
        f"{band}{hint}"
    )
