"""Whether ranks are uniform: a chi-square test over bins, and one of their distribution function.

The second looks at the number of ranks below every possible rank. Each of these numbers is
binomial if ranks are uniform; the test takes the least likely of all, and a band around the
distribution function is drawn so that all of it stays inside as often as is said (Säilynoja,
Bürkner & Vehtari 2022, Statistics and Computing 32, 32). The probability is that of their
recursion, exact, so that small p-values are known as well as large ones.
"""

from functools import lru_cache

import numpy as np
from scipy.special import bdtr, bdtrc, gammaln
from scipy.stats import chi2

from pymcdust.errors import ConfigurationError

#: Least expected number of ranks in a bin, for the chi-square distribution to hold.
LEAST_EXPECTED = 5

#: Halvings of the logarithm of a tail probability when a band is looked for.
_HALVINGS = 25

#: Relative difference of tail probabilities that is rounding.
_ROUNDING = 1e-9


def chi_square_p(rank: np.ndarray, n_rank: int, bins: int) -> float:
    """Return the p-value of Pearson's chi-square test that ranks are uniform.

    Parameters
    ----------
    rank : (mock,) array of int
        Ranks, from 0 to ``n_rank - 1``.
    n_rank : int
        Number of possible ranks, a multiple of `bins`.
    bins : int
        Bins of equal numbers of possible ranks.

    Returns
    -------
    float
        NaN where a bin should hold fewer than `LEAST_EXPECTED` ranks.

    Raises
    ------
    ConfigurationError
        If the possible ranks do not fill the bins evenly.

    Examples
    --------
    >>> round(chi_square_p(np.arange(100), n_rank=100, bins=20), 3)
    1.0
    >>> chi_square_p(np.arange(100) // 2, n_rank=100, bins=20) < 1e-6
    True
    """
    if bins < 2 or n_rank % bins:
        raise ConfigurationError(
            f"bins is {bins}, for {n_rank} possible ranks; it must be 2 or more, and divide their "
            "number"
        )
    expected = len(rank) / bins
    if expected < LEAST_EXPECTED:
        return np.nan
    count = np.bincount(rank // (n_rank // bins), minlength=bins)
    return float(chi2.sf(np.square(count - expected).sum() / expected, bins - 1))


def ecdf_p(rank: np.ndarray, n_rank: int) -> float:
    """Return the p-value of the test that the distribution function of ranks is a straight line.

    Parameters
    ----------
    rank : (mock,) array of int
        Ranks, from 0 to ``n_rank - 1``.
    n_rank : int
        Number of possible ranks, 2 or more.

    Returns
    -------
    float
        Probability that, if ranks are uniform, some point of their distribution function is as
        unlikely as the least likely one here; NaN without ranks.

    Examples
    --------
    >>> ecdf_p(np.arange(100), n_rank=100) > 0.9
    True
    >>> ecdf_p(np.arange(100) // 2, n_rank=100) < 1e-6
    True
    """
    n = len(rank)
    if not n:
        return np.nan
    points = _points(n_rank)
    below = np.cumsum(np.bincount(rank, minlength=n_rank))[:-1]
    least = np.minimum(bdtr(below, n, points), _at_least(below, n, points)).min()
    return float(np.clip(_p_of(least, n, n_rank), 0.0, 1.0))


@lru_cache(maxsize=64)
def ecdf_band(n: int, n_rank: int, probability: float = 0.95) -> tuple[np.ndarray, ...]:
    """Return a band that holds the whole distribution function of uniform ranks.

    Parameters
    ----------
    n : int
        Number of ranks.
    n_rank : int
        Number of possible ranks.
    probability : float, optional
        Chance that all of it lies inside, at least.

    Returns
    -------
    points, low, high : (n_rank - 1,) array
        Fraction of the possible ranks, and least and largest fraction of ranks below it.
    """
    few, many = np.log(1e-12), np.log(0.5)
    for _ in range(_HALVINGS):
        middle = (few + many) / 2
        if _p_of(np.exp(middle), n, n_rank) <= 1 - probability:
            few = middle
        else:
            many = middle
    low, high = _limits(np.exp(few), n, n_rank)
    return _points(n_rank), low / n, high / n


def _points(n_rank: int) -> np.ndarray:
    return np.arange(1, n_rank) / n_rank


def _at_least(count: np.ndarray, n: int, points: np.ndarray) -> np.ndarray:
    """Return the probability of `count` or more of `n`."""
    # Of fewer than none the function of the upper tail is not defined.
    return np.where(count > 0, bdtrc(np.maximum(count - 1, 0), n, points), 1.0)


def _p_of(least: float, n: int, n_rank: int) -> float:
    """Return the probability that some point has a tail probability of `least` or less."""
    return 1 - _probability_within(n, _points(n_rank), *_limits(least, n, n_rank))


def _limits(least: float, n: int, n_rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return least and largest count at each point whose tail probabilities are above `least`."""
    count, points = np.arange(n + 1)[:, None], _points(n_rank)
    above = least * (1 + _ROUNDING)
    low = np.argmax(bdtr(count, n, points) > above, axis=0)
    high = n - np.argmax(_at_least(count, n, points)[::-1] > above, axis=0)
    return low, high


def _probability_within(n: int, points: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Return the chance that the counts below all points stay within limits.

    From point to point the count grows by a binomial share of what is left.
    """
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    count, chance, before = np.zeros(1, dtype=int), np.ones(1), 0.0
    for point, least, most in zip(points, low, high, strict=True):
        share = (point - before) / (1 - before)
        reached = np.arange(least, most + 1)
        step, left = reached[:, None] - count, n - count
        taken = np.clip(step, 0, left)
        log_move = log_factorial[left] - log_factorial[taken] - log_factorial[left - taken]
        log_move += taken * np.log(share) + (left - taken) * np.log1p(-share)
        chance = np.where(step >= 0, np.exp(log_move), 0.0) @ chance
        count, before = reached, point
    return float(chance.sum())
