"""From a reddening map and five emission maps to a sky."""

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.errors import SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.configuration import Configuration, read_configuration
from pymcdust.sky.cuts import coverage
from pymcdust.sky.dataset import build_sky
from pymcdust.sky.surveys import read_cmb, read_emission, subtract_cmb

_PACKAGES = ("pymcdust", "numpy", "xarray", "zarr", "astropy", "healpy", "h5py")


def prepare_sky(
    config: str | Path | Mapping[str, Any], progress: Callable[[str], None] | None = None
) -> xr.Dataset:
    """Make a sky from the files that a configuration names.

    A pixel is valid where the reddening is valid and every band is observed; a superpixel is kept
    where at least ``min_coverage`` of its pixels are valid.

    Parameters
    ----------
    config : path or mapping
        A TOML file, to which the paths in it are relative; or what such a file would hold.
    progress : callable, optional
        Called with a line of text at the start of each step.

    Returns
    -------
    xarray.Dataset
        The sky, in float32. Its attributes tell where it comes from: ``files`` (names and SHA-256),
        ``versions``, ``configuration`` (each as JSON), ``superpixels_kept``,
        ``superpixels_dropped``, and ``superpixels_outside`` (those of the dropped that hold no
        valid pixel at all).

    Raises
    ------
    ConfigurationError
        If the configuration has unknown or missing keys, or impossible values.
    FileFormatError
        If a file is missing, cut short, or not in the layout that it should have.
    SkyError
        If no superpixel is covered well enough.
    """
    say = progress or (lambda text: None)
    settings = read_configuration(config)
    n_superpixels = 12 * settings.superpixel_nside**2
    shape = (n_superpixels, (settings.nside // settings.superpixel_nside) ** 2)

    emission = np.empty((*shape, len(BANDS)), dtype=np.float32)
    say(f"reading the CMB: {settings.cmb.name}")
    cmb = read_cmb(settings.cmb, settings.nside)
    for i, (band, entry) in enumerate(settings.emission.items()):
        say(f"reading the emission at {band} GHz: {entry.file.name}")
        observed = read_emission(
            entry.file,
            band,
            settings.nside,
            column=entry.column,
            unit=entry.unit,
            release=entry.release,
        )
        emission[..., i] = subtract_cmb(observed, cmb, band).reshape(shape)

    say(f"reading the reddening: {settings.reddening_file.name}")
    reddening, valid = settings.reddening.read(
        settings.reddening_file,
        settings.nside,
        settings.superpixel_nside,
        np.arange(n_superpixels),
        settings.edges,
    )
    valid &= np.isfinite(emission).all(axis=2)

    covered = coverage(valid)
    kept = np.flatnonzero(covered >= settings.min_coverage)
    if not kept.size:
        raise SkyError(
            f"no superpixel has {settings.min_coverage:g} of its pixels valid, the best has "
            f"{covered.max():.3g}; lower min_coverage, or check that the maps overlap"
        )
    say(f"keeping {kept.size} of {n_superpixels} superpixels; computing checksums")
    return build_sky(
        reddening[kept],
        emission[kept],
        settings.sigma,
        settings.edges,
        kept,
        nside=settings.nside,
        superpixel_nside=settings.superpixel_nside,
        valid=valid[kept],
        reddening_unit=settings.reddening.unit,
        attrs={
            **_provenance(settings),
            "superpixels_kept": int(kept.size),
            "superpixels_dropped": int(n_superpixels - kept.size),
            "superpixels_outside": int((covered == 0).sum()),
        },
    )


def _provenance(settings: Configuration) -> dict[str, str]:
    files = {
        key: {"name": path.name, "sha256": _sha256(path)} for key, path in settings.files.items()
    }
    return {
        "files": json.dumps(files),
        "versions": json.dumps({package: version(package) for package in _PACKAGES}),
        "configuration": json.dumps(settings.given),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
