"""Where the free variables of a model live in one vector of unconstrained coordinates."""

from dataclasses import dataclass

import numpy as np
import pymc as pm

from pymcdust.errors import ModelError


@dataclass(frozen=True)
class Slot:
    """Where one free variable lives in the vector of unconstrained coordinates.

    Parameters
    ----------
    name : str
        Name of the variable in the PyMC model.
    dims : tuple of str
        Its dimensions.
    shape : tuple of int
        Its shape for one block: without `superpixel` where blocks are superpixels.
    start, stop : int
        Its columns.
    lower, upper : float
        Its support.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    start: int
    stop: int
    lower: float
    upper: float

    @property
    def columns(self) -> slice:
        """The columns of the vector that hold this variable."""
        return slice(self.start, self.stop)

    def to_unconstrained(self, value: np.ndarray) -> np.ndarray:
        """Map values inside the support to the real line, as PyMC's transform does."""
        below, above = np.isfinite(self.lower), np.isfinite(self.upper)
        with np.errstate(divide="ignore"):
            if below and above:
                return np.log(value - self.lower) - np.log(self.upper - value)
            if below:
                return np.log(value - self.lower)
            return np.log(self.upper - value) if above else np.asarray(value, dtype=float)


def layout(model: pm.Model, by_superpixel: bool) -> tuple[Slot, ...]:
    """Lay out the free variables of a model in a vector.

    Parameters
    ----------
    model : pymc.Model
        The model.
    by_superpixel : bool
        Whether every superpixel has a vector of its own.

    Returns
    -------
    tuple of Slot
        One for each free variable, in the model's order.

    Raises
    ------
    ModelError
        If a prior's support is neither the real line, nor a half line from 0, nor an interval.
    """
    sizes = {name: len(values) for name, values in model.coords.items()}
    slots, start = [], 0
    for variable in model.free_RVs:
        dims = tuple(variable.dims)
        shape = tuple(sizes[d] for d in dims if not (by_superpixel and d == "superpixel"))
        stop = start + int(np.prod(shape))
        lower, upper = _support(variable.name, model.rvs_to_transforms[variable])
        slots.append(Slot(variable.name, dims, shape, start, stop, lower, upper))
        start = stop
    return tuple(slots)


def _support(name: str, transform: object) -> tuple[float, float]:
    match getattr(transform, "name", None):
        case None:
            return -np.inf, np.inf
        case "log":
            return 0.0, np.inf
        case "logodds":
            return 0.0, 1.0
        case "interval":
            return float(transform.lower.data), float(transform.upper.data)
        case other:
            raise ModelError(
                f"the prior of {name} constrains it by the transform {other!r}; allowed are priors "
                "on the real line, on positive numbers, or between two numbers"
            )
