import h5py
import healpy as hp
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.modeling.models import BlackBody
from scipy import integrate, stats
from scipy.special import ndtr

from pymcdust.errors import ConfigurationError
from pymcdust.physics.bands import BANDS, FREQUENCY, PAPER_SIGMA
from pymcdust.sky import morphology
from pymcdust.sky.dataset import open_sky, save_sky
from pymcdust.sky.morphology import (
    LENDERS,
    disc_reddening,
    gaussian_field,
    mock_reddening,
    numbered_normal,
)
from pymcdust.sky.simulate import simulate_sky, two_cloud_sightline

TRUTH = {"temperature": 18.0, "beta": 1.6, "rho": 1e-4}
SMALL = {"nside": 16, "superpixel_nside": 4, "superpixels": [3, 70, 191]}
SIGMA = np.array([PAPER_SIGMA[band] for band in BANDS])


def full_sky_field(nside, voxels=1, slope=2.8, seed=0):
    return gaussian_field(
        np.arange(12 * nside**2),
        nside=nside,
        voxels=voxels,
        slope=slope,
        seed=np.random.SeedSequence(seed),
    )


# Emission and its truth


def test_noiseless_emission_is_that_of_a_loop_over_everything():
    rng = np.random.default_rng(1)
    temperature = rng.uniform(14, 24, (3, 2))
    beta = np.array([1.4, 1.8])
    rho = np.array([5e-5, 1e-4, 2e-4])
    offset = np.array([0.1, -0.2, 0.3, 0.4, -0.5])
    sky = simulate_sky(
        {
            "temperature": (("superpixel", "voxel"), temperature),
            "beta": ("voxel", beta),
            "rho": ("superpixel", rho),
            "offset": ("band", offset),
        },
        distance_edge=[0, 0.5, 2.0],
        noise=False,
        **SMALL,
    )
    reddening = sky["reddening"].values
    expected = np.empty(sky["emission"].shape)
    for s, b in np.ndindex(3, 5):
        frequency = FREQUENCY[BANDS[b]]
        expected[s, :, b] = offset[b]
        for n in range(2):
            glow = BlackBody(temperature[s, n] * u.K)(frequency * u.GHz).to_value(u.MJy / u.sr)
            for k in range(16):
                optical_depth = rho[s] * reddening[s, k, n]
                expected[s, k, b] += optical_depth * (frequency / 353) ** beta[n] * glow
    np.testing.assert_allclose(sky["emission"], expected, rtol=1e-10)


def test_truth_is_picked_by_label_and_kept_with_its_tying():
    everywhere = xr.DataArray(
        np.linspace(10, 30, 192)[::-1], coords={"superpixel": np.arange(192)[::-1]}
    )
    shuffled = xr.DataArray([5.0, 4.0, 3.0, 2.0, 1.0], coords={"band": list(BANDS[::-1])})
    sky = simulate_sky(
        {**TRUTH, "temperature": everywhere, "offset": shuffled}, noise=False, **SMALL
    )
    np.testing.assert_allclose(
        sky["true_temperature"], 10 + 20 / 191 * np.array([3, 70, 191]), rtol=1e-12
    )
    assert sky["true_temperature"].dims == ("superpixel",)
    assert sky["true_temperature"].attrs["unit"] == "K"
    assert sky["true_beta"].dims == ()
    np.testing.assert_array_equal(sky["true_offset"], [1, 2, 3, 4, 5])
    bare = simulate_sky({**TRUTH, "temperature": everywhere}, noise=False, **SMALL)
    np.testing.assert_allclose(
        sky["emission"] - bare["emission"], np.broadcast_to([1, 2, 3, 4, 5], (3, 16, 5))
    )


def test_truth_may_be_drawn_by_a_function_of_the_coordinates():
    def draw(coords, rng):
        assert coords["superpixel"].tolist() == [3, 70, 191]
        assert coords["voxel"].tolist() == [0, 1, 2]
        assert coords["band"].tolist() == list(BANDS)
        temperature = rng.normal(18, 2, (3, 3))
        return xr.Dataset({**TRUTH, "temperature": (("superpixel", "voxel"), temperature)})

    sky, same, other = (simulate_sky(draw, seed=seed, **SMALL) for seed in (5, 5, 6))
    xr.testing.assert_identical(sky, same)
    assert not np.array_equal(sky["true_temperature"], other["true_temperature"])
    np.testing.assert_array_equal(
        sky["reddening"], simulate_sky(TRUTH, seed=5, **SMALL)["reddening"]
    )


def test_a_saved_sky_keeps_its_truth(tmp_path):
    sky = simulate_sky({**TRUTH, "temperature": ("voxel", [17.0, 20.0, 18.0])}, **SMALL)
    save_sky(sky, tmp_path / "sky.zarr")
    saved = open_sky(tmp_path / "sky.zarr")
    for name in ("emission", "true_temperature", "true_beta", "true_rho", "true_offset"):
        xr.testing.assert_equal(saved[name].load(), sky[name])


# Noise and seeds


def test_noise_is_white_with_the_given_sigma():
    sigma = {"217": 1.0, "353": 2.0, "545": 3.0, "857": 4.0, "2998": 5.0}
    geometry = {"nside": 64, "superpixel_nside": 4, "superpixels": range(40), "seed": 3}
    noisy = simulate_sky(TRUTH, sigma=sigma, **geometry)
    quiet = simulate_sky(TRUTH, sigma=sigma, noise=False, **geometry)
    np.testing.assert_array_equal(noisy["sigma"], list(sigma.values()))
    np.testing.assert_array_equal(quiet["sigma"], list(sigma.values()))
    noise = ((noisy["emission"] - quiet["emission"]) / noisy["sigma"]).values
    for band in range(5):
        assert stats.kstest(noise[..., band].ravel(), "norm").pvalue > 1e-3
    bound = 4 / np.sqrt(noise[..., 0].size)
    between_bands = np.corrcoef(noise.reshape(-1, 5).T) - np.eye(5)
    assert np.abs(between_bands).max() < bound
    assert np.abs(np.mean(noise[:, 1:] * noise[:, :-1], axis=(0, 1))).max() < bound
    assert np.abs(np.mean(noise[1:] * noise[:-1], axis=(0, 1))).max() < bound


def test_the_seed_is_the_only_chance():
    sky, same, other = (simulate_sky(TRUTH, seed=seed, **SMALL) for seed in (7, 7, 8))
    xr.testing.assert_identical(sky, same)
    assert not np.array_equal(sky["reddening"], other["reddening"])
    again = simulate_sky(TRUTH, reddening=sky, seed=8)
    np.testing.assert_array_equal(sky["reddening"], again["reddening"])
    assert not np.array_equal(sky["emission"], again["emission"])


def test_a_patch_is_a_cut_out_of_the_full_sky(monkeypatch):
    full = simulate_sky(TRUTH, nside=16, superpixel_nside=4, seed=2)
    monkeypatch.setattr(morphology, "BLOCK", 1)
    patch = simulate_sky(TRUTH, seed=2, **SMALL)
    cut = full.sel(superpixel=SMALL["superpixels"])
    np.testing.assert_allclose(patch["reddening"], cut["reddening"], rtol=1e-12)
    np.testing.assert_allclose(patch["emission"], cut["emission"], rtol=1e-12)


def test_numbers_of_a_stream_are_those_of_splitmix64():
    # The first numbers of SplitMix64 from the seed 1234567, as its reference code prints them.
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    normal = numbered_normal(np.array([1234567], dtype=np.uint64), np.arange(4))[:, 0]
    np.testing.assert_allclose(ndtr(normal), np.array(known) / 2.0**64, rtol=1e-12)


# Clouds


def test_the_field_has_the_power_law_that_was_asked_for():
    for slope in (2.4, 3.0):
        field = hp.reorder(full_sky_field(128, slope=slope)[:, 0], n2r=True)
        spectrum = hp.anafast(field, lmax=160, iter=0)
        degree = np.arange(161)
        fit = np.polyfit(np.log(degree[20:]), np.log(spectrum[20:]), 1, w=np.sqrt(degree[20:]))
        assert fit[0] == pytest.approx(-slope, abs=0.12)


def test_the_field_has_unit_variance_and_is_independent_in_each_voxel():
    field = full_sky_field(64, voxels=6)
    assert np.sqrt(np.mean(field**2)) == pytest.approx(1.0, abs=0.08)
    correlation = np.corrcoef(field.T) - np.eye(6)
    assert np.abs(correlation).max() < 0.2
    # What a superpixel sees, its pattern, is independent as well.
    pattern = field.reshape(-1, 64, 6)
    pattern = (pattern - pattern.mean(axis=1, keepdims=True)).reshape(-1, 6)
    assert np.abs(np.corrcoef(pattern.T) - np.eye(6)).max() < 0.08


def test_the_field_is_as_smooth_across_the_borders_of_all_larger_pixels():
    nside, field = 32, full_sky_field(32, voxels=30)
    pixel = np.arange(12 * nside**2)
    # SW NW NE SE: the neighbours that share a side.
    beside = hp.get_all_neighbours(nside, pixel, nest=True)[[0, 2, 4, 6]]
    step = np.sqrt(np.mean((field[beside] - field) ** 2, axis=2))
    # Children of one parent differ least; beyond that, no border may be seen.
    strangers = np.mean(step[beside >> 2 != pixel >> 2])
    for levels in range(2, 6):
        across = np.mean(step[(beside >> 2 * levels) != (pixel >> 2 * levels)])
        assert across == pytest.approx(strangers, rel=0.12)


def test_lenders_are_the_neighbours_nearest_to_each_child():
    nside, parent = 8, 8 * 8 * 4 + 27
    around = hp.get_all_neighbours(nside, parent, nest=True)
    centre = np.array(hp.pix2vec(nside, around, nest=True)).T
    for child, lenders in enumerate(LENDERS):
        here = np.array(hp.pix2vec(2 * nside, 4 * parent + child, nest=True))
        nearest = np.argsort(-centre @ here)[:3]
        assert set(nearest) == set(lenders)
        assert nearest[2] == lenders[2]


def test_where_a_neighbour_is_missing_the_parent_stands_in():
    coarse, fine = full_sky_field(4)[:, 0], full_sky_field(8)[:, 0]
    around = hp.get_all_neighbours(4, np.arange(192), nest=True)
    found = 0
    for child, (side_a, side_b, corner) in enumerate(LENDERS):
        (lonely,) = np.nonzero(around[corner] < 0)
        sides = coarse[around[side_a, lonely]] + coarse[around[side_b, lonely]]
        expected = (10 * coarse[lonely] + 3 * sides) / 16
        np.testing.assert_allclose(fine[4 * lonely + child], expected, rtol=1e-12)
        found += lonely.size
    # Three base pixels meet in eight points.
    assert found == 24


def test_a_finer_nside_adds_detail_to_the_same_clouds():
    coarse = full_sky_field(32)[:, 0]
    fine = full_sky_field(128)[:, 0].reshape(-1, 16).mean(axis=1)
    assert np.corrcoef(coarse, fine)[0, 1] > 0.9


def test_reddening_is_positive_and_has_the_mean_of_the_disc():
    mock = mock_reddening(nside=64, superpixel_nside=4, distance_edge=[0, 0.3, 1, 3])
    reddening = mock["reddening"].values
    assert np.all(np.isfinite(reddening))
    assert np.all(reddening > 0)
    disc = mock_reddening(nside=64, superpixel_nside=4, distance_edge=[0, 0.3, 1, 3], contrast=0)
    ratio = reddening / disc["reddening"].values
    np.testing.assert_allclose(ratio.mean(axis=(0, 1)), 1, atol=0.25)
    np.testing.assert_allclose(np.log(ratio).std(axis=(0, 1)), 1, atol=0.15)


def test_the_column_grows_towards_the_plane():
    mock = mock_reddening(nside=32, superpixel_nside=4, distance_edge=[0, 1, 30])
    pixel = np.arange(12 * 32**2)
    latitude = np.abs(hp.pix2ang(32, pixel, nest=True, lonlat=True)[1])
    column = mock["reddening"].values.sum(axis=2).ravel()
    high, middle, low = (
        np.mean(column[(latitude > a) & (latitude < b)]) for a, b in ((50, 90), (20, 30), (5, 10))
    )
    # csc|b|, averaged by area, is 1.14, 2.4 and 7.7.
    assert middle / high == pytest.approx(2.1, rel=0.3)
    assert low / middle == pytest.approx(3.2, rel=0.3)


@pytest.mark.parametrize("latitude", [0.0, 1e-7, 3.0, -40.0, 90.0])
def test_the_disc_is_an_integral_along_the_sightline(latitude):
    edge = [0, 0.1, 0.8, 5.0]
    got = disc_reddening(edge, [latitude], density=0.5, scale_height=0.12)[0]
    for voxel in range(3):
        expected, _ = integrate.quad(
            lambda d: 0.5 * np.exp(-np.abs(d * np.sin(np.radians(latitude))) / 0.12),
            *edge[voxel : voxel + 2],
        )
        assert got[voxel] == pytest.approx(expected, rel=1e-6)


def test_a_round_patch_holds_the_superpixels_that_it_touches():
    mock = mock_reddening(nside=32, superpixel_nside=16, center=(98.4, 8.4), radius=12.0)
    superpixel = mock["superpixel"].values
    centre = np.array(hp.pix2vec(16, np.arange(12 * 16**2), nest=True)).T
    distance = np.arccos(np.clip(centre @ hp.ang2vec(98.4, 8.4, lonlat=True), -1, 1))
    inside = np.flatnonzero(distance < np.radians(12.0))
    near = np.flatnonzero(distance < np.radians(12.0) + 1.5 * hp.max_pixrad(16))
    assert set(inside) <= set(superpixel) <= set(near)
    tiny = mock_reddening(nside=32, superpixel_nside=16, center=(98.4, 8.4), radius=1e-3)
    assert hp.ang2pix(16, 98.4, 8.4, nest=True, lonlat=True) in tiny["superpixel"].values


# Real reddening, simulated temperatures


def test_a_given_reddening_keeps_its_geometry_edges_mask_and_unit():
    mock = mock_reddening(**SMALL)
    reddening = mock["reddening"].values.astype(np.float32)
    valid = np.ones((3, 16, 5), dtype=bool)
    valid[1, 4] = False
    valid[2, :, 0] = False
    reddening[1, 4] = np.nan
    edge = np.array([[0, 0.3, 1, 3], [0, 0.4, 1, 3], [0, 0.5, 1, 3]])
    given = mock.assign(
        reddening=(mock["reddening"].dims, reddening),
        valid=(("superpixel", "pixel", "band"), valid),
        distance_edge=(("superpixel", "voxel_edge"), edge),
    ).assign_attrs(reddening_unit="bayestar2019", reddening_file="map.h5")
    sky = simulate_sky(TRUTH, reddening=given, noise=False)
    np.testing.assert_array_equal(sky["reddening"], reddening)
    assert sky["reddening"].dtype == np.float32
    np.testing.assert_array_equal(sky["valid"], valid)
    np.testing.assert_array_equal(sky["distance_edge"], edge)
    np.testing.assert_array_equal(sky["superpixel"], SMALL["superpixels"])
    assert sky.attrs["reddening_unit"] == "bayestar2019"
    assert sky.attrs["reddening_file"] == "map.h5"
    assert (sky.attrs["nside"], sky.attrs["superpixel_nside"]) == (16, 4)
    assert np.all(np.isfinite(sky["emission"].values[valid]))
    again = simulate_sky({**TRUTH, "temperature": 25.0}, reddening=sky, noise=False)
    assert np.all(again["emission"].values[valid] > sky["emission"].values[valid])


@pytest.mark.realsky
def test_real_reddening_glows_at_simulated_temperatures(realsky):
    with h5py.File(realsky / "bayestar2019_nside64.h5") as file:
        pixel = file["pixel_info"]["healpix_index"].astype(int)
        cumulative = np.full((12 * 64**2, 3), np.nan)
        cumulative[pixel] = file["best_fit"][:, [15, 45, 72]]
    differential = np.diff(cumulative, axis=1, prepend=0).reshape(768, 64, 3)
    whole = np.flatnonzero(np.isfinite(differential).all(axis=(1, 2)))
    given = xr.Dataset(
        {
            "reddening": (("superpixel", "pixel", "voxel"), differential[whole]),
            "distance_edge": ("voxel_edge", [0, 0.150, 0.841, 3.758]),
        },
        coords={"superpixel": whole},
        attrs={"nside": 64, "superpixel_nside": 8, "reddening_unit": "bayestar2019"},
    )
    sky = simulate_sky(TRUTH, reddening=given, noise=False)
    # At one temperature, emission is reddening in other units.
    column, glow = differential[whole].sum(axis=2), sky["emission"].sel(band="857").values
    np.testing.assert_allclose(glow[column > 0] / column[column > 0], glow.sum() / column.sum())


# Two clouds on one sightline


def test_two_clouds_have_what_was_asked_of_them():
    sky = two_cloud_sightline(reddening=(0.6, 0.9), temperature=(19.8, 17.2))
    np.testing.assert_array_equal(sky["superpixel"], [5908])
    np.testing.assert_array_equal(sky["distance_edge"], [0, 0.841, 3.758])
    assert sky["reddening"].shape == (1, 1024, 2)
    np.testing.assert_allclose(sky["reddening"].mean("pixel").values[0], [0.6, 0.9])
    np.testing.assert_array_equal(sky["true_temperature"], [19.8, 17.2])
    direction = hp.pix2ang(32, 5908, nest=True, lonlat=True)
    np.testing.assert_allclose(direction, (98.4375, 8.3855), atol=1e-3)


def test_two_clouds_differ_in_shape():
    near, far = two_cloud_sightline()["reddening"].values[0].T
    assert abs(np.corrcoef(near, far)[0, 1]) < 0.2
    for cloud in (near, far):
        assert 0.3 < np.log(cloud).std() < 1.5


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nside": 100}, "nside is 100; .*power of two.* mean 128"),
        ({"nside": 16.0}, "nside is 16.0; .*power of two"),
        ({"superpixel_nside": 0}, "superpixel_nside is 0; .*power of two"),
        ({"nside": 4, "superpixel_nside": 8}, "nside is 4 and superpixel_nside 8: .*exchange"),
        ({"superpixels": [3, 192]}, "superpixel 192 is out of range; .*0 to 191"),
        ({"superpixels": [-1]}, "superpixel -1 is out of range"),
        ({"superpixels": []}, "patch is empty"),
        ({"superpixels": [3, 3]}, "names a superpixel twice"),
        ({"superpixels": [3.5]}, "list of integers"),
        ({"superpixels": None, "center": (98.4, 8.4), "radius": -1.0}, "radius is -1.0; .*above 0"),
        ({"superpixels": None, "center": (98.4, 8.4), "radius": 0.0}, "radius is 0.0; .*above 0"),
        ({"superpixels": None, "center": (98.4, 98.4), "radius": 1.0}, "latitude from -90 to 90"),
        ({"superpixels": None, "center": (98.4, 8.4)}, "needs both"),
        ({"superpixels": None, "radius": 3.0}, "needs both"),
        ({"center": (98.4, 8.4), "radius": 3.0}, "in one way only"),
        ({"distance_edge": [0, 1.0, 0.5]}, "must increase"),
        ({"distance_edge": [0, 1.0, 1.0]}, "must increase"),
        ({"distance_edge": [0.1, 1.0]}, "the first edge is the observer"),
        ({"distance_edge": [0]}, "two or more"),
        ({"distance_edge": [0, np.inf]}, "finite"),
        ({"sigma": {**PAPER_SIGMA, "545": 0.0}}, "sigma of band 545 is 0.0; .*above 0"),
        ({"sigma": {**PAPER_SIGMA, "217": -1.0}}, "sigma of band 217 is -1.0"),
        ({"sigma": {**PAPER_SIGMA, "217": np.nan}}, "sigma of band 217 is nan"),
        ({"sigma": {"217": 1.0, "353": 1.0, "545": 1.0}}, "sigma lacks band 857 and 2998"),
        ({"sigma": {**PAPER_SIGMA, "3000": 1.0}}, "unknown band in sigma '3000'"),
        ({"sigma": 1.0}, "sigma is 1.0; allowed is a mapping"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"reddening": mock_reddening(**SMALL)}, "given together with nside, superpixel_nside"),
    ],
)
def test_an_impossible_setting_is_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        simulate_sky(TRUTH, **{**SMALL, **settings})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("density", 0), ("scale_height", -0.1), ("contrast", -1.0), ("slope", 2.0), ("slope", np.nan)],
)
def test_impossible_clouds_are_refused(setting, value):
    with pytest.raises(ConfigurationError, match=f"{setting} is {value}; allowed is"):
        mock_reddening(**SMALL, **{setting: value})


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"beta": 1.6, "rho": 1e-4}, "lacks temperature"),
        ({"temperature": 18.0}, "lacks beta and rho"),
        ({"T": 18.0, "beta": 1.6, "rho": 1e-4}, "unknown parameter .*'T'.*mean 'temperature'"),
        ({**TRUTH, "offsets": 0.0}, "unknown parameter .*mean 'offset'"),
        ({**TRUTH, "beta": ("voxels", [1.6, 1.6])}, "unknown dimension .*beta.*mean 'voxel'"),
        ({**TRUTH, "rho": ("band", [1e-4] * 5)}, "unknown dimension of the true rho 'band'"),
        ({**TRUTH, "offset": ("voxel", [0.0] * 3)}, "unknown dimension of the true offset"),
        ({**TRUTH, "temperature": ("voxel", [18.0] * 2)}, "2 entries along voxel; the sky has 3"),
        ({**TRUTH, "temperature": [18.0] * 3}, "must map each parameter"),
        ({**TRUTH, "temperature": "warm"}, "must map each parameter"),
        (None, "must map each parameter|lacks"),
        ({**TRUTH, "temperature": np.nan}, "true temperature must be finite"),
        ({**TRUTH, "temperature": 0.0}, "above 0 K; it goes to 0.0 K"),
        (
            {**TRUTH, "beta": xr.DataArray([1.6, 1.7], coords={"superpixel": [3, 70]})},
            "lacks 1 of the 3 entries of superpixel in the sky, such as 191",
        ),
    ],
)
def test_a_truth_that_cannot_be_is_refused(truth, message):
    with pytest.raises(ConfigurationError, match=message):
        simulate_sky(truth, **SMALL)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda sky: sky["reddening"], "reddening is a DataArray; allowed is a sky"),
        (lambda sky: sky.drop_vars("distance_edge"), "lacks distance_edge"),
        (lambda sky: sky.drop_attrs(), "lacks nside, superpixel_nside and reddening_unit"),
        (lambda sky: sky.transpose("pixel", ...), "reddening has the dimensions .*'pixel'"),
        (lambda sky: sky.assign_attrs(ordering="ring"), "ordering .* is 'ring'; .*'nested'"),
        (lambda sky: sky.assign_attrs(frame="equatorial"), "frame .* is 'equatorial'"),
    ],
)
def test_a_reddening_that_is_not_half_a_sky_is_refused(spoil, message):
    with pytest.raises(ConfigurationError, match=message):
        simulate_sky(TRUTH, reddening=spoil(mock_reddening(**SMALL)))


@pytest.mark.parametrize("reddening", [(0.5,), (0.5, -0.1), (0.5, np.nan)])
def test_two_clouds_need_two_columns(reddening):
    with pytest.raises(ConfigurationError, match="allowed are two means"):
        two_cloud_sightline(reddening=reddening)
