"""What other priors would have given: every value's posterior under each prior of a grid.

The draws of one posterior serve all priors: weighted by the new prior over the old, in which the
likelihood cancels, they are draws of the new posterior, if the two are not too far from each other.
Whether they are is told by the weights (Vehtari et al. 2024). The mean weight is the evidence of
the new prior over that of the old.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from pymcdust.errors import ResultError
from pymcdust.infer.posterior import model_of
from pymcdust.infer.priors import free_variables, log_prior
from pymcdust.infer.sampling import sample
from pymcdust.judge.posterior import check_posterior, independent_draws
from pymcdust.judge.prior_grid import Alternative, declared_number, prior_grid
from pymcdust.judge.psis import SAME, largest_k, smoothed_weights
from pymcdust.modeling.gallery import resolve
from pymcdust.modeling.voxel_mbb import VoxelMBB

#: What the draws must be worth after they have been weighted, to be relied on.
LEAST_ESS = 400

#: Probability inside of the interval between `low` and `high`: ArviZ's default.
INTERVAL = 0.89

#: How the numbers of a prior were come by: values of `how`.
HOW = ("declared", "reweighted", "refitted")

#: Log ratios of priors that are held at a time: 2 GB would be 2**28.
LARGEST_CHUNK = 2**23

_LONG_NAMES = {
    "mean": "posterior mean of {}",
    "sd": "posterior standard deviation of {}",
    "low": "lower end of the 89 % interval of {}",
    "high": "upper end of the 89 % interval of {}",
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
        refit: str = "none",
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
        refit : {"none"}, optional
            Which posteriors are drawn anew.
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
            - `pareto_k`, `ess`: of the weights, and what the weighted draws are worth;
            - `ln_evidence_change`: log of the evidence over that of the declared prior;
            - `reliable`: whether all that can be relied on.

            Coordinates of `prior` are its label, the number that was `varied` (empty where more
            than one was), and the value of each varied number, such as ``temperature_mu``.

        Raises
        ------
        ResultError
            If this is no posterior, or one of another model.
        """
        if not isinstance(posterior, xr.DataTree):
            posterior = sample(self.model, posterior, seed=seed, **settings)
        check_posterior(posterior)
        if model_of(posterior).to_dict() != self.model.to_dict():
            raise ResultError(
                f"the posterior is that of {model_of(posterior)!r}, the study is about "
                f"{self.model!r}; draw a posterior of that, or study the other model"
            )
        draws = posterior["posterior"].dataset
        stats = posterior["sample_stats"].dataset
        coupled = "superpixel" not in stats["lp"].dims
        n_superpixel = draws.sizes.get("superpixel", 1)
        held = len(self.priors) * draws.sizes["chain"] * draws.sizes["draw"]
        step = n_superpixel if coupled else max(1, LARGEST_CHUNK // held)
        parts = []
        for start in range(0, n_superpixel, step):
            rows = {"superpixel": slice(start, start + step)}
            parts.append(self._reweigh(_rows(posterior, rows)))
            if progress is not None:
                progress(min(start + step, n_superpixel), n_superpixel)
        result = parts[0] if len(parts) == 1 else xr.concat(parts, "superpixel", join="exact")
        kept = ("model", "model_definition", "method", "superpixel_nside", "pymcdust_version")
        attrs = {name: posterior.attrs[name] for name in kept if name in posterior.attrs}
        return self._described(result, draws).assign_attrs(attrs, interval=INTERVAL)

    def _reweigh(self, posterior: xr.DataTree) -> xr.Dataset:
        """Return what the weighted draws of some superpixels give."""
        draws = posterior["posterior"].to_dataset()
        block = [dim for dim in posterior["sample_stats"]["lp"].dims if dim == "superpixel"]
        ratios = log_ratios(self.model, self.priors, draws, block)
        shape = ratios.shape
        log_weight, pareto_k = smoothed_weights(ratios.reshape(-1, shape[-1]))
        weight = np.exp(log_weight).reshape(shape)
        pareto_k = np.where(_flat(ratios), 0.0, pareto_k.reshape(shape[:2]))
        pareto_k[[prior.widens for prior in self.priors]] = np.inf
        ess = _efficiency(posterior, block) / np.square(weight).sum(axis=-1)
        reliable = (pareto_k < largest_k(shape[-1])) & (ess >= LEAST_ESS)
        how = np.full(shape[:2], HOW.index("reweighted"), np.int8)
        how[0] = HOW.index("declared")
        found = {
            "how": how,
            "pareto_k": pareto_k,
            "ess": ess,
            "ln_evidence_change": _log_mean(ratios),
            "reliable": reliable,
        }
        dims = ("prior", *block)
        result = {name: (dims, values if block else values[:, 0]) for name, values in found.items()}
        for name in free_variables(self.model):
            result |= _summaries(draws[name], weight, block)
        coords = {
            name: c for name, c in draws.coords.items() if not {"chain", "draw"} & set(c.dims)
        }
        return xr.Dataset(result, coords)

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
        for name in free_variables(self.model):
            for key, words in _LONG_NAMES.items():
                unit = draws[name].attrs.get("unit", "")
                result[f"{name}_{key}"].attrs = {"long_name": words.format(name), "unit": unit}
        result["how"].attrs = {"flag_values": list(range(len(HOW))), "flag_meanings": " ".join(HOW)}
        labels = [prior.label for prior in self.priors]
        return result.assign_coords(prior=labels, varied=("prior", varied), **coords)


def log_ratios(
    model: VoxelMBB, priors: tuple[Alternative, ...], draws: xr.Dataset, block: list[str]
) -> np.ndarray:
    """Return the log of every prior over the declared one at draws of the declared one's posterior.

    Parameters
    ----------
    model : VoxelMBB
        The model.
    priors : tuple of Alternative
        The priors.
    draws : Dataset
        Draws of all variables.
    block : list of str
        ``["superpixel"]``, or nothing where superpixels are coupled.

    Returns
    -------
    (prior, block, draw) array
        Summed over the values of a block; draws chain after chain.
    """
    kept = ("chain", "draw", *block)
    n_draw = draws.sizes["chain"] * draws.sizes["draw"]
    n_block = draws.sizes["superpixel"] if block else 1
    ratios = np.zeros((len(priors), n_block, n_draw))
    for name in free_variables(model):
        declared, known = None, {}
        for position, prior in enumerate(priors):
            own = {n: value for n, value in prior.numbers.items() if n.split(".")[0] == name}
            if not own:
                continue
            if declared is None:
                declared = log_prior(model, draws, name)
            if (key := tuple(own.items())) not in known:
                ratio = log_prior(model, draws, name, own) - declared
                ratio = ratio.sum([dim for dim in ratio.dims if dim not in kept])
                ratio = ratio.transpose(*block, "chain", "draw")
                known[key] = ratio.values.reshape(n_block, n_draw)
            ratios[position] += known[key]
    return ratios


def _rows(posterior: xr.DataTree, rows: dict[str, slice]) -> xr.DataTree:
    """Return draws of some superpixels, in memory."""
    groups = ("posterior", "sample_stats")
    cut = {
        name: posterior[name].to_dataset().isel(rows, missing_dims="ignore").load()
        for name in groups
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=posterior.attrs), **cut})


def _efficiency(posterior: xr.DataTree, block: list[str]) -> np.ndarray:
    """Return what a draw is worth, in independent ones, at most 1: (block,)."""
    draws, stats = posterior["posterior"].dataset, posterior["sample_stats"].dataset
    worth = []
    for values in draws.data_vars.values():
        values = values.transpose(*block, ..., "chain", "draw")
        with np.errstate(divide="ignore", invalid="ignore"):
            each = array_stats.ess(values.values, relative=True)
        worth.append(np.reshape(each, (draws.sizes["superpixel"] if block else 1, -1)).min(axis=1))
    efficiency = np.min(worth, axis=0)
    if "importance_ess" in stats:
        n_draw = draws.sizes["chain"] * draws.sizes["draw"]
        left = np.atleast_1d(stats["importance_ess"].values) / n_draw
        efficiency = np.where(np.atleast_1d(independent_draws(posterior)), left, efficiency)
    return np.minimum(efficiency, 1.0)


def _flat(log_weight: np.ndarray) -> np.ndarray:
    """Return where all draws (..., draw) that are left at all have the same weight."""
    top = log_weight.max(axis=-1)
    lowest = np.where(np.isfinite(log_weight), log_weight, np.inf).min(axis=-1)
    return np.isfinite(top) & (top - lowest < SAME)


def _log_mean(log_weight: np.ndarray) -> np.ndarray:
    """Return the log of the mean weight (..., draw)."""
    top = log_weight.max(axis=-1)
    return top + np.log(np.exp(log_weight - top[..., None]).mean(axis=-1))


def _summaries(
    values: xr.DataArray, weight: np.ndarray, block: list[str]
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return mean, standard deviation and interval of the weighted draws of a variable."""
    name = values.name
    values = values.transpose(*block, ..., "chain", "draw")
    tying, shape = values.dims[:-2], values.shape[:-2]
    n_prior, n_block, n_draw = weight.shape
    x = np.sort(values.values.reshape(n_block, -1, n_draw), axis=-1)
    order = np.argsort(values.values.reshape(n_block, -1, n_draw), axis=-1)
    found = {key: np.empty((n_prior, *shape)) for key in ("mean", "sd", "low", "high")}
    ends = {"low": 0.5 - INTERVAL / 2, "high": 0.5 + INTERVAL / 2}
    for prior in range(n_prior):
        w = np.take_along_axis(weight[prior][:, None], order, axis=-1)
        mean = (w * x).sum(axis=-1)
        found["mean"][prior] = mean.reshape(shape)
        variance = (w * np.square(x - mean[..., None])).sum(axis=-1)
        found["sd"][prior] = np.sqrt(variance).reshape(shape)
        below = np.cumsum(w, axis=-1)
        for key, share in ends.items():
            place = np.minimum((below < share).sum(axis=-1), n_draw - 1)
            end = np.take_along_axis(x, place[..., None], axis=-1)
            found[key][prior] = end[..., 0].reshape(shape)
    return {f"{name}_{key}": (("prior", *tying), numbers) for key, numbers in found.items()}
