import arviz_stats
import numpy as np
import pytest
import xarray as xr

from pymcdust.errors import ResultError
from pymcdust.judge.convergence import (
    FLAGS,
    LARGEST_RHAT,
    diagnose,
    severity,
    summarise,
    worst_rhat,
    worst_superpixel,
)
from pymcdust.judge.statistics import STATISTICS, draws_of_a_chain

LAZILY = {"engine": "zarr", "chunks": None, "consolidated": False}


def flags(diagnosis, superpixel=None):
    """Return the names of the flags that are set."""
    flag = diagnosis["flag"]
    if superpixel is not None:
        flag = flag.sel(superpixel=superpixel)
    return {name for name, bit in FLAGS.items() if int(flag) & bit}


def draws_of(posterior, name):
    """Return the draws of a parameter, to be changed in place."""
    return posterior["posterior"][name].values


def stats_of(posterior, name):
    return posterior["sample_stats"][name].values


def walk(rng, shape, correlation):
    """Return chains (chain, draw) of an autoregressive process of unit width."""
    steps = rng.standard_normal(shape) * np.sqrt(1 - correlation**2)
    for draw in range(1, shape[1]):
        steps[:, draw] += correlation * steps[:, draw - 1]
    return steps


def test_the_statistics_are_those_of_arviz(make_posterior):
    posterior = make_posterior(voxels=3)
    values = draws_of(posterior, "temperature")
    rng = np.random.default_rng(0)
    for voxel in range(3):
        values[:, :, 1, voxel] = 18 + walk(rng, (4, 500), 0.3 * voxel)
    found = diagnose(posterior)
    one = posterior["posterior"].dataset[["temperature", "beta"]]
    expected = {
        "rhat": arviz_stats.rhat(one),
        "ess_bulk": arviz_stats.ess(one, method="bulk"),
        "ess_tail": arviz_stats.ess(one, method="tail", prob=(0.05, 0.95)),
        "mcse": arviz_stats.mcse(one),
        "mean": one.mean(("chain", "draw")),
        "sd": one.std(("chain", "draw"), ddof=1),
    }
    assert set(expected) == set(STATISTICS)
    for name in ("temperature", "beta"):
        for statistic, values in expected.items():
            variable = found[f"{name}_{statistic}"]
            assert variable.dims == one[name].dims[2:]
            np.testing.assert_allclose(variable, values[name], rtol=1e-10)
    assert found["temperature_sd"].attrs["unit"] == "K"
    assert found["temperature_rhat"].attrs["unit"] == ""


def test_the_worst_parameter_counts(make_posterior):
    posterior = make_posterior()
    found = diagnose(posterior)
    names = ("temperature", "beta", "rho")
    for statistic, worst in (("rhat", np.max), ("ess_bulk", np.min), ("ess_tail", np.min)):
        values = [found[f"{name}_{statistic}"].values.reshape(3, -1) for name in names]
        np.testing.assert_array_equal(found[statistic], worst(np.hstack(values), axis=1))
    ratios = [(found[f"{n}_mcse"] / found[f"{n}_sd"]).values.reshape(3, -1) for n in names]
    np.testing.assert_array_equal(found["mcse_over_sd"], np.hstack(ratios).max(axis=1))


def test_good_chains_pass(make_posterior):
    found = diagnose(make_posterior())
    assert found["passed"].all()
    assert (found["flag"] == 0).all()
    assert (found["divergent"] == 0).all()
    assert (found["bfmi"] > 1).all()
    assert found["flag"].attrs["flag_meanings"].split() == list(FLAGS)
    assert found["flag"].attrs["flag_masks"] == list(FLAGS.values())
    np.testing.assert_array_equal(found["superpixel"], [5, 6, 40])


def test_a_chain_that_stands_still_is_flagged(make_posterior):
    posterior = make_posterior()
    draws_of(posterior, "temperature")[2, :, 1, 0] = 18.5
    found = diagnose(posterior)
    assert "high_rhat" in flags(found, 6)
    np.testing.assert_array_equal(found["passed"], [True, False, True])


@pytest.mark.parametrize("apart", [True, False])
def test_chains_that_all_stand_still_are_flagged(make_posterior, apart):
    """ArviZ alone says that draws which are all the same are worth their number."""
    posterior = make_posterior()
    draws_of(posterior, "beta")[:, :, 1] = 1.6 + 0.1 * apart * np.arange(4)[:, None]
    found = diagnose(posterior)
    assert {"high_rhat", "low_ess"} <= flags(found, 6)
    assert "not_finite" not in flags(found, 6)
    assert found["passed"].values.tolist() == [True, False, True]
    assert severity(found)[1] > 1e3


@pytest.mark.parametrize("chains", [1, 4])
def test_chains_that_drift_together_are_flagged(make_posterior, chains):
    posterior = make_posterior(chains=chains, draws=1000)
    draws_of(posterior, "rho")[:, :, 2] += np.linspace(0, 3e-5, 1000)[:, None].T
    found = diagnose(posterior)
    assert "high_rhat" in flags(found, 40)
    assert found["passed"].values.tolist() == [True, True, False]


def test_a_single_chain_is_split_in_two(make_posterior):
    posterior = make_posterior(chains=1, draws=1001)
    draws = draws_of(posterior, "beta")
    halves = np.concatenate([draws[:, :500], draws[:, -500:]])
    expected = arviz_stats.rhat(halves, chain_axis=0, draw_axis=1)
    np.testing.assert_allclose(diagnose(posterior)["beta_rhat"], expected)


def test_slow_chains_are_flagged_for_their_ess(make_posterior):
    posterior = make_posterior(draws=2000)
    draws_of(posterior, "beta")[:, :, 0] = 1.6 + walk(np.random.default_rng(3), (4, 2000), 0.95)
    found = diagnose(posterior)
    assert 50 < found["ess_bulk"][0] < 400
    assert "low_ess" in flags(found, 5)


@pytest.mark.parametrize(("chains", "least"), [(1, 400), (2, 400), (4, 400), (6, 600)])
def test_the_least_ess_grows_with_the_chains(make_posterior, chains, least):
    found = diagnose(make_posterior(chains=chains, draws=1600 // chains))
    assert found.attrs["least_ess"] == least


def test_transitions_of_nuts(make_posterior):
    posterior = make_posterior(superpixels=(5, 6, 40, 41))
    stats_of(posterior, "diverging")[0, :20, 0] = True
    stats_of(posterior, "diverging")[0, :19, 1] = True
    stats_of(posterior, "reached_max_treedepth")[:, :100, 2] = True
    energy = walk(np.random.default_rng(1), (4, 500), 0.95)
    stats_of(posterior, "energy")[..., 3] = energy
    found = diagnose(posterior)
    np.testing.assert_allclose(found["divergent"], [0.01, 0.0095, 0, 0])
    np.testing.assert_allclose(found["max_treedepth"], [0, 0, 0.2, 0])
    np.testing.assert_allclose(found["bfmi"][3], arviz_stats.bfmi(energy).min())
    assert flags(found, 5) == flags(found, 6) == set()
    stats_of(posterior, "diverging")[0, 20, 0] = True
    found = diagnose(posterior)
    assert flags(found, 5) == {"divergences"}
    assert flags(found, 40) == {"tree_depth"}
    assert flags(found, 41) == {"low_bfmi"}


def test_an_energy_that_is_unknown_is_not_taken_for_good(make_posterior):
    posterior = make_posterior()
    stats_of(posterior, "energy")[:, :, 1] = np.nan
    assert flags(diagnose(posterior), 6) == {"low_bfmi"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_draws_that_are_not_finite(make_posterior, bad):
    posterior = make_posterior()
    draws_of(posterior, "temperature")[1, 7, 1, 1] = bad
    found = diagnose(posterior)
    assert {"not_finite", "high_rhat", "low_ess"} == flags(found, 6)
    assert np.isnan(found["temperature_mean"][1, 1])
    assert found["temperature_mean"].notnull().sum() == 5
    assert worst_superpixel(found) == 6


@pytest.mark.parametrize(("chains", "draws", "diagnostics"), [(4, 3, 0), (1, 7, 0), (4, 50, 1)])
def test_short_chains_are_flagged_not_refused(make_posterior, chains, draws, diagnostics):
    found = diagnose(make_posterior(chains=chains, draws=draws))
    assert all({"too_short", "low_ess"} <= flags(found, superpixel) for superpixel in (5, 6, 40))
    assert np.isfinite(found["rhat"]).all() == bool(diagnostics)
    assert np.isfinite(found["temperature_mean"]).all()


def test_a_single_draw_has_no_width(make_posterior):
    found = diagnose(make_posterior(chains=1, draws=1))
    assert np.isnan(found["beta_sd"]).all()
    assert not found["passed"].any()


def test_independent_draws_are_judged_by_their_weights(make_posterior):
    posterior = make_posterior("laplace", (5, 6, 40, 41), chains=1, draws=2000)
    stats_of(posterior, "pareto_k")[:] = [0.3, 0.71, np.nan, 0.3]
    stats_of(posterior, "importance_ess")[:] = [1500.0, 1500.0, 1500.0, 350.0]
    # Neither their order nor their repetition means anything.
    draws_of(posterior, "beta")[:] = np.sort(draws_of(posterior, "beta"), axis=1)
    found = diagnose(posterior)
    assert found["independent"].all()
    assert found["rhat"].isnull().all()
    assert flags(found, 5) == set()
    assert flags(found, 6) == flags(found, 40) == {"high_pareto_k"}
    assert flags(found, 41) == {"low_ess"}
    np.testing.assert_array_equal(found["ess_bulk"], [1500, 1500, 1500, 350])
    np.testing.assert_allclose(found["mcse_over_sd"], np.array([1500, 1500, 1500, 350]) ** -0.5)


def test_independent_draws_are_worth_no_more_than_their_number(make_posterior):
    posterior = make_posterior("laplace", chains=2, draws=300)
    stats_of(posterior, "importance_ess")[:] = 9000.0
    np.testing.assert_array_equal(diagnose(posterior)["beta_ess_tail"], 600)


def test_a_mixture_of_methods_is_judged_by_each(make_posterior):
    posterior = make_posterior("auto", range(8))
    # Superpixels 3 and 7 are by NUTS, which is why their k-hat does not matter.
    draws_of(posterior, "beta")[0, :, [2, 3]] += 1.0
    stats_of(posterior, "pareto_k")[0] = 0.9
    stats_of(posterior, "importance_ess")[1] = 30.0
    found = diagnose(posterior)
    assert found["independent"].values.tolist() == [i % 4 != 3 for i in range(8)]
    assert [flags(found, i) for i in (0, 1, 2)] == [{"high_pareto_k"}, {"low_ess"}, set()]
    assert "high_rhat" in flags(found, 3)
    assert flags(found, 7) == set()
    assert found["rhat"].notnull().values.tolist() == [i % 4 == 3 for i in range(8)]


def test_a_coupled_sky_is_one_problem(make_posterior):
    posterior = make_posterior(coupled=True)
    draws_of(posterior, "temperature")[0, :, 1, 0] += 4
    found = diagnose(posterior)
    assert found["passed"].dims == found["rhat"].dims == found["bfmi"].dims == ()
    assert found["rhat"] == found["temperature_rhat"][1, 0] > LARGEST_RHAT
    assert found["temperature_mu_rhat"].dims == ()
    assert "high_rhat" in flags(found)
    assert worst_superpixel(found) == 6


@pytest.mark.parametrize("method", ["ptemcee", "smc"])
def test_other_methods_are_judged_by_their_chains(make_posterior, method):
    posterior = make_posterior(method)
    draws_of(posterior, "beta")[0, :, 1] += 0.1
    found = diagnose(posterior)
    assert found["passed"].values.tolist() == [True, False, True]
    assert found["bfmi"].isnull().all()
    assert "pareto_k" not in found


def test_a_lazy_posterior_is_read_in_parts(make_posterior, tmp_path, monkeypatch):
    posterior = make_posterior("auto", range(10), draws=200)
    expected = diagnose(posterior)
    posterior.to_zarr(tmp_path / "posterior.zarr", zarr_format=3, consolidated=False)
    lazy = xr.open_datatree(tmp_path / "posterior.zarr", **LAZILY)
    monkeypatch.setattr("pymcdust.judge.convergence.CHUNK", 3)
    monkeypatch.setattr("pymcdust.judge.convergence.LARGEST_CHUNK", 3)
    done = []
    found = diagnose(lazy, progress=lambda *numbers: done.append(numbers))
    assert done == [(3, 10), (6, 10), (9, 10), (10, 10)]
    xr.testing.assert_identical(found, expected)
    variable = lazy["posterior"].dataset.variables["temperature"]
    assert not variable._in_memory


def test_severity_orders_superpixels(make_posterior):
    posterior = make_posterior(superpixels=range(4))
    stats_of(posterior, "diverging")[:, :100, 1] = True
    draws_of(posterior, "beta")[0, :, 2] += 1.0
    found = diagnose(posterior)
    worst = severity(found)
    assert worst[2] > worst[1] > 1 > worst[0] > 0
    assert worst_superpixel(found) == 2
    np.testing.assert_array_equal(worst > 1, ~found["passed"])


def test_summary_of_a_superpixel(make_posterior):
    posterior = make_posterior(coupled=True)
    found = diagnose(posterior)
    rows = summarise(posterior, found, 40)
    assert [(row["parameter"], row["superpixel"], row["voxel"]) for row in rows] == [
        ("temperature_mu", None, None),
        ("temperature", 40, 0),
        ("temperature", 40, 1),
        ("beta", 40, None),
        ("rho", 40, None),
    ]
    row, draws = rows[2], draws_of(posterior, "temperature")[:, :, 2, 1]
    assert row["unit"] == "K"
    expected = np.quantile(draws, [0.055, 0.16, 0.84, 0.945])
    np.testing.assert_allclose([row[k] for k in ("low89", "low68", "high68", "high89")], expected)
    for statistic in STATISTICS:
        assert row[statistic] == found[f"temperature_{statistic}"][2, 1]
    draws_of(posterior, "beta")[0, :, 1] += 1
    assert summarise(posterior, diagnose(posterior))[-1]["superpixel"] == 6
    with pytest.raises(ResultError, match="no superpixel 7; it has 3: 5, 6 and 40"):
        summarise(posterior, found, 7)


def test_worst_rhat():
    draws = np.random.default_rng(0).standard_normal((4, 200, 5, 3))
    draws[0, :, 1, 2] += 1
    draws[:, :, 2, 0] = 1.0
    draws[0, 0, 3, 0] = np.nan
    good = [0, 1, 4]
    expected = arviz_stats.rhat(draws[:, :, good], chain_axis=0, draw_axis=1).max(axis=-1)
    found = worst_rhat(draws)
    np.testing.assert_allclose(found[good], expected)
    np.testing.assert_array_equal(found[[2, 3]], np.inf)
    assert worst_rhat(draws[:, :3]).tolist() == [np.inf] * 5
    assert np.ndim(worst_rhat(draws[:, :, 0])) == 0
    assert np.isfinite(worst_rhat(draws[:1, :, 0]))
    assert draws_of_a_chain(1, 7) == 3


def broken(posterior, what):
    if what == "dataset":
        return posterior["posterior"].dataset
    if what == "unsaid":
        posterior.attrs.pop("method")
    elif what == "misspelt":
        posterior.attrs["method"] = "nutz"
    elif what == "draws":
        return posterior.isel(draw=slice(0, 0))
    elif what == "chains":
        posterior["posterior"] = posterior["posterior"].dataset.isel(chain=0, drop=True)
    elif what in posterior.children:
        del posterior[what]
    else:
        posterior["sample_stats"] = posterior["sample_stats"].dataset.drop_vars(what)
    return posterior


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("dataset", "a DatasetView is no posterior; give an xarray.DataTree"),
        ("posterior", "needs the group posterior; the groups are sample_stats and constant_data"),
        ("sample_stats", "needs the group sample_stats"),
        ("lp", "sample_stats lacks lp; it has diverging"),
        ("unsaid", "does not say how it was drawn: .*'None'; allowed are laplace, nuts"),
        ("misspelt", "did you mean 'nuts'"),
        ("draws", "has no draws"),
        ("chains", "has no chains"),
    ],
)
def test_what_is_no_posterior_is_refused(make_posterior, what, message):
    with pytest.raises(ResultError, match=message):
        diagnose(broken(make_posterior(), what))


@pytest.mark.parametrize(
    ("method", "what"),
    [("laplace", "importance_ess"), ("laplace", "pareto_k"), ("auto", "method")],
)
def test_what_the_verdict_rests_on_must_be_there(make_posterior, method, what):
    with pytest.raises(ResultError, match=f"drawn by {method} needs {what} in sample_stats"):
        diagnose(broken(make_posterior(method), what))


def test_a_mixture_must_say_which_method_is_which(make_posterior):
    posterior = make_posterior("auto")
    posterior["sample_stats"]["method"].attrs.clear()
    with pytest.raises(ResultError, match="flag_values and flag_meanings"):
        diagnose(posterior)
