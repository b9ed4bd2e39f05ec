"""Bridge sampling: the evidence of every superpixel at once, from draws of its posterior.

Draws of the posterior and points of a proposal, whose density is known, meet on a bridge between
the two; the ratio of what is expected on both sides is the evidence (Meng & Wong 1996). Where the
proposal misses an arm of the posterior the bridge is as narrow as what they share, but its terms
are bounded: no single point can dominate, as in importance sampling.

One half of the draws shapes a proposal, the other half is bridged to it, and crosswise. The same
draws for both would bring the proposal too near to them, and the evidence too high or too low
(Overstall & Forster 2010). The two results know little of each other, so that their difference
checks the error that is stated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats

from pymcdust.errors import ResultError
from pymcdust.infer.importance import Proposal
from pymcdust.infer.weights import log_mean, smooth_weights

#: Points of the proposal for each half of the draws.
POINTS = 4000

#: Iterations after which a bridge is given up, and the change of ln Z below which it is done.
MAX_ITERATIONS, TOLERANCE = 1000, 1e-6

#: Difference of the halves, in standard errors, from which they contradict each other.
LARGEST_DIFFERENCE = 4.0

#: Draws that a half must have for each parameter: its covariance shapes the proposal.
LEAST_PER_PARAMETER = 5


@dataclass(frozen=True)
class Bridge:
    """Evidence of every block, and how far to trust it.

    Parameters
    ----------
    ln_evidence, ln_evidence_error : (block,) array
        Mean of the two halves, and its standard error (Frühwirth-Schnatter 2004); NaN and infinite
        where there is no bridge.
    half_difference : (block,) array
        Difference of the two halves in units of its standard error; NaN where there is no bridge.
    overlap : (block,) array
        Share of posterior and proposal that is common to both, that of the worse half: 1 where
        they are the same, 0 where there is no bridge.
    pareto_k : (block,) array
        k-hat of the proposal's points as an importance sample, that of the worse half.
    """

    ln_evidence: np.ndarray
    ln_evidence_error: np.ndarray
    half_difference: np.ndarray
    overlap: np.ndarray
    pareto_k: np.ndarray

    def reliable(self, largest_error: float) -> np.ndarray:
        """Return where the error is below a limit, and the halves do not contradict each other."""
        agree = np.abs(self.half_difference) < LARGEST_DIFFERENCE
        return (self.ln_evidence_error < largest_error) & agree


def bridge_sample(
    log_posterior: Callable[[np.ndarray, np.ndarray], np.ndarray],
    theta: np.ndarray,
    lp: np.ndarray,
    rngs: Sequence[np.random.Generator],
    points: int = POINTS,
) -> Bridge:
    """Estimate the evidence of every block from draws of its posterior.

    Parameters
    ----------
    log_posterior : callable
        Of points (block, point, parameter) and the positions (block,) of their blocks; returns the
        log of the posterior density times the evidence, (block, point).
    theta : (chain, draw, block, parameter) array
        Draws. The first halves of the chains are bridged to a proposal that the second halves
        shape, and the other way round.
    lp : (chain, draw, block) array
        `log_posterior` of the draws.
    rngs : sequence of numpy.random.Generator
        One for each block.
    points : int, optional
        Points of the proposal for each half.

    Returns
    -------
    Bridge
        Evidence and diagnostics.

    Raises
    ------
    ResultError
        If there are too few draws for the parameters of a block.
    """
    n_chain, n_draw, _, n_parameter = theta.shape
    least = 2 * LEAST_PER_PARAMETER * n_parameter
    if n_chain * n_draw < least:
        raise ResultError(
            f"the posterior has {n_chain * n_draw} draws of {n_parameter} parameters; bridge "
            f"sampling needs {LEAST_PER_PARAMETER} for each of them in either half: {least} or more"
        )
    # Of each chain, so that chains in maxima that lie apart all shape the proposal.
    halves = [np.s_[:, : n_draw // 2], np.s_[:, n_draw // 2 :]]
    first, second = (
        _bridge(log_posterior, theta[shaping], theta[bridged], lp[bridged], rngs, points)
        for shaping, bridged in (halves, halves[::-1])
    )
    error = np.hypot(first.error, second.error)
    bridged = np.isfinite(error)
    difference = np.full(len(rngs), np.nan)
    np.divide(first.ln_evidence - second.ln_evidence, error, where=bridged, out=difference)
    return Bridge(
        ln_evidence=np.where(bridged, (first.ln_evidence + second.ln_evidence) / 2, np.nan),
        ln_evidence_error=np.where(bridged, error / 2, np.inf),
        half_difference=difference,
        overlap=np.where(bridged, np.minimum(first.overlap, second.overlap), 0.0),
        pareto_k=np.maximum(first.pareto_k, second.pareto_k),
    )


def shape_proposal(draws: np.ndarray) -> tuple[Proposal, np.ndarray]:
    """Return a proposal with mean and covariance of draws.

    Parameters
    ----------
    draws : (block, draw, parameter) array
        Draws of a posterior.

    Returns
    -------
    proposal : Proposal
        The proposal.
    usable : (block,) array of bool
        Where the draws have a width in every direction; elsewhere the proposal says nothing.
    """
    location = draws.mean(axis=1)
    away = draws - location[:, None]
    covariance = away.transpose(0, 2, 1) @ away / (draws.shape[1] - 1)
    usable = np.isfinite(covariance).all(axis=(1, 2))
    covariance[~usable] = np.eye(draws.shape[2])
    least = np.linalg.eigvalsh(covariance)[:, 0]
    # Chains that stand still have no width in some direction, but for rounding.
    flat = least <= 1e-12 * np.trace(covariance, axis1=1, axis2=2)
    covariance[flat] = np.eye(draws.shape[2])
    usable &= ~flat
    return Proposal(
        np.where(usable[:, None], location, 0.0), np.linalg.cholesky(covariance)
    ), usable


@dataclass(frozen=True)
class _Half:
    """Evidence from one half of the draws, (block,) each."""

    ln_evidence: np.ndarray
    error: np.ndarray
    overlap: np.ndarray
    pareto_k: np.ndarray


def _bridge(
    log_posterior: Callable[[np.ndarray, np.ndarray], np.ndarray],
    shaping: np.ndarray,
    theta: np.ndarray,
    lp: np.ndarray,
    rngs: Sequence[np.random.Generator],
    n_point: int,
) -> _Half:
    """Bridge draws of the posterior to a proposal that other draws shape."""
    n_block = len(rngs)
    proposal, usable = shape_proposal(_by_block(shaping))
    points = proposal.draw(n_point, rngs)
    at_points = log_posterior(points, np.arange(n_block)) - proposal.log_density(points)
    # A point so far out that something overflows has no posterior.
    at_points = np.where(np.isfinite(at_points), at_points, -np.inf)
    at_draws = _by_block(lp) - proposal.log_density(_by_block(theta))
    usable &= np.isfinite(at_draws).all(axis=1) & np.isfinite(at_points).any(axis=1)
    at_draws[~usable], at_points[~usable] = 0.0, 0.0

    log_share, log_rest = _log_shares(_effective(at_draws, lp.shape), n_point)
    ln_evidence, converged = _fixed_point(at_draws, at_points, log_share, log_rest)
    usable &= converged
    # Of the ratio of posterior to proposal, now that both are normalised, on either side.
    at_draws, at_points = at_draws - ln_evidence[:, None], at_points - ln_evidence[:, None]
    of_draws = np.exp(-np.logaddexp(log_share + at_draws, log_rest))
    of_points = np.exp(at_points - np.logaddexp(log_share + at_points, log_rest))
    variance = _relative_variance(of_points) / n_point
    variance += _relative_variance(of_draws) / _effective(of_draws, lp.shape)
    return _Half(
        ln_evidence,
        np.where(usable, np.sqrt(variance), np.inf),
        np.where(usable, of_points.mean(axis=1), 0.0),
        np.where(usable, smooth_weights(at_points)[1], np.inf),
    )


def _by_block(values: np.ndarray) -> np.ndarray:
    """Put the draws of all chains in one row: (chain, draw, block, ...) to (block, draw, ...)."""
    return np.moveaxis(values.reshape(-1, *values.shape[2:]), 0, 1)


def _log_shares(n_draw: np.ndarray, n_point: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logs of the shares of draws and of points, (block, 1) each."""
    share = n_draw[:, None] / (n_draw[:, None] + n_point)
    return np.log(share), np.log1p(-share)


def _fixed_point(
    at_draws: np.ndarray, at_points: np.ndarray, log_share: np.ndarray, log_rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Iterate the evidence of the best of all bridges (Meng & Wong 1996, Eq. 4.1), in logs.

    Parameters
    ----------
    at_draws : (block, draw) array
        Log of posterior times evidence over proposal, at the draws.
    at_points : (block, point) array
        The same at the points of the proposal.
    log_share, log_rest : (block, 1) array
        Logs of the shares of draws and of points.

    Returns
    -------
    ln_evidence : (block,) array
        Log of the evidence.
    converged : (block,) array of bool
        Where it has come to rest.
    """
    ln_evidence = np.median(at_draws, axis=1)
    active = np.arange(len(ln_evidence))
    for _ in range(MAX_ITERATIONS):
        share, rest = log_share[active], log_rest[active] + ln_evidence[active, None]
        draws, points = at_draws[active], at_points[active]
        above = log_mean(points - np.logaddexp(share + points, rest))
        changed = above - log_mean(-np.logaddexp(share + draws, rest))
        moved = np.abs(changed - ln_evidence[active])
        ln_evidence[active] = changed
        active = active[moved > TOLERANCE]
        if not len(active):
            break
    converged = np.ones(len(ln_evidence), dtype=bool)
    converged[active] = False
    return ln_evidence, converged


def _relative_variance(values: np.ndarray) -> np.ndarray:
    """Return variance over squared mean, by block."""
    return values.var(axis=1, ddof=1) / np.square(values.mean(axis=1))


def _effective(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return how many independent draws the mean of values (block, draw) is worth, by block."""
    chains = np.moveaxis(values, 1, 0).reshape(shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        ess = array_stats.ess(chains, chain_axis=0, draw_axis=1, method="mean")
    # Draws that are worth more than independent ones are not counted on; constants have no ESS.
    return np.clip(np.nan_to_num(ess, nan=1.0), 1.0, values.shape[1])
