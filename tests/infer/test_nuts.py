"""NUTS by both implementations: compiled once, run until mixed, the same for the same seed."""

import numpy as np
import pytest

from pymcdust import Prior, fixed, per_superpixel
from pymcdust.errors import ConfigurationError
from pymcdust.infer import nuts as nuts_module
from pymcdust.infer.auto import METHODS, Auto
from pymcdust.infer.laplace import Laplace
from pymcdust.infer.nuts import STATISTICS, Nuts
from pymcdust.infer.target import Target
from pymcdust.infer.weights import RELIABLE_K
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.compression import compress

#: A model that is quickly compiled.
MODEL = TemperaturePerVoxel(
    temperature=per_superpixel(Prior("Normal", mu=18.0, sigma=2.0), unit="K"),
    beta=per_superpixel(Prior("Normal", mu=1.6, sigma=0.3)),
    rho=fixed(1e-4, unit="mag-1"),
)


@pytest.fixture(scope="module")
def target(sky_of, compiled):
    """Three superpixels; one posterior for the whole file, compiled once."""
    rows = compress(sky_of(seed=3))
    seeds = [np.random.SeedSequence(0, spawn_key=(s,)) for s in range(3)]
    return Target(compiled(MODEL, rows, "quantile"), rows, seeds)


@pytest.fixture(scope="module")
def draws(target):
    return Nuts(draws=300)(target)


def test_the_draws_are_of_the_posterior(draws, target):
    assert draws.theta.shape == (4, 300, 3, 2)
    reference = Laplace(draws=20_000)(target)
    assert np.all(reference.stats["pareto_k"][1] < 0.5)
    width = reference.theta.std(axis=(0, 1))
    away = (draws.theta.mean(axis=(0, 1)) - reference.theta.mean(axis=(0, 1))) / width
    # 1,200 draws are worth 300 at least.
    assert np.all(np.abs(away) < 4.5 / np.sqrt(300))
    assert np.all(np.abs(draws.theta.std(axis=(0, 1)) / width - 1) < 4.5 / np.sqrt(600))


def test_what_is_kept_of_a_draw(draws):
    for name, (_, _, dtype) in STATISTICS.items():
        dims, values = draws.stats[name]
        assert dims == ("chain", "draw", "block")
        assert values.shape == (4, 300, 3)
        assert values.dtype == dtype
    assert np.all(draws.stats["n_steps"][1] >= 1)
    # A last doubling that turned back counts among the steps alone.
    assert np.all(draws.stats["n_steps"][1] < 2.0 ** (draws.stats["tree_depth"][1] + 1))
    assert 0.7 < draws.stats["acceptance_rate"][1].mean() < 0.95
    assert np.all(draws.stats["step_size"][1] > 0)
    assert draws.stats["diverging"][1].mean() < 0.01


def test_the_same_seed_gives_the_same_draws_however_many_cores(draws, target):
    again = Nuts(draws=300, cores=1)(target)
    np.testing.assert_array_equal(again.theta, draws.theta)
    alone = Nuts(draws=300)(target.select(np.array([1])))
    np.testing.assert_allclose(alone.theta[:, :, 0], draws.theta[:, :, 1], rtol=1e-6)
    other = Target(target.posterior, target.rows, [np.random.SeedSequence(1)] * 3)
    assert not np.any(Nuts(draws=300)(other).theta == draws.theta)


def test_chains_start_apart(target):
    short = Nuts(draws=1, tune=50, attempts=1)(target)
    assert np.all(short.theta.std(axis=0) > 0)


def test_chains_that_have_not_mixed_are_run_again(target, monkeypatch):
    runs = []

    def run(settings, posterior, data, scale, seed, run=nuts_module._run_nutpie):
        runs.append((settings.draws, settings.tune, settings.target_accept, seed))
        return run(settings, posterior, data, scale, seed)

    mixed = iter([False, False, True])
    monkeypatch.setitem(nuts_module._RUNNERS, "nutpie", run)
    monkeypatch.setattr(nuts_module, "_has_mixed", lambda run: next(mixed))
    found = Nuts(draws=50, tune=60)(target.select(np.array([0])))
    assert [r[:3] for r in runs] == [(50, 60, 0.8), (100, 120, 0.9), (200, 240, 0.9)]
    assert len({str(r[3]) for r in runs}) == 3
    assert found.theta.shape == (4, 50, 1, 2)
    assert found.stats["attempts"][1] == [3]
    assert found.stats["n_steps"][1].min() >= 4  # those of four draws


def test_the_last_attempt_is_kept_in_any_case(target, monkeypatch):
    monkeypatch.setattr(nuts_module, "_has_mixed", lambda run: False)
    found = Nuts(draws=50, tune=60, attempts=2)(target.select(np.array([0])))
    assert found.stats["attempts"][1] == [2]
    assert np.isfinite(found.theta).all()


def test_what_counts_as_mixed():
    rng = np.random.default_rng(0)
    good = rng.normal(size=(4, 500, 2))

    def mixed(theta, diverging=0.0):
        share = np.arange(theta.shape[0] * theta.shape[1]) < diverging * theta[..., 0].size
        return nuts_module._has_mixed(
            nuts_module._Run(theta, {"diverging": share.reshape(theta.shape[:2])})
        )

    assert mixed(good)
    assert mixed(good, diverging=0.01)
    assert not mixed(good, diverging=0.011)
    apart = good + 0.5 * np.arange(4)[:, None, None] * [0, 1]
    assert not mixed(apart)
    slow = np.cumsum(rng.normal(size=(4, 500, 2)), axis=1)
    slow[..., 0] = good[..., 0]
    assert not mixed(slow)
    # In the middle as good as new, in the tails each value stays for long.
    sticky = good.copy()
    sticky[:, ::50, 1] = 4.0
    for chain in range(4):
        sticky[chain, 100 * chain : 100 * chain + 40, 1] = 4.0
    assert not mixed(sticky)
    still = good.copy()
    still[..., 1] = 3.0
    assert not mixed(still)
    assert mixed(good[:1])
    assert mixed(good[:, :2])


def test_thinning_forgets_no_divergence():
    diverging = np.zeros((2, 12), bool)
    diverging[0, 4] = True
    run = nuts_module._Run(
        np.arange(24.0).reshape(2, 12, 1),
        {"diverging": diverging, "n_steps": np.ones((2, 12), int), "energy": np.ones((2, 12))},
    ).thinned_to(3)
    np.testing.assert_array_equal(run.theta[..., 0], [[3, 7, 11], [15, 19, 23]])
    np.testing.assert_array_equal(run.stats["diverging"], [[0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(run.stats["n_steps"], np.full((2, 3), 4))


def test_pymc_draws_from_the_same_posterior(draws, target):
    settings = Nuts(draws=150, chains=2, sampler="pymc")
    found = settings(target.select(np.array([1])))
    width = draws.theta[:, :, 1].std(axis=(0, 1))
    away = (found.theta[:, :, 0].mean(axis=(0, 1)) - draws.theta[:, :, 1].mean(axis=(0, 1))) / width
    assert np.all(np.abs(away) < 4.5 * np.sqrt(1 / 100 + 1 / 300))
    ratio = found.theta[:, :, 0].std(axis=(0, 1)) / width
    assert np.all(np.abs(ratio - 1) < 4.5 * np.sqrt(1 / 200 + 1 / 600))
    again = settings(target.select(np.array([1])))
    np.testing.assert_array_equal(again.theta, found.theta)
    assert np.all(found.stats["tree_depth"][1] >= 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws is 0; it must be 1 or more"),
        ({"tune": 10}, "tune is 10; it must be 50 or more"),
        ({"chains": 0}, "chains is 0"),
        ({"cores": 0}, "cores is 0"),
        ({"target_accept": 1.2}, "target_accept is 1.2; it must be at least 0.5 and below 1"),
        ({"sampler": "nutpy"}, "unknown sampler 'nutpy'.*did you mean 'nutpie'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Nuts(**settings)


def test_auto_takes_each_block_by_what_can_be_relied_on(target, monkeypatch):
    laplace = Laplace(draws=100, chains=4)

    def doubtful(self, target, draw=Laplace.draw_and_learn):
        found, scale = draw(laplace, target)
        found.stats["pareto_k"][1][:] = [0.1, RELIABLE_K, 0.69]
        found.stats["importance_ess"][1][:] = [400, 400, 399]
        return found, scale

    plain = laplace(target)
    nuts = Nuts(draws=100)(target.select(np.array([1, 2])))
    monkeypatch.setattr(Laplace, "draw_and_learn", doubtful)
    found = Auto(draws=100)(target)
    dims, method, attrs = found.stats["method"]
    assert dims == ("block",)
    assert [METHODS[m] for m in method] == ["laplace", "nuts", "nuts"]
    assert attrs["flag_meanings"] == "laplace nuts"
    np.testing.assert_array_equal(found.theta[:, :, 0], plain.theta[:, :, 0])
    assert nuts.theta.shape == found.theta[:, :, 1:].shape
    energy, depth = found.stats["energy"][1], found.stats["tree_depth"][1]
    assert np.isnan(energy[..., 0]).all()
    assert np.isfinite(energy[..., 1:]).all()
    assert np.all(depth[..., 0] == 0)
    assert np.all(depth[..., 1:] > 0)


def test_auto_without_a_block_for_nuts(target):
    found = Auto(draws=200)(target)
    assert np.all(found.stats["method"][1] == 0)
    assert found.stats["diverging"][1].shape == (4, 200, 3)
    assert not found.stats["diverging"][1].any()
