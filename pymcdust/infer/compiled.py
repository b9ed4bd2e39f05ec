"""The only place that compiles: a model's log posterior, gradient and Hessian blocks.

Given its data a superpixel is independent of the others unless a parameter is shared over the sky.
The Hessian of the batch's summed log posterior is then block diagonal, and its product with the
unit vectors of one superpixel, taken in every superpixel at once, *is* all the blocks. One compiled
function of (superpixel, parameter) serves any number of superpixels, any variant and any prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr
from pytensor.compile.executor import Function
from pytensor.compile.mode import Mode
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.rewriting.db import RewriteDatabaseQuery

from pymcdust.errors import ModelError, listing
from pymcdust.infer.graph import DATA, Coordinates, Graph, whitened_model, write_graph
from pymcdust.infer.layout import Slot, layout
from pymcdust.infer.seeds import Seeds
from pymcdust.infer.structure import likelihood_derivatives
from pymcdust.modeling.parameter import is_root, log_peak, prior_width
from pymcdust.modeling.voxel_mbb import VoxelMBB, data_name


@dataclass(frozen=True)
class Evaluation:
    """The log posterior of a batch of blocks, with its derivatives by their coordinates.

    Parameters
    ----------
    log_prior, log_likelihood : (block,) array
        Both normalised.
    gradient : (block, parameter) array
        Of their sum.
    hessian : (block, parameter, parameter) array
        Of their sum.
    natural : (block, parameter) array
        The natural parameters at the point.
    slope, curvature : (block, parameter) array
        First and second derivative of each natural parameter by its coordinate.
    """

    log_prior: np.ndarray
    log_likelihood: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    natural: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray

    @property
    def log_posterior(self) -> np.ndarray:
        """Sum of log prior and log likelihood, (block,)."""
        return self.log_prior + self.log_likelihood


class CompiledPosterior:
    """A model's log posterior with its first and second derivatives, compiled once.

    Parameters
    ----------
    model : VoxelMBB
        The model.
    rows : xarray.Dataset
        Rows of the kind that will be evaluated. Their numbers of voxels, bands and rows, and
        whether weights differ from band to band, are those of every later evaluation; the
        superpixels may be others, and any number, unless the model ties parameters over the sky.
    coordinates : {"unconstrained", "quantile"}, optional
        Kind of coordinates (see `pymcdust.infer.graph`): the first for the MAP, the second for
        sampling.
    varied : sequence of str, optional
        Numbers of priors, such as ``"temperature.mu"``, that may differ from superpixel to
        superpixel (or where the sky is one block, from evaluation to evaluation): the rows have
        them, as `pymcdust.infer.priors.with_numbers` adds them. In quantile coordinates alone.

    Attributes
    ----------
    by_superpixel : bool
        Whether every superpixel is a block of its own. A model with parameters over the sky (or
        with a hierarchy) is one block.
    slots : tuple of Slot
        The layout of a block's vector.
    """

    def __init__(
        self,
        model: VoxelMBB,
        rows: xr.Dataset,
        coordinates: Coordinates = "unconstrained",
        varied: Sequence[str] = (),
    ) -> None:
        declared = model.centred()
        pymc_model = declared.build(rows)
        free = pymc_model.free_RVs
        if not free:
            raise ModelError(f"{model.name} has no free parameter: nothing is left to infer")
        self.model = model
        self.by_superpixel = not model.couples_superpixels
        self.slots = layout(pymc_model, self.by_superpixel)
        varied = tuple(varied)
        if varied:
            _check_varied(varied, rows, coordinates)
            # The support of a variable, which its slot tells, would no longer be a number.
            pymc_model = declared.build(rows, varied)
        self._graph = write_graph(declared, pymc_model, self.slots, rows, coordinates, varied)
        self._declared, self._coordinates = declared, coordinates
        self._pymc_nuts: dict[float, tuple[pm.Model, pm.NUTS]] = {}

    @property
    def n_parameter(self) -> int:
        """Number of parameters of one block."""
        return self.slots[-1].stop

    @property
    def data_names(self) -> tuple[str, ...]:
        """Names of the data that an evaluation takes, in their order."""
        return tuple(self._graph.data)

    @cached_property
    def prior_width(self) -> dict[str, dict[str, Any]]:
        """How wide the prior of each variable is, see `pymcdust.modeling.parameter.prior_width`."""
        priors = {slot.name: self.model.prior_of(slot.name) for slot in self.slots}
        unknown = {"prior_sd": np.nan}
        return {
            name: prior_width(prior, name) if prior else unknown for name, prior in priors.items()
        }

    @cached_property
    def highest_log_prior(self) -> float:
        """Highest log prior that a block can have; hierarchical priors count as 0."""
        priors = [(self.model.prior_of(slot.name), slot.stop - slot.start) for slot in self.slots]
        return sum(float(np.mean(log_peak(prior)) * count) for prior, count in priors if prior)

    def __call__(self, theta: np.ndarray, data: list[np.ndarray]) -> Evaluation:
        """Evaluate the log posterior and its derivatives.

        Parameters
        ----------
        theta : (block, parameter) array
            Coordinates.
        data : list of arrays
            The blocks' data, from `select`.

        Returns
        -------
        Evaluation
            Values and derivatives.
        """
        # A trial point may lie where numbers overflow; whoever asked sees that it is not finite.
        seeds = self._seeds
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            found = self._function(theta, seeds.directions, *data)
        return Evaluation(*found[:3], seeds.hessian(found[3]), *found[4:])

    def log_likelihood(
        self, theta: np.ndarray, data: list[np.ndarray], often: bool = False
    ) -> np.ndarray:
        """Evaluate the log likelihood alone, at many points of every block.

        Parameters
        ----------
        theta : (point, block, parameter) array
            Coordinates.
        data : list of arrays
            The blocks' data, from `select`.
        often : bool, optional
            Evaluate it by Numba: with few points it is ten times as fast, but takes some ten
            seconds to compile.

        Returns
        -------
        (point, block) array
            Of the rows of data, normalised.
        """
        function = self._log_likelihood_by_numba if often else self._log_likelihood
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return function(theta, *data)

    def natural(
        self, theta: np.ndarray, data: Sequence[np.ndarray] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the natural parameters at many points of every block, and their log prior.

        Parameters
        ----------
        theta : (point, block, parameter) array
            Coordinates.
        data : list of arrays, optional
            The blocks' data, from `select`, of which numbers of priors are needed if any is varied.

        Returns
        -------
        natural : (point, block, parameter) array
            The natural parameters.
        log_prior : (point, block, variable) array
            Log prior density of the natural parameters of each free variable, normalised.
        """
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return tuple(self._natural(theta, *data[len(DATA) :]))

    @cached_property
    def _seeds(self) -> Seeds:
        return Seeds(self.slots)

    @cached_property
    def _function(self) -> Function:
        return _compile(
            self._graph, self._declared, self.slots, self._coordinates, len(self._seeds.directions)
        )

    @cached_property
    def _log_likelihood(self) -> Function:
        return self._compile_log_likelihood(NUMPY_MODE)

    @cached_property
    def _log_likelihood_by_numba(self) -> Function:
        return self._compile_log_likelihood("NUMBA")

    def _compile_log_likelihood(self, mode: Mode | str) -> Function:
        (value,), points = self._at_points(self._graph.log_likelihood)
        return pytensor.function(
            [points, *self._graph.data.values()], value, mode=mode, on_unused_input="ignore"
        )

    @cached_property
    def _natural(self) -> Function:
        graph = self._graph
        values, points = self._at_points(graph.natural, graph.natural_log_prior)
        numbers = list(graph.data.values())[len(DATA) :]
        return pytensor.function(
            [points, *numbers], values, mode=NUMPY_MODE, on_unused_input="ignore"
        )

    def _at_points(
        self, *outputs: pt.TensorVariable
    ) -> tuple[list[pt.TensorVariable], pt.TensorVariable]:
        """Vectorise outputs over a leading dimension of the coordinates."""
        theta = self._graph.theta
        points = pt.tensor("points", dtype="float64", shape=(None, *theta.type.shape))
        return vectorize_graph(list(outputs), {theta: points}), points

    @cached_property
    def nutpie(self) -> tuple[Any, set[str]]:
        """The log posterior of one block, whitened, compiled for nutpie's NUTS.

        See `pymcdust.infer.graph.whitened_model`. With it the names of the data that enter: nutpie
        refuses others.
        """
        import nutpie  # takes a second, and is needed here alone

        compiled = nutpie.compile_pymc_model(
            whitened_model(self._graph), backend="numba", var_names=[]
        )
        return compiled, {variable.name for variable in compiled.shared_var_keys}

    def pymc_nuts(self, target_accept: float) -> tuple[pm.Model, pm.NUTS]:
        """Return the log posterior of one block, whitened, and PyMC's own NUTS compiled for it."""
        if target_accept not in self._pymc_nuts:
            model = whitened_model(self._graph)
            self._pymc_nuts[target_accept] = (
                model,
                pm.NUTS(model=model, target_accept=target_accept),
            )
        return self._pymc_nuts[target_accept]

    def select(self, rows: xr.Dataset, blocks: np.ndarray | slice) -> list[np.ndarray]:
        """Return the data of some blocks, in the order that an evaluation takes.

        Parameters
        ----------
        rows : xarray.Dataset
            Rows of data.
        blocks : array of int, or slice
            Positions along `superpixel`; without effect where the sky is one block.

        Returns
        -------
        list of arrays
            As `data_names` lists them.
        """
        chosen = blocks if self.by_superpixel else slice(None)
        return [
            np.asarray(rows[name].values, dtype=float)[chosen]
            if "superpixel" in rows[name].dims
            else np.asarray(rows[name].values, dtype=float)
            for name in self.data_names
        ]

    def of_blocks(self, data: list[np.ndarray], blocks: np.ndarray | slice) -> list[np.ndarray]:
        """Return the part of selected data that some of its blocks need, by their positions."""
        # A length that the graph does not know is that of the blocks.
        open_lengths = [None in tensor.type.shape for tensor in self._graph.data.values()]
        return [
            array[blocks] if is_open else array
            for array, is_open in zip(data, open_lengths, strict=True)
        ]


def _check_varied(varied: tuple[str, ...], rows: xr.Dataset, coordinates: Coordinates) -> None:
    if coordinates != "quantile":
        raise ModelError(
            f"{listing(varied)} cannot be data in {coordinates} coordinates, which know the bounds "
            "of a prior as numbers; allowed are quantile coordinates"
        )
    missing = [data_name(number) for number in varied if data_name(number) not in rows]
    if missing:
        raise ModelError(
            f"the rows lack {listing(missing)}; numbers of priors are added to them by "
            "pymcdust.infer.priors.with_numbers"
        )


def _compile(
    graph: Graph,
    declared: VoxelMBB,
    slots: tuple[Slot, ...],
    coordinates: Coordinates,
    n_direction: int,
) -> Function:
    """Compile the log posterior with its first and second derivatives."""
    theta, natural = graph.theta, graph.natural
    shape = (n_direction, *theta.type.shape[1:])
    directions = pt.matrix("directions", dtype="float64", shape=shape)
    slope = pt.grad(natural.sum(), theta)
    curvature = pt.grad(slope.sum(), theta, disconnected_inputs="ignore")
    # The likelihood's structure serves where each natural parameter has a coordinate of its own.
    own = coordinates == "unconstrained" or all(
        is_root(p.prior) for p in declared.free_parameters.values()
    )
    if own and not declared.couples_superpixels:
        gradient, hessian = _prior_derivatives(graph.log_prior, declared, theta, directions)
        by_natural, second = likelihood_derivatives(declared, slots, natural, graph.data)
        gradient = gradient + by_natural * slope
        hessian = hessian + second * slope[:, :, None] * slope[:, None, :]
        hessian = hessian + (by_natural * curvature)[:, :, None] * directions[None]
    else:
        log_posterior = graph.log_prior + graph.log_likelihood
        gradient, hessian = _derivatives(log_posterior, theta, directions)
    outputs = [graph.log_prior, graph.log_likelihood, gradient, hessian, natural, slope, curvature]
    return pytensor.function(
        [theta, directions, *graph.data.values()],
        outputs,
        mode=NUMPY_MODE,
        on_unused_input="ignore",
    )


def _derivatives(
    value: pt.TensorVariable, theta: pt.TensorVariable, directions: pt.TensorVariable
) -> tuple[pt.TensorVariable, pt.TensorVariable]:
    """Write gradient and Hessian blocks of any function of independent blocks.

    The product of the Hessian with a direction is taken in all blocks at once, and in all
    directions by one vectorised graph: compiling takes as long for one direction as for fifty.
    """
    gradient = pt.grad(value.sum(), theta)
    vector = theta.type("vector")
    product = pt.grad((gradient * vector).sum(), theta, disconnected_inputs="ignore")
    shape = (directions.type.shape[0], *theta.type.shape)
    batched = pt.tensor("batched", dtype="float64", shape=shape)
    products = vectorize_graph(product, {vector: batched})
    unit_vectors = directions[:, None, :] * pt.ones_like(theta)[None]
    return gradient, graph_replace(products, {batched: unit_vectors}).transpose(1, 0, 2)


def _prior_derivatives(
    log_prior: pt.TensorVariable,
    declared: VoxelMBB,
    theta: pt.TensorVariable,
    directions: pt.TensorVariable,
) -> tuple[pt.TensorVariable, pt.TensorVariable]:
    """Write gradient and Hessian of the log prior, which is diagonal without a hierarchy."""
    if not all(is_root(p.prior) for p in declared.free_parameters.values()):
        return _derivatives(log_prior, theta, directions)
    gradient = pt.grad(log_prior.sum(), theta)
    diagonal = pt.grad(gradient.sum(), theta, disconnected_inputs="ignore")
    return gradient, diagonal[:, :, None] * directions[None]


#: Runs each operation of the rewritten graph as one NumPy call on the whole batch. There is
#: nothing to wait for before the first evaluation, where Numba needs a minute from cold, and a
#: batch is long enough for NumPy to come within a factor of two of Numba's speed.
NUMPY_MODE = Mode(
    linker="py",
    optimizer=RewriteDatabaseQuery(
        include=["fast_run"], exclude=["fusion", "inplace", "c_only", "BlasOpt"]
    ),
)
