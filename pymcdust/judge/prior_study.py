"""What other priors would have given: every value's posterior under each prior of a grid.

The draws of one posterior serve all priors: weighted by the new prior over the old, in which the
likelihood cancels, they are draws of the new posterior, if the two are not too far from each other.
Whether they are is told by the weights (Vehtari et al. 2024). The mean weight is the evidence of
the new prior over that of the old. Where the weights fail the posterior is drawn anew.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, ResultError, unknown
from pymcdust.infer.posterior import model_of
from pymcdust.infer.priors import free_variables
from pymcdust.infer.sampling import sample
from pymcdust.infer.weights import largest_k, log_mean, smooth_weights
from pymcdust.judge.posterior import check_posterior
from pymcdust.judge.prior_grid import declared_number, prior_grid
from pymcdust.judge.prior_refit import LEAST_ESS, Refitter
from pymcdust.judge.prior_weights import (
    INTERVAL,
    SUMMARIES,
    efficiency,
    equal_weights,
    log_ratios,
    summarise,
    summarise_sorted,
)
from pymcdust.judge.sensitivity import with_distances
from pymcdust.modeling.gallery import resolve
from pymcdust.modeling.voxel_mbb import VoxelMBB

#: How the numbers of a prior were come by: values of `how`.
HOW = ("declared", "reweighted", "refitted")

#: Which posteriors are drawn anew.
REFITS = ("auto", "none", "all")

#: Weights that are held at a time: 64 MB.
LARGEST_CHUNK = 2**23

#: What a study needs of a posterior, and what it needs to draw others.
GROUPS = ("posterior", "sample_stats", "constant_data", "observed_data")

_LONG_NAMES = {
    "mean": "posterior mean of {}",
    "sd": "posterior standard deviation of {}",
    "low": "lower end of the 89 % interval of {}",
    "high": "upper end of the 89 % interval of {}",
    "how": "how the posterior under this prior was come by",
    "pareto_k": "k-hat of the importance weights",
    "ess": "effective number of draws",
    "ln_evidence_change": "log of the evidence, over that of the declared prior",
    "reliable": "whether the draws can be relied on",
}


class PriorStudy:
    """A grid of priors, to be held against one posterior.

    Parameters
    ----------
    model : str, path, VoxelMBB class or instance
        The model with the declared priors.
    product : bool, optional
        Every combination of the numbers; by default they are changed one at a time.
    **numbers
        By variable, a mapping from the names of its prior's numbers to the values that they are to
        take: ``temperature={"mu": [14, 18.1, 22]}``. Hyperparameters are variables as well:
        ``temperature_mu={"sigma": [1, 3, 9]}``.

    Attributes
    ----------
    model : VoxelMBB
        The model.
    priors : tuple of Alternative
        The declared prior first.

    Raises
    ------
    ModelError
        If a parameter is unknown or fixed.
    ConfigurationError
        If a number is unknown, inferred itself, or has an impossible value; if nothing is varied.

    Examples
    --------
    >>> study = PriorStudy("temperature_per_voxel", temperature={"mu": [14, 22], "sigma": [3]})
    >>> [prior.label for prior in study.priors]
    ['declared', 'temperature mu=14', 'temperature mu=22', 'temperature sigma=3']
    """

    def __init__(
        self,
        model: str | Path | type[VoxelMBB] | VoxelMBB,
        *,
        product: bool = False,
        **numbers: Any,
    ) -> None:
        self.model = resolve(model)
        self.priors = prior_grid(self.model, numbers, product=product)

    def run(
        self,
        posterior: xr.DataTree | xr.Dataset | str | Path,
        *,
        refit: Literal["auto", "none", "all"] = "auto",
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        **settings: Any,
    ) -> xr.Dataset:
        """Return what every prior of the grid makes of the data.

        Parameters
        ----------
        posterior : DataTree, or a sky
            A posterior of the model, whose variables may be lazy; or a sky, or the path of one, of
            which a posterior is drawn first.
        refit : {"auto", "none", "all"}, optional
            Which posteriors are drawn anew: those for which the weighted draws cannot be relied on,
            none, or all but the declared one, which checks the weights.
        seed : int, optional
            Seed of all that is drawn.
        progress : callable, optional
            Called with the number of superpixels done, and of all.
        **settings
            Of `pymcdust.infer.sampling.sample`, where a sky is given.

        Returns
        -------
        Dataset
            For each variable ``<name>_mean``, ``<name>_sd``, ``<name>_low`` and ``<name>_high``
            (ends of the equal-tailed 89 % interval), of the dimension `prior` and those of its
            tying. For each prior and superpixel (or once for a sky whose superpixels are coupled):

            - `how`: the position in `HOW`;
            - `pareto_k`, `ess`: of the weights, and what the draws are worth; k-hat is NaN where
              NUTS drew;
            - `ln_evidence_change`: log of the evidence over that of the declared prior;
            - `reliable`: whether all that can be relied on.

            Coordinates of `prior` are its label, the number that was `varied` (empty where more
            than one was), and the value of each varied number, such as ``temperature_mu``.

        Raises
        ------
        ResultError
            If this is no posterior, one of another model, or lacks the data that it was drawn from.
        ConfigurationError
            If there is no such `refit`.
        """
        if refit not in REFITS:
            raise ConfigurationError(unknown("refit", refit, REFITS))
        if not isinstance(posterior, xr.DataTree):
            posterior = sample(self.model, posterior, seed=seed, **settings)
        check_posterior(posterior)
        if model_of(posterior).to_dict() != self.model.to_dict():
            raise ResultError(
                f"the posterior is that of {model_of(posterior)!r}, the study is about "
                f"{self.model!r}; draw a posterior of that, or study the other model"
            )
        draws = posterior["posterior"].dataset
        coupled = "superpixel" not in posterior["sample_stats"]["lp"].dims
        n_superpixel = draws.sizes.get("superpixel", 1)
        held = len(self.priors) * draws.sizes["chain"] * draws.sizes["draw"]
        step = n_superpixel if coupled else max(1, LARGEST_CHUNK // held)
        refitter = Refitter(self.model, self.priors, seed)
        parts = []
        for start in range(0, n_superpixel, step):
            part = _rows(posterior, {"superpixel": slice(start, start + step)})
            # Tails of weights that overflow are told by their k-hat.
            with np.errstate(over="ignore"):
                parts.append(self._study(part, refit, refitter))
            if progress is not None:
                progress(min(start + step, n_superpixel), n_superpixel)
        result = parts[0] if len(parts) == 1 else xr.concat(parts, "superpixel", join="exact")
        kept = ("model", "model_definition", "method", "superpixel_nside", "pymcdust_version")
        attrs = {name: posterior.attrs[name] for name in kept if name in posterior.attrs}
        result = self._described(result, draws).assign_attrs(attrs, interval=INTERVAL)
        return with_distances(result, posterior)

    def _study(self, posterior: xr.DataTree, refit: str, refitter: Refitter) -> xr.Dataset:
        """Return what the priors make of some superpixels."""
        found = self._reweigh(posterior)
        wanted = np.full(found["reliable"].shape, refit == "all")
        if refit == "auto":
            wanted = ~found["reliable"]
        wanted[0] = False
        for refits in refitter.draw(posterior, wanted):
            jobs = refits.prior, refits.block
            found["how"][jobs] = HOW.index("refitted")
            for name in ("pareto_k", "ess", "ln_evidence_change", "reliable"):
                found[name][jobs] = getattr(refits, name)
            for name, values in refits.natural.items():
                for key, numbers in summarise(values, refits.weight).items():
                    found[f"{name}_{key}"][jobs] = numbers
        return self._dataset(posterior, found)

    def _reweigh(self, posterior: xr.DataTree) -> dict[str, np.ndarray]:
        """Return what weighted draws give: (prior, block) or (prior, block, value) arrays."""
        draws, block = posterior["posterior"].dataset, _block(posterior)
        ratios = log_ratios(self.model, self.priors, draws, block)
        n_prior, n_block, n_draw = ratios.shape
        log_weight, pareto_k = smooth_weights(ratios.reshape(-1, n_draw))
        weight = np.exp(log_weight).reshape(ratios.shape)
        pareto_k = np.where(equal_weights(ratios), 0.0, pareto_k.reshape(n_prior, n_block))
        # Where the declared prior allows nothing there are no draws, which no weight can tell.
        pareto_k[[prior.widens for prior in self.priors]] = np.inf
        ess = efficiency(posterior, block) / np.square(weight).sum(axis=-1)
        how = np.full((n_prior, n_block), HOW.index("reweighted"), np.int8)
        how[0] = HOW.index("declared")
        found = {
            "how": how,
            "pareto_k": pareto_k,
            "ess": ess,
            "ln_evidence_change": log_mean(ratios),
            "reliable": (pareto_k < largest_k(n_draw)) & (ess >= LEAST_ESS),
        }
        for name in free_variables(self.model):
            values = draws[name].transpose(*block, ..., "chain", "draw").values
            values = values.reshape(n_block, -1, n_draw)
            order = np.argsort(values, axis=-1)
            values = np.take_along_axis(values, order, axis=-1)
            by_prior = [summarise_sorted(values, order, w) for w in weight]
            for key in SUMMARIES:
                found[f"{name}_{key}"] = np.stack([numbers[key] for numbers in by_prior])
        return found

    def _dataset(self, posterior: xr.DataTree, found: dict[str, np.ndarray]) -> xr.Dataset:
        """Name the dimensions of what was found."""
        draws, block = posterior["posterior"].dataset, _block(posterior)
        tying = {}
        for name in free_variables(self.model):
            one = draws[name].isel(chain=0, draw=0).transpose(*block, ...)
            tying |= {f"{name}_{key}": (one.dims, one.shape) for key in SUMMARIES}
        whole = (tuple(block), tuple(draws.sizes[dim] for dim in block))
        variables = {}
        for name, values in found.items():
            dims, shape = tying.get(name, whole)
            variables[name] = (("prior", *dims), values.reshape(len(self.priors), *shape))
        own = {name: c for name, c in draws.coords.items() if not {"chain", "draw"} & set(c.dims)}
        return xr.Dataset(variables, own)

    def _described(self, result: xr.Dataset, draws: xr.Dataset) -> xr.Dataset:
        """Say what the priors are, and what the variables."""
        numbers = list(dict.fromkeys(n for prior in self.priors for n in prior.numbers))
        varied = [next(iter(p.numbers)) if len(p.numbers) == 1 else "" for p in self.priors]
        coords = {
            number.replace(".", "_"): (
                "prior",
                [p.numbers.get(number, declared_number(self.model, number)) for p in self.priors],
            )
            for number in numbers
        }
        for name in result.data_vars:
            about, _, key = name.rpartition("_")
            unit = draws[about].attrs.get("unit", "") if about in draws else ""
            words = _LONG_NAMES.get(name) or _LONG_NAMES[key].format(about)
            result[name].attrs = {"long_name": words, "unit": unit}
        result["how"].attrs |= {
            "flag_values": list(range(len(HOW))),
            "flag_meanings": " ".join(HOW),
        }
        labels = [prior.label for prior in self.priors]
        return result.assign_coords(prior=labels, varied=("prior", varied), **coords)


def _block(posterior: xr.DataTree) -> list[str]:
    """Return the dimension of what is weighted together: none where superpixels are coupled."""
    return [dim for dim in posterior["sample_stats"]["lp"].dims if dim == "superpixel"]


def _rows(posterior: xr.DataTree, rows: dict[str, slice]) -> xr.DataTree:
    """Return some superpixels of a posterior, in memory."""
    cut = {
        name: posterior[name].to_dataset().isel(rows, missing_dims="ignore").load()
        for name in GROUPS
        if name in posterior.children
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=posterior.attrs), **cut})
