"""The configuration of `prepare`: read from TOML, every key known, every value possible."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError, listing, unknown
from pymcdust.physics.bands import BANDS, K_CMB_TO_MJY_SR
from pymcdust.sky.cuts import edges_from_kpc, edges_from_modulus, edges_from_slices
from pymcdust.sky.maps3d.combined import CombinedMap
from pymcdust.sky.maps3d.converted import Converted
from pymcdust.sky.maps3d.interface import ReddeningMap
from pymcdust.sky.reddening import REDDENING_MAPS, open_reddening
from pymcdust.sky.settings import (
    file_path,
    keys,
    load_toml,
    names_only,
    number,
    numbers,
    plain,
    switch,
    text,
)
from pymcdust.sky.surveys import RELEASES, ZERO_LEVELS, EmissionSource
from pymcdust.sky.validation import is_nside
from pymcdust.sky.voxels import Direction, VoxelRules, direction

#: Ways to say where the sightline is cut.
_EDGES = {
    "slices": edges_from_slices,
    "edges_kpc": edges_from_kpc,
    "edges_modulus": edges_from_modulus,
}
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
class BandSettings:
    """The emission map of one band: `beam` [arcmin], `zero_level` [MJy/sr] to be subtracted."""

    source: EmissionSource
    beam: float | None
    cmb: bool
    zero_level: float


@dataclass(frozen=True)
class CmbSettings:
    """The map of the CMB: `beam` [arcmin]."""

    file: Path
    column: str | None
    beam: float | None


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
    variance: bool
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

    def open_reddening(self) -> ReddeningMap:
        """Open the reddening map, the combination of two where there are two."""
        maps = [source.open() for source in self.reddening]
        if self.seam is None:
            return maps[0]
        return CombinedMap(*maps, self.seam.declination, self.seam.width)


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
    noise = keys(sections["noise"], "noise", required=("sigma",), optional=("variance",))
    variance = switch(noise.get("variance", False), "noise.variance")
    emission = _emission(sections["emission"], folder, smoothed=grid["beam"] is not None)
    checked = Configuration(
        **grid,
        **reddening,
        voxels=_voxels(sections["reddening"], cuts),
        declination=_declination(cuts),
        reliable_distance=switch(cuts.get("reliable_distance", False), "cuts.reliable_distance"),
        emission=emission,
        cmb=_cmb(sections.get("cmb"), folder, emission, smoothed=grid["beam"] is not None),
        sigma=_sigma(noise["sigma"], variance),
        variance=variance,
        given=names_only(given),
    )
    for key, path in checked.files.items():
        # A Zarr store is a folder.
        if not path.exists():
            raise FileFormatError(f"{path}: there is no such file; {key} names it")
    return checked


def _grid(section: Any) -> dict[str, Any]:
    grid = keys(
        section,
        "grid",
        required=("nside", "superpixel_nside", "beam", "min_coverage"),
        optional=("thin",),
    )
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
    matched = grid["beam"] == "matched"
    thin = switch(grid.get("thin", False), "grid.thin")
    if thin and matched:
        raise ConfigurationError(
            "grid.thin keeps one pixel of each beam, for which the beam must be known: give "
            'grid.beam in arcmin instead of "matched"'
        )
    allowed = (
        'the FWHM [arcmin] to which all maps are smoothed, such as 10.0; or "matched" where all '
        "of them must share one beam already"
    )
    return {
        "nside": grid["nside"],
        "superpixel_nside": grid["superpixel_nside"],
        "beam": None if matched else number(grid["beam"], "grid.beam", allowed, above=0),
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
            number(given["width"], "reddening.seam.width", "a width [deg] from 0 to 90", least=0),
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
    if entry["map"] not in REDDENING_MAPS:
        raise ConfigurationError(unknown("reddening map", entry["map"], REDDENING_MAPS))
    options = entry.get("options", {})
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"[{name}.options] must be a table")
    return ReddeningSource(
        kind=entry["map"],
        file=file_path(folder, entry["file"], f"{name}.file"),
        beam=_beam(entry, name),
        convert=text(entry["convert"], f"{name}.convert") if "convert" in entry else None,
        options=options,
    )


def _beam(entry: Mapping[str, Any], name: str) -> float | None:
    if "beam" not in entry:
        return None
    return number(entry["beam"], f"{name}.beam", "the FWHM of the map [arcmin], 0 or more", least=0)


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


def _emission(section: Any, folder: Path, smoothed: bool) -> dict[str, BandSettings]:
    bands = keys(section, "emission", required=BANDS, optional=("zero_level",))
    preset = bands.get("zero_level", "none")
    if preset not in ZERO_LEVELS:
        raise ConfigurationError(unknown("zero_level", preset, ZERO_LEVELS) + " in [emission]")
    return {
        band: _band(bands[band], band, folder, ZERO_LEVELS[preset].get(band, 0.0), smoothed)
        for band in BANDS
    }


def _band(entry: Any, band: str, folder: Path, zero_level: float, smoothed: bool) -> BandSettings:
    name = f"emission.{band}"
    optional = ("column", "unit", "release", "beam", "cmb", "zero_level")
    entry = keys(entry, name, required=("file",), optional=optional)
    words = {
        key: text(entry[key], f"{name}.{key}") if key in entry else None
        for key in ("column", "unit", "release")
    }
    if words["release"] is not None and words["release"] not in RELEASES:
        raise ConfigurationError(f"{name}: {unknown('release', words['release'], RELEASES)}")
    release = RELEASES.get(words["release"] or "")
    beam = _beam(entry, name)
    if beam is None and release is not None:
        beam = release.beams.get(band)
    if beam is None and smoothed:
        raise ConfigurationError(f"{name}.beam is missing; give the FWHM of the map [arcmin]")
    if "zero_level" in entry:
        zero_level = number(entry["zero_level"], f"{name}.zero_level", "a level [MJy/sr]")
    has_cmb = band in K_CMB_TO_MJY_SR and (release is None or release.has_cmb)
    return BandSettings(
        source=EmissionSource(file=file_path(folder, entry["file"], f"{name}.file"), **words),
        beam=beam,
        cmb=switch(entry.get("cmb", has_cmb), f"{name}.cmb"),
        zero_level=zero_level,
    )


def _cmb(
    section: Any, folder: Path, emission: Mapping[str, BandSettings], smoothed: bool
) -> CmbSettings | None:
    needed = [band for band, entry in emission.items() if entry.cmb]
    if section is None:
        if not needed:
            return None
        raise ConfigurationError(
            f"section cmb is missing; it names the map of the CMB that is subtracted from "
            f"{listing(needed)}: where a map holds none, say cmb = false in its section"
        )
    entry = keys(section, "cmb", required=("file",), optional=("column", "beam"))
    beam = _beam(entry, "cmb")
    if beam is None and smoothed:
        raise ConfigurationError("cmb.beam is missing; give the FWHM of the map [arcmin]")
    return CmbSettings(
        file=file_path(folder, entry["file"], "cmb.file"),
        column=text(entry["column"], "cmb.column") if "column" in entry else None,
        beam=beam,
    )


def _sigma(sigma: Any, variance: bool) -> np.ndarray:
    values = keys(sigma, "noise.sigma", required=BANDS)
    bounds = {"least": 0.0} if variance else {"above": 0.0}
    allowed = "a number of 0 or more [MJy/sr]" if variance else "a positive number [MJy/sr]"
    return np.array(
        [number(values[band], f"noise.sigma of band {band}", allowed, **bounds) for band in BANDS]
    )
