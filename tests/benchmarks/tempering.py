"""ptemcee on a superpixel of the paper, ours and walker by walker.

The same package, with the same mended names, runs at the settings of the paper: by
`pymcdust.infer.tempering` on compressed data, all walkers in one call; and walker by walker on the
1,024 pixels, in natural parameters, by a plain function in NumPy: the steps of the published code,
and a leaner expression.
"""

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from arviz_stats.base import array_stats
from published import PRIOR_MEAN, PRIOR_SD, Objective, PublishedExpression
from skies import mock_sky

from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.target import Draws, Target
from pymcdust.infer.tempering import PAPER, mended_sampler
from pymcdust.modeling.gallery import resolve
from pymcdust.sky.compression import compress

#: Reddening of every voxel [mag].
COLUMN = 0.24

#: Steps before the clock is started: what is compiled on the first call is compiled then.
WARM_UP = 20

#: Priors of `temperature_per_voxel`, bounds included, in natural parameters.
LOG_RHO = (np.log(1e-4), 1.0)
BETA = (1.6, 0.3, 1.0, 3.0)
TEMPERATURE = (PRIOR_MEAN, PRIOR_SD, 5.0, 100.0)


#: Ways to write the likelihood in NumPy.
EXPRESSIONS = {"as published": PublishedExpression, "leaner": Objective}


def log_prior(parameters: np.ndarray) -> float:
    """Return the log prior at ``[rho, beta, T_1 ... T_N]``, up to a constant.

    Without the Gaussian in T, which `Objective` includes.
    """
    rho, beta, temperature = parameters[0], parameters[1], parameters[2:]
    inside = rho > 0 and BETA[2] < beta < BETA[3]
    if not (inside and ((temperature > TEMPERATURE[2]) & (temperature < TEMPERATURE[3])).all()):
        return -np.inf
    log_rho = np.log(rho)
    z = (log_rho - LOG_RHO[0]) / LOG_RHO[1], (beta - BETA[0]) / BETA[1]
    return -0.5 * (z[0] ** 2 + z[1] ** 2) - log_rho


def plain(objective: Objective, centre: np.ndarray, steps: int) -> float:
    """Run ptemcee walker by walker, from within 1 % of `centre`; return the seconds of a step."""
    random = np.random.RandomState(0)
    sampler = mended_sampler()(
        PAPER.walkers,
        len(centre),
        lambda parameters: -0.5 * objective(parameters),
        log_prior,
        ntemps=PAPER.temperatures,
        random=random,
    )
    shape = (PAPER.temperatures, PAPER.walkers, len(centre))
    start = centre * (1 + 0.01 * random.standard_normal(shape))
    sampler.run_mcmc(start, iterations=WARM_UP, storechain=False)
    began = perf_counter()
    sampler.run_mcmc(iterations=steps, thin=PAPER.thin)
    return (perf_counter() - began) / steps


def ours(target: Target, steps: int) -> tuple[float, Draws]:
    """Run `Ptemcee` on the compressed rows; return the seconds of each step, and the draws."""
    settings = replace(PAPER, steps=steps)
    replace(PAPER, steps=WARM_UP * PAPER.thin)(target)
    began = perf_counter()
    draws = settings(target)
    return (perf_counter() - began) / steps, draws


@dataclass(frozen=True)
class Comparison:
    """What was measured, in seconds of each step.

    Parameters
    ----------
    own : float
        Of `Ptemcee` with the paper's settings.
    rivals : dict
        Of ptemcee with a plain function, by `EXPRESSIONS`.
    ess_per_step : float
        Effective draws of the worst parameter for each step.
    """

    own: float
    rivals: dict[str, float]
    ess_per_step: float


def compare_ptemcee(steps: int, rounds: int) -> Comparison:
    """Run ptemcee in turns with each likelihood.

    Parameters
    ----------
    steps : int
        Steps that pymcdust takes; the others take a tenth.
    rounds : int
        Turns; the median is taken.
    """
    sky = mock_sky(1, column=COLUMN)
    rows = compress(sky)
    posterior = CompiledPosterior(resolve("temperature_per_voxel"), rows, "quantile")
    target = Target(posterior, rows, np.random.SeedSequence(0).spawn(1), often=True)
    slots = {slot.name: np.arange(slot.start, slot.stop) for slot in posterior.slots}
    order = np.concatenate([slots[name] for name in ("rho", "beta", "temperature")])
    centre = posterior.natural(target.laplace.location[None])[0][0, 0, order]
    turns = []
    for _ in range(rounds):
        turn = [
            plain(expression(sky.isel(superpixel=0)), centre, max(steps // 10, 100))
            for expression in EXPRESSIONS.values()
        ]
        seconds, draws = ours(target, steps)
        turns.append([*turn, seconds])
    *rivals, own = np.median(turns, axis=0)
    ess = array_stats.ess(draws.theta[:, :, 0], chain_axis=0, draw_axis=1).min()
    return Comparison(own, dict(zip(EXPRESSIONS, rivals, strict=True)), ess / steps)
