"""Fit one block of superpixels: start, climb, measure the width, and put it into words."""

import json
from collections.abc import Mapping

import numpy as np
import xarray as xr

from pymcdust.infer.compiled import CompiledPosterior, Evaluation, Slot
from pymcdust.infer.laplace import LaplaceApproximation, laplace_approximation
from pymcdust.infer.newton import Optimum, maximise
from pymcdust.modeling.parameter import prior_statistic
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky.compression import chi_square
from pymcdust.sky.dataset import cuts_of

#: Where the published fits start (Zelko et al. 2022, published code).
START: dict[str, float] = {"temperature": 18.8, "beta": 1.53, "rho": 1e-4, "offset": 0.5}

#: The second starting point: dust that hardly shines, and much of it. A voxel that is cold in one
#: maximum and warm in another is found from both sides.
COLD_START: dict[str, float] = {**START, "temperature": 7.0, "rho": 1e-3}

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
        Scatters all starting points but the first two.

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
    first, cold = (
        np.tile(start_coordinates(posterior, start), (n_block, 1)) for start in (START, COLD_START)
    )
    best = maximise(evaluate, first)
    for attempt in range(1, starts + RESTARTS):
        again = np.arange(n_block) if attempt < starts else np.flatnonzero(~best.converged)
        if not len(again):
            break
        start = cold[again]
        if attempt > 1:
            start = first[again] + RESTART_SCATTER * rng.normal(size=start.shape)
        other = maximise(lambda theta, b, again=again: evaluate(theta, again[b]), start)
        best.replace_where_better(again, other)
    return best


def start_coordinates(posterior: CompiledPosterior, start: Mapping[str, float]) -> np.ndarray:
    """Return a starting point of a block, (parameter,); what the priors rule out is replaced."""
    theta = np.empty(posterior.n_parameter)
    for slot in posterior.slots:
        value = start.get(slot.name)
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
    """Put a fit into the words of the fit contract."""
    parameters = _parameters(posterior, rows, optimum.evaluation.natural, laplace.sd)
    values = {name: parameters[name].variable for name in posterior.model.parameters}
    diagnostics = _diagnostics(posterior, rows, optimum, laplace, chi_square(rows, values))
    fit = xr.Dataset({**parameters, **diagnostics, **cuts_of(rows)})
    fit = fit.assign_coords(
        {name: rows[name].variable for name in ("superpixel", "voxel", "band", "frequency")}
    )
    return fit.assign_attrs(
        **rows.attrs,
        model=posterior.model.name,
        model_definition=json.dumps(posterior.model.to_dict()),
    )


def _parameters(
    posterior: CompiledPosterior, rows: xr.Dataset, natural: np.ndarray, sd: np.ndarray
) -> dict[str, xr.DataArray]:
    """Name the columns of the estimates and of their errors; add what is held fixed."""
    variables = {}
    for slot in posterior.slots:
        declared = posterior.model.parameters.get(slot.name)
        name, unit = slot.name.replace("_", " "), declared.unit if declared else ""
        shape = tuple(rows.sizes[dim] for dim in slot.dims)
        variables[slot.name] = xr.DataArray(
            natural[:, slot.columns].reshape(shape),
            dims=slot.dims,
            attrs={
                "long_name": name,
                "unit": unit,
                "tying": declared.tying if declared else "hyperparameter",
                **posterior.prior_width[slot.name],
            },
        )
        variables[f"{slot.name}_sd"] = xr.DataArray(
            sd[:, slot.columns].reshape(shape),
            dims=slot.dims,
            attrs={"long_name": f"standard deviation of {name}", "unit": unit},
        )
    for name, parameter in posterior.model.parameters.items():
        if not parameter.free:
            attrs = {"long_name": name, "unit": parameter.unit, "tying": "fixed"}
            variables[name] = xr.DataArray(float(parameter.prior), attrs=attrs)
    return variables


def _diagnostics(
    posterior: CompiledPosterior,
    rows: xr.Dataset,
    optimum: Optimum,
    laplace: LaplaceApproximation,
    chi2: np.ndarray,
) -> dict[str, xr.DataArray]:
    """Tell for each superpixel how good its fit is; a block's number goes to all of its own."""
    block_chi2 = chi2 if posterior.by_superpixel else chi2.sum()
    log_prior = optimum.evaluation.log_prior - posterior.highest_log_prior
    n_data = rows.n_data.values
    along_rows = [dim for dim in rows.reddening.dims if dim not in ("superpixel", "voxel")]
    flags = {
        "not_converged": ~optimum.converged,
        "parameter_at_bound": laplace.at_bound.any(axis=1),
        "no_covariance": np.isnan(laplace.covariance[:, 0, 0]),
        "voxel_without_dust": (rows.reddening == 0).all(along_rows).any("voxel").values,
        "fewer_data_than_parameters": n_data
        < posterior.model.n_free(rows.sizes["voxel"], rows.sizes["band"]),
    }
    columns = {
        "objective": (
            block_chi2 - 2 * log_prior,
            "minus twice the log posterior density, without normalising constants",
        ),
        "chi2": (chi2, "chi-square"),
        "n_data": (n_data, "number of valid data"),
        "converged": (optimum.converged, "whether the fit has converged"),
        "iterations": (optimum.iterations, "evaluations of the log posterior"),
        "gradient_norm": (
            np.sqrt(2 * optimum.gain),
            "length of the gradient, in units of the width of the posterior",
        ),
        "flag": (
            sum(bit * flags[name].astype(np.int32) for name, bit in FLAGS.items()),
            "what to know before use",
        ),
    }
    variables = {
        name: xr.DataArray(
            np.broadcast_to(values, chi2.shape).copy(),
            dims="superpixel",
            attrs={"long_name": long_name},
        )
        for name, (values, long_name) in columns.items()
    }
    variables["flag"].attrs.update(flag_masks=list(FLAGS.values()), flag_meanings=" ".join(FLAGS))
    return variables
