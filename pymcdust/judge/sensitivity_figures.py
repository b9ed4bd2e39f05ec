"""Figures of what the prior does: which number moves what, along a sightline, and over the sky."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from pymcdust.errors import ResultError, listing, unknown
from pymcdust.infer.posterior import model_of
from pymcdust.judge.figures import CHAINS, STYLE
from pymcdust.judge.sensitivity import DOMINATED_WIDTH
from pymcdust.products.panels import (
    distance_ranges,
    draw_panel,
    new_figure,
    panel_groups,
    sky_image_of,
    stripes,
)
from pymcdust.products.scales import Scale
from pymcdust.products.sightline import NEAREST

#: Bars to lower and to higher values of a number (Okabe & Ito).
LOWER, HIGHER = "#0072B2", "#E69F00"

#: Bars of at least this share of the axis have their value written at the end.
LEAST_LABELLED = 0.02

_SYMBOLS = {
    "temperature": "$T$",
    "beta": r"$\beta$",
    "rho": r"$\rho$",
    "offset": "$O$",
    "mu": r"$\mu$",
    "sigma": r"$\sigma$",
    "lam": r"$\lambda$",
}

_STRIPE = "0.35"


def plot_tornado(
    result: xr.Dataset, *, superpixel: int | None = None, parameter: str = "temperature"
) -> Figure:
    """Draw how far each number of the priors moves a posterior mean.

    Parameters
    ----------
    result : Dataset
        What `PriorStudy.run` returned, with numbers that were changed one at a time.
    superpixel : int, optional
        NESTED index of a superpixel; by default the median over the superpixels.
    parameter : str, optional
        Whose mean it is.

    Returns
    -------
    Figure
        A panel for each voxel or band, with a bar for each number: from the declared prior's
        posterior mean, at zero, to those with the number's least and greatest value, which are
        written at the ends. The grey band is one posterior standard deviation to either side.

    Raises
    ------
    ResultError
        If the study has no such superpixel or parameter, or no number was changed alone.
    """
    here = _here(result, superpixel, parameter)
    numbers = [n for n in dict.fromkeys(result["varied"].values.tolist()) if n]
    if not numbers:
        raise ResultError(
            "no number of a prior was changed alone in this study; a tornado needs a study without "
            "product=True"
        )
    mean, (dims, titles) = here[f"{parameter}_mean"], _panels(here, parameter, "mean")
    shift, sd = mean - mean.isel(prior=0), here[f"{parameter}_sd"].isel(prior=0)
    if "superpixel" in shift.dims:
        shift, sd = shift.median("superpixel"), sd.median("superpixel")
    shift, sd = shift.transpose("prior", *dims).values, sd.transpose(*dims).values
    shift, sd = shift.reshape(len(shift), -1), sd.reshape(-1)
    factor, unit = _unit(here, parameter)
    shift, sd = shift * factor, sd * factor
    reach = np.abs(shift).max(axis=1)
    numbers.sort(key=lambda number: reach[result["varied"].values == number].max())
    limit = 1.45 * max(np.abs(shift).max(), 1e-12)
    columns = min(len(sd), 3)
    rows = -(-len(sd) // columns)
    with mpl.rc_context(STYLE):
        height = rows * (0.55 + 0.36 * len(numbers)) + (0.9 if columns > 1 else 1.3)
        figure = new_figure(1.2 + 2.3 * columns + (columns == 1), height)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for place, panel in enumerate(axes):
            if place >= len(sd):
                panel.axis("off")
                continue
            _bars(panel, result, numbers, shift[:, place], LEAST_LABELLED * limit)
            panel.axvspan(-sd[place], sd[place], color="0.90", linewidth=0, zorder=0)
            words = [titles[place], f"sd {sd[place]:.2g}"]
            panel.set_title(", ".join(filter(None, words)), fontsize=9)
        axes[0].set(xlim=(-limit, limit), yticks=range(len(numbers)))
        axes[0].set_yticklabels([_symbol(number, result) for number in numbers])
        axes[0].xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
        where = "median over the sky" if superpixel is None else f"superpixel {superpixel}"
        figure.supxlabel(f"shift of the mean of {_symbol(parameter)}{unit}, {where}", fontsize=10)
        handles = [
            Patch(color=LOWER, label="number below the declared one"),
            Patch(color=HIGHER, label="above"),
            Patch(color="0.90", label="one posterior standard deviation (sd)"),
        ]
        ncols = 3 if columns > 1 else 1
        figure.legend(handles=handles, loc="outside upper center", ncols=ncols, frameon=False)
    return figure


def plot_band(
    result: xr.Dataset, superpixel: int | None = None, *, parameter: str = "temperature"
) -> Figure:
    """Draw a parameter against distance, under every prior of a study.

    Parameters
    ----------
    result : Dataset
        What `PriorStudy.run` returned.
    superpixel : int, optional
        NESTED index; it can be left out where there is one superpixel only.
    parameter : str, optional
        A parameter that each voxel has for itself.

    Returns
    -------
    Figure
        The mean and the 89 % interval under the declared prior in black and grey, the means under
        the others as lines: coloured by the number that was changed, or, where numbers were changed
        together, by the first of them. What cannot be relied on is dotted.

    Raises
    ------
    ResultError
        If the study has no such superpixel or parameter, several superpixels of which none is
        chosen, or no distances.
    """
    if superpixel is None and result.sizes.get("superpixel", 1) > 1:
        first = result["superpixel"].values[0]
        raise ResultError(
            f"the study has {result.sizes['superpixel']} superpixels; a sightline is of one: "
            f"choose it by superpixel, such as superpixel={first}"
        )
    superpixel = int(result["superpixel"].values[0]) if superpixel is None else superpixel
    here = _here(result, superpixel, parameter)
    if "voxel" not in here[f"{parameter}_mean"].dims or "distance_edge" not in here:
        raise ResultError(
            f"{parameter} has no voxels with distances to be drawn against; plot_tornado shows "
            "what the priors make of it"
        )
    edge = here["distance_edge"].values
    steps = np.maximum(edge, min(NEAREST, edge[1] / 2))
    factor, unit = _unit(here, parameter)
    mean, low, high = (
        factor * here[f"{parameter}_{key}"].transpose("prior", "voxel").values
        for key in ("mean", "low", "high")
    )
    colours, handles, scale = _line_colours(result)
    with mpl.rc_context(STYLE):
        figure = new_figure(6.2, 3.8)
        axes = figure.add_subplot()
        band = {"baseline": low[0], "fill": True, "color": "0.86", "linewidth": 0}
        axes.stairs(high[0], steps, **band)
        reliable = here["reliable"].values
        axes.stairs(mean[0], steps, baseline=None, color="black", linewidth=2.8)
        for prior in range(1, len(mean)):
            style = "-" if reliable[prior] else ":"
            line = {"baseline": None, "color": colours[prior], "linewidth": 1.1, "alpha": 0.85}
            axes.stairs(mean[prior], steps, linestyle=style, **line)
        label = f"{parameter.replace('_', ' ')} {_symbol(parameter)}{unit}"
        axes.set(xscale="log", xlim=(steps[0], steps[-1]), xlabel="distance [kpc]", ylabel=label)
        axes.set_title(f"superpixel {superpixel}, {len(mean)} priors", fontsize=10)
        bottom, top = min(low[0].min(), mean.min()), max(high[0].max(), mean.max())
        axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        handles = [
            Line2D([], [], color="black", linewidth=2.8, label="declared prior"),
            Patch(color="0.86", label="its 89 % interval"),
            *handles,
        ]
        if not reliable.all():
            handles.append(Line2D([], [], color="0.3", linestyle=":", label="not reliable"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        if scale is not None:
            bar = figure.colorbar(ScalarMappable(*scale[1:]), ax=axes, pad=0.02, aspect=25)
            bar.set_label(scale[0])
            bar.outline.set_linewidth(0.5)
    return figure


def plot_prior_dominated(sensitivity: xr.Dataset, parameter: str = "temperature") -> Figure:
    """Draw how wide the posterior is in units of the prior, in every voxel.

    Parameters
    ----------
    sensitivity : Dataset
        What `pymcdust.judge.sensitivity.sensitivity` returned.
    parameter : str, optional
        Whose width it is.

    Returns
    -------
    Figure
        A map for each voxel or band. Where the prior dominates the map is striped: what is shown
        there of the parameter is the prior rather than the data.

    Raises
    ------
    ResultError
        If there is no such parameter, or it is not one of superpixels.
    """
    _require(sensitivity, parameter, "width")
    width, (dims, titles) = (
        sensitivity[f"{parameter}_width"],
        _panels(sensitivity, parameter, "width"),
    )
    if "superpixel" not in width.dims:
        raise ResultError(f"{parameter} is one of the whole sky: there is no map of it")
    values, dominated = (
        sensitivity[f"{parameter}_{key}"]
        .transpose(*dims, "superpixel")
        .values.reshape(-1, width.sizes["superpixel"])
        for key in ("width", "prior_dominated")
    )
    sky_image = sky_image_of(sensitivity)
    extend = "max" if values.max() > 1 else "neither"
    scale = Scale(mpl.colormaps["viridis_r"].with_extremes(bad="0.88"), Normalize(0, 1), extend)
    figure, (axes,) = panel_groups([len(values)], sky_image)
    for panel, row, where, title in zip(axes, values, dominated, titles, strict=True):
        overlay = stripes(sky_image.sample(where), ("white", _STRIPE))
        # Between the stripes the width is seen.
        overlay[..., 3] *= 0.55 * (overlay[..., 0] < 0.9)
        draw_panel(panel, sky_image, row, scale, [overlay])
        share = f"{100 * where.mean():.0f} % prior"
        panel.set_title(f"{title}: {share}" if title else share, fontsize=8)
    label = f"posterior over prior width of {_symbol(parameter)} (prior quantiles)"
    scale.bar(figure, list(axes), label, vertical=False)
    text = f"prior-dominated: width above {DOMINATED_WIDTH:.2g}, or the likelihood does not matter"
    style: dict[str, Any] = {"facecolor": "white", "edgecolor": _STRIPE, "linewidth": 0}
    patch = Patch(hatch="//////", label=text, **style)
    figure.legend(handles=[patch], loc="outside lower center", fontsize=7.5, frameon=False)
    return figure


def _bars(
    panel: Axes, result: xr.Dataset, numbers: list[str], shift: np.ndarray, least: float
) -> None:
    """Draw bars for the least and greatest value of each number, labelled from `least` on."""
    varied = result["varied"].values
    for place, number in enumerate(numbers):
        given = result[number.replace(".", "_")].values
        declared = given[0]
        for colour, side in ((LOWER, given < declared), (HIGHER, given > declared)):
            of_number = np.flatnonzero((varied == number) & side)
            if not len(of_number):
                continue
            # The value that lies farthest from the declared one.
            end = of_number[np.argmax(np.abs(given[of_number] - declared))]
            level = place + (0.2 if colour == HIGHER else -0.2)
            panel.barh(level, shift[end], color=colour, height=0.38)
            if abs(shift[end]) < least:
                continue
            outwards = 1 if shift[end] > 0 else -1
            panel.annotate(
                f"{given[end]:.3g}",
                (shift[end], level),
                (3 * outwards, 0),
                textcoords="offset points",
                ha="left" if outwards > 0 else "right",
                va="center",
                fontsize=7,
            )
    panel.axvline(0, color="0.2", linewidth=0.8)


def _line_colours(
    result: xr.Dataset,
) -> tuple[list[Any], list[Line2D], tuple[str, Normalize, Any] | None]:
    """Return the colours of the priors, and what explains them: a legend, or a colour scale."""
    varied = result["varied"].values
    numbers = [n for n in dict.fromkeys(varied.tolist()) if n]
    together = varied[1:] == ""
    if not together.any():
        palette = [colour for colour in CHAINS if colour != "#000000"]
        of = {number: palette[i % len(palette)] for i, number in enumerate(numbers)}
        handles = []
        for number in numbers:
            given = result[number.replace(".", "_")].values[varied == number]
            label = f"{_symbol(number, result)} = {_range(given)}"
            handles.append(Line2D([], [], color=of[number], label=label))
        return ["black", *(of[number] for number in varied[1:].tolist())], handles, None
    first, *others = (
        (".".join(str(name).rsplit("_", 1)), c.values)
        for name, c in result.coords.items()
        if c.dims == ("prior",) and name not in ("prior", "varied") and np.ptp(c.values) > 0
    )
    number, given = first
    norm, colours = Normalize(given.min(), given.max()), mpl.colormaps["viridis"]
    also = ", ".join(f"{_symbol(name, result)} {_range(values)}" for name, values in others)
    label = _symbol(number, result) + (f"  ({also})" if also else "")
    return [colours(norm(x)) for x in given], [], (label, norm, colours)


def _range(given: np.ndarray) -> str:
    low, high = f"{given.min():.3g}", f"{given.max():.3g}"
    return low if low == high else f"{low} to {high}"


def _here(result: xr.Dataset, superpixel: int | None, parameter: str) -> xr.Dataset:
    """Return the study of one superpixel, or of all."""
    _require(result, parameter, "mean")
    if superpixel is None or "superpixel" not in result.dims:
        return result
    known = result["superpixel"].values
    place = np.flatnonzero(known == superpixel)
    if not len(place):
        shown = listing(known[:5]) + (" ..." if known.size > 5 else "")
        raise ResultError(f"the study has no superpixel {superpixel}; it has {known.size}: {shown}")
    return result.isel(superpixel=int(place[0]))


def _require(dataset: xr.Dataset, parameter: str, key: str) -> None:
    suffix = f"_{key}"
    known = [str(n).removesuffix(suffix) for n in dataset.data_vars if str(n).endswith(suffix)]
    if parameter not in known:
        raise ResultError(unknown("parameter", parameter, known))


def _panels(dataset: xr.Dataset, parameter: str, key: str) -> tuple[list[str], list[str]]:
    """Return the dimension that has a panel for each of its values, if any, and their titles."""
    variable = dataset[f"{parameter}_{key}"]
    if "voxel" in variable.dims:
        numbered = [f"voxel {number}" for number in range(1, variable.sizes["voxel"] + 1)]
        return ["voxel"], distance_ranges(dataset) if "distance_edge" in dataset else numbered
    if "band" in variable.dims:
        return ["band"], [f"{name} GHz" for name in variable["band"].values]
    return [], [""]


def _unit(dataset: xr.Dataset, parameter: str) -> tuple[float, str]:
    """Return the factor by which values are shown, and the unit that they then have."""
    if parameter == "rho":
        return 1e4, r" [$10^{-4}$ mag$^{-1}$]"
    unit = dataset[f"{parameter}_mean"].attrs.get("unit", "")
    return 1.0, f" [{unit}]" if unit else ""


def _symbol(number: str, result: xr.Dataset | None = None) -> str:
    """Write a variable, or a number of its prior, as one reads it."""
    variable, _, key = number.partition(".")
    symbol = _SYMBOLS.get(variable, variable.replace("_", " "))
    if result is not None and "model_definition" in result.attrs:
        prior = model_of(result).prior_of(variable)
        # The numbers of a log-normal prior are those of the logarithm.
        symbol = rf"$\ln$ {symbol}" if prior.distribution == "LogNormal" else symbol
    return f"{_SYMBOLS.get(key, key)} of {symbol}" if key else symbol
