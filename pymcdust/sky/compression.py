"""Exact compression: a few pseudo-pixels that say all that the pixels of a superpixel say.

The emission of a sightline is linear in the emissivities of its voxels, so that the likelihood of
a superpixel depends on its pixels through inner products alone. A QR decomposition of the columns
``[W dE | w | W I]`` (W the weights, dE the reddening, I the emission) keeps all of them: its
triangle has one row for each voxel and one for the offset, whatever the number of pixels, and what
remains of I is a constant of the chi-square.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import xarray as xr

from pymcdust.physics.emission import emissivity
from pymcdust.sky.dataset import cuts_of
from pymcdust.sky.validation import superpixel_blocks

#: Rows taken into the triangle at a time: their columns then stay in the processor's cache.
BLOCK_ROWS = 128

#: Size of the columns of the superpixels that are taken together [bytes].
BLOCK_BYTES = 4 * 2**20


def is_compressed(sky: xr.Dataset) -> bool:
    """Tell whether a dataset holds rows that `compress` or `as_rows` made."""
    return "chi2_floor" in sky


def as_rows(sky: xr.Dataset) -> xr.Dataset:
    """Write every pixel of a sky as one row of data.

    Parameters
    ----------
    sky : xarray.Dataset
        A sky. What is not valid gets weight zero.

    Returns
    -------
    xarray.Dataset
        `reddening` (superpixel, pixel, voxel) [mag], `intercept` (superpixel, pixel) (1 where
        valid), `emission` (superpixel, pixel, band) [MJy/sr], `sigma` (band) [MJy/sr], and the
        constants of the likelihood: `chi2_floor` (superpixel, band), `log_norm` (superpixel),
        `n_data` (superpixel). Where weights differ from band to band `reddening` and `intercept`
        have a dimension `band` as well; where sigma differs from pixel to pixel rows are divided
        by it and `sigma` is 1.
    """
    if is_compressed(sky):
        return sky
    columns = _columns(_Pixels.of(sky))
    n_row = sky.sizes["voxel"] + 1
    right = columns[..., n_row:]
    if right.ndim == 4:
        right = np.moveaxis(right[..., 0], 1, 2)
    floor = np.zeros((sky.sizes["superpixel"], sky.sizes["band"]))
    return _rows_dataset(sky, columns[..., :n_row], right, floor, sky.pixel.values)


def compress(sky: xr.Dataset) -> xr.Dataset:
    """Compress the pixels of every superpixel into n_voxel + 1 pseudo-pixels, without loss.

    Parameters
    ----------
    sky : xarray.Dataset
        A sky; one that is compressed already is returned as it is.

    Returns
    -------
    xarray.Dataset
        Rows with the names and dimensions that `as_rows` gives, `pixel` being the pseudo-pixel.
        The log likelihood of any model built on them equals that of the pixels, up to the constant
        that `chi2_floor` and `log_norm` carry. Exact to rounding.
    """
    if is_compressed(sky):
        return sky
    # Linear algebra lets other threads run meanwhile.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        parts = (sky.isel(superpixel=block) for block in superpixel_blocks(sky))
        blocks = list(threads.map(_compress_block, parts))
    return xr.concat(blocks, "superpixel", data_vars="minimal", coords="minimal", join="exact")


def chi_square(rows: xr.Dataset, values: Mapping[str, xr.Variable]) -> np.ndarray:
    """Return the chi-square of every superpixel (Eq. 8, Zelko et al. 2022).

    Parameters
    ----------
    rows : xarray.Dataset
        Rows of data, of the pixels or compressed.
    values : mapping of xarray.Variable
        `temperature` [K], `beta`, `rho` [1/mag] and `offset` [MJy/sr], with any of the dimensions
        superpixel, voxel and (the offset) band.

    Returns
    -------
    (superpixel,) array
        Over all valid pixels and bands, whether compressed or not.
    """
    dust = {name: value for name, value in values.items() if name != "offset"}
    spectrum = emissivity(rows.frequency.variable, **dust)
    mu = xr.dot(rows.reddening.variable, spectrum, dim="voxel")
    mu = mu + rows.intercept.variable * values["offset"]
    misfit = ((mu - rows.emission.variable) / rows.sigma.variable) ** 2
    return (misfit.sum(("pixel", "band")) + rows.chi2_floor.variable.sum("band")).values


def likelihood_constant(rows: xr.Dataset) -> np.ndarray:
    """Return what the log likelihood of the rows lacks to be that of the pixels (Eq. 7).

    Parameters
    ----------
    rows : xarray.Dataset
        Rows of data, of the pixels or compressed.

    Returns
    -------
    (superpixel,) array
        To be added to the normalised log likelihood of a superpixel's rows, each of which counts as
        one datum for each band.
    """
    of_rows = rows.sizes["pixel"] * (np.log(rows.sigma.values) + 0.5 * np.log(2 * np.pi)).sum()
    return rows.log_norm.values - 0.5 * rows.chi2_floor.sum("band").values + of_rows


class _Pixels(NamedTuple):
    """The arrays of a sky: those that `sky` holds, in the order of the sky contract."""

    reddening: np.ndarray
    emission: np.ndarray
    valid: np.ndarray
    sigma: np.ndarray

    @classmethod
    def of(cls, sky: xr.Dataset) -> "_Pixels":
        order = ("superpixel", "pixel", ...)
        sigma = sky.sigma if sky.sigma.ndim == 1 else sky.sigma.transpose(*order)
        return cls(
            sky.reddening.transpose(*order).values,
            sky.emission.transpose(*order).values,
            sky.valid.transpose(*order).values,
            sigma.values,
        )

    def part(self, superpixels: slice) -> "_Pixels":
        """Return the arrays of some superpixels."""
        sigma = self.sigma if self.sigma.ndim == 1 else self.sigma[superpixels]
        return _Pixels(*(array[superpixels] for array in self[:3]), sigma)


def _columns(pixels: _Pixels) -> np.ndarray:
    """Write the columns ``[W dE | w | W I]``, whose weights are what a band's sigma leaves over.

    Returns
    -------
    (superpixel, pixel, voxel + 1 + band) array
        Where all bands have the same weights; else (superpixel, band, pixel, voxel + 2).
    """
    reddening, emission, valid, sigma = pixels
    n_superpixel, n_pixel, n_voxel = reddening.shape
    n_band = emission.shape[2]
    if valid.ndim == 2 and sigma.ndim == 1:
        columns = np.empty((n_superpixel, n_pixel, n_voxel + 1 + n_band))
        columns[..., :n_voxel] = reddening
        columns[..., n_voxel] = 1.0
        columns[..., n_voxel + 1 :] = emission
        columns[~valid] = 0.0
        return columns
    used = np.moveaxis(np.broadcast_to(valid.reshape(*valid.shape[:2], -1), emission.shape), 2, 1)
    columns = np.empty((n_superpixel, n_band, n_pixel, n_voxel + 2))
    columns[..., :n_voxel] = reddening[:, None]
    columns[..., n_voxel] = 1.0
    columns[..., n_voxel + 1] = np.moveaxis(emission, 2, 1)
    columns[~used] = 0.0
    if sigma.ndim > 1:
        # What is masked may hold anything, a sigma of zero included.
        columns /= np.where(used, np.moveaxis(sigma, 2, 1), 1.0)[..., None]
    return columns


def _rows_dataset(
    sky: xr.Dataset,
    left: np.ndarray,
    right: np.ndarray,
    floor: np.ndarray,
    pixel: np.ndarray,
) -> xr.Dataset:
    rows = ("superpixel", "pixel") if left.ndim == 3 else ("superpixel", "band", "pixel")
    n_data, log_norm = _likelihood_constants(sky)
    return xr.Dataset(
        {
            "reddening": ((*rows, "voxel"), left[..., :-1]),
            "intercept": (rows, left[..., -1]),
            "emission": (("superpixel", "pixel", "band"), right),
            "sigma": (("band",), _remaining_sigma(sky)),
            "chi2_floor": (("superpixel", "band"), floor),
            "log_norm": (("superpixel",), log_norm),
            "n_data": (("superpixel",), n_data),
            **cuts_of(sky),
        },
        coords={
            "superpixel": sky.superpixel.values,
            "pixel": pixel,
            "voxel": sky.voxel.values,
            "band": sky.band.values,
            "frequency": ("band", sky.frequency.values),
        },
        attrs=sky.attrs,
    )


def _likelihood_constants(sky: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of valid data and the log of their normalisation, (superpixel,) each."""
    valid = sky.valid if "band" in sky.valid.dims else sky.valid.expand_dims(band=sky.band)
    count = valid.sum("pixel").transpose("superpixel", "band")
    # Of a sigma in single precision the logarithm, and its sum, must not be.
    sigma = sky.sigma.astype(float)
    if sigma.ndim == 1:
        log_sigma = (count * np.log(sigma)).sum("band")
    else:
        log_sigma = np.log(sigma.where(valid, 1.0)).sum(("pixel", "band"))
    n_data = count.sum("band").values
    return n_data, -log_sigma.values - 0.5 * n_data * np.log(2 * np.pi)


def _compress_block(sky: xr.Dataset) -> xr.Dataset:
    pixels = _Pixels.of(sky)
    n_superpixel, n_pixel, n_voxel = pixels.reddening.shape
    n_row, n_column = n_voxel + 1, n_voxel + 1 + pixels.emission.shape[2]
    step = max(1, BLOCK_BYTES // (8 * n_pixel * n_column))
    triangle = np.concatenate(
        [
            _triangle(_columns(pixels.part(slice(start, start + step))))
            for start in range(0, n_superpixel, step)
        ]
    )
    right = triangle[..., n_row:]
    if right.ndim == 4:  # (superpixel, band, row, 1)
        right = np.moveaxis(right[..., 0], 1, 2)
    sigma = _remaining_sigma(sky)
    floor = (right[:, n_row:] ** 2).sum(axis=1) / sigma**2
    left = triangle[..., :n_row, :n_row]
    return _rows_dataset(sky, left, right[:, :n_row], floor, np.arange(n_row))


def _remaining_sigma(sky: xr.Dataset) -> np.ndarray:
    """Return the standard deviation of each band after the rows were weighted, (band,)."""
    if sky.sigma.ndim == 1:
        return np.asarray(sky.sigma.values, dtype=float)
    return np.ones(sky.sizes["band"])


def _triangle(columns: np.ndarray) -> np.ndarray:
    """Return the triangle R of ``columns = Q R``, row block by row block (TSQR).

    Parameters
    ----------
    columns : (..., row, column) array

    Returns
    -------
    (..., column, column) array
        Upper triangular, padded with zeros where there are fewer rows than columns.
    """
    *batch, n_row, n_column = columns.shape
    n_block = n_row // max(BLOCK_ROWS, 2 * n_column)
    if n_block > 1:
        length = -(-n_row // n_block)
        stacked = _pad_rows(columns, n_block * length).reshape(*batch, n_block, length, n_column)
        return _triangle(np.linalg.qr(stacked, mode="r").reshape(*batch, -1, n_column))
    return np.linalg.qr(_pad_rows(columns, n_column), mode="r")


def _pad_rows(columns: np.ndarray, n_row: int) -> np.ndarray:
    """Append rows of zeros, which leave the triangle as it is, up to `n_row` rows."""
    missing = n_row - columns.shape[-2]
    if missing <= 0:
        return columns
    return np.pad(columns, [(0, 0)] * (columns.ndim - 2) + [(0, missing), (0, 0)])
