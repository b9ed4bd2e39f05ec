import shutil

import healpy as hp
import numpy as np
import pytest
import xarray as xr

from pymcdust import simulate_sky
from pymcdust.errors import ConfigurationError, FileFormatError, SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky import store
from pymcdust.sky.dataset import build_sky, open_sky, save_sky, split_superpixels
from pymcdust.sky.validation import BLOCK_BYTES, superpixel_blocks, validate_sky

SIGMA = [0.5, 3.0, 9.0, 25.0, 30.0]


def make_sky(n_superpixels=5, dtype=np.float32, seed=0, **changes):
    rng = np.random.default_rng(seed)
    arguments = {
        "reddening": rng.random((n_superpixels, 16, 3)).astype(dtype),
        "emission": rng.random((n_superpixels, 16, 5)).astype(dtype),
        "sigma": SIGMA,
        "distance_edge": [0.0, 0.2, 0.5, 1.0],
        "superpixel": np.arange(n_superpixels) * 3 + 2,
        "nside": 16,
        "superpixel_nside": 4,
        "reddening_unit": "bayestar2019",
    }
    return build_sky(**{**arguments, **changes})


def break_file(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_build_sky_keeps_arrays_as_they_are(dtype):
    reddening = np.ones((2, 16, 3), dtype)
    emission = np.ones((2, 16, 5), dtype)
    sigma = np.ones((2, 16, 5), dtype)
    sky = make_sky(2, reddening=reddening, emission=emission, sigma=sigma)
    assert np.shares_memory(sky["reddening"].values, reddening)
    assert np.shares_memory(sky["emission"].values, emission)
    assert np.shares_memory(sky["sigma"].values, sigma)
    assert sky["reddening"].dtype == sky["emission"].dtype == dtype


def test_build_sky_follows_the_contract():
    sky = make_sky(attrs={"origin": "a test"})
    assert sky["reddening"].dims == ("superpixel", "pixel", "voxel")
    assert sky["emission"].dims == ("superpixel", "pixel", "band")
    assert sky["sigma"].dims == ("band",)
    assert sky["valid"].dims == ("superpixel", "pixel")
    assert sky["valid"].all()
    assert sky["distance_edge"].dims == ("voxel_edge",)
    assert tuple(sky["band"].values) == BANDS
    assert sky["frequency"].values.tolist() == [217, 353, 545, 857, 2998]
    assert sky["superpixel"].dtype == np.int64
    assert sky.attrs == {
        "origin": "a test",
        "nside": 16,
        "superpixel_nside": 4,
        "ordering": "nested",
        "frame": "galactic",
        "reddening_unit": "bayestar2019",
    }
    for name in sky.variables:
        assert sky[name].attrs["long_name"]
        assert "unit" in sky[name].attrs


def test_build_sky_takes_each_shape_of_sigma_valid_and_edges():
    edges = np.tile([0.0, 0.2, 0.5, 1.0], (5, 1))
    sky = make_sky(
        sigma=np.ones((5, 16, 5)), valid=np.ones((5, 16, 5), dtype=bool), distance_edge=edges
    )
    assert sky["sigma"].dims == sky["valid"].dims == ("superpixel", "pixel", "band")
    assert sky["distance_edge"].dims == ("superpixel", "voxel_edge")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"reddening": np.ones((5, 16))}, "reddening has the shape"),
        ({"emission": np.ones((4, 16, 5))}, "do not go together"),
        ({"sigma": np.ones((5, 16))}, "sigma has the shape"),
        ({"valid": np.ones(5, dtype=bool)}, "valid has the shape"),
        ({"superpixel": [0.0, 1.0, 2.0, 3.0, 4.0]}, "integer NESTED"),
        ({"bands": BANDS[:4]}, "do not go together"),
    ],
)
def test_build_sky_refuses_shapes_that_do_not_fit(changes, match):
    with pytest.raises(SkyError, match=match):
        make_sky(**changes)


def test_sky_comes_back_from_disk_identical_and_lazy(tmp_path):
    sky = make_sky(attrs={"origin": "a test"})
    save_sky(sky, tmp_path / "sky.zarr")
    opened = open_sky(tmp_path / "sky.zarr")
    assert not opened["reddening"].variable._in_memory
    assert not opened["emission"].variable._in_memory
    xr.testing.assert_identical(opened.load(), sky)
    assert list(tmp_path.iterdir()) == [tmp_path / "sky.zarr"]


def test_invalid_pixels_may_hold_anything_on_disk_as_well(tmp_path):
    sky = make_sky()
    sky["valid"][:, 3] = False
    sky["reddening"][:, 3] = np.nan
    save_sky(sky, tmp_path / "sky.zarr")
    xr.testing.assert_identical(open_sky(tmp_path / "sky.zarr").load(), sky)


def test_chunks_on_disk_are_the_blocks_of_superpixels(tmp_path):
    n = 3 * BLOCK_BYTES // (64 * 64 * 4 * 8)
    sky = make_sky(
        n,
        reddening=np.full((n, 4096, 8), 0.1, np.float32),
        emission=np.ones((n, 4096, 5), np.float32),
        distance_edge=np.arange(9.0),
        superpixel=np.arange(n),
        nside=256,
    )
    save_sky(sky, tmp_path / "sky.zarr")
    first = next(superpixel_blocks(sky))
    assert first.stop - first.start == BLOCK_BYTES // (4096 * 8 * 4)
    chunks = sorted(path.name for path in (tmp_path / "sky.zarr/reddening/c").iterdir())
    assert chunks == ["0", "1", "2"]


def test_lazy_sky_can_be_saved_over_its_own_store(tmp_path):
    path = tmp_path / "sky.zarr"
    sky = make_sky()
    save_sky(sky, path)
    save_sky(open_sky(path).isel(superpixel=slice(1, 3)), path, overwrite=True)
    xr.testing.assert_identical(open_sky(path).load(), sky.isel(superpixel=slice(1, 3)))
    assert list(tmp_path.iterdir()) == [path]


def test_existing_store_is_kept_unless_asked(tmp_path):
    path = tmp_path / "sky.zarr"
    save_sky(make_sky(seed=1), path)
    with pytest.raises(ConfigurationError, match="exists already"):
        save_sky(make_sky(seed=2), path)
    xr.testing.assert_identical(open_sky(path).load(), make_sky(seed=1))


def test_a_folder_that_is_no_store_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="not a Zarr store"):
        save_sky(make_sky(), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("overwrite", [False, True])
def test_interrupted_write_leaves_nothing_that_opens(tmp_path, monkeypatch, overwrite):
    path = tmp_path / "sky.zarr"
    if overwrite:
        save_sky(make_sky(seed=1), path)

    def interrupted(partial, path):
        assert (partial / "zarr.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_move_into_place", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_sky(make_sky(seed=2), path, overwrite=overwrite)
    if overwrite:
        xr.testing.assert_identical(open_sky(path).load(), make_sky(seed=1))
        assert list(tmp_path.iterdir()) == [path]
    else:
        assert list(tmp_path.iterdir()) == []


def test_open_sky_of_no_file(tmp_path):
    with pytest.raises(FileFormatError, match=r"nowhere\.zarr: there is no such file"):
        open_sky(tmp_path / "nowhere.zarr")


def test_open_sky_of_something_else(tmp_path):
    (tmp_path / "file.zarr").write_text("hello")
    (tmp_path / "folder.zarr").mkdir()
    for name in ("file.zarr", "folder.zarr"):
        with pytest.raises(FileFormatError, match=f"{name}: not a Zarr 3 store"):
            open_sky(tmp_path / name)


@pytest.mark.parametrize("name", ["reddening/c/0/0/0", "valid/c/0/0", "superpixel/c/0"])
def test_lost_chunk_is_noticed(tmp_path, name):
    save_sky(make_sky(), tmp_path / "sky.zarr")
    (tmp_path / "sky.zarr" / name).unlink()
    with pytest.raises(FileFormatError, match=f"chunks of '{name.split('/')[0]}' are missing"):
        open_sky(tmp_path / "sky.zarr")


@pytest.mark.parametrize("name", ["reddening/c/0/0/0", "emission/c/0/0/0", "sigma/c/0", "band/c/0"])
@pytest.mark.parametrize("keep", [0, 30])
def test_truncated_chunk_is_noticed(tmp_path, name, keep):
    save_sky(make_sky(), tmp_path / "sky.zarr")
    break_file(tmp_path / "sky.zarr" / name, keep)
    with pytest.raises(FileFormatError, match=r"sky\.zarr: cut short"):
        open_sky(tmp_path / "sky.zarr")


def test_changed_byte_is_noticed(tmp_path):
    save_sky(make_sky(), tmp_path / "sky.zarr")
    chunk = tmp_path / "sky.zarr/emission/c/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(FileFormatError, match="cut short or damaged"):
        open_sky(tmp_path / "sky.zarr")


@pytest.mark.parametrize("name", ["zarr.json", "emission/zarr.json"])
def test_truncated_metadata_is_noticed(tmp_path, name):
    save_sky(make_sky(), tmp_path / "sky.zarr")
    break_file(tmp_path / "sky.zarr" / name, 40)
    with pytest.raises(FileFormatError, match=r"sky\.zarr: cut short"):
        open_sky(tmp_path / "sky.zarr")


@pytest.mark.parametrize("name", ["emission", "frequency"])
def test_lost_array_is_noticed(tmp_path, name):
    save_sky(make_sky(), tmp_path / "sky.zarr")
    shutil.rmtree(tmp_path / "sky.zarr" / name)
    with pytest.raises(FileFormatError, match=f"array {name} is missing"):
        open_sky(tmp_path / "sky.zarr")


def test_lost_metadata_of_an_array_is_noticed(tmp_path):
    save_sky(make_sky(), tmp_path / "sky.zarr")
    (tmp_path / "sky.zarr/emission/zarr.json").unlink()
    with pytest.raises(FileFormatError, match="array emission is missing"):
        open_sky(tmp_path / "sky.zarr")


def test_chunks_of_zeros_are_written(tmp_path):
    """Zarr leaves them out by default, and they would then look lost."""
    sky = make_sky(
        1,
        reddening=np.zeros((1, 16, 1)),
        emission=np.zeros((1, 16, 5)),
        distance_edge=[0.0, 1.0],
        superpixel=[0],
    )
    save_sky(sky, tmp_path / "sky.zarr")
    xr.testing.assert_identical(open_sky(tmp_path / "sky.zarr").load(), sky)


def test_fault_of_a_store_names_the_store(tmp_path):
    sky = make_sky()
    store.write_store(
        sky.assign_attrs(ordering="ring"), tmp_path / "sky.zarr", superpixels_per_chunk=2
    )
    with pytest.raises(SkyError, match=r"sky\.zarr: ordering is 'ring'"):
        open_sky(tmp_path / "sky.zarr")


def test_store_written_by_xarray_alone_opens(tmp_path):
    sky = make_sky()
    sky.to_zarr(tmp_path / "sky.zarr", zarr_format=3, consolidated=False)
    xr.testing.assert_identical(open_sky(tmp_path / "sky.zarr").load(), sky)


def test_split_superpixels_are_those_of_healpix():
    sky = simulate_sky(
        "offsets_per_superpixel", nside=16, superpixel_nside=2, superpixels=[5, 7], seed=1
    )
    split = split_superpixels(sky, 4)
    validate_sky(split)
    assert split.attrs["superpixel_nside"] == 4
    assert split.sizes["superpixel"] == 8
    position = hp.pix2vec(4, split.superpixel.values, nest=True)
    np.testing.assert_array_equal(hp.vec2pix(2, *position, nest=True), np.repeat([5, 7], 4))

    def by_pixel(one, name):
        index = one.superpixel.values[:, None] * one.sizes["pixel"] + one.pixel.values
        return dict(zip(index.ravel(), one[name].values.reshape(index.size, -1), strict=True))

    for name in ("reddening", "emission", "valid"):
        before, after = by_pixel(sky, name), by_pixel(split, name)
        assert before.keys() == after.keys()
        for index, values in before.items():
            np.testing.assert_array_equal(values, after[index])
    np.testing.assert_array_equal(split.true_offset, np.repeat(sky.true_offset.values, 4, axis=0))
    assert split_superpixels(sky, 16).sizes["pixel"] == 1
    xr.testing.assert_identical(split_superpixels(sky, 2), sky)


def test_what_was_found_of_whole_superpixels_is_not_said_of_their_parts():
    sky = simulate_sky("single_temperature", nside=16, superpixel_nside=2, superpixels=[5, 7])
    n_voxel = sky.sizes["voxel"]
    sky = sky.assign(
        n_voxel=("superpixel", [n_voxel, 1]),
        condition=("superpixel", [3.0, 5.0]),
        masked=(("superpixel", "reason"), [[1, 2], [3, 4]]),
        sky_coverage=("sky_superpixel", np.zeros(48)),
        reddening_sample=(("sample", *sky.reddening.dims), np.stack([sky.reddening] * 2)),
    )
    split = split_superpixels(sky, 4)
    assert split.n_voxel.values.tolist() == [n_voxel] * 4 + [1] * 4
    for name in ("condition", "masked", "sky_coverage"):
        assert name not in split
    np.testing.assert_array_equal(
        split.reddening_sample.transpose("sample", *split.reddening.dims)[1], split.reddening
    )


@pytest.mark.parametrize("nside", [1, 3, 32])
def test_superpixels_that_cannot_be_split_into(nside):
    sky = simulate_sky("single_temperature", nside=16, superpixel_nside=2, superpixels=[5])
    with pytest.raises(SkyError, match="can be split into those of Nside 2, 4, 8 and 16"):
        split_superpixels(sky, nside)
