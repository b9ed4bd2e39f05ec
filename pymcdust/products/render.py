"""Pictures of dust in three dimensions, as a camera among it would see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from astropy.coordinates import spherical_to_cartesian

from pymcdust.errors import ConfigurationError
from pymcdust.products.raycast import integrate_rays
from pymcdust.products.volume import Volume

#: Exponent of the saturation (Zelko et al. 2022, Sec. 4.2): colours differ by little.
SATURATION_GAMMA = 0.25

#: Exponent of the brightness. Screens raise values to 2.2: with this they show light in proportion.
BRIGHTNESS_GAMMA = 1 / 2.2

#: Part of the picture that is overexposed where the exposure is found from it.
OVEREXPOSED = 0.01

#: Weights of red, green and blue in the luminance (ITU-R BT.709).
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])

#: A direction nearer than this [deg] to the one that is up leaves the camera's roll open.
_LEAST_ANGLE = 1e-3

#: Up in the picture are these directions [deg], the second where a camera looks along the first.
_UP: tuple[tuple[float, float], ...] = ((0.0, 90.0), (0.0, 0.0))

#: Most points of a picture: each takes some 200 bytes of memory. An 8K picture has 33 million.
MOST_POINTS = 50_000_000


@dataclass(frozen=True)
class Camera:
    """Where a picture is taken from, and where it looks.

    Parameters
    ----------
    position : (float, float, float)
        Place [pc], Cartesian and Galactic, with the Sun at the origin: towards l = 0, towards
        l = 90, towards the north Galactic pole.
    look : (float, float)
        Direction of the picture's centre, Galactic longitude and latitude [deg].
    field : float
        Width of the picture [deg], less than 180; the projection is gnomonic.
    size : (int, int)
        Width and height of the picture in points, of which it has no more than `MOST_POINTS`.
    up : (float, float), optional
        The direction that is up in the picture, longitude and latitude [deg]. By default it is
        the north Galactic pole, or l = 0 for a camera that looks at a pole.

    Raises
    ------
    ConfigurationError
        If a setting is impossible.

    Examples
    --------
    >>> Camera(look=(90.0, 0.0)).axes()[0].round(6) + 0.0
    array([0., 1., 0.])

    Towards the pole l = 0 is above, and l = 90 to the right:

    >>> Camera(look=(0.0, 90.0)).axes()[1].round(6) + 0.0
    array([0., 1., 0.])
    """

    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    look: tuple[float, float] = (180.0, 0.0)
    field: float = 90.0
    size: tuple[int, int] = (1280, 720)
    up: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if np.shape(self.position) != (3,) or not np.all(np.isfinite(self.position)):
            raise ConfigurationError(
                f"position of the camera is {self.position!r}; allowed are 3 numbers"
            )
        _check_direction("look of the camera", self.look)
        if self.up is not None:
            _check_direction("up of the camera", self.up)
        if not 0 < self.field < 180:
            raise ConfigurationError(
                f"the field is {self.field} degrees wide; allowed is more than 0 and less than 180"
            )
        if len(self.size) != 2 or not all(isinstance(n, Integral) and n > 0 for n in self.size):
            raise ConfigurationError(
                f"the picture's size is {self.size!r}; allowed are two whole numbers above 0"
            )
        if self.size[0] * self.size[1] > MOST_POINTS:
            raise ConfigurationError(
                f"the picture's size is {self.size[0]} x {self.size[1]}; allowed are "
                f"{MOST_POINTS:,} points"
            )
        if self.up is not None and _along(self.look, self.up):
            raise ConfigurationError(
                f"the camera looks along the direction that is up, {self.up}; choose another one "
                "for up, or leave it out"
            )

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the unit vectors forwards, to the right and upwards in the picture."""
        forward = _direction(self.look)
        default = next(up for up in _UP if not _along(self.look, up))
        right = np.cross(forward, _direction(default if self.up is None else self.up))
        right /= np.linalg.norm(right)
        return forward, right, np.cross(right, forward)

    def rays(self) -> np.ndarray:
        """Return the directions of all points, line by line from above: (h * w, 3) array."""
        width, height = self.size
        side = 2 * np.tan(np.deg2rad(self.field) / 2) / width
        x = side * (np.arange(width) + 0.5 - width / 2)
        y = side * (height / 2 - 0.5 - np.arange(height))
        forward, right, up = self.axes()
        rays = forward + x[None, :, None] * right + y[:, None, None] * up
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        return rays.reshape(-1, 3)

    def project(self, direction: np.ndarray) -> np.ndarray:
        """Return where directions are seen.

        Parameters
        ----------
        direction : (..., 3) array
            Directions from the camera, of any length.

        Returns
        -------
        (..., 2) array
            Places to the right and downwards from the picture's upper left corner, in points; NaN
            behind the camera.
        """
        width, height = self.size
        forward, right, up = self.axes()
        depth = direction @ forward
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(
                depth > 0, width / 2 / np.tan(np.deg2rad(self.field) / 2) / depth, np.nan
            )
        return np.stack(
            [width / 2 + scale * (direction @ right), height / 2 - scale * (direction @ up)],
            axis=-1,
        )


def loop_camera(
    n_frames: int,
    radius: float = 25.0,
    *,
    look: tuple[float, float] = (180.0, 0.0),
    field: float = 90.0,
    size: tuple[int, int] = (1280, 720),
    axis: tuple[float, float] = (0.0, 90.0),
) -> list[Camera]:
    """Lead a camera around the Sun on a circle (Fig. 7, Zelko et al. 2022).

    Parameters
    ----------
    n_frames : int
        Number of pictures; the one after the last would be the first again.
    radius : float, optional
        Radius of the circle [pc].
    look, field, size : optional
        As for `Camera`, the same in all pictures.
    axis : (float, float), optional
        Longitude and latitude of the circle's axis [deg]: the north Galactic pole, so that the
        circle lies in the Galactic plane.

    Returns
    -------
    list of Camera
        The first is displaced at right angles to `look`, or towards any side if that is the axis.
    """
    if n_frames < 1:
        raise ConfigurationError(f"n_frames is {n_frames}; allowed is 1 or more")
    if not np.isfinite(radius):
        raise ConfigurationError(f"the radius is {radius} pc; allowed is a number")
    _check_direction("look", look)
    _check_direction("axis of the loop", axis)
    normal = _direction(axis)
    start = np.cross(normal, _direction(look))
    if np.linalg.norm(start) < np.deg2rad(_LEAST_ANGLE):
        start = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    start /= np.linalg.norm(start)
    across = np.cross(normal, start)
    angles = 2 * np.pi * np.arange(n_frames) / n_frames
    places = radius * (np.cos(angles)[:, None] * start + np.sin(angles)[:, None] * across)
    return [Camera(tuple(place.tolist()), look, field, size) for place in places]


def light_of(volume: Volume, camera: Camera) -> np.ndarray:
    """Integrate the light of a volume towards a camera (Eqs. 11-12, Zelko et al. 2022).

    Parameters
    ----------
    volume : Volume
        The dust.
    camera : Camera
        The camera.

    Returns
    -------
    (height, width, 4) array of float32
        Light in red, green and blue, and the part of their mean that comes from voxels whose
        temperature was measured [mag of dust of 18 K].
    """
    light = integrate_rays(
        volume.emissivity, volume.edges, np.asarray(camera.position), camera.rays()
    )
    return light.reshape(camera.size[1], camera.size[0], -1)


def exposure_of(light: np.ndarray) -> float:
    """Return the exposure that leaves a part of `OVEREXPOSED` of a picture overexposed.

    Parameters
    ----------
    light : (height, width, 4) array
        What `light_of` returns.

    Returns
    -------
    float
        For `develop`; 1 where the picture is black.
    """
    brightest = np.quantile(light[..., :3].max(axis=-1), 1 - OVEREXPOSED)
    return float(brightest) if brightest > 0 else 1.0


def check_settings(
    exposure: float | None, saturation_gamma: float, brightness_gamma: float
) -> None:
    """Raise a ConfigurationError if `develop` cannot have one of its settings."""
    settings = {"saturation_gamma": saturation_gamma, "brightness_gamma": brightness_gamma}
    if exposure is not None:
        settings["exposure"] = exposure
    for name, value in settings.items():
        if not 0 < value < np.inf:
            raise ConfigurationError(f"{name} is {value}; allowed is a number above 0")


def develop(
    light: np.ndarray,
    exposure: float,
    saturation_gamma: float = SATURATION_GAMMA,
    brightness_gamma: float = BRIGHTNESS_GAMMA,
) -> np.ndarray:
    """Make a picture of light (Sec. 4.2, Zelko et al. 2022).

    Parameters
    ----------
    light : (..., 4) array
        Light in red, green and blue, and the measured part of their mean.
    exposure : float
        The light that is as bright as can be, v_max. What is brighter keeps its hue.
    saturation_gamma : float, optional
        Exponent of the saturation; smaller makes small differences of temperature visible.
    brightness_gamma : float, optional
        Exponent of the brightness (the V of HSV); smaller makes faint dust visible. The paper's
        pictures have 1.

    Returns
    -------
    (..., 3) array
        Red, green and blue from 0 to 1. The part of the light that was not measured is grey.
    """
    check_settings(exposure, saturation_gamma, brightness_gamma)
    colour = np.maximum(light[..., :3].astype(float), 0.0)
    largest = colour.max(axis=-1, keepdims=True)
    safe = np.where(largest > 0, largest, 1.0)
    # In HSV the saturation is 1 - min / max: a gamma changes how far the channels are below max.
    saturation = 1 - colour.min(axis=-1, keepdims=True) / safe
    stretched = np.where(saturation > 0, saturation, 1.0) ** saturation_gamma
    below = (1 - colour / safe) * (stretched / np.where(saturation > 0, saturation, 1.0))
    brightness = np.clip(largest / exposure, 0, 1) ** brightness_gamma
    picture = brightness * (1 - below)
    mean = colour.mean(axis=-1, keepdims=True)
    measured = np.clip(light[..., 3:] / np.where(mean > 0, mean, 1.0), 0, 1)
    grey = (picture @ _LUMINANCE)[..., None]
    return measured * picture + (1 - measured) * grey


def render(
    volume: Volume,
    camera: Camera,
    exposure: float | None = None,
    saturation_gamma: float = SATURATION_GAMMA,
    brightness_gamma: float = BRIGHTNESS_GAMMA,
) -> np.ndarray:
    """Take a picture of a volume.

    Parameters
    ----------
    volume : Volume
        The dust.
    camera : Camera
        The camera.
    exposure : float, optional
        The light that is as bright as can be [mag of dust of 18 K]; such that a hundredth of the
        picture is overexposed if left out. One exposure is for all pictures of a film.
    saturation_gamma, brightness_gamma : float, optional
        As for `develop`.

    Returns
    -------
    (height, width, 3) array of uint8
        The picture, without a legend; the same in every run.
    """
    light = light_of(volume, camera)
    exposure = exposure_of(light) if exposure is None else exposure
    return to_bytes(develop(light, exposure, saturation_gamma, brightness_gamma))


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """Return a picture from 0 to 1 in 8 bits."""
    return np.rint(255 * picture).astype(np.uint8)


def _check_direction(what: str, angles: Sequence[float]) -> None:
    if np.shape(angles) != (2,) or not np.all(np.isfinite(angles)):
        raise ConfigurationError(f"{what} is {angles!r}; allowed are 2 numbers")
    if abs(angles[1]) > 90:
        raise ConfigurationError(
            f"{what} has the latitude {angles[1]:g}; allowed is -90 to 90, after the longitude"
        )


def _along(look: Sequence[float], up: Sequence[float]) -> bool:
    """Tell whether a camera looks so nearly along a line that its roll is left open."""
    across = np.cross(_direction(look), _direction(up))
    return np.linalg.norm(across) < np.deg2rad(_LEAST_ANGLE)


def _direction(angles: Sequence[float]) -> np.ndarray:
    longitude, latitude = np.deg2rad(angles)
    return np.array([part.value for part in spherical_to_cartesian(1.0, latitude, longitude)])
