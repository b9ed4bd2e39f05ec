"""The page of the documentation that tells what was measured."""

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from measure import MANY_STARTS, Comparison, Size
from phases import PHASES
from published import Rival

PACKAGES: tuple[str, ...] = ("numpy", "scipy", "xarray", "pytensor", "pymc", "pymc-extras")


def write_page(
    size: Size,
    comparisons: dict[str, Comparison],
    sky: dict[str, dict[str, float]],
    growth: dict[str, list],
    starts: list[dict],
) -> str:
    """Return the page in Markdown."""
    sections = [
        "# Benchmarks",
        "What `make bench` measured. The superpixels are those of Zelko et al. (2022): 1,024 "
        "pixels, 9 voxels and 5 bands, in mock skies whose clouds differ from voxel to voxel, "
        "with the paper's noise. The model has the published priors: T ~ N(18.1, 9) K, and beta "
        "and rho flat inside their bounds.",
        machine(),
        *_against_powell(size, comparisons),
        *_whole_sky(size, sky),
        *_growing(size, growth),
        *_starting(starts),
    ]
    return "\n\n".join(sections) + "\n"


def machine() -> str:
    """Say on what machine, and with which packages, the page was measured."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    model = names[0] if names else platform.processor()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Measured on {os.cpu_count()} cores ({model}), {platform.system()}, with Python "
        f"{platform.python_version()}, pymcdust {version('pymcdust')}, {packages}. Load average "
        f"when the page was written: {os.getloadavg()[0]:.1f}; the benchmark alone makes about 1."
    )


def _against_powell(size: Size, comparisons: dict[str, Comparison]) -> Iterable[str]:
    cores = np.mean([comparison.cores() for comparison in comparisons.values()])
    yield "## Against the published method"
    yield (
        "The published code fits one superpixel after the other: SciPy's `minimize` with "
        '`method="Powell"`, on the pixels, with bounds, from rho = 1e-4, beta = 1.53 and T = 18.8 '
        "K, all in units of these. The first row does what it does, step by step; the second gives "
        "it an objective that does the same sums in less than half the time. SciPy's tolerances, "
        "which the published code leaves as they are, stop it short of the maximum; the third row "
        "has one with which it gets there, unless it is caught elsewhere. "
        f"{size.compared} superpixels of each sky are fitted so, in {size.rounds} rounds; in each "
        f"round pymcdust fits all {size.batch:,} superpixels of the sky, from float32 arrays "
        "through compression, iterations and covariance to a fit. Powell's method keeps one core "
        f"busy, pymcdust {cores:.1f}. The excess is how far above pymcdust's the objective ends, "
        "in units of chi-square, both evaluated on the pixels by the same function; below zero, "
        "pymcdust, from its one default start, was caught in a lower maximum."
    )
    for title, comparison in comparisons.items():
        yield f"### {title}"
        rows = []
        for rival, rounds in comparison.powell.items():
            fits = [fit for fits in rounds for fit in fits]
            excess = comparison.excess(rival).round(3) + 0.0  # no -0.000
            rows.append(
                [
                    rival.name,
                    _milliseconds(comparison.powell_per_superpixel(rival)),
                    f"{np.mean([fit.evaluations for fit in fits]):,.0f}",
                    *(f"{f(excess):.3f}" for f in (np.min, np.median, np.max)),
                    *(_ratio(comparison, rival, compiling) for compiling in (False, True)),
                ]
            )
        for with_compile, name in ((False, "pymcdust"), (True, "pymcdust with compile")):
            times = _milliseconds(comparison.per_superpixel(with_compile))
            rows.append([name, times, *[""] * 6])
        head = ["", "ms per superpixel", "evaluations", "excess, least", "median", "most"]
        yield _table([*head, "pymcdust is faster by", "with compile"], rows)


def _starting(starts: list[dict]) -> Iterable[str]:
    yield "## What more starts find"
    yield (
        "From one starting point, the default, the highest maximum is sometimes missed; the second "
        f"start is cold. The highest of {MANY_STARTS} starts is taken for the truth. Missed are "
        "superpixels whose objective ends above it, on sightlines from the plane to the poles."
    )
    rows = [
        [
            entry["priors"],
            f"{entry['starts']}",
            f"{entry['missed']} of {entry['superpixels']:,}",
            f"{entry['most']:.2f}",
            f"{entry['evaluations']:.1f}",
        ]
        for entry in starts
    ]
    yield _table(["priors", "starts", "missed", "by at most", "evaluations"], rows)


def _ratio(comparison: Comparison, rival: Rival, with_compile: bool) -> str:
    ratio = comparison.powell_per_superpixel(rival) / comparison.per_superpixel(with_compile)
    return f"{np.median(ratio):.0f} ({ratio.min():.0f} to {ratio.max():.0f})"


def _milliseconds(seconds: np.ndarray) -> str:
    low, middle, high = (1e3 * f(seconds) for f in (np.min, np.median, np.max))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def _whole_sky(size: Size, sky: dict[str, dict[str, float]]) -> Iterable[str]:
    yield "## The whole sky"
    cold = sky["cold"]
    yield (
        f"{size.sky:,} superpixels, from {cold['arrays']:.2f} GB of float32 arrays in memory to "
        "the fit, in seconds. Each column is a new process: the first finds no compiled code in "
        "any cache, the second what the first left. Importing the package and making the sky are "
        "not part of the whole; the memory is the most that the process ever took, arrays included."
    )
    phases = [*PHASES, "rest"]
    rows = [[phase, *(f"{run[phase]:.2f}" for run in sky.values())] for phase in phases]
    rows.append(["**whole**", *(f"**{run['whole']:.1f}**" for run in sky.values())])
    rows.append(["processor time", *(f"{run['processor']:.1f}" for run in sky.values())])
    rows.append(["importing pymcdust", *(f"{run['import']:.1f}" for run in sky.values())])
    rows.append(["memory [GB]", *(f"{run['memory']:.2f}" for run in sky.values())])
    rows.append(["not converged", *(f"{size.sky - run['converged']:.0f}" for run in sky.values())])
    rows.append(
        ["evaluations per superpixel", *(f"{run['evaluations']:.1f}" for run in sky.values())]
    )
    yield _table(["", *(f"{cache} cache" for cache in sky)], rows)


def _growing(size: Size, growth: dict[str, list]) -> Iterable[str]:
    yield "## How it grows"
    yield (
        "Milliseconds per superpixel, the compile apart, as it happens once for a fit. Where it is "
        f"not the superpixels that grow there are {size.others}."
    )
    for what, entries in growth.items():
        rows = []
        for entry in entries:
            seconds, n = entry["seconds"], entry["superpixels"]
            rest = seconds["whole"] - sum(
                seconds[phase] for phase in ("compression", "compile", "iterations")
            )
            rows.append(
                [
                    entry["value"] if isinstance(entry["value"], str) else f"{entry['value']:,}",
                    str(entry["parameters"]),
                    *(f"{1e3 * seconds[p] / n:.2f}" for p in ("compression", "iterations")),
                    f"{1e3 * rest / n:.2f}",
                    f"{1e3 * (seconds['whole'] - seconds['compile']) / n:.2f}",
                    f"{seconds['compile']:.1f}",
                    f"{entry['evaluations']:.1f}",
                    f"{100 * entry['converged']:.1f}",
                ]
            )
        columns = [what, "parameters", "compression", "iterations", "rest", "sum"]
        yield _table([*columns, "compile [s]", "evaluations", "converged [%]"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
