"""Commands that draw figures: ``pymcdust plot``, all of them or one."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pymcdust.commands.options import FitPath, SkyPath
from pymcdust.terminal import made, working

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FigureFormat(StrEnum):
    """Formats that figures can be written in."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


class _AllByDefault(TyperGroup):
    """A group whose command ``all`` need not be named: ``plot FIT SKY`` is ``plot all FIT SKY``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the command where none is named."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["all", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_AllByDefault,
    no_args_is_help=True,
    help="Draw figures: pymcdust plot FIT SKY --out FOLDER makes all, a command one of them.",
)

Out = Annotated[
    Path, typer.Option(help="the file; its ending tells the format, such as .pdf, .svg, .png")
]
Center = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="L B", help="centre of a zoom: Galactic longitude and latitude [deg]"),
]
Radius = Annotated[float | None, typer.Option(help="half width of the zoom [deg]")]
VoxelNumbers = Annotated[
    list[int] | None,
    typer.Option("--voxel", help="a voxel to draw, 1 the nearest, else all; once for each"),
]
Superpixel = Annotated[
    int | None, typer.Option(help="NESTED index; needed where there are several")
]


@app.command(name="all")
def plot_all(
    fit: FitPath,
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="folder for the figures")],
    format: Annotated[FigureFormat, typer.Option(help="format of the figures")] = FigureFormat.PNG,
    center: Center = None,
    radius: Radius = None,
    voxel: VoxelNumbers = None,
) -> None:
    """Draw all maps: reddening, temperature, rho, beta, and how the emission is reconstructed."""
    from pymcdust import open_sky
    from pymcdust.products.plots import save_plots
    from pymcdust.sky.store import open_store

    view = {"center": center, "radius": radius, "voxels": voxel or None}
    with working("drawing"):
        paths = save_plots(open_store(fit), open_sky(sky), out, [str(format)], **view)
    made(f"{len(paths)} figures", out, ", ".join(path.name for path in paths))


@app.command()
def reddening(
    sky: SkyPath,
    out: Out,
    center: Center = None,
    radius: Radius = None,
    voxel: VoxelNumbers = None,
) -> None:
    """Draw the reddening in each distance voxel (Fig. 1 of Zelko et al. 2022)."""
    from pymcdust import open_sky
    from pymcdust.products.plots import plot_reddening

    _save(
        out,
        lambda: plot_reddening(open_sky(sky), center=center, radius=radius, voxels=voxel or None),
    )


@app.command()
def emission(
    fit: FitPath, sky: SkyPath, out: Out, center: Center = None, radius: Radius = None
) -> None:
    """Draw the emission observed, reconstructed and left over, and chi2 (Figs. 2 and 6)."""
    from pymcdust import open_sky
    from pymcdust.products.plots import plot_emission
    from pymcdust.sky.store import open_store

    _save(out, lambda: plot_emission(open_store(fit), open_sky(sky), center=center, radius=radius))


@app.command()
def residual(
    fit: FitPath, sky: SkyPath, out: Out, center: Center = None, radius: Radius = None
) -> None:
    """Draw what is left of the emission in units of the noise, and chi2."""
    from pymcdust import open_sky
    from pymcdust.products.plots import plot_residual
    from pymcdust.sky.store import open_store

    _save(out, lambda: plot_residual(open_store(fit), open_sky(sky), center=center, radius=radius))


@app.command()
def zoom(
    fit: FitPath,
    sky: SkyPath,
    out: Out,
    center: Center = None,
    radius: Radius = None,
    band: Annotated[str, typer.Option(help="the band, by its frequency [GHz]")] = "545",
) -> None:
    """Draw one band as observed and as reconstructed, and the difference (Figs. 4 and 5)."""
    from pymcdust import open_sky
    from pymcdust.products.plots import plot_zoom
    from pymcdust.sky.store import open_store

    _save(
        out,
        lambda: plot_zoom(open_store(fit), open_sky(sky), center=center, radius=radius, band=band),
    )


@app.command()
def parameters(
    fit: FitPath,
    out: Out,
    center: Center = None,
    radius: Radius = None,
    voxel: VoxelNumbers = None,
) -> None:
    """Draw rho and beta (Fig. 8)."""
    from pymcdust.products.plots import plot_parameters
    from pymcdust.sky.store import open_store

    _save(
        out,
        lambda: plot_parameters(
            open_store(fit), center=center, radius=radius, voxels=voxel or None
        ),
    )


@app.command()
def temperature(
    fit: FitPath,
    out: Out,
    center: Center = None,
    radius: Radius = None,
    voxel: VoxelNumbers = None,
) -> None:
    """Draw the temperature in each distance voxel (Fig. 9)."""
    from pymcdust.products.plots import plot_temperature
    from pymcdust.sky.store import open_store

    _save(
        out,
        lambda: plot_temperature(
            open_store(fit), center=center, radius=radius, voxels=voxel or None
        ),
    )


@app.command()
def sightline(
    sky: SkyPath,
    out: Out,
    superpixel: Superpixel = None,
    cloud: Annotated[
        list[float] | None,
        typer.Option(metavar="KPC", help="distance of a cloud to mark [kpc], once for each"),
    ] = None,
    cut: Annotated[
        list[float] | None,
        typer.Option(metavar="KPC", help="edge of a cut to shade [kpc], once for each, from 0 on"),
    ] = None,
) -> None:
    """Draw the reddening along a sightline, with clouds and cuts (Fig. 10)."""
    from pymcdust import open_sky
    from pymcdust.products.sightline import plot_sightline

    clouds = {f"{distance:g} kpc": distance for distance in cloud or ()}
    _save(out, lambda: plot_sightline(open_sky(sky), superpixel, cuts=cut or None, clouds=clouds))


@app.command()
def corner(
    posterior: Annotated[Path, typer.Argument(metavar="POSTERIOR", help="a posterior (Zarr)")],
    out: Out,
    superpixel: Superpixel = None,
    variable: Annotated[
        list[str] | None, typer.Option(help="a parameter to draw, else all; once for each")
    ] = None,
    fit: Annotated[Path | None, typer.Option(help="a fit whose MAP is marked")] = None,
    truth: Annotated[Path | None, typer.Option(help="a simulated sky whose truth is")] = None,
) -> None:
    """Draw the posterior of a superpixel: every parameter, and every pair of them (Fig. 11)."""
    from pymcdust import open_posterior, open_sky
    from pymcdust.products.corner import plot_corner
    from pymcdust.sky.store import open_store

    _save(
        out,
        lambda: plot_corner(
            open_posterior(posterior),
            superpixel,
            variables=variable or None,
            fit=None if fit is None else open_store(fit),
            truth=None if truth is None else open_sky(truth),
        ),
    )


def _save(path: Path, draw: Callable[[], "Figure"]) -> None:
    """Draw a figure and save it, unless the name of its file is of no known format."""
    from pymcdust.products.figure_files import check_formats, save_figure

    check_formats([path.suffix.removeprefix(".")])
    with working("drawing"):
        save_figure(draw(), path)
    made("The figure", path, "look at it, or give --out another ending for another format")
