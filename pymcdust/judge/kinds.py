"""What a store holds: results of every kind are Zarr, and their variables tell them apart."""

import xarray as xr

from pymcdust.sky.compression import is_compressed


def is_comparison(dataset: xr.Dataset) -> bool:
    """Tell whether a dataset is what `compare` returns."""
    return {"ln_evidence", "elpd", "weight"} <= set(dataset.data_vars) and "model" in dataset.dims


def is_study(result: xr.Dataset) -> bool:
    """Tell whether a dataset is what `PriorStudy.run` returns."""
    return "varied" in result.coords and "how" in result


def kind_of(result: xr.DataTree | xr.Dataset) -> str:
    """Return what a result means to be; whether it is a good one, its reader tells.

    Parameters
    ----------
    result : DataTree or Dataset
        What was opened.

    Returns
    -------
    str
        ``"posterior"``, ``"comparison"``, ``"study of priors"``, ``"sensitivity"``, ``"fit"``,
        ``"compressed sky"``, ``"sky"`` or, if it is none of these, ``"dataset"``.

    Examples
    --------
    >>> kind_of(xr.Dataset({"reddening": 0.1, "emission": 1.0}))
    'sky'
    """
    if isinstance(result, xr.DataTree):
        if result.children:
            return "posterior"
        result = result.to_dataset()
    names = {str(name) for name in result.data_vars}
    told = {
        "comparison": is_comparison(result),
        "study of priors": is_study(result),
        "sensitivity": any(name.endswith("_prior_sensitivity") for name in names),
        "fit": {"objective", "converged", "flag"} <= names,
        "compressed sky": is_compressed(result),
        "sky": {"reddening", "emission"} <= names,
    }
    return next((kind for kind, holds in told.items() if holds), "dataset")
