"""Maps of a fit as HEALPix FITS files: parameters, errors, reconstructed emission, residuals."""

from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr
from astropy.io import fits

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.products.contents import (
    EMISSION,
    band_ucd,
    emission_blocks,
    emission_ucd,
    fitted_parameters,
    fixed_parameters,
)
from pymcdust.products.healpix_table import Column, HealpixTable
from pymcdust.products.provenance import provenance_cards
from pymcdust.products.reliability import flag_bits
from pymcdust.products.staging import staged

#: Which pixels a map may list: all of the sky, or those of the fitted superpixels.
COVERAGES = ("full", "partial")


def export_maps(
    fit: xr.Dataset,
    sky: xr.Dataset,
    folder: str | Path,
    coverage: str = "full",
    overwrite: bool = False,
) -> list[Path]:
    """Write a fit as HEALPix FITS files: NESTED, Galactic, of the full sky or of what was fitted.

    ``parameters.fits``, at the Nside of the superpixels, has a column for every free parameter
    and its standard deviation in each voxel (``TEMPERATURE_00``, ``TEMPERATURE_SD_00``, ...) or
    band (``OFFSET_217``), and ``OBJECTIVE``, ``CHI2``, ``N_DATA``, ``FLAG``, ``CONVERGED``.
    ``emission_<band>.fits``, at the Nside of the data, has the columns ``OBSERVED``,
    ``RECONSTRUCTED`` and ``RESIDUAL`` [MJy/sr]. Pixels that were not fitted or are not valid hold
    UNSEEN, in columns of integers -1; so do voxels that are padding. The headers hold unit, UCD
    and description of each column, the distance edges [kpc], the model and the provenance of the
    data.

    Parameters
    ----------
    fit : Dataset
        The fit; it may cover a part of the sky.
    sky : Dataset
        The sky that was fitted; read block by block.
    folder : path
        Folder for the files, made where it is missing.
    coverage : {"full", "partial"}
        A row for each pixel of the sky, or for those of the fitted superpixels alone, after a
        column ``PIXEL`` with their indices.
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
        If `coverage` is unknown, or `folder` holds such files already and `overwrite` is false.
    """
    if coverage not in COVERAGES:
        raise ConfigurationError(unknown("coverage", coverage, COVERAGES))
    parameters = fitted_parameters(fit, sky)
    names, folder = map_names(sky), Path(folder)
    partial = coverage == "partial"
    with staged(folder, names, overwrite) as unfinished:
        _write_parameters(fit, parameters, unfinished / names[0], partial)
        _write_emission(fit, sky, [unfinished / name for name in names[1:]], partial)
    return [folder / name for name in names]


def map_names(sky: xr.Dataset) -> list[str]:
    """Return the names of the files that `export_maps` writes."""
    return ["parameters.fits", *(f"emission_{band}.fits" for band in sky["band"].values)]


def _write_parameters(fit: xr.Dataset, parameters: xr.Dataset, path: Path, partial: bool) -> None:
    columns, values = _parameter_columns(parameters)
    cards = _distance_cards(fit)
    cards.extend(provenance_cards(fit.attrs), update=True)
    for name, value in fixed_parameters(fit).items():
        cards[f"HIERARCH FIXED {name}"] = value
    for meaning, bit in flag_bits(fit).items():
        cards[f"HIERARCH FLAG {bit}"] = meaning
    nside = int(fit.attrs["superpixel_nside"])
    pixels = parameters["superpixel"].values
    with path.open("wb") as file:
        table = HealpixTable(
            file, "PARAMETERS", columns, nside, pixels.size if partial else None, cards
        )
        table.write(pixels, values)
        table.finish()


def _parameter_columns(parameters: xr.Dataset) -> tuple[dict[str, Column], list[np.ndarray]]:
    """Cut what is published of a fit into columns, one for each voxel, edge or band."""
    columns: dict[str, Column] = {}
    values: list[np.ndarray] = []
    for name, variable in parameters.data_vars.items():
        if "superpixel" not in variable.dims:
            continue  # Distance edges that all superpixels share are cards.
        unit, ucd, description = (variable.attrs[key] for key in ("unit", "ucd", "description"))
        others = [dim for dim in variable.dims if dim != "superpixel"]
        for index in range(variable.sizes[others[0]]) if others else [None]:
            if index is None:
                suffix, where, word, part = "", "", "", variable
            else:
                part = variable.isel({others[0]: index})
                suffix, where, word = _place(parameters, others[0], index)
            title = f"{name}{suffix}".upper()
            columns[title] = Column(
                variable.dtype, unit, ";".join(filter(None, (ucd, word))), description + where
            )
            values.append(part.values)
    return columns, values


def _place(parameters: xr.Dataset, dim: str, index: int) -> tuple[str, str, str]:
    """Return suffix, description and word of the UCD for a voxel, an edge or a band."""
    if dim == "band":
        band = str(parameters["band"].values[index])
        return f"_{band}", f", band {band}", band_ucd(float(parameters["frequency"][index]))
    edges = parameters["distance_edge"]
    if dim == "voxel" and edges.ndim == 1:
        near, far = list(pairwise(edges.values))[index]
        return f"_{index:02d}", f", {near:.4g} to {far:.4g} kpc", ""
    return f"_{index:02d}", f", {dim.replace('_', ' ')} {index}", ""


def _write_emission(fit: xr.Dataset, sky: xr.Dataset, paths: list[Path], partial: bool) -> None:
    nside = int(fit.attrs["nside"])
    n_partial = fit.sizes["superpixel"] * sky.sizes["pixel"] if partial else None
    with ExitStack() as stack:
        tables = []
        for path, band, frequency in zip(
            paths, sky["band"].values, sky["frequency"].values, strict=True
        ):
            columns = {
                name.upper(): Column(
                    np.float32,
                    "MJy/sr",
                    emission_ucd(name, float(frequency)),
                    f"{description}, band {band}",
                )
                for name, (_, _, description) in EMISSION.items()
            }
            cards = fits.Header()
            cards["BAND"] = (str(band), "name of the band")
            cards["FREQ"] = (float(frequency), "[GHz] its frequency")
            cards.extend(_distance_cards(fit), update=True)
            cards.extend(provenance_cards(fit.attrs), update=True)
            file = stack.enter_context(path.open("wb"))
            tables.append(HealpixTable(file, "EMISSION", columns, nside, n_partial, cards))
        for pixels, maps in emission_blocks(fit, sky):
            for number, table in enumerate(tables):
                table.write(pixels, [values[:, number] for values in maps.values()])
        for table in tables:
            table.finish()


def _distance_cards(fit: xr.Dataset) -> fits.Header:
    """Return the distance edges, where all superpixels share them."""
    header = fits.Header()
    edges = fit["distance_edge"]
    if edges.dims == ("voxel_edge",):
        for number, edge in enumerate(edges.values):
            header[f"DEDGE{number:02d}"] = (float(edge), "[kpc] edge of a voxel")
    return header
