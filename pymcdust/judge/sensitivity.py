"""How much of a posterior is prior: widths, and what power-scaling prior and likelihood changes.

Where there is no dust there is nothing to learn, and a temperature map shows its prior. Two things
tell: how wide the posterior of a value is in units of its prior, and how much it changes when the
prior, or the likelihood, is raised to a power a little off 1 (Kallioinen et al. 2024). That power
is given to the prior of one value alone, such as the temperature of one voxel, which needs that
value's own density: the group `log_prior` of a posterior holds sums over voxels.
"""

import warnings
from collections.abc import Callable

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from pymcdust.errors import ResultError, listing
from pymcdust.infer.posterior import model_of
from pymcdust.infer.priors import free_variables, log_prior, prior_quantiles
from pymcdust.judge.posterior import check_posterior
from pymcdust.products.reliability import PRIOR_DOMINATED
from pymcdust.sky.dataset import cuts_of

#: Powers by which a prior or a likelihood is raised, and the changes compared.
POWERS = (0.99, 1.01)

#: Sensitivity from which a prior is informative, and below which a likelihood is weak
#: (Kallioinen et al. 2024): doubling the power then changes a normal distribution as much as moving
#: it by a quarter of its standard deviation.
SENSITIVE = 0.05

#: Width from which the prior has more weight than the data. Of a normal prior and likelihood the
#: squared width is the share of the prior in the posterior mean: that is one half. Fits say so too.
DOMINATED_WIDTH = PRIOR_DOMINATED

#: Posterior mean, in prior standard deviations, from which a value lies in the tail of its prior.
IN_TAIL = 3.0

#: Fewest draws of which a sensitivity can be told.
LEAST_DRAWS = 100

#: Superpixels that are read and worked on at a time.
CHUNK = 64

_LONG_NAMES = {
    "width": "posterior over prior standard deviation of {}, in quantiles of the prior",
    "location": "posterior mean of {}, in quantiles of the prior",
    "prior_sensitivity": "sensitivity of {} to the prior of this value alone",
    "likelihood_sensitivity": "sensitivity of {} to the likelihood",
    "declared_sensitivity": "sensitivity of {} to a prior, that of all its values together",
    "prior_dominated": "whether the prior has more weight in {} than the data",
    "conflict": "whether prior and data may disagree about {}",
}


def sensitivity(
    posterior: xr.DataTree, *, progress: Callable[[int, int], None] | None = None
) -> xr.Dataset:
    """Return how much of every value of a posterior is its prior.

    Parameters
    ----------
    posterior : DataTree
        A posterior; variables may be lazy, and are read some superpixels at a time.
    progress : callable, optional
        Called with the number of superpixels done, and of all.

    Returns
    -------
    Dataset
        For each variable, with the dimensions of its tying:

        - ``<name>_width``: standard deviation of the posterior over that of the prior, in quantiles
          of the prior, where the prior is a standard normal. That says the same of a temperature as
          of its logarithm, and is not ruled by the long tail of a prior such as that of rho, as a
          ratio of natural standard deviations would be. Of a hierarchical prior it is the prior
          given its hyperparameters.
        - ``<name>_location``: mean of the posterior in these quantiles: 0 in the middle of the
          prior, beyond `IN_TAIL` where the prior expected nothing, as at its bounds.
        - ``<name>_prior_sensitivity``, ``<name>_likelihood_sensitivity``: how far the posterior of
          the value moves when the prior of this value alone, or the likelihood, is raised to a
          power (cumulative Jensen-Shannon distance for each doubling of the power), as ArviZ's
          ``psense`` measures it. 0 is not at all.
        - ``<name>_declared_sensitivity``, with the further dimension `prior`: the same for each of
          the declared priors, taken for all of its values in the superpixel at once.
        - ``<name>_prior_dominated``: the width is `DOMINATED_WIDTH` or more, or the value is
          sensitive to its prior (`SENSITIVE` or more) and not to the likelihood.
        - ``<name>_conflict``: the prior does not dominate, and the value is sensitive to both prior
          and likelihood, which may pull it to different sides, or it lies in the prior's tail.

    Raises
    ------
    ResultError
        If this is no posterior, or one with too few draws.
    ModelError
        If the distribution of a prior is not known.

    References
    ----------
    Kallioinen, Paananen, Bürkner & Vehtari 2024, Statistics and Computing 34, 57.
    """
    check_posterior(posterior)
    if "log_likelihood" not in posterior.children:
        raise ResultError(
            "the posterior has no group log_likelihood, whose powers are to be compared; its "
            f"groups are {listing(posterior.children)}"
        )
    model = model_of(posterior)
    draws, likelihood = posterior["posterior"].dataset, posterior["log_likelihood"]["emission"]
    n_draw = draws.sizes["chain"] * draws.sizes["draw"]
    if n_draw < LEAST_DRAWS:
        raise ResultError(
            f"the posterior has {n_draw} draws in all; sensitivities need {LEAST_DRAWS} or more"
        )
    n_superpixel = draws.sizes.get("superpixel", 1)
    # Where superpixels are coupled, one prior may reach all of them.
    step = CHUNK if "superpixel" in likelihood.dims else n_superpixel
    parts = []
    for start in range(0, n_superpixel, step):
        rows = {"superpixel": slice(start, start + step)}
        here = draws.isel(rows, missing_dims="ignore").load()
        parts.append(_of_part(model, here, likelihood.isel(rows, missing_dims="ignore").load()))
        if progress is not None:
            progress(min(start + step, n_superpixel), n_superpixel)
    result = parts[0] if len(parts) == 1 else xr.concat(parts, "superpixel", join="exact")
    result = with_distances(result, posterior)
    kept = ("model", "model_definition", "method", "superpixel_nside", "pymcdust_version")
    return result.assign_attrs(
        {name: posterior.attrs[name] for name in kept if name in posterior.attrs},
        sensitive=SENSITIVE,
        dominated_width=DOMINATED_WIDTH,
    )


def with_distances(result: xr.Dataset, posterior: xr.DataTree) -> xr.Dataset:
    """Add the distances of the voxels to a result, if the posterior knows them."""
    constant = posterior.children.get("constant_data", {})
    return result.assign({name: cut.load() for name, cut in cuts_of(constant).items()})


def _of_part(model: object, draws: xr.Dataset, log_likelihood: xr.DataArray) -> xr.Dataset:
    """Return the sensitivities of some superpixels, whose draws are in memory."""
    names = [name for name in free_variables(model) if name in draws]
    terms = {name: log_prior(model, draws, name) for name in names}
    by_likelihood = _scaled(log_likelihood)
    declared = {
        name: _scaled(term.sum([dim for dim in term.dims if dim not in log_likelihood.dims]))
        for name, term in terms.items()
    }
    found = {}
    for name in names:
        values, alone = draws[name], set(terms[name].dims) <= set(log_likelihood.dims)
        by_prior = [_sensitivity(values, declared[other]) for other in names]
        of_this = by_prior[names.index(name)]
        quantiles = prior_quantiles(model, draws, name)
        found[f"{name}_width"] = quantiles.std(("chain", "draw"), ddof=1)
        found[f"{name}_location"] = quantiles.mean(("chain", "draw"))
        # A value that shares its prior with no other one in a block has been told already.
        own = of_this if alone else _sensitivity(values, _scaled(terms[name]))
        found[f"{name}_prior_sensitivity"] = own
        found[f"{name}_likelihood_sensitivity"] = _sensitivity(values, by_likelihood)
        found[f"{name}_declared_sensitivity"] = xr.concat(by_prior, "prior")
    result = xr.Dataset(found).assign_coords(prior=names)
    result = result.drop_vars(["chain", "draw"], errors="ignore")
    for name in names:
        _judge(result, name)
    return result


def _judge(result: xr.Dataset, name: str) -> None:
    """Add what is to be concluded for one variable, and what the numbers are."""
    informed = result[f"{name}_likelihood_sensitivity"] >= SENSITIVE
    restrained = result[f"{name}_prior_sensitivity"] >= SENSITIVE
    wide = result[f"{name}_width"] >= DOMINATED_WIDTH
    dominated = wide | (restrained & ~informed)
    result[f"{name}_prior_dominated"] = dominated
    in_tail = abs(result[f"{name}_location"]) >= IN_TAIL
    result[f"{name}_conflict"] = ~dominated & ((restrained & informed) | in_tail)
    for key, words in _LONG_NAMES.items():
        result[f"{name}_{key}"].attrs = {"long_name": words.format(name), "unit": ""}


def _scaled(log_density: xr.DataArray) -> list[xr.DataArray]:
    """Return the weights of the draws for a density raised to either of the `POWERS`."""
    log_density = log_density.transpose(..., "chain", "draw")
    values = log_density.values
    # A flat density stays what it is, and has no tails that could be smoothed.
    bent = np.ptp(values, axis=(-2, -1)) > 0
    weights = []
    for power in POWERS:
        weight = np.ones(values.shape)
        with warnings.catch_warnings():
            # Of chains that barely move, which other diagnostics tell.
            warnings.filterwarnings("ignore", "Number of tail draws", UserWarning)
            log_weight = array_stats.power_scale_lw(values[bent], alpha=power, axis=(-2, -1))
        weight[bent] = np.exp(log_weight)
        weight /= weight.sum(axis=(-2, -1), keepdims=True)
        weights.append(log_density.copy(data=weight))
    return weights


def _sensitivity(values: xr.DataArray, weights: list[xr.DataArray]) -> xr.DataArray:
    """Return how far the weights move the distribution of the values, for a doubled power."""
    values = values.transpose(..., "chain", "draw")
    lower, upper = (weight.broadcast_like(values).transpose(*values.dims) for weight in weights)
    found = array_stats.power_scale_sense(values.values, lower.values, upper.values, *POWERS)
    return values.isel(chain=0, draw=0, drop=True).copy(data=found).drop_attrs()
