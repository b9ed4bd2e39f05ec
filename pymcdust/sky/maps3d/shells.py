"""Any array of (pixel, distance), when it is said what it holds."""

from collections.abc import Iterator
from typing import Any

import healpy
import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError, unknown
from pymcdust.sky.edges import distance as distance_of_modulus
from pymcdust.sky.maps3d.interface import (
    BLOCK_BYTES,
    ReddeningMap,
    Rows,
    check_on_grid,
)
from pymcdust.sky.validation import REDDENING_UNITS, UNSEEN_BELOW, check_nside

#: What the values may be.
QUANTITIES: dict[str, str] = {
    "cumulative": "reddening from the observer to each distance",
    "differential": "reddening between the distance before, or the observer, and each distance",
    "density_per_kpc": "mean reddening per kpc between the same",
    "density_per_pc": "mean reddening per pc between the same",
}

#: What the distances may be in, and how to bring them to kpc.
DISTANCE_UNITS = {
    "kpc": lambda distance: distance,
    "pc": lambda distance: distance / 1e3,
    "modulus": distance_of_modulus,
}


class Shells(ReddeningMap):
    """A map on shells of distance, of any origin: an array of (pixel, distance).

    Between distances the dust is spread evenly: cumulative reddening is linear in distance, and
    zero at the observer. An edge beyond the last distance is refused. Missing values (NaN,
    HEALPix's -1.6375e30) flag a pixel as not finite where an edge needs them.

    Parameters
    ----------
    values : (pixel, distance) or (pixel, sample, distance) array
        Anything with a shape that can be sliced: NumPy, Zarr, HDF5. It is read in blocks of
        pixels.
    distance : (distance,) array
        Increasing and positive, the far side of each shell.
    distance_unit : str
        A key of `DISTANCE_UNITS`.
    quantity : str
        A key of `QUANTITIES`.
    unit : str
        A key of `REDDENING_UNITS`.
    nside : int
        Resolution of the pixels.
    ordering : {"nested", "ring"}
        Order of the pixels.
    frame : {"galactic"}
        Their frame.
    pixel : (pixel,) array of int, optional
        Which pixels these are; by default all of the sky in order.
    flags : (pixel,) array of int, optional
        Bits of `Mask` for each; by default none.
    beam : float, optional [arcmin]
        By default the side of a pixel.

    Raises
    ------
    ConfigurationError
        If anything that is declared is unknown.
    FileFormatError
        If the shapes do not go together, the pixels are not on the HEALPix grid or are there
        twice, or, later, if the array cannot be read.

    Notes
    -----
    ``dustmaps3d`` (Wang et al. 2025) evaluates a model rather than reading shells; put it on some::

        import healpy, numpy as np
        from dustmaps3d import dustmaps3d

        nside, distance = 256, np.geomspace(0.1, 4, 30)
        l, b = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True, lonlat=True)
        shells = [dustmaps3d(l, b, np.full(l.shape, d))[0] for d in distance]
        np.savez("shells.npz", reddening=np.stack(shells, axis=1), distance=distance,
                 distance_unit="kpc", quantity="cumulative", unit="E(B-V)",
                 nside=nside, ordering="nested", frame="galactic")

    Examples
    --------
    Two shells with 0.1 and 0.3 mag; at 0.75 kpc half of the second is passed.

    >>> shells = Shells(np.tile([0.1, 0.3], (12, 1)), [0.5, 1.0], distance_unit="kpc",
    ...                 quantity="differential", unit="E(B-V)", nside=1, ordering="nested",
    ...                 frame="galactic")
    >>> next(shells.rows([0, 0.25, 0.75], nside=1)).cumulative[0]
    array([0.05, 0.25], dtype=float32)
    """

    def __init__(
        self,
        values: Any,
        distance: np.ndarray,
        *,
        distance_unit: str,
        quantity: str,
        unit: str,
        nside: int,
        ordering: str,
        frame: str,
        pixel: np.ndarray | None = None,
        flags: np.ndarray | None = None,
        beam: float | None = None,
    ) -> None:
        for kind, given, allowed in (
            ("distance unit", distance_unit, DISTANCE_UNITS),
            ("quantity", quantity, QUANTITIES),
            ("reddening unit", unit, REDDENING_UNITS),
            ("ordering", ordering, ("nested", "ring")),
            ("frame", frame, ("galactic",)),
        ):
            if not isinstance(given, str) or given not in allowed:
                raise ConfigurationError(unknown(kind, given, allowed))
        self.unit, self.nside = unit, check_nside(nside, "nside")
        self.beam = healpy.nside2resol(self.nside, arcmin=True) if beam is None else _beam(beam)
        self._values, self._quantity, self._nested = values, quantity, ordering == "nested"
        self._distances = DISTANCE_UNITS[distance_unit](_distance(distance))
        self._pixel = None if pixel is None else _whole("pixel", pixel).astype(np.int64)
        self._flags = None if flags is None else _whole("flags", flags).astype(np.uint16)
        self._check()
        self.n_samples = values.shape[1] if len(values.shape) == 3 else 0

    def check_edges(self, edges: np.ndarray) -> None:
        """Raise if the last edge lies beyond the last shell."""
        end = self._distances[-1]
        # That is the same distance where one was in pc.
        if edges[-1] > end * (1 + 1e-9):
            raise ConfigurationError(
                f"the last edge is {edges[-1]:g} kpc, and the shells end at {end:g} kpc; end "
                "before it, in every direction"
            )

    def rows(
        self,
        edges: np.ndarray,
        nside: int,
        n_samples: int = 0,
        reach: np.ndarray | None = None,
    ) -> Iterator[Rows]:
        """Give the pixels of the map; see `ReddeningMap.rows`."""
        self.check_samples(n_samples)
        self.check_edges(edges)
        needed, weights = self._weights(np.asarray(edges, dtype=float)[1:])
        stop = int(needed[-1]) + 1
        row_bytes = 4 * int(np.prod(self._values.shape[1:-1])) * (stop + 6 * weights.shape[1])
        chunk = (getattr(self._values, "chunks", None) or (1,))[0]
        step = chunk * max(1, BLOCK_BYTES // (row_bytes * chunk))
        n_pixels = self._values.shape[0]
        for start in range(0, n_pixels, step):
            rows = slice(start, min(start + step, n_pixels))
            block = self._read(rows, stop)[..., needed].astype(np.float32)
            block[~((block > UNSEEN_BELOW) & (block < np.inf))] = np.nan
            at_edges = (block @ weights).astype(np.float32)
            index = np.arange(rows.start, rows.stop) if self._pixel is None else self._pixel[rows]
            none = np.zeros(len(index), dtype=np.uint16)
            yield Rows(
                nside=self.nside,
                index=index if self._nested else healpy.ring2nest(self.nside, index),
                cumulative=np.median(at_edges, axis=1) if self.n_samples else at_edges,
                flags=none if self._flags is None else self._flags[rows],
                samples=at_edges[:, :n_samples] if n_samples else None,
            )

    def _read(self, rows: slice, stop: int) -> np.ndarray:
        try:
            return np.asarray(self._values[rows, ..., :stop])
        except Exception as error:
            # Whatever keeps the array has exceptions of its own for what is damaged.
            raise FileFormatError(
                f"the shells cannot be read from pixel {rows.start} on ({error})"
            ) from error

    def _weights(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the shells that the edges need, and the weight of each in each edge."""
        nodes = np.concatenate([[0.0], self._distances])
        weights = np.stack([np.interp(edges, nodes, hat) for hat in np.eye(len(nodes))[1:]])
        if self._quantity != "cumulative":
            weights = np.triu(np.ones((len(weights), len(weights)))) @ weights
        if self._quantity.startswith("density"):
            per = 1.0 if self._quantity == "density_per_kpc" else 1e3
            weights *= per * np.diff(nodes)[:, np.newaxis]
        needed = np.flatnonzero(weights.any(axis=1))
        return needed, weights[needed].astype(np.float32)

    def _check(self) -> None:
        shape = self._values.shape
        if np.dtype(self._values.dtype).kind not in "iuf":
            raise FileFormatError(
                f"the shells are of type {self._values.dtype}; they must be real numbers"
            )
        if len(shape) not in (2, 3) or shape[-1] != len(self._distances) or 0 in shape:
            raise FileFormatError(
                f"the shells have the shape {shape}; it must be (pixel, distance) or (pixel, "
                f"sample, distance), with {len(self._distances)} distances"
            )
        if not (np.diff(self._distances, prepend=0.0) > 0).all():
            raise FileFormatError(
                f"the distances of the shells must be positive and increase: "
                f"{self._distances.tolist()} kpc; the observer, at 0, is not one of them"
            )
        n_sky = 12 * self.nside**2
        if self._pixel is None and shape[0] != n_sky:
            raise FileFormatError(
                f"the shells have {shape[0]} pixels, and nside {self.nside} has {n_sky}; say which "
                "ones these are (`pixel`)"
            )
        for name, array in (("pixel", self._pixel), ("flags", self._flags)):
            if array is not None and array.shape != shape[:1]:
                raise FileFormatError(
                    f"{name} has the shape {array.shape}; there are {shape[0]} pixels"
                )
        if self._pixel is not None:
            nside = np.full(shape[0], self.nside)
            check_on_grid("shells", nside, self._pixel)


def _beam(beam: float) -> float:
    beam = float(beam)
    if not 0 <= beam < np.inf:
        raise ConfigurationError(f"beam is {beam!r}; it must be the FWHM [arcmin], 0 or more")
    return beam


def _distance(distance: np.ndarray) -> np.ndarray:
    array = np.asarray(distance)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise FileFormatError(
            f"the distances of the shells are {distance!r}; they must be a list of numbers, the "
            "far side of each"
        )
    return array.astype(float)


def _whole(name: str, array: np.ndarray) -> np.ndarray:
    """Refuse what is no list of whole numbers from 0 on, which a cast would hide."""
    array = np.asarray(array)
    if array.dtype.kind not in "iuf" or not (array >= 0).all() or (array % 1 != 0).any():
        raise FileFormatError(f"{name} must hold whole numbers, 0 or more")
    return array
