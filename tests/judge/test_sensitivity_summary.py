"""Tables and files of what a sensitivity and a study over priors say."""

import numpy as np
import pytest
import xarray as xr

from pymcdust import PriorStudy, sample, sensitivity, simulate_sky
from pymcdust.errors import ResultError
from pymcdust.judge.sensitivity_summary import save_figures, tabulate


@pytest.fixture(scope="module")
def posterior():
    sky = simulate_sky(
        {"temperature": ("voxel", [20.0, 17.0]), "beta": 1.6, "rho": 1e-4},
        nside=32,
        superpixel_nside=4,
        superpixels=[9, 40, 77],
        distance_edge=[0.0, 0.5, 3.0],
        seed=2,
    )
    return sample("temperature_per_voxel", sky, method="laplace", draws=1000)


@pytest.fixture(scope="module")
def study(posterior):
    numbers = {"temperature": {"mu": [17.0, 20.0]}, "beta": {"sigma": [0.25]}}
    return PriorStudy("temperature_per_voxel", **numbers).run(posterior, refit="none")


def test_a_sensitivity_is_told_value_by_value(posterior):
    found = sensitivity(posterior)
    found["temperature_prior_dominated"].values[:] = [[True, False], [True, False], [False, False]]
    found["beta_conflict"].values[:] = [True, False, False]
    table = tabulate(found)
    assert set(table["value"]) == {"temperature, voxel 0", "temperature, voxel 1", "beta", "rho"}
    rows = dict(zip(table["value"], zip(*list(table.values())[1:], strict=True), strict=True))
    width = found.temperature_width.median("superpixel").values
    assert rows["temperature, voxel 0"][:2] == (f"{width[0]:.2f}", "67")
    assert rows["temperature, voxel 1"][:2] == (f"{width[1]:.2f}", "0")
    assert rows["beta"][2] == "33"


def test_a_study_is_told_prior_by_prior(study):
    study = study.copy(deep=True)
    study["how"].values[1] = [2, 1, 2]
    study["reliable"].values[2] = [True, False, True]
    table = tabulate(study)
    assert table["prior"] == [str(label) for label in study.prior.values]
    assert table["drawn anew"] == ["0", "2", "0", "0"]
    assert table["not reliable"][2] == "1"
    moved = []
    for name in ("temperature", "beta", "rho"):
        mean, sd = study[f"{name}_mean"].values, study[f"{name}_sd"].values
        moved.append((np.abs(mean - mean[0]) / sd[0]).reshape(4, -1))
    moved = np.concatenate(moved, axis=1)
    assert table["median shift [sd]"] == [f"{value:.2f}" for value in np.median(moved, axis=1)]
    assert table["largest shift [sd]"] == [f"{value:.2f}" for value in moved.max(axis=1)]
    change = study.ln_evidence_change.sum("superpixel").values
    assert table["change of ln evidence"] == [f"{value:+.1f}" for value in change]
    assert table["median shift [sd]"][0] == "0.00"
    assert float(table["largest shift [sd]"][1]) > 0.05


def test_figures_are_those_that_can_be_drawn(posterior, study, tmp_path):
    files = save_figures(sensitivity(posterior), tmp_path)
    assert {file.name for file in files} == {
        f"prior_dominated_{name}.png" for name in ("temperature", "beta", "rho")
    }
    files = save_figures(study, tmp_path)
    assert {file.name for file in files} == {"tornado.png", "band_temperature.png"}
    assert all(file.stat().st_size > 5000 for file in files)


def test_anything_else_is_refused():
    with pytest.raises(ResultError, match="neither a sensitivity nor a study"):
        tabulate(xr.Dataset({"reddening": 1.0}))
