import numpy as np
import pytest
from matplotlib.colors import AsinhNorm, LogNorm
from matplotlib.figure import Figure

from pymcdust.products.scales import is_wide, noisy, reaches_zero, sequential, symmetric


def test_outliers_do_not_set_the_scale_but_show_as_arrows():
    values = np.concatenate([np.linspace(15, 25, 2000), [1e6, np.nan]])
    scale = sequential(values, "inferno", logarithmic=False)
    assert scale.norm.vmin == pytest.approx(15.2, abs=0.02)
    assert scale.norm.vmax == pytest.approx(24.8, abs=0.02)
    assert scale.extend == "both"


@pytest.mark.parametrize(
    ("values", "extend"),
    [([0.0] * 200 + [1.0] * 200, "neither"), ([1.0] * 400 + [2.0], "max"), ([1, 1, 1], "neither")],
)
def test_arrows_only_where_there_are_values(values, extend):
    assert sequential(np.array(values), "inferno", logarithmic=False).extend == extend


def test_logarithmic_scale_shows_zero_and_less_at_its_lower_end():
    values = np.array([-1.0, 0.0, np.nan, 1e-9, *np.geomspace(0.1, 10, 500)])
    scale = sequential(values, "inferno", logarithmic=True)
    assert isinstance(scale.norm, LogNorm)
    clipped = scale.clip(values)
    assert np.isnan(clipped[2])
    assert (clipped[[0, 1, 3]] > 0).all()
    assert scale.norm(clipped[[0, 1, 3]]).max() < 0


def test_logarithmic_scale_needs_positive_values():
    assert not isinstance(sequential(np.array([-1.0, 0.0]), "inferno", True).norm, LogNorm)


def test_logarithmic_scale_spans_no_more_than_the_noise_allows():
    norm = sequential(np.geomspace(1e-12, 1, 1000), "inferno", logarithmic=True).norm
    assert norm.vmax / norm.vmin == pytest.approx(300)
    norm = sequential(np.geomspace(1e-12, 1, 1000), "inferno", True, largest_ratio=1e6).norm
    assert norm.vmax / norm.vmin == pytest.approx(1e6)


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("value", [0.0, 18.0, np.nan])
def test_a_single_value_has_a_scale(value, logarithmic):
    scale = sequential(np.full(7, value), "viridis", logarithmic)
    assert scale.norm.vmin < scale.norm.vmax
    bar = scale.bar(figure := Figure(), [figure.add_subplot()], "value", vertical=True)
    assert bar.ax.get_ylabel() == "value"
    assert scale.empty == np.isnan(value)
    assert bar.outline.get_visible() == bar.solids.get_visible() == (not scale.empty)
    assert (len(bar.ax.get_yticks()) == 0) == scale.empty
    figure.draw_without_rendering()
    assert bar.ax.yaxis.get_offset_text().get_text() == ""


@pytest.mark.parametrize(
    ("low", "ratio"), [(0.88, 1.3), (0.7, 1.1), (0.7, 3), (0.7, 10), (0.7, 100), (0.7, 1e5)]
)
def test_a_logarithmic_bar_has_some_ticks_with_plain_numbers(low, ratio):
    values = np.geomspace(low, low * ratio, 1000)
    scale = sequential(values, "viridis", logarithmic=True, largest_ratio=1e9)
    figure = Figure()
    axis = scale.bar(figure, [figure.add_subplot()], "value", vertical=False).ax.xaxis
    low, high = scale.norm.vmin, scale.norm.vmax
    ticks = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
    assert 3 <= len(ticks) <= 8
    assert axis.get_major_formatter()(0.2) == "0.2"
    assert len(axis.get_minorticklocs()) == 0


def test_small_differences_do_not_look_large():
    norm = sequential(np.array([20.0, 20.1]), "inferno", logarithmic=False).norm
    assert norm.vmax - norm.vmin == pytest.approx(2.0, rel=0.01)


def test_zero_is_in_the_middle_of_a_symmetric_scale():
    scale = symmetric(np.array([-3.0, np.nan, 1.0, 0.5]), "RdBu_r")
    assert scale.norm.vmin == -scale.norm.vmax
    assert scale.norm(0.0) == 0.5
    assert scale.norm.vmax == pytest.approx(3.0, rel=0.05)
    assert symmetric(np.zeros(3), "RdBu_r").norm.vmax > 0


def test_what_is_wide():
    assert is_wide(np.geomspace(1, 100, 50))
    assert not is_wide(np.linspace(5, 10, 50))
    assert not is_wide(np.array([np.nan, -1.0]))


def test_what_reaches_zero():
    assert reaches_zero(np.linspace(-1, 10, 50))
    assert not reaches_zero(np.array([-1.0, *np.linspace(1, 10, 200)]))  # but for an outlier


@pytest.mark.parametrize(
    ("low", "high", "noise"),
    [(-0.2, 1.5, 0.1), (-3, 8000, 1.0), (-0.5, 0.9, 0.7), (0.1, 90.0, 0.1)],
)
def test_a_scale_of_noise_is_linear_below_it_and_logarithmic_above(low, high, noise):
    scale = noisy(np.linspace(low, high, 5001), "inferno", noise)
    norm = scale.norm
    assert isinstance(norm, AsinhNorm)
    values = np.array([low, -0.1 * noise, 0.0, 0.1 * noise, high])
    expected = np.arcsinh(values / noise)
    ends = np.arcsinh(np.array([norm.vmin, norm.vmax]) / noise)
    np.testing.assert_allclose(norm(values), (expected - ends[0]) / np.ptp(ends), atol=1e-9)
    np.testing.assert_array_equal(scale.clip(values), values)
    figure = Figure()
    axis = scale.bar(figure, [figure.add_subplot()], "value", vertical=False).ax.xaxis
    ticks = axis.get_majorticklocs()
    assert 3 <= len(ticks) <= 8
    assert (0.0 in ticks) == (norm.vmin <= 0)
    assert np.diff(norm(ticks)).min() > 1 / 7
    assert all(np.isin(float(f"{abs(tick):e}"[0]), [0, 1, 2, 5]) for tick in ticks)
    assert axis.get_major_formatter()(-0.5) == "−0.5"


def test_a_scale_of_noise_far_from_zero_has_ticks():
    scale = noisy(np.linspace(2.0, 3.0, 99), "inferno", 0.1)
    figure = Figure()
    axis = scale.bar(figure, [figure.add_subplot()], "value", vertical=False).ax.xaxis
    ticks = axis.get_majorticklocs()
    assert np.count_nonzero((ticks > 2.0) & (ticks < 3.0)) >= 3


def test_a_single_value_with_noise_has_a_scale():
    assert noisy(np.full(5, -1.0), "inferno", 0.5).norm.vmax > -1.0
    assert noisy(np.full(5, np.nan), "inferno", 0.5).norm.vmax > 0.0
    assert noisy(np.full(5, np.nan), "inferno", 0.5).empty
    assert symmetric(np.full(5, np.nan), "RdBu_r").empty
    assert not symmetric(np.array([np.nan, 0.0]), "RdBu_r").empty


def test_a_bar_below_one_column_has_few_ticks():
    figure = Figure((7, 3))
    panels = figure.subplots(1, 3)
    scale = symmetric(np.array([-3.3, 3.3]), "RdBu_r")
    counts = []
    for axes in (list(panels), [panels[2]]):
        bar = scale.bar(figure, axes, "value", vertical=False)
        ticks = bar.ax.xaxis.get_majorticklocs()
        counts.append(np.count_nonzero(np.abs(ticks) <= scale.norm.vmax))
    assert counts[0] > counts[1] == 3
