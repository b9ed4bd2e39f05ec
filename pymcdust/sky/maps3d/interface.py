"""What every 3D reddening map gives: cumulative reddening at distances, pixel by pixel."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.validation import is_nside

#: What is held in memory at a time while a map is read [bytes].
BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True, eq=False)
class Rows:
    """Some pixels of a map, all of one HEALPix resolution.

    Parameters
    ----------
    nside : int
        Resolution of these pixels.
    index : (row,) array of int64
        NESTED indices, Galactic frame. No two rows of a map overlap.
    cumulative : (row, edge) array of float32 [unit of the map]
        Reddening from the observer to each edge that is asked for: the median over the map's
        posterior samples where it has any.
    flags : (row,) array of uint16
        Bits of `Mask`.
    samples : (row, sample, edge) array of float32 [unit of the map], optional
        The same for single posterior samples.
    """

    nside: int
    index: np.ndarray
    cumulative: np.ndarray
    flags: np.ndarray
    samples: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Flag the rows that are not finite, whichever map they come from."""
        finite = np.isfinite(self.cumulative).all(axis=1)
        if self.samples is not None:
            finite &= np.isfinite(self.samples).all(axis=(1, 2))
        flags = self.flags | np.where(finite, 0, int(Mask.NOT_FINITE)).astype(np.uint16)
        object.__setattr__(self, "flags", flags)


class ReddeningMap(ABC):
    """A 3D reddening map.

    Another map is one more subclass in `pymcdust.sky.maps3d`, and one more line in
    `pymcdust.sky.reddening.REDDENING_MAPS`.
    """

    #: Its unit, a key of `pymcdust.sky.validation.REDDENING_UNITS`.
    unit: str
    #: Full width at half maximum of what its pixels average over [arcmin].
    beam: float
    #: Its finest resolution.
    nside: int
    #: How many posterior samples it holds; 0 where it only has a mean.
    n_samples: int = 0

    @abstractmethod
    def rows(
        self,
        edges: np.ndarray,
        nside: int,
        n_samples: int = 0,
        reach: np.ndarray | None = None,
    ) -> Iterator[Rows]:
        """Give the map, a bounded number of pixels at a time.

        Parameters
        ----------
        edges : (voxel_edge,) array [kpc]
            Increasing distances; the first is 0, the observer. `Rows.cumulative` is for the
            others.
        nside : int
            Resolution of the sky. A map that has pixels gives these whatever the sky's; one
            that is interpolated is so at the centres of the sky's pixels.
        n_samples : int, optional
            How many posterior samples to give as well, the first ones of the map.
        reach : (superpixel, 2) array [kpc], optional
            Nearest and farthest edge of each superpixel of the sky, of any resolution (NESTED),
            between which the map has to be reliable; by default those of `edges` everywhere.

        Yields
        ------
        Rows

        Raises
        ------
        ConfigurationError
            If the map does not have so many samples, or ends before the last edge everywhere.
        FileFormatError
            If the file turns out to be damaged.
        """

    def check_edges(self, edges: np.ndarray) -> None:  # noqa: B027, most maps have no end
        """Raise a ConfigurationError if the map ends before the last edge [kpc] everywhere."""

    def check_samples(self, n_samples: int) -> None:
        """Raise if the map has fewer posterior samples than are asked for."""
        if n_samples < 0 or n_samples > self.n_samples:
            have = f"it has {self.n_samples}" if self.n_samples else "it has a mean only"
            raise ConfigurationError(
                f"{n_samples} posterior samples are asked of a map of {self.unit}; {have}"
            )


def reach_of(reach: np.ndarray, nside: int, index: np.ndarray) -> np.ndarray:
    """Find how far pixels of a map have to reach: as far as any superpixel that they touch.

    Parameters
    ----------
    reach : (superpixel, 2) array [kpc]
        Nearest and farthest edge of each superpixel.
    nside : int
        Resolution of the pixels.
    index : (row,) array of int
        NESTED indices of the pixels.

    Returns
    -------
    (row, 2) array [kpc]

    Examples
    --------
    >>> reach = np.tile([0.3, 1.0], (48, 1))
    >>> reach[5] = [0.1, 2.0]
    >>> reach_of(reach, 1, np.array([0, 1])).tolist()
    [[0.3, 1.0], [0.1, 2.0]]
    >>> reach_of(reach, 4, np.array([19, 20])).tolist()
    [[0.3, 1.0], [0.1, 2.0]]
    """
    n_pixel = 12 * nside**2
    if n_pixel >= len(reach):
        return reach[index // (n_pixel // len(reach))]
    nearest, farthest = np.moveaxis(reach.reshape(n_pixel, -1, 2), -1, 0)
    return np.stack([nearest.min(axis=1), farthest.max(axis=1)], axis=1)[index]


class FileMap(ReddeningMap):
    """A 3D reddening map in one file, which is looked at when it is opened."""

    #: What kind of file it is, for messages.
    layout: ClassVar[str]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileFormatError(f"{self.path}: there is no such file")

    def fault(self, message: str) -> FileFormatError:
        """Make the exception for a file that is not as it should be."""
        return FileFormatError(f"{self.path}: {message}")

    def cut_short(self, error: Exception) -> FileFormatError:
        """Make the exception for a file that the library below cannot read."""
        return self.fault(f"cut short, or not {self.layout} ({error}); download it again")


def check_chunks(path: Path, values: h5py.Dataset) -> None:
    """Check that all of an HDF5 dataset has been written: what has not is read as zero dust.

    Parameters
    ----------
    path : path
        The file, for the message.
    values : Dataset
        The dataset.

    Raises
    ------
    FileFormatError
        If chunks are missing.
    """
    if not values.chunks:
        return
    lengths = zip(values.shape, values.chunks, strict=True)
    total = math.prod(-(-size // chunk) for size, chunk in lengths)
    missing = total - values.id.get_num_chunks()
    if missing:
        raise FileFormatError(
            f"{path}: cut short, {missing} of {total} chunks of {values.name} were never written; "
            "download it again"
        )


def check_on_grid(path: Path, nside: np.ndarray, index: np.ndarray) -> None:
    """Check that pixels are on the HEALPix grid, each part of the sky at most once.

    Parameters
    ----------
    path : Path
        Named in the message.
    nside, index : (pixel,) arrays of int64
        Resolution and NESTED index of each.

    Raises
    ------
    FileFormatError
        If they are not.
    """
    off = ~np.isin(nside, [n for n in np.unique(nside) if is_nside(n)])
    off |= (index < 0) | (index >= 12 * nside**2)
    if off.any():
        row = int(np.argmax(off))
        raise FileFormatError(
            f"{path}: row {row} holds pixel {index[row]} of nside {nside[row]}, which is not on "
            "the HEALPix grid"
        )
    # In NESTED order each pixel is a range of the pixels of the finest resolution.
    children = (nside.max(initial=1) // nside) ** 2
    order = np.argsort(index * children, kind="stable")
    begin = (index * children)[order]
    overlapping = begin[1:] < begin[:-1] + children[order][:-1]
    if overlapping.any():
        one, other = order[int(np.argmax(overlapping)) :][:2]
        raise FileFormatError(
            f"{path}: rows {one} and {other} are the same part of the sky: pixel {index[one]} of "
            f"nside {nside[one]}, and pixel {index[other]} of nside {nside[other]}"
        )
