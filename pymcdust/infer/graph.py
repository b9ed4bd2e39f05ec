"""Write the graph of a model's log posterior, in one of two kinds of coordinates.

*Unconstrained* coordinates are those of PyMC's transforms; the density is that of the natural
parameters, without a Jacobian: its maximum is the MAP. *Quantile* coordinates make every parameter
the standard normal that its prior makes of it (see `pymcdust.infer.coordinates`), and the density
is that of these coordinates: it is what is sampled.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pymc.model.transform.conditioning import remove_value_transforms
from pymc_extras.prior import Prior
from pytensor.graph.replace import graph_replace
from pytensor.graph.rewriting.basic import dfs_rewriter
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.tensor.rewriting.einsum import inline_optimized_einsum
from pytensor.xtensor import as_xtensor
from pytensor.xtensor.type import XTensorVariable

from pymcdust.infer.coordinates import from_normal
from pymcdust.infer.layout import Slot
from pymcdust.modeling.parameter import named
from pymcdust.modeling.voxel_mbb import VoxelMBB, data_name

#: What a graph takes as data, by the names of `pymcdust.sky.compression` rows.
DATA: tuple[str, ...] = ("reddening", "intercept", "emission", "sigma", "frequency")

#: Kinds of coordinates.
Coordinates = Literal["unconstrained", "quantile"]


@dataclass(frozen=True)
class Graph:
    """The log posterior of a batch of blocks, as a graph of inputs.

    Parameters
    ----------
    theta : (block, parameter) tensor
        Coordinates.
    data : dict of tensors
        Rows of data, by the names in `DATA`, then the numbers of priors that are data.
    log_prior, log_likelihood : (block,) tensor
        Both normalised.
    natural : (block, parameter) tensor
        The natural parameters.
    natural_log_prior : (block, variable) tensor
        Log prior density of the natural parameters of each free variable, normalised.
    """

    theta: pt.TensorVariable
    data: dict[str, pt.TensorVariable]
    log_prior: pt.TensorVariable
    log_likelihood: pt.TensorVariable
    natural: pt.TensorVariable
    natural_log_prior: pt.TensorVariable


def write_graph(
    declared: VoxelMBB,
    model: pm.Model,
    slots: tuple[Slot, ...],
    rows: xr.Dataset,
    coordinates: Coordinates,
    varied: tuple[str, ...] = (),
) -> Graph:
    """Write the graph of a model's log posterior.

    Parameters
    ----------
    declared : VoxelMBB
        The declaration, centred.
    model : pymc.Model
        What it builds on the rows.
    slots : tuple of Slot
        The layout of its free variables.
    rows : xarray.Dataset
        Rows of the kind that will be evaluated.
    coordinates : {"unconstrained", "quantile"}
        Kind of coordinates.
    varied : tuple of str, optional
        Numbers of priors that the model takes as data, of quantile coordinates alone.

    Returns
    -------
    Graph
        Of plain tensors.

    Raises
    ------
    ModelError
        If the quantiles of a prior are not known.
    """
    by_superpixel = not declared.couples_superpixels
    if coordinates == "quantile":
        model = remove_value_transforms(model)
    # Only the number of superpixels stays open: known lengths spare most of the graph's rewriting.
    n_parameter = slots[-1].stop
    theta = pt.matrix("theta", dtype="float64", shape=(None if by_superpixel else 1, n_parameter))
    data = {
        name: pt.tensor(
            name,
            dtype="float64",
            shape=tuple(
                None if by_superpixel and dim == "superpixel" else length
                for dim, length in rows[name].sizes.items()
            ),
        )
        for name in (*DATA, *map(data_name, varied))
    }
    containers = {
        model[_container(name)]: as_xtensor(value, dims=model[_container(name)].type.dims)
        for name, value in data.items()
    }
    parts = _columns(slots, theta, by_superpixel)
    if coordinates == "quantile":
        numbers = {number: containers[model[data_name(number)]] for number in varied}
        natural, terms = _in_quantiles(declared, model, slots, parts, numbers)
    else:
        natural, terms = _in_transforms(model, parts)
    *priors, likelihood = (_total(term, by_superpixel) for term in terms)
    natural = pt.concatenate([n.values.reshape((theta.shape[0], -1)) for n in natural], axis=1)
    graphs = graph_replace(
        [pt.stack(priors, axis=1), likelihood, natural], containers, strict=False
    )
    # Named dimensions have no gradients of their own: they are lowered to plain tensors first.
    natural_log_prior, log_likelihood, natural = rewrite_graph(
        graphs,
        include=("lower_xtensor", "canonicalize", "stabilize"),
        # The sightline sum, as a matrix product: an Einsum's derivatives stay opaque graphs.
        custom_rewrite=dfs_rewriter(inline_optimized_einsum),
    )
    natural = pt.specify_shape(natural, theta.type.shape)
    if coordinates == "quantile":
        log_prior = -0.5 * (theta**2 + np.log(2 * np.pi)).sum(axis=1)
    else:
        log_prior = natural_log_prior.sum(axis=1)
    return Graph(theta, data, log_prior, log_likelihood, natural, natural_log_prior)


def _columns(
    slots: tuple[Slot, ...], theta: pt.TensorVariable, by_superpixel: bool
) -> dict[str, XTensorVariable]:
    """Cut the vectors of all blocks into named variables with named dimensions."""
    parts = {}
    for slot in slots:
        # Reshaping to an open length would not vectorise.
        columns = slot.columns if slot.shape else slot.start
        values = theta[:, columns] if by_superpixel else theta[0, columns]
        if len(slot.shape) > 1:
            values = values.reshape((*(theta.shape[:1] if by_superpixel else ()), *slot.shape))
        parts[slot.name] = as_xtensor(values, dims=slot.dims)
    return parts


def _in_transforms(
    model: pm.Model, parts: dict[str, XTensorVariable]
) -> tuple[list[XTensorVariable], list[XTensorVariable]]:
    """Write the natural parameters, and the log density of each variable, data last."""
    natural = [
        parts[rv.name]
        if (transform := model.rvs_to_transforms[rv]) is None
        else transform.backward(parts[rv.name], *rv.owner.inputs)
        for rv in model.free_RVs
    ]
    values = {model.rvs_to_values[rv]: parts[rv.name] for rv in model.free_RVs}
    terms = model.logp(jacobian=False, sum=False)
    return natural, graph_replace(terms, values, strict=False)


def _in_quantiles(
    declared: VoxelMBB,
    model: pm.Model,
    slots: tuple[Slot, ...],
    parts: dict[str, XTensorVariable],
    numbers: dict[str, XTensorVariable],
) -> tuple[list[XTensorVariable], list[XTensorVariable]]:
    """Write the natural parameters, and the log density of each variable, data last."""
    natural: dict[str, XTensorVariable] = {}
    # A prior's own parameters come before it in the model.
    for slot in slots:
        prior = declared.prior_of(slot.name)
        own = {
            name: natural[f"{slot.name}_{name}"]
            if isinstance(value, Prior)
            else numbers.get(f"{slot.name}.{name}", _tensor(named(value, slot.dims)))
            for name, value in prior.parameters.items()
        }
        natural[slot.name] = from_normal(prior, parts[slot.name], own).transpose(*slot.dims)
    values = {model.rvs_to_values[rv]: natural[rv.name] for rv in model.free_RVs}
    return list(natural.values()), graph_replace(model.logp(sum=False), values, strict=False)


def _tensor(value: Any) -> Any:
    """Return a named array as a tensor of named dimensions, a number as it is."""
    return as_xtensor(value.values, dims=value.dims) if isinstance(value, xr.DataArray) else value


def _container(name: str) -> str:
    # Those of the rows are called after what they hold, but for the frequencies.
    return f"{name}_data" if name in DATA and name != "frequency" else name


def _total(term: object, by_superpixel: bool) -> pt.TensorVariable:
    kept = ("superpixel",) if by_superpixel else ()
    total = term.sum(dim=[d for d in term.dims if d not in kept]).values
    return total if by_superpixel else total[None]


def whitened_model(graph: Graph) -> pm.Model:
    """Write the log posterior of one block as a PyMC model of whitened coordinates.

    Parameters
    ----------
    graph : Graph
        The log posterior in quantile coordinates.

    Returns
    -------
    pymc.Model
        Of the flat variable `z` (parameter,), with the quantile coordinates ``location +
        factor z``. `location`, `factor` and the data, by the names that the graph has for them,
        are `pymc.Data`, for which those of a block are to be put in.
    """
    n_parameter = graph.theta.type.shape[1]
    with pm.Model() as model:
        z = pm.Flat("z", shape=n_parameter)
        location = pm.Data("location", np.zeros(n_parameter))
        factor = pm.Data("factor", np.eye(n_parameter))
        replaced = {graph.theta: pt.specify_shape((location + factor @ z)[None], (1, n_parameter))}
        for name, tensor in graph.data.items():
            shape = [1 if length is None else length for length in tensor.type.shape]
            replaced[tensor] = pt.specify_shape(pm.Data(name, np.ones(shape)), shape)
        # Not clone_replace, which would lose z.
        log_prior, log_likelihood = graph_replace(
            [graph.log_prior, graph.log_likelihood], replaced, strict=False
        )
        pm.Potential("log_posterior", (log_prior + log_likelihood).sum())
    return model
