"""The words and numbers of a report: what is wrong, what to do about it, and how to write it."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.judge.convergence import (
    FLAGS,
    LARGEST_PARETO_K,
    LARGEST_RHAT,
    LEAST_BFMI,
    MOST_AT_TREE_DEPTH,
    MOST_DIVERGENT,
)

#: What the flags mean, in a word or two.
SHORT = {
    "high_rhat": "high R-hat",
    "low_ess": "low ESS",
    "divergences": "divergences",
    "low_bfmi": "low BFMI",
    "tree_depth": "tree depth",
    "high_pareto_k": "high k-hat",
    "too_short": "too few draws",
    "not_finite": "NaN or infinite draws",
}

#: The methods, as a reader knows them.
METHOD_NAMES = {
    "laplace": "importance sampling from a learnt proposal (laplace)",
    "nuts": "the No-U-Turn sampler (nuts)",
    "auto": "importance sampling, and the No-U-Turn sampler where that fails (auto)",
    "ptemcee": "parallel tempering of ensembles (ptemcee)",
    "smc": "sequential Monte Carlo (smc)",
}

_LONGER = {
    "nuts": "draw longer chains (more draws, more tune)",
    "auto": "draw more",
    "laplace": "ask for more draws, or sample with the method nuts",
    "ptemcee": "run more steps, and leave out more of their beginning",
    "smc": "use more draws (particles), in several chains",
}

_EXPONENTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def explain(flag: str, diagnosis: xr.Dataset) -> tuple[str, str]:
    """Return what a flag means, and what to do about it, in plain English.

    Parameters
    ----------
    flag : str
        One of `FLAGS`.
    diagnosis : Dataset
        What `diagnose` returned: the method and the number of draws change the advice.

    Returns
    -------
    meaning, advice : str
        A sentence each.
    """
    method = diagnosis.attrs["method"]
    longer = _LONGER.get(method, "draw more")
    least, n_draw = diagnosis.attrs["least_ess"], diagnosis.attrs["n_draw"]
    total = diagnosis.attrs["n_chain"] * n_draw
    return {
        "high_rhat": (
            f"R-hat is {LARGEST_RHAT} or more, or cannot be had: chains, or the two halves of a "
            "chain, have not drawn from one and the same distribution.",
            f"Sample these again and {longer}. If R-hat stays high, look at the trace plots: "
            "chains that keep to different levels have found separate maxima, and no chain tells "
            "how much each of them weighs.",
        ),
        "low_ess": (
            f"The effective sample size is below {least:,}: the draws repeat each other, so that "
            "means and above all the ends of intervals are noisy.",
            f"Sample these again and {longer}.",
        ),
        "divergences": (
            f"More than {100 * MOST_DIVERGENT:g} % of the transitions diverged: there is a corner "
            "of the posterior that the sampler does not enter, and intervals may be too narrow.",
            "Sample these again with a higher target_accept (0.95, then 0.99). If that does not "
            "help, look at where the divergences lie in the pair plot.",
        ),
        "low_bfmi": (
            f"BFMI is below {LEAST_BFMI}, or unknown: the sampler moves between energies too "
            "slowly to see the tails.",
            "Draw longer chains; if it stays low, doubt the tails, and think of another "
            "parametrisation or a tighter prior.",
        ),
        "tree_depth": (
            f"More than {100 * MOST_AT_TREE_DEPTH:g} % of the transitions ended at the largest "
            "tree depth: the chains are slow, though not wrong for that.",
            "Give the warm-up more draws (tune).",
        ),
        "high_pareto_k": (
            f"Pareto k-hat is {LARGEST_PARETO_K} or more, or unknown: a few draws carry all of the "
            "weight, and neither means nor intervals are to be relied on.",
            "Sample these with the method nuts; the method auto does so where it is needed.",
        ),
        "too_short": (
            f"{total:,} draws ({diagnosis.attrs['n_chain']} x {n_draw:,}) are too few to be "
            f"judged: an effective sample size of {least:,} cannot be reached.",
            f"Draw {least:,} at the very least, better several thousand.",
        ),
        "not_finite": (
            "Some draws are NaN or infinite: the run itself failed.",
            "Sample these again; if it happens again, look at their data.",
        ),
    }[flag]


def reasons(flag: int) -> list[str]:
    """List in short what the bits of a flag mean.

    Examples
    --------
    >>> reasons(5)
    ['high R-hat', 'divergences']
    """
    return [SHORT[name] for name, bit in FLAGS.items() if flag & bit]


def headline(diagnosis: xr.Dataset, superpixel: int | None) -> str:
    """Return the verdict in one sentence.

    Parameters
    ----------
    diagnosis : Dataset
        What `diagnose` returned.
    superpixel : int, optional
        The one superpixel of the posterior, where there is but one.
    """
    passed = diagnosis["passed"]
    if passed.ndim == 0:
        return "The sky, sampled as one problem, " + ("passed." if passed else "did not pass.")
    n, good = passed.size, int(passed.sum())
    if n == 1:
        return f"Superpixel {superpixel} " + ("passed." if good else "did not pass.")
    if good == n:
        return f"All {n:,} superpixels passed."
    if not good:
        return f"None of {n:,} superpixels passed."
    return f"{good:,} of {n:,} superpixels passed; {n - good:,} did not."


def consequence(diagnosis: xr.Dataset) -> str:
    """Return what the verdict means for who wants to use the draws."""
    passed = diagnosis["passed"]
    if diagnosis["independent"].all():
        blind = "No diagnostic sees a maximum of the posterior that no draw has come near."
    else:
        blind = "No diagnostic sees a maximum of the posterior that no chain has visited."
        if diagnosis.attrs["n_chain"] == 1:
            blind += (
                " Here there is a single chain, so that R-hat compares no more than its halves."
            )
    if passed.all():
        return f"Means, standard deviations and intervals can be used. {blind}"
    if not passed.any():
        return "Do not use means, standard deviations or intervals before this is mended."
    return (
        "Use means, standard deviations and intervals of the superpixels that passed; leave out "
        f"the others, or mend them as told below. {blind}"
    )


def tables_of_model(definition: str) -> list[list[str]]:
    """Return the rows parameter, tying, prior, unit of a model from its JSON.

    Examples
    --------
    >>> prior = {"dist": "Normal", "kwargs": {"mu": 1.6, "sigma": 0.3}}
    >>> beta = {"tying": "per superpixel", "prior": prior, "unit": ""}
    >>> tables_of_model(json.dumps({"model": "mine", "parameters": {"beta": beta}}))
    [['beta', 'per superpixel', 'Normal(mu=1.6, sigma=0.3)', '']]
    """
    return [
        [name, given["tying"], _prior(given["prior"]), pretty_unit(given.get("unit", ""))]
        for name, given in json.loads(definition)["parameters"].items()
    ]


def _prior(prior: Any) -> str:
    if isinstance(prior, Mapping):
        words = [f"{name}={_prior(value)}" for name, value in prior.get("kwargs", {}).items()]
        return f"{prior['dist']}({', '.join(words)})"
    return f"{prior:.6g}" if isinstance(prior, int | float) else str(prior)


def pretty_unit(unit: str) -> str:
    """Write powers as they are printed: ``mag-1`` is ``mag⁻¹``.

    Examples
    --------
    >>> pretty_unit("mag-1"), pretty_unit("MJy/sr"), pretty_unit("1/mag")
    ('mag⁻¹', 'MJy/sr', 'mag⁻¹')
    """
    if unit.startswith("1/"):
        unit = f"{unit[2:]}-1"
    return unit[:-2] + unit[-2:].translate(_EXPONENTS) if unit.endswith(("-1", "-2")) else unit


def power_of_ten(values: Any) -> int:
    """Return the power of ten that small or large values are written in, 0 for ordinary ones.

    From 0.8 times a power of ten on it is that power: 9e-5 is written like 1.1e-4.

    Examples
    --------
    >>> power_of_ten([9e-5, 1e-4, 3e-4]), power_of_ten([18.1]), power_of_ten([0.02, 1.6])
    (-4, 0, 0)
    """
    values = np.abs(np.asarray(values, dtype=float))
    middle = np.median(values[np.isfinite(values)]) if np.isfinite(values).any() else 0.0
    return 0 if middle == 0 or 1e-2 <= middle < 1e5 else int(np.floor(np.log10(middle) + 0.1))


def unit_of(unit: str, power: int) -> str:
    """Write a unit with the power of ten before it.

    Examples
    --------
    >>> unit_of("mag-1", -4), unit_of("K", 0)
    ('10⁻⁴ mag⁻¹', 'K')
    """
    ten = f"10{str(power).translate(_EXPONENTS)}" if power else ""
    return f"{ten} {pretty_unit(unit)}".strip()


def number(value: float, decimals: int = 3) -> str:
    """Write a number with so many decimals; a dash where there is none.

    Examples
    --------
    >>> number(1234.5, 0), number(1.0042), number(float("nan")), number(float("inf"))
    ('1,234', '1.004', '–', '∞')
    """
    if np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.{decimals}f}".replace("-", "−")


def number_of_rhat(value: float) -> str:
    """Write R-hat, exactly enough to see on which side of its threshold it is.

    Examples
    --------
    >>> number_of_rhat(1.0042), number_of_rhat(1.00981)
    ('1.004', '1.0098')
    """
    return number(value, 4 if abs(value - LARGEST_RHAT) < 5e-4 else 3)


def significant(value: float, digits: int = 2) -> str:
    """Write a number with so many significant digits.

    Examples
    --------
    >>> significant(0.01234), significant(123.4), significant(0.0)
    ('0.012', '123', '0')
    """
    if not np.isfinite(value) or value == 0:
        return number(value, 0)
    return number(value, max(0, digits - 1 - int(np.floor(np.log10(abs(value))))))


def decimals_for(sd: float) -> int:
    """Return how many decimals show a mean whose standard deviation is `sd`: two of its digits."""
    if not np.isfinite(sd) or sd <= 0:
        return 3
    return int(np.clip(1 - np.floor(np.log10(sd)), 0, 6))


def label_of(row: Mapping[str, Any]) -> str:
    """Name a value of a parameter: ``temperature, voxel 3``; voxels are counted from 1.

    Examples
    --------
    >>> label_of({"parameter": "temperature", "superpixel": 7, "voxel": 0, "band": None})
    'temperature, voxel 1'
    >>> label_of({"parameter": "offset", "superpixel": 7, "voxel": None, "band": "217"})
    'offset, 217 GHz'
    """
    label = row["parameter"].replace("_", " ")
    if row["voxel"] is not None:
        label += f", voxel {row['voxel'] + 1}"
    if row["band"] is not None:
        label += f", {row['band']} GHz"
    return label


def superpixels(count: int, further: str = "") -> str:
    """Count superpixels, with the verb that follows.

    Examples
    --------
    >>> superpixels(1), superpixels(1200, "further ")
    ('1 superpixel has', '1,200 further superpixels have')
    """
    return f"{count:,} {further}" + ("superpixel has" if count == 1 else "superpixels have")
