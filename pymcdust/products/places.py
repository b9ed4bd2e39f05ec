"""Where directions and distances lie: in which superpixel, and in which voxel of its sightline."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import healpy as hp
import numpy as np
from astropy import units as u
from astropy.coordinates import (
    BaseCoordinateFrame,
    Galactic,
    SkyCoord,
    SphericalRepresentation,
)

from pymcdust.errors import ConfigurationError

#: Points that are looked up at once: their arrays stay in the processor's cache.
BLOCK_POINTS = 2**16

#: A distance that is beyond an edge by less is on it [relative]: conversions of units and frames
#: round, and what is on an edge in kpc is to be on it in pc.
ON_EDGE = 1e-12

#: A distance that stands for 0 where one is needed that has a direction [kpc].
NEXT_TO_NOTHING = 1e-15


class Coordinates(NamedTuple):
    """Flat arrays of Galactic longitude and latitude [deg] and, if given, distance [kpc]."""

    longitude: np.ndarray
    latitude: np.ndarray
    distance: np.ndarray | None


class Places(NamedTuple):
    """Where points lie, (point,) arrays.

    `row` is the position of the superpixel, the number of superpixels where it is none of them.
    `voxel` is the voxel, the number of voxels where the distance is in none; None without distance.
    """

    row: np.ndarray
    voxel: np.ndarray | None


def sky_coord(longitude: Any, latitude: Any, distance: Any, frame: str) -> SkyCoord:
    """Make coordinates of numbers [deg, kpc] or Quantities; a negative distance becomes NaN."""
    angles = (
        angle if isinstance(angle, u.Quantity) else np.asarray(angle) * u.deg
        for angle in (longitude, latitude)
    )
    if distance is None:
        return SkyCoord(*angles, frame=frame)
    if not isinstance(distance, u.Quantity):
        distance = np.asarray(distance, dtype=float) * u.kpc
    # It is in no voxel; astropy would refuse all points for the sake of one.
    distance = np.where(distance.value < 0, np.nan, distance.value) * distance.unit
    return SkyCoord(*angles, distance=distance, frame=frame)


def flat_coordinates(coords: SkyCoord) -> Coordinates:
    """Take coordinates of any frame and shape apart.

    Parameters
    ----------
    coords : SkyCoord
        With or without distance.

    Returns
    -------
    Coordinates
        In Galactic coordinates.

    Raises
    ------
    ConfigurationError
        If `coords` is something else.
    """
    if not isinstance(coords, SkyCoord):
        raise ConfigurationError(
            f"coords is of type {type(coords).__name__}; allowed is an "
            "astropy.coordinates.SkyCoord; for numbers there are query_gal and query_equ"
        )
    point = coords.frame.spherical
    # Coordinates without a distance have a dimensionless one, of 1.
    has_distance = point.distance.unit.is_equivalent(u.kpc)
    if coords.frame.name != "galactic":
        point = _turned(coords.frame, has_distance)
    distance = np.ravel(point.distance.to_value(u.kpc)) if has_distance else None
    longitude, latitude = (np.ravel(angle.to_value(u.deg)) for angle in (point.lon, point.lat))
    return Coordinates(longitude, latitude, distance)


def _turned(frame: BaseCoordinateFrame, has_distance: bool) -> SphericalRepresentation:
    """Return the points of a frame as those of the Galactic one."""
    point = frame.spherical
    lost = ~(point.distance > 0)
    if not (has_distance and lost.any()):
        return frame.transform_to(Galactic()).spherical
    # Frames are turned by vectors, whose direction a distance of 0 or NaN would lose, and a
    # negative one turn round.
    near = np.where(lost, NEXT_TO_NOTHING * u.kpc, point.distance)
    place = SphericalRepresentation(point.lon, point.lat, near)
    turned = frame.realize_frame(place).transform_to(Galactic()).spherical
    distance = np.where(point.distance >= 0, turned.distance, np.nan * u.kpc)
    return SphericalRepresentation(turned.lon, turned.lat, distance)


class Locator:
    """Finds superpixels and voxels of many points.

    Voxel k holds distances d with ``edge[k] < d <= edge[k + 1]``, the first one 0 as well: a
    distance on an edge belongs to the nearer voxel, so that what lies up to there is a sum of
    whole voxels.

    Parameters
    ----------
    superpixel : (superpixel,) array of int
        NESTED indices, in any order.
    superpixel_nside : int
        HEALPix resolution of the superpixels.
    edges : (1 or superpixel, voxel_edge) array [kpc]
        Distance edges, one row where they are the same everywhere; the first is 0.
    """

    def __init__(self, superpixel: np.ndarray, superpixel_nside: int, edges: np.ndarray) -> None:
        self._nside, self._alike = superpixel_nside, len(edges) == 1
        self.n_row, self.n_voxel = len(superpixel), edges.shape[1] - 1
        # A row and a column more, for what lies outside.
        self._edges = np.pad(edges, ((0, 1), (0, 1)), constant_values=np.nan)
        self._row = np.full(hp.nside2npix(superpixel_nside), self.n_row, dtype=np.int32)
        self._row[superpixel] = np.arange(self.n_row)
        # Bisection of a power of two: what is filled in is never passed.
        self._steps = [2**k for k in reversed(range(self.n_voxel.bit_length()))]
        self._far = np.full((len(edges), 2 * self._steps[0] - 1), np.inf)
        self._far[:, : self.n_voxel] = edges[:, 1:] * (1 + ON_EDGE)

    def locate(self, coordinates: Coordinates) -> Places:
        """Find points.

        Parameters
        ----------
        coordinates : Coordinates
            The points; NaN lies nowhere, nor do negative distances.

        Returns
        -------
        Places
            Where they lie.
        """
        longitude, latitude, distance = coordinates
        row = np.empty(longitude.size, dtype=np.int32)
        voxel = None if distance is None else np.empty(row.size, dtype=np.int32)
        for part in point_blocks(row.size):
            lon, lat = longitude[part], latitude[part]
            nowhere = ~np.isfinite(lon + lat)
            if nowhere.any():
                lon, lat = (np.where(nowhere, 0.0, angle) for angle in (lon, lat))
            pixel = hp.ang2pix(self._nside, lon, lat, nest=True, lonlat=True)
            row[part] = np.where(nowhere, self.n_row, self._row.take(pixel))
            if voxel is not None:
                voxel[part] = self._voxel_of(row[part], distance[part])
        return Places(row, voxel)

    def part_in_front(self, places: Places, distance: np.ndarray) -> np.ndarray:
        """Return which part of its voxel lies in front of each point, (point,) array in [0, 1].

        Where a point is in no voxel it is NaN.
        """
        row = 0 if self._alike else places.row
        near, far = self._edges[row, places.voxel], self._edges[row, places.voxel + 1]
        return np.clip((distance - near) / (far - near), 0.0, 1.0)

    def _voxel_of(self, row: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Count the far edges that lie in front of each point."""
        width = self._far.shape[1]
        # A point outside is in the voxels of any superpixel: its row tells that it is outside.
        start = 0 if self._alike else np.minimum(row, self.n_row - 1) * width
        far, voxel = self._far.ravel(), np.zeros(distance.size, dtype=np.int32)
        for step in self._steps:
            voxel += np.int32(step) * (far.take(start + voxel + (step - 1)) < distance)
        voxel[~(distance >= 0)] = self.n_voxel
        return voxel


def point_blocks(n_point: int) -> Iterator[slice]:
    """Cut points into blocks of `BLOCK_POINTS`."""
    for start in range(0, n_point, BLOCK_POINTS):
        yield slice(start, min(start + BLOCK_POINTS, n_point))
