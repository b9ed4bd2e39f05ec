"""The witness is dustmaps, on a small file of mixed resolution and on the real map."""

import h5py
import healpy
import numpy as np
import pytest

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.edges import edges_from_slices
from pymcdust.sky.maps3d.bayestar import VERSIONS, Bayestar
from pymcdust.sky.maps3d.gather import gather
from pymcdust.sky.maps3d.slices import SliceInterpolation
from pymcdust.sky.reddening import open_reddening

# dustmaps sets shapes of arrays in place, which NumPy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")

SLICES = {
    "bayestar2019": 4 + 0.125 * np.arange(120),
    "bayestar2017": 4 + 0.5 * np.arange(31),
    "bayestar2015": 4 + 0.5 * np.arange(31),
}
PIXEL_INFO = [
    ("nside", "<u4"),
    ("healpix_index", "<u8"),
    ("converged", "u1"),
    ("DM_reliable_min", "<f4"),
    ("DM_reliable_max", "<f4"),
]
# Nearer than the first slice (63 pc), between slices, and beyond the last (59.6 kpc).
EDGES = np.array([0, 0.02, 0.05, 0.0631, 0.4, 1.0, 7.77, 61.0, 100.0])


def write_bayestar(path, slices=SLICES["bayestar2019"], seed=0, n_samples=5, chunks=None):
    """Write a map with pixels of nside 2, 4 and 8; base pixels 5 and 11 are not in it."""
    rng = np.random.default_rng(seed)
    split = {pixel: rng.random() < 0.5 for pixel in range(12 * 4)}
    split_again = {pixel: rng.random() < 0.5 for pixel in range(12 * 16)}
    pixels = []
    for coarse in range(12 * 4):
        if coarse // 4 in (5, 11):
            continue
        if not split[coarse]:
            pixels.append((2, coarse))
            continue
        for middle in range(4 * coarse, 4 * coarse + 4):
            if split_again[middle]:
                pixels.extend((8, fine) for fine in range(4 * middle, 4 * middle + 4))
            else:
                pixels.append((4, middle))
    rng.shuffle(pixels)
    return write_pixels(path, pixels, slices, rng, n_samples, chunks)


def write_pixels(path, pixels, slices, rng, n_samples, chunks=None):
    info = np.zeros(len(pixels), dtype=PIXEL_INFO)
    info["nside"], info["healpix_index"] = np.transpose(pixels)
    info["converged"] = 1
    info["DM_reliable_min"] = rng.uniform(5, 8, len(pixels))
    info["DM_reliable_max"] = rng.uniform(12, 16, len(pixels))
    shape = (len(pixels), n_samples, len(slices))
    samples = rng.exponential(2.4 / len(slices), shape).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("pixel_info", data=info)
        file["pixel_info"].attrs["DM_bin_edges"] = slices
        file.create_dataset("samples", data=samples.cumsum(axis=2), chunks=chunks)
        file.create_dataset("best_fit", data=samples.mean(axis=1).cumsum(axis=1))
    return path


@pytest.fixture
def bayestar(tmp_path):
    return write_bayestar(tmp_path / "bayestar.h5", chunks=(7, 5, 120))


def query(path):
    from dustmaps.bayestar import BayestarQuery

    return BayestarQuery(map_fname=str(path))


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def edit_info(path, change):
    """Change /pixel_info in place."""
    with h5py.File(path, "r+") as file:
        info = file["pixel_info"][:]
        change(info)
        file["pixel_info"][:] = info


def on_sky(path, nside, edges=EDGES, refuse=0, n_samples=0, version="bayestar2019"):
    """Spread a map: (pixel, voxel) reddening, area, flags, (sample, pixel, voxel) samples."""
    shape = (len(edges) - 1, 12 * nside**2)
    out = np.empty(shape, dtype=np.float32)
    samples = np.empty((n_samples, *shape), dtype=np.float32) if n_samples else None
    area, flags, _ = gather(
        Bayestar(path, version), nside, edges, out, refuse=refuse, samples_out=samples
    )
    return out.T, area, flags, samples


@pytest.mark.parametrize("version", SLICES)
@pytest.mark.parametrize("chunks", [None, (7, 5, 31), (11, 2, 8)])
def test_equals_dustmaps_at_random_positions_and_distances(
    tmp_path, ask_dustmaps, random_sky, version, chunks
):
    path = write_bayestar(tmp_path / "map.h5", SLICES[version], chunks=chunks)
    edges = np.sort(np.r_[EDGES, 10 ** np.random.default_rng(1).uniform(-2.5, 2.2, 20)])
    reddening, area, flags, _ = on_sky(path, 32, edges, version=version)
    longitude, latitude = random_sky(400)
    expected = ask_dustmaps(query(path), longitude, latitude, edges[1:], mode="median")
    pixel = healpy.ang2pix(32, longitude, latitude, nest=True, lonlat=True)
    inside = np.isfinite(expected[:, 0])
    assert 0 < (~inside).sum() < 100
    np.testing.assert_array_equal(area[pixel], inside)
    np.testing.assert_array_equal(flags[pixel], np.where(inside, 0, Mask.OUTSIDE))
    np.testing.assert_allclose(reddening[pixel].cumsum(axis=1), expected, rtol=3e-6, atol=3e-6)


def test_samples_equal_those_of_dustmaps(bayestar, ask_dustmaps, random_sky):
    _, _, _, samples = on_sky(bayestar, 8, n_samples=3)
    longitude, latitude = random_sky(100)
    expected = ask_dustmaps(query(bayestar), longitude, latitude, EDGES[1:], mode="samples")
    pixel = healpy.ang2pix(8, longitude, latitude, nest=True, lonlat=True)
    found = samples[:, :, pixel].cumsum(axis=1)
    np.testing.assert_allclose(found, np.moveaxis(expected, -1, 0).swapaxes(1, 2)[:3], rtol=3e-6)


def test_more_samples_than_there_are(bayestar):
    with pytest.raises(ConfigurationError, match="it has 5"):
        next(Bayestar(bayestar).rows(EDGES, 8, 6))


def test_flags_equal_those_of_dustmaps(bayestar, ask_dustmaps, random_sky):
    def change(info):
        info["converged"][::3] = 0
        info["DM_reliable_min"][::5] = np.nan
        info["DM_reliable_max"][1::5] = np.nan
        info["DM_reliable_min"][2::5] = np.inf

    edit_info(bayestar, change)
    longitude, latitude = random_sky(300)
    pixel = healpy.ang2pix(8, longitude, latitude, nest=True, lonlat=True)
    refuse = Mask.NOT_CONVERGED | Mask.NO_STARS | Mask.UNRELIABLE
    for edges in ([0, 0.2, 2.0], [0, 0.2, 8.0], [0, 0.3, 1.0, 4.0]):
        _, _, flags, _ = on_sky(bayestar, 8, np.array(edges), refuse)
        _, theirs = ask_dustmaps(
            query(bayestar), longitude, latitude, edges[1:], mode="median", return_flags=True
        )
        inside = (flags[pixel] & Mask.OUTSIDE) == 0
        for name, bit in (("converged", Mask.NOT_CONVERGED), ("reliable_dist", Mask.UNRELIABLE)):
            good = theirs[name].all(axis=1)[inside]
            assert 0 < good.sum() < len(good)
            np.testing.assert_array_equal((flags[pixel][inside] & bit) == 0, good)


def test_pixels_without_stars_are_flagged(bayestar):
    edit_info(bayestar, lambda info: info["DM_reliable_min"].__setitem__(slice(0, 9), np.nan))
    edit_info(bayestar, lambda info: info["DM_reliable_min"].__setitem__(9, np.inf))
    flags = np.concatenate([rows.flags for rows in Bayestar(bayestar).rows([0, 0.3], 8)])
    assert (flags & Mask.NO_STARS > 0).sum() == 10


def test_finer_map_pixels_are_averaged_by_area(bayestar):
    fine, *_ = on_sky(bayestar, 8)
    coarse, area, _, _ = on_sky(bayestar, 2)
    expected = fine.reshape(48, 16, -1).mean(axis=1)
    np.testing.assert_allclose(coarse, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(area, np.isfinite(expected[:, 0]))


def test_pixel_with_less_than_half_of_its_area_has_no_value(bayestar):
    with h5py.File(bayestar) as file:
        info = file["pixel_info"][:]
    # Pixels of nside 4 that are all split into four.
    parents, count = np.unique(info["healpix_index"][info["nside"] == 8] // 4, return_counts=True)
    assert (count == 4).all()
    parents = parents.astype(int)[:2]

    def change(info):
        fine = info["nside"] == 8
        info["converged"][fine & (info["healpix_index"] == 4 * parents[0])] = 0
        for child in range(3):
            info["converged"][fine & (info["healpix_index"] == 4 * parents[1] + child)] = 0

    edit_info(bayestar, change)
    fine, *_ = on_sky(bayestar, 8, refuse=Mask.NOT_CONVERGED)
    coarse, area, flags, _ = on_sky(bayestar, 4, refuse=Mask.NOT_CONVERGED)
    assert area[parents].tolist() == [0.75, 0.25]
    assert flags[parents].tolist() == [Mask.NOT_CONVERGED] * 2
    mean = np.nanmean(fine.reshape(192, 4, -1)[parents[0]], axis=0)
    np.testing.assert_allclose(coarse[parents[0]], mean, rtol=1e-5)
    assert np.isnan(coarse[parents[1]]).all()


def test_median_comes_before_the_difference(tmp_path):
    samples = np.array([[0.1, 0.2, 0.9], [0.3, 0.35, 0.4], [0.2, 0.6, 0.7]], dtype=np.float32)
    path = write_bayestar(tmp_path / "map.h5", SLICES["bayestar2017"], n_samples=3)
    edit(path, lambda file: file["samples"].__setitem__((..., slice(3)), samples))
    edges = np.r_[0, 10 ** (SLICES["bayestar2017"][:3] / 5 - 2)]
    reddening, *_ = on_sky(path, 1, edges, version="bayestar2017")
    np.testing.assert_allclose(reddening[0], [0.2, 0.15, 0.35], rtol=1e-5)
    assert not np.allclose(np.median(np.diff(samples, axis=1), axis=0), [0.15, 0.35])


def test_small_increments_on_a_large_column_survive(tmp_path):
    path = write_bayestar(tmp_path / "map.h5", SLICES["bayestar2017"], n_samples=1)
    column = (3 + 1e-4 * np.arange(31)).astype(np.float32)
    edit(path, lambda file: file["samples"].__setitem__(slice(None), column))
    reddening, *_ = on_sky(path, 1, edges_from_slices((32, 60, 4)), version="bayestar2017")
    np.testing.assert_allclose(reddening[0, 1:], 1e-4, rtol=0.01)


def test_value_that_is_missing_is_flagged(bayestar):
    edit(bayestar, lambda file: file["samples"].__setitem__((slice(0, 6), 2, 60), np.nan))
    at = edges_from_slices((60, 80, 10))
    beside = edges_from_slices((61, 80, 10))
    for edges, number in ((at, 6), (beside, 0)):
        flags = np.concatenate([rows.flags for rows in Bayestar(bayestar).rows(edges, 8)])
        assert (flags & Mask.NOT_FINITE > 0).sum() == number


class Counted:
    """A dataset that counts the values that are read from it."""

    def __init__(self, shape, chunks):
        self.shape, self.chunks, self.dtype, self.read = shape, chunks, np.dtype("f4"), 0

    def __getitem__(self, key):
        rows, _, slices = key
        shape = (
            len(range(*rows.indices(self.shape[0]))),
            self.shape[1],
            slices.stop - slices.start,
        )
        self.read += int(np.prod(shape))
        return np.zeros(shape, dtype=np.float32)


@pytest.mark.parametrize("n_slices", [30, 120])
@pytest.mark.parametrize(("edges", "each"), [([7.3, 9.1, 11.2], 2), ([4.0, 9.0, 19.0], 1)])
def test_only_the_slices_next_to_an_edge_are_read(n_slices, edges, each):
    # Those that are no slices lie between two, the others are one.
    slices = np.union1d(np.linspace(4, 19, n_slices - 1), 9.0)
    dataset = Counted((1000, 5, n_slices), chunks=(100, 1, 2))
    at = SliceInterpolation(10 ** (np.array(edges) / 5 - 2), slices)
    for start in range(0, 1000, 100):
        at.read(dataset, slice(start, start + 100))
    assert dataset.read == 1000 * 5 * 3 * each


@pytest.mark.parametrize("many", [(120, 8), (30, 16), (120, 16)])
def test_memory_does_not_grow_with_slices_or_pixels(tmp_path, monkeypatch, peak_memory, many):
    monkeypatch.setattr("pymcdust.sky.maps3d.slices.BLOCK_BYTES", 2**18)
    peaks = []
    for n_slices, nside in ((30, 8), many):
        monkeypatch.setitem(VERSIONS, "bayestar2019", n_slices)
        slices = np.linspace(4, 19, n_slices)
        pixels = [(nside, pixel) for pixel in range(12 * nside**2)]
        path = write_pixels(
            tmp_path / f"{n_slices}_{nside}.h5",
            pixels,
            slices,
            np.random.default_rng(0),
            20,
            chunks=(16, 20, 2),
        )

        def read(path=path):
            for _ in Bayestar(path).rows([0, 0.3, 1.0, 3.0], 8):
                pass

        peaks.append(peak_memory(read))
        size = 4 * len(pixels) * 20 * n_slices
    # Of each pixel its position is kept, which is small against 20 samples of 30 slices.
    assert peaks[1] < 1.5 * peaks[0] + 80 * len(pixels)
    assert peaks[1] < size / 3


def test_size_of_the_blocks_does_not_matter(bayestar, monkeypatch):
    whole, *_ = on_sky(bayestar, 8)
    monkeypatch.setattr("pymcdust.sky.maps3d.slices.BLOCK_BYTES", 1)
    assert len(list(Bayestar(bayestar).rows(EDGES, 8))) > 30
    blocks, *_ = on_sky(bayestar, 8)
    np.testing.assert_allclose(blocks, whole, rtol=1e-6, atol=1e-7)


def test_edition_is_told_by_the_distances(tmp_path, bayestar):
    with pytest.raises(FileFormatError, match="has 120 distances, and bayestar2015 has 31; is it"):
        Bayestar(bayestar, "bayestar2015")
    older = write_bayestar(tmp_path / "older.h5", SLICES["bayestar2017"])
    with pytest.raises(FileFormatError, match="has 31 distances, and bayestar2019 has 120"):
        Bayestar(older)


def test_chunks_that_were_never_written(tmp_path):
    """They are read as zero dust."""
    path = write_bayestar(tmp_path / "map.h5", chunks=(16, 5, 30))

    def lose(file):
        values = file["samples"][...]
        del file["samples"]
        lost = file.create_dataset("samples", values.shape, "f4", chunks=(16, 5, 30))
        lost[:-16] = values[:-16]

    edit(path, lose)
    with pytest.raises(FileFormatError, match=r"4 of \d+ chunks of /samples were never written"):
        Bayestar(path)


def test_attributes(tmp_path):
    bayestar = write_bayestar(tmp_path / "map.h5", SLICES["bayestar2017"])
    source = open_reddening("bayestar2017", bayestar)
    assert (source.unit, source.beam, source.nside, source.n_samples) == (
        "bayestar2017",
        3.44,
        8,
        5,
    )
    with pytest.raises(ConfigurationError, match="did you mean 'bayestar2019'"):
        Bayestar(bayestar, "bayestar19")


def test_no_file(tmp_path):
    with pytest.raises(FileFormatError, match=r"nowhere\.h5: there is no such file"):
        Bayestar(tmp_path / "nowhere.h5")


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_file_cut_short(bayestar, keep):
    content = bayestar.read_bytes()
    bayestar.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FileFormatError, match=r"bayestar\.h5: cut short"):
        on_sky(bayestar, 8)


def test_another_kind_of_file(tmp_path):
    path = tmp_path / "bayestar.h5"
    path.write_text("<html>404</html>")
    with pytest.raises(FileFormatError, match="not an HDF5 file"):
        Bayestar(path)


def replace_info(file, info):
    slices = file["pixel_info"].attrs["DM_bin_edges"]
    del file["pixel_info"]
    file["pixel_info"] = info
    file["pixel_info"].attrs["DM_bin_edges"] = slices


def without_convergence(file):
    info = file["pixel_info"][:]
    kept = [name for name in info.dtype.names if name != "converged"]
    replace_info(file, np.array([row[kept].item() for row in info], [(n, "<f8") for n in kept]))


def with_pixel(nside, index):
    """Let the first row be this pixel."""

    def change(file):
        info = file["pixel_info"][:]
        info["nside"][0], info["healpix_index"][0] = nside, index
        file["pixel_info"][:] = info

    return change


def with_the_pixel_of(row, finer):
    """Let the first row be the pixel of another row, or a part of it."""

    def change(file):
        info = file["pixel_info"][:]
        nside, index = int(info["nside"][row]), int(info["healpix_index"][row])
        with_pixel(nside * finer, index * finer**2 + finer**2 - 1)(file)

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda file: file.pop("samples"), "no dataset /samples"),
        (lambda file: file.pop("pixel_info"), "no dataset /pixel_info"),
        (lambda file: file["pixel_info"].attrs.pop("DM_bin_edges"), "no attribute 'DM_bin_edges'"),
        (lambda file: replace_info(file, file["pixel_info"][:-1]), "/samples has the shape"),
        (without_convergence, "no field 'converged'"),
        (with_pixel(8, 12 * 64), "not on the HEALPix grid"),
        (with_pixel(6, 0), "not on the HEALPix grid"),
        (with_pixel(0, 0), "not on the HEALPix grid"),
        (with_the_pixel_of(3, 1), "are the same part of the sky"),
        (with_the_pixel_of(3, 2), "are the same part of the sky"),
        (with_the_pixel_of(3, 64), "are the same part of the sky"),
    ],
)
def test_another_layout(bayestar, change, match):
    edit(bayestar, change)
    with pytest.raises(FileFormatError, match=match):
        Bayestar(bayestar)


@pytest.mark.realsky
@pytest.mark.parametrize(
    ("name", "nside"), [("bayestar2019_nside64.h5", 64), ("bayestar2019_nside256_regions.h5", 256)]
)
def test_real_map_equals_dustmaps(realsky, ask_dustmaps, name, nside):
    rng = np.random.default_rng(2)
    edges = np.r_[edges_from_slices((15, 96, 10)), 20.0, 70.0]
    reddening, _, _, samples = on_sky(realsky / name, nside, edges, n_samples=1)
    valid = np.isfinite(reddening).all(axis=1)
    pixel = np.r_[
        rng.choice(np.flatnonzero(valid), 300, replace=False),
        rng.choice(np.flatnonzero(~valid), 20, replace=False),
    ]
    longitude, latitude = healpy.pix2ang(nside, pixel, nest=True, lonlat=True)
    ask = query(realsky / name)
    for mode in ("median", "best"):
        expected = ask_dustmaps(ask, longitude, latitude, edges[1:], mode=mode)
        assert np.isnan(expected[300:]).all()
        for found in (reddening, samples[0].T):
            cumulative = found[pixel].cumsum(axis=1)
            np.testing.assert_allclose(cumulative, expected, rtol=3e-6, atol=3e-6)
