"""The command that renders dust in three dimensions: a picture, or a film."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from pymcdust.commands.options import FitPath, Overwrite, SkyPath
from pymcdust.errors import ConfigurationError
from pymcdust.terminal import console, made, working


def render(
    fit: FitPath,
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="a picture (PNG) or a film (MP4, GIF)")],
    camera: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y Z", help="place of a picture's camera in pc, the Sun at 0 0 0; 0 25 0"
        ),
    ] = None,
    look: Annotated[
        tuple[float, float],
        typer.Option(metavar="L B", help="where it looks, Galactic, degrees; north is up"),
    ] = (180.0, 0.0),
    fov: Annotated[float, typer.Option(metavar="DEG", help="field: width of the picture")] = 90.0,
    size: Annotated[
        tuple[int, int], typer.Option(metavar="W H", help="size of the picture in points")
    ] = (1280, 720),
    frames: Annotated[
        int, typer.Option(help="pictures of a film, one loop around the Sun at 25 a second")
    ] = 200,
    radius: Annotated[float, typer.Option(metavar="PC", help="radius of that loop")] = 25.0,
    exposure: Annotated[
        float | None,
        typer.Option(help="light that is as bright as can be; found from the first picture"),
    ] = None,
    saturation: Annotated[
        float, typer.Option(help="exponent of the saturation; smaller shows small differences")
    ] = 0.25,
    brightness: Annotated[
        float,
        typer.Option(help="exponent of the brightness; 1 is the paper's", show_default="1/2.2"),
    ] = 1 / 2.2,
    nside: Annotated[
        int | None, typer.Option(help="Nside of the reddening, up to the sky's; the superpixels'")
    ] = None,
    smooth: Annotated[
        int, typer.Option(help="parts of each side of a voxel to interpolate: 1, 2, 4 or 8")
    ] = 1,
    posterior: Annotated[
        Path | None, typer.Option(help="a posterior (Zarr), whose --draw gives the temperatures")
    ] = None,
    draw: Annotated[int | None, typer.Option(help="number of a draw of the posterior")] = None,
    legend: Annotated[bool, typer.Option(help="write the legend on the picture")] = True,
    overwrite: Overwrite = False,
) -> None:
    """Render dust as a camera among it would see it: brightness is dust, colour its temperature."""
    from pymcdust import open_posterior, open_sky
    from pymcdust.products.film import check_file, take_pictures, write_film, write_still
    from pymcdust.products.legend import check_legend
    from pymcdust.products.render import Camera, check_settings, loop_camera
    from pymcdust.products.volume import Volume
    from pymcdust.sky.store import open_store

    # What cannot be written in the end is refused before anything is rendered.
    still = check_file(out, overwrite, size=size) == ".png"
    check_settings(exposure, saturation, brightness)
    if still:
        cameras = [Camera(camera or (0.0, radius, 0.0), look, fov, size)]
    elif camera is None:
        cameras = loop_camera(frames, radius, look=look, field=fov, size=size)
    else:
        raise ConfigurationError("a film goes around the Sun: give --radius, and no --camera")
    if legend:
        for one in cameras:
            check_legend(one)
    tree = None if posterior is None else open_posterior(posterior)
    with working("making the volume"):
        volume = Volume.from_fit(
            open_store(fit), open_sky(sky), tree, draw=draw, nside=nside, smooth=smooth
        )
    pictures = take_pictures(volume, cameras, exposure, saturation, brightness, legend)
    pictures = track(pictures, "rendering", total=len(cameras), console=console)
    if still:
        (picture,) = pictures
        write_still(out, picture, overwrite)
    else:
        write_film(out, pictures, overwrite=overwrite)
    what = "The picture" if still else f"A film of {len(cameras)} pictures"
    made(what, out, "another exposure, place or direction: pymcdust render --help")
