"""The kinds of 3D reddening maps, and how one is opened."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.sky.maps3d.bayestar import VERSIONS, Bayestar
from pymcdust.sky.maps3d.decaps import Decaps
from pymcdust.sky.maps3d.edenhofer import Edenhofer
from pymcdust.sky.maps3d.interface import ReddeningMap
from pymcdust.sky.maps3d.leike import Leike
from pymcdust.sky.maps3d.shell_files import SHELL_OPTIONS, open_shells

#: The kinds of 3D reddening maps that can be read: each takes a path, and options of its own.
REDDENING_MAPS: dict[str, Callable[..., ReddeningMap]] = {
    **{version: partial(Bayestar, version=version) for version in VERSIONS},
    "decaps": Decaps,
    "edenhofer2023": Edenhofer,
    "leike2020": Leike,
    "shells": open_shells,
}

#: The options that some of them have.
OPTIONS: dict[str, tuple[str, ...]] = {"leike2020": ("nside",), "shells": SHELL_OPTIONS}


def open_reddening(kind: str, path: str | Path, **options: Any) -> ReddeningMap:
    """Open a 3D reddening map.

    Parameters
    ----------
    kind : str
        A key of `REDDENING_MAPS`.
    path : path
        Its file.
    **options
        What that kind of map takes besides, `OPTIONS`: ``nside`` of `Leike`, and whatever a file
        of `Shells` does not say itself.

    Returns
    -------
    ReddeningMap
        Looked at, not read, in its own unit; `Converted` brings it to another one.

    Raises
    ------
    ConfigurationError
        If the kind or an option is unknown.
    FileFormatError
        If the file is missing, cut short, or not in the layout that it should have.
    """
    if kind not in REDDENING_MAPS:
        raise ConfigurationError(unknown("reddening map", kind, REDDENING_MAPS))
    allowed = OPTIONS.get(kind, ())
    for name in options:
        if not allowed:
            raise ConfigurationError(f"{kind} has no options, and {name!r} is given")
        if name not in allowed:
            raise ConfigurationError(unknown(f"option of {kind}", name, allowed))
    return REDDENING_MAPS[kind](path, **options)
