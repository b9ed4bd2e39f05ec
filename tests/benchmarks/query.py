"""Measure queries: ``python query.py [--quick] [--write FILE]``."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord
from page import machine

from pymcdust.physics.bands import BANDS, FREQUENCY, PAPER_SIGMA
from pymcdust.products.query import DustTemperatureQuery
from pymcdust.sky.edges import edges_from_slices

#: Distance cuts that give 9 and 17 voxels between the same ends.
CUTS = {"9 voxels": (15, 96, 10), "17 voxels": (15, 96, 5)}

#: Part of the sky's superpixels that is fitted, as in Bayestar19.
COVERED = 0.75

#: How often everything is measured; the least time counts, as others' work only adds to it.
ROUNDS = 3


def random_result(superpixel_nside: int, edges: np.ndarray) -> tuple[xr.Dataset, xr.Dataset]:
    """Return a fit of random numbers, and its sky: how fast a query is does not depend on them."""
    rng = np.random.default_rng(0)
    n_superpixel, n_voxel = int(COVERED * 12 * superpixel_nside**2), len(edges) - 1
    shape = (n_superpixel, n_voxel)
    pixels = (n_superpixel, 4)
    sky = xr.Dataset(
        {
            "reddening": (
                ("superpixel", "pixel", "voxel"),
                rng.random((*pixels, n_voxel), dtype=np.float32),
            ),
            "emission": (
                ("superpixel", "pixel", "band"),
                rng.random((*pixels, len(BANDS)), dtype=np.float32),
            ),
            "sigma": ("band", list(PAPER_SIGMA.values())),
            "valid": (("superpixel", "pixel"), np.ones(pixels, dtype=bool)),
            "distance_edge": ("voxel_edge", edges),
        },
        coords={
            "superpixel": np.arange(n_superpixel),
            "band": list(BANDS),
            "frequency": ("band", list(FREQUENCY.values())),
        },
        attrs={
            "nside": 2 * superpixel_nside,
            "superpixel_nside": superpixel_nside,
            "ordering": "nested",
            "frame": "galactic",
            "reddening_unit": "bayestar2019",
        },
    )
    per_voxel = {"tying": "per_voxel", "prior_sd": 9.0}
    shared = {"tying": "per_superpixel"}
    fit = xr.Dataset(
        {
            "temperature": (("superpixel", "voxel"), rng.uniform(15, 22, shape), per_voxel),
            "temperature_sd": (("superpixel", "voxel"), rng.uniform(0, 9, shape)),
            "beta": ("superpixel", rng.uniform(1.4, 1.8, n_superpixel), shared),
            "rho": ("superpixel", rng.uniform(5e-5, 2e-4, n_superpixel), shared),
            "offset": ((), 0.0, {"tying": "fixed"}),
            "converged": ("superpixel", np.ones(n_superpixel, dtype=bool)),
            "flag": ("superpixel", np.zeros(n_superpixel, dtype=np.uint8)),
            "distance_edge": ("voxel_edge", edges),
        },
        coords={"superpixel": np.arange(n_superpixel)},
        attrs=sky.attrs,
    )
    return fit, sky


def random_places(n: int, farthest: float) -> SkyCoord:
    """Return places all over the sky, at all distances, in no order."""
    rng = np.random.default_rng(1)
    latitude = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    return SkyCoord(
        rng.uniform(0, 360, n) * u.deg,
        latitude * u.deg,
        distance=rng.uniform(0, farthest, n) * u.kpc,
        frame="galactic",
    )


def least_seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return the least seconds that a call took by the clock, and of the processors."""
    clock, processors = [], []
    for _ in range(ROUNDS):
        began, used = perf_counter(), process_time()
        call()
        clock.append(perf_counter() - began)
        processors.append(process_time() - used)
    return min(clock), min(processors)


def measure(superpixel_nside: int, cuts: str, n: int) -> list[list[str]]:
    """Time queries of a map at random places, a row for each kind."""
    edges = edges_from_slices(CUTS[cuts])
    query = DustTemperatureQuery(*random_result(superpixel_nside, edges))
    coords = random_places(n, edges[-1])
    longitude, latitude, distance = coords.l.deg, coords.b.deg, coords.distance.kpc
    equatorial, emission = coords.icrs, {"quantity": "emission", "frequency": 353.0}
    kinds: dict[str, Callable[[], object]] = {
        "temperature": lambda: query(coords),
        "temperature, flags": lambda: query(coords, return_flags=True),
        "emission": lambda: query(coords, **emission),
        "emission up to there": lambda: query(coords, cumulative=True, **emission),
        "temperature, from numbers": lambda: query.query_gal(longitude, latitude, distance),
        "temperature, ICRS": lambda: query(equatorial),
    }
    rows = []
    for kind, call in kinds.items():
        print(f"Measuring: Nside {superpixel_nside}, {cuts}, {kind}", file=sys.stderr, flush=True)
        clock, processors = least_seconds(call)
        rates = (f"{n / seconds / 1e6:.1f}" for seconds in (clock, processors))
        rows.append([f"{superpixel_nside}", cuts, kind, f"{clock:.2f}", *rates])
    return rows


def main() -> None:
    """Measure and print the page."""
    parser = argparse.ArgumentParser(description="Measure queries of a fit.")
    parser.add_argument("--quick", action="store_true", help="few points, to see that it runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    options = parser.parse_args()
    n = 10_000 if options.quick else 10_000_000
    rows = [*measure(32, "9 voxels", n), *measure(128, "17 voxels", n)]
    head = [
        "Nside",
        "voxels",
        "what",
        "seconds",
        "million points a second",
        "of processor time",
    ]
    rule = ["---", "---", "---", "---:", "---:", "---:"]
    sections = [
        "# Benchmarks of queries",
        f"What `make bench` measured: `DustTemperatureQuery` at {n:,} random directions and "
        f"distances in a map of {COVERED:.0%} of the sky, mode `map`, in one process, least of "
        f"{ROUNDS} times. Places are Galactic coordinates that exist already, but in the last two "
        "rows of each map, where astropy makes them of numbers or turns their frame.",
        machine(),
        "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows)),
    ]
    page = "\n\n".join(sections) + "\n"
    print(page)
    if options.write:
        options.write.write_text(page)


if __name__ == "__main__":
    main()
