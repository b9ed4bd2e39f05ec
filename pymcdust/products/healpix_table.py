"""HEALPix tables in FITS, full or partial sky, written row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import healpy
import numpy as np
from astropy.io import fits

#: What a pixel without data holds: integers have no UNSEEN.
BLANK_INTEGER = -1

#: Rows of a table that are held in memory at once.
BLOCK_ROWS = 2**20

#: Bytes to which FITS fills up its headers and data.
FITS_RECORD = 2880


@dataclass(frozen=True)
class Column:
    """What the header tells of a column.

    Parameters
    ----------
    kind : type
        ``float32``, or an integer of 32 or 64 bit; truth values are written as integers.
    unit : str
        Unit, in the spelling of the FITS standard; empty for a pure number.
    ucd : str
        Unified Content Descriptor of the IVOA.
    description : str
        What the column holds.
    """

    kind: Any
    unit: str
    ucd: str
    description: str


class HealpixTable:
    """A FITS file with one table of NESTED Galactic pixels, written in ascending order.

    A full-sky table has a row for each pixel of the sky, those that are not written being blank;
    a partial one has a column ``PIXEL`` before the others, and the rows that are written (``FITS
    file format specifications for HEALPix products``, Hivon et al. 2020, Sec. 2.1).

    Parameters
    ----------
    file : binary file
        To write to, from its start.
    name : str
        Name of the table.
    columns : mapping of str to Column
        The columns by their names.
    nside : int
        Resolution of the pixels.
    n_partial : int or None
        Rows of a partial table, None for a full sky.
    cards : Header
        Cards to add to the header.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        columns: Mapping[str, Column],
        nside: int,
        n_partial: int | None,
        cards: fits.Header,
    ) -> None:
        self._file = file
        self._partial = n_partial is not None
        self._n_pixel = healpy.nside2npix(nside)
        self._next_pixel = 0
        self._names = list(columns)
        if n_partial is not None:
            # The longest index decides, not the largest that is there: files of one survey agree.
            kind = np.int32 if self._n_pixel <= 2**31 else np.int64
            index = Column(kind, "", "pos.healpix", "NESTED index of the pixel")
            columns = {"PIXEL": index, **columns}
        self._row = _blank_row(columns)
        header = _column_cards(name, columns, self._row)
        header["NAXIS2"] = self._n_pixel if n_partial is None else n_partial
        header.extend(_healpix_cards(nside, n_partial), update=True)
        header.extend(cards, update=True)
        file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        file.write(header.tostring().encode("ascii"))

    def write(self, pixels: np.ndarray, values: Sequence[np.ndarray]) -> None:
        """Write some rows.

        Parameters
        ----------
        pixels : (row,) array of int
            NESTED indices, ascending, and above all that were written before.
        values : sequence of (row,) array
            The values of each column but ``PIXEL``; what is not finite is written as UNSEEN.
        """
        rows = np.full(pixels.size, self._row)
        for name, column in zip(self._names, values, strict=True):
            if column.dtype.kind == "f":
                column = np.where(np.isfinite(column), column, healpy.UNSEEN)
            rows[name] = column
        if self._partial:
            rows["PIXEL"] = pixels
            self._file.write(rows.tobytes())
            return
        for run in np.split(np.arange(pixels.size), np.flatnonzero(np.diff(pixels) > 1) + 1):
            if run.size:
                self._write_blank(int(pixels[run[0]]))
                self._file.write(rows[run[0] : run[-1] + 1].tobytes())
                self._next_pixel = int(pixels[run[-1]]) + 1

    def finish(self) -> None:
        """Write the rest of the sky, and fill up the last record."""
        if not self._partial:
            self._write_blank(self._n_pixel)
        self._file.write(bytes(-self._file.tell() % FITS_RECORD))

    def _write_blank(self, end: int) -> None:
        for start in range(self._next_pixel, end, BLOCK_ROWS):
            self._file.write(np.full(min(BLOCK_ROWS, end - start), self._row).tobytes())


def _blank_row(columns: Mapping[str, Column]) -> np.ndarray:
    """Return one row, in FITS's order of bytes, of a table that has no data."""
    kinds = {name: np.dtype(column.kind) for name, column in columns.items()}
    # FITS is big-endian.
    row = np.zeros(
        (),
        [
            (name, (np.dtype(np.int32) if kind.kind == "b" else kind).newbyteorder(">"))
            for name, kind in kinds.items()
        ],
    )
    for name in columns:
        row[name] = BLANK_INTEGER if row.dtype[name].kind == "i" else healpy.UNSEEN
    return row


def _column_cards(name: str, columns: Mapping[str, Column], row: np.ndarray) -> fits.Header:
    """Return the cards of an empty table, with unit, UCD and description of each column."""
    formats = {"f4": "E", "i4": "J", "i8": "K"}
    described = []
    for title, column in columns.items():
        kind = row.dtype[title]
        blank = BLANK_INTEGER if kind.kind == "i" else None
        code = formats[kind.str[1:]]
        described.append(fits.Column(title, code, unit=column.unit or None, null=blank))
    header = fits.BinTableHDU.from_columns(described, nrows=0, name=name).header
    for number, column in enumerate(columns.values(), start=1):
        header.set(f"TUCD{number}", column.ucd, after=f"TFORM{number}")
        header.set(f"TCOMM{number}", column.description, after=f"TUCD{number}")
    return header


def _healpix_cards(nside: int, n_partial: int | None) -> fits.Header:
    header = fits.Header()
    header["PIXTYPE"] = ("HEALPIX", "HEALPix pixelisation")
    header["ORDERING"] = ("NESTED", "order of the pixels")
    header["NSIDE"] = (nside, "resolution of HEALPix")
    header["COORDSYS"] = ("G", "Galactic")
    if n_partial is None:
        header["INDXSCHM"] = ("IMPLICIT", "one row for each pixel of the sky")
        header["OBJECT"] = ("FULLSKY", "coverage of the sky")
        header["GRAIN"] = (0, "pixels have no index")
        header["FIRSTPIX"] = (0, "first pixel")
        header["LASTPIX"] = (healpy.nside2npix(nside) - 1, "last pixel")
    else:
        # FIRSTPIX and LASTPIX would promise a range without gaps.
        header["INDXSCHM"] = ("EXPLICIT", "one row for each pixel that is listed")
        header["OBJECT"] = ("PARTIAL", "coverage of the sky")
        header["GRAIN"] = (1, "each pixel has its index")
        header["OBS_NPIX"] = (n_partial, "pixels that are listed")
    header["BAD_DATA"] = (healpy.UNSEEN, "value of pixels without data")
    return header
