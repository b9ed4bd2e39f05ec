"""Shells from arrays and from files, and what must be said of them."""

import h5py
import healpy
import numpy as np
import pytest
import zarr
from astropy.io import fits

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.maps3d.shells import QUANTITIES, Shells
from pymcdust.sky.reddening import open_reddening

NSIDE = 4
N = 12 * NSIDE**2
DISTANCE = np.array([0.2, 0.5, 1.1, 2.0, 4.0])
DECLARED = {
    "distance_unit": "kpc",
    "quantity": "cumulative",
    "unit": "E(B-V)",
    "nside": NSIDE,
    "ordering": "nested",
    "frame": "galactic",
}
EDGES = np.array([0, 0.1, 0.2, 0.77, 3.9, 4.0])


@pytest.fixture
def reddening():
    return np.random.default_rng(0).exponential(0.1, (N, 5)).cumsum(axis=1).astype("f4")


@pytest.fixture
def expected(reddening):
    nodes = np.r_[0, DISTANCE]
    return np.array([np.interp(EDGES[1:], nodes, np.r_[0, row]) for row in reddening])


def as_quantity(reddening, quantity):
    differential = np.diff(reddening.astype(float), axis=1, prepend=0)
    depth = np.diff(DISTANCE, prepend=0)
    return {
        "cumulative": reddening,
        "differential": differential,
        "density_per_kpc": differential / depth,
        "density_per_pc": differential / depth / 1e3,
    }[quantity]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_all_quantities_are_the_same_dust(reddening, expected, whole, quantity):
    values = as_quantity(reddening, quantity)
    source = Shells(values, DISTANCE, **{**DECLARED, "quantity": quantity})
    index, cumulative, flags, _ = whole(source, EDGES)
    np.testing.assert_array_equal(index, np.arange(N))
    np.testing.assert_allclose(cumulative, expected, rtol=3e-6)
    assert not flags.any()


@pytest.mark.parametrize(
    ("unit", "distance"),
    [("pc", 1e3 * DISTANCE), ("modulus", 5 * np.log10(DISTANCE) + 10)],
)
def test_units_of_distance(reddening, expected, whole, unit, distance):
    source = Shells(reddening, distance, **{**DECLARED, "distance_unit": unit})
    np.testing.assert_allclose(whole(source, 0.999999 * EDGES)[1], expected, rtol=1e-4)


def test_ring_ordering(reddening, expected, whole):
    ring = reddening[healpy.ring2nest(NSIDE, np.arange(N))]
    source = Shells(ring, DISTANCE, **{**DECLARED, "ordering": "ring"})
    np.testing.assert_allclose(whole(source, EDGES)[1], expected, rtol=3e-6)


def test_some_pixels_with_flags(reddening, expected, whole):
    pixel = np.random.default_rng(1).permutation(N)[:50]
    flags = np.where(np.arange(50) < 10, int(Mask.NOT_CONVERGED), 0)
    source = Shells(reddening[pixel], DISTANCE, pixel=pixel, flags=flags, **DECLARED)
    index, cumulative, found, _ = whole(source, EDGES)
    np.testing.assert_array_equal(index, np.sort(pixel))
    np.testing.assert_allclose(cumulative, expected[index], rtol=3e-6)
    np.testing.assert_array_equal(found, flags[np.argsort(pixel)])


def test_samples_and_their_median(reddening, whole):
    values = reddening[:, np.newaxis] * np.array([1.0, 4.0, 2.0])[:, np.newaxis]
    _, cumulative, _, samples = whole(Shells(values, DISTANCE, **DECLARED), EDGES, n_samples=2)
    np.testing.assert_allclose(samples[:, 1], 4 * samples[:, 0], rtol=1e-6)
    np.testing.assert_allclose(cumulative, 2 * samples[:, 0], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, -1.6375e30, np.inf])
def test_missing_values_are_flagged_where_they_are_needed(reddening, whole, bad):
    reddening[7, 3] = bad
    for edges, hit in (([0, 0.3, 1.0], False), ([0, 0.3, 1.5], True)):
        _, _, flags, _ = whole(Shells(reddening, DISTANCE, **DECLARED), edges)
        assert flags[7] == (Mask.NOT_FINITE if hit else 0)
        assert not np.delete(flags, 7).any()


def test_edge_beyond_the_shells(reddening):
    with pytest.raises(ConfigurationError, match="the shells end at 4 kpc"):
        next(Shells(reddening, DISTANCE, **DECLARED).rows([0, 4.1], 4))


def test_memory_does_not_grow_with_the_pixels(tmp_path, monkeypatch, peak_memory):
    monkeypatch.setattr("pymcdust.sky.maps3d.shells.BLOCK_BYTES", 2**18)
    peaks = []
    for nside in (16, 64):
        shape = (12 * nside**2, 30)
        values = np.lib.format.open_memmap(tmp_path / f"{nside}.npy", "w+", "f4", shape)
        source = Shells(values, np.linspace(0.1, 3, 30), **{**DECLARED, "nside": nside})

        def read(source=source):
            for _ in source.rows([0, 0.5, 2.9], 16):
                pass

        peaks.append(peak_memory(read))
    assert peaks[1] < 1.2 * peaks[0]


def write(kind, folder, reddening, declared):
    """Write a file of shells of one kind, which declares itself."""
    path = folder / f"shells{kind}"
    if kind == ".npz":
        np.savez(path, reddening=reddening, distance=DISTANCE, **declared)
    elif kind == ".npy":
        np.save(path, reddening)
    elif kind == ".zarr":
        group = zarr.create_group(path, attributes=declared)
        group.create_array("reddening", data=reddening, chunks=(50, 5))
        group.create_array("distance", data=DISTANCE)
    elif kind in (".h5", ".hdf5"):
        with h5py.File(path, "w") as file:
            file["reddening"], file["distance"] = reddening, DISTANCE
            file["reddening"].attrs.update(declared)
    else:
        table = fits.BinTableHDU.from_columns(
            [fits.Column("REDDENING", f"{reddening.shape[1]}E", array=reddening)]
        )
        names = {"distance_unit": "DISTUNIT", "frame": "COORDSYS"}
        for name, value in declared.items():
            table.header[names.get(name, name)] = "G" if value == "galactic" else value
        distance = fits.BinTableHDU.from_columns([fits.Column("DISTANCE", "D", array=DISTANCE)])
        fits.HDUList([fits.PrimaryHDU(), table, distance]).writeto(path)
    return path


KINDS = (".npz", ".npy", ".zarr", ".h5", ".hdf5", ".fits")


@pytest.mark.parametrize("kind", KINDS)
def test_files(tmp_path, reddening, expected, whole, kind):
    path = write(kind, tmp_path, reddening, DECLARED)
    options = {**DECLARED, "distance": DISTANCE} if kind == ".npy" else {}
    source = open_reddening("shells", path, **options)
    assert (source.unit, source.nside) == ("E(B-V)", NSIDE)
    np.testing.assert_allclose(whole(source, EDGES)[1], expected, rtol=3e-6)
    # What is said twice alike is no contradiction.
    open_reddening("shells", path, **{**DECLARED, "distance": DISTANCE}, beam=10.0)


def test_bare_zarr_array(tmp_path, reddening, expected, whole):
    path = tmp_path / "shells.zarr"
    zarr.create_array(path, data=reddening, chunks=(50, 5), attributes=DECLARED)
    source = open_reddening("shells", path, distance=DISTANCE)
    np.testing.assert_allclose(whole(source, EDGES)[1], expected, rtol=3e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", ["unit", "frame", "nside", "ordering", "quantity"])
def test_what_nobody_says_is_asked_for(tmp_path, reddening, kind, missing):
    declared = {name: value for name, value in DECLARED.items() if name != missing}
    path = write(kind, tmp_path, reddening, declared)
    options = {**declared, "distance": DISTANCE} if kind == ".npy" else {}
    with pytest.raises(ConfigurationError, match=f"does not say its {missing}"):
        open_reddening("shells", path, **options)
    open_reddening("shells", path, **options, **{missing: DECLARED[missing]})


def test_contradiction(tmp_path, reddening):
    path = write(".zarr", tmp_path, reddening, DECLARED)
    with pytest.raises(ConfigurationError, match=r"says that unit is 'E.B-V.', and you say 'sfd'"):
        open_reddening("shells", path, unit="sfd")


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("unit", "EBV", r"did you mean 'E\(B-V\)'"),
        ("ordering", "nest", "did you mean 'nested'"),
        ("frame", "equatorial", "unknown frame 'equatorial'"),
        ("frame", "icrs", "unknown frame 'icrs'"),
        ("quantity", "cumulativ", "did you mean 'cumulative'"),
        ("distance_unit", "parsec", "unknown distance unit 'parsec'"),
        ("nside", 5, "power of two"),
        ("nside", "4", "power of two"),
    ],
)
def test_unknown_declarations(reddening, name, value, match):
    with pytest.raises(ConfigurationError, match=match):
        Shells(reddening, DISTANCE, **{**DECLARED, name: value})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"distance": DISTANCE[:-1]}, "with 4 distances"),
        ({"distance": DISTANCE[::-1]}, "must be positive and increase"),
        ({"distance": np.r_[0, DISTANCE[1:]]}, "the observer, at 0, is not one of them"),
        ({"nside": 8}, "say which ones these are"),
        ({"pixel": np.arange(N - 1)}, "pixel has the shape"),
        ({"flags": np.zeros(3)}, "flags has the shape"),
        ({"pixel": np.r_[np.arange(N - 1), 5]}, "are the same part of the sky"),
        ({"pixel": np.r_[np.arange(N - 1), N]}, "not on the HEALPix grid"),
        ({"pixel": np.r_[np.arange(N - 1), -1]}, "pixel must hold whole numbers"),
    ],
)
def test_parts_that_do_not_go_together(reddening, change, match):
    with pytest.raises(FileFormatError, match=match):
        Shells(reddening, **{"distance": DISTANCE, **DECLARED, **change})


@pytest.mark.parametrize("kind", [".npz", ".npy", ".h5", ".fits"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_file_cut_short(tmp_path, reddening, kind, keep):
    path = write(kind, tmp_path, reddening, DECLARED)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    options = {**DECLARED, "distance": DISTANCE} if kind == ".npy" else {}
    with pytest.raises(FileFormatError, match=r"cut short|cannot be read"):
        list(open_reddening("shells", path, **options).rows(EDGES, 4))


def test_zarr_with_a_chunk_missing_or_cut_short(tmp_path, reddening):
    path = write(".zarr", tmp_path, reddening, DECLARED)
    chunk = path / "reddening" / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(FileFormatError, match="cannot be read from pixel 0 on"):
        list(open_reddening("shells", path).rows(EDGES, 4))
    chunk.unlink()
    with pytest.raises(FileFormatError, match="1 of 4 chunks are missing"):
        open_reddening("shells", path)


def test_another_kind_of_file(tmp_path):
    with pytest.raises(FileFormatError, match="there is no such file"):
        open_reddening("shells", tmp_path / "nowhere.npz")
    (tmp_path / "shells.txt").touch()
    with pytest.raises(FileFormatError, match=r"unknown kind of file '\.txt'"):
        open_reddening("shells", tmp_path / "shells.txt")
    np.savez(tmp_path / "shells.npz", distance=DISTANCE)
    with pytest.raises(FileFormatError, match="no array 'reddening'"):
        open_reddening("shells", tmp_path / "shells.npz")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"beam": -3.0}, "beam is -3.0; it must be the FWHM"),
        ({"beam": np.nan}, "beam is nan"),
        ({"pixel": np.arange(N) + 0.5}, "pixel must hold whole numbers"),
        ({"flags": np.full(N, np.nan)}, "flags must hold whole numbers"),
        ({"flags": np.full(N, -1)}, "flags must hold whole numbers"),
        ({"unit": ["sfd"]}, "unknown reddening unit"),
    ],
)
def test_values_that_a_cast_would_hide(reddening, change, match):
    with pytest.raises((ConfigurationError, FileFormatError), match=match):
        Shells(reddening, DISTANCE, **{**DECLARED, **change})


def test_distances_and_values_must_be_numbers(reddening):
    for distance in (0.3, "near"):
        with pytest.raises(FileFormatError, match="must be a list of numbers"):
            Shells(reddening, distance, **DECLARED)
    with pytest.raises(FileFormatError, match="they must be real numbers"):
        Shells(reddening.astype(complex), DISTANCE, **DECLARED)


def test_last_edge_may_be_the_end_of_the_last_shell(reddening):
    """In pc and back again the same distance is another number."""
    for last in np.random.default_rng(0).uniform(0.2, 3.0, 100):
        distance = np.linspace(last / 4, last, reddening.shape[-1]) * 1e3
        shells = Shells(reddening, distance, **{**DECLARED, "distance_unit": "pc"})
        shells.check_edges(np.array([0.0, last]))
        with pytest.raises(ConfigurationError, match="end before it"):
            shells.check_edges(np.array([0.0, 1.001 * last]))
