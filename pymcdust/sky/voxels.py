"""Which voxels each superpixel has: as given, of a direction, one at high latitude, or merged.

All superpixels cut the sightline at edges out of one list, so that maps are made once for each
interval between these; a voxel of a superpixel is one such interval, or several together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple

import healpy
import numpy as np

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.sky.edges import edges_from_slices
from pymcdust.sky.quality import condition_number, singular_values

#: Depth of the voxels without dust that fill the dimension where a superpixel has fewer [kpc].
PADDING = 1e-3

# Edges that differ by less are one [relative].
_SAME_EDGE = 1e-9


class CutReason(IntFlag):
    """Why a superpixel has the voxels that it has."""

    AS_GIVEN = 1  #: the edges of the whole sky
    DIRECTION = 2  #: edges of its own direction
    HIGH_LATITUDE = 4  #: one voxel, far from the Galactic plane
    LITTLE_DUST = 8  #: one voxel, the column being thin
    MERGED_THIN = 16  #: a voxel with too little dust was joined to its neighbour
    MERGED_ILL_CONDITIONED = 32  #: voxels whose patterns are alike were joined


@dataclass(frozen=True)
class Direction:
    """A part of the sky with edges of its own.

    `center` is (l, b) [deg], `radius` [deg], `edges` (voxel_edge,) [kpc]. It holds the superpixels
    whose centre lies within the radius, and the one in which `center` lies.
    """

    name: str
    center: tuple[float, float]
    radius: float
    edges: np.ndarray

    def holds(self, superpixel_nside: int) -> np.ndarray:
        """Tell which superpixels belong to it, (12 superpixel_nside^2,) array of bool."""
        here = np.zeros(12 * superpixel_nside**2, dtype=bool)
        vector = healpy.ang2vec(*self.center, lonlat=True)
        here[healpy.query_disc(superpixel_nside, vector, np.deg2rad(self.radius), nest=True)] = True
        here[healpy.ang2pix(superpixel_nside, *self.center, nest=True, lonlat=True)] = True
        return here


#: Directions with names: the sightlines of Cepheus, between whose two clouds, at 0.38 and 1.1 kpc,
#: the near edge lies (Zelko et al. 2022, Sec. 4.3).
DIRECTIONS: dict[str, Direction] = {
    "cepheus": Direction("cepheus", (98.4375, 8.3855), 3.0, edges_from_slices((45, 72, 26))),
}


class Voxels(NamedTuple):
    """The voxels of one superpixel: positions of its edges in `VoxelRules.edges`, and why."""

    edges: np.ndarray
    reason: CutReason


@dataclass(frozen=True)
class VoxelRules:
    """How the sightlines of all superpixels are cut.

    Parameters
    ----------
    given : (voxel_edge,) array [kpc]
        Edges where no other rule holds.
    directions : sequence of Direction
        Parts of the sky with edges of their own; the first that holds a superpixel counts.
    one_voxel_above : float, optional [deg]
        Superpixels whose centre is at a larger latitude, north or south, have one voxel.
    one_voxel_below : float, optional [mag, unit of the reddening]
        Superpixels whose median column is smaller have one voxel.
    min_reddening : float, optional [mag, unit of the reddening]
        A voxel whose median is smaller is joined to that of its neighbours which has less dust.
    max_condition : float, optional
        While the condition number of a superpixel's design is larger, those neighbours are joined
        whose joining lowers it most.

    Notes
    -----
    Merging leaves the superpixels of a direction as they are: these edges were chosen.
    """

    given: np.ndarray
    directions: Sequence[Direction] = ()
    one_voxel_above: float | None = None
    one_voxel_below: float | None = None
    min_reddening: float | None = None
    max_condition: float | None = None

    @property
    def edges(self) -> np.ndarray:
        """All edges of all superpixels, (edge,) [kpc], increasing; the first is 0."""
        every = np.sort(np.concatenate([self.given, *(d.edges for d in self.directions)]))
        return every[np.r_[True, np.diff(every) > _SAME_EDGE * every[1:]]]

    def reach(self, superpixel_nside: int) -> np.ndarray:
        """Return the nearest and the farthest edge of every superpixel, besides the observer.

        Parameters
        ----------
        superpixel_nside : int
            HEALPix resolution.

        Returns
        -------
        (12 superpixel_nside^2, 2) array [kpc]
        """
        reach = np.tile(self.given[[1, -1]], (12 * superpixel_nside**2, 1))
        for direction in reversed(self.directions):
            reach[direction.holds(superpixel_nside)] = direction.edges[[1, -1]]
        return reach

    def choose(
        self,
        superpixel: np.ndarray,
        superpixel_nside: int,
        reddening: np.ndarray,
        valid: np.ndarray,
    ) -> list[Voxels]:
        """Choose the voxels of superpixels.

        Parameters
        ----------
        superpixel : (superpixel,) array
            NESTED indices.
        superpixel_nside : int
            HEALPix resolution.
        reddening : (superpixel, pixel, interval) array [mag]
            Differential reddening between neighbouring `edges`.
        valid : (superpixel, pixel) array of bool
            Which pixels count.

        Returns
        -------
        list of Voxels
        """
        latitude = healpy.pix2ang(superpixel_nside, superpixel, nest=True, lonlat=True)[1]
        held = [(d, d.holds(superpixel_nside)[superpixel]) for d in self.directions]
        chosen = []
        for i in range(len(superpixel)):
            direction = next((d for d, here in held if here[i]), None)
            chosen.append(self._of(reddening[i, valid[i]], latitude[i], direction))
        return chosen

    def _of(self, reddening: np.ndarray, latitude: float, direction: Direction | None) -> Voxels:
        if direction is not None:
            return Voxels(self._positions(direction.edges), CutReason.DIRECTION)
        edges = self._positions(self.given)
        whole = edges[[0, -1]]
        if self.one_voxel_above is not None and abs(latitude) > self.one_voxel_above:
            return Voxels(whole, CutReason.HIGH_LATITUDE)
        if self.one_voxel_below is not None:
            column = reddening[:, : edges[-1]].sum(axis=1)
            if np.median(column) < self.one_voxel_below:
                return Voxels(whole, CutReason.LITTLE_DUST)
        return self._merge(edges, reddening)

    def _positions(self, edges: np.ndarray) -> np.ndarray:
        return np.abs(self.edges[:, np.newaxis] - edges).argmin(axis=0)

    def _merge(self, edges: np.ndarray, reddening: np.ndarray) -> Voxels:
        reason = CutReason(0)
        while self.min_reddening is not None and len(edges) > 2:
            dust = np.median(between(reddening, edges), axis=0)
            thin = int(dust.argmin())
            if dust[thin] >= self.min_reddening:
                break
            # The edge that goes lies on the side of the neighbour with less dust.
            near = dust[thin - 1] if thin > 0 else np.inf
            far = dust[thin + 1] if thin < len(dust) - 1 else np.inf
            edges = np.delete(edges, thin if near < far else thin + 1)
            reason |= CutReason.MERGED_THIN
        while self.max_condition is not None and len(edges) > 2:
            if condition(between(reddening, edges)) <= self.max_condition:
                break
            fewer = [np.delete(edges, i) for i in range(1, len(edges) - 1)]
            edges = min(fewer, key=lambda cut: condition(between(reddening, cut)))
            reason |= CutReason.MERGED_ILL_CONDITIONED
        return Voxels(edges, reason or CutReason.AS_GIVEN)


def direction(name: str) -> Direction:
    """Find a direction by its name.

    Raises
    ------
    ConfigurationError
        If the name is unknown.
    """
    if name not in DIRECTIONS:
        raise ConfigurationError(unknown("direction", name, DIRECTIONS))
    return DIRECTIONS[name]


def between(reddening: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Sum the reddening of intervals into that of voxels.

    Parameters
    ----------
    reddening : (..., interval) array
        Differential reddening.
    edges : (voxel_edge,) array
        Position of each voxel edge among those of the intervals.

    Returns
    -------
    (..., voxel) array
        In the unit of `reddening`.

    Examples
    --------
    >>> between(np.array([1, 2, 3, 4]), np.array([0, 2, 3]))
    array([3, 3])
    """
    return np.add.reduceat(reddening[..., : edges[-1]], edges[:-1], axis=-1)


def condition(reddening: np.ndarray) -> float:
    """Compute the condition number of a superpixel's design, its columns scaled to unit norm.

    Parameters
    ----------
    reddening : (pixel, voxel) array
        Of the valid pixels.

    Returns
    -------
    float
        Largest over least singular value; infinite for a voxel without dust.

    Examples
    --------
    >>> condition(np.eye(3))
    1.0
    """
    every = np.ones((1, len(reddening)), dtype=bool)
    return float(condition_number(singular_values(reddening[np.newaxis], every))[0])


def padded(edges: np.ndarray, n_voxel: int) -> np.ndarray:
    """Append edges of voxels without dust, `PADDING` deep, until there are `n_voxel` voxels.

    Examples
    --------
    >>> padded(np.array([0.0, 0.8, 3.7]), 4)
    array([0.   , 0.8  , 3.7  , 3.701, 3.702])
    """
    missing = n_voxel + 1 - len(edges)
    return np.concatenate([edges, edges[-1] + PADDING * np.arange(1, missing + 1)])
