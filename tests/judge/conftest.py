"""Posteriors that keep the contract, of independent Gaussian draws, whichever method is said."""

import json

import numpy as np
import pytest
import xarray as xr

from pymcdust.modeling.gallery import resolve

BANDS = ["217", "353", "545", "857", "2998"]

#: Mean and standard deviation, unit, dimensions of tying, and standard deviation of the prior.
PARAMETERS = {
    "temperature": (18.0, 2.0, "K", ("superpixel", "voxel"), 9.0),
    "beta": (1.6, 0.1, "", ("superpixel",), 0.3),
    "rho": (1e-4, 2e-5, "mag-1", ("superpixel",), 1.3e-4),
}

#: A parameter of the whole sky, as in a hierarchy.
SHARED = {"temperature_mu": (18.0, 0.3, "K", (), 3.0)}


def statistics(method, shape, rng):
    """Return what a method adds to sample_stats, for draws of shape (chain, draw, superpixel)."""
    dims = ("chain", "draw", "superpixel")[: len(shape)]
    last, n = dims[2:], shape[2:]
    of_nuts = {
        "diverging": (dims, np.zeros(shape, bool)),
        "energy": (dims, 20 + 3 * rng.standard_normal(shape)),
        "tree_depth": (dims, np.full(shape, 3)),
        "reached_max_treedepth": (dims, np.zeros(shape, bool)),
        "n_steps": (dims, np.full(shape, 7)),
        "acceptance_rate": (dims, np.full(shape, 0.9)),
        "step_size": (dims, np.full(shape, 0.5)),
        "attempts": (last, np.ones(n, int)),
    }
    of_laplace = {
        "pareto_k": (last, rng.uniform(0.1, 0.5, n)),
        "laplace_pareto_k": (last, rng.uniform(0.5, 1.2, n)),
        "importance_ess": (last, rng.uniform(900, 3000, n)),
        "rounds": (last, np.full(n, 3)),
        "ln_evidence": (last, rng.normal(-50, 3, n)),
        "ln_evidence_error": (last, np.full(n, 0.02)),
    }
    if method == "nuts":
        return of_nuts
    if method == "laplace":
        return of_laplace
    if method == "auto":
        by_nuts = np.arange(*n) % 4 == 3
        which = xr.Variable(last, by_nuts.astype(int))
        which.attrs = {"flag_values": [0, 1], "flag_meanings": "laplace nuts"}
        of_laplace["pareto_k"][1][by_nuts] = 1.1
        of_laplace["importance_ess"][1][by_nuts] = 20.0
        of_nuts["energy"][1][:, :, ~by_nuts] = np.nan
        return {**of_nuts, **of_laplace, "method": which}
    per_chain = (("chain", *last), (shape[0], *n))
    if method == "smc":
        return {
            "ln_evidence": (per_chain[0], rng.normal(-50, 0.1, per_chain[1])),
            "stages": (per_chain[0], np.full(per_chain[1], 9)),
            "acceptance_rate": (per_chain[0], rng.uniform(0.2, 0.5, per_chain[1])),
        }
    n_draw, walkers = shape[1], 20
    steps = -(-n_draw // walkers)
    half = [
        (walker, step)
        for part in np.array_split(np.arange(steps), 2)
        for walker in range(walkers)
        for step in part
    ]
    walker, step = np.array(half[:n_draw]).T
    ladder = 0.6 ** np.arange(6)
    by_temperature = (("chain", "temperature", *last), (shape[0], 6, *n))
    return {
        "walker": ("draw", walker),
        "step": ("draw", step),
        "inverse_temperature": ("temperature", ladder),
        "acceptance": (by_temperature[0], rng.uniform(0.2, 0.5, by_temperature[1])),
        "swap_acceptance": (by_temperature[0], rng.uniform(0.3, 0.6, by_temperature[1])),
    }


def posterior_of_noise(
    method="nuts", superpixels=(5, 6, 40), chains=4, draws=500, voxels=2, coupled=False, seed=1
):
    """Return a posterior of independent Gaussian draws."""
    rng = np.random.default_rng(seed)
    superpixels = np.asarray(superpixels)
    sizes = {"superpixel": superpixels.size, "voxel": voxels}
    parameters = {**PARAMETERS, **(SHARED if coupled else {})}
    variables = {}
    for name, (mean, sd, unit, tying, prior_sd) in parameters.items():
        shape = (chains, draws, *(sizes[dim] for dim in tying))
        attrs = {"long_name": name, "unit": unit, "prior_sd": prior_sd, "tying": str(tying)}
        variables[name] = (
            ("chain", "draw", *tying),
            mean + sd * rng.standard_normal(shape),
            attrs,
        )
    sample = {"chain": np.arange(chains), "draw": np.arange(draws)}
    places = {**sample, "superpixel": superpixels}
    shape = (chains, draws) if coupled else (chains, draws, superpixels.size)
    dims = ("chain", "draw", "superpixel")[: len(shape)]
    stats = xr.Dataset(
        {
            "lp": (dims, -0.5 * rng.chisquare(4, shape)),
            **statistics(method, shape, rng),
        },
        coords=sample if coupled else places,
    )
    edges = np.linspace(0, 3, voxels + 1)
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(variables, {**places, "voxel": np.arange(voxels)}),
            "sample_stats": stats,
            "constant_data": xr.Dataset({"distance_edge": ("voxel_edge", edges)}),
        }
    )
    name = "hierarchical_temperature" if coupled else "temperature_per_voxel"
    tree.attrs = {
        "method": method,
        "model": name,
        "model_definition": json.dumps(resolve(name).to_dict()),
        "superpixel_nside": 4,
        "nside": 16,
        "seed": 1,
        "settings": json.dumps({"draws": draws, "chains": chains}),
        "pymcdust_version": "0.1.0",
    }
    return tree


@pytest.fixture(scope="session")
def make_posterior():
    return posterior_of_noise
