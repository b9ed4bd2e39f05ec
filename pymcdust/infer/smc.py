"""Sequential Monte Carlo, from the prior to the posterior, mostly for the evidence.

A population of particles starts as draws of the prior. Stage by stage the likelihood, raised to a
power beta, is let in: particles are weighted by what beta has grown, resampled by their weights,
and moved until they have forgotten where they were. The product of the mean weights is the
evidence. Nothing is taken from the maximum of the posterior, so that this checks what starts there.

The stages and the resampling are PyMC's. Three parts of its kernels are others here, for on mock
superpixels of eleven parameters they put ln Z too low, by up to 2 (IMH) and 8 (MH), and say nothing
of it: see `_Kernel`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from numbers import Integral

import numpy as np
from pymc.smc.kernels import SMC_KERNEL
from scipy.optimize import brentq
from scipy.special import logsumexp

from pymcdust.errors import ConfigurationError, ModelError
from pymcdust.infer.target import Draws, Target, child_seed

#: Stages after which a population that has not arrived is given up.
MAX_STAGES = 1000

#: Moves of a stage after which particles are left where they are.
MAX_MOVES = 200

#: What the particles of a stage must be worth, for each parameter: moves are shaped by their
#: covariance.
LEAST_PER_PARAMETER = 5

#: Degrees of freedom of the Student t that moves leave as it is.
DEGREES_OF_FREEDOM = 5

#: Length of a first move, and its range: 1 is a new draw, not a step from the old one.
FIRST_LENGTH, LENGTHS = 0.7, (0.02, 0.99)

#: Share of moves that are to be accepted.
ACCEPTANCE = 0.234

#: Smallest growth of beta that is looked for, times what is left of it.
LEAST_GROWTH = 1e-30


@dataclass(frozen=True)
class Smc:
    """Draw by sequential Monte Carlo, one block after the other.

    Parameters
    ----------
    draws : int
        Particles of a chain; times the threshold, at least five for each parameter of a block.
    chains : int
        Populations that know nothing of each other. Their evidences scatter by as much as each is
        wrong, and the mean of the evidences (not of their logarithms) is unbiased.
    threshold : float
        Share of the particles that the weights of a stage are worth. The higher, the more stages.
    correlation_threshold : float
        A stage ends when no parameter of the particles is correlated by more than this with what it
        was when the stage began. PyMC stops when the correlation falls by less than 0.01 from one
        move to the next: where few moves are accepted that is at once.
    """

    draws: int = 1000
    chains: int = 4
    threshold: float = 0.5
    correlation_threshold: float = 0.25

    def __post_init__(self) -> None:
        for name in ("draws", "chains"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ConfigurationError(
                    f"{name} is {value!r}; it must be a whole number, 1 or more"
                )
        for name in ("threshold", "correlation_threshold"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ConfigurationError(f"{name} is {value}; it must be above 0 and below 1")

    def __call__(self, target: Target) -> Draws:
        """Draw from every block of a target.

        Parameters
        ----------
        target : Target
            What is sampled.

        Returns
        -------
        Draws
            A `chain` is a population. All (chain, block): `ln_evidence`; `stages`; `moves` of every
            particle; `acceptance_rate` of the moves of the last stage; `correlation`, the largest
            one that was left at the end of a stage, above the threshold where `MAX_MOVES` were not
            enough.

        Raises
        ------
        ConfigurationError
            If there are too few particles for the parameters of a block, or too many stages.
        ModelError
            If the likelihood is finite nowhere in the prior, or in too small a part of it.
        """
        n_block, n_parameter = target.n_block, target.n_parameter
        least = self.least_draws(n_parameter)
        if self.draws < least:
            raise ConfigurationError(
                f"draws is {self.draws} with threshold={self.threshold}, for {n_parameter} "
                "parameters of a block; draws times threshold must be at least "
                f"{LEAST_PER_PARAMETER} for each parameter: draws={least} would do"
            )
        theta = np.empty((self.chains, self.draws, n_block, n_parameter))
        types = {"ln_evidence": float, "stages": int, "moves": int}
        types |= {"acceptance_rate": float, "correlation": float}
        stats = {name: np.empty((self.chains, n_block), dtype) for name, dtype in types.items()}
        for block, seed in enumerate(target.seeds):
            kernel = self._kernel(target, block)
            for chain in range(self.chains):
                kernel.initialize(None, np.random.default_rng(child_seed(seed, chain)))
                for _ in self._stages(kernel, block):
                    pass
                theta[chain, :, block] = kernel.tempered_posterior
                for name, value in kernel.sample_stats().items():
                    stats[name][chain, block] = value
        return Draws(theta, {name: (("chain", "block"), v) for name, v in stats.items()})

    def least_draws(self, n_parameter: int) -> int:
        """Return how many particles so many parameters of a block ask for."""
        return ceil(LEAST_PER_PARAMETER * n_parameter / self.threshold)

    def populations(
        self, target: Target, block: int, rng: np.random.Generator
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the populations of one chain in one block, from the prior to the posterior.

        Parameters
        ----------
        target : Target
            What is sampled.
        block : int
            Position of the block.
        rng : numpy.random.Generator
            Where chance comes from.

        Yields
        ------
        beta : float
            Inverse temperature of the stage, from 0 to 1.
        theta : (particle, parameter) array
            The particles.
        """
        kernel = self._kernel(target, block)
        kernel.initialize(None, rng)
        yield 0.0, kernel.tempered_posterior.copy()
        for _ in self._stages(kernel, block):
            yield kernel.beta, kernel.tempered_posterior.copy()

    def _kernel(self, target: Target, block: int) -> "_Kernel":
        one = np.array([block])

        def log_likelihood(points: np.ndarray) -> np.ndarray:
            value = target.log_likelihood(points[None], one)[0]
            return np.where(np.isfinite(value), value, -np.inf)

        return _Kernel(log_likelihood, target.n_parameter, self)

    def _stages(self, kernel: "_Kernel", block: int) -> Iterator[None]:
        """Take a population from the prior to the posterior, with a stop after every stage."""
        finite = np.isfinite(kernel.likelihood_logp).sum()
        if finite * self.threshold < LEAST_PER_PARAMETER * kernel.n_parameter:
            raise ModelError(
                f"the log likelihood of block {block} is finite at {finite} of {self.draws} draws "
                f"of the prior; times the threshold, {self.threshold}, these must be at least "
                f"{LEAST_PER_PARAMETER} for each of {kernel.n_parameter} parameters: look at the "
                "data for what is not finite, or take more draws"
            )
        while kernel.beta < 1:
            if kernel.iteration == MAX_STAGES:
                raise ConfigurationError(
                    f"with threshold={self.threshold} the inverse temperature of block {block} is "
                    f"{kernel.beta:.2g} after {MAX_STAGES} stages; it must arrive at 1 before: a "
                    "lower threshold takes larger steps"
                )
            kernel.update_beta_and_weights()
            kernel.step()
            yield


class _Kernel(SMC_KERNEL):
    """PyMC's kernel on a batched likelihood, with a standard normal prior and moves of its own.

    PyMC's finds the next beta to 1e-6, where a good map asks for 1e-8 from the start; adds 1e-6 to
    the variance of every parameter, where some are as small; and proposes from a Gaussian around
    the population's mean, which does not reach the ends of a bent posterior, or by a random walk
    from each particle, with very many steps to the other end.

    Here moves are those of a Crank-Nicolson walk that leaves a Student t of the population's mean
    and covariance as it is (Grumitt, Karamanis & Seljak 2024), corrected by acceptance: long ones
    are like draws of that distribution, short ones a random walk, and what is accepted decides.
    """

    def __init__(
        self,
        log_likelihood: Callable[[np.ndarray], np.ndarray],
        n_parameter: int,
        settings: Smc,
    ) -> None:
        # Not that of PyMC, which compiles a model.
        self.draws, self.threshold = settings.draws, settings.threshold
        self.correlation_threshold = settings.correlation_threshold
        self.n_parameter = n_parameter
        self._log_likelihood = log_likelihood

    def set_rng(self, rng: np.random.Generator) -> None:
        """Take a generator."""
        self.rng = rng

    def _initialize_kernel(self) -> None:
        """Draw the population from the prior."""
        self.tempered_posterior = self.rng.standard_normal((self.draws, self.n_parameter))
        self.prior_logp = _log_prior(self.tempered_posterior)
        self.likelihood_logp = self._log_likelihood(self.tempered_posterior)

    def setup_kernel(self) -> None:
        """Forget the moves of a population before."""
        self.length, self.moves, self.correlation = FIRST_LENGTH, 0, 0.0

    def update_beta_and_weights(self) -> None:
        """Let beta grow until the weights are worth no more than a share of the particles."""
        enough = self.threshold * np.isfinite(self.likelihood_logp).sum()

        def surplus(log_growth: float) -> float:
            log_weight = np.exp(log_growth) * self.likelihood_logp
            return 2 * logsumexp(log_weight) - logsumexp(2 * log_weight) - np.log(enough)

        rest = 1 - self.beta
        if surplus(np.log(rest)) >= 0:
            growth, self.beta = rest, 1.0
        else:
            growth = np.exp(brentq(surplus, np.log(LEAST_GROWTH * rest), np.log(rest), xtol=1e-3))
            self.beta += growth
        log_weight = growth * self.likelihood_logp
        total = logsumexp(log_weight)
        self.weights = np.exp(log_weight - total)
        self.weights /= self.weights.sum()
        self.log_marginal_likelihood += total - np.log(self.draws)
        self.iteration += 1

    def tune(self) -> None:
        """Take mean and covariance of the population."""
        covariance = np.cov(self.tempered_posterior, rowvar=False).reshape(2 * [self.n_parameter])
        # Against rounding, in proportion.
        covariance[np.diag_indices(self.n_parameter)] *= 1 + 1e-9
        self.location = self.tempered_posterior.mean(axis=0)
        self.factor = np.linalg.cholesky(covariance)

    def mutate(self) -> None:
        """Move all particles until they have forgotten where they were."""
        start = _standardised(self.tempered_posterior)
        z = np.linalg.solve(self.factor, (self.tempered_posterior - self.location).T).T
        accepted_share = []
        for number in range(1, MAX_MOVES + 1):
            accepted = self._move(z)
            accepted_share.append(accepted.mean())
            # Ever smaller changes, so that they come to rest.
            self.length *= np.exp((accepted_share[-1] - ACCEPTANCE) / np.sqrt(number))
            self.length = float(np.clip(self.length, *LENGTHS))
            correlation = np.abs((start * _standardised(self.tempered_posterior)).mean(axis=0))
            if correlation.max() < self.correlation_threshold:
                break
        self.acceptance_rate = float(np.mean(accepted_share))
        self.moves += number
        self.correlation = max(self.correlation, float(correlation.max()))

    def _move(self, z: np.ndarray) -> np.ndarray:
        """Propose one move of every particle, and make it where it is accepted.

        Parameters
        ----------
        z : (particle, parameter) array
            The particles, whitened; changed in place.

        Returns
        -------
        (particle,) array of bool
            Where it was accepted.
        """
        nu, shape = DEGREES_OF_FREEDOM, (DEGREES_OF_FREEDOM + self.n_parameter) / 2
        distance = np.square(z).sum(axis=1)
        variance = (nu + distance) / (2 * self.rng.gamma(shape, size=self.draws))
        step = np.sqrt(variance)[:, None] * self.rng.standard_normal(z.shape)
        proposed = np.sqrt(1 - self.length**2) * z + self.length * step
        points = self.location + proposed @ self.factor.T
        prior, likelihood = _log_prior(points), self._log_likelihood(points)
        posterior = prior + self.beta * likelihood
        # The walk itself is reversible for the Student t, whose density is divided out.
        log_t = shape * np.log((nu + np.square(proposed).sum(axis=1)) / (nu + distance))
        log_ratio = posterior - self.tempered_posterior_logp + log_t
        accepted = -self.rng.exponential(size=self.draws) < log_ratio
        z[accepted], self.tempered_posterior[accepted] = proposed[accepted], points[accepted]
        self.prior_logp[accepted] = prior[accepted]
        self.likelihood_logp[accepted] = likelihood[accepted]
        self.tempered_posterior_logp[accepted] = posterior[accepted]
        return accepted

    def sample_stats(self) -> dict[str, int | float]:
        """Return what is known of the population."""
        return {
            "ln_evidence": self.log_marginal_likelihood,
            "stages": self.iteration,
            "moves": self.moves,
            "acceptance_rate": self.acceptance_rate,
            "correlation": self.correlation,
        }

    def sample_settings(self) -> dict[str, int | float]:
        """Return the settings."""
        return {
            "draws": self.draws,
            "threshold": self.threshold,
            "correlation_threshold": self.correlation_threshold,
        }


def _log_prior(points: np.ndarray) -> np.ndarray:
    """Return the log prior of points (particle, parameter) up to a constant, (particle,)."""
    return -0.5 * np.square(points).sum(axis=1)


def _standardised(points: np.ndarray) -> np.ndarray:
    return (points - points.mean(axis=0)) / points.std(axis=0)
