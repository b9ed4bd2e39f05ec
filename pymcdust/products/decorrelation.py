"""How much the spectrum of dust changes along the sightline: ratios of intensities per voxel.

Clouds on one sightline whose spectra differ, and whose magnetic fields do so too, make polarised
emission change its pattern from one frequency to another (Tassis & Pavlidou 2015; Pelgrims et al.
2021). That the spectra differ is one half of it, which a fit of temperatures along the sightline
can tell.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError
from pymcdust.physics.emission import emissivity
from pymcdust.products.voxel_values import SPECTRUM, VoxelValues

#: Numbers of one block of draws; 16 MB in double precision.
BLOCK_DRAWS = 2**21


def decorrelation(
    fit: xr.Dataset,
    sky: xr.Dataset,
    posterior: xr.DataTree | None = None,
    frequencies: Sequence[float] = (353.0, 217.0),
) -> xr.Dataset:
    r"""Return the ratio of intensities of each voxel, and its dispersion along the sightline.

    The ratio of voxel i is :math:`R_i = I_i(353) / I_i(217)`, and its weight :math:`w_i` the part
    of the sightline's emission at 217 GHz that it emits. So the mean :math:`\sum w_i R_i` is the
    ratio that the whole sightline has, and the dispersion is
    :math:`\sqrt{\sum w_i (R_i - \bar R)^2}`.

    Parameters
    ----------
    fit : Dataset
        A fit of any tying; it may cover a part of the sky's superpixels.
    sky : Dataset
        The sky that was fitted; the mean reddening of its valid pixels weighs the voxels.
    posterior : DataTree, optional
        The posterior of the same model and sky. With it, everything is the mean over its draws,
        and has a standard deviation.
    frequencies : (2,) sequence of float [GHz]
        Of the numerator and the denominator.

    Returns
    -------
    Dataset
        - ``ratio`` (superpixel, voxel); NaN for padding.
        - ``weight`` (superpixel, voxel), adding up to 1; NaN for padding, and where a sightline
          has no emission. A voxel whose mean reddening is negative, by noise or by ringing, has
          none.
        - ``sightline_ratio``, ``dispersion``, and ``relative_dispersion`` (superpixel): the mean
          along the sightline, the dispersion, and this over the mean.
        - ``prior_dominated_weight`` (superpixel): the part of the weight that is of voxels whose
          temperature or beta tells the prior. Their ratio is no measurement.
        - with a posterior ``<name>_sd`` of each of these but the last.

    Raises
    ------
    ResultError
        If fit, sky and posterior do not belong together, or lack something.
    ConfigurationError
        If there are not two positive frequencies that differ.

    Notes
    -----
    Errors of temperature and beta that are independent from voxel to voxel make a dispersion of
    their own, which all draws of a posterior have: compare with a fit that ties temperature and
    beta along the sightline, for which it is zero. The ratio hardly depends on temperature: for
    15 % between clouds, which Pelgrims et al. (2021) need, beta must differ by 0.29, or the
    temperature by 11 K (13 and 24 K).

    Examples
    --------
    >>> from pymcdust import fit_map, simulate_sky
    >>> truth = {"temperature": ("voxel", [21.0, 17.0]), "beta": 1.6, "rho": 1e-4}
    >>> place = {"center": (100, 10), "radius": 5, "distance_edge": [0, 0.5, 2]}
    >>> sky = simulate_sky(truth, nside=128, superpixel_nside=8, noise=False, **place)
    >>> result = decorrelation(fit_map("temperature_per_voxel", sky), sky)
    >>> result.ratio.mean("superpixel").values.round(2)
    array([4.85, 4.64])
    """
    high, low = _checked_frequencies(frequencies)
    values = VoxelValues(fit, sky, posterior)
    dominated = values.prior_dominated("temperature") | values.prior_dominated("beta")
    draws = posterior is not None
    n_draw = values.n_draw or 1
    step = max(1, BLOCK_DRAWS // (n_draw * values.n_voxel))
    blocks = []
    for start in range(0, values.n_row, step):
        rows = np.arange(start, min(start + step, values.n_row))
        block = _of_draws(values, rows, draws, high, low)
        grey = np.where(dominated[rows, :, None], block["weight"], 0).sum(axis=1)
        grey[np.isnan(block["sightline_ratio"])] = np.nan
        means = {name: array.mean(axis=-1) for name, array in block.items()}
        means["prior_dominated_weight"] = grey.mean(axis=-1)
        if draws:
            means |= {f"{name}_sd": array.std(axis=-1) for name, array in block.items()}
        blocks.append(means)
    dims = ("superpixel", "voxel")
    variables = {}
    for name in blocks[0]:
        array = np.concatenate([block[name] for block in blocks])
        variables[name] = (dims[: array.ndim], array, {"unit": ""})
    return xr.Dataset(
        variables,
        {"superpixel": values.superpixel, "voxel": np.arange(values.n_voxel)},
        {**fit.attrs, "frequencies": [high, low]},
    ).assign(distance_edge=fit["distance_edge"])


def _of_draws(
    values: VoxelValues, rows: np.ndarray, draws: bool, high: float, low: float
) -> dict[str, np.ndarray]:
    """Return the ratio, the weight, and the moments along the sightline, (row, ..., draw)."""
    spectrum = [values.parameter(name, rows, draws) for name in SPECTRUM]
    denominator = emissivity(low, *spectrum)
    ratio = emissivity(high, *spectrum) / denominator
    emission = np.maximum(values.reddening(rows), 0)[..., None] * denominator
    total = np.nansum(emission, axis=1)
    with np.errstate(invalid="ignore"):
        weight = emission / np.where(total > 0, total, np.nan)[:, None]
    mean = _along(weight, ratio)
    dispersion = np.sqrt(_along(weight, (ratio - mean[:, None]) ** 2))
    return {
        "ratio": ratio,
        "weight": weight,
        "sightline_ratio": mean,
        "dispersion": dispersion,
        "relative_dispersion": dispersion / mean,
    }


def _along(weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the weighted mean over voxels, (row, draw); NaN where no voxel has weight."""
    mean = np.nansum(weight * values, axis=1)
    return np.where(np.isnan(weight).all(axis=1), np.nan, mean)


def _checked_frequencies(frequencies: Sequence[float]) -> tuple[float, float]:
    """Return the frequencies of numerator and denominator."""
    try:
        given = np.asarray(frequencies, dtype=float)
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.shape != (2,) or not (np.isfinite(given) & (given > 0)).all() or given[0] == given[1]:
        raise ConfigurationError(
            f"frequencies are {frequencies}; allowed are two different ones [GHz], that of "
            "the numerator first"
        )
    return float(given[0]), float(given[1])
