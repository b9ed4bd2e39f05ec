"""The sections of a report that look at all superpixels: maps and distributions."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from pymcdust.judge.convergence import (
    LARGEST_PARETO_K,
    LARGEST_RHAT,
    MOST_DIVERGENT,
    over_parameters,
)
from pymcdust.judge.figures import (
    plot_distribution,
    plot_map,
    plot_passed,
    plot_temperatures,
)
from pymcdust.judge.report_page import Section, gallery, paragraph, picture
from pymcdust.judge.report_subject import Subject
from pymcdust.judge.report_words import number, significant, superpixels

#: The pictures of one diagnostic: maps, and distributions.
_Pictures = tuple[list[str], list[str]]


def over_the_sky(subject: Subject) -> Section | None:
    """Draw maps and distributions of the diagnostics over the superpixels."""
    if subject.n_superpixel == 1:
        return None
    drawn = [_rhat(subject), _ess(subject)]
    if not subject.coupled:
        drawn = [_passed(subject), *drawn, _divergences(subject), _k_hat(subject)]
    maps = [one for of_one, _ in drawn for one in of_one]
    distributions = [one for _, of_one in drawn for one in of_one]
    if not maps and not distributions:
        return None
    body = []
    if subject.coupled:
        body.append(
            paragraph(
                "The sky was sampled as one problem, and passes or fails as one. Shown is the "
                "worst of each superpixel's own parameters."
            )
        )
    body += ["<h3>Maps</h3>", gallery(maps)] if maps else []
    body += ["<h3>Distributions</h3>", gallery(distributions)] if distributions else []
    return Section("sky", "Over the sky", "".join(body))


def tempering(subject: Subject) -> Section | None:
    """Draw the acceptance and the swap rates of parallel tempering."""
    stats = subject.posterior["sample_stats"].dataset
    if not {"acceptance", "swap_acceptance"} <= set(stats.data_vars):
        return None
    rates = [
        stats[name].transpose("temperature", ...).values.reshape(stats.sizes["temperature"], -1)
        for name in ("acceptance", "swap_acceptance")
    ]
    ladder = stats["inverse_temperature"].values if "inverse_temperature" in stats else None
    caption = (
        "Moves within a temperature and swaps between neighbours, medians over chains and "
        "superpixels with the range of 90 % of them. Where swaps are rarer than about 0.1, the hot "
        "walkers do not pass on what they find: more temperatures are needed. Moves should be "
        "accepted at 0.2 to 0.5."
    )
    if ladder is not None and ladder.size:
        caption += (
            f" Inverse temperatures reach from {significant(float(np.nanmax(ladder)), 3)} down to "
            f"{significant(float(np.nanmin(ladder)), 2)}."
        )
    alt = (
        f"Acceptance and swap rates of {len(rates[0])} temperatures; at the posterior, "
        f"{number(float(np.nanmedian(rates[0][0])), 2)} of the moves are accepted."
    )
    figure = picture(plot_temperatures(*rates), alt, caption, lines=True)
    return Section("tempering", "Temperatures", gallery([figure]))


def _by_superpixel(subject: Subject, statistic: str, worst: np.ufunc) -> np.ndarray:
    """Return the worst of the parameters that superpixels have of their own."""
    if not subject.coupled:
        return subject.diagnosis[statistic].values
    return over_parameters(subject.diagnosis, statistic, worst, ("superpixel",)).values


def _passed(subject: Subject) -> _Pictures:
    """Return a map of the superpixels that passed."""
    passed = subject.diagnosis["passed"].values
    caption = (
        "Where superpixels passed. Failures that lie together often have their cause in the data."
    )
    alt = f"Map of the {int(passed.sum()):,} superpixels that passed, of {passed.size:,}."
    return _maps(subject, alt, caption, lambda: plot_passed(subject.diagnosis, passed)), []


def _rhat(subject: Subject) -> _Pictures:
    """Return a map and a distribution of R-hat, where there is any."""
    rhat = _by_superpixel(subject, "rhat", np.maximum)
    if not np.isfinite(rhat).any():
        return [], []
    label, threshold = "largest R-hat, less 1", LARGEST_RHAT - 1
    maps = _maps(
        subject,
        "Map of the largest R-hat.",
        "R-hat less 1, the largest of all parameters, on a logarithmic scale; "
        f"{threshold:.2f} and more does not pass."
        + " Independent draws have none (grey)."
        * bool(subject.diagnosis["independent"].any()),
        lambda: plot_map(subject.diagnosis, rhat - 1, label, logarithmic=True),
    )
    distribution = picture(
        plot_distribution(rhat - 1, label, threshold, logarithmic=True),
        _alt("R-hat", rhat, rhat >= LARGEST_RHAT, 3),
        f"R-hat less 1, the largest of all parameters; it passes below {threshold:.2f} "
        f"(dashed).{_left_out(rhat, subject.diagnosis)}",
        lines=True,
    )
    return maps, [distribution]


def _ess(subject: Subject) -> _Pictures:
    """Return a map and a distribution of the least effective sample size, where there is any."""
    ess = np.minimum(
        _by_superpixel(subject, "ess_bulk", np.minimum),
        _by_superpixel(subject, "ess_tail", np.minimum),
    )
    if not np.isfinite(ess).any():
        return [], []
    label, least = "least effective sample size", subject.diagnosis.attrs["least_ess"]
    maps = _maps(
        subject,
        f"Map of the {label}.",
        f"Effective sample size, the least of all parameters; {least:,} are needed.",
        lambda: plot_map(subject.diagnosis, ess, label),
    )
    distribution = picture(
        plot_distribution(ess, label, least, bad_above=False, logarithmic=True),
        _alt(f"the {label}", ess, ess < least, 0),
        "Effective sample size, the least of all parameters, in bulk or tails; "
        f"{least:,} (dashed) are needed.",
        lines=True,
    )
    return maps, [distribution]


def _divergences(subject: Subject) -> _Pictures:
    """Return a map and a distribution of the divergences, where there are any."""
    percent = 100 * subject.diagnosis["divergent"].values
    if not (percent > 0).any():
        return [], []
    label, most = "divergent transitions [%]", 100 * MOST_DIVERGENT
    maps = _maps(
        subject,
        "Map of the percentage of divergent transitions.",
        "Divergent transitions of NUTS. Where they gather, the posterior has a shape that the "
        "sampler cannot follow.",
        lambda: plot_map(subject.diagnosis, percent, label, logarithmic=False),
    )
    distribution = picture(
        # As much as is allowed still passes.
        plot_distribution(percent, label, np.nextafter(most, np.inf)),
        _alt("the percentage of divergent transitions", percent, percent > most, 2),
        f"Divergent transitions of NUTS; {superpixels(int((percent == 0).sum()))} none, and "
        f"more than {most:g} % (dashed) does not pass.",
        lines=True,
    )
    return maps, [distribution]


def _k_hat(subject: Subject) -> _Pictures:
    """Return a map and a distribution of Pareto k-hat, where there is any."""
    if "pareto_k" not in subject.diagnosis:
        return [], []
    k = subject.diagnosis["pareto_k"].values
    if not np.isfinite(k).any():
        return [], []
    others, becomes = "", "does not pass"
    if not subject.diagnosis["independent"].all():
        others, becomes = " Superpixels above were left to NUTS.", "left to NUTS"
    label = "Pareto k-hat"
    maps = _maps(
        subject,
        "Map of Pareto k-hat.",
        "Pareto k-hat of importance sampling: how heavy the tail of the weights is. High values "
        f"are bent or one-sided posteriors.{others}",
        lambda: plot_map(subject.diagnosis, k, label, logarithmic=False),
    )
    distribution = picture(
        plot_distribution(k, label, LARGEST_PARETO_K, bad_label=becomes),
        _alt("Pareto k-hat", k, k >= LARGEST_PARETO_K, 2),
        f"Pareto k-hat; importance sampling works below {LARGEST_PARETO_K} (dashed).{others}",
        lines=True,
    )
    return maps, [distribution]


def _maps(subject: Subject, alt: str, caption: str, draw: Callable[[], Figure]) -> list[str]:
    """Return a map, or none where the Nside of the superpixels is unknown."""
    if "superpixel_nside" not in subject.diagnosis.attrs:
        return []
    return [picture(draw(), alt, caption)]


def _alt(what: str, values: np.ndarray, bad: np.ndarray, decimals: int) -> str:
    known = values[np.isfinite(values)]
    low, middle, high = (number(float(q), decimals) for q in np.quantile(known, [0, 0.5, 1]))
    return (
        f"Histogram of {what} over the superpixels: from {low} to {high}, median {middle}; "
        f"{int(bad.sum()):,} of {values.size:,} are beyond the threshold."
    )


def _left_out(rhat: np.ndarray, diagnosis: xr.Dataset) -> str:
    """Say how many superpixels a figure of R-hat does not show, and why."""
    independent = np.broadcast_to(diagnosis["independent"].values, rhat.shape)
    words = ""
    if independent.any():
        words += f" {superpixels(int(independent.sum()))} independent draws, and no R-hat."
    missing = int((~np.isfinite(rhat) & ~independent).sum())
    if missing:
        words += f" {superpixels(missing)} no finite R-hat."
    return words
