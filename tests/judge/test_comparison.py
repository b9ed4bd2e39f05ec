"""A comparison against its parts, resumed, cut into chunks, and of what cannot be compared."""

import json
from math import log

import numpy as np
import pytest
import xarray as xr

from pymcdust import (
    Prior,
    compress,
    fit_map,
    fixed,
    over_sky,
    per_superpixel,
    sample,
    save_sky,
    sensitivity,
    simulate_sky,
)
from pymcdust.errors import ConfigurationError, FileFormatError, ResultError, SkyError
from pymcdust.judge import comparison as module
from pymcdust.judge.comparison import compare, open_comparison
from pymcdust.judge.evidence import evidence
from pymcdust.judge.kinds import is_comparison
from pymcdust.judge.predictive import predict
from pymcdust.judge.predictive_check import check_predictions
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel

GEOMETRY = {
    "nside": 32,
    "superpixel_nside": 4,
    "superpixels": [9, 40, 77],
    "distance_edge": [0.0, 0.5, 3.0],
    "sigma": {"217": 0.05, "353": 0.3, "545": 0.9, "857": 2.5, "2998": 3.0},
}

#: Two variants of few parameters, so that importance sampling does for both.
TWO = TemperaturePerVoxel(
    beta=fixed(1.6), rho=per_superpixel(Prior("LogNormal", mu=log(1e-4), sigma=0.5), unit="mag-1")
)
ONE = TemperaturePerVoxel(
    temperature=per_superpixel(TWO.temperature.prior, unit="K"), beta=TWO.beta, rho=TWO.rho
)
SETTINGS = {"method": "laplace", "draws": 1000, "folds": 4}


@pytest.fixture(scope="module")
def sky():
    sky = simulate_sky(TWO, **GEOMETRY, seed=2)
    sky["valid"].values[1, :20] = False
    return sky


@pytest.fixture(scope="module")
def posteriors(sky):
    return {
        name: sample(model, sky, method="laplace", draws=1000)
        for name, model in {"one": ONE, "two": TWO}.items()
    }


@pytest.fixture(scope="module")
def comparison(posteriors, sky):
    return compare(posteriors, sky, folds=4)


def test_results_keep_how_many_voxels_are_no_padding(sky):
    """From the sky to everything that is made of it."""
    sky = sky.assign(n_voxel=("superpixel", [1, *[2] * (sky.sizes["superpixel"] - 1)]))
    fit = fit_map(TWO, sky)
    posterior = sample(TWO, sky, method="laplace", draws=200)
    several = compare({"one": ONE, "two": TWO}, sky, **SETTINGS)
    studied = sensitivity(posterior)
    for result in (fit, posterior["constant_data"], several, studied):
        np.testing.assert_array_equal(result["n_voxel"], sky["n_voxel"])
        np.testing.assert_array_equal(result["distance_edge"], sky["distance_edge"])


def test_it_holds_what_its_parts_say(comparison, posteriors, sky):
    assert is_comparison(comparison)
    assert comparison["model"].values.tolist() == ["one", "two"]
    for name, posterior in posteriors.items():
        here = comparison.sel(model=name)
        alone = evidence(posterior, points=module.POINTS)
        np.testing.assert_allclose(here["ln_evidence"], alone["ln_evidence"], rtol=1e-10)
        np.testing.assert_allclose(here["ln_evidence_error"], alone["ln_evidence_error"])
        scores = predict(posterior, sky, folds=4)
        np.testing.assert_allclose(here["elpd_block"], scores["elpd_kfold"], rtol=1e-10)
        score = scores["elpd_kfold"].values
        assert np.isnan(score).sum() == 20
        np.testing.assert_allclose(here["elpd"], np.nansum(score, axis=1), rtol=1e-10)
        assert not predict(posterior, sky, folds=4, refit_loo=False).refitted_loo.any()
        error = np.sqrt([64, 44, 64]) * np.nanstd(score, axis=1, ddof=1)
        np.testing.assert_allclose(here["elpd_error"], error, rtol=1e-10)
        np.testing.assert_allclose(here["elpd_sky"], np.nansum(score), rtol=1e-10)
        np.testing.assert_allclose(here["ln_evidence_sky"], alone["ln_evidence"].sum(), rtol=1e-10)
        draws = posterior.posterior.temperature
        mean = draws.mean(("chain", "draw")) + 0 * sky.voxel
        np.testing.assert_allclose(here["temperature"], mean.transpose("superpixel", "voxel"))


def test_it_holds_how_well_the_data_are_predicted(comparison, posteriors, sky):
    for name, posterior in posteriors.items():
        here, check = comparison.sel(model=name), check_predictions(posterior, sky)
        np.testing.assert_allclose(here.residual, check.residual.mean("pixel"), rtol=1e-9)
        np.testing.assert_allclose(here.chi2_p, check.chi2_p, rtol=1e-9)
        for superpixel in range(3):
            for band in range(5):
                pit = check.pit[superpixel, :, band].values
                expected, _ = np.histogram(pit[np.isfinite(pit)], 20, (0, 1))
                assert here.pit_count[superpixel, band].values.tolist() == expected.tolist()
        scores = predict(posterior, sky, folds=4, refit_loo=False)
        np.testing.assert_allclose(here.elpd_loo, scores.elpd_loo.sum("block"), rtol=1e-10)
        np.testing.assert_array_equal(here.n_refitted, scores.refitted.sum("fold_number"))
        np.testing.assert_array_equal(here.pareto_k, scores.pareto_k_fold.max("fold_number"))
        assert (here.evidence_method == 0).all()
    assert comparison.evidence_method.attrs["flag_meanings"].split()[0] == "importance"
    assert (comparison.n_unreliable == 0).all()
    np.testing.assert_array_equal(comparison.n_block, sky.valid.sum("pixel"))
    np.testing.assert_array_equal(comparison.n_data, 5 * sky.valid.sum("pixel"))
    column = np.where(sky.valid, sky.reddening.sum("voxel"), np.nan)
    np.testing.assert_allclose(comparison.column, np.nanmedian(column, axis=1), rtol=1e-6)


def test_probabilities_are_those_of_bayes(comparison):
    difference = comparison.ln_evidence.sel(model="two") - comparison.ln_evidence.sel(model="one")
    np.testing.assert_allclose(
        comparison.probability.sel(model="two"), 1 / (1 + np.exp(-difference)), rtol=1e-10
    )


def test_the_average_is_that_of_the_mixture(comparison, posteriors):
    """Mean and width against draws of the mixture itself."""
    weight = comparison.weight.transpose("superpixel", "model").values
    np.testing.assert_allclose(weight.sum(axis=1), 1, rtol=1e-12)
    rng = np.random.default_rng(0)
    for number, (one, two) in enumerate(weight):
        drawn = [
            np.broadcast_to(
                p.posterior.temperature.isel(superpixel=number).values.reshape(1000, -1), (1000, 2)
            )
            for p in posteriors.values()
        ]
        which = rng.random(100_000) < two
        mixture = np.where(
            which[:, None],
            drawn[1][rng.integers(1000, size=which.size)],
            drawn[0][rng.integers(1000, size=which.size)],
        )
        here = comparison.isel(superpixel=number)
        spread = here.temperature_averaged_sd.values
        away = here.temperature_averaged.values - mixture.mean(axis=0)
        assert np.all(np.abs(away) < 0.02 * spread)
        np.testing.assert_allclose(spread, mixture.std(axis=0), rtol=0.02)
        assert one + two == pytest.approx(1)


def test_two_temperatures_are_found_where_there_are_two(comparison):
    assert comparison.ln_evidence_sky.sel(model="two") > comparison.ln_evidence_sky.sel(model="one")
    assert comparison.elpd_sky.sel(model="two") > comparison.elpd_sky.sel(model="one")


def test_chunks_do_not_matter(comparison, posteriors, sky, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    chunked = compare(posteriors, sky, folds=4)
    for name, variable in comparison.data_vars.items():
        np.testing.assert_allclose(chunked[name], variable, rtol=1e-8, atol=1e-10, err_msg=name)
    assert chunked.attrs.keys() == comparison.attrs.keys()


def test_models_are_sampled_first_and_a_stopped_run_goes_on(comparison, sky, tmp_path, monkeypatch):
    out, stages = tmp_path / "comparison.zarr", []

    def stop(stage, done, total):
        stages.append((stage, done, total))
        if (stage, done) == ("comparing", 2):
            raise InterruptedError

    monkeypatch.setattr(module, "CHUNK", 2)
    variants = {"one": ONE, "two": TWO}
    with pytest.raises(InterruptedError):
        compare(variants, sky, out=out, progress=stop, **SETTINGS)
    assert not out.exists()
    assert [stage for stage, done, total in stages if done == total] == [
        "sampling one",
        "sampling two",
    ]

    def refuse(*args, **kwargs):
        raise AssertionError("drawn again")

    monkeypatch.setattr(module, "sample", refuse)
    calls = []
    part = module._compare_part
    monkeypatch.setattr(
        module, "_compare_part", lambda *given: calls.append(given[2]) or part(*given)
    )
    result = compare(variants, sky, out=out, **SETTINGS)
    assert calls == [slice(2, 4)]
    for name, variable in comparison.data_vars.items():
        np.testing.assert_allclose(result[name], variable, rtol=1e-8, atol=1e-10, err_msg=name)
    assert open_comparison(out).attrs == result.attrs
    with pytest.raises(ConfigurationError, match="exists already"):
        compare(variants, sky, out=out, **SETTINGS)
    with pytest.raises(ConfigurationError, match="another draws"):
        compare(
            variants,
            sky,
            out=tmp_path / "comparison.zarr",
            overwrite=True,
            draws=500,
            method="laplace",
        )


def test_fewer_than_two_variants(posteriors, sky):
    with pytest.raises(ConfigurationError, match="two variants or more; given: temperature_per"):
        compare(["temperature_per_voxel"], sky)
    with pytest.raises(ConfigurationError, match="two variants or more; given: temperature_per"):
        compare("temperature_per_voxel", sky)
    with pytest.raises(ConfigurationError, match="two variants or more; given: none"):
        compare({}, sky)


def test_two_of_one_name(posteriors, sky):
    with pytest.raises(ConfigurationError, match="called temperature_per_voxel; name them"):
        compare(list(posteriors.values()), sky)


def test_a_posterior_without_log_likelihood(posteriors, sky):
    lacking = posteriors["one"].copy()
    del lacking["log_likelihood"]
    with pytest.raises(ResultError, match="posterior of one lacks the group log_likelihood"):
        compare({**posteriors, "one": lacking}, sky)


def test_posteriors_of_different_data(posteriors, sky):
    other = sample(ONE, simulate_sky(TWO, **GEOMETRY, seed=3), method="laplace", draws=1000)
    with pytest.raises(ResultError, match="one and two were drawn from different data"):
        compare({**posteriors, "one": other}, sky)
    with pytest.raises(ResultError, match=r"another log likelihood on this sky"):
        compare(posteriors, simulate_sky(TWO, **GEOMETRY, seed=3))


def test_posteriors_of_different_superpixels(posteriors, sky):
    fewer = posteriors["one"].isel(superpixel=slice(0, 2))
    with pytest.raises(ResultError, match="3 and 2, 2 of them common") as error:
        compare({"two": posteriors["two"], "one": fewer}, sky)
    assert "only posteriors of the same superpixels" in str(error.value)


def test_the_sky_may_have_more_superpixels_but_not_fewer(comparison, posteriors, sky):
    part = {name: p.isel(superpixel=[1]) for name, p in posteriors.items()}
    one = compare(part, sky, folds=4)
    assert one.superpixel.values.tolist() == [40]
    np.testing.assert_allclose(one.elpd, comparison.elpd.sel(superpixel=[40]), rtol=1e-8)
    with pytest.raises(SkyError, match="lacks 1 superpixels of the posteriors, 9 the first"):
        compare(posteriors, sky.isel(superpixel=slice(1, None)))


def test_a_sky_without_pixels(posteriors, sky):
    with pytest.raises(SkyError, match="pixels are gone"):
        compare(posteriors, compress(sky))


def test_a_model_that_couples_superpixels_has_an_evidence_of_the_sky(posteriors, sky):
    coupled = TemperaturePerVoxel(
        temperature=ONE.temperature,
        beta=over_sky(Prior("TruncatedNormal", mu=1.6, sigma=0.3, lower=1.0, upper=3.0)),
        rho=fixed(1e-4),
    )
    posterior = sample(coupled, sky, method="laplace", draws=1000)
    result = compare({"one": posteriors["one"], "coupled": posterior}, sky, folds=4)
    assert np.isnan(result.ln_evidence.sel(model="coupled")).all()
    assert np.isnan(result.probability).all()
    assert np.isfinite(result.ln_evidence_sky).all()
    assert np.isfinite(result.elpd).all()


def test_what_is_no_comparison(tmp_path, sky, comparison):
    save_sky(sky, tmp_path / "sky.zarr")
    with pytest.raises(FileFormatError, match="not a comparison"):
        open_comparison(tmp_path / "sky.zarr")
    assert not is_comparison(sky)
    assert json.loads(comparison.attrs["models"]).keys() == {"one", "two"}
    assert isinstance(comparison, xr.Dataset)
