import colorsys

import healpy
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from pymcdust.errors import ConfigurationError
from pymcdust.products.legend import BAR, TICKS, add_legend, colour_bar
from pymcdust.products.render import (
    Camera,
    develop,
    exposure_of,
    light_of,
    loop_camera,
    render,
    to_bytes,
)
from pymcdust.products.volume import Volume, glow

SMALL = (64, 36)


@pytest.fixture
def volume(make_sky, make_fit):
    sky = make_sky(np.arange(192), edges=(0.0, 0.1, 0.4, 1.0))
    fit = make_fit(sky)
    fit["temperature_sd"][::3, 1] = 9.0
    return Volume.from_fit(fit, sky)


def light_at(temperature, measured=1.0, amount=1.0):
    """Return the light of dust of one temperature, for `develop`."""
    colour = amount * glow(temperature)
    return np.append(colour, measured * colour.mean())


@pytest.mark.parametrize("look", [(180.0, 0.0), (33.0, -50.0), (0.0, 89.0)])
def test_from_the_sun_the_picture_is_the_sum_of_each_sightline(volume, look):
    camera = Camera(look=look, size=SMALL)
    forward, right, up = camera.axes()
    depth = np.diff(volume.edges)[0]
    found = light_of(volume, camera)
    for column, line in [(0, 0), (63, 0), (31, 17), (5, 35), (40, 20)]:
        # The gnomonic projection, with half the width at the tangent of half the field.
        x = ((column + 0.5) / 32 - 1) * np.tan(np.pi / 4)
        y = (36 - 2 * line - 1) / 64 * np.tan(np.pi / 4)
        pixel = healpy.vec2pix(4, *(forward + x * right + y * up), nest=True)
        expected = depth @ volume.emissivity[:, pixel]
        np.testing.assert_allclose(found[line, column], expected, rtol=1e-5)


def test_the_whole_sky_emits_what_the_sightlines_add_up_to(volume):
    """Six pictures around the Sun see the sky, each point weighted with its solid angle."""
    total = 0.0
    sides = [(0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90)]
    for look in sides:
        camera = Camera(look=look, size=(128, 128), up=(0, 90) if look[1] == 0 else (0, 0))
        side = 2 / 128
        cosine = camera.rays() @ camera.axes()[0]
        total += (light_of(volume, camera).reshape(-1, 4) * (side**2 * cosine**3)[:, None]).sum(0)
    sums = np.einsum("vpc,v->pc", volume.emissivity, np.diff(volume.edges)[0])
    np.testing.assert_allclose(total, sums.sum(axis=0) * 4 * np.pi / 192, rtol=5e-3)


def test_outside_the_fit_the_sky_is_black(make_sky, make_fit):
    sky = make_sky([95])
    volume = Volume.from_fit(make_fit(sky), sky)
    lon, lat = healpy.pix2ang(4, 95, nest=True, lonlat=True)
    camera = Camera(look=(lon, lat), size=SMALL, field=120)
    picture = render(volume, camera)
    seen = healpy.vec2pix(4, *camera.rays().T, nest=True).reshape(36, 64) == 95
    assert 20 < seen.sum() < 1000
    assert (picture[seen].max(axis=-1) > 0).all()
    assert not picture[~seen].any()
    assert not render(volume, Camera(look=(lon + 180, -lat), size=SMALL)).any()


@pytest.mark.parametrize("look", [(180.0, 0.0), (98.4, 8.4), (300.0, -60.0)])
def test_directions_are_where_astropy_has_them(look):
    camera = Camera(look=look, size=(400, 200), field=60)
    centre = SkyCoord(*look, unit="deg", frame="galactic")
    points = [(10, 20), (390, 10), (200, 100), (33, 190), (210, 95)]
    rays = camera.rays().reshape(200, 400, 3)
    for column, line in points:
        place = SkyCoord(*rays[line, column], representation_type="cartesian", frame="galactic")
        # Offsets in the frame of the centre: longitude grows to the left, latitude upwards.
        across, above = centre.spherical_offsets_to(place)
        x = -np.tan(across.rad)
        y = np.tan(above.rad) / np.cos(across.rad)
        per_tangent = 200 / np.tan(np.deg2rad(30))
        assert column + 0.5 == pytest.approx(200 + per_tangent * x, abs=1e-6)
        assert line + 0.5 == pytest.approx(100 - per_tangent * y, abs=1e-6)
        np.testing.assert_allclose(
            camera.project(3.0 * rays[line, column]), [column + 0.5, line + 0.5]
        )
    assert np.isnan(camera.project(-camera.axes()[0])).all()


def test_a_camera_off_the_sun_sees_near_dust_displaced():
    """A shell of one bright pixel is seen where the pixel is from the camera."""
    emissivity = np.zeros((2, 3072, 4), np.float32)
    pixel = healpy.ang2pix(16, 180, 0, lonlat=True, nest=True)
    emissivity[1, pixel] = 1
    volume = Volume(emissivity, np.array([[0.0, 99.0, 101.0]]))
    camera = Camera(position=(0, 40, 0), size=(400, 400))
    light = light_of(volume, camera)[..., 0]
    where = np.argwhere(light > 0.5 * light.max()).mean(axis=0)[::-1] + 0.5
    place = 100 * np.array(healpy.pix2vec(16, pixel, nest=True))
    np.testing.assert_allclose(where, camera.project(place - [0, 40, 0]), atol=1)
    assert where[0] < 150


def test_the_saturation_is_stretched_as_colorsys_does():
    rng = np.random.default_rng(0)
    light = rng.uniform(0, 1.2, (50, 3))
    light[0], light[1] = 0.0, 0.3
    whole = np.concatenate([light, light.mean(axis=-1, keepdims=True)], axis=-1)
    for mine, colour in zip(develop(whole, 1.5, 0.25, 0.5), light, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour / 1.5)
        expected = colorsys.hsv_to_rgb(hue, saturation**0.25, value**0.5)
        np.testing.assert_allclose(mine, expected, atol=1e-12)


def test_what_is_overexposed_keeps_its_hue():
    light = np.array([light_at(16.5, amount=amount) for amount in (0.9, 2.0, 50.0)])
    picture = develop(light, 1.0)
    assert picture.max() == pytest.approx(1.0)
    hues = [colorsys.rgb_to_hsv(*colour)[:2] for colour in picture]
    np.testing.assert_allclose(hues, hues[:1] * 3)


@pytest.mark.parametrize("temperature", [13.0, 18.0, 25.0])
def test_dust_that_was_not_measured_is_grey_and_as_luminous(temperature):
    weights = np.array([0.2126, 0.7152, 0.0722])
    colour = develop(light_at(temperature, amount=0.4), 1.0)
    grey = develop(light_at(temperature, measured=0.0, amount=0.4), 1.0)
    half = develop(light_at(temperature, measured=0.5, amount=0.4), 1.0)
    assert np.ptp(colour) > 0.1
    assert np.ptp(grey) < 1e-12
    assert weights @ grey == pytest.approx(weights @ colour)
    np.testing.assert_allclose(half, 0.5 * (grey + colour))


def test_the_exposure_leaves_a_hundredth_overexposed(volume):
    camera = Camera(size=SMALL)
    light = np.random.default_rng(0).lognormal(0, 1, (100, 100, 4))
    overexposed = light[..., :3].max(axis=-1) > exposure_of(light)
    assert np.mean(overexposed) == pytest.approx(0.01, abs=1e-4)
    exposure = exposure_of(light_of(volume, camera))
    np.testing.assert_array_equal(render(volume, camera), render(volume, camera, exposure))
    assert render(volume, camera, 10 * exposure).mean() < render(volume, camera).mean()
    assert exposure_of(np.zeros((3, 4, 4))) == 1.0


def test_the_same_picture_in_every_run(volume):
    camera = Camera(position=(3.0, -25.0, 4.0), size=SMALL)
    assert render(volume, camera).tobytes() == render(volume, camera).tobytes()
    assert render(volume, camera).dtype == np.uint8
    assert render(volume, camera).shape == (36, 64, 3)


def test_a_loop_goes_once_around_the_sun():
    cameras = loop_camera(8, radius=30.0, size=SMALL, look=(180.0, 10.0))
    places = np.array([camera.position for camera in cameras])
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 30.0)
    np.testing.assert_allclose(places[:, 2], 0.0, atol=1e-12)
    np.testing.assert_allclose(places.mean(axis=0), 0.0, atol=1e-12)
    steps = np.linalg.norm(np.diff(places[[*range(8), 0]], axis=0), axis=1)
    np.testing.assert_allclose(steps, 60 * np.sin(np.pi / 8))
    assert {(camera.look, camera.size) for camera in cameras} == {((180.0, 10.0), SMALL)}
    across = loop_camera(5, axis=(180.0, 0.0))
    np.testing.assert_allclose([camera.position[0] for camera in across], 0.0, atol=1e-12)
    with pytest.raises(ConfigurationError, match="n_frames is 0"):
        loop_camera(0)


def test_the_legend_tells_the_temperature_of_what_is_seen():
    temperature = 20.0
    emissivity = np.ones((1, 12, 4), np.float32)
    emissivity[..., :3] = glow(temperature)
    emissivity[..., 3] = glow(temperature).mean()
    volume = Volume(emissivity, np.array([[0.0, 100.0]]))
    camera = Camera(size=(640, 360))
    picture = render(volume, camera)
    marked = add_legend(picture, camera)
    assert marked.shape == picture.shape
    kept = 360 - 5 * (640 // 84)
    np.testing.assert_array_equal(marked[:kept], picture[:kept])
    assert (marked[kept:] != picture[kept:]).any(axis=(1, 2)).all()
    # The colour of the dust is in the bar, as far from its left end as its temperature says.
    line = marked[kept + 640 // 84]
    bar = to_bytes(colour_bar(np.linspace(*BAR, 20000)))
    same = np.flatnonzero((np.abs(line.astype(int) - picture[0, 0]) <= 2).all(axis=-1))
    first = 640 - 37 * (640 // 84)
    last = 640 - 10 * (640 // 84)
    np.testing.assert_array_equal(line[[first, last - 1]], bar[[0, -1]])
    place = first + (temperature - BAR[0]) / (BAR[1] - BAR[0]) * (last - first - 1)
    assert same.min() - 1 <= place <= same.max() + 1


def test_the_bar_goes_from_red_to_blue():
    colours = colour_bar(np.array(TICKS, dtype=float))
    np.testing.assert_allclose(colours.max(axis=-1), 1.0)
    assert colours[0].argmax() == 0
    assert colours[TICKS.index(18)].argmax() == 1
    assert colours[-1].argmax() == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"position": (1.0, 2.0)}, "3 numbers"),
        ({"position": (1.0, 2.0, np.nan)}, "3 numbers"),
        ({"look": 180.0}, "2 numbers"),
        ({"field": 180.0}, "less than 180"),
        ({"size": (0, 10)}, "above 0"),
        ({"size": (10.5, 10)}, "above 0"),
        ({"size": (200_000, 200_000)}, "200000 x 200000; allowed are 50,000,000 points"),
        ({"look": (0.0, 90.5)}, "look of the camera has the latitude 90.5; allowed is -90 to 90"),
        ({"up": (0.0, -91.0)}, "up of the camera has the latitude -91"),
        ({"up": (0.0, np.nan)}, "up of the camera is .* 2 numbers"),
        ({"look": (20.0, 90.0), "up": (0.0, 90.0)}, "choose another one for up"),
        ({"look": (20.0, 30.0), "up": (200.0, -30.0)}, "choose another one for up"),
    ],
)
def test_impossible_cameras(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Camera(**settings)


@pytest.mark.parametrize(("latitude", "right"), [(90.0, 1.0), (-90.0, -1.0)])
def test_at_a_pole_the_galactic_centre_is_up(latitude, right):
    for camera in (Camera(look=(33.0, latitude)), loop_camera(1, look=(33.0, latitude))[0]):
        expected = [[0, 0, latitude / 90], [0, right, 0], [1, 0, 0]]
        np.testing.assert_allclose(camera.axes(), expected, atol=1e-12)
    near = Camera(look=(33.0, latitude * 0.999))
    assert near.axes()[2] @ [0, 0, 1] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"look": (0.0, 91.0)}, "look has the latitude 91"),
        ({"axis": (0.0, -100.0)}, "axis of the loop has the latitude -100"),
        ({"radius": np.nan}, "radius is nan"),
    ],
)
def test_impossible_loops(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        loop_camera(3, **settings)


@pytest.mark.parametrize("name", ["exposure", "saturation_gamma", "brightness_gamma"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_impossible_settings_of_a_picture(name, value):
    settings = {"exposure": 1.0, name: value}
    with pytest.raises(ConfigurationError, match=f"{name} is"):
        develop(light_at(18 * u.K.to("K")), **settings)
