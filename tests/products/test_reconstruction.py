import astropy.units as u
import numpy as np
import pytest
import xarray as xr
from astropy.modeling.physical_models import BlackBody

from pymcdust.errors import ResultError
from pymcdust.products import reconstruction
from pymcdust.products.reconstruction import match, reconstruct, residual, variance_explained

PARAMETERS = ("temperature", "beta", "rho", "offset")

TYINGS = {
    "paper": {},
    "single temperature": {"temperature": "per_superpixel"},
    "all per voxel": {
        "temperature": "per_voxel",
        "beta": "per_voxel",
        "rho": "per_voxel",
        "offset": "per_superpixel",
    },
    "all over the sky": dict.fromkeys(PARAMETERS, "over_sky"),
    "all fixed": dict.fromkeys(PARAMETERS, "fixed"),
    "mixed": {
        "temperature": "fixed",
        "beta": "over_sky",
        "rho": "per_voxel",
        "offset": "over_sky",
    },
}


def brute_force(fit, sky):
    """Eq. 4 in plain loops, with astropy's black body."""
    emission = np.zeros(sky["emission"].shape)

    def value(name, **where):
        variable = fit[name]
        return float(variable.isel({dim: at for dim, at in where.items() if dim in variable.dims}))

    for superpixel in range(sky.sizes["superpixel"]):
        for band, frequency in enumerate(sky["frequency"].values):
            emission[superpixel, :, band] = value("offset", superpixel=superpixel, band=band)
            for voxel in range(sky.sizes["voxel"]):
                at = {"superpixel": superpixel, "voxel": voxel}
                black = BlackBody(value("temperature", **at) * u.K)(frequency * u.GHz)
                per_magnitude = (
                    value("rho", **at)
                    * (frequency / 353) ** value("beta", **at)
                    * black.to_value(u.MJy / u.sr)
                )
                emission[superpixel, :, band] += (
                    sky["reddening"].values[superpixel, :, voxel] * per_magnitude
                )
    return emission


@pytest.mark.parametrize("tying", TYINGS.values(), ids=TYINGS)
def test_every_tying_agrees_with_the_sum_in_plain_loops(make_sky, make_fit, tying):
    sky = make_sky([3, 90], edges=(0, 0.3, 1, 4), nside=8)
    fit = make_fit(sky, **tying)
    emission = reconstruct(fit, sky)
    assert emission.dims == ("superpixel", "pixel", "band")
    assert emission.attrs["unit"] == "MJy/sr"
    np.testing.assert_allclose(emission, brute_force(fit, sky), rtol=1e-10)


def test_two_voxels_and_two_superpixels_are_not_confused(make_sky, make_fit):
    # As many voxels, superpixels and pixels as can be the same: names decide, not sizes.
    sky = make_sky([3, 90, 7, 8], edges=(0, 1, 2, 3, 4), nside=8)
    fit = make_fit(sky, offset="per_superpixel")
    fit["temperature"] = fit["temperature"].transpose()
    np.testing.assert_allclose(reconstruct(fit, sky), brute_force(fit, sky), rtol=1e-10)


def test_blocks_do_not_change_the_result(fit, sky, monkeypatch):
    whole = reconstruct(fit, sky)
    explained = variance_explained(fit, sky)
    monkeypatch.setattr(reconstruction, "BLOCK_SIZE", 70)
    assert len(list(reconstruction.reconstruction_blocks(fit, sky))) > 2
    np.testing.assert_allclose(reconstruct(fit, sky), whole, rtol=1e-14)
    np.testing.assert_allclose(variance_explained(fit, sky), explained, rtol=1e-12)


def test_fit_of_some_superpixels_in_another_order(fit, sky):
    whole = reconstruct(fit, sky)
    part = reconstruct(fit.isel(superpixel=[4, 1]), sky)
    assert list(part["superpixel"].values) == [100, 6]
    xr.testing.assert_allclose(part, whole.isel(superpixel=[4, 1]))


def test_sky_on_disk_is_read_lazily(fit, sky, tmp_path):
    sky.drop_attrs().assign_attrs(sky.attrs).to_zarr(tmp_path / "sky.zarr", consolidated=False)
    stored = xr.open_zarr(tmp_path / "sky.zarr", consolidated=False, chunks=None)
    xr.testing.assert_allclose(reconstruct(fit, stored), reconstruct(fit, sky))


def test_residual_is_what_was_added(fit, sky):
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(sky["emission"].shape)
    sky["emission"][:] = reconstruct(fit, sky).values + noise
    sky["valid"][2, 7] = False
    sky["emission"][2, 7] = np.nan
    left = residual(fit, sky)
    assert np.isnan(left.values[2, 7]).all()
    noise[2, 7] = np.nan
    np.testing.assert_allclose(left, noise, atol=1e-9)


@pytest.mark.parametrize("per_band", [False, True])
def test_variance_explained_over_valid_pixels(fit, sky, per_band):
    rng = np.random.default_rng(5)
    predicted = reconstruct(fit, sky)
    sky["emission"][:] = predicted.values + 0.1 + 0.2 * rng.standard_normal(predicted.shape)
    valid = rng.random(predicted.shape if per_band else predicted.shape[:2]) < 0.8
    sky["valid"] = (("superpixel", "pixel", "band")[: valid.ndim], valid)
    sky["emission"].values[~valid] = 1e30
    explained = variance_explained(fit, sky)
    assert explained.dims == ("superpixel", "band")
    for superpixel in range(sky.sizes["superpixel"]):
        for band in range(5):
            use = valid[superpixel, :, band] if per_band else valid[superpixel]
            data = sky["emission"].values[superpixel, use, band]
            left = data - predicted.values[superpixel, use, band]
            expected = 1 - (left**2).mean() / data.var(ddof=1)
            assert explained.values[superpixel, band] == pytest.approx(expected, rel=1e-9)


def test_variance_explained_is_one_for_a_perfect_fit_and_nan_without_variance(fit, sky):
    sky["emission"][:] = reconstruct(fit, sky).values
    sky["emission"][0] = 3.0
    sky["valid"][1] = False
    explained = variance_explained(fit, sky).values
    assert np.isnan(explained[:2]).all()
    np.testing.assert_allclose(explained[2:], 1)


def test_fit_outside_of_the_sky(fit, sky):
    with pytest.raises(
        ResultError, match="2 of the fit's 6 superpixels are not in the sky: 41 and"
    ):
        reconstruct(fit, sky.isel(superpixel=[0, 1, 2, 5]))


@pytest.mark.parametrize("name", ["temperature", "rho", "offset", "distance_edge"])
def test_fit_that_lacks_a_variable(fit, sky, name):
    with pytest.raises(ResultError, match=f"the fit lacks {name}"):
        reconstruct(fit.drop_vars(name), sky)


@pytest.mark.parametrize(
    ("name", "value"), [("nside", 32), ("superpixel_nside", 8), ("frame", "icrs")]
)
def test_another_grid(fit, sky, name, value):
    with pytest.raises(ResultError, match=f"the fit has {name}.*the sky {value!r}"):
        reconstruct(fit, sky.assign_attrs({name: value}))


def test_fit_that_lacks_an_attribute(fit, sky):
    for dataset in (fit, sky):
        del dataset.attrs["nside"]
    with pytest.raises(ResultError, match="lacks the attribute nside"):
        reconstruct(fit, sky)


def test_other_voxels(fit, sky):
    with pytest.raises(ResultError, match="2 voxels, the sky 1"):
        reconstruct(fit, sky.isel(voxel=[0]))
    sky["distance_edge"][1] = 0.6
    with pytest.raises(ResultError, match="different distance edges"):
        reconstruct(fit, sky)


def test_other_bands(fit, sky):
    with pytest.raises(ResultError, match=r"has the bands 217, .* the sky 353"):
        reconstruct(fit, sky.isel(band=[1, 2]))


def test_unknown_dimension(fit, sky):
    fit["rho"] = fit["rho"].expand_dims(chain=2)
    with pytest.raises(ResultError, match="rho of the fit has the dimensions chain and superpixel"):
        reconstruct(fit, sky)


@pytest.mark.parametrize("name", ["seed", "files"])
def test_sky_of_another_origin_on_the_same_superpixels(fit, sky, name):
    """Where fit and sky both tell it."""
    told = fit.assign_attrs({name: "one"})
    sky.attrs.pop(name, None)
    match(told, sky)
    match(told, sky.assign_attrs({name: "one"}))
    with pytest.raises(ResultError, match=f"another sky, .* not the same {name}"):
        match(told, sky.assign_attrs({name: "two"}))
