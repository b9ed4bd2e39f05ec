"""What the command line shows: tables, messages and progress bars."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

console = Console()


def table(columns: Mapping[str, Sequence[str]], title: str | None = None) -> Table:
    """Return a table of named columns; all but the first are numbers, to the right."""
    result = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        result.add_column(name, justify="right" if number else "left")
    for row in zip(*columns.values(), strict=True):
        result.add_row(*row)
    return result


def say(text: str) -> None:
    """Say by the way what is going on."""
    console.print(f"[dim]{escape(text)}[/]", soft_wrap=True)


def made(what: str, where: Path, then: str) -> None:
    """Say what was made, where it is, and what to do with it."""
    console.print(
        f"[bold green]{escape(what)}[/] in [bold]{escape(str(where))}[/]; next: {escape(then)}",
        soft_wrap=True,
    )


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show that something is going on whose end is not known."""
    with console.status(what):
        yield


class _Rate(ProgressColumn):
    """Superpixels per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0
        return Text(f"{speed:,.0f} superpixels/s" if speed >= 10 else f"{speed:.2g} superpixels/s")


@contextmanager
def stage_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar for each stage of a task, one after the other."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate()]
    columns += [TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield advance


@contextmanager
def progress_bar(what: str, rhat: bool = False) -> Iterator[Callable[..., None]]:
    """Show how many superpixels are done, how many a second, and how long it will take."""
    columns = [
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    if rhat:
        columns.append(TextColumn("worst R-hat {task.fields[rhat]}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None, rhat="-")

        def advance(done: int, total: int, worst_rhat: float = math.nan) -> None:
            told = "-" if math.isnan(worst_rhat) else f"{worst_rhat:.4f}"
            bar.update(task, completed=done, total=total, rhat=told)

        yield advance
