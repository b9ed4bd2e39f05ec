"""Prior-quantile coordinates: every parameter as the standard normal that its prior makes of it.

A natural parameter x with the prior's distribution function F becomes ``u = Phi^-1(F(x))``. The
prior of u is a standard normal, whatever that of x: bounds vanish, the logarithm of a log-normal
parameter is linear, and a voxel without dust is exactly a standard normal.
"""

from typing import Any

import pytensor.xtensor.math as ptx
from pymc_extras.prior import Prior

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
    try:
        quantile = QUANTILES[prior.distribution]
    except KeyError:
        raise ModelError(
            f"no prior-quantile coordinates are known for {prior.distribution}; allowed are "
            f"{listing(QUANTILES)}"
        ) from None
    return quantile(u, **parameters)


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
