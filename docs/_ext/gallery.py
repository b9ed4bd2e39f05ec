"""The directive ``gallery``: a section for each model, made from the model itself."""

import ast
import inspect

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pymcdust import models


def declaration(model: type) -> str:
    """Return the source of a model without its docstring."""
    source = inspect.getsource(model)
    docstring = ast.parse(source).body[0].body[0]
    lines = source.splitlines()
    head, body = lines[: docstring.lineno - 1], lines[docstring.end_lineno :]
    return "\n".join([*head, *body[body[:1] == [""] :]])


def section(name: str) -> str:
    """Write the section of one model in MyST: docstring, table of declarations, source."""
    model = models.load(name)
    rows = [
        f"| {row['parameter']} | {row['tying']} | `{row['prior']}` | {row['unit']} |"
        for row in model().describe()
    ]
    return "\n".join(
        [
            f"## {name}",
            "```{eval-rst}",
            inspect.getdoc(model) or "",
            "```",
            "",
            "| parameter | tying | prior | unit |",
            "|---|---|---|---|",
            *rows,
            "",
            "```python",
            declaration(model),
            "```",
        ]
    )


class Gallery(SphinxDirective):
    """Insert every model of the gallery, in the gallery's order."""

    def run(self) -> list[nodes.Node]:
        for name in models.available():
            self.env.note_dependency(inspect.getfile(models.load(name)))
        text = "\n\n".join(section(name) for name in models.available())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True}
