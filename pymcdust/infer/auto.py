"""Each block by the cheapest method that can be relied on."""

from dataclasses import dataclass

import numpy as np

from pymcdust.infer.laplace import Laplace
from pymcdust.infer.nuts import Nuts
from pymcdust.infer.target import Draws, Target
from pymcdust.infer.weights import RELIABLE_K

#: What the draws of a block must be worth for each chain (Vehtari et al. 2021).
LEAST_ESS = 100

#: Values of `method`.
METHODS = ("laplace", "nuts")


@dataclass(frozen=True)
class Auto(Nuts):
    """Draw by importance sampling where its weights are good, and by NUTS elsewhere.

    Parameters
    ----------
    draws, chains, tune, target_accept, attempts, sampler, cores
        As for `Nuts`. Importance draws are independent, and cut into as many chains.
    """

    def __call__(self, target: Target) -> Draws:
        """Draw from every block of a target.

        Parameters
        ----------
        target : Target
            What is sampled.

        Returns
        -------
        Draws
            With the variables of both methods, which are NaN, false or 0 where the other one drew,
            and `method` (block,), the position in `METHODS`.
        """
        first = Laplace(draws=self.draws, chains=self.chains)
        laplace, scales = first.draw_and_learn(target)
        (_, pareto_k), (_, ess) = laplace.stats["pareto_k"], laplace.stats["importance_ess"]
        left = np.flatnonzero((pareto_k >= RELIABLE_K) | (ess < LEAST_ESS * self.chains))
        method = np.zeros(target.n_block, dtype=np.int16)
        method[left] = METHODS.index("nuts")
        nuts = self.draw_in(scales.select(left), target.select(left))
        theta = laplace.theta.copy()
        theta[:, :, left] = nuts.theta
        stats = dict(laplace.stats)
        for name, (dims, values) in nuts.stats.items():
            whole = np.zeros((*values.shape[:-1], target.n_block), values.dtype)
            if np.issubdtype(values.dtype, np.floating):
                whole[:] = np.nan
            whole[..., left] = values
            stats[name] = dims, whole
        flags = {"flag_values": list(range(len(METHODS))), "flag_meanings": " ".join(METHODS)}
        return Draws(theta, {**stats, "method": (("block",), method, flags)})
