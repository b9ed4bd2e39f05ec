"""The configuration of `prepare`: read from TOML, every key known, every value possible."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError, listing, unknown
from pymcdust.physics.bands import BANDS
from pymcdust.sky.cuts import edges_from_kpc, edges_from_slices
from pymcdust.sky.reddening import ReddeningMap, reddening_map
from pymcdust.sky.surveys import RELEASE_UNITS
from pymcdust.sky.validation import is_nside


@dataclass(frozen=True)
class EmissionFile:
    """Where the emission of one band is, and what its header may leave out."""

    file: Path
    column: str | None
    unit: str | None
    release: str | None


@dataclass(frozen=True)
class Configuration:
    """What `prepare` is to do, checked.

    `edges` is a (voxel_edge,) array [kpc], `sigma` a (band,) array [MJy/sr]; `given` is the
    configuration as it was written, with file names in the place of paths.
    """

    nside: int
    superpixel_nside: int
    min_coverage: float
    reddening: ReddeningMap
    reddening_file: Path
    edges: np.ndarray
    emission: dict[str, EmissionFile]
    cmb: Path
    sigma: np.ndarray
    given: dict[str, Any]

    @property
    def files(self) -> dict[str, Path]:
        """All input files, by what they are."""
        emission = {f"emission.{band}": entry.file for band, entry in self.emission.items()}
        return {"reddening": self.reddening_file, **emission, "cmb": self.cmb}


def read_configuration(config: str | Path | Mapping[str, Any]) -> Configuration:
    """Read and check a configuration.

    Parameters
    ----------
    config : path or mapping
        A TOML file, to which the paths in it are relative; or what such a file would hold, with
        paths relative to the working directory.

    Returns
    -------
    Configuration
        Checked; every file in it exists.

    Raises
    ------
    ConfigurationError
        If a section or key is unknown or missing, or a value is impossible.
    FileFormatError
        If the TOML file or a file that it names does not exist.
    """
    if isinstance(config, Mapping):
        given, folder = _plain(config), Path()
    else:
        given, folder = _load(Path(config)), Path(config).parent
    sections = _keys(given, "", required=("grid", "reddening", "emission", "cmb", "noise"))
    grid = _keys(
        sections["grid"], "grid", required=("nside", "superpixel_nside", "beam", "min_coverage")
    )
    _check_grid(grid)
    reddening = _keys(
        sections["reddening"],
        "reddening",
        required=("map", "file"),
        optional=("slices", "edges_kpc"),
    )
    cmb = _keys(sections["cmb"], "cmb", required=("file",))
    checked = Configuration(
        nside=grid["nside"],
        superpixel_nside=grid["superpixel_nside"],
        min_coverage=float(grid["min_coverage"]),
        reddening=reddening_map(reddening["map"]),
        reddening_file=_path(folder, reddening["file"], "reddening.file"),
        edges=_edges(reddening),
        emission=_emission(sections["emission"], folder),
        cmb=_path(folder, cmb["file"], "cmb.file"),
        sigma=_sigma(_keys(sections["noise"], "noise", required=("sigma",))["sigma"]),
        given=_names_only(given),
    )
    for key, path in checked.files.items():
        if not path.is_file():
            raise FileFormatError(f"{path}: there is no such file; {key} names it")
    return checked


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error


def _plain(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn nested mappings into what TOML would have given: string keys, plain numbers."""
    plain: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            plain[str(key)] = _plain(value)
        else:
            plain[str(key)] = (
                value.tolist() if isinstance(value, np.ndarray | np.generic) else value
            )
    return plain


def _names_only(given: Mapping[str, Any]) -> dict[str, Any]:
    """Put the name of a file in the place of its path, which means nothing elsewhere."""
    return {
        key: _names_only(value)
        if isinstance(value, Mapping)
        else (Path(value).name if key == "file" else value)
        for key, value in given.items()
    }


def _keys(
    given: Any, section: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Check the keys of a section, and return it."""
    kind, place = ("key", f" in [{section}]") if section else ("section", "")
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"[{section}] must be a table with {listing(required)}")
    for key in given:
        if key not in required + optional:
            raise ConfigurationError(unknown(kind, key, required + optional) + place)
    missing = [key for key in required if key not in given]
    if missing:
        raise ConfigurationError(f"{kind} {listing(missing)} is missing{place}")
    return dict(given)


def _check_grid(grid: Mapping[str, Any]) -> None:
    for key in ("nside", "superpixel_nside"):
        value = grid[key]
        if not is_nside(value):
            hint = ""
            if isinstance(value, int | float) and 1 <= value < 2**29:
                hint = f"; did you mean {2 ** round(math.log2(value))}?"
            raise ConfigurationError(f"grid.{key} is {value!r}; it must be a power of two{hint}")
    if grid["superpixel_nside"] > grid["nside"]:
        raise ConfigurationError(
            f"grid.superpixel_nside {grid['superpixel_nside']} is finer than grid.nside "
            f"{grid['nside']}; were they interchanged?"
        )
    if grid["beam"] != "matched":
        raise ConfigurationError(
            f"grid.beam is {grid['beam']!r}; maps are not smoothed here, so all of them must share "
            'one beam already: say so with beam = "matched"'
        )
    value = grid["min_coverage"]
    if not _is_number(value) or not 0 < value <= 1:
        hint = f"; did you mean {value / 100:g}?" if _is_number(value) and 1 < value <= 100 else ""
        raise ConfigurationError(
            f"grid.min_coverage is {value!r}; it is a fraction above 0 and up to 1{hint}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _path(folder: Path, name: Any, key: str) -> Path:
    if not isinstance(name, str | Path) or not str(name):
        raise ConfigurationError(f"{key} is {name!r}; it must be the path of a file")
    return folder / Path(name).expanduser()


def _edges(reddening: Mapping[str, Any]) -> np.ndarray:
    if ("slices" in reddening) == ("edges_kpc" in reddening):
        raise ConfigurationError(
            "[reddening] needs either slices, such as [15, 96, 10], or edges_kpc, such as "
            "[0, 0.3, 1.0], and not both"
        )
    key = "slices" if "slices" in reddening else "edges_kpc"
    if not isinstance(reddening[key], list | tuple | np.ndarray):
        raise ConfigurationError(f"reddening.{key} is {reddening[key]!r}; it must be a list")
    return (edges_from_slices if key == "slices" else edges_from_kpc)(reddening[key])


def _emission(section: Any, folder: Path) -> dict[str, EmissionFile]:
    bands = _keys(section, "emission", required=BANDS)
    entries = {}
    for band in BANDS:
        name = f"emission.{band}"
        entry = _keys(bands[band], name, required=("file",), optional=("column", "unit", "release"))
        for key in ("column", "unit", "release"):
            if not isinstance(entry.get(key, ""), str):
                raise ConfigurationError(f"{name}.{key} is {entry[key]!r}; it must be a text")
        if "release" in entry and entry["release"] not in RELEASE_UNITS:
            raise ConfigurationError(
                f"{name}: {unknown('release', entry['release'], RELEASE_UNITS)}"
            )
        entries[band] = EmissionFile(
            file=_path(folder, entry["file"], f"{name}.file"),
            column=entry.get("column"),
            unit=entry.get("unit"),
            release=entry.get("release"),
        )
    return entries


def _sigma(sigma: Any) -> np.ndarray:
    values = _keys(sigma, "noise.sigma", required=BANDS)
    for band in BANDS:
        if not _is_number(values[band]) or values[band] <= 0:
            raise ConfigurationError(
                f"noise.sigma of band {band} is {values[band]!r}; it must be a positive number "
                "[MJy/sr]"
            )
    return np.array([float(values[band]) for band in BANDS])
