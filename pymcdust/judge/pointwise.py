"""The log likelihood of blocks of raw pixels, draw by draw."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from pymcdust.errors import ResultError, listing
from pymcdust.infer.posterior import model_of
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.sky.blocks import PixelBlocks
from pymcdust.sky.compression import as_rows

#: Residuals of one band that are worked on at a time: a quarter of a megabyte, which stays in the
#: processor's cache.
PIECE = 2**15

#: Relative difference of log likelihoods that is rounding.
ROUNDING = 1e-6


def block_log_likelihood(
    posterior: xr.DataTree, sky: xr.Dataset, blocks: PixelBlocks
) -> np.ndarray:
    """Return the log likelihood of every block of pixels at every draw of a posterior.

    Parameters
    ----------
    posterior : DataTree
        A posterior, or a chunk of its superpixels.
    sky : Dataset
        The sky that it was drawn from; superpixels are matched by their indices.
    blocks : PixelBlocks
        The blocks.

    Returns
    -------
    (superpixel, draw, block) array
        Normalised, over the valid pixels and all bands of each block, 0 where there are none; the
        draws chain after chain. Its sum over the blocks is the posterior's `log_likelihood` (over
        superpixels as well where they are coupled).

    Raises
    ------
    ResultError
        If the sky lacks superpixels of the posterior.
    """
    sky = matching_sky(posterior, sky)
    return np.stack(list(log_likelihoods(posterior_values(posterior), sky, blocks)))


def matching_sky(posterior: xr.DataTree, sky: xr.Dataset) -> xr.Dataset:
    """Return the part of a sky that a posterior is about, superpixel for superpixel.

    Raises
    ------
    ResultError
        If the sky lacks superpixels of the posterior.
    """
    wanted = posterior["constant_data"]["superpixel"].values
    positions = sky.get_index("superpixel").get_indexer(wanted)
    missing = wanted[positions < 0]
    if missing.size:
        shown = listing([*missing[:5], "others"] if missing.size > 5 else missing)
        raise ResultError(
            f"{missing.size} of the posterior's {len(wanted)} superpixels are not in the sky: "
            f"{shown}; give the sky that the posterior was drawn from"
        )
    return sky.isel(superpixel=positions)


def posterior_values(posterior: xr.DataTree) -> xr.Dataset:
    """Return the draws of the four parameters of the model, fixed ones included.

    Parameters
    ----------
    posterior : DataTree
        A posterior.

    Returns
    -------
    Dataset
        `temperature` [K], `beta`, `rho` [1/mag] and `offset` [MJy/sr], with the dimensions of their
        tying and, where they are free, `draw`: those of all chains, one chain after the other.
    """
    natural, values = posterior["posterior"].to_dataset(), {}
    for name, parameter in model_of(posterior).parameters.items():
        if parameter.free:
            variable = natural[name].variable.transpose("chain", "draw", ...)
            _, _, *shape = variable.shape
            values[name] = (
                ("draw", *variable.dims[2:]),
                np.asarray(variable.values, dtype=float).reshape(-1, *shape),
            )
        else:
            values[name] = ((), float(parameter.prior))
    return xr.Dataset(values)


def log_likelihoods(
    values: xr.Dataset, sky: xr.Dataset, blocks: PixelBlocks
) -> Iterator[np.ndarray]:
    """Yield the log likelihood of the blocks of one superpixel after the other.

    Parameters
    ----------
    values : Dataset
        `temperature`, `beta`, `rho` and `offset`, with `draw` and the dimensions of their tying.
    sky : Dataset
        The sky of their superpixels.
    blocks : PixelBlocks
        The blocks.

    Yields
    ------
    (draw, block) array
        As `block_log_likelihood` returns them.
    """
    n_draw = values.sizes["draw"]
    step = max(1, PIECE // sky.sizes["pixel"])
    normalisation = log_normalisation(sky, blocks)
    for position, (columns, factors) in enumerate(whitened(values, sky)):
        chi2 = np.zeros((n_draw, blocks.n_block))
        for start in range(0, n_draw, step):
            part = slice(start, start + step)
            for column, factor in zip(columns, factors, strict=True):
                misfit = blocks.split(factor[part] @ column)
                if blocks.size == 1:
                    chi2[part] += np.square(misfit[..., 0])
                else:
                    chi2[part] += np.einsum("dbp,dbp->db", misfit, misfit)
        yield normalisation[position] - 0.5 * chi2


def whitened(values: xr.Dataset, sky: xr.Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the misfit of every superpixel, model minus data over sigma, as two factors.

    Parameters
    ----------
    values : Dataset
        `temperature`, `beta`, `rho` and `offset`, with `draw` and the dimensions of their tying.
    sky : Dataset
        The sky of their superpixels.

    Yields
    ------
    columns : (band, column, pixel) array
        Reddening of the voxels, 1 and minus the emission, over sigma; 0 where not valid.
    factors : (band, draw, column) array
        Emissivity of the voxels, offset and 1. Their product with the columns is the misfit.
    """
    n_draw, n_band = values.sizes["draw"], sky.sizes["band"]
    for position in range(sky.sizes["superpixel"]):
        rows = as_rows(sky.isel(superpixel=[position])).isel(superpixel=0)
        own = values.isel(superpixel=position, missing_dims="ignore").variables
        offset = own["offset"]
        spectrum = VoxelMBB.emissivity(
            rows.frequency.variable, own["temperature"], own["beta"], own["rho"]
        )
        reddening = rows.reddening.variable
        if "voxel" not in spectrum.dims:
            # Dust whose spectrum is the same all along the sightline is one voxel.
            reddening = reddening.sum("voxel").expand_dims("voxel")
            spectrum = spectrum.expand_dims("voxel")
        n_column = reddening.sizes["voxel"] + 2
        columns = np.empty((n_band, n_column, sky.sizes["pixel"]))
        columns[:, :-2] = _spread(reddening, rows, ("band", "voxel", "pixel"))
        columns[:, -2] = _spread(rows.intercept.variable, rows, ("band", "pixel"))
        columns[:, -1] = -_spread(rows.emission.variable, rows, ("band", "pixel"))
        columns /= rows.sigma.values[:, None, None]
        factors = np.ones((n_band, n_draw, n_column))
        sizes = {"band": n_band, "draw": n_draw}
        factors[:, :, :-2] = spectrum.set_dims({**sizes, "voxel": n_column - 2}).transpose(
            "band", "draw", "voxel"
        )
        factors[:, :, -2] = offset.set_dims(sizes).transpose("band", "draw")
        yield columns, factors


def log_normalisation(sky: xr.Dataset, blocks: PixelBlocks) -> np.ndarray:
    """Return the log likelihood of blocks without misfit, (superpixel, block) array."""
    shape = (*sky.reddening.shape[:2], sky.sizes["band"])
    emission = sky.emission.transpose("superpixel", "pixel", "band").variable
    valid, sigma = (
        sky[name].astype(kind).variable.set_dims(emission.sizes).values
        for name, kind in (("valid", bool), ("sigma", float))
    )
    # What is masked may hold anything, a sigma of zero included.
    log = np.log(np.where(valid, sigma, 1.0)) + valid * (0.5 * np.log(2 * np.pi))
    return -blocks.split(log.reshape(shape), axis=1).sum(axis=(2, 3))


def stored_log_likelihood(posterior: xr.DataTree) -> np.ndarray:
    """Return the log likelihood that a posterior carries, (superpixel, draw) or (draw,) array.

    Raises
    ------
    ResultError
        If it carries none.
    """
    if "log_likelihood" not in posterior.children:
        raise ResultError(
            "the posterior lacks the group log_likelihood, by which its sky is recognised; "
            "give it as sample returned it"
        )
    stored = posterior["log_likelihood"]["emission"].transpose(..., "chain", "draw").values
    return stored.reshape(*stored.shape[:-2], -1)


def check_same(found: np.ndarray, stored: np.ndarray) -> None:
    """Refuse a sky on which draws have another log likelihood than where they were drawn.

    Raises
    ------
    ResultError
        If they differ.
    """
    worst = np.max(np.abs(found - stored) / (1 + np.abs(stored)))
    if not worst < ROUNDING:
        raise ResultError(
            "the draws of the posterior have another log likelihood on this sky, by up to "
            f"{np.max(np.abs(found - stored)):.3g}; give the sky that the posterior was drawn from"
        )


def _spread(variable: xr.Variable, rows: xr.Dataset, dims: tuple[str, ...]) -> np.ndarray:
    """Return an array with the dimensions `dims`, repeated along those that it lacks."""
    sizes = {dim: rows.sizes[dim] for dim in dims if dim != "voxel"}
    sizes |= {dim: variable.sizes[dim] for dim in dims if dim == "voxel"}
    return variable.set_dims({dim: sizes[dim] for dim in dims}).transpose(*dims).values
