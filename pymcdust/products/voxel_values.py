"""What a fit, a posterior and a sky say of each voxel of a superpixel, whatever the tying."""

import numpy as np
import xarray as xr

from pymcdust.errors import ResultError, listing
from pymcdust.physics.emission import emissivity
from pymcdust.products.dust import mean_reddening
from pymcdust.products.reconstruction import match
from pymcdust.products.reliability import is_fixed, prior_dominated, voxels_in_use

#: Parameters of the spectrum of a voxel.
SPECTRUM: tuple[str, ...] = ("temperature", "beta", "rho")


class VoxelValues:
    """Parameters, reddening and emission of voxels: of a fit, or of every draw of a posterior.

    Rows are positions among the superpixels of the fit. What a voxel does not have is NaN: a
    voxel that only fills up the dimension (padding), a superpixel without valid pixels, or one
    that the posterior does not cover.

    Parameters
    ----------
    fit : Dataset
        A fit of any tying; it may cover a part of the sky's superpixels.
    sky : Dataset
        The sky that was fitted. Its reddening is read when it is asked for, once.
    posterior : DataTree, optional
        The posterior of the same model and sky; it may cover a part of the fit's superpixels.

    Raises
    ------
    ResultError
        If one of them lacks something, or they do not belong together.
    """

    def __init__(
        self, fit: xr.Dataset, sky: xr.Dataset, posterior: xr.DataTree | None = None
    ) -> None:
        self._position = match(fit, sky)
        self._fit, self._sky = fit, sky
        self.superpixel = fit["superpixel"].values
        self.n_row, self.n_voxel = len(self.superpixel), sky.sizes["voxel"]
        in_use = voxels_in_use(sky).isel(superpixel=self._position, missing_dims="ignore")
        #: (superpixel, voxel) array of bool: false for padding.
        self.in_use = np.broadcast_to(in_use.values, (self.n_row, self.n_voxel))
        #: (1 or superpixel, voxel_edge) array [kpc]; one row where all sightlines are cut alike.
        self.edges = np.atleast_2d(fit["distance_edge"].values.astype(float))
        self._draws: xr.Dataset | None = None
        #: Draws of the posterior, None without one.
        self.n_draw: int | None = None
        if posterior is not None:
            self._draws, self._drawn = checked_draws(posterior, fit)
            self.n_draw = self._draws.sizes["chain"] * self._draws.sizes["draw"]
        self._reddening = np.full((self.n_row, self.n_voxel), np.nan)
        self._read = np.zeros(self.n_row, dtype=bool)

    def parameter(self, name: str, rows: np.ndarray, draws: bool = False) -> np.ndarray:
        """Return a parameter of the spectrum.

        Parameters
        ----------
        name : str
            One of `SPECTRUM`.
        rows : (row,) array of int
            Which superpixels.
        draws : bool
            The posterior's draws in the place of the fit's estimate.

        Returns
        -------
        (row, voxel, draw) array
            In the parameter's unit; one draw for the fit, or where it is fixed.
        """
        sizes = {"superpixel": len(rows), "voxel": self.n_voxel, "chain": 1, "draw": 1}
        missing = ~self.in_use[rows]
        variable, position = self._fit[name], rows
        if draws:
            missing |= self._drawn[rows, None] < 0
            if name in self._draws:
                variable, position = self._draws[name], self._drawn[rows]
                sizes |= {dim: variable.sizes[dim] for dim in ("chain", "draw")}
        here = variable.isel(superpixel=position, missing_dims="ignore").variable
        values = here.set_dims(sizes).transpose(*sizes).values
        values = values.reshape(*missing.shape, sizes["chain"] * sizes["draw"]).astype(float)
        values[missing] = np.nan
        return values

    def reddening(self, rows: np.ndarray) -> np.ndarray:
        """Return the mean reddening of the valid pixels.

        Parameters
        ----------
        rows : (row,) array of int
            Which superpixels.

        Returns
        -------
        (row, voxel) array
            Differential reddening [mag, in the unit of the sky].
        """
        new = rows[~self._read[rows]]
        mean = mean_reddening(self._sky, self._position[new])[:, 0]
        self._reddening[new] = np.where(self.in_use[new], mean, np.nan)
        self._read[new] = True
        return self._reddening[rows]

    def emission(self, frequency: float, rows: np.ndarray, draws: bool = False) -> np.ndarray:
        """Return what the mean reddening of each voxel emits (Eqs. 1-2, Zelko et al. 2022).

        Parameters
        ----------
        frequency : float
            Frequency [GHz].
        rows : (row,) array of int
            Which superpixels.
        draws : bool
            Of the posterior's draws, in the place of the fit's estimate.

        Returns
        -------
        (row, voxel, draw) array
            Emission [MJy/sr], without the offsets of the maps.
        """
        spectrum = [self.parameter(name, rows, draws) for name in SPECTRUM]
        return self.reddening(rows)[:, :, None] * emissivity(frequency, *spectrum)

    def prior_dominated(self, name: str) -> np.ndarray:
        """Tell where a parameter of the fit tells the prior, (superpixel, voxel) array of bool.

        See `pymcdust.products.reliability.prior_dominated`.
        """
        shape = {"superpixel": self.n_row, "voxel": self.n_voxel}
        where = prior_dominated(self._fit, name).variable.set_dims(shape).transpose(*shape)
        return where.values & self.in_use


def checked_draws(posterior: xr.DataTree, fit: xr.Dataset) -> tuple[xr.Dataset, np.ndarray]:
    """Return the draws of a posterior that belongs to a fit.

    Parameters
    ----------
    posterior : DataTree
        What `sample` or `open_posterior` returns.
    fit : Dataset
        The fit.

    Returns
    -------
    draws : Dataset
        The draws.
    position : (superpixel,) array of int
        Where each superpixel of the fit is among the draws; -1 where it is not.

    Raises
    ------
    ResultError
        If they are not of the same model and the same sky, cut alike, or have nothing in common.
    """
    if not isinstance(posterior, xr.DataTree):
        raise ResultError(
            f"the posterior is of type {type(posterior).__name__}; allowed is the xarray.DataTree "
            "that sample or open_posterior returns"
        )
    lacking = [name for name in ("posterior", "constant_data") if name not in posterior.children]
    if lacking:
        raise ResultError(
            f"the posterior has no group {listing(lacking)}; give what `pymcdust.sample` or "
            "`pymcdust sample` made"
        )
    draws = posterior["posterior"].to_dataset()
    if not all(draws.sizes.get(dim) for dim in ("chain", "draw")):
        raise ResultError(f"the posterior has no draws; its dimensions are {dict(draws.sizes)}")
    for name in SPECTRUM:
        fixed = is_fixed(fit[name])
        if fixed == (name in draws):
            has, others = ("draws", "fixed") if fixed else ("no draws", "free")
            raise ResultError(
                f"the posterior has {has} of {name}, which is {others} in the fit; give fit and "
                "posterior of the same model"
            )
        dims = set(fit[name].dims)
        if not fixed and set(draws[name].dims) - {"chain", "draw"} != dims:
            raise ResultError(
                f"{name} of the posterior has the dimensions {draws[name].dims}, that of the fit "
                f"{fit[name].dims}; give fit and posterior of the same model"
            )
    nside = posterior.attrs.get("superpixel_nside")
    if nside != fit.attrs["superpixel_nside"]:
        raise ResultError(
            f"the posterior has superpixels of Nside {nside}, the fit of "
            f"{fit.attrs['superpixel_nside']}; give fit and posterior of the same sky"
        )
    drawn = np.arange(fit.sizes["superpixel"])
    mine, edges = fit["distance_edge"], posterior["constant_data"]["distance_edge"]
    if "superpixel" in draws.coords:
        drawn = draws.get_index("superpixel").get_indexer(fit["superpixel"].values)
        if (drawn < 0).all():
            raise ResultError("the posterior has none of the fit's superpixels")
        both = drawn >= 0
        edges = edges.isel(superpixel=drawn[both], missing_dims="ignore")
        mine = mine.isel(superpixel=both, missing_dims="ignore")
    if mine.shape != edges.shape or not np.allclose(mine, edges, rtol=1e-6):
        raise ResultError(
            "the posterior and the fit have different distance edges; give fit and posterior of "
            "the same sky"
        )
    return draws, drawn
