"""The witness is dustmaps, on small files in its layout."""

import healpy
import numpy as np
import pytest
from astropy.io import fits

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.maps3d.edenhofer import Edenhofer
from pymcdust.sky.maps3d.gather import gather
from pymcdust.sky.reddening import open_reddening

# dustmaps sets shapes of arrays in place, which NumPy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")

NSIDE = 8
BOUNDS = np.geomspace(69, 1250, 41)
RADII = np.sqrt(BOUNDS[1:] * BOUNDS[:-1])


def write_edenhofer(path, nest=True, n_samples=0, seed=0, nside=NSIDE, bounds=BOUNDS, change=None):
    """Write shells of density per pc, with what lies within 69 pc, as dustmaps reads them."""
    rng = np.random.default_rng(seed)
    sample = (n_samples,) if n_samples else ()
    shape = (*sample, len(bounds) - 1, 12 * nside**2)
    density = rng.lognormal(-8, 1, shape).astype(">f4")
    inner = rng.lognormal(-5, 1, (*shape[:-2], shape[-1])).astype(">f4")
    ordering = {"NSIDE": nside, "ORDERING": "NESTED" if nest else "RING"}
    label = "INTEGRATED INNER" if n_samples else "MEAN OF INTEGRATED INNER"
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(density, name="SAMPLES" if n_samples else "MEAN"),
        fits.BinTableHDU.from_columns(
            [fits.Column("radial pixel centers", "D", array=np.sqrt(bounds[1:] * bounds[:-1]))]
        ),
        fits.BinTableHDU.from_columns([fits.Column("radial pixel boundaries", "D", array=bounds)]),
        fits.ImageHDU(inner, name=label),
    ]
    if not n_samples:
        hdus.append(fits.ImageHDU(0.1 * density, name="STD."))
    for hdu in hdus:
        if isinstance(hdu, fits.ImageHDU):
            hdu.header.update(ordering)
    hdus[4].header["CTYPE"] = "Inner density integrated within 69pc"
    if change is not None:
        change(hdus)
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


@pytest.fixture
def mean_file(tmp_path):
    return write_edenhofer(tmp_path / "mean_and_std_healpix.fits")


def query(path, load_samples=False):
    from dustmaps.edenhofer2023 import Edenhofer2023Query

    return Edenhofer2023Query(map_fname=str(path), integrated=True, load_samples=load_samples)


@pytest.mark.parametrize("nest", [True, False])
@pytest.mark.parametrize("sky_nside", [2, 8, 32])
def test_equals_dustmaps_at_all_pixels_and_random_distances(
    tmp_path, ask_dustmaps, whole, nest, sky_nside
):
    path = write_edenhofer(tmp_path / "map.fits", nest=nest)
    inside = np.random.default_rng(1).uniform(RADII[0] * 1.01, RADII[-1], 12) / 1e3
    edges = np.sort(np.r_[0, RADII[7] / 1e3, RADII[-1] / 1e3, inside])
    index, cumulative, flags, _ = whole(Edenhofer(path), edges, sky_nside)
    # A sky that is coarser than the map gets the mean over the map's own pixels.
    fine = max(sky_nside, NSIDE)
    np.testing.assert_array_equal(index, np.arange(12 * fine**2))
    longitude, latitude = healpy.pix2ang(fine, index, nest=True, lonlat=True)
    expected = ask_dustmaps(query(path), longitude, latitude, edges[1:])
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(cumulative, expected, rtol=2e-5)
    assert not flags.any()


def test_samples_equal_those_of_dustmaps(tmp_path, ask_dustmaps, whole):
    path = write_edenhofer(tmp_path / "samples_healpix.fits", n_samples=5)
    edges = [0, 0.1, 0.4, 1.2]
    source = open_reddening("edenhofer2023", path)
    assert source.n_samples == 5
    index, cumulative, _, samples = whole(source, edges, 16, n_samples=3)
    longitude, latitude = healpy.pix2ang(16, index, nest=True, lonlat=True)
    expected = ask_dustmaps(query(path, True), longitude, latitude, edges[1:], mode="samples")
    # dustmaps interchanges the first axis with the last.
    expected = np.asarray(expected)
    if expected.shape[-1] != 5:
        expected = np.moveaxis(expected, 0, -1)
    expected = expected.reshape(len(index), 3, 5)
    np.testing.assert_allclose(samples, np.moveaxis(expected, -1, 1)[:, :3], rtol=2e-5)
    np.testing.assert_allclose(cumulative, np.median(expected, axis=-1), rtol=2e-5)


def test_spread_over_a_coarser_and_a_finer_sky(mean_file):
    edges = np.array([0, 0.2, 0.9])
    fine, coarse = (np.empty((2, 12 * n**2), dtype=np.float32) for n in (8, 2))
    gather(Edenhofer(mean_file), 8, edges, fine, refuse=0)
    area, flags, _ = gather(Edenhofer(mean_file), 2, edges, coarse, refuse=0)
    np.testing.assert_allclose(coarse, fine.reshape(2, 48, 16).mean(axis=2), rtol=1e-5)
    assert (area == 1).all()
    assert not flags.any()


def test_nearer_than_the_first_shell_it_is_proportional_to_distance(mean_file, whole):
    first = RADII[0] / 1e3
    _, cumulative, _, _ = whole(Edenhofer(mean_file), [0, first / 4, first / 2, first], 16)
    np.testing.assert_allclose(cumulative[:, 0] / cumulative[:, 2], 0.25, rtol=1e-5)
    np.testing.assert_allclose(cumulative[:, 1] / cumulative[:, 2], 0.5, rtol=1e-5)
    # At the first centre it is the inner part and the first shell.
    index = np.arange(12 * NSIDE**2)
    _, cumulative, _, _ = whole(Edenhofer(mean_file), [0, first], NSIDE)
    with fits.open(mean_file) as hdus:
        expected = hdus[4].data + (BOUNDS[1] - BOUNDS[0]) * hdus[1].data[0]
    longitude, latitude = healpy.pix2ang(NSIDE, index, nest=True, lonlat=True)
    smooth = np.exp(
        healpy.get_interp_val(np.log(expected), longitude, latitude, nest=True, lonlat=True)
    )
    np.testing.assert_allclose(cumulative[:, 0], smooth, rtol=1e-5)


def test_edge_beyond_the_last_shell(mean_file):
    with pytest.raises(ConfigurationError, match=r"ends at 1\.2"):
        next(Edenhofer(mean_file).rows([0, 0.5, 3.0], 16))


def test_density_that_is_missing_is_flagged(tmp_path, whole):
    def change(hdus):
        hdus[1].data[20, 100] = np.nan

    path = write_edenhofer(tmp_path / "map.fits", change=change)
    for distance, some in ((0.9, True), (RADII[15] / 1e3, False)):
        _, _, flags, _ = whole(Edenhofer(path), [0, distance], NSIDE)
        assert (flags == Mask.NOT_FINITE).any() == some
        assert (flags == 0).sum() > 700


@pytest.mark.parametrize("n_samples", [0, 4])
def test_memory_does_not_grow_with_shells(tmp_path, monkeypatch, peak_memory, n_samples):
    monkeypatch.setattr("pymcdust.sky.maps3d.edenhofer.BLOCK_BYTES", 2**20)
    peaks = []
    for n_shells in (30, 120):
        bounds = np.geomspace(69, 1250, n_shells + 1)
        path = write_edenhofer(
            tmp_path / f"{n_shells}.fits", n_samples=n_samples, nside=32, bounds=bounds
        )

        def read(path=path):
            for _ in Edenhofer(path).rows([0, 0.2, 0.5, 1.0], 64):
                pass

        peaks.append(peak_memory(read))
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 4 * 2**20


def test_size_of_the_parts_does_not_matter(mean_file, whole, monkeypatch):
    _, expected, _, _ = whole(Edenhofer(mean_file), [0, 0.2, 0.5], 32)
    monkeypatch.setattr("pymcdust.sky.maps3d.edenhofer.BLOCK_BYTES", 2**17)
    assert len(list(Edenhofer(mean_file).rows([0, 0.2, 0.5], 32))) > 10
    _, found, _, _ = whole(Edenhofer(mean_file), [0, 0.2, 0.5], 32)
    np.testing.assert_array_equal(found, expected)


def test_attributes(mean_file):
    source = Edenhofer(mean_file)
    assert (source.unit, source.nside, source.n_samples) == ("edenhofer2023", NSIDE, 0)
    with pytest.raises(ConfigurationError, match="it has a mean only"):
        next(source.rows([0, 0.3], 8, 1))


def set_header(position, key, value):
    return lambda hdus: hdus[position].header.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (set_header(1, "ORDERING", "SPIRAL"), "'SPIRAL'; allowed are NESTED and RING"),
        (lambda hdus: hdus[1].header.remove("ORDERING"), "allowed are NESTED and RING"),
        (set_header(4, "ORDERING", "RING"), "another ORDERING"),
        (set_header(1, "COORDSYS", "C"), "must be Galactic"),
        (set_header(1, "NSIDE", 16), "must be .shell, pixel."),
        (lambda hdus: hdus.pop(1), "no image of the density"),
        (lambda hdus: hdus.pop(4), "no image of the integrated inner part"),
        (lambda hdus: hdus.pop(2), "no table 'radial pixel centers'"),
        (lambda hdus: hdus.__setitem__(4, hdus[5]), "no image of the integrated inner part"),
        (lambda hdus: hdus[2].data.field(0).__setitem__(3, 1.0), "must increase"),
        (lambda hdus: hdus[1].__setattr__("data", hdus[1].data[:-1]), "do not go together"),
        (lambda hdus: hdus[1].__setattr__("data", hdus[1].data.astype("i4")), "floating-point"),
    ],
)
def test_another_layout(tmp_path, change, match):
    path = write_edenhofer(tmp_path / "map.fits", change=change)
    with pytest.raises(FileFormatError, match=match):
        Edenhofer(path)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.6, 0.99])
def test_file_cut_short(mean_file, keep):
    content = mean_file.read_bytes()
    mean_file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FileFormatError, match=r"mean_and_std_healpix\.fits: "):
        Edenhofer(mean_file)


def test_no_file(tmp_path):
    with pytest.raises(FileFormatError, match="there is no such file"):
        Edenhofer(tmp_path / "nowhere.fits")
