"""Figures in files: pictures of points, or vector graphics whose text stays text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.products.staging import staged

#: Resolution of pictures, and of the maps inside vector graphics, at most: figures of many panels
#: have less, so that noise, which cannot be compressed, makes no file of more than 2 MB.
DOTS_PER_INCH = 300
MOST_POINTS = 1.1e6

#: White around a figure, about what its own layout leaves there [inch].
MARGIN = 0.04

#: Text stays text; the same figure gives the same bytes.
_VECTOR = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "pymcdust"}
_METADATA = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


def save_figures(
    figures: Mapping[str, Figure], folder: str | Path, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Save figures, in the place of those of an earlier call.

    Parameters
    ----------
    figures : mapping of str to Figure
        Figures by the names of their files, without the format.
    folder : path
        Folder for the figures, made where it is missing.
    formats : sequence of str
        Formats of files, such as ``"png"`` and ``"pdf"``.

    Returns
    -------
    list of Path
        The files written: all, or none.

    Raises
    ------
    ConfigurationError
        If a format is unknown.
    """
    check_formats(formats)
    names = {f"{name}.{suffix}": (name, suffix) for name in figures for suffix in formats}
    folder = Path(folder)
    with staged(folder, list(names), overwrite=True) as unfinished, rc_context(_VECTOR):
        for file_name, (name, suffix) in names.items():
            figures[name].savefig(
                unfinished / file_name,
                dpi=_resolution(figures[name]),
                bbox_inches="tight",
                pad_inches=MARGIN,
                metadata=_METADATA.get(suffix),
            )
    return [folder / name for name in names]


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save a figure in the format that the ending of the file's name tells.

    Parameters
    ----------
    figure : Figure
        The figure.
    path : path
        The file, such as ``temperature.pdf``; replaced where it exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigurationError
        If the ending is missing, or no format of figures.
    """
    path = Path(path)
    return save_figures({path.stem: figure}, path.parent, [path.suffix.removeprefix(".")])[0]


def check_formats(formats: Sequence[str]) -> None:
    """Raise a ConfigurationError if a format of figures is unknown."""
    supported = FigureCanvasBase.get_supported_filetypes()
    for suffix in formats:
        if suffix not in supported:
            raise ConfigurationError(unknown("format of figures", suffix, sorted(supported)))


def _resolution(figure: Figure) -> float:
    """Return the dots per inch of a figure."""
    return min(DOTS_PER_INCH, (MOST_POINTS / np.prod(figure.get_size_inches())) ** 0.5)
