"""What a posterior gives back: its model, its rows of data, and its draws in prior quantiles."""

import numpy as np
import pytest
import xarray as xr

from pymcdust import Prior, per_superpixel, per_voxel
from pymcdust.infer.posterior import model_of, quantile_draws, rows_of, to_tree
from pymcdust.infer.target import Draws, Target
from pymcdust.models.offsets_per_superpixel import OffsetsPerSuperpixel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.compression import compress

#: A hierarchy inside each superpixel.
HIERARCHY = TemperaturePerVoxel(
    temperature=per_voxel(
        Prior("Normal", mu=Prior("Normal", mu=18.0, sigma=3.0, dims="superpixel"), sigma=2.0),
        unit="K",
    )
)

#: An offset of every band, with a prior of its own.
SCATTER = xr.DataArray([0.1, 0.5, 2.0, 3.0, 9.0], dims="band")
BY_BAND = OffsetsPerSuperpixel(
    offset=per_superpixel(Prior("Normal", mu=0.0, sigma=SCATTER), unit="MJy/sr")
)

MODELS = {
    "plain": "temperature_per_voxel",
    "hierarchy of a superpixel": HIERARCHY,
    "hierarchy of the sky": "hierarchical_temperature",
    "offset of a band": BY_BAND,
    "offsets over the sky": "offsets_over_sky",
}


@pytest.mark.parametrize("name", MODELS)
def test_what_went_in_comes_back(name, compiled, sky):
    rows = compress(sky)
    posterior = compiled(MODELS[name], rows, "quantile")
    n_block = rows.sizes["superpixel"] if posterior.by_superpixel else 1
    target = Target(posterior, rows, np.random.SeedSequence(0).spawn(n_block))
    theta = np.random.default_rng(1).standard_normal((2, 5, n_block, posterior.n_parameter))
    tree = to_tree(target, Draws(theta), {"method": "nuts"})

    np.testing.assert_allclose(quantile_draws(tree, target), theta, atol=1e-8)
    back = rows_of(tree)
    xr.testing.assert_equal(back[list(rows.data_vars)], rows)
    assert model_of(tree).to_dict() == posterior.model.to_dict()

    # The log posterior of what came back is that of the tree.
    again = Target(posterior, back, target.seeds)
    points = quantile_draws(tree, again).reshape(10, n_block, -1).transpose(1, 0, 2)
    lp = again.log_posterior(points, np.arange(n_block)).T.reshape(2, 5, n_block)
    stored = tree["sample_stats"]["lp"].values.reshape(lp.shape)
    np.testing.assert_allclose(lp, stored, rtol=1e-9, atol=1e-6)


def test_some_superpixels_come_back_alone(compiled, sky):
    rows = compress(sky)
    posterior = compiled("temperature_per_voxel", rows, "quantile")
    theta = np.random.default_rng(2).standard_normal((1, 4, 3, posterior.n_parameter))
    seeds = np.random.SeedSequence(0).spawn(3)
    tree = to_tree(Target(posterior, rows, seeds), Draws(theta), {"method": "nuts"})
    part = tree.isel(superpixel=[2, 0])
    target = Target(posterior, rows_of(part), [seeds[2], seeds[0]])
    np.testing.assert_allclose(quantile_draws(part, target), theta[:, :, [2, 0]], atol=1e-8)
