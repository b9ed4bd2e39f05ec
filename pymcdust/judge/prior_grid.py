"""The priors of a study: the declared one, and others that differ from it in some numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product as all_combinations
from typing import Any

import numpy as np

from pymcdust.errors import ConfigurationError, ModelError, listing, unknown
from pymcdust.infer.coordinates import QUANTILES
from pymcdust.infer.priors import free_variables
from pymcdust.modeling.parameter import Prior, describe_prior
from pymcdust.modeling.voxel_mbb import VoxelMBB

#: Numbers of priors that must be above 0.
POSITIVE = ("sigma", "lam", "scale")


@dataclass(frozen=True)
class Alternative:
    """A prior that might have been declared.

    Parameters
    ----------
    label : str
        What it is called: ``"temperature mu=14"``.
    numbers : dict of float
        What differs from the declared priors: ``{"temperature.mu": 14.0}``.
    widens : bool
        Whether it allows values that the declared prior does not.
    """

    label: str
    numbers: dict[str, float]
    widens: bool = False


def declared_number(model: VoxelMBB, number: str) -> float:
    """Return the declared value of a number such as ``"temperature.mu"``."""
    variable, key = number.split(".")
    return float(model.prior_of(variable).parameters[key])


def prior_grid(
    model: VoxelMBB, numbers: Mapping[str, Any], *, product: bool = False
) -> tuple[Alternative, ...]:
    """List the priors of a study.

    Parameters
    ----------
    model : VoxelMBB
        The model.
    numbers : mapping
        By variable, a mapping from numbers of its prior to the values that they are to take.
    product : bool, optional
        Every combination of the values; by default one number at a time is changed.

    Returns
    -------
    tuple of Alternative
        The declared prior first, the others in the order given; none that equals the declared one.

    Raises
    ------
    ModelError
        If a parameter is unknown or fixed.
    ConfigurationError
        If a number is unknown, inferred itself, or has an impossible value; if nothing is varied.
    """
    grid = {
        f"{variable}.{key}": values
        for variable, wanted in numbers.items()
        for key, values in _values_of(model, variable, wanted).items()
    }
    if not grid:
        raise ConfigurationError(
            "a study without numbers to vary; give those of a prior and their values, such as "
            'temperature={"mu": [14, 18.1, 22]}'
        )
    if product:
        chosen = all_combinations(*grid.values())
        changes = [dict(zip(grid, values, strict=True)) for values in chosen]
    else:
        changes = [{number: value} for number, values in grid.items() for value in values]
    found: dict[str, Alternative] = {}
    for change in changes:
        kept = {n: value for n, value in change.items() if value != declared_number(model, n)}
        if kept:
            label = _label(kept)
            found[label] = Alternative(label, kept, _check_together(model, kept))
    if not found:
        raise ConfigurationError(
            f"every value of {listing(grid)} is the declared one; give others to compare it with"
        )
    return (Alternative("declared", {}), *found.values())


def _values_of(model: VoxelMBB, variable: str, wanted: Any) -> dict[str, list[float]]:
    """Check the numbers of one variable's prior, and return the values that they are to take."""
    prior = _prior_of(model, variable)
    if not isinstance(wanted, Mapping):
        raise ConfigurationError(
            f"{variable} is given {wanted!r}; give numbers of its prior and their values, such as "
            f'{variable}={{"{next(iter(prior.parameters))}": [...]}}'
        )
    found = {}
    for key, values in wanted.items():
        if key not in prior.parameters:
            kind = f"number of the prior {describe_prior(prior)} of {variable}"
            raise ConfigurationError(unknown(kind, key, prior.parameters))
        if isinstance(own := prior.parameters[key], Prior):
            raise ConfigurationError(
                f"{key} of {variable} is no number but inferred itself, with the prior "
                f"{describe_prior(own)}; vary the numbers of that: {variable}_{key}="
                f'{{"{next(iter(own.parameters))}": [...]}}'
            )
        if np.ndim(own):
            raise ConfigurationError(
                f"{key} of {variable} is declared as {np.size(own)} numbers; varied can be a "
                "number that is the same for all"
            )
        values = np.atleast_1d(values) if isinstance(values, int | float) else values
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
            raise ConfigurationError(f"{key} of {variable} is given {values!r}; give a list")
        found[key] = [_number(variable, key, value) for value in values]
    return found


def _prior_of(model: VoxelMBB, variable: str) -> Prior:
    free = free_variables(model)
    if variable in free:
        if free[variable].distribution not in QUANTILES:
            raise ModelError(
                f"the prior of {variable} is {free[variable]}; studied can be those of "
                f"{listing(QUANTILES)}"
            )
        return free[variable]
    if variable in model.parameters:
        raise ModelError(
            f"{variable} is fixed at {model.parameters[variable].prior:g} in {model.name}: it has "
            f"no prior; the variables with priors are {listing(free)}"
        )
    raise ModelError(f"{model.name}: {unknown('variable', variable, free)}")


def _number(variable: str, key: str, value: Any) -> float:
    """Return a number of a prior, if it can be one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigurationError(f"{key} of {variable} is {value!r}; allowed are finite numbers")
    if key in POSITIVE and number <= 0:
        raise ConfigurationError(f"{key} of {variable} is {number:g}; it must be above 0")
    return number


def _check_together(model: VoxelMBB, numbers: Mapping[str, float]) -> bool:
    """Refuse bounds that leave nothing between them; tell whether any has been widened."""
    widens = False
    for variable in {number.split(".")[0] for number in numbers}:
        declared = model.prior_of(variable).parameters
        changed = {
            key: numbers.get(f"{variable}.{key}", declared[key])
            for key in ("lower", "upper")
            if declared.get(key) is not None
        }
        lower, upper = changed.get("lower", -math.inf), changed.get("upper", math.inf)
        if np.any(np.greater_equal(lower, upper)):
            raise ConfigurationError(
                f"the prior of {variable} would have nothing between its bounds {lower:g} and "
                f"{upper:g}; lower must be below upper"
            )
        widens |= bool(np.any(np.less(lower, declared.get("lower", -math.inf))))
        widens |= bool(np.any(np.greater(upper, declared.get("upper", math.inf))))
    return widens


def _label(numbers: Mapping[str, float]) -> str:
    """Write what differs: ``temperature mu=14, sigma=3; beta mu=1.5``."""
    words: dict[str, list[str]] = {}
    for number, value in numbers.items():
        variable, key = number.split(".")
        words.setdefault(variable, []).append(f"{key}={value:g}")
    return "; ".join(f"{variable} {', '.join(changes)}" for variable, changes in words.items())
