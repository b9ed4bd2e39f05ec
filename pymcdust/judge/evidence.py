"""The evidence of every superpixel of a posterior, by several estimators that are alike.

The evidence is the probability of all valid pixels of a superpixel, whatever its parameters, with
every constant of their likelihood. The estimators estimate the same number, and can be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, ResultError, listing, unknown
from pymcdust.infer.bridge import POINTS, bridge_sample
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import RELIABLE_K
from pymcdust.infer.laplace import Laplace
from pymcdust.infer.posterior import model_of, quantile_draws, rows_of
from pymcdust.infer.sampling import make_method
from pymcdust.infer.smc import Smc
from pymcdust.infer.target import Target, child_seed
from pymcdust.judge.posterior import check_posterior, independent_draws
from pymcdust.sky.morphology import random_stream

#: Values of `evidence_method`.
ESTIMATORS = ("importance", "bridge", "smc")

#: Superpixels that are worked on at a time.
CHUNK = 32

#: Which children of the streams of draws are those of the evidence: draws have the first few.
EVIDENCE = 1_000_000

#: Points of a proposal, at least.
LEAST_POINTS = 100

#: Largest difference between a stored log posterior and the model's, in ln: less than matters.
LARGEST_MISMATCH = 0.01

#: Error of ln Z from which it is not to be relied on: its own error is then not known either.
LARGEST_ERROR = 0.25

#: Difference between two halves, in standard errors, from which they contradict each other.
LARGEST_DIFFERENCE = 4.0

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
    method : {"auto", "importance", "bridge", "smc"}, optional
        The estimator.

        - ``"importance"``: importance sampling, by proposals that learn; that which has drawn the
          posterior, where it did and there are no settings, else a new run.
        - ``"bridge"``: bridge sampling over the draws.
        - ``"smc"``: sequential Monte Carlo from the prior, which takes nothing from the draws.
        - ``"auto"``: importance sampling where it drew the posterior and can be relied on, bridge
          sampling elsewhere.
    seed : int, optional
        Seed. A superpixel's numbers depend on it and on the superpixel's index.
    compiled : CompiledPosterior, optional
        The posterior's model, compiled in quantile coordinates for rows of the same kind; by
        default it is compiled here.
    progress : callable, optional
        Called with the number of superpixels done, and of all.
    **settings
        Settings of the estimator: `points` of bridge sampling; the parameters of
        `pymcdust.infer.laplace.Laplace` or `pymcdust.infer.smc.Smc`.

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
    random_stream(seed, "draws")  # refuses what is no seed
    model = model_of(posterior)
    if compiled is not None and compiled.model.to_dict() != model.to_dict():
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
    importance : dict of (block,) arrays
        `pareto_k`, `importance_ess`, `ln_evidence` and `ln_evidence_error` of the importance
        sampling that drew, NaN where another method did.
    """

    target: Target
    theta: np.ndarray
    lp: np.ndarray
    importance: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, part: xr.DataTree, rows: xr.Dataset, compiled: CompiledPosterior, seed: int
    ) -> "_Subject":
        """Take superpixels of a posterior and their rows of data."""
        keys = rows.superpixel.values if compiled.by_superpixel else [0]
        seeds = [child_seed(random_stream(seed, "draws", key), EVIDENCE) for key in keys]
        target = Target(compiled, rows, seeds)
        stats = part["sample_stats"].dataset
        lp = stats["lp"].transpose("chain", "draw", ...).values
        lp = lp.reshape(*lp.shape[:2], target.n_block)
        theta = quantile_draws(part, target)
        _check_log_posterior(target, theta, lp)
        drawn = np.atleast_1d(independent_draws(part).values)
        importance = {
            name: np.where(drawn, np.atleast_1d(stats[name].values), np.nan)
            if name in stats and drawn.any()
            else np.full(target.n_block, np.nan)
            for name in ("pareto_k", "importance_ess", "ln_evidence", "ln_evidence_error")
        }
        return cls(target, theta, lp, importance)

    def select(self, blocks: np.ndarray) -> "_Subject":
        """Return some blocks, by their positions."""
        return _Subject(
            self.target.select(blocks),
            self.theta[:, :, blocks],
            self.lp[:, :, blocks],
            {name: values[blocks] for name, values in self.importance.items()},
        )


def _estimator(method: str, settings: dict[str, Any]) -> Callable[[_Subject], _Estimate]:
    """Return an estimator with its settings."""
    if method in ("auto", "bridge"):
        for name in settings:
            if name != "points":
                raise ConfigurationError(unknown("setting of bridge sampling", name, ["points"]))
        points = settings.get("points", POINTS)
        if not isinstance(points, Integral) or points < LEAST_POINTS:
            raise ConfigurationError(
                f"points is {points!r}; it must be a whole number, {LEAST_POINTS} or more"
            )
        estimate = _auto if method == "auto" else _bridge
        return lambda subject: estimate(subject, points)
    if method == "importance":
        laplace = make_method("laplace", settings)
        return lambda subject: _importance(subject, laplace, again=bool(settings))
    if method == "smc":
        smc = make_method("smc", settings)
        return lambda subject: _smc(subject, smc)
    raise ConfigurationError(unknown("method", method, ("auto", *ESTIMATORS)))


def _auto(subject: _Subject, points: int) -> _Estimate:
    """Take importance sampling where it drew and is reliable, and bridge sampling elsewhere."""
    stored = _stored(subject)
    left = np.flatnonzero(~stored.reliable)
    if not len(left):
        return stored
    bridged = _bridge(subject.select(left), points)
    return _put(stored, left, bridged)


def _importance(subject: _Subject, laplace: Laplace, again: bool) -> _Estimate:
    """Take the importance sampling that drew, and sample by importance where none did."""
    stored = _stored(subject)
    left = np.flatnonzero(again | np.isnan(stored.ln_evidence))
    if not len(left):
        return stored
    stats = laplace(subject.target.select(left)).stats
    names = ("ln_evidence", "ln_evidence_error", "pareto_k")
    return _put(stored, left, _weighted(*(stats[name][1] for name in names)))


def _stored(subject: _Subject) -> _Estimate:
    """Return the evidence of the importance sampling that drew, NaN where another method did."""
    names = ("ln_evidence", "ln_evidence_error", "pareto_k")
    return _weighted(*(subject.importance[name] for name in names))


def _weighted(ln_evidence: np.ndarray, error: np.ndarray, pareto_k: np.ndarray) -> _Estimate:
    reliable = (pareto_k < RELIABLE_K) & (error < LARGEST_ERROR)
    return _estimate("importance", ln_evidence, error, reliable, pareto_k)


def _bridge(subject: _Subject, points: int) -> _Estimate:
    """Bridge the draws, which are reliable themselves unless importance weights were not."""
    target, importance = subject.target, subject.importance
    n_draw = subject.lp.shape[0] * subject.lp.shape[1]
    worth = np.clip(np.nan_to_num(importance["importance_ess"] / n_draw, nan=1.0), 0.0, 1.0)
    bridge = bridge_sample(
        target.log_posterior, subject.theta, subject.lp, target.generators(), points, worth
    )
    reliable = bridge.ln_evidence_error < LARGEST_ERROR
    reliable &= np.abs(bridge.half_difference) < LARGEST_DIFFERENCE
    reliable &= ~(importance["pareto_k"] >= RELIABLE_K)
    error = bridge.ln_evidence_error
    return _estimate("bridge", bridge.ln_evidence, error, reliable, bridge.pareto_k)


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


def _estimate(
    method: str, ln_evidence: np.ndarray, error: np.ndarray, reliable: np.ndarray, k: np.ndarray
) -> _Estimate:
    number = np.full(len(error), ESTIMATORS.index(method), dtype=np.int8)
    return _Estimate(ln_evidence, error, number, reliable, k)


def _put(whole: _Estimate, blocks: np.ndarray, part: _Estimate) -> _Estimate:
    """Return an estimate with some of its blocks replaced."""
    result = _Estimate(*(values.copy() for values in whole))
    for values, others in zip(result, part, strict=True):
        values[blocks] = others
    return result


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
