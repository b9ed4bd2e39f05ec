"""Evidence of data of which some pixels are withheld: what prediction is, without approximation.

The predictive density of a block, given other data, is the evidence of both over the evidence of
the others. Each is got by importance sampling (see `pymcdust.infer.importance`). Few pixels are
missing, so that the posterior has not moved far from that of all pixels: a Student t with the mean
and the covariance of its draws, in prior quantiles, is where the search for a proposal begins.
Where it leads nowhere, it begins again at the Laplace approximation; and where this does not help,
NUTS draws, and the evidence is found by bridge sampling (see `pymcdust.infer.bridge`).
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import xarray as xr

from pymcdust.infer.bridge import bridge_sample, shape_proposal
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import ImportanceSample, Proposal
from pymcdust.infer.laplace import learn
from pymcdust.infer.nuts import Nuts
from pymcdust.infer.posterior import model_of, quantile_draws, rows_of
from pymcdust.infer.target import Target
from pymcdust.infer.weights import RELIABLE_K
from pymcdust.sky.compression import compress

#: Twice the independent draws that the points of a good proposal are worth: the evidence is then
#: known to two or three hundredths.
DRAWS = 2000

#: Proposals after which NUTS is asked: it takes less time than further ones would.
ROUNDS = 3

#: Independent draws that the points must be worth for the search not to be lost.
LOST = 20

#: Draws of NUTS that are bridged, and its chains.
BRIDGED = 1000
CHAINS = 2

#: Largest standard error of the log of an evidence that is relied on.
LARGEST_ERROR = 0.1

#: Posteriors that are worked on together.
TOGETHER = 64


class Withheld(NamedTuple):
    """Pixels that are withheld from one superpixel.

    Parameters
    ----------
    superpixel : int
        Position of the superpixel.
    pixels : (pixel,) array of bool
        What is withheld from it.
    """

    superpixel: int
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
            Normalised over the data that are left: of the superpixel, or of the whole sky where
            superpixels are coupled.
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
        superpixels = np.array([w.superpixel for w in withheld])
        pixels = np.stack([w.pixels for w in withheld])
        sky = self._sky
        if self._compiled.by_superpixel:
            sky = sky.isel(superpixel=superpixels)
        else:
            # One at a time: the other superpixels stay as they are.
            own = np.arange(sky.sizes["superpixel"])[:, None] == superpixels
            superpixels, pixels = np.zeros(1, dtype=int), own & pixels
        left = sky.valid & ~xr.Variable(("superpixel", "pixel"), pixels)
        target = Target(self._compiled, compress(sky.assign(valid=left)), seeds)
        return _evidence(target, self._scale.select(superpixels))

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
        return shape_proposal(theta.reshape(-1, *theta.shape[2:]).transpose(1, 0, 2))[0]


def _evidence(target: Target, first: Proposal) -> tuple[np.ndarray, np.ndarray]:
    """Return the log of the evidence of every block, and whether it can be relied on."""
    sample = learn(target, first, DRAWS, ROUNDS)
    ln_evidence, reliable = sample.ln_evidence, _relied_on(sample)
    lost = np.flatnonzero(~reliable & (sample.ess < LOST))
    if len(lost):
        hard = target.select(lost)
        again = learn(hard, hard.laplace, DRAWS, ROUNDS)
        ln_evidence[lost], reliable[lost] = again.ln_evidence, _relied_on(again)
        sample.proposal.location[lost] = again.proposal.location
        sample.proposal.factor[lost] = again.proposal.factor
    left = np.flatnonzero(~reliable)
    if len(left):
        scale = sample.proposal.select(left)
        ln_evidence[left], reliable[left] = _bridge(target.select(left), scale)
    return ln_evidence, reliable


def _relied_on(sample: ImportanceSample) -> np.ndarray:
    return (sample.pareto_k < RELIABLE_K) & (sample.ln_evidence_error < LARGEST_ERROR)


def _bridge(target: Target, scale: Proposal) -> tuple[np.ndarray, np.ndarray]:
    # Once: whether the chains have mixed is told by the two halves of the bridge.
    nuts = Nuts(draws=BRIDGED // CHAINS, chains=CHAINS, attempts=1)
    theta = nuts.draw_in(scale, target).theta
    points = theta.reshape(-1, *theta.shape[2:]).transpose(1, 0, 2)
    log_posterior = target.log_posterior(points, np.arange(target.n_block)).T
    bridge = bridge_sample(
        target.log_posterior, theta, log_posterior.reshape(theta.shape[:3]), target.generators()
    )
    return bridge.ln_evidence, bridge.reliable(LARGEST_ERROR)
