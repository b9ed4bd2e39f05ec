"""Commands that make what people take away: maps, and the demonstration."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pymcdust.commands.options import FitPath, Overwrite, Seed, SkyPath
from pymcdust.errors import ConfigurationError, listing
from pymcdust.terminal import console, made, say, table, working


class ExportFormat(StrEnum):
    """Formats for other software."""

    FITS = "fits"
    ZARR = "zarr"
    MOC = "moc"


class MapCoverage(StrEnum):
    """Which pixels a FITS map lists."""

    FULL = "full"
    PARTIAL = "partial"


def demo(
    out: Annotated[Path, typer.Option(help="folder for figures and maps")] = Path("demo"),
    seed: Seed = 8,
) -> None:
    """Simulate two clouds behind each other and a small sky, fit both, show truth and estimate."""
    from pymcdust.demo import run_demo

    for title, columns in run_demo(out, seed=seed, say=say).items():
        console.print(table(columns, title))
    made("Figures and maps", out, "look at figures/truth.png first")


def export(
    fit: FitPath,
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="folder for the files")],
    format: Annotated[
        list[ExportFormat] | None,
        typer.Option(
            help="fits, unless given: HEALPix maps; zarr: the same, as xdggs reads them; moc: "
            "where they are valid. May be repeated.",
        ),
    ] = None,
    coverage: Annotated[
        MapCoverage | None,
        typer.Option(help="pixels of FITS maps: of the full sky (default), or those fitted"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write maps for other software: parameters, errors, flags; emission and its residuals."""
    from pymcdust import open_sky
    from pymcdust.products.coverage import FILES, export_mocs, load_mocpy
    from pymcdust.products.healpix_zarr import STORES, export_zarr
    from pymcdust.products.maps import export_maps, map_names
    from pymcdust.products.staging import check_names
    from pymcdust.sky.store import open_store

    formats = dict.fromkeys(format or [ExportFormat.FITS])
    if coverage is not None and ExportFormat.FITS not in formats:
        raise ConfigurationError(
            f"--coverage is of FITS maps, but --format is {listing(formats)}; leave it out, or add "
            "--format fits"
        )
    exports = {
        ExportFormat.FITS: partial(export_maps, coverage=coverage or MapCoverage.FULL),
        ExportFormat.ZARR: export_zarr,
        ExportFormat.MOC: export_mocs,
    }
    opening = {
        ExportFormat.FITS: "healpy.read_map(..., nest=True)",
        ExportFormat.ZARR: "xarray.open_zarr(...).pipe(xdggs.decode)",
        ExportFormat.MOC: "mocpy.MOC.load(...)",
    }
    fitted, observed = open_store(fit), open_sky(sky)
    names = {
        ExportFormat.FITS: map_names(observed),
        ExportFormat.ZARR: STORES,
        ExportFormat.MOC: FILES,
    }
    # All or nothing: what would stop a later format stops the first.
    check_names(out, [name for chosen in formats for name in names[chosen]], overwrite)
    if ExportFormat.MOC in formats:
        load_mocpy()
    for chosen in formats:
        with working(f"writing {chosen}"):
            paths = exports[chosen](fitted, observed, out, overwrite=overwrite)
        made(f"{len(paths)} files ({chosen})", out, f"each opens with {opening[chosen]}")
