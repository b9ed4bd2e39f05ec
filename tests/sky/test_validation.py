import re
import tracemalloc

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymcdust.errors import SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.dataset import build_sky
from pymcdust.sky.validation import is_nside, validate_sky


@pytest.fixture
def sky():
    rng = np.random.default_rng(3)
    return build_sky(
        rng.random((4, 16, 3)),
        rng.random((4, 16, 5)),
        [0.5, 3.0, 9.0, 25.0, 30.0],
        [0.0, 0.2, 0.5, 1.0],
        np.array([2, 5, 8, 11]),
        nside=16,
        superpixel_nside=4,
        reddening_unit="bayestar2019",
    )


def refused(sky, *words):
    with pytest.raises(SkyError) as caught:
        validate_sky(sky)
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("name", ["reddening", "emission", "sigma", "valid", "distance_edge"])
def test_missing_variable(sky, name):
    refused(sky.drop_vars(name), f"variable '{name}' is missing")


@pytest.mark.parametrize("name", ["superpixel", "pixel", "voxel", "band", "frequency"])
def test_missing_coordinate(sky, name):
    refused(sky.drop_vars(name), f"coordinate '{name}' is missing")


@pytest.mark.parametrize("name", ["nside", "superpixel_nside", "ordering", "frame"])
def test_missing_attribute(sky, name):
    del sky.attrs[name]
    refused(sky, f"attribute '{name}' is missing")


def test_missing_reddening_unit(sky):
    del sky.attrs["reddening_unit"]
    refused(sky, "attribute 'reddening_unit' is missing")


def test_dimensions_in_another_order(sky):
    sky["emission"] = sky["emission"].transpose("pixel", "superpixel", "band")
    refused(sky, "emission has the dimensions", "transpose")


def test_wrong_dimensions(sky):
    refused(sky.assign(sigma=sky["sigma"].expand_dims(pixel=16)), "sigma has the dimensions")


def test_float16_is_too_coarse(sky):
    sky["reddening"] = sky["reddening"].astype(np.float16)
    refused(sky, "reddening is of type float16", "float32 and float64")


def test_empty_sky(sky):
    refused(sky.isel(superpixel=[]), "empty", "superpixel")


@pytest.mark.parametrize("ordering", ["ring", "NESTED", ""])
def test_wrong_ordering(sky, ordering):
    refused(sky.assign_attrs(ordering=ordering), f"ordering is '{ordering}'", "r2n=True")


def test_wrong_frame(sky):
    refused(sky.assign_attrs(frame="icrs"), "frame is 'icrs'", "galactic")


def test_unknown_reddening_unit_gets_a_suggestion(sky):
    refused(
        sky.assign_attrs(reddening_unit="bayestar2018"),
        "unknown reddening unit 'bayestar2018'",
        "did you mean 'bayestar2019'",
    )


def test_two_reddening_units(sky):
    refused(sky.assign_attrs(reddening_unit="sfd"), "'bayestar2019', but the sky says 'sfd'")


@pytest.mark.parametrize("nside", [0, -4, 12, 16.0, "16", None, True])
def test_impossible_nside(sky, nside):
    refused(sky.assign_attrs(nside=nside), "nside is", "power of two")


def test_nsides_interchanged(sky):
    refused(sky.assign_attrs(nside=4, superpixel_nside=16), "interchanged")


def test_number_of_pixels(sky):
    refused(sky.assign_attrs(nside=32), "16 pixels in each superpixel", "= 64")


@settings(deadline=None)
@given(st.integers(-10, 2**31))
def test_is_nside_agrees_with_healpy(value):
    assert is_nside(value) == (value > 0 and bool(healpy.isnsideok(value, nest=True)))


@pytest.mark.parametrize("bad", [-1, 192])
def test_superpixel_out_of_range(sky, bad):
    refused(
        sky.assign_coords(superpixel=[2, 5, bad, 11]), f"superpixel {bad} is out of range", "191"
    )


def test_superpixel_repeated(sky):
    refused(sky.assign_coords(superpixel=[2, 5, 5, 11]), "superpixel 5 is there more than once")


def test_superpixel_not_integer(sky):
    refused(sky.assign_coords(superpixel=[2.0, 5.0, 6.0, 11.0]), "superpixel is of type float64")


@pytest.mark.parametrize("name", ["pixel", "voxel"])
def test_reversed_pixels_or_voxels(sky, name):
    refused(
        sky.isel({name: slice(None, None, -1)}).assign(distance_edge=sky["distance_edge"]),
        f"coordinate {name} must count",
    )


def test_band_missing(sky):
    refused(sky.sel(band=["217", "353", "857", "2998"]), "bands are missing: 545")


def test_band_unknown(sky):
    bands = ["217", "353", "545", "857", "3000"]
    refused(sky.assign_coords(band=bands), "unknown band '3000'", "allowed are 217")


def test_bands_in_another_order(sky):
    refused(sky.isel(band=[1, 0, 2, 3, 4]), "in order, 217, 353")


def test_frequency_in_hz(sky):
    hertz = sky.assign_coords(frequency=sky["frequency"] * 1e9)
    refused(hertz, "frequency of band 217 is 2.17e\\+11 GHz", "in Hz")


@pytest.mark.parametrize("frequency", [0.0, np.nan, 353.0])
def test_frequency_of_another_band(sky, frequency):
    frequencies = sky["frequency"].copy(data=[frequency, 353.0, 545.0, 857.0, 2998.0])
    refused(sky.assign_coords(frequency=frequencies), "should be near 217 GHz")


def test_100_micron_may_be_3000_ghz(sky):
    validate_sky(
        sky.assign_coords(frequency=("band", np.array([217.0, 353.0, 545.0, 857.0, 3000.0])))
    )


@pytest.mark.parametrize(
    ("edges", "word"),
    [
        ([0.0, 0.5, 0.2, 1.0], "must increase"),
        ([0.0, 0.2, 0.2, 1.0], "must increase"),
        ([0.1, 0.2, 0.5, 1.0], "must start at 0"),
        ([0.0, 0.2, np.nan, 1.0], "not finite"),
        ([0.0, 0.2, 0.5, np.inf], "not finite"),
        ([0.0, 0.5, 1.0], "3 distance edges for 3 voxels"),
    ],
)
def test_distance_edges(sky, edges, word):
    refused(sky.drop_vars("distance_edge").assign(distance_edge=("voxel_edge", edges)), word)


def test_distance_edges_of_one_superpixel(sky):
    edges = np.tile([0.0, 0.2, 0.5, 1.0], (4, 1))
    edges[2, 1] = 0.7
    bad = sky.assign(distance_edge=(("superpixel", "voxel_edge"), edges))
    refused(bad, "in superpixel 8 must increase")


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, np.inf])
def test_sigma_of_a_band(sky, sigma):
    sky["sigma"][2] = sigma
    refused(sky, "sigma of band 545 is", "positive")


@pytest.mark.parametrize(("sigma", "word"), [(0.0, "1 zero or negative"), (np.nan, "1 NaN")])
def test_sigma_of_a_pixel(sky, sigma, word):
    sigmas = np.ones((4, 16, 5))
    sigmas[1, 3, 0] = sigma
    sky = sky.assign(sigma=(("superpixel", "pixel", "band"), sigmas))
    refused(sky, word, "first in superpixel 5")
    sky["valid"][1, 3] = False
    validate_sky(sky)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["reddening", "emission"])
@pytest.mark.parametrize(
    ("bad", "word"),
    [(np.nan, "3 NaN"), (-1.6375e30, "3 UNSEEN"), (np.inf, "3 infinite"), (-np.inf, "3 infinite")],
)
def test_unusable_values(sky, dtype, name, bad, word):
    sky[name] = sky[name].astype(dtype)
    sky[name][1, 4, 0] = bad
    sky[name][3, :2, 1] = bad
    refused(sky, f"{name} has values", word, "first in superpixel 5", "`valid`")
    sky["valid"][1, 4] = False
    sky["valid"][3, :2] = False
    validate_sky(sky)


def test_unusable_values_where_only_one_band_is_masked(sky):
    valid = np.ones((4, 16, 5), dtype=bool)
    valid[0, 2, 3] = False
    sky = sky.assign(valid=(("superpixel", "pixel", "band"), valid))
    sky["emission"][0, 2, 3] = np.nan
    validate_sky(sky)
    # The pixel's other bands still need its reddening, and their own emission.
    no_reddening = sky.copy(deep=True)
    no_reddening["reddening"][0, 2, 0] = np.nan
    refused(no_reddening, "reddening has values", "1 NaN")
    sky["emission"][0, 2, 4] = np.nan
    refused(sky, "emission has values", "1 NaN")


def test_all_pixels_masked(sky):
    sky["valid"][1] = False
    sky["valid"][2] = False
    refused(sky, "all pixels of superpixel 5 and 8 are masked", "2 of 4")


def test_all_pixels_masked_in_every_band(sky):
    valid = np.ones((4, 16, 5), dtype=bool)
    valid[3] = False
    refused(
        sky.assign(valid=(("superpixel", "pixel", "band"), valid)),
        "all pixels of superpixel 11 are masked",
    )
    valid[3, 0, 0] = True
    validate_sky(sky.assign(valid=(("superpixel", "pixel", "band"), valid)))


def test_valid_not_boolean(sky):
    refused(sky.assign(valid=sky["valid"].astype(float)), "valid is of type float64, not bool")


def test_voxels_without_dust_collinear_voxels_and_small_negatives_are_legal(sky):
    sky["reddening"][:, :, 1] = 0.0
    sky["reddening"][:, :, 2] = 2 * sky["reddening"][:, :, 0]
    sky["reddening"][:, 3, 0] = -1e-3
    sky["emission"][:, 3, 0] = -0.1
    validate_sky(sky)


def test_validation_does_not_copy_the_sky():
    shape = (512, 1024)
    sky = build_sky(
        np.ones((*shape, 9), np.float32),
        np.ones((*shape, 5), np.float32),
        np.ones(5),
        np.arange(10.0),
        np.arange(512),
        nside=1024,
        superpixel_nside=32,
        reddening_unit="sfd",
    )
    tracemalloc.start()
    validate_sky(sky)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.4 * sky["reddening"].nbytes


def test_bands_are_those_of_the_package(sky):
    assert tuple(sky["band"].values) == BANDS
