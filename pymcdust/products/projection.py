"""Projections of the sky for figures: the whole of it, or a patch."""

from dataclasses import dataclass, field
from typing import Any

import healpy as hp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Ellipse, Patch, Rectangle
from matplotlib.patheffects import withStroke

#: Fill of the sky where there are no data.
NO_DATA_COLOUR = "0.88"

#: Image points along the longer side of a panel.
RESOLUTION = 800

#: Largest share of the sky, and largest radius [deg], that is drawn as a patch.
PATCH_COVERAGE = 0.05
PATCH_RADIUS = 60.0

_GRATICULE: dict[str, Any] = {"color": "0.35", "linewidth": 0.35, "alpha": 0.55}
_LABEL: dict[str, Any] = {"color": "0.25", "fontsize": 6}


@dataclass(frozen=True)
class Mollweide:
    """The whole sky: equal-area, Galactic centre in the middle, longitude growing to the left."""

    extent: tuple[float, float, float, float] = (-2.0, 2.0, -1.0, 1.0)

    @property
    def aspect(self) -> float:
        """Height of a panel over its width."""
        return 0.5

    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the directions of the image points.

        Returns
        -------
        longitude, latitude : (y, x) array
            Galactic direction [deg], from bottom to top; NaN outside of the sky.
        """
        x, y = _image_grid(self.extent, self.aspect)
        inside = (x / 2) ** 2 + y**2 < 1
        angle = np.arcsin(np.where(inside, y, 0.0))
        latitude = np.arcsin((2 * angle + np.sin(2 * angle)) / np.pi)
        longitude = -np.pi / 2 * x / np.cos(angle)
        return tuple(np.where(inside, np.degrees(value), np.nan) for value in (longitude, latitude))

    def forward(self, longitude: Any, latitude: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return where Galactic directions [deg] lie in the image."""
        # The angle has no closed form as a function of latitude, but the reverse does.
        table = np.pi / 2 * np.sin(np.linspace(-np.pi / 2, np.pi / 2, 20_001))
        sines = (2 * table + np.sin(2 * table)) / np.pi
        angle = np.interp(np.sin(np.radians(latitude)), sines, table)
        return -_wrap(longitude) / 90 * np.cos(angle), np.sin(angle)

    def decorate(self, axes: Axes) -> Patch:
        """Draw the outline, the graticule and its labels; return the outline."""
        latitudes = np.linspace(-90, 90, 181)
        for longitude in range(-120, 180, 60):
            axes.plot(*self.forward(np.full(181, longitude), latitudes), **_GRATICULE)
        for latitude in range(-60, 90, 30):
            # A hair inside of +-180 degrees, which are one and the same direction.
            longitudes = np.linspace(-179.999, 179.999, 181)
            axes.plot(*self.forward(longitudes, np.full(181, latitude)), **_GRATICULE)
            if latitude:
                x, y = self.forward(179.999, latitude)
                axes.text(1.02 * x - 0.03, y, f"{latitude}°", ha="right", va="center", **_LABEL)
        for longitude in range(-120, 180, 60):
            x, y = self.forward(longitude, 0)
            halo = withStroke(linewidth=1.2, foreground="white", alpha=0.8)
            text = f"{longitude % 360}°"
            axes.text(x, y - 0.03, text, ha="center", va="top", path_effects=[halo], **_LABEL)
        outline = Ellipse((0, 0), 4, 2, facecolor="none", edgecolor="0.2", linewidth=0.7)
        axes.set(xlim=(-2.03, 2.03), ylim=(-1.03, 1.03))
        axes.axis("off")
        return outline


@dataclass(frozen=True)
class Zoom:
    """A patch of the sky: zenithal equal-area, so that a voxel keeps its size across the patch.

    Parameters
    ----------
    longitude, latitude : float
        Galactic direction of the centre [deg].
    extent : tuple of float
        Left, right, bottom and top of the image [deg of arc at the centre].
    """

    longitude: float
    latitude: float
    extent: tuple[float, float, float, float]

    @property
    def aspect(self) -> float:
        """Height of a panel over its width."""
        left, right, bottom, top = self.extent
        return (top - bottom) / (right - left)

    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the directions of the image points.

        Returns
        -------
        longitude, latitude : (y, x) array
            Galactic direction [deg], from bottom to top; NaN outside of the sky.
        """
        x, y = np.radians(_image_grid(self.extent, self.aspect))
        squared = x**2 + y**2
        on_sky = squared <= 4
        squared = np.where(on_sky, squared, 0.0)
        # On the unit sphere: x to the left, y up, z towards the centre of the patch.
        z = 1 - squared / 2
        scale = np.sqrt(1 - squared / 4)
        vectors = np.stack([z, -x * scale, y * scale], axis=-1) @ self._rotation()
        longitude, latitude = hp.vec2ang(vectors.reshape(-1, 3), lonlat=True)
        return tuple(
            np.where(on_sky, value.reshape(x.shape), np.nan) for value in (longitude, latitude)
        )

    def forward(self, longitude: Any, latitude: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return where Galactic directions [deg] lie in the image."""
        vectors = hp.ang2vec(longitude, latitude, lonlat=True) @ self._rotation().T
        z, left, up = np.moveaxis(vectors, -1, 0)
        # The antipode has no place; it lies far outside of any patch.
        scale = np.degrees(np.sqrt(2 / np.maximum(1 + z, 1e-9)))
        return -left * scale, up * scale

    def decorate(self, axes: Axes) -> Patch:
        """Draw the outline, the graticule and its labels; return the outline."""
        left, right, bottom, top = self.extent
        longitudes, latitudes = self.directions()
        offsets = _wrap(longitudes - self.longitude)
        # A patch around a pole holds all longitudes: its meridians are drawn every 30 degrees.
        polar = np.ptp(offsets) > 180
        eastward = self.longitude + np.linspace(offsets.min() - 1, offsets.max() + 1, 2001)
        upward = np.clip(np.linspace(latitudes.min() - 1, latitudes.max() + 1, 2001), -90, 90)
        for latitude in _round_values(latitudes, _round_step(np.ptp(latitudes) / 5)):
            x, y = self.forward(eastward, np.full(eastward.size, latitude))
            axes.plot(x, y, **_GRATICULE)
            height = None if polar else _crossing(x, y, left, bottom, top)
            if height is not None:
                place = (left - 0.015 * (right - left), height)
                axes.text(*place, f"{latitude:g}°", ha="right", va="center", **_LABEL)
        step = 30.0 if polar else _round_step(np.ptp(offsets) / 5)
        for longitude in _round_values(self.longitude + offsets, step):
            x, y = self.forward(np.full(upward.size, longitude), upward)
            axes.plot(x, y, **_GRATICULE)
            side = _crossing(y, x, bottom, left, right)
            if side is not None:
                place = (side, bottom - 0.015 * (top - bottom))
                axes.text(*place, f"{longitude % 360:g}°", ha="center", va="top", **_LABEL)
        axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_xlabel("$l$", labelpad=11, **_LABEL)
        axes.set_ylabel("$b$", labelpad=18, **_LABEL)
        size = (right - left, top - bottom)
        return Rectangle((left, bottom), *size, facecolor="none", edgecolor="0.2", linewidth=1.0)

    def _rotation(self) -> np.ndarray:
        """Return the matrix whose rows are the patch's axes: towards its centre, left, up."""
        longitude, latitude = np.radians([self.longitude, self.latitude])
        cos_l, sin_l, cos_b, sin_b = (
            np.cos(longitude),
            np.sin(longitude),
            np.cos(latitude),
            np.sin(latitude),
        )
        return np.array(
            [
                [cos_b * cos_l, cos_b * sin_l, sin_b],
                [-sin_l, cos_l, 0.0],
                [-sin_b * cos_l, -sin_b * sin_l, cos_b],
            ]
        )


Projection = Mollweide | Zoom


def choose_projection(superpixel: np.ndarray, superpixel_nside: int) -> Projection:
    """Return a projection that shows the superpixels well: a patch where they are close together.

    Parameters
    ----------
    superpixel : (superpixel,) array of int
        NESTED indices.
    superpixel_nside : int
        Their Nside.

    Returns
    -------
    Mollweide or Zoom
        A zoom if they cover less than `PATCH_COVERAGE` of the sky and lie within `PATCH_RADIUS`
        of their centre.

    Examples
    --------
    >>> choose_projection(np.arange(192), superpixel_nside=4)
    Mollweide(extent=(-2.0, 2.0, -1.0, 1.0))
    >>> round(choose_projection(np.array([5908]), superpixel_nside=32).longitude, 4)  # Cepheus
    98.4375
    """
    superpixel = np.asarray(superpixel)
    if superpixel.size >= PATCH_COVERAGE * hp.nside2npix(superpixel_nside):
        return Mollweide()
    centre = np.mean(hp.pix2vec(superpixel_nside, superpixel, nest=True), axis=1)
    corners = hp.boundaries(superpixel_nside, superpixel, step=4, nest=True)
    corners = np.moveaxis(corners, 1, -1).reshape(-1, 3)
    if (corners @ centre).min() <= np.cos(np.radians(PATCH_RADIUS)) * np.linalg.norm(centre):
        return Mollweide()
    longitude, latitude = (float(angle[0]) for angle in hp.vec2ang(centre, lonlat=True))
    zoom = Zoom(longitude, latitude, (-1.0, 1.0, -1.0, 1.0))
    x, y = zoom.forward(*hp.vec2ang(corners, lonlat=True))
    margin = 0.06 * max(np.ptp(x), np.ptp(y))
    extent = (x.min() - margin, x.max() + margin, y.min() - margin, y.max() + margin)
    return Zoom(longitude, latitude, tuple(float(edge) for edge in extent))


@dataclass(frozen=True, eq=False)
class SkyImage:
    """Turns values on the pixels of superpixels into images.

    Parameters
    ----------
    projection : Mollweide or Zoom
        The projection of the images.
    superpixel : (superpixel,) array of int
        NESTED indices of the superpixels that have values.
    superpixel_nside : int
        Their Nside.
    """

    projection: Projection
    superpixel: np.ndarray
    superpixel_nside: int
    _directions: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_directions", self.projection.directions())

    def sample(self, values: np.ndarray) -> np.ndarray:
        """Return the image of a map.

        Parameters
        ----------
        values : (superpixel,) or (superpixel, pixel) array
            A value for each superpixel, or for each of its pixels in NESTED order.

        Returns
        -------
        (y, x) array
            The value at each point of the image, from bottom to top; NaN where there is none.
        """
        values = np.asarray(values, dtype=float).reshape(len(self.superpixel), -1)
        pixels = values.shape[1]
        nside = self.superpixel_nside * round(pixels**0.5)
        longitude, latitude = self._directions
        on_sky = np.isfinite(longitude)
        pixel = hp.ang2pix(nside, longitude[on_sky], latitude[on_sky], nest=True, lonlat=True)
        place = np.full(hp.nside2npix(self.superpixel_nside), -1)
        place[self.superpixel] = np.arange(len(self.superpixel))
        row = place[pixel // pixels]
        image = np.full(longitude.shape, np.nan)
        image[on_sky] = np.where(row >= 0, values[row, pixel % pixels], np.nan)
        return image

    def draw(self, axes: Axes, image: np.ndarray, **options: Any) -> AxesImage:
        """Draw an image, of numbers or of colours, where the projection puts it."""
        return axes.imshow(
            image,
            extent=self.projection.extent,
            origin="lower",
            interpolation="nearest",
            aspect="equal",
            **options,
        )


def frame(axes: Axes, projection: Projection) -> None:
    """Draw a projection's frame, and clip the images of the axes to it."""
    outline = projection.decorate(axes)
    axes.add_patch(outline)
    for image in axes.images:
        image.set_clip_path(outline)


def _image_grid(extent: tuple[float, ...], aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the centres of the image points."""
    left, right, bottom, top = extent
    scale = RESOLUTION / max(1.0, aspect)
    columns, rows = max(1, round(scale)), max(1, round(scale * aspect))
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
    return np.meshgrid(x, y)


def _wrap(longitude: Any) -> Any:
    """Return longitudes [deg] between -180 and 180."""
    return (np.asarray(longitude) + 180) % 360 - 180


def _round_step(span: float) -> float:
    """Return the round number of degrees nearest above `span`."""
    power = 10 ** np.floor(np.log10(span))
    return float(min(step for step in (1, 2, 5, 10) if step * power >= span) * power)


def _round_values(values: np.ndarray, step: float) -> np.ndarray:
    """Return the multiples of `step` between the least and the greatest of `values`."""
    multiples = np.arange(np.ceil(values.min() / step), np.floor(values.max() / step) + 1)
    # Rounded, because 3 * 0.1 is not 0.3 to all digits.
    return np.round(multiples * step, 10) + 0.0  # lest there be a -0


def _crossing(
    across: np.ndarray, along: np.ndarray, edge: float, low: float, high: float
) -> float | None:
    """Return where a line first crosses the edge of a frame; None where it misses the edge."""
    for place in np.flatnonzero(np.diff(np.sign(across - edge))):
        weight = (edge - across[place]) / (across[place + 1] - across[place])
        crossing = float(along[place] + weight * (along[place + 1] - along[place]))
        if low < crossing < high:
            return crossing
    return None
