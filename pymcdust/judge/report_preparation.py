"""The report of a sky: what it covers, what was masked and why, and whether it can be right."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

import healpy
import numpy as np
import xarray as xr

from pymcdust.judge import preparation_figures as figures
from pymcdust.judge.figures import plot_map
from pymcdust.judge.report_page import (
    Section,
    attribute_rows,
    from_json,
    gallery,
    numbers,
    page,
    paragraph,
    picture,
    table,
    unfold,
)
from pymcdust.judge.report_preparation_alarms import (
    Alarm,
    alarms,
    is_thinned,
    pixels_in_beam,
)
from pymcdust.judge.report_preparation_checks import emission, follows, oddities
from pymcdust.judge.report_preparation_voxels import conditioning, reddening, span, voxels
from pymcdust.judge.report_words import number, significant
from pymcdust.products.projection import Mollweide, SkyImage
from pymcdust.sky.cuts import Mask
from pymcdust.sky.quality import summarise_sky


def sky_page(
    sky: xr.Dataset,
    progress: Callable[[int, int], None] | None = None,
    summary: xr.Dataset | None = None,
) -> str:
    """Return the report of a sky as one page of HTML.

    Parameters
    ----------
    sky : Dataset
        A sky, prepared or simulated; its variables may be lazy.
    progress : callable, optional
        Called with the number of superpixels looked at, and of all.
    summary : Dataset, optional
        What `summarise_sky` returned for the sky, if that has been done already.

    Returns
    -------
    str
        The page.
    """
    if summary is None:
        summary = summarise_sky(sky, progress)
    found = alarms(sky, summary)
    sections = [
        _what_to_do(found),
        _coverage(sky, summary),
        _masked(sky, summary),
        voxels(sky, summary),
        reddening(sky, summary),
        conditioning(summary),
        follows(sky, summary),
        emission(sky, summary),
        oddities(summary),
        _beam(sky),
        _provenance(sky),
    ]
    one = int(sky["superpixel"].values[0])
    title = f"Quality of a sky of {sky.sizes['superpixel']:,} superpixels"
    if sky.sizes["superpixel"] == 1:
        title = f"Quality of a sky of one superpixel, {one}"
    versions = from_json(sky.attrs.get("versions"))
    version = versions.get("pymcdust") if isinstance(versions, Mapping) else None
    footer = f"Written by pymcdust{f'; prepared by its version {version}' if version else ''}."
    return page(title, _lead(sky, summary, found), sections, footer)


def main_reasons(sky: xr.Dataset) -> list[tuple[Mask, int]]:
    """Count the pixels that each reason masks in the superpixels of a sky, most first.

    Parameters
    ----------
    sky : Dataset
        A sky that tells what is masked, as a prepared one does.

    Returns
    -------
    list of (Mask, int)
        Without those that mask nothing, and without thinning, which loses nothing.
    """
    count = sky["masked"].sum("superpixel")
    found = [(mask, int(count.sel(reason=mask.name.lower()))) for mask in Mask]
    found = [(mask, n) for mask, n in found if n and mask is not Mask.THINNED]
    return sorted(found, key=lambda pair: -pair[1])


def _lead(sky: xr.Dataset, summary: xr.Dataset, found: Sequence[Alarm]) -> str:
    n_superpixel, n_pixel = sky.sizes["superpixel"], sky.sizes["pixel"]
    nside, superpixel_nside = sky.attrs["nside"], sky.attrs["superpixel_nside"]
    area = n_superpixel * healpy.nside2pixarea(superpixel_nside, degrees=True)
    valid = int(summary["n_valid"].sum())
    most = int(summary["n_voxel"].max())
    words = [
        f"{_count(n_superpixel, 'superpixel')} of Nside {superpixel_nside} "
        f"{'cover' if n_superpixel > 1 else 'covers'} {_area(area)}, "
        f"{_percent(n_superpixel / healpy.nside2npix(superpixel_nside))} of the sky; "
        f"{'each' if n_superpixel > 1 else 'it'} has "
        f"{n_pixel:,} pixels of Nside {nside} and {span(summary['n_voxel'].values)} "
        f"voxel{'s' * (most > 1)} along the sightline.",
        _beam_words(sky),
        _masked_words(sky, n_superpixel * n_pixel, valid),
    ]
    bad = [alarm for alarm in found if alarm.bad]
    kind = "verdict bad" if bad else "verdict"
    headline, advice = "Nothing alarming was found in this sky.", ""
    if bad:
        also = len(bad) - 1
        headline = f"{bad[0].title}{f'; {also} more to mend' if also else ''}."
        advice = paragraph(f"{bad[0].meaning} {bad[0].advice}")
    shown = {
        "superpixels": f"{n_superpixel:,}",
        "area": _area(area),
        "valid pixels": _percent(valid / (n_superpixel * n_pixel)),
        "voxels": span(summary["n_voxel"].values),
        "median column": f"{significant(float(summary['column'].median()))} mag",
    }
    beam = sky.attrs.get("beam")
    if isinstance(beam, int | float):
        shown["beam"] = f"{beam:g}′"
    return (
        f'<div class="{kind}"><p><strong>{escape(headline)}</strong></p>{advice}'
        f"{paragraph(' '.join(words))}</div>" + numbers(shown)
    )


def _masked_words(sky: xr.Dataset, n_pixel: int, valid: int) -> str:
    part = 1 - valid / n_pixel
    if not part:
        words = "No pixel is masked."
    else:
        words = f"{_percent(part)} of the pixels are masked"
        words += ", after thinning to one pixel per beam." if is_thinned(sky) else "."
    reasons = main_reasons(sky)[:2] if "masked" in sky else []
    told = [f"{figures.MASK_WORDS[mask]} ({_percent(n / n_pixel)})" for mask, n in reasons]
    if told:
        words += f" The main reason{'s' * (len(told) > 1)}: {' and '.join(told)}."
    if "sky_coverage" in sky:
        n_sky = sky.sizes["sky_superpixel"]
        words += (
            f" {n_sky - sky.sizes['superpixel']:,} of the {n_sky:,} superpixels of the sky were "
            "not kept."
        )
    return words


def _what_to_do(found: Sequence[Alarm]) -> Section:
    if not found:
        body = paragraph("Nothing needs to be done. What was looked at is told below.")
        return Section("next", "What to do", body)
    items = "".join(
        f"<dt>{escape(alarm.title)}</dt><dd>{escape(alarm.meaning)}</dd>"
        f"<dd>Next: {escape(alarm.advice)}</dd>"
        for alarm in found
    )
    return Section("next", "What to do", f'<dl class="advice">{items}</dl>')


def _coverage(sky: xr.Dataset, summary: xr.Dataset) -> Section:
    own = summary["n_valid"].values / sky.sizes["pixel"]
    if "sky_coverage" not in sky:
        words = "The sky does not tell of superpixels that it does not hold."
        return Section("coverage", "Coverage", paragraph(words) + _own_coverage(summary, own))
    coverage, kept = sky["sky_coverage"].values, _kept(sky)
    partly = ~kept & (coverage > 0)
    pictures = [
        picture(
            figures.plot_coverage(_whole_sky(sky), kept, coverage),
            f"Map of the sky: {int(kept.sum()):,} superpixels are kept, {int(partly.sum()):,} are "
            "dropped though valid in part.",
            "Superpixels that are kept, and those dropped because too few of their pixels are "
            "valid.",
        )
    ]
    rows = [
        [
            name,
            f"{int(where.sum()):,}",
            number(100 * float(where.mean()), 2),
            _mean(coverage, where),
        ]
        for name, where in (
            ("kept", kept),
            ("dropped, valid in part", partly),
            ("without valid pixels", ~kept & ~partly),
        )
    ]
    body = table(
        "Superpixels of the whole sky; valid: mean part of their pixels, before thinning.",
        ["superpixels", "number", "% of the sky", "valid [%]"],
        rows,
        left=["superpixels"],
    )
    return Section("coverage", "Coverage", body + gallery(pictures))


def _own_coverage(summary: xr.Dataset, coverage: np.ndarray) -> str:
    words = f"{_percent(float(coverage.mean()))} of the pixels are valid."
    if not np.ptp(coverage):
        return paragraph(words)
    map_of_coverage = picture(
        plot_map(summary, 100 * coverage, "valid pixels [%]", logarithmic=False),
        f"Map of the part of pixels that is valid, at least {_percent(coverage.min())}.",
        "Part of the pixels of each superpixel that is valid; grey where the sky has none.",
    )
    return paragraph(words) + gallery([map_of_coverage])


def _masked(sky: xr.Dataset, summary: xr.Dataset) -> Section:
    title = "What was masked, and why"
    n_pixel = sky.sizes["superpixel"] * sky.sizes["pixel"]
    if "masked" not in sky:
        masked = n_pixel - int(summary["n_valid"].sum())
        words = (
            f"{masked:,} of {n_pixel:,} pixels are masked; the sky does not tell why, as one that "
            "pymcdust prepare makes does."
        )
        return Section("masked", title, paragraph(words))
    count = sky["masked"].sum("superpixel")
    dropped = {}
    if "sky_reason" in sky:
        reason = sky["sky_reason"].values[~_kept(sky)]
        dropped = {mask: int((reason == mask.value).sum()) for mask in Mask}
    rows = []
    for mask in Mask:
        n = int(count.sel(reason=mask.name.lower()))
        others = f"{dropped[mask]:,}" if dropped and mask is not Mask.THINNED else "–"
        rows.append([figures.MASK_WORDS[mask], f"{n:,}", number(100 * n / n_pixel, 2), others])
    body = table(
        f"Pixels masked in the superpixels that are kept, of {n_pixel:,}, and how many of the "
        "superpixels that are not kept lose most of their pixels for this reason. A pixel may be "
        "masked for several reasons.",
        ["reason", "pixels", "%", "superpixels not kept"],
        rows,
        text=["reason"],
    )
    if "sky_reason" in sky:
        map_of_reasons = picture(
            figures.plot_reasons(_whole_sky(sky), sky["sky_reason"].values, _kept(sky)),
            "Map of the reason that masks most pixels of each superpixel of the sky.",
            "The reason that masks most pixels of each superpixel, pale where it is kept all the "
            "same.",
        )
        body += gallery([map_of_reasons])
    return Section("masked", title, body)


def _beam(sky: xr.Dataset) -> Section:
    words = [_beam_words(sky)]
    per_beam = pixels_in_beam(sky)
    if per_beam is not None:
        words.append(f"A beam holds {significant(per_beam)} pixels of Nside {sky.attrs['nside']}.")
        if is_thinned(sky):
            words.append("One pixel of each beam was kept: pixels are nearly independent.")
        elif per_beam > 1:
            words.append(
                "Neighbouring pixels are correlated: fits, posteriors and evidences that take "
                "pixels for independent are too sure of themselves."
            )
    return Section("beam", "Beam", paragraph(" ".join(words)))


def _provenance(sky: xr.Dataset) -> Section:
    body = ""
    attrs = dict(sky.attrs)
    files = from_json(attrs.get("files"))
    if isinstance(files, Mapping) and all(isinstance(file, Mapping) for file in files.values()):
        del attrs["files"]
        rows = [
            [str(key), str(file.get("name", "–")), str(file.get("sha256", "–"))]
            for key, file in files.items()
        ]
        body += table("Files.", ["what", "file", "SHA-256"], rows, left=["what", "file", "SHA-256"])
    settings = from_json(attrs.get("configuration"))
    if isinstance(settings, Mapping):
        del attrs["configuration"]
        body += table(
            "Configuration.",
            ["setting", "value"],
            unfold(settings),
            text=["value"],
            left=["setting"],
        )
    body += table(
        "What else the sky tells.",
        ["what", "value"],
        attribute_rows(attrs),
        text=["value"],
        left=["what"],
    )
    return Section("provenance", "Provenance", body)


def _beam_words(sky: xr.Dataset) -> str:
    beam = sky.attrs.get("beam")
    if beam == "matched":
        return "All maps had one beam already, and were not smoothed."
    if isinstance(beam, int | float):
        return f"All maps have a beam of {beam:g}′ (FWHM)."
    return "The sky does not tell its beam."


def _kept(sky: xr.Dataset) -> np.ndarray:
    """Tell which superpixels of the whole sky are in this one, (sky_superpixel,) array of bool."""
    kept = np.zeros(sky.sizes["sky_superpixel"], dtype=bool)
    kept[sky["superpixel"].values] = True
    return kept


def _whole_sky(sky: xr.Dataset) -> SkyImage:
    every = np.arange(sky.sizes["sky_superpixel"])
    return SkyImage(Mollweide(), every, int(sky.attrs["superpixel_nside"]))


def _mean(coverage: np.ndarray, where: np.ndarray) -> str:
    return number(100 * float(coverage[where].mean()), 1) if where.any() else "–"


def _percent(part: float) -> str:
    """Write a part so that little is not taken for nothing, nor nearly all for all."""
    percent = 100 * part
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.99 < percent < 100:
        return "> 99.99 %"
    return f"{number(percent, 2 if percent < 1 or 99 < percent < 100 else 1)} %"


def _area(degrees: float) -> str:
    return f"{degrees:,.0f} deg²" if degrees >= 10 else f"{significant(degrees)} deg²"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
