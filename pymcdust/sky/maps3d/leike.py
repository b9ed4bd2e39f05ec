"""The map of Leike, Glatzle & Ensslin (2020): a box of voxels around the Sun."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import h5py
import healpy
import numpy as np

from pymcdust.errors import ConfigurationError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.maps3d.interface import FileMap, Rows
from pymcdust.sky.validation import check_nside

# Sightlines that are integrated at a time, with some 1,000 voxels each.
_SIGHTLINES = 256


class Leike(FileMap):
    """The map of Leike, Glatzle & Ensslin (2020), in e-foldings of extinction in Gaia's G band.

    The file (HDF5) has ``/mean`` (x, y, z), e-foldings per kpc in voxels of 1 pc, in a box
    around the Sun with Galactic axes: 740 x 740 x 540 pc. It is integrated along the direction of
    each pixel's centre, voxel by voxel, without an error of steps. Where the last edge lies
    beyond the box, UNRELIABLE is flagged, and there is no dust out there; an edge beyond the
    corners of the box is refused.

    An eighth of the box is in memory at a time (148 MB). The posterior samples of the map are in
    another file of 14 GB, which is not read.

    Parameters
    ----------
    path : path
        ``mean_std.h5``.
    nside : int, optional
        Resolution of the directions.

    Raises
    ------
    ConfigurationError
        If `nside` is impossible.
    FileFormatError
        If the file is missing, cut short, or not in this layout.
    """

    layout = "an HDF5 file"
    unit = "leike2020"

    def __init__(self, path: str | Path, nside: int = 256) -> None:
        super().__init__(path)
        self.nside = check_nside(nside, "nside")
        self.beam = healpy.nside2resol(self.nside, arcmin=True)
        try:
            with h5py.File(self.path) as file:
                if not isinstance(file.get("mean"), h5py.Dataset):
                    raise self.fault("has no dataset /mean; a file of this map has /mean and /std")
                shape = file["mean"].shape
        except OSError as error:
            raise self.cut_short(error) from error
        if len(shape) != 3 or any(size % 2 or not size for size in shape):
            raise self.fault(
                f"/mean has the shape {shape}; it must be (x, y, z) with the Sun in the middle"
            )
        #: Distance from the Sun to the faces of the box [pc].
        self._half = np.array(shape) // 2

    def check_edges(self, edges: np.ndarray) -> None:
        """Raise if the last edge lies beyond the corners of the box."""
        corner = float(np.linalg.norm(self._half)) / 1e3
        if edges[-1] > corner:
            raise ConfigurationError(
                f"the last edge is {edges[-1]:g} kpc, and the map of Leike et al. (2020) ends at "
                f"{self._half.min() / 1e3:g} kpc, at {corner:.3g} kpc in its corners; end before "
                "it, in every direction"
            )

    def rows(
        self,
        edges: np.ndarray,
        nside: int,
        n_samples: int = 0,
        reach: np.ndarray | None = None,
    ) -> Iterator[Rows]:
        """Give the integral along the map's own directions; see `ReddeningMap.rows`."""
        self.check_samples(n_samples)
        self.check_edges(edges)
        bounds = 1e3 * np.asarray(edges)
        pixels = np.arange(12 * self.nside**2)
        directions = np.stack(healpy.pix2vec(self.nside, pixels, nest=True))
        try:
            with h5py.File(self.path) as file:
                # A sightline stays in one eighth of the box.
                for eighth in product((False, True), repeat=3):
                    positive = np.array(eighth)[:, np.newaxis]
                    of_it = np.flatnonzero(((directions >= 0) == positive).all(axis=0))
                    box = self._read(file["mean"], eighth)
                    for start in range(0, len(of_it), _SIGHTLINES):
                        index = of_it[start : start + _SIGHTLINES]
                        yield self._integrate(box, np.abs(directions[:, index]).T, index, bounds)
                    # So that it does not stay while the next one is read.
                    del box
        except OSError as error:
            raise self.cut_short(error) from error

    def _read(self, dataset: h5py.Dataset, eighth: tuple[bool, ...]) -> np.ndarray:
        """Read the eighth on these sides of the Sun, voxels being counted away from it."""
        sides = zip(self._half, eighth, strict=True)
        box = dataset[tuple(slice(half, None) if up else slice(0, half) for half, up in sides)]
        away = tuple(slice(None) if up else slice(None, None, -1) for up in eighth)
        return box.astype(np.float32, copy=False)[away]

    def _integrate(
        self, box: np.ndarray, directions: np.ndarray, index: np.ndarray, bounds: np.ndarray
    ) -> Rows:
        """Integrate along (row, axis) directions, which all point into the eighth."""
        with np.errstate(divide="ignore"):
            stretch = 1.0 / directions
        # Where the sightlines pass from voxel to voxel, and where there are edges.
        stops = [np.broadcast_to(bounds[1:], (len(index), len(bounds) - 1))]
        for axis, half in enumerate(self._half):
            faces = np.arange(1, min(half, int(bounds[-1])) + 1)
            stops.append(stretch[:, axis, np.newaxis] * faces)
        stop = np.sort(np.minimum(np.concatenate(stops, axis=1), bounds[-1]), axis=1)
        length = np.diff(stop, axis=1, prepend=0.0)
        middle = stop - 0.5 * length
        voxel = (middle[..., np.newaxis] * directions[:, np.newaxis]).astype(np.int32)
        inside = (voxel < self._half).all(axis=-1)
        piece = np.zeros(stop.shape)
        piece[inside] = box[tuple(voxel[inside].T)]
        piece *= length / 1e3  # the density is per kpc
        interval = np.searchsorted(bounds[1:-1], middle)
        row = np.arange(len(index))[:, np.newaxis] * (len(bounds) - 1)
        differential = np.bincount(
            (row + interval).ravel(), piece.ravel(), minlength=len(index) * (len(bounds) - 1)
        ).reshape(len(index), -1)
        leaves = (self._half * stretch).min(axis=1)
        return Rows(
            nside=self.nside,
            index=index,
            cumulative=differential.cumsum(axis=1).astype(np.float32),
            flags=np.where(leaves < bounds[-1], int(Mask.UNRELIABLE), 0).astype(np.uint16),
        )
