"""Blocks of pixels: as wide as the beam, pieces of the sky, and folds of the same size."""

import healpy as hp
import numpy as np
import pytest

from pymcdust.errors import ConfigurationError, SkyError
from pymcdust.sky.blocks import BEAM, PixelBlocks, fold_blocks, pixel_blocks, valid_blocks
from pymcdust.sky.compression import compress
from pymcdust.sky.dataset import build_sky


def sky_of(nside, superpixel_nside, superpixels=(40, 41, 45), **changes):
    n_superpixel, n_pixel = len(superpixels), (nside // superpixel_nside) ** 2
    arrays = {
        "reddening": np.full((n_superpixel, n_pixel, 1), 0.1, dtype=np.float32),
        "emission": np.ones((n_superpixel, n_pixel, 5), dtype=np.float32),
        "sigma": np.ones(5),
        "distance_edge": [0.0, 1.0],
    }
    return build_sky(
        **(arrays | changes),
        superpixel=list(superpixels),
        nside=nside,
        superpixel_nside=superpixel_nside,
        reddening_unit="bayestar2019",
    )


@pytest.mark.parametrize("nside", [64, 256, 512, 1024, 2048])
def test_a_block_is_the_smallest_pixel_as_wide_as_the_beam(nside):
    blocks = pixel_blocks(sky_of(nside, nside // 32))
    parent = nside / np.sqrt(blocks.size)
    assert hp.nside2resol(int(parent), arcmin=True) >= BEAM
    assert blocks.size == 1 or hp.nside2resol(int(2 * parent), arcmin=True) < BEAM
    assert blocks.n_block * blocks.size == 1024


def test_a_block_is_as_wide_as_the_beam_that_the_sky_tells():
    sky = sky_of(256, 8)
    for beam, size in ((12.0, 1), (30.0, 16), ("matched", 1)):
        assert pixel_blocks(sky.assign_attrs(beam=beam)).size == size
    with pytest.raises(ConfigurationError, match=r"the beam \(600 arcmin\)"):
        pixel_blocks(sky.assign_attrs(beam=600))


def test_a_block_is_a_pixel_of_a_coarser_map():
    sky = sky_of(1024, 32)
    blocks = pixel_blocks(sky)
    assert blocks == PixelBlocks(16, 64)
    nested = sky.superpixel.values[:, None] * 1024 + np.arange(1024)
    position = hp.pix2ang(1024, nested, nest=True)
    parent = blocks.split(hp.ang2pix(256, *position, nest=True))
    assert (parent == parent[..., :1]).all()
    assert len(np.unique(parent[..., 0])) == 3 * 64


def test_splitting_keeps_the_other_axes():
    values = np.arange(2 * 16 * 3).reshape(2, 16, 3)
    parts = PixelBlocks(4, 4).split(values, axis=1)
    assert parts.shape == (2, 4, 4, 3)
    assert np.array_equal(parts[1, 2, 3], values[1, 11])
    assert np.array_equal(PixelBlocks(4, 4).split(values[..., 0]), parts[..., 0])


@pytest.mark.parametrize("block", [0, 2, 8, 64, -4, 2.5, "beam"])
def test_a_block_is_a_power_of_four_of_at_most_half_of_the_pixels(block):
    sky = sky_of(128, 16)
    with pytest.raises(ConfigurationError, match="allowed is 1, 4 or 16"):
        pixel_blocks(sky, block)


def test_a_superpixel_of_a_beam_cannot_be_cut():
    with pytest.raises(ConfigurationError, match=r"takes 16 pixels of Nside 1024.*may be 1 or 4"):
        pixel_blocks(sky_of(1024, 256))
    assert pixel_blocks(sky_of(1024, 256), block=4) == PixelBlocks(4, 4)


def test_compressed_rows_have_no_pixels_to_predict():
    with pytest.raises(SkyError, match="give the sky itself"):
        pixel_blocks(compress(sky_of(128, 16)))


def test_folds_have_the_same_number_of_blocks():
    valid = np.random.default_rng(1).random((3, 64)) > 0.4
    sky = sky_of(128, 16, valid=valid)
    blocks = pixel_blocks(sky)
    fold = fold_blocks(sky, blocks, 10)
    assert np.array_equal(fold >= 0, valid)
    for own in fold:
        count = np.bincount(own[own >= 0], minlength=10)
        assert count.max() - count.min() <= 1
    # Not one after the other.
    assert not np.array_equal(fold[0][valid[0]], np.arange(valid[0].sum()) % 10)


def test_folds_of_a_superpixel_do_not_depend_on_the_others():
    sky = sky_of(128, 16)
    blocks = pixel_blocks(sky)
    fold = fold_blocks(sky, blocks, 10, seed=3)
    assert np.array_equal(
        fold_blocks(sky.isel(superpixel=[2, 0]), blocks, 10, seed=3), fold[[2, 0]]
    )
    assert not np.array_equal(fold[0], fold[1])
    assert not np.array_equal(fold_blocks(sky, blocks, 10, seed=4), fold)


def test_few_blocks_are_a_fold_each():
    sky = sky_of(128, 16)
    fold = fold_blocks(sky, pixel_blocks(sky, 16), 10)
    assert np.array_equal(np.sort(fold), np.tile(np.arange(4), (3, 1)))


def test_a_block_with_one_valid_datum_takes_part():
    valid = np.zeros((3, 64, 5), dtype=bool)
    valid[0, 17, 1] = valid[1, 63, 0] = True
    valid[2] = True
    sky = sky_of(128, 16, valid=valid)
    present = valid_blocks(sky, pixel_blocks(sky, 4))
    assert np.flatnonzero(present[0]).tolist() == [4]
    assert np.flatnonzero(present[1]).tolist() == [15]
    assert present[2].all()


@pytest.mark.parametrize("folds", [1, 0, 2.5, True, "ten"])
def test_there_are_two_folds_at_least(folds):
    sky = sky_of(128, 16)
    with pytest.raises(ConfigurationError, match="integer of 2 or more"):
        fold_blocks(sky, pixel_blocks(sky), folds)
