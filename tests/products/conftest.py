"""Small skies and fits that keep the contracts, with every tying."""

import numpy as np
import pytest
import xarray as xr

from pymcdust.physics.bands import BANDS, FREQUENCY, PAPER_SIGMA
from pymcdust.sky.dataset import cuts_of

#: Values of a parameter along the voxels, its unit, and the standard deviation of its prior.
TRUTH = {
    "temperature": (18.1, "K", 9.0),
    "beta": (1.6, "", 0.3),
    "rho": (1e-4, "mag-1", 1e-4),
    "offset": (0.3, "MJy/sr", 1.0),
}

#: Dimensions of each tying; offsets carry the band as well.
TYING = {
    "per_voxel": ("superpixel", "voxel"),
    "per_superpixel": ("superpixel",),
    "over_sky": (),
    "fixed": (),
}

PAPER_TYING = {
    "temperature": "per_voxel",
    "beta": "per_superpixel",
    "rho": "per_superpixel",
    "offset": "fixed",
}


def sky_of_noise(superpixels, edges=(0.0, 0.5, 2.0), nside=16, superpixel_nside=4, seed=1):
    """Return a sky of noise-like reddening; its emission is noise too until a fit paints it."""
    rng = np.random.default_rng(seed)
    pixels = (nside // superpixel_nside) ** 2
    shape = (len(superpixels), pixels)
    return xr.Dataset(
        {
            "reddening": (
                ("superpixel", "pixel", "voxel"),
                rng.lognormal(-1.5, 0.5, (*shape, len(edges) - 1)),
                {"unit": "mag"},
            ),
            "emission": (
                ("superpixel", "pixel", "band"),
                rng.lognormal(1.0, 1.0, (*shape, len(BANDS))),
                {"unit": "MJy/sr"},
            ),
            "sigma": ("band", list(PAPER_SIGMA.values())),
            "valid": (("superpixel", "pixel"), np.ones(shape, bool)),
            "distance_edge": ("voxel_edge", list(edges), {"unit": "kpc"}),
        },
        coords={
            "superpixel": np.asarray(superpixels),
            "band": list(BANDS),
            "frequency": ("band", list(FREQUENCY.values())),
        },
        attrs={
            "nside": nside,
            "superpixel_nside": superpixel_nside,
            "ordering": "nested",
            "frame": "galactic",
            "reddening_unit": "bayestar19",
            "files": '{"it\'s-a-long-name.h5": {"sha256": "' + 40 * "0af'" + '"}}',
            "superpixels_kept": np.int64(6),
        },
    )


def fit_of_noise(sky, seed=2, **tying):
    """Return a fit whose parameters scatter around the truth, tied as in the paper or as given."""
    tying = {**PAPER_TYING, **tying}
    rng = np.random.default_rng(seed)
    fit = (
        xr.Dataset(cuts_of(sky), {"superpixel": sky["superpixel"]})
        .copy(deep=True)
        .assign_coords(
            voxel=np.arange(sky.sizes["voxel"]), superpixel=sky["superpixel"], band=sky["band"]
        )
    )
    fit = fit.assign_coords(frequency=sky["frequency"])
    sizes = {**sky.sizes}
    for name, (value, unit, prior_sd) in TRUTH.items():
        tied = tying[name]
        dims = TYING[tied]
        if name == "offset" and tied != "fixed":
            dims = (*dims, "band")
        shape = [sizes[dim] for dim in dims]
        attrs = {"unit": unit, "tying": tied}
        if tied == "fixed":
            fit[name] = ((), value, attrs)
            continue
        scatter = value * np.exp(0.05 * rng.standard_normal(shape))
        fit[name] = (dims, scatter, {**attrs, "prior_sd": prior_sd})
        fit[f"{name}_sd"] = (dims, prior_sd * rng.uniform(0.05, 0.4, shape), {"unit": unit})
    count = sizes["superpixel"]
    fit["objective"] = ("superpixel", rng.uniform(50, 90, count))
    fit["chi2"] = ("superpixel", rng.uniform(40, 80, count))
    fit["n_data"] = ("superpixel", np.full(count, sizes["pixel"] * sizes["band"]))
    fit["converged"] = ("superpixel", np.ones(count, bool))
    fit["iterations"] = ("superpixel", np.full(count, 7))
    fit["gradient_norm"] = ("superpixel", np.full(count, 1e-9))
    fit["flag"] = (
        "superpixel",
        np.zeros(count, np.uint8),
        {"flag_masks": [1, 2], "flag_meanings": "not_converged at_bound"},
    )
    return fit.assign_attrs(
        {
            **sky.attrs,
            "model": "temperature_per_voxel",
            "model_definition": '{"temperature": "' + 30 * "it's long " + '"}',
            "pymcdust_version": "0.1.0",
        }
    )


def posterior_of_noise(fit, seed=3, chains=2, draws=5):
    """Return a posterior whose draws scatter around a fit, tied as it is."""
    rng = np.random.default_rng(seed)
    variables = {}
    for name in TRUTH:
        if fit[name].attrs["tying"] == "fixed":
            continue
        shape = (chains, draws, *fit[name].shape)
        scatter = fit[name].values * np.exp(0.1 * rng.standard_normal(shape))
        variables[name] = (("chain", "draw", *fit[name].dims), scatter, fit[name].attrs)
    dims = {dim for array, *_ in variables.values() for dim in array}
    coords = {name: fit[name] for name in ("superpixel", "voxel", "band") if name in dims}
    coords |= {"chain": np.arange(chains), "draw": np.arange(draws)}
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs=fit.attrs),
            "posterior": xr.Dataset(variables, coords),
            "constant_data": xr.Dataset(cuts_of(fit), {"superpixel": fit["superpixel"]}),
        }
    )


@pytest.fixture(scope="session")
def make_posterior():
    return posterior_of_noise


@pytest.fixture(scope="session")
def make_sky():
    return sky_of_noise


@pytest.fixture(scope="session")
def make_fit():
    return fit_of_noise


@pytest.fixture
def sky():
    """Six superpixels of Nside 4, two voxels; not in order, not contiguous."""
    return sky_of_noise([5, 6, 40, 41, 100, 7])


@pytest.fixture
def fit(sky):
    return fit_of_noise(sky)
