"""The demonstration: known temperatures, simulated skies, fits, and how well they agree."""

from collections.abc import Callable
from pathlib import Path

import healpy
import numpy as np
import xarray as xr

from pymcdust.infer.engine import fit_map
from pymcdust.physics.bands import PAPER_SIGMA
from pymcdust.products.maps import export_maps
from pymcdust.products.plots import save_plots
from pymcdust.products.reliability import prior_dominated
from pymcdust.sky.dataset import save_sky
from pymcdust.sky.morphology import mock_reddening
from pymcdust.sky.simulate import simulate_sky, two_cloud_sightline
from pymcdust.sky.store import write_store

#: A small sky: three voxels, and 256 pixels in each of 768 superpixels.
NSIDE, SUPERPIXEL_NSIDE = 128, 8
EDGES = (0.0, 0.3, 1.0, 3.0)

#: Noise of the small sky. That of the paper stands for the shortcomings of the model as well, which
#: a simulation does not have.
SIGMA = {band: 0.2 * sigma for band, sigma in PAPER_SIGMA.items()}

Tables = dict[str, dict[str, list[str]]]


def run_demo(out: Path, seed: int, say: Callable[[str], None]) -> Tables:
    """Fit a two-cloud sightline like Cepheus and a small sky, and compare with the truth.

    Parameters
    ----------
    out : Path
        Folder for figures, maps, skies and fits.
    seed : int
        Seed of the simulations.
    say : callable
        Called with a line of text at the start of each step.

    Returns
    -------
    dict
        Tables of text by title, each a dictionary of columns.
    """
    say("two clouds behind each other, 1,024 pixels: simulating and fitting")
    clouds = two_cloud_sightline(seed=seed)
    clouds_fit = fit_map("temperature_per_voxel", clouds)

    say("a small sky: simulating")
    sky = small_sky(seed)
    say(f"a small sky: fitting {sky.sizes['superpixel']:,} superpixels")
    fit = fit_map("temperature_per_voxel", sky)

    say("writing maps and figures")
    save_sky(sky, out / "sky.zarr", overwrite=True)
    write_store(fit, out / "fit.zarr", superpixels_per_chunk=4096, overwrite=True)
    export_maps(fit, sky, out / "maps", overwrite=True)
    save_plots(fit, sky, out / "figures")
    return {
        "Two clouds behind each other": _one_superpixel(clouds_fit, clouds),
        f"A sky of {sky.sizes['superpixel']:,} superpixels": _whole_sky(fit, sky),
    }


def small_sky(seed: int) -> xr.Dataset:
    """Simulate a sky on which temperature, beta and rho change smoothly with direction.

    Parameters
    ----------
    seed : int
        Seed of clouds and noise.

    Returns
    -------
    xarray.Dataset
        A sky with its truth.
    """
    reddening = mock_reddening(
        nside=NSIDE, superpixel_nside=SUPERPIXEL_NSIDE, distance_edge=EDGES, seed=seed
    )
    lon, lat = healpy.pix2ang(SUPERPIXEL_NSIDE, reddening.superpixel.values, nest=True, lonlat=True)
    lon, lat = np.radians(lon), np.radians(lat)
    inwards = np.cos(lon) * np.cos(lat)
    temperature = 18.0 + np.stack(
        [1.0 + 0.5 * inwards, 0.8 * np.sin(2 * lon) * np.cos(lat), 2.0 * inwards - 0.5], axis=1
    )
    truth = {
        "temperature": (("superpixel", "voxel"), temperature),
        "beta": ("superpixel", 1.6 + 0.1 * np.sin(lat)),
        "rho": ("superpixel", 1e-4 * np.exp(0.3 * np.sin(lon) * np.cos(lat))),
    }
    return simulate_sky(truth, reddening=reddening, sigma=SIGMA, seed=seed)


def _one_superpixel(fit: xr.Dataset, sky: xr.Dataset) -> dict[str, list[str]]:
    columns = {"parameter": [], "truth": [], "estimate": [], "error": [], "off by": []}
    for name, scale, digits in (("temperature", 1, 2), ("beta", 1, 3), ("rho", 1e4, 3)):
        unit = {"temperature": " [K]", "rho": " [1e-4/mag]"}.get(name, "")
        values = fit[name].values.ravel()
        errors = fit[f"{name}_sd"].values.ravel()
        truths = np.broadcast_to(sky[f"true_{name}"].values.ravel(), values.shape)
        clouds = (" near", " far") if values.size == 2 else ("",)
        for cloud, value, error, truth in zip(clouds, values, errors, truths, strict=True):
            columns["parameter"].append(f"{name}{cloud}{unit}")
            columns["truth"].append(f"{scale * truth:.{digits}f}")
            columns["estimate"].append(f"{scale * value:.{digits}f}")
            columns["error"].append(f"{scale * error:.{digits}f}")
            columns["off by"].append(f"{(value - truth) / error:+.1f} sd")
    return columns


def _whole_sky(fit: xr.Dataset, sky: xr.Dataset) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {
        "parameter": [],
        "constrained": [],
        "median error": [],
        "in 1 sd (68 %)": [],
        "in 2 sd (95 %)": [],
    }
    for name, unit in (("temperature", "K"), ("beta", ""), ("rho", "1/mag")):
        known = ~prior_dominated(fit, name)
        off = np.abs(fit[name] - sky[f"true_{name}"]) / fit[f"{name}_sd"]
        voxels = range(fit.sizes["voxel"]) if "voxel" in off.dims else [None]
        for voxel in voxels:
            where = {} if voxel is None else {"voxel": voxel}
            label = name if voxel is None else f"{name} {EDGES[voxel]:g}-{EDGES[voxel + 1]:g} kpc"
            mask = known.isel(where)
            error = fit[f"{name}_sd"].isel(where).where(mask).median().item()
            distance = off.isel(where).values[mask.values]
            columns["parameter"].append(label)
            columns["constrained"].append(f"{mask.mean().item():.0%}")
            columns["median error"].append(f"{error:.2g} {unit}".strip())
            columns["in 1 sd (68 %)"].append(f"{np.mean(distance < 1):.0%}")
            columns["in 2 sd (95 %)"].append(f"{np.mean(distance < 2):.0%}")
    return columns
