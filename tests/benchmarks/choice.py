"""Whether comparisons choose rightly: ``python choice.py [--quick] [--write docs]``."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import xarray as xr
from scipy.special import softmax

from pymcdust import simulate_sky
from pymcdust.judge.choice import calibrate_choice, tabulate_choice, tabulate_probability
from pymcdust.judge.preference import DECIDED
from pymcdust.physics.bands import PAPER_SIGMA

#: What mocks are drawn from and compared under.
VARIANTS = (
    "single_temperature",
    "temperature_per_voxel",
    "temperature_beta_per_voxel",
    "temperature_rho_per_voxel",
    "fixed_emissivity",
)

#: Noise, in units of the paper's sigma: data that tell much, something, and nothing.
NOISE = {"a tenth of the paper's noise": 0.1, "the paper's noise": 1.0, "no signal": 1e4}

#: A mistake of ln Z that is made on purpose, in the variant with the most parameters.
MISTAKE = 1.0

SEED = 11
SUPERPIXEL_NSIDE = 8
EDGES = (0.0, 0.3, 0.8, 3.0)


@dataclass
class Run:
    """Mocks at one noise, and how long their comparison took."""

    choice: xr.Dataset
    seconds: float


def run(noise: float, n_mock: int) -> Run:
    """Draw mocks of all variants, and compare the variants on them."""
    everywhere = np.arange(12 * SUPERPIXEL_NSIDE**2)
    sky = simulate_sky(
        VARIANTS[0],
        nside=8 * SUPERPIXEL_NSIDE,
        superpixel_nside=SUPERPIXEL_NSIDE,
        superpixels=everywhere[:: len(everywhere) // n_mock][:n_mock],
        distance_edge=EDGES,
        sigma={band: noise * sigma for band, sigma in PAPER_SIGMA.items()},
        seed=SEED,
    )
    began = perf_counter()
    return Run(calibrate_choice(VARIANTS, sky, seed=SEED), perf_counter() - began)


def write_page(runs: dict[str, Run]) -> str:
    """Return the page in Markdown."""
    n_mock = next(iter(runs.values())).choice.sizes["superpixel"]
    sections = [
        "# Does the right variant win?",
        "Mocks are drawn from the prior of each of five variants in turn, and compared under all "
        "five. If all are as likely beforehand, a variant to which a mock gives the probability P "
        "is the true one in a share P of such mocks; how often it wins is what the data are "
        "worth. `pymcdust.judge.choice.calibrate_choice` does so for any variants and any sky; "
        "this page is what `make calibration` found.",
        f"{n_mock} mocks at each noise, with 64 pixels, 3 voxels and 5 bands, from the plane to "
        f"the poles. A variant is chosen where its probability is {DECIDED:g} or more. The last "
        "two columns are means: of the probability that mocks give to the truth, and of its "
        f"stacking weight. Chance would give each {1 / len(VARIANTS):g}.",
    ]
    for name, found in runs.items():
        sections += _of_noise(name, found)
    sections += _of_probability({name: found.choice for name, found in runs.items()})
    return "\n\n".join(sections) + "\n"


def _of_noise(name: str, found: Run) -> Iterable[str]:
    yield f"## {name[0].upper()}{name[1:]}"
    rows = [
        [
            _words(row["truth"]),
            str(row["mocks"]),
            *(f"{row[variant]}" for variant in VARIANTS),
            f"{row['undecided']}",
            f"{row['probability']:.2f}",
            f"{row['weight']:.2f}",
        ]
        for row in tabulate_choice(found.choice)
    ]
    head = ["truth", "mocks", *map(_words, VARIANTS), "undecided", "P of the truth", "its weight"]
    yield _table(head, rows)
    weight = found.choice["weight"]
    yield (
        f"Stacking weights lie between {float(weight.min()):.2f} and {float(weight.max()):.2f}, "
        f"with a standard deviation of {float(weight.std()):.2f}. All of it, sampling included, "
        f"took {found.seconds:.0f} s."
    )


def _of_probability(choices: dict[str, xr.Dataset]) -> Iterable[str]:
    yield "## Are the probabilities right?"
    together = xr.concat(
        [choice[["probability", "ln_evidence"]] for choice in choices.values()], "superpixel"
    )
    yield (
        "All mocks: how many variants that are given a probability between the two limits are the "
        "true ones, what these probabilities add up to, and the difference in units of what "
        "chance gives."
    )
    yield _table(
        ["P", "cases", "true ones expected", "found", "difference"],
        [
            [
                f"{row['low']:g} – {row['high']:g}",
                f"{row['cases']}",
                f"{row['expected']:.1f}",
                f"{row['found']:.0f}",
                f"{row['z']:+.1f}",
            ]
            for row in tabulate_probability(together)
        ],
    )
    worst = max(tabulate_probability(_mistaken(together)), key=lambda row: abs(row["z"]))
    yield (
        f"Were ln Z of {_words(VARIANTS[2])} too high by {MISTAKE:g}, the largest difference would "
        f"be {worst['z']:+.1f}, between {worst['low']:g} and {worst['high']:g}."
    )


def _mistaken(choice: xr.Dataset) -> xr.Dataset:
    evidence = choice["ln_evidence"].transpose("superpixel", "model").copy()
    evidence.loc[{"model": VARIANTS[2]}] += MISTAKE
    return choice.assign(probability=(evidence.dims, softmax(evidence.values, axis=1)))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def main() -> None:
    """Compare, print the page, and write it if asked to."""
    parser = argparse.ArgumentParser(description="Tell whether comparisons choose rightly.")
    parser.add_argument("--quick", action="store_true", help="few mocks, to see that it runs")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the page there")
    options = parser.parse_args()
    runs = {}
    for name, noise in NOISE.items():
        print(f"Comparing: {name}", file=sys.stderr, flush=True)
        runs[name] = run(noise, 20 if options.quick else 100)
    page = write_page(runs)
    print(page)
    if options.write:
        (options.write / "choice.md").write_text(page)


if __name__ == "__main__":
    main()
