"""Differential reddening from 3D reddening maps, on the pixels of a sky."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.sky.maps3d.bayestar import VERSIONS, Bayestar
from pymcdust.sky.maps3d.combined import CombinedMap
from pymcdust.sky.maps3d.converted import Converted
from pymcdust.sky.maps3d.decaps import Decaps
from pymcdust.sky.maps3d.edenhofer import Edenhofer
from pymcdust.sky.maps3d.gather import gather
from pymcdust.sky.maps3d.interface import ReddeningMap, Rows
from pymcdust.sky.maps3d.leike import Leike
from pymcdust.sky.maps3d.shell_files import SHELL_OPTIONS, open_shells

__all__ = [
    "OPTIONS",
    "REDDENING_MAPS",
    "CombinedMap",
    "Converted",
    "ReddeningMap",
    "Rows",
    "open_reddening",
    "spread",
]

#: The kinds of 3D reddening maps that can be read: each takes a path, and options of its own.
REDDENING_MAPS: dict[str, Callable[..., ReddeningMap]] = {
    **{version: partial(Bayestar, version=version) for version in VERSIONS},
    "decaps": Decaps,
    "edenhofer2023": Edenhofer,
    "leike2020": Leike,
    "shells": open_shells,
}

#: The options that some of them have.
OPTIONS: dict[str, tuple[str, ...]] = {"leike2020": ("nside",), "shells": SHELL_OPTIONS}


def open_reddening(kind: str, path: str | Path, **options: Any) -> ReddeningMap:
    """Open a 3D reddening map.

    Parameters
    ----------
    kind : str
        A key of `REDDENING_MAPS`.
    path : path
        Its file.
    **options
        What that kind of map takes besides, `OPTIONS`: ``nside`` of `Leike`, and whatever a file
        of `Shells` does not say itself.

    Returns
    -------
    ReddeningMap
        Looked at, not read, in its own unit; `Converted` brings it to another one.

    Raises
    ------
    ConfigurationError
        If the kind or an option is unknown.
    FileFormatError
        If the file is missing, cut short, or not in the layout that it should have.
    """
    if kind not in REDDENING_MAPS:
        raise ConfigurationError(unknown("reddening map", kind, REDDENING_MAPS))
    allowed = OPTIONS.get(kind, ())
    for name in options:
        if not allowed:
            raise ConfigurationError(f"{kind} has no options, and {name!r} is given")
        if name not in allowed:
            raise ConfigurationError(unknown(f"option of {kind}", name, allowed))
    return REDDENING_MAPS[kind](path, **options)


def spread(
    source: ReddeningMap,
    nside: int,
    edges: np.ndarray,
    out: np.ndarray,
    *,
    refuse: int,
    samples_out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Put the differential reddening of a map on all pixels of a sky.

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
        Bits of `Mask`: parts of the sky with any of these are not used, nor are those that are
        not finite.
    samples_out : (sample, voxel, 12 nside^2) array of float32, optional
        Filled with so many posterior samples of the same.

    Returns
    -------
    area : (pixel,) array of float32
        Part of each pixel that is used.
    flags : (pixel,) array of uint16
        The reasons, bits of `Mask`, of the part that is not: those that were refused, and
        OUTSIDE where some of the pixel is not in the map.

    Raises
    ------
    ConfigurationError
        If the map has fewer posterior samples, or ends before the last edge everywhere.
    FileFormatError
        If the file is damaged, or rows of the map overlap.
    """
    sky = gather(source, nside, edges, out, refuse=refuse, samples_out=samples_out)
    return sky.area, sky.refused
