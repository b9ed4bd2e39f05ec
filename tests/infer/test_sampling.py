"""A sky's posteriors: the contract, chunks that resume, and what is refused."""

import json
import shutil
from dataclasses import fields

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import pymcdust
from pymcdust import Prior, fixed, per_superpixel, per_voxel
from pymcdust.errors import ConfigurationError, FileFormatError, ModelError, SkyError
from pymcdust.infer import sampling
from pymcdust.infer.engine import fit_map
from pymcdust.infer.posterior import GROUPS, MEANINGS, open_posterior
from pymcdust.infer.sampling import METHODS, sample
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.compression import compress
from pymcdust.sky.morphology import random_stream

pytestmark = pytest.mark.usefixtures("shared_compilation")

#: A model that is quickly compiled, the same as for NUTS elsewhere.
MODEL = TemperaturePerVoxel(
    temperature=per_superpixel(Prior("Normal", mu=18.0, sigma=2.0), unit="K"),
    beta=per_superpixel(Prior("Normal", mu=1.6, sigma=0.3)),
    rho=fixed(1e-4, unit="mag-1"),
)

#: Settings that take little time.
QUICK = {
    "laplace": {"draws": 200},
    "auto": {"draws": 100},
    "nuts": {"draws": 100, "tune": 100},
    "ptemcee": {"walkers": 20, "steps": 200, "thin": 5},
    "smc": {"draws": 200, "chains": 2},
}


@pytest.fixture(scope="module")
def seven(sky_of):
    """Seven superpixels, so that the last chunk of two is a short one."""
    return sky_of(n_superpixel=7, seed=12)


@pytest.fixture
def chunks_of_two(monkeypatch):
    for name, entry in METHODS.items():
        monkeypatch.setitem(METHODS, name, entry._replace(chunk=2))


class StoppedError(Exception):
    """What a user's Ctrl-C stands for."""


def stop_after(n_superpixel):
    def progress(done, total, worst_rhat):
        if done >= n_superpixel:
            raise StoppedError

    return progress


def assert_same(left, right):
    for group in GROUPS:
        xr.testing.assert_identical(left[group].to_dataset().load(), right[group].to_dataset())


# The contract


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_contract(method, sky_of):
    sky = sky_of(seed=3)
    tree = sample(MODEL, sky, method=method, seed=1, **QUICK[method])
    assert set(GROUPS) == set(tree.children)
    draws = tree.posterior
    assert draws.temperature.dims == ("chain", "draw", "superpixel")
    assert draws.temperature.attrs["unit"] == "K"
    assert draws.temperature.attrs["tying"] == "per superpixel"
    assert draws.temperature.attrs["prior_sd"] == pytest.approx(2.0)
    assert "rho" not in draws
    np.testing.assert_array_equal(draws.superpixel, sky.superpixel)
    assert np.isfinite(draws.temperature).all()
    one = ("chain", "draw", "superpixel")
    assert tree.sample_stats.lp.dims == one
    assert tree.log_likelihood.emission.dims == one
    assert tree.log_prior.temperature.dims == one
    for name, variable in tree.sample_stats.items():
        assert variable.attrs["long_name"] == MEANINGS[name]
    assert tree.attrs["method"] == method
    assert tree.attrs["model"] == "temperature_per_voxel"
    assert json.loads(tree.attrs["settings"]).items() >= QUICK[method].items()
    assert tree.attrs["superpixel_nside"] == sky.attrs["superpixel_nside"]
    pymcdust.VoxelMBB.from_dict(json.loads(tree.attrs["model_definition"]))


def test_likelihood_and_prior_are_those_of_the_draws(sky_of, paper):
    sky = sky_of(seed=3)
    tree = sample(MODEL, sky, method="laplace", draws=50)
    temperature, beta = tree.posterior.temperature, tree.posterior.beta
    np.testing.assert_allclose(
        tree.log_prior.temperature, stats.norm(18, 2).logpdf(temperature), rtol=1e-10
    )
    np.testing.assert_allclose(tree.log_prior.beta, stats.norm(1.6, 0.3).logpdf(beta), rtol=1e-10)
    for position in range(3):
        one = paper.of(sky, position)
        constant = -(np.log(one.sigma) + 0.5 * np.log(2 * np.pi))[one.valid].sum()
        for draw in (0, 49):
            t, b = (v.isel(chain=0, draw=draw, superpixel=position) for v in (temperature, beta))
            vector = np.concatenate([np.zeros(5), np.full(3, 1e-4), np.full(3, b), np.full(3, t)])
            at = {"chain": 0, "draw": draw, "superpixel": position}
            found = float(tree.log_likelihood.emission.isel(at))
            assert found == pytest.approx(constant - 0.5 * one.chi2(vector), rel=1e-10)
            # lp is that of the prior quantiles, here (x - mu) / sigma.
            u = np.array([(t - 18.0) / 2.0, (b - 1.6) / 0.3])
            expected = found + stats.norm.logpdf(u).sum()
            assert float(tree.sample_stats.lp.isel(at)) == pytest.approx(expected, rel=1e-10)


def test_parameters_of_voxels_and_bands(sky_of):
    sky = sky_of(seed=3)
    tree = sample("offsets_per_superpixel", sky, method="laplace", draws=50)
    assert tree.posterior.temperature.dims == ("chain", "draw", "superpixel", "voxel")
    assert tree.posterior.offset.dims == ("chain", "draw", "superpixel", "band")
    np.testing.assert_array_equal(tree.posterior.band, sky.band)
    fit = fit_map("offsets_per_superpixel", sky)
    sd = tree.posterior.offset.std(("chain", "draw"))
    assert np.all(np.abs(tree.posterior.offset.mean(("chain", "draw")) - fit.offset) < sd)


def test_a_sky_that_is_one_problem(sky_of):
    sky = sky_of(seed=3)
    tree = sample("offsets_over_sky", sky, method="laplace", draws=40)
    assert tree.posterior.offset.dims == ("chain", "draw", "band")
    assert tree.posterior.temperature.dims == ("chain", "draw", "superpixel", "voxel")
    assert tree.sample_stats.lp.dims == ("chain", "draw")
    assert tree.sample_stats.pareto_k.dims == ()
    assert tree.log_likelihood.emission.dims == ("chain", "draw")


# Seeds and selections


def test_draws_depend_on_seed_and_superpixel_alone(sky_of):
    sky = sky_of(seed=3)
    first, again, other = (
        sample(MODEL, sky, method="laplace", draws=50, seed=seed) for seed in (1, 1, 2)
    )
    assert_same(first, again)
    assert not np.any(first.posterior.temperature == other.posterior.temperature)
    chosen = int(sky.superpixel[1])
    alone = sample(MODEL, sky, method="laplace", draws=50, seed=1, superpixel=chosen)
    assert alone.posterior.superpixel.values == [chosen]
    np.testing.assert_allclose(
        alone.posterior.temperature[..., 0], first.posterior.temperature[..., 1], rtol=1e-9
    )
    two = sample(MODEL, sky, method="laplace", superpixel=list(sky.superpixel.values[[2, 0]]))
    np.testing.assert_array_equal(two.posterior.superpixel, sky.superpixel.values[[0, 2]])


def test_draws_share_no_chance_with_a_sky_of_the_same_seed(sky_of, monkeypatch):
    sky = sky_of(seed=3).assign_coords(superpixel=[0, 1, 2])
    targets = []

    def keep(target, draws, attrs, to_tree=sampling.to_tree):
        targets.append(target)
        return to_tree(target, draws, attrs)

    monkeypatch.setattr(sampling, "to_tree", keep)
    sample(MODEL, sky, method="laplace", draws=50, seed=7)
    streams = [random_stream(7, name) for name in ("reddening", "truth")]
    streams += [random_stream(7, "noise", superpixel) for superpixel in range(3)]
    streams += [np.random.SeedSequence(7), *targets[0].seeds]
    assert len({tuple(stream.generate_state(4)) for stream in streams}) == len(streams)


# Chunks


@pytest.mark.usefixtures("chunks_of_two")
def test_chunks_are_joined_and_written_ones_are_read(seven, tmp_path):
    seen = []
    written = sample(
        MODEL,
        seven,
        method="nuts",
        out=tmp_path / "posterior.zarr",
        progress=lambda *told: seen.append(told),
        **QUICK["nuts"],
    )
    assert [told[:2] for told in seen] == [(2, 7), (4, 7), (6, 7), (7, 7)]
    worst = [told[2] for told in seen]
    assert np.all(np.diff(worst) >= 0)
    assert 1 <= worst[-1] < 1.2
    in_memory = sample(MODEL, seven, method="nuts", **QUICK["nuts"])
    assert_same(written, in_memory)
    assert_same(open_posterior(tmp_path / "posterior.zarr"), in_memory)
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.zarr"]


@pytest.mark.usefixtures("chunks_of_two")
@pytest.mark.parametrize("method", ["laplace", "nuts", "ptemcee", "smc"])
def test_a_run_that_was_stopped_goes_on_with_the_same_draws(method, seven, tmp_path, monkeypatch):
    out = tmp_path / "posterior.zarr"
    three = compress(seven).isel(superpixel=slice(0, 5))
    with pytest.raises(StoppedError):
        sample(MODEL, three, method=method, out=out, progress=stop_after(4), **QUICK[method])
    assert not out.exists()
    drawn = []

    def counting(target, draws, attrs, to_tree=sampling.to_tree):
        drawn.extend(target.rows.superpixel.values)
        return to_tree(target, draws, attrs)

    monkeypatch.setattr(sampling, "to_tree", counting)
    resumed = sample(MODEL, three, method=method, out=out, **QUICK[method])
    assert drawn == list(three.superpixel.values[4:])
    assert_same(resumed, sample(MODEL, three, method=method, **QUICK[method]))


@pytest.mark.usefixtures("chunks_of_two")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, "another seed"),
        ({"draws": 60}, "another settings"),
        ({"method": "smc", "chains": 1, "draws": 200}, "another method and settings"),
        ({"superpixel": [40, 41, 42]}, "another sky"),
        ({"model": "single_temperature"}, "another model"),
    ],
)
def test_a_run_that_is_another_does_not_go_on(change, message, seven, tmp_path):
    out = tmp_path / "posterior.zarr"
    call = {"model": MODEL, "sky": seven, "method": "laplace", "draws": 50, "out": out}
    with pytest.raises(StoppedError):
        sample(**call, progress=stop_after(2))
    with pytest.raises(ConfigurationError, match=message):
        sample(**call | change)
    sample(**call)


@pytest.mark.usefixtures("chunks_of_two")
def test_a_damaged_chunk_is_made_again(seven, tmp_path):
    out = tmp_path / "posterior.zarr"
    with pytest.raises(StoppedError):
        sample(MODEL, seven, method="laplace", draws=50, out=out, progress=stop_after(4))
    shutil.rmtree(tmp_path / "posterior.zarr.parts" / "00000000.zarr" / "log_prior")
    resumed = sample(MODEL, seven, method="laplace", draws=50, out=out)
    assert_same(resumed, sample(MODEL, seven, method="laplace", draws=50))


def test_an_existing_posterior_is_replaced_only_if_asked(sky_of, tmp_path):
    sky, out = sky_of(seed=3), tmp_path / "posterior.zarr"
    sample(MODEL, sky, method="laplace", draws=50, out=out)
    with pytest.raises(ConfigurationError, match="exists already"):
        sample(MODEL, sky, method="laplace", draws=60, out=out)
    assert open_posterior(out).posterior.sizes["draw"] == 50
    sample(MODEL, sky, method="laplace", draws=60, out=out, overwrite=True)
    assert open_posterior(out).posterior.sizes["draw"] == 60


# Bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            {"method": "nutz"},
            ConfigurationError,
            "unknown method 'nutz'; allowed are auto, laplace, nuts, ptemcee and smc; "
            "did you mean 'nuts'",
        ),
        (
            {"method": "nuts", "draw": 5},
            ConfigurationError,
            "unknown setting of the method nuts 'draw'.*did you mean 'draws'",
        ),
        ({"method": "laplace", "seed": -1}, ConfigurationError, "seed is -1"),
        ({"method": "laplace", "draws": 0}, ConfigurationError, "draws is 0"),
        (
            {"method": "laplace", "draws": "many"},
            ConfigurationError,
            "method laplace is impossible",
        ),
        (
            {"superpixel": 4000},
            SkyError,
            r"no superpixel 4000; its 3 superpixels \(NESTED, Nside 16\) lie between 40 and 42",
        ),
        ({"model": "temperature_per_voxl"}, ModelError, "did you mean 'temperature_per_voxel'"),
    ],
)
def test_bad_input_is_refused_before_the_work(call, error, message, sky, monkeypatch):
    monkeypatch.setattr(sampling, "compress", lambda sky: pytest.fail("work was begun"))
    with pytest.raises(error, match=message):
        sample(**{"model": MODEL, "sky": sky} | call)


@pytest.mark.parametrize("call", [sample, fit_map])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {
                "temperature": per_voxel(
                    Prior("Normal", mu=xr.DataArray([18.0, 19.0], dims="voxel"), sigma=2.0)
                )
            },
            "prior of temperature has 2 values of mu along voxel, where the sky has 3",
        ),
        (
            {"offset": per_superpixel(Prior("Normal", mu=0.0, sigma=np.ones(4)))},
            "prior of offset has 4 values of sigma along band, where the sky has 5",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_sky_is_refused(change, message, call, sky):
    with pytest.raises(ModelError, match=message):
        call(TemperaturePerVoxel(**change), sky)


def test_a_prior_may_have_a_number_for_each_voxel(sky):
    mu = xr.DataArray([17.0, 18.0, 30.0], dims="voxel")
    model = TemperaturePerVoxel(temperature=per_voxel(Prior("Normal", mu=mu, sigma=0.01)))
    tree = sample(model, sky, method="laplace", draws=50)
    mean = tree.posterior.temperature.mean(("chain", "draw"))
    np.testing.assert_allclose(mean, np.tile(mu, (3, 1)), atol=0.02)
    np.testing.assert_allclose(
        tree.log_prior.temperature,
        stats.norm(mu, 0.01).logpdf(tree.posterior.temperature).sum(axis=-1),
        rtol=1e-9,
    )


def test_a_model_of_too_many_joint_parameters_is_refused(sky, monkeypatch):
    monkeypatch.setattr("pymcdust.infer.engine.LARGEST_JOINT", 5)
    with pytest.raises(ModelError, match="couples the 3 superpixels"):
        sample("offsets_over_sky", sky, method="laplace")


def test_a_posterior_that_is_none_or_cut_short_is_refused(sky, tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        open_posterior(tmp_path / "nothing.zarr")
    fit_map(MODEL, sky, out=tmp_path / "fit.zarr")
    with pytest.raises(FileFormatError, match=r"not a posterior but a fit.*pymcdust sample"):
        open_posterior(tmp_path / "fit.zarr")
    path = tmp_path / "posterior.zarr"
    sample(MODEL, sky, method="laplace", draws=50, out=path)
    (path / "posterior" / "beta" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(FileFormatError, match="cut short, 1 of 1 chunks of 'posterior/beta'"):
        open_posterior(path)


def test_every_setting_is_described():
    for entry in METHODS.values():
        for field in fields(entry.method):
            documented = entry.method.__doc__
            assert field.name in documented, f"{entry.method.__name__}.{field.name}"
