"""Trust-region Newton on every superpixel at once.

Each iteration evaluates the log posterior, its gradient and its Hessian for all superpixels that
have not converged, and solves their trust-region subproblems exactly: by Cholesky decompositions
where the Newton step is allowed, else in the eigenbases of the Hessians (Nocedal & Wright 2006,
Sec. 4.3). Directions of wrong or vanishing curvature, which bounds and voxels without dust bring,
need no special case.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from pymcdust.infer.compiled import Evaluation

#: A block has converged when the next step can raise its log posterior by no more than this, which
#: is 1e-4 of the posterior's width.
TOLERANCE = 1e-8

#: First and largest radius of the trust region, in unconstrained coordinates.
FIRST_RADIUS = 1.0
LARGEST_RADIUS = 8.0

MAX_ITERATIONS = 200


@dataclass
class Optimum:
    """The end of a search in every block.

    Parameters
    ----------
    theta : (block, parameter) array
        Unconstrained coordinates.
    evaluation : Evaluation
        The log posterior there.
    gain : (block,) array
        How much a further step is expected to raise the log posterior.
    iterations : (block,) array of int
        Evaluations made.
    """

    theta: np.ndarray
    evaluation: Evaluation
    gain: np.ndarray
    iterations: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        """Whether each block has converged, (block,)."""
        return self.gain <= TOLERANCE

    def replace_where_better(self, blocks: np.ndarray, other: "Optimum") -> None:
        """Take over the blocks in which another search, of `blocks` alone, ended higher.

        A search that has converged is preferred to one that has not.
        """
        rise = other.evaluation.log_posterior - self.evaluation.log_posterior[blocks]
        better = np.where(other.converged == self.converged[blocks], rise > 0, other.converged)
        self.iterations[blocks] += other.iterations
        self.theta[blocks[better]] = other.theta[better]
        self.gain[blocks[better]] = other.gain[better]
        _assign(self.evaluation, blocks[better], other.evaluation, better)


def maximise(
    evaluate: Callable[[np.ndarray, np.ndarray], Evaluation],
    theta: np.ndarray,
    max_iterations: int = MAX_ITERATIONS,
) -> Optimum:
    """Climb from a starting point in every block to a maximum.

    Parameters
    ----------
    evaluate : callable
        Of coordinates (n, parameter) and the positions (n,) of their blocks; returns the blocks'
        `Evaluation`.
    theta : (block, parameter) array
        Starting points.
    max_iterations : int, optional
        Evaluations after which a block is left as it is.

    Returns
    -------
    Optimum
        Where each block ended.
    """
    n_block = len(theta)
    theta = theta.copy()
    best = evaluate(theta, np.arange(n_block))
    gain = np.full(n_block, np.inf)
    radius = np.full(n_block, float(FIRST_RADIUS))
    iterations = np.ones(n_block, dtype=int)
    active = np.arange(n_block)
    for _ in range(max_iterations - 1):
        step, expected = trust_region_step(
            best.gradient[active], -best.hessian[active], radius[active]
        )
        gain[active] = expected
        going = expected > TOLERANCE
        active, step, expected = active[going], step[going], expected[going]
        if not len(active):
            break
        trial = evaluate(theta[active] + step, active)
        iterations[active] += 1
        rise = trial.log_posterior - best.log_posterior[active]
        # Rounding of a large log posterior must not make a good step look bad.
        noise = 8 * np.finfo(float).eps * np.abs(best.log_posterior[active])
        # A step too far can leave a finite value without derivatives, as where T nears 0.
        usable = np.isfinite(rise) & np.isfinite(trial.hessian).all(axis=(1, 2))
        usable &= np.isfinite(trial.gradient).all(axis=1)
        ratio = np.where(usable, (rise + noise) / (expected + noise), -1.0)
        length = np.linalg.norm(step, axis=1)
        at_edge = length > 0.9 * radius[active]
        radius[active] = np.select(
            [ratio < 0.25, (ratio > 0.75) & at_edge],
            [0.25 * length, np.minimum(2.5 * radius[active], LARGEST_RADIUS)],
            radius[active],
        )
        accepted = ratio > 1e-3
        theta[active[accepted]] += step[accepted]
        _assign(best, active[accepted], trial, accepted)
    return Optimum(theta, best, gain, iterations)


def trust_region_step(
    gradient: np.ndarray, curvature: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Maximise ``g.p - p.B.p / 2`` over steps p no longer than the radius, in every block.

    Parameters
    ----------
    gradient : (block, parameter) array
        g.
    curvature : (block, parameter, parameter) array
        B, symmetric, of any signature.
    radius : (block,) array
        Longest step.

    Returns
    -------
    step : (block, parameter) array
        The maximiser p.
    gain : (block,) array
        The maximum.
    """
    step, gain = newton_step(gradient, curvature)
    # Not so where B is not positive definite, whose step is NaN.
    inside = np.linalg.norm(step, axis=1) <= radius
    if not inside.all():
        step[~inside], gain[~inside] = _restricted_step(
            gradient[~inside], curvature[~inside], radius[~inside]
        )
    return step, gain


def newton_step(gradient: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximise ``g.p - p.B.p / 2`` over all steps p, in every block.

    A Cholesky decomposition, column by column in all blocks at once: NumPy's own gives up all
    blocks for one that is not positive definite.

    Parameters
    ----------
    gradient : (block, parameter) array
        g.
    curvature : (block, parameter, parameter) array
        B, symmetric.

    Returns
    -------
    step : (block, parameter) array
        The maximiser p; NaN where B is not positive definite.
    gain : (block,) array
        The maximum.
    """
    factor = np.array(np.moveaxis(curvature, 0, 2), order="C")
    step = np.array(gradient.T, order="C")
    n_parameter = len(step)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for j in range(n_parameter):
            factor[j:, j] -= (factor[j:, :j] * factor[j, :j]).sum(axis=1)
            factor[j:, j] /= np.sqrt(factor[j, j])
            step[j] = (step[j] - (factor[j, :j] * step[:j]).sum(axis=0)) / factor[j, j]
        gain = 0.5 * (step**2).sum(axis=0)
        for j in reversed(range(n_parameter)):
            below = (factor[j + 1 :, j] * step[j + 1 :]).sum(axis=0)
            step[j] = (step[j] - below) / factor[j, j]
    return np.ascontiguousarray(step.T), gain


def _restricted_step(
    gradient: np.ndarray, curvature: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the trust-region subproblem in the eigenbasis of B."""
    value, vector = np.linalg.eigh(curvature)
    along = np.einsum("sij,si->sj", vector, gradient)
    lowest = value[:, 0]
    # The multiplier that makes p as long as the radius solves a secular equation. Newton's method
    # on its reciprocal form converges in a few steps from any point left of the root.
    scale = np.abs(value).max(axis=1) + np.linalg.norm(gradient, axis=1) / radius
    floor = np.maximum(0.0, -lowest) + 1e-12 * scale + 1e-100
    shift = floor.copy()
    for _ in range(30):
        shifted = value + shift[:, None]
        length = np.sqrt(((along / shifted) ** 2).sum(axis=1))
        derivative = (along**2 / shifted**3).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = (length - radius) / radius * length**2 / derivative
        change = np.where(length > radius * (1 + 1e-3), change, 0.0)
        shift = shift + np.nan_to_num(change)
        if not np.any(change > 0):
            break
    part = along / (value + shift[:, None])
    length = np.linalg.norm(part, axis=1)
    # In the hard case the gradient has no part along the lowest direction: walk along it anyway.
    missing = np.where(lowest < 0, np.sqrt(np.maximum(radius**2 - length**2, 0.0)), 0.0)
    part[:, 0] += np.where(along[:, 0] < 0, -1.0, 1.0) * missing
    length = np.linalg.norm(part, axis=1)
    part *= np.minimum(1.0, radius / np.maximum(length, 1e-300))[:, None]
    gain = (along * part).sum(axis=1) - 0.5 * (value * part**2).sum(axis=1)
    return np.einsum("sij,sj->si", vector, part), gain


def _assign(best: Evaluation, where: np.ndarray, trial: Evaluation, which: np.ndarray) -> None:
    for field in fields(Evaluation):
        getattr(best, field.name)[where] = getattr(trial, field.name)[which]
