"""What is sampled: the posteriors of some blocks in prior-quantile coordinates, and their draws."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import xarray as xr

from pymcdust.infer.compiled import CompiledPosterior, Evaluation
from pymcdust.infer.importance import Proposal
from pymcdust.infer.newton import maximise
from pymcdust.sky.compression import likelihood_constant

#: Smallest curvature of a log posterior that is believed; that of the prior is 1.
LEAST_CURVATURE = 0.1

#: Points of one call of a compiled function, so that its arrays stay in the memory's fast part.
POINTS_PER_CALL = 2**17


@dataclass(frozen=True)
class Target:
    """The posteriors of some blocks.

    A block is a superpixel, or the whole sky where superpixels share parameters. In prior-quantile
    coordinates the prior of every parameter is a standard normal (see
    `pymcdust.infer.coordinates`).

    Parameters
    ----------
    posterior : CompiledPosterior
        The model's log posterior in quantile coordinates.
    rows : xarray.Dataset
        Rows of data of the blocks.
    seeds : sequence of numpy.random.SeedSequence
        One for each block: what a block's draws depend on, besides its data.
    often : bool
        Whether the likelihood will be asked for very often, at few points each time: it is then
        worth the wait to compile it by Numba.
    """

    posterior: CompiledPosterior
    rows: xr.Dataset
    seeds: Sequence[np.random.SeedSequence]
    often: bool = False

    @property
    def n_block(self) -> int:
        """Number of blocks."""
        return len(self.seeds)

    @property
    def n_parameter(self) -> int:
        """Number of coordinates of a block."""
        return self.posterior.n_parameter

    def select(self, blocks: np.ndarray) -> "Target":
        """Return the target of some blocks, by their positions."""
        rows = self.rows.isel(superpixel=blocks) if self.posterior.by_superpixel else self.rows
        return replace(self, rows=rows, seeds=[self.seeds[block] for block in blocks])

    def generators(self) -> list[np.random.Generator]:
        """Return a new generator for each block, always the same."""
        return [np.random.default_rng(seed) for seed in self.seeds]

    def data(self, blocks: np.ndarray | slice) -> list[np.ndarray]:
        """Return the data of some blocks, as compiled functions take them."""
        return self.posterior.of_blocks(self._data, blocks)

    def log_likelihood(self, points: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """Evaluate the log likelihood of the pixels.

        Parameters
        ----------
        points : (block, point, parameter) array
            Quantile coordinates.
        blocks : (block,) array of int
            Positions of the points' blocks.

        Returns
        -------
        (block, point) array
            Normalised over the data of all valid pixels and bands.
        """
        data = self.data(blocks)
        step = max(1, POINTS_PER_CALL // len(blocks))
        leading = np.ascontiguousarray(points.transpose(1, 0, 2))
        parts = [
            self.posterior.log_likelihood(leading[start : start + step], data, self.often)
            for start in range(0, len(leading), step)
        ]
        return np.concatenate(parts).T + self._constant[blocks, None]

    def log_posterior(self, points: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """Evaluate log likelihood plus log prior, as `log_likelihood` does.

        It is the log of the density of the quantile coordinates times the evidence.
        """
        log_prior = -0.5 * np.square(points).sum(axis=2)
        log_prior -= 0.5 * points.shape[2] * np.log(2 * np.pi)
        return self.log_likelihood(points, blocks) + log_prior

    @cached_property
    def laplace(self) -> Proposal:
        """Maximum of every block's log posterior, and the Cholesky factor of its covariance."""

        def evaluate(theta: np.ndarray, blocks: np.ndarray) -> Evaluation:
            return self.posterior(theta, self.data(blocks))

        optimum = maximise(evaluate, np.zeros((self.n_block, self.n_parameter)))
        curvature, basis = np.linalg.eigh(-optimum.evaluation.hessian)
        # Where the search ended outside of a maximum some direction may bend upwards.
        curvature = np.maximum(curvature, LEAST_CURVATURE)
        covariance = (basis / curvature[:, None]) @ basis.transpose(0, 2, 1)
        return Proposal(optimum.theta, np.linalg.cholesky(covariance))

    @cached_property
    def _data(self) -> list[np.ndarray]:
        return self.posterior.select(self.rows, slice(None))

    @cached_property
    def _constant(self) -> np.ndarray:
        constant = likelihood_constant(self.rows)
        return constant if self.posterior.by_superpixel else constant.sum(keepdims=True)


def child_seed(seed: np.random.SeedSequence, number: int) -> np.random.SeedSequence:
    """Return a child of a seed: always the same, where spawning gives another each time."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, number))


@dataclass(frozen=True)
class Draws:
    """What a method draws from a target.

    Parameters
    ----------
    theta : (chain, draw, block, parameter) array
        Draws in quantile coordinates, all of the same weight.
    stats : dict
        Further variables by name, each a tuple of dimensions, array and, optionally, attributes;
        among the dimensions are `chain`, `draw` and `block`.
    """

    theta: np.ndarray
    stats: dict[str, tuple] = field(default_factory=dict)
