"""Exact compression: a few pseudo-pixels that say all that the pixels of a superpixel say.

The emission of a sightline is linear in the emissivities of its voxels, so that the likelihood of
a superpixel depends on its pixels through inner products alone. A QR decomposition of the columns
``[W dE | w | W I]`` (W the weights, dE the reddening, I the emission) keeps all of them: its
triangle has one row for each voxel and one for the offset, whatever the number of pixels, and what
remains of I is a constant of the chi-square.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import xarray as xr

from pymcdust.physics.emission import emissivity

#: Rows taken into the triangle at a time: their columns then stay in the processor's cache.
BLOCK_ROWS = 128

#: Values (pixels times columns) of one block of superpixels while compressing.
BLOCK_VALUES = 4_000_000


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
    reddening, intercept, emission, sigma = _weighted(sky)
    floor = np.zeros((emission.shape[0], emission.shape[2]))
    return _rows_dataset(sky, reddening, intercept, emission, sigma, floor, sky.pixel.values)


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
    blocks = [_compress_block(sky.isel(superpixel=block)) for block in superpixel_blocks(sky)]
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


def superpixel_blocks(sky: xr.Dataset, block_values: int = BLOCK_VALUES) -> Iterator[slice]:
    """Cut a sky into blocks of superpixels of bounded size.

    Parameters
    ----------
    sky : xarray.Dataset
        A sky, or rows of one.
    block_values : int, optional
        Largest number of values (pixels times columns) of a block.

    Yields
    ------
    slice
        Positions along `superpixel`.
    """
    per_superpixel = sky.sizes["pixel"] * (sky.sizes["voxel"] + 1 + sky.sizes["band"])
    step = max(1, block_values // per_superpixel)
    for start in range(0, sky.sizes["superpixel"], step):
        yield slice(start, min(start + step, sky.sizes["superpixel"]))


def _weighted(sky: xr.Dataset) -> tuple[np.ndarray, ...]:
    """Return reddening, intercept, emission and sigma of the pixels, masked and weighted."""
    reddening = sky.reddening.transpose("superpixel", "pixel", "voxel").values
    emission = sky.emission.transpose("superpixel", "pixel", "band").values
    valid = sky.valid.transpose("superpixel", "pixel", ...).values
    reddening = np.asarray(reddening, dtype=float)
    by_band = valid.ndim == 3
    if sky.sigma.ndim > 1:
        sigma = sky.sigma.broadcast_like(sky.emission)
        sigma = sigma.transpose("superpixel", "pixel", "band").values
        by_band, mask = True, valid if by_band else valid[..., None]
        # What is masked may hold anything, sigma of zero included.
        weight = np.where(mask, 1 / np.where(mask, sigma, 1.0), 0.0)
        sigma = np.ones(emission.shape[2])
    else:
        weight, sigma = valid.astype(float), np.asarray(sky.sigma.values, dtype=float)
    used = weight > 0
    if not by_band:
        reddening = np.where(used[..., None], reddening, 0.0)
        emission = np.where(used[..., None], emission, 0.0)
        return reddening, weight, emission, sigma
    emission = np.where(used, emission, 0.0) * weight
    weight = np.moveaxis(weight, 2, 1)  # (superpixel, band, pixel)
    finite = np.where(used.any(axis=2)[..., None], reddening, 0.0)[:, None]
    return finite * weight[..., None], weight, emission, sigma


def _rows_dataset(
    sky: xr.Dataset,
    reddening: np.ndarray,
    intercept: np.ndarray,
    emission: np.ndarray,
    sigma: np.ndarray,
    floor: np.ndarray,
    pixel: np.ndarray,
) -> xr.Dataset:
    rows = ("superpixel", "pixel") if intercept.ndim == 2 else ("superpixel", "band", "pixel")
    valid = sky.valid.broadcast_like(sky.emission)
    log_sigma = np.log(np.where(valid, sky.sigma.broadcast_like(sky.emission), 1.0))
    n_data = valid.sum(("pixel", "band")).values
    summed = log_sigma.sum(axis=tuple(valid.get_axis_num(d) for d in ("pixel", "band")))
    return xr.Dataset(
        {
            "reddening": ((*rows, "voxel"), reddening),
            "intercept": (rows, intercept),
            "emission": (("superpixel", "pixel", "band"), emission),
            "sigma": (("band",), sigma),
            "chi2_floor": (("superpixel", "band"), floor),
            "log_norm": (("superpixel",), -summed - 0.5 * n_data * np.log(2 * np.pi)),
            "n_data": (("superpixel",), n_data),
            "distance_edge": sky.distance_edge.variable,
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


def _compress_block(sky: xr.Dataset) -> xr.Dataset:
    reddening, intercept, emission, sigma = _weighted(sky)
    n_row = reddening.shape[-1] + 1
    if intercept.ndim == 2:
        triangle = _triangle(np.concatenate([reddening, intercept[..., None], emission], axis=2))
        right = triangle[..., n_row:]
    else:
        by_band = np.moveaxis(emission, 2, 1)[..., None]
        triangle = _triangle(np.concatenate([reddening, intercept[..., None], by_band], axis=-1))
        right = np.moveaxis(triangle[..., n_row], 1, 2)
    floor = (right[:, n_row:] ** 2).sum(axis=1) / sigma**2
    head = triangle[..., :n_row, :]
    return _rows_dataset(
        sky,
        head[..., : n_row - 1],
        head[..., n_row - 1],
        right[:, :n_row],
        sigma,
        floor,
        np.arange(n_row),
    )


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
    missing = max(0, n_row - columns.shape[-2])
    return np.pad(columns, [(0, 0)] * (columns.ndim - 2) + [(0, missing), (0, 0)])
