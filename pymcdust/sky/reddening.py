"""Differential reddening from 3D reddening maps, on the pixels of a sky."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError, unknown
from pymcdust.sky.cuts import LEAST_AREA

# Samples that are held in memory at a time [bytes].
_BLOCK_BYTES = 32 * 2**20
_PIXEL_FIELDS = ("nside", "healpix_index", "converged", "DM_reliable_min")


class ReddeningMap(NamedTuple):
    """A kind of 3D reddening map: how to read it, and the unit of what it holds.

    `read` takes ``(path, nside, superpixel_nside, superpixel, edges)`` and returns
    ``(reddening, valid)``, as `read_bayestar` does.
    """

    read: Callable[[Path, int, int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    unit: str


def reddening_map(name: str) -> ReddeningMap:
    """Find a kind of 3D reddening map by its name.

    Parameters
    ----------
    name : str
        A key of `REDDENING_MAPS`.

    Returns
    -------
    ReddeningMap
        How to read it, and its unit.

    Raises
    ------
    ConfigurationError
        If the name is unknown.
    """
    if name not in REDDENING_MAPS:
        raise ConfigurationError(unknown("reddening map", name, REDDENING_MAPS))
    return REDDENING_MAPS[name]


def read_bayestar(
    path: str | Path, nside: int, superpixel_nside: int, superpixel: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Read a Bayestar map (HDF5, as dustmaps has it) as differential reddening.

    The samples of the cumulative reddening are interpolated at the edges as dustmaps does (linear
    in distance below the first slice, linear in distance modulus between slices, constant above),
    then comes the median over samples, then the difference along the sightline (Zelko et al.
    2022, Sec. 2.1). The file is read in blocks of rows. A map pixel coarser than `nside` is
    replicated, finer ones are averaged by area.

    Parameters
    ----------
    path : path
        The HDF5 file.
    nside, superpixel_nside : int
        HEALPix resolution of the sky's pixels and superpixels.
    superpixel : (superpixel,) array
        NESTED indices of the superpixels to read.
    edges : (voxel_edge,) array [kpc]
        Distance edges; the first is 0.

    Returns
    -------
    reddening : (superpixel, pixel, voxel) array of float32 [mag, unit of the map]
        Differential reddening, NaN where not valid.
    valid : (superpixel, pixel) array of bool
        Where at least half of the pixel is in the map, converged, finite and has stars
        (a least reliable distance; Sec. 3.3).

    Raises
    ------
    FileFormatError
        If the file is missing, cut short, or not in this layout.
    """
    path = Path(path)
    n_pixels = (nside // superpixel_nside) ** 2
    total = np.zeros((len(superpixel) * n_pixels, len(edges) - 1), dtype=np.float32)
    area = np.zeros(len(total), dtype=np.float32)
    # Row of `total` where each superpixel begins; -1 for those that are not asked for.
    begins = np.full(12 * superpixel_nside**2, -1, dtype=np.int64)
    begins[superpixel] = np.arange(len(superpixel)) * n_pixels
    for map_nside, index, cumulative in _bayestar_rows(path, edges[1:]):
        differential = np.diff(cumulative, axis=1, prepend=np.float32(0))
        copies = max(1, nside // map_nside) ** 2
        children = max(1, map_nside // nside) ** 2
        pixel = index // children
        if copies > 1:
            pixel = (index[:, np.newaxis] * copies + np.arange(copies)).ravel()
            differential = np.repeat(differential, copies, axis=0)
        begin = begins[pixel // n_pixels]
        asked = begin >= 0
        target = begin[asked] + pixel[asked] % n_pixels
        np.add.at(total, target, differential[asked] / np.float32(children))
        np.add.at(area, target, np.float32(1 / children))
    # A full pixel's area is a sum of powers of two, hence exact.
    valid = area >= LEAST_AREA
    np.divide(total, area[:, np.newaxis], out=total, where=valid[:, np.newaxis])
    total[~valid] = np.nan
    shape = (len(superpixel), n_pixels)
    return total.reshape(*shape, -1), valid.reshape(shape)


def _bayestar_rows(
    path: Path, distances: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (map nside, NESTED indices, cumulative reddening at the distances) of usable rows."""
    if not path.exists():
        raise FileFormatError(f"{path}: there is no such file")
    try:
        with h5py.File(path) as file:
            info, samples, slices = _bayestar_layout(path, file)
            lower, upper, lower_weight, upper_weight = _interpolation(distances, slices)
            # Whole chunks of rows, so that none is decompressed twice.
            chunk = samples.chunks[0] if samples.chunks else 1
            row_bytes = samples.dtype.itemsize * int(np.prod(samples.shape[1:]))
            step = chunk * max(1, _BLOCK_BYTES // (row_bytes * chunk))
            for start in range(0, len(info), step):
                rows = slice(start, start + step)
                block = samples[rows].astype(np.float32, copy=False)
                at_edges = lower_weight * block[..., lower] + upper_weight * block[..., upper]
                cumulative = np.median(at_edges, axis=1)
                usable = info["converged"][rows].astype(bool)
                usable &= np.isfinite(info["DM_reliable_min"][rows])
                usable &= np.isfinite(cumulative).all(axis=1)
                map_nsides = info["nside"][rows]
                indices = info["healpix_index"][rows].astype(np.int64)
                for map_nside in np.unique(map_nsides):
                    chosen = usable & (map_nsides == map_nside)
                    yield int(map_nside), indices[chosen], cumulative[chosen]
    except OSError as error:
        raise FileFormatError(
            f"{path}: cut short, or not an HDF5 file ({error}); download it again"
        ) from error


def _bayestar_layout(path: Path, file: h5py.File) -> tuple[np.ndarray, h5py.Dataset, np.ndarray]:
    """Return pixel_info, the samples and the slices [mag], after checking that they are there."""
    for name in ("pixel_info", "samples"):
        if name not in file:
            raise FileFormatError(
                f"{path}: has no dataset /{name}; a Bayestar file has /pixel_info and /samples"
            )
    fields = file["pixel_info"].dtype.names or ()
    for field in _PIXEL_FIELDS:
        if field not in fields:
            raise FileFormatError(f"{path}: /pixel_info has no field {field!r}")
    if "DM_bin_edges" not in file["pixel_info"].attrs:
        raise FileFormatError(f"{path}: /pixel_info has no attribute 'DM_bin_edges'")
    info = file["pixel_info"][:]
    samples = file["samples"]
    slices = np.asarray(file["pixel_info"].attrs["DM_bin_edges"], dtype=float)
    if samples.ndim != 3 or samples.shape[::2] != (len(info), len(slices)):
        raise FileFormatError(
            f"{path}: /samples has the shape {samples.shape}; it must be (pixel, sample, slice) "
            f"with {len(info)} pixels and {len(slices)} slices"
        )
    nsides = info["nside"].astype(np.int64)
    if (
        not (np.bitwise_count(nsides) == 1).all()
        or not (info["healpix_index"] < 12 * nsides.astype(np.uint64) ** 2).all()
    ):
        raise FileFormatError(f"{path}: /pixel_info holds pixels that are not on the HEALPix grid")
    return info, samples, slices


def _interpolation(
    distances: np.ndarray, slices: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the slices on both sides of each distance [kpc], and their weights, as dustmaps does."""
    modulus = 5.0 * (np.log10(distances) + 2.0)
    above = np.searchsorted(slices, modulus)
    upper = np.clip(above, 0, len(slices) - 1)
    lower = np.clip(above - 1, 0, None)
    between = upper > lower
    # Beyond the last slice both are that slice, which then has all the weight.
    gap = np.where(between, slices[upper] - slices[lower], 1.0)
    upper_weight = np.where(between, (modulus - slices[lower]) / gap, 0.0)
    lower_weight = 1.0 - upper_weight
    near = above == 0
    lower_weight[near] = 10.0 ** (0.2 * (modulus[near] - slices[0]))
    return lower, upper, lower_weight.astype(np.float32), upper_weight.astype(np.float32)


#: The 3D reddening maps that can be read; another one is one more function and one more line.
REDDENING_MAPS: dict[str, ReddeningMap] = {
    "bayestar2019": ReddeningMap(read=read_bayestar, unit="bayestar2019"),
}
