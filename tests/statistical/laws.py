"""Whether draws follow a law, or the same law as others: one helper for every sampler."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from scipy import special, stats

#: Chance that a correct sampler fails one comparison; seeds are fixed.
FALSE_ALARM = 1e-5

#: So many standard errors a comparison may be off.
ERRORS = stats.norm.isf(FALSE_ALARM / 2)

#: Probabilities of the tails that are looked at.
TAILS = (0.025, 0.975)

#: Fewest independent draws with which a law can be told from its neighbours: a tenth of the width
#: off, or a tenth too narrow.
LEAST_WORTH = 1000


@dataclass(frozen=True)
class Sample:
    """Draws (chain, draw) of one number, and what functions of them are worth."""

    values: np.ndarray
    worth: Callable[[np.ndarray], float]

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> "Sample":
        """Return a function of the draws."""
        return Sample(function(self.values), self.worth)

    def mean(self) -> tuple[float, float]:
        """Return the mean and its standard error."""
        return self.values.mean(), self.values.std() / np.sqrt(self.worth(self.values))

    def log_sd(self) -> tuple[float, float]:
        """Return the logarithm of the standard deviation and its standard error."""
        square = np.square(self.values - self.values.mean())
        variance = square.mean()
        error = square.std() / np.sqrt(self.worth(square))
        return 0.5 * np.log(variance), 0.5 * error / variance

    def share_below(self, bound: float, expected: float) -> tuple[float, float]:
        """Return the share of draws below a bound, and its error if it is as expected."""
        below = (self.values < bound).astype(float)
        worth = self.worth(below) if 0 < below.mean() < 1 else self.worth(self.values)
        return below.mean(), np.sqrt(expected * (1 - expected) / worth)


class Weighted:
    """The law of values with weights, as a grid gives it, by the methods of SciPy's laws."""

    def __init__(self, values: np.ndarray, weights: np.ndarray) -> None:
        self._values, place = np.unique(values, return_inverse=True)
        self._weights = np.bincount(place.ravel(), weights.ravel())
        self._weights /= self._weights.sum()
        # A cell has half of its weight on either side of its middle.
        self._below = np.cumsum(self._weights) - self._weights / 2

    def mean(self) -> float:
        return float(self._weights @ self._values)

    def std(self) -> float:
        return float(np.sqrt(self._weights @ np.square(self._values - self.mean())))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return np.interp(x, self._values, self._below)

    def ppf(self, q: float) -> float:
        return float(np.interp(q, self._below, self._values))


def assert_follows(sample: Sample, law: Any, what: str) -> None:
    """Check mean, width, tails and the whole distribution function of draws."""
    n = sample.values.size
    worth = min(sample.worth(sample.values), n)
    assert worth > LEAST_WORTH, f"{what}: {worth:.0f} independent draws are too few to judge by"
    centre, width = law.mean(), law.std()
    sample = sample.map(lambda values: (values - centre) / width)

    def close(found: tuple[float, float], expected: float, kind: str) -> None:
        value, error = found
        assert abs(value - expected) < ERRORS * error, (
            f"{what}: the {kind} is {value:.4f}, should be {expected:.4f} +- {error:.4f}"
        )

    close(sample.mean(), 0.0, "mean (in units of the width, from the true one)")
    close(sample.log_sd(), 0.0, "logarithm of the width over the true one")
    for q in TAILS:
        bound = (law.ppf(q) - centre) / width
        close(sample.share_below(bound, q), q, f"share below the {q} quantile")
    ordered = np.sort(sample.values.ravel())
    expected = law.cdf(centre + width * ordered)
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - expected).max(), (expected - steps[:-1]).max())
    largest = special.kolmogi(FALSE_ALARM) / np.sqrt(worth)
    assert distance < largest, f"{what}: KS distance {distance:.4f}, at most {largest:.4f}"


def assert_agree(one: Sample, other: Sample, what: str) -> None:
    """Check that mean, width and tails of two samples agree."""
    centre, width = other.values.mean(), other.values.std()
    one, other = (s.map(lambda values: (values - centre) / width) for s in (one, other))
    pairs = {"means": (one.mean(), other.mean()), "widths": (one.log_sd(), other.log_sd())}
    for q in TAILS:
        bound = float(np.quantile(other.values, q))
        pairs[f"shares below the {q} quantile"] = (
            one.share_below(bound, q),
            other.share_below(bound, q),
        )
    for kind, ((first, error), (second, its_error)) in pairs.items():
        error = np.hypot(error, its_error)
        assert abs(first - second) < ERRORS * error, (
            f"{what}: {kind} differ by {first - second:.4f} +- {error:.4f}"
        )


def chain_worth(values: np.ndarray) -> float:
    """Return the effective number of draws (chain, draw) of Markov chains, for their mean."""
    return float(array_stats.ess(values, chain_axis=0, draw_axis=1, method="mean"))
