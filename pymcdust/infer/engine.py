"""Fit a whole sky, a chunk of superpixels at a time, writing as it goes."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, ModelError
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.fit import fit_rows
from pymcdust.infer.parts import Parts, as_sky, fingerprint_of
from pymcdust.modeling.gallery import resolve
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky.compression import compress

#: Superpixels that are fitted together.
CHUNK = 2048

#: Largest number of parameters of a model that couples superpixels: its Hessian is dense.
LARGEST_JOINT = 1500

#: Superpixels in a chunk of the Zarr store of a fit.
WRITTEN_CHUNK = 4096

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
    sky = as_sky(sky)
    n_superpixel = sky.sizes["superpixel"]
    if model.couples_superpixels:
        check_joint_size(model, sky)
    parts = None
    if out is not None:
        fingerprint = fingerprint_of(
            sky, model=model.to_dict(), chunk=CHUNK, starts=starts, seed=seed
        )
        parts = Parts(Path(out), fingerprint, overwrite)

    chunk = n_superpixel if model.couples_superpixels else CHUNK
    posterior: CompiledPosterior | None = None
    fits = []
    for start in range(0, n_superpixel, chunk):
        done = parts.load(start) if parts else None
        fit = done.to_dataset() if done else None
        if fit is None:
            rows = compress(sky.isel(superpixel=slice(start, start + chunk)))
            posterior = posterior or CompiledPosterior(model, rows)
            fit = fit_rows(posterior, rows, starts, np.random.default_rng([seed, start]))
            if parts:
                parts.save(start, fit, fit.sizes["superpixel"])
        fits.append(fit)
        if progress:
            progress(min(start + chunk, n_superpixel), n_superpixel)
    fit = xr.concat(
        fits, "superpixel", data_vars="minimal", coords="minimal", compat="override", join="exact"
    )
    fit.attrs["pymcdust_version"] = version("pymcdust")
    if parts:
        parts.finish(fit, superpixels_per_chunk=WRITTEN_CHUNK)
    return fit


def check_joint_size(model: VoxelMBB, sky: xr.Dataset) -> None:
    """Refuse a model that couples more superpixels than can be treated as one problem.

    Parameters
    ----------
    model : VoxelMBB
        A model that couples superpixels.
    sky : xarray.Dataset
        The sky, or its rows.

    Raises
    ------
    ModelError
        If there are more than `LARGEST_JOINT` parameters.
    """
    n_superpixel = sky.sizes["superpixel"]
    n_joint = n_superpixel * model.n_free(sky.sizes["voxel"], sky.sizes["band"])
    if n_joint > LARGEST_JOINT:
        raise ModelError(
            f"{model.name} couples the {n_superpixel} superpixels of this sky by parameters over "
            f"the sky: {n_joint} parameters would be fitted jointly, of {LARGEST_JOINT} allowed; "
            "choose fewer superpixels, or tie those parameters per superpixel"
        )
