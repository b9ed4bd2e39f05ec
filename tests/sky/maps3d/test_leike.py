"""The witness is a fine integral of what dustmaps says, in a small box in its layout."""

import astropy.units as u
import h5py
import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.maps3d.leike import Leike
from pymcdust.sky.reddening import open_reddening

pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")

HALF = (20, 18, 12)


def write_leike(path, half=HALF):
    density = np.random.default_rng(0).lognormal(0, 1, [2 * size for size in half])
    with h5py.File(path, "w") as file:
        file.create_dataset("mean", data=density.astype("f4"), chunks=(8, 8, 8))
        file["std"] = 0.1 * density.astype("f4")
    return path


@pytest.fixture
def box(tmp_path):
    return write_leike(tmp_path / "mean_std.h5")


def brute_force(path, longitude, latitude, edges, steps_per_pc=200):
    """Integrate what dustmaps says along sightlines: (position, edge)."""
    from dustmaps.leike2020 import Leike2020Query

    query = Leike2020Query(map_fname=str(path))
    query._xyz0 = tuple(-float(half) for half in HALF)
    n_steps = round(1e3 * edges[-1] * steps_per_pc)
    distance = (np.arange(n_steps) + 0.5) * edges[-1] / n_steps
    result = []
    for one, other in zip(longitude, latitude, strict=True):
        along = SkyCoord(
            np.full(n_steps, one) * u.deg,
            np.full(n_steps, other) * u.deg,
            distance=distance * u.kpc,
            frame="galactic",
        )
        # Beyond the box, where dustmaps has no value, there is no dust.
        cumulative = np.cumsum(np.nan_to_num(query.query(along))) * edges[-1] / n_steps
        result.append(np.interp(edges[1:], distance, cumulative))
    return np.array(result)


def test_equals_a_fine_integral_of_dustmaps(box, whole):
    edges = np.array([0, 0.0043, 0.01, 0.0185])
    index, cumulative, _, _ = whole(Leike(box, nside=4), edges)
    np.testing.assert_array_equal(index, np.arange(192))
    chosen = np.random.default_rng(1).choice(192, 40, replace=False)
    longitude, latitude = healpy.pix2ang(4, chosen, nest=True, lonlat=True)
    expected = brute_force(box, longitude, latitude, edges)
    np.testing.assert_allclose(cumulative[chosen], expected, rtol=5e-3)
    # The witness errs by its steps, of which the errors have no sign of their own.
    assert abs(np.mean(cumulative[chosen] / expected - 1)) < 5e-4


def test_layers_add_up_exactly(box, whole):
    """Dust that depends on height alone, for which the integral is known."""
    layers = np.random.default_rng(2).exponential(1, 2 * HALF[2])
    with h5py.File(box, "r+") as file:
        file["mean"][...] = layers
    index, cumulative, _, _ = whole(Leike(box, nside=4), [0, 0.0063, 0.0115])
    slope = healpy.pix2vec(4, index, nest=True)[2]
    height = np.arange(-HALF[2], HALF[2] + 1)
    column = np.r_[0, layers.cumsum()] / 1e3
    oblique = np.abs(slope) > 1e-9
    for found, distance in zip(cumulative.T, (6.3, 11.5), strict=True):
        passed = np.interp(distance * slope, height, column) - np.interp(0, height, column)
        np.testing.assert_allclose(found[oblique], passed[oblique] / slope[oblique], rtol=1e-5)


def test_even_dust_adds_up_to_distance(box, whole):
    with h5py.File(box, "r+") as file:
        file["mean"][...] = 2.0
    edges = np.array([0, 0.00333, 0.0101, 0.0119])
    _, cumulative, flags, _ = whole(Leike(box, nside=8), edges)
    np.testing.assert_allclose(cumulative, np.tile(2.0 * edges[1:], (768, 1)), rtol=1e-6)
    assert not flags.any()


def test_each_axis_is_in_its_place(box, whole):
    """A single voxel that holds dust is seen in its own direction."""
    for voxel, center in (((30, 18, 12), (10.5, 0.5, 0.5)), ((19, 5, 6), (-0.5, -12.5, -5.5))):
        with h5py.File(box, "r+") as file:
            file["mean"][...] = 0
            file["mean"][voxel] = 1
        _, cumulative, _, _ = whole(Leike(box, nside=32), [0, 0.02])
        seen = np.array(healpy.pix2vec(32, int(cumulative[:, 0].argmax()), nest=True))
        assert seen @ center / np.linalg.norm(center) > np.cos(0.1)


def test_where_the_box_ends(box, whole):
    edges = np.array([0, 0.011, 0.019])
    index, cumulative, flags, _ = whole(Leike(box, nside=16), edges)
    direction = np.maximum(np.abs(healpy.pix2vec(16, index, nest=True)), 1e-9)
    leaves = (np.array(HALF)[:, None] / direction).min(axis=0)
    np.testing.assert_array_equal(flags, np.where(leaves < 19, Mask.UNRELIABLE, 0))
    assert 0 < (flags > 0).sum() < len(flags)
    longitude, latitude = healpy.pix2ang(16, index[flags > 0][:5], nest=True, lonlat=True)
    expected = brute_force(box, longitude, latitude, edges)
    np.testing.assert_allclose(cumulative[flags > 0][:5], expected, rtol=0.05)


def test_edge_beyond_the_box_everywhere(box):
    with pytest.raises(ConfigurationError, match=r"ends at 0\.012 kpc, at 0\.0295 kpc in its"):
        next(Leike(box, nside=4).rows([0, 0.03], 4))


def test_an_eighth_is_in_memory_at_a_time(tmp_path, peak_memory):
    source = Leike(write_leike(tmp_path / "mean_std.h5", (60, 60, 40)), nside=1)
    everything = 4 * 120 * 120 * 80

    def read():
        for _ in source.rows([0, 0.01], 1):
            pass

    assert peak_memory(read) < everything / 6


def test_attributes(box):
    source = open_reddening("leike2020", box, nside=16)
    assert (source.unit, source.nside, source.n_samples) == ("leike2020", 16, 0)
    assert source.beam == pytest.approx(219.9, abs=0.1)
    assert Leike(box).nside == 256
    with pytest.raises(ConfigurationError, match="nside is 12"):
        Leike(box, nside=12)
    with pytest.raises(ConfigurationError, match="it has a mean only"):
        next(source.rows([0, 0.01], 4, 1))


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_file_cut_short(box, keep):
    content = box.read_bytes()
    box.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FileFormatError, match="cut short"):
        list(Leike(box, nside=1).rows([0, 0.01], 1))


def test_another_layout(box):
    with h5py.File(box, "r+") as file:
        del file["mean"]
        file["mean"] = np.ones((4, 4))
    with pytest.raises(FileFormatError, match="with the Sun in the middle"):
        Leike(box)
    with h5py.File(box, "r+") as file:
        del file["mean"]
    with pytest.raises(FileFormatError, match="no dataset /mean"):
        Leike(box)
