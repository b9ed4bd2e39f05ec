"""Projections of the sky for figures: the whole of it, or a patch."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import healpy
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Ellipse, Patch, Rectangle

from pymcdust.errors import ConfigurationError
from pymcdust.products.graticule import (
    HALO,
    LABEL,
    LINE,
    crossing,
    degrees,
    leaving,
    round_step,
    round_values,
    wrap,
)

NO_DATA_COLOUR = "0.88"

RESOLUTION = 800  # image points along the longer side of a panel

#: Largest share of the sky, and largest radius [deg], that is drawn as a patch unasked.
PATCH_COVERAGE = 0.05
PATCH_RADIUS = 40.0

#: Largest radius of a patch [deg]: lengths at its edge are four times those in its middle.
LARGEST_RADIUS = 60.0

#: How the label of a meridian stands that leaves a polar patch by a side: shift to the right and
#: upwards, and style. Above a map stands its title, so that there the label is inside.
_BESIDE: dict[str, tuple[int, int, dict[str, Any]]] = {
    "bottom": (0, -1, {"ha": "center", "va": "top"}),
    "top": (0, -1, {"ha": "center", "va": "top", "path_effects": [HALO]}),
    "left": (-1, 0, {"ha": "right", "va": "center"}),
    "right": (1, 0, {"ha": "left", "va": "center"}),
}


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
        return -wrap(longitude) / 90 * np.cos(angle), np.sin(angle)

    def decorate(self, axes: Axes, *, labels: bool = True) -> Patch:
        """Draw the outline, the graticule and, if asked, its labels; return the outline."""
        latitudes = np.linspace(-90, 90, 181)
        for longitude in range(-120, 180, 60):
            axes.plot(*self.forward(np.full(181, longitude), latitudes), **LINE)
        for latitude in range(-60, 90, 30):
            # A hair inside of +-180 degrees, which are one and the same direction.
            longitudes = np.linspace(-179.999, 179.999, 181)
            axes.plot(*self.forward(longitudes, np.full(181, latitude)), **LINE)
            if latitude and labels:
                place = self.forward(179.999, latitude)
                # Outwards, so that the label does not touch the outline.
                x, y = np.multiply(place, (0.25, 1.0)) / np.hypot(0.25 * place[0], place[1])
                align = "center" if abs(latitude) < 45 else "bottom" if latitude > 0 else "top"
                style = {"ha": "right", "va": align, "textcoords": "offset points", **LABEL}
                axes.annotate(degrees(latitude), place, xytext=(2.5 * x, 1.5 * y), **style)
        for longitude in range(-120, 180, 60) if labels else ():
            x, y = self.forward(longitude, 0)
            style = {"ha": "center", "va": "top", "path_effects": [HALO], **LABEL}
            axes.text(x, y - 0.03, degrees(longitude % 360), **style)
        outline = Ellipse((0, 0), 4, 2, facecolor="none", edgecolor="0.2", linewidth=0.7)
        axes.set(xlim=(-2.03, 2.03), ylim=(-1.03, 1.03))
        axes.axis("off")
        return outline


@dataclass(frozen=True)
class Gnomonic:
    """A patch of the sky, seen from its middle: great circles are straight lines.

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
            Galactic direction [deg], from bottom to top.
        """
        x, y = np.radians(_image_grid(self.extent, self.aspect))
        # On the plane that touches the sphere in the centre: x to the right, y up.
        vectors = np.stack([np.ones_like(x), -x, y], axis=-1) @ self._rotation()
        longitude, latitude = healpy.vec2ang(vectors.reshape(-1, 3), lonlat=True)
        return longitude.reshape(x.shape), latitude.reshape(x.shape)

    def forward(self, longitude: Any, latitude: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return where Galactic directions [deg] lie in the image; NaN behind the observer."""
        vectors = healpy.ang2vec(longitude, latitude, lonlat=True) @ self._rotation().T
        z, left, up = np.moveaxis(vectors, -1, 0)
        scale = np.degrees(1 / np.where(z > 1e-6, z, np.nan))
        return -left * scale, up * scale

    def decorate(self, axes: Axes, *, labels: bool = True) -> Patch:
        """Draw the outline, the graticule and, if asked, its labels; return the outline."""
        left, right, bottom, top = self.extent
        polar = self._holds_pole()
        (self._draw_polar_graticule if polar else self._draw_graticule)(axes, labels)
        axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if labels:
            axes.set_xlabel("$l$", labelpad=9, **LABEL)
            axes.set_ylabel("" if polar else "$b$", labelpad=18, **LABEL)
        size = right - left, top - bottom
        return Rectangle((left, bottom), *size, facecolor="none", edgecolor="0.2", linewidth=1.0)

    def _draw_graticule(self, axes: Axes, labels: bool) -> None:
        """Draw parallels and meridians, and label them where they meet left and bottom edge."""
        left, right, bottom, top = self.extent
        longitudes, latitudes = self.directions()
        offsets = wrap(longitudes - self.longitude)
        eastward = self.longitude + np.linspace(offsets.min() - 1, offsets.max() + 1, 2001)
        upward = np.clip(np.linspace(latitudes.min() - 1, latitudes.max() + 1, 2001), -90, 90)
        for latitude in round_values(latitudes, round_step(np.ptp(latitudes) / 5)):
            x, y = self.forward(eastward, np.full(eastward.size, latitude))
            axes.plot(x, y, **LINE)
            height = crossing(x, y, left, bottom, top)
            if labels and height is not None:
                place = (left - 0.015 * (right - left), height)
                axes.text(*place, degrees(latitude), ha="right", va="center", **LABEL)
        for longitude in round_values(self.longitude + offsets, round_step(np.ptp(offsets) / 5)):
            x, y = self.forward(np.full(upward.size, longitude), upward)
            axes.plot(x, y, **LINE)
            side = crossing(y, x, bottom, left, right)
            if labels and side is not None:
                place = (side, bottom - 0.015 * (top - bottom))
                axes.text(*place, degrees(longitude % 360), ha="center", va="top", **LABEL)

    def _draw_polar_graticule(self, axes: Axes, labels: bool) -> None:
        """Draw circles, labelled on the middle meridian, and meridians, labelled at any edge."""
        left, right, bottom, top = self.extent
        _, latitudes = self.directions()
        around = np.linspace(0, 360, 2001)
        for latitude in round_values(latitudes, round_step(np.ptp(latitudes) / 5)):
            axes.plot(*self.forward(around, np.full(around.size, latitude)), **LINE)
            x, y = self.forward(self.longitude, latitude)
            # Where the middle meridian meets the edge stands its own label.
            if labels and abs(latitude) < 90 and bottom < y < top - 0.08 * (top - bottom):
                style = {"ha": "center", "va": "center", "path_effects": [HALO], **LABEL}
                axes.text(x, y, degrees(latitude), **style)
        outward = np.linspace(90, -89, 2001) * (1 if self.latitude > 0 else -1)
        gap = 0.015 * (right - left)
        written: list[tuple[float, float]] = []
        # Where labels would overlap, near a pole close to the edge, the quarters have theirs.
        for longitude in sorted(range(0, 360, 30), key=lambda longitude: longitude % 90):
            x, y = self.forward(np.full(outward.size, longitude), outward)
            axes.plot(x, y, **LINE)
            end = leaving(x, y, self.extent)
            if not labels or end is None:
                continue
            x, y, side = end
            if any(np.hypot(x - other[0], y - other[1]) < 8 * gap for other in written):
                continue
            written.append((x, y))
            right_by, up_by, style = _BESIDE[side]
            axes.text(x + right_by * gap, y + up_by * gap, degrees(longitude), **style, **LABEL)

    def _holds_pole(self) -> bool:
        """Return whether the pole on the side of the centre lies in the image."""
        left, right, bottom, top = self.extent
        x, y = self.forward(0.0, 90.0 if self.latitude > 0 else -90.0)
        return bool(left < x < right and bottom < y < top)

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


Projection = Mollweide | Gnomonic


def zoom_on(center: tuple[float, float], radius: float) -> Gnomonic:
    """Return the square patch around a direction.

    Parameters
    ----------
    center : tuple of float
        Galactic longitude and latitude [deg].
    radius : float
        From the centre to the middle of each side [deg].

    Returns
    -------
    Gnomonic
        The projection.

    Raises
    ------
    ConfigurationError
        If the centre is no direction, or the radius not between 0 and `LARGEST_RADIUS`.

    Examples
    --------
    >>> zoom_on((353.0, 17.0), radius=10.0).longitude  # rho Ophiuchi
    353.0
    """
    given = np.asarray(center, dtype=float)
    if given.shape != (2,) or not np.isfinite(given).all() or abs(given[1]) > 90:
        raise ConfigurationError(
            f"center is {center}; allowed is a Galactic longitude and a latitude between -90 and "
            "90 [deg]"
        )
    if not 0 < radius <= LARGEST_RADIUS:
        raise ConfigurationError(
            f"radius is {radius}; allowed is more than 0 and up to {LARGEST_RADIUS:g} [deg]; the "
            "whole sky is drawn without center and radius"
        )
    half = float(np.degrees(np.tan(np.radians(radius))))
    longitude, latitude = given.tolist()
    return Gnomonic(longitude % 360, latitude, (-half, half, -half, half))


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
    Mollweide or Gnomonic
        A patch if they cover less than `PATCH_COVERAGE` of the sky and lie within `PATCH_RADIUS`
        of their centre.

    Examples
    --------
    >>> choose_projection(np.arange(192), superpixel_nside=4)
    Mollweide(extent=(-2.0, 2.0, -1.0, 1.0))
    >>> round(choose_projection(np.array([5908]), superpixel_nside=32).longitude, 4)  # Cepheus
    98.4375
    """
    superpixel = np.asarray(superpixel)
    if superpixel.size >= PATCH_COVERAGE * healpy.nside2npix(superpixel_nside):
        return Mollweide()
    centre = np.mean(healpy.pix2vec(superpixel_nside, superpixel, nest=True), axis=1)
    corners = healpy.boundaries(superpixel_nside, superpixel, step=4, nest=True)
    corners = np.moveaxis(corners, 1, -1).reshape(-1, 3)
    if (corners @ centre).min() <= np.cos(np.radians(PATCH_RADIUS)) * np.linalg.norm(centre):
        return Mollweide()
    longitude, latitude = (float(angle[0]) for angle in healpy.vec2ang(centre, lonlat=True))
    patch = Gnomonic(longitude, latitude, (-1.0, 1.0, -1.0, 1.0))
    x, y = patch.forward(*healpy.vec2ang(corners, lonlat=True))
    margin = 0.06 * max(np.ptp(x), np.ptp(y))
    extent = (x.min() - margin, x.max() + margin, y.min() - margin, y.max() + margin)
    return Gnomonic(longitude, latitude, tuple(float(edge) for edge in extent))


@dataclass(frozen=True, eq=False)
class SkyImage:
    """Turns values on the pixels of superpixels into images.

    Parameters
    ----------
    projection : Mollweide or Gnomonic
        The projection of the images.
    superpixel : (superpixel,) array of int
        NESTED indices of the superpixels that have values.
    superpixel_nside : int
        Their Nside.
    """

    projection: Projection
    superpixel: np.ndarray
    superpixel_nside: int
    _places: dict[int, tuple[np.ndarray, np.ndarray]] = field(
        init=False, repr=False, default_factory=dict
    )

    @cached_property
    def on_sky(self) -> np.ndarray:
        """Where the image shows the sky, (y, x) array of bool."""
        return np.isfinite(self._directions[0])

    def place(self, pixels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which superpixel, and which of its pixels, each image point shows.

        Parameters
        ----------
        pixels : int
            Number of pixels of each superpixel.

        Returns
        -------
        row, pixel : (y, x) array of int
            Position among the superpixels, -1 where there is none; NESTED position in it.
        """
        if pixels not in self._places:
            nside = self.superpixel_nside * round(pixels**0.5)
            longitude, latitude = self._directions
            pixel = np.full(longitude.shape, -1)
            there = longitude[self.on_sky], latitude[self.on_sky]
            pixel[self.on_sky] = healpy.ang2pix(nside, *there, nest=True, lonlat=True)
            # The last is the place of what lies beside the sky.
            rows = np.full(healpy.nside2npix(self.superpixel_nside) + 1, -1)
            rows[self.superpixel] = np.arange(len(self.superpixel))
            superpixel = np.where(pixel >= 0, pixel // pixels, -1)
            self._places[pixels] = rows[superpixel], pixel % pixels
        return self._places[pixels]

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
        values = np.asarray(values, dtype=float).reshape(len(self.superpixel), -1, 1)
        return self.collect([(slice(0, len(values)), values)])[0]

    def collect(self, blocks: Iterable[tuple[slice, np.ndarray]]) -> np.ndarray:
        """Return the images of maps that come in blocks, so that they need not fit into memory.

        Parameters
        ----------
        blocks : iterable of (slice, array)
            Positions of superpixels, and the values (superpixel, pixel, map) there.

        Returns
        -------
        (map, y, x) array
            The values at each point of the images, as `sample` returns them.
        """
        images = np.empty((0, *self.on_sky.shape))
        for part, values in blocks:
            if not len(images):
                images = np.full((values.shape[2], *self.on_sky.shape), np.nan)
            row, pixel = self.place(values.shape[1])
            here = (row >= part.start) & (row < part.stop)
            images[:, here] = values[row[here] - part.start, pixel[here]].T
        return images

    @cached_property
    def _directions(self) -> tuple[np.ndarray, np.ndarray]:
        return self.projection.directions()

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


def frame(axes: Axes, projection: Projection, *, labels: bool = True) -> None:
    """Draw a projection's frame, and clip the images of the axes to it."""
    outline = projection.decorate(axes, labels=labels)
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
