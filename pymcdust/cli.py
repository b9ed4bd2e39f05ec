"""The command line: its commands in order, and how it fails."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from pymcdust.commands.explore import explore
from pymcdust.commands.inference import fit, models, sample
from pymcdust.commands.judgement import compare, info, report, sensitivity
from pymcdust.commands.plot import app as plot
from pymcdust.commands.products import demo, export
from pymcdust.commands.query import query
from pymcdust.commands.render import render
from pymcdust.commands.sky import download, prepare, simulate
from pymcdust.errors import PymcdustError

app = typer.Typer(
    help="The temperature of interstellar dust in three dimensions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Of rich, "[kpc]" would be markup.
    rich_markup_mode="markdown",
)

#: In the order of the help, which is the order of the work.
COMMANDS = (
    demo,
    simulate,
    prepare,
    download,
    models,
    fit,
    sample,
    compare,
    sensitivity,
    report,
    export,
    query,
    render,
    explore,
    info,
)

for command in COMMANDS:
    app.command()(command)
app.add_typer(plot, name="plot")


def main() -> None:
    """Run the command line; what is wrong is said in one message, with exit status 2."""
    try:
        app()
    except (PymcdustError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
