"""Queries of tables of places: columns in, columns out."""

import json
from pathlib import Path
from typing import Any

from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.registry import IORegistryError
from astropy.table import Column, Table

from pymcdust.errors import ConfigurationError, FileFormatError, listing
from pymcdust.products.places import in_unit, sky_coord
from pymcdust.products.provenance import provenance_cards
from pymcdust.products.query import DustTemperatureQuery
from pymcdust.products.request import QUANTITIES, Request
from pymcdust.products.staging import staged

#: Columns of directions by the frame that they are of; the first pair that a table has counts.
DIRECTIONS: dict[str, tuple[str, str]] = {"galactic": ("l", "b"), "icrs": ("ra", "dec")}

#: Units of longitude, latitude and distance where a column has none.
UNITS: tuple[u.UnitBase, ...] = (u.deg, u.deg, u.kpc)

#: Entry of a table's `meta` that tells where each answer comes from, as JSON.
PROVENANCE = "QUERIES"

#: Formats that astropy does not tell from a name when it writes.
FORMATS: dict[str, str] = {".vot": "votable"}


def table_coordinates(table: Table) -> SkyCoord:
    """Return the coordinates in a table.

    Parameters
    ----------
    table : Table
        With the columns ``l`` and ``b`` (Galactic) or ``ra`` and ``dec`` (ICRS), of an angular
        unit, [deg] without one; and ``distance``, if it has it, [kpc] without a unit. Names may be
        in capitals. What is masked is NaN, and so is a negative distance.

    Returns
    -------
    SkyCoord
        Of the length of the table.

    Raises
    ------
    ConfigurationError
        If there are no such columns, their units are others, or latitudes are beyond the poles.
    """
    names = {name.lower(): name for name in table.colnames}
    frames = [frame for frame, pair in DIRECTIONS.items() if set(pair) <= set(names)]
    if not frames:
        raise ConfigurationError(
            f"the table has the columns {listing(table.colnames)}; needed are l and b, or ra and "
            "dec, and distance where it is known"
        )
    numbers = {
        name: in_unit(table[names[name]], unit, f"the column {names[name]!r}")
        for name, unit in zip((*DIRECTIONS[frames[0]], "distance"), UNITS, strict=True)
        if name in names
    }
    longitude, latitude, *distance = numbers.values()
    return sky_coord(longitude, latitude, *(distance or [None]), frame=frames[0])


def query_table(
    query: DustTemperatureQuery, table: Table, quantity: str = "temperature", **kwargs: object
) -> Table:
    """Return a table with what a query answers at its places.

    Parameters
    ----------
    query : DustTemperatureQuery
        The query.
    table : Table
        As `table_coordinates` reads it.
    quantity : str
        What to ask for.
    **kwargs
        Arguments of `DustTemperatureQuery.query`: `mode`, `pct`, `frequency`, `cumulative`.

    Returns
    -------
    Table
        A copy with more columns: the answer, called after what was asked for (``temperature``,
        ``temperature_mean``, ``cumulative_emission_353``), an array in each row where there are
        several (voxels, draws, percentiles); its flags, as `DustTemperatureQuery.query` returns
        them, called ``<answer>_in_footprint``, ``<answer>_converged`` and so on; and, where the
        table has no distances, ``<answer>_distance_edge``, the edges of the voxels. ``QUERIES`` of
        its `meta` tells where each answer comes from: JSON of the header cards of the FITS maps, by
        answer.

    Raises
    ------
    ConfigurationError
        If the table has no coordinates, or has one of these columns already; or as for `query`.
    ResultError
        As for `query`.

    Examples
    --------
    >>> from pymcdust import fit_map, simulate_sky
    >>> truth = {"temperature": ("voxel", [21.0, 17.0]), "beta": 1.6, "rho": 1e-4}
    >>> place = {"center": (100, 10), "radius": 5, "distance_edge": [0, 0.5, 2]}
    >>> sky = simulate_sky(truth, nside=128, superpixel_nside=8, noise=False, **place)
    >>> query = DustTemperatureQuery(fit_map("temperature_per_voxel", sky), sky)
    >>> clouds = Table({"l": [100.0, 100.0], "b": [10.0, 10.0], "distance": [0.3, 0.9]})
    >>> query_table(query, clouds)["temperature"].round().tolist()
    [21.0, 17.0]
    """
    request = Request(quantity, **kwargs)
    name = column_name(request)
    coords = table_coordinates(table)
    values, flags = query.query(coords, quantity=quantity, return_flags=True, **kwargs)
    unit, words = QUANTITIES[quantity] or None, _words(request, query)
    columns = {name: Column(values, unit=unit, description=words)}
    columns |= {f"{name}_{field}": Column(flags[field]) for field in flags.dtype.names}
    if "distance" not in map(str.lower, table.colnames):
        columns[f"{name}_distance_edge"] = Column(query.edges_at(coords).value, unit=u.kpc)
    taken = [column for column in columns if column in table.colnames]
    if taken:
        raise ConfigurationError(
            f"the table already has {listing(taken)}; remove or rename what is there, as with "
            f"table.rename_column({taken[0]!r}, {'old_' + taken[0]!r})"
        )
    result = table.copy()
    for column, content in columns.items():
        result[column] = content
    result.meta[PROVENANCE] = _provenance(table, name, query.provenance(request.mode))
    return result


def column_name(request: Request) -> str:
    """Return the name of the column that holds an answer.

    Examples
    --------
    >>> column_name(Request("emission", mode="std", frequency=353, cumulative=True))
    'cumulative_emission_353_std'
    """
    parts = ["cumulative"] if request.cumulative else []
    parts.append(request.quantity)
    if request.frequency is not None:
        parts.append(f"{request.frequency:g}")
    if request.mode != "map":
        parts.append(request.mode)
    return "_".join(parts)


def _words(request: Request, query: DustTemperatureQuery) -> str:
    """Say what a column holds."""
    words = f"{request.quantity} of the dust, {request.mode}"
    if request.quantity == "reddening":
        words += f", in the unit {query.reddening_unit}"
    if request.pct is not None:
        percents = request.pct if isinstance(request.pct, list) else [request.pct]
        words += f" {listing(f'{percent:g}' for percent in percents)}"
    if request.frequency is not None:
        words += f", at {request.frequency:g} GHz"
    return words + (", from the observer on" if request.cumulative else "")


def _provenance(table: Table, name: str, attrs: dict[str, Any]) -> str:
    """Return the entry of a table's `meta`, with an answer more."""
    try:
        told = dict(json.loads(table.meta.get(PROVENANCE, "{}")))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the table's meta has {PROVENANCE!r} already, which no query wrote; keep it under "
            "another name"
        ) from error
    cards = provenance_cards(attrs).cards
    return json.dumps({**told, name: {card.keyword: card.value for card in cards}})


def read_table(path: str | Path) -> Table:
    """Read a table of a format that its name tells.

    Parameters
    ----------
    path : path
        A file that astropy reads: ``.ecsv``, ``.fits``, ``.vot``, ``.csv``, ...

    Returns
    -------
    Table
        The table.

    Raises
    ------
    FileFormatError
        If there is no such file, or no table in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: there is no such file")
    # Every format fails in its own way.
    try:
        return Table.read(path)
    except Exception as error:
        raise FileFormatError(f"{path}: cannot be read as a table ({error})") from error


def write_table(table: Table, path: str | Path, overwrite: bool = False) -> None:
    """Write a table in the format that its name tells; it appears when it is whole.

    Parameters
    ----------
    table : Table
        The table.
    path : path
        Where it goes; the folder is made where it is missing.
    overwrite : bool
        Whether a file of this name may be replaced.

    Raises
    ------
    ConfigurationError
        If the file exists and `overwrite` is false, or its name tells no format, or one that
        cannot hold the table.
    """
    path = Path(path)
    with staged(path.parent, [path.name], overwrite) as unfinished:
        try:
            table.write(unfinished / path.name, format=FORMATS.get(path.suffix))
        except (ValueError, TypeError, IORegistryError) as error:
            # Some of them go on with all formats that there are.
            reason = str(error).partition("\n")[0]
            raise ConfigurationError(
                f"{path}: the table cannot be written in the format of this name; name it .ecsv, "
                f".fits or .vot ({reason})"
            ) from error
