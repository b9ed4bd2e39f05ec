"""Blocks of pixels that are predicted together, and their division into folds.

A beam blurs the sky over several pixels, so that a pixel is known from its neighbours, whichever
model is true. What a model predicts is told by whole patches of the sky that it has not seen, none
of them smaller than the beam. In NESTED order the pixels of a coarser HEALPix pixel follow each
other, and so a block is a run of pixels of a superpixel.
"""

from dataclasses import dataclass

import healpy
import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, SkyError, listing
from pymcdust.sky.compression import is_compressed
from pymcdust.sky.dataset import beam_of
from pymcdust.sky.morphology import random_stream

#: Full width at half maximum of the beam of a sky that does not tell its own [arcmin]: the common
#: beam of Zelko et al. (2022, Sec. 2).
BEAM = 10.0

#: Fewest blocks of a superpixel: of one nothing is left to predict it from.
LEAST_BLOCKS = 2


@dataclass(frozen=True)
class PixelBlocks:
    """Every superpixel cut into blocks of as many pixels.

    Parameters
    ----------
    size : int
        Pixels of a block, a power of 4: those of one HEALPix pixel.
    n_block : int
        Blocks of a superpixel. Block b holds the pixels ``b * size`` to ``(b + 1) * size - 1``.
    """

    size: int
    n_block: int

    def split(self, values: np.ndarray, axis: int = -1) -> np.ndarray:
        """Split an axis of pixels into two, of blocks and of the pixels of a block."""
        axis %= values.ndim
        shape = (*values.shape[:axis], self.n_block, self.size, *values.shape[axis + 1 :])
        return values.reshape(shape)


def pixel_blocks(sky: xr.Dataset, block: int | None = None) -> PixelBlocks:
    """Cut every superpixel of a sky into blocks of pixels.

    Parameters
    ----------
    sky : xarray.Dataset
        A sky.
    block : int, optional
        Pixels of a block, a power of 4. By default those of the smallest HEALPix pixel that is at
        least as wide as the sky's beam, or as `BEAM` where the sky does not tell its own.

    Returns
    -------
    PixelBlocks
        The same blocks for every superpixel.

    Raises
    ------
    ConfigurationError
        If `block` is no power of 4, or a superpixel would have fewer than two blocks.
    SkyError
        If the sky is compressed: its pixels are gone.

    Examples
    --------
    >>> from pymcdust import simulate_sky
    >>> sky = simulate_sky(nside=64, superpixel_nside=16, superpixels=[3], distance_edge=[0, 1])
    >>> pixel_blocks(sky)
    PixelBlocks(size=1, n_block=16)
    >>> pixel_blocks(sky, block=4)
    PixelBlocks(size=4, n_block=4)
    """
    if is_compressed(sky):
        raise SkyError(
            "predictions are compared with pixels, and these are the compressed rows of a sky; "
            "give the sky itself"
        )
    n_pixel = sky.sizes["pixel"]
    allowed = [size for size in (4**power for power in range(30)) if LEAST_BLOCKS * size <= n_pixel]
    if block is None:
        beam = beam_of(sky) or BEAM
        width = healpy.nside2resol(sky.attrs["nside"], arcmin=True)
        block = 4 ** max(0, int(np.ceil(np.log2(beam / width))))
        if block not in allowed:
            raise ConfigurationError(
                f"a block as wide as the beam ({beam:g} arcmin) takes {block} pixels of Nside "
                f"{sky.attrs['nside']}, and a superpixel has {n_pixel}: fewer than {LEAST_BLOCKS} "
                "blocks; take larger superpixels, or choose smaller blocks if the pixels are "
                "independent, as those of a simulated sky are"
                + (f": block may be {_choice(allowed)}" if allowed else "")
            )
    if block not in allowed:
        raise ConfigurationError(
            f"block is {block!r}; it is the number of pixels of a block, of the {n_pixel} of a "
            f"superpixel: allowed is {_choice(allowed) or 'none, a superpixel is a single pixel'}"
        )
    return PixelBlocks(int(block), n_pixel // int(block))


def valid_blocks(sky: xr.Dataset, blocks: PixelBlocks) -> np.ndarray:
    """Return which blocks have any valid datum, (superpixel, block) array of bool."""
    valid = sky.valid.transpose("superpixel", "pixel", ...).values
    return blocks.split(valid, axis=1).reshape(len(valid), blocks.n_block, -1).any(axis=2)


def fold_blocks(sky: xr.Dataset, blocks: PixelBlocks, folds: int, seed: int = 0) -> np.ndarray:
    """Divide the blocks of every superpixel at random into folds of the same number of blocks.

    Parameters
    ----------
    sky : xarray.Dataset
        A sky.
    blocks : PixelBlocks
        Its blocks.
    folds : int
        Number of folds, 2 or more. A superpixel of fewer blocks has a fold for each of them.
    seed : int, optional
        Seed. The folds of a superpixel depend on it and on the superpixel's index.

    Returns
    -------
    (superpixel, block) array of int
        The fold of each block, -1 of those without valid data.

    Raises
    ------
    ConfigurationError
        If `folds` is less than 2, or no integer.

    Examples
    --------
    >>> from pymcdust import simulate_sky
    >>> sky = simulate_sky(nside=64, superpixel_nside=16, superpixels=[3], distance_edge=[0, 1])
    >>> fold = fold_blocks(sky, pixel_blocks(sky), folds=5)
    >>> np.bincount(fold[0]).tolist()
    [4, 3, 3, 3, 3]
    """
    if not isinstance(folds, int | np.integer) or isinstance(folds, bool) or folds < 2:
        raise ConfigurationError(f"folds is {folds!r}; it must be an integer of 2 or more")
    used = valid_blocks(sky, blocks)
    fold = np.full(used.shape, -1)
    for own, present, index in zip(fold, used, sky.superpixel.values, strict=True):
        rng = np.random.default_rng(random_stream(seed, "folds", index))
        order = np.argsort(np.where(present, rng.random(len(own)), np.inf))
        count = np.count_nonzero(present)
        own[order[:count]] = np.arange(count) % folds
    return fold


def _choice(allowed: list[int]) -> str:
    words = listing(allowed)
    return words.replace(" and ", " or ")
