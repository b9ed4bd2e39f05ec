"""A few pseudo-pixels say what the pixels say: against scipy on the pixels, whatever is masked."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pymcdust.physics.bands import PAPER_SIGMA
from pymcdust.sky import compression, validation
from pymcdust.sky.compression import as_rows, chi_square, compress, is_compressed
from pymcdust.sky.dataset import build_sky, open_sky, save_sky

SIGMA = np.array(list(PAPER_SIGMA.values()))
N_SUPERPIXEL, N_PIXEL, N_VOXEL, N_BAND = 3, 64, 3, 5


def make_sky(seed=0, n_pixel=N_PIXEL, n_voxel=N_VOXEL, dtype=float, sigma=None, valid=None):
    rng = np.random.default_rng(seed)
    reddening = rng.lognormal(-1, 1, size=(N_SUPERPIXEL, n_pixel, n_voxel))
    emission = rng.normal(5, 30, size=(N_SUPERPIXEL, n_pixel, N_BAND))
    return build_sky(
        reddening.astype(dtype),
        emission.astype(dtype),
        (SIGMA if sigma is None else sigma).astype(dtype),
        np.arange(n_voxel + 1.0),
        [3, 70, 191],
        nside=int(np.sqrt(n_pixel)) * 4,
        superpixel_nside=4,
        valid=rng.random((N_SUPERPIXEL, n_pixel)) > 0.2 if valid is None else valid,
        reddening_unit="bayestar2019",
    )


def sky_of_kind(kind, **options):
    rng = np.random.default_rng(11)
    shape = (N_SUPERPIXEL, options.get("n_pixel", N_PIXEL), N_BAND)
    if "bands masked" in kind:
        options["valid"] = rng.random(shape) > 0.3
    if "sigma of pixels" in kind:
        options["sigma"] = SIGMA * rng.uniform(0.5, 2.0, size=shape)
    return make_sky(**options)


KINDS = ["pixels masked", "bands masked", "sigma of pixels", "sigma of pixels, bands masked"]


def draw_spectrum(seed=1, n_voxel=N_VOXEL):
    """Any emissivity of each voxel and offset: the likelihood is of this linear form."""
    rng = np.random.default_rng(seed)
    glow = rng.normal(3, 10, size=(N_SUPERPIXEL, n_voxel, N_BAND))
    return glow, rng.normal(size=(N_SUPERPIXEL, N_BAND))


def by_scipy(sky, glow, offset):
    """Log likelihood and chi-square of each superpixel, from its valid pixels, in double."""
    reddening, emission = (sky[n].values.astype(float) for n in ("reddening", "emission"))
    valid = np.broadcast_to(sky.valid.values.reshape(*sky.valid.shape[:2], -1), emission.shape)
    sigma = np.broadcast_to(sky.sigma.values.astype(float), emission.shape)
    found = []
    for s in range(N_SUPERPIXEL):
        used = valid[s]
        mu = np.where(used.any(axis=1)[:, None], reddening[s], 0.0) @ glow[s] + offset[s]
        each = stats.norm.logpdf(emission[s][used], mu[used], sigma[s][used])
        misfit = (emission[s][used] - mu[used]) / sigma[s][used]
        found.append((each.sum(), (misfit**2).sum()))
    return np.array(found).T


def of_rows(rows, glow, offset):
    """Log likelihood and chi-square of each superpixel, from rows and their constants."""
    spectrum = xr.Variable(("superpixel", "voxel", "band"), glow)
    mu = xr.dot(rows.reddening.variable, spectrum, dim="voxel")
    mu = mu + rows.intercept.variable * xr.Variable(("superpixel", "band"), offset)
    misfit = ((mu - rows.emission.variable) / rows.sigma.variable) ** 2
    chi2 = misfit.sum(("pixel", "band")) + rows.chi2_floor.variable.sum("band")
    return (rows.log_norm.variable - 0.5 * chi2).values, chi2.values


def assert_exact(sky, glow, offset, rtol=1e-10):
    log_likelihood, chi2 = by_scipy(sky, glow, offset)
    for rows in (as_rows(sky), compress(sky)):
        found = of_rows(rows, glow, offset)
        np.testing.assert_allclose(found[0], log_likelihood, rtol=rtol)
        np.testing.assert_allclose(found[1], chi2, rtol=rtol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [float, np.float32])
def test_the_likelihood_is_that_of_the_pixels(kind, dtype):
    assert_exact(sky_of_kind(kind, dtype=dtype), *draw_spectrum())


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_model_leaves_no_misfit(kind):
    sky = sky_of_kind(kind)
    glow, offset = draw_spectrum()
    sky["emission"] = sky.emission.copy(data=sky.reddening.values @ glow + offset[:, None])
    _, chi2 = of_rows(compress(sky), glow, offset)
    assert np.all(np.abs(chi2) < 1e-20 * (sky.emission.values / SIGMA.min()).size * 1e4)
    assert np.all(compress(sky).chi2_floor < 1e-20)


@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_is_the_misfit_of_the_best_linear_model(kind):
    sky = sky_of_kind(kind)
    rows = compress(sky)
    valid = np.broadcast_to(sky.valid.values.reshape(*sky.valid.shape[:2], -1), sky.emission.shape)
    sigma = np.broadcast_to(sky.sigma.values, sky.emission.shape)
    for s, b in np.ndindex(N_SUPERPIXEL, N_BAND):
        used = valid[s, :, b]
        weight = 1 / sigma[s, used, b]
        left = np.column_stack([sky.reddening.values[s, used], np.ones(used.sum())])
        right = sky.emission.values[s, used, b] * weight
        best = np.linalg.lstsq(left * weight[:, None], right)[1]
        np.testing.assert_allclose(rows.chi2_floor.values[s, b], best[0], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_keep_the_frame_of_the_sky(kind):
    sky = sky_of_kind(kind)
    raw, rows = as_rows(sky), compress(sky)
    by_band = ("superpixel",) if kind == "pixels masked" else ("superpixel", "band")
    for each in (raw, rows):
        assert each.reddening.dims == (*by_band, "pixel", "voxel")
        assert each.intercept.dims == (*by_band, "pixel")
        assert each.emission.dims == ("superpixel", "pixel", "band")
        assert each.sigma.dims == ("band",)
        assert each.attrs == sky.attrs
        for name in ("superpixel", "voxel", "band", "frequency", "distance_edge"):
            np.testing.assert_array_equal(each[name], sky[name])
        counted = sky.valid.broadcast_like(sky.emission).sum(("pixel", "band"))
        np.testing.assert_array_equal(each.n_data, counted)
    assert raw.sizes["pixel"] == N_PIXEL
    assert rows.sizes["pixel"] == N_VOXEL + 1
    assert np.all(raw.chi2_floor == 0)


def test_rows_are_not_compressed_twice():
    sky = make_sky()
    assert not is_compressed(sky)
    for rows in (as_rows(sky), compress(sky)):
        assert is_compressed(rows)
        assert compress(rows) is rows
        assert as_rows(rows) is rows


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_masked_may_hold_anything(kind):
    sky = sky_of_kind(kind)
    spoilt = sky.copy(deep=True)
    masked = ~np.broadcast_to(
        sky.valid.values.reshape(*sky.valid.shape[:2], -1), sky.emission.shape
    )
    spoilt["emission"].values[masked] = np.nan
    spoilt["reddening"].values[masked.all(axis=2)] = np.inf
    if spoilt.sigma.ndim > 1:
        spoilt["sigma"].values[masked] = 0.0
    for rows in (as_rows, compress):
        clean, other = rows(sky), rows(spoilt)
        for name in clean.data_vars:
            np.testing.assert_array_equal(clean[name], other[name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_pixel", [1, 4])
def test_fewer_pixels_than_rows_lose_nothing(kind, n_pixel):
    valid = np.ones((N_SUPERPIXEL, n_pixel, N_BAND), bool)
    sky = sky_of_kind(kind, n_pixel=n_pixel, n_voxel=6, valid=valid[..., 0])
    rows = compress(sky)
    assert rows.sizes["pixel"] == 7
    assert_exact(sky, *draw_spectrum(n_voxel=6))


@pytest.mark.parametrize("kind", KINDS)
def test_voxels_without_dust_and_collinear_voxels(kind):
    sky = sky_of_kind(kind)
    sky["reddening"].values[0, :, 1] = 0.0
    sky["reddening"].values[1, :, 2] = 0.5 * sky.reddening.values[1, :, 0]
    sky["reddening"].values[2] = 0.0
    rows = compress(sky)
    assert_exact(sky, *draw_spectrum())
    bare = (np.abs(rows.reddening) == 0).all(
        [d for d in rows.reddening.dims if d not in ("superpixel", "voxel")]
    )
    expected = np.zeros((3, 3), bool)
    expected[0, 1] = expected[2] = True
    np.testing.assert_array_equal(bare.transpose("superpixel", "voxel"), expected)


def test_a_superpixel_of_which_one_pixel_is_left():
    valid = np.zeros((N_SUPERPIXEL, N_PIXEL), bool)
    valid[:, 17] = True
    assert_exact(make_sky(valid=valid), *draw_spectrum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_pixel", "block"), [(64, 8), (256, 16), (64, 64), (256, 100)])
def test_blocks_of_rows_change_nothing(kind, n_pixel, block, monkeypatch):
    sky = sky_of_kind(kind, n_pixel=n_pixel)
    monkeypatch.setattr(compression, "BLOCK_ROWS", n_pixel)
    whole = compress(sky)
    monkeypatch.setattr(compression, "BLOCK_ROWS", block)
    parts = compress(sky)
    # A triangle is unique up to the signs of its rows: compare what they say.
    glow, offset = draw_spectrum()
    for one, other in zip(of_rows(whole, glow, offset), of_rows(parts, glow, offset), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    np.testing.assert_allclose(whole.chi2_floor, parts.chi2_floor, rtol=1e-9)


@pytest.mark.parametrize("kind", ["pixels masked", "bands masked"])
def test_blocks_of_superpixels_change_nothing(kind, monkeypatch):
    sky = sky_of_kind(kind)
    whole = compress(sky)
    monkeypatch.setattr(validation, "BLOCK_BYTES", 1)
    monkeypatch.setattr(compression, "BLOCK_BYTES", 1, raising=False)
    assert len(list(validation.superpixel_blocks(sky))) == N_SUPERPIXEL
    xr.testing.assert_identical(whole, compress(sky))


def test_a_sky_on_disk_compresses_as_one_in_memory(tmp_path):
    sky = make_sky()
    save_sky(sky, tmp_path / "sky.zarr")
    stored = compress(open_sky(tmp_path / "sky.zarr"))
    xr.testing.assert_equal(stored, compress(sky))


def test_the_sky_itself_is_left_alone():
    sky = make_sky()
    before = sky.copy(deep=True)
    as_rows(sky)
    compress(sky)
    xr.testing.assert_identical(sky, before)


def test_edges_of_each_superpixel_stay_with_it():
    sky = make_sky()
    edges = np.arange(4.0) * np.array([1.0, 2.0, 3.0])[:, None]
    sky["distance_edge"] = (("superpixel", "voxel_edge"), edges)
    np.testing.assert_array_equal(compress(sky).distance_edge, edges)


@pytest.mark.parametrize("kind", KINDS)
def test_chi_square_of_rows_is_that_of_the_pixels(kind):
    sky = sky_of_kind(kind)
    rng = np.random.default_rng(4)
    values = {
        "temperature": xr.Variable(("superpixel", "voxel"), rng.uniform(10, 30, (3, 3))),
        "beta": xr.Variable(("superpixel",), rng.uniform(1, 2, 3)),
        "rho": xr.Variable((), 1e-4),
        "offset": xr.Variable(("band",), rng.normal(size=5)),
    }
    given = dict(values)
    x = 0.04799243073366221 * sky.frequency.values / values["temperature"].values[..., None]
    planck = 1.4744994647625417e-3 * sky.frequency.values**3 / np.expm1(x)
    power = (sky.frequency.values / 353) ** values["beta"].values[:, None]
    glow = 1e-4 * power[:, None] * planck
    _, expected = by_scipy(sky, glow, np.broadcast_to(values["offset"], (3, 5)))
    for rows in (as_rows(sky), compress(sky)):
        np.testing.assert_allclose(chi_square(rows, values), expected, rtol=1e-9)
    assert values == given


# Invariances


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS))
def test_the_order_of_pixels_does_not_matter(seed, kind):
    sky = sky_of_kind(kind, n_pixel=16)
    order = np.random.default_rng(seed).permutation(16)
    glow, offset = draw_spectrum(seed)
    one = of_rows(compress(sky), glow, offset)
    mixed = of_rows(compress(sky.isel(pixel=order).assign_coords(pixel=sky.pixel)), glow, offset)
    np.testing.assert_allclose(one, mixed, rtol=1e-10)


@settings(max_examples=20, deadline=None)
@given(log_scale=st.floats(-8, 8), kind=st.sampled_from(KINDS))
def test_the_unit_of_emission_does_not_matter(log_scale, kind):
    scale = 10.0**log_scale
    sky = sky_of_kind(kind, n_pixel=16)
    scaled = sky.assign(emission=sky.emission * scale, sigma=sky.sigma * scale)
    glow, offset = draw_spectrum()
    log_likelihood, chi2 = of_rows(compress(sky), glow, offset)
    found = of_rows(compress(scaled), glow * scale, offset * scale)
    np.testing.assert_allclose(found[1], chi2, rtol=1e-9)
    shift = compress(sky).n_data.values * np.log(scale)
    np.testing.assert_allclose(found[0] + shift, log_likelihood, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_superpixels_cut_in_two_add_up(seed):
    sky = make_sky(seed=seed % 1000, n_pixel=16)
    first = np.random.default_rng(seed).random((N_SUPERPIXEL, 16)) < 0.5
    glow, offset = draw_spectrum(seed)
    parts = [sky.assign(valid=sky.valid & part) for part in (first, ~first)]
    total = sum(np.array(of_rows(compress(part), glow, offset)) for part in parts)
    np.testing.assert_allclose(total, of_rows(compress(sky), glow, offset), rtol=1e-10)
