"""The reddening of a sky's valid pixels, and its mean, block by block."""

import numpy as np
import xarray as xr

from pymcdust.products.reconstruction import BLOCK_SIZE


def seen_reddening(block: xr.Dataset) -> np.ndarray:
    """Return the reddening of a sky, or of a part of it, where it was fitted.

    Parameters
    ----------
    block : Dataset
        Superpixels of a sky, few enough for memory.

    Returns
    -------
    (superpixel, pixel, voxel) array [mag]
        NaN where no band of a pixel is valid.
    """
    valid = block["valid"]
    valid = valid.any("band") if "band" in valid.dims else valid
    reddening = block["reddening"].transpose("superpixel", "pixel", "voxel").values
    return np.where(valid.transpose("superpixel", "pixel").values[..., None], reddening, np.nan)


def mean_reddening(sky: xr.Dataset, position: np.ndarray, nside: int | None = None) -> np.ndarray:
    """Average the reddening of superpixels over their valid pixels, or over those of parts.

    Parameters
    ----------
    sky : Dataset
        The sky; read block by block.
    position : (row,) array of int
        Positions of superpixels in it.
    nside : int, optional
        Nside of the parts, from that of the superpixels (default) to that of the pixels.

    Returns
    -------
    (row, part, voxel) array [mag]
        Parts in NESTED order, one without `nside`; NaN where no pixel is valid.
    """
    n_part = 1 if nside is None else (nside // int(sky.attrs["superpixel_nside"])) ** 2
    n_pixel, n_voxel = sky.sizes["pixel"], sky.sizes["voxel"]
    result = np.empty((len(position), n_part, n_voxel))
    step = max(1, BLOCK_SIZE // (n_pixel * n_voxel))
    for start in range(0, len(position), step):
        rows = position[start : start + step]
        seen = seen_reddening(sky[["reddening", "valid"]].isel(superpixel=rows))
        parts = seen.reshape(len(rows), n_part, n_pixel // n_part, n_voxel)
        total = np.nansum(parts, axis=2, dtype=float)
        count = np.isfinite(parts).sum(axis=2)
        result[start : start + step] = np.divide(
            total, count, out=np.full(total.shape, np.nan), where=count > 0
        )
    return result
