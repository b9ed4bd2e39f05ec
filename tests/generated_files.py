"""FITS files in the layouts of the surveys, for `generated`: HEALPix tables and SFD's images."""

from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits

BAD_DATA = -1.6375e30


def lambert_header(size: int, sign: int) -> fits.Header:
    """Header of an image of one hemisphere, as those of SFD."""
    step = np.rad2deg(np.sqrt(2)) * 2 / size
    header = fits.Header()
    header.update(
        {
            "CTYPE1": "GLON-ZEA",
            "CTYPE2": "GLAT-ZEA",
            "CRVAL1": 90.0,
            "CRVAL2": 90.0 * sign,
            "CRPIX1": size / 2 + 0.5,
            "CRPIX2": size / 2 + 0.5,
            "CD1_1": -step,
            "CD1_2": 0.0,
            "CD2_1": 0.0,
            "CD2_2": sign * step,
            "LONPOLE": 180.0,
            "BUNIT": "MJy/sr",
        }
    )
    return header


def write_table(
    path: Path,
    columns: dict,
    units: list[str],
    nside: int,
    ordering: str = "NESTED",
    **keywords: str,
) -> None:
    """Write columns, given NESTED, as a HEALPix table, block by block of rows."""
    if ordering == "RING":
        columns = {name: healpy.reorder(values, n2r=True) for name, values in columns.items()}
    kinds = {"f": ("E", ">f4"), "i": ("J", ">i4")}
    formats = [kinds[values.dtype.kind] for values in columns.values()]
    dtype = np.dtype([(n, f[1]) for n, f in zip(columns, formats, strict=True)])
    header = fits.Header()
    header.update({"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": dtype.itemsize})
    header.update({"NAXIS2": 12 * nside**2, "PCOUNT": 0, "GCOUNT": 1, "TFIELDS": len(columns)})
    for i, (name, unit, kind) in enumerate(zip(columns, units, formats, strict=True), start=1):
        header.update({f"TTYPE{i}": name, f"TFORM{i}": kind[0], f"TUNIT{i}": unit})
    header.update({"EXTNAME": "FREQ-MAP", "PIXTYPE": "HEALPIX", "COORDSYS": "GALACTIC"})
    header.update({"ORDERING": ordering, "NSIDE": nside, "FIRSTPIX": 0})
    header.update({"LASTPIX": 12 * nside**2 - 1, "INDXSCHM": "IMPLICIT", "BAD_DATA": BAD_DATA})
    header.update(keywords)
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        file.write(header.tostring().encode())
        for start in range(0, 12 * nside**2, 2**20):
            stop = min(start + 2**20, 12 * nside**2)
            rows = np.empty(stop - start, dtype=dtype)
            for name, values in columns.items():
                rows[name] = values[start:stop]
            file.write(rows.tobytes())
        file.write(bytes(-file.tell() % 2880))
