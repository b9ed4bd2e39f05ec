"""Where the time of a fit goes."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any
from unittest.mock import patch

import xarray as xr

from pymcdust.infer import engine, fit

#: The parts of a fit: where each is called from, and by which name.
PHASES: dict[str, tuple[Any, str]] = {
    "validation": (engine, "validate_sky"),
    "compression": (engine, "compress"),
    "compile": (engine, "CompiledPosterior"),
    "iterations": (fit, "find_maximum"),
    "covariance": (fit, "laplace_approximation"),
}


def timed_fit(model: Any, sky: xr.Dataset) -> tuple[xr.Dataset, dict[str, float]]:
    """Fit a sky, and say how long it took.

    Returns
    -------
    fit : xarray.Dataset
        The fit.
    seconds : dict
        Of each of `PHASES`, of the `rest`, and of the `whole`; and of `processor` time: that of
        all threads, and of processes that have ended.
    """
    seconds = dict.fromkeys(PHASES, 0.0)
    with _measured(seconds):
        began, before = perf_counter(), _processor_time()
        result = engine.fit_map(model, sky)
        whole, processor = perf_counter() - began, _processor_time() - before
    rest = whole - sum(seconds.values())
    return result, {**seconds, "rest": rest, "whole": whole, "processor": processor}


def _processor_time() -> float:
    return sum(os.times()[:4])


@contextmanager
def _measured(seconds: dict[str, float]) -> Iterator[None]:
    with ExitStack() as stack:
        for phase, (module, name) in PHASES.items():
            function = _adding(seconds, phase, getattr(module, name))
            stack.enter_context(patch.object(module, name, function))
        yield


def _adding(seconds: dict[str, float], phase: str, function: Callable) -> Callable:
    @functools.wraps(function, updated=())
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[phase] += perf_counter() - began

    return timed
