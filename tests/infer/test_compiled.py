"""The log posterior and its derivatives against the paper's appendix, scipy and differences."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import stats

from pymcdust import Prior, fixed, models, over_sky, per_superpixel, per_voxel
from pymcdust.errors import ModelError
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.graph import DATA, whitened_model
from pymcdust.infer.priors import with_numbers
from pymcdust.infer.target import Target
from pymcdust.modeling.gallery import resolve
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.compression import as_rows, compress, likelihood_constant

GALLERY = tuple(models.available())
#: Those whose priors are no more than numbers: the paper's equations hold for them.
FLAT = tuple(name for name in GALLERY if name != "hierarchical_temperature")

#: Ties that the gallery lacks.
FURTHER = {
    "temperature_alone_tied": TemperaturePerVoxel(
        temperature=per_superpixel(Prior("Normal", mu=18.1, sigma=9.0), unit="K"),
        beta=fixed(1.62),
        rho=fixed(6.7e-5, unit="mag-1"),
    ),
    "nothing_tied_with_offsets": TemperaturePerVoxel(
        beta=per_voxel(Prior("Normal", mu=1.6, sigma=0.3)),
        rho=per_voxel(Prior("Normal", mu=1e-4, sigma=1e-4)),
        offset=per_superpixel(Prior("Normal", mu=0.0, sigma=5.0)),
    ),
    "emissivity_over_sky": TemperaturePerVoxel(
        beta=over_sky(Prior("Normal", mu=1.6, sigma=0.3)),
        rho=over_sky(Prior("Normal", mu=1e-4, sigma=1e-4)),
    ),
}

#: A hierarchy inside each superpixel, which leaves superpixels independent.
HIERARCHY = TemperaturePerVoxel(
    temperature=per_voxel(
        Prior("Normal", mu=Prior("Normal", mu=18.0, sigma=3.0, dims="superpixel"), sigma=2.0),
        unit="K",
    )
)

SCATTER = {"temperature": 1.5, "beta": 0.1, "rho": 0.2, "offset": 0.5}


def natural_point(slots, rng):
    """Draw natural parameters of one block, a few sigma from the truth."""
    centre = {"temperature": 18.0, "beta": 1.6, "rho": 1e-4, "offset": 0.3}
    point = np.empty(slots[-1].stop)
    for slot in slots:
        draw = SCATTER[slot.name] * rng.normal(size=slot.stop - slot.start)
        middle = centre[slot.name]
        point[slot.columns] = middle * np.exp(draw) if slot.name == "rho" else middle + draw
    return point


def assert_derivatives_equal(gradient, hessian, expected_gradient, expected_hessian, scale):
    """Compare to 1e-8, entry by entry, with rounding allowed in units of a parameter's width."""
    np.testing.assert_allclose(gradient * scale, expected_gradient * scale, rtol=1e-8, atol=1e-10)
    scales = np.outer(scale, scale)
    np.testing.assert_allclose(hessian * scales, expected_hessian * scales, rtol=1e-8, atol=1e-10)


KINDS = {
    "a mask of pixels": {},
    "a mask of pixels and bands": {
        "valid": np.random.default_rng(5).random((3, 16, 5)) > 0.2,
    },
    "sigma of pixels": {
        "sigma": np.random.default_rng(6).uniform(0.3, 3.0, size=(3, 16, 5)),
    },
}


# The equations themselves


def test_the_paper_equations_are_the_derivatives_of_a1(paper, sky):
    one = paper.of(sky, 0)
    rng = np.random.default_rng(0)
    point = np.concatenate(
        [rng.normal(size=5), 1e-4 * rng.uniform(0.5, 2, 3), rng.uniform(1, 2, 3), [15.0, 18.0, 24]]
    )
    gradient, hessian = one.derivatives(point)
    step = 1e-20
    stepped = point + 1j * np.diag(step * point)
    by_complex_step = np.array([one.chi2(p).imag for p in stepped]) / (step * point)
    np.testing.assert_allclose(gradient, by_complex_step, rtol=1e-11)
    second = np.array([one.derivatives(p)[0].imag for p in stepped]) / (step * point)[:, None]
    scale = np.sqrt(np.diag(hessian))
    np.testing.assert_allclose(hessian / scale, second / scale, rtol=1e-9, atol=1e-12)


# Derivatives of every tying


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("offsets_per_superpixel", "a mask of pixels"),
        ("offsets_per_superpixel", "a mask of pixels and bands"),
        ("offsets_per_superpixel", "sigma of pixels"),
        ("temperature_alone_tied", "a mask of pixels"),
        ("temperature_alone_tied", "sigma of pixels"),
        ("nothing_tied_with_offsets", "a mask of pixels"),
        ("emissivity_over_sky", "a mask of pixels"),
    ],
)
def test_derivatives_are_those_of_the_paper_with_gaussian_priors(
    name, kind, compiled, tied, gaussian_priors, padded, sky_of
):
    model = gaussian_priors(FURTHER.get(name) or resolve(name))
    sky = sky_of(**KINDS[kind])
    raw = as_rows(sky)
    posterior = compiled(model, raw)
    witness = tied(model, sky, posterior)
    rng = np.random.default_rng(1)
    n_block = 3 if posterior.by_superpixel else 1
    point = np.array([natural_point(posterior.slots, rng) for _ in range(n_block)])
    found = [
        posterior(point, posterior.select(rows, slice(None)))
        for rows in (raw, padded(compress(sky), 16))
    ]
    for block in range(n_block):
        superpixels = [block] if posterior.by_superpixel else [0, 1, 2]
        _, gradient, hessian = witness.objective(point[block], superpixels)
        width = 1 / np.sqrt(np.abs(np.diag(hessian)))
        for at in found:
            np.testing.assert_array_equal(at.natural, point)
            # A1 is minus twice the log posterior.
            assert_derivatives_equal(
                -2 * at.gradient[block], -2 * at.hessian[block], gradient, hessian, width
            )


@pytest.mark.parametrize("name", FLAT)
def test_derivatives_with_bounded_priors_follow_the_chain_rule(name, compiled, tied, sky):
    rows = compress(sky)
    posterior = compiled(name, rows)
    witness = tied(name, sky, posterior)
    rng = np.random.default_rng(2)
    n_block = 3 if posterior.by_superpixel else 1
    theta = np.empty((n_block, posterior.n_parameter))
    for slot in posterior.slots:
        natural = np.array([natural_point(posterior.slots, rng) for _ in range(n_block)])
        theta[:, slot.columns] = slot.to_unconstrained(natural[:, slot.columns])
    at = posterior(theta, posterior.select(rows, slice(None)))
    for slot in posterior.slots:
        # Logit between two bounds, log above one, nothing without, as written in the docs.
        t, columns = theta[:, slot.columns], slot.columns
        low, high = slot.lower, slot.upper
        if np.isfinite(high):
            s = 1 / (1 + np.exp(-t))
            expected = low + (high - low) * s, (high - low) * s * (1 - s)
            expected = *expected, expected[1] * (1 - 2 * s)
        elif np.isfinite(low):
            expected = low + np.exp(t), np.exp(t), np.exp(t)
        else:
            expected = t, np.ones_like(t), np.zeros_like(t)
        for found, right in zip((at.natural, at.slope, at.curvature), expected, strict=True):
            np.testing.assert_allclose(found[:, columns], right, rtol=1e-12)
    for block in range(n_block):
        superpixels = [block] if posterior.by_superpixel else [0, 1, 2]
        _, gradient, hessian = witness.objective(at.natural[block], superpixels)
        slope = at.slope[block]
        bent = np.diag(gradient * at.curvature[block])
        hessian = slope[:, None] * hessian * slope + bent
        width = 1 / np.sqrt(np.abs(np.diag(hessian)))
        assert_derivatives_equal(
            -2 * at.gradient[block], -2 * at.hessian[block], slope * gradient, hessian, width
        )


@pytest.mark.parametrize("name", [*GALLERY, "mean_of_each_superpixel"])
def test_derivatives_are_those_of_differences(name, compiled, sky):
    rows = compress(sky)
    posterior = compiled(HIERARCHY if name not in GALLERY else name, rows)
    data = posterior.select(rows, slice(None))
    rng = np.random.default_rng(3)
    n_block = 3 if posterior.by_superpixel else 1
    theta = 0.3 * rng.normal(size=(n_block, posterior.n_parameter))
    for slot in posterior.slots:
        if slot.name in ("rho", "beta", "temperature"):
            value = {"rho": 1e-4, "beta": 1.6, "temperature": 18.0}[slot.name]
            theta[:, slot.columns] += slot.to_unconstrained(np.asarray(value))
    at = posterior(theta, data)
    step = 2e-3
    for _ in range(3):
        direction = rng.normal(size=posterior.n_parameter)
        # Sixth-order central differences.
        slope, bend = 0.0, 0.0
        for k, weight in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60)):
            move = k * step * direction
            above, below = posterior(theta + move, data), posterior(theta - move, data)
            slope = slope + weight * (above.log_posterior - below.log_posterior) / step
            bend = bend + weight * (above.gradient - below.gradient) / step
        largest = np.abs(at.gradient).max(axis=1)
        assert np.all(np.abs(slope - at.gradient @ direction) <= 1e-8 * largest)
        largest = np.abs(at.hessian).max(axis=(1, 2))[:, None]
        assert np.all(np.abs(bend - at.hessian @ direction) <= 1e-8 * largest)
        np.testing.assert_allclose(at.hessian, at.hessian.transpose(0, 2, 1), rtol=1e-9, atol=1e-9)


# Values


def posterior_by_scipy(model, sky, drawn, superpixel):
    """Return log prior and log likelihood of a superpixel by scipy.stats, on its raw pixels."""
    one = sky.isel(superpixel=superpixel)
    frequency = np.array([217.0, 353.0, 545.0, 857.0, 2998.0])
    values = {k: np.broadcast_to(v, (3,)) for k, v in drawn.items() if k != "offset"}
    offset = drawn.get("offset", 0.0)
    x = 0.04799243073366221 * frequency / values["temperature"][:, None]
    planck = 1.4744994647625417e-3 * frequency**3 / np.expm1(x)
    glow = values["rho"][:, None] * (frequency / 353) ** values["beta"][:, None] * planck
    mu = one.reddening.values @ glow + offset
    each = stats.norm.logpdf(one.emission, mu, one.sigma)
    valid = np.broadcast_to(one.valid.values.reshape(16, -1), (16, 5))
    prior = 0.0
    for name, parameter in model.free_parameters.items():
        p = parameter.prior.parameters
        law = {
            "Normal": lambda p=p: stats.norm(p["mu"], p["sigma"]),
            "LogNormal": lambda p=p: stats.lognorm(p["sigma"], scale=np.exp(p["mu"])),
            "TruncatedNormal": lambda p=p: stats.truncnorm(
                (p["lower"] - p["mu"]) / p["sigma"],
                (p["upper"] - p["mu"]) / p["sigma"],
                p["mu"],
                p["sigma"],
            ),
        }[parameter.prior.distribution]()
        prior += law.logpdf(drawn[name]).sum()
    return prior, np.where(valid, each, 0.0).sum()


def constants(rows):
    """Return what to add to the log likelihood of rows to make it that of the pixels."""
    per_row = -np.log(rows.sigma).sum() - 0.5 * rows.sizes["band"] * np.log(2 * np.pi)
    gauss = rows.sizes["pixel"] * float(per_row)
    return (rows.log_norm - 0.5 * rows.chi2_floor.sum("band")).values - gauss


@pytest.mark.parametrize("kind", KINDS)
def test_log_posterior_is_that_of_scipy_on_raw_and_compressed_rows(kind, compiled, padded, sky_of):
    model = resolve("offsets_per_superpixel")
    sky = sky_of(seed=4, **KINDS[kind])
    raw = as_rows(sky)
    posterior = compiled(model, raw)
    drawn = model.draw(
        {"superpixel": range(3), "voxel": range(3), "band": list("abcde")},
        np.random.default_rng(7),
    )
    theta = np.empty((3, posterior.n_parameter))
    for slot in posterior.slots:
        theta[:, slot.columns] = slot.to_unconstrained(drawn[slot.name].values.reshape(3, -1))
    by_scipy = np.array(
        [
            posterior_by_scipy(model, sky, {k: v.values[s] for k, v in drawn.items()}, s)
            for s in range(3)
        ]
    )
    totals = []
    for rows in (raw, padded(compress(sky), 16)):
        at = posterior(theta, posterior.select(rows, slice(None)))
        # PyMC keeps some constants of the priors' norms in single precision.
        np.testing.assert_allclose(at.log_prior, by_scipy[:, 0], atol=2e-8)
        likelihood = at.log_likelihood + constants(rows)
        np.testing.assert_allclose(likelihood, by_scipy[:, 1], rtol=1e-10)
        totals.append(at.log_prior + likelihood)
    np.testing.assert_allclose(totals[0], totals[1], rtol=1e-10)


def test_shared_and_separate_superpixels_have_the_same_likelihood(compiled, sky):
    rows = compress(sky)
    joint = compiled("offsets_over_sky", rows)
    apart = compiled("offsets_per_superpixel", rows)
    rng = np.random.default_rng(8)
    offset = rng.normal(size=5)
    theta = np.empty((3, apart.n_parameter))
    together = np.empty((1, joint.n_parameter))
    for slot in apart.slots:
        value = rng.normal(size=(3, slot.stop - slot.start))
        theta[:, slot.columns] = value if slot.name != "offset" else offset
    for slot in joint.slots:
        [same] = [s for s in apart.slots if s.name == slot.name]
        together[:, slot.columns] = (
            offset if slot.name == "offset" else theta[:, same.columns].ravel()
        )
    one = joint(together, joint.select(rows, slice(None)))
    many = apart(theta, apart.select(rows, slice(None)))
    np.testing.assert_allclose(one.log_likelihood, many.log_likelihood.sum(), rtol=1e-12)
    # The prior of what is tied counts once.
    [free] = [s for s in apart.slots if s.name == "offset"]
    surplus = 2 * stats.norm.logpdf(offset, 0, 5).sum()
    assert free.stop - free.start == 5
    np.testing.assert_allclose(one.log_prior + surplus, many.log_prior.sum(), rtol=1e-12)


def test_superpixels_do_not_feel_one_another(compiled, sky):
    rows = compress(sky)
    posterior = compiled("temperature_per_voxel", rows)
    theta = np.random.default_rng(9).normal(size=(3, posterior.n_parameter))
    whole = posterior(theta, posterior.select(rows, slice(None)))
    alone = posterior(theta[[2]], posterior.select(rows, np.array([2])))
    np.testing.assert_allclose(whole.log_posterior[2], alone.log_posterior[0], rtol=1e-13)
    np.testing.assert_allclose(whole.hessian[2], alone.hessian[0], rtol=1e-12)


# Numbers of priors as data


def all_free(temperature=(18.1, 9.0, 5.0, 100.0), upper=3.0, rho=(-9.2, 1.0), scatter=2.0):
    """Return a model of bounded, log-normal and normal priors with some numbers."""
    named = dict(zip(("mu", "sigma", "lower", "upper"), temperature, strict=True))
    return TemperaturePerVoxel(
        temperature=per_voxel(Prior("TruncatedNormal", **named), unit="K"),
        beta=per_superpixel(
            Prior("TruncatedNormal", mu=1.6, sigma=0.3, lower=1.0, upper=upper),
        ),
        rho=per_superpixel(Prior("LogNormal", mu=rho[0], sigma=rho[1]), unit="mag-1"),
        offset=per_superpixel(Prior("Normal", mu=0.0, sigma=scatter), unit="MJy/sr"),
    )


#: What the two superpixels of a batch believe.
BELIEFS = (
    {"temperature": (15.0, 3.0, 2.0, 60.0), "upper": 2.5, "rho": (-9.5, 0.4), "scatter": 0.7},
    {"temperature": (40.0, 12.0, 8.0, 35.0), "upper": 4.0, "rho": (-8.0, 2.0), "scatter": 5.0},
)

#: The same as numbers of priors.
NUMBERS = {
    "temperature.mu": [15.0, 40.0],
    "temperature.sigma": [3.0, 12.0],
    "temperature.lower": [2.0, 8.0],
    "temperature.upper": [60.0, 35.0],
    "beta.upper": [2.5, 4.0],
    "rho.mu": [-9.5, -8.0],
    "rho.sigma": [0.4, 2.0],
    "offset.sigma": [0.7, 5.0],
}


@pytest.fixture(scope="module")
def varied(sky_of):
    """One posterior for all numbers, and its rows: the same superpixel twice."""
    rows = compress(sky_of(n_superpixel=1)).isel(superpixel=[0, 0])
    rows = with_numbers(rows, all_free(), NUMBERS)
    return CompiledPosterior(all_free(), rows, "quantile", tuple(NUMBERS)), rows


def test_varied_numbers_give_what_declared_ones_give(varied, compiled):
    posterior, rows = varied
    assert posterior.data_names[:5] == DATA
    assert posterior.data_names[5:7] == ("temperature_mu", "temperature_sigma")
    theta = 0.4 * np.random.default_rng(3).normal(size=(2, posterior.n_parameter))
    data = posterior.select(rows, slice(None))
    found = posterior(theta, data)
    natural, log_prior = posterior.natural(theta[None], data)
    target = Target(posterior, rows, [np.random.SeedSequence(0)] * 2)
    for position, belief in enumerate(BELIEFS):
        witness = compiled(all_free(**belief), rows.isel(superpixel=[0]), "quantile")
        block = theta[[position]]
        expected = witness(block, witness.select(rows.isel(superpixel=[0]), slice(None)))
        for name in ("log_prior", "log_likelihood", "natural", "slope", "curvature"):
            ours, theirs = getattr(found, name)[position], getattr(expected, name)[0]
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)
        for name in ("gradient", "hessian"):
            ours, theirs = getattr(found, name)[position], getattr(expected, name)[0]
            atol = 1e-9 * np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=atol, err_msg=name)
        theirs = witness.natural(block[None])
        np.testing.assert_allclose(natural[0, position], theirs[0][0, 0], rtol=1e-9)
        np.testing.assert_allclose(log_prior[0, position], theirs[1][0, 0], rtol=1e-9)
        # Blocks take their own numbers with them.
        points = block[:, None]
        alone = target.log_likelihood(points, np.array([position]))
        other = target.select(np.array([position])).log_likelihood(points, np.array([0]))
        np.testing.assert_allclose(alone, other, rtol=1e-12)
        expected = found.log_likelihood[position] + likelihood_constant(rows)[position]
        np.testing.assert_allclose(alone[0, 0], expected, rtol=1e-12)


def test_the_model_for_nuts_takes_varied_numbers_as_data(varied):
    posterior, rows = varied
    model = whitened_model(posterior._graph)
    logp = model.compile_logp(mode="FAST_COMPILE")
    z = 0.4 * np.random.default_rng(4).normal(size=posterior.n_parameter)
    for position in range(2):
        data = posterior.select(rows, np.array([position]))
        pm.set_data(dict(zip(posterior.data_names, data, strict=True)), model=model)
        expected = posterior(z[None], data).log_posterior[0]
        np.testing.assert_allclose(logp({"z": z}), expected, rtol=1e-10)


def test_varied_numbers_of_every_distribution_give_its_quantiles(sky):
    model = TemperaturePerVoxel(
        temperature=per_voxel(Prior("Uniform", lower=5.0, upper=100.0), unit="K"),
        beta=per_superpixel(Prior("HalfNormal", sigma=2.0)),
        rho=per_superpixel(Prior("Exponential", lam=1e4), unit="mag-1"),
    )
    numbers = {
        "temperature.lower": [4.0, 10.0, 12.0],
        "temperature.upper": [40.0, 50.0, 30.0],
        "beta.sigma": [1.0, 2.0, 3.0],
        "rho.lam": [1e4, 2e4, 5e3],
    }
    rows = with_numbers(compress(sky), model, numbers)
    posterior = CompiledPosterior(model, rows, "quantile", tuple(numbers))
    u = np.random.default_rng(5).normal(size=(4, 3, posterior.n_parameter))
    natural, log_prior = posterior.natural(u, posterior.select(rows, slice(None)))
    lower, upper, sigma, lam = map(np.array, numbers.values())
    laws = {
        "temperature": stats.uniform(lower[:, None], (upper - lower)[:, None]),
        "beta": stats.halfnorm(scale=sigma[:, None]),
        "rho": stats.expon(scale=1 / lam[:, None]),
    }
    for number, slot in enumerate(posterior.slots):
        law, x = laws[slot.name], natural[..., slot.columns]
        np.testing.assert_allclose(x, law.ppf(stats.norm.cdf(u[..., slot.columns])), rtol=1e-9)
        np.testing.assert_allclose(log_prior[..., number], law.logpdf(x).sum(-1), rtol=1e-9)


def test_a_coupled_sky_has_one_number_for_all(compiled, sky):
    model = resolve("hierarchical_temperature")
    numbers = {"temperature_mu.sigma": 1.0, "temperature.upper": 60.0}
    rows = with_numbers(compress(sky), model, numbers)
    assert rows["temperature_mu_sigma"].dims == ()
    posterior = CompiledPosterior(model, rows, "quantile", tuple(numbers))
    told = model.to_dict()
    told["parameters"]["temperature"]["prior"]["kwargs"]["upper"] = 60.0
    told["parameters"]["temperature"]["prior"]["kwargs"]["mu"]["kwargs"]["sigma"] = 1.0
    witness = CompiledPosterior(type(model).from_dict(told), rows, "quantile")
    points = np.random.default_rng(6).normal(size=(4, 1, posterior.n_parameter))
    data = posterior.select(rows, slice(None))
    for ours, theirs in zip(posterior.natural(points, data), witness.natural(points), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_numbers_that_cannot_be_data_are_refused(sky):
    rows = compress(sky)
    with pytest.raises(ModelError, match=r"allowed are quantile coordinates"):
        CompiledPosterior(all_free(), rows, varied=("temperature.mu",))
    with pytest.raises(ModelError, match=r"the rows lack rho_mu"):
        CompiledPosterior(all_free(), rows, "quantile", ("rho.mu",))


# Layout and errors


def test_slots_cover_the_vector_in_order(compiled, sky):
    posterior = compiled("offsets_per_superpixel", compress(sky))
    assert [s.name for s in posterior.slots] == ["temperature", "beta", "rho", "offset"]
    assert [s.shape for s in posterior.slots] == [(3,), (), (), (5,)]
    assert [(s.start, s.stop) for s in posterior.slots] == [(0, 3), (3, 4), (4, 5), (5, 10)]
    assert posterior.n_parameter == 10
    assert [(s.lower, s.upper) for s in posterior.slots] == [
        (5.0, 100.0),
        (1.0, 3.0),
        (0.0, np.inf),
        (-np.inf, np.inf),
    ]


def test_a_model_without_free_parameters_is_refused(sky):
    model = TemperaturePerVoxel(temperature=fixed(18.0), beta=fixed(1.6), rho=fixed(1e-4))
    with pytest.raises(ModelError, match="no free parameter"):
        CompiledPosterior(model, compress(sky))


@pytest.mark.parametrize(
    ("prior", "complaint"),
    [
        (Prior("VonMises", mu=0.0, kappa=1.0), "VonMises"),
        (Prior("Poisson", mu=18.0), "must be continuous"),
        (Prior("SkewNormal", mu=18.0, sigma=1.0, alpha=1.0), "SkewNormal"),
        (Prior("Uniform", lower=5.0, upper=Prior("Normal", mu=50.0, sigma=1.0)), "constant"),
    ],
)
def test_priors_that_cannot_be_used_are_refused(prior, complaint, sky):
    model = TemperaturePerVoxel(temperature=per_voxel(prior, unit="K"))
    with pytest.raises(ModelError, match=complaint):
        CompiledPosterior(model, compress(sky))


def test_select_takes_blocks_of_superpixels(compiled, sky):
    rows = compress(sky)
    posterior = compiled("temperature_per_voxel", rows)
    reddening, intercept, emission, sigma, frequency = posterior.select(rows, np.array([2, 0]))
    np.testing.assert_array_equal(reddening, rows.reddening.values[[2, 0]])
    np.testing.assert_array_equal(intercept, rows.intercept.values[[2, 0]])
    np.testing.assert_array_equal(emission, rows.emission.values[[2, 0]])
    np.testing.assert_array_equal(sigma, rows.sigma.values)
    np.testing.assert_array_equal(frequency, [217, 353, 545, 857, 2998])
    joint = compiled("offsets_over_sky", rows)
    xr.testing.assert_equal(
        rows.reddening, rows.reddening.copy(data=joint.select(rows, np.array([0]))[0])
    )
