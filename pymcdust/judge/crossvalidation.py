"""Posteriors of a sky of which some pixels are withheld, from draws of that of all pixels.

Few pixels are missing, so that the posterior has not moved far: a Student t with the mean and the
covariance of the draws, in prior quantiles, is a good proposal, and better after it has learnt (see
`pymcdust.infer.importance`). Where its weights cannot be relied on NUTS draws.
"""

from dataclasses import dataclass

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

#: Posteriors that are drawn from together.
TOGETHER = 128

#: Least variance of a proposal; that of the prior is 1.
LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Redrawn:
    """Draws of the posteriors without the withheld pixels.

    Parameters
    ----------
    values : Dataset
        `temperature`, `beta`, `rho` and `offset`, with `draw` and the dimensions of their tying;
        `superpixel` counts the posteriors, unless the sky's superpixels are coupled.
    pareto_k : (posterior,) array
        k-hat of the importance weights; NaN where NUTS drew.
    reliable : (posterior,) array of bool
        Whether the draws can be relied on.
    """

    values: xr.Dataset
    pareto_k: np.ndarray
    reliable: np.ndarray


class Redrawer:
    """Draws anew from the posterior of a sky of which pixels are withheld.

    Parameters
    ----------
    posterior : DataTree
        The posterior of all pixels.
    compiled : CompiledPosterior, optional
        Its model, compiled in quantile coordinates; otherwise it is compiled here.
    """

    def __init__(self, posterior: xr.DataTree, compiled: CompiledPosterior | None = None) -> None:
        rows = rows_of(posterior)
        self.compiled = compiled or CompiledPosterior(model_of(posterior), rows, "quantile")
        n_block = rows.sizes["superpixel"] if self.compiled.by_superpixel else 1
        target = Target(self.compiled, rows, [np.random.SeedSequence(0)] * n_block)
        theta = quantile_draws(posterior, target)
        theta = theta.reshape(-1, *theta.shape[2:]).transpose(1, 0, 2)
        self._mean = theta.mean(axis=1)
        away = theta - self._mean[:, None]
        covariance = away.transpose(0, 2, 1) @ away / away.shape[1]
        covariance += LEAST_VARIANCE * np.eye(theta.shape[2])
        self._factor = np.linalg.cholesky(covariance)

    def __call__(
        self, sky: xr.Dataset, positions: np.ndarray, seeds: list[np.random.SeedSequence]
    ) -> Redrawn:
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
        Redrawn
            Draws, and how far to trust them.
        """
        target = Target(self.compiled, compress(sky), seeds)
        sample = importance_sample(
            target.log_posterior,
            Proposal(self._mean[positions], self._factor[positions]),
            DRAWS,
            target.generators(),
            MAX_ROUNDS if target.n_parameter <= LARGEST_LEARNT else 1,
        )
        theta = sample.theta
        # What has been learnt fits what was seen; of a tail not seen the first k-hat tells.
        pareto_k = np.maximum(sample.pareto_k, sample.first_pareto_k)
        reliable = pareto_k < RELIABLE_K
        left = np.flatnonzero(~reliable)
        if len(left):
            nuts = Nuts(draws=DRAWS // CHAINS, chains=CHAINS)
            drawn = nuts.draw_in(sample.proposal.select(left), target.select(left)).theta
            theta[left] = drawn.reshape(DRAWS, len(left), -1).transpose(1, 0, 2)
            rhat = array_stats.rhat(drawn, chain_axis=0, draw_axis=1).max(axis=-1)
            reliable[left], pareto_k[left] = rhat < LARGEST_RHAT, np.nan
        return Redrawn(self._values(target, theta), pareto_k, reliable)

    def _values(self, target: Target, theta: np.ndarray) -> xr.Dataset:
        """Return the parameters of the model at draws (posterior, draw, parameter)."""
        points = np.ascontiguousarray(theta.transpose(1, 0, 2))
        natural, _ = self.compiled.natural(points)
        values = {
            name: ((), float(parameter.prior))
            for name, parameter in self.compiled.model.parameters.items()
            if not parameter.free
        }
        for slot in self.compiled.slots:
            shape = [target.rows.sizes[dim] for dim in slot.dims]
            own = natural[..., slot.columns].reshape(len(points), *shape)
            values[slot.name] = ("draw", *slot.dims), own
        return xr.Dataset(values)
