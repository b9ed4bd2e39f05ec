"""Measure the speed of pymcdust: ``python run.py [--quick] [--write docs/benchmarks.md]``."""

import argparse
import sys
from pathlib import Path

from measure import FULL, QUICK, compare, full_sky, growth
from page import write_page

#: How much worse than Powell's pymcdust's objective may be, relatively: rounding.
ROUNDING: float = 1e-6


def main() -> None:
    """Measure, print the page, and fail where pymcdust ended above Powell's method."""
    parser = argparse.ArgumentParser(description="Measure the speed of pymcdust.")
    parser.add_argument("--quick", action="store_true", help="everything tiny, to see that it runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    options = parser.parse_args()

    size = QUICK if options.quick else FULL
    _say("against Powell's method")
    comparison = compare(size)
    _say("the whole sky, in new processes")
    sky = full_sky(size)
    _say("growing skies")
    page = write_page(size, comparison, sky, growth(size))
    print(page)
    if options.write:
        options.write.write_text(page)
    worse = [
        f"by {-excess.min():.2g} than Powell's method with {tolerance} tolerances"
        for tolerance in comparison.powell
        if ((excess := comparison.excess(tolerance)) < -ROUNDING * comparison.objective).any()
    ]
    if worse:
        sys.exit(f"pymcdust's objective is worse {' and '.join(worse)}")


def _say(what: str) -> None:
    print(f"Measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
