"""The Laplace approximation: a Gaussian with the curvature of the log posterior at its maximum.

It gives the errors of a fit, and it is where the fastest of the sampling methods begins.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erfcx

from pymcdust.errors import ConfigurationError
from pymcdust.infer.compiled import Evaluation
from pymcdust.infer.importance import MAX_ROUNDS, ImportanceSample, Proposal, importance_sample
from pymcdust.infer.target import Draws, Target

#: A parameter whose log posterior still rises by this much over its own width stands at a bound.
#: Inside the support a converged fit leaves less than 2e-4.
AT_BOUND = 1e-3

#: Blocks of more parameters than this are left with the Laplace approximation: importance weights
#: do not survive in many dimensions.
LARGEST_LEARNT = 64

#: Draws whose worth is asked for where only location and scale of the posterior are wanted.
DRAWS_FOR_SCALE = 1000


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


@dataclass(frozen=True)
class Laplace:
    """Draw by importance sampling, from the Laplace approximation onwards.

    All blocks at once, a hundredth of a second each. The draws are independent but for their
    resampling. Where k-hat is 0.7 or more they are not to be relied on. It is the larger of two: of
    the Laplace approximation alone, and of the last proposals. These may come to fit what they have
    seen of a posterior, while a long tail stays unseen; of such a tail the first k-hat tells. Of a
    second maximum far from the first none does.

    Parameters
    ----------
    draws : int
        Draws of a chain.
    chains : int
        Parts into which the draws are cut, for comparison with other methods.
    rounds : int
        Largest number of proposals; 1 for the Laplace approximation alone.
    """

    draws: int = 2000
    chains: int = 1
    rounds: int = MAX_ROUNDS

    def __post_init__(self) -> None:
        for name in ("draws", "chains", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be 1 or more")

    def __call__(self, target: Target) -> Draws:
        """Draw from every block of a target.

        Parameters
        ----------
        target : Target
            What is sampled.

        Returns
        -------
        Draws
            With `pareto_k`, `laplace_pareto_k` (of the Laplace approximation alone),
            `importance_ess`, `rounds`, `ln_evidence` and `ln_evidence_error`, (block,) each.
        """
        return self.draw_and_learn(target)[0]

    def draw_and_learn(self, target: Target) -> tuple[Draws, Proposal]:
        """Draw from every block of a target, and tell what has been learnt of it.

        Parameters
        ----------
        target : Target
            What is sampled.

        Returns
        -------
        draws : Draws
            As a call returns them.
        scale : Proposal
            Location and scale of every block's posterior.
        """
        sample = learn(target, target.laplace, self.draws * self.chains, self.rounds)
        theta = sample.theta.reshape(target.n_block, self.chains, self.draws, target.n_parameter)
        stats = {
            "pareto_k": np.maximum(sample.pareto_k, sample.first_pareto_k),
            "laplace_pareto_k": sample.first_pareto_k,
            "importance_ess": sample.ess,
            "rounds": sample.rounds.astype(np.int16),
            "ln_evidence": sample.ln_evidence,
            "ln_evidence_error": sample.ln_evidence_error,
        }
        draws = Draws(
            theta.transpose(1, 2, 0, 3),
            {name: (("block",), values) for name, values in stats.items()},
        )
        return draws, sample.proposal


def learn_scale(target: Target) -> Proposal:
    """Return location and scale of every block's posterior, as well as they are quickly found."""
    return learn(target, target.laplace, DRAWS_FOR_SCALE).proposal


def learn(
    target: Target, first: Proposal, n_draw: int, max_rounds: int = MAX_ROUNDS
) -> ImportanceSample:
    """Sample a target by importance, by proposals that learn if its blocks are small enough.

    Parameters
    ----------
    target : Target
        What is sampled.
    first : Proposal
        Where the search begins.
    n_draw : int
        Draws of every block.
    max_rounds : int, optional
        Largest number of proposals.

    Returns
    -------
    ImportanceSample
        Of blocks with more than `LARGEST_LEARNT` parameters, by the first proposal alone.
    """
    learnable = target.n_parameter <= LARGEST_LEARNT
    rounds = max_rounds if learnable else 1
    sample = importance_sample(target.log_posterior, first, n_draw, target.generators(), rounds)
    return sample if learnable else replace(sample, proposal=first)
