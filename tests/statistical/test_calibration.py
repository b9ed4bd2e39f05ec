"""Many mocks with known truth: no bias, and intervals that cover as often as they say."""

import numpy as np
import pytest
from scipy import stats

from pymcdust import Prior, fixed, per_superpixel, per_voxel
from pymcdust.infer.engine import fit_map
from pymcdust.models.offsets_per_superpixel import OffsetsPerSuperpixel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.physics.bands import BANDS, PAPER_SIGMA
from pymcdust.sky.dataset import build_sky
from pymcdust.sky.simulate import simulate_sky

pytestmark = pytest.mark.statistical

N_SUPERPIXEL, N_PIXEL, N_VOXEL = 1600, 64, 2

#: A fortieth of the paper's noise: every voxel is then well constrained.
SIGMA = {band: PAPER_SIGMA[band] / 40 for band in BANDS}

#: Chance that a test of this file fails by bad luck, for each number that it looks at.
FALSE_ALARM = 1e-4

TRUTH = {"temperature": ("voxel", [17.0, 20.0]), "beta": 1.6, "rho": 1e-4}


def clouds(seed):
    """Two voxels of unrelated shape, as much dust in every superpixel as in any other."""
    rng = np.random.default_rng(seed)
    return build_sky(
        rng.lognormal(-1.5, 0.8, size=(N_SUPERPIXEL, N_PIXEL, N_VOXEL)),
        np.zeros((N_SUPERPIXEL, N_PIXEL, len(BANDS))),
        np.ones(len(BANDS)),
        [0.0, 0.5, 2.0],
        np.arange(N_SUPERPIXEL),
        nside=128,
        superpixel_nside=16,
        reddening_unit="bayestar2019",
    )


def pulls(model, truth, seed):
    """Return (estimate - truth) / error of every parameter, (superpixel, value), by name."""
    sky = simulate_sky(truth, reddening=clouds(seed), sigma=SIGMA, seed=seed)
    fit = fit_map(model, sky)
    assert fit.converged.all()
    assert not fit.flag.any()
    names = [name for name in ("temperature", "beta", "rho", "offset") if f"{name}_sd" in fit]
    pull = {name: (fit[name] - sky[f"true_{name}"]) / fit[f"{name}_sd"] for name in names}
    return {
        name: p.transpose("superpixel", ...).values.reshape(N_SUPERPIXEL, -1)
        for name, p in pull.items()
    }


def assert_calibrated(pulls):
    width = stats.norm.isf(FALSE_ALARM / 2)
    for name, pull in pulls.items():
        for column in pull.T:
            assert abs(column.mean()) < width / np.sqrt(N_SUPERPIXEL), f"{name} is biased"
            for level in (0.68, 0.95):
                covered = np.sum(np.abs(column) < stats.norm.isf((1 - level) / 2))
                low, high = stats.binom.interval(1 - FALSE_ALARM, N_SUPERPIXEL, level)
                assert low <= covered <= high, (
                    f"{covered / N_SUPERPIXEL:.3f} of the {level:.0%} intervals of {name} cover"
                )


@pytest.mark.parametrize("model", [TemperaturePerVoxel, OffsetsPerSuperpixel])
def test_a_fixed_truth_is_recovered(model):
    offset = ("band", [0.3, -0.2, 0.5, 1.0, -1.0]) if model is OffsetsPerSuperpixel else 0.0
    assert_calibrated(pulls(model, TRUTH | {"offset": offset}, seed=1))


def test_a_truth_drawn_from_the_prior_is_recovered():
    # Priors about as wide as the likelihood: they pull, and the errors must know it.
    model = TemperaturePerVoxel(
        temperature=per_voxel(Prior("Normal", mu=18.0, sigma=0.3), unit="K"),
        beta=per_superpixel(Prior("Normal", mu=1.6, sigma=0.02)),
        rho=fixed(1e-4, unit="mag-1"),
    )
    found = pulls(model, model.draw, seed=2)
    assert_calibrated(found)
