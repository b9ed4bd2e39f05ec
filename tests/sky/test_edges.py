import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymcdust.errors import ConfigurationError
from pymcdust.sky.edges import edges_from_kpc, edges_from_slices

PAPER_EDGES = [0, 0.150, 0.266, 0.473, 0.841, 1.496, 2.661, 4.732, 8.414, 14.962]


def test_the_papers_slices():
    np.testing.assert_allclose(edges_from_slices((15, 96, 10)), PAPER_EDGES, atol=5e-4)
    assert len(edges_from_slices((15, 96, 5))) == 18
    np.testing.assert_allclose(edges_from_slices([39, 72, 32]), [0, 0.596, 3.758], atol=5e-4)


@settings(deadline=None)
@given(st.integers(-5, 130), st.integers(-5, 200), st.integers(-3, 60))
def test_slices_are_a_python_range(start, stop, step):
    chosen = list(range(start, stop, step)) if step > 0 else []
    if not chosen or chosen[0] < 0 or chosen[-1] > 119:
        with pytest.raises(ConfigurationError):
            edges_from_slices((start, stop, step))
        return
    edges = edges_from_slices((start, stop, step))
    modulus = 5 * np.log10(edges[1:] * 100)
    np.testing.assert_allclose(modulus, [4 + 0.125 * k for k in chosen])
    assert edges[0] == 0


@pytest.mark.parametrize(
    "slices",
    [(15, 96), (15, 15, 1), (96, 15, 10), (96, 15, -10), (0, 121, 1), (-1, 20, 2), (1, 5, 0)],
)
def test_impossible_slices(slices):
    with pytest.raises(ConfigurationError, match="slices"):
        edges_from_slices(slices)


@pytest.mark.parametrize("slices", [(15.0, 96, 10), ("15", 96, 10), (True, 96, 10)])
def test_slices_are_integers(slices):
    with pytest.raises(ConfigurationError, match="three integers"):
        edges_from_slices(slices)


def test_edges_in_kpc():
    edges = edges_from_kpc([0, 0.3, 1])
    assert edges.dtype == float
    assert edges.tolist() == [0, 0.3, 1]


@pytest.mark.parametrize(
    ("edges", "match"),
    [
        ([0.3, 1.0], r"did you mean \[0\.0, 0\.3, 1\.0\]"),
        ([0, 1, 1], "must increase"),
        ([0, 2, 1], "must increase"),
        ([0], "two or more"),
        ([0, float("nan")], "two or more finite"),
        ([0, 300, 1500], "in pc"),
        ([0, 300, 900], "in pc"),
        (["0", "0.3"], "list of numbers"),
        ([False, True], "list of numbers"),
        (["near", "far"], "list of numbers"),
        ([[0, 1], [0, 2]], "two or more"),
    ],
)
def test_impossible_edges_in_kpc(edges, match):
    with pytest.raises(ConfigurationError, match=match):
        edges_from_kpc(edges)
