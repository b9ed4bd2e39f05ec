"""How a model declares its parameters: a prior, and the dimensions over which it is repeated."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np
import pymc as pm
import pymc.dims as pmd
import xarray as xr
from pymc_extras.deserialize import deserialize
from pymc_extras.prior import Prior, UnsupportedDistributionError

from pymcdust.errors import ModelError, unknown

#: What ties a parameter: the name of the tying and the dimensions of its prior.
TYINGS: dict[str, tuple[str, ...]] = {
    "per voxel": ("superpixel", "voxel"),
    "per superpixel": ("superpixel",),
    "over sky": (),
    "fixed": (),
}


@dataclass(frozen=True)
class Parameter:
    """A model parameter: what is believed of it, and where it may differ.

    Made by `per_voxel`, `per_superpixel`, `over_sky` and `fixed`.

    Parameters
    ----------
    prior : Prior or float
        The prior (its dimensions follow from the tying), or the value of a fixed parameter.
    tying : str
        A key of `TYINGS`.
    unit : str
        Unit of the value, in FITS notation.
    by_band : bool
        Whether each band has a value of its own, as offsets do.
    """

    prior: Prior | float
    tying: str
    unit: str = ""
    by_band: bool = False

    def __post_init__(self) -> None:
        if self.tying not in TYINGS:
            raise ModelError(unknown("tying", self.tying, TYINGS))
        if self.tying == "fixed":
            if not isinstance(self.prior, int | float) or not math.isfinite(self.prior):
                raise ModelError(f"fixed(...) takes a finite number, not {self.prior!r}")
        elif not isinstance(self.prior, Prior):
            raise ModelError(
                f"a parameter {self.tying} takes a Prior, not {self.prior!r}; "
                "to hold it at a number, write fixed(number)"
            )
        elif self.prior.transform is not None:
            raise ModelError(
                f"the prior {self.prior} is a transformed one, whose density is that of another "
                "variable; write the distribution itself, such as LogNormal for exp of a Normal"
            )
        elif self.prior.dims is not None:
            raise ModelError(
                f"the prior {self.prior} names dimensions; leave them out: they follow from the "
                "tying, which is what per_voxel, per_superpixel and over_sky say"
            )

    @property
    def free(self) -> bool:
        """Whether the parameter is inferred."""
        return self.tying != "fixed"

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions over which the parameter varies."""
        by_band = ("band",) if self.by_band and self.free else ()
        return TYINGS[self.tying] + by_band

    def for_each_band(self) -> "Parameter":
        """Return the same declaration with a value for each band."""
        return replace(self, by_band=True)

    def centred(self) -> "Parameter":
        """Return the same declaration with every prior in its centred form."""
        return replace(self, prior=_centred(self.prior)) if self.free else self

    def check_sizes(self, name: str, sizes: Mapping[str, int]) -> None:
        """Refuse a prior whose numbers are not as many as the voxels, bands or superpixels are.

        Parameters
        ----------
        name : str
            Name of the parameter.
        sizes : mapping
            Number of superpixels, voxels and bands.

        Raises
        ------
        ModelError
            If the lengths differ.
        """
        priors = [self.prior] if self.free else []
        for prior in priors:
            for key, value in prior.parameters.items():
                if isinstance(value, Prior):
                    priors.append(value)
                for dim, length in zip(_array_dims(value, self.dims), np.shape(value), strict=True):
                    if length not in (1, sizes.get(dim, length)):
                        raise ModelError(
                            f"the prior of {name} has {length} values of {key} along {dim}, where "
                            f"the sky has {sizes[dim]}; give one for each, or a number for all"
                        )

    def create(self, name: str, numbers: Mapping[str, Any] | None = None) -> Any:
        """Create the variable of this parameter in the PyMC model that is being built.

        Parameters
        ----------
        name : str
            Name of the variable.
        numbers : mapping, optional
            Tensors that take the place of numbers of the prior, such as ``"temperature.mu"``, or of
            a prior in its hierarchy, such as ``"temperature_mu.sigma"``. The variable then has no
            transform, and is centred.
        """
        if not self.free:
            return self.prior
        if numbers:
            return _untransformed(self.prior, name, self.dims, numbers)
        prior = deepcopy(self.prior)
        prior.dims = self.dims
        prior.parameters = {key: named(value, self.dims) for key, value in prior.parameters.items()}
        try:
            variable = prior.create_variable(name, xdist=True)
        except (NotImplementedError, UnsupportedDistributionError) as error:
            raise ModelError(f"the prior {self.prior} of {name} cannot be used: {error}") from error
        if not variable.dtype.startswith("float"):
            raise ModelError(
                f"the prior {self.prior} of {name} is one of whole numbers; it must be continuous"
            )
        return variable

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration in plain types."""
        prior = self.prior.to_dict() if isinstance(self.prior, Prior) else self.prior
        return {"tying": self.tying, "prior": prior, "unit": self.unit}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Parameter":
        """Make the parameter that `to_dict` described."""
        prior = data["prior"]
        if isinstance(prior, dict):
            prior = deserialize(prior)
        return cls(prior, data["tying"], data.get("unit", ""))

    def __repr__(self) -> str:
        unit = f', unit="{self.unit}"' if self.unit else ""
        return f"{self.tying.replace(' ', '_')}({self.prior}{unit})"


def per_voxel(prior: Prior, unit: str = "") -> Parameter:
    """Declare a parameter that every voxel of every superpixel has for itself.

    Parameters
    ----------
    prior : Prior
        Prior of each value.
    unit : str, optional
        Unit of the value.

    Examples
    --------
    >>> per_voxel(Prior("Normal", mu=18.0, sigma=3.0), unit="K")
    per_voxel(Prior("Normal", mu=18.0, sigma=3.0), unit="K")
    """
    return Parameter(prior, "per voxel", unit)


def per_superpixel(prior: Prior, unit: str = "") -> Parameter:
    """Declare a parameter that the voxels of a sightline share; see `per_voxel`."""
    return Parameter(prior, "per superpixel", unit)


def over_sky(prior: Prior, unit: str = "") -> Parameter:
    """Declare a parameter that the whole sky shares; see `per_voxel`."""
    return Parameter(prior, "over sky", unit)


def fixed(value: float, unit: str = "") -> Parameter:
    """Declare a parameter that is held at a number."""
    return Parameter(value, "fixed", unit)


def named(value: Any, dims: tuple[str, ...]) -> Any:
    """Name the dimensions of a prior's own parameter, where that is an array.

    Parameters
    ----------
    value : number, array or DataArray
        The parameter.
    dims : tuple of str
        Dimensions of the variable. An array has the last of them.

    Returns
    -------
    number or xarray.DataArray
        The same values.
    """
    if isinstance(value, np.ndarray) and value.ndim:
        return xr.DataArray(value, dims=_array_dims(value, dims))
    return value


def _array_dims(value: Any, dims: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, xr.DataArray):
        return value.dims
    rank = np.ndim(value) if isinstance(value, np.ndarray | int | float) else 0
    return dims[len(dims) - rank :] if rank else ()


def _untransformed(
    prior: Prior, name: str, dims: tuple[str, ...], numbers: Mapping[str, Any]
) -> Any:
    """Create a variable without a transform, which would need bounds that are plain numbers."""
    own = {
        key: _untransformed(value, f"{name}_{key}", value.dims or (), numbers)
        if isinstance(value, Prior)
        # PyTensor would keep a plain number in single precision.
        else numbers.get(
            f"{name}.{key}", named(value, dims) if np.ndim(value) else np.float64(value)
        )
        for key, value in prior.parameters.items()
    }
    distribution = getattr(pmd, prior.distribution)
    return distribution(name, **own, dims=dims, default_transform=None)


def _centred(prior: Prior) -> Prior:
    prior = deepcopy(prior)
    prior.centered = True
    prior.parameters = {
        name: _centred(value) if isinstance(value, Prior) else value
        for name, value in prior.parameters.items()
    }
    return prior


def is_root(prior: Prior) -> bool:
    """Tell whether a prior's own parameters are numbers, not further priors."""
    return all(
        isinstance(value, int | float | np.ndarray | xr.DataArray)
        for value in prior.parameters.values()
    )


def prior_statistic(prior: Prior, statistic: str) -> np.ndarray | float:
    """Evaluate a statistic of a prior whose own parameters are numbers.

    Parameters
    ----------
    prior : Prior
        The prior.
    statistic : str
        Name of a function that ``pytensor_distributions`` has for every distribution: ``"std"``,
        ``"mode"``, ``"median"`` and others.

    Returns
    -------
    float or array
        Its value; NaN where the distribution has no such statistic.
    """
    try:
        module = import_module(f"pytensor_distributions.{prior.distribution.lower()}")
        function = getattr(module, statistic)
        # A distribution that is cut off on one side only has its other bound at infinity.
        bounds = {"lower": -math.inf, "upper": math.inf}
        taken = [name for name in bounds if name in signature(function).parameters]
        own = {name: np.asarray(x) if np.ndim(x) else x for name, x in prior.parameters.items()}
        graph = function(**{name: bounds[name] for name in taken} | own)
    except (ImportError, AttributeError, TypeError):
        return math.nan
    value = np.asarray(graph.eval(mode="FAST_COMPILE") if hasattr(graph, "eval") else graph)
    return float(value) if value.ndim == 0 else value


def prior_sd(prior: Prior) -> float:
    """Return the standard deviation of a prior, NaN where it has none or is hierarchical."""
    if not is_root(prior):
        return math.nan
    return float(np.mean(prior_statistic(prior, "std")))


def prior_width(prior: Prior, name: str) -> dict[str, Any]:
    """Tell how wide the prior of a variable is, as attributes of the variable.

    Parameters
    ----------
    prior : Prior
        The prior.
    name : str
        Name of the variable.

    Returns
    -------
    dict
        ``prior_sd``, see `prior_sd`. Where an estimate is to be compared with another width, also
        ``prior_sigma``: a number, or the name of the variable that is inferred for it; and
        ``prior_is_log`` if that is the width of the logarithm.

    Examples
    --------
    >>> prior_width(Prior("LogNormal", mu=0.0, sigma=0.5), "rho")["prior_sigma"]
    0.5
    >>> scatter = Prior("HalfNormal", sigma=2.0)
    >>> prior_width(Prior("Normal", mu=18.0, sigma=scatter), "temperature")["prior_sigma"]
    'temperature_sigma'
    """
    width: dict[str, Any] = {"prior_sd": prior_sd(prior)}
    sigma = prior.parameters.get("sigma")
    # The logarithm is what is symmetric: at small values a lognormal is narrow, and not informed.
    is_log = prior.distribution == "LogNormal"
    if isinstance(sigma, Prior):
        width["prior_sigma"] = f"{name}_sigma"
    elif sigma is not None and (is_log or not is_root(prior)):
        width["prior_sigma"] = float(np.mean(sigma))
    if is_log:
        width["prior_is_log"] = True
    return width


def log_peak(prior: Prior) -> np.ndarray | float:
    """Return the highest log density of a prior, 0 where it is hierarchical or improper.

    It is what the objective leaves out of the log prior, so that a Gaussian prior contributes
    ((x - mu) / sigma)^2 and a flat prior nothing, as in Eq. A1 of Zelko et al. (2022).
    """
    if not is_root(prior):
        return 0.0
    for reference in ("mode", "median"):
        point = prior_statistic(prior, reference)
        if np.all(np.isfinite(point)):
            # PyTensor would keep a plain number in single precision where that holds it.
            precise = {name: np.asarray(x, dtype=float) for name, x in prior.parameters.items()}
            dist = prior.pymc_distribution.dist(**precise)
            return np.asarray(pm.logp(dist, point).eval(mode="FAST_COMPILE"))[()]
    return 0.0


def describe_prior(prior: Prior | float) -> str:
    """Write a prior on one line: ``TruncatedNormal(18.1, 9, lower=5, upper=100)``."""
    if not isinstance(prior, Prior):
        return f"{prior:g}"
    words = []
    for name, value in prior.parameters.items():
        known = isinstance(value, Prior | int | float)
        text = describe_prior(value) if known else str(np.asarray(value).tolist())
        words.append(text if name in ("mu", "sigma", "alpha", "beta") else f"{name}={text}")
    return f"{prior.distribution}({', '.join(words)})"
