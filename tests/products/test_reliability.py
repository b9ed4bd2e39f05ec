import numpy as np
import pytest

from pymcdust.errors import ResultError
from pymcdust.products.panels import distance_ranges
from pymcdust.products.reliability import chi2_per_datum, prior_dominated, voxels_in_use
from pymcdust.sky.voxels import padded


def test_prior_dominated_compares_the_widths(fit):
    fit["temperature_sd"][:] = 1.0
    fit["temperature_sd"][2, 1] = 6.4  # of 9
    fit["temperature_sd"][3, 0] = 6.2
    fit["temperature_sd"][4, 0] = np.nan
    expected = np.zeros(fit["temperature"].shape, bool)
    expected[2, 1] = expected[4, 0] = True
    np.testing.assert_array_equal(prior_dominated(fit, "temperature"), expected)


@pytest.mark.parametrize("prior_sd", [None, np.nan])
def test_a_prior_of_unknown_width_dominates_nothing(fit, prior_sd):
    fit["temperature"].attrs.pop("prior_sd")
    fit["temperature_sd"][:] = 100.0
    if prior_sd is not None:
        fit["temperature"].attrs["prior_sd"] = prior_sd
    assert not prior_dominated(fit, "temperature").any()


def test_of_a_lognormal_prior_the_logarithms_are_compared(fit):
    fit["rho"].attrs |= {"prior_sigma": 1.0, "prior_is_log": True}
    fit["rho"][:] = [1e-5, 1e-4, 1e-3, 1e-5, 1e-4, 1e-3]
    fit["rho_sd"][:] = [8e-6, 8e-5, 8e-4, 6e-6, 6e-5, 6e-4]
    dominated = prior_dominated(fit, "rho")
    assert dominated.values.tolist() == [True, True, True, False, False, False]


def test_of_a_hierarchical_prior_the_width_is_the_one_inferred(fit):
    fit["temperature"].attrs |= {"prior_sd": np.nan, "prior_sigma": "temperature_sigma"}
    fit["temperature_sd"][:] = [1.5, 1.3]
    with pytest.raises(ResultError, match="the fit lacks temperature_sigma"):
        prior_dominated(fit, "temperature")
    fit["temperature_sigma"] = 2.0
    assert prior_dominated(fit, "temperature").values.tolist() == [[True, False]] * 6
    fit["temperature_sigma"] = ("superpixel", np.linspace(1.9, 4.0, 6))
    assert prior_dominated(fit, "temperature").values[:, 0].tolist() == [True, *[False] * 5]


def test_fixed_parameters_are_not_dominated_by_a_prior(fit):
    assert not prior_dominated(fit, "offset").any()
    with pytest.raises(ResultError, match="the fit lacks beta_sd"):
        prior_dominated(fit.drop_vars("beta_sd"), "beta")


def test_chi2_per_datum(fit):
    fit["chi2"][:] = 40.0
    fit["n_data"][:] = [80, 40, 20, 10, 5, 0]
    np.testing.assert_array_equal(chi2_per_datum(fit), [0.5, 1, 2, 4, 8, np.nan])


def per_superpixel(dataset, edges):
    return dataset.assign(distance_edge=(("superpixel", "voxel_edge"), np.array(edges)))


def test_padding_is_known_by_the_number_of_voxels(sky):
    assert voxels_in_use(sky).values.tolist() == [True, True]
    edges = [padded(np.array(own), 3) for own in ([0, 0.3, 9.0], [0, 0.5, 2, 4], [0, 12.345])]
    sky = per_superpixel(sky.isel(superpixel=slice(3)), edges)
    # Voxels may be as thin as padding is: only their number tells.
    assert voxels_in_use(sky).all()
    assert voxels_in_use(sky).shape == (3, 3)
    told = sky.assign(n_voxel=("superpixel", [2, 3, 1]))
    expected = [[True, True, False], [True, True, True], [True, False, False]]
    assert voxels_in_use(told).values.tolist() == expected


def test_titles_claim_one_range_only_where_there_is_one(sky):
    assert distance_ranges(sky) == ["0–0.5 kpc", "0.5–2 kpc"]
    alike = per_superpixel(sky, np.outer(np.ones(6), [0, 0.841, 14.96]))
    assert distance_ranges(alike) == ["0–0.841 kpc", "0.841–15 kpc"]
    edges = np.outer(np.ones(6), [0, 0.5, 2, 4])
    edges[1] = padded(np.array([0, 0.5, 2.0]), 3)  # whose padding is no range of distances
    edges[2] = [0, 0.5, 2.5, 4]
    several = per_superpixel(sky, edges).assign(n_voxel=("superpixel", [3, 2, 3, 3, 3, 3]))
    assert distance_ranges(several) == [
        "0–0.5 kpc",
        "voxel 2 (edges differ)",
        "voxel 3 (edges differ)",
    ]
    assert distance_ranges(several.isel(superpixel=slice(2)))[1:] == [
        "0.5–2 kpc",
        "2–4 kpc",
    ]
