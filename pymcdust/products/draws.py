"""The draws of one superpixel as columns, with what is marked beside them: maximum and truth."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from pymcdust.errors import ResultError, listing, unknown
from pymcdust.products.reconstruction import PARAMETERS
from pymcdust.products.reliability import voxels_in_use


class Quantity(NamedTuple):
    """One number that was inferred: a parameter, in one voxel or band if it has several.

    `place` says where in words (``"0–0.841 kpc"``, ``"353 GHz"``), empty where it has one value.
    """

    name: str
    index: tuple[Any, ...]
    place: str
    unit: str


@dataclass(frozen=True)
class Draws:
    """What is drawn of one posterior.

    Parameters
    ----------
    label : str
        What the posterior is called.
    place : str
        The superpixel, in words.
    columns : dict of Quantity to (draw,) array
        All draws of each quantity.
    maximum, truth : dict of Quantity to float
        The maximum a posteriori and the true values, where they are known.
    converged : bool
        Whether the fit that found the maximum did converge.
    own_maximum : bool
        Whether the maximum is of this posterior alone, rather than shared by all.
    """

    label: str
    place: str
    columns: dict[Quantity, np.ndarray]
    maximum: dict[Quantity, float]
    truth: dict[Quantity, float]
    converged: bool
    own_maximum: bool


def collect(
    posterior: xr.DataTree | Mapping[str, xr.DataTree],
    superpixel: int | Mapping[str, int] | None,
    variables: Sequence[str] | None,
    fit: xr.Dataset | Mapping[str, xr.Dataset] | None,
    truth: xr.Dataset | Mapping[str, Any] | None,
) -> list[Draws]:
    """Gather what a corner plot shows; its parameters, as `plot_corner` describes them.

    Returns
    -------
    list of Draws
        One for each posterior, with the same words for the same quantities.

    Raises
    ------
    ResultError
        As for `plot_corner`.
    """
    trees = dict(posterior) if _is_mapping(posterior) else {"": posterior}
    if not trees:
        raise ResultError("the mapping of posteriors is empty; give one posterior at least")
    for label, tree in trees.items():
        _check(tree, label)
    _check_labels("superpixel", superpixel, trees)
    _check_labels("fit", fit, trees)
    edges = [_edges(tree) for tree in trees.values()]
    for label, other in zip(trees, edges, strict=True):
        if other.shape != edges[0].shape or not np.allclose(other, edges[0]):
            raise ResultError(
                f"the posterior {label!r} has the distance edges {_numbers(other)} kpc, the first "
                f"{_numbers(edges[0])}; posteriors are drawn over each other in the same voxels"
            )
    known = list(dict.fromkeys(str(name) for tree in trees.values() for name in tree.posterior))
    names = _names(variables, known)
    truths = _truths(truth, known)
    samples = []
    for label, tree in trees.items():
        chosen = superpixel.get(label) if isinstance(superpixel, Mapping) else superpixel
        chosen = _superpixel(tree, chosen, label)
        own = _is_mapping(fit)
        fitted = fit.get(label) if own else fit
        columns = dict(_columns(tree, chosen, names))
        samples.append(
            Draws(
                label=label,
                place=_place(tree, chosen),
                columns=columns,
                maximum=_maximum(fitted, tree, chosen, columns),
                truth=_values(truths, chosen, columns, "the truth"),
                converged=fitted is None or _converged(fitted, chosen),
                own_maximum=own,
            )
        )
    return samples


def ordered(quantities: Iterable[Quantity]) -> list[Quantity]:
    """Return each quantity once: those of a name together, in the order of their first."""
    different = list(dict.fromkeys(quantities))
    names = list(dict.fromkeys(quantity.name for quantity in different))
    return sorted(different, key=lambda quantity: names.index(quantity.name))


def _is_mapping(given: Any) -> bool:
    """Tell labelled results from a result: data sets and trees are mappings as well."""
    return isinstance(given, Mapping) and not isinstance(given, xr.Dataset | xr.DataTree)


def _check(tree: Any, label: str) -> None:
    which = f"the posterior {label!r}" if label else "the posterior"
    if not isinstance(tree, xr.DataTree):
        raise ResultError(
            f"{which} is of type {type(tree).__name__}; allowed is an xarray.DataTree as sample "
            "and open_posterior return it, or a mapping of labels to such"
        )
    lacking = [name for name in ("posterior", "constant_data") if name not in tree.children]
    if lacking:
        raise ResultError(f"{which} has no group {listing(lacking)}; is it a posterior at all?")
    draws = tree["posterior"].dataset
    for name, variable in draws.data_vars.items():
        if not (variable.sizes.get("chain") and variable.sizes.get("draw")):
            raise ResultError(
                f"{name} of {which} has no draws; its dimensions are {dict(variable.sizes)}, and "
                "should be chain, draw and those of its tying"
            )
    if not draws.data_vars:
        raise ResultError(f"{which} has no parameters: none was free")


def _check_labels(what: str, given: Any, trees: Mapping[str, Any]) -> None:
    if not _is_mapping(given):
        return
    for label in given:
        if label not in trees:
            raise ResultError(unknown(f"label of a {what}", label, trees))


def _names(variables: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    if variables is None:
        return [name for name in PARAMETERS if name in known] + [
            n for n in known if n not in PARAMETERS
        ]
    names = [variables] if isinstance(variables, str) else list(variables)
    if not names:
        raise ResultError(f"variables is empty; allowed are {listing(known)}")
    for name in names:
        if name not in known:
            raise ResultError(unknown("variable of the posterior", name, known))
    return names


def _superpixel(tree: xr.DataTree, chosen: int | None, label: str) -> int | None:
    """Return the superpixel to draw, None where the posterior knows of none."""
    which = f"the posterior {label!r}" if label else "the posterior"
    draws = tree["posterior"].dataset
    present = np.atleast_1d(draws["superpixel"].values) if "superpixel" in draws.coords else []
    if len(present) == 0:
        return None
    if chosen is None:
        if len(present) > 1:
            raise ResultError(
                f"{which} has {len(present)} superpixels, between {min(present)} and "
                f"{max(present)}; a corner plot is of one: choose it by superpixel, such as "
                f"superpixel={present[0]}"
            )
        return int(present[0])
    if chosen not in present:
        nearest = present[np.argmin(np.abs(present - chosen))]
        raise ResultError(
            f"{which} has no superpixel {chosen}; its superpixels (NESTED, Nside "
            f"{tree.attrs.get('superpixel_nside', 'unknown')}), {len(present)} in number, lie "
            f"between {min(present)} and {max(present)}, the nearest index is {nearest}"
        )
    return int(chosen)


def _place(tree: xr.DataTree, superpixel: int | None) -> str:
    if superpixel is None:
        return "whole sky"
    nside = tree.attrs.get("superpixel_nside")
    return f"superpixel {superpixel}" + (f" (Nside {nside})" if nside else "")


def _edges(tree: xr.DataTree) -> np.ndarray:
    """Return the distance edges [kpc], those that are usual where they differ on the sky."""
    edges = tree["constant_data"]["distance_edge"]
    return (edges.median("superpixel") if "superpixel" in edges.dims else edges).values


def _numbers(values: np.ndarray) -> str:
    return listing(f"{value:.4g}" for value in values)


def _columns(
    tree: xr.DataTree, superpixel: int | None, names: Sequence[str]
) -> Iterator[tuple[Quantity, np.ndarray]]:
    """Yield the draws of every quantity of a superpixel, but for those of padding."""
    draws = tree["posterior"].dataset
    constant = tree["constant_data"].dataset
    edges = _at(constant["distance_edge"], superpixel).values
    in_use = _at(voxels_in_use(constant), superpixel).values
    padding = {("voxel", voxel) for voxel in np.flatnonzero(~in_use).tolist()}
    for name in names:
        if name not in draws:  # another posterior has it
            continue
        variable = _at(draws[name], superpixel).transpose("chain", "draw", ...)
        values = variable.values.reshape(-1, *variable.shape[2:])
        if not np.isfinite(values).all():
            raise ResultError(
                f"{name} has draws that are not finite in {_place(tree, superpixel)}; the "
                "sampler failed there: sample it again, or choose another superpixel"
            )
        dims = variable.dims[2:]
        labels = [_labels(variable, dim) for dim in dims]
        for where in np.ndindex(values.shape[1:]):
            index = tuple(
                (dim, label[i]) for dim, label, i in zip(dims, labels, where, strict=True)
            )
            if not padding.isdisjoint(index):
                continue
            words = [_words(*pair, edges) for pair in index]
            unit = variable.attrs.get("unit", "")
            yield Quantity(name, index, ", ".join(words), unit), values[:, *where]


def _at(variable: xr.DataArray, superpixel: int | None) -> xr.DataArray:
    """Return a variable in one superpixel; as it is if it is the same in all."""
    if "superpixel" not in variable.dims:
        return variable
    # Not by label, which would read lazy coordinates of a store anew.
    return variable.isel(superpixel=int(np.flatnonzero(variable["superpixel"] == superpixel)[0]))


def _labels(variable: xr.DataArray, dim: str) -> list[Any]:
    if dim in variable.coords:
        return variable[dim].values.tolist()
    return list(range(variable.sizes[dim]))


def _words(dim: str, label: Any, edges: np.ndarray) -> str:
    if dim == "voxel" and label + 1 < len(edges):
        return f"{edges[label]:.3g}–{edges[label + 1]:.3g} kpc"
    return f"{label} GHz" if dim == "band" else f"{dim} {label}"


def _truths(truth: xr.Dataset | Mapping[str, Any] | None, known: Sequence[str]) -> xr.Dataset:
    """Return the truth by the names of the parameters."""
    if truth is None:
        return xr.Dataset()
    if isinstance(truth, xr.Dataset):
        mine = {
            name: f"true_{name}"
            for name in (*PARAMETERS, *known)
            if f"true_{name}" in truth.variables
        }
        if not mine:
            raise ResultError(
                "the truth has no true_temperature and the like: only a simulated sky knows its "
                'truth; otherwise give a mapping such as {"beta": 1.6}'
            )
        return xr.Dataset({name: truth[theirs] for name, theirs in mine.items()})
    if not isinstance(truth, Mapping):
        raise ResultError(
            f"the truth is of type {type(truth).__name__}; allowed are a simulated sky, or a "
            'mapping such as {"temperature": ("voxel", [19.8, 17.2]), "beta": 1.6}'
        )
    allowed = dict.fromkeys((*PARAMETERS, *known))
    for name in truth:
        if name not in allowed:
            raise ResultError(unknown("parameter of the truth", name, allowed))
    try:
        values = xr.Dataset(dict(truth)).astype(float)
        bare = [name for name in values.dims if name in allowed]
        if bare:
            raise ValueError(f"{listing(bare)} is a list without a dimension")
        return values
    except (TypeError, ValueError) as error:
        raise ResultError(
            "the truth must map each parameter to a number, an xarray.DataArray, or a pair of "
            f'dimensions and values such as ("voxel", [17.0, 20.0]); it does not: {error}'
        ) from error


def _maximum(
    fit: xr.Dataset | None,
    tree: xr.DataTree,
    superpixel: int | None,
    quantities: Iterable[Quantity],
) -> dict[Quantity, float]:
    """Return the maximum a posteriori that a fit found for a posterior's quantities."""
    if fit is None:
        return {}
    if not isinstance(fit, xr.Dataset):
        raise ResultError(
            f"the fit is of type {type(fit).__name__}; allowed is what fit_map returns, or a "
            "mapping of the posteriors' labels to such"
        )
    nsides = [result.attrs.get("superpixel_nside") for result in (fit, tree)]
    if None not in nsides and nsides[0] != nsides[1]:
        raise ResultError(
            f"the fit has superpixels of Nside {nsides[0]}, the posterior of {nsides[1]}; where "
            "sizes differ, give a mapping of the posteriors' labels to fits"
        )
    return _values(fit, superpixel, quantities, "the fit")


def _values(
    dataset: xr.Dataset, superpixel: int | None, quantities: Iterable[Quantity], whose: str
) -> dict[Quantity, float]:
    """Return the values that a data set has for quantities, leaving out what it lacks."""
    found = {}
    for quantity in quantities:
        if quantity.name not in dataset:
            continue
        variable = dataset[quantity.name]
        if "superpixel" in variable.dims:
            if superpixel not in variable["superpixel"]:
                raise ResultError(
                    f"{whose} has no superpixel {superpixel}, which the posterior has; were they "
                    "made from the same sky?"
                )
            variable = _at(variable, superpixel)
        index = dict(quantity.index)
        # A value that varies where the posterior has one for all is no truth of it.
        if not set(variable.dims) <= set(index):
            continue
        places = {dim: _labels(variable, dim) for dim in variable.dims}
        if all(index[dim] in labels for dim, labels in places.items()):
            place = {dim: labels.index(index[dim]) for dim, labels in places.items()}
            found[quantity] = float(variable.isel(place))
    return found


def _converged(fit: xr.Dataset, superpixel: int | None) -> bool:
    return bool(_at(fit["converged"], superpixel).all()) if "converged" in fit else True
