"""The report of a comparison: which variant the sky prefers, where, and how far to trust it."""

import json
from html import escape

import numpy as np
import xarray as xr

from pymcdust.judge import comparison_figures as figures
from pymcdust.judge.preference import (
    DECIDED,
    differences,
    reference_of,
    spoken,
    summarise_places,
    summarise_variants,
    winner,
)
from pymcdust.judge.report_page import Section, numbers, page, paragraph, picture, table
from pymcdust.judge.report_words import METHOD_NAMES, number, significant, tables_of_model

#: A posterior predictive probability of a larger chi-square below this is a misfit.
MISFIT = 0.01


def comparison_page(comparison: xr.Dataset, reference: str | None = None) -> str:
    """Return the report of a comparison as one page of HTML.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    reference : str, optional
        Name of the variant that others are compared with, by default the first.

    Returns
    -------
    str
        The page.

    Raises
    ------
    ResultError
        If there is no such variant.
    """
    comparison = comparison.load()
    name = reference_of(comparison, reference)
    sections = [
        _variants(comparison, name),
        _sky(comparison, name),
        _places(comparison, name),
        _checks(comparison),
        _trust(comparison),
        _models(comparison),
    ]
    title = "Comparison of " + ", ".join(spoken(m) for m in comparison["model"].values)
    version = comparison.attrs.get("pymcdust_version", "")
    footer = f"Written by pymcdust{f'; compared by its version {version}' if version else ''}."
    return page(title, _lead(comparison, name), [s for s in sections if s is not None], footer)


def verdict(comparison: xr.Dataset) -> tuple[str, str]:
    """Return what the whole sky prefers, in two sentences: by prediction and by evidence.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    """
    rows = summarise_variants(comparison)
    best, second = rows[0]["model"], rows[1]["model"]
    against = differences(comparison, second).sel(model=best)
    gain = float(against["elpd_difference_sky"])
    error = float(against["elpd_difference_sky_error"])
    size = f"{number(gain, 1)} ± {number(error, 1)}"
    if gain > figures.SIGNIFICANT * error:
        predicts = (
            f"{spoken(best)} predicts best what it has not seen: its ELPD is {size} above that of "
            f"{spoken(second)}, the next."
        )
    else:
        predicts = (
            f"{spoken(best)} and {spoken(second)} predict equally well what they have not seen: "
            f"their ELPDs differ by {size}."
        )
    known = [row for row in rows if np.isfinite(row["ln_evidence"])]
    if len(known) < 2:
        return predicts, "Fewer than two variants have an evidence."
    known.sort(key=lambda row: -row["ln_evidence"])
    first, next_ = known[0]["model"], known[1]["model"]
    bayes = differences(comparison, next_).sel(model=first)
    evidence = (
        f"The evidence of the whole sky is highest for {spoken(first)}: its log Bayes factor over "
        f"{spoken(next_)} is {number(float(bayes['ln_bayes_factor_sky']), 1)} ± "
        f"{number(float(bayes['ln_bayes_factor_sky_error']), 1)}."
    )
    doubtful = int((~comparison["evidence_reliable"].sel(model=[first, next_])).any("model").sum())
    if doubtful:
        evidence += (
            f" In {doubtful:,} of {comparison.sizes['superpixel']:,} superpixels one of the two "
            "evidences cannot be relied on."
        )
    return predicts, evidence


def _lead(comparison: xr.Dataset, reference: str) -> str:
    predicts, evidence = verdict(comparison)
    best = winner(comparison)
    shown = {
        "superpixels": f"{comparison.sizes['superpixel']:,}",
        "variants": str(comparison.sizes["model"]),
        "compared with": spoken(reference),
        f"with a winner (P ≥ {DECIDED:g})": f"{int((best >= 0).sum()):,}",
    }
    return (
        f'<div class="verdict"><p><strong>{escape(predicts)}</strong></p>'
        f"{paragraph(evidence)}</div>" + numbers(shown)
    )


def _variants(comparison: xr.Dataset, reference: str) -> Section:
    rows = [
        [
            spoken(row["model"]),
            _with_error(row["elpd_difference"], row["elpd_difference_error"]),
            number(row["p_better"], 2),
            _with_error(row["ln_bayes_factor"], row["ln_bayes_factor_error"]),
            number(row["weight"], 2),
            f"{row['won']:,}",
            f"{row['lost']:,}",
        ]
        for row in summarise_variants(comparison, reference)
    ]
    body = table(
        "The whole sky, the best prediction first. ELPD: expected log predictive density of "
        "blocks of pixels, their fold withheld, all bands; P better: probability that the "
        "variant predicts better, by a normal approximation; weight: stacking of the predictions; "
        f"won and lost: superpixels where the variant is at least {100 * DECIDED:.0f} % or at most "
        f"{100 - 100 * DECIDED:.0f} % probable by its evidence.",
        [
            "variant",
            f"ELPD − that of {spoken(reference)}",
            "P better",
            f"ln B over {spoken(reference)}",
            "weight",
            "won",
            "lost",
        ],
        rows,
        text=["variant"],
    )
    picture_of = picture(
        figures.plot_variants(comparison, reference),
        "Differences of ELPD and log Bayes factors of all variants, as in the table.",
        "The same, with two standard errors.",
        lines=True,
        wide=True,
    )
    return Section("variants", "Which variant", body + picture_of + _caution(comparison))


def _caution(comparison: xr.Dataset) -> str:
    """Say what ELPD and evidence each assume of neighbouring pixels."""
    block = int(comparison.attrs["block"])
    words = (
        "The likelihood takes pixels for independent. Where several of them lie within one beam "
        "they are not, and log Bayes factors are too large by about the number of pixels of a "
        "beam. "
    )
    words += (
        f"ELPD was estimated over blocks of {block} pixels, so that the scatter that its error "
        "rests on is that of independent patches."
        if block > 1
        else "ELPD was estimated pixel by pixel, which is right where a pixel is at least as "
        "wide as the beam; elsewhere its error is too small."
    )
    return paragraph(words)


def _sky(comparison: xr.Dataset, reference: str) -> Section | None:
    if comparison.sizes["superpixel"] == 1 or "superpixel_nside" not in comparison.attrs:
        return None
    name = spoken(reference)
    body = ""
    if bool((comparison["ln_evidence"].notnull().sum("model") > 1).any()):
        body += picture(
            figures.plot_winner(comparison),
            "Map of the variant that each superpixel prefers.",
            f"The variant whose posterior probability is at least {100 * DECIDED:.0f} %, all "
            "being as likely beforehand.",
            wide=True,
        )
        body += picture(
            figures.plot_bayes_factors(comparison, reference),
            f"Maps of the log Bayes factors over {name}.",
            f"Log Bayes factor of each variant over {name}: blue where it is preferred.",
            wide=True,
        )
    body += picture(
        figures.plot_elpd_differences(comparison, reference),
        f"Maps of the ELPD minus that of {name}.",
        f"Expected log predictive density minus that of {name}: blue where the variant predicts "
        "better; striped where the difference is below two standard errors.",
        wide=True,
    )
    body += picture(
        figures.plot_weights(comparison),
        "Maps of the stacking weights.",
        "Weights of the mixture of variants that predicts best in each superpixel; near even where "
        "it cannot tell.",
        wide=True,
    )
    body += picture(
        figures.plot_averaged_temperature(comparison),
        "Maps of the averaged temperature in each distance voxel.",
        "Temperature averaged over the variants by these weights.",
        wide=True,
    )
    return Section("sky", "Over the sky", body)


def _places(comparison: xr.Dataset, reference: str) -> Section | None:
    if comparison.sizes["superpixel"] == 1 or "superpixel_nside" not in comparison.attrs:
        return None
    body = ""
    places = summarise_places(comparison, reference)
    heads = {
        "latitude": ("Galactic latitude |b| [deg]", "By Galactic latitude."),
        "column": ("column [mag]", "By the median reddening of the whole sightline."),
    }
    for by, (head, caption) in heads.items():
        rows = [
            [
                f"{significant(row['low'])} – {significant(row['high'])}",
                f"{row['superpixels']:,}",
                spoken(row["model"]),
                _with_error(row["elpd_difference"], row["elpd_difference_error"]),
                number(row["ln_bayes_factor"], 1),
                f"{row['won']:,}",
                number(row["mean_weight"], 2),
            ]
            for row in places
            if row["by"] == by and row["model"] != reference
        ]
        columns = [head, "superpixels", "variant", "ELPD difference", "ln B", "won", "mean weight"]
        body += table(
            f"{caption} Sums over the superpixels, compared with {spoken(reference)}.",
            columns,
            rows,
            text=["variant"],
        )
    return Section("places", "By latitude and column", body)


def _checks(comparison: xr.Dataset) -> Section:
    pit = picture(
        figures.plot_pit(comparison),
        "Histograms of the probability integral transform of all pixels, by band and variant.",
        "Where the observed pixels lie among the predictions: flat where predictions are "
        "calibrated. Higher in the middle: sigma is larger than the scatter of the pixels; at the "
        "ends: smaller; to one side: there is a bias.",
        lines=True,
        wide=True,
    )
    body = pit
    if comparison.sizes["superpixel"] > 1 and "superpixel_nside" in comparison.attrs:
        body += picture(
            figures.plot_residuals(comparison),
            "Maps of the mean residual of each superpixel, by band.",
            "Mean residual of the variant that predicts best, in units of sigma: what no "
            "parameter of it could take up.",
            wide=True,
        )
    bands = [str(band) for band in comparison["band"].values]
    # Where a band has no data, there is nothing to fit.
    share = comparison["chi2_p"]
    misfit = (share < MISFIT).where(share.notnull())
    rows = [
        [
            spoken(name),
            *(f"{100 * float(misfit.sel(model=name, band=band).mean()):.1f}" for band in bands),
        ]
        for name in comparison["model"].values
    ]
    body += table(
        f"Superpixels [%] whose chi-square is larger than {100 - 100 * MISFIT:g} % of what the "
        "posterior predicts.",
        ["variant", *(f"{band} GHz" for band in bands)],
        rows,
        text=["variant"],
    )
    return Section("checks", "Whether any of them fits", body)


def _trust(comparison: xr.Dataset) -> Section:
    method = comparison["evidence_method"]
    meanings = str(method.attrs.get("flag_meanings", "")).split()
    methods = json.loads(comparison.attrs["methods"])
    rows = []
    for name in comparison["model"].values:
        here = comparison.sel(model=name)
        used = [
            f"{word} {int((here['evidence_method'] == value).sum()):,}"
            for word, value in zip(
                meanings, np.atleast_1d(method.attrs.get("flag_values", [])), strict=True
            )
            if (here["evidence_method"] == value).any()
        ]
        drawn = methods[str(name)]
        rows.append(
            [
                spoken(name),
                METHOD_NAMES.get(drawn, drawn),
                ", ".join(used) or "–",
                number(float(here["ln_evidence_error"].median()), 3),
                f"{int(here['evidence_reliable'].sum()):,}",
                f"{int(here['n_refitted'].sum()):,}",
                f"{int(here['n_unreliable'].sum()):,}",
            ]
        )
    body = table(
        "How evidence and predictions were got, and how far they are to be relied on. Refitted: "
        "folds for which weights of the draws could not be relied on, so that their predictions "
        "are ratios of evidences, found anew. Unreliable: blocks for which that did not help.",
        [
            "variant",
            "drawn by",
            "evidence by (superpixels)",
            "median error of ln Z",
            "reliable",
            "refitted folds",
            "unreliable blocks",
        ],
        rows,
        text=["variant", "drawn by", "evidence by (superpixels)"],
    )
    return Section("trust", "How far to trust it", body)


def _models(comparison: xr.Dataset) -> Section:
    definitions = json.loads(comparison.attrs["models"])
    body = "".join(
        table(
            f"What {spoken(name)} believes before the data.",
            ["parameter", "tying", "prior", "unit"],
            tables_of_model(json.dumps(definition)),
            text=["prior"],
            left=["parameter", "tying", "unit"],
        )
        for name, definition in definitions.items()
    )
    shown = ("evidence", "block", "folds", "seed", "nside", "superpixel_nside", "reddening_unit")
    rows = [
        [name.replace("_", " "), str(comparison.attrs[name])]
        for name in shown
        if name in comparison.attrs
    ]
    body += table("Settings and data.", ["what", "value"], rows, text=["value"], left=["what"])
    return Section("models", "The variants, and provenance", body)


def _with_error(value: float, error: float) -> str:
    if not error > 0:
        return number(value, 1) if np.isfinite(value) else "–"
    return f"{number(value, 1)} ± {number(error, 1)}"
