"""What a rendered picture means, written on it: colours, scale, place and direction."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
SCALES: tuple[float, ...] = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)

#: Width of the picture in heights of the letters, and the smallest letters [points].
_LETTERS = 84
_SMALLEST = 7

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
    """
    width = camera.size[0]
    em = max(_SMALLEST, width // _LETTERS)
    font = ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", em
    )
    height = min(5 * em, camera.size[1])
    picture = picture.copy()
    picture[-height:] = np.rint(picture[-height:] * _SHADE)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    top = camera.size[1] - height + em
    x, y, z = (f"{value + 0.0:.4g}".replace("-", "−") for value in np.round(camera.position, 3))
    longitude, latitude = (f"{value:.4g}".replace("-", "−") for value in camera.look)
    draw.text((em, top), f"camera at ({x}, {y}, {z}) pc", _WHITE, font)
    looks = f"looks at l = {longitude}°, b = {latitude}°"
    draw.text((em, top + 1.6 * em), looks, _WHITE, font)

    length, degrees = _scale(camera)
    middle = 0.42 * width
    line = top + 0.5 * em
    ends = (middle - length / 2, middle + length / 2)
    draw.line([(ends[0], line), (ends[1], line)], _WHITE, max(1, em // 8))
    for end in ends:
        draw.line([(end, line - em / 3), (end, line + em / 3)], _WHITE, max(1, em // 8))
    draw.text((middle, top + 1.6 * em), f"{degrees:g}°", _WHITE, font, anchor="ma")

    first, last = round(width - 37 * em), width - 10 * em
    temperature = np.linspace(*BAR, last - first)
    bar = to_bytes(colour_bar(temperature, saturation_gamma, brightness_gamma))
    image.paste(Image.fromarray(np.tile(bar, (em, 1, 1))), (first, top))
    for tick in TICKS:
        place = first + (tick - BAR[0]) / (BAR[1] - BAR[0]) * (last - first - 1)
        draw.line([(place, top + em), (place, top + 1.4 * em)], _PALE)
        text = f"{tick} K" if tick == TICKS[-1] else f"{tick}"
        draw.text((place, top + 1.6 * em), text, _WHITE, font, anchor="ma")
    patch = width - round(5 * em)
    draw.rectangle([patch, top, patch + 2 * em, top + em - 1], (140, 140, 140))
    draw.text((patch + em, top + 1.6 * em), "prior only", _WHITE, font, anchor="ma")
    return np.asarray(image)


def _scale(camera: Camera) -> tuple[float, float]:
    """Return the length of the scale, in points at the picture's centre, and in degrees."""
    width = camera.size[0]
    per_tangent = width / 2 / np.tan(np.deg2rad(camera.field) / 2)
    lengths = [2 * per_tangent * np.tan(np.deg2rad(degrees) / 2) for degrees in SCALES]
    fitting = [pair for pair in zip(lengths, SCALES, strict=True) if pair[0] <= width / 5]
    return fitting[-1] if fitting else (lengths[0], SCALES[0])
