"""Commands that make a sky."""

from pathlib import Path
from typing import Annotated

import typer

from pymcdust.commands.options import ModelName, Overwrite, Seed
from pymcdust.terminal import made, say, working


def simulate(
    out: Annotated[Path, typer.Option(help="where the sky goes (Zarr)")],
    model: ModelName = "temperature_per_voxel",
    nside: Annotated[int, typer.Option(help="Nside of the pixels")] = 256,
    superpixel_nside: Annotated[int, typer.Option(help="Nside of the superpixels")] = 8,
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
    geometry = {"nside": nside, "superpixel_nside": superpixel_nside}
    given = {"center": center, "radius": radius, "distance_edge": edge}
    geometry |= {name: value for name, value in given.items() if value is not None}
    if reddening is not None:
        geometry = {"reddening": open_sky(reddening)}
    with working("simulating"):
        sky = simulate_sky(model, **geometry, noise=noise, seed=seed)
        save_sky(sky, out, overwrite=overwrite)
    made("The sky", out, f"pymcdust fit {out} --out fit.zarr")


def prepare(
    config: Annotated[Path, typer.Argument(metavar="SKY.TOML", help="what to read, see the docs")],
    out: Annotated[Path, typer.Option(help="where the sky goes (Zarr)")],
    overwrite: Overwrite = False,
) -> None:
    """Make a sky from a reddening map and five emission maps. A run that was stopped goes on."""
    from pymcdust import prepare_sky

    sky = prepare_sky(config, out, overwrite=overwrite, progress=say)
    dropped = sky.attrs["superpixels_dropped"] - sky.attrs["superpixels_outside"]
    say(
        f"{sky.attrs['superpixels_kept']} superpixels; left out: {dropped} too poorly covered, "
        f"{sky.attrs['superpixels_outside']} outside the maps"
    )
    made("The sky", out, f"pymcdust fit {out} --out fit.zarr")
