"""The command that tells what the dust is like at given places."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from pymcdust.commands.options import FitPath, Overwrite, SkyPath
from pymcdust.errors import ConfigurationError
from pymcdust.terminal import console, made, table

if TYPE_CHECKING:
    from pymcdust.products.query import DustTemperatureQuery


def query(
    fit: FitPath,
    sky: SkyPath,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="L,B", help="Galactic longitude and latitude in degrees"),
    ] = None,
    distance: Annotated[
        list[float] | None,
        typer.Option(metavar="KPC", help="distances; by default all voxels"),
    ] = None,
    quantity: Annotated[
        str, typer.Option(help="temperature, beta, rho, reddening or emission")
    ] = "temperature",
    mode: Annotated[
        str,
        typer.Option(help="map, from the fit; mean, median, std, percentile, of the posterior"),
    ] = "map",
    pct: Annotated[
        list[float] | None, typer.Option(metavar="PERCENT", help="percentiles of that mode")
    ] = None,
    frequency: Annotated[float | None, typer.Option(metavar="GHZ", help="of the emission")] = None,
    cumulative: Annotated[
        bool, typer.Option("--cumulative", help="reddening and emission from the observer on")
    ] = False,
    posterior: Annotated[Path | None, typer.Option(help="a posterior (Zarr)")] = None,
    places: Annotated[
        Path | None,
        typer.Option("--table", help="a table with l, b or ra, dec, and distance if known"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="where the table goes with the answers (ECSV, FITS, VOT)")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Tell temperature, beta, rho, reddening or emission at places, with what to beware of."""
    from pymcdust.products.query import DustTemperatureQuery

    if (places is None) == (not at):
        raise ConfigurationError("give places either by --at L,B or by --table FILE")
    if (places is None) != (out is None):
        raise ConfigurationError("--table FILE and --out FILE belong together")
    if places is not None and distance:
        raise ConfigurationError("distances of a --table are its column 'distance'")
    asked: dict[str, Any] = {"quantity": quantity, "mode": mode, "cumulative": cumulative}
    if pct:
        asked["pct"] = pct if len(pct) > 1 else pct[0]
    if frequency is not None:
        asked["frequency"] = frequency
    if places is None and mode == "samples":
        raise ConfigurationError("samples are too many to print: give --table FILE and --out FILE")
    directions = [_direction(text) for text in at or []]
    answers = DustTemperatureQuery(fit, sky, posterior)
    if places is not None and out is not None:
        from pymcdust.products.query_table import query_table, read_table, write_table

        result = query_table(answers, read_table(places), **asked)
        write_table(result, out, overwrite)
        made(f"The table of {len(result):,} places", out, "open it with astropy.table.Table.read")
        return
    rows = [row for place in directions for row in _rows(answers, *place, distance or [], asked)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    console.print(table(dict(zip(_head(asked), columns, strict=True))))


def _direction(text: str) -> tuple[float, float]:
    """Read L,B."""
    try:
        longitude, latitude = (float(word) for word in text.replace(",", " ").split())
    except ValueError as error:
        raise ConfigurationError(
            f"--at takes L,B in degrees, such as 98.4,8.4, not {text!r}"
        ) from error
    if not -90 <= latitude <= 90:
        raise ConfigurationError(f"the latitude of --at {text} is {latitude:g}, beyond ±90 degrees")
    return longitude, latitude


def _head(asked: dict[str, Any]) -> list[str]:
    """Return the names of the columns that `_rows` fills."""
    import numpy as np

    from pymcdust.products.request import QUANTITIES

    unit = QUANTITIES[asked["quantity"]]
    name = asked["quantity"] + (f" [{unit}]" if unit else "")
    percents = np.atleast_1d(asked.get("pct", []))
    names = [f"{name} {percent:g} %" for percent in percents] or [name]
    # Units in brackets look like markup.
    return [escape(word) for word in ("l [deg]", "b [deg]", "distance [kpc]", *names, "beware")]


def _rows(
    answers: "DustTemperatureQuery",
    longitude: float,
    latitude: float,
    distances: list[float],
    asked: dict[str, Any],
) -> Iterator[list[str]]:
    """Yield what is told of one direction: a row for each distance, or for each voxel."""
    import numpy as np

    from pymcdust.products.places import sky_coord

    place = [f"{longitude:g}", f"{latitude:g}"]
    edges = answers.edges_at(sky_coord(longitude, latitude, None, "galactic")).value
    if distances:
        words = [f"{distance:g}" for distance in distances]
        everywhere = [longitude] * len(distances), [latitude] * len(distances), distances
        values, flags = answers.query_gal(*everywhere, return_flags=True, **asked)
        dominated, footprint, converged = (
            flags[name] for name in ("prior_dominated", "in_footprint", "converged")
        )
    else:
        n_voxel = max(1, int(np.isfinite(edges).sum()) - 1)
        words = [f"{near:.3g}–{far:.3g}" for near, far in pairwise(edges)]
        values, flags = answers.query_gal(longitude, latitude, return_flags=True, **asked)
        words, values = words[:n_voxel], values[:n_voxel]
        dominated = flags["prior_dominated"][:n_voxel]
        footprint, converged = ([flags[name]] * n_voxel for name in ("in_footprint", "converged"))
        if not flags["in_footprint"]:
            words = ["–"]
    for word, value, grey, inside, well in zip(
        words, values, dominated, footprint, converged, strict=True
    ):
        beware = "outside the map" if not inside else ""
        if inside and np.isnan(value).all():
            beware = "in no voxel, or without data"
        elif inside:
            warnings = {"prior dominates": grey, "not converged": not well}
            beware = ", ".join(warning for warning, holds in warnings.items() if holds)
        yield [*place, word, *(f"{number:.5g}" for number in np.atleast_1d(value)), beware]
