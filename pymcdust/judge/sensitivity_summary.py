"""What a sensitivity or a study over priors says, in a table and in files."""

from pathlib import Path

import numpy as np
import xarray as xr

from pymcdust.errors import ResultError
from pymcdust.judge.kinds import is_study
from pymcdust.judge.prior_study import HOW
from pymcdust.judge.sensitivity_figures import plot_band, plot_prior_dominated, plot_tornado
from pymcdust.products import figure_files

#: The parameters that are drawn.
PARAMETERS = ("temperature", "beta", "rho")


def tabulate(result: xr.Dataset) -> dict[str, list[str]]:
    """Return columns of a table, over all superpixels.

    Parameters
    ----------
    result : Dataset
        What `sensitivity` or `PriorStudy.run` returned.

    Returns
    -------
    dict
        By the columns' names. Of a sensitivity there is one row for each value: the median width,
        and how many superpixels the prior dominates, or is in conflict with. Of a study there is
        one for each prior: the median and the largest shift of any value's mean, in posterior
        standard deviations, how many posteriors were drawn anew or cannot be relied on, and the
        change of the log evidence of the sky.

    Raises
    ------
    ResultError
        If it is neither.
    """
    if is_study(result):
        return _of_study(result)
    names = [str(name).removesuffix("_width") for name in result if name.endswith("_width")]
    if not names:
        raise ResultError("this is neither a sensitivity nor a study over priors")
    columns: dict[str, list[str]] = {
        key: [] for key in ("value", "median width", "prior dominates [%]", "in conflict [%]")
    }
    for name in names:
        width = result[f"{name}_width"]
        others = [dim for dim in width.dims if dim != "superpixel"]
        for index in np.ndindex(*(width.sizes[dim] for dim in others)):
            place = dict(zip(others, index, strict=True))
            words = [f"{dim} {width[dim].values[i]}" for dim, i in place.items()]
            columns["value"].append(", ".join([name.replace("_", " "), *words]))
            columns["median width"].append(f"{float(width.isel(place).median()):.2f}")
            for head, key in (
                ("prior dominates [%]", "prior_dominated"),
                ("in conflict [%]", "conflict"),
            ):
                share = 100 * float(result[f"{name}_{key}"].isel(place).mean())
                columns[head].append(f"{share:.0f}")
    return columns


def save_figures(result: xr.Dataset, folder: str | Path) -> list[Path]:
    """Draw and save what can be drawn of a result, in the place of earlier figures.

    Parameters
    ----------
    result : Dataset
        What `sensitivity` or `PriorStudy.run` returned.
    folder : path
        Folder for the figures, made where it is missing.

    Returns
    -------
    list of Path
        The files written.
    """
    if not is_study(result):
        figures = {
            f"prior_dominated_{name}": plot_prior_dominated(result, name)
            for name in PARAMETERS
            if f"{name}_width" in result
        }
    else:
        figures = {}
        if (result["varied"] != "").any():
            figures["tornado"] = plot_tornado(result)
        means = [name for name in PARAMETERS if f"{name}_mean" in result]
        for name in [name for name in means if "voxel" in result[f"{name}_mean"].dims]:
            moved = _most_moved(result, name)
            figures[f"band_{name}"] = plot_band(result, moved, parameter=name)
    return figure_files.save_figures(figures, folder)


def _of_study(result: xr.Dataset) -> dict[str, list[str]]:
    moved = _shifts(result)
    columns: dict[str, list[str]] = {
        "prior": [str(label) for label in result["prior"].values],
        "median shift [sd]": [],
        "largest shift [sd]": [],
        "drawn anew": [],
        "not reliable": [],
        "change of ln evidence": [],
    }
    for number in range(result.sizes["prior"]):
        here, shifts = result.isel(prior=number), moved[number]
        columns["median shift [sd]"].append(f"{np.nanmedian(shifts):.2f}")
        columns["largest shift [sd]"].append(f"{np.nanmax(shifts):.2f}")
        columns["drawn anew"].append(f"{int((here['how'] == HOW.index('refitted')).sum()):,}")
        columns["not reliable"].append(f"{int((~here['reliable']).sum()):,}")
        columns["change of ln evidence"].append(f"{float(here['ln_evidence_change'].sum()):+.1f}")
    return columns


def _shift(result: xr.Dataset, name: str) -> xr.DataArray:
    """Return how far each prior moves the mean of a variable, in posterior standard deviations."""
    mean = result[f"{name}_mean"]
    return np.abs(mean - mean.isel(prior=0)) / result[f"{name}_sd"].isel(prior=0)


def _shifts(result: xr.Dataset) -> np.ndarray:
    """Return the shifts of all means, (prior, value)."""
    names = [str(name).removesuffix("_mean") for name in result if name.endswith("_mean")]
    shifts = [_shift(result, name).transpose("prior", ...).values for name in names]
    return np.concatenate([shift.reshape(len(shift), -1) for shift in shifts], axis=1)


def _most_moved(result: xr.Dataset, name: str) -> int:
    """Return the superpixel in which the priors move a variable most."""
    shift = _shift(result, name)
    shift = shift.max([dim for dim in shift.dims if dim != "superpixel"])
    return int(result["superpixel"].values[int(shift.argmax("superpixel"))])
