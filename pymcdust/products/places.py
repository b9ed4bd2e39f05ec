"""Where directions and distances lie: in which superpixel, and in which voxel of its sightline."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import healpy
import numpy as np
from astropy import units as u
from astropy.coordinates import (
    BaseCoordinateFrame,
    Galactic,
    SkyCoord,
    SphericalRepresentation,
    UnitSphericalRepresentation,
)
from astropy.utils.masked import Masked

from pymcdust.errors import ConfigurationError, listing

#: Points that are looked up at once: their arrays stay in the processor's cache.
BLOCK_POINTS = 2**16

#: A distance that is beyond an edge by less is on it [relative]: conversions of units and frames
#: round, and what is on an edge in kpc is to be on it in pc.
ON_EDGE = 1e-12

#: The same for distances in single precision, which hold no edge exactly.
ON_EDGE_SINGLE = 2 * float(np.finfo(np.float32).eps)

#: Distances without unit that are off 1 by less are those of directions.
ROUNDING = 1e-6

#: Rows that a message names.
ROWS_SHOWN = 5

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


def in_unit(given: Any, unit: u.UnitBase, what: str) -> u.Quantity:
    """Return numbers in a unit.

    Parameters
    ----------
    given : array, Quantity or Column
        What has no unit of its own is in `unit`; what is masked becomes NaN. Single precision is
        kept.
    unit : Unit
        The unit to return.
    what : str
        What the numbers are, in the words of a message.

    Returns
    -------
    Quantity
        Of the shape of `given`.

    Raises
    ------
    ConfigurationError
        If `given` holds no numbers, or its unit is of another kind.
    """
    try:
        own = u.Unit(getattr(given, "unit", None) or unit)
        numbers = np.asarray(given)
        single = numbers.dtype.kind == "f" and numbers.dtype.itemsize <= 4
        numbers = numbers.astype(np.float32 if single else float, copy=False)
    except (TypeError, ValueError) as error:
        kind = getattr(given, "dtype", type(given).__name__)
        raise ConfigurationError(
            f"{what} does not hold numbers but {kind} ({error}); allowed are an array of numbers "
            "and a Quantity; sexagesimal angles can be converted with astropy.coordinates.Angle"
        ) from error
    if not own.is_equivalent(unit):
        raise ConfigurationError(
            f"{what} is {_in(own)}; allowed are a unit that converts to {unit}, and numbers "
            f"without a unit [{unit}]"
        )
    if isinstance(given, Masked | np.ma.MaskedArray):
        numbers = np.where(given.mask, np.nan, numbers)
    return u.Quantity(numbers, own, copy=False).to(unit, copy=False)


def sky_coord(longitude: Any, latitude: Any, distance: Any, frame: str) -> SkyCoord:
    """Make coordinates of numbers.

    Parameters
    ----------
    longitude, latitude : array [deg], Quantity or Column
        Directions.
    distance : array [kpc], Quantity, Column or None
        Distances. A negative one becomes NaN.
    frame : str
        A frame that astropy knows.

    Returns
    -------
    SkyCoord
        NaN where a number is masked.

    Raises
    ------
    ConfigurationError
        If a unit is of another kind, a latitude beyond the poles, or the coordinates impossible
        for another reason.
    """
    longitude = in_unit(longitude, u.deg, "the longitude")
    latitude = in_unit(latitude, u.deg, "the latitude")
    if distance is not None:
        distance = in_unit(distance, u.kpc, "the distance")
        # It is in no voxel; astropy would refuse all points for the sake of one.
        distance = np.where(distance.value < 0, np.nan, distance.value) << u.kpc
    try:
        return SkyCoord(longitude, latitude, distance=distance, frame=frame)
    except (TypeError, ValueError, u.UnitsError) as error:
        beyond = np.flatnonzero(abs(latitude.value) > 90)
        if not beyond.size:
            raise ConfigurationError(f"these are no coordinates: {error}") from error
        flat = latitude.value.ravel()
        shown = [f"{flat[row]:g} in row {row}" for row in beyond[:ROWS_SHOWN]]
        if beyond.size > ROWS_SHOWN:
            shown.append(f"{beyond.size - ROWS_SHOWN} more")
        raise ConfigurationError(
            f"the latitude is beyond ±90 degrees: {listing(shown)} (the first row is 0)"
        ) from error


def flat_coordinates(coords: SkyCoord) -> Coordinates:
    """Take coordinates of any frame and shape apart.

    Parameters
    ----------
    coords : SkyCoord
        With or without distance.

    Returns
    -------
    Coordinates
        In Galactic coordinates; NaN where they are masked.

    Raises
    ------
    ConfigurationError
        If `coords` is something else, its distances are no lengths, or its frame cannot be turned
        into the Galactic one.
    """
    if not isinstance(coords, SkyCoord):
        raise ConfigurationError(
            f"coords is of type {type(coords).__name__}; allowed is an "
            "astropy.coordinates.SkyCoord; for numbers there are query_gal and query_equ"
        )
    frame = coords.frame
    point = frame.spherical
    has_distance = _has_distance(frame)
    if coords.masked:
        parts = [_filled(part) for part in (point.lon, point.lat, point.distance)]
        point = SphericalRepresentation(*parts)
        frame = frame.realize_frame(
            point if has_distance else UnitSphericalRepresentation(*parts[:2])
        )
    kind = point.distance.dtype
    if frame.name != "galactic":
        point = _turned(frame, has_distance)
    distance = None
    if has_distance:
        # In the precision that was given, which tells how far off an edge may be.
        distance = np.ravel(point.distance.to_value(u.kpc)).astype(kind, copy=False)
    longitude, latitude = (np.ravel(angle.to_value(u.deg)) for angle in (point.lon, point.lat))
    return Coordinates(longitude, latitude, distance)


def _in(unit: u.UnitBase) -> str:
    """Say in which unit something is."""
    return f"in {unit}" if str(unit) else "a number without unit"


def _has_distance(frame: BaseCoordinateFrame) -> bool:
    """Tell whether coordinates have distances; refuse those that are no lengths."""
    if isinstance(frame.data, UnitSphericalRepresentation):
        return False
    distance = frame.spherical.distance
    if distance.unit.is_equivalent(u.kpc):
        return True
    # Directions that were joined or turned may have distances, all of them 1.
    if distance.unit.is_equivalent(u.one) and not (abs(distance - 1) > ROUNDING).any():
        return False
    raise ConfigurationError(
        f"the distance of the coordinates is {_in(distance.unit)}; allowed are a length, such as "
        "distance=0.5 * u.kpc, and no distance"
    )


def _filled(values: u.Quantity) -> u.Quantity:
    """Return values that are NaN where they are masked."""
    return values.filled(np.nan * values.unit) if isinstance(values, Masked) else values


def _turned(frame: BaseCoordinateFrame, has_distance: bool) -> SphericalRepresentation:
    """Return the points of a frame as those of the Galactic one."""
    point = frame.spherical
    lost = ~(point.distance > 0)
    if not (has_distance and lost.any()):
        return _galactic(frame)
    # Frames are turned by vectors, whose direction a distance of 0 or NaN would lose, and a
    # negative one turn round.
    near = np.where(lost, NEXT_TO_NOTHING * u.kpc, point.distance)
    turned = _galactic(frame.realize_frame(SphericalRepresentation(point.lon, point.lat, near)))
    distance = np.where(point.distance >= 0, turned.distance, np.nan * u.kpc)
    return SphericalRepresentation(turned.lon, turned.lat, distance)


def _galactic(frame: BaseCoordinateFrame) -> SphericalRepresentation:
    """Turn a frame into the Galactic one."""
    try:
        return frame.transform_to(Galactic()).spherical
    # Frames that lack something fail in many ways.
    except (AttributeError, TypeError, ValueError, u.UnitsError) as error:
        raise ConfigurationError(
            f"coordinates of the frame {frame.name!r} cannot be turned into Galactic ones "
            f"({error}); give the frame what it lacks, such as location and obstime, or the "
            "coordinates a distance"
        ) from error


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
        self._row = np.full(healpy.nside2npix(superpixel_nside), self.n_row, dtype=np.int32)
        self._row[superpixel] = np.arange(self.n_row)
        # Bisection of a power of two: what is filled in is never passed.
        self._steps = [2**k for k in reversed(range(self.n_voxel.bit_length()))]
        self._far = np.full((len(edges), 2 * self._steps[0] - 1), np.inf)
        self._far[:, : self.n_voxel] = edges[:, 1:]

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
            pixel = healpy.ang2pix(self._nside, lon, lat, nest=True, lonlat=True)
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
        on_edge = ON_EDGE_SINGLE if distance.dtype == np.float32 else ON_EDGE
        nearest = np.multiply(distance, 1 - on_edge, dtype=float)
        far, voxel = self._far.ravel(), np.zeros(distance.size, dtype=np.int32)
        for step in self._steps:
            voxel += np.int32(step) * (far.take(start + voxel + (step - 1)) < nearest)
        voxel[~(distance >= 0)] = self.n_voxel
        return voxel


def point_blocks(n_point: int) -> Iterator[slice]:
    """Cut points into blocks of `BLOCK_POINTS`."""
    for start in range(0, n_point, BLOCK_POINTS):
        yield slice(start, min(start + BLOCK_POINTS, n_point))
