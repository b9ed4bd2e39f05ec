import numpy as np
import pytest
from matplotlib import pyplot, rcParams
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.products import plots, projection
from pymcdust.products.plots import (
    chi2_per_datum,
    distance_ranges,
    plot_emission,
    plot_parameter_maps,
    plot_reddening,
    plot_temperature,
    plot_truth,
    prior_dominated,
    save_plots,
)
from pymcdust.products.projection import Mollweide, SkyImage
from pymcdust.products.reconstruction import reconstruct

ALL_SKY = np.arange(192)


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    monkeypatch.setattr(projection, "RESOLUTION", 100)
    monkeypatch.setattr(plots, "DOTS_PER_INCH", 30)


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


def sample(dataset, values):
    return SkyImage(Mollweide(), dataset["superpixel"].values, 4).sample(values)


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


def test_fixed_parameters_are_not_dominated_by_a_prior(fit):
    assert not prior_dominated(fit, "offset").any()
    with pytest.raises(ResultError, match="the fit lacks beta_sd"):
        prior_dominated(fit.drop_vars("beta_sd"), "beta")


def test_distance_ranges(sky):
    assert distance_ranges(sky) == ["0–0.5 kpc", "0.5–2 kpc"]
    sky["distance_edge"] = (("superpixel", "voxel_edge"), np.outer(np.ones(180), [0, 0.841, 14.96]))
    assert distance_ranges(sky) == ["≈ 0–0.841 kpc", "≈ 0.841–15 kpc"]


def test_chi2_per_datum(fit):
    fit["chi2"][:] = 40.0
    fit["n_data"][:6] = [80, 40, 20, 10, 5, 0]
    np.testing.assert_array_equal(chi2_per_datum(fit)[:6], [0.5, 1, 2, 4, 8, np.nan])


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
    for axes, dominated in ((near, np.zeros(180)), (far, np.isin(np.arange(180), range(30, 50)))):
        failed = np.isin(np.arange(180), range(60, 70))
        for image, where in ((axes.images[1], dominated), (axes.images[2], failed)):
            np.testing.assert_array_equal(image.get_array()[..., 3] == 1, sample(fit, where) == 1)
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
    rho, beta = panels(figure := plot_parameter_maps(fit))
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
    assert len(panels(plot_parameter_maps(make_fit(sky, **tying)))) == count


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
    assert bars(figure)[0] == "217 GHz [MJy/sr]"
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
    assert bars(figure) == ["E(B-V) [mag, bayestar19] in each voxel"]


def test_truth_beside_estimate_and_error(make_fit, sky):
    fit = make_fit(sky).isel(superpixel=slice(10, None))
    fit["temperature_sd"][30:50, 1] = 8.0
    truth = np.linspace(15, 21, 180)
    # The truth may vary with direction alone: every voxel then has the same.
    sky["true_temperature"] = ("superpixel", truth)
    figure = plot_truth(fit, sky)
    axes = panels(figure)
    assert [panel.get_title() for panel in axes] == [
        f"{distance}: {kind}"
        for distance in ("0–0.5 kpc", "0.5–2 kpc")
        for kind in ("truth", "estimate", "standard deviation")
    ]
    dominated = np.isin(np.arange(170), range(30, 50))
    for voxel in range(2):
        grey = dominated & (voxel == 1)
        estimate = np.where(grey, np.nan, fit["temperature"].values[:, voxel])
        error = np.where(grey, np.nan, fit["temperature_sd"].values[:, voxel])
        row = axes[3 * voxel : 3 * voxel + 3]
        for panel, values in zip(row, (truth[10:], estimate, error), strict=True):
            shown = panel.images[0].get_array().filled(np.nan)
            np.testing.assert_array_equal(shown, sample(fit, values))
        stripes = row[1].images[1].get_array()[..., 3] == 1
        np.testing.assert_array_equal(stripes, sample(fit, grey) == 1)
    # Truth and estimate share a scale.
    assert axes[0].images[0].norm is axes[4].images[0].norm
    assert bars(figure) == ["Dust temperature $T$ [K]", "Standard deviation of $T$ [K]"]
    assert legend(figure)[0].startswith("prior dominates")


def test_a_sky_that_does_not_know_its_truth(make_fit, sky):
    with pytest.raises(ResultError, match="true_temperature"):
        plot_truth(make_fit(sky), sky)


def test_the_figure_of_the_truth_is_saved_for_a_simulated_sky(make_fit, sky, tmp_path):
    sky["true_temperature"] = ((), 18.0)
    names = [path.name for path in save_plots(make_fit(sky), sky, tmp_path)]
    assert "truth.png" in names


def test_a_small_patch_is_zoomed(make_sky, make_fit):
    sky = make_sky(np.arange(40, 44), nside=64, superpixel_nside=16)
    extent = panels(plot_temperature(make_fit(sky)))[0].images[0].get_extent()
    assert extent != list(Mollweide().extent)
    assert np.abs(extent).max() < 20


def test_save_plots(sky, make_fit, tmp_path):
    paths = save_plots(make_fit(sky), sky, tmp_path / "new")
    assert [path.name for path in paths] == [
        "parameter_maps.png",
        "temperature.png",
        "emission.png",
        "reddening.png",
    ]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_every_format_is_saved(sky, make_fit, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: path.write_bytes(b""))
    paths = save_plots(make_fit(sky), sky, tmp_path, formats=("png", "pdf"))
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert len(paths) == 8
    assert {path.suffix for path in paths} == {".png", ".pdf"}


def test_unknown_format(fit, sky, tmp_path):
    with pytest.raises(ConfigurationError, match=r"unknown format of figures 'pgn'.*'png'"):
        save_plots(fit, sky, tmp_path / "new", formats=("pgn",))
    assert not (tmp_path / "new").exists()


def test_a_failure_leaves_no_half_of_the_figures(make_fit, sky, tmp_path, monkeypatch):
    def savefig(self, path, **_):
        if path.name == "emission.png":
            raise OSError("disk full")
        path.write_bytes(b"new")

    (tmp_path / "temperature.png").write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", savefig)
    with pytest.raises(OSError, match="disk full"):
        save_plots(make_fit(sky), sky, tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("name", ["rho", "beta", "converged"])
def test_a_fit_that_lacks_a_variable(fit, name):
    with pytest.raises(ResultError, match=f"the fit lacks {name}"):
        plot_parameter_maps(fit.drop_vars(name))


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
