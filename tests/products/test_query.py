import astropy.units as u
import healpy as hp
import numpy as np
import pytest
from astropy.coordinates import (
    ICRS,
    Distance,
    Galactic,
    Galactocentric,
    SkyCoord,
    SkyOffsetFrame,
)
from dustmaps.map_base import coord2healpix
from hypothesis import given, settings
from hypothesis import strategies as st

from pymcdust.errors import ConfigurationError, FileFormatError, ResultError
from pymcdust.physics.emission import emissivity
from pymcdust.products import places
from pymcdust.products import query as module
from pymcdust.products.query import DustTemperatureQuery
from pymcdust.products.reconstruction import reconstruct
from pymcdust.sky.dataset import save_sky
from pymcdust.sky.store import write_store

EDGES = (0.0, 0.3, 0.841, 2.0)
SUPERPIXELS = [5, 6, 40, 41, 100, 7, 150, 88]
NSIDE = 4
FREQUENCY = 420.0

TYINGS = {
    "paper": {},
    "single temperature": {"temperature": "per_superpixel"},
    "all per voxel": dict.fromkeys(("temperature", "beta", "rho"), "per_voxel"),
    "all over the sky": dict.fromkeys(("temperature", "beta", "rho"), "over_sky"),
    "all fixed": dict.fromkeys(("temperature", "beta", "rho"), "fixed"),
}


@pytest.fixture
def sky(make_sky):
    sky = make_sky(SUPERPIXELS, edges=EDGES)
    sky["valid"][0, ::3] = False
    return sky


@pytest.fixture
def fit(sky, make_fit):
    return make_fit(sky)


@pytest.fixture
def cut_apart(sky, fit):
    """A sky whose superpixels have edges of their own, and some fewer voxels, and its fit."""
    edges = np.outer(np.linspace(0.7, 1.4, len(SUPERPIXELS)), EDGES)
    n_voxel = np.array([3, 2, 1, 3, 2, 3, 3, 1])
    for row, n in enumerate(n_voxel):
        edges[row, n + 1 :] = edges[row, n] + 1e-3 * np.arange(1, 4 - n)
        sky["reddening"][row, :, n:] = 0.0
    sky["n_voxel"] = ("superpixel", n_voxel)
    for dataset in (sky, fit):
        dataset["distance_edge"] = (("superpixel", "voxel_edge"), edges, {"unit": "kpc"})
    return fit, sky


def points(n=400, seed=4, far=2.4):
    """Return coordinates, most of them in the superpixels, with distances in and beyond voxels."""
    rng = np.random.default_rng(seed)
    pixel = np.asarray(SUPERPIXELS)[rng.integers(0, len(SUPERPIXELS), n)] * 64
    lon, lat = hp.pix2ang(8 * NSIDE, pixel + rng.integers(0, 64, n), nest=True, lonlat=True)
    lon[: n // 8] = rng.uniform(0, 360, n // 8)
    return SkyCoord(
        lon * u.deg, lat * u.deg, distance=rng.uniform(0, far, n) * u.kpc, frame="galactic"
    )


def value(variable, superpixel, voxel):
    at = {"superpixel": superpixel}
    here = variable.sel({dim: at[dim] for dim in at if dim in variable.dims})
    return float(here.isel(voxel=voxel) if "voxel" in here.dims else here)


def brute_force(fit, sky, coords, evaluate, cumulative=False):
    """Look every point up alone, in plain words."""
    answers = []
    for lon, lat, d in zip(coords.l.deg, coords.b.deg, coords.distance.kpc, strict=True):
        # By way of RING, so that the order is not taken for granted.
        ring = hp.ang2pix(NSIDE, lon, lat, nest=False, lonlat=True)
        superpixel = hp.ring2nest(NSIDE, ring)
        if superpixel not in SUPERPIXELS:
            answers.append(np.nan)
            continue
        edges = sky["distance_edge"]
        n = sky.sizes["voxel"]
        if "superpixel" in edges.dims:
            edges = edges.sel(superpixel=superpixel)
        if "n_voxel" in sky:
            n = int(sky["n_voxel"].sel(superpixel=superpixel))
        edges = edges.values
        inside = [v for v in range(n) if edges[v] <= d <= edges[v + 1]]
        if not inside:
            answers.append(np.nan)
            continue
        voxel = inside[0]
        if not cumulative:
            answers.append(evaluate(superpixel, voxel))
            continue
        part = (d - edges[voxel]) / (edges[voxel + 1] - edges[voxel])
        whole = sum(evaluate(superpixel, v) for v in range(voxel))
        answers.append(whole + part * evaluate(superpixel, voxel))
    return np.array(answers)


def reddening_of(sky):
    def evaluate(superpixel, voxel):
        here = sky.sel(superpixel=superpixel)
        return here["reddening"].values[here["valid"].values, voxel].mean()

    return evaluate


def emission_of(fit, sky, frequency=FREQUENCY):
    def evaluate(superpixel, voxel):
        spectrum = (value(fit[name], superpixel, voxel) for name in ("temperature", "beta", "rho"))
        return reddening_of(sky)(superpixel, voxel) * emissivity(frequency, *spectrum)

    return evaluate


def check(found, expected):
    assert found.dtype == np.float32
    assert 0 < np.isnan(expected).sum() < 0.6 * len(expected)
    np.testing.assert_allclose(found, expected, rtol=3e-6)


@pytest.mark.parametrize("tying", TYINGS.values(), ids=TYINGS)
@pytest.mark.parametrize("name", ["temperature", "beta", "rho"])
def test_parameters_of_every_tying_agree_with_brute_force(sky, make_fit, tying, name):
    fit, coords = make_fit(sky, **tying), points()
    found = DustTemperatureQuery(fit, sky)(coords, quantity=name)
    check(found, brute_force(fit, sky, coords, lambda s, v: value(fit[name], s, v)))


@pytest.mark.parametrize("cumulative", [False, True])
def test_reddening_and_emission_agree_with_brute_force(fit, sky, cumulative):
    query, coords = DustTemperatureQuery(fit, sky), points()
    found = query(coords, quantity="reddening", cumulative=cumulative)
    check(found, brute_force(fit, sky, coords, reddening_of(sky), cumulative))
    found = query(coords, quantity="emission", frequency=FREQUENCY, cumulative=cumulative)
    check(found, brute_force(fit, sky, coords, emission_of(fit, sky), cumulative))


@pytest.mark.parametrize("cumulative", [False, True])
def test_voxels_of_each_superpixel_agree_with_brute_force(cut_apart, cumulative):
    fit, sky = cut_apart
    query, coords = DustTemperatureQuery(fit, sky), points(far=1.5)
    found = query(coords, quantity="emission", frequency=FREQUENCY, cumulative=cumulative)
    check(found, brute_force(fit, sky, coords, emission_of(fit, sky), cumulative))
    found = query(coords)
    check(found, brute_force(fit, sky, coords, lambda s, v: value(fit["temperature"], s, v)))


@pytest.mark.parametrize("n_voxel", [1, 2, 3, 4, 7, 8, 17])
def test_any_number_of_voxels(make_sky, make_fit, n_voxel):
    edges = np.linspace(0, 2, n_voxel + 1)
    sky = make_sky(SUPERPIXELS, edges=edges)
    fit, coords = make_fit(sky), points()
    query = DustTemperatureQuery(fit, sky)
    check(
        query(coords), brute_force(fit, sky, coords, lambda s, v: value(fit["temperature"], s, v))
    )
    assert np.isnan(query.query_gal(coords.l[-1], coords.b[-1], np.inf))


def test_blocks_do_not_change_the_answer(fit, sky, make_posterior, monkeypatch):
    coords = points()
    query = DustTemperatureQuery(fit, sky, make_posterior(fit))
    kwargs = {"quantity": "emission", "frequency": 353.0, "cumulative": True}
    whole, median = query(coords, **kwargs), query(coords, mode="median", **kwargs)
    monkeypatch.setattr(places, "BLOCK_POINTS", 7)
    monkeypatch.setattr(module, "BLOCK_DRAWS", 45)
    query = DustTemperatureQuery(fit, sky, make_posterior(fit))
    np.testing.assert_array_equal(query(coords, **kwargs), whole)
    np.testing.assert_allclose(query(coords, mode="median", **kwargs), median, rtol=1e-6)


def test_an_edge_belongs_to_the_nearer_voxel(fit, sky):
    query = DustTemperatureQuery(fit, sky)
    lon, lat = hp.pix2ang(NSIDE, 100, nest=True, lonlat=True)
    along = fit["temperature"].sel(superpixel=100).values.astype(np.float32)

    def at(distance):
        return query.query_gal(np.full(3, lon), np.full(3, lat), distance)

    edges = np.array(EDGES)
    np.testing.assert_array_equal(at(edges[1:]), along)
    np.testing.assert_array_equal(at(edges[1:] * (1 - 1e-9)), along)
    np.testing.assert_array_equal(at(edges[1:] * (1 + 1e-9)), [along[1], along[2], np.nan])
    np.testing.assert_array_equal(at(edges[:3] + 1e-9), along)
    assert query.query_gal(lon, lat, 0.0) == along[0]
    # On an edge whatever the unit: 841 pc is not 0.841 kpc to the last bit in all of them.
    for unit in (u.pc, u.lyr, u.AU, u.cm, u.Mpc):
        np.testing.assert_array_equal(at((edges[1:] * u.kpc).to(unit)), along)


def test_nothing_outside(fit, sky):
    query = DustTemperatureQuery(fit, sky)
    lon, lat = hp.pix2ang(NSIDE, 100, nest=True, lonlat=True)
    d = np.array([-0.1, np.nan, 2.001, np.inf, 1.0])
    found, flags = query.query_gal(np.full(5, lon), np.full(5, lat), d, return_flags=True)
    assert list(np.isnan(found)) == [True, True, True, True, False]
    assert flags["in_footprint"].all()
    coords = SkyCoord([lon, np.nan, lon] * u.deg, [lat, lat, np.nan] * u.deg, frame="galactic")
    assert list(np.isnan(query(coords)).all(axis=1)) == [False, True, True]
    assert list(query(coords, return_flags=True)[1]["in_footprint"]) == [True, False, False]
    away = hp.pix2ang(NSIDE, 101, nest=True, lonlat=True)
    assert np.isnan(query.query_gal(*away, 1.0))
    assert np.isnan(query.query_gal(*away, 1.0, quantity="emission", frequency=353))
    assert np.isnan(query.query_gal(*away, quantity="reddening", cumulative=True)).all()


@pytest.mark.parametrize("frame", [Galactic, ICRS])
def test_negative_distances_of_a_frame(fit, sky, frame):
    # A rotation would make it a positive one, on the other side of the sky.
    lon, lat = hp.pix2ang(NSIDE, [100, 100], nest=True, lonlat=True)
    there = SkyCoord(lon * u.deg, lat * u.deg, frame="galactic").transform_to(frame).spherical
    d = Distance([-1.0, 1.0] * u.kpc, allow_negative=True)
    lon, lat = there.lon, there.lat
    opposite = frame([lon[0] + 180 * u.deg, lon[1]], [-lat[0], lat[1]], d)
    for point in (frame(lon, lat, d), opposite):
        found = DustTemperatureQuery(fit, sky)(SkyCoord(point))
        assert list(np.isnan(found)) == [True, False]


@pytest.mark.parametrize("frame", ["icrs", "fk4", "fk5"])
def test_direction_survives_a_distance_of_nothing(fit, sky, frame):
    lon, lat = hp.pix2ang(NSIDE, np.full(4, 100), nest=True, lonlat=True)
    there = SkyCoord(lon * u.deg, lat * u.deg, frame="galactic").transform_to(frame)
    query = DustTemperatureQuery(fit, sky)
    d = [0, np.nan, -1, 0.5]
    found, flags = query.query_equ(there.ra, there.dec, d, frame=frame, return_flags=True)
    along = fit["temperature"].sel(superpixel=100)
    np.testing.assert_allclose(found, [along[0], np.nan, np.nan, along[1]], rtol=1e-7)
    assert flags["in_footprint"].all()
    one = query.query_equ(there.ra[0], there.dec[0], 0.0, frame=frame)
    assert one == np.float32(along[0])


def test_the_galactic_centre_is_a_place_of_its_own_frame(make_sky, make_fit):
    sky = make_sky(np.arange(12 * NSIDE**2), edges=(0, 5, 20))
    fit = make_fit(sky)
    centre = SkyCoord(x=0 * u.kpc, y=0 * u.kpc, z=0 * u.kpc, frame=Galactocentric())
    seen = centre.galactic
    superpixel = hp.ang2pix(NSIDE, seen.l.deg, seen.b.deg, nest=True, lonlat=True)
    expected = np.float32(fit["temperature"].sel(superpixel=superpixel)[1])
    query = DustTemperatureQuery(fit, sky)
    assert query(centre) == expected
    # Nor is a direction of NaN that of the centre, in whose superpixel there is a fit.
    lost = SkyCoord([np.nan, 0] * u.deg, [0, np.nan] * u.deg, frame="galactic")
    assert np.isnan(query(lost)).all()


def test_pixels_are_those_of_dustmaps(make_sky, make_fit):
    everywhere = np.arange(12 * NSIDE**2)
    sky = make_sky(everywhere, edges=(0, 1))
    fit = make_fit(sky)
    fit["temperature"][:, 0] = everywhere
    rng = np.random.default_rng(6)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    coords = SkyCoord(ra * u.deg, dec * u.deg, frame="icrs")
    theirs = coord2healpix(coords, "galactic", NSIDE, nest=True)
    np.testing.assert_array_equal(DustTemperatureQuery(fit, sky)(coords)[:, 0], theirs)
    ring = hp.nest2ring(NSIDE, theirs)
    np.testing.assert_array_equal(coord2healpix(coords, "galactic", NSIDE, nest=False), ring)


def test_without_distance_all_voxels(fit, sky):
    query = DustTemperatureQuery(fit, sky)
    lon, lat = hp.pix2ang(NSIDE, [40, 101, 7], nest=True, lonlat=True)
    found = query.query_gal(lon, lat)
    np.testing.assert_allclose(found[0], fit["temperature"].sel(superpixel=40), rtol=1e-7)
    np.testing.assert_allclose(found[2], fit["temperature"].sel(superpixel=7), rtol=1e-7)
    assert found.shape == (3, 3)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(query.distance_edge.to_value(u.pc), 1e3 * np.array(EDGES))
    assert query.superpixel_nside == NSIDE
    assert list(query.superpixel) == SUPERPIXELS


def test_padding_is_nan_and_flagged(cut_apart):
    query = DustTemperatureQuery(*cut_apart)
    lon, lat = hp.pix2ang(NSIDE, [5, 6, 40, 99], nest=True, lonlat=True)
    values, flags = query.query_gal(lon, lat, return_flags=True)
    voxels = np.arange(3)
    expected = voxels >= np.array([3, 2, 1, 3])[:, None]
    np.testing.assert_array_equal(flags["padding"], expected)
    expected[3] = True
    np.testing.assert_array_equal(np.isnan(values), expected)
    edges = query.distance_edge[2]
    assert edges.shape == (4,)
    d = [edges[1].value, edges[1].value + 5e-4, edges[2].value + 5e-4, edges[3].value + 5e-4]
    values, flags = query.query_gal(np.full(4, lon[2]), np.full(4, lat[2]), d, return_flags=True)
    assert list(np.isnan(values)) == [False, True, True, True]
    assert list(flags["padding"]) == [False, True, True, False]


def test_padding_has_no_reddening_and_tells_no_prior(cut_apart):
    fit, sky = cut_apart
    fit["temperature_sd"][:] = 8.9
    query = DustTemperatureQuery(fit, sky)
    lon, lat = hp.pix2ang(NSIDE, 40, nest=True, lonlat=True)
    values, _ = query.query_gal(lon, lat, quantity="reddening", return_flags=True)
    assert list(np.isnan(values)) == [False, True, True]
    _, flags = query.query_gal(lon, lat, return_flags=True)
    assert list(flags["prior_dominated"]) == [True, False, False]


def test_fit_of_some_superpixels_in_another_order(cut_apart):
    fit, sky = cut_apart
    whole, part = (
        DustTemperatureQuery(fit, sky),
        DustTemperatureQuery(fit.isel(superpixel=[6, 2, 0, 3]), sky),
    )
    lon, lat = hp.pix2ang(NSIDE, [150, 40, 5, 41], nest=True, lonlat=True)
    # One after the other: what was read for the first does not stand for the others.
    for one in range(4):
        for kwargs in ({}, {"quantity": "reddening"}, {"quantity": "emission", "frequency": 353}):
            expected = whole.query_gal(lon[one], lat[one], **kwargs)
            assert np.isfinite(expected[0])
            np.testing.assert_array_equal(part.query_gal(lon[one], lat[one], **kwargs), expected)
    away = hp.pix2ang(NSIDE, 6, nest=True, lonlat=True)
    assert np.isnan(part.query_gal(*away, quantity="reddening")).all()


def test_edges_at_coordinates(cut_apart):
    fit, sky = cut_apart
    query = DustTemperatureQuery(fit, sky)
    lon, lat = hp.pix2ang(NSIDE, [[5, 6, 40], [99, 7, 88]], nest=True, lonlat=True)
    edges = query.edges_at(SkyCoord(lon * u.deg, lat * u.deg, frame="galactic"))
    assert edges.shape == (2, 3, 4)
    own = sky["distance_edge"].values
    np.testing.assert_array_equal(edges[0, 0].to_value(u.kpc), own[0])
    np.testing.assert_array_equal(edges[0, 2].to_value(u.kpc), [*own[2, :2], np.nan, np.nan])
    assert np.isnan(edges[1, 0]).all()
    alike = fit.assign(distance_edge=("voxel_edge", list(EDGES)))
    query = DustTemperatureQuery(alike, sky.assign(distance_edge=alike["distance_edge"]))
    one = query.edges_at(SkyCoord(lon[0, 0] * u.deg, lat[0, 0] * u.deg, frame="galactic"))
    np.testing.assert_array_equal(one.to_value(u.kpc), EDGES)


def test_modes_agree_with_the_draws_one_by_one(fit, sky, make_posterior):
    posterior, coords = make_posterior(fit), points(60)
    directions = SkyCoord(coords.l, coords.b, frame="galactic")
    query = DustTemperatureQuery(fit, sky, posterior)
    draws = posterior["posterior"].to_dataset().stack(all=("chain", "draw"))
    draws = draws.reset_index("all").drop_vars(("chain", "draw"))
    for kwargs in (
        {"quantity": "temperature"},
        {"quantity": "rho"},
        {"quantity": "emission", "frequency": FREQUENCY},
        {"quantity": "emission", "frequency": FREQUENCY, "cumulative": True},
    ):
        # Of each draw as if it were a fit.
        each = []
        for one in range(draws.sizes["all"]):
            drawn = fit.assign(dict(draws.isel(all=one).data_vars))
            single = DustTemperatureQuery(drawn, sky)
            each.append((single(coords, **kwargs), single(directions, **kwargs)))
        for place, among in ((coords, 0), (directions, 1)):
            stacked = np.stack([one[among] for one in each], axis=-1)
            for mode, expected in {
                "samples": stacked,
                "mean": stacked.mean(-1),
                "median": np.median(stacked, -1),
                "std": stacked.std(-1),
            }.items():
                found = query(place, mode=mode, **kwargs)
                assert found.shape == expected.shape
                np.testing.assert_allclose(found, expected, rtol=1e-4)
            found = query(place, mode="percentile", pct=[16, 84], **kwargs)
            expected = np.stack([np.percentile(stacked, p, axis=-1) for p in (16, 84)], -1)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            found = query(place, mode="percentile", pct=84, **kwargs)
            np.testing.assert_allclose(found, expected[..., 1], rtol=1e-5)


def test_percentiles_may_be_written_as_words(fit, sky, make_posterior):
    query, coords = DustTemperatureQuery(fit, sky, make_posterior(fit)), points(20)
    for words, numbers in (("50", 50), (["16", "84"], [16, 84]), (np.int8(5), 5.0)):
        np.testing.assert_array_equal(
            query(coords, mode="percentile", pct=words),
            query(coords, mode="percentile", pct=numbers),
        )


def test_posterior_of_a_part_and_with_fixed_parameters(sky, make_fit, make_posterior):
    fit = make_fit(sky, beta="fixed", rho="fixed")
    posterior = make_posterior(fit).isel(superpixel=[6, 0])
    query = DustTemperatureQuery(fit, sky, posterior)
    lon, lat = hp.pix2ang(NSIDE, [5, 6, 150], nest=True, lonlat=True)
    found = query.query_gal(lon, lat, mode="mean")
    expected = posterior["posterior"]["temperature"].mean(("chain", "draw"))
    np.testing.assert_allclose(found[[2, 0]], expected, rtol=1e-6)
    assert np.isnan(found[1]).all()
    assert np.isfinite(query.query_gal(lon, lat)).all()
    assert query.query_gal(lon, lat, quantity="beta", mode="samples").shape == (3, 3, 10)
    np.testing.assert_array_equal(
        query.query_gal(lon[0], lat[0], 1, quantity="beta", mode="std"), 0
    )


def test_posterior_without_superpixels(sky, make_fit, make_posterior):
    fit = make_fit(sky, **dict.fromkeys(("temperature", "beta", "rho"), "over_sky"))
    posterior = make_posterior(fit)
    query = DustTemperatureQuery(fit, sky, posterior)
    lon, lat = hp.pix2ang(NSIDE, [5, 99], nest=True, lonlat=True)
    found = query.query_gal(lon, lat, [1, 1], mode="median")
    expected = np.median(posterior["posterior"]["temperature"])
    np.testing.assert_allclose(found, [expected, np.nan], rtol=1e-6)


def test_emission_is_that_of_the_reconstruction(fit, sky):
    query = DustTemperatureQuery(fit, sky)
    lon, lat = hp.pix2ang(NSIDE, SUPERPIXELS, nest=True, lonlat=True)
    valid = sky["valid"].transpose("superpixel", "pixel")
    mean = reconstruct(fit, sky).where(valid).mean("pixel") - fit["offset"]
    for band in sky["band"].values:
        nu = float(sky["frequency"].sel(band=band))
        found = query.query_gal(lon, lat, quantity="emission", frequency=nu).sum(axis=1)
        np.testing.assert_allclose(found, mean.sel(band=band), rtol=1e-6)
    end = np.full(len(lon), EDGES[-1])
    found = query.query_gal(lon, lat, end, quantity="emission", frequency=nu, cumulative=True)
    np.testing.assert_allclose(found, mean.sel(band=band), rtol=1e-6)


def test_frequency_may_be_a_wavelength(fit, sky):
    query, coords = DustTemperatureQuery(fit, sky), points(20)
    expected = query(coords, quantity="emission", frequency=2997.92458)
    for frequency in (100 * u.um, 2.99792458 * u.THz, np.float32(2997.92458)):
        found = query(coords, quantity="emission", frequency=frequency)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_superpixel_without_valid_pixels(fit, sky):
    sky["valid"][4] = False
    sky["reddening"][4] = np.nan
    query = DustTemperatureQuery(fit, sky)
    lon, lat = hp.pix2ang(NSIDE, 100, nest=True, lonlat=True)
    assert np.isnan(query.query_gal(lon, lat, quantity="reddening")).all()
    assert np.isfinite(query.query_gal(lon, lat)).all()


def test_valid_pixels_by_band(fit, sky):
    query, coords = DustTemperatureQuery(fit, sky), points(50)
    by_band = sky["valid"].expand_dims(band=sky["band"]).transpose("superpixel", "pixel", "band")
    by_band = by_band.copy()
    by_band[:, :, 1:] = False
    again = DustTemperatureQuery(fit, sky.assign(valid=by_band))
    np.testing.assert_array_equal(
        query(coords, quantity="reddening"), again(coords, quantity="reddening")
    )


def test_flags(fit, sky):
    fit["temperature_sd"][4, 1] = 8.9
    fit["beta_sd"][4] = 0.29
    fit["converged"][3] = False
    fit["flag"][3] = 3
    query = DustTemperatureQuery(fit, sky)
    lon, lat = hp.pix2ang(NSIDE, [100, 41, 99], nest=True, lonlat=True)
    d = np.array([0.5, 0.5, 0.5])
    _, flags = query.query_gal(lon, lat, d, return_flags=True)
    assert list(flags["in_footprint"]) == [True, True, False]
    assert list(flags["converged"]) == [True, False, False]
    assert list(flags["flag"]) == [0, 3, 0]
    assert list(flags["prior_dominated"]) == [True, False, False]
    assert not flags["padding"].any()
    assert query.flag_bits == {"not_converged": 1, "at_bound": 2}
    _, flags = query.query_gal(lon, lat, return_flags=True)
    np.testing.assert_array_equal(flags["prior_dominated"][0], [False, True, False])
    assert flags.shape == (3,)
    for quantity, expected in (("beta", 1), ("rho", 0), ("reddening", 0)):
        _, flags = query.query_gal(lon, lat, d, quantity=quantity, return_flags=True)
        assert flags["prior_dominated"][0] == expected
    emission = {"quantity": "emission", "frequency": 353}
    _, flags = query.query_gal(lon[0], lat[0], **emission, return_flags=True)
    assert flags["prior_dominated"].all()
    assert flags["converged"]


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3,), (2, 3), (2, 1, 2)])
def test_shape_of_the_coordinates_is_kept(fit, sky, make_posterior, shape):
    query = DustTemperatureQuery(fit, sky, make_posterior(fit))
    lon, lat, d = np.full(shape, 100.0), np.full(shape, 10.0), np.full(shape, 1.0)
    for kwargs, tail in (
        ({}, ()),
        ({"quantity": "reddening", "cumulative": True}, ()),
        ({"mode": "mean"}, ()),
        ({"mode": "samples"}, (10,)),
        ({"mode": "percentile", "pct": [16, 50, 84]}, (3,)),
        ({"mode": "percentile", "pct": 50}, ()),
    ):
        found, flags = query.query_gal(lon, lat, d, return_flags=True, **kwargs)
        assert np.shape(found) == (*shape, *tail)
        assert np.shape(flags) == shape
        found, flags = query.query_gal(lon, lat, return_flags=True, **kwargs)
        assert np.shape(found) == (*shape, 3, *tail)
        assert flags["padding"].shape == (*shape, 3)
        assert found.dtype == np.float32
    if shape == ():
        assert isinstance(query.query_gal(lon, lat, d), np.float32)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    frame=st.sampled_from(["icrs", "fk4", "fk5", "galactic", "supergalactic", "offset", "centre"]),
    angle=st.floats(0, 360),
)
def test_the_frame_changes_nothing(query_of_noise, seed, frame, angle):
    query, coords = query_of_noise, points(12, seed)
    frames = {
        "offset": SkyOffsetFrame(origin=coords[0].icrs, rotation=angle * u.deg),
        "centre": Galactocentric(),
    }
    turned = coords.transform_to(frames.get(frame, frame))
    np.testing.assert_array_equal(query(turned), query(coords))
    emission = {"quantity": "emission", "frequency": 353.0, "cumulative": True}
    np.testing.assert_allclose(query(turned, **emission), query(coords, **emission), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    frequency=st.floats(30, 5000),
    mode=st.sampled_from(["map", "mean"]),
)
def test_cumulative_is_the_sum(query_of_noise, seed, frequency, mode):
    query, coords = query_of_noise, points(20, seed)
    kwargs = {"quantity": "emission", "frequency": frequency, "mode": mode}
    directions = SkyCoord(coords.l, coords.b, frame="galactic")
    each = query(directions, **kwargs)
    total = query(directions, cumulative=True, **kwargs)
    np.testing.assert_allclose(total, np.cumsum(each, axis=1), rtol=1e-5)
    for voxel, edge in enumerate(EDGES[1:]):
        at_edge = SkyCoord(coords.l, coords.b, distance=edge * u.kpc, frame="galactic")
        found = query(at_edge, cumulative=True, **kwargs)
        np.testing.assert_allclose(found, total[:, voxel], rtol=1e-5)
    # It grows with distance, and nothing lies in front of the observer.
    near = SkyCoord(coords.l, coords.b, distance=coords.distance / 2, frame="galactic")
    here, closer = (query(place, cumulative=True, **kwargs) for place in (coords, near))
    assert (closer[np.isfinite(here)] <= here[np.isfinite(here)]).all()
    observer = SkyCoord(coords.l, coords.b, distance=0 * u.kpc, frame="galactic")
    nothing = query(observer, cumulative=True, **kwargs)
    assert set(nothing[np.isfinite(nothing)]) <= {0.0}


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    seed=st.integers(0, 2**32 - 1),
)
def test_shape_and_order_of_points(query_of_noise, shape, seed):
    coords = points(int(np.prod(shape)), seed) if shape else points(1, seed)
    flat = query_of_noise(coords)
    shaped = query_of_noise(coords.reshape(shape))
    np.testing.assert_array_equal(np.reshape(shaped, -1), flat)
    assert np.shape(shaped) == shape
    np.testing.assert_array_equal(query_of_noise(coords[::-1]), flat[::-1])


@pytest.fixture(scope="module")
def query_of_noise(make_sky, make_fit, make_posterior):
    sky = make_sky(SUPERPIXELS, edges=EDGES)
    fit = make_fit(sky)
    return DustTemperatureQuery(fit, sky, make_posterior(fit))


def test_equatorial_and_galactic_numbers(query_of_noise):
    coords = points(30)
    expected = query_of_noise(coords)
    lon, lat, d = coords.l, coords.b, coords.distance
    np.testing.assert_array_equal(query_of_noise.query_gal(lon.deg, lat.deg, d.kpc), expected)
    np.testing.assert_array_equal(
        query_of_noise.query_gal(lon.to(u.rad), lat, d.to(u.lyr)), expected
    )
    for frame in ("icrs", "fk5"):
        there = coords.transform_to(frame)
        found = query_of_noise.query_equ(
            there.ra.deg, there.dec.deg, there.distance.kpc, frame=frame
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"mode": "maps"}, ConfigurationError, "unknown mode 'maps'.*did you mean 'map'"),
        ({"quantity": "temprature"}, ConfigurationError, "did you mean 'temperature'"),
        ({"quantity": "offset"}, ConfigurationError, "unknown quantity 'offset'"),
        ({"quantity": "emission"}, ConfigurationError, "needs a frequency"),
        ({"frequency": 353}, ConfigurationError, "temperature has none"),
        ({"quantity": "emission", "frequency": -1}, ConfigurationError, "must be positive"),
        ({"quantity": "emission", "frequency": np.nan}, ConfigurationError, "must be positive"),
        ({"quantity": "emission", "frequency": 3 * u.K}, ConfigurationError, "wavelength"),
        ({"quantity": "emission", "frequency": "x"}, ConfigurationError, "the frequency is 'x'"),
        ({"quantity": "emission", "frequency": [1, 2]}, ConfigurationError, "with one value"),
        ({"mode": "percentile"}, ConfigurationError, "needs pct"),
        ({"pct": 50}, ConfigurationError, "pct is of the mode 'percentile', not of 'map'"),
        ({"mode": "percentile", "pct": 101}, ConfigurationError, "from 0 to 100"),
        ({"mode": "percentile", "pct": [[1]]}, ConfigurationError, "from 0 to 100"),
        ({"mode": "percentile", "pct": "x"}, ConfigurationError, "from 0 to 100"),
        ({"quantity": ["temperature"]}, ConfigurationError, "did you mean 'temperature'"),
        ({"quantity": np.array(["rho", "beta"])}, ConfigurationError, "unknown quantity"),
        ({"mode": ["map"]}, ConfigurationError, "did you mean 'map'"),
        ({"quantity": "reddening", "mode": "mean"}, ConfigurationError, "given, not inferred"),
        ({"cumulative": True}, ConfigurationError, "does not add up"),
        ({"mode": "median"}, ResultError, "needs a posterior.*pymcdust sample"),
    ],
)
def test_impossible_requests(fit, sky, kwargs, error, message):
    with pytest.raises(error, match=message):
        DustTemperatureQuery(fit, sky)(points(3), **kwargs)


def test_coordinates_of_another_kind(fit, sky):
    with pytest.raises(ConfigurationError, match=r"tuple; allowed is an astropy.*query_gal"):
        DustTemperatureQuery(fit, sky)((100, 10))


def test_what_does_not_belong_together(fit, sky, make_fit, make_posterior):
    posterior = make_posterior(fit)
    with pytest.raises(ResultError, match="the fit lacks temperature"):
        DustTemperatureQuery(fit.drop_vars("temperature"), sky)
    with pytest.raises(ResultError, match="the fit lacks converged"):
        DustTemperatureQuery(fit.drop_vars("converged"), sky)(points(3), return_flags=True)
    with pytest.raises(ResultError, match="the fit lacks temperature_sd"):
        DustTemperatureQuery(fit.drop_vars("temperature_sd"), sky)(points(3), return_flags=True)
    with pytest.raises(ResultError, match="not in the sky"):
        DustTemperatureQuery(fit, sky.isel(superpixel=[0]))
    with pytest.raises(ResultError, match="the fit is of type DataTree"):
        DustTemperatureQuery(posterior, sky)
    with pytest.raises(ResultError, match="posterior is of type Dataset"):
        DustTemperatureQuery(fit, sky, fit)
    other = make_fit(sky, beta="fixed")
    with pytest.raises(ResultError, match="has no draws of beta, which is free in the fit"):
        DustTemperatureQuery(fit, sky, make_posterior(other))
    with pytest.raises(ResultError, match="has draws of beta, which is fixed in the fit"):
        DustTemperatureQuery(other, sky, posterior)
    with pytest.raises(ResultError, match="beta of the posterior has the dimensions"):
        DustTemperatureQuery(fit, sky, make_posterior(make_fit(sky, beta="per_voxel")))
    elsewhere = posterior.copy()
    elsewhere.attrs["superpixel_nside"] = 8
    with pytest.raises(ResultError, match="Nside 8, the fit of 4"):
        DustTemperatureQuery(fit, sky, elsewhere)
    elsewhere = posterior.copy()
    elsewhere["constant_data"]["distance_edge"] = fit["distance_edge"] * 2
    with pytest.raises(ResultError, match="different distance edges"):
        DustTemperatureQuery(fit, sky, elsewhere)
    elsewhere = make_posterior(fit.assign_coords(superpixel=np.arange(len(SUPERPIXELS)) + 170))
    with pytest.raises(ResultError, match="none of the fit's superpixels"):
        DustTemperatureQuery(fit, sky, elsewhere)
    with pytest.raises(ResultError, match="has no group constant_data"):
        DustTemperatureQuery(fit, sky, posterior.filter(lambda node: node.name != "constant_data"))


def test_paths_are_opened(fit, sky, make_posterior, tmp_path):
    sky = sky.assign_coords(pixel=np.arange(sky.sizes["pixel"]), voxel=np.arange(3))
    sky = sky.assign_attrs(reddening_unit="bayestar2019")
    posterior = make_posterior(fit)
    paths = [tmp_path / f"{name}.zarr" for name in ("fit", "sky", "posterior")]
    save_sky(sky, paths[1])
    write_store(fit, paths[0], superpixels_per_chunk=3)
    write_store(posterior, str(paths[2]), superpixels_per_chunk=3)
    stored = DustTemperatureQuery(paths[0], str(paths[1]), paths[2])
    held, coords = DustTemperatureQuery(fit, sky, posterior), points(50)
    for kwargs in ({}, {"quantity": "emission", "frequency": 353, "cumulative": True}):
        for mode in ("map", "mean"):
            found = stored(coords, mode=mode, **kwargs)
            np.testing.assert_array_equal(found, held(coords, mode=mode, **kwargs))
            assert np.isnan(stored.query_gal(280, 80, 0.3, mode=mode, **kwargs))
    with pytest.raises(FileFormatError, match="no such file"):
        DustTemperatureQuery(tmp_path / "nothing.zarr", sky)
