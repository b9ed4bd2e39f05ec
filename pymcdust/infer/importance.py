"""Importance sampling of every superpixel at once, by proposals that learn.

The first proposal is the Laplace approximation, with the tails of a Student t. Where its weights
are good no more is needed. Elsewhere the next proposal takes mean and covariance of the weighted
draws, and so on, the last few proposals being weighted as the mixture that they are (adaptive
multiple importance sampling: Cornuet et al. 2012). Whether weights are good is told by the shape of
their tail, Pareto k-hat, and by their effective number (Vehtari et al. 2024).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from pymcdust.infer.weights import RELIABLE_K, smooth_weights

#: Degrees of freedom of the proposals.
DEGREES_OF_FREEDOM = 5

#: Points drawn from each proposal, at least.
POINTS = 2000

#: Proposals whose points are weighted together.
KEPT = 3

#: Proposals after which a block is left as it is.
MAX_ROUNDS = 8

#: Fraction of the draws asked for that the weights must be worth before a block is done.
ENOUGH = 0.5


@dataclass(frozen=True)
class Proposal:
    """A multivariate Student t for every block.

    Parameters
    ----------
    location : (block, parameter) array
        Its centre.
    factor : (block, parameter, parameter) array
        Cholesky factor of its scale matrix.
    """

    location: np.ndarray
    factor: np.ndarray

    def select(self, blocks: np.ndarray) -> "Proposal":
        """Return the proposals of some blocks."""
        return Proposal(self.location[blocks], self.factor[blocks])

    def draw(self, n_point: int, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Draw points of every block, each by its own generator, (block, point, parameter)."""
        n_parameter = self.location.shape[1]
        standard = np.empty((len(rngs), n_point, n_parameter))
        for block, rng in enumerate(rngs):
            standard[block] = rng.standard_normal((n_point, n_parameter))
            scale = rng.chisquare(DEGREES_OF_FREEDOM, n_point) / DEGREES_OF_FREEDOM
            standard[block] /= np.sqrt(scale)[:, None]
        return self.location[:, None] + standard @ self.factor.transpose(0, 2, 1)

    def log_density(self, theta: np.ndarray) -> np.ndarray:
        """Return the log density at points (block, point, parameter), (block, point)."""
        nu, n_parameter = DEGREES_OF_FREEDOM, theta.shape[2]
        away = (theta - self.location[:, None]) @ np.linalg.inv(self.factor).transpose(0, 2, 1)
        log_scale = np.log(np.diagonal(self.factor, axis1=1, axis2=2)).sum(axis=1)
        constant = gammaln((nu + n_parameter) / 2) - gammaln(nu / 2)
        constant = constant - 0.5 * n_parameter * np.log(nu * np.pi) - log_scale
        distance = np.square(away).sum(axis=2)
        return constant[:, None] - 0.5 * (nu + n_parameter) * np.log1p(distance / nu)


@dataclass(frozen=True)
class ImportanceSample:
    """Draws of every block, of equal weight, and how far to trust them.

    Parameters
    ----------
    theta : (block, draw, parameter) array
        Draws, resampled by their smoothed weights.
    proposal : Proposal
        The posterior's location and scale, as the weighted draws see them.
    pareto_k : (block,) array
        Shape of the tail of the weights; infinite where it cannot be told.
    first_pareto_k : (block,) array
        The same of the first proposal alone.
    ess : (block,) array
        What the draws are worth, in independent ones.
    ln_evidence, ln_evidence_error : (block,) array
        Log of the mean weight, and its standard error.
    rounds : (block,) array of int
        Proposals that were drawn from.
    """

    theta: np.ndarray
    proposal: Proposal
    pareto_k: np.ndarray
    first_pareto_k: np.ndarray
    ess: np.ndarray
    ln_evidence: np.ndarray
    ln_evidence_error: np.ndarray
    rounds: np.ndarray


def importance_sample(
    log_posterior: Callable[[np.ndarray, np.ndarray], np.ndarray],
    first: Proposal,
    n_draw: int,
    rngs: Sequence[np.random.Generator],
    max_rounds: int = MAX_ROUNDS,
) -> ImportanceSample:
    """Draw from the posterior of every block by importance sampling.

    Parameters
    ----------
    log_posterior : callable
        Of points (block, point, parameter) and the positions (block,) of their blocks; returns the
        log of the posterior density times the evidence, (block, point).
    first : Proposal
        The first proposal.
    n_draw : int
        Draws of every block.
    rngs : sequence of numpy.random.Generator
        One for each block.
    max_rounds : int, optional
        Proposals after which a block is left as it is.

    Returns
    -------
    ImportanceSample
        Draws and diagnostics.
    """
    n_block, n_parameter = first.location.shape
    proposal = Proposal(first.location.copy(), first.factor.copy())
    theta = np.empty((n_block, n_draw, n_parameter))
    names = ("pareto_k", "first_pareto_k", "ess", "ln_evidence", "ln_evidence_error", "rounds")
    results = {name: np.full(n_block, np.inf) for name in names}
    active = np.arange(n_block)
    pool: list[_Round] = []
    for number in range(max_rounds):
        generators = [rngs[block] for block in active]
        drawn = proposal.select(active)
        points = drawn.draw(max(POINTS, n_draw), generators)
        pool = [*pool[-(KEPT - 1) :], _Round(drawn, points, log_posterior(points, active))]
        points = np.concatenate([r.points for r in pool], axis=1)
        log_weight = _mixture_log_weight(pool, points)
        smoothed, pareto_k = smooth_weights(log_weight)
        weight = np.exp(smoothed)
        results["ess"][active] = 1 / np.square(weight).sum(axis=1)
        results["pareto_k"][active] = pareto_k
        results["rounds"][active] = number + 1
        if number == 0:
            results["first_pareto_k"] = pareto_k.copy()
        mean, error = _log_mean(log_weight)
        results["ln_evidence"][active], results["ln_evidence_error"][active] = mean, error
        _learn(proposal, active, points, log_weight)
        done = (pareto_k < RELIABLE_K) & (results["ess"][active] >= ENOUGH * n_draw)
        done |= number == max_rounds - 1
        for position in np.flatnonzero(done):
            chosen = _resample(weight[position], n_draw, generators[position])
            theta[active[position]] = points[position, chosen]
        active, pool = active[~done], [r.select(~done) for r in pool]
        if not len(active):
            break
    results["rounds"] = results["rounds"].astype(int)
    return ImportanceSample(theta, proposal, **results)


@dataclass(frozen=True)
class _Round:
    """Points of one proposal, with their log posterior."""

    proposal: Proposal
    points: np.ndarray
    log_posterior: np.ndarray

    def select(self, blocks: np.ndarray) -> "_Round":
        return _Round(self.proposal.select(blocks), self.points[blocks], self.log_posterior[blocks])


def _mixture_log_weight(pool: list[_Round], points: np.ndarray) -> np.ndarray:
    """Return the log weights of the points as draws of the mixture of their proposals."""
    log_posterior = np.concatenate([r.log_posterior for r in pool], axis=1)
    density = np.stack([r.proposal.log_density(points) for r in pool])
    log_weight = log_posterior - (np.logaddexp.reduce(density) - np.log(len(pool)))
    # A point so far out that its density overflows weighs nothing.
    return np.where(np.isfinite(log_weight), log_weight, -np.inf)


def _log_mean(log_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the log of the mean weight, and the standard error of that."""
    top = log_weight.max(axis=1)
    weight = np.exp(log_weight - top[:, None])
    mean = weight.mean(axis=1)
    error = weight.std(axis=1, ddof=1) / mean / np.sqrt(weight.shape[1])
    return top + np.log(mean), error


def _learn(
    proposal: Proposal, active: np.ndarray, points: np.ndarray, log_weight: np.ndarray
) -> None:
    """Move the proposals of the active blocks to mean and covariance of the weighted points.

    Large weights are cut (Ionides 2008), and the covariance is drawn towards the former one where
    few points carry the weight.
    """
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    cut = weight.sum(axis=1) / np.sqrt(weight.shape[1])
    weight = np.minimum(weight, cut[:, None])
    weight /= weight.sum(axis=1, keepdims=True)
    mean = (weight[:, None, :] @ points)[:, 0]
    away = np.sqrt(weight)[:, :, None] * (points - mean[:, None])
    # Block by block: a product of large matrices, which a batched one is not.
    covariance = np.stack([block.T @ block for block in away])
    former = proposal.factor[active]
    n_parameter = points.shape[2]
    trust = 1 / np.square(weight).sum(axis=1)
    trust = (trust / (trust + n_parameter))[:, None, None]
    covariance = trust * covariance + (1 - trust) * (former @ former.transpose(0, 2, 1))
    proposal.location[active] = mean
    proposal.factor[active] = np.linalg.cholesky(covariance)


def _resample(weight: np.ndarray, n_draw: int, rng: np.random.Generator) -> np.ndarray:
    """Draw positions by their weights, systematically, in random order."""
    steps = (np.arange(n_draw) + rng.random()) / n_draw
    chosen = np.searchsorted(np.cumsum(weight) / weight.sum(), steps)
    return rng.permutation(np.minimum(chosen, len(weight) - 1))
