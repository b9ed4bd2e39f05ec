"""What is measured: against the published method, at the size of the sky, and how it grows."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from phases import timed_fit
from published import RIVALS, Objective, PowellFit, Rival, powell, published_model
from skies import NSIDE, SIMULATED, mock_sky

from pymcdust import fit_map, models
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.sky.edges import edges_from_slices

#: Pixels of a superpixel by the Nside of the pixels.
NSIDES: tuple[int, ...] = (256, 512, 1024, 2048)

#: Distance cuts that give 2, 5, 9 and 17 voxels between the same ends.
CUTS: tuple[tuple[int, int, int], ...] = ((15, 96, 80), (15, 96, 20), (15, 96, 10), (15, 96, 5))


#: Starting points from which the highest maximum is taken to be found.
MANY_STARTS: int = 12


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Parameters
    ----------
    compared : int
        Superpixels that Powell's method fits in each sky, spread over it.
    rounds : int
        Turns that the methods take; divides `compared`.
    batch : int
        Superpixels in the sky that pymcdust fits in every round.
    sky : int
        Superpixels of the large sky.
    growth : tuple of int
        Numbers of superpixels.
    nsides : tuple of int
        Nsides of the pixels.
    cuts : tuple
        Distance cuts.
    others : int
        Superpixels where something else grows.
    """

    compared: int = 128
    rounds: int = 4
    batch: int = 4096
    sky: int = 9216
    growth: tuple[int, ...] = (64, 256, 1024, 4096)
    nsides: tuple[int, ...] = NSIDES
    cuts: tuple[tuple[int, int, int], ...] = CUTS
    others: int = 512


FULL = Size()
QUICK = Size(2, 1, 8, 16, (4, 8), NSIDES[:2], CUTS[:2], 4)


@dataclass(frozen=True)
class Comparison:
    """Powell's method and pymcdust on the same superpixels, in turns.

    Parameters
    ----------
    powell : dict
        For each of `RIVALS`, the fits, lists by (round, superpixel).
    objective : (superpixel,) array
        Of pymcdust's maxima, by the function of the pixels that Powell's method minimises.
    seconds : list of dict
        Of pymcdust, for each round (see `timed_fit`).
    batch : int
        Superpixels that pymcdust fitted in every round.
    """

    powell: dict[Rival, list[list[PowellFit]]]
    objective: np.ndarray
    seconds: list[dict[str, float]]
    batch: int

    def excess(self, rival: Rival) -> np.ndarray:
        """Return how far above pymcdust's objective Powell's ends, (superpixel,)."""
        fits = [fit for fits in self.powell[rival] for fit in fits]
        return np.array([fit.objective for fit in fits]) - self.objective

    def per_superpixel(self, with_compile: bool) -> np.ndarray:
        """Return pymcdust's seconds per superpixel, (round,)."""
        left_out = [0.0 if with_compile else s["compile"] for s in self.seconds]
        return (np.array([s["whole"] for s in self.seconds]) - left_out) / self.batch

    def cores(self) -> float:
        """Return how many cores pymcdust kept busy on average."""
        return np.mean([s["processor"] / s["whole"] for s in self.seconds])

    def powell_per_superpixel(self, rival: Rival) -> np.ndarray:
        """Return the seconds per superpixel of Powell's method, (round,)."""
        return np.array([np.mean([f.seconds for f in fits]) for fits in self.powell[rival]])


def compare(size: Size, column: float | None) -> Comparison:
    """Fit the same superpixels of `mock_sky(column=column)` by both methods."""
    sky = mock_sky(size.batch, column=column)
    compared = np.arange(size.compared) * min(size.batch, SIMULATED) // size.compared
    fits: dict[Rival, list[list[PowellFit]]] = {rival: [] for rival in RIVALS}
    seconds = []
    # Every turn goes from the first to the last, so that turns differ by chance alone.
    turns = [compared[first :: size.rounds] for first in range(size.rounds)]
    for turn in turns:
        for rival, rounds in fits.items():
            rounds.append([powell(sky.isel(superpixel=s), rival) for s in turn])
        fit, spent = timed_fit(published_model(), sky)
        seconds.append(spent)
    objective = [
        _objective(sky.isel(superpixel=s), fit.isel(superpixel=s)) for s in np.concatenate(turns)
    ]
    return Comparison(fits, np.array(objective), seconds, size.batch)


def _objective(superpixel: xr.Dataset, fit: xr.Dataset) -> float:
    return Objective(superpixel)(np.array([fit.rho, fit.beta, *fit.temperature.values]))


def full_sky(size: Size) -> dict[str, dict[str, float]]:
    """Fit a large sky in new processes: with no compiled code in any cache, and with all of it."""
    script = Path(__file__).with_name("full_sky.py")
    with tempfile.TemporaryDirectory() as caches:
        environment = {
            **os.environ,
            "PYTENSOR_FLAGS": f"base_compiledir={caches}/pytensor",
            "NUMBA_CACHE_DIR": f"{caches}/numba",
        }
        return {
            cache: json.loads(
                subprocess.run(
                    [sys.executable, str(script), str(size.sky)],
                    env=environment,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout
            )
            for cache in ("cold", "warm")
        }


def growth(size: Size) -> dict[str, list[dict]]:
    """Fit skies that grow in one way at a time.

    Returns
    -------
    dict
        By what grows: its value in each sky, the seconds of every phase, and the number of
        superpixels and of parameters.
    """
    nside = size.nsides[-1] if size is QUICK else NSIDE
    published = published_model()
    table: dict[str, list[dict]] = {
        "superpixels": [_entry(n, published, mock_sky(n, nside=nside)) for n in size.growth],
        "pixels per superpixel": [],
        "voxels": [],
        "model": [],
    }
    for n in size.nsides:
        sky = mock_sky(size.others, nside=n)
        table["pixels per superpixel"].append(_entry(sky.sizes["pixel"], published, sky))
    for cuts in size.cuts:
        sky = mock_sky(size.others, nside=nside, slices=cuts)
        table["voxels"].append(_entry(len(edges_from_slices(cuts)) - 1, published, sky))
    sky = mock_sky(size.others, nside=nside)
    for name in models.available():
        model = models.load(name)()
        if not model.couples_superpixels:
            table["model"].append(_entry(f"`{name}`", model, sky))
    return table


def starts(size: Size) -> list[dict]:
    """Count the superpixels in which few starting points miss what `MANY_STARTS` find."""
    sky = mock_sky(size.batch // 4)
    table = []
    priors = {"flat beta and rho": published_model(), "the gallery's": TemperaturePerVoxel()}
    for name, model in priors.items():
        best = fit_map(model, sky, starts=MANY_STARTS).objective
        for n_start in (1, 2):
            fit = fit_map(model, sky, starts=n_start)
            short = (fit.objective - best).values
            table.append(
                {
                    "priors": name,
                    "starts": n_start,
                    "superpixels": sky.sizes["superpixel"],
                    "missed": int((short > 1e-3).sum()),
                    "most": max(0.0, float(short.max())),
                    "evaluations": float(fit.iterations.mean()),
                }
            )
    return table


def _entry(value: object, model: object, sky: xr.Dataset) -> dict:
    fit, seconds = timed_fit(model, sky)
    return {
        "value": value,
        "seconds": seconds,
        "superpixels": sky.sizes["superpixel"],
        "parameters": model.n_free(sky.sizes["voxel"]),
        "evaluations": float(fit.iterations.mean()),
        "converged": float(fit.converged.mean()),
    }
