"""Mock skies whose truth is known: clouds that glow at temperatures that were chosen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pymcdust.errors import ConfigurationError, listing, unknown
from pymcdust.physics.bands import BANDS, FREQUENCY, PAPER_SIGMA
from pymcdust.physics.emission import emissivity, sightline_emission
from pymcdust.sky.dataset import build_sky
from pymcdust.sky.morphology import mock_reddening, random_stream
from pymcdust.sky.validation import DIMS

#: The parameters of Eq. 4, with the dimensions that each may have and its unit.
PARAMETERS: dict[str, tuple[tuple[str, ...], str]] = {
    "temperature": (("superpixel", "voxel"), "K"),
    "beta": (("superpixel", "voxel"), "1"),
    "rho": (("superpixel", "voxel"), "mag-1"),
    "offset": (("superpixel", "band"), "MJy/sr"),
}

#: Cepheus (Zelko et al. 2022, Sec. 4.4): the Nside-32 superpixel, and voxels around its clouds
#: near 0.38 and 1.1 kpc.
CEPHEUS_SUPERPIXEL: int = 5908
CEPHEUS_EDGE: tuple[float, ...] = (0.0, 0.841, 3.758)

Truth = Mapping[str, Any] | xr.Dataset
Draw = Callable[[dict[str, np.ndarray], np.random.Generator], xr.Dataset]


def simulate_sky(
    truth: Truth | Draw,
    *,
    reddening: xr.Dataset | None = None,
    nside: int | None = None,
    superpixel_nside: int | None = None,
    superpixels: Sequence[int] | None = None,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
    distance_edge: Sequence[float] | None = None,
    sigma: Mapping[str, float] = PAPER_SIGMA,
    noise: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Make a sky from known temperatures (Eq. 4, Zelko et al. 2022).

    Parameters
    ----------
    truth : mapping, xarray.Dataset or callable
        `temperature` [K], `beta`, `rho` [1/mag], each a number or an array with any of the
        dimensions superpixel and voxel, and `offset` [MJy/sr] (any of superpixel and band; 0 if
        left out). What is not an `xarray.DataArray` names its dimensions: ``("voxel", [17, 20])``.
        Or a function of the sky's coordinates (a dictionary with superpixel, voxel and band) and
        a `numpy.random.Generator` that returns such a data set.
    reddening : xarray.Dataset, optional
        A sky to take the reddening from, with its geometry, edges, mask and unit: one made from a
        real reddening map, or by `mock_reddening`. Its emission is not used.
    nside, superpixel_nside, superpixels, center, radius, distance_edge : optional
        Where no `reddening` is given: the sky to mock, as for `mock_reddening`.
    sigma : mapping, optional
        Standard deviation of the noise in each band [MJy/sr]; that of the paper by default.
    noise : bool, optional
        Whether the noise is added; `sigma` is in the sky in any case.
    seed : int, optional
        The same seed gives the same sky; a superpixel has the same clouds and the same noise in a
        patch as in the full sky.

    Returns
    -------
    xarray.Dataset
        A sky, with the truth in `true_temperature`, `true_beta`, `true_rho` and `true_offset`.

    Raises
    ------
    ConfigurationError
        If the truth lacks a parameter or has one that is unknown, a setting is impossible, or
        both `reddening` and a sky to mock are given.

    Examples
    --------
    >>> sky = simulate_sky(
    ...     {"temperature": ("voxel", [17.0, 20.0, 18.0]), "beta": 1.6, "rho": 1e-4},
    ...     nside=16, superpixel_nside=2, superpixels=[7],
    ... )
    >>> dict(sky.emission.sizes)
    {'superpixel': 1, 'pixel': 64, 'band': 5}
    """
    geometry = {
        "nside": nside,
        "superpixel_nside": superpixel_nside,
        "superpixels": superpixels,
        "center": center,
        "radius": radius,
        "distance_edge": distance_edge,
    }
    geometry = {name: value for name, value in geometry.items() if value is not None}
    if reddening is None:
        reddening = mock_reddening(**geometry, seed=seed)
    elif geometry:
        raise ConfigurationError(
            f"reddening was given together with {listing(geometry)}: a given reddening brings its "
            "own geometry and edges; leave out one or the other"
        )
    _check_reddening(reddening)
    sigma_band = _sigma(sigma)
    coords = {
        "superpixel": reddening["superpixel"].values,
        "voxel": np.arange(reddening.sizes["voxel"]),
        "band": np.asarray(BANDS),
    }
    if callable(truth):
        truth = truth(coords, np.random.default_rng(random_stream(seed, "truth")))
    truth = _known_truth(truth, coords)

    dust = reddening["reddening"].values
    spectrum, offset = _spectrum(truth, coords)
    emission = np.empty((*dust.shape[:2], len(BANDS)))
    for row, superpixel in enumerate(coords["superpixel"]):
        emission[row] = sightline_emission(dust[row], spectrum[row], offset[row])
        if noise:
            rng = np.random.default_rng(random_stream(seed, "noise", superpixel))
            emission[row] += sigma_band * rng.standard_normal(emission.shape[1:])

    sky = build_sky(
        dust,
        emission,
        sigma_band,
        reddening["distance_edge"].values,
        coords["superpixel"],
        nside=int(reddening.attrs["nside"]),
        superpixel_nside=int(reddening.attrs["superpixel_nside"]),
        valid=reddening["valid"].values if "valid" in reddening else None,
        reddening_unit=reddening.attrs["reddening_unit"],
        attrs={
            **reddening.attrs,
            "emission_map": "simulated",
            "seed": int(seed),
            "noise": bool(noise),
        },
    )
    return sky.assign(
        {
            f"true_{name}": (truth[name].dims, truth[name].values, {"unit": unit})
            for name, (_, unit) in PARAMETERS.items()
        }
    )


def two_cloud_sightline(
    *,
    temperature: tuple[float, float] = (19.8, 17.2),
    beta: float = 1.6,
    rho: float = 1e-4,
    reddening: tuple[float, float] = (0.7, 0.7),
    nside: int = 1024,
    sigma: Mapping[str, float] = PAPER_SIGMA,
    noise: bool = True,
    seed: int = 8,
) -> xr.Dataset:
    """Make the sky of one superpixel with two clouds behind each other, like Cepheus.

    The nearer cloud is as warm as the paper found it at Nside 32 (Zelko et al. 2022, Sec. 4.4).

    Parameters
    ----------
    temperature : (float, float), optional
        Temperature of the near and of the far cloud [K].
    beta : float, optional
        Emissivity index of both.
    rho : float, optional
        Optical depth at 353 GHz per reddening of both [1/mag].
    reddening : (float, float), optional
        Mean reddening of the near and of the far cloud [mag].
    nside : int, optional
        Nside of the pixels; the superpixel is number 5908 of Nside 32.
    sigma, noise
        As for `simulate_sky`.
    seed : int, optional
        As for `simulate_sky`; that of the default draws two clouds of unrelated shape.

    Returns
    -------
    xarray.Dataset
        A sky of one superpixel and two voxels, with its truth.

    Raises
    ------
    ConfigurationError
        As for `simulate_sky`, or if a mean reddening is negative.
    """
    mean = np.asarray(reddening, dtype=float)
    if not (mean.shape == (2,) and np.all(mean >= 0) and np.all(np.isfinite(mean))):
        raise ConfigurationError(
            f"reddening is {reddening}; allowed are two means, neither below 0 [mag]"
        )
    mock = mock_reddening(
        nside=nside,
        superpixel_nside=32,
        superpixels=[CEPHEUS_SUPERPIXEL],
        distance_edge=CEPHEUS_EDGE,
        contrast=2.0,
        seed=seed,
    )
    scale = mean / mock["reddening"].mean("pixel")
    return simulate_sky(
        {"temperature": ("voxel", list(temperature)), "beta": beta, "rho": rho},
        reddening=mock.assign(reddening=mock["reddening"] * scale),
        sigma=sigma,
        noise=noise,
        seed=seed,
    )


def _check_reddening(sky: xr.Dataset) -> None:
    """Check that a data set brings what the reddening half of a sky has."""
    if not isinstance(sky, xr.Dataset):
        raise ConfigurationError(
            f"reddening is a {type(sky).__name__}; allowed is a sky, such as open_sky(path) or "
            "mock_reddening() return: the reddening alone lacks its edges and its Nside"
        )
    missing = [name for name in ("reddening", "distance_edge", "superpixel") if name not in sky]
    missing += [
        name for name in ("nside", "superpixel_nside", "reddening_unit") if name not in sky.attrs
    ]
    if missing:
        raise ConfigurationError(f"the sky given as reddening lacks {listing(missing)}")
    if sky["reddening"].dims not in DIMS["reddening"]:
        raise ConfigurationError(
            f"reddening has the dimensions {sky['reddening'].dims}; allowed are "
            f"{DIMS['reddening'][0]}"
        )
    for name, allowed in (("ordering", "nested"), ("frame", "galactic")):
        if sky.attrs.get(name, allowed) != allowed:
            raise ConfigurationError(
                f"{name} of the sky given as reddening is {sky.attrs[name]!r}; "
                f"allowed is {allowed!r}"
            )


def _known_truth(truth: Truth, coords: dict[str, np.ndarray]) -> xr.Dataset:
    """Check the truth, and bring it to the sky's coordinates."""
    try:
        truth = xr.Dataset(dict(truth)).astype(float)
        bare = [name for name in truth.dims if name in PARAMETERS]
        if bare:
            raise ValueError(f"{listing(bare)} is a list without a dimension")
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            "the truth must map each parameter to a number, an xarray.DataArray, or a pair of "
            f'dimensions and values such as ("voxel", [17.0, 20.0]); it does not: {error}'
        ) from error
    for name in truth.data_vars:
        if name not in PARAMETERS:
            message = unknown("parameter in the truth", name, PARAMETERS)
            full = [known for known in PARAMETERS if known.startswith(str(name).lower())]
            if full and "did you mean" not in message:
                message += f"; did you mean {full[0]!r}?"
            raise ConfigurationError(message)
    if "offset" not in truth:
        truth = truth.assign(offset=0.0)
    missing = [name for name in PARAMETERS if name not in truth]
    if missing:
        raise ConfigurationError(
            f"the truth lacks {listing(missing)}; it must have temperature, beta and rho, "
            "and may have offset"
        )
    for name, (dims, _) in PARAMETERS.items():
        for dim in truth[name].dims:
            if dim not in dims:
                raise ConfigurationError(unknown(f"dimension of the true {name}", dim, dims))
    for dim in truth.dims:
        truth = _align(truth, dim, coords[dim])
    for name in PARAMETERS:
        if not np.all(np.isfinite(truth[name])):
            raise ConfigurationError(f"the true {name} must be finite everywhere; it is not")
    if np.any(truth["temperature"] <= 0):
        lowest = float(truth["temperature"].min())
        raise ConfigurationError(f"the true temperature must be above 0 K; it goes to {lowest} K")
    return truth


def _align(truth: xr.Dataset, dim: str, labels: np.ndarray) -> xr.Dataset:
    """Pick the sky's entries of one dimension by label or, without labels, as they stand."""
    if dim in truth.indexes:
        absent = labels[~np.isin(labels, truth[dim].values)]
        if absent.size:
            raise ConfigurationError(
                f"the truth lacks {absent.size} of the {labels.size} entries of {dim} in the sky, "
                f"such as {absent[0]}"
            )
        return truth.sel({dim: labels})
    if truth.sizes[dim] != labels.size:
        raise ConfigurationError(
            f"the truth has {truth.sizes[dim]} entries along {dim}; the sky has {labels.size}"
        )
    return truth


def _spectrum(truth: xr.Dataset, coords: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the true emissivity (superpixel, voxel, band) and offset (superpixel, band)."""
    frequency = xr.DataArray([FREQUENCY[band] for band in BANDS], dims="band")
    spectrum = emissivity(frequency, truth["temperature"], truth["beta"], truth["rho"])
    sizes = {name: labels.size for name, labels in coords.items()}
    offset = truth["offset"].variable.set_dims({dim: sizes[dim] for dim in ("superpixel", "band")})
    return spectrum.variable.set_dims(sizes).values, offset.values


def _sigma(sigma: Mapping[str, float]) -> np.ndarray:
    """Return the noise of each band [MJy/sr], in the order of the bands."""
    if not isinstance(sigma, Mapping):
        raise ConfigurationError(
            f"sigma is {sigma!r}; allowed is a mapping of band to MJy/sr: {dict(PAPER_SIGMA)}"
        )
    for band in sigma:
        if band not in BANDS:
            raise ConfigurationError(unknown("band in sigma", band, BANDS))
    missing = [band for band in BANDS if band not in sigma]
    if missing:
        raise ConfigurationError(f"sigma lacks band {listing(missing)}; it needs {listing(BANDS)}")
    for band in BANDS:
        if not 0 < sigma[band] < np.inf:
            raise ConfigurationError(
                f"sigma of band {band} is {sigma[band]}; allowed is a number above 0 [MJy/sr]; "
                "for emission without noise set noise=False, and keep sigma as the fit's weight"
            )
    return np.array([sigma[band] for band in BANDS], dtype=float)
