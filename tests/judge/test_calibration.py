"""Calibration by simulation: the tests of ranks, what is ranked, and the methods themselves."""

import json
from itertools import product

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from pymcdust import Prior, fixed, per_voxel, sample, simulate_sky
from pymcdust.errors import ConfigurationError, ResultError, SkyError
from pymcdust.judge.calibration import LEVELS, calibrate, plot_ranks, rank_truth, tabulate
from pymcdust.judge.uniformity import chi_square_p, ecdf_band, ecdf_p
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.physics.bands import BANDS, FREQUENCY
from pymcdust.physics.emission import emissivity
from pymcdust.sky.morphology import mock_reddening

#: Chance that a calibration of a correct program fails.
FALSE_ALARM = 1e-4

N_DRAW, CHAINS = 400, 2

MODEL = "temperature_per_voxel"

FREQUENCIES = np.array([FREQUENCY[band] for band in BANDS])


class TestUniformity:
    def test_the_p_value_of_the_distribution_function_is_exact(self):
        """All outcomes of five ranks out of three, one by one."""
        outcomes = list(product(range(3), repeat=5))

        def least(rank):
            tails = []
            for point in (1, 2):
                below = sum(r < point for r in rank)
                law = stats.binom(5, point / 3)
                tails += [law.cdf(below), law.sf(below - 1)]
            return min(tails)

        every = np.array([least(rank) for rank in outcomes])
        for rank, own in zip(outcomes[::7], every[::7], strict=True):
            expected = np.mean(every <= own * (1 + 1e-9))
            assert ecdf_p(np.array(rank), 3) == pytest.approx(expected, abs=1e-12)

    def test_the_chi_square_test_is_that_of_scipy(self):
        rank = np.random.default_rng(1).integers(0, 40, 200)
        expected = stats.chisquare(np.histogram(rank, np.arange(0, 41, 4))[0]).pvalue
        assert chi_square_p(rank, 40, 10) == pytest.approx(expected)

    @pytest.mark.parametrize("test", [ecdf_p, lambda rank, n_rank: chi_square_p(rank, n_rank, 10)])
    def test_uniform_ranks_fail_as_often_as_they_should(self, test):
        rng = np.random.default_rng(1)
        p = np.array([test(rng.integers(0, 40, 200), 40) for _ in range(400)])
        for level in (0.05, 0.5):
            low, high = stats.binom.interval(1 - FALSE_ALARM, len(p), level)
            # Counts are few: p-values are at least as large as they should be, and not by much.
            assert 0.8 * low <= (p <= level).sum() <= high

    def test_the_band_holds_the_whole_line(self):
        rng = np.random.default_rng(1)
        points, low, high = ecdf_band(150, 40, 0.9)
        assert points == pytest.approx(np.arange(1, 40) / 40)
        inside = 0
        for _ in range(1000):
            rank = rng.integers(0, 40, 150)
            below = np.array([(rank < k).mean() for k in range(1, 40)])
            held = bool(np.all((below >= low - 1e-12) & (below <= high + 1e-12)))
            inside += held
            assert held == (ecdf_p(rank, 40) > 0.1) or abs(ecdf_p(rank, 40) - 0.1) < 0.01
        assert stats.binom.ppf(FALSE_ALARM, 1000, 0.9) <= inside

    @pytest.mark.parametrize("shape", [(2, 2), (0.7, 0.7), (1.3, 1.0)])
    def test_ranks_that_are_not_uniform_are_noticed(self, shape):
        rank = (np.random.default_rng(1).beta(*shape, 2000) * 100).astype(int)
        assert ecdf_p(rank, 100) < FALSE_ALARM
        assert chi_square_p(rank, 100, 20) < FALSE_ALARM

    def test_too_few_ranks_give_no_p_value(self):
        assert np.isnan(chi_square_p(np.arange(20), 20, 20))
        assert np.isnan(ecdf_p(np.empty(0, int), 20))

    @pytest.mark.parametrize("bins", [1, 3])
    def test_bins_that_do_not_fill_the_ranks_are_refused(self, bins):
        with pytest.raises(ConfigurationError, match=f"bins is {bins}, for 20 possible"):
            chi_square_p(np.arange(20), 20, bins)


def mock(n=40, seed=1):
    return simulate_sky(
        MODEL,
        nside=32,
        superpixel_nside=8,
        superpixels=range(n),
        distance_edge=(0, 0.5, 2),
        seed=seed,
    )


def fake_posterior(sky, shift=0.0, seed=1):
    """Draws whose law is known: the truth lies `shift` below their middle, in units of width."""
    rng = np.random.default_rng(seed)
    draws = {}
    dims = {"temperature": ("superpixel", "voxel"), "beta": ("superpixel",), "rho": ("superpixel",)}
    width = {"temperature": 2.0, "beta": 0.1, "rho": 1e-5}
    for name in dims:
        truth = sky[f"true_{name}"].values
        z = rng.standard_normal((CHAINS, N_DRAW, *truth.shape))
        centre = truth + width[name] * (shift + rng.standard_normal(truth.shape))
        variable = centre + width[name] * z
        draws[name] = (("chain", "draw", *dims[name]), variable, {"prior_sd": 2 * width[name]})
    shape = (CHAINS, N_DRAW, sky.sizes["superpixel"])
    lp = rng.standard_normal(shape)
    names = ("chain", "draw", "superpixel")
    coords = {"superpixel": sky.superpixel.values}
    groups = {
        "posterior": xr.Dataset(draws, coords),
        "sample_stats": xr.Dataset(
            {
                "lp": (names, lp),
                "pareto_k": ("superpixel", np.full(shape[2], 0.3)),
                "importance_ess": ("superpixel", np.full(shape[2], 700.0)),
            },
            coords,
        ),
        "log_likelihood": xr.Dataset({"emission": (names, lp)}, coords),
    }
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {"method": "laplace", "model": MODEL, "settings": "{}"}
    return tree


@pytest.fixture(scope="module")
def sky():
    return mock()


class TestRanks:
    def test_a_rank_is_the_number_of_draws_below_the_truth(self, sky):
        tree = fake_posterior(sky)
        found = rank_truth(tree, sky, bins=4, ranked=19)
        draws = tree["posterior"].beta.values.reshape(-1, 40)
        kept = np.round(np.linspace(0, len(draws) - 1, 19)).astype(int)
        truth = sky.true_beta.values
        assert found.beta_rank.values.tolist() == (draws[kept] < truth).sum(axis=0).tolist()
        assert found.beta_pit.values == pytest.approx((draws < truth).mean(axis=0))
        assert found.temperature_rank.dims == ("superpixel", "voxel")

    def test_zscore_and_shrinkage(self, sky):
        tree = fake_posterior(sky)
        found = rank_truth(tree, sky, bins=4, ranked=19)
        for voxel in (0, 1):
            draws = tree["posterior"].temperature.values[..., voxel].reshape(-1, 40)
            z = (draws.mean(axis=0) - sky.true_temperature.values[:, voxel]) / draws.std(0, ddof=1)
            assert found.temperature_zscore.values[:, voxel] == pytest.approx(z)
            shrinkage = 1 - draws.var(axis=0, ddof=1) / 4.0**2
            assert found.temperature_shrinkage.values[:, voxel] == pytest.approx(shrinkage)

    def test_coverage_counts_equal_tailed_intervals(self, sky):
        tree = fake_posterior(sky)
        found = rank_truth(tree, sky, bins=4, ranked=19)
        draws, truth = tree["posterior"].rho.values.reshape(-1, 40), sky.true_rho.values
        for level in LEVELS:
            low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
            covered = np.mean((low <= truth) & (truth <= high))
            value = found.rho_coverage.sel(selection="all", level=level)
            assert float(value) == pytest.approx(covered, abs=1.01 / 40)

    def test_the_likelihood_of_the_truth_is_that_of_the_valid_pixels(self, sky):
        valid = np.random.default_rng(1).random(sky.valid.shape) > 0.2
        sky = sky.assign(valid=(sky.valid.dims, valid))
        tree = fake_posterior(sky)
        position = 7
        one = sky.isel(superpixel=position)
        glow = emissivity(
            FREQUENCIES,
            one.true_temperature.values[:, None],
            float(one.true_beta),
            float(one.true_rho),
        )
        away = (one.emission.values - one.reddening.values @ glow)[valid[position]]
        expected = stats.norm.logpdf(away, scale=one.sigma.values).sum()
        draws = tree["log_likelihood"].emission.values
        for change, rank in ((1e-6, 0), (-1e-6, 19)):
            noise = np.random.default_rng(1).random(draws.shape[:2])
            draws[..., position] = expected + change * (1 + noise)
            found = rank_truth(tree, sky, bins=4, ranked=19)
            assert found.log_likelihood_rank[position] == rank

    def test_only_reliable_mocks_are_counted_as_such(self, sky):
        tree = fake_posterior(sky)
        tree["sample_stats"].pareto_k.values[3] = 0.71
        # Few draws are no reason, unless the truth is ranked among more.
        tree["sample_stats"].importance_ess.values[4:6] = 18.0, 20.0
        found = rank_truth(tree, sky, bins=4, ranked=19)
        assert found.n_mock.values.tolist() == [40, 38]
        assert np.flatnonzero(~found.reliable).tolist() == [3, 4]
        assert found.pareto_k[3] == 0.71
        inside = np.abs(found.beta_pit.values - 0.5) <= 0.25
        coverage = found.beta_coverage.sel(level=0.5).values
        assert coverage == pytest.approx([inside.mean(), inside[found.reliable].mean()])

    def test_as_many_draws_are_ranked_as_are_independent(self, sky):
        tree = fake_posterior(sky)
        assert rank_truth(tree, sky).attrs["ranked"] == 199
        # One mock in fifty may be worth less.
        tree["sample_stats"].importance_ess.values[:] = 57.0
        tree["sample_stats"].importance_ess.values[20:] = 300.0
        tree["sample_stats"].importance_ess.values[0] = 3.0
        assert rank_truth(tree, sky, bins=10).attrs["ranked"] == 49

    def test_the_worst_of_the_p_values_is_told(self):
        sky = mock(400)
        found = rank_truth(fake_posterior(sky, shift=0.3), sky, bins=4, ranked=19)
        p = [v.sel(selection="all").values.ravel() for n, v in found.items() if n.endswith("_p")]
        p = np.concatenate(p)
        assert 0 < p.min() < FALSE_ALARM
        assert float(found.p_value[0]) == pytest.approx(p.min() * p.size, abs=0)


class TestRefusals:
    def test_a_sky_without_truth(self, sky):
        with pytest.raises(SkyError, match="lacks true_beta; a truth drawn from the model's prior"):
            calibrate(MODEL, sky.drop_vars("true_beta"))

    def test_a_truth_that_is_everywhere_the_same(self):
        one = simulate_sky(
            {"temperature": 18.0, "beta": 1.6, "rho": 1e-4},
            nside=16,
            superpixel_nside=8,
            superpixels=range(4),
        )
        with pytest.raises(SkyError, match="same in all superpixels"):
            calibrate(MODEL, one)

    def test_a_truth_of_another_tying(self, sky):
        tree = fake_posterior(sky)
        other = sky.assign(true_temperature=sky.true_temperature.isel(voxel=0))
        with pytest.raises(
            SkyError, match=r"true_temperature has the dimensions \('superpixel',\)"
        ):
            rank_truth(tree, other, bins=4, ranked=19)

    def test_another_sky(self, sky):
        with pytest.raises(ResultError, match="of 40 superpixels, the sky has 39"):
            rank_truth(fake_posterior(sky), sky.isel(superpixel=slice(39)))

    def test_superpixels_that_are_coupled(self, sky, make_posterior):
        with pytest.raises(ResultError, match="couples superpixels"):
            rank_truth(make_posterior(coupled=True), sky)

    @pytest.mark.parametrize(("ranked", "bins"), [(20, 4), (803, 4), (-1, 4)])
    def test_a_number_of_ranks_that_does_not_fit(self, sky, ranked, bins):
        with pytest.raises(ConfigurationError, match=f"ranked is {ranked}, with .* largest is 799"):
            rank_truth(fake_posterior(sky), sky, bins=bins, ranked=ranked)

    def test_a_single_bin(self, sky):
        with pytest.raises(ConfigurationError, match="bins is 1"):
            rank_truth(fake_posterior(sky), sky, bins=1)


class TestShowing:
    def test_the_table_has_a_row_for_each_value(self, sky):
        found = rank_truth(fake_posterior(sky), sky, bins=4, ranked=19)
        rows = tabulate(found)
        assert [row["quantity"] for row in rows] == [
            "temperature, voxel 1",
            "temperature, voxel 2",
            "beta",
            "rho",
            "log likelihood",
        ]
        assert rows[1]["ecdf_p"] == float(found.temperature_ecdf_p.sel(selection="all")[1])
        assert rows[2]["coverage"][0.89] == float(
            found.beta_coverage.sel(selection="all", level=0.89)
        )
        assert rows[3]["zscore_sd"] == pytest.approx(found.rho_zscore.values.std())
        assert rows[4]["shrinkage"] is None

    def test_no_mock_has_no_numbers(self, sky):
        tree = fake_posterior(sky)
        tree["sample_stats"].pareto_k.values[:] = 2.0
        found = rank_truth(tree, sky, bins=4, ranked=19)
        assert found.n_mock.values.tolist() == [40, 0]
        assert np.isnan(found.p_value.values).tolist() == [False, True]
        row = tabulate(found, "reliable")[0]
        numbers = [row["chi2_p"], row["zscore_sd"], row["shrinkage"], row["coverage"][0.5]]
        assert np.isnan(numbers).all()
        assert not plot_ranks(found).legends

    def test_another_selection_is_refused(self, sky):
        found = rank_truth(fake_posterior(sky), sky, bins=4, ranked=19)
        with pytest.raises(ConfigurationError, match="did you mean 'reliable'"):
            tabulate(found, "reliabel")

    def test_the_figure_shows_all_values(self, sky):
        tree = fake_posterior(sky)
        tree["sample_stats"].pareto_k.values[3] = 0.71
        figure = plot_ranks(rank_truth(tree, sky, bins=4, ranked=19))
        titles = [axes.get_title() for axes in figure.axes[:5]]
        assert titles[0] == "temperature, voxel 1"
        assert titles[-1] == "log likelihood"
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert texts == ["all 40 mocks", "the 39 reliable ones"]

    def test_the_figure_breaks_its_line(self):
        sky = mock()
        found = rank_truth(fake_posterior(sky), sky, bins=4, ranked=19)
        many = xr.concat([found.drop_vars(["superpixel"])] * 4, "voxel", data_vars="minimal")
        figure = plot_ranks(many.assign_coords(superpixel=sky.superpixel))
        assert len([axes for axes in figure.axes if axes.axison]) == 2 * 11


def test_the_draws_follow_from_the_seed():
    sky = mock(6)
    first, same, other = (
        calibrate(MODEL, sky, method="laplace", bins=4, seed=seed, draws=500) for seed in (1, 1, 2)
    )
    xr.testing.assert_identical(first, same)
    assert not first.beta_pit.equals(other.beta_pit)
    own = sample(MODEL, sky, method="laplace", seed=1, draws=500)
    xr.testing.assert_equal(first.beta_pit, rank_truth(own, sky, bins=4).beta_pit)
    assert first.attrs["seed"] == first.attrs["sky_seed"] == own.attrs["seed"] == 1
    assert first.attrs["method"] == "laplace"
    assert json.loads(first.attrs["settings"])["draws"] == 500


@pytest.fixture(scope="module")
def mocks():
    """Two voxels, from hardly any dust to a lot: 768 mocks over the whole sky."""
    dust = mock_reddening(
        nside=64, superpixel_nside=8, distance_edge=(0, 0.4, 2), density=0.4, seed=3
    )
    return simulate_sky(MODEL, reddening=dust, seed=3)


@pytest.fixture(scope="module")
def by_laplace(mocks):
    return sample(MODEL, mocks, method="laplace", seed=77)


@pytest.mark.statistical
class TestMethods:
    def test_the_mocks_hold_voxels_of_all_kinds(self, mocks, by_laplace):
        shrinkage = rank_truth(by_laplace, mocks).temperature_shrinkage.values
        assert ((shrinkage < 0.1).mean() > 0.1) & ((shrinkage > 0.95).mean() > 0.05)

    def test_importance_sampling_is_calibrated_where_it_is_reliable(self, mocks, by_laplace):
        found = rank_truth(by_laplace, mocks)
        assert found.n_mock.sel(selection="reliable") > 450
        assert found.p_value.sel(selection="reliable") > FALSE_ALARM

    def test_nuts_is_calibrated(self, mocks):
        found = calibrate(
            MODEL,
            mocks,
            method="nuts",
            chains=2,
            draws=100,
            tune=100,
            attempts=1,
        )
        assert found.p_value.sel(selection="all") > FALSE_ALARM

    @pytest.mark.parametrize("factor", [0.8, 1.2])
    def test_draws_of_a_wrong_width_are_noticed(self, mocks, by_laplace, factor):
        tree = by_laplace.copy(deep=True)
        for variable in tree["posterior"].data_vars.values():
            mean = variable.mean(("chain", "draw"))
            variable.values[...] = (mean + factor * (variable - mean)).transpose(*variable.dims)
        assert rank_truth(tree, mocks).p_value.max() < FALSE_ALARM

    def test_a_wrong_noise_is_noticed(self, mocks):
        tree = sample(MODEL, mocks.assign(sigma=1.2 * mocks.sigma), method="laplace", seed=77)
        assert rank_truth(tree, mocks).p_value.max() < FALSE_ALARM

    def test_a_prior_that_is_too_wide_is_noticed(self, mocks):
        wide = Prior("TruncatedNormal", mu=18.1, sigma=18.0, lower=5.0, upper=100.0)
        model = TemperaturePerVoxel(temperature=per_voxel(wide, unit="K"))
        tree = sample(model, mocks, method="laplace", seed=77)
        assert rank_truth(tree, mocks).p_value.sel(selection="all") < FALSE_ALARM


def test_draws_of_the_prior_are_noticed_by_their_likelihood():
    """The ranks of every parameter are uniform, though nobody has looked at the data."""
    sky = mock(300)
    tree = fake_posterior(sky)
    coords = {"superpixel": sky.superpixel.values, "voxel": np.arange(2), "band": list(BANDS)}
    rng = np.random.default_rng(1)
    posterior, log_likelihood = tree["posterior"], tree["log_likelihood"].emission
    prior = [TemperaturePerVoxel().draw(coords, rng) for _ in range(100)]
    for chain, draw in np.ndindex(CHAINS, N_DRAW):
        drawn = prior[(chain * N_DRAW + draw) // 8]
        for name in ("temperature", "beta", "rho"):
            posterior[name].values[chain, draw] = drawn[name].values
        shared = drawn.beta.values[:, None, None], drawn.rho.values[:, None, None]
        glow = emissivity(FREQUENCIES, drawn.temperature.values[..., None], *shared)
        away = (sky.emission.values - sky.reddening.values @ glow) / sky.sigma.values
        log_likelihood.values[chain, draw] = -0.5 * np.square(away).sum(axis=(1, 2))
        log_likelihood.values[chain, draw] -= 16 * np.log(2 * np.pi * sky.sigma.values**2).sum() / 2
    found = rank_truth(tree, sky, bins=20, ranked=99)
    for name in ("temperature", "beta", "rho"):
        assert found[f"{name}_ecdf_p"].sel(selection="all").min() > FALSE_ALARM
    assert found.log_likelihood_ecdf_p.sel(selection="all") < FALSE_ALARM


def test_a_fixed_parameter_is_not_ranked():
    model = TemperaturePerVoxel(rho=fixed(1e-4, unit="mag-1"))
    sky = simulate_sky(model, nside=16, superpixel_nside=8, superpixels=range(8), seed=1)
    found = calibrate(model, sky, method="laplace", bins=4, draws=500)
    assert "rho_rank" not in found
    assert found.beta_rank.sizes == {"superpixel": 8}
