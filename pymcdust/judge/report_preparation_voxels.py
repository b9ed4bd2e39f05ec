"""The sections of a sky's report on its voxels: which there are, with how much dust, how alike."""

import numpy as np
import xarray as xr

from pymcdust.judge.figures import plot_distribution, plot_map
from pymcdust.judge.preparation_figures import plot_voxel, plot_voxel_counts
from pymcdust.judge.report_page import Section, gallery, paragraph, picture, table
from pymcdust.judge.report_preparation_alarms import HARD, HOPELESS, ROUNDING
from pymcdust.judge.report_words import number, significant

#: Ways to cut the sightline that are listed.
_MOST_EDGES = 10

#: Condition numbers beyond this are drawn as this.
_MOST_SHOWN = 1000.0

#: What the reasons of `CutReason` mean.
_CUT_WORDS = {
    "as_given": "the edges that were given",
    "direction": "edges of its own direction",
    "high_latitude": "one voxel, at high latitude",
    "little_dust": "one voxel, with little dust",
    "merged_thin": "voxels without dust were merged",
    "merged_ill_conditioned": "voxels that look alike were merged",
}


def voxels(sky: xr.Dataset, summary: xr.Dataset) -> Section:
    """Tell which voxels superpixels have, and why."""
    n_voxel = summary["n_voxel"].values
    body = ""
    if "cut_reason" in sky:
        attrs, bits = sky["cut_reason"].attrs, sky["cut_reason"].values
        meanings = str(attrs.get("flag_meanings", "")).split()
        rows = []
        for name, bit in zip(meanings, np.atleast_1d(attrs.get("flag_masks", [])), strict=True):
            where = (bits & bit) != 0
            if where.any():
                rows.append(
                    [
                        _CUT_WORDS.get(name, name.replace("_", " ")),
                        f"{int(where.sum()):,}",
                        number(100 * float(where.mean()), 1),
                        span(n_voxel[where]),
                    ]
                )
        body += table(
            "Why superpixels have the voxels that they have; several reasons may hold.",
            ["reason", "superpixels", "%", "voxels"],
            rows,
            text=["reason"],
        )
    if len(np.unique(n_voxel)) > 1:
        map_of_numbers = picture(
            plot_voxel_counts(summary),
            f"Map of the number of voxels, between {n_voxel.min()} and {n_voxel.max()}.",
            "Voxels along the sightline; in brackets the number of superpixels.",
        )
        body += gallery([map_of_numbers])
    edges = np.atleast_2d(sky["distance_edge"].values)
    edges = np.broadcast_to(edges, (len(n_voxel), edges.shape[1]))
    cuts: dict[tuple[float, ...], int] = {}
    for row, n in zip(edges, n_voxel, strict=True):
        # Edges beyond the last voxel in use are padding.
        cut = tuple(row[: n + 1].tolist())
        cuts[cut] = cuts.get(cut, 0) + 1
    most = sorted(cuts.items(), key=lambda item: -item[1])
    rows = [
        [str(len(cut) - 1), f"{count:,}", ", ".join(significant(edge, 3) for edge in cut)]
        for cut, count in most[:_MOST_EDGES]
    ]
    rest = len(most) - len(rows)
    more = f", the {_MOST_EDGES} most common; {rest:,} more are not shown" if rest > 0 else ""
    body += table(
        f"Distance edges [kpc]{more}.",
        ["voxels", "superpixels", "edges [kpc]"],
        rows,
        left=["voxels"],
        text=["edges [kpc]"],
    )
    return Section("voxels", "Voxels and distances", body)


def reddening(sky: xr.Dataset, summary: xr.Dataset) -> Section:
    """Show how much reddening there is in each voxel."""
    quantile = summary["reddening_quantile"]
    unit = sky.attrs["reddening_unit"]
    n_voxel, edges = summary["n_voxel"].values, sky["distance_edge"]
    negative = summary["negative_reddening"].sum("superpixel").values
    rows, titles = [], []
    for voxel in range(sky.sizes["voxel"]):
        here = n_voxel > voxel
        name = f"voxel {voxel + 1}"
        if edges.ndim == 1:
            name += (
                f", {significant(float(edges[voxel]))}–{significant(float(edges[voxel + 1]))} kpc"
            )
        titles.append(name)
        low, middle, high = (float(quantile.sel(quantile=q)[voxel]) for q in (0.16, 0.5, 0.84))
        n_value = int(summary["n_valid"].values[here].sum())
        without = int((summary["amount"].values[here, voxel] == 0).sum())
        rows.append(
            [
                name,
                f"{int(here.sum()):,}",
                f"{without:,}",
                significant(middle, 3),
                f"{significant(low)} … {significant(high)}",
                number(100 * negative[voxel] / n_value, 2) if n_value else "–",
            ]
        )
    body = table(
        f"Reddening of each voxel over the valid pixels [mag, {unit}]; without dust: superpixels "
        "where it is zero in all pixels, so that the voxel returns its prior.",
        ["voxel", "superpixels", "without dust", "median", "16 … 84 %", "negative [%]"],
        rows,
        left=["voxel"],
    )
    if sky.sizes["superpixel"] > 1:
        column = summary["column"].values
        pictures = [
            picture(
                plot_map(summary, column, f"column [mag, {unit}]"),
                f"Map of the column, with the median {significant(float(np.median(column)))} mag.",
                "Median reddening of the whole sightline.",
            )
        ]
        for voxel, title in enumerate(titles):
            if not np.isfinite(summary["voxel_reddening"].values[:, voxel]).any():
                continue
            pictures.append(
                picture(
                    plot_voxel(summary, voxel, title, f"reddening [mag, {unit}]"),
                    f"Map of the median reddening in {title}.",
                    "Median reddening of this voxel; grey where superpixels do not have it.",
                )
            )
        body += gallery(pictures)
    return Section("reddening", "Reddening", body)


def conditioning(summary: xr.Dataset) -> Section:
    """Show how well the voxels of each superpixel can be told apart."""
    condition = summary["condition"].values
    n, empty = condition.size, condition > ROUNDING
    rows = [
        [f"worse than {limit:g}", f"{int((condition > limit).sum()):,}", _share(condition > limit)]
        for limit in (HARD, HOPELESS)
    ]
    rows.append(["beyond 10⁷: a voxel is empty, or a copy", f"{int(empty.sum()):,}", _share(empty)])
    body = paragraph(
        "The condition number is the largest over the least singular value of the reddening of "
        "the valid pixels, each voxel scaled to unit norm. The larger it is, the more alike are "
        "the patterns of two or more voxels, and the less can be said of each of them alone. "
        "Where many are bad, merge voxels: max_condition joins those that look alike, "
        "min_reddening those with little dust."
    )
    body += table(
        f"Condition number of {n:,} superpixel{'s' * (n > 1)}"
        + (f"; the median is {significant(_median(condition))}."),
        ["condition number", "superpixels", "%"],
        rows,
        text=["condition number"],
    )
    values = summary["singular_value"].values
    rows = []
    for i, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        if known.size:
            cells = [significant(float(q)) for q in np.quantile(known, (0.05, 0.5, 0.95))]
            rows.append([str(i + 1), f"{known.size:,}", *cells])
    body += table(
        "Singular values, the largest first: quantiles over the superpixels. All would be 1 if "
        "voxels had nothing in common.",
        ["number", "superpixels", "5 %", "median", "95 %"],
        rows,
        left=["number"],
    )
    if n > 1:
        label = f"condition number, {_MOST_SHOWN:,.0f} at most"
        shown = np.minimum(condition, _MOST_SHOWN)
        body += gallery(
            [
                picture(
                    plot_distribution(
                        shown, label, HARD, logarithmic=True, bad_label=f"worse than {HARD:g}"
                    ),
                    f"Histogram of the condition number; {int((condition > HARD).sum()):,} of "
                    f"{n:,} are beyond {HARD:g}.",
                    f"Superpixels by condition number; what is beyond {_MOST_SHOWN:,.0f}, or "
                    "infinite, stands at the end.",
                    lines=True,
                ),
                picture(
                    plot_map(summary, shown, label, logarithmic=True),
                    "Map of the condition number.",
                    "The same on the sky: the lighter, the worse.",
                ),
            ]
        )
    return Section("conditioning", "Whether voxels can be told apart", body)


def span(values: np.ndarray) -> str:
    """Write the least and the greatest of whole numbers.

    Examples
    --------
    >>> span(np.array([3, 3])), span(np.array([1, 9, 4]))
    ('3', '1–9')
    """
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low}–{high}"


def _share(where: np.ndarray) -> str:
    return number(100 * float(where.mean()), 1)


def _median(values: np.ndarray) -> float:
    """Return the median of values of which some may be infinite."""
    low, high = np.sort(values)[[(values.size - 1) // 2, values.size // 2]]
    return float(high if np.isinf(high) else (low + high) / 2)
