"""The convergence report of a posterior: one page of HTML that needs nothing but itself."""

from collections.abc import Callable, Sequence
from pathlib import Path

import xarray as xr
from matplotlib import style

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.infer.posterior import open_posterior
from pymcdust.judge.convergence import diagnose
from pymcdust.judge.figures import STYLE
from pymcdust.judge.posterior import check_posterior
from pymcdust.judge.report_closeup import closeup
from pymcdust.judge.report_page import Section, page
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


def report(
    posterior: xr.DataTree | str | Path,
    out: str | Path,
    *,
    diagnosis: xr.Dataset | None = None,
    superpixel: int | None = None,
    more: Sequence[Section] = (),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the convergence report of a posterior: one HTML file, which loads nothing.

    Parameters
    ----------
    posterior : DataTree or path
        A posterior or its Zarr store, whichever method drew it; variables may be lazy.
    out : path
        The file, such as ``report.html``. It appears when it is whole.
    diagnosis : Dataset, optional
        What `diagnose` returned for the posterior, if that has been done already.
    superpixel : int, optional
        NESTED index of the superpixel to look at closely, by default that of the worst.
    more : sequence of Section
        Further sections, which come before the model and the provenance.
    overwrite : bool
        Replace a file that is already there.
    progress : callable, optional
        Called with the number of superpixels diagnosed, and of all.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ResultError
        If this is no posterior, one without draws, or one without the superpixel.
    ConfigurationError
        If `out` exists and may not be replaced, or is a folder.
    FileFormatError
        If a path was given, and there is no whole posterior.
    """
    out = Path(out)
    if isinstance(posterior, str | Path):
        posterior = open_posterior(posterior)
    check_posterior(posterior)
    if out.is_dir():
        raise ConfigurationError(
            f"{out} is a folder; give the name of a file, such as {out / 'report.html'}"
        )
    with staged(out.parent, [out.name], overwrite) as unfinished:
        if diagnosis is None:
            diagnosis = diagnose(posterior, progress=progress)
        subject = Subject(posterior, diagnosis, superpixel)
        _check_superpixel(subject)
        # The figures look the same whatever the reader has set for their own.
        with style.context(["default", STYLE]):
            sections = [section for make in SECTIONS if (section := make(subject)) is not None]
        place = [section.anchor for section in sections].index("provenance")
        sections[place:place] = more
        version = posterior.attrs.get("pymcdust_version", "")
        footer = f"Written by pymcdust{f'; drawn by its version {version}' if version else ''}."
        text = page(title(subject), lead(subject), sections, footer)
        (unfinished / out.name).write_text(text, encoding="utf-8")
    return out


def _check_superpixel(subject: Subject) -> None:
    """Refuse a superpixel that is not there before any figure is drawn."""
    if subject.chosen is not None and "superpixel" not in subject.diagnosis.dims:
        raise ResultError(
            f"superpixel {subject.chosen} cannot be shown: all parameters are those of the sky"
        )
    _ = subject.here
