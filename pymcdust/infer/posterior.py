"""The posterior contract: draws of any method as a tree of datasets with ArviZ's groups."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.errors import FileFormatError, listing
from pymcdust.infer.graph import DATA
from pymcdust.infer.priors import prior_quantiles
from pymcdust.infer.target import Draws, Target
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky.dataset import cuts_of
from pymcdust.sky.store import open_tree

#: Groups of a posterior.
GROUPS = (
    "posterior",
    "sample_stats",
    "log_likelihood",
    "log_prior",
    "observed_data",
    "constant_data",
)

#: Points of one call of a compiled function.
POINTS_PER_CALL = 2**16

#: What is said of each variable of `sample_stats`.
MEANINGS: dict[str, str] = {
    "lp": "log posterior density of the prior quantiles, times the evidence",
    "diverging": "whether the trajectory diverged",
    "energy": "Hamiltonian energy",
    "tree_depth": "depth of the trajectory's tree",
    "reached_max_treedepth": "whether the trajectory was cut off",
    "n_steps": "leapfrog steps",
    "acceptance_rate": "mean acceptance rate",
    "step_size": "step size",
    "attempts": "how often the chains were run until they had mixed",
    "pareto_k": "k-hat of the importance weights; the draws can be relied on below 0.7",
    "laplace_pareto_k": "k-hat of the importance weights of the Laplace approximation alone",
    "importance_ess": "effective number of the weighted draws",
    "rounds": "proposals that were drawn from",
    "ln_evidence": "log of the evidence; of proposals that learnt, some hundredths too low",
    "ln_evidence_error": "standard error of the log of the evidence",
    "method": "which method drew",
    "walker": "walker of the ensemble",
    "step": "step of the ensemble",
    "acceptance": "share of accepted stretch moves",
    "swap_acceptance": "share of accepted swaps between temperatures",
    "inverse_temperature": "inverse temperature",
    "mean_log_likelihood": "mean log likelihood",
    "stages": "stages from the prior to the posterior",
    "moves": "moves of every particle",
    "correlation": "largest correlation with the particles of the stage before",
}


def to_tree(target: Target, draws: Draws, attrs: Mapping[str, Any]) -> xr.DataTree:
    """Put the draws of a target into the words of the posterior contract.

    Parameters
    ----------
    target : Target
        What was sampled.
    draws : Draws
        The draws.
    attrs : mapping
        Attributes of the root, in addition to those of the sky.

    Returns
    -------
    xarray.DataTree
        The groups that `GROUPS` lists.
    """
    rows, model = target.rows, target.posterior.model
    n_chain, n_draw, n_block, n_parameter = draws.theta.shape
    points = draws.theta.reshape(-1, n_block, n_parameter)
    log_likelihood = target.log_likelihood(points.transpose(1, 0, 2), np.arange(n_block)).T
    natural, log_prior = _natural(target, points)
    log_posterior = log_likelihood - 0.5 * np.square(points).sum(axis=2)
    log_posterior -= 0.5 * n_parameter * np.log(2 * np.pi)

    def by_draw(values: np.ndarray) -> xr.Variable:
        return _of_blocks(target, ("chain", "draw", "block"), values.reshape(n_chain, n_draw, -1))

    variables, priors = {}, {}
    for number, slot in enumerate(target.posterior.slots):
        declared = model.parameters.get(slot.name)
        shape = tuple(rows.sizes[dim] for dim in slot.dims)
        variables[slot.name] = xr.Variable(
            ("chain", "draw", *slot.dims),
            natural[..., slot.columns].reshape(n_chain, n_draw, *shape),
            {
                "long_name": slot.name.replace("_", " "),
                "unit": declared.unit if declared else "",
                "tying": declared.tying if declared else "hyperparameter",
                **target.posterior.prior_width[slot.name],
            },
        )
        priors[slot.name] = by_draw(log_prior[..., number])
    stats = {"lp": by_draw(log_posterior)}
    stats |= {name: _of_blocks(target, *stat) for name, stat in draws.stats.items()}
    for name, variable in stats.items():
        variable.attrs["long_name"] = MEANINGS[name]
    constant = [name for name in DATA if name not in ("emission", "frequency")]
    constant += ["chi2_floor", "log_norm", "n_data"]
    groups = {
        "posterior": variables,
        "sample_stats": stats,
        "log_likelihood": {"emission": by_draw(log_likelihood)},
        "log_prior": priors,
        "observed_data": {"emission": rows.emission.variable},
        "constant_data": {name: rows[name].variable for name in constant} | cuts_of(rows),
    }
    coordinates = ("superpixel", "voxel", "band", "frequency")
    tree = {name: _dataset(group, rows, coordinates) for name, group in groups.items()}
    root = xr.Dataset(
        attrs={
            **rows.attrs,
            "model": model.name,
            "model_definition": json.dumps(model.to_dict()),
            "pymcdust_version": version("pymcdust"),
            **attrs,
        }
    )
    return xr.DataTree.from_dict({"/": root, **tree})


def open_posterior(path: str | Path) -> xr.DataTree:
    """Open a posterior lazily from its Zarr store, and check that it is whole.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    xarray.DataTree
        The posterior; arrays are read when they are asked for.

    Raises
    ------
    FileFormatError
        If there is no Zarr store at `path`, if it is cut short, or holds something else.
    """
    tree = open_tree(path)
    missing = [name for name in GROUPS if name not in tree.children]
    if missing:
        kind = "a fit" if "model" in tree.attrs else "a sky or something else"
        raise FileFormatError(
            f"{path}: not a posterior but {kind}, it has no group {listing(missing)}; posteriors "
            "are made by `pymcdust sample`"
        )
    return tree


def model_of(posterior: xr.DataTree) -> VoxelMBB:
    """Return the model whose posterior this is, as it was declared."""
    return VoxelMBB.from_dict(json.loads(posterior.attrs["model_definition"]))


def rows_of(posterior: xr.DataTree) -> xr.Dataset:
    """Return the rows of data that a posterior was drawn from.

    Parameters
    ----------
    posterior : DataTree
        A posterior.

    Returns
    -------
    xarray.Dataset
        As `pymcdust.sky.compression.compress` made them.
    """
    groups = [posterior[name].to_dataset() for name in ("constant_data", "observed_data")]
    rows = xr.merge(groups, join="exact", compat="override").assign_attrs(posterior.attrs)
    return rows.assign_coords(pixel=np.arange(rows.sizes["pixel"]))


def quantile_draws(posterior: xr.DataTree, target: Target) -> np.ndarray:
    """Return the draws of a posterior in quantile coordinates: what `to_tree` made them from.

    Parameters
    ----------
    posterior : DataTree
        A posterior.
    target : Target
        The target that it was drawn from.

    Returns
    -------
    (chain, draw, block, parameter) array
        The draws.
    """
    natural, model = posterior["posterior"].to_dataset(), target.posterior.model
    sizes = natural.sizes
    theta = np.empty((sizes["chain"], sizes["draw"], target.n_block, target.n_parameter))
    for slot in target.posterior.slots:
        u = prior_quantiles(model, natural, slot.name).transpose("chain", "draw", *slot.dims)
        theta[..., slot.columns] = u.values.reshape(*theta.shape[:3], -1)
    return theta


def _natural(target: Target, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return natural parameters and their log prior, at points (point, block, parameter)."""
    step = max(1, POINTS_PER_CALL // points.shape[1])
    parts = [
        target.posterior.natural(points[start : start + step], target.data(slice(None)))
        for start in range(0, len(points), step)
    ]
    natural, log_prior = zip(*parts, strict=True)
    return np.concatenate(natural), np.concatenate(log_prior)


def _of_blocks(
    target: Target,
    dims: tuple[str, ...],
    values: np.ndarray,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Variable:
    """Name the dimension of the blocks, or drop it where the sky is one block."""
    variable = xr.Variable(dims, values, attrs)
    if "block" not in dims:
        return variable
    if target.posterior.by_superpixel:
        return xr.Variable(["superpixel" if dim == "block" else dim for dim in dims], values, attrs)
    return variable.isel(block=0)


def _dataset(
    variables: dict[str, xr.Variable], rows: xr.Dataset, coordinates: tuple[str, ...]
) -> xr.Dataset:
    """Make a group, with those coordinates of the rows that its variables have."""
    dims = {dim for variable in variables.values() for dim in variable.dims}
    coords: dict[str, Any] = {
        name: rows[name].variable for name in coordinates if set(rows[name].dims) <= dims
    }
    sizes = {dim: v.sizes[dim] for v in variables.values() for dim in v.dims}
    coords |= {name: np.arange(sizes[name]) for name in ("chain", "draw") if name in sizes}
    return xr.Dataset(variables, coords)
