"""Draw from the posteriors of a sky by any method, in chunks of superpixels, writing as it goes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from pymcdust.errors import ConfigurationError, SkyError, listing, unknown
from pymcdust.infer.auto import Auto
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.engine import check_joint_size
from pymcdust.infer.laplace import Laplace
from pymcdust.infer.nuts import LEAST_DRAWS, Nuts
from pymcdust.infer.parts import Parts, as_sky, fingerprint_of
from pymcdust.infer.posterior import open_posterior, to_tree
from pymcdust.infer.smc import Smc
from pymcdust.infer.target import Draws, Target
from pymcdust.infer.tempering import Ptemcee
from pymcdust.modeling.gallery import resolve
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky.compression import compress
from pymcdust.sky.morphology import random_stream


class Method(Protocol):
    """Draws from a target; its attributes are its settings."""

    def __call__(self, target: Target) -> Draws:
        """Draw from every block of a target."""


class _Entry(NamedTuple):
    """A method; the superpixels that it takes together; and how it asks for the likelihood."""

    method: type[Method]
    chunk: int
    often: bool = False


#: The methods by their names.
METHODS: dict[str, _Entry] = {
    "auto": _Entry(Auto, 32),
    "laplace": _Entry(Laplace, 128),
    "nuts": _Entry(Nuts, 32),
    "ptemcee": _Entry(Ptemcee, 1, often=True),
    "smc": _Entry(Smc, 8, often=True),
}


class Progress(Protocol):
    """Called after every chunk."""

    def __call__(self, done: int, total: int, worst_rhat: float) -> None:
        """Take the number of superpixels done, their total, and the worst R-hat so far.

        R-hat is NaN where it tells nothing: for independent draws and single chains.
        """


def sample(
    model: str | Path | type[VoxelMBB] | VoxelMBB,
    sky: xr.Dataset | str | Path,
    *,
    method: str = "auto",
    superpixel: int | Sequence[int] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> xr.DataTree:
    """Draw from the posterior of every superpixel.

    Parameters
    ----------
    model : str, path, VoxelMBB class or instance
        The model: a name of the gallery, a file, a class or an instance.
    sky : xarray.Dataset or path
        A sky, its compressed rows, or the path of a sky.
    method : {"auto", "laplace", "nuts", "ptemcee", "smc"}, optional
        The method. ``"laplace"`` is the fast preview, ``"nuts"`` the posterior of the whole sky,
        ``"auto"`` the former where it can be relied on and the latter elsewhere; ``"ptemcee"``
        finds maxima that lie apart, ``"smc"`` gives the evidence.
    superpixel : int or sequence of int, optional
        NESTED indices of the superpixels to sample; by default all of the sky.
    out : path, optional
        Zarr store for the posterior. Chunks are written beside it as they are done; a run that was
        stopped goes on from there when it is asked for again, and gives the same draws.
    seed : int, optional
        Seed. A superpixel's draws depend on it and on the superpixel's index.
    overwrite : bool, optional
        Replace a posterior that is already at `out`.
    progress : callable, optional
        Called after every chunk, see `Progress`.
    **settings
        Settings of the method: the parameters of `pymcdust.infer.laplace.Laplace`,
        `pymcdust.infer.nuts.Nuts`, `pymcdust.infer.tempering.Ptemcee` or
        `pymcdust.infer.smc.Smc`.

    Returns
    -------
    xarray.DataTree
        The posterior, with ArviZ's groups `posterior`, `sample_stats`, `log_likelihood`,
        `log_prior`, `observed_data` and `constant_data`; lazy if it was written to `out`. All
        draws have the same weight. In `log_likelihood` and `log_prior` superpixels count as one
        each; the likelihood is that of all pixels, normalised.

    Raises
    ------
    ModelError
        If there is no such model, it couples more superpixels than can be sampled jointly, or the
        quantiles of a prior are not known.
    SkyError
        If the sky does not keep the sky contract, or lacks a superpixel.
    ConfigurationError
        If the method or a setting is unknown or impossible, or `out` exists.
    """
    model, sampler = resolve(model), make_method(method, settings)
    random_stream(seed, "draws")  # refuses what is no seed
    sky = _choose(as_sky(sky), superpixel)
    n_superpixel = sky.sizes["superpixel"]
    if model.couples_superpixels:
        check_joint_size(model, sky)
    used = asdict(sampler)
    chunk = n_superpixel if model.couples_superpixels else METHODS[method].chunk
    parts = None
    if out is not None:
        # Draws do not depend on how many processors make them.
        kept = {name: value for name, value in used.items() if name != "cores"}
        fingerprint = fingerprint_of(
            sky,
            model=model.to_dict(),
            method=method,
            settings=kept,
            seed=seed,
            chunk=chunk,
        )
        parts = Parts(Path(out), fingerprint, overwrite)
    attrs = {"method": method, "settings": json.dumps(used), "seed": seed}

    posterior: CompiledPosterior | None = None
    trees, worst = [], -np.inf
    for start in range(0, n_superpixel, chunk):
        tree = parts.load(start) if parts else None
        if tree is None:
            rows = compress(sky.isel(superpixel=slice(start, start + chunk))).load()
            posterior = posterior or CompiledPosterior(model, rows, "quantile")
            seeds = _seeds(posterior, rows, seed)
            target = Target(posterior, rows, seeds, METHODS[method].often)
            tree = to_tree(target, sampler(target), attrs)
            if parts:
                parts.save(start, tree, superpixels_per_chunk=chunk)
        if not parts:
            trees.append(tree)
        if progress:
            worst = np.fmax(worst, _worst_rhat(tree))
            rhat = worst if np.isfinite(worst) else np.nan
            progress(min(start + chunk, n_superpixel), n_superpixel, rhat)
    if parts:
        parts.join(superpixels_per_chunk=chunk)
        return open_posterior(out)
    return _concatenated(trees)


def make_method(name: str, settings: dict[str, Any]) -> Method:
    """Return a method with its settings.

    Parameters
    ----------
    name : str
        A key of `METHODS`.
    settings : dict
        Settings of the method.

    Returns
    -------
    Method
        An instance.

    Raises
    ------
    ConfigurationError
        If the method or a setting is unknown, or a setting impossible.
    """
    if name not in METHODS:
        raise ConfigurationError(unknown("method", name, METHODS))
    return with_settings(METHODS[name].method, name, settings)


def with_settings[T](kind: type[T], name: str, settings: dict[str, Any]) -> T:
    """Return an instance of a dataclass of settings.

    Parameters
    ----------
    kind : type
        A dataclass.
    name : str
        Name of the method whose settings it holds.
    settings : dict
        Those that are not to have their default.

    Returns
    -------
    object
        An instance of `kind`.

    Raises
    ------
    ConfigurationError
        If a setting is unknown, or impossible.
    """
    allowed = [field.name for field in fields(kind)]
    for setting in settings:
        if setting not in allowed:
            raise ConfigurationError(unknown(f"setting of the method {name}", setting, allowed))
    try:
        return kind(**settings)
    except TypeError as error:
        raise ConfigurationError(
            f"a setting of the method {name} is impossible: {error}"
        ) from error


def _choose(sky: xr.Dataset, superpixel: int | Sequence[int] | None) -> xr.Dataset:
    """Return the superpixels that are asked for, in the order of the sky."""
    if superpixel is None:
        return sky
    wanted = np.unique(np.atleast_1d(superpixel))
    present = sky.superpixel.values
    missing = np.setdiff1d(wanted, present)
    if len(missing):
        nearest = present[np.argmin(np.abs(present - missing[0]))]
        raise SkyError(
            f"the sky has no superpixel {listing(missing[:5])}; its {len(present)} superpixels "
            f"(NESTED, Nside {sky.attrs['superpixel_nside']}) lie between {present.min()} and "
            f"{present.max()}, the nearest index to {missing[0]} is {nearest}"
        )
    return sky.isel(superpixel=np.isin(present, wanted))


def _seeds(
    posterior: CompiledPosterior, rows: xr.Dataset, seed: int
) -> list[np.random.SeedSequence]:
    keys = rows.superpixel.values if posterior.by_superpixel else [0]
    return [random_stream(seed, "draws", key) for key in keys]


def _worst_rhat(tree: xr.DataTree) -> float:
    """Return the worst R-hat of a chunk, NaN where it tells nothing."""
    posterior, stats = tree["posterior"].dataset, tree["sample_stats"].dataset
    if posterior.sizes["chain"] < 2 or posterior.sizes["draw"] < LEAST_DRAWS:
        return np.nan
    if "importance_ess" in stats and "method" not in stats:
        return np.nan
    rhat = [
        array_stats.rhat(draws.values, chain_axis=0, draw_axis=1).max()
        for draws in posterior.values()
    ]
    return float(np.max(rhat))


def _concatenated(trees: list[xr.DataTree]) -> xr.DataTree:
    """Join trees along `superpixel`; what lacks that dimension is the same in all."""
    groups = {}
    for node in trees[0].subtree:
        datasets = [tree[node.path].to_dataset(inherit=False) for tree in trees]
        whole = datasets[0]
        if len(datasets) > 1 and "superpixel" in whole.dims:
            whole = xr.concat(
                datasets,
                "superpixel",
                data_vars="minimal",
                coords="minimal",
                compat="override",
                join="exact",
                combine_attrs="override",
            )
        groups[node.path] = whole
    return xr.DataTree.from_dict(groups)
