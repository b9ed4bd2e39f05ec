"""What of a fit is a measurement: not the prior, not padding, not a fit that stopped short."""

import numpy as np
import xarray as xr

from pymcdust.products.reconstruction import require

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
        with the dimensions of the parameter's tying. Of a lognormal prior it is the logarithm
        whose widths are compared, of a hierarchical one the scatter that was inferred. All false
        where the parameter is fixed, or its prior has no known width.

    Raises
    ------
    ResultError
        If the fit lacks the parameter, or its standard deviation.
    """
    require(fit, (name,))
    variable = fit[name]
    width = variable.attrs.get("prior_sigma", variable.attrs.get("prior_sd"))
    if isinstance(width, str):
        require(fit, (width,))
        width = fit[width]
    if is_fixed(variable) or width is None or not np.isfinite(width).all():
        return xr.zeros_like(variable, dtype=bool)
    require(fit, (f"{name}_sd",))
    if variable.attrs.get("prior_is_log", False):
        width = width * np.abs(variable)
    # A standard deviation of NaN must not pass as a measurement.
    dominated = ~(fit[f"{name}_sd"] <= PRIOR_DOMINATED * width)
    return dominated.transpose(*variable.dims)


def voxels_in_use(dataset: xr.Dataset) -> xr.DataArray:
    """Return which voxels are no padding.

    Parameters
    ----------
    dataset : Dataset
        A sky or a result, with `distance_edge` and, where superpixels differ in it, `n_voxel`.

    Returns
    -------
    (voxel,) or (superpixel, voxel) DataArray of bool
        False for what only fills the dimension up; without superpixels where all are cut alike.

    Examples
    --------
    >>> edges = [[0.0, 0.5, 2.0], [0.0, 3.0, 3.001]]
    >>> fit = xr.Dataset({"distance_edge": (("superpixel", "voxel_edge"), edges)})
    >>> voxels_in_use(fit.assign(n_voxel=("superpixel", [2, 1]))).values.tolist()
    [[True, True], [True, False]]
    """
    edges = dataset["distance_edge"]
    n_voxel = edges.sizes["voxel_edge"] - 1
    if "n_voxel" in dataset:
        count = dataset["n_voxel"]
    else:
        count = xr.full_like(edges.isel(voxel_edge=0, drop=True), n_voxel, dtype=int)
    number = xr.DataArray(np.arange(n_voxel), dims="voxel")
    return (number < count.reset_coords(drop=True)).transpose(..., "voxel")


def chi2_per_datum(fit: xr.Dataset) -> xr.DataArray:
    """Return chi2 over the number of data of each superpixel; NaN where there are none."""
    return fit["chi2"] / fit["n_data"].where(fit["n_data"] > 0)


def flag_bits(fit: xr.Dataset) -> dict[str, int]:
    """Return the bits of a fit's flag by their meanings; none where it has no flag.

    Examples
    --------
    >>> attrs = {"flag_masks": [1, 2], "flag_meanings": "not_converged voxel_without_dust"}
    >>> flag_bits(xr.Dataset({"flag": ("superpixel", [0, 2], attrs)}))
    {'not_converged': 1, 'voxel_without_dust': 2}
    """
    attrs = fit["flag"].attrs if "flag" in fit else {}
    meanings = str(attrs.get("flag_meanings", "")).split()
    masks = np.atleast_1d(attrs.get("flag_masks", [])).astype(int).tolist()
    return dict(zip(meanings, masks, strict=True))


def is_fixed(variable: xr.DataArray) -> bool:
    """Tell whether a parameter of a fit was not free."""
    return variable.attrs.get("tying") == "fixed"
