"""How brightly each voxel of the sky glows, in the three colours of a rendering."""

from dataclasses import dataclass

import healpy
import numpy as np
import xarray as xr
from astropy import constants
from astropy import units as u

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.physics.blackbody import planck
from pymcdust.products.dust import mean_reddening
from pymcdust.products.interpolation import refine_angle, refine_distance
from pymcdust.products.reconstruction import match
from pymcdust.products.voxel_values import VoxelValues

#: Temperatures that red, green and blue are most sensitive to [K] (Zelko et al. 2022, Sec. 4.2).
CHANNEL_TEMPERATURE: tuple[float, float, float] = (16.0, 18.0, 20.0)

#: Solution of x = 3 (1 - exp(-x)), where B_nu has its maximum: x = h nu / k T.
_WIEN = 2.8214393721220787

#: Frequencies of the channels [GHz]: those where B_nu of `CHANNEL_TEMPERATURE` is largest (Wien's
#: law for frequencies, 58.79 GHz per K).
CHANNEL_FREQUENCY: tuple[float, ...] = tuple(
    _WIEN * temperature * float((constants.k_B / constants.h).to_value(u.GHz / u.K))
    for temperature in CHANNEL_TEMPERATURE
)

#: What is taken for 1: dust of 18 K in the green channel [MJy/sr].
_UNIT = planck(CHANNEL_FREQUENCY[1], CHANNEL_TEMPERATURE[1])


def glow(temperature: np.ndarray | float) -> np.ndarray:
    """Return how brightly dust glows in the three channels.

    Parameters
    ----------
    temperature : array
        Dust temperature [K].

    Returns
    -------
    (..., 3) array
        B_nu(T) at `CHANNEL_FREQUENCY`, in units of the green channel's at 18 K.

    Examples
    --------
    >>> glow(18.0).round(3)
    array([0.984, 1.   , 0.986])
    """
    temperature = np.asarray(temperature, dtype=float)[..., None]
    return planck(np.asarray(CHANNEL_FREQUENCY), temperature) / _UNIT


@dataclass(frozen=True)
class Volume:
    """Dust that glows, around the Sun.

    Parameters
    ----------
    emissivity : (voxel, pixel, 4) array of float32
        Light per length in red, green and blue, and the part of their mean that comes from voxels
        whose temperature was measured [mag/pc]: reddening per parsec times `glow`. Pixels of the
        whole sky, NESTED.
    edges : (coarse pixel, voxel + 1) array
        Distances between the voxels [pc]; one row for the whole sky, or one for each superpixel.
    """

    emissivity: np.ndarray
    edges: np.ndarray

    @property
    def nside(self) -> int:
        """Nside of the pixels."""
        return healpy.npix2nside(self.emissivity.shape[1])

    @classmethod
    def from_fit(
        cls,
        fit: xr.Dataset,
        sky: xr.Dataset,
        posterior: xr.DataTree | None = None,
        *,
        draw: int | None = None,
        nside: int | None = None,
        smooth: int = 1,
    ) -> "Volume":
        """Make a volume from a fit.

        Parameters
        ----------
        fit : Dataset
            A fit of any tying. What it does not cover is empty.
        sky : Dataset
            The sky that was fitted.
        posterior : DataTree, optional
            The posterior of the same model and sky, with `draw`.
        draw : int, optional
            Which of its draws, from 0, gives the temperatures in the place of the fit.
        nside : int, optional
            Nside of the reddening, from that of the superpixels (default) to that of the sky. Each
            pixel has the temperature of its superpixel.
        smooth : int, optional
            Into how many parts each side of a voxel is divided, between which light, and with it
            reddening and temperature, is interpolated: a power of two; 1 leaves voxels as they are.
            Each voxel keeps its sum. The volume grows as its third power. Only 1 is allowed where
            superpixels have distance edges of their own.

        Returns
        -------
        Volume
            A reddening below 0, as noise leaves it, counts as 0.

        Raises
        ------
        ConfigurationError
            If a setting is impossible.
        ResultError
            If fit, sky and posterior do not belong together, or lack something.
        """
        superpixel_nside, sky_nside = int(sky.attrs["superpixel_nside"]), int(sky.attrs["nside"])
        nside = superpixel_nside if nside is None else nside
        if not (healpy.isnsideok(nside, nest=True) and superpixel_nside <= nside <= sky_nside):
            raise ConfigurationError(
                f"nside is {nside}; allowed are powers of two from {superpixel_nside}, that of the "
                f"superpixels, to {sky_nside}, that of the sky"
            )
        if not (isinstance(smooth, int) and smooth > 0 and smooth & (smooth - 1) == 0):
            raise ConfigurationError(f"smooth is {smooth!r}; allowed are 1, 2, 4, 8 ...")
        if (posterior is None) != (draw is None):
            raise ConfigurationError("a posterior and the number of a draw belong together")
        values = VoxelValues(fit, sky, None if posterior is None else _one(posterior, draw))
        edges = values.edges * 1e3
        if (edges == edges[0]).all():
            edges = edges[:1]
        elif smooth > 1:
            raise ConfigurationError(
                f"smooth is {smooth}, but each superpixel of this sky has distance edges of its "
                "own, so that neighbours are at other distances; give 1"
            )
        rows = np.arange(values.n_row)
        temperature = values.parameter("temperature", rows, draws=draw is not None)[:, :, 0]
        measured = ~values.prior_dominated("temperature")
        if "converged" in fit:
            measured &= fit["converged"].values.astype(bool)[:, None]
        # Padding, and superpixels that the posterior lacks, have no dust whose light would count.
        empty = ~np.isfinite(temperature)
        light = glow(np.where(empty, CHANNEL_TEMPERATURE[1], temperature))
        light = np.concatenate([light, light.mean(-1, keepdims=True) * measured[..., None]], -1)
        light[empty] = 0.0

        part = (nside // superpixel_nside) ** 2
        density = reddening_at(fit, sky, nside).reshape(-1, part, values.n_voxel)
        density = np.maximum(density, 0.0) / np.diff(edges)[:, None]
        n_pixel = healpy.nside2npix(superpixel_nside)
        emissivity = np.zeros((values.n_voxel, n_pixel, part, light.shape[-1]), np.float32)
        for voxel in range(values.n_voxel):
            emissivity[voxel, values.superpixel] = (
                density[:, :, voxel, None] * light[:, None, voxel]
            )
        emissivity = emissivity.reshape(values.n_voxel, -1, light.shape[-1])
        if len(edges) > 1:
            everywhere = np.tile(edges[:1], (n_pixel, 1))
            everywhere[values.superpixel] = edges
            edges = everywhere
        if smooth > 1:
            emissivity, edges = refine_distance(emissivity, edges, smooth)
            emissivity = refine_angle(emissivity, smooth)
        return cls(emissivity, edges)


def reddening_at(fit: xr.Dataset, sky: xr.Dataset, nside: int) -> np.ndarray:
    """Return the reddening of a fit's superpixels, averaged over pixels of a lower Nside.

    Parameters
    ----------
    fit, sky : Dataset
        A fit and the sky that was fitted.
    nside : int
        Nside of the result, from that of the superpixels to that of the sky.

    Returns
    -------
    (pixel, voxel) array
        Mean reddening of the valid pixels [mag], superpixel by superpixel; 0 where none is valid.
    """
    mean = mean_reddening(sky, match(fit, sky), nside)
    return np.nan_to_num(mean).reshape(-1, sky.sizes["voxel"])


def _one(posterior: xr.DataTree, draw: int) -> xr.DataTree:
    """Return a posterior of a single draw."""
    if "posterior" not in posterior.children:
        raise ResultError("the posterior has no group posterior; give what pymcdust.sample made")
    sizes = posterior["posterior"].sizes
    count = sizes.get("chain", 0) * sizes.get("draw", 0)
    if not 0 <= draw < count:
        raise ConfigurationError(f"draw is {draw}; the posterior has draws from 0 to {count - 1}")
    chain, number = divmod(draw, sizes["draw"])
    return posterior.isel(chain=[chain], draw=[number], missing_dims="ignore")
