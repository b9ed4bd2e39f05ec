"""Measure the speed of pymcdust: ``python run.py [--quick] [--write docs/benchmarks.md]``."""

import argparse
import sys
from pathlib import Path

from measure import FULL, QUICK, compare, full_sky, growth, starts
from page import write_page
from published import RIVALS

#: The skies on which pymcdust is compared with the published method, by their reddening [mag] in
#: every voxel.
SKIES: dict[str, float | None] = {
    "Dusty sightlines: 0.24 mag in every voxel": 0.24,
    "From the plane to the poles": None,
}

#: How much worse than Powell's pymcdust's objective may be, relatively: rounding.
ROUNDING: float = 1e-6


def main() -> None:
    """Measure, print the page, and fail where pymcdust ended above the published method."""
    parser = argparse.ArgumentParser(description="Measure the speed of pymcdust.")
    parser.add_argument("--quick", action="store_true", help="everything tiny, to see that it runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    options = parser.parse_args()

    size = QUICK if options.quick else FULL
    comparisons = {}
    for title, column in SKIES.items():
        _say(f"against Powell's method: {title}")
        comparisons[title] = compare(size, column)
    _say("the whole sky, in new processes")
    sky = full_sky(size)
    _say("growing skies")
    page = write_page(size, comparisons, sky, growth(size), starts(size))
    print(page)
    if options.write:
        options.write.write_text(page)
    published = RIVALS[0]
    for title, comparison in comparisons.items():
        excess = comparison.excess(published)
        if (excess < -ROUNDING * comparison.objective).any():
            sys.exit(f"{title}: worse than the published method by {-excess.min():.2g}")


def _say(what: str) -> None:
    print(f"Measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
