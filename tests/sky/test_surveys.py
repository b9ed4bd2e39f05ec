import healpy
import numpy as np
import pytest
from astropy.io import fits

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.physics.bands import K_CMB_TO_MJY_SR
from pymcdust.sky.releases import RELEASES, ZERO_LEVELS
from pymcdust.sky.surveys import (
    EmissionSource,
    read_band,
    read_cmb_map,
    read_map,
)

NSIDE = 8
N_PIXELS = 12 * NSIDE**2
VALUES = np.random.default_rng(0).normal(1.0, 0.3, N_PIXELS).astype(np.float32)


def write_map(path, columns=None, unit="MJy/sr", extra=None, **keywords):
    """Write a map like Planck's; a keyword that is None is left out of the header."""
    columns = {"I_STOKES": VALUES} if columns is None else columns
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(
                name=name,
                array=values,
                format="K" if values.dtype.kind == "i" else f"{values[0].size}E",
                unit=None if name == "PIXEL" else unit,
            )
            for name, values in columns.items()
        ]
    )
    header = {
        "ORDERING": "NESTED",
        "NSIDE": NSIDE,
        "COORDSYS": "GALACTIC",
        "INDXSCHM": "IMPLICIT",
        **keywords,
    }
    for keyword, value in header.items():
        if value is not None:
            table.header[keyword] = value
    fits.HDUList([fits.PrimaryHDU(), *(extra or []), table]).writeto(path, overwrite=True)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "map.fits"


def test_nested_map(path):
    survey = read_map(write_map(path))
    np.testing.assert_array_equal(survey.values, VALUES)
    assert survey.values.dtype == np.float32
    assert survey.values.dtype.isnative
    assert survey.unit == "MJy/sr"
    assert survey.nside == NSIDE


def test_ring_map_equals_healpy(path):
    ring = VALUES.copy()
    ring[5] = healpy.UNSEEN
    survey = read_map(write_map(path, {"I_STOKES": ring}, ORDERING="RING"))
    expected = VALUES[healpy.nest2ring(NSIDE, np.arange(N_PIXELS))]
    expected[healpy.ring2nest(NSIDE, 5)] = np.nan
    np.testing.assert_array_equal(survey.values, expected)


@pytest.mark.parametrize("nest", [False, True])
@pytest.mark.parametrize("partial", [False, True])
def test_map_written_by_healpy(path, nest, partial):
    written = VALUES.copy()
    written[10:300] = healpy.UNSEEN
    healpy.write_map(
        path,
        written,
        nest=nest,
        coord="G",
        column_units="MJy/sr",
        partial=partial,
        dtype=np.float64,
    )
    expected = healpy.read_map(path, nest=True, dtype=np.float64)
    expected[expected < -1e30] = np.nan
    assert np.isnan(expected).sum() == 290
    np.testing.assert_array_equal(read_map(path).values, expected)


def test_column_of_vectors(path):
    write_map(path, {"I_STOKES": VALUES.reshape(-1, 64)})
    np.testing.assert_array_equal(read_map(path).values, VALUES)


def test_explicit_part_of_the_sky(path):
    pixel = np.array([700, 3, 55])
    write_map(
        path, {"PIXEL": pixel, "I_STOKES": np.array([1, 2, 3], np.float32)}, INDXSCHM="EXPLICIT"
    )
    values = read_map(path).values
    assert values[pixel].tolist() == [1, 2, 3]
    assert np.isnan(values).sum() == N_PIXELS - 3


def test_another_table_may_come_first(path):
    write_map(path, extra=[fits.BinTableHDU.from_columns([fits.Column("BEAM", "E", array=[1.0])])])
    np.testing.assert_array_equal(read_map(path).values, VALUES)


def test_choice_of_column(path):
    write_map(path, {"HITS": VALUES + 1, "I_STOKES": VALUES, "II_COV": VALUES + 2})
    np.testing.assert_array_equal(read_map(path).values, VALUES)
    np.testing.assert_array_equal(read_map(path, column="HITS").values, VALUES + 1)
    with pytest.raises(FileFormatError, match="did you mean 'I_STOKES'"):
        read_map(path, column="I_STOKE")


def test_the_only_column_needs_no_name(path):
    np.testing.assert_array_equal(read_map(write_map(path, {"I_100": VALUES})).values, VALUES)


def test_none_of_several_columns_is_the_intensity(path):
    write_map(path, {"HITS": VALUES, "NOISE": VALUES})
    with pytest.raises(FileFormatError, match=r"HITS and NOISE.*`column`"):
        read_map(path)


@pytest.mark.parametrize("bad", [healpy.UNSEEN, -1.6374e30, np.nan, np.inf])
def test_bad_pixels_become_nan(path, bad):
    values = VALUES.copy()
    values[7] = bad
    read = read_map(write_map(path, {"I_STOKES": values}, unit="K_CMB")).values
    assert np.flatnonzero(np.isnan(read)).tolist() == [7]


def test_bad_data_of_the_header_becomes_nan(path):
    values = VALUES.copy()
    values[7] = -32768
    read = read_map(write_map(path, {"I_STOKES": values}, BAD_DATA=-32768.0)).values
    assert np.flatnonzero(np.isnan(read)).tolist() == [7]


@pytest.mark.parametrize(
    ("spelling", "unit", "factor"),
    [
        ("K_CMB", "K_CMB", 1),
        ("Kcmb", "K_CMB", 1),
        ("KCMB", "K_CMB", 1),
        ("K CMB", "K_CMB", 1),
        ("uK_CMB", "K_CMB", 1e-6),
        ("mK_CMB", "K_CMB", 1e-3),
        ("MJy/sr", "MJy/sr", 1),
        ("MJY/SR", "MJy/sr", 1),
        ("MJy sr-1", "MJy/sr", 1),
        ("MJy sr^-1", "MJy/sr", 1),
        ("MJy.sr**-1", "MJy/sr", 1),
        ("[MJy / sr]", "MJy/sr", 1),
        ("kJy/sr", "MJy/sr", 1e-3),
    ],
)
def test_spellings_of_units(path, spelling, unit, factor):
    survey = read_map(write_map(path, unit=spelling))
    assert survey.unit == unit
    np.testing.assert_allclose(survey.values, VALUES * factor, rtol=1e-6)


@pytest.mark.parametrize("spelling", ["mJy/sr", "K", "K_RJ", "mag", "Jy/beam", "MJy", None])
def test_unknown_units_are_refused(path, spelling):
    with pytest.raises(FileFormatError, match=r"map\.fits: .*TUNIT.*K_CMB and MJy/sr"):
        read_map(write_map(path, unit=spelling))


def test_given_unit_stands_in_but_does_not_contradict(path, tmp_path):
    write_map(path, unit="K")
    assert read_map(path, unit="K_CMB").unit == "K_CMB"
    with pytest.raises(ConfigurationError, match="unknown unit 'Kelvin'"):
        read_map(path, unit="Kelvin")
    stated = write_map(tmp_path / "stated.fits", unit="K_CMB")
    with pytest.raises(FileFormatError, match="is 'K_CMB', but 'MJy/sr' was expected"):
        read_map(stated, unit="MJy/sr")


def read(path, band, **source):
    return read_band(EmissionSource(path, **source), band)


def test_release_stands_in_for_unit_and_frame(path, tmp_path):
    write_map(path, unit=None, COORDSYS=None)
    np.testing.assert_allclose(read(path, "857", release="PR3").values, VALUES)
    np.testing.assert_allclose(
        read(path, "353", release="PR2").values, VALUES * K_CMB_TO_MJY_SR["353"], rtol=1e-6
    )
    with pytest.raises(FileFormatError, match="no TUNIT"):
        read(path, "857", release="PR4")
    with pytest.raises(ConfigurationError, match="unknown release 'PR1'"):
        read(path, "857", release="PR1")
    in_kelvin = write_map(tmp_path / "kelvin.fits", unit="K_CMB")
    with pytest.raises(FileFormatError, match="'MJy/sr' was expected"):
        read(in_kelvin, "857", release="PR3")
    write_map(tmp_path / "equatorial.fits", COORDSYS="C")
    with pytest.raises(FileFormatError, match="COORDSYS is 'C'"):
        read(tmp_path / "equatorial.fits", "857", release="PR3")


@pytest.mark.parametrize("frame", ["G", "GALACTIC", "Galactic"])
def test_galactic_frame(path, frame):
    np.testing.assert_array_equal(read_map(write_map(path, COORDSYS=frame)).values, VALUES)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"COORDSYS": "C"}, "COORDSYS is 'C'; the frame must be Galactic"),
        ({"COORDSYS": "E"}, "COORDSYS is 'E'"),
        ({"COORDSYS": None}, "COORDSYS is absent"),
        ({"ORDERING": None}, "ORDERING is absent; it must be NESTED or RING"),
        ({"ORDERING": "NUNIQ"}, "ORDERING is 'NUNIQ'"),
        ({"NSIDE": 7}, "NSIDE is 7"),
        ({"NSIDE": 16}, "holds 768 pixels; nside 16 has 3072"),
        ({"NSIDE": None}, "no binary table with the keyword NSIDE"),
        ({"INDXSCHM": "EXPLICIT"}, "there is no column PIXEL"),
        ({"INDXSCHM": "SPARSE"}, "unknown INDXSCHM 'SPARSE'"),
    ],
)
def test_headers_that_are_refused(path, keywords, match):
    write_map(path, **keywords)
    with pytest.raises(FileFormatError, match=rf"map\.fits: .*{match}"):
        read_map(path)


@pytest.mark.parametrize(
    ("pixel", "match"), [([1, 2, 768], "leave the range"), ([1, 2, 2], "more than once")]
)
def test_impossible_explicit_indices(path, pixel, match):
    columns = {"PIXEL": np.array(pixel), "I_STOKES": np.ones(3, np.float32)}
    write_map(path, columns, INDXSCHM="EXPLICIT")
    with pytest.raises(FileFormatError, match=match):
        read_map(path)


@pytest.mark.parametrize("keep", [0, 1000, 5000, 6000, 8000, 10000])
def test_file_cut_short(path, keep):
    content = write_map(path).read_bytes()
    assert len(content) > 10000
    path.write_bytes(content[:keep])
    with pytest.raises(FileFormatError, match=r"map\.fits: .*cut short"):
        read_map(path)


def test_compressed_file(tmp_path):
    path = write_map(tmp_path / "map.fits.gz")
    np.testing.assert_array_equal(read_map(path).values, VALUES)


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.99])
def test_compressed_file_cut_short(tmp_path, keep):
    path = write_map(tmp_path / "map.fits.gz")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(FileFormatError, match="cut short"):
        read_map(path)


def test_no_file(path):
    with pytest.raises(FileFormatError, match="there is no such file"):
        read_map(path)


def test_band_without_factor_cannot_be_in_kelvin(path):
    with pytest.raises(FileFormatError, match="band 2998 is in K_CMB"):
        read(write_map(path, unit="K_CMB"), "2998")


def test_cmb_must_be_in_kelvin(path):
    with pytest.raises(FileFormatError, match="must be in K_CMB, not MJy/sr"):
        read_cmb_map(write_map(path))


@pytest.mark.parametrize("name", ["I_STOKES", "TEMPERATURE", "INTENSITY", "I", "i_stokes"])
def test_columns_of_cmb_maps(path, name):
    """SMICA's maps have an inpainted intensity as well, and a mask."""
    columns = {"I_STOKES_INP": VALUES + 9, name: VALUES, "TMASK": VALUES * 0}
    survey = read_cmb_map(write_map(path, columns, unit="K_CMB", COORDSYS=None))
    np.testing.assert_array_equal(survey.values, VALUES)
    inpainted = read_cmb_map(path, column="I_STOKES_INP")
    np.testing.assert_array_equal(inpainted.values, VALUES + 9)


RELEASED = {
    "PR2": ("NESTED", {"217": "K_CMB", "353": "K_CMB", "545": "MJy/sr", "857": "MJy/sr"}),
    "PR3": ("NESTED", {"217": "Kcmb", "353": "Kcmb", "545": "MJy/sr", "857": "MJy/sr"}),
    "PR4": ("RING", dict.fromkeys(["217", "353", "545", "857"], "K_CMB")),
}


def write_release(path, release, band, emission, variance):
    """Write a frequency map as a release has it, from emission and variance in MJy/sr (NESTED)."""
    ordering, units = RELEASED[release]
    unit = units[band]
    factor = 1 if unit == "MJy/sr" else K_CMB_TO_MJY_SR[band]
    columns = {
        "I_STOKES": emission / factor,
        "HITS": np.ones(N_PIXELS),
        "II_COV": variance / factor**2,
    }
    for name, values in columns.items():
        if ordering == "RING":
            values = healpy.reorder(values, n2r=True)
        columns[name] = values.astype(np.float32)
    return write_map(
        path, columns, unit=unit, ORDERING=ordering, FREQ=band, BAD_DATA=float(healpy.UNSEEN)
    )


@pytest.mark.parametrize("band", ["217", "353", "545", "857"])
@pytest.mark.parametrize("release", ["PR2", "PR3", "PR4"])
def test_every_release_comes_to_one_unit_and_order(path, release, band):
    emission, variance = VALUES.astype(float), 1e-4 * VALUES.astype(float) ** 2
    write_release(path, release, band, emission, variance)
    survey = read_band(EmissionSource(path, release=release), band, variance=True)
    assert survey.unit == "MJy/sr"
    np.testing.assert_allclose(survey.values, emission, rtol=1e-6)
    np.testing.assert_allclose(survey.variance, variance, rtol=1e-5)
    assert read_band(EmissionSource(path, release=release), band).variance is None


def test_files_of_two_bands_interchanged(path):
    write_release(path, "PR2", "545", VALUES, VALUES**2)
    with pytest.raises(FileFormatError, match="were the files of 353 and 545 GHz interchanged"):
        read(path, "353", release="PR2")


@pytest.mark.parametrize(
    "freq", ["353", "0353", 353, 353.0, "353 GHz", "353GHz", 353e9, "", "Q band"]
)
def test_spellings_of_the_band(path, freq):
    write_map(path, unit="K_CMB", FREQ=freq)
    assert read(path, "353").unit == "MJy/sr"
    if freq not in ("", "Q band"):
        with pytest.raises(FileFormatError, match="given for the band 217"):
            read(path, "217")


def test_names_of_100_micrometres(path):
    for freq in (3000, "2998"):
        write_map(path, unit="MJy/sr", FREQ=freq)
        assert read(path, "2998").unit == "MJy/sr"


def test_map_of_a_detector_is_not_that_of_its_band(path):
    write_map(path, unit="MJy/sr", FREQ="857-5")
    for band in ("353", "857"):
        with pytest.raises(FileFormatError, match=f"FREQ is '857-5'.* for the band {band}"):
            read(path, band)


@pytest.mark.parametrize("release", ["PR2", "PR3"])
@pytest.mark.parametrize(
    ("band", "unit"), [("353", "K_RJ"), ("353", "MK_CMB"), ("857", "Jy/sr"), ("857", "mJy/sr")]
)
def test_a_release_stands_for_no_unit_that_is_stated(path, release, band, unit):
    write_map(path, unit=unit)
    with pytest.raises(FileFormatError, match="known units are K_CMB and MJy/sr"):
        read(path, band, release=release)
    write_map(path, unit=None)
    assert read(path, band, release=release).unit == "MJy/sr"


def test_a_release_has_bands(path):
    write_map(path, unit="K_CMB")
    with pytest.raises(ConfigurationError, match=r"the release IRIS .* has 2998"):
        read(path, "353", release="IRIS")
    with pytest.raises(ConfigurationError, match=r"the release PR2 .* has 217, 353, 545 and 857"):
        read(path, "2998", release="PR2")


def test_map_of_a_band_is_no_map_of_the_cmb(path):
    write_map(path, unit="K_CMB", FREQ=353)
    with pytest.raises(FileFormatError, match="this is the map of the band 353, not of the CMB"):
        read_cmb_map(path)


def test_unit_of_the_cmb_may_be_given(path):
    write_map(path, unit=None)
    with pytest.raises(FileFormatError, match="with the key `unit`"):
        read_cmb_map(path)
    assert read_cmb_map(path, unit="uK_CMB").unit == "K_CMB"


def test_variance_where_there_is_none(path):
    with pytest.raises(FileFormatError, match="no column of the variance, II_COV"):
        read_band(EmissionSource(write_map(path)), "857", variance=True)


def test_pixels_without_variance_are_not_observed(path):
    variance = np.ones(N_PIXELS, np.float32)
    variance[[3, 4, 5]] = [0, -1, healpy.UNSEEN]
    write_map(path, {"I_STOKES": VALUES, "II_COV": variance})
    survey = read_band(EmissionSource(path), "857", variance=True)
    assert np.flatnonzero(np.isnan(survey.variance)).tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("unit", "stated"),
    [("K_CMB", "K_CMB^2"), ("Kcmb", "Kcmb^2"), ("K_CMB", "(K_CMB)**2"), ("K_CMB", None)],
)
def test_units_of_variances(path, unit, stated):
    write_map(path, {"I_STOKES": VALUES, "II_COV": VALUES**2}, unit=unit)
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["TUNIT2"] = stated or ""
    survey = read_band(EmissionSource(path), "353", variance=True)
    np.testing.assert_allclose(survey.variance, survey.values**2, rtol=1e-6)


@pytest.mark.parametrize("stated", ["(MJy/sr)^2", "MJy/sr^2", "uK_CMB^2"])
def test_variance_in_the_square_of_another_unit(path, stated):
    write_map(path, {"I_STOKES": VALUES, "II_COV": VALUES**2}, unit="K_CMB")
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["TUNIT2"] = stated
    with pytest.raises(FileFormatError, match=r"II_COV.*is not the square of 'K_CMB'"):
        read_band(EmissionSource(path), "353", variance=True)


def test_iris_without_cmb_and_with_holes_that_no_keyword_tells(path):
    values = VALUES.copy()
    values[7] = -32768
    write_map(path, {"I_100": values}, unit=None, COORDSYS=None)
    expected = VALUES.copy()
    expected[7] = np.nan
    np.testing.assert_array_equal(read(path, "2998", release="IRIS").values, expected)
    assert not RELEASES["IRIS"].has_cmb


def test_gnilc_says_its_unit_itself(path, tmp_path):
    write_map(path, {"I": VALUES}, unit="MJy/sr", COORDSYS=None)
    np.testing.assert_array_equal(read(path, "353", release="GNILC").values, VALUES)
    kelvin = write_map(tmp_path / "pr3.fits", {"I": VALUES}, unit="K_CMB")
    np.testing.assert_allclose(
        read(kelvin, "353", release="GNILC").values, VALUES * K_CMB_TO_MJY_SR["353"], rtol=1e-6
    )
    assert not RELEASES["GNILC"].has_cmb


def test_zero_levels_are_those_published():
    assert ZERO_LEVELS["none"] == {}
    assert list(ZERO_LEVELS["odegard2019"].values()) == [0.060, 0.149, 0.371, 0.576]
    assert list(ZERO_LEVELS["planck2018"].values()) == [0.033, 0.13, 0.35, 0.64]


def test_one_of_a_pair_of_images_is_no_map(tmp_path):
    path = tmp_path / "SFD_i100_4096_ngp.fits"
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(path)
    with pytest.raises(FileFormatError, match=r"name both: SFD_i100_4096_\{ngp,sgp\}\.fits"):
        read(path, "2998", release="SFD")
