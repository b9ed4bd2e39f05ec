import numpy as np
import pytest

from pymcdust.errors import ConfigurationError
from pymcdust.products.legend import BAR, add_legend, check_legend, colour_bar
from pymcdust.products.render import Camera, to_bytes

#: Cameras whose texts are short and long.
PLACES = [
    {"position": (0.0, 25.0, 0.0)},
    {"position": (-1234.5, 0.123, 12345.6), "look": (123.4, -89.99)},
]


def legend_of(camera):
    """Return a picture's legend, without what is below it: the lines that it changes."""
    picture = np.full((camera.size[1], camera.size[0], 3), 100, np.uint8)
    marked = add_legend(picture, camera)
    changed = (marked != 100).any(axis=(1, 2))
    assert changed[changed.argmax() :].all()
    return marked[changed].astype(int)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("size", "lines"),
    [((200, 112), 2), ((320, 180), 2), ((480, 270), 2), ((640, 360), 1), ((1280, 720), 1)],
)
def test_parts_of_the_legend_do_not_overlap(size, lines, place, monkeypatch):
    """Each part that is drawn alone leaves room around it for the others."""
    camera = Camera(size=size, **place)
    whole = legend_of(camera)
    em = max(7, size[0] // 84)
    if size == (200, 112) and place is PLACES[1]:
        lines = 3  # the text leaves no room for the scale
    assert len(whole) == round((5 + 3.6 * (lines - 1)) * em)
    background = whole[0, 0]
    # Nothing is cut off at the margins.
    assert (whole[:, : em // 2] == background).all()
    assert (whole[:, -(em // 2) :] == background).all()
    # The bar is whole, with all of its colours, and nothing is drawn on it.
    bar = to_bytes(colour_bar(np.linspace(*BAR, 1000))).astype(int)
    row = whole[em + round(3.6 * em * (lines - 1))]
    (first,) = np.flatnonzero((row == bar[0]).all(axis=-1))[:1]
    (last,) = np.flatnonzero((row == bar[-1]).all(axis=-1))[-1:]
    expected = to_bytes(colour_bar(np.linspace(*BAR, last - first + 1)))
    np.testing.assert_array_equal(row[first : last + 1], expected)
    assert last - first > 15 * em
    # Drawn without the texts, all that remains of them is background.
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda *words, **options: None)
    bare = legend_of(camera)
    letters = (whole != bare).any(axis=-1)
    assert letters.sum() > 100
    assert (bare[letters] == background).all()


@pytest.mark.parametrize("size", [(188, 300), (64, 36), (640, 30), (200, 50)])
def test_pictures_that_are_too_small_for_a_legend(size):
    with pytest.raises(ConfigurationError, match=r"legend needs \d+ x \d+, so ask for none"):
        check_legend(Camera(size=size))
