"""Whether the draws of a posterior are to be relied on: diagnostics and a verdict.

Draws of Markov chains are judged by rank-normalised R-hat and effective sample sizes, those of
NUTS by its own warnings as well. Draws of importance sampling (the method ``laplace``) are
independent by construction, and shuffled: R-hat says nothing about them, and autocorrelation
takes repeated draws for worth more than they are. They are judged by Pareto k-hat, and by how many
draws they are worth.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from pymcdust.errors import ResultError, listing
from pymcdust.judge.posterior import check_posterior, independent_draws
from pymcdust.judge.statistics import (
    LARGEST_RHAT,
    LEAST_DRAWS,
    STATISTICS,
    draws_of_a_chain,
    statistics,
    worst_rhat,
)

__all__ = [
    "FLAGS",
    "LARGEST_PARETO_K",
    "LARGEST_RHAT",
    "LEAST_BFMI",
    "LEAST_ESS",
    "LEAST_ESS_PER_CHAIN",
    "MOST_AT_TREE_DEPTH",
    "MOST_DIVERGENT",
    "diagnose",
    "severity",
    "summarise",
    "worst_rhat",
    "worst_superpixel",
]

#: Least effective sample size, in all and for each chain (Vehtari et al. 2021, Sec. 4: 400 for
#: four chains). That of a single chain, or of independent draws, must be 400 all the same: the
#: ends of a 90 % interval are then known to a tenth of a standard deviation.
LEAST_ESS = 400
LEAST_ESS_PER_CHAIN = 100

#: Pareto k-hat from which importance sampling does not work (Vehtari et al. 2024, Sec. 3).
LARGEST_PARETO_K = 0.7

#: Bayesian fraction of missing information below which momenta explore the energies too slowly
#: (Betancourt 2016, as Stan and ArviZ use it).
LEAST_BFMI = 0.3

#: Fraction of divergent transitions from which a superpixel is flagged. One in a thousand is often
#: a false alarm (Betancourt 2017, Sec. 6.2) and would condemn most of a sky of thousands; one in a
#: hundred shows a region that the sampler does not enter.
MOST_DIVERGENT = 0.01

#: Fraction of transitions at the largest tree depth from which chains are too slow to be useful.
MOST_AT_TREE_DEPTH = 0.01

#: What is wrong with a superpixel: bits of `flag`.
FLAGS = {
    "high_rhat": 1,
    "low_ess": 2,
    "divergences": 4,
    "low_bfmi": 8,
    "tree_depth": 16,
    "high_pareto_k": 32,
    "too_short": 64,
    "not_finite": 128,
}

#: Superpixels that are read and worked on at a time: 18 MB of 9 voxels and 4,000 draws.
CHUNK = 64

#: Larger chunks of a store than this are read in parts.
LARGEST_CHUNK = 256

_LONG_NAMES = {
    "rhat": "largest rank-normalised split R-hat",
    "ess_bulk": "least effective sample size of the bulk",
    "ess_tail": "least effective sample size of the tails",
    "mcse_over_sd": "largest Monte Carlo standard error over posterior standard deviation",
    "divergent": "fraction of divergent transitions",
    "max_treedepth": "fraction of transitions at the largest tree depth",
    "bfmi": "least Bayesian fraction of missing information",
    "pareto_k": "Pareto k-hat of importance sampling",
    "independent": "whether draws are independent, and judged by k-hat",
    "passed": "whether the draws are to be relied on",
    "flag": "what is wrong",
}

_SHOWN = ("temperature", "beta", "rho", "offset")

_SUMMARY_QUANTILES = {"low89": 0.055, "low68": 0.16, "high68": 0.84, "high89": 0.945}


def diagnose(
    posterior: xr.DataTree, *, progress: Callable[[int, int], None] | None = None
) -> xr.Dataset:
    """Return the diagnostics of a posterior, and a verdict for each superpixel.

    Parameters
    ----------
    posterior : DataTree
        A posterior, whichever method drew it; variables may be lazy.
    progress : callable, optional
        Called with the number of superpixels done, and of all.

    Returns
    -------
    Dataset
        For each parameter the `STATISTICS` ``<name>_rhat``, ``<name>_ess_bulk``,
        ``<name>_ess_tail``, ``<name>_mcse``, ``<name>_mean`` and ``<name>_sd``, with the
        dimensions of its tying. For each superpixel, or once where superpixels are coupled:

        - `rhat`, `ess_bulk`, `ess_tail`, `mcse_over_sd`: the worst of all parameters, those that
          the prior dominates included;
        - `divergent`, `max_treedepth`: fractions of the transitions of NUTS, `bfmi`: the least of
          its chains; NaN for other methods;
        - `pareto_k`: that of importance sampling, where there is any;
        - `independent`: whether the draws are independent, so that the verdict rests on
          `pareto_k` and on ESS, which then is what the weights leave of the draws
          (`importance_ess`, at most the number of draws), and R-hat is NaN;
        - `passed`, and `flag`: what is wrong, as bits with their meanings in the attributes.
          A diagnostic that should be there and is NaN counts as bad.

        Chains too short for a diagnostic are flagged, not refused: the posterior of a sky can
        still be looked at.

    Raises
    ------
    ResultError
        If this is no posterior, or one without draws.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, Bayesian Analysis 16, 667.
    Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25, 72.
    """
    check_posterior(posterior)
    draws, stats = posterior["posterior"].dataset, posterior["sample_stats"].dataset
    apart = [name for name, values in draws.data_vars.items() if "superpixel" in values.dims]
    independent = independent_draws(posterior)
    weights = xr.Dataset({"independent": independent})
    if "importance_ess" in stats:
        weights["importance_ess"] = stats["importance_ess"]
    weights = weights.compute()
    # What the sky shares is taken once, what superpixels have of their own in parts.
    whole = [name for name in draws.data_vars if name not in apart]
    parts = [statistics(draws[whole], weights)] if whole else []
    coupled = "superpixel" not in stats["lp"].dims
    if coupled:
        parts.append(_transitions(stats))
    cut = []
    for rows in _chunks(draws):
        chunk = statistics(_rows(draws[apart], rows), _rows(weights, rows))
        if not coupled:
            chunk = chunk.merge(_transitions(_rows(stats, rows)), join="exact", compat="override")
        cut.append(chunk)
        if progress is not None:
            progress(rows.stop, draws.sizes.get("superpixel", 1))
    if cut:
        together = {"data_vars": "minimal", "coords": "minimal", "compat": "override"}
        parts.append(xr.concat(cut, "superpixel", join="exact", **together))
    result = xr.merge(parts, join="exact", compat="override", combine_attrs="drop_conflicts")
    nuts = ~independent & (posterior.attrs["method"] in ("nuts", "auto"))
    return _judged(result, draws, independent, nuts).assign_attrs(
        {
            name: posterior.attrs[name]
            for name in ("method", "model", "superpixel_nside", "pymcdust_version")
            if name in posterior.attrs
        }
    )


def severity(diagnosis: xr.Dataset) -> xr.DataArray:
    """Return how bad each superpixel is: the largest ratio of a diagnostic to its threshold.

    Parameters
    ----------
    diagnosis : Dataset
        What `diagnose` returned.

    Returns
    -------
    DataArray
        Above one where `passed` is false; infinite where a diagnostic is missing.
    """
    independent = diagnosis["independent"]
    ess = np.minimum(diagnosis["ess_bulk"], diagnosis["ess_tail"])
    with np.errstate(divide="ignore"):
        ratios = [
            diagnosis.attrs["least_ess"] / ess,
            xr.where(independent, 0.0, (diagnosis["rhat"] - 1) / (LARGEST_RHAT - 1)),
            (diagnosis["divergent"] / MOST_DIVERGENT).fillna(0.0),
            (diagnosis["max_treedepth"] / MOST_AT_TREE_DEPTH).fillna(0.0),
            (LEAST_BFMI / diagnosis["bfmi"]).fillna(0.0),
        ]
    if "pareto_k" in diagnosis:
        ratios.append(xr.where(independent, diagnosis["pareto_k"] / LARGEST_PARETO_K, 0.0))
    worst = xr.concat(ratios, "diagnostic", coords="minimal", compat="override")
    worst = worst.fillna(np.inf).max("diagnostic")
    # What only a flag tells, such as a missing energy, still comes before all that has passed.
    return xr.where(diagnosis["passed"], worst, np.maximum(worst, 1.0)).rename("severity")


def worst_superpixel(diagnosis: xr.Dataset) -> int | None:
    """Return the NESTED index of the worst superpixel; None if no parameter has superpixels."""
    if "superpixel" not in diagnosis.dims:
        return None
    worst = severity(diagnosis)
    if "superpixel" not in worst.dims:
        worst = over_parameters(diagnosis, "rhat", np.fmax, ("superpixel",)).fillna(np.inf)
    return int(diagnosis["superpixel"].values[int(worst.argmax("superpixel"))])


def summarise(
    posterior: xr.DataTree, diagnosis: xr.Dataset, superpixel: int | None = None
) -> list[dict[str, Any]]:
    """Return one row of numbers for each value that was inferred for a superpixel.

    Parameters
    ----------
    posterior : DataTree
        A posterior; the draws of one superpixel are read.
    diagnosis : Dataset
        What `diagnose` returned for it.
    superpixel : int, optional
        NESTED index of a superpixel, by default that of the worst.

    Returns
    -------
    list of dict
        With the keys ``parameter``, ``unit``, ``superpixel``, ``voxel`` and ``band`` (None where
        the parameter has no such dimension: parameters of the whole sky come first), ``mean``,
        ``sd``, ``low89``, ``low68``, ``high68`` and ``high89`` (the ends of the equal-tailed 89 %
        and 68 % intervals), ``rhat``, ``ess_bulk``, ``ess_tail`` and ``mcse``.

    Raises
    ------
    ResultError
        If this is no posterior, or one without this superpixel.
    """
    draws, diagnosis = at_superpixel(posterior, superpixel, diagnosis)
    of_sky = [
        name for name, v in posterior["posterior"].data_vars.items() if "superpixel" not in v.dims
    ]
    rows = []
    for name in sorted(draws.data_vars, key=lambda name: (name not in of_sky, _order(name))):
        variable = draws[name].transpose("chain", "draw", ...)
        values = variable.values.reshape(-1, *variable.shape[2:]).astype(float)
        quantiles = np.quantile(values, list(_SUMMARY_QUANTILES.values()), axis=0)
        for index in np.ndindex(values.shape[1:]):
            place = dict(zip(variable.dims[2:], index, strict=True))
            where = {**variable.coords, **{dim: draws[dim][i] for dim, i in place.items()}}
            if name in of_sky:
                where.pop("superpixel", None)
            row = {"parameter": str(name), "unit": variable.attrs.get("unit", "")}
            for dim in ("superpixel", "voxel", "band"):
                row[dim] = where[dim].item() if dim in where else None
            for key, ends in zip(_SUMMARY_QUANTILES, quantiles, strict=True):
                row[key] = float(ends[index])
            for statistic in STATISTICS:
                row[statistic] = float(diagnosis[f"{name}_{statistic}"].isel(place))
            rows.append(row)
    return rows


def at_superpixel(
    posterior: xr.DataTree, superpixel: int | None, diagnosis: xr.Dataset
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return draws and diagnostics of one superpixel, the worst by default, and of the sky.

    Raises
    ------
    ResultError
        If this is no posterior, or one without this superpixel.
    """
    check_posterior(posterior)
    draws = posterior["posterior"].dataset
    if superpixel is None:
        superpixel = worst_superpixel(diagnosis)
    if superpixel is None:
        return draws, diagnosis
    known = draws["superpixel"].values if "superpixel" in draws.coords else np.empty(0)
    if superpixel not in known:
        shown = listing(known[:5]) + (" ..." if known.size > 5 else "")
        raise ResultError(
            f"the posterior has no superpixel {superpixel}; it has {known.size}: {shown}"
        )
    # Not by label, which would read lazy coordinates of a store anew.
    position = int(np.flatnonzero(known == superpixel)[0])
    return draws.isel(superpixel=position), diagnosis.isel(superpixel=position)


def _chunks(draws: xr.Dataset) -> Iterator[slice]:
    """Yield slices of superpixels that are read together, along the chunks of a store."""
    if "superpixel" not in draws.dims:
        return
    stored = [
        variable.encoding.get("preferred_chunks", {}).get("superpixel", 1)
        for variable in draws.data_vars.values()
    ]
    size = min(max(CHUNK, *stored), LARGEST_CHUNK)
    for start in range(0, draws.sizes["superpixel"], size):
        yield slice(start, min(start + size, draws.sizes["superpixel"]))


def _rows(dataset: xr.Dataset, rows: slice) -> xr.Dataset:
    return dataset.isel(superpixel=rows, missing_dims="ignore")


def _transitions(stats: xr.Dataset) -> xr.Dataset:
    """Return what the sampler itself says, of some superpixels or of the sky."""
    one = stats["lp"].isel(chain=0, draw=0, drop=True)
    none = xr.full_like(one, np.nan, dtype=float).drop_attrs()
    found = {"divergent": none, "max_treedepth": none.copy(), "bfmi": none.copy()}
    for name, key in (("divergent", "diverging"), ("max_treedepth", "reached_max_treedepth")):
        if key in stats:
            found[name] = stats[key].astype(float).mean(("chain", "draw"))
    if "energy" in stats and stats.sizes["draw"] > 1:
        # ArviZ takes the number of chains from the wrong axis unless they are the last two.
        energy = stats["energy"].transpose(..., "chain", "draw")
        with np.errstate(divide="ignore", invalid="ignore"):
            bfmi = array_stats.bfmi(energy.values)
        found["bfmi"] = (none.dims, np.min(bfmi, axis=-1))
    if "pareto_k" in stats:
        found["pareto_k"] = stats["pareto_k"].astype(float)
    return xr.Dataset(found).drop_vars(["chain", "draw"], errors="ignore")


def over_parameters(
    diagnosis: xr.Dataset, statistic: str, worst: np.ufunc, dims: tuple[str, ...]
) -> xr.DataArray:
    """Return the worst of all parameters, for each place along `dims`; NaN wins in np.maximum."""
    result = None
    for name in parameters(diagnosis):
        values = diagnosis[f"{name}_{statistic}"].drop_attrs()
        if set(dims) - set(values.dims):
            continue
        values = values.reduce(worst.reduce, [dim for dim in values.dims if dim not in dims])
        result = values if result is None else worst(result, values)
    return result


def parameters(diagnosis: xr.Dataset) -> list[str]:
    """List the parameters that a diagnosis is about, in the order in which they are shown."""
    names = [
        str(name).removesuffix("_rhat") for name in diagnosis.data_vars if name.endswith("_rhat")
    ]
    return sorted(names, key=_order)


def _order(name: str) -> tuple[int, str]:
    # A store lists its variables by the alphabet.
    return (_SHOWN.index(name) if name in _SHOWN else len(_SHOWN), name)


def _judged(
    result: xr.Dataset, draws: xr.Dataset, independent: xr.DataArray, nuts: xr.DataArray
) -> xr.Dataset:
    """Add the worst of all parameters, and the verdict.

    What is independent is judged by k-hat, what NUTS drew by its warnings as well.
    """
    dims = independent.dims
    ratio = result[[]]
    for name in parameters(result):
        ratio[f"{name}_rhat"] = result[f"{name}_mcse"] / result[f"{name}_sd"]
    worst = {
        "rhat": over_parameters(result, "rhat", np.maximum, dims),
        "ess_bulk": over_parameters(result, "ess_bulk", np.minimum, dims),
        "ess_tail": over_parameters(result, "ess_tail", np.minimum, dims),
        "mcse_over_sd": over_parameters(ratio, "rhat", np.maximum, dims),
    }
    result = result.assign({**worst, "independent": independent})
    n_chain, n_draw = draws.sizes["chain"], draws.sizes["draw"]
    least_ess = max(LEAST_ESS, LEAST_ESS_PER_CHAIN * n_chain)
    too_short = n_chain * n_draw < least_ess or draws_of_a_chain(n_chain, n_draw) < LEAST_DRAWS
    # Negated, so that NaN counts as bad wherever there should be a number.
    means = over_parameters(result, "mean", np.maximum, dims)
    wrong = {
        "high_rhat": ~independent & ~(result["rhat"] < LARGEST_RHAT),
        "low_ess": ~(np.minimum(result["ess_bulk"], result["ess_tail"]) >= least_ess),
        "divergences": result["divergent"] > MOST_DIVERGENT,
        "low_bfmi": nuts & ~(result["bfmi"] >= LEAST_BFMI),
        "tree_depth": result["max_treedepth"] > MOST_AT_TREE_DEPTH,
        "high_pareto_k": independent & ~(result["pareto_k"] < LARGEST_PARETO_K)
        if "pareto_k" in result
        else xr.zeros_like(independent),
        "too_short": xr.full_like(independent, too_short),
        "not_finite": np.isnan(means),
    }
    flag = sum(bit * wrong[name].astype(np.int32) for name, bit in FLAGS.items())
    result["passed"] = flag == 0
    result["flag"] = flag.assign_attrs(
        flag_masks=list(FLAGS.values()), flag_meanings=" ".join(FLAGS)
    )
    for name, long_name in _LONG_NAMES.items():
        if name in result:
            result[name].attrs["long_name"] = long_name
    return result.assign_attrs(n_chain=n_chain, n_draw=n_draw, least_ess=least_ess)
