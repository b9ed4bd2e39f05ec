"""Fit one block of superpixels: start, climb, measure the width, and put it into words."""

import json
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.infer.compiled import CompiledPosterior, Evaluation, Slot
from pymcdust.infer.laplace import LaplaceApproximation, laplace_approximation
from pymcdust.infer.newton import Optimum, maximise
from pymcdust.modeling.parameter import prior_statistic
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky.compression import chi_square

#: Where the published fits start (Zelko et al. 2022, published code).
START: dict[str, float] = {"temperature": 18.8, "beta": 1.53, "rho": 1e-4, "offset": 0.5}

#: How often a block that does not converge is started anew, elsewhere.
RESTARTS = 4

#: Scatter of starting points around the first, in unconstrained coordinates.
RESTART_SCATTER = 0.5

#: Bits of `flag`.
FLAGS: dict[str, int] = {
    "not_converged": 1,
    "parameter_at_bound": 2,
    "no_covariance": 4,
    "voxel_without_dust": 8,
    "fewer_data_than_parameters": 16,
}


def fit_rows(
    posterior: CompiledPosterior, rows: xr.Dataset, starts: int, rng: np.random.Generator
) -> xr.Dataset:
    """Find the MAP and its Laplace errors for every superpixel of some rows of data.

    Parameters
    ----------
    posterior : CompiledPosterior
        The model's log posterior.
    rows : xarray.Dataset
        Compressed rows of the superpixels to fit.
    starts : int
        Number of starting points for every block; the highest maximum is kept.
    rng : numpy.random.Generator
        Scatters all starting points but the first.

    Returns
    -------
    xarray.Dataset
        A fit (see the fit contract).
    """
    optimum = find_maximum(posterior, rows, starts, rng)
    laplace = laplace_approximation(optimum.evaluation)
    return _to_dataset(posterior, rows, optimum, laplace)


def find_maximum(
    posterior: CompiledPosterior, rows: xr.Dataset, starts: int, rng: np.random.Generator
) -> Optimum:
    """Climb from several starting points, more of them where none has converged."""
    data = posterior.select(rows, slice(None))
    per_block = posterior.by_superpixel

    def evaluate(theta: np.ndarray, blocks: np.ndarray) -> Evaluation:
        whole = len(blocks) == n_block
        return posterior(
            theta, [d[blocks] if per_block and d.ndim > 1 and not whole else d for d in data]
        )

    n_block = rows.sizes["superpixel"] if per_block else 1
    first = np.tile(start_coordinates(posterior), (n_block, 1))
    best = maximise(evaluate, first)
    for attempt in range(1, starts + RESTARTS):
        again = np.arange(n_block) if attempt < starts else np.flatnonzero(~best.converged)
        if not len(again):
            break
        scattered = first[again] + RESTART_SCATTER * rng.normal(size=(len(again), first.shape[1]))
        other = maximise(lambda theta, b, again=again: evaluate(theta, again[b]), scattered)
        best.replace_where_better(again, other)
    return best


def start_coordinates(posterior: CompiledPosterior) -> np.ndarray:
    """Return the first starting point of a block, (parameter,): the published one, if allowed."""
    theta = np.empty(posterior.n_parameter)
    for slot in posterior.slots:
        value = START.get(slot.name)
        if value is None or not slot.lower < value < slot.upper:
            value = _central_value(posterior.model, slot)
        theta[slot.columns] = slot.to_unconstrained(np.asarray(value, dtype=float))
    return theta


def _central_value(model: VoxelMBB, slot: Slot) -> float:
    prior = model.prior_of(slot.name)
    median = np.nan if prior is None else float(np.mean(prior_statistic(prior, "median")))
    if slot.lower < median < slot.upper:
        return median
    if np.isfinite(slot.lower) and np.isfinite(slot.upper):
        return 0.5 * (slot.lower + slot.upper)
    return slot.lower + 1 if np.isfinite(slot.lower) else min(0.0, slot.upper - 1)


def _to_dataset(
    posterior: CompiledPosterior,
    rows: xr.Dataset,
    optimum: Optimum,
    laplace: LaplaceApproximation,
) -> xr.Dataset:
    model, at = posterior.model, optimum.evaluation
    n_superpixel = rows.sizes["superpixel"]
    variables: dict[str, Any] = {}
    for slot in posterior.slots:
        declared = model.parameters.get(slot.name)
        attrs = {
            "long_name": slot.name.replace("_", " "),
            "unit": declared.unit if declared else "",
            "tying": declared.tying if declared else "hyperparameter",
            "prior_sd": posterior.prior_sd[slot.name],
        }
        shape = tuple(rows.sizes[dim] for dim in slot.dims)
        values = at.natural[:, slot.columns].reshape(shape)
        sd = laplace.sd[:, slot.columns].reshape(shape)
        variables[slot.name] = (slot.dims, values, attrs)
        sd_attrs = {"long_name": f"standard deviation of {attrs['long_name']}"}
        variables[f"{slot.name}_sd"] = (slot.dims, sd, {**sd_attrs, "unit": attrs["unit"]})
    for name, parameter in model.parameters.items():
        if not parameter.free:
            attrs = {"long_name": name, "unit": parameter.unit, "tying": "fixed"}
            variables[name] = ((), float(parameter.prior), attrs)

    def per_superpixel(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, (n_superpixel,)).copy()

    values = {name: xr.Variable(*variables[name][:2]) for name in model.parameters}
    chi2 = chi_square(rows, values)
    block_chi2 = chi2 if posterior.by_superpixel else chi2.sum()
    few = rows.n_data.values < model.n_free(rows.sizes["voxel"], rows.sizes["band"])
    reddening = np.abs(rows.reddening).sum(
        [d for d in rows.reddening.dims if d not in ("superpixel", "voxel")]
    )
    flag = (
        FLAGS["not_converged"] * per_superpixel(~optimum.converged)
        + FLAGS["parameter_at_bound"] * per_superpixel(laplace.at_bound.any(axis=1))
        + FLAGS["no_covariance"] * per_superpixel(np.isnan(laplace.covariance[:, 0, 0]))
        + FLAGS["voxel_without_dust"] * (reddening == 0).any("voxel").values
        + FLAGS["fewer_data_than_parameters"] * few
    ).astype(np.int32)
    diagnostics = {
        "objective": (
            per_superpixel(block_chi2 - 2 * (at.log_prior - posterior.highest_log_prior)),
            "minus twice the log posterior density, without normalising constants",
        ),
        "chi2": (chi2, "chi-square"),
        "n_data": (rows.n_data.values, "number of valid data"),
        "converged": (per_superpixel(optimum.converged), "whether the fit has converged"),
        "iterations": (per_superpixel(optimum.iterations), "evaluations of the log posterior"),
        "gradient_norm": (
            per_superpixel(np.sqrt(2 * optimum.gain)),
            "length of the gradient, in units of the width of the posterior",
        ),
        "flag": (flag, "what to know before use"),
    }
    for name, (array, long_name) in diagnostics.items():
        variables[name] = (("superpixel",), array, {"long_name": long_name})
    variables["flag"][2].update(flag_masks=list(FLAGS.values()), flag_meanings=" ".join(FLAGS))
    variables["distance_edge"] = rows.distance_edge.variable
    coords = {name: rows[name].variable for name in ("superpixel", "voxel", "band", "frequency")}
    attrs = {
        **rows.attrs,
        "model": model.name,
        "model_definition": json.dumps(model.to_dict()),
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)
