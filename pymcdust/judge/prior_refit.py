"""Posteriors of other priors, drawn anew: all in one batch, by functions that are compiled once.

Numbers of the priors are data of the compiled functions, beside the rows of a sky. Where the draws
of the declared prior's posterior lie is known; where those of another's will lie follows from it
as it would if all were Gaussian. From there importance sampling fails seldom. Where it does, the
declared prior's draws themselves are carried over and weighted; where that fails too, NUTS draws.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from pymcdust.errors import ResultError, listing
from pymcdust.infer.bridge import bridge_sample
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import Proposal
from pymcdust.infer.laplace import learn
from pymcdust.infer.nuts import Nuts
from pymcdust.infer.posterior import quantile_draws, rows_of
from pymcdust.infer.priors import log_prior, prior_quantiles, with_numbers
from pymcdust.infer.target import Target
from pymcdust.infer.weights import RELIABLE_K, largest_k, log_mean, smooth_weights
from pymcdust.judge.prior_grid import Alternative, declared_number
from pymcdust.judge.prior_moments import expected_moments
from pymcdust.judge.prior_weights import efficiency
from pymcdust.judge.statistics import LARGEST_RHAT, worst_rhat
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky.morphology import random_stream

#: Draws of each posterior by importance sampling.
DRAWS = 1000

#: Posterior widths, in prior quantiles, below which a value stays when draws are carried over.
KEPT = (0.7, 0.9, 0.97)

#: What the draws of a posterior must be worth, to be relied on.
LEAST_ESS = 400

#: Posteriors that are drawn together.
BATCH = 128

#: Quantiles of a prior, in standard deviations, that are as good as infinite.
FAR = 20.0

#: Draws of the declared prior's posterior that tell its mean and covariance.
FOR_MOMENTS = 500


@dataclass(frozen=True)
class Refits:
    """Posteriors that were drawn anew.

    Parameters
    ----------
    prior, block : (job,) array of int
        Whose they are: the position of the prior, and that of the superpixel.
    natural : dict of arrays
        Draws (job, value, draw) of each variable.
    weight : (job, draw) array
        Their weights, of sum 1.
    pareto_k, ess : (job,) array
        k-hat of importance sampling, and what the draws are worth. Of NUTS there is no k-hat.
    ln_evidence_change : (job,) array
        Log of the evidence over that of the declared prior.
    reliable : (job,) array of bool
        Whether the draws can be relied on.
    """

    prior: np.ndarray
    block: np.ndarray
    natural: dict[str, np.ndarray]
    weight: np.ndarray
    pareto_k: np.ndarray
    ess: np.ndarray
    ln_evidence_change: np.ndarray
    reliable: np.ndarray


@dataclass(frozen=True)
class _Jobs:
    """Posteriors to draw: positions of priors and superpixels, and the declared prior's evidence.

    All are (job,) arrays.
    """

    prior: np.ndarray
    block: np.ndarray
    declared: np.ndarray

    def select(self, jobs: np.ndarray | slice) -> "_Jobs":
        return _Jobs(self.prior[jobs], self.block[jobs], self.declared[jobs])


class Refitter:
    """Draws the posteriors of other priors.

    Parameters
    ----------
    model : VoxelMBB
        The model, with the declared priors.
    priors : tuple of Alternative
        The priors.
    seed : int
        Seed of the draws.
    """

    def __init__(self, model: VoxelMBB, priors: tuple[Alternative, ...], seed: int) -> None:
        self.model, self.priors, self.seed = model, priors, seed
        self.varied = tuple(dict.fromkeys(n for prior in priors for n in prior.numbers))
        self._compiled: CompiledPosterior | None = None

    def draw(self, posterior: xr.DataTree, wanted: np.ndarray) -> Iterator[Refits]:
        """Draw posteriors, some at a time.

        Parameters
        ----------
        posterior : DataTree
            Posterior of the declared prior, of some superpixels, in memory.
        wanted : (prior, block) array of bool
            Which posteriors to draw.

        Yields
        ------
        Refits
            Draws.
        """
        prior, block = np.nonzero(wanted)
        if not len(prior):
            return
        rows = self._rows(posterior)
        starts = self._starts(posterior, prior, block)
        blocks = np.unique(block)
        declared = np.full(wanted.shape[1], np.nan)
        declared[blocks] = self._declared_evidence(posterior, rows, blocks)
        jobs = _Jobs(prior, block, declared[block])
        step = 1 if self.model.couples_superpixels else BATCH
        for begin in range(0, len(prior), step):
            here = np.arange(begin, min(begin + step, len(prior)))
            target = self._target(rows, prior[here], block[here])
            start = Proposal(starts.location[here], starts.factor[here])
            yield from self._draw(posterior, target, start, jobs.select(here))

    def _declared_evidence(
        self, posterior: xr.DataTree, rows: xr.Dataset, blocks: np.ndarray
    ) -> np.ndarray:
        """Return the log evidence of the declared prior, in some blocks.

        By importance sampling, as for the other priors: what it misses of one posterior it misses
        of all, which cancels in the change. By a bridge where it fails.
        """
        declared = np.zeros_like(blocks)
        target, start = (
            self._target(rows, declared, blocks),
            self._starts(posterior, declared, blocks),
        )
        sample = learn(target, start, DRAWS)
        failed = np.flatnonzero(np.maximum(sample.pareto_k, sample.first_pareto_k) >= RELIABLE_K)
        evidence = sample.ln_evidence.copy()
        if len(failed):
            evidence[failed] = self._bridged_evidence(posterior, rows, blocks[failed])
        return evidence

    def _bridged_evidence(
        self, posterior: xr.DataTree, rows: xr.Dataset, blocks: np.ndarray
    ) -> np.ndarray:
        """Return the log evidence of the declared prior, in some blocks, by bridging its draws."""
        target = self._target(rows, np.zeros_like(blocks), blocks)
        if not self.model.couples_superpixels:
            posterior = posterior.isel(superpixel=blocks)
        lp = posterior["sample_stats"]["lp"].transpose("chain", "draw", ...).values
        return _evidence(target, quantile_draws(posterior, target), lp)

    def _rows(self, posterior: xr.DataTree) -> xr.Dataset:
        """Return the rows of data, and see to it that a function is compiled for them."""
        lacking = [g for g in ("constant_data", "observed_data") if g not in posterior.children]
        if lacking:
            raise ResultError(
                f"the posterior has no group {listing(lacking)}, of which other priors' posteriors "
                "are drawn; give a posterior as sample returns it, or refit='none'"
            )
        rows = rows_of(posterior)
        if self._compiled is None:
            numbers = self._numbers(np.zeros(1, int))
            one = {number: values[0] for number, values in numbers.items()}
            self._compiled = CompiledPosterior(
                self.model, with_numbers(rows, self.model, one), "quantile", self.varied
            )
        return rows

    def _numbers(self, prior: np.ndarray) -> dict[str, np.ndarray]:
        """Return the value of every varied number, for some positions of priors."""
        return {
            number: np.array(
                [
                    self.priors[p].numbers.get(number, declared_number(self.model, number))
                    for p in prior
                ]
            )
            for number in self.varied
        }

    def _target(self, rows: xr.Dataset, prior: np.ndarray, block: np.ndarray) -> Target:
        numbers = self._numbers(prior)
        if self.model.couples_superpixels:
            keys = [(0, int(p)) for p in prior]
            numbers = {number: values[0] for number, values in numbers.items()}
        else:
            superpixel = rows["superpixel"].values
            keys = [(int(superpixel[b]), int(p)) for p, b in zip(prior, block, strict=True)]
            rows = rows.isel(superpixel=block)
        seeds = [random_stream(self.seed, "priors", *key) for key in keys]
        return Target(self._compiled, with_numbers(rows, self.model, numbers), seeds)

    def _starts(self, posterior: xr.DataTree, prior: np.ndarray, block: np.ndarray) -> Proposal:
        """Return where the posteriors are to be expected."""
        draws = posterior["posterior"].to_dataset()
        step = max(1, draws.sizes["chain"] * draws.sizes["draw"] // FOR_MOMENTS)
        draws = draws.isel(draw=slice(None, None, step))
        declared = self._coordinates(draws, {})
        n_parameter = declared.shape[-1]
        location = np.empty((len(prior), n_parameter))
        factor = np.empty((len(prior), n_parameter, n_parameter))
        for position in np.unique(prior):
            jobs = prior == position
            blocks = block[jobs]
            if self.model.couples_superpixels:
                here, old = draws, declared
            else:
                here, old = draws.isel(superpixel=blocks), declared[blocks]
            new = self._coordinates(here, self.priors[position].numbers)
            location[jobs], factor[jobs] = expected_moments(old, new)
        return Proposal(location, factor)

    def _coordinates(self, draws: xr.Dataset, numbers: dict[str, float]) -> np.ndarray:
        """Return draws in prior quantiles, of other priors as well: (block, draw, parameter)."""
        return self._laid_out(
            draws,
            # Where another prior has next to nothing its quantiles run out of digits.
            lambda name: prior_quantiles(self.model, draws, name, numbers).clip(-FAR, FAR),
        )

    def _log_ratios(self, draws: xr.Dataset, numbers: dict[str, float]) -> np.ndarray:
        """Return the log of another prior over the declared one, (block, draw, parameter)."""
        return self._laid_out(
            draws,
            lambda name: (
                log_prior(self.model, draws, name, numbers) - log_prior(self.model, draws, name)
            ),
        )

    def _laid_out(self, draws: xr.Dataset, function: Callable[[str], xr.DataArray]) -> np.ndarray:
        """Put what a function makes of each variable where the variable has its columns."""
        block = [] if self.model.couples_superpixels else ["superpixel"]
        n_block = draws.sizes["superpixel"] if block else 1
        n_draw = draws.sizes["chain"] * draws.sizes["draw"]
        columns = np.empty((n_block, n_draw, self._compiled.n_parameter))
        for slot in self._compiled.slots:
            rest = [dim for dim in slot.dims if dim not in block]
            values = function(slot.name).transpose(*block, "chain", "draw", *rest)
            columns[..., slot.columns] = values.values.reshape(n_block, n_draw, -1)
        return columns

    def _draw(
        self, posterior: xr.DataTree, target: Target, start: Proposal, jobs: "_Jobs"
    ) -> Iterator[Refits]:
        """Draw the posteriors of one target, each by the first of three ways that succeeds."""
        sample = learn(target, start, DRAWS)
        # Resampling cannot give back what the weights have taken.
        ess = np.minimum(sample.ess, DRAWS)
        # Later proposals may come to fit what they have seen, while a long tail stays unseen.
        pareto_k = np.maximum(sample.pareto_k, sample.first_pareto_k)
        done = np.flatnonzero((pareto_k < RELIABLE_K) & (ess >= LEAST_ESS))
        if len(done):
            yield self._refits(
                target.select(done),
                jobs.select(done),
                sample.theta[done],
                pareto_k=pareto_k[done],
                ess=ess[done],
                ln_evidence_change=sample.ln_evidence[done] - jobs.declared[done],
            )
        left = np.setdiff1d(np.arange(target.n_block), done)
        # Where the declared prior allows nothing there are no draws to be carried over.
        widened = np.array([self.priors[prior].widens for prior in jobs.prior])
        for share in KEPT:
            tried = left[~widened[left]]
            if not len(tried):
                break
            part = target.select(tried)
            theta, log_weight, worth = self._carried(posterior, part, jobs.select(tried), share)
            smoothed, pareto_k = smooth_weights(log_weight)
            weight = np.exp(smoothed)
            ess = worth / np.square(weight).sum(axis=1)
            done = np.flatnonzero((pareto_k < largest_k(weight.shape[1])) & (ess >= LEAST_ESS))
            if len(done):
                yield self._refits(
                    part.select(done),
                    jobs.select(tried[done]),
                    theta[done],
                    weight[done],
                    pareto_k=pareto_k[done],
                    ess=ess[done],
                    ln_evidence_change=log_mean(log_weight[done]),
                )
            left = np.setdiff1d(left, tried[done])
        if len(left):
            scale, part = sample.proposal.select(left), target.select(left)
            yield self._by_nuts(posterior, part, scale, jobs.select(left))

    def _carried(
        self, posterior: xr.DataTree, target: Target, jobs: "_Jobs", share: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Carry the declared prior's draws over to other priors.

        A value of which the data know much stays what it is. Of others the quantile stays, so that
        a value of which they know nothing has the new prior at once.

        Returns
        -------
        theta : (job, draw, parameter) array
            Quantile coordinates.
        log_weight : (job, draw) array
            What makes draws of the other priors' posteriors of them; its mean is their evidence
            over that of the declared one.
        worth : (job,) array
            What one of the draws is worth, in independent ones.
        """
        coupled = self.model.couples_superpixels
        theta, log_weight, worth = [], [], []
        for prior, block in zip(jobs.prior, jobs.block, strict=True):
            one = posterior if coupled else posterior.isel(superpixel=[block])
            draws, numbers = one["posterior"].to_dataset(), self.priors[prior].numbers
            quantiles = self._coordinates(draws, {})
            stays = quantiles.std(axis=1, keepdims=True) < share
            theta.append(np.where(stays, self._coordinates(draws, numbers), quantiles)[0])
            ratio = np.where(stays, self._log_ratios(draws, numbers), 0.0).sum(axis=2)[0]
            lp = one["sample_stats"]["lp"].transpose("chain", "draw", ...).values.reshape(-1)
            declared = lp + 0.5 * (np.square(quantiles[0]) + np.log(2 * np.pi)).sum(axis=1)
            log_weight.append(ratio - declared)
            worth.append(efficiency(one, [] if coupled else ["superpixel"])[0])
        theta, log_weight = np.stack(theta), np.stack(log_weight)
        log_weight += target.log_likelihood(theta, np.arange(len(theta)))
        return theta, np.where(np.isfinite(log_weight), log_weight, -np.inf), np.array(worth)

    def _by_nuts(
        self, posterior: xr.DataTree, target: Target, scale: Proposal, jobs: "_Jobs"
    ) -> Refits:
        """Draw posteriors by NUTS."""
        chains = Nuts().draw_in(scale, target).theta
        theta = chains.transpose(2, 0, 1, 3).reshape(target.n_block, -1, target.n_parameter)
        with np.errstate(divide="ignore", invalid="ignore"):
            ess = array_stats.ess(chains, chain_axis=0, draw_axis=1).min(axis=-1)
        lp = target.log_posterior(theta, np.arange(target.n_block))
        lp = lp.T.reshape(chains.shape[:3])
        blocks, position = np.unique(jobs.block, return_inverse=True)
        declared = self._bridged_evidence(posterior, self._rows(posterior), blocks)
        return self._refits(
            target,
            jobs,
            theta,
            pareto_k=np.full(target.n_block, np.nan),
            ess=ess,
            ln_evidence_change=_evidence(target, chains, lp) - declared[position],
            reliable=(worst_rhat(chains) < LARGEST_RHAT) & (ess >= LEAST_ESS),
        )

    def _refits(
        self,
        target: Target,
        jobs: "_Jobs",
        theta: np.ndarray,
        weight: np.ndarray | None = None,
        reliable: np.ndarray | None = None,
        **found: np.ndarray,
    ) -> Refits:
        """Return draws (job, draw, parameter) in natural parameters."""
        n_job, n_draw, _ = theta.shape
        natural, _ = self._compiled.natural(theta.transpose(1, 0, 2), target.data(slice(None)))
        values = {
            slot.name: natural[..., slot.columns].transpose(1, 2, 0)
            for slot in self._compiled.slots
        }
        weight = np.full((n_job, n_draw), 1 / n_draw) if weight is None else weight
        reliable = np.ones(n_job, bool) if reliable is None else reliable
        return Refits(jobs.prior, jobs.block, values, weight, reliable=reliable, **found)


def _evidence(target: Target, theta: np.ndarray, lp: np.ndarray) -> np.ndarray:
    """Return the log evidence (block,) of draws (chain, draw, block, parameter)."""
    lp = lp.reshape(*theta.shape[:3])
    return bridge_sample(target.log_posterior, theta, lp, target.generators()).ln_evidence
