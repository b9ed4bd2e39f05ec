"""How good a sky is: what reddening tells apart, and whether emission follows it, in numbers."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from pymcdust.errors import SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.validation import UNSEEN_BELOW, superpixel_blocks

#: A voxel with less dust than this, in units of the thickest one of its superpixel, has none: what
#: single precision and smoothing leave behind is no pattern.
NO_DUST = 1e-6

#: Least over largest singular value, below which two patterns are one.
SAME_PATTERN = 1e-7

#: Of the pixels of a sky no more than these are looked at for quantiles [pixels].
MOST_PIXELS = 100_000

#: The quantiles that are told of them.
QUANTILES = (0.05, 0.16, 0.5, 0.84, 0.95)

#: The dimensions after ``superpixel`` of what `summarise_sky` finds in each superpixel.
_DIMS: dict[str, tuple[str, ...]] = {
    "n_valid": (),
    "n_voxel": (),
    "column": (),
    "voxel_reddening": ("voxel",),
    "negative_reddening": ("voxel",),
    "negative_amount": ("voxel",),
    "amount": ("voxel",),
    "repeated": (),
    "missing_reddening": (),
    "missing_emission": ("band",),
    "emission": ("band",),
    "negative_emission": ("band",),
    "n_used": ("band",),
    "mean_column": ("band",),
    "mean_emission": ("band",),
    "column_variance": ("band",),
    "emission_variance": ("band",),
    "covariance": ("band",),
    "roughness": ("band",),
    "singular_value": ("voxel",),
    "condition": (),
    "correlation": (),
}


def singular_values(reddening: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Compute the singular values of the design of superpixels, its columns scaled to unit norm.

    The columns are the voxels, the rows the valid pixels. Scaled so, the values tell how alike the
    patterns of the voxels are, not how much dust there is.

    Parameters
    ----------
    reddening : (superpixel, pixel, voxel) array
        Differential reddening; what is not valid may be anything.
    valid : (superpixel, pixel) array of bool
        Which pixels count.

    Returns
    -------
    (superpixel, voxel) array
        Descending. A voxel without dust adds a zero.

    Raises
    ------
    SkyError
        If the shapes do not go together.

    Examples
    --------
    Two voxels with orthogonal patterns, and two with the same:

    >>> design = np.array([[[1.0, 0.0], [0.0, 5.0]], [[1.0, 3.0], [1.0, 3.0]]])
    >>> singular_values(design, np.ones((2, 2), dtype=bool)).round(3)
    array([[1.   , 1.   ],
           [1.414, 0.   ]])
    """
    if reddening.shape[:2] != valid.shape:
        raise SkyError(f"reddening of shape {reddening.shape} and valid of shape {valid.shape}")
    columns = np.where(valid[..., np.newaxis], reddening, 0).astype(float)
    norm = np.linalg.norm(columns, axis=1, keepdims=True)
    dusty = norm > NO_DUST * norm.max(axis=2, keepdims=True)
    columns = np.divide(columns, norm, out=np.zeros_like(columns), where=dusty)
    values = np.linalg.svd(columns, compute_uv=False)
    # Patterns that differ by the rounding of single precision are one.
    values[values < SAME_PATTERN * values[:, :1]] = 0
    missing = reddening.shape[2] - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing)])


def condition_number(singular: np.ndarray) -> np.ndarray:
    """Divide the largest singular value of each superpixel by the least.

    Parameters
    ----------
    singular : (superpixel, voxel) array
        What `singular_values` returns; NaN for voxels that do not count.

    Returns
    -------
    (superpixel,) array
        Infinite where the least is zero.

    Examples
    --------
    >>> condition_number(np.array([[1.2, 0.4, np.nan], [1.0, 0.5, 0.0]]))
    array([ 3., inf])
    """
    least = np.nanmin(singular, axis=1)
    out = np.full(len(singular), np.inf)
    return np.divide(singular[:, 0], least, out=out, where=least > 0)


def column_correlation(
    reddening: np.ndarray, emission: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Compute Pearson's correlation of the reddening's column with an emission, per superpixel.

    Parameters
    ----------
    reddening : (superpixel, pixel, voxel) array [mag]
        Differential reddening; what is not valid may be anything.
    emission : (superpixel, pixel) array [MJy/sr]
        Of one band.
    valid : (superpixel, pixel) array of bool
        Which pixels count.

    Returns
    -------
    (superpixel,) array
        NaN where fewer than two pixels count, or one of the two is constant.

    Examples
    --------
    >>> reddening = np.array([[[1.0, 1.0], [2.0, 1.0], [3.0, 3.0]]])
    >>> column_correlation(reddening, np.array([[4.0, 6.0, 12.0]]), np.ones((1, 3), dtype=bool))
    array([1.])
    """
    count = valid.sum(axis=1)
    column = _centred(reddening.sum(axis=2, dtype=float), valid)
    emission = _centred(emission.astype(float), valid)
    product = (column * emission).sum(axis=1)
    size = np.sqrt((column**2).sum(axis=1) * (emission**2).sum(axis=1))
    out = np.full(len(valid), np.nan)
    return np.divide(product, size, out=out, where=(count > 1) & (size > 0))


def _centred(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Subtract the mean over valid pixels, and put zero where a pixel is not valid."""
    values = np.where(valid, values, 0)
    mean = values.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
    # What differs from the mean by rounding only is constant.
    centred = np.where(valid, values - mean[:, np.newaxis], 0)
    centred[np.abs(centred) <= 1e-7 * np.abs(mean[:, np.newaxis])] = 0
    return centred


def summarise_sky(sky: xr.Dataset, progress: Callable | None = None) -> xr.Dataset:
    """Sum up what a sky holds, superpixel by superpixel and as a whole.

    The sky is read in blocks of superpixels, and may be lazy. What the sky tells of itself since
    it was prepared (``n_voxel``, ``singular_value``, ``condition``, ``correlation``) is taken from
    there, else computed.

    Parameters
    ----------
    sky : Dataset
        A sky.
    progress : callable, optional
        Called with the number of superpixels summed up, and of all.

    Returns
    -------
    Dataset
        Over the valid pixels of each superpixel:

        - ``n_valid``: their number, ``n_used`` (band) that of each band; ``n_voxel`` in use;
        - ``column``, ``voxel_reddening`` (voxel), ``emission`` (band): medians [mag, MJy/sr];
        - ``negative_reddening`` (voxel), ``negative_emission`` (band): how many values are
          negative; ``negative_amount``, ``amount`` (voxel): sums of the negative reddening and of
          all, in absolute value [mag];
        - ``repeated``: pixels with the reddening of their forerunner, in all voxels;
        - ``missing_reddening``, ``missing_emission`` (band): pixels, valid or not, without value;
        - ``mean_column``, ``mean_emission``, ``column_variance``, ``emission_variance``,
          ``covariance`` (band): moments, of which `fit_emission` makes lines;
        - ``roughness`` (band): half the mean square of steps between neighbours, of white
          noise the variance;
        - ``singular_value`` (voxel), ``condition``, ``correlation``: as in a prepared sky.

        Over the valid pixels of the sky, or every n-th of them if there are more than
        `MOST_PIXELS`: ``reddening_quantile`` (quantile, voxel), ``emission_quantile`` and
        ``signal_to_noise`` (quantile, band), ``equal_bands`` (band, other_band), the part of
        pixels whose emission is the same in two bands, and ``chosen_column`` (chosen) and
        ``chosen_emission`` (chosen, band), the pixels themselves. Voxels that are padding are NaN.
    """
    n_superpixel = sky.sizes["superpixel"]
    n_voxel = np.full(n_superpixel, sky.sizes["voxel"])
    if "n_voxel" in sky:
        n_voxel = sky["n_voxel"].values
    arrays = sky[["reddening", "emission", "valid", "sigma"]]
    step = _step(sky)
    parts: list[dict[str, np.ndarray]] = []
    chosen: list[tuple[np.ndarray, ...]] = []
    seen = 0
    for block in superpixel_blocks(sky):
        pixels = _Pixels(arrays.isel(superpixel=block), n_voxel[block])
        parts.append(pixels.summarise(sky.isel(superpixel=block)))
        first = -seen % step
        chosen.append(pixels.choose(first, step))
        seen += int(parts[-1]["n_valid"].sum())
        if progress is not None:
            progress(min(block.stop, n_superpixel), n_superpixel)
    summary = xr.Dataset(
        {
            name: (("superpixel", *dims), np.concatenate([part[name] for part in parts]))
            for name, dims in _DIMS.items()
        },
        {"superpixel": sky["superpixel"].values, "band": list(BANDS)},
        {"superpixel_nside": int(sky.attrs["superpixel_nside"])},
    )
    return summary.assign(_of_all(*(np.concatenate(each) for each in zip(*chosen, strict=True))))


def fit_emission(summary: xr.Dataset) -> xr.Dataset:
    """Fit straight lines through column and emission of all valid pixels, by least squares.

    Parameters
    ----------
    summary : Dataset
        What `summarise_sky` returned, or some superpixels of it.

    Returns
    -------
    Dataset
        Of each band: ``slope`` [MJy/sr/mag], ``intercept`` [MJy/sr], ``correlation``; NaN where
        the column does not vary.
    """
    weight = summary["n_used"] / summary["n_used"].sum("superpixel")
    column, emission = (
        (weight * summary[name]).sum("superpixel") for name in ("mean_column", "mean_emission")
    )
    # What superpixels scatter within, and what their means scatter around the mean of all.
    x, y = summary["mean_column"] - column, summary["mean_emission"] - emission
    variance = (weight * (summary["column_variance"] + x**2)).sum("superpixel")
    other = (weight * (summary["emission_variance"] + y**2)).sum("superpixel")
    covariance = (weight * (summary["covariance"] + x * y)).sum("superpixel")
    slope = covariance / variance.where(variance > 0)
    size = np.sqrt(variance * other)
    return xr.Dataset(
        {
            "slope": slope,
            "intercept": emission - slope * column,
            "correlation": covariance / size.where(size > 0),
        }
    )


class _Pixels:
    """The pixels of a block of superpixels."""

    def __init__(self, block: xr.Dataset, n_voxel: np.ndarray) -> None:
        self.reddening = block["reddening"].values
        self.emission = block["emission"].values
        self.sigma = block["sigma"].values
        valid = block["valid"].values
        used = valid if valid.ndim == 3 else valid[..., np.newaxis]
        self.used = np.broadcast_to(used, self.emission.shape)
        self.valid = used.any(axis=2)
        self.n_voxel = n_voxel
        self.in_use = np.arange(self.reddening.shape[2]) < n_voxel[:, np.newaxis]
        self.column = self.reddening.sum(axis=2, where=self.valid[..., np.newaxis], dtype=float)

    def summarise(self, sky: xr.Dataset) -> dict[str, np.ndarray]:
        """Return what `_DIMS` names; `sky` is the block of the sky."""
        reddening, valid = self.reddening, self.valid[..., np.newaxis]
        negative = valid & (reddening < 0)
        same = (reddening[:, 1:] == reddening[:, :-1]).all(axis=2) & (self.column[:, 1:] != 0)
        amount = np.abs(reddening).sum(axis=1, where=valid, dtype=float)
        return {
            "n_valid": self.valid.sum(axis=1),
            "n_voxel": self.n_voxel,
            "column": _medians(self.column[..., np.newaxis], valid)[:, 0],
            "voxel_reddening": np.where(self.in_use, _medians(reddening, valid), np.nan),
            "negative_reddening": negative.sum(axis=1),
            "negative_amount": np.abs(reddening).sum(axis=1, where=negative, dtype=float),
            "amount": amount,
            "repeated": (same & self.valid[:, 1:] & self.valid[:, :-1]).sum(axis=1),
            "missing_reddening": _missing(reddening).any(axis=2).sum(axis=1),
            "missing_emission": _missing(self.emission).sum(axis=1),
            "emission": _medians(self.emission, self.used),
            "negative_emission": (self.used & (self.emission < 0)).sum(axis=1),
            **self._moments(),
            **self._design(sky),
        }

    def choose(self, first: int, step: int) -> tuple[np.ndarray, ...]:
        """Return every `step`-th valid pixel: its reddening, emission, and that over sigma."""
        chosen = np.flatnonzero(self.valid)[first::step]
        where = np.unravel_index(chosen, self.valid.shape)
        reddening = np.where(self.in_use[where[0]], self.reddening[where], np.nan)
        emission = np.where(self.used[where], self.emission[where], np.nan)
        sigma = self.sigma if self.sigma.ndim == 1 else self.sigma[where]
        return reddening.astype(float), emission.astype(float), emission / sigma

    def _moments(self) -> dict[str, np.ndarray]:
        count = self.used.sum(axis=1)
        some = np.maximum(count, 1)
        column = np.where(self.used, self.column[..., np.newaxis], 0.0)
        emission = np.where(self.used, self.emission, 0.0).astype(float)
        means = column.sum(axis=1) / some, emission.sum(axis=1) / some
        for values, mean in zip((column, emission), means, strict=True):
            np.subtract(values, mean[:, np.newaxis], out=values, where=self.used)
        pairs = self.used[:, 1:] & self.used[:, :-1]
        steps = (np.diff(emission, axis=1) ** 2).sum(axis=1, where=pairs)
        return {
            "n_used": count,
            "mean_column": means[0],
            "mean_emission": means[1],
            "column_variance": (column**2).sum(axis=1) / some,
            "emission_variance": (emission**2).sum(axis=1) / some,
            "covariance": (column * emission).sum(axis=1) / some,
            "roughness": steps / np.maximum(2 * pairs.sum(axis=1), 1),
        }

    def _design(self, sky: xr.Dataset) -> dict[str, np.ndarray]:
        told = ("singular_value", "condition", "correlation")
        if set(told) <= set(sky.data_vars):
            return {name: sky[name].values for name in told}
        values = np.where(self.in_use, singular_values(self.reddening, self.valid), np.nan)
        band = BANDS.index("353")
        return {
            "singular_value": values,
            "condition": condition_number(values),
            "correlation": column_correlation(
                self.reddening, self.emission[..., band], self.used[..., band]
            ),
        }


def _of_all(
    reddening: np.ndarray, emission: np.ndarray, signal_to_noise: np.ndarray
) -> dict[str, tuple]:
    """Describe the chosen pixels: (chosen, voxel), (chosen, band), (chosen, band) arrays."""
    equal = np.array([[(one == other).mean() for other in emission.T] for one in emission.T])
    return {
        "quantile": ("quantile", list(QUANTILES)),
        "reddening_quantile": (("quantile", "voxel"), _quantiles(reddening)),
        "emission_quantile": (("quantile", "band"), _quantiles(emission)),
        "signal_to_noise": (("quantile", "band"), _quantiles(signal_to_noise)),
        "equal_bands": (("band", "other_band"), equal),
        "chosen_column": ("chosen", np.nansum(reddening, axis=1)),
        "chosen_emission": (("chosen", "band"), emission),
    }


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Return the quantiles of each column; NaN where it holds no number."""
    out = np.full((len(QUANTILES), values.shape[1]), np.nan)
    for i, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        if known.size:
            out[:, i] = np.quantile(known, QUANTILES)
    return out


def _medians(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return medians (superpixel, ...) over the pixels in use; NaN where there is none."""
    # Infinity sorts what is not used to the end; numpy's nanmedian is a hundred times slower.
    ordered = np.sort(np.moveaxis(np.where(used, values, np.inf), 1, -1), axis=-1)
    count = np.broadcast_to(used, values.shape).sum(axis=1)[..., np.newaxis]
    low, high = (
        np.take_along_axis(ordered, np.maximum(place, 0), axis=-1)[..., 0].astype(float)
        for place in ((count - 1) // 2, count // 2)
    )
    return np.where(count[..., 0] > 0, (low + high) / 2, np.nan)


def _missing(values: np.ndarray) -> np.ndarray:
    return ~np.isfinite(values) | (values < UNSEEN_BELOW)


def _step(sky: xr.Dataset) -> int:
    """Find how many pixels lie between those that are chosen: an odd number."""
    count = sum(
        int(valid.any("band").sum()) if "band" in valid.dims else int(valid.sum())
        for valid in (sky["valid"].isel(superpixel=block) for block in superpixel_blocks(sky))
    )
    # An even step would meet the same corner of every coarser pixel.
    return -(-count // MOST_PIXELS) | 1
