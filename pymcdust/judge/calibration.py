"""Simulation-based calibration: whether posteriors are as wide, and lie where, they should.

If parameters are drawn from the prior and data from the parameters, then the rank of the true value
among draws of the posterior is uniform (Cook, Gelman & Rubin 2006; Talts et al. 2018). Every
superpixel of one sky is a mock, so that all are sampled as one batch. Besides the parameters the
log likelihood is ranked: the prior itself would pass as the posterior of every parameter, but does
not fit the data as well (Modrák et al. 2023).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, ResultError, SkyError, listing, unknown
from pymcdust.infer.parts import as_sky
from pymcdust.infer.sampling import sample
from pymcdust.judge.calibration_figure import LOG_LIKELIHOOD, plot_ranks, ranked_values
from pymcdust.judge.convergence import FLAGS, diagnose
from pymcdust.judge.uniformity import chi_square_p, ecdf_p
from pymcdust.products.reconstruction import PARAMETERS, observed, reconstruction_blocks

__all__ = ["LEVELS", "SELECTIONS", "calibrate", "plot_ranks", "rank_truth", "tabulate"]

#: Probabilities of the equal-tailed intervals whose coverage is counted.
LEVELS = (0.5, 0.68, 0.89, 0.95)

#: Largest number of draws among which the truth is ranked by default: more than there are mocks to
#: tell them apart tell nothing.
MOST_RANKED = 199

#: So many mocks may be worth fewer draws than the truth is ranked among by default.
FEW = 0.05

#: Which mocks a summary is about.
SELECTIONS = ("all", "reliable")


def calibrate(
    model: Any,
    sky: xr.Dataset | str | Path,
    *,
    method: str = "nuts",
    bins: int = 20,
    ranked: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Rank truths drawn from a model's prior among draws of the posterior of mock data.

    Parameters
    ----------
    model : str, path, VoxelMBB class or instance
        The model, whose superpixels must be independent of each other.
    sky : xarray.Dataset or path
        A sky with a truth drawn from the prior of *this model*: what ``simulate_sky(model, ...)``
        returns. Its superpixels are the mocks.
    method : str, optional
        The method, as for `pymcdust.infer.sampling.sample`.
    bins, ranked : int, optional
        As for `rank_truth`.
    seed : int, optional
        Seed of the draws. They share no random number with a sky that has the same seed.
    progress : callable, optional
        As for `pymcdust.infer.sampling.sample`.
    **settings
        Settings of the method.

    Returns
    -------
    xarray.Dataset
        As of `rank_truth`.

    Raises
    ------
    SkyError
        If the sky has no truth, or one that cannot have been drawn from a prior.
    ModelError, ConfigurationError
        As for `pymcdust.infer.sampling.sample`.
    ResultError
        If the model couples superpixels, so that a sky is one mock.

    References
    ----------
    Cook, Gelman & Rubin 2006, J. Comp. Graph. Stat. 15, 675.
    Talts, Betancourt, Simpson, Vehtari & Gelman 2018, arXiv:1804.06788.
    Modrák et al. 2023, Bayesian Analysis, doi:10.1214/23-BA1404.
    """
    sky = as_sky(sky)
    _check_truth(sky)
    posterior = sample(model, sky, method=method, seed=seed, progress=progress, **settings)
    result = rank_truth(posterior, sky, bins=bins, ranked=ranked)
    return result


def rank_truth(
    posterior: xr.DataTree, sky: xr.Dataset, *, bins: int = 20, ranked: int | None = None
) -> xr.Dataset:
    """Rank the truth of every superpixel of a sky among the draws of a posterior.

    Parameters
    ----------
    posterior : DataTree
        A posterior of the sky, under the model from whose prior its truth was drawn.
    sky : xarray.Dataset
        A mock sky with its truth.
    bins : int, optional
        Bins of the chi-square test, and of the histograms.
    ranked : int, optional
        Number of draws, evenly spaced, among which the truth is ranked; one less than a multiple of
        `bins`. By default as many as are nearly independent (by their effective sample size) in
        all but `FEW` of the mocks, and at most `MOST_RANKED`.

    Returns
    -------
    xarray.Dataset
        For each free parameter, and for the log likelihood, with the dimensions of its tying:

        - ``<name>_rank``: number of draws below the truth; ``<name>_pit``: fraction of *all* draws
          below it; ``<name>_zscore``: posterior mean minus truth over posterior standard deviation;
          ``<name>_shrinkage``: one minus posterior over prior variance (not of the likelihood);
        - with the dimension `selection` (``all`` mocks, and ``reliable`` ones) in the place of
          `superpixel`: ``<name>_chi2_p`` and ``<name>_ecdf_p``, p-values of the tests that ranks
          are uniform (see `pymcdust.judge.uniformity`), and ``<name>_coverage``, the fraction of
          equal-tailed intervals of probability `level` that hold the truth.

        For each superpixel `ess`, the least effective sample size, `flag` (of
        `pymcdust.judge.convergence`), `pareto_k` if there is one, and `reliable`: no flag but that
        of a low sample size, which still is not less than `ranked`. For each selection `n_mock`,
        and `p_value`: the least of all p-values, times their number.

    Raises
    ------
    SkyError
        If the sky has no truth, or one of another tying than the posterior's.
    ResultError
        If the posterior is none, couples superpixels, or is of another sky.
    ConfigurationError
        If `bins` or `ranked` are impossible.
    """
    _check_truth(sky)
    diagnosis = diagnose(posterior)
    if "superpixel" not in diagnosis["flag"].dims:
        raise ResultError(
            "the posterior couples superpixels, so that the whole sky is a single mock; only "
            "models without parameters over the sky and without hierarchies can be calibrated so"
        )
    _check_same_sky(posterior, sky)
    ess = np.nan_to_num(np.minimum(diagnosis["ess_bulk"], diagnosis["ess_tail"]).values)
    sizes = posterior["posterior"].sizes
    n_draw = sizes["chain"] * sizes["draw"]
    ranked = _number_ranked(bins, ranked, ess, n_draw)
    other_flags = diagnosis["flag"].values & ~FLAGS["low_ess"]
    reliable = (other_flags == 0) & (ess >= ranked)
    selected = np.stack([np.ones(len(ess), bool), reliable])

    result = xr.Dataset(
        coords={
            "superpixel": sky["superpixel"].values,
            "selection": list(SELECTIONS),
            "level": list(LEVELS),
        },
        attrs={**posterior.attrs, "bins": bins, "ranked": ranked, "n_draw": n_draw},
    )
    if "seed" in sky.attrs:
        result.attrs["sky_seed"] = sky.attrs["seed"]
    for quantity in _quantities(posterior, sky):
        result = result.assign(_ranked(quantity, selected, bins, ranked))
    result["p_value"] = "selection", _least_p(result)
    result["n_mock"] = "selection", selected.sum(axis=1)
    result["reliable"] = "superpixel", reliable
    result["ess"] = "superpixel", ess
    for name in ("flag", "pareto_k"):
        if name in diagnosis:
            result[name] = "superpixel", diagnosis[name].values, diagnosis[name].attrs
    return result


def tabulate(calibration: xr.Dataset, selection: str = "all") -> list[dict[str, Any]]:
    """Return one row of numbers for each value that was ranked.

    Parameters
    ----------
    calibration : Dataset
        What `calibrate` returned.
    selection : {"all", "reliable"}, optional
        The mocks.

    Returns
    -------
    list of dict
        With the keys ``quantity``, ``chi2_p``, ``ecdf_p``, ``coverage`` (a dictionary by level),
        ``zscore_mean``, ``zscore_sd`` and ``shrinkage`` (the median; None of the likelihood); NaN
        without mocks.

    Raises
    ------
    ConfigurationError
        If there is no such selection.
    """
    if selection not in SELECTIONS:
        raise ConfigurationError(unknown("selection", selection, SELECTIONS))
    rows = []
    chosen = calibration["reliable"].values | (selection == "all")
    for name, label, place in ranked_values(calibration):
        one = calibration.isel(place, missing_dims="ignore").sel(selection=selection)
        zscore = one[f"{name}_zscore"].values[chosen]
        shrinkage = f"{name}_shrinkage"
        rows.append(
            {
                "quantity": label,
                "chi2_p": float(one[f"{name}_chi2_p"]),
                "ecdf_p": float(one[f"{name}_ecdf_p"]),
                "coverage": {
                    level: float(one[f"{name}_coverage"].sel(level=level)) for level in LEVELS
                },
                "zscore_mean": float(zscore.mean()) if chosen.any() else np.nan,
                "zscore_sd": float(zscore.std()) if chosen.any() else np.nan,
                "shrinkage": None if shrinkage not in one else _median(one[shrinkage], chosen),
            }
        )
    return rows


def _median(values: xr.DataArray, chosen: np.ndarray) -> float:
    return float(np.median(values.values[chosen])) if chosen.any() else np.nan


class _Quantity(NamedTuple):
    """What is ranked: draws (draw, superpixel, ...) and truth (superpixel, ...) of one name."""

    name: str
    dims: tuple[str, ...]
    draws: np.ndarray
    truth: np.ndarray
    prior_sd: float | None


def _quantities(posterior: xr.DataTree, sky: xr.Dataset) -> Iterator[_Quantity]:
    """Yield the parameters in their order, and the log likelihood."""
    parameters = posterior["posterior"].dataset
    for name in PARAMETERS:
        if name not in parameters:
            continue
        variable = parameters[name].transpose("chain", "draw", "superpixel", ...)
        dims, truth = variable.dims[2:], sky[f"true_{name}"]
        if set(truth.dims) != set(dims):
            raise SkyError(
                f"true_{name} has the dimensions {truth.dims}, and {name} of the posterior "
                f"{dims}; the truth must be drawn from the prior of the model that is calibrated: "
                "simulate_sky(model, ...)"
            )
        draws = variable.values.reshape(-1, *variable.shape[2:])
        prior_sd = float(variable.attrs.get("prior_sd", np.nan))
        yield _Quantity(name, dims, draws, truth.transpose(*dims).values, prior_sd)
    likelihood = posterior["log_likelihood"]["emission"].transpose("chain", "draw", "superpixel")
    draws = likelihood.values.reshape(-1, likelihood.shape[2])
    yield _Quantity(LOG_LIKELIHOOD, ("superpixel",), draws, _true_log_likelihood(sky), None)


def _true_log_likelihood(sky: xr.Dataset) -> np.ndarray:
    """Return the normalised log likelihood of all pixels at the truth, (superpixel,)."""
    truth = sky[["distance_edge", *(f"true_{name}" for name in PARAMETERS)]]
    truth = truth.rename({f"true_{name}": name for name in PARAMETERS})
    parts = []
    for _, block, predicted in reconstruction_blocks(truth, sky):
        sigma = block["sigma"].values
        terms = np.square((observed(block) - predicted) / sigma) + np.log(2 * np.pi * sigma**2)
        parts.append(-0.5 * np.nansum(terms, axis=(1, 2)))
    return np.concatenate(parts)


def _ranked(
    quantity: _Quantity, selected: np.ndarray, bins: int, ranked: int
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return the variables of one quantity, of all mocks and of the selected ones."""
    name, dims, draws, truth, prior_sd = quantity
    below = draws < truth
    thinned = np.round(np.linspace(0, len(draws) - 1, ranked)).astype(int)
    rank, pit = below[thinned].sum(axis=0, dtype=np.int32), below.mean(axis=0)
    mean, variance = draws.mean(axis=0), draws.var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        zscore = (mean - truth) / np.sqrt(variance)
    inside = np.abs(pit[:, None] - 0.5) <= 0.5 * np.reshape(LEVELS, (-1, *[1] * (pit.ndim - 1)))

    def of_selections(function: Callable[[np.ndarray], Any], values: np.ndarray) -> np.ndarray:
        found = np.full((len(selected), *values.shape[1:]), np.nan)
        for number, chosen in enumerate(selected):
            if chosen.any():
                found[number] = np.apply_along_axis(function, 0, values[chosen])
        return found

    variables = {"rank": (dims, rank), "pit": (dims, pit), "zscore": (dims, zscore)}
    if prior_sd is not None:
        variables["shrinkage"] = dims, 1 - variance / prior_sd**2
    over = ("selection", *dims[1:])
    variables |= {
        "chi2_p": (over, of_selections(lambda r: chi_square_p(r, ranked + 1, bins), rank)),
        "ecdf_p": (over, of_selections(lambda r: ecdf_p(r, ranked + 1), rank)),
        "coverage": (("selection", "level", *dims[1:]), of_selections(np.mean, inside)),
    }
    return {f"{name}_{kind}": variable for kind, variable in variables.items()}


def _least_p(result: xr.Dataset) -> np.ndarray:
    """Return the least p-value times their number, at most 1, (selection,)."""
    p_values = np.concatenate(
        [v.values.reshape(len(SELECTIONS), -1) for n, v in result.items() if n.endswith("_p")],
        axis=1,
    )
    number = np.isfinite(p_values).sum(axis=1)
    least = np.where(np.isfinite(p_values), p_values, 1.0).min(axis=1)
    return np.where(number, np.minimum(least * number, 1.0), np.nan)


def _number_ranked(bins: int, ranked: int | None, ess: np.ndarray, n_draw: int) -> int:
    """Return the number of draws among which the truth is ranked."""
    if bins < 2:
        raise ConfigurationError(f"bins is {bins}; it must be 2 or more")
    if ranked is None:
        most = min(np.quantile(ess, FEW), MOST_RANKED, n_draw)
        ranked = bins * max(1, int((most + 1) // bins)) - 1
    if (ranked + 1) % bins or not 0 < ranked <= n_draw:
        largest = bins * ((n_draw + 1) // bins) - 1
        raise ConfigurationError(
            f"ranked is {ranked}, with bins={bins} and {n_draw} draws; it must be one less than a "
            "multiple of bins, and not more than the draws"
            + (f"; the largest is {largest}" if largest > 0 else "; take more draws or fewer bins")
        )
    return ranked


def _check_truth(sky: xr.Dataset) -> None:
    """Check that a sky knows its truth, and that this belongs to its superpixels."""
    missing = [f"true_{name}" for name in PARAMETERS if f"true_{name}" not in sky]
    if missing:
        raise SkyError(
            f"the sky lacks {listing(missing)}; a truth drawn from the model's prior is needed, as "
            "simulate_sky(model, ...) makes it"
        )
    if not any("superpixel" in sky[f"true_{name}"].dims for name in PARAMETERS):
        raise SkyError(
            "the truth is the same in all superpixels of the sky; it must be drawn from the "
            "model's prior in each, as simulate_sky(model, ...) does"
        )


def _check_same_sky(posterior: xr.DataTree, sky: xr.Dataset) -> None:
    known = posterior["posterior"]["superpixel"].values
    if not np.array_equal(known, sky["superpixel"].values):
        raise ResultError(
            f"the posterior is of {known.size} superpixels, the sky has {sky.sizes['superpixel']}; "
            "they must be the same, in the same order"
        )
