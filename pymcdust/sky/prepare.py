"""From a reddening map and five emission maps to a sky."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xarray as xr

from pymcdust.errors import ConfigurationError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.assembly import Plan, plan_sky, sky_blocks, superpixels_per_chunk
from pymcdust.sky.configuration import Configuration, read_configuration
from pymcdust.sky.dataset import open_sky
from pymcdust.sky.layers import check_inputs, make_emission, make_reddening
from pymcdust.sky.stages import Stages
from pymcdust.sky.store import check_free, write_blocks

_PACKAGES = ("pymcdust", "numpy", "xarray", "zarr", "astropy", "healpy", "h5py", "ducc0")


def prepare_sky(
    config: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> xr.Dataset:
    """Make a sky from the files that a configuration names.

    Maps are read, smoothed to the common beam and stored one after the other, so that memory does
    not grow with their number; the sky is put together from them in blocks of superpixels. A
    pixel is valid where reddening and all bands are observed in at least 0.95 of the beam; a
    superpixel is kept where at least ``min_coverage`` of its pixels are valid.

    Parameters
    ----------
    config : path or mapping
        A TOML file, to which the paths in it are relative; or what such a file would hold.
    out : path, optional
        Zarr store to write the sky to. Maps that are finished are kept beside it until it is
        whole, so that a run that was stopped goes on. Without it the sky is returned in memory.
    overwrite : bool
        Replace a store that is already there.
    progress : callable, optional
        Called with a line of text at the start of each step.

    Returns
    -------
    xarray.Dataset
        The sky, in float32, opened lazily where `out` is given. Besides the contract it tells why
        pixels are masked and voxels joined, and how well each superpixel is conditioned (see
        ``docs/data.md``). Its attributes tell where it comes from: ``files`` (names and SHA-256),
        ``versions``, ``configuration`` (each as JSON), ``beam``, ``superpixels_kept``,
        ``superpixels_dropped``, and ``superpixels_outside`` (those of the dropped that hold no
        valid pixel at all).

    Raises
    ------
    ConfigurationError
        If the configuration has unknown or missing keys, or impossible values; if `out` is taken,
        or its disk too small.
    FileFormatError
        If a file is missing, cut short, or not in the layout that it should have.
    SkyError
        If no superpixel is covered well enough.
    """
    say = progress or (lambda text: None)
    if out is None:
        with TemporaryDirectory(prefix="pymcdust-") as folder:
            return _prepare(config, Path(folder) / "sky.zarr", False, say).load()
    return _prepare(config, Path(out), overwrite, say)


def _prepare(
    config: str | Path | Mapping[str, Any],
    out: Path,
    overwrite: bool,
    say: Callable[[str], None],
) -> xr.Dataset:
    check_free(out, overwrite)
    settings = read_configuration(config)
    source = settings.open_reddening(scratch=Stages.place(out))
    check_inputs(settings, source)
    say("computing checksums")
    provenance = _provenance(settings)
    fingerprint = {key: json.loads(text) for key, text in provenance.items()}
    fingerprint["configuration"] = _of_maps(settings.given)
    out.parent.mkdir(parents=True, exist_ok=True)
    stages = Stages(out, fingerprint, overwrite)
    _check_room(settings, stages)
    make_emission(settings, stages, say)
    make_reddening(settings, source, stages, say)
    say("choosing pixels and voxels")
    plan = plan_sky(settings, stages)
    n_superpixel = len(plan.covered)
    say(f"writing {len(plan.kept)} of {n_superpixel} superpixels")
    write_blocks(
        sky_blocks(settings, stages, plan, {**provenance, **_summary(settings, plan)}, source.unit),
        out,
        superpixels_per_chunk=superpixels_per_chunk(plan),
        overwrite=overwrite,
        draft=stages.folder / "sky.partial",
    )
    stages.clear()
    return open_sky(out)


def _of_maps(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that the maps depend on, so that the rest may change."""
    later = {
        "grid": ("min_coverage", "thin"),
        "cuts": ("declination", "one_voxel_above", "one_voxel_below", "merge"),
        "noise": ("sigma",),
    }
    return {
        section: {key: value for key, value in entry.items() if key not in later.get(section, ())}
        for section, entry in {"cuts": {}, **given}.items()
    }


def _summary(settings: Configuration, plan: Plan) -> dict[str, Any]:
    kept, covered = len(plan.kept), plan.covered
    return {
        "beam": "matched" if settings.beam is None else settings.beam,
        "superpixels_kept": kept,
        "superpixels_dropped": len(covered) - kept,
        "superpixels_outside": int((covered == 0).sum()),
    }


def _check_room(settings: Configuration, stages: Stages) -> None:
    """Refuse a disk on which the intermediate maps and the sky have no room."""
    n_interval = (1 + settings.n_samples) * (len(settings.voxels.edges) - 1)
    n_band = len(BANDS) + sum(entry.variance for entry in settings.emission.values())
    present = sum(path.stat().st_size for path in stages.folder.glob("*.npy"))
    # Gathered and smoothed reddening, emission, CMB, weights, and the sky itself; where two
    # reddening maps are combined, each of these.
    n_layer = (3 if settings.seam is None else 5) * n_interval + 2 * n_band + 4
    needed = 4 * 12 * settings.nside**2 * n_layer - present
    free = shutil.disk_usage(stages.folder).free
    if needed > free:
        raise ConfigurationError(
            f"{stages.folder.parent} has {free / 1e9:.1f} GB free, but the maps and the sky may "
            f"need {needed / 1e9:.1f} GB; make room, or write elsewhere"
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
    """Return the checksum of a file; of a folder, such as a Zarr store, that of all its files."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(path)} {_sha256(file)}\n".encode())
    return digest.hexdigest()
