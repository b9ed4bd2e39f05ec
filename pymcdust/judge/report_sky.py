"""The sections of a report that look at all superpixels: maps and distributions."""

import numpy as np
import xarray as xr

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
from pymcdust.judge.report_words import number, significant


def over_the_sky(subject: Subject) -> Section | None:
    """Draw maps and distributions of the diagnostics over the superpixels."""
    if subject.n_superpixel == 1:
        return None
    diagnosis = subject.diagnosis
    least = diagnosis.attrs["least_ess"]
    rhat, ess = (
        _by_superpixel(subject, "rhat", np.maximum),
        np.minimum(
            _by_superpixel(subject, "ess_bulk", np.minimum),
            _by_superpixel(subject, "ess_tail", np.minimum),
        ),
    )
    maps, distributions = [], []
    can_be_mapped = "superpixel_nside" in diagnosis.attrs
    if not subject.coupled and can_be_mapped:
        maps.append(_passed(diagnosis))
    if np.isfinite(rhat).any():
        if can_be_mapped:
            maps.append(_map_of_rhat(diagnosis, rhat))
        figure = plot_distribution(
            rhat - 1, "largest R-hat, less 1", LARGEST_RHAT - 1, logarithmic=True
        )
        caption = (
            f"R-hat less 1, the largest of all parameters; it passes below {LARGEST_RHAT - 1:.2f} "
            f"(dashed).{_left_out(rhat, diagnosis)}"
        )
        alt = _alt("R-hat", rhat, rhat >= LARGEST_RHAT, 3)
        distributions.append(picture(figure, alt, caption, lines=True))
    if np.isfinite(ess).any():
        if can_be_mapped:
            label = "least effective sample size"
            figure = plot_map(diagnosis, ess, label)
            caption = f"Effective sample size, the least of all parameters; {least:,} are needed."
            maps.append(picture(figure, f"Map of the {label}.", caption))
        figure = plot_distribution(
            ess, "least effective sample size", least, bad_above=False, logarithmic=True
        )
        caption = (
            "Effective sample size, the least of all parameters, in bulk or tails; "
            f"{least:,} (dashed) are needed."
        )
        alt = _alt("the least effective sample size", ess, ess < least, 0)
        distributions.append(picture(figure, alt, caption, lines=True))
    if not subject.coupled:
        for a_map, distribution in (
            _divergences(diagnosis, can_be_mapped),
            _k_hat(diagnosis, can_be_mapped),
        ):
            maps += a_map
            distributions += distribution
    body = []
    if subject.coupled:
        body.append(
            paragraph(
                "The sky was sampled as one problem, and passes or fails as one. Shown is the "
                "worst of each superpixel's own parameters."
            )
        )
    if maps:
        body += ["<h3>Maps</h3>", gallery(maps)]
    body += ["<h3>Distributions</h3>", gallery(distributions)] if distributions else []
    return Section("sky", "Over the sky", "".join(body)) if body else None


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


def _passed(diagnosis: xr.Dataset) -> str:
    passed = diagnosis["passed"].values
    caption = (
        "Where superpixels passed. Failures that lie together often have their cause in the data."
    )
    alt = f"Map of the {int(passed.sum()):,} superpixels that passed, of {passed.size:,}."
    return picture(plot_passed(diagnosis, passed), alt, caption)


def _map_of_rhat(diagnosis: xr.Dataset, rhat: np.ndarray) -> str:
    figure = plot_map(diagnosis, rhat - 1, "largest R-hat, less 1", logarithmic=True)
    caption = (
        f"R-hat less 1, the largest of all parameters, on a logarithmic scale; "
        f"{LARGEST_RHAT - 1:.2f} and more does not pass."
    )
    return picture(figure, "Map of the largest R-hat.", caption)


def _divergences(diagnosis: xr.Dataset, can_be_mapped: bool) -> tuple[list[str], list[str]]:
    """Return a map and a distribution of the divergences, where there are any."""
    percent = 100 * diagnosis["divergent"].values
    if not (percent > 0).any():
        return [], []
    label = "divergent transitions [%]"
    a_map = can_be_mapped and picture(
        plot_map(diagnosis, percent, label, logarithmic=False),
        "Map of the percentage of divergent transitions.",
        "Divergent transitions of NUTS. Where they gather, the posterior has a shape that the "
        "sampler cannot follow.",
    )
    figure = plot_distribution(percent, label, 100 * np.nextafter(MOST_DIVERGENT, 1))
    none = int((percent == 0).sum())
    distribution = picture(
        figure,
        _alt("the percentage of divergent transitions", percent, percent > 100 * MOST_DIVERGENT, 2),
        f"Divergent transitions of NUTS; {none:,} superpixels have none, and more than "
        f"{100 * MOST_DIVERGENT:g} % (dashed) does not pass.",
        lines=True,
    )
    return [a_map] if a_map else [], [distribution]


def _k_hat(diagnosis: xr.Dataset, can_be_mapped: bool) -> tuple[list[str], list[str]]:
    """Return a map and a distribution of Pareto k-hat, where there is any."""
    if "pareto_k" not in diagnosis:
        return [], []
    k = diagnosis["pareto_k"].values
    if not np.isfinite(k).any():
        return [], []
    others, becomes = "", "does not pass"
    if not diagnosis["independent"].all():
        others, becomes = " Superpixels above were left to NUTS.", "left to NUTS"
    label = "Pareto k-hat"
    a_map = can_be_mapped and picture(
        plot_map(diagnosis, k, label, logarithmic=False),
        "Map of Pareto k-hat.",
        "Pareto k-hat of importance sampling: how heavy the tail of the weights is. High values "
        f"are bent or one-sided posteriors.{others}",
    )
    bad = k >= LARGEST_PARETO_K
    distribution = picture(
        plot_distribution(k, label, LARGEST_PARETO_K, bad_label=becomes),
        _alt("Pareto k-hat", k, bad, 2),
        f"Pareto k-hat; importance sampling works below {LARGEST_PARETO_K} (dashed).{others}",
        lines=True,
    )
    return [a_map] if a_map else [], [distribution]


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
        words += f" {int(independent.sum()):,} superpixels with independent draws are left out."
    missing = int((~np.isfinite(rhat) & ~independent).sum())
    if missing:
        words += f" {missing:,} superpixels have no finite R-hat."
    return words
