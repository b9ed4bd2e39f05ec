"""Temperature, reddening and emission at any place, asked for as `dustmaps` is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord

from pymcdust.errors import ResultError
from pymcdust.products.places import (
    Coordinates,
    Locator,
    Places,
    flat_coordinates,
    point_blocks,
    sky_coord,
)
from pymcdust.products.reconstruction import require
from pymcdust.products.reliability import flag_bits
from pymcdust.products.request import Request
from pymcdust.products.voxel_values import SPECTRUM, VoxelValues
from pymcdust.sky.dataset import open_sky
from pymcdust.sky.store import open_store, open_tree

#: Numbers of one block of draws; 32 MB in double precision.
BLOCK_DRAWS = 2**22


class DustTemperatureQuery:
    """Answers what the dust is like at given coordinates, as the queries of `dustmaps` do.

    All answers are those of the superpixel in which a coordinate lies, reddening and emission
    too: they are means over its valid pixels. What lies outside is NaN: directions whose
    superpixel was not fitted, distances that are negative, NaN, or beyond the last voxel. So are
    voxels that only fill up the dimension where a superpixel has fewer (padding).

    Parameters
    ----------
    fit : Dataset or path
        A fit of any tying; it may cover a part of the sky.
    sky : Dataset or path
        The sky that was fitted.
    posterior : DataTree or path, optional
        The posterior of the same model and sky, for all modes but ``"map"``. It may cover a part
        of the fit's superpixels.

    Attributes
    ----------
    distance_edge : (voxel_edge,) or (superpixel, voxel_edge) Quantity [kpc]
        Distance edges of the voxels, in the order of `superpixel`.
    superpixel : (superpixel,) array of int
        NESTED indices of the superpixels of the fit.
    superpixel_nside : int
        Their HEALPix resolution.
    reddening_unit : str
        The unit of the reddening, as the sky names it.
    flag_bits : dict of str to int
        The bits of ``flag`` by their meanings.

    Raises
    ------
    ResultError
        If fit, sky and posterior do not belong together, or lack something.
    FileFormatError, SkyError
        If a path does not lead to such.

    Examples
    --------
    >>> from pymcdust import fit_map, simulate_sky
    >>> truth = {"temperature": ("voxel", [21.0, 17.0]), "beta": 1.6, "rho": 1e-4}
    >>> place = {"center": (100, 10), "radius": 5, "distance_edge": [0, 0.5, 2]}
    >>> sky = simulate_sky(truth, nside=128, superpixel_nside=8, noise=False, **place)
    >>> query = DustTemperatureQuery(fit_map("temperature_per_voxel", sky), sky)
    >>> query.query_gal(l=[100, 100, 280], b=[10, 10, 10], d=[300, 900, 300] * u.pc).round()
    array([21., 17., nan], dtype=float32)
    """

    def __init__(
        self,
        fit: xr.Dataset | str | Path,
        sky: xr.Dataset | str | Path,
        posterior: xr.DataTree | str | Path | None = None,
    ) -> None:
        fit = open_store(fit) if isinstance(fit, str | Path) else fit
        sky = open_sky(sky) if isinstance(sky, str | Path) else sky
        posterior = open_tree(posterior) if isinstance(posterior, str | Path) else posterior
        _check_kinds(fit=fit, sky=sky)
        self._fit = fit
        self._posterior_attrs = {} if posterior is None else posterior.attrs
        self._values = VoxelValues(fit, sky, posterior)
        self.superpixel = self._values.superpixel
        self.superpixel_nside = int(fit.attrs["superpixel_nside"])
        self._locator = Locator(self.superpixel, self.superpixel_nside, self._values.edges)
        self.distance_edge = u.Quantity(fit["distance_edge"].values, u.kpc)
        self.reddening_unit = str(sky.attrs.get("reddening_unit", ""))
        self.flag_bits = flag_bits(fit)
        every = np.arange(self._values.n_row)
        self._tables = {
            name: self._bordered(every, self._values.parameter(name, every)[..., 0])
            for name in SPECTRUM
        }

    def __call__(self, coords: SkyCoord, **kwargs: Any) -> Any:
        """Return what `query` does."""
        return self.query(coords, **kwargs)

    def query(
        self,
        coords: SkyCoord,
        quantity: str = "temperature",
        mode: str = "map",
        pct: float | Sequence[float] | None = None,
        frequency: float | u.Quantity | None = None,
        cumulative: bool = False,
        return_flags: bool = False,
    ) -> Any:
        """Return a quantity at coordinates.

        Parameters
        ----------
        coords : SkyCoord
            Of any frame and shape. With distances, the answers are those of the voxels in which
            these lie; a distance on an edge belongs to the nearer voxel. Without, the answers are
            those of all voxels of the sightline, along another axis.
        quantity : str
            ``"temperature"`` [K], ``"beta"``, ``"rho"`` [1/mag]; ``"reddening"`` [mag, in the
            unit of the sky], or ``"emission"`` [MJy/sr] of the dust, without the offsets of maps.
        mode : str
            ``"map"``: the maximum a posteriori, from the fit. Of the posterior ``"mean"``,
            ``"median"``, ``"std"``, ``"percentile"`` (give `pct`), or all its ``"samples"``.
        pct : float or sequence of float
            Percentiles.
        frequency : float [GHz] or Quantity
            Of the emission; a Quantity may be a wavelength.
        cumulative : bool
            Of reddening and emission: from the observer up to the distance, that of a voxel being
            spread evenly over its depth; without distance, up to the far edge of each voxel. By
            default that of the whole voxel alone.
        return_flags : bool
            Whether to return flags as well.

        Returns
        -------
        values : array of float32, or number
            Of the shape of `coords`; then, without distance, an axis of voxels; then of the draws
            for samples, chain by chain, or of the percentiles where several were asked for.
        flags : structured array
            If asked for, of the shape of `coords`: ``in_footprint`` (whether the superpixel was
            fitted), ``converged``, ``flag`` (bits of the fit, see `flag_bits`);
            ``prior_dominated`` (whether the quantity tells the prior rather than the data; for
            the emission, whether temperature, beta or rho does) and ``padding`` (whether there is
            no such voxel in this superpixel), both with an axis of voxels if without distance.

        Raises
        ------
        ConfigurationError
            If an argument is unknown or impossible; if the coordinates have distances that are
            no lengths, or a frame that cannot be turned into the Galactic one.
        ResultError
            If there is no posterior to answer from, or the fit lacks what flags need.
        """
        request = Request(quantity, mode, pct, frequency, cumulative)
        if mode != "map" and self._values.n_draw is None:
            raise ResultError(
                f"the mode {mode!r} needs a posterior, and none was given: draw one with "
                "pymcdust.sample(model, sky) or `pymcdust sample SKY --out posterior.zarr`, and "
                "give it as DustTemperatureQuery(fit, sky, posterior)"
            )
        points = flat_coordinates(coords)
        places = self._locator.locate(points)
        answer = self._of_fit if mode == "map" else self._of_posterior
        values = answer(request, points, places)
        values = values.reshape(coords.shape + values.shape[1:])[()]
        if not return_flags:
            return values
        return values, self._flags(quantity, places).reshape(coords.shape)[()]

    def query_gal(self, l: Any, b: Any, d: Any = None, **kwargs: Any) -> Any:  # noqa: E741
        """Return what `query` does, from Galactic coordinates.

        Parameters
        ----------
        l, b : array [deg] or Quantity
            Galactic longitude and latitude.
        d : array [kpc] or Quantity, optional
            Distance.
        **kwargs
            Arguments of `query`.

        Returns
        -------
        array, or array and flags
            As `query` returns them.
        """
        return self.query(sky_coord(l, b, d, "galactic"), **kwargs)

    def query_equ(
        self, ra: Any, dec: Any, d: Any = None, frame: str = "icrs", **kwargs: Any
    ) -> Any:
        """Return what `query` does, from equatorial coordinates.

        Parameters
        ----------
        ra, dec : array [deg] or Quantity
            Right ascension and declination.
        d : array [kpc] or Quantity, optional
            Distance.
        frame : str
            ``"icrs"``, ``"fk4"``, ``"fk5"``, or another that astropy knows.
        **kwargs
            Arguments of `query`.

        Returns
        -------
        array, or array and flags
            As `query` returns them.
        """
        return self.query(sky_coord(ra, dec, d, frame), **kwargs)

    def edges_at(self, coords: SkyCoord) -> u.Quantity:
        """Return the distance edges of the sightlines at coordinates.

        Parameters
        ----------
        coords : SkyCoord
            Of any frame and shape; their distances do not matter.

        Returns
        -------
        Quantity [kpc]
            Of the shape of `coords`, then an axis of edges; NaN outside the footprint, and beyond
            the last voxel that a superpixel has.
        """
        row = self._locator.locate(flat_coordinates(coords)._replace(distance=None)).row
        edges = np.full((self._values.n_row + 1, self._values.n_voxel + 1), np.nan)
        edges[:-1] = self._values.edges
        edges[:-1, 1:][~self._values.in_use] = np.nan
        return edges[row].reshape((*coords.shape, edges.shape[1])) * u.kpc

    def provenance(self, mode: str = "map") -> dict[str, Any]:
        """Return the attributes that tell where the answers of a mode come from.

        Parameters
        ----------
        mode : str
            As for `query`.

        Returns
        -------
        dict
            Those of the fit; those of the posterior for its modes.
        """
        return dict(self._fit.attrs if mode == "map" else self._posterior_attrs)

    def _of_fit(self, request: Request, points: Coordinates, places: Places) -> np.ndarray:
        """Look the fit up, (point,) or (point, voxel)."""
        table = self._tables.get(request.quantity)
        if table is None:
            rows = self._rows_of(places)
            table = self._bordered(rows, self._evaluate(request, rows)[..., 0])
        n_voxel = self._values.n_voxel
        before = _in_front(table) if request.cumulative else None
        if places.voxel is None:
            along = table if before is None else before + table
            return along[:, :n_voxel].take(places.row, axis=0)
        out = np.empty(places.row.size, dtype=np.float32)
        for part in point_blocks(out.size):
            here = Places(places.row[part], places.voxel[part])
            index = here.row * np.intp(n_voxel + 1) + here.voxel
            out[part] = table.take(index)
            if before is not None:
                out[part] *= self._locator.part_in_front(here, points.distance[part])
                out[part] += before.take(index)
        return out

    def _of_posterior(self, request: Request, points: Coordinates, places: Places) -> np.ndarray:
        """Reduce the draws, (point, ...) or (point, voxel, ...), some superpixels at a time."""
        n_voxel, n_draw = self._values.n_voxel, self._values.n_draw
        voxels = (n_voxel,) if places.voxel is None else ()
        shape = (places.row.size, *voxels, *request.tail(n_draw))
        out = np.full(shape, np.nan, dtype=np.float32)
        rows = self._rows_of(places)
        order = np.argsort(places.row, kind="stable")
        ends = np.searchsorted(places.row[order], rows, side="right")
        step = max(1, BLOCK_DRAWS // (n_voxel * n_draw))
        done = 0
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            here = order[done : ends[start + len(block) - 1]]
            done += len(here)
            draws = self._evaluate(request, block)
            if places.voxel is None:
                along = _in_front(draws) + draws if request.cumulative else draws
                out[here] = request.reduce(along)[np.searchsorted(block, places.row[here])]
                continue
            here = here[places.voxel[here] < n_voxel]
            at = (np.searchsorted(block, places.row[here]), places.voxel[here])
            if not request.cumulative:
                out[here] = request.reduce(draws)[at]
                continue
            # Every distance has draws of its own.
            before = _in_front(draws)
            part = self._locator.part_in_front(
                Places(places.row[here], at[1]), points.distance[here]
            )
            size = max(1, BLOCK_DRAWS // n_draw)
            for first in range(0, len(here), size):
                some = slice(first, first + size)
                which = (at[0][some], at[1][some])
                sums = before[which] + part[some, None] * draws[which]
                out[here[some]] = request.reduce(sums)
        return out

    def _evaluate(self, request: Request, rows: np.ndarray) -> np.ndarray:
        """Return a quantity of superpixels, (row, voxel, draw); the fit is one draw."""
        draws = request.mode != "map"
        if request.quantity == "reddening":
            return self._values.reddening(rows)[..., None]
        if request.quantity == "emission":
            values = self._values.emission(request.frequency, rows, draws)
        else:
            values = self._values.parameter(request.quantity, rows, draws)
        n_draw = self._values.n_draw if draws else 1
        return np.broadcast_to(values, (*values.shape[:2], n_draw))

    def _rows_of(self, places: Places) -> np.ndarray:
        """Return the superpixels in which points lie, each once, in order."""
        present = np.zeros(self._values.n_row + 1, dtype=bool)
        present[places.row] = True
        return np.flatnonzero(present[:-1])

    def _bordered(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return a table of float32 with a row and a column more, NaN, for what lies outside."""
        table = np.full(
            (self._values.n_row + 1, self._values.n_voxel + 1), np.nan, dtype=np.float32
        )
        table[rows, :-1] = values
        return table

    def _flags(self, quantity: str, places: Places) -> np.ndarray:
        """Return the flags that `query` describes, (point,)."""
        require(self._fit, ("converged", "flag"))
        n_row, n_voxel = self._values.n_row, self._values.n_voxel
        dominated = np.zeros((n_row + 1, n_voxel + 1), dtype=bool)
        for name in {"reddening": (), "emission": SPECTRUM}.get(quantity, (quantity,)):
            dominated[:-1, :-1] |= self._values.prior_dominated(name)
        padding = np.zeros_like(dominated)
        padding[:-1, :-1] = ~self._values.in_use
        along = (n_voxel,) if places.voxel is None else ()
        flags = np.zeros(
            places.row.size,
            dtype=[
                ("in_footprint", bool),
                ("converged", bool),
                ("flag", np.int32),
                ("prior_dominated", bool, along),
                ("padding", bool, along),
            ],
        )
        voxel = slice(n_voxel) if places.voxel is None else places.voxel
        flags["in_footprint"] = places.row < n_row
        for name in ("converged", "flag"):
            flags[name] = np.append(self._fit[name].values, 0)[places.row]
        flags["prior_dominated"] = dominated[places.row, voxel]
        flags["padding"] = padding[places.row, voxel]
        return flags


def _in_front(values: np.ndarray) -> np.ndarray:
    """Return the sum of the voxels in front of each, (row, voxel, ...)."""
    total = np.zeros_like(values)
    np.cumsum(values[:, :-1], axis=1, out=total[:, 1:])
    return total


def _check_kinds(**datasets: Any) -> None:
    """Refuse what is no result of the package, before its contents are looked at."""
    for name, given in datasets.items():
        if not isinstance(given, xr.Dataset):
            raise ResultError(
                f"the {name} is of type {type(given).__name__}; allowed are an xarray.Dataset and "
                "the path of its store"
            )
