from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from pymcdust.errors import ResultError
from pymcdust.products import corner
from pymcdust.products.corner import COLOURS, MAP_COLOUR, interval, plot_corner
from pymcdust.products.density import CONTOUR_MASS, density_of
from pymcdust.products.draws import collect

EDGES = (0.0, 0.841, 3.758)


def make_posterior(superpixels=(7,), edges=EDGES, n_draw=500, seed=0, width=1.0, **attrs):
    """Return draws of a temperature per voxel, and of beta and rho per superpixel."""
    rng = np.random.default_rng(seed)
    n_voxel = len(edges) - 1
    shape = (2, n_draw, len(superpixels))
    common = rng.standard_normal(shape)
    temperature = 19.0 + width * (rng.standard_normal((*shape, n_voxel)) + common[..., None])
    dims = ("chain", "draw", "superpixel")
    coords = {"superpixel": np.asarray(superpixels)}
    draws = xr.Dataset(
        {
            # In an order that is not the usual one.
            "rho": (dims, 1e-4 * np.exp(0.1 * width * rng.standard_normal(shape)), {"unit": "x"}),
            "temperature": ((*dims, "voxel"), temperature, {"unit": "K"}),
            "beta": (dims, 1.6 - 0.05 * width * common, {"unit": ""}),
        },
        coords=coords | {"voxel": np.arange(n_voxel)},
    )
    constant = xr.Dataset({"distance_edge": ("voxel_edge", list(edges))})
    root = xr.Dataset(attrs={"superpixel_nside": 32, **attrs})
    return xr.DataTree.from_dict({"/": root, "posterior": draws, "constant_data": constant})


def make_fit(superpixels=(7,), converged=True, **attrs):
    n = len(superpixels)
    return xr.Dataset(
        {
            "temperature": (("superpixel", "voxel"), np.tile([19.5, 18.5], (n, 1))),
            "beta": ("superpixel", np.full(n, 1.61)),
            "rho": ("superpixel", np.full(n, 1.02e-4)),
            "converged": ("superpixel", np.full(n, converged)),
        },
        coords={"superpixel": np.asarray(superpixels)},
        attrs={"superpixel_nside": 32, **attrs},
    )


@pytest.fixture
def posterior():
    return make_posterior()


def panels(figure):
    """Return the panels (row, column)."""
    n = round(len(figure.axes) ** 0.5)
    return np.reshape(figure.axes, (n, n))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def titles(panel):
    return [text.get_text() for text in panel.texts]


def lines_at(panel, colour):
    """Return where the vertical lines of a colour stand."""
    lines = [line for line in panel.lines if to_rgba(line.get_color()) == to_rgba(colour)]
    return [line.get_xdata()[0] for line in lines if list(line.get_ydata()) == [0, 1]]


def test_every_parameter_and_every_pair_has_a_panel(posterior):
    figure = plot_corner(posterior)
    assert isinstance(figure, Figure)
    assert not pyplot.get_fignums()
    axes = panels(figure)
    assert axes.shape == (4, 4)
    shown = np.array([[panel.axison for panel in row] for row in axes])
    np.testing.assert_array_equal(shown, np.tri(4, dtype=bool))
    assert [panel.get_xlabel() for panel in axes[-1]] == [
        "$T$ [K]\n0–0.841 kpc",
        "$T$ [K]\n0.841–3.76 kpc",
        r"$\beta$",
        r"$\rho$ [$10^{-4}$ mag$^{-1}$]",
    ]
    assert titles(axes[1, 1])[-1] == "$T$ [K], 0.841–3.76 kpc"
    assert figure.legends[0].get_title().get_text() == "superpixel 7 (Nside 32)"
    assert any("39 % and 86 %" in text for text in legend(figure))
    figure.canvas.draw()  # with warnings as errors


def test_the_title_tells_median_and_interval(posterior):
    draws = posterior.posterior.temperature.isel(voxel=0, superpixel=0).values
    low, middle, high = np.quantile(draws, [0.16, 0.5, 0.84])
    expected = f"${middle:.1f}^{{+{high - middle:.1f}}}_{{-{middle - low:.1f}}}$"
    assert titles(panels(plot_corner(posterior))[0, 0])[0] == expected


@pytest.mark.parametrize(
    ("draws", "text"),
    [
        ([19.0, 19.0], "$19.00^{+0.00}_{-0.00}$"),
        ([1.0, 2.0, 3.0], "$2.00^{+0.68}_{-0.68}$"),
        ([100.0, 200.0, 300.0], "$200^{+68}_{-68}$"),
    ],
)
def test_two_digits_of_the_error_are_told(draws, text):
    assert interval(np.array(draws)) == text


def test_contours_hold_as_many_draws_as_they_say():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 6000))
    y = 1e-4 * (x + 0.05 * y)  # strongly correlated, and of another scale
    density = density_of(x, y)
    assert density.outside.mean() == pytest.approx(1 - CONTOUR_MASS[1], abs=1e-3)
    # The square of the distance from the middle, in units of the covariance, tells the truth.
    points = np.stack([x, y])
    distance = np.einsum("ij,ik,kj->j", points, np.linalg.inv(np.cov(points)), points)
    agree = density.outside == (distance > 4)
    assert agree.mean() > 0.97  # of 6,000 draws some hundred are near the contour


def test_what_has_no_density_is_drawn_as_points():
    line = np.linspace(0, 1, 1000)
    assert density_of(line, np.ones(1000)) is None
    assert density_of(line, 2 * line) is None
    assert density_of(line[:20], line[:20] ** 2) is None
    posterior = make_posterior(n_draw=5)
    posterior["posterior"]["beta"] = xr.full_like(posterior["posterior"]["beta"], 1.6)
    plot_corner(posterior).canvas.draw()


def test_the_maximum_and_the_truth_are_marked(posterior):
    truth = {"temperature": ("voxel", [25.0, 18.0]), "beta": 1.6, "offset": 0.0}
    figure = plot_corner(posterior, fit=make_fit(), truth=truth)
    axes = panels(figure)
    assert lines_at(axes[0, 0], MAP_COLOUR) == [19.5]
    assert lines_at(axes[3, 1], MAP_COLOUR) == [18.5]
    assert lines_at(axes[3, 3], MAP_COLOUR) == [pytest.approx(1.02)]
    assert lines_at(axes[0, 0], "black") == [25.0]
    assert lines_at(axes[2, 2], "black") == [1.6]
    assert lines_at(axes[3, 3], "black") == []
    assert axes[0, 0].get_xlim()[1] > 25  # what is marked is seen
    assert legend(figure)[:2] == ["MAP", "truth"]


def test_a_maximum_that_was_not_found_says_so(posterior):
    figure = plot_corner(posterior, fit=make_fit(converged=False))
    assert legend(figure)[0] == "MAP (not converged)"


def test_a_simulated_sky_tells_the_truth(posterior):
    sky = xr.Dataset(
        {
            "true_temperature": (("superpixel", "voxel"), [[17.0, 18.0], [19.0, 20.0]]),
            "true_beta": ("voxel", [1.5, 1.6]),
            "true_rho": 1e-4,
        },
        coords={"superpixel": [6, 7]},
    )
    axes = panels(plot_corner(posterior, truth=sky))
    assert lines_at(axes[1, 1], "black") == [20.0]
    assert lines_at(axes[3, 3], "black") == [1.0]
    assert lines_at(axes[2, 2], "black") == []  # two betas, where the posterior has one


def test_posteriors_are_drawn_over_each_other():
    posteriors = {
        "small": make_posterior((94534,), superpixel_nside=128),
        "large": make_posterior((5908,), width=0.3),
    }
    fits = {"large": make_fit((5908,)), "small": make_fit((94534,), superpixel_nside=128)}
    figure = plot_corner(posteriors, fit=fits)
    assert legend(figure)[:4] == [
        "small: superpixel 94534 (Nside 128)",
        "large: superpixel 5908 (Nside 32)",
        "MAP, small",
        "MAP, large",
    ]
    axes = panels(figure)
    assert len(titles(axes[0, 0])) == 3
    colours = {to_rgba(line.get_color()) for line in axes[1, 0].lines}
    assert {to_rgba(colour) for colour in COLOURS[:2]} <= colours
    # One superpixel and one maximum of both.
    both = {"nuts": make_posterior(), "laplace": make_posterior(seed=1)}
    figure = plot_corner(both, fit=make_fit())
    assert legend(figure)[:3] == ["nuts", "laplace", "MAP"]
    assert figure.legends[0].get_title().get_text() == "superpixel 7 (Nside 32)"


def test_models_with_other_tyings_share_the_parameters_they_have():
    one = make_posterior()
    draws = one["posterior"].to_dataset()
    one["posterior"] = xr.DataTree(
        draws.assign(temperature=draws["temperature"].isel(voxel=0, drop=True))
    )
    axes = panels(plot_corner({"voxels": make_posterior(), "one": one}))
    assert axes.shape == (5, 5)
    assert axes[-1, 2].get_xlabel() == "$T$ [K]"
    assert not axes[2, 0].axison  # no posterior has both
    assert len(titles(axes[3, 3])) == 3


def test_wide_rho_is_drawn_as_its_logarithm(posterior):
    posterior["posterior"]["rho"] = posterior["posterior"]["rho"] ** 8 * 1e28
    axes = panels(plot_corner(posterior, variables=["rho"]))
    assert "log" in axes[0, 0].get_xlabel()
    assert axes[0, 0].get_xlim()[0] < -4 < axes[0, 0].get_xlim()[1]


def test_all_rho_are_drawn_in_the_same_way(posterior):
    draws = posterior["posterior"].to_dataset()
    near, far = draws["rho"], 1e-4 * (draws["rho"] / 1e-4) ** 8
    posterior["posterior"] = xr.DataTree(draws.assign(rho=xr.concat([near, far], "voxel")))
    axes = panels(plot_corner(posterior, variables=["rho"]))
    assert all("log" in panel.get_xlabel() for panel in axes[-1])
    assert axes[0, 0].get_xlim()[0] < -4 < axes[0, 0].get_xlim()[1]
    posterior["posterior"] = xr.DataTree(draws.assign(rho=xr.concat([near, near], "voxel")))
    axes = panels(plot_corner(posterior, variables=["rho"]))
    assert not any("log" in panel.get_xlabel() for panel in axes[-1])


@pytest.mark.parametrize("n_voxel", [1, 2, 3, 4, 5, 6, 10])
def test_a_corner_is_as_wide_as_a_page_and_can_be_read(n_voxel):
    posterior = make_posterior(edges=np.r_[0.0, np.geomspace(0.841, 3.758, n_voxel)])
    with_rho = ["temperature", "rho"] if n_voxel in (1, 3, 5) else ["temperature"]
    figure = plot_corner(posterior, variables=with_rho)
    n = n_voxel + len(with_rho) - 1
    axes = panels(figure)
    assert axes.shape == (n, n)
    if n <= 6:
        assert figure.get_figwidth() <= 7.1 + 1e-9
        assert figure.get_tightbbox().width <= 7.1
    figure.draw_without_rendering()
    written = [text for panel in axes.diagonal() for text in panel.texts]
    boxes = [text.get_window_extent() for text in written]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    # A title does not reach into the panel to the left of it.
    for row in range(1, n):
        left = axes[row - 1, row - 1].get_window_extent().x1
        assert all(text.get_window_extent().x0 > left - 1 for text in axes[row, row].texts)
    ticks = [label for panel in axes[-1] for label in panel.get_xticklabels() if label.get_text()]
    assert len(ticks) >= 2 * n
    for one, other in combinations([label.get_window_extent() for label in ticks], 2):
        assert not one.overlaps(other)
    sizes = [text.get_fontsize() for text in [*written, *ticks, *figure.legends[0].get_texts()]]
    assert min(sizes) >= 6
    assert max(sizes) <= 9


@pytest.mark.parametrize(
    "variables", ["beta", "temperature", ["temperature", "beta"], ["temperature", "beta", "rho"]]
)
def test_the_legend_of_many_posteriors_covers_nothing(variables):
    numbers = range(5908, 5913)
    posteriors = {f"method {n}": make_posterior((n,), seed=n) for n in numbers}
    fits = {f"method {n}": make_fit((n,)) for n in numbers}
    figure = plot_corner(posteriors, variables=variables, fit=fits, truth={"beta": 1.6})
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    shown = [panel for panel in figure.axes if panel.axison]
    assert not any(legend.overlaps(panel.get_window_extent()) for panel in shown)
    texts = [text for panel in shown for text in panel.texts]
    assert not any(legend.overlaps(text.get_window_extent()) for text in texts)


def test_one_parameter_has_no_contours(posterior):
    assert not any("contours" in text for text in legend(plot_corner(posterior, variables="beta")))
    both = plot_corner(posterior, variables=["beta", "rho"])
    assert any("contours" in text for text in legend(both))


def test_variables_and_superpixels_are_chosen():
    posterior = make_posterior((5, 7))
    figure = plot_corner(posterior, 7, variables=["beta", "temperature"])
    assert panels(figure)[-1, 0].get_xlabel() == r"$\beta$"
    (sample,) = collect(posterior, 7, ["beta"], None, None)
    (column,) = sample.columns.values()
    chosen = posterior.posterior.beta.sel(superpixel=7)
    np.testing.assert_array_equal(column, chosen.values.ravel())
    samples = collect({"a": posterior, "b": posterior}, {"a": 5, "b": 7}, None, None, None)
    assert [sample.place[:12] for sample in samples] == ["superpixel 5", "superpixel 7"]


def test_voxels_that_were_picked_keep_their_distances():
    posterior = make_posterior(edges=np.linspace(0, 2, 21))
    with pytest.raises(ResultError, match=r"22 parameters are too many.*allowed are 12: choose"):
        plot_corner(posterior)
    axes = panels(plot_corner(posterior.isel(voxel=[3, 9]), variables=["temperature"]))
    assert [a.get_xlabel() for a in axes[-1]] == ["$T$ [K]\n0.3–0.4 kpc", "$T$ [K]\n0.9–1 kpc"]


def test_distances_may_differ_between_superpixels():
    posterior = make_posterior((5, 7))
    edges = (("superpixel", "voxel_edge"), [[0, 1, 2], [0, 2, 4]])
    constant = xr.Dataset({"distance_edge": edges}, coords={"superpixel": [5, 7]})
    posterior["constant_data"] = xr.DataTree(constant)
    figure = plot_corner(posterior, 7, variables=["temperature"])
    assert panels(figure)[1, 1].get_xlabel() == "$T$ [K]\n2–4 kpc"


def test_draws_that_are_few_but_repeated_have_no_contours(posterior):
    # As importance sampling may give them.
    again = posterior.isel(draw=np.arange(20_000) % 30)
    plot_corner(again, variables="temperature").canvas.draw()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"superpixel": 8}, r"no superpixel 8; .*Nside 32\), 2 in number.*nearest index is 7"),
        ({}, r"has 2 superpixels, between 5 and 7.*choose it by superpixel"),
        ({"superpixel": 7, "variables": ["temprature"]}, "did you mean 'temperature'"),
        ({"superpixel": 7, "variables": []}, "variables is empty; allowed are rho, temp"),
        ({"superpixel": 7, "truth": {"betta": 1.6}}, "did you mean 'beta'"),
        ({"superpixel": 7, "truth": {"temperature": [17.0, 18.0]}}, r'such as \("voxel"'),
        ({"superpixel": 7, "truth": [1.6]}, "the truth is of type list; allowed are"),
        ({"superpixel": 7, "truth": make_fit()}, "only a simulated sky"),
        ({"superpixel": 7, "fit": make_fit((5,))}, "the fit has no superpixel 7"),
        ({"superpixel": 7, "fit": make_fit(superpixel_nside=64)}, "Nside 64, the posterior of 32"),
        ({"superpixel": 7, "fit": 3}, "the fit is of type int; allowed is"),
    ],
)
def test_what_cannot_be_drawn(change, message):
    with pytest.raises(ResultError, match=message):
        plot_corner(make_posterior((5, 7)), **change)


def test_what_is_no_posterior(posterior):
    with pytest.raises(ResultError, match="is of type Dataset; allowed is an xarray"):
        plot_corner(posterior["posterior"].to_dataset())
    with pytest.raises(ResultError, match="the posterior 'b' is of type str"):
        plot_corner({"a": posterior, "b": "posterior.zarr"})
    with pytest.raises(ResultError, match="has no group constant_data"):
        plot_corner(posterior.filter(lambda node: node.name != "constant_data"))
    with pytest.raises(ResultError, match="mapping of posteriors is empty"):
        plot_corner({})
    with pytest.raises(ResultError, match="rho of the posterior has no draws"):
        plot_corner(posterior.isel(draw=slice(0)))
    with pytest.raises(ResultError, match=r"unknown label of a fit 'nut'; .*mean 'nuts'"):
        plot_corner({"nuts": posterior}, fit={"nut": make_fit()})
    with pytest.raises(ResultError, match="distance edges 0, 1 and 2 kpc, the first 0"):
        plot_corner({"a": posterior, "b": make_posterior(edges=(0, 1, 2))})
    with pytest.raises(ResultError, match="6 posteriors are too many"):
        plot_corner({f"{number}": posterior for number in range(6)})
    posterior["posterior"]["beta"][0, 3] = np.nan
    with pytest.raises(ResultError, match="beta has draws that are not finite in superpixel 7"):
        plot_corner(posterior)


def test_few_points_are_drawn_outside(posterior, monkeypatch):
    monkeypatch.setattr(corner, "MOST_POINTS", 20)
    axes = panels(plot_corner(posterior))
    assert max(len(line.get_xdata()) for line in axes[1, 0].lines) <= 20


def test_padding_has_no_panel():
    posterior = make_posterior((7, 9), edges=(0.0, 0.5, 2.0, 3.0))
    edges = [[0.0, 0.5, 2.0, 2.001], [0.0, 0.5, 2.0, 3.0]]
    constant = xr.Dataset(
        {
            "distance_edge": (("superpixel", "voxel_edge"), edges),
            "n_voxel": ("superpixel", [2, 3]),
        },
        {"superpixel": [7, 9]},
    )
    posterior["constant_data"] = xr.DataTree(constant)
    figure = plot_corner(posterior, 7, variables=["temperature"])
    places = [titles(panel)[-1] for panel in panels(figure).diagonal()]
    assert [place.split(", ")[-1] for place in places] == ["0–0.5 kpc", "0.5–2 kpc"]
    assert len(panels(plot_corner(posterior, 9, variables=["temperature"]))) == 3
    far = plot_corner(posterior.isel(voxel=[1, 2]), 7, variables=["temperature"])
    assert len(panels(far)) == 1
