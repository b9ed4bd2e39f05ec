"""The Laplace approximation: a Gaussian with the curvature of the log posterior at its maximum."""

from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx

from pymcdust.infer.compiled import Evaluation

#: A parameter whose log posterior still rises by this much over its own width stands at a bound.
#: Inside the support a converged fit leaves less than 2e-4.
AT_BOUND = 1e-3


@dataclass(frozen=True)
class LaplaceApproximation:
    """Widths of the posterior around its maximum, in the natural parameters.

    Parameters
    ----------
    covariance : (block, parameter, parameter) array
        Covariance; NaN where the log posterior is not concave. A parameter at a bound is
        uncorrelated with the others, whose covariance is that with it held there.
    at_bound : (block, parameter) array of bool
        Whether the posterior is highest at a bound of the prior.
    """

    covariance: np.ndarray
    at_bound: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        """Standard deviation of every parameter, (block, parameter)."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))


def laplace_approximation(maximum: Evaluation) -> LaplaceApproximation:
    """Approximate the posterior around its maximum.

    Parameters
    ----------
    maximum : Evaluation
        The log posterior and its derivatives at the maximum.

    Returns
    -------
    LaplaceApproximation
        The covariance of the natural parameters. A parameter at a bound has the standard deviation
        of a Gaussian cut off there, with the slope and the curvature that the log posterior has at
        the bound.
    """
    gradient, slope = maximum.gradient, maximum.slope
    diagonal = np.diagonal(maximum.hessian, axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Derivatives by the natural parameter: the chain rule, solved for them.
        rise = np.abs(gradient / slope)
        precision = -(diagonal - gradient / slope * maximum.curvature) / slope**2
        width = np.where(precision > 0, 1 / np.sqrt(precision), np.inf)
        at_bound = np.nan_to_num(rise * width, nan=0.0, posinf=np.inf) > AT_BOUND

    free = ~at_bound
    both_free = free[:, :, None] & free[:, None, :]
    identity = np.eye(gradient.shape[1])
    curvature = np.where(both_free, -maximum.hessian, identity)
    concave = np.linalg.eigvalsh(curvature)[:, 0] > 0
    inverse = np.linalg.inv(np.where(concave[:, None, None], curvature, identity))
    covariance = inverse * (slope[:, :, None] * slope[:, None, :])
    cut_off = np.where(at_bound, _cut_off_variance(rise, width), 0.0)
    covariance = np.where(both_free, covariance, cut_off[:, :, None] * identity)
    covariance[~concave] = np.nan
    return LaplaceApproximation(covariance, at_bound)


def _cut_off_variance(rise: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the variance of ``exp(-rise t - t^2 / (2 width^2))`` over t > 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        start = rise * width
        ratio = np.sqrt(2 / np.pi) / erfcx(start / np.sqrt(2))
        gaussian = width**2 * (1 + start * ratio - ratio**2)
        # The difference above cancels in the far tail, where its series takes over.
        return np.where(start < 100, gaussian, (1 - 6 / start**2) / rise**2)
