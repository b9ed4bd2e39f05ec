import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from dustmaps.sfd import SFDBase
from healpy import pix2ang

from pymcdust.errors import FileFormatError
from pymcdust.sky import surveys
from pymcdust.sky.lambert import read_lambert
from pymcdust.sky.surveys import EmissionSource, read_band

SIZE = 256


def header(sign):
    """Of the images as they are distributed, with fewer pixels."""
    # The projection of a hemisphere is a disc of radius sqrt(2) rad, which fills the image.
    step = np.rad2deg(np.sqrt(2)) * 2 / SIZE
    return {
        "CTYPE1": "GLON-ZEA",
        "CTYPE2": "GLAT-ZEA",
        "CRVAL1": 90.0,
        "CRVAL2": 90.0 * sign,
        "CRPIX1": SIZE / 2 + 0.5,
        "CRPIX2": SIZE / 2 + 0.5,
        "CD1_1": -step,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": sign * step,
        "LONPOLE": 180.0,
        "BUNIT": "MJy/sr",
    }


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(2)
    for name, sign in (("ngp", 1), ("sgp", -1)):
        image = rng.lognormal(size=(SIZE, SIZE)).astype(np.float32)
        hdu = fits.PrimaryHDU(image)
        hdu.header.update(header(sign))
        hdu.writeto(tmp_path / f"SFD_i100_4096_{name}.fits")
    return tmp_path / "SFD_i100_4096_{ngp,sgp}.fits"


def change(pair, name, **keywords):
    path = str(pair).replace("{ngp,sgp}", name)
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(keywords)


# dustmaps reshapes arrays in a way that NumPy is going to drop.
@pytest.mark.filterwarnings("ignore:Setting the shape on a NumPy array:DeprecationWarning")
@pytest.mark.parametrize("nside", [32, 128])
def test_equals_dustmaps(pair, nside):
    query = SFDBase(str(pair).removesuffix("_{ngp,sgp}.fits"))
    values = read_lambert(pair, nside)
    pixel = np.random.default_rng(0).integers(0, len(values), 3000)
    longitude, latitude = pix2ang(nside, pixel, nest=True, lonlat=True)
    expected = query(SkyCoord(longitude, latitude, unit="deg", frame="galactic"))
    np.testing.assert_allclose(values[pixel], expected, rtol=1e-5)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_as_a_band(pair, monkeypatch):
    monkeypatch.setattr(surveys, "LAMBERT_NSIDE", 32)
    source = EmissionSource(pair, release="SFD")
    survey = read_band(source, "2998")
    np.testing.assert_array_equal(survey.values, read_lambert(pair, 32))
    assert (survey.unit, survey.nside) == ("MJy/sr", 32)
    assert [path.name for path in source.files.values()] == [
        "SFD_i100_4096_ngp.fits",
        "SFD_i100_4096_sgp.fits",
    ]
    with pytest.raises(FileFormatError, match="of the band 2998, not 857"):
        read_band(source, "857")
    with pytest.raises(FileFormatError, match="have no variance"):
        read_band(source, "2998", variance=True)


def test_hemispheres_interchanged(pair, tmp_path):
    north, south = (tmp_path / f"SFD_i100_4096_{name}.fits" for name in ("ngp", "sgp"))
    north.rename(tmp_path / "other")
    south.rename(north)
    (tmp_path / "other").rename(south)
    with pytest.raises(FileFormatError, match=r"latitude -90, not 90; were the files"):
        read_lambert(pair, 8)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"CTYPE1": "RA---ZEA", "CTYPE2": "DEC--ZEA"}, "CTYPE is .*RA---ZEA.*GLON-ZEA"),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "CTYPE is .*GLON-TAN"),
        ({"BUNIT": "mag"}, "BUNIT is 'mag'"),
    ],
)
def test_other_images_are_refused(pair, keywords, match):
    change(pair, "sgp", **keywords)
    with pytest.raises(FileFormatError, match=match):
        read_lambert(pair, 8)


@pytest.mark.parametrize("keep", [100, 3000, 100_000])
def test_file_cut_short(pair, tmp_path, keep):
    path = tmp_path / "SFD_i100_4096_sgp.fits"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"SFD_i100_4096_sgp\.fits: cut short"):
        read_lambert(pair, 8)


def test_missing_hemisphere(pair, tmp_path):
    (tmp_path / "SFD_i100_4096_ngp.fits").unlink()
    with pytest.raises(FileFormatError, match=r"ngp\.fits: there is no such file"):
        read_lambert(pair, 8)


def test_single_file_is_no_pair(tmp_path):
    with pytest.raises(FileFormatError, match="are pairs of files; name both"):
        read_lambert(tmp_path / "SFD_i100_4096_ngp.fits", 8)
