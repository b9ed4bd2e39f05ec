"""A page of HTML that needs nothing but itself: sections, tables, and figures inside of it."""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

from matplotlib.figure import Figure

#: Resolution of pictures made of points; those made of lines have none.
DOTS_PER_INCH = 190

#: Values of an attribute that are longer are cut [characters].
LONGEST_ATTRIBUTE = 1500

_CSS_PIXELS_PER_INCH = 96


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Parameters
    ----------
    anchor : str
        Its name in links.
    title : str
        Its heading, as plain text.
    body : str
        Its HTML, as the functions of this module make it.
    """

    anchor: str
    title: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        Title, as plain text.
    lead : str
        HTML between the title and the table of contents.
    sections : sequence of Section
        The sections in their order.
    footer : str
        The last line, as plain text.
    """
    css = resources.files("pymcdust.judge").joinpath("report.css").read_text()
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    bodies = "\n".join(
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title">\n'
        f'<h2 id="{s.anchor}-title">{escape(s.title)}</h2>\n{s.body}\n</section>'
        for s in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{lead}
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{bodies}
</main>
<footer>{escape(footer)}</footer>
</body>
</html>
"""


def paragraph(text: str) -> str:
    """Return plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def numbers(values: Mapping[str, str]) -> str:
    """Return a few numbers with their names, as large as they are important."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in values.items()
    )
    return f'<dl class="numbers">{items}</dl>'


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text: Sequence[str] = (),
    left: Sequence[str] = (),
    bad: Sequence[bool] | None = None,
) -> str:
    """Return a table in a box of its own, which scrolls where the page is too narrow.

    Parameters
    ----------
    caption : str
        What it shows.
    columns : sequence of str
        Heads of the columns.
    rows : iterable of sequences of str
        The cells; the first of each row is its head.
    text : sequence of str
        Columns whose long text is broken into lines.
    left : sequence of str
        Further columns that are no numbers.
    bad : sequence of bool, optional
        Rows to mark.
    """
    kinds = ["text" if c in text else "" if c in left else "number" for c in columns]
    kinds = [f' class="{kind}"' if kind else "" for kind in kinds]
    heads = "".join(
        f'<th scope="col"{kind}>{escape(c)}</th>' for c, kind in zip(columns, kinds, strict=True)
    )
    body = []
    for index, row in enumerate(rows):
        first, *rest = (f"{kind}>{escape(cell)}" for kind, cell in zip(kinds, row, strict=True))
        mark = ' class="bad"' if bad is not None and bad[index] else ""
        cells = "".join(f"<td{cell}</td>" for cell in rest)
        body.append(f'<tr{mark}><th scope="row"{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><caption><span>{escape(caption)}</span></caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def picture(
    figure: Figure, alt: str, caption: str, *, lines: bool = False, wide: bool = False
) -> str:
    """Return a figure with its caption; the picture is part of the page.

    Parameters
    ----------
    figure : Figure
        What to show.
    alt : str
        What can be seen, for those who cannot.
    caption : str
        What to look for.
    lines : bool
        Keep its lines as such (SVG): sharper in print, and smaller if they are few.
    wide : bool
        Give it a row of its own.
    """
    file = io.BytesIO()
    if lines:
        figure.savefig(file, format="svg", metadata={"Date": None})
        kind = "svg+xml"
    else:
        figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
        kind = "png"
    mark = ' class="wide"' if wide else ""
    data = base64.b64encode(file.getvalue()).decode("ascii")
    width, height = (round(inches * _CSS_PIXELS_PER_INCH) for inches in figure.get_size_inches())
    return (
        f"<figure{mark}>"
        f'<img src="data:image/{kind};base64,{data}" alt="{escape(alt)}" '
        f'width="{width}" height="{height}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def gallery(pictures: Iterable[str]) -> str:
    """Return pictures side by side where there is room, else below each other."""
    return f'<div class="figures">{"".join(pictures)}</div>'


def attribute_rows(attrs: Mapping[str, Any]) -> list[list[str]]:
    """Return attributes as rows of a table: names, and values of which JSON is unfolded.

    Parameters
    ----------
    attrs : mapping
        Attributes of a result.

    Returns
    -------
    list of [name, value]
        As plain text; values longer than `LONGEST_ATTRIBUTE` are cut.

    Examples
    --------
    >>> attribute_rows({"superpixel_nside": 4, "versions": '{"numpy": "2.0", "zarr": "3.1"}'})
    [['superpixel nside', '4'], ['versions', 'numpy = 2.0, zarr = 3.1']]
    """
    rows = []
    for name, value in attrs.items():
        told = from_json(value)
        if isinstance(told, Mapping):
            text = _cut(", ".join(f"{key} = {one}" for key, one in unfold(told)))
        else:
            text = _cut(str(value))
        rows.append([str(name).replace("_", " "), text])
    return rows


def from_json(value: Any) -> Any:
    """Return what JSON says; what is no JSON as it is.

    Examples
    --------
    >>> from_json('{"a": 1}'), from_json("{not JSON"), from_json(2.5)
    ({'a': 1}, '{not JSON', 2.5)
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def unfold(value: Any, name: str = "") -> list[tuple[str, str]]:
    """List settings that lie inside of each other.

    Examples
    --------
    >>> unfold({"grid": {"nside": 64}, "noise": 0.5})
    [('grid.nside', '64'), ('noise', '0.5')]
    """
    if not isinstance(value, Mapping):
        return [(name, _cut(str(value)))]
    return [
        pair
        for key, inside in value.items()
        for pair in unfold(inside, f"{name}.{key}" if name else str(key))
    ]


def _cut(text: str) -> str:
    if len(text) <= LONGEST_ATTRIBUTE:
        return text
    return f"{text[:LONGEST_ATTRIBUTE]} … ({len(text):,} characters)"
