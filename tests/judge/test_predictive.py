"""Prediction of withheld pixels, against closed forms, SciPy, ArviZ and posteriors drawn anew."""

import sys
from pathlib import Path

import arviz_stats
import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import norm

from pymcdust import Prior, fixed, over_sky, per_superpixel, per_voxel, sample
from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.infer.importance import importance_sample
from pymcdust.infer.target import Draws
from pymcdust.judge import crossvalidation
from pymcdust.judge.pointwise import block_log_likelihood
from pymcdust.judge.predictive import elpd_data, predict
from pymcdust.judge.withheld import leave_all_out, leave_one_out
from pymcdust.sky.blocks import PixelBlocks, pixel_blocks
from pymcdust.sky.compression import compress

sys.path.insert(0, str(Path(__file__).parent))
from linear import (
    SIGMA,
    Exact,
    Linear,
    Nonlinear,
    compiled,
    emissivity,
    exact_posterior,
    linear_sky,
)

PIXELS = np.random.default_rng(3)

#: Changes of a sky: what is valid, and sigma, by band or by pixel.
SKIES = {
    "plain": {},
    "band by band": {"valid": PIXELS.random((2, 16, 5)) > 0.2},
    "sigma of pixels": {"sigma": SIGMA * PIXELS.uniform(0.5, 2, (2, 16, 5))},
}

#: Changes of the linear model: one of each tying.
MODELS = {
    "per voxel": {
        "temperature": per_voxel(Prior("Normal", mu=18.0, sigma=1.0), unit="K"),
        "offset": fixed(0.3, unit="MJy/sr"),
    },
    "per superpixel": {"temperature": per_superpixel(Prior("Normal", mu=18.0, sigma=1.0))},
    "over the sky": {
        "beta": over_sky(Prior("Normal", mu=1.6, sigma=0.1)),
        "rho": per_voxel(Prior("LogNormal", mu=-9.2, sigma=0.3)),
    },
}


def truth(sky, blocks, fold):
    """Return elpd of LOO and of K-fold by the closed form, (superpixel, block) each."""
    loo, kfold = np.full((2, *fold.shape), np.nan)
    number = np.repeat(np.arange(blocks.n_block), blocks.size)
    for superpixel, block in zip(*np.nonzero(fold >= 0), strict=True):
        exact, own = Exact.of(sky, superpixel), fold[superpixel]
        pixels = number == block
        loo[superpixel, block] = exact.elpd(pixels, pixels)
        kfold[superpixel, block] = exact.elpd(pixels, (own == own[block])[number])
    return loo, kfold


def predicted(sky, posterior, **settings):
    return predict(posterior, sky, compiled=compiled(Linear(), compress(sky)), **settings)


@pytest.fixture(scope="module")
def sky():
    return linear_sky()


@pytest.fixture(scope="module")
def posterior(sky):
    return exact_posterior(sky)


@pytest.fixture(scope="module")
def prediction(sky, posterior):
    return predicted(sky, posterior, folds=4)


def brute_force(posterior, sky, model):
    """Return the log density of every datum at every draw, (superpixel, draw, pixel, band)."""
    n_superpixel = sky.sizes["superpixel"]
    values = {}
    for name, parameter in model.parameters.items():
        value = xr.DataArray(0.0)
        if parameter.free:
            value = posterior["posterior"][name].stack(all=("chain", "draw"))
            value = value.drop_vars(["all", "chain", "draw"]).rename(all="draw")
        else:
            value = value + parameter.prior
        values[name] = value
    n_draw = posterior["posterior"].sizes["chain"] * posterior["posterior"].sizes["draw"]
    base = xr.DataArray(np.zeros((n_superpixel, n_draw, 2)), dims=("superpixel", "draw", "voxel"))
    temperature, beta, rho = (
        (values[name].drop_vars(values[name].coords) + base).transpose(*base.dims).values
        for name in ("temperature", "beta", "rho")
    )
    mu = np.einsum("spv,sdvb->sdpb", sky.reddening.values, emissivity(temperature, beta, rho))
    offset = values["offset"]
    bands = xr.DataArray(np.zeros((n_superpixel, n_draw, 5)), dims=("superpixel", "draw", "band"))
    offset = (offset.drop_vars(offset.coords) + bands).transpose(*bands.dims).values
    sigma = sky.sigma.broadcast_like(sky.emission).transpose("superpixel", "pixel", "band").values
    valid = sky.valid.broadcast_like(sky.emission).transpose("superpixel", "pixel", "band").values
    density = norm.logpdf(sky.emission.values[:, None], mu + offset[:, :, None], sigma[:, None])
    return np.where(valid[:, None], density, 0.0)


@pytest.mark.parametrize(
    ("tying", "kind"),
    [
        ("per voxel", "plain"),
        ("per superpixel", "band by band"),
        ("over the sky", "sigma of pixels"),
    ],
)
@pytest.mark.parametrize("block", [1, 4])
def test_the_log_likelihood_of_blocks_is_that_of_their_pixels(tying, kind, block):
    model, sky = Linear(**MODELS[tying]), linear_sky(**SKIES[kind])
    tree = drawn(tying, kind)
    blocks = pixel_blocks(sky, block)
    found = block_log_likelihood(tree, sky, blocks)
    expected = blocks.split(brute_force(tree, sky, model), axis=2).sum(axis=(3, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)
    stored = tree["log_likelihood"]["emission"].transpose(..., "chain", "draw").values
    total = found.sum(axis=2)
    if model.couples_superpixels:
        total = total.sum(axis=0)
    np.testing.assert_allclose(total, stored.reshape(total.shape), rtol=1e-9)


_DRAWN = {}


def drawn(tying, kind):
    """Draw a few points from the Laplace approximation, once."""
    if tying not in _DRAWN:
        model, sky = Linear(**MODELS[tying]), linear_sky(**SKIES[kind])
        _DRAWN[tying] = sample(model, sky, method="laplace", draws=60, rounds=1)
    return _DRAWN[tying]


def test_of_a_mask_nothing_is_read():
    plain = linear_sky(**SKIES["band by band"])
    spoilt = plain.copy(deep=True)
    spoilt.emission.values[~spoilt.valid.values] = np.nan
    tree, blocks = drawn("per superpixel", "band by band"), pixel_blocks(plain)
    found = [block_log_likelihood(tree, one, blocks) for one in (plain, spoilt)]
    np.testing.assert_array_equal(*found)


def test_prediction_is_that_of_the_closed_form(sky, prediction):
    assert not prediction.refitted.any()
    loo, kfold = truth(sky, pixel_blocks(sky), prediction.fold.values)
    # Of 4,000 draws; over other seeds the largest differences are 0.02 and 0.07.
    np.testing.assert_allclose(prediction.elpd_loo, loo, atol=0.04)
    np.testing.assert_allclose(prediction.elpd_kfold, kfold, atol=0.12)
    used = sky.valid.values
    assert np.array_equal(np.isfinite(prediction.elpd_loo), used)
    assert np.array_equal(prediction.n_data, 5 * used)
    assert np.array_equal(prediction.fold >= 0, used)
    assert prediction.reliable_loo.values[used].all()
    assert prediction.reliable_kfold.values[used].all()


@pytest.mark.parametrize(("shift", "block"), [(4.0, 1), (10.0, 4), (25.0, 1)])
def test_evidences_take_over_where_a_block_surprises(shift, block):
    sky = linear_sky(outlier=(3, shift))
    posterior = exact_posterior(sky)
    settings = {"block": block, "folds": 4}
    weighted = predicted(sky, posterior, **settings, largest_k=np.inf)
    found = predicted(sky, posterior, **settings)
    loo, kfold = truth(sky, PixelBlocks(block, 16 // block), found.fold.values)
    surprise = 3 // block
    assert found.refitted_loo[:, surprise].all()
    assert found.reliable_loo[:, surprise].all()
    assert (weighted.pareto_k_loo[:, surprise] > 0.7).all()
    assert not weighted.refitted.any()
    assert (np.abs(weighted.elpd_loo - loo)[:, surprise] > 0.5).any()
    again = found.refitted_loo.values
    np.testing.assert_allclose(found.elpd_loo.values[again], loo[again], atol=0.2)
    again = np.take_along_axis(found.refitted.values, np.maximum(found.fold.values, 0), axis=1)
    again &= found.fold.values >= 0
    assert again[:, surprise].all()
    np.testing.assert_allclose(found.elpd_kfold.values[again], kfold[again], atol=0.2)
    kept = ~found.refitted_loo.values
    np.testing.assert_array_equal(found.elpd_loo.values[kept], weighted.elpd_loo.values[kept])


def test_single_blocks_can_be_left_with_their_weights():
    sky = linear_sky(outlier=(3, 10.0))
    posterior = exact_posterior(sky)
    whole = predicted(sky, posterior, block=1, folds=4)
    found = predicted(sky, posterior, block=1, folds=4, refit_loo=False)
    assert whole.refitted_loo[:, 3].all()
    assert not found.refitted_loo.any()
    assert not found.reliable_loo[:, 3].any()
    np.testing.assert_allclose(found.elpd_kfold, whole.elpd_kfold, rtol=1e-9)
    np.testing.assert_array_equal(found.refitted, whole.refitted)


def test_bridges_take_over_where_importance_sampling_fails(monkeypatch):
    class Independent:
        """Draws as NUTS does, of the linear model: without its compilation."""

        def __init__(self, draws, chains, attempts):
            self.shape = chains, draws

        def draw_in(self, scale, target):
            sample = importance_sample(
                target.log_posterior, scale, self.shape[0] * self.shape[1], target.generators()
            )
            theta = sample.theta.transpose(1, 0, 2)
            return Draws(theta.reshape(*self.shape, *theta.shape[1:]))

    monkeypatch.setattr(crossvalidation, "Nuts", Independent)
    monkeypatch.setattr(
        crossvalidation, "_relied_on", lambda sample: np.isinf(sample.ln_evidence) & False
    )
    sky = linear_sky(outlier=(3, 10.0))
    found = predicted(sky, exact_posterior(sky), folds=4)
    loo, kfold = truth(sky, pixel_blocks(sky), found.fold.values)
    assert found.reliable_loo[:, 3].all()
    np.testing.assert_allclose(found.elpd_loo[:, 3], loo[:, 3], atol=0.2)
    np.testing.assert_allclose(found.elpd_kfold[:, 3], kfold[:, 3], atol=0.2)


def test_a_superpixel_is_predicted_alone_as_among_others(sky, posterior, prediction):
    surprised = linear_sky(outlier=(3, 10.0))
    both = exact_posterior(surprised)
    whole = predicted(surprised, both, folds=4)
    part = predicted(surprised, both.isel(superpixel=[1]), folds=4)
    xr.testing.assert_allclose(part, whole.isel(superpixel=[1]), rtol=1e-7)
    assert part.refitted.any()


def test_a_superpixel_of_few_valid_pixels():
    valid = np.zeros((2, 16), dtype=bool)
    valid[0, 5] = valid[1, [2, 9, 11]] = True
    sky = linear_sky(valid=valid)
    found = predicted(sky, exact_posterior(sky), folds=10)
    loo, kfold = truth(sky, pixel_blocks(sky), found.fold.values)
    np.testing.assert_allclose(found.elpd_loo, loo, atol=0.2)
    np.testing.assert_allclose(found.elpd_kfold, kfold, atol=0.2)
    assert np.array_equal(np.isfinite(found.pareto_k_fold).sum("fold_number"), [1, 3])


def test_of_coupled_superpixels_all_others_are_seen():
    """Against posteriors that `sample` draws without the fold."""
    model = Nonlinear(beta=over_sky(Prior("Normal", mu=1.6, sigma=0.1)))
    sky = linear_sky(outlier=(3, 3.0))
    tree = sample(model, sky, method="laplace", draws=4000)
    found = predict(tree, sky, folds=4)
    blocks, fold = pixel_blocks(sky), found.fold.values
    assert found.refitted.any()
    assert found.reliable_kfold.values[fold >= 0].all()
    for superpixel in range(2):
        withheld = fold[superpixel] == fold[superpixel, 3]
        valid = sky.valid.copy(deep=True)
        valid[superpixel, withheld] = False
        anew = sample(model, sky.assign(valid=valid), method="laplace", draws=30000, seed=1)
        log_likelihood = block_log_likelihood(anew, sky, blocks)[superpixel]
        expected = logsumexp(log_likelihood, axis=0) - np.log(len(log_likelihood))
        own = found.elpd_kfold.values[superpixel]
        np.testing.assert_allclose(own[withheld], expected[withheld], atol=0.15)


def test_weights_and_scores_are_those_of_arviz(sky, posterior, prediction):
    one = posterior.isel(superpixel=[0])
    used = prediction.fold.values[0] >= 0
    log_likelihood = block_log_likelihood(one, sky, pixel_blocks(sky))[0][:, used]
    tree = xr.DataTree.from_dict(
        {
            "posterior": one["posterior"].to_dataset(),
            "log_likelihood": xr.Dataset(
                {"block": (("chain", "draw", "point"), log_likelihood.reshape(4, 1000, -1))}
            ),
        }
    )
    theirs = arviz_stats.loo(tree, pointwise=True, reff=1.0)
    ours = elpd_data(prediction, 40, criterion="loo")
    np.testing.assert_allclose(ours.elpd_i, theirs.elpd_i, rtol=1e-9)
    np.testing.assert_allclose(ours.pareto_k, theirs.pareto_k, atol=1e-9)
    for name in ("elpd", "se", "p", "good_k", "n_data_points", "n_samples", "scale", "kind"):
        assert ours[name] == pytest.approx(theirs[name]), name


def test_arviz_compares_predictions(sky, prediction):
    worse = prediction.assign(elpd_kfold=prediction.elpd_kfold - 1.0)
    table = arviz_stats.compare(
        {"good": elpd_data(prediction), "bad": elpd_data(worse)}, round_to="none"
    )
    assert table.index.tolist() == ["good", "bad"]
    assert table.loc["bad", "elpd_diff"] == pytest.approx(-sky.valid.values.sum())


def test_with_less_trust_in_weights_scores_come_nearer_to_the_closed_form():
    sky = linear_sky()
    posterior = exact_posterior(sky, seed=0)
    settings = {"block": 4, "folds": 4}
    usual, careful = (predicted(sky, posterior, **settings, largest_k=k) for k in (None, 0.3))
    _, kfold = truth(sky, PixelBlocks(4, 4), usual.fold.values)
    assert careful.refitted.sum() > usual.refitted.sum()
    worst = [np.abs(found.elpd_kfold - kfold).max() for found in (usual, careful)]
    assert worst[1] < 0.08 < worst[0]


def test_the_sky_must_be_the_one_that_was_drawn_from(sky, posterior):
    with pytest.raises(ResultError, match="give the sky that the posterior was drawn from"):
        predict(posterior, sky.assign(emission=sky.emission + 0.01))
    with pytest.raises(ResultError, match="another log likelihood"):
        predict(posterior, sky.assign(valid=sky.valid & (sky.pixel > 0)))
    with pytest.raises(ResultError, match="1 of the posterior's 2 superpixels are not in the sky"):
        predict(posterior, sky.isel(superpixel=[1]))


def test_a_posterior_must_carry_its_likelihood(sky, posterior):
    bare = posterior.copy()
    del bare["log_likelihood"]
    with pytest.raises(ResultError, match="lacks the group log_likelihood"):
        predict(bare, sky)


def test_what_arviz_is_not_given(prediction):
    with pytest.raises(ResultError, match="no superpixel 7; it has 2: 40 and 41"):
        elpd_data(prediction, 7)
    with pytest.raises(ConfigurationError, match="did you mean 'loo'"):
        elpd_data(prediction, criterion="lo")


def test_a_fold_of_one_block_is_that_block():
    log_likelihood = np.random.default_rng(2).normal(-5, 0.5, (1, 2000))
    one, fold = leave_one_out(log_likelihood), leave_all_out(log_likelihood)
    np.testing.assert_allclose(one.elpd, fold.elpd)
    np.testing.assert_allclose(one.pareto_k, fold.pareto_k)
