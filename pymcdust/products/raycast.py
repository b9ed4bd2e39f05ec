"""Integrals along rays through a volume of HEALPix shells, compiled for all processors.

A volume is constant in each voxel: a HEALPix pixel between two distances from the origin. Seen
from the origin a ray runs along half a great circle. At the angle psi from its point of closest
approach it has travelled the length l = closest + impact tan(psi), and is at the distance
impact / cos(psi), so that distances have closed forms. HEALPix draws its pixels as squares on a
plane whose coordinates are smooth between the parallels z = +-2/3 and, beyond them, between the
meridians that border the base pixels (Gorski et al. 2005, Sec. 5.3). A ray is cut where it meets
those; in between its coordinates are cubics, along which it is followed from square to square.
"""

import math

import healpy
import numpy as np
from numba import njit, prange

from pymcdust.errors import ConfigurationError

#: Channels of a volume. Their number is fixed, for their sums stay in registers.
CHANNELS = 4

#: Largest angle [rad] that one cubic spans. Coordinates are then off by some 1e-6.
CUBIC_ANGLE = 0.125

#: A cubic spans no more than this part of the distance to a pole, where meridians converge.
CUBIC_AT_POLE = 0.25

#: Largest distance of a cubic from its chords, in sides of a pixel. Crossings are corrected for it,
#: which leaves some 1e-5; what only touches a border is not seen to cross it.
SAGITTA = 0.005

#: Largest angle [rad] of a chord, for which tan is a series of two terms to 1e-9.
CHORD_ANGLE = 0.03

#: A ray that passes nearer to the origin than this, in units of the farthest edge, passes through.
_AT_ORIGIN = 1e-9

#: What a ray has come to: the sums over it, how long it is, its pixel and voxel, the row of the
#: edges, the length at which it leaves the voxel, and the voxel after that.
_State = tuple[tuple[float, float, float, float], float, int, int, int, float, int]


def integrate_rays(
    volume: np.ndarray, edges: np.ndarray, camera: np.ndarray, rays: np.ndarray
) -> np.ndarray:
    """Integrate a volume along rays.

    Parameters
    ----------
    volume : (voxel, pixel, 4) array of float32
        Emissivity per unit of length in each voxel, in four channels, for the pixels of the whole
        sky in NESTED order.
    edges : (coarse pixel, voxel + 1) array
        Distances between which the voxels lie, increasing; in NESTED order for each pixel of the
        same or of a lower Nside, or a single row for the whole sky.
    camera : (3,) array
        Where the rays begin, in the unit of `edges`.
    rays : (ray, 3) array
        Their directions, of unit length.

    Returns
    -------
    (ray, 4) array of float32
        The integrals, from the camera to the farthest edge. Lengths within pixels and voxels are
        exact; where a ray goes from one pixel to the next is known to some 1e-5 of a pixel.

    Raises
    ------
    ConfigurationError
        If the arrays do not belong together.

    Examples
    --------
    Seen from the origin, a ray of a single shell is as long as the shell is deep:

    >>> volume = np.ones((1, 12, 4), dtype=np.float32)
    >>> edges = np.array([[10.0, 12.5]])
    >>> integrate_rays(volume, edges, np.zeros(3), np.array([[0.0, 0.0, 1.0]]))
    array([[2.5, 2.5, 2.5, 2.5]], dtype=float32)
    """
    volume, edges = np.asarray(volume), np.asarray(edges, dtype=float)
    _check(volume, edges)
    # Empty voxels before the first and after the last edge spare the question where a ray is.
    surrounded = np.zeros((len(volume) + 2, *volume.shape[1:]), dtype=np.float32)
    surrounded[1:-1] = volume
    return _integrate(
        surrounded,
        np.pad(edges**2, ((0, 0), (1, 1)), constant_values=((-1, -1), (-1, np.inf))),
        _spread(healpy.npix2nside(volume.shape[1])),
        np.asarray(camera, dtype=np.float64),
        np.ascontiguousarray(rays, dtype=np.float64),
    )


def _check(volume: np.ndarray, edges: np.ndarray) -> None:
    if volume.ndim != 3 or volume.shape[2] != CHANNELS:
        raise ConfigurationError(
            f"the volume has the shape {volume.shape}; needed is (voxel, pixel, {CHANNELS})"
        )
    pixels = volume.shape[1]
    if not (healpy.isnpixok(pixels) and healpy.isnsideok(healpy.npix2nside(pixels), nest=True)):
        raise ConfigurationError(
            f"the volume has {pixels} pixels; allowed are 12 Nside^2, Nside being a power of two"
        )
    rows, columns = edges.shape if edges.ndim == 2 else (0, 0)
    coarse = rows == 1 or (healpy.isnpixok(rows) and rows <= pixels)
    if not coarse or columns != len(volume) + 1:
        raise ConfigurationError(
            f"the edges have the shape {edges.shape}; a volume of {pixels} pixels and "
            f"{len(volume)} voxels needs {len(volume) + 1} edges, in one row, or in one for each "
            "pixel of the same or of a lower Nside"
        )


def _spread(nside: int) -> np.ndarray:
    """Return the numbers below `nside` with a zero before each of their bits.

    The NESTED index within a base pixel interleaves the bits of column and row.
    """
    return healpy.xyf2pix(nside, np.arange(nside), 0, 0, nest=True).astype(np.int64)


@njit(cache=True, error_model="numpy", inline="always")
def _plane(
    place: tuple[float, float, float],
    moves: tuple[float, float, float],
    quarter: int,
    polar: int,
) -> tuple[float, float, float, float]:
    """Return a direction's coordinates on HEALPix's plane, and their derivatives.

    Coordinates rise and fall with latitude, and both grow with longitude; their unit is the side of
    a base pixel. Squares with whole corners are the base pixels: at the equator, where both lie
    between the same whole numbers, polar elsewhere.
    """
    (x, y, z), (dx, dy, dz) = place, moves
    if quarter == 1:
        x, y, dx, dy = y, -x, dy, -dx
    elif quarter == 2:
        x, y, dx, dy = -x, -y, -dx, -dy
    elif quarter == 3:
        x, y, dx, dy = -y, x, -dy, dx
    across2 = max(x * x + y * y, 1e-30)
    part = math.atan2(y, x) * (2 / math.pi)
    d_part = (x * dy - y * dx) / across2 * (2 / math.pi)
    if polar == 0:
        middle = 0.5 + quarter + part
        return middle + 0.75 * z, middle - 0.75 * z, d_part + 0.75 * dz, d_part - 0.75 * dz
    # From the distance to the axis: near the poles 1 - |z| would cancel.
    radius = math.sqrt(3 * across2 / (1 + abs(z)))
    d_radius = -1.5 * polar * dz / radius
    near, d_near = part * radius, d_part * radius + part * d_radius
    far, d_far = radius - near, d_radius - d_near
    if polar > 0:
        return quarter + 2 - far, quarter + near, -d_far, d_near
    return quarter + near, quarter + 2 - far, d_near, -d_far


@njit(cache=True, error_model="numpy", inline="always")
def _region(place: tuple[float, float, float]) -> tuple[int, int]:
    """Return the quarter of the longitudes, and whether a direction is polar, north or south."""
    x, y, z = place
    quarter = (0 if x > 0 else 1) if y >= 0 else (2 if x < 0 else 3)
    return quarter, 0 if abs(z) <= 2 / 3 else (1 if z > 0 else -1)


@njit(cache=True, error_model="numpy", inline="always")
def _square(rising: float, falling: float, nside: int, quarter: int, polar: int) -> tuple[int, int]:
    """Return the lower corner of the pixel at a point of the plane, inside of its base pixel."""
    i, j = math.floor(rising * nside), math.floor(falling * nside)
    if polar != 0:
        # On the meridian between two polar base pixels rounding must not lead out of them.
        low_i = (quarter + 1 if polar > 0 else quarter) * nside
        low_j = (quarter if polar > 0 else quarter + 1) * nside
        i = min(max(i, low_i), low_i + nside - 1)
        j = min(max(j, low_j), low_j + nside - 1)
    return i, j


@njit(cache=True, error_model="numpy", inline="always")
def _pixel(i: int, j: int, order: int, spread: np.ndarray) -> int:
    """Return the NESTED index of the pixel whose lower corner on the plane is given."""
    rising, falling = i >> order, j >> order
    face = (min(rising, falling) & 3) + 4 * (1 + (falling > rising) - (falling < rising))
    last = (1 << order) - 1
    return (face << (2 * order)) | spread[i & last] | (spread[last - (j & last)] << 1)


@njit(cache=True, error_model="numpy", inline="always")
def _next_edge(
    edges2: np.ndarray, row: int, voxel: int, inward: bool, closest: float, impact2: float
) -> tuple[float, int]:
    """Return the length at which a ray leaves its voxel, and the voxel after it."""
    if inward and edges2[row, voxel] > impact2:
        return closest - math.sqrt(edges2[row, voxel] - impact2), voxel - 1
    return closest + math.sqrt(max(edges2[row, voxel + 1] - impact2, 0.0)), voxel + 1


@njit(cache=True, error_model="numpy", inline="always")
def _add(
    total: tuple[float, float, float, float],
    length: float,
    volume: np.ndarray,
    voxel: int,
    pixel: int,
) -> tuple[float, float, float, float]:
    return (
        total[0] + length * volume[voxel, pixel, 0],
        total[1] + length * volume[voxel, pixel, 1],
        total[2] + length * volume[voxel, pixel, 2],
        total[3] + length * volume[voxel, pixel, 3],
    )


@njit(cache=True, error_model="numpy", inline="always")
def _go(
    state: _State,
    stop: float,
    volume: np.ndarray,
    edges2: np.ndarray,
    closest: float,
    impact2: float,
) -> _State:
    """Follow a ray within its pixel until a length."""
    total, length, pixel, row, voxel, edge, after = state
    while edge < stop:
        total = _add(total, edge - length, volume, voxel, pixel)
        inward = after < voxel
        length, voxel = edge, after
        edge, after = _next_edge(edges2, row, voxel, inward, closest, impact2)
    total = _add(total, stop - length, volume, voxel, pixel)
    return total, stop, pixel, row, voxel, edge, after


@njit(cache=True, error_model="numpy", inline="always")
def _enter(
    state: _State, pixel: int, shift: int, edges2: np.ndarray, closest: float, impact2: float
) -> _State:
    """Let a ray into another pixel, which may have other edges."""
    total, length, _, row, voxel, edge, after = state
    if row != pixel >> shift:
        row = pixel >> shift
        radius2 = impact2 + (length - closest) ** 2
        while edges2[row, voxel + 1] <= radius2:
            voxel += 1
        while edges2[row, voxel] > radius2:
            voxel -= 1
        edge, after = _next_edge(edges2, row, voxel, length < closest, closest, impact2)
    return total, length, pixel, row, voxel, edge, after


@njit(cache=True, error_model="numpy", inline="always")
def _cuts(
    foot: tuple[float, float, float], ray: tuple[float, float, float]
) -> tuple[float, float, float, float]:
    """Return the angles where half a great circle meets z = +-2/3, x = 0 and y = 0, in order."""
    reach = math.hypot(foot[2], ray[2])
    a = b = math.inf
    if reach > 2 / 3:
        top, away = math.atan2(ray[2], foot[2]), math.acos(2 / (3 * reach))
        # Opposite points of the circle are on opposite parallels: one cut of each pair is here.
        a, b = math.atan(math.tan(top - away)), math.atan(math.tan(top + away))
    c = math.atan(-foot[0] / ray[0]) if ray[0] != 0 else math.inf
    d = math.atan(-foot[1] / ray[1]) if ray[1] != 0 else math.inf
    a, b, c, d = min(a, b), max(a, b), min(c, d), max(c, d)
    a, b, c, d = min(a, c), min(max(a, c), min(b, d)), max(max(a, c), min(b, d)), max(b, d)
    return a, b, c, d


@njit(cache=True, error_model="numpy", inline="always")
def _along(
    foot: tuple[float, float, float], ray: tuple[float, float, float], cosine: float, sine: float
) -> tuple[float, float, float]:
    return (
        cosine * foot[0] + sine * ray[0],
        cosine * foot[1] + sine * ray[1],
        cosine * foot[2] + sine * ray[2],
    )


@njit(cache=True, error_model="numpy")
def _trace(
    volume: np.ndarray,
    edges2: np.ndarray,
    spread: np.ndarray,
    camera: np.ndarray,
    ray: tuple[float, float, float],
) -> tuple[float, float, float, float]:
    """Add up the volume along one ray."""
    nside = len(spread)
    order = 0
    while 1 << order < nside:
        order += 1
    # NESTED: the pixels of one row of edges share all bits but the last. A single row has them all.
    shift = 62
    if edges2.shape[0] > 1:
        shift = 0
        while edges2.shape[0] << shift < volume.shape[1]:
            shift += 2
    total = (0.0, 0.0, 0.0, 0.0)
    closest = -(camera[0] * ray[0] + camera[1] * ray[1] + camera[2] * ray[2])
    foot = (
        camera[0] + closest * ray[0],
        camera[1] + closest * ray[1],
        camera[2] + closest * ray[2],
    )
    impact2 = foot[0] * foot[0] + foot[1] * foot[1] + foot[2] * foot[2]
    farthest2 = edges2[:, -2].max()
    half = math.sqrt(max(farthest2 - impact2, 0.0))
    last = closest + half
    length = max(0.0, closest - half)
    if last <= length:
        return total
    state = (total, length, 0, -1, 0, math.inf, 0)
    if impact2 < _AT_ORIGIN**2 * farthest2:
        # A ray through the origin sees one direction before it, and the opposite one after it.
        for side in (-1.0, 1.0):
            stop = closest if side < 0 else last
            if stop > length:
                place = (side * ray[0], side * ray[1], side * ray[2])
                quarter, polar = _region(place)
                u0, v0, _, _ = _plane(place, place, quarter, polar)
                i, j = _square(u0, v0, nside, quarter, polar)
                pixel = _pixel(i, j, order, spread)
                state = _enter(state, pixel, shift, edges2, closest, 0.0)
                state = _go(state, stop, volume, edges2, closest, 0.0)
                length = stop
        return state[0]
    impact = math.sqrt(impact2)
    foot = (foot[0] / impact, foot[1] / impact, foot[2] / impact)
    cuts = _cuts(foot, ray)
    tangent = (length - closest) / impact
    psi, end = math.atan(tangent), math.atan((last - closest) / impact)
    for piece in range(5):
        stop_psi = min(cuts[piece], end) if piece < 4 else end
        if stop_psi <= psi:
            continue
        middle = 0.5 * (psi + stop_psi)
        quarter, polar = _region(_along(foot, ray, math.cos(middle), math.sin(middle)))
        cosine, sine = math.cos(psi), math.sin(psi)
        place = _along(foot, ray, cosine, sine)
        u0, v0, du0, dv0 = _plane(place, _along(ray, foot, cosine, -sine), quarter, polar)
        i, j = _square(u0, v0, nside, quarter, polar)
        state = _go(state, closest + impact * tangent, volume, edges2, closest, impact2)
        state = _enter(state, _pixel(i, j, order, spread), shift, edges2, closest, impact2)
        while psi < stop_psi:
            span = CUBIC_ANGLE
            if polar != 0:
                span = min(span, max(CUBIC_AT_POLE * math.hypot(place[0], place[1]), 0.25 / nside))
            parts = math.ceil((stop_psi - psi) / span)
            span = (stop_psi - psi) / parts
            psi = psi + span if parts > 1 else stop_psi
            cosine, sine = math.cos(psi), math.sin(psi)
            place = _along(foot, ray, cosine, sine)
            u1, v1, du1, dv1 = _plane(place, _along(ray, foot, cosine, -sine), quarter, polar)
            # The cubics with these values and derivatives at both ends, from 0 to 1.
            du0, dv0 = span * du0, span * dv0
            u2, v2 = 3 * (u1 - u0) - 2 * du0 - span * du1, 3 * (v1 - v0) - 2 * dv0 - span * dv1
            u3, v3 = du0 + span * du1 - 2 * (u1 - u0), dv0 + span * dv1 - 2 * (v1 - v0)
            bend = max(abs(u2), abs(u2 + 3 * u3), abs(v2), abs(v2 + 3 * v3))
            chords = math.ceil(max(span / CHORD_ANGLE, math.sqrt(nside * bend / (4 * SAGITTA))))
            chord = span / chords
            turn = chord + chord**3 / 3
            u, v = u0, v0
            for k in range(1, chords + 1):
                t = k / chords
                next_u = u0 + t * (du0 + t * (u2 + t * u3))
                next_v = v0 + t * (dv0 + t * (v2 + t * v3))
                to_i, to_j = _square(next_u, next_v, nside, quarter, polar)
                left = abs(to_i - i) + abs(to_j - j)
                if left:
                    # When the chord crosses the next line of the grid (Amanatides & Woo 1987), and
                    # by how much sooner the parabola does.
                    step_i, step_j = 1 if to_i > i else -1, 1 if to_j > j else -1
                    per_u, per_v = 1 / (next_u - u), 1 / (next_v - v)
                    line_u = ((i + (step_i > 0)) / nside - u) * per_u
                    line_v = ((j + (step_j > 0)) / nside - v) * per_v
                    bend_u = (u2 + 3 * u3 * (t - 0.5 / chords)) / chords**2 * per_u
                    bend_v = (v2 + 3 * v3 * (t - 0.5 / chords)) / chords**2 * per_v
                    per_u, per_v = abs(per_u) / nside, abs(per_v) / nside
                    when_u = line_u + bend_u * line_u * (1 - line_u) if to_i != i else math.inf
                    when_v = line_v + bend_v * line_v * (1 - line_v) if to_j != j else math.inf
                    while left:
                        if when_u < when_v:
                            when = when_u
                            i += step_i
                            line_u += per_u
                            when_u = line_u + bend_u * line_u * (1 - line_u)
                            when_u = when_u if to_i != i else math.inf
                        else:
                            when = when_v
                            j += step_j
                            line_v += per_v
                            when_v = line_v + bend_v * line_v * (1 - line_v)
                            when_v = when_v if to_j != j else math.inf
                        left -= 1
                        angle = min(max(when, 0.0), 1.0) * chord
                        more = angle + angle**3 / 3
                        stop = closest + impact * (tangent + more) / (1 - tangent * more)
                        state = _go(state, stop, volume, edges2, closest, impact2)
                        pixel = _pixel(i, j, order, spread)
                        state = _enter(state, pixel, shift, edges2, closest, impact2)
                u, v = next_u, next_v
                tangent = (tangent + turn) / (1 - tangent * turn)
            u0, v0, du0, dv0 = u1, v1, du1, dv1
            tangent = sine / cosine
    return _go(state, last, volume, edges2, closest, impact2)[0]


@njit(cache=True, error_model="numpy", parallel=True)
def _integrate(
    volume: np.ndarray, edges2: np.ndarray, spread: np.ndarray, camera: np.ndarray, rays: np.ndarray
) -> np.ndarray:
    out = np.empty((rays.shape[0], CHANNELS), dtype=np.float32)
    for i in prange(rays.shape[0]):
        total = _trace(volume, edges2, spread, camera, (rays[i, 0], rays[i, 1], rays[i, 2]))
        for channel in range(CHANNELS):
            out[i, channel] = total[channel]
    return out
