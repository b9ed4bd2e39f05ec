"""What can be asked of a query, checked, and how the draws of a posterior answer it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy import units as u

from pymcdust.errors import ConfigurationError, listing, unknown

#: What can be asked for, and its unit.
QUANTITIES: dict[str, str] = {
    "temperature": "K",
    "beta": "",
    "rho": "mag-1",
    "reddening": "mag",
    "emission": "MJy/sr",
}

#: How it is estimated: from the fit, or from the draws of the posterior.
MODES: tuple[str, ...] = ("map", "mean", "median", "std", "percentile", "samples")

#: Quantities that add up along the sightline.
ADDITIVE: tuple[str, ...] = ("reddening", "emission")


@dataclass(frozen=True)
class Request:
    """One question, whatever the places that it is asked of.

    Parameters
    ----------
    quantity : str
        One of `QUANTITIES`.
    mode : str
        One of `MODES`.
    pct : float or sequence of float, optional
        Percentiles, for that mode alone; kept as numbers.
    frequency : float [GHz] or Quantity, optional
        Of the emission alone; kept in GHz.
    cumulative : bool
        Whether all that lies in front is added; of `ADDITIVE` quantities alone.

    Raises
    ------
    ConfigurationError
        If an argument is unknown or impossible.
    """

    quantity: str
    mode: str = "map"
    pct: float | Sequence[float] | None = None
    frequency: float | u.Quantity | None = None
    cumulative: bool = False

    def __post_init__(self) -> None:
        for kind, given, allowed in (
            ("quantity", self.quantity, QUANTITIES),
            ("mode", self.mode, MODES),
        ):
            if not isinstance(given, str) or given not in allowed:
                raise ConfigurationError(unknown(kind, given, allowed))
        if self.quantity == "reddening" and self.mode != "map":
            raise ConfigurationError(
                f"the mode of the reddening is 'map', not {self.mode!r}: it was given, not inferred"
            )
        if self.cumulative and self.quantity not in ADDITIVE:
            raise ConfigurationError(
                f"{self.quantity} does not add up along the sightline; cumulative can be "
                f"{listing(ADDITIVE)}"
            )
        # A frozen dataclass is set once, here.
        object.__setattr__(self, "pct", self._checked_percentiles())
        object.__setattr__(self, "frequency", self._checked_frequency())

    def reduce(self, draws: np.ndarray) -> np.ndarray:
        """Return what the mode makes of draws.

        Parameters
        ----------
        draws : (..., draw) array
            Draws of the posterior.

        Returns
        -------
        (...) or (..., n) array
            All draws of the samples, and several percentiles, on the last axis.
        """
        match self.mode:
            case "samples":
                return draws
            case "percentile":
                values = np.percentile(draws, self.pct, axis=-1)
                return np.moveaxis(values, 0, -1) if np.ndim(self.pct) else values
            case "mean":
                return np.mean(draws, axis=-1)
            case "median":
                return np.median(draws, axis=-1)
            case _:
                return np.std(draws, axis=-1)

    def tail(self, n_draw: int) -> tuple[int, ...]:
        """Return the shape that `reduce` makes of the axis of `n_draw` draws."""
        if self.mode == "samples":
            return (n_draw,)
        return np.shape(self.pct) if self.mode == "percentile" else ()

    def _checked_percentiles(self) -> float | list[float] | None:
        """Return the percentiles as numbers, None where there are none."""
        if (self.pct is not None) != (self.mode == "percentile"):
            raise ConfigurationError(
                "the mode 'percentile' needs pct, such as pct=50 or pct=[16, 50, 84]"
                if self.pct is None
                else f"pct is of the mode 'percentile', not of {self.mode!r}"
            )
        if self.pct is None:
            return None
        try:
            percent = np.asarray(self.pct, dtype=float)
        except (TypeError, ValueError):
            percent = np.array(np.nan)
        if percent.ndim > 1 or not ((percent >= 0) & (percent <= 100)).all():
            raise ConfigurationError(
                f"pct is {self.pct!r}; allowed is a number from 0 to 100, or a list of such"
            )
        return percent.tolist()

    def _checked_frequency(self) -> float | None:
        """Return the frequency [GHz], None where there is none."""
        if self.quantity != "emission":
            if self.frequency is not None:
                raise ConfigurationError(f"frequency is of the emission; {self.quantity} has none")
            return None
        if self.frequency is None:
            raise ConfigurationError("emission needs a frequency [GHz], such as frequency=353")
        try:
            given = self.frequency
            given = given if isinstance(given, u.Quantity) else float(given) * u.GHz
            number = float(given.to_value(u.GHz, equivalencies=u.spectral()))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"the frequency is {self.frequency!r}; allowed is a number [GHz], or a Quantity, "
                f"frequency or wavelength, with one value ({error})"
            ) from error
        if not (np.isfinite(number) and number > 0):
            raise ConfigurationError(f"the frequency is {number:g} GHz; it must be positive")
        return number
