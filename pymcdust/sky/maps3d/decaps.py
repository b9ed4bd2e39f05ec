"""DECaPS: the map of the southern Galactic plane of Zucker, Saydjari & Speagle et al. (2025)."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import healpy
import numpy as np

from pymcdust.sky.maps3d.interface import FileMap, Rows, check_chunks, reach_of
from pymcdust.sky.maps3d.slices import SliceInterpolation
from pymcdust.sky.validation import is_nside

_PIXEL_FIELDS = ("healpix_index", "converged", "DM_reliable_min", "DM_reliable_max")


class Decaps(FileMap):
    """The DECaPS map, in E(B-V), as dustmaps has it.

    The file (HDF5) has a group ``/pixel_info``, whose datasets tell of each pixel (NESTED
    Galactic, of one nside, in increasing order), ``/mean`` (pixel, 1, slice), and in its larger
    edition ``/samples`` (pixel, sample, slice): cumulative reddening at distance moduli.

    The reddening is the median over samples where the file has them, and else the mean over
    samples, as the smaller file has nothing else; a mean is drawn to rare, large values.
    Pixels that the map's authors filled in from their surroundings (``infilled``) are used where
    they are marked as converged.

    Parameters
    ----------
    path : path
        ``decaps_mean.h5`` or ``decaps_mean_and_samples.h5``.

    Raises
    ------
    FileFormatError
        If the file is missing, cut short, or not in this layout.
    """

    layout = "an HDF5 file"
    unit = "E(B-V)"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        try:
            with h5py.File(self.path) as file:
                self._look_at(file)
        except OSError as error:
            raise self.cut_short(error) from error

    def rows(
        self,
        edges: np.ndarray,
        nside: int,
        n_samples: int = 0,
        reach: np.ndarray | None = None,
    ) -> Iterator[Rows]:
        """Give the pixels of the map; see `ReddeningMap.rows`."""
        self.check_samples(n_samples)
        at = SliceInterpolation(np.asarray(edges)[1:], self._slices)
        last = -1
        try:
            with h5py.File(self.path) as file:
                info = file["pixel_info"]
                values = file["samples" if self.n_samples else "mean"]
                step = at.block_rows(values)
                for start in range(0, len(values), step):
                    block = slice(start, start + step)
                    samples = at.read(values, block)
                    index = info["healpix_index"][block].astype(np.int64)
                    self._check_index(index, last)
                    last = int(index[-1])
                    yield Rows(
                        nside=self.nside,
                        index=index,
                        cumulative=np.median(samples, axis=1),
                        flags=at.flags(
                            info["converged"][block],
                            info["DM_reliable_min"][block].astype(np.float32),
                            info["DM_reliable_max"][block].astype(np.float32),
                            None if reach is None else reach_of(reach, self.nside, index),
                        ),
                        samples=samples[:, :n_samples] if n_samples else None,
                    )
        except OSError as error:
            raise self.cut_short(error) from error

    def _check_index(self, index: np.ndarray, last: int) -> None:
        # In increasing order none can be there twice, which a block at a time can tell.
        if not (np.diff(index, prepend=last) > 0).all() or index[-1] >= 12 * self.nside**2:
            raise self.fault(
                "/pixel_info/healpix_index must increase from row to row, each pixel being there "
                f"once, and stay within 0 to {12 * self.nside**2 - 1}"
            )

    def _look_at(self, file: h5py.File) -> None:
        """Check the layout, and take from it what the attributes need."""
        for name, kind in (("pixel_info", h5py.Group), ("mean", h5py.Dataset)):
            if not isinstance(file.get(name), kind):
                raise self.fault(
                    f"has no {kind.__name__.lower()} /{name}; a DECaPS file has a group "
                    "/pixel_info and a dataset /mean"
                )
        info = file["pixel_info"]
        for field in _PIXEL_FIELDS:
            if field not in info:
                raise self.fault(f"has no dataset /pixel_info/{field}")
        for name in ("DM_bin_edges", "nside"):
            if name not in info.attrs:
                raise self.fault(f"/pixel_info has no attribute {name!r}")
        self.nside = int(info.attrs["nside"])
        if not is_nside(self.nside):
            raise self.fault(f"nside is {self.nside}; it must be a power of two")
        self.beam = healpy.nside2resol(self.nside, arcmin=True)
        self._slices = np.asarray(info.attrs["DM_bin_edges"], dtype=float)
        if self._slices.ndim != 1 or not (np.diff(self._slices) > 0).all():
            raise self.fault(f"DM_bin_edges are {self._slices.tolist()}; they must increase")
        n_pixels = len(info["healpix_index"])
        for name in ("samples", "mean") if "samples" in file else ("mean",):
            shape = file[name].shape
            if len(shape) != 3 or shape[::2] != (n_pixels, len(self._slices)) or 0 in shape:
                raise self.fault(
                    f"/{name} has the shape {shape}; it must be (pixel, sample, slice) with "
                    f"{n_pixels} pixels and {len(self._slices)} slices"
                )
            check_chunks(self.path, file[name])
        self.n_samples = file["samples"].shape[1] if "samples" in file else 0
