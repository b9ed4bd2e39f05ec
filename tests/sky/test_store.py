"""Stores of trees: whole or refused, and joined out of parts."""

import shutil

import numpy as np
import pytest
import xarray as xr

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.store import open_store, open_tree, write_blocks, write_store


def make_tree(first=0, n=7, flag=False):
    superpixel = np.arange(first, first + n)
    draws = np.random.default_rng(first).normal(size=(4, n, 3))
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"method": "laplace", "seed": 3}),
            "posterior": xr.Dataset(
                {"temperature": (("draw", "superpixel", "voxel"), draws)},
                {"superpixel": superpixel},
            ),
            "sample_stats": xr.Dataset(
                {
                    "diverging": (("draw", "superpixel"), np.full((4, n), flag)),
                    "walker": ("draw", np.arange(4)),
                },
                {"superpixel": superpixel},
            ),
        }
    )


def test_a_tree_comes_back(tmp_path):
    tree = make_tree()
    write_store(tree, tmp_path / "tree.zarr", superpixels_per_chunk=3)
    found = open_tree(tmp_path / "tree.zarr")
    xr.testing.assert_identical(found.load(), tree)
    with pytest.raises(ConfigurationError, match="exists already"):
        write_store(tree, tmp_path / "tree.zarr", superpixels_per_chunk=3)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("sample_stats", "sample_stats is missing"),
        ("posterior/temperature", "posterior/temperature is missing"),
        ("posterior/temperature/c/0/1/0", "1 of 3 chunks of 'posterior/temperature'"),
        ("sample_stats/diverging/c/0/2", "1 of 3 chunks of 'sample_stats/diverging'"),
        ("zarr.json", "not a Zarr 3 store"),
    ],
)
def test_a_tree_that_is_cut_short_is_refused(lost, message, tmp_path):
    path = tmp_path / "tree.zarr"
    write_store(make_tree(), path, superpixels_per_chunk=3)
    gone = path / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(FileFormatError, match=message):
        open_tree(path)


def test_a_tree_is_not_taken_for_a_dataset(tmp_path):
    write_store(make_tree(), tmp_path / "tree.zarr", superpixels_per_chunk=3)
    with pytest.raises(FileFormatError, match="the groups posterior and sample_stats"):
        open_store(tmp_path / "tree.zarr")


@pytest.mark.parametrize("flag", [False, True])
def test_joined_parts_are_the_whole(flag, tmp_path):
    parts = [make_tree(first, n, flag) for first, n in ((0, 3), (3, 3), (6, 1))]
    paths = []
    for number, part in enumerate(parts):
        paths.append(tmp_path / f"{number}.zarr")
        write_store(part, paths[-1], superpixels_per_chunk=3)
    write_blocks(map(open_tree, paths), tmp_path / "whole.zarr", superpixels_per_chunk=3)
    whole = open_tree(tmp_path / "whole.zarr").load()
    assert whole.attrs == parts[0].attrs
    for group in ("posterior", "sample_stats"):
        expected = xr.concat(
            [part[group].to_dataset() for part in parts], "superpixel", data_vars="minimal"
        )
        xr.testing.assert_identical(whole[group].to_dataset(), expected)


def test_a_damaged_part_leaves_nothing_that_looks_whole(tmp_path):
    paths = [tmp_path / "0.zarr", tmp_path / "1.zarr"]
    for first, path in zip((0, 3), paths, strict=True):
        write_store(make_tree(first, 3), path, superpixels_per_chunk=3)
    (paths[1] / "posterior" / "temperature" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(FileFormatError, match="chunks of 'posterior/temperature'"):
        write_blocks(map(open_tree, paths), tmp_path / "whole.zarr", superpixels_per_chunk=3)
    assert not (tmp_path / "whole.zarr").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.zarr", "1.zarr"]
