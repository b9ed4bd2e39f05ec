"""Bayestar: the maps of Green et al. (2015, 2018, 2019), as dustmaps has them."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from pymcdust.errors import ConfigurationError, listing, unknown
from pymcdust.sky.maps3d.interface import FileMap, Rows, check_chunks, check_on_grid, reach_of
from pymcdust.sky.maps3d.slices import SliceInterpolation

#: Beam of the map [arcmin]: a pixel of nside 1024, for which it is taken although some of its
#: pixels are of nside 512 and 256 (Zelko et al. 2022, Sec. 3.2).
BEAM = 3.44

#: The editions, which are in units of their own, and the number of their distances.
VERSIONS = {"bayestar2019": 120, "bayestar2017": 31, "bayestar2015": 31}

_PIXEL_FIELDS = ("nside", "healpix_index", "converged", "DM_reliable_min", "DM_reliable_max")


class Bayestar(FileMap):
    """A Bayestar map.

    The file (HDF5) has ``/pixel_info``, with the NESTED Galactic pixels of several nside, and
    ``/samples`` (pixel, sample, slice), the cumulative reddening at the distance moduli of the
    attribute ``DM_bin_edges``: 120 in 2019 and 31 before. The samples are interpolated at the
    edges as dustmaps does, then comes the median over samples (Zelko et al. 2022, Sec. 2.1).

    Rows are flagged where the sightline did not converge, where it has no star (no least
    reliable distance), and where the first edge lies nearer than the least reliable distance or
    the last beyond the greatest.

    Parameters
    ----------
    path : path
        The HDF5 file.
    version : str
        A key of `VERSIONS`; the file does not tell.

    Raises
    ------
    FileFormatError
        If the file is missing, cut short, or not in this layout.
    """

    layout = "an HDF5 file"
    beam = BEAM

    def __init__(self, path: str | Path, version: str = "bayestar2019") -> None:
        super().__init__(path)
        if version not in VERSIONS:
            raise ConfigurationError(unknown("version of Bayestar", version, VERSIONS))
        self.unit = version
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
        try:
            with h5py.File(self.path) as file:
                info, samples = file["pixel_info"], file["samples"]
                step = at.block_rows(samples)
                for start in range(0, len(info), step):
                    block = slice(start, start + step)
                    yield from self._block(
                        at, info[block], at.read(samples, block), n_samples, reach
                    )
        except OSError as error:
            raise self.cut_short(error) from error

    def _block(
        self,
        at: SliceInterpolation,
        info: np.ndarray,
        samples: np.ndarray,
        n_samples: int,
        reach: np.ndarray | None,
    ) -> Iterator[Rows]:
        cumulative = np.median(samples, axis=1)
        for map_nside in np.unique(info["nside"]).tolist():
            chosen = info["nside"] == map_nside
            here = info[chosen]
            index = here["healpix_index"].astype(np.int64)
            yield Rows(
                nside=map_nside,
                index=index,
                cumulative=cumulative[chosen],
                flags=at.flags(
                    here["converged"],
                    here["DM_reliable_min"],
                    here["DM_reliable_max"],
                    None if reach is None else reach_of(reach, map_nside, index),
                ),
                samples=samples[chosen, :n_samples] if n_samples else None,
            )

    def _look_at(self, file: h5py.File) -> None:
        """Check the layout, and take from it what the attributes need."""
        for name in ("pixel_info", "samples"):
            if name not in file:
                raise self.fault(
                    f"has no dataset /{name}; a Bayestar file has /pixel_info and /samples"
                )
        info, samples = file["pixel_info"], file["samples"]
        fields = getattr(info, "dtype", np.dtype([])).names or ()
        for field in _PIXEL_FIELDS:
            if field not in fields:
                raise self.fault(f"/pixel_info has no field {field!r}")
        if "DM_bin_edges" not in info.attrs:
            raise self.fault("/pixel_info has no attribute 'DM_bin_edges'")
        self._slices = np.asarray(info.attrs["DM_bin_edges"], dtype=float)
        if self._slices.ndim != 1 or not (np.diff(self._slices) > 0).all():
            raise self.fault(f"DM_bin_edges are {self._slices.tolist()}; they must increase")
        if len(self._slices) != VERSIONS[self.unit]:
            raise self.fault(
                f"has {len(self._slices)} distances, and {self.unit} has {VERSIONS[self.unit]}; "
                f"is it another edition? There are {listing(VERSIONS)}"
            )
        if samples.ndim != 3 or samples.shape[::2] != (len(info), len(self._slices)):
            raise self.fault(
                f"/samples has the shape {samples.shape}; it must be (pixel, sample, slice) with "
                f"{len(info)} pixels and {len(self._slices)} slices"
            )
        if samples.size == 0:
            raise self.fault(f"is empty: /samples has the shape {samples.shape}")
        check_chunks(self.path, samples)
        nside = info["nside"].astype(np.int64)
        check_on_grid(self.path, nside, info["healpix_index"].astype(np.int64))
        self.nside = int(nside.max())
        self.n_samples = samples.shape[1]
