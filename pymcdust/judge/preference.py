"""What a comparison says: differences to a reference, winners, and summaries of the sky."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import healpy
import numpy as np
import xarray as xr
from scipy.special import log_ndtr

from pymcdust.errors import ResultError, unknown

#: Posterior probability from which a superpixel has a winner.
DECIDED = 0.9

#: Edges of the bins of absolute Galactic latitude [deg] of a summary.
LATITUDES = (0.0, 5.0, 10.0, 20.0, 30.0, 90.0)

#: Number of bins of the column, of equally many superpixels.
COLUMN_BINS = 4


def spoken(variant: object) -> str:
    """Write the name of a variant in words.

    Examples
    --------
    >>> spoken("temperature_per_voxel")
    'temperature per voxel'
    """
    return str(variant).replace("_", " ")


def reference_of(comparison: xr.Dataset, reference: str | None = None) -> str:
    """Return the variant that others are compared with: by default the first.

    Raises
    ------
    ResultError
        If there is none of that name.
    """
    names = [str(name) for name in comparison["model"].values]
    if reference is None:
        return names[0]
    if reference not in names:
        raise ResultError(unknown("variant of the comparison", reference, names))
    return reference


def differences(comparison: xr.Dataset, reference: str | None = None) -> xr.Dataset:
    """Return by how much each variant is better than a reference.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    reference : str, optional
        Name of a variant, by default the first.

    Returns
    -------
    Dataset
        `ln_bayes_factor` and `elpd_difference` (model, superpixel), positive where a variant is
        better than the reference, with their standard errors; the same of the whole sky, (model,),
        with ``_sky`` in their names. The error of an ELPD difference is that of the scatter of the
        blocks' differences, which is smaller than the errors of the two ELPDs (Vehtari, Gelman &
        Gabry 2017, Eq. 24).

    Raises
    ------
    ResultError
        If there is no such variant.
    """
    name = reference_of(comparison, reference)
    other = comparison.sel(model=name)
    same = comparison["model"] == name
    result = xr.Dataset()
    for kind in ("", "_sky"):
        result[f"ln_bayes_factor{kind}"] = (
            comparison[f"ln_evidence{kind}"] - other[f"ln_evidence{kind}"]
        )
        errors = (comparison[f"ln_evidence{kind}_error"], other[f"ln_evidence{kind}_error"])
        result[f"ln_bayes_factor{kind}_error"] = np.hypot(*errors).where(~same, 0.0)
    of_block = comparison["elpd_block"] - other["elpd_block"]
    for kind, dims in (("", ["block"]), ("_sky", ["superpixel", "block"])):
        total, error = total_and_error(of_block, dims)
        result[f"elpd_difference{kind}"] = total
        result[f"elpd_difference{kind}_error"] = error
    return (
        result.drop_vars("model")
        .assign_coords(model=comparison["model"])
        .assign_attrs({"reference": name})
    )


def total_and_error(of_block: xr.DataArray, dims: list[str]) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the sum over blocks, and its standard error by their scatter.

    Parameters
    ----------
    of_block : DataArray
        A score of each block, NaN where there is none.
    dims : list of str
        Dimensions to sum over.

    Returns
    -------
    total, error : DataArray
        NaN where there are no blocks; the error also where there is one.
    """
    count = of_block.notnull().sum(dims)
    total = of_block.sum(dims).where(count > 0)
    variance = of_block.var(dims, ddof=0) * count / (count - 1).where(count > 1)
    return total, np.sqrt(count * variance)


def winner(comparison: xr.Dataset, decided: float = DECIDED) -> xr.DataArray:
    """Return the winning variant of every superpixel.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    decided : float, optional
        Least posterior probability of a winner.

    Returns
    -------
    DataArray
        (superpixel,) position of the winner along `model`, -1 where none is that probable.
    """
    probability = comparison["probability"]
    best = probability.fillna(-1.0).argmax("model")
    return best.where(probability.max("model") >= decided, -1).astype(int).rename("winner")


def summarise_variants(
    comparison: xr.Dataset, reference: str | None = None
) -> list[dict[str, Any]]:
    """Return one row of numbers for each variant, the best ELPD of the whole sky first.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    reference : str, optional
        Name of the variant that others are compared with, by default the first.

    Returns
    -------
    list of dict
        With the keys ``model``, ``elpd``, ``elpd_difference`` and ``elpd_difference_error``,
        ``p_better`` (the probability that it predicts better than the reference, by a normal
        approximation), ``ln_evidence``, ``ln_bayes_factor`` and ``ln_bayes_factor_error``,
        ``weight`` (stacking, over the sky), ``won`` and ``lost`` (superpixels whose posterior
        probability is at least `DECIDED`, or at most one less that).
    """
    against = differences(comparison, reference)
    best = winner(comparison)
    rows = []
    for number, name in enumerate(comparison["model"].values):
        here, other = comparison.isel(model=number), against.isel(model=number)
        difference = float(other["elpd_difference_sky"])
        error = float(other["elpd_difference_sky_error"])
        rows.append(
            {
                "model": str(name),
                "elpd": float(here["elpd_sky"]),
                "elpd_difference": difference,
                "elpd_difference_error": error,
                "p_better": float(np.exp(log_ndtr(difference / error))) if error > 0 else np.nan,
                "ln_evidence": float(here["ln_evidence_sky"]),
                "ln_bayes_factor": float(other["ln_bayes_factor_sky"]),
                "ln_bayes_factor_error": float(other["ln_bayes_factor_sky_error"]),
                "weight": float(here["weight_sky"]),
                "won": int((best == number).sum()),
                "lost": int((here["probability"] <= 1 - DECIDED).sum()),
            }
        )
    return sorted(rows, key=lambda row: -row["elpd"])


def summarise_places(comparison: xr.Dataset, reference: str | None = None) -> list[dict[str, Any]]:
    """Return what variants are worth in parts of the sky, by latitude and by column.

    Parameters
    ----------
    comparison : Dataset
        What `compare` returned.
    reference : str, optional
        Name of the variant that others are compared with, by default the first.

    Returns
    -------
    list of dict
        One for each variant in each part: ``by`` ("latitude" or "column"), ``low`` and ``high``
        (absolute latitude [deg], or median reddening of the sightline [mag]), ``superpixels``,
        ``model``, ``elpd_difference`` and its ``elpd_difference_error``, ``ln_bayes_factor``,
        ``won``, and ``mean_weight``, that of the superpixels' stacking weights.
    """
    name = reference_of(comparison, reference)
    of_block = comparison["elpd_block"] - comparison["elpd_block"].sel(model=name)
    bayes = differences(comparison, name)["ln_bayes_factor"]
    best = winner(comparison)
    rows = []
    for by, low, high, inside in _places(comparison):
        for number, model in enumerate(comparison["model"].values):
            total, error = total_and_error(
                of_block.isel(model=number, superpixel=inside), ["superpixel", "block"]
            )
            rows.append(
                {
                    "by": by,
                    "low": low,
                    "high": high,
                    "superpixels": int(inside.sum()),
                    "model": str(model),
                    "elpd_difference": float(total),
                    "elpd_difference_error": float(error),
                    "ln_bayes_factor": float(
                        bayes.isel(model=number, superpixel=inside).sum(skipna=False)
                    ),
                    "won": int((best.isel(superpixel=inside) == number).sum()),
                    "mean_weight": float(
                        comparison["weight"].isel(model=number, superpixel=inside).mean()
                    ),
                }
            )
    return rows


def _places(comparison: xr.Dataset) -> Iterator[tuple[str, float, float, np.ndarray]]:
    """Yield parts of the sky: what they are cut by, their range, their superpixels."""
    nside = int(comparison.attrs["superpixel_nside"])
    latitude = np.abs(
        healpy.pix2ang(nside, comparison["superpixel"].values, nest=True, lonlat=True)[1]
    )
    column = comparison["column"].values
    edges = np.unique(np.quantile(column, np.linspace(0, 1, COLUMN_BINS + 1)))
    for by, values, cuts in (("latitude", latitude, LATITUDES), ("column", column, edges)):
        for low, high in pairwise(cuts):
            inside = (values >= low) & ((values < high) | ((values == high) & (high == cuts[-1])))
            if inside.any():
                yield by, float(low), float(high), inside
