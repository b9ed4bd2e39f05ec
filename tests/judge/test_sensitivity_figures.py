"""Figures of prior sensitivity: what they show is what the results say."""

import numpy as np
import pytest
import xarray as xr

from pymcdust.errors import ResultError
from pymcdust.judge.prior_study import PriorStudy
from pymcdust.judge.sensitivity import sensitivity
from pymcdust.judge.sensitivity_figures import plot_band, plot_prior_dominated, plot_tornado

GRID = {
    "temperature": {"mu": [15.0, 17.0, 21.0], "sigma": [6.0]},
    "beta": {"mu": [1.5]},
    "rho": {"mu": [-9.0]},
}


@pytest.fixture(scope="module")
def posterior(make_posterior):
    posterior = make_posterior(superpixels=(5, 6, 40))
    lp = posterior["sample_stats"]["lp"].rename("emission")
    posterior["log_likelihood"] = xr.DataTree(lp.to_dataset())
    return posterior


@pytest.fixture(scope="module")
def study(posterior):
    return PriorStudy("temperature_per_voxel", **GRID).run(posterior, refit="none")


def bars(panel):
    """Return the lengths of the bars of a panel, with the values written at their ends."""
    return sorted(patch.get_width() for patch in panel.patches if abs(patch.get_height()) < 0.5)


def test_bars_are_shifts_of_the_mean(study, tmp_path):
    figure = plot_tornado(study, superpixel=6)
    figure.savefig(tmp_path / "tornado.png")
    panels = figure.axes[:2]
    assert [panel.get_title().split(",")[0] for panel in panels] == ["0–1.5 kpc", "1.5–3 kpc"]
    mean = study.temperature_mean.sel(superpixel=6)
    shift = mean - mean.isel(prior=0)
    # Of three values of the mean the outermost to either side; the other numbers have one.
    shown = ["mu=15", "mu=21", "sigma=6"]
    wanted = [shift.sel(prior=f"temperature {name}") for name in shown]
    wanted += [shift.sel(prior="beta mu=1.5"), shift.sel(prior="rho mu=-9")]
    for voxel, panel in enumerate(panels):
        expected = sorted(float(shift[voxel]) for shift in wanted)
        np.testing.assert_allclose(bars(panel), expected, atol=1e-12)
    # The largest is uppermost, and the logarithm of rho is called so.
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels[-1] == r"$\mu$ of $T$"
    assert r"$\mu$ of $\ln$ $\rho$" in labels
    assert "15" in [text.get_text() for text in panels[0].texts]


def test_without_a_superpixel_the_median_is_shown(study):
    figure = plot_tornado(study, parameter="rho")
    shift = study.rho_mean - study.rho_mean.isel(prior=0)
    shift = 1e4 * shift.median("superpixel")
    assert len(figure.axes) == 1
    assert min(bars(figure.axes[0])) == pytest.approx(float(shift[1:].min()), abs=1e-12)
    assert "median over the sky" in figure.get_supxlabel()
    assert "mag" in figure.get_supxlabel()


def test_lines_are_the_means_of_all_priors(study, tmp_path):
    figure = plot_band(study, 40)
    figure.savefig(tmp_path / "band.png")
    axes = figure.axes[0]
    band, *lines = axes.patches
    here = study.sel(superpixel=40)
    values, edges, baseline = band.get_data()
    np.testing.assert_array_equal(values, here.temperature_high[0])
    np.testing.assert_array_equal(baseline, here.temperature_low[0])
    np.testing.assert_array_equal(edges[1:], [1.5, 3.0])
    assert len(lines) == study.sizes["prior"]
    shown = [tuple(line.get_data().values) for line in lines]
    assert shown == [tuple(mean) for mean in here.temperature_mean.values]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert r"$\mu$ of $T$ = 15 to 21" in labels
    assert axes.get_ylabel() == "temperature $T$ [K]"
    dotted = [line.get_linestyle() in (":", "dotted") for line in lines[1:]]
    assert dotted == (~here.reliable.values[1:]).tolist()


def test_a_grid_of_priors_has_a_colour_scale(posterior, study):
    grid = {"mu": [16.0, 20.0], "sigma": [7.0, 9.0]}
    product = PriorStudy("temperature_per_voxel", product=True, temperature=grid)
    result = product.run(posterior, refit="none")
    figure = plot_band(result, 5)
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylabel() == r"$\mu$ of $T$  ($\sigma$ of $T$ 7 to 9)"
    # Those that differ from the declared prior in one number alone.
    assert len(bars(plot_tornado(result, superpixel=5).axes[0])) == 2
    alone = result.isel(prior=(result.varied == "").values)
    with pytest.raises(ResultError, match="product=True"):
        plot_tornado(alone)


def test_maps_tell_how_much_is_prior(posterior, tmp_path):
    found = sensitivity(posterior)
    found["temperature_prior_dominated"][:, 0] = [True, False, True]
    found["temperature_prior_dominated"][:, 1] = False
    figure = plot_prior_dominated(found)
    figure.savefig(tmp_path / "map.png")
    panels = figure.axes[:2]
    titles = [panel.get_title() for panel in panels]
    assert titles == ["0–1.5 kpc: 67 % prior", "1.5–3 kpc: 0 % prior"]
    width, striped = (image.get_array() for image in panels[0].images)
    shown = np.unique(np.asarray(width)[np.isfinite(width)])
    np.testing.assert_allclose(shown, np.sort(found["temperature_width"].values[:, 0]))
    # Two of the three superpixels are striped, none of the other voxel's.
    on_sky = np.isfinite(np.asarray(width))
    share = (striped[..., 3] > 0).sum() / on_sky.sum()
    assert 0.2 < share < 0.5
    assert not panels[1].images[1].get_array()[..., 3].any()
    assert len(plot_prior_dominated(found, "beta").axes) == 2


def test_what_cannot_be_drawn_is_refused(posterior, study):
    with pytest.raises(ResultError, match="did you mean 'temperature'"):
        plot_tornado(study, parameter="temprature")
    with pytest.raises(ResultError, match="no superpixel 7; it has 3: 5, 6 and 40"):
        plot_tornado(study, superpixel=7)
    with pytest.raises(ResultError, match="such as superpixel=5"):
        plot_band(study)
    with pytest.raises(ResultError, match="beta has no voxels"):
        plot_band(study, 5, parameter="beta")
    with pytest.raises(ResultError, match="did you mean 'rho'"):
        plot_prior_dominated(sensitivity(posterior), "rhoo")
    # One superpixel need not be named.
    assert "superpixel 6" in plot_band(study.isel(superpixel=[1])).axes[0].get_title()
