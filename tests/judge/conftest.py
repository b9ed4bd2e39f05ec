"""Posteriors that keep the contract, of independent Gaussian draws, whichever method is said."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pymcdust import build_sky, sample
from pymcdust.judge import report_page
from pymcdust.judge.comparison_part import over_the_sky
from pymcdust.judge.predictive_check import PIT_BINS
from pymcdust.judge.report import report
from pymcdust.modeling.gallery import resolve
from pymcdust.physics.emission import emissivity
from pymcdust.products import projection

# For `pages`.
sys.path.insert(0, str(Path(__file__).parent))

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

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


#: Variants of a comparison.
VARIANTS = ("single_temperature", "temperature_per_voxel", "temperature_beta_per_voxel")


def comparison_of_noise(superpixels=range(60), variants=VARIANTS, blocks=16, voxels=3, seed=1):
    """Return a comparison of random numbers; the second variant is the best of most."""
    rng = np.random.default_rng(seed)
    superpixel = np.asarray(superpixels)
    n, m = superpixel.size, len(variants)
    better = np.zeros(m)
    better[1] = 1.0
    by_superpixel = ("model", "superpixel")
    score = rng.normal(-20, 2, (1, n, blocks)) + rng.normal(0, 0.3, (m, n, blocks))
    score += 0.2 * better[:, None, None]
    evidence = rng.normal(-300, 5, (1, n)) + rng.normal(0, 3, (m, n)) + 4 * better[:, None]
    probability = np.exp(evidence - evidence.max(axis=0))
    weight = rng.dirichlet(np.ones(m), n).T
    temperature = rng.normal(18, 2, (m, n, voxels))
    dataset = xr.Dataset(
        {
            "ln_evidence": (by_superpixel, evidence),
            "ln_evidence_error": (by_superpixel, np.full((m, n), 0.02)),
            "ln_evidence_sky": ("model", np.full(m, np.nan)),
            "ln_evidence_error_sky": ("model", np.full(m, np.nan)),
            "evidence_method": (by_superpixel, rng.integers(0, 2, (m, n))),
            "evidence_reliable": (by_superpixel, np.ones((m, n), bool)),
            "probability": (by_superpixel, probability / probability.sum(axis=0)),
            "elpd_block": ((*by_superpixel, "block"), score),
            "elpd": (by_superpixel, score.sum(axis=2)),
            "elpd_error": (by_superpixel, np.sqrt(blocks) * score.std(axis=2, ddof=1)),
            "elpd_loo": (by_superpixel, score.sum(axis=2)),
            "pareto_k": (by_superpixel, rng.uniform(0.1, 0.8, (m, n))),
            "pareto_k_loo": (by_superpixel, rng.uniform(0.1, 0.8, (m, n))),
            "n_refitted": (by_superpixel, rng.integers(0, 3, (m, n))),
            "n_unreliable": (by_superpixel, np.zeros((m, n), int)),
            "n_block": ("superpixel", np.full(n, blocks)),
            "n_data": ("superpixel", np.full(n, blocks * 5)),
            "weight": (by_superpixel, weight),
            "temperature": ((*by_superpixel, "voxel"), temperature, {"prior_sd": 7.0}),
            "temperature_sd": ((*by_superpixel, "voxel"), np.full((m, n, voxels), 1.0)),
            "temperature_averaged": (
                ("superpixel", "voxel"),
                np.einsum("mn,mnv->nv", weight, temperature),
            ),
            "temperature_averaged_sd": (("superpixel", "voxel"), np.full((n, voxels), 1.5)),
            "residual": ((*by_superpixel, "band"), rng.normal(0, 0.1, (m, n, 5))),
            "chi2_p": ((*by_superpixel, "band"), rng.random((m, n, 5))),
            "pit_count": (
                (*by_superpixel, "band", "bin"),
                rng.poisson(blocks / PIT_BINS, (m, n, 5, PIT_BINS)),
            ),
            "column": ("superpixel", rng.lognormal(-1, 1, n)),
            "distance_edge": ("voxel_edge", np.linspace(0, 3, voxels + 1)),
        },
        {
            "model": list(variants),
            "superpixel": superpixel,
            "band": BANDS,
            "voxel": np.arange(voxels),
        },
        {
            "superpixel_nside": 4,
            "nside": 16,
            "block": 1,
            "folds": 10,
            "seed": 0,
            "evidence": "auto",
            "models": json.dumps({name: resolve(name).to_dict() for name in variants}),
            "methods": json.dumps(dict.fromkeys(variants, "nuts")),
            "pymcdust_version": "0.1.0",
        },
    )
    flags = {"flag_values": [0, 1], "flag_meanings": "importance bridge"}
    dataset["evidence_method"].attrs = flags
    return over_the_sky(dataset)


@pytest.fixture(scope="session")
def make_comparison():
    return comparison_of_noise


@pytest.fixture
def small_images(monkeypatch):
    monkeypatch.setattr(projection, "RESOLUTION", 100)
    monkeypatch.setattr(report_page, "DOTS_PER_INCH", 40)


@pytest.fixture
def write(tmp_path, small_images):
    """Return the text of a report, after a look at its structure."""
    from pages import check

    def written(result, **options):
        out = report(result, tmp_path / "report.html", overwrite=True, **options)
        text = out.read_text(encoding="utf-8")
        check(text)
        return text

    return written


@pytest.fixture(scope="session")
def browser():
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"none of the browsers {', '.join(BROWSERS)} is on PATH")
    return found[0]


def sky_with_little_dust(n_superpixel=3, seed=3):
    """Return a sky whose voxels hold much dust, none, and a little."""
    rng = np.random.default_rng(seed)
    frequency = np.array([217.0, 353.0, 545.0, 857.0, 2998.0])
    noise = np.array([0.5, 3.0, 9.0, 25.0, 30.0])
    reddening = rng.lognormal(-1.0, 1.0, (n_superpixel, 16, 3)) * np.array([1.0, 0.0, 0.1])
    glow = emissivity(frequency, np.array([[19.0], [18.0], [17.0]]), 1.6, 1e-4)
    emission = reddening @ glow + noise * rng.standard_normal((n_superpixel, 16, 5))
    return build_sky(
        reddening,
        emission,
        noise,
        (0.0, 0.3, 1.0, 3.0),
        np.arange(n_superpixel) + 40,
        nside=64,
        superpixel_nside=16,
        reddening_unit="bayestar2019",
    )


@pytest.fixture(scope="session")
def thin_sky():
    return sky_with_little_dust()


@pytest.fixture(scope="session")
def thin_posterior(thin_sky):
    """Draws of the paper's model for `thin_sky`, by importance sampling."""
    return sample("temperature_per_voxel", thin_sky, method="laplace", draws=1000, chains=4)
