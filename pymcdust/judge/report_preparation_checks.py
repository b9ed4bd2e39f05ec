"""The sections of a sky's report that ask whether its maps can be right."""

from itertools import pairwise

import healpy
import numpy as np
import xarray as xr

from pymcdust.judge.figures import plot_distribution, plot_map
from pymcdust.judge.preference import LATITUDES
from pymcdust.judge.preparation_figures import plot_line
from pymcdust.judge.report_page import Section, gallery, paragraph, picture, table
from pymcdust.judge.report_preparation_alarms import (
    COLOUR_FACTOR,
    LEAST_CORRELATION,
    OTHER_COLOUR_FACTOR,
    colours,
    correlations,
    emissivity_of,
    equal_pairs,
    is_off,
    typical_sigma,
)
from pymcdust.judge.report_words import number, power_of_ten, significant, unit_of
from pymcdust.sky.colours import TYPICAL_BETA, TYPICAL_TEMPERATURE, typical_emissivity
from pymcdust.sky.quality import fit_emission

_NO_LINE = (
    "No line can be laid through 353 GHz and the column: one of the two is unknown, or the same, "
    "in all pixels."
)


def follows(sky: xr.Dataset, summary: xr.Dataset) -> Section:
    """Show whether the emission follows the column."""
    line = fit_emission(summary).sel(band="353")
    known = bool(np.isfinite(line["slope"]))
    pictures = _pictures_of_line(sky, summary, line) if known else []
    correlation = summary["correlation"].values
    if summary.sizes["superpixel"] > 1 and np.isfinite(correlation).any():
        pictures += _pictures_of_correlation(summary, correlation)
    body = paragraph(_words_of_line(line) if known else _NO_LINE)
    body += gallery(pictures) if pictures else ""
    if summary.sizes["superpixel"] > 1:
        body += _by_latitude(summary) if known else ""
        body += _by_band(summary)
    return Section("follows", "Whether emission follows reddening", body)


def _words_of_line(line: xr.Dataset) -> str:
    slope, intercept = float(line["slope"]), float(line["intercept"])
    rho = emissivity_of(slope)
    power = power_of_ten([rho])
    return (
        f"Over all pixels, 353 GHz = {significant(slope, 3)} MJy/sr per mag × column "
        f"{'−' if intercept < 0 else '+'} {significant(abs(intercept))} MJy/sr, with a correlation "
        f"of {number(float(line['correlation']), 2)}. Dust of {TYPICAL_TEMPERATURE:g} K and beta "
        f"{TYPICAL_BETA:g} with this slope has rho = {number(rho / 10.0**power, 2)} × "
        f"{unit_of('mag-1', power)}; published are 0.67 × 10⁻⁴ (Planck 2013 XI) and 1.1 × 10⁻⁴ "
        "(Zelko et al. 2022)."
    )


def _pictures_of_line(sky: xr.Dataset, summary: xr.Dataset, line: xr.Dataset) -> list[str]:
    light = summary["chosen_emission"].sel(band="353").values
    known = np.isfinite(light)
    if not known.any():
        return []
    return [
        picture(
            plot_line(
                summary["chosen_column"].values[known],
                light[known],
                float(line["slope"]),
                float(line["intercept"]),
                sky.attrs["reddening_unit"],
            ),
            f"Density of {int(known.sum()):,} pixels by column and 353 GHz emission.",
            "Pixels by column and emission, and the least-squares line through all of them; the "
            "brightest 0.5 %, which weigh most, lie outside of the picture.",
        )
    ]


def _pictures_of_correlation(summary: xr.Dataset, correlation: np.ndarray) -> list[str]:
    known = correlation[np.isfinite(correlation)]
    label = "correlation of column and 353 GHz"
    return [
        picture(
            plot_distribution(correlation, label),
            f"Histogram of the correlation in {known.size:,} superpixels, with the "
            f"median {number(float(np.median(known)), 2)}.",
            "Correlation over the pixels of each superpixel: low where dust is thin or varies "
            "little, and where noise prevails, but not negative over large areas.",
            lines=True,
        ),
        picture(
            plot_map(summary, correlation, label, logarithmic=False),
            "Map of the correlation of column and 353 GHz.",
            "The same on the sky.",
        ),
    ]


def emission(sky: xr.Dataset, summary: xr.Dataset) -> Section:
    """Show the emission of each band, and its colours."""
    quantile = summary["emission_quantile"]
    ratio = summary["signal_to_noise"].sel(quantile=0.5)
    used = summary["n_used"].sum("superpixel")
    negative = summary["negative_emission"].sum("superpixel") / used
    missing = summary["missing_emission"].sum("superpixel")
    rows = [
        [
            f"{band} GHz",
            *(
                significant(float(quantile.sel(band=band, quantile=q)), 3)
                for q in (0.5, 0.16, 0.84)
            ),
            significant(float(typical_sigma(sky, summary).sel(band=band)), 3),
            significant(float(ratio.sel(band=band))),
            number(100 * float(negative.sel(band=band)), 2),
            f"{int(missing.sel(band=band)):,}",
        ]
        for band in summary["band"].values
    ]
    columns = ["band", "median", "16 %", "84 %", "sigma", "median S/N", "negative [%]", "missing"]
    body = table(
        "Emission of the valid pixels [MJy/sr] and its noise; S/N: emission over sigma of a pixel; "
        "missing: pixels without value, all of which are masked.",
        columns,
        rows,
        left=["band"],
    )
    factors = colours(sky, summary)
    line = fit_emission(summary)
    expected = _typical_colours(sky)
    rows, bad = [], []
    for i, band in enumerate(summary["band"].values):
        rows.append(
            [
                f"{band} GHz",
                significant(float(quantile.sel(band=band, quantile=0.5)), 3),
                _times(factors["median"][i]),
                significant(float(line["slope"].sel(band=band)), 3),
                _times(factors["slope"][i]),
                significant(float(line["intercept"].sel(band=band))),
                significant(expected[i], 3),
            ]
        )
        bad.append(any(is_off(band, values[i]) for values in factors.values()))
    body += table(
        f"Colours, against dust of {TYPICAL_TEMPERATURE:g} K and beta {TYPICAL_BETA:g}.",
        [
            "band",
            "median [MJy/sr]",
            "off",
            "slope [MJy/sr/mag]",
            "off",
            "intercept [MJy/sr]",
            "dust / 353",
        ],
        rows,
        left=["band"],
        bad=bad,
    )
    body += paragraph(
        "Off: the factor by which the median, or the slope on the column, is above such dust of "
        "the brightness that suits most bands; marked beyond a factor of "
        f"{OTHER_COLOUR_FACTOR:g}, at 2998 GHz of {COLOUR_FACTOR['2998']:g}, because there dust "
        "of 15 or of 23 K is off by 4. A dash stands where noise prevails. A wrong unit moves "
        "median and slope alike; a wrong zero level moves the median and the intercept only. Dust "
        "/ 353: the emission of such dust over that at 353 GHz."
    )
    return Section("emission", "Emission, noise and colours", body)


def oddities(summary: xr.Dataset) -> Section:
    """Show what should not be there: negative values, copies, gaps."""
    n_valid = int(summary["n_valid"].sum())
    n_value = int((summary["n_valid"] * summary["n_voxel"]).sum())
    negative = int(summary["negative_reddening"].sum())
    equal = equal_pairs(summary)
    most = max(equal, key=lambda pair: pair[2])
    rows = [
        ["negative reddening", f"{negative:,}", _percent(negative, n_value), "pixels × voxels"],
        [
            "its part of all reddening, in absolute value",
            f"{significant(float(summary['negative_amount'].sum()))} mag",
            _percent(float(summary["negative_amount"].sum()), float(summary["amount"].sum())),
            "the sum over valid pixels",
        ],
        [
            "pixels with the reddening of their forerunner",
            f"{int(summary['repeated'].sum()):,}",
            _percent(int(summary["repeated"].sum()), n_valid),
            "valid pixels",
        ],
        [
            "pixels with the same emission in two bands",
            "–",
            number(100 * most[2], 2),
            f"the pixels looked at, most for {most[0]} and {most[1]} GHz",
        ],
        [
            "pixels without reddening, all masked",
            f"{int(summary['missing_reddening'].sum()):,}",
            "–",
            "NaN, infinite or UNSEEN",
        ],
    ]
    body = table(
        "What should be rare. Smoothing rings around bright clouds, so that a little reddening "
        "may be negative.",
        ["what", "how much", "%", "of"],
        rows,
        text=["what", "of"],
    )
    return Section("oddities", "Negative, repeated and missing values", body)


def _by_latitude(summary: xr.Dataset) -> str:
    nside, superpixel = summary.attrs["superpixel_nside"], summary["superpixel"].values
    latitude = np.abs(healpy.pix2ang(nside, superpixel, nest=True, lonlat=True)[1])
    rows = []
    for low, high in pairwise(LATITUDES):
        here = (latitude >= low) & ((latitude < high) | (high == LATITUDES[-1]))
        if not here.any():
            continue
        part = summary.isel(superpixel=here)
        line = fit_emission(part).sel(band="353")
        rows.append(
            [
                f"{low:g} – {high:g}",
                f"{int(here.sum()):,}",
                significant(float(part["column"].median())),
                number(float(part["correlation"].median()), 2),
                significant(float(line["slope"]), 3),
                significant(float(line["intercept"])),
            ]
        )
    return table(
        "By Galactic latitude: medians of the superpixels, and the line through all of their "
        "pixels at 353 GHz.",
        [
            "|b| [deg]",
            "superpixels",
            "column [mag]",
            "correlation",
            "slope [MJy/sr/mag]",
            "intercept [MJy/sr]",
        ],
        rows,
        left=["|b| [deg]"],
    )


def _by_band(summary: xr.Dataset) -> str:
    over_all, within = fit_emission(summary)["correlation"], correlations(summary)
    rows, bad = [], []
    for band in summary["band"].values:
        each = within.get(str(band), np.array([]))
        middle = float(np.median(each)) if each.size else np.nan
        rows.append(
            [
                f"{band} GHz",
                number(float(over_all.sel(band=band)), 2),
                number(middle, 2),
                f"{each.size:,}" if each.size else "–",
            ]
        )
        bad.append(middle < LEAST_CORRELATION)
    return table(
        "Correlation of the column with the emission of each band: over all pixels, and within "
        f"superpixels whose emission is more than noise (median, marked below "
        f"{LEAST_CORRELATION:g}).",
        ["band", "over all pixels", "within superpixels", "superpixels"],
        rows,
        left=["band"],
        bad=bad,
    )


def _typical_colours(sky: xr.Dataset) -> np.ndarray:
    dust = typical_emissivity(sky["frequency"].values)
    return dust / dust[list(sky["band"].values).index("353")]


def _percent(part: float, whole: float) -> str:
    return number(100 * part / whole, 2) if whole else "–"


def _times(factor: float) -> str:
    return (
        "–"
        if np.isnan(factor)
        else f"× {number(factor, 2) if factor >= 0.1 else significant(factor)}"
    )
