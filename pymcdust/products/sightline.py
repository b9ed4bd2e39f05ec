"""Reddening along the sightline of a superpixel, and where it is cut into voxels (Fig. 10)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import healpy
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pymcdust.errors import ResultError
from pymcdust.products.figures_reddening import reddening_label
from pymcdust.products.panels import new_figure
from pymcdust.products.reliability import voxels_in_use

#: Colours of the cuts, in turn, and of what lies between them (Okabe & Ito).
CUT_COLOURS = ("#CC79A7", "#009E73", "#56B4E9", "#E69F00")

#: A logarithmic axis begins here at the latest [kpc]: Bayestar's first slice.
NEAREST = 0.063

#: Width of the axis, and of a letter of a cloud's name, about [inch].
AXIS_WIDTH, LETTER_WIDTH = 5.6, 0.066

#: What hides the lines of other clouds behind a name, whose text stays text in vector graphics.
BEHIND_NAMES = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}

#: From one row of names to the next, in units of the height of the panel.
ROW = 0.065


def plot_sightline(
    sky: xr.Dataset,
    superpixel: int | None = None,
    *,
    cuts: Sequence[float] | None = None,
    clouds: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the reddening of every voxel along a sightline (Fig. 10, Zelko et al. 2022).

    A sky of many thin voxels shows where the clouds are, and so where to cut.

    Parameters
    ----------
    sky : Dataset
        A sky, or its reddening half as `mock_reddening` returns it.
    superpixel : int, optional
        NESTED index; it can be left out where the sky has one superpixel only.
    cuts : sequence of float, optional
        Distance edges [kpc] of the voxels of a fit, from 0 on, which are shaded.
    clouds : mapping of str to float, optional
        Distances [kpc] of known clouds by their names, marked by lines.

    Returns
    -------
    Figure
        The mean over the superpixel's valid pixels as steps, and the range of the middle 68 % of
        its pixels as a band.

    Raises
    ------
    ResultError
        If the sky has no such superpixel, several and none is chosen, or no valid pixel there;
        cuts do not increase, or a cloud lies beyond what is drawn.

    Examples
    --------
    >>> from pymcdust.sky.morphology import mock_reddening
    >>> sky = mock_reddening(nside=64, superpixel_nside=8, superpixels=[369])
    >>> figure = plot_sightline(sky, cuts=[0, 0.3, 3])
    """
    row, number = _row(sky, superpixel)
    in_use = voxels_in_use(sky)
    used = np.flatnonzero(in_use.isel(superpixel=row, missing_dims="ignore").values)
    here = sky["reddening"].isel(superpixel=row, voxel=used)
    reddening = here.transpose("voxel", "pixel").values
    valid = np.isfinite(reddening).all(axis=0)
    if "valid" in sky:
        here = sky["valid"].isel(superpixel=row)
        valid &= (here.any("band") if "band" in here.dims else here).values
    if not valid.any():
        raise ResultError(f"superpixel {number} of the sky has no valid pixel to show")
    edge = sky["distance_edge"]
    edge = edge.isel(superpixel=row, missing_dims="ignore").values[: len(used) + 1]
    shown = reddening[:, valid]
    low, high = np.quantile(shown, [0.16, 0.84], axis=1)
    mean = shown.mean(axis=1)

    # The first voxel begins at the observer, for whom a logarithm has no place.
    start = min(NEAREST, edge[1] / 2)
    steps = np.maximum(edge, start)
    figure = new_figure(6.5, 3.4)
    axes = figure.add_subplot()
    style = {"baseline": low, "fill": True, "color": "0.25", "alpha": 0.25, "linewidth": 0}
    axes.stairs(high, steps, label="68 % of the pixels", **style)
    axes.stairs(mean, steps, color="black", linewidth=1.2, label="mean")
    for (near, far), colour in zip(_cuts(cuts), CUT_COLOURS * len(_cuts(cuts)), strict=False):
        text = f"cut {near:.3g}–{far:.3g} kpc"
        axes.axvspan(max(near, start), far, color=colour, alpha=0.22, linewidth=0, label=text)
    names = _names(clouds or {}, start, edge[-1])
    for name in names:
        axes.axvline(name.distance, color="#D55E00", linestyle="--", linewidth=1.0)
        place = name.distance * (0.98 if name.left else 1.02), 0.97 - ROW * name.row
        style = {"ha": "right" if name.left else "left", "va": "top", "fontsize": 8}
        style |= {"color": "#A34700", "bbox": BEHIND_NAMES, "clip_on": True}
        axes.text(*place, name.text, transform=axes.get_xaxis_transform(), **style)
    rows = max((name.row for name in names), default=0)
    top = (1.25 + 1.5 * ROW * rows) * max(high.max(), mean.max()) or 1.0
    label = reddening_label(sky.attrs["reddening_unit"])
    nside = int(sky.attrs["superpixel_nside"])
    longitude, latitude = healpy.pix2ang(nside, number, nest=True, lonlat=True)
    place = f"Nside {nside}, $l$ = {longitude:.2f}°, $b$ = {latitude:.2f}°".replace("-", "−")
    axes.set(
        xscale="log",
        xlim=(start, edge[-1]),
        ylim=(min(0.0, low.min()), top),
        xlabel="distance [kpc]",
        ylabel=f"{label} in each voxel",
        title=f"superpixel {number} ({place}), {len(mean)} voxel{'s' * (len(mean) > 1)}",
    )
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_fontsize(9)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    return figure


class _Name(NamedTuple):
    """Where the name of a cloud stands: its row from the top, and whether left of its line."""

    text: str
    distance: float
    row: int
    left: bool


def _names(clouds: Mapping[str, float], start: float, end: float) -> list[_Name]:
    """Return where names stand so that none covers another, on an axis from start to end [kpc]."""
    for text, distance in clouds.items():
        if not start <= distance <= end:
            raise ResultError(
                f"the cloud {text!r} is at {distance:g} kpc; the sightline is drawn from "
                f"{start:.3g} to {end:.3g} kpc: give the distance [kpc] of a cloud in it"
            )
    letter = LETTER_WIDTH * np.log10(end / start) / AXIS_WIDTH
    names: list[_Name] = []
    taken: list[float] = []  # where the last name of each row ends
    for text, distance in sorted(clouds.items(), key=lambda item: item[1]):
        place, length = np.log10(distance), (len(text) + 1) * letter
        left = bool(place + length > np.log10(end))
        first = place - length if left else place
        row = next((row for row, last in enumerate(taken) if last < first), len(taken))
        taken[row : row + 1] = [first + length]
        names.append(_Name(text, distance, row, left))
    return names


def _row(sky: xr.Dataset, superpixel: int | None) -> tuple[int, int]:
    """Return position and index of the superpixel to draw."""
    present = np.atleast_1d(sky["superpixel"].values)
    if superpixel is None:
        if len(present) > 1:
            raise ResultError(
                f"the sky has {len(present)} superpixels; a sightline is of one: choose it by "
                f"superpixel, such as superpixel={present[0]}"
            )
        return 0, int(present[0])
    if superpixel not in present:
        nearest = present[np.argmin(np.abs(present - superpixel))]
        raise ResultError(
            f"the sky has no superpixel {superpixel}; its {len(present)} superpixels (NESTED, "
            f"Nside {sky.attrs['superpixel_nside']}) lie between {present.min()} and "
            f"{present.max()}, the nearest index is {nearest}"
        )
    return int(np.flatnonzero(present == superpixel)[0]), int(superpixel)


def _cuts(cuts: Sequence[float] | None) -> list[tuple[float, float]]:
    """Return near and far end of each cut."""
    if cuts is None:
        return []
    ends = np.asarray(cuts, dtype=float)
    if ends.ndim != 1 or len(ends) < 2 or not (np.diff(ends) > 0).all() or ends[0] < 0:
        raise ResultError(
            f"cuts are {list(cuts)}; allowed are two or more distances [kpc] that increase from 0"
        )
    return list(pairwise(ends.tolist()))
