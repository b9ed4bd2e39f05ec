"""Cross-validation prefers what is true, and agrees with posteriors that are drawn anew."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

from pymcdust import sample
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.judge.pointwise import block_log_likelihood
from pymcdust.judge.predictive import predict
from pymcdust.judge.predictive_check import check_predictions
from pymcdust.modeling.gallery import resolve
from pymcdust.sky.blocks import pixel_blocks
from pymcdust.sky.compression import compress
from pymcdust.sky.dataset import build_sky

sys.path.insert(0, str(Path(__file__).parents[1] / "judge"))
from linear import SIGMA, emissivity

pytestmark = pytest.mark.statistical

SUPERPIXELS = 24
NAMES = ("single_temperature", "temperature_per_voxel")
_COMPILED = {}


def mock(temperature, seed):
    """Return a sky of voxels of three temperatures [K]."""
    rng = np.random.default_rng(seed)
    reddening = rng.lognormal(-0.5, 0.7, size=(SUPERPIXELS, 64, 3))
    emission = reddening @ emissivity(np.array(temperature), 1.6, 1e-4)
    emission += SIGMA * rng.normal(size=emission.shape)
    return build_sky(
        reddening,
        emission,
        SIGMA,
        [0.0, 0.3, 1.0, 3.0],
        np.arange(SUPERPIXELS),
        nside=128,
        superpixel_nside=16,
        reddening_unit="bayestar2019",
    )


def compiled(name, sky):
    if name not in _COMPILED:
        _COMPILED[name] = CompiledPosterior(resolve(name), compress(sky), "quantile")
    return _COMPILED[name]


def draw(name, sky, **settings):
    return sample(name, sky, method="laplace", **settings)


def difference(sky):
    """Return how much better the richer model predicts, and the standard error."""
    elpd = []
    for name in NAMES:
        found = predict(draw(name, sky), sky, compiled=compiled(name, sky))
        assert found.reliable_kfold.all()
        elpd.append(found.elpd_kfold.values.ravel())
    better = elpd[1] - elpd[0]
    return better.sum(), np.sqrt(better.size) * better.std()


@pytest.fixture(scope="module")
def uniform():
    return mock([18.0, 18.0, 18.0], seed=1)


@pytest.fixture(scope="module")
def layered():
    return mock([15.0, 18.0, 24.0], seed=2)


def test_one_temperature_is_preferred_where_there_is_one(uniform):
    better, error = difference(uniform)
    # Two temperatures more in each superpixel predict nothing, and cost what they fit of the noise.
    assert -SUPERPIXELS * 3 < better < 0
    assert error < SUPERPIXELS


def test_temperatures_of_voxels_are_preferred_where_they_differ(layered):
    better, error = difference(layered)
    assert better > 5 * error


def test_the_true_model_is_calibrated_and_the_wrong_one_is_not(layered):
    right, wrong = (check_predictions(draw(name, layered), layered) for name in reversed(NAMES))
    assert (right.pit_p > 1e-3).all()
    assert abs(right.chi2_p.mean() - 0.5) < 0.1
    assert (wrong.pit_p < 1e-3).any()


def test_elpd_is_that_of_posteriors_drawn_anew(layered):
    sky = layered.isel(superpixel=slice(0, 2))
    name = "temperature_per_voxel"
    # Something to be surprised by.
    emission = sky.emission.copy(deep=True)
    emission[:, 7] += 12 * SIGMA
    sky = sky.assign(emission=emission)
    posterior = draw(name, sky)
    found = predict(posterior, sky, compiled=compiled(name, sky), folds=5, largest_k=0.4)
    fold = found.fold.values
    assert found.refitted_loo[:, 7].any()
    assert found.refitted.any()
    for number in range(5):
        left = sky.assign(valid=sky.valid & (fold != number))
        anew = draw(name, left, draws=40_000, seed=1)
        log_likelihood = block_log_likelihood(anew, sky, pixel_blocks(sky))
        n_draw = log_likelihood.shape[1]
        expected = logsumexp(log_likelihood, axis=1) - np.log(n_draw)
        # Relative variance of the mean likelihood: where a block surprises, few draws carry it.
        square = logsumexp(2 * log_likelihood, axis=1) - np.log(n_draw)
        error = np.sqrt(np.expm1(square - 2 * expected) / n_draw)
        away = np.abs(found.elpd_kfold.values - expected)[fold == number]
        error = error[fold == number]
        assert np.median(error) < 0.01
        assert (away < 0.05 + 4 * error).all()
