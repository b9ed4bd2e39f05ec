"""Mock skies to measure on: clouds that differ from voxel to voxel, each at its temperature."""

import numpy as np
import xarray as xr

from pymcdust.sky.dataset import build_sky
from pymcdust.sky.edges import edges_from_slices
from pymcdust.sky.morphology import mock_reddening
from pymcdust.sky.simulate import simulate_sky

#: The distance cuts of the paper's map: 9 voxels.
SLICES: tuple[int, int, int] = (15, 96, 10)

#: Superpixels as in the paper: 1,024 pixels of Nside 1024.
NSIDE: int = 1024
SUPERPIXEL_NSIDE: int = 32

#: Superpixels that are simulated, spread over the whole sky; larger skies repeat their clouds.
SIMULATED: int = 256

#: Scatter of the logarithm of the reddening between repetitions of the same clouds.
SCATTER: float = 0.2


def mock_sky(
    n_superpixel: int,
    *,
    nside: int = NSIDE,
    slices: tuple[int, int, int] = SLICES,
    column: float | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Make a sky of float32 arrays, in which no superpixel equals another.

    Up to `SIMULATED` superpixels, spread over the sky from plane to poles, are simulated. Further
    ones take over their clouds, thicker or thinner as a whole, and all have noise of their own.

    Parameters
    ----------
    n_superpixel : int
        Number of superpixels.
    nside : int, optional
        Nside of the pixels; the superpixels have `SUPERPIXEL_NSIDE`.
    slices : (start, stop, step), optional
        Distance cuts, as a range of Bayestar's slices.
    column : float, optional
        Mean reddening of every voxel of every superpixel [mag]; by default that of a disc.
    seed : int, optional
        Seed of clouds, temperatures and noise.

    Returns
    -------
    xarray.Dataset
        A sky.
    """
    n_simulated = min(n_superpixel, SIMULATED)
    everywhere = 12 * SUPERPIXEL_NSIDE**2
    dust = mock_reddening(
        nside=nside,
        superpixel_nside=SUPERPIXEL_NSIDE,
        superpixels=np.arange(n_simulated) * everywhere // n_simulated,
        distance_edge=edges_from_slices(slices),
        seed=seed,
    )
    if column is not None:
        dust["reddening"] = dust["reddening"] * (column / dust["reddening"].mean("pixel"))
    clouds = simulate_sky(_truth, reddening=dust, noise=False, seed=seed)
    rng = np.random.default_rng(seed)
    sigma = clouds.sigma.values.astype(np.float32)
    sizes = clouds.sizes
    reddening = np.empty((n_superpixel, sizes["pixel"], sizes["voxel"]), dtype=np.float32)
    emission = np.empty((n_superpixel, sizes["pixel"], sizes["band"]), dtype=np.float32)
    for start in range(0, n_superpixel, n_simulated):
        rows = slice(start, min(start + n_simulated, n_superpixel))
        n_row = rows.stop - rows.start
        thicker = np.exp(SCATTER * rng.normal(size=(n_row, 1, 1)))
        reddening[rows] = thicker * clouds.reddening.values[:n_row]
        emission[rows] = thicker * clouds.emission.values[:n_row]
        emission[rows] += sigma * rng.standard_normal(emission[rows].shape, dtype=np.float32)
    return build_sky(
        reddening,
        emission,
        clouds.sigma.values,
        clouds.distance_edge.values,
        np.arange(n_superpixel),
        nside=nside,
        superpixel_nside=SUPERPIXEL_NSIDE,
        reddening_unit=clouds.attrs["reddening_unit"],
    )


def _truth(coords: dict[str, np.ndarray], rng: np.random.Generator) -> xr.Dataset:
    n_superpixel, n_voxel = len(coords["superpixel"]), len(coords["voxel"])
    return xr.Dataset(
        {
            "temperature": (
                ("superpixel", "voxel"),
                rng.normal(18.1, 2.0, (n_superpixel, n_voxel)),
            ),
            "beta": ("superpixel", rng.normal(1.6, 0.1, n_superpixel)),
            "rho": ("superpixel", 1e-4 * np.exp(rng.normal(0.0, 0.3, n_superpixel))),
        }
    )
