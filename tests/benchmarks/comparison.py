"""Measure comparisons: ``python comparison.py [--quick] [--sky SKY] [--posteriors FOLDER]``."""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from arviz_stats import loo
from page import machine
from skies import mock_sky

from pymcdust import PriorStudy, compare, compress, open_posterior, open_sky, sample, sensitivity
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.posterior import model_of, rows_of
from pymcdust.judge.evidence import ESTIMATORS, evidence
from pymcdust.judge.pointwise import block_log_likelihood
from pymcdust.judge.predictive import predict
from pymcdust.judge.preference import summarise_variants
from pymcdust.sky.blocks import pixel_blocks
from pymcdust.sky.compression import likelihood_constant

VARIANTS = (
    "single_temperature",
    "temperature_per_voxel",
    "temperature_beta_per_voxel",
    "temperature_rho_per_voxel",
    "all_per_voxel",
)

#: The variant whose priors are studied, and whose evidence is estimated in every way.
BASE = "temperature_per_voxel"

#: 25 priors besides the declared one: every number alone.
PRIORS: dict[str, dict[str, list[float]]] = {
    "temperature": {"mu": [14, 16, 20, 22, 25], "sigma": [3, 5, 7, 12, 15, 20]},
    "beta": {"mu": [1.4, 1.5, 1.7, 1.8], "sigma": [0.1, 0.2, 0.5, 0.8]},
    "rho": {"mu": [-9.9, -9.5, -8.9], "sigma": [0.3, 0.5, 1.5]},
}

#: Superpixels of the mock sky, and those on which estimators of the evidence and ArviZ are timed.
SUPERPIXELS, TIMED = 64, 4


@dataclass(frozen=True)
class Timed:
    """Seconds by the clock, and of the processors."""

    clock: float
    processors: float


def timed(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, Timed]:
    """Call a function and return what it returns, and how long it took."""
    began, used = perf_counter(), process_time()
    result = function(*args, **kwargs)
    return result, Timed(perf_counter() - began, process_time() - used)


def posteriors_of(sky: xr.Dataset, folder: Path) -> dict[str, xr.DataTree]:
    """Return the posteriors of all variants by NUTS, drawn where the folder has none."""
    found = {}
    for name in VARIANTS:
        place = folder / f"{name}.zarr"
        if not place.exists():
            _say(f"drawing {name}")
            sample(name, sky, method="nuts", out=place)
        found[name] = open_posterior(place)
    return found


def whole_sky(sky: xr.Dataset, posteriors: dict[str, xr.DataTree]) -> list[list[str]]:
    """Time what is done to every superpixel of a sky."""
    rows = []
    _say("the comparison")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "comparison.zarr"
        comparison, time = timed(compare, posteriors, sky, out=out)
        refitted = int(comparison.n_refitted.sum())
        found = f"{refitted} folds by ratios of evidences; best: "
        found += summarise_variants(comparison)[0]["model"]
    rows.append(["compare five variants", *_seconds(time), found])
    _say("the study")
    study = PriorStudy(BASE, **PRIORS)
    result, time = timed(study.run, posteriors[BASE])
    n_prior = result.sizes["prior"] - 1
    share = float((result["how"] == 2).sum()) / (n_prior * result.sizes["superpixel"])
    found = f"{share:.0%} drawn anew, {float(result['reliable'].mean()):.1%} reliable"
    rows.append([f"a study over {n_prior} priors", *_seconds(time), found])
    _say("the sensitivity")
    found, time = timed(sensitivity, posteriors[BASE])
    share = float(found.temperature_prior_dominated.mean())
    rows.append(["sensitivity", *_seconds(time), f"{share:.0%} of temperatures prior-dominated"])
    return rows


def estimators(sky: xr.Dataset, posterior: xr.DataTree) -> list[list[str]]:
    """Time each estimator of the evidence in the superpixels of the most dust, and PyMC's own."""
    column = sky.reddening.where(sky.valid).mean("pixel").sum("voxel").values
    chosen = np.sort(np.argsort(column)[-TIMED:])
    some = posterior.isel(superpixel=chosen).load()
    rows = compress(sky.isel(superpixel=chosen)).load()
    compiled = CompiledPosterior(model_of(posterior), rows, "quantile")
    reference, table = None, []
    for method in ("bridge", *(name for name in ESTIMATORS if name != "bridge")):
        _say(f"evidence by {method}")
        # The first call compiles.
        evidence(some.isel(superpixel=[0]), method=method, compiled=compiled)
        result, time = timed(evidence, some, method=method, compiled=compiled)
        reference = result if reference is None else reference
        off = (result.ln_evidence - reference.ln_evidence).values
        error = float(result.ln_evidence_error.median())
        reliable = f"{int(result.reliable.sum())} of {TIMED}"
        worst = f"{np.abs(off).max():.3f}"
        table.append([method, f"{time.clock / TIMED:.2f}", f"{error:.3f}", worst, reliable])
    _say("evidence by PyMC's own SMC")
    model = model_of(posterior).build(rows.isel(superpixel=[0]))
    with model:
        trace, time = timed(
            pm.sample_smc, 1000, chains=4, cores=1, progressbar=False, random_seed=1
        )
    last = [chain[-1] for chain in trace.sample_stats.log_marginal_likelihood.values.tolist()]
    ours = float(reference.ln_evidence[0]) - likelihood_constant(rows)[0]
    table.append(
        [
            "`pymc.sample_smc`, 4 × 1,000",
            f"{time.clock:.2f}",
            f"{np.std(last, ddof=1) / 2:.3f}",
            f"{abs(np.mean(last) - ours):.3f}",
            "",
        ]
    )
    return table


def leave_one_out(sky: xr.Dataset, posterior: xr.DataTree) -> list[list[str]]:
    """Time leave-one-out of one superpixel's blocks by ArviZ alone, and the whole prediction."""
    _say("leave-one-out")
    one = posterior.isel(superpixel=[0]).load()
    blocks = pixel_blocks(sky)
    log_likelihood = block_log_likelihood(one, sky, blocks)[0]
    sizes = one["posterior"].sizes
    pointwise = xr.DataArray(
        log_likelihood.reshape(sizes["chain"], sizes["draw"], -1),
        dims=("chain", "draw", "block"),
        name="emission",
    )
    tree = xr.DataTree.from_dict(
        {
            "posterior": one["posterior"].to_dataset(),
            "log_likelihood": pointwise.to_dataset(),
            "observed_data": pointwise.isel(chain=0, draw=0, drop=True).to_dataset(),
        }
    )
    compiled = CompiledPosterior(model_of(posterior), rows_of(one), "quantile")
    # The first call compiles.
    predict(one, sky, compiled=compiled)
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        _, theirs = timed(loo, tree, pointwise=True)
    _, ours = timed(predict, one, sky, compiled=compiled)
    return [
        ["`arviz.loo`, likelihood given", f"{theirs.clock:.3f}"],
        ["`predict`: likelihood, LOO, ten folds, refits", f"{ours.clock:.3f}"],
    ]


def write_page(n: int, parts: Iterable[tuple[str, str, list[str], list[list[str]]]]) -> str:
    """Return the page in Markdown."""
    sections = [
        "# Benchmarks of comparisons",
        f"What `make bench` measured, here on a sky of {n} superpixels of 9 voxels and 5 bands "
        "whose posteriors, 4 × 1,000 draws of NUTS, had been drawn before. Compilation is "
        "included.",
        machine(),
    ]
    for title, text, head, rows in parts:
        rule = ["---"] + ["---:"] * (len(head) - 1)
        table = "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
        sections += [f"## {title}", text, table]
    return "\n\n".join(sections) + "\n"


def main() -> None:
    """Measure and print the page."""
    parser = argparse.ArgumentParser(description="Measure comparisons of models.")
    parser.add_argument("--quick", action="store_true", help="few superpixels")
    parser.add_argument("--sky", type=Path, help="a sky (Zarr); by default a mock one")
    parser.add_argument("--posteriors", type=Path, help="folder of the variants' posteriors")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sky = open_sky(options.sky) if options.sky else None
        if sky is None:
            sky = mock_sky(TIMED if options.quick else SUPERPIXELS, nside=256)
        posteriors = posteriors_of(sky, options.posteriors or Path(folder))
        parts = [
            (
                "Every superpixel",
                "All of it in one process.",
                ["what", "seconds", "processor seconds", "found"],
                whole_sky(sky, posteriors),
            ),
            (
                "One evidence",
                f"In the {TIMED} superpixels of the most dust, model `{BASE}`, compiled before; "
                "for PyMC in the first of them, compilation included. The last column is "
                "what an estimator says of itself; before it, the largest difference from bridge "
                "sampling.",
                [
                    "estimator",
                    "seconds each",
                    "stated error",
                    "off bridge sampling",
                    "says reliable",
                ],
                estimators(sky, posteriors[BASE]),
            ),
            (
                "One superpixel left out block by block",
                "All draws, the same blocks, compiled before.",
                ["what", "seconds"],
                leave_one_out(sky, posteriors[BASE]),
            ),
        ]
        page = write_page(sky.sizes["superpixel"], parts)
    print(page)
    if options.write:
        options.write.write_text(page)


def _seconds(time: Timed) -> tuple[str, str]:
    return f"{time.clock:.0f}", f"{time.processors:.0f}"


def _say(what: str) -> None:
    print(f"Measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
