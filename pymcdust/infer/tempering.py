"""The sampler of the paper: parallel tempering of an affine-invariant ensemble, by `ptemcee`.

Walkers at several temperatures explore a block's posterior, the likelihood being raised to the
power 1/T. A walker takes over the coordinates of a hotter one where both can be exchanged, and so
comes to maxima that it would not reach by itself (Vousden, Farr & Mandel 2016).

The steps are those of ptemcee 1.0.0. What it cannot do on current NumPy, or only walker by walker,
is done here: see `mended_sampler` and `ensemble_class`.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from itertools import islice
from numbers import Integral
from types import FunctionType
from typing import Any

import numpy as np

from pymcdust.errors import ConfigurationError, ModelError
from pymcdust.infer.target import Draws, Target, child_seed

#: How often a starting point without likelihood is brought half way to the maximum.
MAX_HALVINGS = 50

#: States of a walker that must be kept, so that an early and a late half can be compared.
LEAST_KEPT = 4


@dataclass(frozen=True)
class Ptemcee:
    """Draw by parallel tempering, one block after the other.

    Parameters
    ----------
    temperatures : int
        Temperatures of the ladder. The lowest is 1, that of the posterior.
    walkers : int
        Walkers at each temperature: even, and at least twice the parameters of a block.
    steps : int
        Steps of every walker, a multiple of `thin`.
    thin : int
        Every so many steps the walkers' coordinates are kept.
    keep : float
        The last fraction of the steps is kept; before that walkers forget where they started.
    ensembles : int
        Ensembles that know nothing of each other. Each becomes a `chain`, for the walkers of an
        ensemble do depend on each other; R-hat asks for two or more.
    scatter : float
        Standard deviation of the walkers' starting points around the maximum of the posterior, in
        units of the Laplace approximation's. The paper started within 1 % of the natural
        parameters of the maximum, which is more than the posterior's width in one direction and a
        hundredth of it in another. Stretch moves do not care for directions, so that a fraction of
        the width does as well in all of them; at the full width some walkers would start, where
        the posterior is bent, far down its sides.
    adapt : bool
        Whether the ladder is adapted until all neighbours are exchanged as often, during the steps
        that are not kept: the steps that are kept belong to one ladder.
    max_temperature : float, optional
        Highest temperature, infinity included (the prior). By default neighbours are as far apart
        as a Gaussian needs for one exchange in four.
    """

    temperatures: int = 3
    walkers: int = 50
    steps: int = 30_000
    thin: int = 10
    keep: float = 0.5
    ensembles: int = 1
    scatter: float = 0.5
    adapt: bool = False
    max_temperature: float | None = None

    def __post_init__(self) -> None:
        least = {"temperatures": 1, "walkers": 2, "steps": 1, "thin": 1, "ensembles": 1}
        for name, least_value in least.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least_value:
                raise ConfigurationError(
                    f"{name} is {value!r}; it must be a whole number, {least_value} or more"
                )
        if self.walkers % 2:
            raise ConfigurationError(
                f"walkers is {self.walkers}; it must be even, for one half of the walkers moves "
                f"along the other; {self.walkers + 1} would do"
            )
        if self.steps % self.thin:
            raise ConfigurationError(
                f"steps is {self.steps}; it must be a multiple of thin, {self.thin}; "
                f"{-(-self.steps // self.thin) * self.thin} would do"
            )
        if not 0 < self.keep < 1:
            raise ConfigurationError(
                f"keep is {self.keep}; it must be above 0 and below 1: a fraction of the steps"
            )
        if self.kept < LEAST_KEPT:
            raise ConfigurationError(
                f"steps={self.steps}, thin={self.thin} and keep={self.keep} keep {self.kept} "
                f"states of a walker; they must keep {LEAST_KEPT} or more"
            )
        if not 0 < self.scatter < np.inf:
            raise ConfigurationError(f"scatter is {self.scatter}; it must be above 0 and finite")
        self._check_ladder()

    def _check_ladder(self) -> None:
        highest = self.max_temperature
        if highest is not None and not highest > 1:
            raise ConfigurationError(
                f"max_temperature is {highest}; it must be above 1, the posterior's own"
            )
        if highest == np.inf and self.temperatures < 2:
            raise ConfigurationError(
                "temperatures is 1 and max_temperature is infinite; an infinite temperature needs "
                "temperatures=2 or more: it is that of the prior"
            )

    @property
    def kept(self) -> int:
        """States of a walker that are kept: an even number, for they are cut into two halves."""
        return 2 * int(self.keep * (self.steps // self.thin) / 2)

    def __call__(self, target: Target) -> Draws:
        """Draw from every block of a target.

        Parameters
        ----------
        target : Target
            What is sampled.

        Returns
        -------
        Draws
            A `chain` is an ensemble. Its draws are in the order of `walker_order`: `walker` and
            `step` (chain, draw, block) tell whose each is, and after how many steps. `acceptance`
            of moves, `swap_acceptance` of exchanges with neighbouring temperatures,
            `inverse_temperature`, and `mean_log_likelihood`, all (chain, temperature, block), are
            those of the kept steps.

        Raises
        ------
        ConfigurationError
            If there are too few walkers for the parameters of a block.
        ModelError
            If the likelihood is not finite anywhere near the maximum.
        """
        n_block, n_parameter = target.n_block, target.n_parameter
        if self.walkers < 2 * n_parameter:
            raise ConfigurationError(
                f"walkers is {self.walkers}, for {n_parameter} parameters of a block; it must be "
                f"at least twice their number: walkers={2 * n_parameter} would do"
            )
        shape = (self.ensembles, self.walkers * self.kept, n_block)
        theta = np.empty((*shape, n_parameter))
        walker, step = np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.int32)
        rungs = (self.ensembles, self.temperatures, n_block)
        names = ("acceptance", "swap_acceptance", "inverse_temperature", "mean_log_likelihood")
        stats = {name: np.full(rungs, np.nan) for name in names}
        for block, seed in enumerate(target.seeds):
            for ensemble in range(self.ensembles):
                random = np.random.RandomState(np.random.MT19937(child_seed(seed, ensemble)))
                sampler, walkers = self._run(target, block, random)
                here = (ensemble, slice(None), block)
                state, slot = walker_order(walkers)
                theta[here] = sampler.chain[0, slot, state]
                walker[here] = walkers[state, slot]
                step[here] = self.steps - self.thin * (self.kept - 1 - state)
                stats["acceptance"][here] = sampler.acceptance_fraction.mean(axis=1)
                if self.temperatures > 1:
                    stats["swap_acceptance"][here] = sampler.tswap_acceptance_fraction
                stats["inverse_temperature"][here] = sampler.betas
                stats["mean_log_likelihood"][here] = sampler.loglikelihood.mean(axis=(1, 2))
        named = {name: (("chain", "temperature", "block"), stats[name]) for name in names}
        draws = ("chain", "draw", "block")
        return Draws(theta, {**named, "walker": (draws, walker), "step": (draws, step)})

    def _run(
        self, target: Target, block: int, random: np.random.RandomState
    ) -> tuple[Any, np.ndarray]:
        """Run one ensemble in one block.

        Returns
        -------
        sampler : ptemcee.Sampler
            With what was kept.
        walkers : (state, slot) array of int
            The walkers that were at temperature 1 when a state was kept.
        """
        one = np.array([block])

        def log_likelihood(points: np.ndarray) -> np.ndarray:
            value = target.log_likelihood(points[None], one)[0]
            return np.where(np.isfinite(value), value, -np.inf)

        sampler = ensemble_class()(
            log_likelihood,
            nwalkers=self.walkers,
            dim=target.n_parameter,
            ntemps=int(self.temperatures),
            Tmax=self.max_temperature,
            random=random,
        )
        discarded = self.steps - self.thin * self.kept
        start = self._start(target, block, log_likelihood, random)
        sampler.run_mcmc(start, iterations=discarded, storechain=False, adapt=self.adapt)
        for count in ("nswap", "nswap_accepted", "nprop", "nprop_accepted"):
            getattr(sampler, count)[...] = 0
        steps = sampler.sample(iterations=self.steps - discarded, thin=self.thin)
        kept = [sampler.walker[0] for _ in islice(steps, self.thin - 1, None, self.thin)]
        return sampler, np.array(kept)

    def _start(
        self, target: Target, block: int, log_likelihood: Any, random: np.random.RandomState
    ) -> np.ndarray:
        """Draw starting points with likelihood, (temperature, walker, parameter)."""
        location = target.laplace.location[block]
        shape = (self.temperatures, self.walkers, target.n_parameter)
        standard = random.standard_normal((self.temperatures * self.walkers, target.n_parameter))
        away = self.scatter * standard @ target.laplace.factor[block].T
        for _ in range(MAX_HALVINGS):
            outside = np.isneginf(log_likelihood(location + away))
            if not outside.any():
                return (location + away).reshape(shape)
            away[outside] /= 2
        raise ModelError(
            f"the log likelihood of block {block} is not finite at the maximum of its log "
            "posterior, nor close by; it must be for walkers to start there: look at its data for "
            "what is not finite"
        )


#: The settings of Zelko et al. (2022, Sec. 3.2), started around the maximum.
PAPER = Ptemcee(temperatures=3, walkers=50, steps=30_000, thin=10, keep=0.5)


def walker_order(walkers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put the states of an ensemble into an order that diagnostics of a chain understand.

    First come the states of the first half of the steps, then those of the second; in each half
    walker follows after walker, each in the order of time. Split R-hat then compares the ensemble
    early and late, and the autocorrelation is that of walkers in time. Step after step, with all
    walkers of each, would hide it: neighbours would be different walkers, and the effective sample
    size many times too large. So would the order of ptemcee's chain, whose walkers stay at their
    temperature and exchange coordinates: what leaves one walker soon comes back to another.

    Parameters
    ----------
    walkers : (state, slot) array of int
        Walkers whose coordinates were kept, at an even number of times. A walker may be missing at
        some of them.

    Returns
    -------
    state, slot : (draw,) array of int
        Where the draws are to be taken from.

    Examples
    --------
    >>> state, slot = walker_order(np.array([[0, 1], [1, 0], [1, 2], [0, 1]]))
    >>> state.tolist(), slot.tolist()
    ([0, 1, 0, 1, 3, 2, 3, 2], [0, 1, 1, 0, 0, 0, 1, 1])
    """
    state, slot = np.indices(walkers.shape).reshape(2, -1)
    half = state >= len(walkers) // 2
    order = np.lexsort((state, walkers.ravel(), half))
    return state[order], slot[order]


class _OldNumPy:
    """NumPy with the one name that ptemcee's sampler misses in it."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _on_old_numpy(function: FunctionType) -> FunctionType:
    """Return the same function, which finds the old names where it looks for NumPy."""
    names = {**function.__globals__, "np": _OldNumPy()}
    return FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )


@cache
def mended_sampler() -> type:
    """Return ptemcee's sampler, able to run on current NumPy.

    `np.float` occurs in two of its methods. A subclass has these two again, of the same code, with
    a view of NumPy of their own among their global names. Nothing is changed in NumPy, nor in
    ptemcee's modules, so that it does not matter how often, when, or in which thread this is asked
    for, nor who else uses ptemcee. Its autocorrelation and evidence, which fail as well, are not
    used here: the first is ArviZ's task; the second, thermodynamic integration over a few
    temperatures, would be wrong by far.
    """
    # Python 3.12 warns of the escapes in its docstrings when it compiles them for the first time.
    with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
        from ptemcee.sampler import Sampler  # needed here alone

    class MendedSampler(Sampler):
        """`ptemcee.Sampler` on current NumPy."""

        reset = _on_old_numpy(Sampler.reset)
        _evaluate = _on_old_numpy(Sampler._evaluate)

    return MendedSampler


@cache
def ensemble_class() -> type:
    """Return ptemcee's sampler with all walkers evaluated in one call.

    ptemcee maps a function over the walkers, by a pool if there is one, and collects numbers from
    tuples. A pool that evaluates all of them at once would do; to evaluate arrays in the one method
    that does so spares the tuples, a third of ptemcee's own time.
    """

    class Ensemble(mended_sampler()):
        """Sampler of a posterior whose prior is a standard normal."""

        def __init__(self, log_likelihood: Any, **settings: Any) -> None:
            super().__init__(logl=None, logp=None, **settings)
            self._log_likelihood = log_likelihood
            self.walker = np.arange(self.ntemps * self.nwalkers).reshape(self.ntemps, -1)

        def _evaluate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Return log likelihood and log prior, (temperature, walker) each."""
            log_likelihood = self._log_likelihood(points.reshape(-1, self.dim))
            log_prior = -0.5 * np.einsum("twp,twp->tw", points, points)
            # Of its own memory and in order: ptemcee writes into it through reshaped views.
            return np.array(log_likelihood.reshape(points.shape[:2]), order="C"), log_prior

        def _temperature_swaps(
            self, betas: np.ndarray, p: np.ndarray, logpost: np.ndarray, logl: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            """Exchange coordinates between temperatures, and with them who is where.

            The number of a walker, as a last coordinate, goes where its coordinates go.
            """
            numbered = np.concatenate([p, self.walker[:, :, None]], axis=2)
            numbered, ratios = super()._temperature_swaps(betas, numbered, logpost, logl)
            # In place, for the sampler holds on to this array.
            p[...] = numbered[:, :, :-1]
            self.walker = numbered[:, :, -1].astype(int)
            return p, ratios

    return Ensemble
