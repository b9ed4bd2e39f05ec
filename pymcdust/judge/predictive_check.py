"""Whether data look like what a posterior predicts, band by band.

A model that predicts best may still be wrong. Here the data are held against its predictions: what
is left of them, whether chi-square is as large as it should be (posterior predictive p-value;
Gelman, Meng & Stern 1996, Statistica Sinica 6, 733), and where each datum lies in its predictive
distribution, from a posterior that has not seen it (LOO-PIT; Säilynoja, Bürkner & Vehtari 2022,
Statistics and Computing 32, 32).
"""

import numpy as np
import xarray as xr
from scipy.special import chdtrc, ndtr

from pymcdust.errors import ResultError
from pymcdust.infer.posterior import model_of
from pymcdust.infer.weights import smooth_weights
from pymcdust.judge.pointwise import (
    check_same,
    log_normalisation,
    matching_sky,
    posterior_values,
    stored_log_likelihood,
    whitened,
)
from pymcdust.judge.uniformity import chi_square_p
from pymcdust.sky.blocks import PixelBlocks, pixel_blocks, valid_blocks

#: Draws that a check is made with; more of a posterior are thinned.
DRAWS = 1000

#: Bins of the PIT in the test of its distribution, and in histograms.
PIT_BINS = 20

_LONG_NAMES = {
    "residual": "emission minus posterior mean of the model, over sigma",
    "difference": "emission minus posterior mean of the model",
    "pit": "share of the predictions, without the block, below the datum",
    "pareto_k_loo": "k-hat of the weights that withhold the block",
    "chi2": "posterior mean of chi-square",
    "n_data": "valid pixels",
    "chi2_p": "posterior predictive probability of a larger chi-square",
    "pit_p": "p-value of the test that the PIT of the band is uniform",
}


def check_predictions(
    posterior: xr.DataTree, sky: xr.Dataset, *, block: int | None = None
) -> xr.Dataset:
    """Hold the data of a sky against what a posterior predicts.

    Parameters
    ----------
    posterior : DataTree
        A posterior, or a chunk of its superpixels, in memory.
    sky : Dataset
        The sky that it was drawn from, or more.
    block : int, optional
        Pixels of a block, which is withheld when its pixels are predicted; by default at least as
        wide as the beam (see `pymcdust.sky.blocks.pixel_blocks`).

    Returns
    -------
    Dataset
        By superpixel, pixel and band, NaN where not valid: `residual` [sigma], `difference`
        [MJy/sr] and `pit`, the probability integral transform: a draw of the predictive
        distribution lies below the datum with this probability. By superpixel and block:
        `pareto_k_loo`, where `pit` rests on weights that cannot be relied on from 0.7 upwards. By
        superpixel and band, NaN without data: `chi2`, `n_data` and `chi2_p`. By band: `pit_p`, of
        all superpixels, see `pit_uniformity`.

    Raises
    ------
    ResultError
        If the posterior was not drawn from this sky, or lacks its log likelihood; if no pixel is
        valid.
    ConfigurationError
        If there are no such blocks.
    """
    sky = matching_sky(posterior, sky)
    blocks = pixel_blocks(sky, block)
    present = valid_blocks(sky, blocks)
    if not present.any():
        raise ResultError(
            "no pixel of the posterior's superpixels is valid: there is nothing to check"
        )
    stored, values = stored_log_likelihood(posterior), posterior_values(posterior)
    thinned = slice(None, None, max(1, values.sizes["draw"] // DRAWS))
    values, stored = values.isel(draw=thinned), stored[..., thinned]
    dims = ("superpixel", "pixel", "band")
    emission = sky.emission.transpose(*dims)
    valid = sky.valid.variable.set_dims(emission.sizes).transpose(*dims).values
    sigma = sky.sigma.variable.set_dims(emission.sizes).transpose(*dims).values
    shape = emission.shape
    residual, pit = np.full((2, *shape), np.nan)
    chi2, chi2_p = np.full((2, shape[0], shape[2]), np.nan)
    pareto_k = np.full(present.shape, np.nan)
    normalisation = log_normalisation(sky, blocks)
    total = np.zeros(stored.shape)
    for position, (columns, factors) in enumerate(whitened(values, sky)):
        own, count = valid[position], valid[position].sum(axis=0)
        misfit = factors @ columns  # (band, draw, pixel)
        by_pixel = np.square(misfit)
        by_band = by_pixel.sum(axis=2)
        log_likelihood = normalisation[position] - 0.5 * _by_block(by_pixel, blocks)
        total[position if total.ndim > 1 else ...] += log_likelihood.sum(axis=1)
        used = present[position]
        log_weight, pareto_k[position, used] = smooth_weights(-log_likelihood.T[used])
        weight = np.zeros(log_likelihood.T.shape)
        weight[used] = np.exp(log_weight)
        residual[position] = np.where(own, -misfit.mean(axis=1).T, np.nan)
        below = blocks.split(ndtr(-misfit))  # (band, draw, block, pixel)
        weighted = np.einsum("bd,cdbp->bpc", weight, below).reshape(own.shape)
        pit[position] = np.where(own, weighted, np.nan)
        chi2[position] = np.where(count > 0, by_band.mean(axis=1), np.nan)
        # Replicated data have a chi-square distribution around every draw.
        chi2_p[position, count > 0] = chdtrc(count[:, None], by_band).mean(axis=1)[count > 0]
    check_same(total, stored)
    result = xr.Dataset(
        {
            "residual": (dims, residual),
            "difference": (dims, residual * np.where(valid, sigma, np.nan)),
            "pit": (dims, pit),
            "pareto_k_loo": (("superpixel", "block"), pareto_k),
            "chi2": (("superpixel", "band"), chi2),
            "n_data": (("superpixel", "band"), valid.sum(axis=1)),
            "chi2_p": (("superpixel", "band"), chi2_p),
        },
        {
            "superpixel": sky.superpixel.values,
            "pixel": sky.pixel.values,
            "band": sky.band.values,
            "frequency": ("band", sky.frequency.values),
        },
        {"model": model_of(posterior).name, "block": blocks.size},
    )
    result["pit_p"] = pit_uniformity(result.pit)
    for name, text in _LONG_NAMES.items():
        result[name].attrs["long_name"] = text
    result["difference"].attrs["unit"] = "MJy/sr"
    return result


def pit_uniformity(pit: xr.DataArray) -> xr.DataArray:
    """Test, band by band, whether the PIT of many data is uniform.

    Data of the same superpixel share its posterior, and pixels of the same beam their noise: of a
    survey whose pixels are correlated the p-value comes out too small.

    Parameters
    ----------
    pit : (superpixel, pixel, band) DataArray
        As `check_predictions` returns it.

    Returns
    -------
    (band,) DataArray
        The p-value of a chi-square test of `PIT_BINS` bins; NaN with few data.
    """
    by_band = pit_bins(pit).transpose("band", ...).values.reshape(pit.sizes["band"], -1)
    p_values = [chi_square_p(bins[bins >= 0], PIT_BINS, PIT_BINS) for bins in by_band]
    return xr.DataArray(p_values, dims="band", coords={"band": pit["band"].values}, name="pit_p")


def pit_bins(pit: xr.DataArray) -> xr.DataArray:
    """Return the bin of each PIT, of `PIT_BINS` of the same width; -1 where there is none."""
    bins = np.minimum((pit.fillna(0.0) * PIT_BINS).astype(int), PIT_BINS - 1)
    return bins.where(pit.notnull(), -1)


def _by_block(by_pixel: np.ndarray, blocks: PixelBlocks) -> np.ndarray:
    """Sum (band, draw, pixel) over the bands and the pixels of every block, (draw, block)."""
    return blocks.split(by_pixel.sum(axis=0)).sum(axis=2)
