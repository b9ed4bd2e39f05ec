"""Commands that make what people take away: maps, figures, the demonstration."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pymcdust.commands.options import FitPath, Overwrite, Seed, SkyPath
from pymcdust.terminal import console, made, say, table, working


class FigureFormat(StrEnum):
    """Formats that figures can be written in."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


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
    out: Annotated[Path, typer.Option(help="folder for the FITS files")],
    overwrite: Overwrite = False,
) -> None:
    """Write HEALPix FITS maps: parameters, errors, flags; emission observed and reconstructed."""
    from pymcdust import open_sky
    from pymcdust.products.maps import export_maps
    from pymcdust.sky.store import open_store

    with working("writing maps"):
        paths = export_maps(open_store(fit), open_sky(sky), out, overwrite=overwrite)
    made(f"{len(paths)} maps", out, "each opens with healpy.read_map(..., nest=True)")


def plot(
    fit: FitPath,
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="folder for the figures")],
    format: Annotated[FigureFormat, typer.Option(help="format of the figures")] = FigureFormat.PNG,
) -> None:
    """Draw reddening, temperature, rho, beta, and how well the emission is reconstructed."""
    from pymcdust import open_sky
    from pymcdust.products.plots import save_plots
    from pymcdust.sky.store import open_store

    with working("drawing"):
        paths = save_plots(open_store(fit), open_sky(sky), out, [str(format)])
    made(f"{len(paths)} figures", out, ", ".join(path.name for path in paths))
