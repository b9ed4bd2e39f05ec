"""Coordinates that are odd: without or with wrong units, masked, in single precision, of no sky."""

import astropy.units as u
import healpy as hp
import numpy as np
import pytest
import xarray as xr
from astropy.coordinates import SkyCoord, SphericalRepresentation
from astropy.table import Column, MaskedColumn
from astropy.utils.masked import Masked

from pymcdust.errors import ConfigurationError
from pymcdust.products.places import in_unit, sky_coord
from pymcdust.products.query import DustTemperatureQuery

NSIDE = 4
SUPERPIXEL = 100
EDGES = (0.0, 0.3, 0.841, 2.0)
LONGITUDE, LATITUDE = hp.pix2ang(NSIDE, SUPERPIXEL, nest=True, lonlat=True)

FRAMES = ("galactic", "icrs", "fk4")


@pytest.fixture(scope="module")
def along(make_sky, make_fit):
    """The temperatures along a sightline, near to far."""
    return make_fit(make_sky([SUPERPIXEL], edges=EDGES))["temperature"][0].values.astype("f4")


@pytest.fixture(scope="module")
def query(make_sky, make_fit):
    sky = make_sky([SUPERPIXEL], edges=EDGES)
    return DustTemperatureQuery(make_fit(sky), sky)


def numbers(frame, n=2):
    """Return longitudes and latitudes [deg] of the centre of the superpixel in a frame."""
    there = SkyCoord(LONGITUDE * u.deg, LATITUDE * u.deg, frame="galactic").transform_to(frame)
    return np.full(n, there.spherical.lon.deg), np.full(n, there.spherical.lat.deg)


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        (u.Quantity(5), "the distance is a number without unit; allowed are a unit that converts"),
        (5 * u.mag, "the distance is in mag; allowed are a unit that converts to kpc"),
        (Column([5.0], unit="s"), "the distance is in s"),
        ("far", "the distance does not hold numbers"),
        ([500 * u.pc, 1 * u.kpc], "the distance does not hold numbers but list"),
    ],
)
def test_numbers_that_are_no_distances(query, distance, message):
    for ask in (query.query_gal, query.query_equ):
        with pytest.raises(ConfigurationError, match=message):
            ask(LONGITUDE, LATITUDE, distance)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(
    ("distance", "said"),
    [([0.5, 2.0], "a number without unit"), ([1.0, 2.0], "a number"), ([1, 1] * u.mag, "in mag")],
)
def test_coordinates_whose_distances_are_no_lengths(query, frame, distance, said):
    lon, lat = numbers(frame)
    coords = SkyCoord(lon * u.deg, lat * u.deg, distance=distance, frame=frame)
    for ask in (query, query.edges_at):
        with pytest.raises(ConfigurationError, match=f"distance of the coordinates is {said}"):
            ask(coords)


def test_vectors_without_unit(query, along):
    vectors = hp.ang2vec(LONGITUDE, LATITUDE, lonlat=True)
    vector = dict(zip("uvw", vectors, strict=True), representation_type="cartesian")
    np.testing.assert_array_equal(query(SkyCoord(**vector, frame="galactic")), along)
    long = {name: 2 * value if name in "uvw" else value for name, value in vector.items()}
    with pytest.raises(ConfigurationError, match="is a number without unit"):
        query(SkyCoord(**long, frame="galactic"))


def test_directions_that_are_turned_have_no_distance(query, along):
    # As astropy leaves them where it joins coordinates.
    joined = SkyCoord(
        SphericalRepresentation(*numbers("galactic") * u.deg, [1, 1]), frame="galactic"
    )
    for frame in ("galactic", "icrs", "geocentrictrueecliptic"):
        np.testing.assert_array_equal(query(joined.transform_to(frame)), [along, along])


@pytest.mark.parametrize("frame", FRAMES)
def test_what_is_masked_in_coordinates_has_no_answer(query, along, frame):
    mask = np.array([False, True])
    lon, lat = numbers(frame) * u.deg
    near = [0.1, 0.1] * u.kpc
    for given in ((Masked(lon, mask), lat), (lon, Masked(lat, mask)), (Masked(lon, mask),) * 2):
        if given[1] is given[0]:
            given = (given[0], Masked(lat, mask))
        values, flags = query(SkyCoord(*given, frame=frame), return_flags=True)
        np.testing.assert_array_equal(values, [along, np.full(3, np.nan)])
        assert list(flags["in_footprint"]) == [True, False]
        values = query(SkyCoord(*given, distance=near, frame=frame))
        np.testing.assert_array_equal(values, [along[0], np.nan])
    coords = SkyCoord(lon, lat, distance=Masked(near, mask), frame=frame)
    values, flags = query(coords, return_flags=True)
    np.testing.assert_array_equal(values, [along[0], np.nan])
    assert flags["in_footprint"].all()


def test_masked_vectors_have_no_answer(query):
    place = SkyCoord(LONGITUDE * u.deg, LATITUDE * u.deg, distance=0.1 * u.kpc, frame="galactic")
    x, y, z = np.tile(place.galactocentric.cartesian.xyz[:, None], 2)
    x = Masked(x, [False, True])
    values = query(SkyCoord(x=x, y=y, z=z, frame="galactocentric"))
    assert list(np.isnan(values)) == [False, True]


@pytest.mark.parametrize(
    "masked",
    [
        lambda values: np.ma.masked_array(values, [False, True]),
        lambda values: MaskedColumn(values, mask=[False, True]),
        lambda values: Masked(values, [False, True]),
        lambda values: np.ma.masked_array(values.astype(np.float32), [False, True]),
    ],
)
def test_what_is_masked_in_numbers_has_no_answer(query, along, masked):
    lon, lat = numbers("galactic")
    near = np.full(2, 0.1)
    for given in (masked(lon), lat, near), (lon, masked(lat), near), (lon, lat, masked(near)):
        np.testing.assert_array_equal(query.query_gal(*given), [along[0], np.nan])


def test_numbers_with_a_unit_of_their_own(query, along):
    lon, lat = numbers("galactic", 1)
    column = Column(np.radians(lon), unit=u.rad)
    labelled = xr.DataArray([100.0], dims="cloud", attrs={"unit": "pc"})
    masked = Masked([1e2] * u.pc, [False])
    for distance in (Column([100], unit="pc"), labelled, masked, [0.1]):
        np.testing.assert_array_equal(query.query_gal(column, lat, distance), along[:1])


@pytest.mark.parametrize("kind", [np.float32, ">f4", np.int16, ">f8", float])
def test_precision_is_that_of_the_numbers(kind):
    single = np.dtype(kind) in (np.dtype(np.float32), np.dtype(">f4"))
    found = in_unit(np.array([1, 2], kind), u.deg, "this")
    assert found.dtype == (np.float32 if single else float)
    np.testing.assert_array_equal(found.value, [1, 2])


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("unit", [u.kpc, u.pc, u.lyr])
def test_an_edge_in_single_precision_belongs_to_the_nearer_voxel(query, along, frame, unit):
    lon, lat = numbers(frame, 3)
    edges = (np.array(EDGES[1:]) * u.kpc).to(unit)
    single = edges.astype(np.float32)
    # Otherwise no edge would be exceeded, and nothing would be shown.
    assert (single.to_value(u.kpc).astype(float) > EDGES[1:]).any()
    ask = query.query_gal if frame == "galactic" else query.query_equ
    frames = {} if frame == "galactic" else {"frame": frame}
    np.testing.assert_array_equal(ask(lon, lat, single, **frames), along)
    coords = SkyCoord(lon * u.deg, lat * u.deg, distance=single, frame=frame)
    np.testing.assert_array_equal(query(coords), along)
    beyond = np.array([along[1], along[2], np.nan])
    np.testing.assert_array_equal(ask(lon, lat, single * np.float32(1 + 1e-6), **frames), beyond)
    # Double precision holds the same numbers, and they are beyond.
    exceeds = single.astype(float) > edges * (1 + 1e-10)
    expected = np.where(exceeds, beyond, along)
    np.testing.assert_array_equal(ask(lon, lat, single.astype(float), **frames), expected)


def test_latitudes_beyond_the_poles_are_named(query):
    lat = np.zeros(9)
    lat[[1, 3]] = 96, -200
    with pytest.raises(ConfigurationError, match=r"degrees: 96 in row 1 and -200 in row 3 \("):
        query.query_gal(np.zeros(9), lat)
    with pytest.raises(ConfigurationError, match=r"91 in row 4 and 4 more \("):
        query.query_gal(np.zeros(9), np.full(9, 91.0))
    with pytest.raises(ConfigurationError, match="beyond ±90 degrees: 95"):
        query.query_equ(10 * u.deg, 95 * u.deg)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([1, 2, 3], [1, 2], None, "galactic"), "no coordinates: .*broadcast"),
        ((1, 2, None, "nonsense"), 'no coordinates: .*"nonsense" is not a known'),
        ((1 * u.kpc, 2, None, "galactic"), "longitude is in kpc; .*converts to deg"),
        (("10h", 2, None, "icrs"), "longitude does not hold numbers but str.*Angle"),
    ],
)
def test_numbers_that_are_no_coordinates(given, message):
    with pytest.raises(ConfigurationError, match=message):
        sky_coord(*given)


@pytest.mark.parametrize(
    ("coords", "frame"),
    [
        (SkyCoord(alt=10 * u.deg, az=20 * u.deg, frame="altaz"), "altaz"),
        (SkyCoord(10 * u.deg, 20 * u.deg, frame="lsr"), "lsr"),
        (SkyCoord(10 * u.deg, 20 * u.deg, frame="hcrs"), "hcrs"),
    ],
)
def test_frames_that_lack_something(query, coords, frame):
    with pytest.raises(ConfigurationError, match=f"frame '{frame}' cannot be turned.*location"):
        query(coords)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_edges_of_no_places(query, shape):
    nothing = np.zeros(shape) * u.deg
    assert query.edges_at(SkyCoord(nothing, nothing, frame="galactic")).shape == (*shape, 4)
