"""The report of a sky, a posterior or a comparison: one page that needs nothing but itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib import style

from pymcdust.errors import ConfigurationError, FileFormatError, ResultError
from pymcdust.infer.posterior import open_posterior
from pymcdust.judge.convergence import diagnose
from pymcdust.judge.figures import STYLE
from pymcdust.judge.kinds import kind_of
from pymcdust.judge.posterior import check_posterior
from pymcdust.judge.report_closeup import closeup
from pymcdust.judge.report_comparison import comparison_page
from pymcdust.judge.report_page import Section, page
from pymcdust.judge.report_preparation import sky_page
from pymcdust.judge.report_sections import (
    failures,
    lead,
    provenance,
    thresholds,
    title,
    what_to_do,
)
from pymcdust.judge.report_sky import over_the_sky, tempering
from pymcdust.judge.report_subject import Subject
from pymcdust.products.staging import staged
from pymcdust.sky.dataset import open_sky, validate_sky
from pymcdust.sky.store import open_tree

#: The sections of a convergence report; those that do not apply return None.
SECTIONS: tuple[Callable[[Subject], Section | None], ...] = (
    what_to_do,
    over_the_sky,
    failures,
    closeup,
    tempering,
    provenance,
    thresholds,
)


_REPORTED = (
    "there are reports of skies (`pymcdust prepare`), posteriors (`pymcdust sample`) and "
    "comparisons (`pymcdust compare`)"
)


def report(
    result: xr.DataTree | xr.Dataset | str | Path,
    out: str | Path,
    *,
    summary: xr.Dataset | None = None,
    diagnosis: xr.Dataset | None = None,
    superpixel: int | None = None,
    reference: str | None = None,
    more: Sequence[Section] = (),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a report: one HTML file, which loads nothing.

    Of a sky it tells what was masked and why, and whether its maps can be right; of a posterior,
    how far the draws can be trusted; of a comparison, which variant the sky prefers.

    Parameters
    ----------
    result : DataTree, Dataset or path
        A sky, prepared or simulated; a posterior, whichever method drew it; or what `compare`
        returned; or the Zarr store of one of them. Variables may be lazy.
    out : path
        The file, such as ``report.html``. It appears when it is whole.
    summary : Dataset, optional
        What `pymcdust.sky.quality.summarise_sky` returned for the sky, if that has been done
        already.
    diagnosis : Dataset, optional
        What `diagnose` returned for the posterior, if that has been done already.
    superpixel : int, optional
        NESTED index of the superpixel to look at closely, by default that of the worst; of a
        posterior.
    reference : str, optional
        Name of the variant that others are compared with, by default the first; of a comparison.
    more : sequence of Section
        Further sections of the report of a posterior, which come before its model and provenance.
    overwrite : bool
        Replace a file that is already there.
    progress : callable, optional
        Called with the number of superpixels looked at, and of all; of a sky or a posterior.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ResultError
        If this is neither a sky, a posterior nor a comparison, a posterior without draws, or one
        without the superpixel; or if a comparison has no such variant.
    ConfigurationError
        If `out` exists and may not be replaced, or is a folder; or if an argument belongs to
        another kind of report.
    SkyError
        If a sky does not keep the sky contract.
    FileFormatError
        If a path was given, and there is no whole result.
    """
    out = Path(out)
    if isinstance(result, str | Path):
        result = _opened(result)
    elif not isinstance(result, xr.DataTree | xr.Dataset):
        raise ResultError(f"there is no report of a {type(result).__name__}; {_REPORTED}")
    kind = kind_of(result)
    if kind == "sky":
        validate_sky(result)
    elif kind == "posterior":
        check_posterior(result)
    elif kind != "comparison":
        raise ResultError(f"there is no report of a {kind}; {_REPORTED}")
    _check_arguments(
        kind,
        sky={"summary": summary},
        posterior={"superpixel": superpixel, "diagnosis": diagnosis, "more": more or None},
        comparison={"reference": reference},
    )
    if out.is_dir():
        raise ConfigurationError(
            f"{out} is a folder; give the name of a file, such as {out / 'report.html'}"
        )
    with staged(out.parent, [out.name], overwrite) as unfinished:
        # The figures look the same whatever the reader has set for their own.
        with style.context(["default", STYLE]):
            if kind == "sky":
                text = sky_page(result, progress, summary)
            elif kind == "comparison":
                text = comparison_page(result, reference)
            else:
                if diagnosis is None:
                    diagnosis = diagnose(result, progress=progress)
                text = _posterior_page(Subject(result, diagnosis, superpixel), more)
        (unfinished / out.name).write_text(text, encoding="utf-8")
    return out


def _posterior_page(subject: Subject, more: Sequence[Section]) -> str:
    """Return the convergence report of a posterior."""
    _check_superpixel(subject)
    sections = [section for make in SECTIONS if (section := make(subject)) is not None]
    place = [section.anchor for section in sections].index("provenance")
    sections[place:place] = more
    version = subject.posterior.attrs.get("pymcdust_version", "")
    footer = f"Written by pymcdust{f'; drawn by its version {version}' if version else ''}."
    return page(title(subject), lead(subject), sections, footer)


def _check_arguments(kind: str, **owned: dict[str, Any]) -> None:
    """Refuse arguments that belong to another kind of report."""
    foreign = [
        name
        for owner, arguments in owned.items()
        for name, value in arguments.items()
        if owner != kind and value is not None
    ]
    if foreign:
        raise ConfigurationError(
            f"{foreign[0]} was given, which means nothing in the report of a {kind}; leave it out"
        )


def _opened(path: str | Path) -> xr.DataTree | xr.Dataset:
    tree = open_tree(path)
    kind = kind_of(tree)
    if kind == "posterior":
        return open_posterior(path)
    if kind == "sky":
        return open_sky(path)
    if kind != "comparison":
        raise FileFormatError(f"{path}: there is no report of a {kind}; {_REPORTED}")
    return tree.to_dataset()


def _check_superpixel(subject: Subject) -> None:
    """Refuse a superpixel that is not there before any figure is drawn."""
    if subject.chosen is not None and "superpixel" not in subject.diagnosis.dims:
        raise ResultError(
            f"superpixel {subject.chosen} cannot be shown: all parameters are those of the sky"
        )
    _ = subject.here
