"""Fit a whole sky, a chunk of superpixels at a time, writing as it goes."""

import json
import shutil
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, ModelError
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.fit import fit_rows
from pymcdust.modeling.gallery import resolve
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky.compression import compress, is_compressed
from pymcdust.sky.dataset import open_sky, validate_sky
from pymcdust.sky.store import check_free, open_store, write_store

#: Superpixels that are fitted together.
CHUNK = 2048

#: Largest number of parameters of a model that couples superpixels: its Hessian is dense.
LARGEST_JOINT = 1500

#: Superpixels in a chunk of the Zarr store of a fit.
WRITTEN_CHUNK = 4096

#: What tells one sky (or its rows) from another, where a fit is to be continued.
SAMPLED = (
    "reddening",
    "emission",
    "sigma",
    "valid",
    "intercept",
    "chi2_floor",
    "distance_edge",
    "frequency",
)

#: Superpixels that are looked at to tell.
N_SAMPLED = 64

#: Called with the number of superpixels done and their total.
Progress = Callable[[int, int], None]


def fit_map(
    model: str | Path | type[VoxelMBB] | VoxelMBB,
    sky: xr.Dataset | str | Path,
    *,
    out: str | Path | None = None,
    starts: int = 1,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Find the maximum a posteriori of every superpixel, with Laplace errors.

    Parameters
    ----------
    model : str, path, VoxelMBB class or instance
        The model: a name of the gallery, a file, a class or an instance.
    sky : xarray.Dataset or path
        A sky, its compressed rows, or the path of a sky.
    out : path, optional
        Zarr store for the fit. Chunks are written beside it as they are done; a fit that was
        stopped goes on from there when it is asked for again.
    starts : int, optional
        Starting points for every superpixel; the best end is kept. The first is the published
        one, the second is cold, the others scatter. Superpixels that have not converged are
        started a few times more in any case.
    seed : int, optional
        Seed of the scatter of starting points.
    overwrite : bool, optional
        Replace a fit that is already at `out`.
    progress : callable, optional
        Called with the number of superpixels done and their total.

    Returns
    -------
    xarray.Dataset
        The fit: each free parameter and its `<name>_sd` with the dimensions of its tying, and per
        superpixel `objective`, `chi2`, `n_data`, `converged`, `iterations`, `gradient_norm` and
        `flag`. In a model with parameters over the sky all superpixels are one problem, and
        `objective`, `converged`, `iterations` and `gradient_norm` are that problem's.

    Raises
    ------
    ModelError
        If there is no such model, or it couples more superpixels than can be fitted jointly.
    SkyError
        If the sky does not keep the sky contract.
    ConfigurationError
        If a setting is impossible, or `out` exists.
    """
    model = resolve(model)
    if starts < 1:
        raise ConfigurationError(f"starts is {starts}; it must be 1 or more")
    sky = _as_sky(sky)
    n_superpixel = sky.sizes["superpixel"]
    n_joint = n_superpixel * model.n_free(sky.sizes["voxel"], sky.sizes["band"])
    if model.couples_superpixels and n_joint > LARGEST_JOINT:
        raise ModelError(
            f"{model.name} couples the {n_superpixel} superpixels of this sky by parameters over "
            f"the sky: {n_joint} parameters would be fitted jointly, of {LARGEST_JOINT} allowed; "
            "choose fewer superpixels, or tie those parameters per superpixel"
        )
    parts = None
    if out is not None:
        parts = Parts(Path(out), _fingerprint(model, sky, starts, seed), overwrite)

    chunk = n_superpixel if model.couples_superpixels else CHUNK
    posterior: CompiledPosterior | None = None
    fits = []
    for start in range(0, n_superpixel, chunk):
        fit = parts.load(start) if parts else None
        if fit is None:
            rows = compress(sky.isel(superpixel=slice(start, start + chunk)))
            posterior = posterior or CompiledPosterior(model, rows)
            fit = fit_rows(posterior, rows, starts, np.random.default_rng([seed, start]))
            if parts:
                parts.save(start, fit)
        fits.append(fit)
        if progress:
            progress(min(start + chunk, n_superpixel), n_superpixel)
    fit = xr.concat(
        fits, "superpixel", data_vars="minimal", coords="minimal", compat="override", join="exact"
    )
    fit.attrs["pymcdust_version"] = version("pymcdust")
    if parts:
        parts.finish(fit)
    return fit


class Parts:
    """The finished chunks of a fit, kept beside its final place until all are there.

    Parameters
    ----------
    out : Path
        Where the fit will be.
    fingerprint : dict
        What the fit depends on. Chunks of a fit with another one are refused.
    overwrite : bool
        Replace a fit that is already at `out`.
    """

    def __init__(self, out: Path, fingerprint: dict[str, Any], overwrite: bool) -> None:
        self.out, self.overwrite = out, overwrite
        self.folder = out.with_name(f"{out.name}.parts")
        check_free(out, overwrite)
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / "fingerprint.json"
        if not note.exists():
            draft = note.with_suffix(".partial")
            draft.write_text(json.dumps(fingerprint))
            draft.replace(note)
            return
        try:
            begun = json.loads(note.read_text())
        except ValueError as error:
            raise ConfigurationError(
                f"{note} is damaged, so that nobody knows which fit {self.folder} holds the "
                "beginning of; remove the folder"
            ) from error
        changed = [key for key in fingerprint if begun.get(key) != fingerprint[key]]
        if changed:
            raise ConfigurationError(
                f"{self.folder} holds the beginning of a fit with another {' and '.join(changed)}; "
                "start that fit again to finish it, or remove the folder"
            )

    def load(self, start: int) -> xr.Dataset | None:
        """Return the chunk that begins at a superpixel's position, None if it is to be done."""
        path = self._path(start)
        if not path.exists():
            return None
        try:
            return open_store(path).load()
        # Damaged on disk, which each codec reports in its own way: the chunk is fitted again.
        except Exception:
            shutil.rmtree(path)
            return None

    def save(self, start: int, fit: xr.Dataset) -> None:
        """Keep a finished chunk."""
        write_store(fit, self._path(start), superpixels_per_chunk=fit.sizes["superpixel"])

    def finish(self, fit: xr.Dataset) -> None:
        """Write the whole fit to its place, and remove the chunks."""
        write_store(fit, self.out, superpixels_per_chunk=WRITTEN_CHUNK, overwrite=self.overwrite)
        shutil.rmtree(self.folder)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:08d}.zarr"


def _as_sky(sky: xr.Dataset | str | Path) -> xr.Dataset:
    if not isinstance(sky, xr.Dataset):
        return open_sky(sky)
    if not is_compressed(sky):
        validate_sky(sky)
    return sky


def _fingerprint(model: VoxelMBB, sky: xr.Dataset, starts: int, seed: int) -> dict[str, Any]:
    n_superpixel = sky.sizes["superpixel"]
    spaced = np.unique(np.linspace(0, n_superpixel - 1, N_SAMPLED).astype(int))
    sample = sky.isel(superpixel=spaced)
    return {
        "model": model.to_dict(),
        "starts": starts,
        "seed": seed,
        "sky": {
            "superpixels": zlib.crc32(sky.superpixel.values.tobytes()),
            "sample": {
                name: zlib.crc32(np.ascontiguousarray(sample[name].values))
                for name in SAMPLED
                if name in sample
            },
        },
        "chunk": CHUNK,
        "version": version("pymcdust"),
    }
