"""Maps of a fit as HEALPix FITS files: parameters, errors, reconstructed emission, residuals."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import healpy as hp
import numpy as np
import xarray as xr
from astropy.io import fits

from pymcdust.errors import ResultError
from pymcdust.products.reconstruction import GRID, match, observed, reconstruction_blocks, require
from pymcdust.products.staging import staged

#: What a pixel without data holds: integers have no UNSEEN.
BLANK_INTEGER = -1

#: Rows of a table that are held in memory at once.
BLOCK_ROWS = 2**20

#: Bytes to which FITS fills up its headers and data.
FITS_RECORD = 2880

#: Variables per superpixel that are written beside the parameters.
DIAGNOSTICS: dict[str, type] = {
    "objective": np.float32,
    "chi2": np.float32,
    "n_data": np.int32,
    "flag": np.int32,
    "converged": np.int32,
}

#: Attributes of a fit with a header card of their own; the others go together into PROVENAN.
CARDS: dict[str, tuple[str, str]] = {
    "model": ("MODEL", "model of the fit"),
    "model_definition": ("MODELDEF", "its declaration, as JSON"),
    "pymcdust_version": ("PYMCDUST", "version of the package"),
    "reddening_unit": ("REDDUNIT", "unit of the reddening"),
    "files": ("FILES", "inputs and their checksums, as JSON"),
    "versions": ("VERSIONS", "of the software, as JSON"),
    "configuration": ("CONFIG", "of the preparation, as JSON"),
}


def export_maps(
    fit: xr.Dataset, sky: xr.Dataset, folder: str | Path, overwrite: bool = False
) -> list[Path]:
    """Write a fit as HEALPix FITS files: full sky, implicit, NESTED, Galactic.

    ``parameters.fits``, at the Nside of the superpixels, has a column for every free parameter
    and its standard deviation in each voxel (``TEMPERATURE_00``, ``TEMPERATURE_SD_00``, ...) or
    band (``OFFSET_217``), and ``OBJECTIVE``, ``CHI2``, ``N_DATA``, ``FLAG``, ``CONVERGED``.
    ``emission_<band>.fits``, at the Nside of the data, has the columns ``OBSERVED``,
    ``RECONSTRUCTED`` and ``RESIDUAL`` [MJy/sr]. Pixels that were not fitted or are not valid hold
    UNSEEN, in columns of integers -1. The headers hold the distance edges [kpc], the model and
    the provenance of the data.

    Parameters
    ----------
    fit : Dataset
        The fit; it may cover a part of the sky.
    sky : Dataset
        The sky that was fitted; read block by block.
    folder : path
        Folder for the files, made where it is missing.
    overwrite : bool
        Whether files of an earlier export may be replaced.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ResultError
        If the fit lacks a variable, or fit and sky do not belong together.
    ConfigurationError
        If `folder` holds such files already and `overwrite` is false.
    """
    match(fit, sky)
    columns = parameter_columns(fit)
    bands = [str(band) for band in sky["band"].values]
    names = ["parameters.fits", *(f"emission_{band}.fits" for band in bands)]
    folder = Path(folder)
    with staged(folder, names, overwrite) as unfinished:
        _write_parameters(fit, columns, unfinished / names[0])
        _write_emission(fit, sky, [unfinished / name for name in names[1:]])
    return [folder / name for name in names]


def free_parameters(fit: xr.Dataset) -> list[str]:
    """Return the names of a fit's free parameters: those with a tying that is not ``fixed``."""
    return [
        str(name)
        for name, variable in fit.data_vars.items()
        if variable.attrs.get("tying", "fixed") != "fixed" and not str(name).endswith("_sd")
    ]


def parameter_columns(fit: xr.Dataset) -> dict[str, xr.DataArray]:
    """Spread what a fit holds over maps, one for each voxel or band.

    Parameters
    ----------
    fit : Dataset
        The fit.

    Returns
    -------
    dict of (superpixel,) DataArray
        The maps by name of column, with the attribute ``unit``.

    Raises
    ------
    ResultError
        If the fit lacks the standard deviation of a parameter, or a diagnostic.
    """
    names = free_parameters(fit)
    require(fit, [*(f"{name}_sd" for name in names), *DIAGNOSTICS])
    columns = {}
    for name in names:
        unit = fit[name].attrs.get("unit", "")
        for variable in (name, f"{name}_sd"):
            for suffix, values in _split(fit[variable]):
                # A parameter shared over the sky is a constant map.
                spread = values.variable.set_dims({"superpixel": fit.sizes["superpixel"]})
                columns[f"{variable}{suffix}".upper()] = xr.DataArray(
                    spread.astype(np.float32), attrs={"unit": unit}
                )
    for edge, values in enumerate(_edges_per_superpixel(fit)):
        columns[f"DISTANCE_EDGE_{edge:02d}"] = xr.DataArray(
            values.variable.astype(np.float32), attrs={"unit": "kpc"}
        )
    for name, kind in DIAGNOSTICS.items():
        columns[name.upper()] = xr.DataArray(fit[name].variable.astype(kind), attrs={"unit": ""})
    return columns


def _split(variable: xr.DataArray) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield a suffix and the values for each voxel and band of a variable."""
    extra = [dim for dim in variable.dims if dim != "superpixel"]
    if not extra:
        yield "", variable
        return
    first, *others = extra
    if others or first not in ("voxel", "band"):
        raise ResultError(
            f"{variable.name} of the fit has the dimensions {variable.dims}; "
            f"allowed are superpixel, and either voxel or band"
        )
    for index in range(variable.sizes[first]):
        values = variable.isel({first: index})
        yield (f"_{index:02d}" if first == "voxel" else f"_{values['band'].item()}"), values


def _edges_per_superpixel(fit: xr.Dataset) -> Iterable[xr.DataArray]:
    """Return the distance edges, where they differ from superpixel to superpixel."""
    edges = fit["distance_edge"]
    return edges.transpose("voxel_edge", "superpixel") if "superpixel" in edges.dims else ()


def _write_parameters(fit: xr.Dataset, columns: dict[str, xr.DataArray], path: Path) -> None:
    nside = int(fit.attrs["superpixel_nside"])
    kinds = {name: values.dtype for name, values in columns.items()}
    row = _blank_row(kinds)
    table = np.full(hp.nside2npix(nside), row)
    for name, values in columns.items():
        table[name][fit["superpixel"].values] = values.values
    header = _table_header(fit, "PARAMETERS", nside, row)
    for number, values in enumerate(columns.values(), start=1):
        if values.attrs["unit"]:
            header[f"TUNIT{number}"] = values.attrs["unit"]
    for name, variable in fit.data_vars.items():
        if variable.attrs.get("tying") == "fixed" and variable.ndim == 0:
            header[f"HIERARCH FIXED {name}"] = float(variable)
    flag = fit["flag"].attrs
    masks, meanings = np.atleast_1d(flag.get("flag_masks", [])), flag.get("flag_meanings", "")
    for mask, meaning in zip(masks, meanings.split(), strict=True):
        header[f"HIERARCH FLAG {int(mask)}"] = meaning
    with path.open("wb") as file:
        _write_header(file, header)
        file.write(table.tobytes())
        _fill_record(file)


def _write_emission(fit: xr.Dataset, sky: xr.Dataset, paths: list[Path]) -> None:
    nside = int(fit.attrs["nside"])
    fit = fit.sortby("superpixel")
    row = _blank_row(dict.fromkeys(("OBSERVED", "RECONSTRUCTED", "RESIDUAL"), np.float32))
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for file, band, frequency in zip(
            files, sky["band"].values, sky["frequency"].values, strict=True
        ):
            header = _table_header(fit, "EMISSION", nside, row)
            for number in range(1, len(row.dtype) + 1):
                header[f"TUNIT{number}"] = "MJy/sr"
            header["BAND"] = (str(band), "name of the band")
            header["FREQ"] = (float(frequency), "[GHz] its frequency")
            _write_header(file, header)
        pixels = sky.sizes["pixel"]
        done = 0  # Superpixels of the whole sky written so far; the files are written in order.
        for part, block, predicted in reconstruction_blocks(fit, sky):
            superpixels = fit["superpixel"].values[part]
            emission = observed(block)
            predicted = np.where(np.isnan(emission), np.nan, predicted)
            runs = np.split(
                np.arange(superpixels.size), np.flatnonzero(np.diff(superpixels) > 1) + 1
            )
            for number, file in enumerate(files):
                table = np.full((superpixels.size, pixels), row)
                columns = (emission, predicted, emission - predicted)
                for name, values in zip(row.dtype.names, columns, strict=True):
                    band = values[:, :, number]
                    table[name] = np.where(np.isfinite(band), band, hp.UNSEEN)
                end = done
                for run in runs:
                    _write_blank(file, row, (superpixels[run[0]] - end) * pixels)
                    file.write(table[run[0] : run[-1] + 1].tobytes())
                    end = superpixels[run[-1]] + 1
            done = end
        for file in files:
            _write_blank(file, row, hp.nside2npix(nside) - done * pixels)
            _fill_record(file)


def _blank_row(kinds: dict[str, Any]) -> np.ndarray:
    """Return one row, in FITS's order of bytes, of a table that has no data."""
    # FITS is big-endian.
    row = np.zeros((), [(name, np.dtype(kind).newbyteorder(">")) for name, kind in kinds.items()])
    for name in kinds:
        row[name] = BLANK_INTEGER if row.dtype[name].kind == "i" else hp.UNSEEN
    return row


def _write_blank(file: BinaryIO, row: np.ndarray, rows: int) -> None:
    for start in range(0, int(rows), BLOCK_ROWS):
        file.write(np.full(min(BLOCK_ROWS, int(rows) - start), row).tobytes())


def _write_header(file: BinaryIO, header: fits.Header) -> None:
    file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
    file.write(header.tostring().encode("ascii"))


def _fill_record(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % FITS_RECORD))


def _table_header(fit: xr.Dataset, name: str, nside: int, row: np.ndarray) -> fits.Header:
    """Return the header of a HEALPix table that has one row for each pixel of the sky."""
    columns = [
        fits.Column(column, "J", null=BLANK_INTEGER)
        if row.dtype[column].kind == "i"
        else fits.Column(column, "E")
        for column in row.dtype.names
    ]
    header = fits.BinTableHDU.from_columns(columns, nrows=0, name=name).header
    header["NAXIS2"] = hp.nside2npix(nside)
    header["PIXTYPE"] = ("HEALPIX", "HEALPix pixelisation")
    header["ORDERING"] = ("NESTED", "order of the pixels")
    header["NSIDE"] = (nside, "resolution of HEALPix")
    header["FIRSTPIX"] = 0
    header["LASTPIX"] = hp.nside2npix(nside) - 1
    header["INDXSCHM"] = ("IMPLICIT", "one row for each pixel of the sky")
    header["OBJECT"] = "FULLSKY"
    header["COORDSYS"] = ("G", "Galactic")
    header["BAD_DATA"] = (hp.UNSEEN, "value of pixels without data")
    header["LONGSTRN"] = ("OGIP 1.0", "long strings use CONTINUE")
    for attribute, (keyword, comment) in CARDS.items():
        if attribute in fit.attrs:
            header[keyword] = _printable(fit.attrs[attribute])
            header.comments[keyword] = comment
    rest = {key: fit.attrs[key] for key in fit.attrs if key not in CARDS and key not in GRID}
    header["PROVENAN"] = _printable(rest)
    edges = fit["distance_edge"]
    if edges.dims == ("voxel_edge",):
        for number, edge in enumerate(edges.values):
            header[f"DEDGE{number:02d}"] = (float(edge), "[kpc] edge of a voxel")
    return header


def _printable(value: Any) -> str:
    r"""Return a text, or other values as JSON, in the printable ASCII that FITS headers allow.

    The rest is escaped as in JSON. An apostrophe is escaped too: astropy may break a long string
    between the two halves of a doubled one, which other readers take for the end. JSON means the
    same as before.
    """
    text = value if isinstance(value, str) else json.dumps(value, default=_plain)
    allowed = {chr(code) for code in range(32, 127)} - {"'"}
    return "".join(
        letter
        if letter in allowed
        else " "
        if letter.isspace()
        else "\\u0027"
        if letter == "'"
        else json.dumps(letter)[1:-1]
        for letter in text
    )


def _plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays as JSON knows them."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
