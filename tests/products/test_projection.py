from itertools import combinations

import healpy as hp
import numpy as np
import pytest
from astropy.wcs import WCS
from healpy.projector import MollweideProj
from matplotlib.figure import Figure

from pymcdust.errors import ConfigurationError
from pymcdust.products.graticule import round_step
from pymcdust.products.projection import (
    Gnomonic,
    Mollweide,
    SkyImage,
    choose_projection,
    frame,
    zoom_on,
)


def centres(projection):
    """Return x and y of the image points, from the shape and the extent alone."""
    rows, columns = projection.directions()[0].shape
    left, right, bottom, top = projection.extent
    x = left + (right - left) * (np.arange(columns) + 0.5) / columns
    y = bottom + (top - bottom) * (np.arange(rows) + 0.5) / rows
    return np.meshgrid(x, y)


def test_mollweide_agrees_with_healpy():
    projection = Mollweide()
    longitude, latitude = projection.directions()
    x, y = centres(projection)
    inside = np.isfinite(longitude)
    np.testing.assert_array_equal(inside, x**2 / 4 + y**2 < 1)
    expected = MollweideProj().xy2ang(x[inside], y[inside], lonlat=True)
    np.testing.assert_allclose(latitude[inside], expected[1], atol=1e-9)
    wrapped = (longitude[inside] - expected[0] + 180) % 360 - 180
    np.testing.assert_allclose(wrapped, 0, atol=1e-9)


def test_mollweide_has_the_centre_in_the_middle_and_longitude_to_the_left():
    x, y = Mollweide().forward([0, 90, 270, 0], [0, 0, 0, 90])
    np.testing.assert_allclose(x, [0, -1, 1, 0], atol=1e-9)
    np.testing.assert_allclose(y, [0, 0, 0, 1], atol=1e-9)


@pytest.mark.parametrize(
    "projection",
    [Mollweide(), Gnomonic(98.4, 8.4, (-3, 3, -2, 2)), Gnomonic(2.0, -88.0, (-20, 20, -20, 20))],
)
def test_forward_undoes_directions(projection):
    longitude, latitude = (angle[::20, ::20] for angle in projection.directions())
    x, y = (value[::20, ::20] for value in centres(projection))
    inside = np.isfinite(longitude)
    there = projection.forward(longitude[inside], latitude[inside])
    np.testing.assert_allclose(there, (x[inside], y[inside]), atol=2e-5)


def test_gnomonic_agrees_with_astropy():
    patch = Gnomonic(98.4, 8.4, (-12.0, 10.0, -5.0, 7.0))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    wcs.wcs.crval = [patch.longitude, patch.latitude]
    wcs.wcs.cdelt = [-1, 1]
    x, y = centres(patch)
    wcs.wcs.crpix = [1, 1]
    np.testing.assert_allclose(patch.directions(), wcs.wcs_pix2world(x, y, 0), atol=1e-9)


@pytest.mark.parametrize("center", [(98.4, 8.4), (353.0, 17.0), (-7.0, 90.0), (10.0, -89.5)])
@pytest.mark.parametrize("radius", [0.2, 10.0, 60.0])
def test_the_radius_of_a_zoom_reaches_the_middle_of_its_sides(center, radius):
    patch = zoom_on(center, radius)
    left, right, bottom, top = patch.extent
    assert left == bottom == -right == -top
    middle = hp.ang2vec(*center, lonlat=True)
    longitude, latitude = patch.directions()
    vectors = hp.ang2vec(longitude, latitude, lonlat=True)
    assert vectors[400, 400] @ middle == pytest.approx(1, abs=1e-4 * radius**2)
    half = len(longitude) // 2
    for edge in (vectors[half, 0], vectors[half, -1], vectors[0, half], vectors[-1, half]):
        assert np.degrees(np.arccos(edge @ middle)) == pytest.approx(radius, rel=5e-3)


def test_what_lies_behind_has_no_place_in_a_patch():
    x, y = zoom_on((0.0, 0.0), 30.0).forward([180.0, 90.0, 45.0], [0.0, 0.0, 0.0])
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == [True, True, False]
    assert x[2] == pytest.approx(-np.degrees(1.0))


@pytest.mark.parametrize(
    ("center", "radius", "said"),
    [
        ((0.0, 91.0), 5.0, "latitude between -90 and 90"),
        ((0.0,), 5.0, "center is"),
        ((np.nan, 0.0), 5.0, "center is"),
        ((0.0, 0.0), 0.0, "more than 0 and up to 60"),
        ((0.0, 0.0), 61.0, "more than 0 and up to 60"),
        ((0.0, 0.0), np.nan, "more than 0 and up to 60"),
    ],
)
def test_an_impossible_zoom(center, radius, said):
    with pytest.raises(ConfigurationError, match=said):
        zoom_on(center, radius)


def test_image_shows_the_pixel_in_each_direction():
    rng = np.random.default_rng(1)
    superpixel = np.array([100, 3, 57])
    values = rng.random((3, 16))
    sky = np.full((192, 16), np.nan)
    sky[superpixel] = values
    projection = Mollweide()
    image = SkyImage(projection, superpixel, 4).sample(values)
    longitude, latitude = projection.directions()
    inside = np.isfinite(longitude)
    assert np.isnan(image[~inside]).all()
    pixel = hp.ang2pix(16, longitude[inside], latitude[inside], nest=True, lonlat=True)
    np.testing.assert_array_equal(image[inside], sky.ravel()[pixel])
    assert 0.005 < np.isfinite(image[inside]).mean() < 0.03


def test_image_of_a_value_for_each_superpixel():
    superpixel = np.arange(192)
    image = SkyImage(Mollweide(), superpixel, 4).sample(superpixel)
    longitude, latitude = Mollweide().directions()
    assert image[150, 300] == hp.ang2pix(
        4, longitude[150, 300], latitude[150, 300], nest=True, lonlat=True
    )


@pytest.mark.parametrize(("longitude", "latitude"), [(98.4, 8.4), (0.0, 0.0), (30.0, 90.0)])
def test_a_patch_is_shown_large_and_whole(longitude, latitude):
    centre = hp.ang2vec(longitude, latitude, lonlat=True)
    superpixel = hp.query_disc(32, centre, np.radians(6), nest=True)
    zoom = choose_projection(superpixel, 32)
    assert isinstance(zoom, Gnomonic)
    assert hp.ang2vec(zoom.longitude, zoom.latitude, lonlat=True) @ centre > np.cos(np.radians(1))
    image = SkyImage(zoom, superpixel, 32).sample(np.ones(superpixel.size))
    assert 0.4 < np.isfinite(image).mean() < 0.9
    # No superpixel reaches the edge of the image.
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert np.isnan(edge).all()
    # Near its centre a patch has the scale of the sky.
    left, right, bottom, top = zoom.extent
    area = superpixel.size * hp.nside2pixarea(32, degrees=True)
    assert np.isfinite(image).mean() * (right - left) * (top - bottom) == pytest.approx(
        area, rel=0.03
    )


def test_much_of_the_sky_and_scattered_superpixels_are_shown_on_the_whole_sky():
    assert isinstance(choose_projection(np.arange(40), 4), Mollweide)
    opposite = hp.ang2pix(32, [10, 190], [0, 0], nest=True, lonlat=True)
    assert isinstance(choose_projection(opposite, 32), Mollweide)


def labels(projection):
    axes = Figure().add_subplot()
    frame(axes, projection)
    return {text.get_text(): text.get_position() for text in axes.texts}


def test_labels_of_the_whole_sky():
    places = labels(Mollweide())
    assert places["300°"][0] == pytest.approx(Mollweide().forward(300, 0)[0])
    assert places["120°"][0] == pytest.approx(Mollweide().forward(120, 0)[0])
    assert places["−30°"][1] < 0 < places["30°"][1]


def test_labels_of_a_patch_stand_where_their_lines_meet_its_edge():
    zoom = Gnomonic(1.0, 38.4, (-3.0, 3.0, -2.0, 2.0))
    places = labels(zoom)
    assert {"0°", "358°", "4°", "37°", "40°"} <= set(places)
    longitude, latitude = zoom.directions()
    x, _ = centres(zoom)
    at_zero = np.argmin(np.abs((longitude[0] + 180) % 360 - 180))
    assert places["0°"][0] == pytest.approx(x[0, at_zero], abs=0.01)
    assert places["0°"][1] < -2
    _, y = centres(zoom)
    at_forty = np.argmin(np.abs(latitude[:, 0] - 40))
    assert places["40°"][1] == pytest.approx(y[at_forty, 0], abs=0.01)
    assert places["40°"][0] < -3


def test_no_label_of_a_patch_stands_beside_its_edges():
    left, right, bottom, top = extent = (-6.0, 6.0, -3.0, 3.0)
    places = labels(Gnomonic(1.0, 75.0, extent)).values()
    assert len(places) == 4
    for x, y in places:
        assert (y < bottom and left < x < right) or (x < left and bottom < y < top)


def test_a_patch_around_a_pole_has_meridians_and_circles():
    patch = Gnomonic(2.0, -89.0, (-20.0, 20.0, -20.0, 20.0))
    places = labels(patch)
    assert {"150°", "180°", "210°"} <= set(places)
    np.testing.assert_allclose(places["−80°"], patch.forward(2.0, -80.0), atol=1e-9)
    assert "−90°" not in places


@pytest.mark.parametrize("center", [(0.0, -90.0), (0.0, 90.0), (37.0, 80.0), (180.0, -40.0)])
def test_a_patch_around_a_pole_has_all_meridians(center):
    patch = zoom_on(center, 60.0)
    axes = Figure().add_subplot()
    frame(axes, patch)
    ways = []
    for line in axes.lines:
        x, y = line.get_data()
        near = np.isfinite(x) & (np.hypot(x, y) < 100)
        longitude, latitude = _direction(patch, x[near], y[near])
        longitude = longitude[np.abs(latitude) < 89.9]
        if np.ptp(np.cos(np.radians(longitude))) < 1e-6:
            ways.append(round(float(longitude[0])) % 360)
    assert sorted(ways) == list(range(0, 360, 30))
    left, right, bottom, top = patch.extent
    written = {text.get_text(): text.get_position() for text in axes.texts}
    assert {"0°", "90°", "180°", "270°"} <= set(written)
    edges = [
        place
        for place in written.values()
        if not (left < place[0] < right and bottom < place[1] < top - 0.02 * (top - bottom))
    ]
    assert len(edges) >= 10
    for one, other in combinations(edges, 2):
        assert np.hypot(*np.subtract(one, other)) > 0.1 * (right - left)


def _direction(patch, x, y):
    """Return the directions of points of a patch."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    wcs.wcs.crval = [patch.longitude, patch.latitude]
    wcs.wcs.cdelt = [-1, 1]
    wcs.wcs.crpix = [1, 1]
    return wcs.wcs_pix2world(x, y, 0)


def test_latitudes_of_a_wide_patch_are_labelled():
    places = labels(zoom_on((180.0, -40.0), 60.0))
    assert {"0°", "−30°", "−60°"} <= set(places)
    assert {"30°", "0°", "−30°"} <= set(labels(zoom_on((180.0, 0.0), 60.0)))


@pytest.mark.parametrize(
    ("span", "step"), [(0.03, 0.05), (1.1, 2), (9, 10), (10, 10), (11, 20), (28, 30), (36, 60)]
)
def test_round_steps(span, step):
    assert round_step(span) == pytest.approx(step)


def test_labels_can_be_left_out():
    for projection in (Mollweide(), zoom_on((100.0, 10.0), 5.0), zoom_on((100.0, 90.0), 5.0)):
        axes = Figure().add_subplot()
        frame(axes, projection, labels=False)
        assert len(axes.lines) > 3
        assert not axes.texts
        assert axes.get_xlabel() == axes.get_ylabel() == ""


def test_maps_in_blocks_make_one_image():
    rng = np.random.default_rng(1)
    superpixel = np.array([100, 3, 57, 58, 59])
    values = rng.random((5, 16, 2))
    image = SkyImage(Mollweide(), superpixel, 4)
    blocks = ((slice(start, start + 2), values[start : start + 2]) for start in (0, 2, 4))
    expected = [image.sample(values[:, :, number]) for number in range(2)]
    np.testing.assert_array_equal(image.collect(blocks), expected)


def test_zero_has_no_sign():
    places = labels(Gnomonic(90.0, 1.5, (-3.0, 3.0, -2.0, 2.0)))
    assert "0°" in places
    assert not {"-0°", "−0°"} & set(places)
