"""The generated archive: read back by others' readers, and prepared into the sky that it is of."""

import healpy
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from dustmaps.bayestar import BayestarQuery
from dustmaps.sfd import SFDBase
from generated import BANDS, BEAMS, K_CMB, Archive

from pymcdust.sky.prepare import prepare_sky

# dustmaps reshapes arrays in a way that NumPy is going to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Without noise, and with pixels of one resolution: the truth can be told exactly."""
    folder = tmp_path_factory.mktemp("archive")
    return Archive(folder, nside=64, mixed=False, noise=False).write()


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same sky as later releases give it: all in K_CMB and RING, and so is 100 um."""
    folder = tmp_path_factory.mktemp("other")
    settings = {"mixed": False, "noise": False, "release": "PR4", "iris": True}
    return Archive(folder, nside=64, **settings).write()


@pytest.fixture(scope="module")
def sky(archive):
    return prepare_sky(archive.configuration())


def on_sky(sky, values):
    """Values of NESTED pixels, by superpixel."""
    return values.reshape(12 * sky.attrs["superpixel_nside"] ** 2, -1)[sky.superpixel.values]


@pytest.mark.parametrize("distance", [0.2, 0.5, 1.7, 20.0])
def test_dustmaps_reads_the_reddening(archive, distance, capsys):
    query = BayestarQuery(str(archive.folder / "bayestar2019.h5"))
    rng = np.random.default_rng(0)
    pixel = rng.integers(0, 12 * 64**2, 500)
    longitude, latitude = healpy.pix2ang(64, pixel, nest=True, lonlat=True)
    position = SkyCoord(
        longitude * u.deg, latitude * u.deg, distance=distance * u.kpc, frame="galactic"
    )
    found = query(position, mode="median")
    inside = np.isfinite(found)
    assert 0.6 < inside.mean() < 0.85
    expected = archive.reddening(0, distance, BEAMS["map"], 64)[pixel]
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-5, atol=1e-7)


def test_healpy_reads_the_bands(archive):
    cmb = archive.folder / "COM_CMB_IQU-smica_64_R2.02_full.fits"
    assert 3e-5 < healpy.read_map(cmb).std() < 3e-4
    for band in K_CMB:
        path = archive.folder / f"HFI_SkyMap_{band}_128_R2.02_full.fits"
        values, header = healpy.read_map(path, nest=True, h=True)
        assert dict(header)["FREQ"] == band
        assert (values == healpy.UNSEEN).sum() == 1
        emission = archive.emission(band, BEAMS[band], 128)
        if band in ("217", "353"):
            values = values * K_CMB[band]
        seen = values > -1e20
        assert np.corrcoef(values[seen], emission[seen])[0, 1] > 0.9


def test_dustmaps_reads_the_pair(archive):
    query = SFDBase(str(archive.folder / "SFD_i100_4096"))
    pixel = np.arange(0, 12 * 32**2, 7)
    longitude, latitude = healpy.pix2ang(32, pixel, nest=True, lonlat=True)
    found = query(SkyCoord(longitude, latitude, unit="deg", frame="galactic"))
    expected = archive.emission("2998", BEAMS["2998"], 32)[pixel]
    # The image interpolates between its pixels.
    assert np.std(found - expected) < 0.03 * expected.std()
    assert np.abs(found - expected).max() < 0.2 * expected.std()


def test_prepared_reddening_is_the_truth(archive, sky):
    valid = sky.valid.values
    assert 0.98 < valid.mean() < 1
    assert 0.5 < sky.sizes["superpixel"] / 48 < 0.75
    edges = sky.distance_edge.values
    for i in range(sky.sizes["voxel"]):
        inside = [
            s for s in archive.screens if edges[i] < archive.shown_distance(s) <= edges[i + 1]
        ]
        found = sky.reddening.values[..., i][valid]
        if not inside:
            assert np.abs(found).max() < 1e-6
            continue
        expected = on_sky(sky, archive.reddening(edges[i], edges[i + 1], 10.0, 64))[valid]
        # A hole of one pixel is filled by its neighbours; all others are exact.
        assert np.quantile(np.abs(found - expected), 0.95) < 2e-3 * expected.std()
        assert np.abs(found - expected).max() < 0.1 * expected.std()


def test_prepared_emission_is_the_truth(archive, sky):
    valid = sky.valid.values
    for i, band in enumerate(BANDS):
        expected = on_sky(sky, archive.emission(band, 10.0, 64))[valid]
        found = sky.emission.values[..., i][valid]
        assert np.std(found - expected) < 5e-3 * expected.std()


def test_other_releases_become_the_same_emission(archive, other, sky):
    values, header = healpy.read_map(other.folder / other.file("857"), nest=True, h=True)
    assert dict(header)["ORDERING"] == "RING"
    seen = values > -1e20
    expected = (archive.emission("857", BEAMS["857"], 128) / K_CMB["857"])[seen]
    assert np.std(values[seen] - expected) < 1e-3 * expected.std()
    found = prepare_sky(other.configuration())
    np.testing.assert_array_equal(found.superpixel, sky.superpixel)
    valid = sky.valid.values & found.valid.values
    np.testing.assert_allclose(
        found.emission.values[valid][:, :4], sky.emission.values[valid][:, :4], rtol=1e-4, atol=1e-4
    )
    expected = on_sky(sky, archive.emission("2998", 10.0, 64))[valid]
    assert np.std(found.emission.values[valid][:, 4] - expected) < 1e-3 * expected.std()


def test_column_goes_with_emission(sky):
    assert sky.correlation.median() > 0.9
    assert (sky.condition >= 1).all()


def test_noise_has_the_variance_that_the_files_tell(tmp_path):
    archive = Archive(tmp_path, nside=64).write()
    configuration = archive.configuration()
    configuration["noise"] = {"variance": True, "sigma": dict.fromkeys(BANDS, 0.0)}
    configuration["noise"]["sigma"]["2998"] = 1.0
    # The images at 100 um have no variance: take a map in their place.
    configuration["emission"]["2998"] = configuration["emission"]["857"] | {"cmb": False}
    with pytest.raises(ValueError, match="FREQ is '857'"):
        prepare_sky(configuration)


def test_samples_scatter_around_the_median(other):
    configuration = other.configuration()
    configuration["reddening"]["samples"] = 5
    sky = prepare_sky(configuration)
    thick = sky.reddening.median(("superpixel", "pixel")).argmax("voxel").item()
    samples = sky.reddening_sample.isel(voxel=thick).where(sky.valid)
    spread = samples.std("sample") / sky.reddening.isel(voxel=thick).where(sky.valid)
    # 5 % steps around the median, smoothed over several pixels in which they are shuffled.
    assert 0.005 < spread.median() < 0.07
    assert samples.mean("sample").sum() == pytest.approx(
        float(sky.reddening.isel(voxel=thick).where(sky.valid).sum()), rel=5e-3
    )
