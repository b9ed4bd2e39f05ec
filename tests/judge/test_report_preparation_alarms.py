"""The alarms of a sky's report against planted faults, and against skies without any."""

import json

import healpy as hp
import numpy as np
import pytest
import xarray as xr
from planted import real_configuration
from report_skies import BANDS, prepared, rows_of, simulated

from pymcdust import simulate_sky
from pymcdust.judge.report_preparation_alarms import alarms
from pymcdust.sky.prepare import prepare_sky
from pymcdust.sky.quality import summarise_sky


@pytest.fixture(scope="module")
def plain():
    return simulated()


def raised(sky):
    """Return the alarms of a sky: whether each is bad, and its title."""
    return [(alarm.bad, alarm.title) for alarm in alarms(sky, summarise_sky(sky))]


def titles(sky):
    return [title for _, title in raised(sky)]


def test_good_skies_raise_no_alarm(plain):
    assert titles(plain) == []
    # The noise of the paper hides the emission of most of the sky, which is no fault.
    noisy = simulate_sky(
        {"temperature": 18.0, "beta": 1.6, "rho": 1e-4}, nside=32, superpixel_nside=4
    )
    assert titles(noisy) == []
    # Nor has noise alone a colour, or a slope.
    noise = plain.copy(deep=True)
    noise["sigma"] *= 100
    for seed in range(6):
        rng = np.random.default_rng(seed)
        noise["emission"][:] = noise.sigma.values * rng.standard_normal(noise.emission.shape)
        assert titles(noise) == []


@pytest.mark.parametrize(
    ("band", "factor"), [("217", 483.69), ("353", 287.45), ("545", 58.04), ("857", 2.2681)]
)
def test_a_map_in_kelvin_is_found_out(plain, write, band, factor):
    sky = plain.copy(deep=True)
    sky["emission"].loc[{"band": band}] /= factor
    found = titles(sky)
    assert f"The unit of {band} GHz may be wrong" in found
    assert not any("unit of" in title and band not in title for title in found)
    if band == "857":
        text = write(sky)
        assert "verdict bad" in text
        assert '<tr class="bad"><th scope="row">857 GHz</th>' in text
        assert text.count('<tr class="bad">') == 1


def test_a_wrong_zero_level_is_no_wrong_unit(plain):
    sky = plain.copy(deep=True)
    sky["emission"].loc[{"band": "545"}] += 3.0
    assert titles(sky) == ["The zero level of 545 GHz may be wrong"]
    sky["emission"].loc[{"band": "545"}] -= 9.0
    assert titles(sky) == ["545 GHz is negative"]


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_reddening_in_another_unit_is_found_out(plain, factor):
    sky = plain.copy(deep=True)
    sky["reddening"] *= factor
    assert titles(sky) == ["Reddening and emission do not have the sizes of dust"]


def test_maps_in_different_orders_are_found_out(plain):
    sky = plain.copy(deep=True)
    shape = sky.emission.shape
    whole = sky.emission.values.reshape(-1, 5)
    sky["emission"][:] = np.stack([hp.reorder(one, n2r=True) for one in whole.T], -1).reshape(shape)
    assert "Emission does not follow reddening" in titles(sky)


def smooth_noise(sky, rng, width=2):
    """Return noise of unit variance that neighbours share, of the shape of the emission."""
    n_superpixel, n_pixel, n_band = sky.emission.shape
    coarse = rng.standard_normal((n_superpixel, n_pixel // width**2, n_band))
    return np.repeat(coarse, width**2, axis=1)


def misordered(sky, *bands):
    """Return a sky some of whose bands were RING, and were taken for NESTED."""
    sky = sky.copy(deep=True)
    for band in bands:
        values = sky.emission.sel(band=band).values
        ring = hp.reorder(values.ravel(), n2r=True).reshape(values.shape)
        sky["emission"].loc[{"band": band}] = ring
    return sky


@pytest.mark.parametrize("band", BANDS)
def test_one_map_in_another_order_is_found_out(plain, band):
    [(bad, title)] = raised(misordered(plain, band))
    assert bad
    assert title == f"{band} GHz does not follow reddening"


def test_maps_in_another_order_are_told_together(plain, write):
    sky = misordered(plain, "545", "2998")
    assert titles(sky) == ["545 and 2998 GHz do not follow reddening"]
    text = write(sky)
    rows = rows_of(text, "follows", 1)
    within = {band: rows[f"{band} GHz"][1] for band in BANDS}
    assert f"{within['353']} at 353 GHz, {within['545']} at 545 GHz" in text
    part = text.split('<section id="follows"')[1].split("</section>")[0]
    assert part.count('<tr class="bad">') == 2
    assert '<tr class="bad"><th scope="row">545 GHz</th>' in part


def interchange(sky, one, other, factor=1.0):
    """Return a sky in which two bands stand for each other; `factor` is the ratio of units."""
    swapped = sky.copy(deep=True)
    swapped["emission"].loc[{"band": one}] = factor * sky.emission.sel(band=other)
    swapped["emission"].loc[{"band": other}] = sky.emission.sel(band=one) / factor
    return swapped


@pytest.mark.parametrize(
    ("one", "other", "factor"),
    [
        ("217", "353", 1.0),
        ("217", "353", 483.69 / 287.45),  # both in K_CMB
        ("353", "545", 1.0),
        ("545", "857", 1.0),
    ],
)
def test_maps_that_were_interchanged_are_found_out(plain, one, other, factor):
    assert titles(interchange(plain, one, other, factor)) == [
        f"{one} and {other} GHz may be interchanged"
    ]


def test_noise_follows_nothing_and_is_no_fault(plain):
    rng = np.random.default_rng(2)
    # Noise that a beam has smoothed is no rougher than dust.
    noise = smooth_noise(plain, rng)
    light = plain.emission.std(("superpixel", "pixel")).values
    for factor in (0.03, 0.3, 3, 30):
        sky = plain.copy(deep=True)
        sky["emission"] += factor * light * noise
        assert not any("follow" in title for title in titles(sky)), factor
    # Nor is it a fault of the others if one band is noise.
    sky = plain.copy(deep=True)
    sky["emission"].loc[{"band": "217"}] = light[0] * noise[..., 0]
    assert not any("follow" in title for title in titles(sky))


def test_copies_are_found_out(plain):
    sky = plain.copy(deep=True)
    sky["emission"].loc[{"band": "857"}] = sky.emission.sel(band="545")
    assert "545 and 857 GHz are the same map" in titles(sky)
    sky = plain.copy(deep=True)
    values = sky.reddening.values
    values[:] = values[:, np.arange(64) // 4 * 4]
    assert titles(sky) == ["The reddening map is coarser than the pixels"]


def files(**checksums):
    return json.dumps({key.replace("_", "."): {"sha256": one} for key, one in checksums.items()})


def test_files_that_are_the_same_are_found_out(plain):
    told = files(emission_217="a", emission_353="b", emission_857="a", cmb="b", reddening="a")
    sky = plain.assign_attrs(files=told)
    assert raised(sky) == [(True, "217 and 857 GHz are the same map")]
    # What pixels tell as well is told once.
    sky = sky.copy(deep=True)
    sky["emission"].loc[{"band": "857"}] = sky.emission.sel(band="217")
    assert titles(sky).count("217 and 857 GHz are the same map") == 1
    # Both hemispheres of one survey.
    told = files(emission_2998_ngp="a", emission_2998_sgp="a")
    assert titles(plain.assign_attrs(files=told)) == []
    # Files of several columns.
    told = files(emission_217="a", emission_353="a")
    columns = json.dumps({"emission": {"217": {"column": "I_217"}, "353": {"column": "I_353"}}})
    assert titles(plain.assign_attrs(files=told, configuration=columns)) == []
    assert len(titles(plain.assign_attrs(files=told, configuration="{}"))) == 1


@pytest.mark.parametrize("told", ['{"emission.217": 3, "emission.353": 3}', "[]", "none", 3])
def test_files_that_tell_nothing(plain, told):
    assert titles(plain.assign_attrs(files=told, configuration=told)) == []


def test_advice_on_units_is_that_of_the_band(plain):
    for band, factor in (("857", 2.268), ("2998", None)):
        sky = plain.copy(deep=True)
        sky["emission"].loc[{"band": band}] /= 100
        [alarm] = alarms(sky, summarise_sky(sky))
        assert alarm.title == f"The unit of {band} GHz may be wrong"
        if factor:
            assert f"K_CMB at 857 GHz is {factor} MJy/sr" in alarm.advice
        else:
            assert "K_CMB" not in alarm.advice
            assert "TUNIT" in alarm.advice


def test_two_pixels_are_no_dust(plain):
    sky = plain.isel(superpixel=[0])
    used = np.zeros(sky.emission.shape, dtype=bool)
    used[..., [0, 2, 3, 4]] = True
    used[0, 2:4, 1] = True
    sky = sky.assign(valid=(("superpixel", "pixel", "band"), used))
    sky["emission"] = sky.emission * xr.where(sky.band == "353", 1e3, 1.0)
    assert "Reddening and emission do not have the sizes of dust" not in titles(sky)


def test_much_negative_reddening_is_found_out(plain):
    sky = plain.copy(deep=True)
    sky["reddening"][:, :, 0] -= 0.05
    assert "Much of the reddening is negative" in titles(sky)
    sky = plain.copy(deep=True)
    sky["reddening"][:, ::2, 0] -= 1e-6  # the ringing of smoothing
    assert titles(sky) == []


def test_voxels_that_cannot_be_told_apart(plain):
    sky = plain.copy(deep=True)
    sky["reddening"][:40, :, 1] = 2 * sky.reddening[:40, :, 0]
    [alarm] = alarms(sky, summarise_sky(sky))
    assert alarm.title == "Voxels cannot be told apart in 40 of 192 superpixels"
    assert not alarm.bad
    sky["reddening"][:, :, 1] = 2 * sky.reddening[:, :, 0]
    [alarm] = alarms(sky, summarise_sky(sky))
    assert alarm.bad


def test_pixels_within_a_beam_are_correlated(plain, write):
    sky = plain.assign_attrs(beam=240.0)
    text = write(sky)
    n = 2 * np.pi * (4 / np.sqrt(8 * np.log(2))) ** 2 / hp.nside2pixarea(32, degrees=True)
    assert n > 1
    [alarm] = alarms(sky, summarise_sky(sky))
    assert f"thin = true), or multiply sigma by {n**0.5:.1f}" in alarm.advice
    assert "smaller nside" not in alarm.advice
    assert f"a beam holds {n:.1f} of them" in text
    assert f"posteriors that are about {n**0.5:.1f} times too narrow" in text
    assert "Nothing alarming was found" in text
    assert "240′" in text
    assert titles(plain.assign_attrs(beam=60.0)) == []
    assert titles(plain.assign_attrs(beam="matched")) == []
    thinned = prepared()
    assert any("Neighbouring pixels" in title for title in titles(thinned))
    thinned["masked"].loc[{"reason": "thinned"}] = 3
    assert not any("Neighbouring pixels" in title for title in titles(thinned))
    text = write(thinned)
    assert "after thinning to one pixel per beam" in text
    # It takes most pixels, but nothing is lost by it.
    thinned["masked"].loc[{"reason": "thinned"}] = 60
    assert "The main reasons: unreliable distances" in write(thinned)


@pytest.mark.realsky
def test_a_real_map_in_another_order_is_found_out(realsky, tmp_path):
    configuration = real_configuration(realsky, min_coverage=0.9)
    path = tmp_path / "ring.fits"
    ring = hp.read_map(configuration["emission"]["2998"]["file"], nest=False)
    hp.write_map(path, ring, nest=True, coord="G", column_units="MJy/sr", dtype=np.float64)
    configuration["emission"]["2998"] = {"file": path}
    found = titles(prepare_sky(configuration))
    assert found[0] == "2998 GHz does not follow reddening"
    assert len(found) == 2
    assert found[1].startswith("Voxels cannot be told apart")


@pytest.mark.realsky
def test_the_real_sky_with_more_noise(realsky):
    sky = prepare_sky(real_configuration(realsky, min_coverage=0.9))
    rng = np.random.default_rng(1)
    white, smooth = rng.standard_normal(sky.emission.shape), smooth_noise(sky, rng)
    quiet = sky.emission.copy()
    for noise in (white, smooth):
        for factor in (0.01, 0.1, 1.0, 3.0):
            sky["emission"] = quiet + (factor * sky.sigma.values * noise).astype(np.float32)
            [title] = titles(sky)
            assert title.startswith("Voxels cannot be told apart")
