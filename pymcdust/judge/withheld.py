"""Predictive densities of withheld blocks from draws of the posterior that has seen them.

Draws of the posterior of all data are draws of that without some of the data when weighted by one
over the likelihood of these (Vehtari, Gelman & Gabry 2017, Statistics and Computing 27, 1413).
Whether the weights can be relied on is told by the shape of their tail, Pareto k-hat.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from pymcdust.infer.weights import smooth_weights


class Score(NamedTuple):
    """The log predictive density of each of some blocks.

    Parameters
    ----------
    elpd : (block,) array
        The log predictive density, over the valid data of a block.
    pareto_k : (block,) array
        k-hat of the weights.
    """

    elpd: np.ndarray
    pareto_k: np.ndarray


def leave_one_out(log_likelihood: np.ndarray) -> Score:
    """Score every block by the posterior that has seen all others.

    Parameters
    ----------
    log_likelihood : (block, draw) array
        Log likelihood of the blocks at draws of the posterior of all data.
    """
    log_weight, pareto_k = smooth_weights(-log_likelihood)
    return Score(logsumexp(log_weight + log_likelihood, axis=1), pareto_k)


def leave_all_out(log_likelihood: np.ndarray) -> Score:
    """Score the blocks of a fold by the posterior that has seen none of them.

    Parameters
    ----------
    log_likelihood : (block, draw) array
        Log likelihood of the fold's blocks at draws of the posterior of all data.
    """
    log_weight, pareto_k = smooth_weights(-log_likelihood.sum(axis=0, keepdims=True))
    elpd = logsumexp(log_weight + log_likelihood, axis=1)
    return Score(elpd, np.broadcast_to(pareto_k, elpd.shape))
