"""A 3D reddening map in another unit."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pymcdust.sky.maps3d.interface import ReddeningMap, Rows
from pymcdust.sky.units import convert_factor


class Converted(ReddeningMap):
    """A 3D reddening map, converted to another unit.

    Parameters
    ----------
    source : ReddeningMap
        The map.
    name : str
        Name of the conversion, a key of `pymcdust.sky.units.CONVERSIONS`.

    Raises
    ------
    ConfigurationError
        If there is no such conversion, or it is one of another unit.
    """

    def __init__(self, source: ReddeningMap, name: str) -> None:
        factor, self.unit = convert_factor(source.unit, name)
        self._factor = np.float32(factor)
        self._source = source
        self.beam, self.nside, self.n_samples = source.beam, source.nside, source.n_samples

    def check_edges(self, edges: np.ndarray) -> None:
        """Raise if the map ends before the last edge."""
        self._source.check_edges(edges)

    def rows(
        self,
        edges: np.ndarray,
        nside: int,
        n_samples: int = 0,
        reach: np.ndarray | None = None,
    ) -> Iterator[Rows]:
        """Give the pixels of the map; see `ReddeningMap.rows`."""
        for rows in self._source.rows(edges, nside, n_samples, reach):
            samples = None if rows.samples is None else self._factor * rows.samples
            yield replace(rows, cumulative=self._factor * rows.cumulative, samples=samples)
