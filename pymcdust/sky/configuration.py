"""The configuration of `prepare`: read from TOML, every key known, every value possible."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError, listing
from pymcdust.sky.edges import edges_from_kpc, edges_from_modulus, edges_from_slices
from pymcdust.sky.emission_settings import (
    BandSettings,
    CmbSettings,
    read_cmb,
    read_emission,
    read_noise,
)
from pymcdust.sky.maps3d.combined import CombinedMap
from pymcdust.sky.maps3d.converted import Converted
from pymcdust.sky.maps3d.interface import ReddeningMap
from pymcdust.sky.reddening import REDDENING_MAPS, open_reddening
from pymcdust.sky.settings import (
    choice,
    file_path,
    keys,
    load_toml,
    map_beam,
    names_only,
    number,
    numbers,
    plain,
    switch,
    text,
)
from pymcdust.sky.validation import check_nside
from pymcdust.sky.voxels import Direction, VoxelRules, direction

#: Ways to say where the sightline is cut.
_EDGES = {
    "slices": edges_from_slices,
    "edges_kpc": edges_from_kpc,
    "edges_modulus": edges_from_modulus,
}
#: Least beam in sides of a pixel: at the last multipole, 3 nside - 1, a tenth of the amplitude is
#: left, which is cut off.
_LEAST_BEAM = 1.64

_MAP_KEYS = ("beam", "convert", "options")


@dataclass(frozen=True)
class ReddeningSource:
    """A 3D reddening map: its kind, its file, and what is to be done with it."""

    kind: str
    file: Path
    beam: float | None
    convert: str | None
    options: Mapping[str, Any]

    def open(self) -> ReddeningMap:
        """Open the map, with the beam and in the unit that are asked for."""
        source = open_reddening(self.kind, self.file, **self.options)
        if self.beam is not None:
            source.beam = self.beam
        return source if self.convert is None else Converted(source, self.convert)


@dataclass(frozen=True)
class Seam:
    """Where one map goes over into another: declination and width [deg]."""

    declination: float
    width: float


@dataclass(frozen=True)
class Configuration:
    """What `prepare` is to do, checked.

    `beam` [arcmin] is that of the sky, None where the maps share one already; `reddening` holds one
    map, or the northern and the southern one; `declination` is a range [deg]; `sigma` a (band,)
    array [MJy/sr]; `given` the configuration as it was written, with file names in the place of
    paths.
    """

    nside: int
    superpixel_nside: int
    beam: float | None
    min_coverage: float
    thin: bool
    reddening: tuple[ReddeningSource, ...]
    seam: Seam | None
    n_samples: int
    voxels: VoxelRules
    declination: tuple[float, float] | None
    reliable_distance: bool
    emission: dict[str, BandSettings]
    cmb: CmbSettings | None
    sigma: np.ndarray
    given: dict[str, Any]

    @property
    def files(self) -> dict[str, Path]:
        """All input files, by what they are."""
        names = ["reddening"] if self.seam is None else ["reddening.north", "reddening.south"]
        files = {name: one.file for name, one in zip(names, self.reddening, strict=True)}
        for band, entry in self.emission.items():
            for part, path in entry.source.files.items():
                files[f"emission.{band}{part and '.'}{part}"] = path
        return files if self.cmb is None else {**files, "cmb": self.cmb.file}

    def open_reddening(self, scratch: Path | None = None) -> ReddeningMap:
        """Open the reddening map, the combination of two where there are two.

        Parameters
        ----------
        scratch : path, optional
            Folder for what is too large for memory, there by the time that rows are read; by
            default that of the system.
        """
        maps = [source.open() for source in self.reddening]
        if self.seam is None:
            return maps[0]
        return CombinedMap(*maps, self.seam.declination, self.seam.width, scratch)


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
        given, folder = plain(config), Path()
    else:
        given, folder = load_toml(Path(config)), Path(config).parent
    sections = keys(
        given, "", required=("grid", "reddening", "emission", "noise"), optional=("cmb", "cuts")
    )
    grid = _grid(sections["grid"])
    reddening = _reddening(sections["reddening"], folder)
    cuts = keys(
        sections.get("cuts", {}),
        "cuts",
        required=(),
        optional=(
            "declination",
            "reliable_distance",
            "one_voxel_above",
            "one_voxel_below",
            "merge",
            "direction",
        ),
    )
    smoothed = grid["beam"] is not None
    if not smoothed:
        _check_matched(sections)
    sigma, variance = read_noise(sections["noise"])
    emission = read_emission(sections["emission"], folder, smoothed, variance)
    checked = Configuration(
        **grid,
        **reddening,
        voxels=_voxels(sections["reddening"], cuts),
        declination=_declination(cuts),
        reliable_distance=switch(cuts.get("reliable_distance", False), "cuts.reliable_distance"),
        emission=emission,
        cmb=read_cmb(sections.get("cmb"), folder, emission, smoothed),
        sigma=sigma,
        given=names_only(given),
    )
    for key, path in checked.files.items():
        # A Zarr store is a folder.
        if not path.exists():
            raise FileFormatError(f"{path}: there is no such file; {key} names it")
    return checked


def _check_matched(sections: Mapping[str, Any]) -> None:
    """Refuse beams that differ where maps are said to share one."""
    maps = {
        f"{section}.{name}" if name else section: entry
        for section in ("reddening", "emission", "cmb")
        for name, entry in {"": sections.get(section), **_tables(sections.get(section))}.items()
    }
    beams = {
        name: entry["beam"]
        for name, entry in maps.items()
        if isinstance(entry, Mapping) and "beam" in entry
    }
    first = next(iter(beams.values()), None)
    if any(beam != first for beam in beams.values()):
        told = listing(f"{name} {beam}" for name, beam in beams.items())
        raise ConfigurationError(
            f'grid.beam is "matched", but the beams that are given differ: {told}; give the beam '
            "[arcmin] to which all maps are to be smoothed"
        )


def _tables(section: Any) -> dict[str, Any]:
    return dict(section) if isinstance(section, Mapping) else {}


def _grid(section: Any) -> dict[str, Any]:
    grid = keys(
        section,
        "grid",
        required=("nside", "superpixel_nside", "beam", "min_coverage"),
        optional=("thin",),
    )
    for key in ("nside", "superpixel_nside"):
        check_nside(grid[key], f"grid.{key}")
    if grid["superpixel_nside"] > grid["nside"]:
        raise ConfigurationError(
            f"grid.superpixel_nside {grid['superpixel_nside']} is finer than grid.nside "
            f"{grid['nside']}; were they interchanged?"
        )
    matched = grid["beam"] == "matched"
    thin = switch(grid.get("thin", False), "grid.thin")
    if thin and matched:
        raise ConfigurationError(
            "grid.thin keeps one pixel of each beam, for which the beam must be known: give "
            'grid.beam in arcmin instead of "matched"'
        )
    least = _LEAST_BEAM * healpy.nside2resol(grid["nside"], arcmin=True)
    allowed = (
        'the FWHM [arcmin] to which all maps are smoothed, such as 10.0; or "matched" where all '
        "of them must share one beam already"
    )
    beam = None if matched else number(grid["beam"], "grid.beam", allowed, above=0)
    if beam is not None and beam < least:
        raise ConfigurationError(
            f"grid.beam is {beam:g} arcmin, too narrow for the pixels of nside {grid['nside']}: "
            f"maps would ring around clouds; it must be {least:.3g} or more, or nside larger"
        )
    return {
        "nside": grid["nside"],
        "superpixel_nside": grid["superpixel_nside"],
        "beam": beam,
        "min_coverage": number(
            grid["min_coverage"],
            "grid.min_coverage",
            "a fraction above 0 and up to 1",
            above=0,
            most=1,
        ),
        "thin": thin,
    }


def _reddening(section: Any, folder: Path) -> dict[str, Any]:
    common = (*_EDGES, "samples")
    paired = isinstance(section, Mapping) and ("north" in section or "south" in section)
    if paired:
        entry = keys(section, "reddening", ("north", "south", "seam"), common)
        names = ("reddening.north", "reddening.south")
        sources = tuple(
            _reddening_source(keys(entry[part], name, ("map", "file"), _MAP_KEYS), name, folder)
            for part, name in zip(("north", "south"), names, strict=True)
        )
        given = keys(entry["seam"], "reddening.seam", ("declination", "width"))
        seam = Seam(
            number(
                given["declination"],
                "reddening.seam.declination",
                "a declination [deg] between -90 and 90",
                least=-90,
                most=90,
            ),
            number(
                given["width"],
                "reddening.seam.width",
                "a width [deg] from 0 to 180",
                least=0,
                most=180,
            ),
        )
    else:
        entry = keys(section, "reddening", ("map", "file"), (*_MAP_KEYS, *common))
        sources, seam = (_reddening_source(entry, "reddening", folder),), None
    samples = entry.get("samples", 0)
    if type(samples) is not int or samples < 0:
        raise ConfigurationError(
            f"reddening.samples is {samples!r}; it must be the number of posterior samples to "
            "keep, 0 or more"
        )
    return {"reddening": sources, "seam": seam, "n_samples": samples}


def _reddening_source(entry: Mapping[str, Any], name: str, folder: Path) -> ReddeningSource:
    choice(entry["map"], f"{name}.map", REDDENING_MAPS)
    options = entry.get("options", {})
    if not isinstance(options, Mapping):
        raise ConfigurationError(
            f"{name}.options is {options!r}; it must be a table, such as {{ nside = 256 }}"
        )
    return ReddeningSource(
        kind=entry["map"],
        file=file_path(folder, entry["file"], f"{name}.file"),
        beam=map_beam(entry, name),
        convert=text(entry["convert"], f"{name}.convert") if "convert" in entry else None,
        options=options,
    )


def _edges(entry: Mapping[str, Any], section: str) -> np.ndarray:
    given = [key for key in _EDGES if key in entry]
    if len(given) != 1:
        raise ConfigurationError(
            f"[{section}] needs either slices, such as [15, 96, 10], or edges_kpc, such as "
            "[0, 0.3, 1.0], or edges_modulus, such as [7.4, 10.0], and not both"
        )
    key = given[0]
    if not isinstance(entry[key], list | tuple):
        raise ConfigurationError(f"{section}.{key} is {entry[key]!r}; it must be a list")
    return _EDGES[key](entry[key])


def _voxels(reddening: Mapping[str, Any], cuts: Mapping[str, Any]) -> VoxelRules:
    merge = keys(cuts.get("merge", {}), "cuts.merge", (), ("min_reddening", "max_condition"))
    return VoxelRules(
        given=_edges(reddening, "reddening"),
        directions=_directions(cuts.get("direction", [])),
        one_voxel_above=_optional(cuts, "cuts", "one_voxel_above", "a latitude [deg]", 0, 90),
        one_voxel_below=_optional(cuts, "cuts", "one_voxel_below", "a reddening [mag]", 0),
        min_reddening=_optional(merge, "cuts.merge", "min_reddening", "a reddening [mag]", 0),
        max_condition=_optional(merge, "cuts.merge", "max_condition", "a ratio of 1 or more", 1),
    )


def _optional(
    entry: Mapping[str, Any],
    section: str,
    key: str,
    allowed: str,
    least: float,
    most: float = math.inf,
) -> float | None:
    if key not in entry:
        return None
    return number(entry[key], f"{section}.{key}", allowed, least=least, most=most)


def _directions(given: Any) -> tuple[Direction, ...]:
    if not isinstance(given, list):
        raise ConfigurationError(
            f'cuts.direction is {given!r}; it must be a list of names, such as ["cepheus"], or '
            "of tables [[cuts.direction]]"
        )
    return tuple(_direction(entry) for entry in given)


def _direction(entry: Any) -> Direction:
    if isinstance(entry, str):
        return direction(entry)
    section = "cuts.direction"
    entry = keys(entry, section, ("name", "center", "radius"), tuple(_EDGES))
    longitude, latitude = numbers(
        entry["center"], f"{section}.center", "l and b [deg], such as [98.4, 8.4]", 2
    )
    return Direction(
        name=text(entry["name"], f"{section}.name"),
        center=(
            longitude,
            number(latitude, f"{section}.center", "l and b [deg]", least=-90, most=90),
        ),
        radius=number(entry["radius"], f"{section}.radius", "a radius [deg]", least=0, most=180),
        edges=_edges(entry, section),
    )


def _declination(cuts: Mapping[str, Any]) -> tuple[float, float] | None:
    if "declination" not in cuts:
        return None
    allowed = "a range [deg] from south to north, such as [-29.0, 90.0]"
    south, north = numbers(cuts["declination"], "cuts.declination", allowed, 2)
    if not -90 <= south < north <= 90:
        raise ConfigurationError(
            f"cuts.declination is [{south:g}, {north:g}]; it must be {allowed}"
        )
    return south, north
