"""What of a fit is a measurement: not the prior, not padding, not a fit that stopped short."""

import numpy as np
import xarray as xr

from pymcdust.products.reconstruction import require
from pymcdust.sky.voxels import PADDING

#: Posterior over prior standard deviation, above which the prior dominates an estimate.
PRIOR_DOMINATED = 0.7


def prior_dominated(fit: xr.Dataset, name: str) -> xr.DataArray:
    """Return where an estimate tells the prior rather than the data.

    A voxel without dust returns its prior; it is not a measurement.

    Parameters
    ----------
    fit : Dataset
        The fit.
    name : str
        A parameter.

    Returns
    -------
    DataArray of bool
        Whether the standard deviation is above `PRIOR_DOMINATED` times the prior's, or unknown;
        with the dimensions of the parameter's tying. All false where the parameter is fixed, or
        its prior has no known width.

    Raises
    ------
    ResultError
        If the fit lacks the parameter, or its standard deviation.
    """
    require(fit, (name,))
    variable = fit[name]
    prior_sd = variable.attrs.get("prior_sd")
    if is_fixed(variable) or prior_sd is None or not np.isfinite(prior_sd):
        return xr.zeros_like(variable, dtype=bool)
    require(fit, (f"{name}_sd",))
    # A standard deviation of NaN must not pass as a measurement.
    return ~(fit[f"{name}_sd"] <= PRIOR_DOMINATED * prior_sd)


def voxels_in_use(dataset: xr.Dataset) -> xr.DataArray:
    """Return which voxels are no padding.

    Where `n_voxel` is not told, as in a fit, padding is known by its depth: it lies behind all
    other voxels, and is `pymcdust.sky.voxels.PADDING` deep.

    Parameters
    ----------
    dataset : Dataset
        A sky or a fit.

    Returns
    -------
    (voxel,) or (superpixel, voxel) DataArray of bool
        False for what only fills the dimension up; without superpixels where all are cut alike.

    Examples
    --------
    >>> edges = [[0.0, 0.5, 2.0], [0.0, 3.0, 3.001]]
    >>> fit = xr.Dataset({"distance_edge": (("superpixel", "voxel_edge"), edges)})
    >>> voxels_in_use(fit).values.tolist()
    [[True, True], [True, False]]
    """
    edges = dataset["distance_edge"].transpose(..., "voxel_edge")
    dims = (*edges.dims[:-1], "voxel")
    if "n_voxel" in dataset:
        numbers = xr.DataArray(np.arange(edges.sizes["voxel_edge"] - 1), dims="voxel")
        return (
            (numbers < dataset["n_voxel"])
            .transpose(..., "voxel")
            .drop_vars("voxel", errors="ignore")
        )
    # Edges may have been kept in single precision.
    deep = np.diff(edges.values, axis=-1) > 1.01 * PADDING
    in_use = np.flip(np.logical_or.accumulate(np.flip(deep, -1), axis=-1), -1)
    return xr.DataArray(in_use, dims=dims)


def chi2_per_datum(fit: xr.Dataset) -> xr.DataArray:
    """Return chi2 over the number of data of each superpixel; NaN where there are none."""
    return fit["chi2"] / fit["n_data"].where(fit["n_data"] > 0)


def is_fixed(variable: xr.DataArray) -> bool:
    """Tell whether a parameter of a fit was not free."""
    return variable.attrs.get("tying") == "fixed"
