"""Integrals along rays through a volume of HEALPix shells, compiled for all processors.

A volume is constant in each voxel: a HEALPix pixel between two distances from the origin. Seen from
the origin a ray runs along half a great circle. At the angle psi from its point of closest approach
it has travelled the length l = closest + impact tan(psi), at the distance impact / cos(psi), so that
distances have closed forms. HEALPix draws its pixels as squares on a plane whose coordinates
are smooth between the parallels z = +-2/3 and, beyond them, between the meridians that border the
base pixels (Gorski et al. 2005, Sec. 5.3). A ray is cut where it meets those; in between its
coordinates are cubics, through which it is followed from square to square.
"""

import math

import healpy
import numpy as np
from numba import njit, prange

from pymcdust.errors import ConfigurationError

#: Largest angle [rad] that one cubic spans: coordinates are then off by less than 1e-5.
CUBIC_ANGLE = 0.125

#: A cubic spans no more than this part of the distance to a pole, where meridians converge.
CUBIC_AT_POLE = 0.5

#: Chords of a cubic, in pixels. Their sagitta is some thousandths of a pixel.
CHORD = 1.5

#: A ray that passes nearer to the origin than this, in units of the farthest edge, passes through.
_AT_ORIGIN = 1e-9


def integrate_rays(
    volume: np.ndarray, edges: np.ndarray, camera: np.ndarray, rays: np.ndarray
) -> np.ndarray:
    """Integrate a volume along rays.

    Parameters
    ----------
    volume : (voxel, pixel, channel) array of float32
        Emissivity per unit of length in each voxel, pixels of the whole sky in NESTED order.
    edges : (coarse pixel, voxel + 1) array
        Distances between which the voxels lie, increasing; in NESTED order for each pixel of the
        same or of a lower Nside, or a single row for the whole sky.
    camera : (3,) array
        Where the rays begin, in the unit of `edges`.
    rays : (ray, 3) array
        Their directions, of unit length.

    Returns
    -------
    (ray, channel) array of float32
        The integrals, from the camera to the farthest edge. Those of pixels and voxels are exact;
        where a ray goes from one pixel to the next is known to some thousandths of a pixel.

    Raises
    ------
    ConfigurationError
        If the arrays do not belong together.

    Examples
    --------
    Seen from the origin, a ray of a single shell is as long as the shell is deep:

    >>> volume = np.ones((1, 12, 1), dtype=np.float32)
    >>> edges = np.array([[10.0, 12.5]])
    >>> integrate_rays(volume, edges, np.zeros(3), np.array([[0.0, 0.0, 1.0]]))
    array([[2.5]], dtype=float32)
    """
    volume = np.ascontiguousarray(volume, dtype=np.float32)
    edges = np.ascontiguousarray(edges, dtype=np.float64)
    _check(volume, edges)
    nside = healpy.npix2nside(volume.shape[1])
    return _integrate(
        volume,
        edges,
        _spread(nside),
        np.asarray(camera, dtype=np.float64),
        np.ascontiguousarray(rays, dtype=np.float64),
    )


def _check(volume: np.ndarray, edges: np.ndarray) -> None:
    pixels = volume.shape[1]
    if not (healpy.isnpixok(pixels) and healpy.isnsideok(healpy.npix2nside(pixels), nest=True)):
        raise ConfigurationError(
            f"the volume has {pixels} pixels; allowed are 12 Nside^2, Nside being a power of two"
        )
    if edges.ndim != 2 or edges.shape[1] != len(volume) + 1 or pixels % len(edges):
        raise ConfigurationError(
            f"the edges have the shape {edges.shape}; a volume of {pixels} pixels and "
            f"{len(volume)} voxels needs {len(volume) + 1} edges, in one row or in one for each "
            "pixel of a lower Nside"
        )


def _spread(nside: int) -> np.ndarray:
    """Return the numbers below `nside` with a zero before each of their bits.

    The NESTED index within a base pixel interleaves the bits of column and row.
    """
    return healpy.xyf2pix(nside, np.arange(nside), 0, 0, nest=True).astype(np.int64)


@njit(cache=True, error_model="numpy", inline="always")
def _plane(
    x: float, y: float, z: float, dx: float, dy: float, dz: float, quarter: int, polar: int
) -> tuple[float, float, float, float]:
    """Return a direction's coordinates on HEALPix's plane, and their derivatives.

    The unit is the side of a base pixel. Of the squares with whole corners, those with both
    coordinates in the same row are the base pixels at the equator, and the others the polar ones.
    """
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
        return (
            0.5 + quarter + part + 0.75 * z,
            0.5 + quarter + part - 0.75 * z,
            d_part + 0.75 * dz,
            d_part - 0.75 * dz,
        )
    # From the distance to the axis: near the poles 1 - |z| would cancel.
    radius = math.sqrt(3 * across2 / (1 + abs(z)))
    d_radius = -1.5 * polar * dz / radius
    near, d_near = part * radius, d_part * radius + part * d_radius
    far, d_far = radius - near, d_radius - d_near
    if polar > 0:
        return quarter + 2 - far, quarter + near, -d_far, d_near
    return quarter + near, quarter + 2 - far, d_near, -d_far


@njit(cache=True, error_model="numpy", inline="always")
def _quarter(x: float, y: float) -> int:
    """Return the quarter of the longitudes that a direction is in."""
    if y >= 0:
        return 0 if x > 0 else 1
    return 2 if x < 0 else 3


@njit(cache=True, error_model="numpy", inline="always")
def _pixel(rising: int, falling: int, nside: int, order: int, spread: np.ndarray) -> int:
    """Return the NESTED index of the pixel whose lower corner on the plane is given."""
    base_rising, base_falling = rising >> order, falling >> order
    if base_rising == base_falling:
        face = (base_falling & 3) | 4
    elif base_falling < base_rising:
        face = base_falling & 3
    else:
        face = (base_rising & 3) + 8
    column = rising & (nside - 1)
    row = nside - 1 - (falling & (nside - 1))
    return (face << (2 * order)) | spread[column] | (spread[row] << 1)


@njit(cache=True, error_model="numpy", inline="always")
def _within(rising: float, falling: float, nside: int, quarter: int, polar: int) -> tuple[int, int]:
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
def _locate(edges: np.ndarray, row: int, voxel: int, radius2: float) -> int:
    """Return the voxel at a distance, -1 before the first, looking from a voxel nearby."""
    n_voxel = edges.shape[1] - 1
    while voxel < n_voxel and edges[row, voxel + 1] ** 2 <= radius2:
        voxel += 1
    while voxel >= 0 and edges[row, voxel] ** 2 > radius2:
        voxel -= 1
    return voxel


@njit(cache=True, error_model="numpy", inline="always")
def _next_edge(
    edges: np.ndarray, row: int, voxel: int, inward: bool, closest: float, impact2: float
) -> tuple[float, int]:
    """Return the length at which a ray leaves its voxel, and the voxel after it."""
    if inward and voxel >= 0 and edges[row, voxel] ** 2 > impact2:
        return closest - math.sqrt(edges[row, voxel] ** 2 - impact2), voxel - 1
    if voxel == edges.shape[1] - 1:
        return math.inf, voxel
    return closest + math.sqrt(max(edges[row, voxel + 1] ** 2 - impact2, 0.0)), voxel + 1


@njit(cache=True, error_model="numpy", inline="always")
def _advance(
    total: np.ndarray,
    volume: np.ndarray,
    edges: np.ndarray,
    pixel: int,
    row: int,
    voxel: int,
    length: float,
    edge: float,
    after: int,
    stop: float,
    closest: float,
    impact2: float,
) -> tuple[int, float, int]:
    """Add up a ray within one pixel until a length; return the voxel there, and what is next."""
    while edge < stop:
        if 0 <= voxel < volume.shape[0]:
            for channel in range(volume.shape[2]):
                total[channel] += (edge - length) * volume[voxel, pixel, channel]
        inward = after < voxel
        length, voxel = edge, after
        edge, after = _next_edge(edges, row, voxel, inward, closest, impact2)
    if 0 <= voxel < volume.shape[0]:
        for channel in range(volume.shape[2]):
            total[channel] += (stop - length) * volume[voxel, pixel, channel]
    return voxel, edge, after


@njit(cache=True, error_model="numpy", inline="always")
def _cuts(foot: tuple[float, float, float], ray: np.ndarray) -> tuple[float, float, float, float]:
    """Return the angles where half a great circle meets z = +-2/3, x = 0 and y = 0, in order."""
    reach = math.hypot(foot[2], ray[2])
    first = second = math.inf
    if reach > 2 / 3:
        top, away = math.atan2(ray[2], foot[2]), math.acos(2 / (3 * reach))
        # Opposite points of the circle are on the opposite parallel.
        first = math.atan(math.tan(top - away))
        second = math.atan(math.tan(top + away))
    third = math.atan(-foot[0] / ray[0]) if ray[0] != 0 else math.inf
    fourth = math.atan(-foot[1] / ray[1]) if ray[1] != 0 else math.inf
    first, second = min(first, second), max(first, second)
    third, fourth = min(third, fourth), max(third, fourth)
    second, third = min(second, third), max(second, third)
    first, second = min(first, second), max(first, second)
    third, fourth = min(third, fourth), max(third, fourth)
    second, third = min(second, third), max(second, third)
    return first, second, third, fourth


@njit(cache=True, error_model="numpy")
def _trace(
    total: np.ndarray,
    volume: np.ndarray,
    edges: np.ndarray,
    spread: np.ndarray,
    camera: np.ndarray,
    ray: np.ndarray,
    farthest: float,
) -> None:
    """Add up the volume along one ray."""
    nside = len(spread)
    order = 0
    while 1 << order < nside:
        order += 1
    # NESTED: the pixels of one row of edges share all bits but the last. A single row has them all.
    shift = 62
    if edges.shape[0] > 1:
        shift = 0
        while edges.shape[0] << shift < volume.shape[1]:
            shift += 2
    closest = -(camera[0] * ray[0] + camera[1] * ray[1] + camera[2] * ray[2])
    foot0 = camera[0] + closest * ray[0]
    foot1 = camera[1] + closest * ray[1]
    foot2 = camera[2] + closest * ray[2]
    impact2 = foot0 * foot0 + foot1 * foot1 + foot2 * foot2
    impact = math.sqrt(impact2)
    if impact >= farthest:
        return
    half = math.sqrt(farthest * farthest - impact2)
    last = closest + half
    length = max(0.0, closest - half)
    if last <= length:
        return
    voxel = 0
    if impact < _AT_ORIGIN * farthest:
        # A ray through the origin sees one direction before it, and the opposite one after it.
        for side in (-1.0, 1.0):
            stop = closest if side < 0 else last
            if stop > length:
                x, y, z = side * ray[0], side * ray[1], side * ray[2]
                quarter = _quarter(x, y)
                polar = 0 if abs(z) <= 2 / 3 else (1 if z > 0 else -1)
                rising, falling, _, _ = _plane(x, y, z, 0.0, 0.0, 0.0, quarter, polar)
                i, j = _within(rising, falling, nside, quarter, polar)
                pixel = _pixel(i, j, nside, order, spread)
                row = pixel >> shift
                voxel = _locate(edges, row, voxel, (length - closest) ** 2)
                edge, after = _next_edge(edges, row, voxel, side < 0, closest, 0.0)
                voxel, edge, after = _advance(
                    total, volume, edges, pixel, row, voxel, length, edge, after, stop, closest, 0.0
                )
                length = stop
        return
    foot = (foot0 / impact, foot1 / impact, foot2 / impact)
    cuts = _cuts(foot, ray)
    psi = math.atan2(length - closest, impact)
    end = math.atan2(last - closest, impact)
    pixel = row = -1
    edge, after = math.inf, 0
    for piece in range(5):
        stop_psi = min(cuts[piece], end) if piece < 4 else end
        if stop_psi <= psi:
            continue
        cosine, sine = math.cos(0.5 * (psi + stop_psi)), math.sin(0.5 * (psi + stop_psi))
        quarter = _quarter(cosine * foot[0] + sine * ray[0], cosine * foot[1] + sine * ray[1])
        height = cosine * foot[2] + sine * ray[2]
        polar = 0 if abs(height) <= 2 / 3 else (1 if height > 0 else -1)
        cosine, sine = math.cos(psi), math.sin(psi)
        x, dx = cosine * foot[0] + sine * ray[0], cosine * ray[0] - sine * foot[0]
        y, dy = cosine * foot[1] + sine * ray[1], cosine * ray[1] - sine * foot[1]
        z, dz = cosine * foot[2] + sine * ray[2], cosine * ray[2] - sine * foot[2]
        u0, v0, du0, dv0 = _plane(x, y, z, dx, dy, dz, quarter, polar)
        i, j = _within(u0, v0, nside, quarter, polar)
        begun = False
        while psi < stop_psi:
            span = CUBIC_ANGLE
            if polar != 0:
                span = min(span, max(CUBIC_AT_POLE * math.hypot(x, y), 0.25 / nside))
            span = (stop_psi - psi) / math.ceil((stop_psi - psi) / span)
            tangent = sine / cosine
            next_psi = psi + span
            if next_psi > stop_psi - 1e-12:
                next_psi = stop_psi
            if not begun:
                # Pixels are looked up anew where a piece begins, which may be on a border.
                new = _pixel(i, j, nside, order, spread)
                if pixel >= 0:
                    stop = closest + impact * tangent
                    voxel, edge, after = _advance(
                        total,
                        volume,
                        edges,
                        pixel,
                        row,
                        voxel,
                        length,
                        edge,
                        after,
                        stop,
                        closest,
                        impact2,
                    )
                    length = stop
                pixel = new
                if row != pixel >> shift:
                    row = pixel >> shift
                    voxel = _locate(edges, row, voxel, impact2 + (length - closest) ** 2)
                    edge, after = _next_edge(edges, row, voxel, length < closest, closest, impact2)
                begun = True
            cosine, sine = math.cos(next_psi), math.sin(next_psi)
            x, dx = cosine * foot[0] + sine * ray[0], cosine * ray[0] - sine * foot[0]
            y, dy = cosine * foot[1] + sine * ray[1], cosine * ray[1] - sine * foot[1]
            z, dz = cosine * foot[2] + sine * ray[2], cosine * ray[2] - sine * foot[2]
            u1, v1, du1, dv1 = _plane(x, y, z, dx, dy, dz, quarter, polar)
            n_chord = math.ceil(span * nside / CHORD)
            chord = span / n_chord
            turn = chord + chord**3 / 3
            # Coefficients of the cubics with these values and derivatives at both ends.
            cu2 = 3 * (u1 - u0) - span * (2 * du0 + du1)
            cu3 = span * (du0 + du1) - 2 * (u1 - u0)
            cv2 = 3 * (v1 - v0) - span * (2 * dv0 + dv1)
            cv3 = span * (dv0 + dv1) - 2 * (v1 - v0)
            here_u, here_v = u0 * nside, v0 * nside
            for k in range(1, n_chord + 1):
                t = k / n_chord
                u = u0 + t * (span * du0 + t * (cu2 + t * cu3))
                v = v0 + t * (span * dv0 + t * (cv2 + t * cv3))
                to_i, to_j = _within(u, v, nside, quarter, polar)
                there_u, there_v = u * nside, v * nside
                left = abs(to_i - i) + abs(to_j - j)
                if left:
                    step_i = 1 if to_i > i else -1
                    step_j = 1 if to_j > j else -1
                    per_u, per_v = 1 / (there_u - here_u), 1 / (there_v - here_v)
                    when_u = (i + (step_i > 0) - here_u) * per_u if to_i != i else math.inf
                    when_v = (j + (step_j > 0) - here_v) * per_v if to_j != j else math.inf
                    per_u, per_v = abs(per_u), abs(per_v)
                    while left:
                        if when_u < when_v:
                            when = when_u
                            i += step_i
                            when_u = when_u + per_u if to_i != i else math.inf
                        else:
                            when = when_v
                            j += step_j
                            when_v = when_v + per_v if to_j != j else math.inf
                        left -= 1
                        angle = min(max(when, 0.0), 1.0) * chord
                        more = angle + angle**3 / 3
                        stop = closest + impact * (tangent + more) / (1 - tangent * more)
                        voxel, edge, after = _advance(
                            total,
                            volume,
                            edges,
                            pixel,
                            row,
                            voxel,
                            length,
                            edge,
                            after,
                            stop,
                            closest,
                            impact2,
                        )
                        length = stop
                        pixel = _pixel(i, j, nside, order, spread)
                        if row != pixel >> shift:
                            row = pixel >> shift
                            voxel = _locate(edges, row, voxel, impact2 + (length - closest) ** 2)
                            edge, after = _next_edge(
                                edges, row, voxel, length < closest, closest, impact2
                            )
                here_u, here_v = there_u, there_v
                tangent = (tangent + turn) / (1 - tangent * turn)
            u0, v0, du0, dv0 = u1, v1, du1, dv1
            psi = next_psi
    _advance(total, volume, edges, pixel, row, voxel, length, edge, after, last, closest, impact2)


@njit(cache=True, error_model="numpy", parallel=True)
def _integrate(
    volume: np.ndarray, edges: np.ndarray, spread: np.ndarray, camera: np.ndarray, rays: np.ndarray
) -> np.ndarray:
    farthest = edges[:, -1].max()
    out = np.zeros((rays.shape[0], volume.shape[2]), dtype=np.float32)
    for i in prange(rays.shape[0]):
        total = np.zeros(volume.shape[2])
        _trace(total, volume, edges, spread, camera, rays[i], farthest)
        for channel in range(volume.shape[2]):
            out[i, channel] = total[channel]
    return out
