"""Two 3D reddening maps, one of the north and one of the south, with a seam at a declination."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from pymcdust.errors import ConfigurationError
from pymcdust.sky.cuts import LEAST_AREA, Mask, declination_of
from pymcdust.sky.maps3d.gather import Gathered, gather
from pymcdust.sky.maps3d.interface import ReddeningMap, Rows
from pymcdust.sky.stages import take_room

# Pixels that are combined at a time.
_PIXELS = 2**18


class CombinedMap(ReddeningMap):
    """One map north of a declination and another one south of it.

    Within half the width of the seam on either side, the reddening goes over linearly in
    declination from one map to the other, where both have the pixel. Where only one has it, that
    one is taken, on either side. A map has a pixel where at least `LEAST_AREA` of it is in the
    map, converged, has stars and is finite. What is said of reliable distances is kept from each
    map that has a share. Posterior samples of the two maps are independent of each other, and
    sample k of one is joined to sample k of the other.

    The maps are put on the sky's pixels one after the other, in temporary files (48 MB for each
    distance and map at nside 1024), so that memory does not grow with the number of distances.

    Parameters
    ----------
    north, south : ReddeningMap
        Both in one unit; see `Converted`.
    declination : float [deg]
        Declination (ICRS) in the middle of the seam.
    width : float [deg]
        Whole width of the seam; 0 for a sharp edge.

    Raises
    ------
    ConfigurationError
        If the units differ, or the seam is not on the sky.
    """

    def __init__(
        self,
        north: ReddeningMap,
        south: ReddeningMap,
        declination: float,
        width: float,
        scratch: Path | None = None,
    ) -> None:
        if north.unit != south.unit:
            raise ConfigurationError(
                f"the northern map is in {north.unit!r} and the southern one in {south.unit!r}; "
                "bring both to one unit by naming a conversion (`convert`), such as "
                "'green2019_g_r' for bayestar2019"
            )
        if not -90 <= declination <= 90 or not 0 <= width <= 180:
            raise ConfigurationError(
                f"the seam is at declination {declination:g} with a width of {width:g}; these "
                "are degrees, from -90 to 90 and from 0 to 180"
            )
        self.unit = north.unit
        self.beam = max(north.beam, south.beam)
        self.nside = max(north.nside, south.nside)
        self.n_samples = min(north.n_samples, south.n_samples)
        self._maps, self._scratch = (north, south), scratch
        self._seam, self._width = float(declination), float(width)

    def check_edges(self, edges: np.ndarray) -> None:
        """Raise if one of the maps ends before the last edge."""
        for source in self._maps:
            source.check_edges(edges)

    def rows(
        self,
        edges: np.ndarray,
        nside: int,
        n_samples: int = 0,
        reach: np.ndarray | None = None,
    ) -> Iterator[Rows]:
        """Give the pixels of the sky that either map holds; see `ReddeningMap.rows`."""
        self.check_samples(n_samples)
        shape = (1 + n_samples, len(edges) - 1, 12 * nside**2)
        with (
            tempfile.TemporaryFile(dir=self._scratch) as file_north,
            tempfile.TemporaryFile(dir=self._scratch) as file_south,
        ):
            reddening, known = [], []
            for source, file in zip(self._maps, (file_north, file_south), strict=True):
                reddening.append(_on_disk(file, shape))
                known.append(_put(source, nside, edges, reddening[-1], reach))
            for start in range(0, shape[-1], _PIXELS):
                pixel = np.arange(start, min(start + _PIXELS, shape[-1]))
                yield self._blend(nside, pixel, reddening, known)

    def _blend(
        self, nside: int, pixel: np.ndarray, reddening: list[np.ndarray], known: list[Gathered]
    ) -> Rows:
        has_north, has_south = (sky.area[pixel] >= LEAST_AREA for sky in known)
        both = has_north & has_south
        north = has_north.astype(float)
        north[both] = self._share_of_north(nside, pixel[both])
        shares = (north, has_south * (1.0 - north))
        total = np.zeros((*reddening[0].shape[:2], len(pixel)), dtype=np.float32)
        flags = np.zeros(len(pixel), dtype=np.uint16)
        for share, values, sky in zip(shares, reddening, known, strict=True):
            here = share > 0
            part = values[..., pixel[0] : pixel[-1] + 1][..., here]
            total[..., here] += share[here].astype(np.float32) * part
            flags[here] |= sky.noted[pixel[here]]
        nowhere = ~(has_north | has_south)
        total[..., nowhere] = np.nan
        for sky in known:
            flags[nowhere] |= sky.refused[pixel[nowhere]]
        # Where one map says why it has no value, that the other one ends before says nothing more.
        outside = np.uint16(Mask.OUTSIDE)
        flags = np.where(flags & ~outside, flags & ~outside, flags)
        kept = flags != outside
        profiles = np.moveaxis(total[..., kept].cumsum(axis=1), -1, 0)
        return Rows(
            nside=nside,
            index=pixel[kept],
            cumulative=profiles[:, 0],
            flags=flags[kept],
            samples=profiles[:, 1:] if profiles.shape[1] > 1 else None,
        )

    def _share_of_north(self, nside: int, pixel: np.ndarray) -> np.ndarray:
        declination = declination_of(nside, pixel)
        if self._width == 0:
            return (declination >= self._seam).astype(float)
        return np.clip(0.5 + (declination - self._seam) / self._width, 0.0, 1.0)


def _put(
    source: ReddeningMap,
    nside: int,
    edges: np.ndarray,
    out: np.ndarray,
    reach: np.ndarray | None,
) -> Gathered:
    refuse = Mask.NOT_CONVERGED | Mask.NO_STARS
    samples = out[1:] if len(out) > 1 else None
    return gather(source, nside, edges, out[0], refuse=refuse, samples_out=samples, reach=reach)


def _on_disk(file: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
    take_room(file, 4 * int(np.prod(shape)))
    return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
