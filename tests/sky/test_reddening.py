"""The witness is dustmaps, on a small file of mixed resolution and on the real map."""

import astropy.units as u
import h5py
import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.cuts import edges_from_slices
from pymcdust.sky.reddening import read_bayestar, reddening_map

SLICES = 4 + 0.125 * np.arange(120)
PIXEL_INFO = [
    ("nside", "<u4"),
    ("healpix_index", "<u8"),
    ("converged", "u1"),
    ("DM_reliable_min", "<f4"),
    ("DM_reliable_max", "<f4"),
]
# dustmaps sets shapes of arrays in place, which NumPy deprecates.
DUSTMAPS = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
# Nearer than the first slice (63 pc), between slices, and beyond the last (59.6 kpc).
EDGES = np.array([0, 0.02, 0.05, 0.0631, 0.4, 1.0, 7.77, 61.0, 100.0])


def write_bayestar(path, seed=0, n_samples=5):
    """Write a map with pixels of nside 2, 4 and 8; base pixels 5 and 11 are not in it."""
    rng = np.random.default_rng(seed)
    split = {pixel: rng.random() < 0.5 for pixel in range(12 * 4)}
    split_again = {pixel: rng.random() < 0.5 for pixel in range(12 * 16)}
    rows = []
    for coarse in range(12 * 4):
        if coarse // 4 in (5, 11):
            continue
        if not split[coarse]:
            rows.append((2, coarse))
            continue
        for middle in range(4 * coarse, 4 * coarse + 4):
            if split_again[middle]:
                rows.extend((8, fine) for fine in range(4 * middle, 4 * middle + 4))
            else:
                rows.append((4, middle))
    rng.shuffle(rows)
    info = np.zeros(len(rows), dtype=PIXEL_INFO)
    info["nside"], info["healpix_index"] = np.transpose(rows)
    info["converged"] = 1
    info["DM_reliable_min"], info["DM_reliable_max"] = 5, 15
    samples = rng.exponential(0.02, (len(rows), n_samples, 120)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("pixel_info", data=info)
        file["pixel_info"].attrs["DM_bin_edges"] = SLICES
        file.create_dataset("samples", data=samples.cumsum(axis=2), chunks=(7, n_samples, 120))
        file.create_dataset("best_fit", data=samples.mean(axis=1).cumsum(axis=1))
    return path


@pytest.fixture
def bayestar(tmp_path):
    return write_bayestar(tmp_path / "bayestar.h5")


def query(path):
    from dustmaps.bayestar import BayestarQuery

    return BayestarQuery(map_fname=str(path))


def cumulative_of_dustmaps(ask, longitude, latitude, edges, mode):
    """Ask dustmaps for (position, edge) cumulative reddening."""
    shape = (len(longitude), len(edges))
    coordinates = SkyCoord(
        np.broadcast_to(longitude[:, None], shape) * u.deg,
        np.broadcast_to(latitude[:, None], shape) * u.deg,
        distance=np.broadcast_to(edges, shape) * u.kpc,
        frame="galactic",
    )
    return ask.query(coordinates, mode=mode)


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


@DUSTMAPS
def test_equals_dustmaps_at_random_positions_and_distances(bayestar):
    rng = np.random.default_rng(1)
    edges = np.sort(np.r_[EDGES, 10 ** rng.uniform(-2.5, 2.2, 20)])
    superpixels = rng.permutation(192)
    reddening, valid = read_bayestar(bayestar, 32, 4, superpixels, edges)
    longitude = rng.uniform(0, 360, 400)
    latitude = np.degrees(np.arcsin(rng.uniform(-1, 1, 400)))
    expected = cumulative_of_dustmaps(query(bayestar), longitude, latitude, edges[1:], "median")
    pixel = healpy.ang2pix(32, longitude, latitude, nest=True, lonlat=True)
    row = np.argsort(superpixels)[pixel // 64]
    found = reddening[row, pixel % 64].cumsum(axis=1)
    assert reddening.dtype == np.float32
    np.testing.assert_array_equal(valid[row, pixel % 64], np.isfinite(expected[:, 0]))
    assert 0 < np.isnan(expected[:, 0]).sum() < 100
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_finer_map_pixels_are_averaged_by_area(bayestar):
    fine, _ = read_bayestar(bayestar, 8, 1, np.arange(12), EDGES)
    coarse, valid = read_bayestar(bayestar, 2, 1, np.arange(12), EDGES)
    expected = fine.reshape(12, 4, 16, -1).mean(axis=2)
    np.testing.assert_allclose(coarse, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(valid, np.isfinite(expected[..., 0]))


def test_only_the_superpixels_asked_for(bayestar):
    everything, valid = read_bayestar(bayestar, 8, 2, np.arange(48), EDGES)
    some, some_valid = read_bayestar(bayestar, 8, 2, np.array([40, 3, 21]), EDGES)
    np.testing.assert_array_equal(some, everything[[40, 3, 21]])
    np.testing.assert_array_equal(some_valid, valid[[40, 3, 21]])


def test_size_of_the_blocks_does_not_matter(bayestar, monkeypatch):
    whole = read_bayestar(bayestar, 8, 2, np.arange(48), EDGES)
    monkeypatch.setattr("pymcdust.sky.maps3d.slices.BLOCK_BYTES", 1)
    blocks = read_bayestar(bayestar, 8, 2, np.arange(48), EDGES)
    np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(blocks[1], whole[1])


@pytest.mark.parametrize("fault", ["not converged", "no stars", "NaN"])
def test_pixels_that_cannot_be_used(bayestar, fault):
    def change(file):
        info, samples = file["pixel_info"][:], file["samples"][:]
        chosen = info["nside"] == 4
        if fault == "not converged":
            info["converged"][chosen] = 0
        elif fault == "no stars":
            info["DM_reliable_min"][chosen] = np.inf
        else:
            samples[chosen, 2, 60] = np.nan
        file["pixel_info"][:], file["samples"][:] = info, samples

    with h5py.File(bayestar) as file:
        info = file["pixel_info"][:]
    _, before = read_bayestar(bayestar, 8, 8, np.arange(768), edges_from_slices((60, 80, 10)))
    edit(bayestar, change)
    reddening, after = read_bayestar(
        bayestar, 8, 8, np.arange(768), edges_from_slices((60, 80, 10))
    )
    lost = info["healpix_index"][info["nside"] == 4].astype(int)
    expected = before.copy()
    expected[(4 * lost[:, None] + np.arange(4)).ravel()] = False
    np.testing.assert_array_equal(after, expected)
    assert np.isnan(reddening[~after]).all()
    assert np.isfinite(reddening[after]).all()


def test_pixel_with_less_than_half_of_its_area_is_not_valid(bayestar):
    with h5py.File(bayestar) as file:
        info = file["pixel_info"][:]
    # Pixels of nside 4 that are all split into four.
    parents, count = np.unique(info["healpix_index"][info["nside"] == 8] // 4, return_counts=True)
    assert (count == 4).all()
    parents = parents.astype(int)

    def change(file):
        info = file["pixel_info"][:]
        fine = info["nside"] == 8
        info["converged"][fine & (info["healpix_index"] == 4 * parents[0])] = 0
        for child in range(3):
            info["converged"][fine & (info["healpix_index"] == 4 * parents[1] + child)] = 0
        file["pixel_info"][:] = info

    edit(bayestar, change)
    fine, _ = read_bayestar(bayestar, 8, 4, parents[:2], EDGES)
    coarse, valid = read_bayestar(bayestar, 4, 4, parents[:2], EDGES)
    assert valid[:, 0].tolist() == [True, False]
    np.testing.assert_allclose(coarse[0, 0], np.nanmean(fine[0], axis=0), rtol=1e-5)
    assert np.isnan(coarse[1]).all()


def test_registry():
    assert reddening_map("bayestar2019").unit == "bayestar2019"
    with pytest.raises(ConfigurationError, match="did you mean 'bayestar2019'"):
        reddening_map("bayestar19")


def test_no_file(tmp_path):
    with pytest.raises(FileFormatError, match=r"nowhere\.h5: there is no such file"):
        read_bayestar(tmp_path / "nowhere.h5", 8, 1, np.arange(12), EDGES)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_file_cut_short(bayestar, keep):
    content = bayestar.read_bytes()
    bayestar.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FileFormatError, match=r"bayestar\.h5: cut short"):
        read_bayestar(bayestar, 8, 1, np.arange(12), EDGES)


def replace_info(file, info):
    slices = file["pixel_info"].attrs["DM_bin_edges"]
    del file["pixel_info"]
    file["pixel_info"] = info
    file["pixel_info"].attrs["DM_bin_edges"] = slices


def without_convergence(file):
    info = file["pixel_info"][:]
    kept = [name for name in info.dtype.names if name != "converged"]
    replace_info(file, np.array([row[kept].item() for row in info], [(n, "<f8") for n in kept]))


def off_the_grid(file):
    info = file["pixel_info"][:]
    info["healpix_index"][3] = 12 * 64
    file["pixel_info"][:] = info


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda file: file.pop("samples"), "no dataset /samples"),
        (lambda file: file.pop("pixel_info"), "no dataset /pixel_info"),
        (lambda file: file["pixel_info"].attrs.pop("DM_bin_edges"), "no attribute 'DM_bin_edges'"),
        (lambda file: replace_info(file, file["pixel_info"][:-1]), "/samples has the shape"),
        (without_convergence, "no field 'converged'"),
        (off_the_grid, "not on the HEALPix grid"),
    ],
)
def test_another_layout(bayestar, change, match):
    edit(bayestar, change)
    with pytest.raises(FileFormatError, match=match):
        read_bayestar(bayestar, 8, 1, np.arange(12), EDGES)


@DUSTMAPS
@pytest.mark.realsky
@pytest.mark.parametrize(
    ("name", "nside"), [("bayestar2019_nside64.h5", 64), ("bayestar2019_nside256_regions.h5", 256)]
)
def test_real_map_equals_dustmaps(realsky, name, nside):
    rng = np.random.default_rng(2)
    edges = np.r_[edges_from_slices((15, 96, 10)), 20.0, 70.0]
    reddening, valid = read_bayestar(realsky / name, nside, 8, np.arange(768), edges)
    pixel = np.r_[
        rng.choice(np.flatnonzero(valid), 300, replace=False),
        rng.choice(np.flatnonzero(~valid), 20, replace=False),
    ]
    longitude, latitude = healpy.pix2ang(nside, pixel, nest=True, lonlat=True)
    found = reddening.reshape(-1, 11)[pixel].cumsum(axis=1)
    ask = query(realsky / name)
    for mode in ("median", "best"):
        expected = cumulative_of_dustmaps(ask, longitude, latitude, edges[1:], mode)
        assert np.isnan(expected[300:]).all()
        np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)
