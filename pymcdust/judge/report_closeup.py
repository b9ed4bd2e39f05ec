"""The section of a report that looks closely at one superpixel: the worst, or the only one."""

from typing import Any

import numpy as np

from pymcdust.judge.convergence import LEAST_BFMI
from pymcdust.judge.figures import (
    plot_energy,
    plot_marginal,
    plot_pairs,
    plot_ranks,
    plot_trace,
)
from pymcdust.judge.report_page import Section, gallery, paragraph, picture
from pymcdust.judge.report_sections import sampler_numbers, summary
from pymcdust.judge.report_subject import Subject, position
from pymcdust.judge.report_words import label_of, number, power_of_ten, unit_of

#: Values whose traces and ranks are drawn, and that are drawn against each other.
MOST_TRACED = 4

#: Fewest draws of a chain that are worth a figure.
LEAST_DRAWN = 4


def closeup(subject: Subject) -> Section:
    """Look closely at one superpixel: all its values, and figures of the worst of them."""
    where = position(subject, subject.superpixel)
    if subject.n_superpixel == 1:
        title = where
    elif subject.chosen is None:
        title = f"The worst: {where}"
    else:
        title = where
    body = [sampler_numbers(subject), summary(subject)]
    drawn = [row for row in subject.worst_rows if np.isfinite(row["mean"])][:MOST_TRACED]
    if subject.diagnosis.attrs["n_draw"] < LEAST_DRAWN or not drawn:
        body.append(paragraph("There are too few finite draws to be drawn."))
    else:
        body += _pictures(subject, drawn)
    return Section("closeup", title[0].upper() + title[1:], "".join(body))


def _pictures(subject: Subject, drawn: list[dict[str, Any]]) -> list[str]:
    """Return the figures of some values, with their headings."""
    columns = {}
    for row in drawn:
        label, draws = _scaled_draws(subject, row)
        columns[label] = draws
    diverging = None
    if "diverging" in subject.stats and not subject.independent:
        diverging = subject.stats["diverging"].transpose("chain", "draw").values
    if subject.independent:
        body = ["<h3>Distributions</h3>", gallery(map(_marginal, columns, columns.values()))]
    else:
        step = _steps(subject)
        pairs = [
            figure
            for label, draws in columns.items()
            for figure in (_trace(label, draws, step, diverging), _ranks(label, draws))
        ]
        body = ["<h3>Traces and ranks of the worst parameters</h3>", gallery(pairs)]
    if len(columns) > 1:
        body += ["<h3>Pairs of the worst parameters</h3>", _pairs(columns, diverging)]
    energy = subject.stats.get("energy")
    if energy is not None and not subject.independent and energy.sizes["draw"] >= 10:
        values = energy.transpose("chain", "draw").values
        if np.isfinite(values).all() and np.ptp(values) > 0:
            body += ["<h3>Energy</h3>", _energy(values, float(subject.here[1]["bfmi"]))]
    return body


def _steps(subject: Subject) -> np.ndarray | None:
    """Return the step of the ensemble, (draw,) or (chain, draw), where walkers were drawn."""
    if "step" not in subject.stats:
        return None
    return subject.stats["step"].transpose(..., "draw").values


def _scaled_draws(subject: Subject, row: dict[str, Any]) -> tuple[str, np.ndarray]:
    """Return the label with its unit, and the draws (chain, draw) in that unit."""
    draws = subject.here[0][row["parameter"]]
    for dim in ("voxel", "band"):
        if row[dim] is not None:
            index = int(np.flatnonzero(draws[dim].values == row[dim])[0])
            draws = draws.isel({dim: index})
    values = draws.transpose("chain", "draw").values.astype(float)
    power = power_of_ten(values)
    unit = unit_of(row["unit"], power)
    return label_of(row) + (f" [{unit}]" if unit else ""), values / 10.0**power


def _trace(
    label: str, draws: np.ndarray, step: np.ndarray | None, diverging: np.ndarray | None
) -> str:
    if step is None:
        caption = f"{label}: chains that have mixed look alike, without drift and without steps."
        if diverging is not None and diverging.any():
            caption += " Red ticks: divergent transitions."
    else:
        caption = (
            f"{label}: the walkers of the ensemble (points) and their median (line), which must "
            "neither drift nor jump."
        )
    alt = f"Trace plot of {label}, {len(draws)} chains of {draws.shape[1]:,} draws."
    return picture(plot_trace(draws, label, step=step, diverging=diverging), alt, caption)


def _ranks(label: str, draws: np.ndarray) -> str:
    parts = "the two halves of the chain" if len(draws) == 1 else "chains"
    caption = (
        f"{label}: where {parts} agree, all lines are level, but for the scatter of the grey band "
        "(99 % of independent draws; correlated draws scatter more). A slope or a bump is a "
        "disagreement."
    )
    alt = f"Histograms of the ranks of {label}, one line for each of {parts}."
    return picture(plot_ranks(draws, label), alt, caption, lines=True)


def _marginal(label: str, draws: np.ndarray) -> str:
    caption = (
        f"{label}, with its 68 % (thick) and 89 % (thin) interval. Lone bars far out are draws "
        "with large weights."
    )
    return picture(plot_marginal(draws, label), f"Histogram of {label}.", caption, lines=True)


def _pairs(columns: dict[str, np.ndarray], diverging: np.ndarray | None) -> str:
    flat = {label: draws.reshape(-1) for label, draws in columns.items()}
    marks = None if diverging is None else diverging.reshape(-1)
    caption = (
        "Draws of two parameters against each other, and of each alone. Separate clouds are "
        "separate maxima; narrow or bent ridges are what a sampler finds hard."
    )
    if marks is not None and marks.any():
        caption += " Red crosses are divergent transitions: where they gather, draws are missing."
    alt = f"Scatter plots of all pairs of {', '.join(flat)}."
    return picture(plot_pairs(flat, marks), alt, caption, wide=True)


def _energy(energy: np.ndarray, bfmi: float) -> str:
    caption = (
        "The steps in energy from draw to draw must be as wide as the energies themselves; where "
        f"they are much narrower (BFMI below {LEAST_BFMI}), the tails are not explored. The least "
        f"BFMI of the chains is {number(bfmi, 2)}."
    )
    alt = "Distributions of the energy less its mean, and of its steps from draw to draw."
    return gallery([picture(plot_energy(energy), alt, caption, lines=True)])
