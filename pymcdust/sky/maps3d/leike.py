"""The map of Leike, Glatzle & Ensslin (2020): a box of voxels around the Sun."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import h5py
import healpy
import numpy as np

from pymcdust.errors import ConfigurationError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.maps3d.interface import FileMap, Rows, pixel_beam
from pymcdust.sky.validation import is_nside


class Leike(FileMap):
    """The map of Leike, Glatzle & Ensslin (2020), in e-foldings of extinction in Gaia's G band.

    The file (HDF5) has ``/mean`` (x, y, z), e-foldings per kpc in voxels of 1 pc, in a box
    around the Sun with Galactic axes: 740 x 740 x 540 pc. It is integrated along the direction of
    each pixel's centre by the midpoint rule, each interval between edges being cut into equal
    steps. Where the last edge lies beyond the box, UNRELIABLE is flagged, and there is no dust
    out there; an edge beyond the corners of the box is refused.

    An eighth of the box is in memory at a time (148 MB). The posterior samples of the map are in
    another file of 14 GB, which is not read.

    Parameters
    ----------
    path : path
        ``mean_std.h5``.
    nside : int, optional
        Resolution of the directions.
    step : float, optional [pc]
        Longest step of the integral. Against steps of 0.01 pc, half a voxel makes an error of a
        few thousandths of the column.

    Raises
    ------
    ConfigurationError
        If `nside` or `step` are impossible.
    FileFormatError
        If the file is missing, cut short, or not in this layout.
    """

    layout = "an HDF5 file"
    unit = "leike2020"

    def __init__(self, path: str | Path, nside: int = 256, step: float = 0.5) -> None:
        super().__init__(path)
        if not is_nside(nside):
            raise ConfigurationError(f"nside is {nside!r}; it must be a power of two, such as 256")
        if not 0 < step <= 1:
            raise ConfigurationError(
                f"step is {step:g} pc; it must be above 0 and no more than a voxel, which is 1 pc"
            )
        self.nside, self.beam, self._step = nside, pixel_beam(nside), step
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

    def rows(self, edges: np.ndarray, nside: int, n_samples: int = 0) -> Iterator[Rows]:
        """Give the integral along the map's own directions; see `ReddeningMap.rows`."""
        self.check_samples(n_samples)
        bounds = 1e3 * np.asarray(edges)
        corner = float(np.linalg.norm(self._half))
        if bounds[-1] > corner:
            raise ConfigurationError(
                f"the last edge is {edges[-1]:g} kpc, and the map of Leike et al. (2020) ends at "
                f"{self._half.min() / 1e3:g} kpc, at {corner / 1e3:.3g} kpc in its corners; end "
                "before it"
            )
        pixels = np.arange(12 * self.nside**2)
        directions = np.stack(healpy.pix2vec(self.nside, pixels, nest=True))
        try:
            with h5py.File(self.path) as file:
                # A sightline stays in one eighth of the box.
                for eighth in product((False, True), repeat=3):
                    positive = np.array(eighth)
                    of_it = ((directions >= 0) == positive[:, np.newaxis]).all(axis=0)
                    part = tuple(
                        slice(half, None) if up else slice(0, half)
                        for half, up in zip(self._half, eighth, strict=True)
                    )
                    box = file["mean"][part].astype(np.float32, copy=False)
                    index = np.flatnonzero(of_it)
                    yield self._integrate(box, positive, directions[:, of_it], index, bounds)
        except OSError as error:
            raise self.cut_short(error) from error

    def _integrate(
        self,
        box: np.ndarray,
        positive: np.ndarray,
        directions: np.ndarray,
        index: np.ndarray,
        bounds: np.ndarray,
    ) -> Rows:
        # Voxel 0 of the eighth begins at the Sun, or at the face of the box.
        origin = np.where(positive, 0, self._half)[:, np.newaxis]
        voxels = box.ravel()
        total = np.zeros((len(bounds) - 1, len(index)))
        for near, far, integral in zip(bounds[:-1], bounds[1:], total, strict=True):
            n_steps = int(np.ceil((far - near) / self._step))
            step = (far - near) / n_steps
            for i in range(n_steps):
                place = np.floor((near + (i + 0.5) * step) * directions).astype(np.int64) + origin
                inside = ((place >= 0) & (place < self._half[:, np.newaxis])).all(axis=0)
                flat = np.ravel_multi_index(place[:, inside], box.shape)
                integral[inside] += voxels[flat] * (step / 1e3)
        with np.errstate(divide="ignore"):
            leaves = np.min(self._half[:, np.newaxis] / np.abs(directions), axis=0)
        flags = np.where(leaves < bounds[-1], int(Mask.UNRELIABLE), 0).astype(np.uint16)
        return Rows(
            nside=self.nside,
            index=index,
            cumulative=total.cumsum(axis=0).T.astype(np.float32),
            flags=flags,
        )
