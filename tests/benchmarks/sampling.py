"""Measure the samplers: ``python sampling.py [--quick] [--write docs/benchmarks_sampling.md]``."""

import argparse
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from page import machine
from skies import mock_sky
from tempering import PAPER, Comparison, compare_ptemcee

from pymcdust import compress, sample
from pymcdust.infer import sampling
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.posterior import to_tree
from pymcdust.infer.sampling import METHODS, make_method
from pymcdust.infer.target import Target
from pymcdust.judge.convergence import diagnose
from pymcdust.modeling.gallery import resolve

MODEL = "temperature_per_voxel"

#: Superpixels of the paper's map.
WHOLE_SKY = 9216


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Parameters
    ----------
    steps, rounds : int
        Of ptemcee.
    one : dict
        Superpixels of thick dust that each method samples, and its settings.
    sky : dict
        Superpixels of a sky from plane to poles that each method samples.
    """

    steps: int
    rounds: int
    one: dict[str, tuple[int, dict]]
    sky: dict[str, int]


FULL = Size(
    3000,
    3,
    {"laplace": (64, {}), "nuts": (16, {}), "ptemcee": (1, {}), "smc": (2, {})},
    {"laplace": 256, "nuts": 128, "auto": 128},
)
QUICK = Size(
    100,
    1,
    {"laplace": (2, {}), "nuts": (1, {"draws": 50}), "ptemcee": (1, {"steps": 500})},
    {"laplace": 2},
)


def one_superpixel(size: Size) -> list[dict]:
    """Sample superpixels of 0.24 mag in every voxel: what an effective draw costs."""
    table = []
    rows = compress(mock_sky(max(count for count, _ in size.one.values()), column=0.24)).load()
    posterior = CompiledPosterior(resolve(MODEL), rows, "quantile")
    for name, (count, settings) in size.one.items():
        method = make_method(name, settings)
        seeds = [np.random.SeedSequence(s) for s in range(count)]
        some = rows.isel(superpixel=slice(0, count))
        target = Target(posterior, some, seeds, METHODS[name].often)
        began = perf_counter()
        _warm_up(name)(target.select(np.arange(1)))
        first = perf_counter() - began
        began = perf_counter()
        draws = method(target)
        seconds = (perf_counter() - began) / count
        diagnosis = diagnose(to_tree(target, draws, {"method": name}))
        ess = np.minimum(diagnosis.ess_bulk, diagnosis.ess_tail).values
        table.append(
            {
                "method": name,
                "draws": draws.theta.shape[0] * draws.theta.shape[1],
                "seconds": seconds,
                "ess": float(np.median(ess)),
                "first": first,
            }
        )
    return table


def _warm_up(name: str):
    """Return the method at its least: what it costs before the first draw."""
    least = {
        "nuts": {"draws": 1, "tune": 50, "chains": 1, "attempts": 1},
        "ptemcee": {"steps": 40, "thin": 1},
        "smc": {"draws": 300, "chains": 1, "threshold": 0.3},
    }
    return make_method(name, least.get(name, {}))


def whole_sky(size: Size) -> list[dict]:
    """Sample a sky from plane to poles, files and all: what the posterior of a sky costs."""
    table = []
    rows = compress(mock_sky(max(size.sky.values()))).load()
    for name, count in size.sky.items():
        some = rows.isel(superpixel=slice(None, None, rows.sizes["superpixel"] // count))
        ends: list[float] = []

        def note(*told: float, ends: list[float] = ends) -> None:
            ends.append(perf_counter())

        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "posterior.zarr"
            tree = sample(MODEL, some, method=name, out=out, progress=note)
            # The first chunk holds the compilation.
            done = count - METHODS[name].chunk if len(ends) > 1 else np.nan
            seconds = (perf_counter() - ends[0]) / done
            tree = tree.load()
        diagnosis = diagnose(tree)
        entry = {
            "method": name,
            "superpixels": count,
            "seconds": seconds,
            "rhat": float((diagnosis.rhat < 1.01).sum() / np.isfinite(diagnosis.rhat).sum())
            if np.isfinite(diagnosis.rhat).any()
            else np.nan,
            "divergent": float(diagnosis.divergent.mean()) if "divergent" in diagnosis else np.nan,
            "passed": float(diagnosis.passed.mean()),
        }
        table.append(entry)
    return table


def write_page(size: Size, ptemcee: Comparison, one: list[dict], sky: list[dict]) -> str:
    """Return the page in Markdown."""
    sections = [
        "# Benchmarks of the samplers",
        "What `make bench` measured. The superpixels are those of Zelko et al. (2022): 1,024 "
        "pixels, 9 voxels and 5 bands, in mock skies whose clouds differ from voxel to voxel, "
        f"with the paper's noise. The model is `{MODEL}`, of 11 parameters.",
        machine(),
        "## The sampler of the paper",
        f"ptemcee with {PAPER.temperatures} temperatures, {PAPER.walkers} walkers and "
        f"{PAPER.steps:,} steps on one superpixel, in turns in one run: ours, all walkers in one "
        "call on the compressed data, and the same package asking a NumPy function of the pixels "
        "for one walker at a time, written as in the published code or with half of its sums. "
        "Steps were counted and multiplied; the one-off compilation is left out.",
        "\n".join(_against_ptemcee(ptemcee)),
        "## One superpixel",
        "Superpixels of 0.24 mag in every voxel. Seconds and effective draws are those of one "
        "superpixel, the draws those of its worst parameter, in bulk or in the tails; Laplace "
        f"takes {size.one['laplace'][0]} superpixels at a time. What comes before the first draw "
        "is mostly compilation, and is spent once for any number of superpixels.",
        "\n".join(_each_method(one)),
        "## A sky",
        "Superpixels from the plane to the poles, written to Zarr, after the chunk that holds the "
        f"compilation; the last column is for the {WHOLE_SKY:,} superpixels of the paper's map. "
        "R-hat counts where it tells anything; what passes is what the convergence report passes.",
        "\n".join(_each_sky(sky)),
    ]
    return "\n\n".join(sections) + "\n"


def _against_ptemcee(measured: Comparison) -> Iterable[str]:
    yield "| likelihood | ms for each step | seconds in all | effective draws a second | ratio |"
    yield "|---|---:|---:|---:|---:|"
    names = {"pymcdust": measured.own} | {
        f"NumPy, walker by walker, {name}": seconds for name, seconds in measured.rivals.items()
    }
    for name, seconds in names.items():
        yield (
            f"| {name} | {1e3 * seconds:.2f} | {PAPER.steps * seconds:.0f} | "
            f"{measured.ess_per_step / seconds:.0f} | {seconds / measured.own:.1f} |"
        )


def _each_method(table: list[dict]) -> Iterable[str]:
    yield "| method | draws | seconds | effective draws | of them a second | first draw [s] |"
    yield "|---|---:|---:|---:|---:|---:|"
    for row in table:
        yield (
            f"| {row['method']} | {row['draws']:,} | {row['seconds']:.3g} | {row['ess']:,.0f} | "
            f"{row['ess'] / row['seconds']:,.0f} | {row['first']:.1f} |"
        )


def _each_sky(table: list[dict]) -> Iterable[str]:
    yield (
        "| method | superpixels | seconds for each | R-hat < 1.01 | divergences | pass | "
        "minutes for the map |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for row in table:
        shares = [
            "" if np.isnan(row[name]) else f"{row[name]:.{digits}%}"
            for name, digits in (("rhat", 1), ("divergent", 2), ("passed", 1))
        ]
        yield (
            f"| {row['method']} | {row['superpixels']} | {row['seconds']:.3f} | "
            f"{' | '.join(shares)} | {row['seconds'] * WHOLE_SKY / 60:.1f} |"
        )


def main() -> None:
    """Measure and print the page."""
    parser = argparse.ArgumentParser(description="Measure the samplers of pymcdust.")
    parser.add_argument("--quick", action="store_true", help="everything tiny, to see that it runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    if options.quick:
        for name, entry in METHODS.items():
            sampling.METHODS[name] = entry._replace(chunk=1)
    _say("ptemcee, ours and walker by walker")
    ptemcee = compare_ptemcee(size.steps, size.rounds)
    _say("one superpixel")
    one = one_superpixel(size)
    _say("a sky")
    page = write_page(size, ptemcee, one, whole_sky(size))
    print(page)
    if options.write:
        options.write.write_text(page)


def _say(what: str) -> None:
    print(f"Measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
