"""Posteriors of a sky of which some pixels are withheld, from draws of that of all pixels.

Few pixels are missing, so that the posterior has not moved far: a Student t with the mean and the
covariance of the draws, in prior quantiles, is a good proposal, and better after it has learnt (see
`pymcdust.infer.importance`). Where its weights cannot be relied on NUTS draws.
"""

from functools import cached_property

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.importance import MAX_ROUNDS, RELIABLE_K, Proposal, importance_sample
from pymcdust.infer.laplace import LARGEST_LEARNT
from pymcdust.infer.nuts import Nuts
from pymcdust.infer.posterior import model_of, quantile_draws, rows_of
from pymcdust.infer.target import Target
from pymcdust.judge.statistics import LARGEST_RHAT
from pymcdust.sky.compression import compress

#: Draws of a posterior without the withheld pixels; by NUTS in as many chains.
DRAWS = 2000
CHAINS = 4

#: What weighted draws must be worth.
LEAST_ESS = 400

#: Least variance of a proposal; that of the prior is 1.
LEAST_VARIANCE = 1e-6


class Redrawer:
    """Draws anew from the posterior of a sky of which pixels are withheld.

    Parameters
    ----------
    posterior : DataTree
        The posterior of all pixels.
    compiled : CompiledPosterior, optional
        Its model, compiled in quantile coordinates; otherwise it is compiled when it is needed.
    """

    def __init__(self, posterior: xr.DataTree, compiled: CompiledPosterior | None = None) -> None:
        self._posterior, self._given = posterior, compiled

    def __call__(
        self, sky: xr.Dataset, positions: np.ndarray, seeds: list[np.random.SeedSequence]
    ) -> tuple[xr.Dataset, np.ndarray]:
        """Draw from the posteriors of skies of which pixels are withheld.

        Parameters
        ----------
        sky : Dataset
            The superpixels that remain, in which what is withheld is not valid: one for each
            posterior, or the whole sky where superpixels are coupled.
        positions : (posterior,) array of int
            Their positions in the posterior of all pixels; 0 where superpixels are coupled.
        seeds : list of numpy.random.SeedSequence
            One for each posterior.

        Returns
        -------
        values : Dataset
            `temperature`, `beta`, `rho` and `offset`, with `draw` and the dimensions of their
            tying, for the superpixels of `sky`.
        reliable : (posterior,) array of bool
            Whether the draws can be relied on.
        """
        target = Target(self._compiled, compress(sky), seeds)
        sample = importance_sample(
            target.log_posterior,
            self._scale.select(positions),
            DRAWS,
            target.generators(),
            MAX_ROUNDS if target.n_parameter <= LARGEST_LEARNT else 1,
        )
        theta = sample.theta
        reliable = (sample.pareto_k < RELIABLE_K) & (sample.ess >= LEAST_ESS)
        left = np.flatnonzero(~reliable)
        if len(left):
            nuts = Nuts(draws=DRAWS // CHAINS, chains=CHAINS)
            drawn = nuts.draw_in(sample.proposal.select(left), target.select(left)).theta
            theta[left] = drawn.reshape(DRAWS, len(left), -1).transpose(1, 0, 2)
            rhat = array_stats.rhat(drawn, chain_axis=0, draw_axis=1)
            reliable[left] = rhat.max(axis=-1) < LARGEST_RHAT
        return _values(target, theta), reliable

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


def _values(target: Target, theta: np.ndarray) -> xr.Dataset:
    """Return the parameters of the model at draws (posterior, draw, parameter)."""
    points = np.ascontiguousarray(theta.transpose(1, 0, 2))
    natural, _ = target.posterior.natural(points)
    values = {
        name: ((), float(parameter.prior))
        for name, parameter in target.posterior.model.parameters.items()
        if not parameter.free
    }
    for slot in target.posterior.slots:
        shape = [target.rows.sizes[dim] for dim in slot.dims]
        own = natural[..., slot.columns].reshape(len(points), *shape)
        values[slot.name] = ("draw", *slot.dims), own
    return xr.Dataset(values)
