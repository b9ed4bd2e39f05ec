"""The part of the configuration that is about emission: maps, CMB and noise, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pymcdust.errors import ConfigurationError, listing, unknown
from pymcdust.physics.bands import BANDS, K_CMB_TO_MJY_SR
from pymcdust.sky.lambert import HEMISPHERES
from pymcdust.sky.releases import RELEASES, ZERO_LEVELS
from pymcdust.sky.settings import choice, file_path, keys, map_beam, number, switch, text
from pymcdust.sky.surveys import EmissionSource


@dataclass(frozen=True)
class BandSettings:
    """The emission map of one band.

    `beam` is that of the map [arcmin]; `cmb` and `dipole` tell whether it holds the CMB and the
    dipole of the Sun's motion, which are subtracted; `zero_level` [MJy/sr] is subtracted as well;
    `variance` tells whether the noise is to follow its variance column.
    """

    source: EmissionSource
    beam: float | None
    cmb: bool
    dipole: bool
    zero_level: float
    variance: bool


@dataclass(frozen=True)
class CmbSettings:
    """The map of the CMB: `beam` [arcmin]; `dipole` whether it holds that of the Sun's motion."""

    file: Path
    column: str | None
    unit: str | None
    beam: float | None
    dipole: bool


def read_emission(
    section: Any, folder: Path, smoothed: bool, variance: frozenset[str]
) -> dict[str, BandSettings]:
    """Read the section of the emission maps.

    Parameters
    ----------
    section : Any
        What stands there.
    folder : Path
        To which paths are relative.
    smoothed : bool
        Whether maps are smoothed, so that their beams must be known.
    variance : set of str
        The bands whose variance is asked for.

    Raises
    ------
    ConfigurationError
        If a key is unknown or missing, or a value is impossible.
    """
    bands = keys(section, "emission", required=BANDS, optional=("zero_level",))
    preset = choice(bands.get("zero_level", "none"), "emission.zero_level", ZERO_LEVELS)
    return {
        band: _band(
            bands[band],
            band,
            folder,
            ZERO_LEVELS[preset].get(band, 0.0),
            smoothed,
            band in variance,
        )
        for band in BANDS
    }


def _band(
    entry: Any, band: str, folder: Path, zero_level: float, smoothed: bool, variance: bool
) -> BandSettings:
    name = f"emission.{band}"
    optional = ("column", "unit", "release", "beam", "cmb", "dipole", "zero_level")
    entry = keys(entry, name, required=("file",), optional=optional)
    words = {
        key: text(entry[key], f"{name}.{key}") if key in entry else None
        for key in ("column", "unit", "release")
    }
    file = file_path(folder, entry["file"], f"{name}.file")
    if words["release"] is not None:
        choice(words["release"], f"{name}.release", RELEASES)
    release = RELEASES.get(words["release"] or ("SFD" if HEMISPHERES in file.name else ""))
    beam = map_beam(entry, name)
    if beam is None and release is not None:
        beam = release.beams.get(band)
    if beam is None and smoothed:
        raise ConfigurationError(f"{name}.beam is missing; give the FWHM of the map [arcmin]")
    if "zero_level" in entry:
        zero_level = number(entry["zero_level"], f"{name}.zero_level", "a level [MJy/sr]")
    known = band in K_CMB_TO_MJY_SR
    usual = {
        "cmb": known and (release is None or release.has_cmb),
        "dipole": known and release is not None and release.has_dipole,
    }
    held = {key: switch(entry.get(key, usual[key]), f"{name}.{key}") for key in usual}
    for key, holds in held.items():
        if holds and not known:
            raise ConfigurationError(
                f"{name}.{key} is true, but what is in K_CMB can only be subtracted from "
                f"{listing(K_CMB_TO_MJY_SR)} GHz, for which there are factors; leave it out"
            )
    return BandSettings(
        source=EmissionSource(file=file, **words),
        beam=beam,
        zero_level=zero_level,
        variance=variance,
        **held,
    )


def read_cmb(
    section: Any, folder: Path, emission: Mapping[str, BandSettings], smoothed: bool
) -> CmbSettings | None:
    """Read the section of the CMB, which is needed where a band holds it.

    Parameters
    ----------
    section, folder, smoothed
        As for `read_emission`; without the section None.
    emission : mapping
        What `read_emission` returned.

    Raises
    ------
    ConfigurationError
        If it is missing and needed; if a key is unknown, or a value is impossible.
    """
    needed = [band for band, entry in emission.items() if entry.cmb]
    if section is None:
        if not needed:
            return None
        raise ConfigurationError(
            f"section cmb is missing; it names the map of the CMB that is subtracted from "
            f"{listing(needed)}: where a map holds none, say cmb = false in its section"
        )
    optional = ("column", "unit", "beam", "dipole")
    entry = keys(section, "cmb", required=("file",), optional=optional)
    beam = map_beam(entry, "cmb")
    if beam is None and smoothed:
        raise ConfigurationError("cmb.beam is missing; give the FWHM of the map [arcmin]")
    return CmbSettings(
        file=file_path(folder, entry["file"], "cmb.file"),
        column=text(entry["column"], "cmb.column") if "column" in entry else None,
        unit=text(entry["unit"], "cmb.unit") if "unit" in entry else None,
        beam=beam,
        dipole=switch(entry.get("dipole", False), "cmb.dipole"),
    )


def read_noise(section: Any) -> tuple[np.ndarray, frozenset[str]]:
    """Read the section of the noise.

    Returns
    -------
    sigma : (band,) array
        Standard deviation of each band [MJy/sr].
    variance : set of str
        The bands to which the maps' own variance is added.

    Raises
    ------
    ConfigurationError
        If a key is unknown or missing, or a value is impossible.
    """
    noise = keys(section, "noise", required=("sigma",), optional=("variance",))
    variance = _bands(noise.get("variance", False))
    values = keys(noise["sigma"], "noise.sigma", required=BANDS)
    sigma = []
    for band in BANDS:
        bounds = {"least": 0.0} if band in variance else {"above": 0.0}
        allowed = "a number of 0 or more" if band in variance else "a positive number"
        name = f"noise.sigma of band {band}"
        sigma.append(number(values[band], name, f"{allowed} [MJy/sr]", **bounds))
    return np.array(sigma), variance


def _bands(given: Any) -> frozenset[str]:
    if not isinstance(given, list):
        return frozenset(BANDS if switch(given, "noise.variance", "or a list of bands") else ())
    for band in map(str, given):
        if band not in BANDS:
            raise ConfigurationError(unknown("band in noise.variance", band, BANDS))
    return frozenset(map(str, given))
