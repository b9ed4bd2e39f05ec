"""Commands that infer: the models, their fit, their posterior."""

from pathlib import Path
from typing import Annotated

import typer
import xarray as xr
from rich.table import Table

from pymcdust.commands.options import (
    ModelName,
    Overwrite,
    Seed,
    SettingOption,
    SkyPath,
    read_setting,
)
from pymcdust.products.reliability import flag_bits
from pymcdust.terminal import console, made, progress_bar, table


def models(
    name: Annotated[str | None, typer.Argument(help="one model of the gallery, or a file")] = None,
    voxels: Annotated[int, typer.Option(help="voxels of a sightline, to count parameters")] = 9,
) -> None:
    """Show the gallery: parameter, tying, prior, unit, and how many are free."""
    from pymcdust.modeling.gallery import available, resolve

    for model in map(resolve, [name] if name else available()):
        shared = " and some over the sky" if model.couples_superpixels else ""
        summary = (type(model).__doc__ or "").strip().splitlines()[0]
        shown = Table(title=f"{model.name}: {summary}", title_justify="left", title_style="bold")
        for column in ("parameter", "tying", "prior", "unit"):
            shown.add_column(column)
        for row in model.describe():
            shown.add_row(*row.values())
        console.print(shown)
        console.print(
            f"{model.n_free(voxels)} free parameters per superpixel of {voxels} voxels{shared}\n"
        )


def fit(
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="where the fit goes (Zarr)")],
    model: ModelName = "temperature_per_voxel",
    starts: Annotated[int, typer.Option(help="starting points per superpixel")] = 1,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Find the MAP of every superpixel, with errors. A fit that was stopped goes on."""
    from pymcdust import fit_map

    with progress_bar("fitting") as advance:
        result = fit_map(
            model, sky, out=out, starts=starts, seed=seed, overwrite=overwrite, progress=advance
        )
    console.print(table(flag_counts(result)))
    made("The fit", out, f"pymcdust plot {out} {sky} --out figures")


def sample(
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="where the posterior goes (Zarr)")],
    model: ModelName = "temperature_per_voxel",
    method: Annotated[
        str,
        typer.Option(
            help="laplace (the preview), nuts, auto (the one where it will do, else the other), "
            "ptemcee (the paper's), or smc"
        ),
    ] = "auto",
    superpixel: Annotated[
        list[int] | None, typer.Option(help="NESTED index, once for each; by default all")
    ] = None,
    setting: SettingOption = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw from the posterior of every superpixel. A run that was stopped goes on."""
    from pymcdust import sample

    settings = dict(map(read_setting, setting or []))
    with progress_bar("sampling", rhat=True) as advance:
        sample(
            model,
            sky,
            method=method,
            superpixel=superpixel,
            out=out,
            seed=seed,
            overwrite=overwrite,
            progress=advance,
            **settings,
        )
    made("The posterior", out, f"pymcdust report {out} --out report.html")


def flag_counts(fit: xr.Dataset) -> dict[str, list[str]]:
    """Count the superpixels that converged, and those with each flag."""
    flag = fit["flag"]
    counts = {"all": fit.sizes["superpixel"], "converged": int(fit["converged"].sum())}
    for name, mask in flag_bits(fit).items():
        counts[name.replace("_", " ")] = int(((flag & mask) > 0).sum())
    return {"superpixels": list(counts), "number": [f"{n:,}" for n in counts.values()]}
