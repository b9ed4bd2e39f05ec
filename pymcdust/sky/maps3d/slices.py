"""Cumulative reddening at any distance, from a map that has it at fixed distance moduli."""

import h5py
import numpy as np

from pymcdust.sky.cuts import Mask
from pymcdust.sky.edges import distance_modulus
from pymcdust.sky.maps3d.interface import BLOCK_BYTES


class SliceInterpolation:
    """Interpolate cumulative reddening between slices of distance modulus, as dustmaps does.

    Linear in distance nearer than the first slice, linear in distance modulus between slices,
    constant beyond the last. Only the slices next to an edge are read.

    Parameters
    ----------
    distances : (edge,) array [kpc]
        Where the reddening is asked for, all positive.
    slices : (slice,) array [mag]
        Distance moduli of the map, increasing.
    """

    def __init__(self, distances: np.ndarray, slices: np.ndarray) -> None:
        self.modulus = distance_modulus(distances)
        above = np.searchsorted(slices, self.modulus)
        upper = np.clip(above, 0, len(slices) - 1)
        lower = np.clip(above - 1, 0, None)
        between = upper > lower
        # Beyond the last slice both are that slice, which then has all the weight.
        gap = np.where(between, slices[upper] - slices[lower], 1.0)
        upper_weight = np.where(between, (self.modulus - slices[lower]) / gap, 0.0)
        lower_weight = 1.0 - upper_weight
        near = above == 0
        upper_weight[near] = 0.0
        lower_weight[near] = 10.0 ** (0.2 * (self.modulus[near] - slices[0]))
        # What has no weight is not read.
        lower = np.where(lower_weight > 0, lower, upper)
        upper = np.where(upper_weight > 0, upper, lower)
        #: The slices that are read, increasing.
        self.needed = np.union1d(lower, upper)
        self._lower = np.searchsorted(self.needed, lower)
        self._upper = np.searchsorted(self.needed, upper)
        self._lower_weight = lower_weight.astype(np.float32)
        self._upper_weight = upper_weight.astype(np.float32)

    def block_rows(self, dataset: h5py.Dataset) -> int:
        """Count the rows of a (row, ..., slice) dataset that fit into `BLOCK_BYTES`.

        They are whole chunks, so that none is decompressed twice, and one chunk at least.
        """
        chunk = dataset.chunks[0] if dataset.chunks else 1
        widest = max(stop - start for start, stop in self._spans(dataset))
        columns = widest + 3 * max(len(self.needed), len(self.modulus))
        row_bytes = 4 * columns * int(np.prod(dataset.shape[1:-1]))
        return chunk * max(1, BLOCK_BYTES // (row_bytes * chunk))

    def read(self, dataset: h5py.Dataset, rows: slice) -> np.ndarray:
        """Read rows of a (row, ..., slice) dataset of cumulative reddening at the distances.

        Returns
        -------
        (row, ..., edge) array of float32
        """
        n_rows = len(range(*rows.indices(dataset.shape[0])))
        block = np.empty((n_rows, *dataset.shape[1:-1], len(self.needed)), dtype=np.float32)
        for start, stop in self._spans(dataset):
            here = (self.needed >= start) & (self.needed < stop)
            block[..., here] = dataset[rows, ..., start:stop][..., self.needed[here] - start]
        at_edges = self._lower_weight * block[..., self._lower]
        at_edges += self._upper_weight * block[..., self._upper]
        return at_edges

    def flags(
        self,
        converged: np.ndarray,
        least_reliable: np.ndarray,
        greatest_reliable: np.ndarray,
        reach: np.ndarray | None = None,
    ) -> np.ndarray:
        """Flag rows by their convergence and their reliable distance moduli.

        Parameters
        ----------
        converged : (row,) array
            Nonzero where the fit of the sightline converged.
        least_reliable, greatest_reliable : (row,) arrays [mag]
            Range of the distance moduli that stars constrain; not finite where no stars do.
        reach : (row, 2) array [kpc], optional
            The distances between which they have to; by default the first and last asked for.

        Returns
        -------
        (row,) array of uint16
            Bits of `Mask`: NOT_CONVERGED, NO_STARS, UNRELIABLE.
        """
        no_stars = ~np.isfinite(least_reliable)
        # Written so that NaN is unreliable.
        nearest, farthest = self.modulus[[0, -1]] if reach is None else distance_modulus(reach).T
        reliable = least_reliable <= nearest
        reliable &= greatest_reliable >= farthest
        flags = np.where(np.asarray(converged).astype(bool), 0, int(Mask.NOT_CONVERGED))
        flags |= np.where(no_stars, int(Mask.NO_STARS), 0)
        flags |= np.where(reliable, 0, int(Mask.UNRELIABLE))
        return flags.astype(np.uint16)

    def _spans(self, dataset: h5py.Dataset) -> list[tuple[int, int]]:
        """Find the ranges of slices to read: one in each column of chunks that holds any needed."""
        width = dataset.chunks[-1] if dataset.chunks else dataset.shape[-1]
        columns = self.needed // width
        spans = []
        for column in np.unique(columns):
            inside = self.needed[columns == column]
            spans.append((int(inside[0]), int(inside[-1]) + 1))
        return spans
