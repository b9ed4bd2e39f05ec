"""Queries of tables of places: columns in, columns out."""

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.registry import IORegistryError
from astropy.table import Column, Table

from pymcdust.errors import ConfigurationError, FileFormatError, listing
from pymcdust.products.query import DustTemperatureQuery
from pymcdust.products.request import QUANTITIES, Request
from pymcdust.products.staging import staged

#: Columns of directions by the frame that they are of; the first pair that a table has counts.
DIRECTIONS: dict[str, tuple[str, str]] = {"galactic": ("l", "b"), "icrs": ("ra", "dec")}

#: Formats that astropy does not tell from a name when it writes.
FORMATS: dict[str, str] = {".vot": "votable"}


def table_coordinates(table: Table) -> SkyCoord:
    """Return the coordinates in a table.

    Parameters
    ----------
    table : Table
        With the columns ``l`` and ``b`` (Galactic) or ``ra`` and ``dec`` (ICRS), of an angular
        unit, [deg] without one; and ``distance``, if it has it, [kpc] without a unit. Names may be
        in capitals. What is masked is NaN.

    Returns
    -------
    SkyCoord
        Of the length of the table.

    Raises
    ------
    ConfigurationError
        If there are no such columns, or their units are others.
    """
    names = {name.lower(): name for name in table.colnames}
    frames = [frame for frame, pair in DIRECTIONS.items() if set(pair) <= set(names)]
    if not frames:
        raise ConfigurationError(
            f"the table has the columns {listing(table.colnames)}; needed are l and b, or ra and "
            "dec, and distance where it is known"
        )
    longitude, latitude = (_numbers(table, names[name], u.deg) for name in DIRECTIONS[frames[0]])
    distance = None
    if "distance" in names:
        distance = _numbers(table, names["distance"], u.kpc)
        # It is in no voxel; astropy would refuse the table for the sake of one.
        distance[distance < 0] = np.nan
    return SkyCoord(longitude, latitude, distance=distance, frame=frames[0])


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
        several (voxels, draws, percentiles); ``<answer>_prior_dominated``; and ``in_footprint``,
        ``converged``, ``fit_flag`` and ``padding``. Where the table has no distances there is
        ``distance_edge``, the edges of the voxels.

    Raises
    ------
    ConfigurationError
        If the table has no coordinates, or has such an answer already; or as for `query`.
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
    if name in table.colnames:
        raise ConfigurationError(
            f"the table has a column {name!r} already; remove or rename it, as with "
            f"table.rename_column({name!r}, {name + '_before'!r})"
        )
    coords = table_coordinates(table)
    values, flags = query.query(coords, quantity=quantity, return_flags=True, **kwargs)
    result = table.copy()
    unit, words = QUANTITIES[quantity] or None, _words(request, query)
    result[name] = Column(values, unit=unit, description=words)
    result[f"{name}_prior_dominated"] = flags["prior_dominated"]
    for field, column in (
        ("in_footprint", "in_footprint"),
        ("converged", "converged"),
        ("flag", "fit_flag"),
        ("padding", "padding"),
    ):
        result[column] = flags[field]
    if "distance" not in map(str.lower, table.colnames):
        result["distance_edge"] = Column(query.edges_at(coords).value, unit=u.kpc)
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
        words += f" {request.pct}"
    if request.frequency is not None:
        words += f", at {request.frequency:g} GHz"
    return words + (", from the observer on" if request.cumulative else "")


def _numbers(table: Table, name: str, unit: u.Unit) -> u.Quantity:
    """Return a column in a unit, which it has if it has none; NaN where it is masked."""
    column = table[name]
    own = column.unit or unit
    if not u.Unit(own).is_equivalent(unit):
        raise ConfigurationError(
            f"the column {name!r} is in {own}; allowed is a unit that converts to {unit}"
        )
    try:
        values = np.ma.filled(np.ma.asarray(getattr(column, "value", column)).astype(float), np.nan)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the column {name!r} does not hold numbers but {column.dtype}; sexagesimal angles "
            "can be converted with astropy.coordinates.Angle"
        ) from error
    return u.Quantity(values, own).to(unit)


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
