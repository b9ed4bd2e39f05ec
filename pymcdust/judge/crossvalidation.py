"""Evidence of data of which some pixels are withheld: what prediction is, without approximation.

The predictive density of a block, given other data, is the evidence of both over the evidence of
the others. Each is got by importance sampling (see `pymcdust.infer.importance`). Few pixels are
missing, so that the posterior has not moved far from that of all pixels: a Student t with the mean
and the covariance of its draws, in prior quantiles, is where the search for a proposal begins.
Where it leads nowhere, it begins again at the Laplace approximation.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import MAX_ROUNDS, RELIABLE_K, Proposal, importance_sample
from pymcdust.infer.posterior import model_of, quantile_draws, rows_of
from pymcdust.infer.target import Target
from pymcdust.sky.compression import compress

#: Twice the independent draws that the points of a good proposal are worth: the evidence is then
#: known to two or three hundredths.
DRAWS = 2000

#: Largest standard error of the log of an evidence that is relied on.
LARGEST_ERROR = 0.1

#: Posteriors that are worked on together.
TOGETHER = 64

#: Least variance of a proposal; that of the prior is 1.
LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Withheld:
    """Pixels that are withheld from a superpixel, or from the whole sky if that is coupled.

    Parameters
    ----------
    own : slice
        The superpixel, or all of them.
    pixels : (superpixel, pixel) array of bool
        What is withheld from them.
    """

    own: slice
    pixels: np.ndarray


class Evidences:
    """Finds the evidence of a sky of which pixels are withheld.

    Parameters
    ----------
    posterior : DataTree
        The posterior of all pixels.
    sky : Dataset
        Its superpixels.
    compiled : CompiledPosterior, optional
        Its model, compiled in quantile coordinates; otherwise it is compiled when it is needed.
    """

    def __init__(
        self, posterior: xr.DataTree, sky: xr.Dataset, compiled: CompiledPosterior | None = None
    ) -> None:
        self._posterior, self._sky, self._given = posterior, sky, compiled

    def __call__(
        self, withheld: list[Withheld], seeds: list[np.random.SeedSequence]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the log of the evidence of what is left, and whether it can be relied on.

        Parameters
        ----------
        withheld : list of Withheld
            What is withheld, each time.
        seeds : list of numpy.random.SeedSequence
            One for each. The errors of those that share a seed have much in common.

        Returns
        -------
        ln_evidence, reliable : (withheld,) array
            Normalised over the data that are left.
        """
        step = TOGETHER if self._compiled.by_superpixel else 1
        parts = [
            self._evidences(withheld[start : start + step], seeds[start : start + step])
            for start in range(0, len(withheld), step)
        ]
        ln_evidence, reliable = zip(*parts, strict=True)
        return np.concatenate(ln_evidence), np.concatenate(reliable)

    def _evidences(
        self, withheld: list[Withheld], seeds: list[np.random.SeedSequence]
    ) -> tuple[np.ndarray, np.ndarray]:
        everywhere = np.arange(self._sky.sizes["superpixel"])
        sky = self._sky.isel(superpixel=np.concatenate([everywhere[w.own] for w in withheld]))
        pixels = xr.Variable(("superpixel", "pixel"), np.concatenate([w.pixels for w in withheld]))
        rows = compress(sky.assign(valid=sky.valid & ~pixels))
        target = Target(self._compiled, rows, seeds)
        positions = np.array([w.own.start for w in withheld])
        ln_evidence, reliable = _sample(target, self._scale.select(positions))
        left = np.flatnonzero(~reliable)
        if len(left):
            again = target.select(left)
            ln_evidence[left], reliable[left] = _sample(again, again.laplace)
        return ln_evidence, reliable

    @cached_property
    def _compiled(self) -> CompiledPosterior:
        rows = rows_of(self._posterior)
        return self._given or CompiledPosterior(model_of(self._posterior), rows, "quantile")

    @cached_property
    def _scale(self) -> Proposal:
        """Mean, and Cholesky factor of the covariance, of the draws of all pixels."""
        rows = rows_of(self._posterior)
        n_block = rows.sizes["superpixel"] if self._compiled.by_superpixel else 1
        target = Target(self._compiled, rows, [np.random.SeedSequence(0)] * n_block)
        theta = quantile_draws(self._posterior, target)
        theta = theta.reshape(-1, *theta.shape[2:]).transpose(1, 0, 2)
        mean = theta.mean(axis=1)
        away = theta - mean[:, None]
        covariance = away.transpose(0, 2, 1) @ away / away.shape[1]
        covariance += LEAST_VARIANCE * np.eye(target.n_parameter)
        return Proposal(mean, np.linalg.cholesky(covariance))


def _sample(target: Target, first: Proposal) -> tuple[np.ndarray, np.ndarray]:
    sample = importance_sample(target.log_posterior, first, DRAWS, target.generators(), MAX_ROUNDS)
    good = (sample.pareto_k < RELIABLE_K) & (sample.ln_evidence_error < LARGEST_ERROR)
    return sample.ln_evidence, good
