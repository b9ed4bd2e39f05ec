"""Fit a sky of the size of the paper's in a process of its own; run by `run.py`."""

import json
import resource
import sys
from time import perf_counter

began = perf_counter()

from phases import timed_fit  # noqa: E402
from published import published_model  # noqa: E402
from skies import mock_sky  # noqa: E402

GIGABYTE = 1e9


def main(n_superpixel: int) -> None:
    """Fit so many superpixels, and print as JSON what it took."""
    imported = perf_counter() - began
    sky = mock_sky(n_superpixel)
    fit, seconds = timed_fit(published_model(), sky)
    report = {
        "import": imported,
        **seconds,
        "converged": int(fit.converged.sum()),
        "evaluations": float(fit.iterations.mean()),
        "arrays": sum(sky[name].nbytes for name in ("reddening", "emission")) / GIGABYTE,
        # Linux counts in kilobytes.
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]))
