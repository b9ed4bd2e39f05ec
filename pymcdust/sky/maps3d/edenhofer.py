"""The map of Edenhofer et al. (2024): HEALPix shells of dust density out to 1.25 kpc."""

import mmap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import healpy
import numpy as np
from astropy.io import fits

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.maps3d.interface import BLOCK_BYTES, FileMap, Rows
from pymcdust.sky.validation import is_nside

_DENSITY_NAMES = ("PRIMARY", "MEAN", "SAMPLES", "HEALPIX TIMES DISTANCE")
_ORDERINGS = {"NEST": True, "NESTED": True, "RING": False}


class _Image(NamedTuple):
    """Where an image lies in the file."""

    offset: int
    dtype: str
    shape: tuple[int, ...]
    nested: bool

    def shell(self, pages: mmap.mmap, number: int, pixel: np.ndarray) -> np.ndarray:
        """Look at pixels of one shell, of whatever sample, in the file's pages."""
        size = self.shape[-1]
        offset = self.offset + number * size * np.dtype(self.dtype).itemsize
        return np.frombuffer(pages, self.dtype, count=size, offset=offset)[pixel]


class Edenhofer(FileMap):
    """The map of Edenhofer et al. (2024), in the E of Zhang, Green & Rix (2023).

    The file (FITS, as dustmaps has it) holds the density per parsec on shells (shell, pixel), or
    (sample, shell, pixel) in ``samples_healpix.fits``, the radii of the shells' centres and
    boundaries [pc], and what lies nearer than the first shell, integrated (69 pc).

    Reddening is interpolated as dustmaps does it with ``integrated=True``: the logarithm of the
    cumulative reddening, linearly in distance between the centres of shells and bilinearly
    between pixels, here at the centres of the sky's pixels (of the map's own, where the sky's are
    coarser). dustmaps has the cumulative reddening at the centre of a shell include the whole
    shell, half of which lies behind it: dust appears half a shell too near, 0.2 pc at 69 pc and
    3.5 pc at 1.25 kpc.

    Nearer than the first centre, where dustmaps has no value, the cumulative reddening is
    proportional to distance. An edge beyond the last centre is refused.

    Memory does not depend on the number of shells: the file is looked at through its pages, a
    part of the sky at a time.

    Parameters
    ----------
    path : path
        ``mean_and_std_healpix.fits``, ``samples_healpix.fits``, or those of the validation run
        that reaches 2 kpc.

    Raises
    ------
    FileFormatError
        If the file is missing, cut short, or not in this layout.
    """

    layout = "a FITS file"
    unit = "edenhofer2023"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._density: _Image | None = None
        self._inner: _Image | None = None
        tables: dict[str, np.ndarray] = {}
        try:
            with warnings.catch_warnings(), self.path.open("rb") as stream:
                # What astropy warns of is a fault where it means that something is missing.
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", message="(?s).*(truncated|corrupted)")
                with fits.open(stream, memmap=False) as hdus:
                    for hdu in hdus:
                        self._look_at(hdu, tables)
        except FileFormatError:
            raise
        except (OSError, TypeError, ValueError, KeyError, Warning) as error:
            raise self.cut_short(error) from error
        self._check(tables)

    def check_edges(self, edges: np.ndarray) -> None:
        """Raise if the last edge lies beyond the map."""
        _RadialInterpolation(1e3 * np.asarray(edges)[1:], self._radii)

    def rows(
        self,
        edges: np.ndarray,
        nside: int,
        n_samples: int = 0,
        reach: np.ndarray | None = None,
    ) -> Iterator[Rows]:
        """Give the map at the centres of the sky's pixels; see `ReddeningMap.rows`."""
        self.check_samples(n_samples)
        at = _RadialInterpolation(1e3 * np.asarray(edges)[1:], self._radii)
        fine = max(nside, self.nside)
        # A part of the sky whose pixels, and those of the map around them, fit into memory.
        bytes_each = 128 + len(at.distances) * (40 + 12 * max(1, self.n_samples))
        step = 12 * fine**2
        while step % 2 == 0 and step * bytes_each > BLOCK_BYTES:
            step //= 2
        with (
            self.path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as pages,
        ):
            for start in range(0, 12 * fine**2, step):
                pixel = np.arange(start, start + step)
                samples = self._at_pixels(pages, at, fine, pixel)
                yield Rows(
                    nside=fine,
                    index=pixel,
                    cumulative=np.median(samples, axis=1),
                    flags=np.zeros(len(pixel), dtype=np.uint16),
                    samples=samples[:, :n_samples] if n_samples else None,
                )

    def _at_pixels(
        self, pages: mmap.mmap, at: "_RadialInterpolation", nside: int, pixel: np.ndarray
    ) -> np.ndarray:
        """Interpolate at pixels' centres: (pixel, sample, edge) array of float32."""
        longitude, latitude = healpy.pix2ang(nside, pixel, nest=True, lonlat=True)
        neighbours, weights = healpy.get_interp_weights(
            self.nside, longitude, latitude, nest=self._density.nested, lonlat=True
        )
        needed, position = np.unique(neighbours, return_inverse=True)
        position = position.reshape(neighbours.shape)
        n_samples = max(1, self.n_samples)
        result = np.empty((len(pixel), n_samples, len(at.distances)), dtype=np.float32)
        for sample in range(n_samples):
            logarithms = self._log_cumulative(pages, at, sample, needed)
            for edge, logarithm in enumerate(logarithms):
                result[:, sample, edge] = np.exp((weights * logarithm[position]).sum(axis=0))
        return result

    def _log_cumulative(
        self, pages: mmap.mmap, at: "_RadialInterpolation", sample: int, needed: np.ndarray
    ) -> np.ndarray:
        """Compute the logarithm of the cumulative reddening, (edge, needed pixel) array."""
        total = self._inner.shell(pages, sample, needed).astype(float)
        result = np.zeros((len(at.distances), len(needed)))
        with np.errstate(divide="ignore", invalid="ignore"):
            for shell in range(at.last + 1):
                place = sample * len(self._depths) + shell
                total += self._depths[shell] * self._density.shell(pages, place, needed)
                weight = at.weight_of(shell)
                if weight.any():
                    result[weight > 0] += np.outer(weight[weight > 0], np.log(total))
                # Pages that were looked at count as memory of the program until it lets them go.
                if hasattr(pages, "madvise"):  # not on Windows
                    pages.madvise(mmap.MADV_DONTNEED)
        return result + at.log_scale[:, np.newaxis]

    def _look_at(self, hdu: Any, tables: dict[str, np.ndarray]) -> None:
        name = hdu.name.upper()
        if isinstance(hdu, fits.BinTableHDU):
            if hdu.columns.names and hdu.columns.names[0].startswith("radial pixel "):
                tables[hdu.columns.names[0]] = np.asarray(hdu.data.field(0), dtype=float)
        elif not hdu.shape:
            return
        elif name in _DENSITY_NAMES:
            self.nside = int(hdu.header["NSIDE"])
            self._density = self._image(hdu)
        elif name.startswith(("MEAN OF INTEGRATED INNER", "INTEGRATED INNER")):
            self._inner = self._image(hdu)

    def _image(self, hdu: Any) -> _Image:
        header = hdu.header
        ordering = str(header.get("ORDERING", "")).upper()
        if ordering not in _ORDERINGS:
            raise self.fault(f"ORDERING of {hdu.name} is {ordering!r}; allowed are NESTED and RING")
        frame = str(header.get("COORDSYS", "G")).upper()
        if not frame.startswith("G"):
            raise self.fault(f"COORDSYS of {hdu.name} is {frame!r}; the map must be Galactic")
        if header["BITPIX"] not in (-32, -64) or "BSCALE" in header or "BZERO" in header:
            raise self.fault(f"{hdu.name} does not hold plain floating-point numbers")
        dtype = f">f{-header['BITPIX'] // 8}"
        return _Image(hdu.fileinfo()["datLoc"], dtype, hdu.shape, _ORDERINGS[ordering])

    def _check(self, tables: dict[str, np.ndarray]) -> None:
        if self._density is None:
            raise self.fault("has no image of the density (of the name MEAN, SAMPLES or PRIMARY)")
        if self._inner is None:
            raise self.fault(
                "has no image of the integrated inner part; without it, what lies nearer than the "
                "first shell would be missing"
            )
        for name in ("radial pixel centers", "radial pixel boundaries"):
            if name not in tables:
                raise self.fault(f"has no table {name!r}")
        self._radii, bounds = tables["radial pixel centers"], tables["radial pixel boundaries"]
        self._depths = np.diff(bounds)
        shape = self._density.shape
        if not is_nside(self.nside) or shape[-1] != 12 * self.nside**2 or len(shape) not in (2, 3):
            raise self.fault(
                f"the density has the shape {shape}; it must be (shell, pixel) or (sample, shell, "
                f"pixel) with 12 nside^2 pixels, nside being {self.nside}"
            )
        if shape[-2] != len(self._radii) or len(bounds) != len(self._radii) + 1:
            raise self.fault(
                f"{shape[-2]} shells, {len(self._radii)} centres and {len(bounds)} boundaries do "
                "not go together"
            )
        if not (self._depths > 0).all() or not (np.diff(self._radii) > 0).all():
            raise self.fault("the radii of the shells must increase")
        if self._inner.shape != (*shape[:-2], shape[-1]):
            raise self.fault(
                f"the inner part has the shape {self._inner.shape}, and the density {shape}"
            )
        if self._inner.nested != self._density.nested:
            raise self.fault("the inner part has another ORDERING than the density")
        self.n_samples = shape[0] if len(shape) == 3 else 0
        self.beam = healpy.nside2resol(self.nside, arcmin=True)


class _RadialInterpolation:
    """Shares of the shells in each distance [pc], for the logarithm of what is cumulative."""

    def __init__(self, distances: np.ndarray, radii: np.ndarray) -> None:
        if distances[-1] > radii[-1]:
            raise ConfigurationError(
                f"the last edge is {distances[-1] / 1e3:g} kpc, and the map of Edenhofer et al. "
                f"ends at {radii[-1] / 1e3:g} kpc; end before it"
            )
        self.distances = distances
        self._right = np.searchsorted(radii, distances)
        self._left = np.clip(self._right - 1, 0, None)
        near = self._right == 0
        gap = np.where(near, 1.0, radii[self._right] - radii[self._left])
        self._share = np.where(near, 1.0, (distances - radii[self._left]) / gap)
        #: Logarithm of what the cumulative reddening is multiplied by, nearer than all shells.
        self.log_scale = np.where(near, np.log(distances / radii[0]), 0.0)
        self.last = int(self._right.max())

    def weight_of(self, shell: int) -> np.ndarray:
        """Give the weight of a shell in each distance."""
        weight = np.where(self._right == shell, self._share, 0.0)
        behind = (self._left == shell) & (self._right > shell)
        return np.where(behind, 1.0 - self._share, weight)
