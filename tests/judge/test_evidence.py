"""Evidences against quadrature and against algebra; what is reliable, and what is refused."""

from functools import cache

import numpy as np
import pytest
import xarray as xr
from astropy import constants
from scipy import integrate, stats

from pymcdust import Prior, fixed, over_sky, per_superpixel
from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.posterior import to_tree
from pymcdust.infer.target import Draws, Target
from pymcdust.judge import evidence as module
from pymcdust.judge.evidence import ESTIMATORS, METHODS, evidence
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.compression import compress
from pymcdust.sky.dataset import build_sky

FREQUENCY = np.array([217.0, 353.0, 545.0, 857.0, 2998.0])
SIGMA = np.array([0.5, 3.0, 9.0, 25.0, 30.0])
RHO = 1e-4

#: Two parameters, so that scipy can integrate.
MODEL = TemperaturePerVoxel(
    temperature=per_superpixel(Prior("Normal", mu=18.0, sigma=2.0), unit="K"),
    beta=per_superpixel(Prior("TruncatedNormal", mu=1.6, sigma=0.3, lower=1.0, upper=3.0)),
    rho=fixed(RHO, unit="mag-1"),
)
PRIORS = stats.norm(18.0, 2.0), stats.truncnorm(-2.0, 1.4 / 0.3, 1.6, 0.3)

#: Linear in its parameters, which all superpixels share.
OFFSETS = TemperaturePerVoxel(
    temperature=fixed(18.0, unit="K"),
    beta=fixed(1.6),
    rho=fixed(RHO, unit="mag-1"),
    offset=over_sky(Prior("Normal", mu=0.0, sigma=2.0), unit="MJy/sr"),
)

#: Settings with which every estimator comes near.
SETTINGS = {
    "importance": {"points": 40_000},
    "bridge": {"points": 40_000},
    "smc": {"draws": 4000, "chains": 8, "threshold": 0.7},
    "stepping": {"steps": 4000, "threshold": 0.7},
}


def glow(temperature, beta):
    """Emission per reddening [MJy/sr/mag], (band,), by the constants of astropy."""
    hz = FREQUENCY * 1e9
    h, k, c = (constant.si.value for constant in (constants.h, constants.k_B, constants.c))
    planck = 2 * h * hz**3 / c**2 / np.expm1(h * hz / (k * temperature)) * 1e20
    return RHO * (FREQUENCY / 353) ** beta * planck


@cache
def sky():
    """Three superpixels of 16 pixels and one voxel, the last one with little dust."""
    rng = np.random.default_rng(0)
    reddening = rng.lognormal(np.array([-1.0, -1.5, -3.0])[:, None, None], 0.5, (3, 16, 1))
    emission = reddening * glow(19.0, 1.5) + SIGMA * rng.standard_normal((3, 16, 5))
    return build_sky(
        reddening,
        emission,
        SIGMA,
        [0.0, 1.0],
        [40, 41, 42],
        nside=64,
        superpixel_nside=16,
        valid=rng.random((3, 16)) > 0.2,
        reddening_unit="bayestar2019",
    )


def pixels(position):
    """Return reddening (pixel, voxel) and emission (pixel, band) of the valid pixels."""
    one = sky().isel(superpixel=position)
    valid = one.valid.values
    return one.reddening.values[valid], one.emission.values[valid]


@cache
def compiled(model):
    return CompiledPosterior(model, compress(sky()), "quantile")


def exact_draws(target, n_draw=2000):
    """Draw from every block by rejection, (chain, draw, block, parameter) of two chains."""
    points = target.laplace.draw(20 * n_draw, target.generators())
    blocks = np.arange(target.n_block)
    log_weight = target.log_posterior(points, blocks) - target.laplace.log_density(points)
    share = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    kept = np.random.default_rng(1).random(share.shape) < share
    theta = np.stack([p[k][: 2 * n_draw] for p, k in zip(points, kept, strict=True)])
    return theta.reshape(target.n_block, 2, n_draw, -1).transpose(1, 2, 0, 3)


@cache
def drawn(model=MODEL, method="nuts"):
    """Return a posterior of exact draws, whichever method is said to have made them."""
    posterior = compiled(model)
    n_block = 3 if posterior.by_superpixel else 1
    target = Target(posterior, compress(sky()), np.random.SeedSequence(2).spawn(n_block))
    weights = {"pareto_k": np.full(n_block, 0.2), "importance_ess": np.full(n_block, 4000.0)}
    flags = {"flag_values": [0, 1], "flag_meanings": "laplace nuts"}
    stats = {name: (("block",), values) for name, values in weights.items()}
    stats["method"] = (("block",), np.array([0, 1, 0])[:n_block], flags)
    named = {"nuts": [], "laplace": list(weights), "auto": list(stats)}[method]
    draws = Draws(exact_draws(target), {name: stats[name] for name in named})
    return to_tree(target, draws, {"method": method})


@cache
def by_quadrature(position):
    """Return ln Z of raw pixels by scipy, which knows nothing of compression and quantiles."""
    reddening, emission = pixels(position)

    temperature, beta = np.linspace(9, 30, 201), np.linspace(1, 3, 201)
    log_joint = np.empty((201, 201))
    for row, t in zip(log_joint, temperature, strict=True):
        mean = reddening[:, None] * np.array([glow(t, b) for b in beta])
        row[:] = stats.norm(mean, SIGMA).logpdf(emission[:, None]).sum(axis=(0, 2))
    log_joint += PRIORS[0].logpdf(temperature)[:, None] + PRIORS[1].logpdf(beta)
    height = np.exp(log_joint - log_joint.max())
    area = integrate.simpson(integrate.simpson(height, x=beta), x=temperature)
    return log_joint.max() + np.log(area)


def by_algebra():
    """Return ln Z of the linear model: a normal distribution of all pixels, band by band."""
    total = 0.0
    for band, sigma in enumerate(SIGMA):
        data = np.concatenate(
            [(e - r * glow(18.0, 1.6))[:, band] for r, e in (pixels(s) for s in range(3))]
        )
        covariance = sigma**2 * np.eye(len(data)) + 2.0**2
        total += stats.multivariate_normal(np.zeros(len(data)), covariance).logpdf(data)
    return total


@pytest.mark.parametrize("method", ESTIMATORS)
def test_every_estimator_agrees_with_quadrature(method):
    found = evidence(drawn(), method=method, compiled=compiled(MODEL), **SETTINGS[method])
    expected = [by_quadrature(position) for position in range(3)]
    assert found.reliable.all()
    assert found.ln_evidence_error.max() < 0.02
    away = np.abs(found.ln_evidence - expected)
    assert away.max() < 0.01
    assert found.superpixel.values.tolist() == [40, 41, 42]
    meanings = found.evidence_method.attrs["flag_meanings"].split()
    assert [meanings[number] for number in found.evidence_method.values] == 3 * [method]
    assert found.pareto_k.notnull().all() == (method in ("importance", "bridge"))


@pytest.mark.parametrize("method", METHODS)
def test_superpixels_that_share_parameters_have_one_evidence(method):
    found = evidence(drawn(OFFSETS), method=method, compiled=compiled(OFFSETS))
    assert not found.sizes
    assert found.reliable
    assert abs(found.ln_evidence - by_algebra()) < 5 * found.ln_evidence_error < 0.3


def test_auto_weighs_where_importance_sampling_drew_and_bridges_elsewhere():
    found = evidence(drawn(method="auto"), compiled=compiled(MODEL))
    assert found.evidence_method.values.tolist() == [0, 1, 0]
    assert found.reliable.all()
    for method, where in (("importance", [0, 2]), ("bridge", [1])):
        alone = evidence(drawn(method="auto"), method=method, compiled=compiled(MODEL))
        xr.testing.assert_identical(found.isel(superpixel=where), alone.isel(superpixel=where))


def test_unreliable_draws_make_no_reliable_evidence():
    posterior = drawn(method="laplace").copy(deep=True)
    posterior["sample_stats"]["pareto_k"][:] = [0.2, 0.8, np.nan]
    found = evidence(posterior, compiled=compiled(MODEL))
    assert found.reliable.values.tolist() == [True, False, False]
    # Of the errors of weights a bridge sees nothing.
    assert not evidence(posterior, method="bridge", compiled=compiled(MODEL)).reliable.any()

    target = Target(compiled(MODEL), compress(sky()), np.random.SeedSequence(2).spawn(3))
    theta = exact_draws(target)
    theta[1, :, 0] += 0.5
    theta[:, :, 1] = theta[0, 0, 1]
    apart = to_tree(target, Draws(theta), {"method": "nuts"})
    found = evidence(apart, compiled=compiled(MODEL))
    assert found.reliable.values.tolist() == [False, False, True]
    assert np.isnan(found.ln_evidence[1])
    assert np.isinf(found.ln_evidence_error[1])


def test_a_superpixel_does_not_depend_on_its_neighbours(monkeypatch, tmp_path):
    whole = evidence(drawn(method="auto"), compiled=compiled(MODEL))
    drawn(method="auto").to_zarr(tmp_path / "posterior.zarr", consolidated=False)
    lazy = xr.open_datatree(tmp_path / "posterior.zarr", engine="zarr", consolidated=False)
    seen = []
    monkeypatch.setattr(module, "CHUNK", 2)
    monkeypatch.setattr(module, "CompiledPosterior", lambda model, *_: compiled(MODEL))
    cut = evidence(lazy, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]
    xr.testing.assert_allclose(cut, whole, atol=1e-5)
    alone = evidence(lazy.isel(superpixel=[1]))
    xr.testing.assert_allclose(alone, whole.isel(superpixel=[1]), atol=1e-5)
    assert (evidence(lazy, seed=1).ln_evidence != whole.ln_evidence).all()


def damaged(change):
    tree = drawn().copy(deep=True)
    change(tree)
    return tree


def raise_emission(tree):
    tree["observed_data"]["emission"][1] += 1.0


def shift_draws(tree):
    tree["posterior"]["beta"][:, -1, 2] += 0.1


def other_prior(tree):
    text = tree.attrs["model_definition"]
    tree.attrs["model_definition"] = text.replace('"sigma": 2.0', '"sigma": 2.1')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (raise_emission, r"superpixel 41, lp in sample_stats, .*; sample again"),
        (shift_draws, r"superpixel 42, lp in sample_stats"),
        (other_prior, r"superpixel 40, 41 and 42, lp in sample_stats"),
        (lambda tree: tree.__delitem__("constant_data"), r"no group constant_data; .* whole tree"),
        (lambda tree: tree.attrs.pop("model_definition"), r"no attribute model_definition"),
        (lambda tree: tree.__delitem__("posterior"), r"needs the group posterior"),
    ],
)
def test_posteriors_that_do_not_hold_together_are_refused(change, message, monkeypatch):
    real = CompiledPosterior
    monkeypatch.setattr(
        module,
        "CompiledPosterior",
        lambda model, *rest: (
            compiled(MODEL) if model.to_dict() == MODEL.to_dict() else real(model, *rest)
        ),
    )
    with pytest.raises(ResultError, match=message):
        evidence(damaged(change))


def test_another_models_compilation_is_refused():
    with pytest.raises(ResultError, match="both must be of the same model"):
        evidence(drawn(), compiled=compiled(OFFSETS))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "brigde"}, r"unknown method 'brigde'; .* did you mean 'bridge'\?"),
        ({"draws": 10}, r"unknown setting of the method auto 'draws'; allowed are points"),
        ({"points": 10}, r"points is 10; it must be a whole number, 100 or more"),
        ({"method": "smc", "draws": 0}, r"draws is 0"),
        ({"method": "stepping", "step": 9}, r"'step'; .* did you mean 'steps'\?"),
        ({"method": "stepping", "keep": 1.0}, r"keep is 1.0; it must be above 0 and below 1"),
        ({"method": "stepping", "ensembles": 0}, r"ensembles is 0; .* 1 or more"),
        ({"method": "stepping", "steps": 9}, r"keep 1 states .* 50 or more"),
        ({"seed": -1}, r"seed is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        evidence(drawn(), compiled=compiled(MODEL), **settings)
