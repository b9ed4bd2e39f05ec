"""The witness is dustmaps, on a small file in its layout."""

import h5py
import healpy
import numpy as np
import pytest

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.maps3d.decaps import Decaps
from pymcdust.sky.maps3d.gather import gather
from pymcdust.sky.reddening import open_reddening

pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")

NSIDE = 16
SLICES = 4 + 0.125 * np.arange(120)
EDGES = np.array([0, 0.02, 0.0631, 0.4, 1.0, 7.77, 61.0, 100.0])
# dustmaps gives float16.
HALF = {"rtol": 2e-3, "atol": 2e-3}


def write_decaps(path, samples=True, seed=0):
    """Write a map of a band around the equator, of which a third of the pixels is missing."""
    rng = np.random.default_rng(seed)
    latitude = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), nest=True, lonlat=True)[1]
    pixel = np.flatnonzero((np.abs(latitude) < 30) & (rng.random(len(latitude)) < 0.67))
    values = rng.exponential(0.02, (len(pixel), 5, 120)).cumsum(axis=2)
    with h5py.File(path, "w") as file:
        info = file.create_group("pixel_info")
        info.attrs["DM_bin_edges"], info.attrs["nside"] = SLICES, NSIDE
        info["healpix_index"] = pixel
        info["converged"] = (rng.random(len(pixel)) < 0.9).astype("u1")
        info["infilled"] = (rng.random(len(pixel)) < 0.1).astype("u1")
        info["DM_reliable_min"] = rng.uniform(5, 8, len(pixel)).astype("f2")
        info["DM_reliable_max"] = rng.uniform(12, 16, len(pixel)).astype("f2")
        file["mean"] = values.mean(axis=1, keepdims=True).astype("f2")
        if samples:
            file.create_dataset("samples", data=values.astype("f2"), chunks=(50, 5, 20))
    return path


@pytest.fixture
def decaps(tmp_path):
    return write_decaps(tmp_path / "decaps_mean_and_samples.h5")


def query(path, mean_only):
    from dustmaps.decaps import DECaPSQuery

    return DECaPSQuery(map_fname=str(path), mean_only=mean_only)


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize("samples", [True, False])
def test_equals_dustmaps_at_random_positions_and_distances(
    tmp_path, ask_dustmaps, random_sky, samples
):
    path = write_decaps(tmp_path / "decaps.h5", samples)
    source = open_reddening("decaps", path)
    out = np.empty((len(EDGES) - 1, 12 * 32**2), dtype=np.float32)
    area, flags, _ = gather(source, 32, EDGES, out, refuse=0)
    longitude, latitude = random_sky(500)
    mode = "median" if samples else "mean"
    expected = ask_dustmaps(query(path, not samples), longitude, latitude, EDGES[1:], mode=mode)
    pixel = healpy.ang2pix(32, longitude, latitude, nest=True, lonlat=True)
    inside = np.isfinite(expected[:, 0])
    assert 50 < inside.sum() < 450
    np.testing.assert_array_equal(area[pixel], inside)
    np.testing.assert_array_equal(flags[pixel], np.where(inside, 0, Mask.OUTSIDE))
    np.testing.assert_allclose(out.cumsum(axis=0).T[pixel], expected, **HALF)
    assert (source.unit, source.nside) == ("E(B-V)", NSIDE)
    assert source.n_samples == (5 if samples else 0)
    assert source.beam == pytest.approx(60 * np.degrees(healpy.nside2resol(NSIDE)))


def test_samples_and_flags_equal_those_of_dustmaps(decaps, ask_dustmaps, whole):
    edges = [0, 0.2, 4.0]
    index, _, flags, samples = whole(Decaps(decaps), edges, n_samples=2)
    longitude, latitude = healpy.pix2ang(NSIDE, index, nest=True, lonlat=True)
    expected, theirs = ask_dustmaps(
        query(decaps, False), longitude, latitude, edges[1:], mode="samples", return_flags=True
    )
    np.testing.assert_allclose(samples, np.moveaxis(expected, 1, 2)[:, :2], **HALF)
    for name, bit in (("converged", Mask.NOT_CONVERGED), ("reliable_dist", Mask.UNRELIABLE)):
        good = theirs[name].all(axis=1)
        assert 0 < good.sum() < len(good)
        np.testing.assert_array_equal(flags & bit == 0, good)


def test_sums_are_not_made_in_half_precision(decaps, whole):
    column = (4 + 0.00390625 * np.arange(120)).astype("f2")  # what float16 has there
    edit(decaps, lambda file: file["samples"].__setitem__(slice(None), column))
    edges = np.r_[0, 10 ** ((SLICES[40:44] + 0.03) / 5 - 2)]
    _, cumulative, _, _ = whole(Decaps(decaps), edges)
    expected = np.interp(SLICES[40:44] + 0.03, SLICES, column.astype(float))
    np.testing.assert_allclose(cumulative, np.broadcast_to(expected, cumulative.shape), rtol=1e-6)


def test_samples_of_a_file_without(tmp_path):
    source = Decaps(write_decaps(tmp_path / "decaps.h5", samples=False))
    with pytest.raises(ConfigurationError, match="it has a mean only"):
        next(source.rows(EDGES, 32, 1))


def test_memory_does_not_grow_with_the_pixels(decaps, monkeypatch, peak_memory):
    monkeypatch.setattr("pymcdust.sky.maps3d.slices.BLOCK_BYTES", 2**16)

    def read():
        for rows in Decaps(decaps).rows([0, 0.3, 1.0], 32):
            assert len(rows.index) < 400

    with h5py.File(decaps) as file:
        everything = 4 * file["samples"].size
    assert peak_memory(read) < everything / 4


def twice(file):
    index = file["pixel_info/healpix_index"]
    index[8] = index[7]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda file: file.pop("mean"), "no dataset /mean"),
        (lambda file: file.pop("pixel_info"), "no group /pixel_info"),
        (lambda file: file["pixel_info"].pop("converged"), "no dataset /pixel_info/converged"),
        (lambda file: file["pixel_info"].attrs.pop("nside"), "no attribute 'nside'"),
        (lambda file: file["pixel_info"].attrs.__setitem__("nside", 12), "nside is 12"),
        (lambda file: file["pixel_info"].attrs.__setitem__("nside", 8), "must increase from row"),
        (
            lambda file: file["pixel_info"].attrs.__setitem__("DM_bin_edges", SLICES[1:]),
            "the shape",
        ),
        (lambda file: file["pixel_info"].attrs.__setitem__("DM_bin_edges", 0 * SLICES), "increase"),
        (twice, "must increase from row to row"),
    ],
)
def test_another_layout(decaps, change, match):
    edit(decaps, change)
    with pytest.raises(FileFormatError, match=match):
        list(Decaps(decaps).rows(EDGES, 32))


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_file_cut_short(decaps, keep):
    content = decaps.read_bytes()
    decaps.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FileFormatError, match="cut short"):
        list(Decaps(decaps).rows(EDGES, 32))
