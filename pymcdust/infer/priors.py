"""The priors of what was drawn, at the draws: their quantiles, and densities, of other priors too.

A prior's own numbers are called by the variable and the number, ``"temperature.mu"``; those of a
prior in a hierarchy by the hyperparameter, ``"temperature_mu.sigma"``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.infer.coordinates import log_density, to_normal
from pymcdust.modeling.parameter import Prior, named
from pymcdust.modeling.voxel_mbb import VoxelMBB, data_name


def free_variables(model: VoxelMBB) -> dict[str, Prior]:
    """Return the prior of every variable that a model infers, hyperparameters after their own.

    Parameters
    ----------
    model : VoxelMBB
        The model.

    Returns
    -------
    dict of Prior
        By the names that the variables have in a posterior.
    """
    found = {}
    for name, parameter in model.free_parameters.items():
        waiting = {name: parameter.prior}
        while waiting:
            variable, prior = waiting.popitem()
            found[variable] = prior
            waiting |= {
                f"{variable}_{key}": value
                for key, value in prior.parameters.items()
                if isinstance(value, Prior)
            }
    return found


def prior_quantiles(
    model: VoxelMBB, draws: xr.Dataset, name: str, numbers: Mapping[str, float] | None = None
) -> xr.DataArray:
    """Return the draws of a variable as quantiles of its prior, of which that makes a N(0, 1).

    Parameters
    ----------
    model : VoxelMBB
        The model.
    draws : Dataset
        Draws of all its variables.
    name : str
        A variable.
    numbers : mapping, optional
        Numbers of priors that take the place of those that are declared.

    Returns
    -------
    DataArray
        ``Phi^-1(F(x))`` with the dimensions of the draws; F is the prior given its own parameters,
        where these are inferred.

    Raises
    ------
    ModelError
        If the distribution's quantiles are not known.
    """
    prior = model.prior_of(name)
    own = _own(prior, draws, name, numbers or {})
    return draws[name].copy(data=to_normal(prior, draws[name].values, own))


def log_prior(
    model: VoxelMBB, draws: xr.Dataset, name: str, numbers: Mapping[str, float] | None = None
) -> xr.DataArray:
    """Return the log prior density of a variable at its draws, value by value.

    Parameters
    ----------
    model : VoxelMBB
        The model.
    draws : Dataset
        Draws of all its variables.
    name : str
        A variable.
    numbers : mapping, optional
        Numbers of priors that take the place of those that are declared; those of other variables
        have no effect.

    Returns
    -------
    DataArray
        Normalised, with the dimensions of the draws; minus infinity outside of the support.

    Raises
    ------
    ModelError
        If the distribution is not known.
    """
    prior = model.prior_of(name)
    own = _own(prior, draws, name, numbers or {})
    return draws[name].copy(data=log_density(prior, draws[name].values, own))


def with_numbers(
    rows: xr.Dataset, model: VoxelMBB, numbers: Mapping[str, np.ndarray | float]
) -> xr.Dataset:
    """Add numbers of priors to rows of data.

    Parameters
    ----------
    rows : Dataset
        Rows of data.
    model : VoxelMBB
        The model.
    numbers : mapping
        Values of numbers such as ``"temperature.mu"``: one for all superpixels, or for each.

    Returns
    -------
    Dataset
        With `temperature_mu` and the like, of the dimension `superpixel`, or none where the model
        couples superpixels.
    """
    dims = () if model.couples_superpixels else ("superpixel",)
    shape = tuple(rows.sizes[dim] for dim in dims)
    return rows.assign(
        {
            data_name(number): (dims, np.broadcast_to(np.asarray(value, dtype=float), shape))
            for number, value in numbers.items()
        }
    )


def _own(
    prior: Prior, draws: xr.Dataset, name: str, numbers: Mapping[str, float]
) -> dict[str, float | np.ndarray]:
    """Return a prior's own parameters: numbers, or arrays of the dimensions of the draws."""
    variable = draws[name]
    own: dict[str, Any] = {}
    for key, value in prior.parameters.items():
        value = draws[f"{name}_{key}"] if isinstance(value, Prior) else value
        value = named(numbers.get(f"{name}.{key}", value), variable.dims)
        if isinstance(value, xr.DataArray):
            # Voxels and bands have numbers here, not names, and the order of the variable's.
            bare = variable.drop_vars(variable.coords)
            value = value.drop_vars(value.coords).broadcast_like(bare).transpose(*bare.dims).values
        own[key] = value
    return own
