"""Diagnostics of the draws of every value of a parameter, by ArviZ."""

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

#: R-hat from which chains have not mixed (Vehtari et al. 2021, Sec. 4).
LARGEST_RHAT = 1.01

#: Probabilities whose indicator functions give the tail ESS (Vehtari et al. 2021, Sec. 4.3).
TAIL = (0.05, 0.95)

#: Fewest draws of a chain, after a single chain has been split in two, for ArviZ's diagnostics.
LEAST_DRAWS = 4

#: Statistics of every value of a parameter, and what they are.
STATISTICS = {
    "rhat": "rank-normalised split R-hat",
    "ess_bulk": "effective sample size of the bulk",
    "ess_tail": "effective sample size of the tails",
    "mcse": "Monte Carlo standard error of the mean",
    "mean": "posterior mean",
    "sd": "posterior standard deviation",
}


def worst_rhat(draws: np.ndarray) -> np.ndarray:
    """Return the largest rank-normalised split R-hat of some parameters.

    Parameters
    ----------
    draws : (chain, draw, ..., parameter) array
        Draws; a single chain is split in two first.

    Returns
    -------
    (...) array
        The largest R-hat over the parameters; infinite where there is none, because draws are too
        few, constant or not finite.

    Examples
    --------
    >>> draws = np.random.default_rng(1).standard_normal((4, 500, 3))
    >>> bool(worst_rhat(draws) < LARGEST_RHAT)
    True
    >>> draws[0] += 1  # a chain that has not found to the others
    >>> float(worst_rhat(draws).round(1))
    1.1
    """
    draws = np.asarray(draws, dtype=float)
    flat = draws.reshape(*draws.shape[:2], -1)
    rhat = np.full(flat.shape[2], np.inf)
    usable = _usable(flat)
    rhat[usable] = np.nan_to_num(_rhat(flat[:, :, usable]), nan=np.inf)
    return rhat.reshape(draws.shape[2:]).max(axis=-1)


def statistics(draws: xr.Dataset, weights: xr.Dataset) -> xr.Dataset:
    """Return the `STATISTICS` of every variable of some superpixels, or of the sky."""
    results = {}
    for name, variable in draws.data_vars.items():
        variable = variable.transpose("chain", "draw", ...)
        values = variable.values.astype(float, copy=False)
        tying = variable.dims[2:]
        flat = values.reshape(*values.shape[:2], -1)
        one = xr.zeros_like(variable.isel(chain=0, draw=0, drop=True), dtype=float)
        spread = weights.broadcast_like(one)
        independent, worth = (
            spread[key].transpose(*tying).values.reshape(-1)
            if key in spread
            else np.zeros(one.size)
            for key in ("independent", "importance_ess")
        )
        for statistic, numbers in _of_draws(flat, independent.astype(bool), worth).items():
            results[f"{name}_{statistic}"] = (
                tying,
                numbers.reshape(one.shape),
                {
                    "long_name": f"{STATISTICS[statistic]} of {name}",
                    "unit": variable.attrs.get("unit", "")
                    if statistic in ("mcse", "mean", "sd")
                    else "",
                },
            )
    coords = {
        name: c for name, c in draws.coords.items() if not {"chain", "draw"} & {*c.dims, name}
    }
    return xr.Dataset(results, coords=coords)


def _of_draws(
    draws: np.ndarray, independent: np.ndarray, worth: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the `STATISTICS` of draws (chain, draw, value), NaN where they cannot be had."""
    n_draw = draws.shape[0] * draws.shape[1]
    found = {name: np.full(draws.shape[2], np.nan) for name in STATISTICS}
    finite = np.isfinite(draws).all(axis=(0, 1))
    found["mean"][finite] = draws[:, :, finite].mean(axis=(0, 1))
    if n_draw > 1:
        found["sd"][finite] = draws[:, :, finite].std(axis=(0, 1), ddof=1)
    usable = _usable(draws)
    chains = usable & ~independent
    if chains.any():
        found["rhat"][chains] = _rhat(draws[:, :, chains])
        axes = {"chain_axis": 0, "draw_axis": 1}
        for name, options in {
            "ess_bulk": {"method": "bulk"},
            "ess_tail": {"method": "tail", "prob": TAIL},
        }.items():
            found[name][chains] = array_stats.ess(draws[:, :, chains], **axes, **options)
        found["mcse"][chains] = array_stats.mcse(draws[:, :, chains], **axes)
    weighted = usable & independent
    # Resampling cannot give back what the weights have taken.
    left = np.minimum(worth[weighted], n_draw)
    found["ess_bulk"][weighted] = found["ess_tail"][weighted] = left
    found["mcse"][weighted] = found["sd"][weighted] / np.sqrt(left)
    return found


def _usable(draws: np.ndarray) -> np.ndarray:
    """Return which values (chain, draw, value) move, are finite, and have draws enough."""
    if draws_of_a_chain(*draws.shape[:2]) < LEAST_DRAWS:
        return np.zeros(draws.shape[2], dtype=bool)
    with np.errstate(invalid="ignore"):
        # Of draws that are all the same, ArviZ says that they are worth their number.
        moves = np.ptp(draws, axis=(0, 1)) > 0
    return moves & np.isfinite(draws).all(axis=(0, 1))


def draws_of_a_chain(n_chain: int, n_draw: int) -> int:
    """Return how many draws R-hat has of each chain: a single one is split in two first."""
    return n_draw if n_chain > 1 else n_draw // 2


def _rhat(draws: np.ndarray) -> np.ndarray:
    """Return rank-normalised split R-hat (value,) of draws (chain, draw, value)."""
    if len(draws) == 1:
        half = draws.shape[1] // 2
        draws = np.concatenate([draws[:, :half], draws[:, -half:]])
    with np.errstate(divide="ignore", invalid="ignore"):
        # Chains that all stand still, each elsewhere, have no variance within: R-hat is infinite.
        return array_stats.rhat(draws, chain_axis=0, draw_axis=1)
