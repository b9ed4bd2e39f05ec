"""The evidence of every superpixel of a posterior, by several estimators that are alike.

The evidence is the probability of all valid pixels of a superpixel, whatever its parameters, with
every constant of their likelihood. The estimators estimate the same number, and can be compared.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from pymcdust.errors import ConfigurationError, ResultError, listing, unknown
from pymcdust.infer.bridge import POINTS, bridge_sample, shape_proposal
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import importance_sample
from pymcdust.infer.posterior import model_of, quantile_draws, rows_of
from pymcdust.infer.sampling import make_method, with_settings
from pymcdust.infer.smc import Smc
from pymcdust.infer.stepping_stones import SteppingStones
from pymcdust.infer.target import Target
from pymcdust.infer.weights import RELIABLE_K
from pymcdust.judge.posterior import check_posterior, independent_draws
from pymcdust.sky.morphology import random_stream

#: Values of `evidence_method`, and what can be asked for.
ESTIMATORS = ("importance", "bridge", "smc", "stepping")
METHODS = ("auto", *ESTIMATORS)

#: Superpixels that are worked on at a time.
CHUNK = 32

#: Points of a proposal, at least.
LEAST_POINTS = 100

#: Populations of sequential Monte Carlo: the scatter of fewer tells little of their errors.
POPULATIONS = 8

#: Largest difference between a stored log posterior and the model's, in ln: less than matters.
LARGEST_MISMATCH = 0.01

#: Error of ln Z from which it is not to be relied on: its own error is then not known either.
LARGEST_ERROR = 0.25

#: What the states of stepping stones must be worth.
LEAST_ESS = 50

#: Split R-hat from which chains have not met, and nothing tells what each of them is worth.
LARGEST_RHAT = 1.1

_LONG_NAMES = {
    "ln_evidence": "log of the evidence",
    "ln_evidence_error": "standard error of the log of the evidence",
    "evidence_method": "which estimator",
    "reliable": "whether the evidence is to be relied on",
    "pareto_k": "k-hat of the weights; of the proposal's points for bridge sampling",
}


def evidence(
    posterior: xr.DataTree,
    *,
    method: str = "auto",
    seed: int = 0,
    compiled: CompiledPosterior | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Estimate the evidence of every superpixel of a posterior.

    Parameters
    ----------
    posterior : DataTree
        A posterior, whichever method drew it; variables may be lazy.
    method : {"auto", "importance", "bridge", "smc", "stepping"}, optional
        The estimator.

        - ``"importance"``: importance sampling, by new points of a proposal that the draws shape.
          The evidence in `sample_stats` is not used: the proposals of adaptive importance sampling
          are drawn to the points that they are judged by, which takes some 0.05 off ln Z.
        - ``"bridge"``: bridge sampling over the draws. Not reliable over those of importance
          sampling, whose errors it would not see.
        - ``"smc"``: sequential Monte Carlo from the prior, which takes nothing from the draws.
        - ``"stepping"``: stepping stones, which takes nothing from the draws either.
        - ``"auto"``: importance sampling where it has drawn, bridge sampling elsewhere.
    seed : int, optional
        Seed. A superpixel's numbers depend on it and on the superpixel's index.
    compiled : CompiledPosterior, optional
        The posterior's model, compiled in quantile coordinates for rows of the same kind; by
        default it is compiled here.
    progress : callable, optional
        Called with the number of superpixels done, and of all.
    **settings
        Settings of the estimator: `points` of importance and bridge sampling; the parameters of
        `pymcdust.infer.smc.Smc` or `pymcdust.infer.stepping_stones.SteppingStones`.

    Returns
    -------
    Dataset
        For each superpixel, or once where the model couples superpixels: `ln_evidence`,
        `ln_evidence_error`, `evidence_method` with its meanings in the attributes, `reliable`, and
        `pareto_k`, NaN where an estimator has none.

    Raises
    ------
    ResultError
        If this is no posterior, one that lacks groups or draws, or one whose log posterior is not
        that of its model and its data.
    ConfigurationError
        If the method or a setting is unknown or impossible.
    """
    check_posterior(posterior)
    _check_data(posterior)
    estimate = _estimator(method, settings)
    random_stream(seed, "evidence")  # refuses what is no seed
    model = model_of(posterior)
    definition = json.loads(posterior.attrs["model_definition"])
    if compiled is not None and json.loads(json.dumps(compiled.model.to_dict())) != definition:
        raise ResultError(
            f"compiled is of {compiled.model.name} and the posterior of {model.name}, or one of "
            "them was changed; both must be of the same model"
        )
    n_superpixel = posterior["constant_data"].sizes["superpixel"]
    chunk = n_superpixel if model.couples_superpixels else CHUNK
    parts = []
    for start in range(0, n_superpixel, chunk):
        part = posterior
        if chunk < n_superpixel:
            part = posterior.isel(superpixel=slice(start, start + chunk))
        rows = rows_of(part).load()
        compiled = compiled or CompiledPosterior(model, rows, "quantile")
        parts.append(_dataset(estimate(_Subject.of(part, rows, compiled, seed)), part))
        if progress:
            progress(min(start + chunk, n_superpixel), n_superpixel)
    return xr.concat(parts, "superpixel") if len(parts) > 1 else parts[0]


class _Estimate(NamedTuple):
    """What an estimator says, (block,) each; pareto_k is NaN where it has none."""

    ln_evidence: np.ndarray
    error: np.ndarray
    method: np.ndarray
    reliable: np.ndarray
    pareto_k: np.ndarray


@dataclass(frozen=True)
class _Subject:
    """Some superpixels of a posterior, whose log posterior has been checked.

    Parameters
    ----------
    target : Target
        What was drawn from.
    theta : (chain, draw, block, parameter) array
        The draws in quantile coordinates.
    lp : (chain, draw, block) array
        Their log posterior.
    draws_k : (block,) array
        k-hat of the importance sampling that drew, NaN where another method did.
    """

    target: Target
    theta: np.ndarray
    lp: np.ndarray
    draws_k: np.ndarray

    @classmethod
    def of(
        cls, part: xr.DataTree, rows: xr.Dataset, compiled: CompiledPosterior, seed: int
    ) -> "_Subject":
        """Take superpixels of a posterior and their rows of data."""
        keys = rows.superpixel.values if compiled.by_superpixel else [0]
        seeds = [random_stream(seed, "evidence", key) for key in keys]
        target = Target(compiled, rows, seeds)
        stats = part["sample_stats"].dataset
        lp = stats["lp"].transpose("chain", "draw", ...).values
        lp = lp.reshape(*lp.shape[:2], target.n_block)
        theta = quantile_draws(part, target)
        _check_log_posterior(target, theta, lp)
        drew = np.atleast_1d(independent_draws(part).values)
        draws_k = np.full(target.n_block, np.nan)
        if drew.any():
            # A k-hat that could not be told is as bad as a large one.
            draws_k[drew] = np.nan_to_num(np.atleast_1d(stats["pareto_k"].values)[drew], nan=np.inf)
        return cls(target, theta, lp, draws_k)

    def select(self, chosen: np.ndarray) -> "_Subject":
        """Return the blocks that are chosen."""
        blocks = np.flatnonzero(chosen)
        return _Subject(
            self.target.select(blocks),
            self.theta[:, :, blocks],
            self.lp[:, :, blocks],
            self.draws_k[blocks],
        )


def _estimator(method: str, settings: dict[str, Any]) -> Callable[[_Subject], _Estimate]:
    """Return an estimator with its settings."""
    if method not in METHODS:
        raise ConfigurationError(unknown("method", method, METHODS))
    if method == "smc":
        smc = make_method("smc", {"chains": POPULATIONS, **settings})
        return lambda subject: _smc(subject, smc)
    if method == "stepping":
        stones = with_settings(SteppingStones, method, settings)
        return lambda subject: _stepping(subject, stones)
    for name in settings:
        if name != "points":
            raise ConfigurationError(unknown(f"setting of the method {method}", name, ["points"]))
    points = settings.get("points", POINTS)
    if not isinstance(points, Integral) or points < LEAST_POINTS:
        raise ConfigurationError(
            f"points is {points!r}; it must be a whole number, {LEAST_POINTS} or more"
        )
    estimate = {"auto": _auto, "importance": _importance, "bridge": _bridge}[method]
    return lambda subject: estimate(subject, points)


def _auto(subject: _Subject, points: int) -> _Estimate:
    """Sample by importance where that drew, and bridge the draws elsewhere."""
    drew = ~np.isnan(subject.draws_k)
    if drew.all():
        return _importance(subject, points)
    bridged = _bridge(subject.select(~drew), points)
    if not drew.any():
        return bridged
    weighted = _importance(subject.select(drew), points)
    joined = _Estimate(*(np.empty(len(drew), values.dtype) for values in bridged))
    for values, here, there in zip(joined, weighted, bridged, strict=True):
        values[drew], values[~drew] = here, there
    return joined


def _importance(subject: _Subject, points: int) -> _Estimate:
    """Draw new points from a proposal that the draws shape, and weigh them."""
    target = subject.target
    draws = np.moveaxis(subject.theta.reshape(-1, *subject.theta.shape[2:]), 0, 1)
    proposal, usable = shape_proposal(draws)
    sample = importance_sample(
        target.log_posterior, proposal, points, target.generators(), max_rounds=1
    )
    error = np.where(usable, sample.ln_evidence_error, np.inf)
    # Draws of unreliable weights may know nothing of a part of the posterior.
    reliable = ~(subject.draws_k >= RELIABLE_K) & (sample.pareto_k < RELIABLE_K)
    reliable &= error < LARGEST_ERROR
    return _estimate("importance", sample.ln_evidence, error, reliable, sample.pareto_k)


def _bridge(subject: _Subject, points: int) -> _Estimate:
    """Bridge the draws."""
    target = subject.target
    bridge = bridge_sample(
        target.log_posterior, subject.theta, subject.lp, target.generators(), points
    )
    # Draws that are resampled by weights carry the weights' errors, of which a bridge sees nothing.
    reliable = np.isnan(subject.draws_k) & bridge.reliable(LARGEST_ERROR)
    with np.errstate(invalid="ignore", divide="ignore"):
        rhat = array_stats.rhat(subject.theta, chain_axis=0, draw_axis=1, method="split")
    reliable &= rhat.max(axis=1) < LARGEST_RHAT
    return _estimate(
        "bridge", bridge.ln_evidence, bridge.ln_evidence_error, reliable, bridge.pareto_k
    )


def _smc(subject: _Subject, smc: Smc) -> _Estimate:
    """Take the mean evidence of populations that know nothing of each other."""
    stats = smc(replace(subject.target, often=True)).stats
    (_, ln_evidence), (_, correlation) = stats["ln_evidence"], stats["correlation"]
    top = ln_evidence.max(axis=0)
    share = np.exp(ln_evidence - top)
    mean = share.mean(axis=0)
    error = np.full(len(top), np.inf)
    if smc.chains > 1:
        error = share.std(axis=0, ddof=1) / mean / np.sqrt(smc.chains)
    moved = (correlation < smc.correlation_threshold).all(axis=0)
    reliable = moved & (error < LARGEST_ERROR)
    return _estimate("smc", top + np.log(mean), error, reliable, np.full(len(top), np.nan))


def _stepping(subject: _Subject, stepping_stones: SteppingStones) -> _Estimate:
    """Climb from the prior to the posterior, by stepping stones."""
    stones = stepping_stones(replace(subject.target, often=True))
    error = stones.ln_evidence_error
    reliable = (stones.ess >= LEAST_ESS) & (error < LARGEST_ERROR)
    none = np.full(len(error), np.nan)
    return _estimate("stepping", stones.ln_evidence, error, reliable, none)


def _estimate(
    method: str, ln_evidence: np.ndarray, error: np.ndarray, reliable: np.ndarray, k: np.ndarray
) -> _Estimate:
    number = np.full(len(error), ESTIMATORS.index(method), dtype=np.int8)
    return _Estimate(ln_evidence, error, number, reliable, k)


def _dataset(estimate: _Estimate, part: xr.DataTree) -> xr.Dataset:
    """Put an estimate into words."""
    like = part["sample_stats"]["lp"].isel(chain=0, draw=0, drop=True)
    named = dict(zip(_LONG_NAMES, estimate, strict=True))
    dataset = xr.Dataset(
        {
            name: (like.dims, values if like.dims else values[0], {"long_name": _LONG_NAMES[name]})
            for name, values in named.items()
        },
        like.coords,
        {"model": part.attrs["model"]},
    )
    dataset.evidence_method.attrs["flag_values"] = list(range(len(ESTIMATORS)))
    dataset.evidence_method.attrs["flag_meanings"] = " ".join(ESTIMATORS)
    return dataset


def _check_data(posterior: xr.DataTree) -> None:
    """Refuse a posterior that does not carry its model and its data."""
    wanted = ("constant_data", "observed_data")
    lacking = [group for group in wanted if group not in posterior.children]
    if lacking or "model_definition" not in posterior.attrs:
        what = f"group {listing(lacking)}" if lacking else "attribute model_definition"
        raise ResultError(
            f"the posterior has no {what}; its evidence is that of its own model and data, as "
            "sample returns them: pass the whole tree, not some of its groups"
        )


def _check_log_posterior(target: Target, theta: np.ndarray, lp: np.ndarray) -> None:
    """Refuse draws whose stored log posterior is not that of the model and the data."""
    chains, draws = (np.unique([0, n // 2, n - 1]) for n in lp.shape[:2])
    few = np.ix_(chains, draws)
    stored = lp[few].reshape(-1, target.n_block).T
    points = theta[few].reshape(-1, *theta.shape[2:]).transpose(1, 0, 2)
    away = np.abs(target.log_posterior(points, np.arange(target.n_block)) - stored).max(axis=1)
    wrong = np.flatnonzero(~(away < LARGEST_MISMATCH))
    if len(wrong):
        where = "the sky"
        if target.posterior.by_superpixel:
            where = f"superpixel {listing(target.rows.superpixel.values[wrong[:5]])}"
        raise ResultError(
            f"the log posterior of the draws of {where}, lp in sample_stats, is another than that "
            f"of the posterior's model and data, by {np.max(away[wrong]):.3g}; it may be off by "
            f"{LARGEST_MISMATCH}: the store was damaged or put together from several, or the model "
            "has changed since; sample again"
        )
