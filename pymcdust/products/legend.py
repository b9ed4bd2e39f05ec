"""What a rendered picture means, written on it: colours, scale, place and direction."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pymcdust.errors import ConfigurationError
from pymcdust.products.render import (
    BRIGHTNESS_GAMMA,
    SATURATION_GAMMA,
    Camera,
    develop,
    to_bytes,
)
from pymcdust.products.volume import glow

#: Temperatures of the colour bar [K], and those that are written below it.
BAR: tuple[float, float] = (12.0, 26.0)
TICKS: tuple[int, ...] = (12, 14, 16, 18, 20, 22, 24, 26)

#: Lengths of the scale [deg]; the longest is taken that is no more than a fifth of the picture.
SCALES: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)

#: Width of the picture in heights of the letters, and the smallest letters [points].
_LETTERS = 84
_SMALLEST = 7

#: Heights, in those of the letters: of a legend of one line, and of each line more.
_HEIGHT = 5.0
_LINE = 3.6

#: Widths, in those of the letters: of the bar and the patch beside it, with the margins; the bar
#: is as wide as the picture allows where they have a line for themselves.
_BAR_SIDE = 37
_BAR_LEAST = 27

#: How much of the picture is left of its brightness below the legend.
_SHADE = 0.35

_WHITE, _PALE = (235, 235, 235), (190, 190, 190)


def colour_bar(
    temperature: np.ndarray,
    saturation_gamma: float = SATURATION_GAMMA,
    brightness_gamma: float = BRIGHTNESS_GAMMA,
) -> np.ndarray:
    """Return the colours that dust of one temperature has in a picture, fully exposed.

    Parameters
    ----------
    temperature : (n,) array
        Dust temperature [K].
    saturation_gamma, brightness_gamma : float, optional
        As for `pymcdust.products.render.develop`, through which the colours go.

    Returns
    -------
    (n, 3) array
        Red, green and blue from 0 to 1.
    """
    light = glow(temperature)
    light = np.concatenate([light, light.mean(axis=-1, keepdims=True)], axis=-1)
    # Of the same brightness all: the hue tells the temperature.
    light /= light.max(axis=-1, keepdims=True)
    return develop(light, 1.0, saturation_gamma, brightness_gamma)


def add_legend(
    picture: np.ndarray,
    camera: Camera,
    saturation_gamma: float = SATURATION_GAMMA,
    brightness_gamma: float = BRIGHTNESS_GAMMA,
) -> np.ndarray:
    """Write on a picture what its colours mean, its scale, and where it was taken.

    Parameters
    ----------
    picture : (height, width, 3) array of uint8
        What `pymcdust.products.render.render` returns.
    camera : Camera
        The camera that took it.
    saturation_gamma, brightness_gamma : float, optional
        Those of the picture.

    Returns
    -------
    (height, width, 3) array of uint8
        The picture, with a legend along its lower edge.

    Raises
    ------
    ConfigurationError
        If the picture is too small for a legend.
    """
    plan = _plan(camera)
    em, width = plan.em, camera.size[0]
    picture = picture.copy()
    picture[-plan.height :] = np.rint(picture[-plan.height :] * _SHADE)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    tops = [camera.size[1] - plan.height + em + round(line * _LINE * em) for line in plan.lines]

    for number, text in enumerate(plan.texts):
        draw.text((em, tops[0] + 1.6 * em * number), text, _WHITE, plan.font)

    left, right = plan.scale
    line = tops[1] + 0.5 * em
    draw.line([(left, line), (right, line)], _WHITE, max(1, em // 8))
    for end in plan.scale:
        draw.line([(end, line - em / 3), (end, line + em / 3)], _WHITE, max(1, em // 8))
    middle = (left + right) / 2
    draw.text((middle, tops[1] + 1.6 * em), plan.degrees, _WHITE, plan.font, anchor="ma")

    top, (first, last) = tops[2], plan.bar
    temperature = np.linspace(*BAR, last - first)
    bar = to_bytes(colour_bar(temperature, saturation_gamma, brightness_gamma))
    image.paste(Image.fromarray(np.tile(bar, (em, 1, 1))), (first, top))
    for tick in TICKS:
        place = first + (tick - BAR[0]) / (BAR[1] - BAR[0]) * (last - first - 1)
        draw.line([(place, top + em), (place, top + 1.4 * em)], _PALE)
        text = f"{tick} K" if tick == TICKS[-1] else f"{tick}"
        draw.text((place, top + 1.6 * em), text, _WHITE, plan.font, anchor="ma")
    patch = width - round(5 * em)
    draw.rectangle([patch, top, patch + 2 * em, top + em - 1], (140, 140, 140))
    draw.text((patch + em, top + 1.6 * em), "prior only", _WHITE, plan.font, anchor="ma")
    return np.asarray(image)


def check_legend(camera: Camera) -> None:
    """Raise a ConfigurationError if a camera's picture is too small for a legend."""
    _plan(camera)


@dataclass(frozen=True)
class _Plan:
    """Where the three parts of a legend are: texts, scale and colour bar [points]."""

    em: int
    font: ImageFont.FreeTypeFont
    height: int
    texts: tuple[str, str]
    degrees: str
    scale: tuple[float, float]
    bar: tuple[int, int]
    lines: tuple[int, int, int]


def _plan(camera: Camera) -> _Plan:
    """Put the parts of a legend side by side, or below each other where they would overlap."""
    width, height = camera.size
    em = max(_SMALLEST, width // _LETTERS)
    font = ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", em
    )
    x, y, z = (f"{value + 0.0:.4g}".replace("-", "−") for value in np.round(camera.position, 3))
    longitude, latitude = (f"{value:.4g}".replace("-", "−") for value in camera.look)
    texts = (f"camera at ({x}, {y}, {z}) pc", f"looks at l = {longitude}°, b = {latitude}°")
    length, number = _scale(camera)
    degrees = f"{number:g}°"

    end = em + max(font.getlength(text) for text in texts)
    half = max(length, font.getlength(degrees)) / 2
    beside = width - _BAR_SIDE * em
    middle, bar, lines = 0.42 * width, (beside, width - 10 * em), (0, 0, 0)
    if end + em > middle - half or middle + half + 2 * em > beside:
        middle, bar, lines = width - em - half, (2 * em, width - 10 * em), (0, 0, 1)
        if end + em > middle - half:
            middle, lines = em + half, (0, 1, 2)
    legend = round((_HEIGHT + _LINE * lines[-1]) * em)
    least = (max(_BAR_LEAST * em, round(max(end, middle + half)) + em), legend)
    if width < least[0] or height < least[1]:
        raise ConfigurationError(
            f"the picture has {width} x {height} points; its legend needs {least[0]} x {least[1]}, "
            "so ask for none (--no-legend, or legend=False)"
        )
    scale = (middle - length / 2, middle + length / 2)
    return _Plan(em, font, legend, texts, degrees, scale, bar, lines)


def _scale(camera: Camera) -> tuple[float, float]:
    """Return the length of the scale, in points at the picture's centre, and in degrees."""
    width = camera.size[0]
    per_tangent = width / 2 / np.tan(np.deg2rad(camera.field) / 2)
    lengths = [2 * per_tangent * np.tan(np.deg2rad(degrees) / 2) for degrees in SCALES]
    fitting = [pair for pair in zip(lengths, SCALES, strict=True) if pair[0] <= width / 5]
    return fitting[-1] if fitting else (lengths[0], SCALES[0])
