"""A fit as Zarr stores whose cells are HEALPix pixels, as xdggs reads them."""

import warnings
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from pymcdust.products.contents import (
    EMISSION,
    band_ucd,
    describe,
    emission_blocks,
    emission_ucd,
    fitted_parameters,
    fixed_parameters,
)
from pymcdust.products.provenance import provenance_attributes
from pymcdust.products.staging import staged

#: Names of the stores.
STORES = ("parameters.zarr", "emission.zarr")

#: The dimension of the pixels, in the words of xdggs.
CELLS = "cells"

#: Cells of one chunk: a megabyte in single precision.
CHUNK = 2**18


def export_zarr(
    fit: xr.Dataset, sky: xr.Dataset, folder: str | Path, overwrite: bool = False
) -> list[Path]:
    """Write a fit as Zarr stores with HEALPix metadata: NESTED, Galactic, what was fitted alone.

    ``parameters.zarr``, at the Nside of the superpixels, holds every free parameter and its
    standard deviation, the fixed parameters, the distance edges and the diagnostics;
    ``emission.zarr``, at the Nside of the data, holds ``observed``, ``reconstructed`` and
    ``residual`` [MJy/sr]. Both have the dimension ``cells``, whose coordinate ``cell_ids`` says
    the grid in the convention of xdggs; longitudes and latitudes that follow from it are Galactic.
    What is not valid, and voxels that are padding, are NaN. Variables, and the coordinate
    ``frequency``, have the attributes ``units``, ``ucd`` and ``long_name``; the stores have those
    of the fit, which tell the provenance.

    Parameters
    ----------
    fit : Dataset
        The fit; it may cover a part of the sky.
    sky : Dataset
        The sky that was fitted; read block by block.
    folder : path
        Folder for the stores, made where it is missing.
    overwrite : bool
        Whether stores of an earlier export may be replaced.

    Returns
    -------
    list of Path
        The stores written.

    Raises
    ------
    ResultError
        If the fit lacks a variable, or fit and sky do not belong together.
    ConfigurationError
        If `folder` holds such stores already and `overwrite` is false, or holds something else of
        their name.
    """
    parameters = _parameters(fit, sky)
    folder = Path(folder)
    with staged(folder, STORES, overwrite) as unfinished:
        _write(parameters, unfinished / STORES[0], parameters.sizes[CELLS])
        _write_emission(fit, sky, unfinished / STORES[1])
        for name in STORES:
            _consolidate(unfinished / name)
            if (folder / name).exists():
                # A folder cannot be renamed onto another that is not empty.
                (folder / name).rename(unfinished / f"replaced-{name}")
    return [folder / name for name in STORES]


def _parameters(fit: xr.Dataset, sky: xr.Dataset) -> xr.Dataset:
    published = fitted_parameters(fit, sky)
    for name, value in fixed_parameters(fit).items():
        ucd, description = describe(fit[name])
        attrs = {**fit[name].attrs, "ucd": ucd, "description": f"{description}, fixed"}
        published[name] = ((), value, attrs)
    theirs = {"unit": "units", "description": "long_name"}
    for variable in published.variables.values():
        variable.attrs = {theirs.get(key, key): said for key, said in variable.attrs.items()}
        if "band" in variable.dims and "ucd" in variable.attrs:
            words = (variable.attrs["ucd"], band_ucd(fit["frequency"].values))
            variable.attrs["ucd"] = ";".join(filter(None, words))
    cells = _cell_ids(published["superpixel"].values, int(fit.attrs["superpixel_nside"]))
    return (
        published.drop_vars("superpixel")
        .rename_dims(superpixel=CELLS)
        .assign_coords(cell_ids=cells, **_frequency(fit))
        .assign_attrs(provenance_attributes(fit.attrs))
    )


def _write_emission(fit: xr.Dataset, sky: xr.Dataset, path: Path) -> None:
    nside = int(fit.attrs["nside"])
    n_cells = fit.sizes["superpixel"] * sky.sizes["pixel"]
    ucd = {name: emission_ucd(name, sky["frequency"].values) for name in EMISSION}
    for number, (pixels, maps) in enumerate(emission_blocks(fit, sky)):
        block = xr.Dataset(
            {
                name: (
                    (CELLS, "band"),
                    values.astype(np.float32),
                    {"units": "MJy/sr", "ucd": ucd[name], "long_name": EMISSION[name][2]},
                )
                for name, values in maps.items()
            },
            coords={"cell_ids": _cell_ids(pixels, nside)},
        )
        if number:
            block.to_zarr(path, append_dim=CELLS, consolidated=False)
            continue
        block = block.assign_coords(band=sky["band"].values, **_frequency(sky))
        _write(block.assign_attrs(provenance_attributes(fit.attrs)), path, n_cells)


def _write(dataset: xr.Dataset, path: Path, n_cells: int) -> None:
    encoding = {
        name: {
            "chunks": tuple(
                min(CHUNK, n_cells) if dim == CELLS else 1 if dim in ("voxel", "band") else size
                for dim, size in variable.sizes.items()
            )
        }
        for name, variable in dataset.variables.items()
        if CELLS in variable.dims
    }
    dataset.to_zarr(path, mode="w-", zarr_format=3, consolidated=False, encoding=encoding)


def _consolidate(path: Path) -> None:
    """Gather the metadata of a store in one place, without which `xarray.open_zarr` warns."""
    with warnings.catch_warnings():
        # Zarr 3 has no standard for it yet; readers that do not know it pass over it.
        warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
        zarr.consolidate_metadata(path)


def _frequency(data: xr.Dataset) -> dict[str, tuple]:
    """Return the coordinate of the frequencies, where there are bands."""
    if "frequency" not in data:
        return {}
    attrs = {"units": "GHz", "ucd": "em.freq", "long_name": "frequency of the band"}
    return {"frequency": ("band", data["frequency"].values, attrs)}


def _cell_ids(pixels: np.ndarray, nside: int) -> xr.Variable:
    """Return NESTED indices with the metadata of xdggs."""
    level = nside.bit_length() - 1
    attrs = {"grid_name": "healpix", "level": level, "indexing_scheme": "nested"}
    # Signed, because healpy takes no others.
    return xr.Variable(CELLS, pixels.astype(np.int64), attrs)
