"""The MAP and its errors, against least squares, quadrature and the paper's Hessian."""

import json
from functools import partial

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from pymcdust import Prior, fixed, models, per_superpixel, per_voxel, simulate_sky
from pymcdust.infer import fit as fit_module
from pymcdust.infer.engine import fit_map
from pymcdust.infer.fit import FLAGS, START, find_maximum, start_coordinates
from pymcdust.infer.newton import maximise
from pymcdust.modeling.gallery import resolve
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.products.reliability import prior_dominated
from pymcdust.sky.compression import as_rows, compress

pytestmark = pytest.mark.usefixtures("shared_compilation")

GALLERY = tuple(models.available())
FLAT = tuple(name for name in GALLERY if name != "hierarchical_temperature")


def natural_vector(posterior, fit, superpixel=None):
    """Put the values of a fit in the order of a block's vector."""
    parts = []
    for slot in posterior.slots:
        value = fit[slot.name]
        if superpixel is not None and "superpixel" in value.dims:
            value = value.isel(superpixel=superpixel)
        parts.append(np.ravel(value.values))
    return np.concatenate(parts)


# The maximum


@pytest.mark.parametrize("name", FLAT)
def test_no_least_squares_start_ends_below(name, compiled, tied, sky):
    fit = fit_map(name, sky)
    assert fit.converged.all()
    posterior = compiled(name, compress(sky))
    witness = tied(name, sky, posterior)
    rng = np.random.default_rng(0)
    for s in range(3) if posterior.by_superpixel else [0]:
        superpixels = [s] if posterior.by_superpixel else [0, 1, 2]
        best = witness.best(superpixels, rng, starts=4)
        assert fit.objective.values[s] <= best * (1 + 1e-6)
        # Both minimise the same function, constants included.
        assert fit.objective.values[s] == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("name", FLAT)
def test_errors_are_those_of_the_paper_hessian(name, compiled, tied, sky):
    # A1 is minus twice the log posterior: its Hessian halved is the precision.
    fit = fit_map(name, sky)
    posterior = compiled(name, compress(sky))
    witness = tied(name, sky, posterior)
    errors = fit[[f"{slot.name}_sd" for slot in posterior.slots]]
    errors = errors.rename({f"{slot.name}_sd": slot.name for slot in posterior.slots})
    for s in range(3) if posterior.by_superpixel else [None]:
        superpixels = [0, 1, 2] if s is None else [s]
        vector = natural_vector(posterior, fit, s)
        _, gradient, hessian = witness.objective(vector, superpixels)
        covariance = np.linalg.inv(hessian / 2)
        expected = np.sqrt(np.diag(covariance))
        # The maximum leaves less than 1e-3 of a posterior's width to climb.
        assert np.all(np.abs(gradient / 2 * expected) < 1e-3)
        np.testing.assert_allclose(natural_vector(posterior, errors, s), expected, rtol=2e-3)


def test_a_learnt_population_is_that_of_scipy(sky):
    fit = fit_map("hierarchical_temperature", sky)
    assert fit.converged.all()
    frequency = np.array([217.0, 353.0, 545.0, 857.0, 2998.0])

    def objective(vector):
        mean, scatter = vector[0], vector[1]
        temperature, beta, log_rho = vector[2:11].reshape(3, 3), vector[11:14], vector[14:]
        if not (0.5 < scatter < 10 and np.all(temperature > 5) and np.all(np.abs(beta - 2) < 1)):
            return 1e6
        x = 0.04799243073366221 * frequency / temperature[..., None]
        planck = 1.4744994647625417e-3 * frequency**3 / np.expm1(x)
        power = np.exp(beta[:, None] * np.log(frequency / 353))
        glow = np.exp(log_rho)[:, None, None] * power[:, None] * planck
        misfit = (sky.reddening.values @ glow - sky.emission.values) / sky.sigma.values
        chi2 = (misfit**2)[sky.valid.values].sum()
        low, high = (5 - mean) / scatter, (100 - mean) / scatter
        population = stats.norm.logpdf(temperature, mean, scatter).sum()
        population -= 9 * np.log(special.ndtr(high) - special.ndtr(low))
        return (
            chi2
            - 2 * population
            + ((mean - 18.1) / 3) ** 2
            + ((scatter - 2) / 2) ** 2
            + (((beta - 1.6) / 0.3) ** 2).sum()
            + ((log_rho - np.log(1e-4) + 1) ** 2).sum()
        )

    found = [fit[n].values for n in ("temperature_mu", "temperature_sigma", "temperature", "beta")]
    found = np.concatenate([np.ravel(v) for v in [*found, np.log(fit.rho.values)]])
    np.testing.assert_allclose(fit.objective, objective(found), rtol=1e-9)
    start = np.array([18.0, 3.0, *[18.0] * 9, *[1.6] * 3, *[np.log(1e-4)] * 3])
    best = optimize.minimize(objective, start, method="L-BFGS-B", options={"maxiter": 200}).fun
    assert np.all(fit.objective <= best * (1 + 1e-6))
    np.testing.assert_allclose(fit.objective, best, rtol=1e-3)


def test_a_fit_speaks_of_the_parameter_itself_however_it_is_written(sky):
    # The maximum of a non-centred density would be that of another variable.
    mean = Prior("Normal", mu=18.0, sigma=3.0)
    fits = [
        fit_map(
            TemperaturePerVoxel(
                temperature=per_voxel(
                    Prior("Normal", mu=mean, sigma=2.0, centered=centred), unit="K"
                ),
                beta=fixed(1.6),
                rho=fixed(1e-4),
            ),
            sky,
        )
        for centred in (True, False)
    ]
    assert fits[0].converged.all()
    assert set(fits[0].data_vars) == set(fits[1].data_vars)
    np.testing.assert_allclose(fits[0].temperature, fits[1].temperature, rtol=1e-9)
    np.testing.assert_allclose(fits[0].temperature_sd, fits[1].temperature_sd, rtol=1e-9)


def test_twins_end_in_the_deeper_of_their_valleys(compiled, tied, sky_of):
    # Two voxels of nearly the same shape may exchange their temperatures: two maxima.
    sky = sky_of(n_superpixel=3, temperature=[14.0, 26.0, 18.0], noise=0.05, seed=3)
    shape = sky.reddening.values
    shape[..., 1] = shape[..., 0] * (1 + 0.05 * np.sin(np.arange(16)))
    one = fit_map("temperature_per_voxel", sky)
    many = fit_map("temperature_per_voxel", sky, starts=8)
    assert np.all(many.objective <= one.objective + 1e-6)
    witness = tied("temperature_per_voxel", sky, compiled("temperature_per_voxel", compress(sky)))
    rng = np.random.default_rng(1)
    ends = np.array([[witness.best([s], rng, starts=1) for _ in range(8)] for s in range(3)])
    assert np.any(ends.max(axis=1) > ends.min(axis=1) + 1), "the mock has more than one maximum"
    assert np.all(many.objective <= ends.min(axis=1) * (1 + 1e-6))


def test_rows_in_any_form_and_order_give_the_same_fit(sky):
    fit = fit_map("temperature_per_voxel", sky)
    same = fit_map("temperature_per_voxel", compress(sky))
    raw = fit_map("temperature_per_voxel", as_rows(sky))
    turned = fit_map("temperature_per_voxel", sky.isel(superpixel=[2, 0, 1]))
    for name in ("temperature", "temperature_sd", "rho", "beta_sd", "objective", "chi2"):
        np.testing.assert_array_equal(fit[name], same[name])
        np.testing.assert_allclose(raw[name], fit[name], rtol=1e-4)
        np.testing.assert_allclose(turned[name], fit[name].isel(superpixel=[2, 0, 1]), rtol=1e-6)


def test_a_single_voxel(sky_of):
    name, sky = "temperature_per_voxel", sky_of(n_voxel=1, noise=0.01)
    fit = fit_map(name, sky)
    assert fit.converged.all()
    np.testing.assert_allclose(np.ravel(fit.temperature), 19.0, atol=0.5)
    alone = fit_map(name, sky.isel(superpixel=[1]))
    np.testing.assert_allclose(alone.objective, fit.objective[1], rtol=1e-9)


# Bounds


def test_a_parameter_at_its_bound_is_flagged_with_a_sensible_error(compiled, paper, sky_of):
    model = TemperaturePerVoxel(
        temperature=fixed(18.0, unit="K"),
        rho=fixed(1e-4, unit="mag-1"),
        beta=per_superpixel(Prior("Uniform", lower=1.0, upper=3.0)),
    )
    beta = np.array([0.6, 0.9, 1.6, 3.3])[:, None]
    sky = sky_of(n_superpixel=4, temperature=[18.0, 18, 18], beta=beta, seed=2)
    fit = fit_map(model, sky)
    assert fit.converged.all()
    at_bound = (fit.flag.values & FLAGS["parameter_at_bound"]) > 0
    assert at_bound.tolist() == [True, True, False, True]
    assert np.all((fit.beta >= 1) & (fit.beta <= 3))
    np.testing.assert_allclose(fit.beta[[0, 1, 3]], [1, 1, 3], atol=1e-3)
    for s in range(4):
        one = paper.of(sky, s)

        def chi2(value, one=one):
            return one.chi2(np.array([0.0] * 5 + [1e-4] * 3 + [value] * 3 + [18.0] * 3))

        centre, reach = float(fit.beta[s]), 12 * float(fit.beta_sd[s])
        beta = np.linspace(max(1.0, centre - reach), min(3.0, centre + reach), 2001)
        density = np.exp(-0.5 * (np.array([chi2(b) for b in beta]) - chi2(centre)))
        moments = [integrate.simpson((beta - centre) ** k * density, x=beta) for k in range(3)]
        mean = moments[1] / moments[0]
        sd = np.sqrt(moments[2] / moments[0] - mean**2)
        assert float(fit.beta_sd[s]) == pytest.approx(sd, rel=0.03)


def test_bounds_hold_where_the_data_want_out(sky_of):
    beta = np.array([3.4, 3.5, 3.6])[:, None]
    sky = sky_of(seed=5, noise=0.02, temperature=18.0, beta=beta)
    fit = fit_map("single_temperature", sky)
    assert fit.converged.all()
    assert np.all((fit.temperature >= 5) & (fit.temperature <= 100))
    assert np.all((fit.beta >= 1) & (fit.beta <= 3))
    np.testing.assert_allclose(fit.beta, 3.0, atol=1e-3)
    assert np.all(fit.flag.values & FLAGS["parameter_at_bound"])
    for name in ("temperature", "beta", "rho"):
        assert np.all(fit[f"{name}_sd"] > 0)
    assert np.all(fit.beta_sd < 0.1)


# Voxels and superpixels that data say little of


def test_a_voxel_without_dust_returns_its_prior(sky):
    model = TemperaturePerVoxel(
        temperature=per_voxel(Prior("Normal", mu=18.1, sigma=9.0), unit="K")
    )
    bare = sky.copy(deep=True)
    bare["reddening"].values[1, :, 2] = 0.0
    fit = fit_map(model, bare)
    assert fit.converged.all()
    assert float(fit.temperature[1, 2]) == pytest.approx(18.1, abs=1e-3)
    assert float(fit.temperature_sd[1, 2]) == pytest.approx(9.0, rel=1e-6)
    assert fit.temperature.attrs["prior_sd"] == 9.0
    assert prior_dominated(fit, "temperature").values[1].tolist() == [False, False, True]
    without = (fit.flag.values & FLAGS["voxel_without_dust"]) > 0
    assert without.tolist() == [False, True, False]


def test_too_few_data_are_flagged(sky):
    valid = sky.valid.values.copy()
    valid[1] = False
    valid[1, 3] = True
    fit = fit_map("all_per_voxel", sky.assign(valid=(("superpixel", "pixel"), valid)))
    few = (fit.flag.values & FLAGS["fewer_data_than_parameters"]) > 0
    assert few.tolist() == [False, True, False]
    assert fit.n_data.values[1] == 5
    assert fit.converged.all()


def test_what_has_not_converged_is_flagged(sky, monkeypatch):
    monkeypatch.setattr(fit_module, "maximise", partial(maximise, max_iterations=2))
    fit = fit_map("temperature_per_voxel", sky)
    assert not fit.converged.any()
    assert np.all(fit.flag.values & FLAGS["not_converged"])
    assert np.all(fit.iterations == 2 * (1 + fit_module.RESTARTS))
    assert np.all(fit.gradient_norm > 1e-3)


def test_only_those_that_need_it_start_again(compiled, sky, monkeypatch):
    posterior = compiled("temperature_per_voxel", compress(sky))
    sizes = []

    def limited(evaluate, theta):
        sizes.append(len(theta))
        end = maximise(evaluate, theta)
        if len(sizes) == 1:
            end.gain[1] = 1.0
        return end

    monkeypatch.setattr(fit_module, "maximise", limited)
    end = find_maximum(posterior, compress(sky), 1, np.random.default_rng(0))
    assert sizes == [3, 1]
    assert end.converged.all()
    sizes.clear()
    monkeypatch.setattr(fit_module, "maximise", lambda e, t: sizes.append(len(t)) or maximise(e, t))
    find_maximum(posterior, compress(sky), 3, np.random.default_rng(0))
    assert sizes == [3, 3, 3]


# Starting points


def test_a_fit_starts_where_the_published_ones_do(compiled, sky):
    posterior = compiled("offsets_per_superpixel", compress(sky))
    start = start_coordinates(posterior, START)
    for slot in posterior.slots:
        value = {"temperature": 18.8, "beta": 1.53, "rho": 1e-4, "offset": 0.5}[slot.name]
        expected = slot.to_unconstrained(np.array(value))
        np.testing.assert_allclose(start[slot.columns], expected)


def test_a_start_outside_the_prior_moves_inside(compiled, sky):
    model = TemperaturePerVoxel(
        temperature=per_voxel(Prior("Uniform", lower=20.0, upper=30.0), unit="K"),
        beta=fixed(1.6),
        rho=fixed(1e-4),
    )
    posterior = compiled(model, compress(sky))
    np.testing.assert_allclose(start_coordinates(posterior, START), 0.0, atol=1e-12)


def test_the_second_start_finds_the_maximum_with_a_cold_voxel():
    # Superpixels with little dust, in which a warm voxel and a cold one explain nearly as much.
    sky = simulate_sky(
        {"temperature": 18.0, "beta": 1.6, "rho": 1e-4},
        nside=64,
        superpixel_nside=8,
        superpixels=[2, 33, 242, 253, 255],
        distance_edge=[0, 0.3, 1, 3],
        seed=1,
    )
    model = TemperaturePerVoxel(
        beta=per_superpixel(Prior("Uniform", lower=1.0, upper=3.0)),
        rho=per_superpixel(Prior("Uniform", lower=1e-6, upper=1e3), unit="mag-1"),
    )
    one, two = (fit_map(model, sky, starts=starts) for starts in (1, 2))
    assert np.all(two.objective < one.objective - 0.1)
    assert np.all(two.temperature.min("voxel") < one.temperature.min("voxel") - 2)


# What is written


@pytest.mark.parametrize("name", GALLERY)
def test_a_fit_keeps_the_contract(name, sky):
    fit = fit_map(name, sky)
    model = resolve(name)
    for parameter, declared in model.parameters.items():
        assert fit[parameter].dims == declared.dims
        assert fit[parameter].attrs["unit"] == declared.unit
        assert fit[parameter].attrs["tying"] == declared.tying
        assert (f"{parameter}_sd" in fit) == declared.free
        if declared.free:
            assert fit[f"{parameter}_sd"].dims == declared.dims
            assert np.all(fit[f"{parameter}_sd"] > 0)
    for diagnostic in ("objective", "chi2", "n_data", "converged", "iterations", "gradient_norm"):
        assert fit[diagnostic].dims == ("superpixel",)
    assert fit.flag.dims == ("superpixel",)
    assert fit.flag.dtype == np.int32
    meanings = dict(
        zip(fit.flag.attrs["flag_meanings"].split(), fit.flag.attrs["flag_masks"], strict=True)
    )
    assert meanings == FLAGS
    assert len({bit & -bit for bit in FLAGS.values()}) == len(FLAGS), "a bit for each"
    for key, value in sky.attrs.items():
        assert fit.attrs[key] == value
    assert fit.attrs["model"] == name
    assert json.loads(fit.attrs["model_definition"]) == model.to_dict()
    assert fit.attrs["pymcdust_version"]
    np.testing.assert_array_equal(fit.distance_edge, sky.distance_edge)
    np.testing.assert_array_equal(fit.superpixel, sky.superpixel)
    np.testing.assert_array_equal(fit.frequency, sky.frequency)
    assert np.all(fit.gradient_norm < 2e-4)


@pytest.mark.parametrize("name", GALLERY)
def test_what_a_voxel_without_dust_returns_is_known_for_its_prior(name, sky):
    """Whatever the tying, and the shape of the prior."""
    bare = sky.copy(deep=True)
    bare["reddening"].values[1, :, 2] = 0.0
    fit = fit_map(name, bare)
    per_voxel = [p for p in ("temperature", "beta", "rho") if "voxel" in fit[p].dims]
    for parameter in per_voxel:
        assert prior_dominated(fit, parameter)[1, 2]
    assert not prior_dominated(fit, "temperature")[0].all()
    assert per_voxel or name == "single_temperature"


def test_widths_of_priors_go_with_the_parameters(sky):
    fit = fit_map("offsets_per_superpixel", sky)
    law = stats.truncnorm(-13.1 / 9, 81.9 / 9, 18.1, 9)
    assert fit.temperature.attrs["prior_sd"] == pytest.approx(law.std(), rel=1e-6)
    assert fit.offset.attrs["prior_sd"] == pytest.approx(5.0)
    assert fit.rho.attrs["prior_sd"] == pytest.approx(stats.lognorm(1, scale=1e-4).std())
    assert (fit.rho.attrs["prior_sigma"], fit.rho.attrs["prior_is_log"]) == (1.0, True)
    hierarchical = fit_map("hierarchical_temperature", sky)
    assert np.isnan(hierarchical.temperature.attrs["prior_sd"])
    assert hierarchical.temperature.attrs["prior_sigma"] == "temperature_sigma"
    assert hierarchical.temperature_mu.attrs["prior_sd"] == 3.0
    assert hierarchical.temperature_mu.attrs["tying"] == "hyperparameter"


def test_chi_square_and_count_are_those_of_the_pixels(paper, sky):
    fit = fit_map("offsets_per_superpixel", sky)
    for s in range(3):
        one = paper.of(sky, s)
        at = fit.isel(superpixel=s)
        vector = [*at.offset.values, *[float(at.rho)] * 3, *[float(at.beta)] * 3]
        chi2 = one.chi2(np.array([*vector, *at.temperature.values]))
        assert float(at.chi2) == pytest.approx(chi2, rel=1e-10)
        assert int(at.n_data) == 5 * int(sky.valid[s].sum())


# Priors of every kind


@pytest.mark.parametrize(
    "prior",
    [
        Prior("HalfNormal", sigma=20.0),
        Prior("TruncatedNormal", mu=18.1, sigma=9.0, lower=5.0),
    ],
    ids=lambda p: p.distribution,
)
def test_priors_of_every_support_are_fitted(prior, sky_of):
    # On some of these the search looks at temperatures at which the emission underflows.
    model = TemperaturePerVoxel(
        temperature=per_superpixel(prior, unit="K"), beta=fixed(1.6), rho=fixed(1e-4)
    )
    sky = sky_of(n_superpixel=6, temperature=[18.0, 18, 18], seed=7)
    fit = fit_map(model, sky)
    assert fit.converged.all()
    np.testing.assert_allclose(fit.temperature, 18.0, atol=6 * float(fit.temperature_sd.max()))
    np.testing.assert_allclose(fit.objective, fit.chi2, atol=5)
    assert np.all(fit.objective >= fit.chi2 - 1e-6), "a prior's own height does not count"
