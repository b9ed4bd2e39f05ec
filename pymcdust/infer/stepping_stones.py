"""Stepping stones: the evidence by an ensemble of walkers at all temperatures, one by one.

From the prior, at inverse temperature 0, to the posterior, at 1, each rung of a ladder is a stone
from which the next one is reached: ln Z is the sum over the rungs of ``ln <L^(step to the next)>``
(Xie, Lewis, Fan, Kuo & Chen 2011). The rungs must be close to each other, which evenly spaced or
geometric ladders are not where the log likelihood of the prior is minus ten million. Those here are
the stages of a population of sequential Monte Carlo, whose particles are where walkers start.

The walkers are ptemcee's. They forget where they started, and walkers that come down from the
prior find maxima apart from the first.
"""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

from pymcdust.errors import ConfigurationError
from pymcdust.infer.smc import Smc
from pymcdust.infer.target import Target, child_seed
from pymcdust.infer.tempering import ensemble_class

#: Walkers of a rung, and for each parameter, at least.
WALKERS, WALKERS_PER_PARAMETER = 40, 4

#: Particles of the population that finds the ladder, at least.
PARTICLES = 500

#: The log likelihood of what has none: ptemcee would keep the prior away from minus infinity.
NO_LIKELIHOOD = -1e300

#: States of an ensemble that must be kept, so that their autocorrelation can be told.
LEAST_KEPT = 50


@dataclass(frozen=True)
class Stones:
    """Evidence of every block, (block,) each.

    Parameters
    ----------
    ln_evidence, ln_evidence_error : (block,) array
        Log of the evidence, and its standard error.
    ess : (block,) array
        What the states of the ensembles are worth for it, in independent ones.
    rungs : (block,) array of int
        Inverse temperatures of the ladder.
    """

    ln_evidence: np.ndarray
    ln_evidence_error: np.ndarray
    ess: np.ndarray
    rungs: np.ndarray


@dataclass(frozen=True)
class SteppingStones:
    """Estimate evidences by stepping stones, one block after the other.

    Parameters
    ----------
    steps : int
        Steps of every walker.
    thin : int
        Every so many steps the log likelihoods of all walkers are kept.
    keep : float
        The last fraction of the steps is kept; before that walkers forget where they started.
    ensembles : int
        Ensembles that know nothing of each other, on the same ladder.
    threshold : float
        Share that the weights of a rung leave of its walkers: the higher, the more rungs.
    """

    steps: int = 6000
    thin: int = 4
    keep: float = 0.75
    ensembles: int = 2
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("steps", "thin", "ensembles"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ConfigurationError(
                    f"{name} is {value!r}; it must be a whole number, 1 or more"
                )
        for name in ("keep", "threshold"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ConfigurationError(f"{name} is {value}; it must be above 0 and below 1")
        if self.kept < LEAST_KEPT:
            raise ConfigurationError(
                f"steps={self.steps}, thin={self.thin} and keep={self.keep} keep {self.kept} "
                f"states of an ensemble; they must keep {LEAST_KEPT} or more"
            )

    @property
    def kept(self) -> int:
        """States of an ensemble that are kept."""
        return int(self.keep * self.steps) // self.thin

    def __call__(self, target: Target) -> Stones:
        """Estimate the evidence of every block of a target.

        Parameters
        ----------
        target : Target
            What is sampled.

        Returns
        -------
        Stones
            Evidences and their errors.

        Raises
        ------
        ConfigurationError
            If there are too many stages between prior and posterior.
        ModelError
            If the likelihood is finite nowhere in the prior, or in too small a part of it.
        """
        results = [self._estimate(target, block) for block in range(target.n_block)]
        return Stones(*(np.array(values) for values in zip(*results, strict=True)))

    def _estimate(self, target: Target, block: int) -> tuple[float, float, float, int]:
        """Return ln Z, its error, what the states are worth, and the number of rungs."""
        smc = Smc(threshold=self.threshold)
        smc = Smc(max(PARTICLES, smc.least_draws(target.n_parameter)), 1, self.threshold)
        # The first children are those of the ensembles.
        rng = np.random.default_rng(child_seed(target.seeds[block], self.ensembles))
        betas, populations = zip(*smc.populations(target, block, rng), strict=True)
        log_likelihood = np.stack(
            [
                self._run(target, block, np.array(betas), populations, ensemble)
                for ensemble in range(self.ensembles)
            ]
        )
        return (*_stepping_stones(log_likelihood, np.array(betas)), len(betas))

    def _run(
        self,
        target: Target,
        block: int,
        betas: np.ndarray,
        populations: tuple[np.ndarray, ...],
        ensemble: int,
    ) -> np.ndarray:
        """Run one ensemble; return log likelihoods (state, rung, walker), the prior's first."""
        one = np.array([block])

        def log_likelihood(points: np.ndarray) -> np.ndarray:
            value = target.log_likelihood(points[None], one)[0]
            return np.where(np.isfinite(value), value, NO_LIKELIHOOD)

        seed = child_seed(target.seeds[block], ensemble)
        random = np.random.RandomState(np.random.MT19937(seed))
        walkers = max(WALKERS, WALKERS_PER_PARAMETER * target.n_parameter)
        # ptemcee's ladder begins at the posterior.
        start = [p[random.choice(len(p), walkers, replace=False)] for p in populations[::-1]]
        sampler = ensemble_class()(
            log_likelihood,
            nwalkers=walkers,
            dim=target.n_parameter,
            betas=betas,
            random=random,
        )
        first = self.steps - self.thin * self.kept
        kept = [
            values.copy()
            for number, (_, _, values) in enumerate(
                sampler.sample(np.array(start), iterations=self.steps, storechain=False)
            )
            if number >= first and (number - first) % self.thin == self.thin - 1
        ]
        return np.array(kept)[:, ::-1]


def _stepping_stones(log_likelihood: np.ndarray, betas: np.ndarray) -> tuple[float, float, float]:
    """Sum up the steps from rung to rung.

    Parameters
    ----------
    log_likelihood : (ensemble, state, rung, walker) array
        Log likelihoods of the walkers.
    betas : (rung,) array
        Inverse temperatures, from 0 to 1.

    Returns
    -------
    ln_evidence, error, ess : float
        Log of the evidence, its standard error, and what the states are worth.
    """
    log_weight = log_likelihood[:, :, :-1] * np.diff(betas)[:, None]
    n_weight = log_weight[:, :, 0].size
    steps = logsumexp(log_weight, axis=(0, 1, 3), keepdims=True) - np.log(n_weight)
    # By how much each state of an ensemble moves ln Z. Walkers of a state depend on each other,
    # and so do rungs, between which they are exchanged: the states alone are taken for a chain.
    moves = np.expm1(log_weight - steps).mean(axis=3).sum(axis=2)
    ess = float(array_stats.ess(moves, chain_axis=0, draw_axis=1, method="mean"))
    return float(steps.sum()), float(moves.std() / np.sqrt(ess)), ess
