"""Pixels of any resolution, put on all pixels of a sky."""

from typing import NamedTuple

import numpy as np

from pymcdust.errors import FileFormatError
from pymcdust.sky.cuts import LEAST_AREA, Mask
from pymcdust.sky.maps3d.interface import ReddeningMap, Rows

#: Reasons for which a row can never be used.
NEVER = Mask.OUTSIDE | Mask.NOT_FINITE

# Pixels whose mean is taken at a time.
_PIXELS = 2**20


class Gathered(NamedTuple):
    """What is known of each pixel of a sky, besides its reddening.

    `area` (pixel,) float32 is the part that can be used, `refused` (pixel,) uint16 the reasons of
    the part that cannot, `noted` (pixel,) uint16 what is said of the part that can.
    """

    area: np.ndarray
    refused: np.ndarray
    noted: np.ndarray


def gather(
    source: ReddeningMap,
    nside: int,
    edges: np.ndarray,
    out: np.ndarray,
    *,
    refuse: int,
    samples_out: np.ndarray | None = None,
    reach: np.ndarray | None = None,
) -> Gathered:
    """Put the differential reddening of a map on all pixels of a sky, in their mean.

    A map pixel coarser than the sky's is replicated, finer ones are averaged by area.

    Parameters
    ----------
    source : ReddeningMap
        The map.
    nside : int
        Resolution of the sky.
    edges : (voxel_edge,) array [kpc]
        Increasing; the first is 0.
    out : (voxel, 12 nside^2) array of float32
        Filled with the differential reddening in NESTED order [unit of the map], NaN where less
        than `LEAST_AREA` of the pixel can be used. May be on disk.
    refuse : int
        Bits of `Mask`: rows with any of these are not used, nor are those that are not finite.
    samples_out : (sample, voxel, 12 nside^2) array of float32, optional
        Filled with so many posterior samples of the same.
    reach : (superpixel, 2) array [kpc], optional
        Where the map has to be reliable, see `ReddeningMap.rows`.

    Returns
    -------
    Gathered

    Raises
    ------
    FileFormatError
        If rows of the map overlap.
    """
    n_pixels = 12 * nside**2
    n_samples = 0 if samples_out is None else len(samples_out)
    layers = [out, *(() if samples_out is None else samples_out)]
    for layer in layers:
        layer[...] = 0
    sky = Gathered(
        np.zeros(n_pixels, dtype=np.float32),
        np.zeros(n_pixels, dtype=np.uint16),
        np.zeros(n_pixels, dtype=np.uint16),
    )
    covered = np.zeros(n_pixels, dtype=np.float32)
    refuse = int(refuse | NEVER)
    for rows in source.rows(edges, nside, n_samples, reach):
        _add(rows, nside, refuse, layers, sky, covered)
    # The areas are sums of powers of 1/4, hence exact.
    if covered.max() > 1:
        pixel = int(np.argmax(covered))
        raise FileFormatError(
            f"the map of {source.unit} has more than one value for parts of pixel {pixel} of nside "
            f"{nside} (NESTED)"
        )
    sky.refused[covered < 1] |= np.uint16(Mask.OUTSIDE)
    for layer in layers:
        for start in range(0, n_pixels, _PIXELS):
            area = sky.area[start : start + _PIXELS]
            divisor = np.where(area >= LEAST_AREA, area, np.float32(np.nan))
            layer[:, start : start + _PIXELS] /= divisor
    return sky


def _add(
    rows: Rows,
    nside: int,
    refuse: int,
    layers: list[np.ndarray],
    sky: Gathered,
    covered: np.ndarray,
) -> None:
    """Add rows to the sums over each pixel of the sky."""
    copies = max(1, nside // rows.nside) ** 2
    children = max(1, rows.nside // nside) ** 2
    part = np.float32(1 / children)
    usable = (rows.flags & refuse) == 0

    def onto(index: np.ndarray) -> np.ndarray:
        if copies == 1:
            return index // children
        return (index[:, np.newaxis] * copies + np.arange(copies)).ravel()

    everywhere = onto(rows.index)
    np.add.at(covered, everywhere, part)
    refused = np.where(usable, np.uint16(0), rows.flags & np.uint16(refuse))
    # That a value is missing is only news where nothing else says why.
    not_finite = np.uint16(Mask.NOT_FINITE)
    refused = np.where(refused & ~not_finite, refused & ~not_finite, refused)
    np.bitwise_or.at(sky.refused, everywhere, np.repeat(refused, copies))
    pixel = onto(rows.index[usable])
    np.add.at(sky.area, pixel, part)
    np.bitwise_or.at(sky.noted, pixel, np.repeat(rows.flags[usable], copies))
    profiles = [rows.cumulative[usable]]
    if rows.samples is not None:
        profiles.extend(np.moveaxis(rows.samples[usable], 1, 0))
    for layer, cumulative in zip(layers, profiles, strict=True):
        differential = np.diff(cumulative, axis=1, prepend=np.float32(0)) * part
        for voxel, values in zip(layer, differential.T, strict=True):
            np.add.at(voxel, pixel, np.repeat(values, copies))
