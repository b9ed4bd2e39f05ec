"""The sections of a convergence report, each made from the posterior and its diagnosis."""

from html import escape

import healpy
import numpy as np
import xarray as xr

from pymcdust.judge.convergence import (
    FLAGS,
    LARGEST_PARETO_K,
    LARGEST_RHAT,
    LEAST_BFMI,
    MOST_AT_TREE_DEPTH,
    MOST_DIVERGENT,
    severity,
)
from pymcdust.judge.report_page import Section, attribute_rows, numbers, paragraph, table
from pymcdust.judge.report_subject import Subject, badness, distances_of, values_of
from pymcdust.judge.report_words import (
    METHOD_NAMES,
    consequence,
    decimals_for,
    explain,
    headline,
    label_of,
    number,
    number_of_rhat,
    power_of_ten,
    reasons,
    significant,
    superpixels,
    tables_of_model,
    unit_of,
)

#: Superpixels that did not pass and are listed.
MOST_LISTED = 50

_SCALED = ("mean", "sd", "low68", "high68", "low89", "high89", "mcse")


def title(subject: Subject) -> str:
    """Return the title of the page."""
    model = subject.posterior.attrs.get("model", "a model")
    return f"Convergence of {model}, drawn by {subject.posterior.attrs['method']}"


def lead(subject: Subject) -> str:
    """Return the verdict, and the numbers that it rests on."""
    diagnosis = subject.diagnosis
    passed = diagnosis["passed"]
    kind = "verdict" if passed.all() else "verdict bad"
    verdict = (
        f'<div class="{kind}"><p><strong>{headline(diagnosis, subject.superpixel)}</strong></p>'
        f"{paragraph(consequence(diagnosis))}</div>"
    )
    total = diagnosis.attrs["n_chain"] * diagnosis.attrs["n_draw"]
    shown = {"draws": f"{diagnosis.attrs['n_chain']} × {diagnosis.attrs['n_draw']:,}"}
    if not subject.coupled and subject.n_superpixel > 1:
        shown = {"passed": f"{int(passed.sum()):,} of {passed.size:,}", **shown}
    if not diagnosis["independent"].all():
        shown["largest R-hat"] = number_of_rhat(_extreme(diagnosis["rhat"], np.max))
    ess = np.minimum(diagnosis["ess_bulk"], diagnosis["ess_tail"])
    shown["least ESS"] = number(_extreme(ess, np.min), 0)
    if diagnosis["divergent"].notnull().any():
        shown["divergences"] = f"{round(float(diagnosis['divergent'].sum()) * total):,}"
        shown["least BFMI"] = number(_extreme(diagnosis["bfmi"], np.min), 2)
    if "pareto_k" in diagnosis and diagnosis["independent"].any():
        k = diagnosis["pareto_k"].where(diagnosis["independent"])
        shown["largest k-hat"] = number(_extreme(k, np.max), 2)
    return verdict + numbers(shown)


def what_to_do(subject: Subject) -> Section:
    """Say what is wrong, how often, and what to do next."""
    diagnosis, body = subject.diagnosis, []
    flag = diagnosis["flag"]
    items = []
    # What makes the other diagnostics meaningless comes first.
    first = {name: FLAGS[name] for name in ("not_finite", "too_short")}
    for name, bit in {**first, **FLAGS}.items():
        count = int(((flag & bit) > 0).sum())
        if count:
            meaning, advice = explain(name, diagnosis)
            where = "" if flag.size == 1 else f" ({count:,} superpixel{'s' * (count > 1)})"
            items.append((reasons(bit)[0] + where, meaning, advice))
    if items:
        body.append(paragraph("What is wrong, and what to do next:"))
        body.append('<dl class="advice">')
        for name, meaning, advice in items:
            body.append(f"<dt>{escape(name[0].upper() + name[1:])}</dt>")
            body.append(f"<dd>{escape(meaning)}</dd><dd>Next: {escape(advice)}</dd>")
        body.append("</dl>")
    else:
        body.append(paragraph("Nothing was found to be wrong. What was looked at is told below."))
    some = (diagnosis["divergent"] > 0) & ((flag & FLAGS["divergences"]) == 0)
    if some.any():
        most = 100 * float(diagnosis["divergent"].where(some).max())
        where = "It has" if flag.size == 1 else superpixels(int(some.sum()), "further ")
        body.append(
            paragraph(
                f"{where} divergent transitions as well, at most {significant(most)} % of them "
                f"all: no more than the {100 * MOST_DIVERGENT:g} % above which they are flagged."
            )
        )
    return Section("next", "Verdict, and what to do next", "".join(body))


def failures(subject: Subject) -> Section | None:
    """List the superpixels that did not pass, the worst first."""
    diagnosis = subject.diagnosis
    if subject.coupled or subject.n_superpixel == 1 or diagnosis["passed"].all():
        return None
    worst_first = np.argsort(-severity(diagnosis).values, kind="stable")
    failed = [index for index in worst_first if not diagnosis["passed"].values[index]]
    nside = subject.posterior.attrs.get("superpixel_nside")
    has_k = "pareto_k" in diagnosis and bool(diagnosis["independent"].any())
    has_rhat = not bool(diagnosis["independent"].all())
    has_divergences = bool(diagnosis["divergent"].notnull().any())
    columns = ["superpixel", "l [deg]", "b [deg]", "what is wrong", "worst parameter"]
    columns += ["R-hat"] * has_rhat + ["least ESS"] + ["divergent [%]"] * has_divergences
    columns += ["k-hat"] * has_k
    rows = []
    for index in failed[:MOST_LISTED]:
        one = diagnosis.isel(superpixel=index)
        superpixel = int(one["superpixel"])
        angles = healpy.pix2ang(int(nside), superpixel, nest=True, lonlat=True) if nside else ()
        worst = max(values_of(one), key=lambda row: badness(row, diagnosis.attrs["least_ess"]))
        row = [str(superpixel), *([number(a, 1) for a in angles] or ["–", "–"])]
        row += [", ".join(reasons(int(one["flag"])))]
        of_parameters = int(one["flag"]) & (FLAGS["high_rhat"] | FLAGS["low_ess"])
        row += [label_of(worst) if of_parameters and not one["independent"] else "–"]
        row += [number_of_rhat(float(one["rhat"]))] * has_rhat
        row += [number(float(np.minimum(one["ess_bulk"], one["ess_tail"])), 0)]
        row += [number(100 * float(one["divergent"]), 2)] * has_divergences
        # Where NUTS drew, the k-hat of what it replaced is beside the point.
        row += [number(float(one["pareto_k"]) if one["independent"] else np.nan, 2)] * has_k
        rows.append(row)
    shown = f"{len(rows):,} of {len(failed):,}" if len(failed) > len(rows) else f"{len(failed):,}"
    caption = f"Superpixels that did not pass, the worst first: {shown}."
    text = ("what is wrong", "worst parameter")
    body = table(caption, columns, rows, text=text)
    return Section("failures", "Which superpixels did not pass", body)


def summary(subject: Subject) -> str:
    """Return the table of all that was inferred for the superpixel that is looked at."""
    rows, bad, distances = [], [], distances_of(subject)
    powers = {
        name: power_of_ten([row["mean"] for row in subject.rows if row["parameter"] == name])
        for name in {row["parameter"] for row in subject.rows}
    }
    least = subject.diagnosis.attrs["least_ess"]
    for row in subject.rows:
        power = powers[row["parameter"]]
        scaled = {k: v / 10.0**power for k, v in row.items() if k in _SCALED}
        decimals = decimals_for(scaled["sd"])
        label = label_of(row)
        if row["voxel"] in distances:
            label += f" ({distances[row['voxel']]})"
        rows.append(
            [
                label,
                *(number(scaled[key], decimals) for key in ("mean", "sd")),
                *(
                    f"{number(scaled[low], decimals)} … {number(scaled[high], decimals)}"
                    for low, high in (("low68", "high68"), ("low89", "high89"))
                ),
                unit_of(row["unit"], power),
                *([] if subject.independent else [number_of_rhat(row["rhat"])]),
                *(number(row[key], 0) for key in ("ess_bulk", "ess_tail")),
                significant(scaled["mcse"]),
            ]
        )
        bad.append(badness(row, least) > 1)
    columns = ["parameter", "mean", "sd", "68 % interval", "89 % interval", "unit"]
    columns += [] if subject.independent else ["R-hat"]
    columns += ["bulk ESS", "tail ESS", "MCSE"]
    caption = (
        "Posterior of each value: mean, standard deviation, equal-tailed intervals, and how well "
        "they are known. MCSE is the Monte Carlo standard error of the mean."
    )
    return table(caption, columns, rows, text=["parameter"], left=["unit"], bad=bad)


def sampler_numbers(subject: Subject) -> str:
    """Return what the sampler says of itself in the superpixel that is looked at."""
    here, stats = subject.here[1], subject.stats
    shown: dict[str, str] = {}
    if "pareto_k" in stats:
        shown["k-hat" if subject.independent else "k-hat before NUTS"] = number(
            float(stats["pareto_k"]), 2
        )
    if "laplace_pareto_k" in stats:
        shown["k-hat of plain Laplace"] = number(float(stats["laplace_pareto_k"]), 2)
    if "importance_ess" in stats:
        shown["importance ESS"] = number(float(stats["importance_ess"]), 0)
    if "rounds" in stats and int(stats["rounds"]) >= 0:
        shown["proposals"] = str(int(stats["rounds"]))
    if not subject.independent and "diverging" in stats:
        diverging = stats["diverging"]
        shown["divergences"] = f"{int(diverging.sum()):,} of {diverging.size:,}"
        shown["least BFMI"] = number(float(here["bfmi"]), 2)
        for key, name in (
            ("tree_depth", "mean tree depth"),
            ("n_steps", "mean steps per draw"),
            ("acceptance_rate", "mean acceptance"),
        ):
            if key in stats:
                shown[name] = significant(float(stats[key].mean()))
    if "attempts" in stats and int(stats["attempts"]) > 0:
        shown["runs"] = str(int(stats["attempts"]))
    for key, name in (("ln_evidence", "ln evidence"), ("acceptance_rate", "acceptance")):
        if subject.posterior.attrs["method"] == "smc" and key in stats:
            values = stats[key].values
            spread = f" ± {significant(values.std(ddof=1))}" if values.size > 1 else ""
            shown[name] = number(float(values.mean()), 2) + spread
    return numbers(shown) if shown else ""


def provenance(subject: Subject) -> Section:
    """Return the model, its priors, and where the posterior comes from."""
    attrs = dict(subject.posterior.attrs)
    definition = attrs.pop("model_definition", None)
    body = []
    if definition is not None:
        body.append(
            table(
                f"What the model {attrs.get('model', '')} believes before the data.",
                ["parameter", "tying", "prior", "unit"],
                tables_of_model(definition),
                text=["prior"],
                left=["parameter", "tying", "unit"],
            )
        )
    if "method" in attrs:
        attrs["method"] = METHOD_NAMES.get(attrs["method"], attrs["method"])
    columns = ["what", "value"]
    caption = "Where the posterior comes from, as it tells itself."
    body.append(table(caption, columns, attribute_rows(attrs), text=["value"], left=["what"]))
    return Section("provenance", "Model and provenance", "".join(body))


def thresholds(subject: Subject) -> Section:
    """Say what was looked at, and where the thresholds come from."""
    least = subject.diagnosis.attrs["least_ess"]
    vehtari = "Vehtari et al. 2021, Bayesian Analysis 16, 667"
    rows = [
        ["R-hat", f"below {LARGEST_RHAT}", "whether chains agree, in place and in width", vehtari],
        ["bulk ESS, tail ESS", f"{least:,} or more", "what the draws are worth", vehtari],
        [
            "k-hat",
            f"below {LARGEST_PARETO_K}",
            "whether importance weights have a finite spread (laplace)",
            "Vehtari et al. 2024, JMLR 25, 72",
        ],
        [
            "divergences",
            f"at most {100 * MOST_DIVERGENT:g} %",
            "whether NUTS can follow the posterior",
            "Betancourt 2017, arXiv:1701.02434",
        ],
        [
            "BFMI",
            f"{LEAST_BFMI} or more",
            "whether NUTS moves between energies",
            "Betancourt 2016, arXiv:1604.00695",
        ],
        [
            "tree depth",
            f"at most {100 * MOST_AT_TREE_DEPTH:g} % at the largest",
            "whether NUTS is cut short",
            "Hoffman & Gelman 2014, JMLR 15, 1593",
        ],
    ]
    body = table(
        "What was looked at; a diagnostic that is missing counts as failed.",
        ["diagnostic", "passes if", "what it tells", "source"],
        rows,
        text=["diagnostic", "what it tells", "source"],
        left=["passes if"],
    )
    notes = (
        "R-hat is rank-normalised and split, the larger of its bulk and its folded form; a single "
        "chain is split in two. A parameter that only returns its prior is judged like the others. "
        "Draws of importance sampling are independent, so that R-hat says nothing about them; "
        "their ESS is what the weights leave of them, at most their number."
    )
    return Section("thresholds", "How it was judged", body + paragraph(notes))


def _extreme(values: xr.DataArray, which: np.ufunc) -> float:
    known = values.values[~np.isnan(values.values)]
    return float(which(known)) if known.size else np.nan
