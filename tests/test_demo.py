"""The demonstration, made smaller: what it leaves, and that its tables tell the truth."""

import numpy as np
import pytest

from pymcdust import demo, open_sky
from pymcdust.sky.store import open_store


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "NSIDE", 32)
        patch.setattr(demo, "SUPERPIXEL_NSIDE", 2)
        return out, demo.run_demo(out, seed=8, say=lambda text: None)


def test_what_is_left(shown):
    out, _ = shown
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures >= {"truth.png", "temperature.png", "emission.png", "reddening.png"}
    assert (out / "maps" / "parameters.fits").is_file()
    assert open_sky(out / "sky.zarr").sizes["superpixel"] == 48
    assert open_store(out / "fit.zarr").converged.all()


def test_the_two_clouds_are_told_apart(shown):
    _, tables = shown
    table = tables["Two clouds behind each other"]
    assert table["parameter"][:2] == ["temperature near [K]", "temperature far [K]"]
    truth, estimate, error = (
        np.array(table[column], dtype=float) for column in ("truth", "estimate", "error")
    )
    np.testing.assert_allclose(truth, [19.8, 17.2, 1.6, 1.0])
    assert np.all(np.abs(estimate - truth) < 4 * error)
    assert estimate[0] - estimate[1] > 5 * np.hypot(*error[:2])


def test_the_table_of_the_sky_counts_what_the_files_hold(shown):
    out, tables = shown
    table = tables["A sky of 48 superpixels"]
    sky, fit = open_sky(out / "sky.zarr"), open_store(out / "fit.zarr")
    row = table["parameter"].index("temperature 0.3-1 kpc")
    value, error = fit.temperature.values[:, 1], fit.temperature_sd.values[:, 1]
    known = error <= 0.7 * fit.temperature.attrs["prior_sd"]
    off = np.abs(value - sky.true_temperature.values[:, 1])[known] / error[known]
    assert table["constrained"][row] == f"{known.mean():.0%}"
    assert table["in 1 sd (68 %)"][row] == f"{(off < 1).mean():.0%}"
    assert table["median error"][row] == f"{np.median(error[known]):.2g} K"
