"""Prior-quantile coordinates: every parameter as the standard normal that its prior makes of it.

A natural parameter x with the prior's distribution function F becomes ``u = Phi^-1(F(x))``. The
prior of u is a standard normal, whatever that of x: bounds vanish, the logarithm of a log-normal
parameter is linear, and a voxel without dust is exactly a standard normal.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor.xtensor.math as ptx
from pymc_extras.prior import Prior
from scipy import stats
from scipy.special import ndtr, ndtri

from pymcdust.errors import ModelError, listing

SQRT_2 = 2**0.5


def from_normal(prior: Prior, u: Any, parameters: dict[str, Any]) -> Any:
    """Map a standard normal variable to one with the distribution of a prior.

    Parameters
    ----------
    prior : Prior
        The prior.
    u : tensor
        Standard normal.
    parameters : dict
        The prior's own parameters: numbers, or tensors where they are inferred.

    Returns
    -------
    tensor
        ``F^-1(Phi(u))``.

    Raises
    ------
    ModelError
        If the distribution's quantiles are not known here.
    """
    return _known(prior, QUANTILES)(u, **parameters)


def to_normal(prior: Prior, x: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
    """Map values with the distribution of a prior to standard normal ones, as numbers.

    Parameters
    ----------
    prior : Prior
        The prior.
    x : array
        Values inside of the prior's support.
    parameters : mapping
        The prior's own parameters: numbers, or arrays that broadcast against `x`.

    Returns
    -------
    array
        ``Phi^-1(F(x))``: the inverse of `from_normal`.

    Raises
    ------
    ModelError
        If the distribution's quantiles are not known here.
    """
    low, high = _known(prior, _SHARES)(np.asarray(x, dtype=float), **parameters)
    # From the nearer tail, which has its digits.
    nearer = np.minimum(np.minimum(low, high), 0.5)
    return np.where(low < high, 1.0, -1.0) * ndtri(nearer)


def log_density(prior: Prior, x: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return the log density of a prior, normalised, value by value.

    Parameters
    ----------
    prior : Prior
        The prior.
    x : array
        Values.
    parameters : mapping
        The prior's own parameters: numbers, or arrays that broadcast against `x`.

    Returns
    -------
    array
        Of the shape of `x`, minus infinity outside of the support.

    Raises
    ------
    ModelError
        If the distribution is not known here.
    """
    return _known(prior, _LAWS)(**parameters).logpdf(x)


def _known(prior: Prior, functions: Mapping[str, Any]) -> Any:
    try:
        return functions[prior.distribution]
    except KeyError:
        raise ModelError(
            f"no prior-quantile coordinates are known for {prior.distribution}; allowed are "
            f"{listing(QUANTILES)}"
        ) from None


def _normal(u: Any, mu: Any = 0.0, sigma: Any = 1.0) -> Any:
    return mu + sigma * u


def _log_normal(u: Any, mu: Any = 0.0, sigma: Any = 1.0) -> Any:
    return ptx.exp(mu + sigma * u)


def _half_normal(u: Any, sigma: Any = 1.0) -> Any:
    # F(x) = erf(x / sigma sqrt(2)), so that the upper tail is erfc.
    return sigma * SQRT_2 * ptx.erfcinv(0.5 * ptx.erfc(u / SQRT_2))


def _uniform(u: Any, lower: Any = 0.0, upper: Any = 1.0) -> Any:
    return lower + (upper - lower) * _below(u)


def _exponential(u: Any, lam: Any = None, scale: Any = None) -> Any:
    scale = 1 / lam if scale is None else scale
    return -scale * ptx.log(_below(-u))


def _truncated_normal(u: Any, mu: Any, sigma: Any, lower: Any = None, upper: Any = None) -> Any:
    # The share of the normal distribution below x is interpolated between those below the bounds,
    # the share above x between those above them. Each loses its digits in the other's tail.
    infinite = float("inf")
    start = -infinite if lower is None else (lower - mu) / sigma
    stop = infinite if upper is None else (upper - mu) / sigma
    low = _below(start) * _below(-u) + _below(stop) * _below(u)
    high = _below(-start) * _below(-u) + _below(-stop) * _below(u)
    z = ptx.where(low < high, _quantile(ptx.minimum(low, 0.5)), -_quantile(ptx.minimum(high, 0.5)))
    return mu + sigma * z


def _below(z: Any) -> Any:
    """Return the share of a standard normal distribution below z."""
    return 0.5 * ptx.erfc(-z / SQRT_2)


def _quantile(share: Any) -> Any:
    """Return the z below which a share of a standard normal distribution lies."""
    return -SQRT_2 * ptx.erfcinv(2 * share)


#: The distributions whose quantiles are known, by their names in PyMC.
QUANTILES = {
    "Normal": _normal,
    "LogNormal": _log_normal,
    "HalfNormal": _half_normal,
    "Uniform": _uniform,
    "Exponential": _exponential,
    "TruncatedNormal": _truncated_normal,
}


#: The same distributions, by SciPy.
_LAWS = {
    "Normal": lambda mu=0.0, sigma=1.0: stats.norm(mu, sigma),
    "LogNormal": lambda mu=0.0, sigma=1.0: stats.lognorm(sigma, scale=np.exp(mu)),
    "HalfNormal": lambda sigma=1.0: stats.halfnorm(scale=sigma),
    "Uniform": lambda lower=0.0, upper=1.0: stats.uniform(lower, upper - lower),
    "Exponential": lambda lam=None, scale=None: stats.expon(
        scale=1 / lam if scale is None else scale
    ),
    "TruncatedNormal": lambda mu, sigma, lower=None, upper=None: stats.truncnorm(
        *_bounds(mu, sigma, lower, upper), mu, sigma
    ),
}


def _bounds(mu: Any, sigma: Any, lower: Any, upper: Any) -> tuple[Any, Any]:
    """Return the bounds of a truncated normal distribution, as a standard normal has them."""
    start = -np.inf if lower is None else (lower - mu) / sigma
    return start, np.inf if upper is None else (upper - mu) / sigma


def _truncated_shares(
    x: np.ndarray, mu: Any, sigma: Any, lower: Any = None, upper: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    start, stop = _bounds(mu, sigma, lower, upper)
    z = np.clip((x - mu) / sigma, start, stop)
    # Differences of the tail that both bounds are nearer to: in the other one they cancel.
    side = np.where(np.asarray(start) + stop > 0, -1.0, 1.0)
    inside = side * (ndtr(side * stop) - ndtr(side * start))
    low = side * (ndtr(side * z) - ndtr(side * start)) / inside
    return low, side * (ndtr(side * stop) - ndtr(side * z)) / inside


def _shares_of(law: Any) -> Any:
    """Return the function of a law's shares below and above x."""
    return lambda x, **parameters: (law(**parameters).cdf(x), law(**parameters).sf(x))


#: Shares of the distributions below and above a value.
_SHARES = {name: _shares_of(law) for name, law in _LAWS.items()} | {
    "TruncatedNormal": _truncated_shares
}
