"""Importance and bridge sampling, populations and stepping stones find the same evidences."""

from itertools import combinations

import numpy as np
import pytest
from test_samplers import glow, sky_of

from pymcdust.infer.sampling import sample
from pymcdust.judge.evidence import ESTIMATORS, evidence

pytestmark = pytest.mark.statistical

#: Mean reddening of a voxel in each of five superpixels, from thick dust to next to none.
REDDENING = np.array([1.0, 0.3, 0.05, 0.01, 0.001])


@pytest.mark.parametrize("n_voxel", [2, 9])
def test_all_estimators_find_the_same_evidences(n_voxel):
    rng = np.random.default_rng(n_voxel)
    share = n_voxel * rng.dirichlet(np.ones(n_voxel), size=5)[:, None]
    clouds = rng.lognormal(0.0, 0.7, size=(5, 16, n_voxel))
    spectra = glow(rng.normal(18.0, 2.0, size=(5, n_voxel)), 1.6, 1e-4)
    sky = sky_of(REDDENING[:, None, None] * share * clouds, spectra)
    posterior = sample("temperature_per_voxel", sky, method="nuts")

    found = {method: evidence(posterior, method=method) for method in ESTIMATORS}
    away = []
    for one, other in combinations(found.values(), 2):
        error = np.hypot(one.ln_evidence_error, other.ln_evidence_error)
        difference = (one.ln_evidence - other.ln_evidence) / error
        away.extend(difference[one.reliable & other.reliable].values)
    # What comes from the prior may not arrive in nine voxels of thick dust, and says so.
    unreliable = {method: int((~estimate.reliable).sum()) for method, estimate in found.items()}
    assert unreliable["importance"] == unreliable["bridge"] == 0
    assert max(unreliable["smc"], unreliable["stepping"]) <= 1
    # The error of eight populations is uncertain, so that some differences are larger than normal.
    assert np.max(np.abs(away)) < 4.5
    assert 0.5 < np.sqrt(np.mean(np.square(away))) < 1.5
