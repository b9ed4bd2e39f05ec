"""NUTS on every block, compiled once, in coordinates in which a posterior is nearly round.

The coordinates are prior quantiles, whitened by the location and scale of the posterior that
importance sampling has found (where blocks are small enough for it; else by the Laplace
approximation). A chain needs little warm-up there. Chains that have not mixed are run again, for
longer, with shorter steps, and whitened by what they drew.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pymc as pm
from arviz_stats.base import array_stats
from pymc.blocking import RaveledVars

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import Proposal
from pymcdust.infer.laplace import learn_scale
from pymcdust.infer.target import Draws, Target, child_seed

#: Chains are run again where R-hat is this or more, where they are worth fewer independent draws
#: than this for each chain (or than a tenth of short chains), in bulk or in the tails (both
#: Vehtari et al. 2021), or where a larger share of their draws diverged.
NOT_MIXED = 1.01
LEAST_ESS = 100
TOO_MANY_DIVERGED = 0.01

#: Fewest draws of a chain of which R-hat can be told.
LEAST_DRAWS = 4

#: The tails whose effective number of draws counts.
TAILS = (0.05, 0.95)

#: The factor by which warm-up and chains become longer each time that they are run again. Of the
#: longer chains as many draws are kept as of the first.
LONGER = 2

#: Acceptance rate for which the step size is tuned when chains are run again.
CAREFUL_ACCEPT = 0.9

#: Scatter of the starting points, in units of the posterior's scale: wider than the posterior, so
#: that R-hat tells whether the chains have found to each other.
START_SCATTER = 1.5

#: What is kept of each draw: its name in nutpie and in PyMC, and its type here.
STATISTICS: dict[str, tuple[str, str, type]] = {
    "diverging": ("diverging", "diverging", bool),
    "energy": ("energy", "energy", np.float64),
    "tree_depth": ("depth", "depth", np.int16),
    "reached_max_treedepth": ("maxdepth_reached", "reached_max_treedepth", bool),
    "n_steps": ("n_steps", "tree_size", np.int32),
    "acceptance_rate": ("mean_tree_accept", "mean_tree_accept", np.float32),
    "step_size": ("step_size", "step_size", np.float32),
}


@dataclass(frozen=True)
class Nuts:
    """Draw by the No-U-Turn sampler (Hoffman & Gelman 2014).

    Parameters
    ----------
    draws : int
        Draws of a chain.
    chains : int
        Chains of a block.
    tune : int
        Warm-up of a chain, which is not kept: step size and mass matrix.
    target_accept : float
        Acceptance rate for which the step size is tuned.
    attempts : int
        How often a block is run until its chains have mixed; the last run is kept in any case.
    sampler : {"nutpie", "pymc"}
        Implementation.
    cores : int, optional
        Chains that nutpie runs at a time, by default as many as there are processors. The draws do
        not depend on it.
    """

    draws: int = 1000
    chains: int = 4
    tune: int = 200
    target_accept: float = 0.8
    attempts: int = 3
    sampler: Literal["nutpie", "pymc"] = "nutpie"
    cores: int | None = None

    def __post_init__(self) -> None:
        least = {"draws": 1, "chains": 1, "tune": 50, "attempts": 1, "cores": 1}
        for name, least_value in least.items():
            value = getattr(self, name)
            if value is not None and value < least_value:
                raise ConfigurationError(f"{name} is {value}; it must be {least_value} or more")
        if not 0.5 <= self.target_accept < 1:
            raise ConfigurationError(
                f"target_accept is {self.target_accept}; it must be at least 0.5 and below 1"
            )
        if self.sampler not in _RUNNERS:
            raise ConfigurationError(unknown("sampler", self.sampler, _RUNNERS))

    def __call__(self, target: Target) -> Draws:
        """Draw from every block of a target.

        Parameters
        ----------
        target : Target
            What is sampled.

        Returns
        -------
        Draws
            With `STATISTICS`, (chain, draw, block) each, and `attempts` (block,).
        """
        return self.draw_in(learn_scale(target), target)

    def draw_in(self, scales: Proposal, target: Target) -> Draws:
        """Draw from every block of a target, whose location and scale are known.

        Parameters
        ----------
        scales : Proposal
            Location and scale of every block's posterior.
        target : Target
            What is sampled; blocks may be none.

        Returns
        -------
        Draws
            As a call returns them.
        """
        shape = (self.chains, self.draws, target.n_block)
        theta = np.empty((*shape, target.n_parameter))
        stats = {name: np.empty(shape, dtype) for name, (*_, dtype) in STATISTICS.items()}
        attempts = np.empty(target.n_block, dtype=np.int16)
        for block in range(target.n_block):
            one = np.array([block])
            run, attempts[block] = self._until_mixed(
                target.posterior, target.data(one), scales.select(one), target.seeds[block]
            )
            theta[:, :, block] = run.theta
            for name, values in run.stats.items():
                stats[name][:, :, block] = values
        named = {name: (("chain", "draw", "block"), values) for name, values in stats.items()}
        return Draws(theta, {**named, "attempts": (("block",), attempts)})

    def _until_mixed(
        self,
        posterior: CompiledPosterior,
        data: list[np.ndarray],
        scale: Proposal,
        seed: np.random.SeedSequence,
    ) -> tuple["_Run", int]:
        """Run the chains of one block until they have mixed, and count the runs."""
        settings, longer = self, 1
        for attempt in range(1, self.attempts + 1):
            run = _RUNNERS[self.sampler](
                settings, posterior, data, scale, child_seed(seed, attempt)
            )
            if _has_mixed(run):
                break
            scale = _scale_of(run.theta, scale)
            longer *= LONGER
            settings = replace(
                self,
                draws=self.draws * longer,
                tune=self.tune * longer,
                target_accept=max(self.target_accept, CAREFUL_ACCEPT),
            )
        return run.thinned_to(self.draws), attempt


@dataclass(frozen=True)
class _Run:
    """Chains of one block: theta (chain, draw, parameter), stats (chain, draw)."""

    theta: np.ndarray
    stats: dict[str, np.ndarray]

    def thinned_to(self, n_draw: int) -> "_Run":
        """Keep so many draws, evenly spaced; what happened in between is not forgotten."""
        step = self.theta.shape[1] // n_draw
        if step == 1:
            return self
        groups = {
            name: values.reshape(len(values), n_draw, step) for name, values in self.stats.items()
        }
        summed_up = {"diverging": np.any, "reached_max_treedepth": np.any, "n_steps": np.sum}
        stats = {
            name: summed_up[name](values, axis=2) if name in summed_up else values[..., -1]
            for name, values in groups.items()
        }
        return _Run(self.theta[:, step - 1 :: step], stats)


def _run_nutpie(
    settings: Nuts,
    posterior: CompiledPosterior,
    data: list[np.ndarray],
    scale: Proposal,
    seed: np.random.SeedSequence,
) -> _Run:
    """Run the chains of one block by nutpie."""
    import nutpie
    import pyarrow

    compiled, used = posterior.nutpie
    location, factor = scale.location[0], scale.factor[0]
    given = zip(posterior.data_names, data, strict=True)
    named = {name: array for name, array in given if name in used}
    model = replace(
        compiled.with_data(location=location, factor=factor, **named),
        initial_point_func=lambda number: _start(np.random.default_rng(number), len(location)),
    )
    traces = nutpie.sample(
        model,
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        target_accept=settings.target_accept,
        seed=int(seed.generate_state(1)[0]),
        progress_bar=False,
        save_warmup=False,
        # The conversion for ArviZ would take as long as the sampling.
        return_raw_trace=True,
    )
    draws, stats = traces.get_arrow_trace()

    def columns(batches: list, name: str) -> np.ndarray:
        arrays = [pyarrow.array(batch.column(name)) for batch in batches]
        flat = [a.flatten() if hasattr(a, "flatten") else a for a in arrays]
        kept = [a.to_numpy(zero_copy_only=False) for a in flat]
        return np.stack([a.reshape(settings.tune + settings.draws, -1) for a in kept])[
            :, settings.tune :
        ]

    return _Run(
        columns(draws, "z") @ factor.T + location,
        {
            name: columns(stats, theirs)[..., 0].astype(dtype)
            for name, (theirs, _, dtype) in STATISTICS.items()
        },
    )


def _run_pymc(
    settings: Nuts,
    posterior: CompiledPosterior,
    data: list[np.ndarray],
    scale: Proposal,
    seed: np.random.SeedSequence,
) -> _Run:
    """Run the chains of one block by PyMC's own sampler, one after the other."""
    model, step = posterior.pymc_nuts(settings.target_accept)
    location, factor = scale.location[0], scale.factor[0]
    pm.set_data(
        {
            "location": location,
            "factor": factor,
            **dict(zip(posterior.data_names, data, strict=True)),
        },
        model=model,
    )
    shape = (settings.chains, settings.draws)
    z = np.empty((*shape, len(location)))
    stats = {name: np.empty(shape, dtype) for name, (*_, dtype) in STATISTICS.items()}
    start = pm.blocking.DictToArrayBijection.map(model.initial_point())
    for chain in range(settings.chains):
        rng = np.random.default_rng(child_seed(seed, chain))
        step.setup_chain(rng, settings.tune, settings.draws)
        step.reset_tuning()
        point = RaveledVars(_start(rng, len(location)), start.point_map_info)
        for number in range(-settings.tune, settings.draws):
            if number == 0:
                step.stop_tuning()
            point, (drawn,) = step.astep(point)
            if number >= 0:
                z[chain, number] = point.data
                for name, (_, theirs, _) in STATISTICS.items():
                    stats[name][chain, number] = drawn[theirs]
    return _Run(z @ factor.T + location, stats)


_RUNNERS = {"nutpie": _run_nutpie, "pymc": _run_pymc}


def _start(rng: np.random.Generator, n_parameter: int) -> np.ndarray:
    return START_SCATTER * rng.standard_normal(n_parameter)


def _has_mixed(run: _Run) -> bool:
    """Tell whether the chains of one block can be kept as they are."""
    n_chain, n_draw, _ = run.theta.shape
    if run.stats["diverging"].mean() > TOO_MANY_DIVERGED:
        return False
    if n_chain < 2 or n_draw < LEAST_DRAWS:
        return True
    axes = {"chain_axis": 0, "draw_axis": 1}
    wanted = n_chain * min(LEAST_ESS, n_draw / 10)
    # Chains that stand still have an R-hat of NaN, which is below nothing.
    with np.errstate(invalid="ignore", divide="ignore"):
        return bool(
            np.all(array_stats.rhat(run.theta, **axes) < NOT_MIXED)
            and np.all(array_stats.ess(run.theta, **axes) >= wanted)
            and np.all(array_stats.ess(run.theta, **axes, method="tail", prob=TAILS) >= wanted)
        )


def _scale_of(theta: np.ndarray, former: Proposal) -> Proposal:
    """Return location and scale of the draws of one block, the former where they do not tell."""
    flat = theta.reshape(-1, theta.shape[2])
    if len(flat) <= 2 * flat.shape[1]:
        return former
    covariance = np.cov(flat, rowvar=False).reshape(2 * flat.shape[1:])
    return Proposal(flat.mean(axis=0)[None], np.linalg.cholesky(covariance)[None])
