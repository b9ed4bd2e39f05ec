"""Mock skies whose truth is drawn from a model."""

import inspect
from pathlib import Path
from typing import Any

import xarray as xr

from pymcdust.modeling.gallery import resolve
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky import simulate


def simulate_sky(
    truth: simulate.Truth
    | simulate.Draw
    | str
    | Path
    | type[VoxelMBB]
    | VoxelMBB = "temperature_per_voxel",
    **options: Any,
) -> xr.Dataset:
    """Make a sky from known temperatures, or from those that a model's prior draws.

    Parameters
    ----------
    truth : mapping, xarray.Dataset, callable, or model
        Values of the parameters (see `pymcdust.sky.simulate.simulate_sky`), or a model by name,
        file, class or instance, from whose prior they are drawn.
    **options
        As for `pymcdust.sky.simulate.simulate_sky`: `reddening`, or `nside`, `superpixel_nside`,
        `superpixels`, `center`, `radius`, `distance_edge`; `sigma`, `noise`, `seed`.

    Returns
    -------
    xarray.Dataset
        A sky, with the truth in `true_temperature`, `true_beta`, `true_rho` and `true_offset`.
    """
    is_class = inspect.isclass(truth) and issubclass(truth, VoxelMBB)
    if is_class or isinstance(truth, str | Path | VoxelMBB):
        truth = resolve(truth).draw
    return simulate.simulate_sky(truth, **options)
