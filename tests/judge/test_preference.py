"""What a comparison says, against sums by hand, ArviZ and cases that are known."""

import numpy as np
import pytest
import xarray as xr
from arviz_stats import ELPDData, compare

from pymcdust.errors import ResultError
from pymcdust.judge.preference import (
    differences,
    summarise_places,
    summarise_variants,
    total_and_error,
    winner,
)


def test_differences_are_paired_by_blocks(make_comparison):
    comparison = make_comparison()
    against = differences(comparison, "temperature_per_voxel")
    assert against.attrs["reference"] == "temperature_per_voxel"
    score = comparison.elpd_block.values
    difference = score[0] - score[1]
    here = against.sel(model="single_temperature")
    np.testing.assert_allclose(here.elpd_difference, difference.sum(axis=1), rtol=1e-9)
    error = np.sqrt(16) * difference.std(axis=1, ddof=1)
    np.testing.assert_allclose(here.elpd_difference_error, error, rtol=1e-9)
    np.testing.assert_allclose(here.elpd_difference_sky, difference.sum(), rtol=1e-9)
    error = np.sqrt(difference.size) * difference.std(ddof=1)
    np.testing.assert_allclose(here.elpd_difference_sky_error, error, rtol=1e-9)
    evidence = comparison.ln_evidence.values
    np.testing.assert_allclose(here.ln_bayes_factor, evidence[0] - evidence[1], rtol=1e-9)
    np.testing.assert_allclose(here.ln_bayes_factor_error, np.sqrt(2) * 0.02)
    total = (evidence[0] - evidence[1]).sum()
    np.testing.assert_allclose(here.ln_bayes_factor_sky, total, rtol=1e-9)
    np.testing.assert_allclose(here.ln_bayes_factor_sky_error, np.sqrt(2 * 60) * 0.02)
    itself = against.sel(model="temperature_per_voxel")
    assert all((itself[name] == 0).all() for name in against.data_vars)


def test_the_whole_sky_is_as_arviz_compares_it(make_comparison):
    comparison = make_comparison()
    pointwise = {
        str(name): comparison.elpd_block.sel(model=name).stack(unit=["superpixel", "block"])
        for name in comparison.model.values
    }
    table = compare(
        {
            name: ELPDData(
                elpd=float(values.sum()),
                se=1.0,
                p=0.0,
                n_samples=1000,
                n_data_points=values.size,
                scale="log",
                warning=False,
                good_k=0.7,
                elpd_i=values,
                pareto_k=xr.zeros_like(values),
            )
            for name, values in pointwise.items()
        },
        reference="single_temperature",
        round_to="none",
    )
    for row in summarise_variants(comparison):
        theirs = table.loc[row["model"]]
        assert row["elpd"] == pytest.approx(theirs["elpd"])
        assert row["elpd_difference"] == pytest.approx(theirs["elpd_diff"])
        if row["model"] != "single_temperature":
            assert row["elpd_difference_error"] == pytest.approx(theirs["dse"], rel=1e-3)
            assert row["p_better"] == pytest.approx(theirs["p_better"], abs=1e-3)
        # Ours begin with one block for each variant, theirs with none.
        assert row["weight"] == pytest.approx(theirs["weight"], abs=0.02)


def test_the_best_prediction_comes_first(make_comparison):
    rows = summarise_variants(make_comparison(), "temperature_beta_per_voxel")
    assert rows[0]["model"] == "temperature_per_voxel"
    assert [row["elpd"] for row in rows] == sorted((row["elpd"] for row in rows), reverse=True)
    assert rows[0]["elpd_difference"] > 0
    (itself,) = (row for row in rows if row["model"] == "temperature_beta_per_voxel")
    assert itself["elpd_difference"] == itself["ln_bayes_factor"] == 0


def test_a_winner_is_probable_enough(make_comparison):
    comparison = make_comparison(range(4))
    comparison["probability"].values[:] = [
        [0.95, 0.30, 0.05, np.nan],
        [0.03, 0.62, 0.05, np.nan],
        [0.02, 0.08, 0.90, np.nan],
    ]
    assert winner(comparison).values.tolist() == [0, -1, 2, -1]
    assert winner(comparison, 0.5).values.tolist() == [0, 1, 2, -1]
    rows = {row["model"]: row for row in summarise_variants(comparison)}
    assert [rows[name]["won"] for name in comparison.model.values] == [1, 0, 1]
    assert [rows[name]["lost"] for name in comparison.model.values] == [1, 2, 2]


def test_blocks_without_data_count_for_nothing():
    score = np.random.default_rng(0).normal(size=(3, 10))
    holes = np.concatenate([score, np.full((3, 5), np.nan)], axis=1)
    holes[2] = np.nan
    holes[1, 1:] = np.nan
    total, error = total_and_error(xr.DataArray(holes, dims=("superpixel", "block")), ["block"])
    assert total[0] == pytest.approx(score[0].sum())
    assert error[0] == pytest.approx(np.sqrt(10) * score[0].std(ddof=1))
    assert total[1] == score[1, 0]
    assert np.isnan(error[1])
    assert np.isnan(total[2])
    assert np.isnan(error[2])


def test_places_hold_every_superpixel_once(make_comparison):
    comparison = make_comparison(range(192))
    rows = summarise_places(comparison, "single_temperature")
    for by, parts in (("latitude", 5), ("column", 4)):
        here = [row for row in rows if row["by"] == by and row["model"] == VARIANT]
        assert len(here) == parts
        assert sum(row["superpixels"] for row in here) == 192
        assert sum(row["elpd_difference"] for row in here) == pytest.approx(
            float(differences(comparison).elpd_difference_sky.sel(model=VARIANT))
        )
        assert sum(row["ln_bayes_factor"] for row in here) == pytest.approx(
            float(differences(comparison).ln_bayes_factor_sky.sel(model=VARIANT))
        )
        assert sum(row["won"] for row in here) == int((winner(comparison) == 1).sum())
    # A superpixel at the pole, one at the equator: Nside 4, NESTED.
    column = [row for row in rows if row["by"] == "column" and row["model"] == VARIANT]
    assert [row["superpixels"] for row in column] == [48] * 4
    assert column[0]["low"] == pytest.approx(float(comparison.column.min()))
    assert column[-1]["high"] == pytest.approx(float(comparison.column.max()))


VARIANT = "temperature_per_voxel"


def test_an_unknown_reference(make_comparison):
    with pytest.raises(ResultError, match="did you mean 'single_temperature'"):
        differences(make_comparison(), "single_temperatur")
