import healpy
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.modeling.physical_models import BlackBody
from scipy.optimize import minimize_scalar

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.products.interpolation import refine_angle, refine_distance
from pymcdust.products.volume import CHANNEL_FREQUENCY, CHANNEL_TEMPERATURE, Volume, glow


def columns(volume):
    """Return the light of every sightline, (pixel, channel)."""
    depth = np.diff(volume.edges)
    share = volume.emissivity.shape[1] // len(depth)
    return np.einsum("vpc,pv->pc", volume.emissivity, np.repeat(depth, share, axis=0))


def by_hand(fit, sky, row, part=slice(None)):
    """Return the column of light of a superpixel, or of a part of its pixels, from Eq. 12."""
    here = sky.sel(superpixel=fit["superpixel"].values[row])
    black = BlackBody(fit["temperature"].values[row] * u.K)
    brightness = np.stack([black(frequency * u.GHz) for frequency in CHANNEL_FREQUENCY], axis=-1)
    unit = BlackBody(18 * u.K)(CHANNEL_FREQUENCY[1] * u.GHz)
    reddening = here["reddening"].values[part]
    valid = here["valid"].values[part]
    return reddening[valid].mean(axis=0) @ (brightness / unit)


@pytest.fixture
def full_sky(make_sky):
    return make_sky(np.arange(192), edges=(0.0, 0.1, 0.4, 1.0, 2.0))


@pytest.mark.parametrize("channel", range(3))
def test_channels_are_where_a_blackbody_of_their_temperature_peaks(channel):
    black = BlackBody(CHANNEL_TEMPERATURE[channel] * u.K)
    peak = minimize_scalar(
        lambda frequency: -black(frequency * u.GHz).value,
        bounds=(500, 2000),
        method="bounded",
        options={"xatol": 1e-7},
    )
    assert CHANNEL_FREQUENCY[channel] == pytest.approx(peak.x, rel=1e-6)


def test_glow_is_a_blackbody():
    temperature = np.array([5.0, 14.0, 18.0, 30.0])
    unit = BlackBody(18 * u.K)(CHANNEL_FREQUENCY[1] * u.GHz)
    for channel, frequency in enumerate(CHANNEL_FREQUENCY):
        expected = [float(BlackBody(T * u.K)(frequency * u.GHz) / unit) for T in temperature]
        np.testing.assert_allclose(glow(temperature)[:, channel], expected, rtol=1e-10)


def test_each_sightline_has_its_reddening_times_the_planck_function(sky, fit):
    sky["valid"][2, 3:9] = False
    volume = Volume.from_fit(fit, sky)
    assert volume.nside == 4
    np.testing.assert_allclose(volume.edges, [[0.0, 500.0, 2000.0]])
    light = columns(volume)
    for row, superpixel in enumerate(fit["superpixel"].values):
        np.testing.assert_allclose(light[superpixel, :3], by_hand(fit, sky, row), rtol=1e-5)
    outside = np.setdiff1d(np.arange(192), fit["superpixel"])
    assert not light[outside].any()


def test_reddening_may_be_finer_than_superpixels(sky, fit):
    sky["valid"][1, 4:6] = False
    light = columns(Volume.from_fit(fit, sky, nside=8))
    for row, superpixel in enumerate(fit["superpixel"].values):
        for quarter in range(4):
            expected = by_hand(fit, sky, row, slice(4 * quarter, 4 * quarter + 4))
            np.testing.assert_allclose(light[4 * superpixel + quarter, :3], expected, rtol=1e-5)
    whole = columns(Volume.from_fit(fit.isel(superpixel=[0]), sky))
    np.testing.assert_allclose(light.reshape(192, 4, 4)[5].mean(axis=0), whole[5], rtol=1e-5)


def test_validity_by_band_counts_where_any_band_is_valid(sky, fit):
    by_band = sky["valid"].expand_dims(band=sky["band"]).transpose(..., "band").copy()
    by_band[:, :, 0] = False
    np.testing.assert_array_equal(
        Volume.from_fit(fit, sky.assign(valid=by_band)).emissivity,
        Volume.from_fit(fit, sky).emissivity,
    )


@pytest.mark.parametrize("tying", ["per_voxel", "per_superpixel", "over_sky", "fixed"])
def test_any_tying_of_the_temperature(sky, make_fit, tying):
    fit = make_fit(sky, temperature=tying)
    volume = Volume.from_fit(fit, sky)
    shape = {"superpixel": 6, "voxel": 2}
    every = fit["temperature"].variable.set_dims(shape).transpose(*shape).values
    ratio = volume.emissivity[:, fit["superpixel"].values, 2] / np.maximum(
        volume.emissivity[:, fit["superpixel"].values, 0], 1e-30
    )
    np.testing.assert_allclose(ratio.T, glow(every)[..., 2] / glow(every)[..., 0], rtol=1e-5)


def test_only_what_is_measured_counts_as_measured(sky, fit):
    fit["temperature_sd"][0, 1] = 0.75 * 9.0
    fit["temperature_sd"][3, 0] = np.nan
    fit["converged"][4] = False
    volume = Volume.from_fit(fit, sky)
    here = volume.emissivity[:, fit["superpixel"].values]
    measured = (here[..., 3] / here[..., :3].mean(axis=-1)).T
    expected = np.ones((6, 2))
    expected[0, 1] = expected[3, 0] = 0
    expected[4] = 0
    np.testing.assert_allclose(measured, expected, atol=1e-6)


def test_edges_of_each_superpixel_and_padding(sky, make_fit):
    edges = np.tile([0.0, 0.5, 2.0], (6, 1))
    edges[2] = [0.0, 0.8, 0.801]
    sky = sky.assign(
        distance_edge=(("superpixel", "voxel_edge"), edges, {"unit": "kpc"}),
        n_voxel=("superpixel", [2, 2, 1, 2, 2, 2]),
    )
    sky["reddening"][2, :, 1] = 0.0
    fit = make_fit(sky)
    volume = Volume.from_fit(fit, sky)
    assert volume.edges.shape == (192, 3)
    assert (np.diff(volume.edges) > 0).all()
    np.testing.assert_allclose(volume.edges[fit["superpixel"].values], 1e3 * edges)
    assert not volume.emissivity[1, 40].any()
    light = columns(volume)
    for row, superpixel in enumerate(fit["superpixel"].values):
        np.testing.assert_allclose(light[superpixel, :3], by_hand(fit, sky, row), rtol=1e-5)


def test_a_draw_of_the_posterior_gives_the_temperatures(sky, fit):
    scatter = xr.DataArray([[0.9, 1.0, 1.1], [1.2, 1.3, 1.4]], dims=("chain", "draw"))
    draws = xr.Dataset({name: fit[name] * scatter for name in ("temperature", "beta", "rho")})
    draws = draws.transpose("chain", "draw", ...)
    posterior = xr.DataTree.from_dict({"posterior": draws, "constant_data": fit[["distance_edge"]]})
    posterior.attrs = dict(fit.attrs)
    drawn = Volume.from_fit(fit, sky, posterior, draw=4)
    warmer = Volume.from_fit(fit.assign(temperature=1.3 * fit["temperature"]), sky)
    np.testing.assert_allclose(drawn.emissivity[..., :3], warmer.emissivity[..., :3], rtol=1e-6)
    part = posterior.isel(superpixel=slice(2, None), missing_dims="ignore")
    partly = Volume.from_fit(fit, sky, part, draw=4).emissivity
    lacking = fit["superpixel"].values[:2]
    assert not partly[:, lacking].any()
    covered = fit["superpixel"].values[2:]
    np.testing.assert_array_equal(partly[:, covered], drawn.emissivity[:, covered])
    with pytest.raises(ConfigurationError, match="draws from 0 to 5"):
        Volume.from_fit(fit, sky, posterior, draw=6)
    with pytest.raises(ConfigurationError, match="belong together"):
        Volume.from_fit(fit, sky, posterior)
    with pytest.raises(ResultError, match="no group posterior"):
        Volume.from_fit(fit, sky, xr.DataTree(), draw=0)


@pytest.mark.parametrize("smooth", [2, 4])
def test_smoothing_keeps_the_sum_of_every_voxel(full_sky, make_fit, smooth):
    fit = make_fit(full_sky)
    fit["temperature_sd"][::2, 1] = 9.0
    coarse, fine = Volume.from_fit(fit, full_sky), Volume.from_fit(fit, full_sky, smooth=smooth)
    assert fine.nside == smooth * coarse.nside
    np.testing.assert_allclose(fine.edges[:, ::smooth], coarse.edges)
    assert (fine.emissivity >= 0).all()
    parts = fine.emissivity.reshape(4, smooth, 192, smooth**2, 4)
    np.testing.assert_allclose(parts.mean(axis=(1, 3)), coarse.emissivity, rtol=2e-5, atol=1e-9)


def test_smoothing_leaves_smaller_steps_between_pixels():
    coarse = 2 + healpy.pix2vec(4, np.arange(192), nest=True)[0][None, :, None]
    fine = refine_angle(coarse, 8)[0, :, 0]
    truth = 2 + healpy.pix2vec(32, np.arange(12288), nest=True)[0]
    blocks = np.repeat(coarse[0, :, 0], 64)
    assert np.std(fine - truth) < 0.15 * np.std(blocks - truth)


@pytest.mark.parametrize("scatter", [0.2, 1.0])
def test_smoothing_leaves_no_border_between_pixels(scatter):
    """Steps to neighbours of another coarse pixel are as small as those within."""
    noise = np.random.default_rng(1).lognormal(0, scatter, (1, 192, 2)).astype(np.float32)
    fine = refine_angle(noise, 16)[0]
    number = np.arange(len(fine))
    others = healpy.get_all_neighbours(64, number, nest=True)[::2].T
    steps = np.abs(np.log(fine[others] / fine[:, None])).max(axis=-1)
    across = others // 256 != number[:, None] // 256
    missing = others < 0
    within, between = steps[~across & ~missing], steps[across & ~missing]
    assert np.median(between) < 1.4 * np.median(within)
    assert np.quantile(between, 0.95) < 1.3 * np.quantile(within, 0.95)


def test_neighbours_at_other_distances_are_not_smoothed_together(sky, make_fit):
    edges = np.tile([0.0, 0.5, 2.0], (6, 1))
    alike = sky.assign(distance_edge=(("superpixel", "voxel_edge"), edges, {"unit": "kpc"}))
    fine = Volume.from_fit(make_fit(alike), alike, smooth=2)
    shared = Volume.from_fit(make_fit(sky), sky, smooth=2)
    np.testing.assert_allclose(fine.edges, shared.edges)
    np.testing.assert_array_equal(fine.emissivity, shared.emissivity)
    edges[2, 1] = 0.6
    own = sky.assign(distance_edge=(("superpixel", "voxel_edge"), edges, {"unit": "kpc"}))
    assert Volume.from_fit(make_fit(own), own).edges.shape == (192, 3)
    with pytest.raises(ConfigurationError, match=r"smooth is 2, but each .* give 1"):
        Volume.from_fit(make_fit(own), own, smooth=2)


def test_smoothing_leaves_little_of_the_steps_between_pixels():
    noise = np.random.default_rng(0).lognormal(0, 0.2, (1, 192, 1))
    blocks = np.repeat(noise[0, :, 0], 256)
    steps = [
        np.abs(np.diff(np.log(healpy.reorder(values, n2r=True))))
        for values in (refine_angle(noise, 16)[0, :, 0], blocks)
    ]
    borders = steps[1] > 0
    assert steps[0][borders].mean() < 0.18 * steps[1][borders].mean()


def test_negative_reddening_is_no_dust(sky, fit):
    sky["reddening"][3, :, 0] -= 5.0
    light = columns(Volume.from_fit(fit, sky))
    far = by_hand(fit, sky.assign(reddening=sky["reddening"] * [0.0, 1.0]), 3)
    np.testing.assert_allclose(light[fit["superpixel"].values[3], :3], far, rtol=1e-5)


def test_smoothing_keeps_what_is_the_same_everywhere_and_what_is_empty():
    even = np.full((2, 48, 4), 3.0, np.float32)
    np.testing.assert_allclose(refine_angle(even, 4), 3.0, rtol=1e-6)
    even[:, 7] = 0
    fine = refine_angle(even, 4).reshape(2, 48, 16, 4)
    assert not fine[:, 7].any()
    edges = np.array([[0.0, 1.0, 5.0]])
    np.testing.assert_allclose(refine_distance(even, edges, 4)[0], np.repeat(even, 4, axis=0))


def test_a_line_in_distance_is_a_line_in_its_parts():
    edges = np.arange(6.0)[None]
    light = np.tile((np.arange(5.0) + 0.5)[:, None, None], (1, 12, 1))
    fine, finer_edges = refine_distance(light, edges, 4)
    middle = 0.5 * (finer_edges[0, 1:] + finer_edges[0, :-1])
    inner = slice(4, -4)  # the first and the last voxel have a neighbour on one side only
    np.testing.assert_allclose(fine[inner, 0, 0], middle[inner])


def test_smoothing_makes_no_maximum_in_distance():
    rng = np.random.default_rng(0)
    light = rng.lognormal(0, 2, (8, 12, 1))
    edges = np.cumsum(rng.uniform(0.1, 3, (12, 9)), axis=1)
    fine, finer_edges = refine_distance(light, edges, 8)
    depth, fine_depth = np.diff(edges).T[..., None], np.diff(finer_edges).T[..., None]
    sums = (fine * fine_depth).reshape(8, 8, 12, 1).sum(axis=1)
    np.testing.assert_allclose(sums, light * depth)
    parts = fine.reshape(8, 8, 12, 1)[1:-1]
    around = np.stack([light[:-2], light[1:-1], light[2:]])
    assert (parts <= around.max(axis=0)[:, None] * (1 + 1e-12)).all()
    assert (parts >= around.min(axis=0)[:, None] * (1 - 1e-12)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nside": 2}, "powers of two from 4, .* to 16"),
        ({"nside": 32}, "powers of two from 4, .* to 16"),
        ({"nside": 12}, "powers of two"),
        ({"smooth": 3}, "smooth is 3"),
        ({"smooth": 0}, "smooth is 0"),
        ({"draw": 0}, "belong together"),
    ],
)
def test_impossible_settings(sky, fit, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Volume.from_fit(fit, sky, **settings)


def test_the_sky_of_another_fit(sky, fit, make_sky):
    with pytest.raises(ResultError, match="superpixels are not in the sky"):
        Volume.from_fit(fit, make_sky([1, 2]))
    with pytest.raises(ResultError, match="lacks temperature"):
        Volume.from_fit(fit.drop_vars("temperature"), sky)
