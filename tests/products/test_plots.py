import numpy as np
import pytest
from matplotlib import pyplot, rcParams
from matplotlib.colors import AsinhNorm, LogNorm

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.products import projection
from pymcdust.products.figures_reddening import LABELS, reddening_label
from pymcdust.products.panels import in_view, sky_image_of
from pymcdust.products.plots import (
    plot_emission,
    plot_parameters,
    plot_reddening,
    plot_residual,
    plot_temperature,
    plot_truth,
    plot_zoom,
)
from pymcdust.products.projection import Gnomonic, Mollweide
from pymcdust.products.reconstruction import reconstruct, residual
from pymcdust.sky.validation import REDDENING_UNITS

ALL_SKY = np.arange(192)


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    monkeypatch.setattr(projection, "RESOLUTION", 100)


@pytest.fixture
def sky(make_sky):
    """A whole sky but for 12 superpixels."""
    return make_sky(ALL_SKY[12:])


def panels(figure):
    """Return the axes that hold maps."""
    return [axes for axes in figure.axes if axes.images]


def bars(figure):
    """Return the labels of the colour bars."""
    labels = [axes.get_xlabel() or axes.get_ylabel() for axes in figure.axes if not axes.images]
    return [label for label in labels if label]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def sample(dataset, values, **view):
    return sky_image_of(dataset, **view).sample(values)


def values_of(panel, layer=0):
    """Return what was given to be coloured, NaN where nothing was."""
    return panel.images[layer].get_array().filled(np.nan)


def striped(panel):
    """Return where each overlay of a panel is opaque."""
    return [image.get_array()[..., 3] == 1 for image in panel.images[1:]]


def cut_differently(dataset):
    """Give some superpixels edges of their own, and some a single voxel and padding."""
    dataset = dataset.copy(deep=True)
    edges = np.tile(dataset["distance_edge"].values, (dataset.sizes["superpixel"], 1))
    edges[10:20] = [0.0, 0.7, 2.0]
    edges[40:60] = [0.0, 2.0, 2.001]
    dataset["distance_edge"] = (("superpixel", "voxel_edge"), edges)
    dataset["n_voxel"] = ("superpixel", np.where(edges[:, 2] == 2.001, 1, 2))
    return dataset


def test_temperature_of_each_voxel(make_fit, sky):
    fit = make_fit(sky)
    fit["temperature_sd"][30:50, 1] = 8.0
    fit["temperature"][30:50, 1] = 90.0
    fit["converged"][60:70] = False
    fit["temperature"][60:70] = 5.0
    figure = plot_temperature(fit)
    near, far = panels(figure)
    assert [axes.get_title() for axes in (near, far)] == ["0–0.5 kpc", "0.5–2 kpc"]
    values = fit["temperature"].values.copy()
    values[60:70] = np.nan
    np.testing.assert_array_equal(
        near.images[0].get_array().filled(np.nan), sample(fit, values[:, 0])
    )
    values[30:50, 1] = np.nan
    np.testing.assert_array_equal(
        far.images[0].get_array().filled(np.nan), sample(fit, values[:, 1])
    )
    # Stripes cover what the prior dominates, and what did not converge, and nothing else.
    dominated, failed = (np.isin(np.arange(180), range(*ends)) for ends in ((30, 50), (60, 70)))
    np.testing.assert_array_equal(striped(near), [sample(fit, failed) == 1])
    np.testing.assert_array_equal(
        striped(far), [sample(fit, dominated) == 1, sample(fit, failed) == 1]
    )
    # One scale, set by what was measured alone.
    assert near.images[0].norm is far.images[0].norm
    assert 14 < near.images[0].norm.vmin < near.images[0].norm.vmax < 25
    assert legend(figure)[0] == "no data"
    assert legend(figure)[1].startswith("prior dominates")
    assert legend(figure)[2] == "not converged"
    assert bars(figure) == ["Dust temperature $T$ [K]"]


def test_legend_names_only_what_is_there(make_fit, make_sky):
    whole = make_fit(make_sky(ALL_SKY))
    assert not plot_temperature(whole).legends
    striped_alone = whole.copy(deep=True)
    striped_alone["temperature_sd"][3:9] = 9.0
    (entry,) = legend(plot_temperature(striped_alone))
    assert entry.startswith("prior dominates")
    assert legend(plot_temperature(whole.isel(superpixel=slice(50)))) == ["no data"]


@pytest.mark.parametrize("tied", ["per_superpixel", "over_sky", "fixed"])
def test_temperature_shared_along_the_sightline_has_one_panel(make_fit, sky, tied):
    fit = make_fit(sky, temperature=tied)
    figure = plot_temperature(fit)
    (panel,) = panels(figure)
    values = np.broadcast_to(fit["temperature"].values, 180)
    np.testing.assert_array_equal(panel.images[0].get_array().filled(np.nan), sample(fit, values))
    assert bars(figure)[0].endswith("(fixed)") == (tied == "fixed")


def test_a_temperature_that_the_prior_dominates_everywhere_is_drawn(make_fit, sky):
    fit = make_fit(sky)
    fit["temperature_sd"][:] = 9.0
    figure = plot_temperature(fit)
    assert all(np.ma.getmaskarray(axes.images[0].get_array()).all() for axes in panels(figure))


def test_rho_and_beta(make_fit, sky):
    fit = make_fit(sky)
    rho, beta = panels(figure := plot_parameters(fit))
    np.testing.assert_allclose(
        rho.images[0].get_array().filled(np.nan), sample(fit, 1e4 * fit["rho"].values)
    )
    np.testing.assert_array_equal(
        beta.images[0].get_array().filled(np.nan), sample(fit, fit["beta"].values)
    )
    assert isinstance(rho.images[0].norm, LogNorm)
    assert not isinstance(beta.images[0].norm, LogNorm)
    assert bars(figure) == [
        r"Conversion factor $\rho$ [$10^{-4}$ mag$^{-1}$]",
        r"Emissivity index $\beta$",
    ]


@pytest.mark.parametrize(
    ("tying", "count"),
    [
        ({"rho": "per_voxel"}, 3),
        ({"rho": "per_voxel", "beta": "per_voxel"}, 4),
        ({"rho": "fixed", "beta": "over_sky"}, 2),
    ],
)
def test_rho_and_beta_have_as_many_panels_as_values(make_fit, sky, tying, count):
    assert len(panels(plot_parameters(make_fit(sky, **tying)))) == count


def test_emission(make_fit, sky):
    sky["valid"][7] = False
    fit = make_fit(sky).isel(superpixel=slice(None, None, -1))
    fit["chi2"][3:20] = 0.0
    figure = plot_emission(fit, sky)
    axes = panels(figure)
    assert len(axes) == 16
    here = sky.sel(superpixel=fit["superpixel"])
    predicted = reconstruct(fit, sky)
    for band in range(5):
        maps = [axes[3 * band + column].images[0] for column in range(3)]
        observed = here["emission"].where(here["valid"]).values[:, :, band]
        model = predicted.where(here["valid"]).values[:, :, band]
        norm = maps[0].norm
        assert maps[1].norm is norm
        for column, values in enumerate((observed, model, observed - model)):
            image = maps[column]
            shown = image.get_array().filled(np.nan)
            expected = sample(here, values)
            within = expected > 0 if column < 2 else np.isfinite(expected)
            np.testing.assert_allclose(shown[within], expected[within])
            np.testing.assert_array_equal(np.isnan(shown), np.isnan(expected))
        assert maps[2].norm.vmin == -maps[2].norm.vmax
    shown = axes[15].images[0].get_array().filled(np.nan)
    expected = sample(fit, (fit["chi2"] / 80).values)
    np.testing.assert_array_equal(shown[expected > 0], expected[expected > 0])
    assert 0 < shown[expected == 0].max() < axes[15].images[0].norm.vmin
    assert bars(figure)[0] == "217 GHz\n[MJy/sr]"
    assert bars(figure)[-1] == r"$\chi^2$ per datum"


def test_reddening(sky):
    sky["reddening"][20, :, 1] = 0.0
    sky["valid"][30, :5] = False
    figure = plot_reddening(sky)
    near, far = panels(figure)
    assert near.images[0].norm is far.images[0].norm
    shown = far.images[0].get_array().filled(np.nan)
    expected = sample(sky, sky["reddening"].where(sky["valid"]).values[:, :, 1])
    np.testing.assert_array_equal(np.isnan(shown), np.isnan(expected))
    within = expected > 0
    assert (shown[expected == 0] > 0).all()
    assert (expected == 0).any()
    np.testing.assert_allclose(shown[within], expected[within])
    assert bars(figure) == ["Reddening $E$ [bayestar19] in each voxel"]


def test_reddening_is_called_what_its_unit_is():
    assert set(LABELS) == set(REDDENING_UNITS)
    assert reddening_label("E(B-V)") == "$E(B-V)$ [mag]"
    # E-foldings are no magnitudes, and what is in a map's own unit is no E(B-V).
    assert reddening_label("leike2020") == r"Extinction $\tau_G$ [e-foldings]"
    for unit in ("bayestar2019", "bayestar2017", "edenhofer2023"):
        assert "B-V" not in reddening_label(unit)
        assert "mag" not in reddening_label(unit)
    assert all("$E(B-V)$" in reddening_label(unit) for unit in ("sfd", "bayestar2015"))


def test_reddening_in_its_unit(make_sky):
    sky = make_sky(ALL_SKY).assign_attrs(reddening_unit="leike2020")
    assert bars(plot_reddening(sky)) == [r"Extinction $\tau_G$ [e-foldings] in each voxel"]


def test_truth_beside_estimate_and_error(make_fit, sky):
    fit = make_fit(sky).isel(superpixel=slice(10, None))
    fit["temperature_sd"][30:50, 1] = 8.0
    truth = np.linspace(15, 21, 180)
    # The truth may vary with direction alone: every voxel then has the same.
    sky["true_temperature"] = ("superpixel", truth)
    figure = plot_truth(fit, sky)
    axes = panels(figure)
    titles = ["truth", "estimate", "standard deviation", "", "", ""]
    assert [panel.get_title() for panel in axes] == titles
    beside = [panel.texts[-1].get_text() for panel in axes[::3]]
    assert beside == ["0–0.5\nkpc", "0.5–2\nkpc"]
    dominated = np.isin(np.arange(170), range(30, 50))
    for voxel in range(2):
        grey = dominated & (voxel == 1)
        estimate = np.where(grey, np.nan, fit["temperature"].values[:, voxel])
        error = np.where(grey, np.nan, fit["temperature_sd"].values[:, voxel])
        row = axes[3 * voxel : 3 * voxel + 3]
        for panel, values in zip(row, (truth[10:], estimate, error), strict=True):
            shown = panel.images[0].get_array().filled(np.nan)
            np.testing.assert_array_equal(shown, sample(fit, values))
        expected = [sample(fit, grey) == 1] * bool(voxel)
        np.testing.assert_array_equal(striped(row[1]), expected)
        np.testing.assert_array_equal(striped(row[2]), expected)
        assert striped(row[0]) == []
    # Truth and estimate share a scale.
    assert axes[0].images[0].norm is axes[4].images[0].norm
    assert bars(figure) == ["Dust temperature $T$ [K]", "Standard deviation of $T$ [K]"]
    assert legend(figure)[0] == "no data"
    assert legend(figure)[1].startswith("prior dominates")


def test_a_sky_that_does_not_know_its_truth(make_fit, sky):
    with pytest.raises(ResultError, match="true_temperature"):
        plot_truth(make_fit(sky), sky)


def test_a_small_patch_is_zoomed(make_sky, make_fit):
    sky = make_sky(np.arange(40, 44), nside=64, superpixel_nside=16)
    extent = panels(plot_temperature(make_fit(sky)))[0].images[0].get_extent()
    assert extent != list(Mollweide().extent)
    assert np.abs(extent).max() < 20


@pytest.mark.parametrize("name", ["rho", "beta", "converged"])
def test_a_fit_that_lacks_a_variable(fit, name):
    with pytest.raises(ResultError, match=f"the fit lacks {name}"):
        plot_parameters(fit.drop_vars(name))


def test_a_fit_that_lacks_its_resolution(fit):
    del fit.attrs["superpixel_nside"]
    with pytest.raises(ResultError, match="lacks the attribute superpixel_nside"):
        plot_temperature(fit)


def test_global_state_of_matplotlib_stays_untouched(make_fit, sky):
    before = dict(rcParams)
    plot_temperature(make_fit(sky))
    plot_emission(make_fit(sky), sky)
    assert pyplot.get_fignums() == []
    assert dict(rcParams) == before


def test_what_a_superpixel_does_not_have_is_neither_a_temperature_nor_the_prior(make_fit, sky):
    fit = cut_differently(make_fit(sky))
    # As padding is fitted: it returns the prior.
    fit["temperature"][40:60, 1] = 500.0
    fit["temperature_sd"][40:60, 1] = 9.0
    fit["converged"][55:58] = False
    figure = plot_temperature(fit)
    near, far = panels(figure)
    assert [axes.get_title() for axes in (near, far)] == ["voxel 1", "voxel 2"]
    assert "edges differ" in figure.legends[0].get_title().get_text()
    padding = np.isin(np.arange(180), range(40, 60))
    temperature = fit["temperature"].values
    np.testing.assert_array_equal(
        values_of(far), sample(fit, np.where(padding, np.nan, temperature[:, 1]))
    )
    np.testing.assert_array_equal(striped(far), [sample(fit, padding) == 1])
    assert near.images[0].norm.vmax < 25
    assert legend(figure) == ["no data", "not converged", "no such voxel"]


def test_truth_of_what_was_not_measured(make_fit, sky):
    sky = cut_differently(sky)
    fit = make_fit(sky)
    fit["converged"][30:45] = False
    sky["true_temperature"] = ("voxel", [19.0, 17.0])
    truth, estimate, error = panels(plot_truth(fit, sky))[3:]
    padding = np.isin(np.arange(180), range(40, 60))
    failed = np.isin(np.arange(180), range(30, 40))
    np.testing.assert_array_equal(
        values_of(truth), sample(fit, np.where(padding, np.nan, np.full(180, 17.0)))
    )
    np.testing.assert_array_equal(striped(truth), [sample(fit, padding) == 1])
    for panel, name in ((estimate, "temperature"), (error, "temperature_sd")):
        expected = np.where(padding | failed, np.nan, fit[name].values[:, 1])
        np.testing.assert_array_equal(values_of(panel), sample(fit, expected))
        np.testing.assert_array_equal(
            striped(panel), [sample(fit, failed) == 1, sample(fit, padding) == 1]
        )


def test_reddening_of_what_a_superpixel_does_not_have(sky):
    sky["n_voxel"] = ("superpixel", np.repeat([1, 2], 90))
    figure = plot_reddening(sky)
    near, far = panels(figure)
    assert [axes.get_title() for axes in (near, far)] == ["0–0.5 kpc", "0.5–2 kpc"]
    padding = np.arange(180) < 90
    expected = np.where(padding[:, None], np.nan, sky["reddening"].values[:, :, 1])
    np.testing.assert_allclose(values_of(far), sample(sky, expected))
    np.testing.assert_array_equal(striped(far), [sample(sky, padding) == 1])
    assert striped(near) == []
    assert legend(figure) == ["no data", "no such voxel"]


def test_voxels_are_chosen_by_the_numbers_of_titles(make_fit, sky):
    fit = make_fit(sky)
    (panel,) = panels(plot_temperature(fit, voxels=[2]))
    assert panel.get_title() == "0.5–2 kpc"
    np.testing.assert_array_equal(values_of(panel), sample(fit, fit["temperature"].values[:, 1]))
    (panel,) = panels(plot_reddening(sky, voxels=[2]))
    assert panel.get_title() == "0.5–2 kpc"
    np.testing.assert_allclose(values_of(panel), sample(sky, sky["reddening"].values[:, :, 1]))
    sky["true_temperature"] = ("voxel", [19.0, 17.0])
    truth = panels(plot_truth(fit, sky, voxels=[2]))[0]
    assert np.nanmax(values_of(truth)) == 17.0
    for wrong in ([0], [3], []):
        with pytest.raises(ConfigurationError, match=r"from 1, the nearest, to 2"):
            plot_temperature(fit, voxels=wrong)


VIEW = {"center": (100.0, -10.0), "radius": 20.0}


def test_a_zoom_shows_and_scales_by_what_is_in_view_alone(make_fit, sky):
    fit = make_fit(sky)
    seen, image = in_view(fit, **VIEW)
    assert 4 < seen.sizes["superpixel"] < 20
    assert isinstance(image.projection, Gnomonic)
    far_away = ~np.isin(fit["superpixel"], seen["superpixel"])
    for name in ("temperature", "rho", "beta"):
        fit[name][far_away] *= 7
    sky["reddening"][far_away] *= 1000
    sky["emission"][far_away] *= 1000
    sky["true_temperature"] = ("superpixel", np.where(far_away, 100.0, 18.0))
    figures = {
        "temperature": plot_temperature(fit, **VIEW),
        "parameters": plot_parameters(fit, **VIEW),
        "reddening": plot_reddening(sky, **VIEW),
        "emission": plot_emission(fit, sky, **VIEW),
        "residual": plot_residual(fit, sky, **VIEW),
        "zoom": plot_zoom(fit, sky, **VIEW),
        "truth": plot_truth(fit, sky, **VIEW),
    }
    for figure in figures.values():
        for panel in panels(figure):
            assert panel.images[0].get_extent() == list(image.projection.extent)
    near = panels(figures["temperature"])[0]
    np.testing.assert_array_equal(
        values_of(near), sample(fit, fit["temperature"].values[:, 0], **VIEW)
    )
    assert near.images[0].norm.vmax < 25
    assert panels(figures["reddening"])[0].images[0].norm.vmax < 2
    assert panels(figures["truth"])[0].images[0].norm.vmax < 25
    # Of 217 GHz: noise around 7 MJy/sr.
    assert panels(figures["emission"])[0].images[0].norm.vmax < 100


def test_distances_in_a_title_are_those_in_view(make_fit, sky):
    fit = cut_differently(make_fit(sky))
    seen, _ = in_view(fit, **VIEW)
    one = seen["distance_edge"].values
    assert len(np.unique(one[:, 1])) == 1  # or the test would be none
    assert panels(plot_temperature(fit, **VIEW))[0].get_title() == "0–0.5 kpc"


def test_where_nothing_is_in_view(make_fit, make_sky):
    fit = make_fit(make_sky([5, 6]))
    with pytest.raises(ResultError, match=r"no data within 10 deg of l = 270, b = -60; the near"):
        plot_temperature(fit, center=(270.0, -60.0), radius=10.0)
    with pytest.raises(ConfigurationError, match="a zoom needs both"):
        plot_temperature(fit, center=(270.0, -60.0))
    with pytest.raises(ConfigurationError, match="a zoom needs both"):
        plot_temperature(fit, radius=3.0)


def test_residual_in_units_of_the_noise(make_fit, sky):
    sky["valid"][7] = False
    rng = np.random.default_rng(3)
    shape = sky["emission"].shape
    sky["sigma"] = (sky["emission"].dims, rng.uniform(0.5, 2, shape))
    fit = make_fit(sky)
    fit["converged"][20:30] = False
    figure = plot_residual(fit, sky)
    *axes, chi2 = panels(figure)
    assert len(axes) == 5
    ratio = (residual(fit, sky) / sky["sigma"]).values
    ratio[20:30] = np.nan
    failed = sample(fit, np.isin(np.arange(180), range(20, 30))) == 1
    for band, panel in enumerate(axes):
        expected = sample(sky, ratio[:, :, band])
        np.testing.assert_allclose(values_of(panel), expected)
        assert panel.images[0].norm is axes[0].images[0].norm
        np.testing.assert_array_equal(striped(panel), [failed])
        rms = np.sqrt(np.nanmean(expected**2))
        assert panel.get_title() == f"{sky['frequency'].values[band]:.0f} GHz: rms {rms:.3g}"
    norm = axes[0].images[0].norm
    assert norm.vmin == -norm.vmax < 0
    expected = np.where(fit["converged"], fit["chi2"] / 80, np.nan)
    np.testing.assert_allclose(values_of(chi2), sample(fit, expected))
    np.testing.assert_array_equal(striped(chi2), [failed])
    assert bars(figure) == [
        r"(observed $-$ reconstructed) / $\sigma$",
        r"$\chi^2$ per datum",
    ]
    assert legend(figure) == ["no data", "not converged"]


def test_emission_is_not_reconstructed_where_the_fit_did_not_converge(make_fit, sky):
    fit = make_fit(sky)
    fit["converged"][20:30] = False
    axes = panels(plot_emission(fit, sky))
    failed = sample(fit, ~fit["converged"].values) == 1
    assert failed.any()
    assert np.isfinite(values_of(axes[0])[failed]).all()
    for panel in (*axes[1:3], axes[15]):
        assert np.isnan(values_of(panel)[failed]).all()
        np.testing.assert_array_equal(striped(panel), [failed])


def test_one_band_observed_and_reconstructed(make_fit, sky):
    fit = make_fit(sky)
    figure = plot_zoom(fit, sky, **VIEW, band="857")
    axes = panels(figure)
    assert [panel.get_title() for panel in axes] == ["Observed", "Reconstructed", "Residual"]
    observed, model = sky["emission"].values[:, :, 3], reconstruct(fit, sky).values[:, :, 3]
    for panel, values in zip(axes, (observed, model, observed - model), strict=True):
        np.testing.assert_allclose(values_of(panel), sample(sky, values, **VIEW))
    assert axes[0].images[0].norm is axes[1].images[0].norm
    assert axes[2].images[0].norm.vmin == -axes[2].images[0].norm.vmax
    assert bars(figure) == ["Emission at 857 GHz [MJy/sr]", "Residual at 857 GHz [MJy/sr]"]
    with pytest.raises(ConfigurationError, match=r"unknown band '856'.*did you mean '857'"):
        plot_zoom(fit, sky, **VIEW, band="856")


def test_noise_around_zero_is_no_hole_in_the_emission(make_fit, sky):
    fit = make_fit(sky)
    positive = panels(plot_emission(fit, sky))
    assert isinstance(positive[0].images[0].norm, LogNorm)
    # In one band alone: the others have scales of the same kind.
    sky["emission"][::10, :, 2] = -0.2
    axes = panels(plot_emission(fit, sky))
    for band in range(5):
        norm = axes[3 * band].images[0].norm
        assert isinstance(norm, AsinhNorm)
        assert norm.linear_width == sky["sigma"].values[band]
    np.testing.assert_allclose(
        values_of(axes[6]), sample(sky, sky["emission"].values[:, :, 2]), atol=1e-12
    )


def test_many_panels_have_their_graticule_labelled_once(make_fit, make_sky):
    def labels(figure):
        return [len(panel.texts) > 0 for panel in panels(figure)]

    sky = make_sky(ALL_SKY)
    fit = make_fit(sky)
    assert labels(plot_temperature(fit)) == [True, True]
    assert labels(plot_emission(fit, sky)) == [True] + 15 * [False]


def test_blocks_of_a_sky_make_one_image(make_fit, sky, monkeypatch):
    fit = make_fit(sky)
    whole = [values_of(panel) for panel in panels(plot_emission(fit, sky))]
    near = values_of(panels(plot_reddening(sky))[0])
    for module in ("reconstruction", "figures_reddening"):
        monkeypatch.setattr(f"pymcdust.products.{module}.BLOCK_SIZE", 16 * 5 * 7)
    for before, panel in zip(whole, panels(plot_emission(fit, sky)), strict=True):
        np.testing.assert_allclose(values_of(panel), before, rtol=1e-12)
    np.testing.assert_array_equal(values_of(panels(plot_reddening(sky))[0]), near)
