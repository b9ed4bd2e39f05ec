"""The right one of five variants wins as often as its probability says, and not where none can."""

import numpy as np
import pytest
from scipy.special import softmax

from pymcdust import sample, simulate_sky
from pymcdust.errors import ConfigurationError, SkyError
from pymcdust.judge.choice import calibrate_choice, tabulate_choice, tabulate_probability
from pymcdust.physics.bands import PAPER_SIGMA

VARIANTS = (
    "single_temperature",
    "temperature_per_voxel",
    "temperature_beta_per_voxel",
    "temperature_rho_per_voxel",
    "fixed_emissivity",
)


def patch(noise, n_mock):
    """Return superpixels of 64 pixels and two voxels near the plane, where dust is thick."""
    sky = simulate_sky(
        VARIANTS[0],
        nside=64,
        superpixel_nside=8,
        center=(120.0, 0.0),
        radius=40.0,
        distance_edge=[0.0, 0.6, 3.0],
        sigma={band: noise * sigma for band, sigma in PAPER_SIGMA.items()},
        seed=3,
    )
    assert sky.sizes["superpixel"] >= n_mock
    return sky.isel(superpixel=slice(0, n_mock))


@pytest.fixture(scope="module")
def choice():
    settings = {"method": "laplace", "draws": 2000, "folds": 4}
    return calibrate_choice(VARIANTS, patch(0.03, 60), seed=5, **settings)


@pytest.mark.statistical
def test_probabilities_are_how_often_variants_are_true(choice):
    rows = tabulate_probability(choice)
    assert sum(row["found"] for row in rows) == 60
    assert sum(row["expected"] for row in rows) == pytest.approx(60)
    assert all(abs(row["z"]) < 3.5 for row in rows), rows


@pytest.mark.statistical
def test_a_wrong_evidence_would_be_seen(choice):
    wrong = choice.ln_evidence.transpose("superpixel", "model").copy()
    wrong.loc[{"model": "temperature_beta_per_voxel"}] += 3.0
    mistaken = choice.assign(probability=(wrong.dims, softmax(wrong.values, axis=1)))
    assert max(abs(row["z"]) for row in tabulate_probability(mistaken)) > 4


@pytest.mark.statistical
def test_the_right_variant_wins_where_data_tell(choice):
    rows = tabulate_choice(choice)
    assert [row["mocks"] for row in rows] == [12] * 5
    right = sum(row[row["truth"]] for row in rows)
    chosen = sum(row[name] for row in rows for name in VARIANTS)
    assert chosen > 15
    # At a probability of 0.9 or more.
    assert right / chosen > 0.8
    assert np.mean([row["probability"] for row in rows]) > 0.5
    assert np.mean([row["weight"] for row in rows]) > 0.28


@pytest.mark.statistical
def test_without_signal_all_stays_even():
    weak = calibrate_choice(VARIANTS, patch(1e4, 10), seed=5, method="laplace", draws=1000, folds=4)
    np.testing.assert_allclose(weak.weight, 0.2, atol=0.01)
    np.testing.assert_allclose(weak.probability, 0.2, atol=0.01)
    assert all(row["undecided"] == 2 for row in tabulate_choice(weak))


def test_what_cannot_be_a_mock():
    sky = patch(1.0, 2)
    drawn = sample("single_temperature", sky, method="laplace", draws=200)
    with pytest.raises(ConfigurationError, match="give models that couple no superpixels"):
        calibrate_choice({"drawn": drawn, "single": "single_temperature"}, sky)
    with pytest.raises(ConfigurationError, match="offsets_over_sky cannot be calibrated"):
        calibrate_choice(["offsets_over_sky", "single_temperature"], sky)
    each = sky.assign(sigma=sky.sigma.broadcast_like(sky.emission))
    with pytest.raises(SkyError, match="one sigma for each band"):
        calibrate_choice(VARIANTS, each)
