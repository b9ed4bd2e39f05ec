"""Skies for reports: a simulated one, and one that tells of itself what a prepared one does."""

import json

import numpy as np
import xarray as xr
from pages import cells

from pymcdust import simulate_sky
from pymcdust.sky.cuts import Mask
from pymcdust.sky.voxels import CutReason

BANDS = ("217", "353", "545", "857", "2998")

FAINT = {"217": 0.01, "353": 0.05, "545": 0.2, "857": 0.5, "2998": 0.5}


def simulated(superpixels=None, sigma=FAINT, **options):
    truth = {"temperature": 18.1, "beta": 1.6, "rho": 1e-4}
    options = {"nside": 32, "superpixel_nside": 4, **options}
    return simulate_sky(truth, superpixels=superpixels, sigma=sigma, **options)


def prepared(seed=0):
    """Return a sky that tells of itself what a prepared one does; its numbers are arbitrary."""
    rng = np.random.default_rng(seed)
    sky = simulated(superpixels=range(20, 120))
    n, n_pixel, n_voxel = 100, sky.sizes["pixel"], 3
    sky["valid"][:] = rng.random((n, n_pixel)) < 0.8
    number = rng.integers(1, n_voxel + 1, n)
    in_use = np.arange(n_voxel) < number[:, None]
    sky["reddening"] = sky.reddening.where(xr.DataArray(in_use, dims=("superpixel", "voxel")), 0.0)
    edges = np.array([[0, 0.3, 1, 3], [0, 0.3, 0.301, 0.302], [0, 0.3, 1, 1.001]])
    sky["distance_edge"] = (("superpixel", "voxel_edge"), edges[number % 3])
    one = "superpixel"
    sky["n_voxel"] = (one, number)
    reason = np.where(number == 1, 4, np.where(number == 2, 16 | 32, 1)).astype(np.uint8)
    attrs = {
        "flag_masks": np.array([r.value for r in CutReason], dtype=np.uint8),
        "flag_meanings": " ".join(r.name.lower() for r in CutReason),
    }
    sky["cut_reason"] = (one, reason, attrs)
    names = [mask.name.lower() for mask in Mask]
    masked = rng.integers(0, 5, (n, len(names))).astype(np.int32)
    masked[:, names.index("thinned")] = 0
    masked[:, names.index("unreliable")] += 20
    masked[:, names.index("declination")] += 10
    sky["masked"] = ((one, "reason"), masked)
    sky = sky.assign_coords(reason=names)
    coverage = np.zeros(192)
    coverage[20:120] = sky.valid.mean("pixel")
    coverage[130:140] = 0.4
    why = np.zeros(192, dtype=np.uint16)
    why[20:50] = Mask.UNRELIABLE
    why[120:150] = Mask.OUTSIDE
    why[150:] = Mask.NO_EMISSION
    sky["sky_coverage"] = ("sky_superpixel", coverage)
    sky["sky_reason"] = ("sky_superpixel", why)
    sky.attrs |= {
        "beam": 600.0,
        "files": json.dumps({"reddening": {"name": "map.h5", "sha256": 64 * "a"}}),
        "versions": json.dumps({"pymcdust": "7.8.9", "numpy": "2.0"}),
        "configuration": json.dumps({"grid": {"nside": 32}, "noise": {"sigma": {"217": 0.5}}}),
    }
    return sky


def rows_of(text, section, number=0):
    """Return the rows of a table of a section by their first cells."""
    part = text.split(f'<section id="{section}"')[1].split("</section>")[0]
    return {row[0]: row[1:] for row in cells(part, number)}
