"""Commands that make a sky."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from pymcdust.commands.options import ModelName, Overwrite, Seed
from pymcdust.errors import ConfigurationError
from pymcdust.sky.archives import GROUPS, PRODUCTS
from pymcdust.sky.download import Transfer, data_folder, plan
from pymcdust.sky.transfer import readable
from pymcdust.terminal import console, made, say, working


def simulate(
    out: Annotated[Path, typer.Option(help="where the sky goes (Zarr)")],
    model: ModelName = "temperature_per_voxel",
    nside: Annotated[int | None, typer.Option(help="Nside of the pixels, by default 256")] = None,
    superpixel_nside: Annotated[
        int | None, typer.Option(help="Nside of the superpixels, by default 8")
    ] = None,
    center: Annotated[
        tuple[float, float] | None, typer.Option(help="centre of a patch: l and b [deg]")
    ] = None,
    radius: Annotated[float | None, typer.Option(help="radius of the patch [deg]")] = None,
    edge: Annotated[
        list[float] | None, typer.Option(help="distance edges [kpc], once for each; the first is 0")
    ] = None,
    reddening: Annotated[
        Path | None, typer.Option(help="take the reddening, real or not, from this sky instead")
    ] = None,
    noise: Annotated[bool, typer.Option(help="add noise")] = True,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a sky whose temperatures a model's prior draws."""
    from pymcdust import open_sky, save_sky, simulate_sky
    from pymcdust.sky.store import check_free

    check_free(out, overwrite)
    with working("simulating"):
        sky = simulate_sky(
            model,
            reddening=None if reddening is None else open_sky(reddening),
            nside=nside,
            superpixel_nside=superpixel_nside,
            center=center,
            radius=radius,
            distance_edge=edge,
            noise=noise,
            seed=seed,
        )
        save_sky(sky, out, overwrite=overwrite)
    made("The sky", out, f"pymcdust fit {out} --out fit.zarr")


def prepare(
    config: Annotated[Path, typer.Argument(metavar="SKY.TOML", help="what to read, see the docs")],
    out: Annotated[Path, typer.Option(help="where the sky goes (Zarr)")],
    overwrite: Overwrite = False,
) -> None:
    """Make a sky from maps, and a report on its quality. A run that was stopped goes on."""
    from pymcdust import prepare_sky, report
    from pymcdust.judge.report_preparation_alarms import alarms
    from pymcdust.sky.quality import summarise_sky

    page = out.with_name(f"{out.name}.html")
    if page.exists() and not overwrite:
        raise ConfigurationError(
            f"{page}, where the report goes, exists already; choose another name or --overwrite"
        )
    sky = prepare_sky(config, out, overwrite=overwrite, progress=say)
    say("writing the report")
    summary = summarise_sky(sky)
    report(sky, page, summary=summary, overwrite=overwrite)
    for alarm in alarms(sky, summary):
        if alarm.bad:
            console.print(f"[bold red]the report warns:[/] {escape(alarm.title)}", soft_wrap=True)
    dropped = sky.attrs["superpixels_dropped"] - sky.attrs["superpixels_outside"]
    say(
        f"{sky.attrs['superpixels_kept']} superpixels; left out: {dropped} too poorly covered, "
        f"{sky.attrs['superpixels_outside']} outside the maps"
    )
    made("The sky", out, f"open {page} in a browser, then pymcdust fit {out} --out fit.zarr")


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="products or groups, such as paper: see --list"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="where files go, else $PYMCDUST_DATA, else the user's cache"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before more than 100 MB")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="touch no network; tell what is missing")
    ] = False,
    show: Annotated[
        bool, typer.Option("--list", help="show what can be downloaded, and what is there")
    ] = False,
) -> None:
    """Fetch the surveys' public files, checked. A download that was stopped goes on."""
    from pymcdust import download

    if not names and not show:
        raise ConfigurationError("name what to download; pymcdust download --list shows it")
    transfers = plan(names or list(PRODUCTS), folder)
    missing = [transfer for transfer in transfers if not transfer.present]
    if show:
        console.print(_files(transfers, about="what it is"))
        for group, members in GROUPS.items():
            say(f"{group}: {', '.join(members)}")
        say(f"folder: {data_folder(folder)}")
    elif offline and missing:
        console.print(_files(missing, about="from"))
        say(f"{len(missing)} of {len(transfers)} files are missing in {data_folder(folder)}")
        raise typer.Exit(2)
    else:
        with _byte_bars() as advance:
            download(names, folder, offline=offline, confirm=yes or _confirm, progress=advance)
        for citation in dict.fromkeys(
            PRODUCTS[transfer.product].citation for transfer in transfers
        ):
            say(f"cite {citation}")
        made(f"{len(transfers)} files", data_folder(folder), "name them in the TOML of prepare")


def _files(transfers: Sequence[Transfer], about: str) -> Table:
    """Return a table of files: how large, whether there, and what they are or come from."""
    shown = Table()
    for column in ("product", "file", "size", "there", about):
        shown.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for transfer in transfers:
        there = "yes" if transfer.present else "in part" if transfer.kept else "no"
        source = transfer.url or str(transfer.file.source)
        last = source if about == "from" else PRODUCTS[transfer.product].title
        shown.add_row(transfer.product, transfer.path.name, transfer.size_text, there, last)
    return shown


def _confirm(missing: Sequence[Transfer]) -> bool:
    """Show what would be downloaded, and ask."""
    console.print(_files(missing, about="from"))
    total = readable(sum(transfer.bytes_left or 0 for transfer in missing))
    unknown = sum(transfer.bytes_left is None for transfer in missing)
    more = f", and {unknown} files of unknown size" if unknown else ""
    return typer.confirm(f"Download {total}{more}?", abort=True)


@contextmanager
def _byte_bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show one bar for each file, from its first bytes on: before them a question may be asked."""
    columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn()]
    columns += [TransferSpeedColumn(), TimeRemainingColumn()]
    bars = Progress(*columns, console=console)
    tasks: dict[str, TaskID] = {}

    def advance(name: str, done: int, total: int | None) -> None:
        bars.start()
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=total)
        bars.update(tasks[name], completed=done, total=total)

    try:
        yield advance
    finally:
        bars.stop()
