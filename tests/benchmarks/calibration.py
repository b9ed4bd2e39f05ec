"""Calibrate the methods by simulation: ``python calibration.py [--quick] [--write docs]``."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from pymcdust import Prior, per_voxel, sample, simulate_sky
from pymcdust.judge.calibration import LEVELS, calibrate, plot_ranks, rank_truth, tabulate
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.morphology import mock_reddening

#: The methods, with their settings here.
METHODS: dict[str, dict[str, Any]] = {
    "laplace": {"draws": 4000},
    "nuts": {"draws": 500, "chains": 4},
}

#: Limits of k-hat between which mocks are counted.
K_LIMITS: tuple[float, ...] = (-np.inf, 0.5, 0.7, 1.0, np.inf)

#: Seed of the mocks, and of the draws.
SEED: int = 11

SUPERPIXEL_NSIDE: int = 8

DOTS_PER_INCH: int = 110


@dataclass
class Run:
    """A calibration, and how long it took."""

    calibration: xr.Dataset
    seconds: float


def mocks(n_mock: int | None) -> xr.Dataset:
    """Make a sky of 64 pixels in each superpixel and 3 voxels, of any latitude."""
    superpixels = np.arange(12 * SUPERPIXEL_NSIDE**2)
    dust = mock_reddening(
        nside=8 * SUPERPIXEL_NSIDE,
        superpixel_nside=SUPERPIXEL_NSIDE,
        superpixels=superpixels[:: len(superpixels) // n_mock] if n_mock else None,
        seed=SEED,
    )
    return simulate_sky(TemperaturePerVoxel, reddening=dust, seed=SEED)


def run(sky: xr.Dataset, method: str, settings: dict[str, Any]) -> Run:
    """Calibrate one method."""
    began = perf_counter()
    calibration = calibrate(TemperaturePerVoxel, sky, method=method, seed=SEED, **settings)
    return Run(calibration, perf_counter() - began)


def mistakes(sky: xr.Dataset) -> dict[str, xr.Dataset]:
    """Calibrate what is wrong on purpose, by importance sampling."""
    settings = {"method": "laplace", "seed": SEED, **METHODS["laplace"]}
    narrow = sample(TemperaturePerVoxel, sky, **settings)
    for variable in narrow["posterior"].data_vars.values():
        mean = variable.mean(("chain", "draw"))
        variable.values[...] = (mean + 0.8 * (variable - mean)).transpose(*variable.dims)
    wide = Prior("TruncatedNormal", mu=18.1, sigma=18.0, lower=5.0, upper=100.0)
    model = TemperaturePerVoxel(temperature=per_voxel(wide, unit="K"))
    noisy = sky.assign(sigma=1.2 * sky.sigma)
    return {
        "draws drawn together, to 0.8 of their distance from the mean": rank_truth(narrow, sky),
        "a noise that is taken for 1.2 times what it is": rank_truth(
            sample(TemperaturePerVoxel, noisy, **settings), sky
        ),
        "a prior of the temperature twice as wide as that of the truth": rank_truth(
            sample(model, sky, **settings), sky
        ),
        "proposals that learn nothing (`rounds=1`)": rank_truth(
            sample(TemperaturePerVoxel, sky, rounds=1, **settings), sky
        ),
    }


def write_page(sky: xr.Dataset, runs: dict[str, Run], wrong: dict[str, xr.Dataset]) -> str:
    """Return the page in Markdown."""
    dust = np.quantile(sky.reddening.mean("pixel"), [0.05, 0.5, 0.95])
    n_mock = sky.sizes["superpixel"]
    sections = [
        "# Calibration",
        "If parameters are drawn from the prior, and data from the parameters, then the rank of "
        "the true value among draws of the posterior is uniform; if it is not, then posteriors "
        "are too narrow (true values at the ends too often), too wide, or beside the truth. "
        "`pymcdust.judge.calibration` draws the truth of a whole sky so, samples it, and tests "
        "the ranks. This page is what `make calibration` found.",
        f"The mocks are the {n_mock} superpixels of a sky of `temperature_per_voxel`, with 64 "
        f"pixels, {sky.sizes['voxel']} voxels, 5 bands and the paper's noise, from the plane to "
        f"the poles: the mean reddening of a voxel is {dust[1]:.2g} mag in the median and lies "
        f"between {dust[0]:.1g} and {dust[2]:.2g} mag in nine out of ten. With much dust "
        "temperatures are known much better than before, with little not at all; in between, "
        "posteriors have a long cold tail. `shrinkage` is one minus the ratio of posterior to "
        "prior variance, in the median. Ranks of the log likelihood are there because those of "
        "the parameters would be uniform for the prior itself.",
    ]
    for method, found in runs.items():
        sections += _of_method(method, found)
    sections += _by_k(runs["laplace"].calibration, runs["nuts"].calibration)
    sections += _of_mistakes(wrong)
    return "\n\n".join(sections) + "\n"


def _of_method(method: str, found: Run) -> Iterable[str]:
    calibration = found.calibration
    n_mock = {name: int(calibration.n_mock.sel(selection=name)) for name in ("all", "reliable")}
    settings = ", ".join(f"{name}={value}" for name, value in METHODS[method].items())
    yield f"## `{method}`"
    yield (
        f"With {settings}, in {found.seconds:.0f} s. The truth is ranked among "
        f"{calibration.attrs['ranked']} draws, as many as are nearly independent. The first of two "
        f"numbers is of all {n_mock['all']} mocks, the second of the {n_mock['reliable']} whose "
        "diagnostics say that their draws can be relied on. The least of all p-values, times "
        f"their number, is {_pair(calibration.p_value.values, '.2g')}."
    )
    yield f"![Ranks of {method}](_static/calibration_{method}.png)"
    rows = [
        [
            one["quantity"],
            *(_pair((one[p], other[p]), ".2g") for p in ("chi2_p", "ecdf_p")),
            *(
                _pair((100 * one["coverage"][level], 100 * other["coverage"][level]), ".0f")
                for level in LEVELS
            ),
            _pair((one["zscore_sd"], other["zscore_sd"]), ".2f"),
            "" if one["shrinkage"] is None else f"{one['shrinkage']:.2f}",
        ]
        for one, other in zip(tabulate(calibration), tabulate(calibration, "reliable"), strict=True)
    ]
    error = 100 * np.sqrt(0.25 / n_mock["all"])
    yield _table(
        [
            "",
            "p (chi-square)",
            "p (distribution function)",
            *(f"{100 * level:.0f} % cover [%]" for level in LEVELS),
            "sd of z",
            "shrinkage",
        ],
        rows,
    )
    yield f"Coverage is known to {error:.1f} % or better: one standard error, of all mocks."


def _by_k(laplace: xr.Dataset, nuts: xr.Dataset) -> Iterable[str]:
    yield "## What k-hat tells"
    yield (
        "Importance sampling says of itself where it is not to be relied on: where k-hat is 0.7 or "
        "more. Its proposals are blobs, which do not reach to the end of a long tail on one side, "
        "towards cold voxels. Leaving mocks out by k-hat is a selection by the data. That is "
        "fair: whatever the data, ranks under the exact posterior are uniform, so that they are in "
        "any part of the mocks that the data choose. (k-hat depends on the draws as well, but "
        "not on the truth.) The coverage below is of all parameters together; the second number is "
        "that of `nuts` on the same mocks, which have the same good or bad luck."
    )
    rows = []
    k = laplace.pareto_k.values
    for low, high in pairwise(K_LIMITS):
        chosen = (k >= low) & (k < high)
        if not chosen.any():
            continue
        label = f"below {high:g}" if low == -np.inf else f"{low:g} to {high:g}"
        label = f"{low:g} or more" if high == np.inf else label
        shares = [100 * _covered(calibration, chosen) for calibration in (laplace, nuts)]
        pairs = (_pair(pair, ".1f") for pair in zip(*shares, strict=True))
        rows.append([label, f"{chosen.sum()}", *pairs])
    yield _table(["k-hat", "mocks", *(f"{100 * level:.0f} % cover [%]" for level in LEVELS)], rows)


def _covered(calibration: xr.Dataset, chosen: np.ndarray) -> np.ndarray:
    """Return which fraction of the intervals of each level hold the truth, of all parameters."""
    names = ("temperature", "beta", "rho")
    pit = np.concatenate([calibration[f"{name}_pit"].values[chosen].ravel() for name in names])
    return np.array([np.mean(np.abs(pit - 0.5) <= level / 2) for level in LEVELS])


def _of_mistakes(wrong: dict[str, xr.Dataset]) -> Iterable[str]:
    yield "## What would be noticed"
    yield (
        "The same mocks, sampled by `laplace` with a mistake that was made on purpose. Given is "
        "the least of all p-values, times their number, and where it is found."
    )
    rows = []
    for mistake, calibration in wrong.items():
        table = tabulate(calibration)
        worst = min(table, key=lambda row: np.fmin(row["chi2_p"], row["ecdf_p"]))
        value = float(calibration.p_value.sel(selection="all"))
        least = f"{value:.2g}" if value > 1e-12 else "below 1e-12"
        rows.append([mistake, least, worst["quantity"]])
    yield _table(["mistake", "p of all mocks", "found in the"], rows)


def _pair(values: Sequence[float], form: str) -> str:
    return " / ".join(f"{value:{form}}" if np.isfinite(value) else "-" for value in values)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def main() -> None:
    """Calibrate, print the page, and write it with its figures if asked to."""
    parser = argparse.ArgumentParser(description="Calibrate the methods by simulation.")
    parser.add_argument("--quick", action="store_true", help="few mocks, to see that it runs")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write page and figures there")
    options = parser.parse_args()

    sky = mocks(96 if options.quick else None)
    runs = {}
    for method, settings in METHODS.items():
        _say(method)
        runs[method] = run(sky, method, settings)
    _say("mistakes")
    page = write_page(sky, runs, mistakes(sky))
    print(page)
    if options.write:
        (options.write / "calibration.md").write_text(page)
        for method, found in runs.items():
            path = options.write / "_static" / f"calibration_{method}.png"
            plot_ranks(found.calibration).savefig(path, dpi=DOTS_PER_INCH)


def _say(what: str) -> None:
    print(f"Calibrating: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
