"""The command that writes the explorer's page."""

from pathlib import Path
from typing import Annotated

import typer

from pymcdust.commands.options import FitPath, Overwrite, SkyPath
from pymcdust.terminal import made, working


def explore(
    fit: FitPath,
    sky: SkyPath,
    out: Annotated[Path, typer.Option(help="where the page goes (.html)")] = Path("explore.html"),
    posterior: Annotated[
        Path | None, typer.Option(help="a posterior (Zarr), to be shown beside the fit")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a page to explore a fit in a browser: map, sightlines, spectra, space; no network."""
    from pymcdust import open_posterior, open_sky
    from pymcdust.products.explorer import explore
    from pymcdust.sky.store import open_store

    tree = None if posterior is None else open_posterior(posterior)
    with working("writing the page"):
        explore(open_store(fit), open_sky(sky), out, tree, overwrite)
    made("The page", out, "open it in a browser")
