"""What a report is about, and what its sections ask of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import healpy
import numpy as np
import xarray as xr

from pymcdust.judge.convergence import (
    LARGEST_RHAT,
    at_superpixel,
    parameters,
    summarise,
    worst_superpixel,
)
from pymcdust.judge.report_words import number


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Parameters
    ----------
    posterior : DataTree
        The posterior.
    diagnosis : Dataset
        What `diagnose` returned for it.
    chosen : int, optional
        NESTED index of the superpixel to look at closely, by default that of the worst.
    """

    posterior: xr.DataTree
    diagnosis: xr.Dataset
    chosen: int | None = None

    @cached_property
    def superpixel(self) -> int | None:
        """The superpixel that is looked at; None where no parameter has superpixels."""
        return worst_superpixel(self.diagnosis) if self.chosen is None else self.chosen

    @property
    def coupled(self) -> bool:
        """Whether the sky was sampled as one problem."""
        return self.diagnosis["passed"].ndim == 0

    @property
    def n_superpixel(self) -> int:
        """Number of superpixels."""
        return self.diagnosis.sizes.get("superpixel", 1)

    @cached_property
    def here(self) -> tuple[xr.Dataset, xr.Dataset]:
        """Draws and diagnosis of the superpixel that is looked at."""
        draws, diagnosis = at_superpixel(self.posterior, self.superpixel, self.diagnosis)
        return draws.load(), diagnosis

    @cached_property
    def stats(self) -> xr.Dataset:
        """Statistics of the sampler in the superpixel that is looked at."""
        stats = self.posterior["sample_stats"].dataset
        if "superpixel" in stats.dims:
            position = np.flatnonzero(self.diagnosis["superpixel"].values == self.superpixel)[0]
            stats = stats.isel(superpixel=int(position))
        return stats.load()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The summary of the superpixel that is looked at."""
        return summarise(self.posterior, self.diagnosis, self.superpixel)

    @property
    def independent(self) -> bool:
        """Whether the draws of the superpixel that is looked at are independent."""
        return bool(self.here[1]["independent"])

    @cached_property
    def worst_rows(self) -> list[dict[str, Any]]:
        """The rows of the summary, the worst first."""
        least = self.diagnosis.attrs["least_ess"]
        return sorted(self.rows, key=lambda row: -badness(row, least))


def position(subject: Subject, superpixel: int | None) -> str:
    """Name a superpixel, with where it lies."""
    nside = subject.posterior.attrs.get("superpixel_nside")
    if superpixel is None:
        return "the sky"
    if nside is None:
        return f"superpixel {superpixel}"
    l, b = healpy.pix2ang(int(nside), superpixel, nest=True, lonlat=True)  # noqa: E741
    return f"superpixel {superpixel} (l = {number(float(l), 1)}°, b = {number(float(b), 1)}°)"


def values_of(diagnosis: xr.Dataset) -> Iterator[dict[str, Any]]:
    """Yield R-hat and ESS of every value that was inferred for one superpixel."""
    for name in parameters(diagnosis):
        shape = diagnosis[f"{name}_rhat"]
        for index in np.ndindex(shape.shape):
            place = dict(zip(shape.dims, index, strict=True))
            row: dict[str, Any] = {"parameter": name, "superpixel": None}
            for dim in ("voxel", "band"):
                row[dim] = diagnosis[dim].values[place[dim]] if dim in place else None
            for key in ("rhat", "ess_bulk", "ess_tail"):
                row[key] = float(diagnosis[f"{name}_{key}"].isel(place))
            yield row


def badness(row: dict[str, Any], least_ess: int) -> float:
    """Return how far R-hat or ESS of a value are beyond their thresholds: above 1 if they are."""
    ess = min(row["ess_bulk"], row["ess_tail"])
    if np.isnan(ess):
        return np.inf
    # Of independent draws there is no R-hat.
    rhat = 0.0 if np.isnan(row["rhat"]) else (row["rhat"] - 1) / (LARGEST_RHAT - 1)
    return max(rhat, least_ess / ess)


def distances_of(subject: Subject) -> dict[int, str]:
    """Return the distance range of each voxel in words, where the posterior knows them."""
    if "constant_data" not in subject.posterior.children:
        return {}
    constant = subject.posterior["constant_data"].dataset
    if "distance_edge" not in constant or "voxel" not in subject.here[0].coords:
        return {}
    edges = constant["distance_edge"]
    if "superpixel" in edges.dims:
        which = np.flatnonzero(edges["superpixel"].values == subject.superpixel)
        edges = edges.isel(superpixel=int(which[0]) if which.size else 0)
    edges = edges.values
    voxels = subject.here[0]["voxel"].values
    return {
        voxel.item(): f"{near:.3g}\u2060–\u2060{far:.3g}\u00a0kpc"
        for voxel, near, far in zip(voxels, edges[:-1], edges[1:], strict=False)
    }
