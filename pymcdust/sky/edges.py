"""Edges that cut the sightline: from slices of a map, distances or distance moduli."""

from collections.abc import Sequence

import numpy as np

from pymcdust.errors import ConfigurationError

#: Distance modulus of Bayestar's slices: 4, 4.125 ... 18.875 mag (Green et al. 2019).
SLICE_DISTANCE_MODULUS = 4.0 + 0.125 * np.arange(120)

#: Distance beyond which there is no map [kpc]: Bayestar's last slice is at 60 kpc.
FARTHEST = 100.0


def distance(distance_modulus: np.ndarray) -> np.ndarray:
    """Convert distance moduli [mag] to distances [kpc]: d = 10^(DM / 5 - 2).

    Examples
    --------
    >>> distance(np.array([5.0, 10.0]))
    array([0.1, 1. ])
    """
    return 10.0 ** (np.asarray(distance_modulus) / 5.0 - 2.0)


def distance_modulus(distance: np.ndarray) -> np.ndarray:
    """Convert distances [kpc] to distance moduli [mag].

    Examples
    --------
    >>> distance_modulus(np.array([0.1, 1.0]))
    array([ 5., 10.])
    """
    return 5.0 * (np.log10(distance) + 2.0)


def edges_from_slices(slices: Sequence[int]) -> np.ndarray:
    """Find the distance edges that a range of Bayestar's slices stands for.

    Parameters
    ----------
    slices : (start, stop, step)
        A Python range into the 120 slices. Each slice is the far edge of a voxel; the first voxel
        runs from the observer to the first slice (Zelko et al. 2022, Sec. 3.1).

    Returns
    -------
    (voxel_edge,) array [kpc]
        Increasing; the first is 0.

    Raises
    ------
    ConfigurationError
        If the range is not three integers, is empty, or leaves the slices.

    Examples
    --------
    >>> edges_from_slices((45, 72, 26)).round(3)
    array([0.   , 0.841, 3.758])
    """
    if len(slices) != 3 or not all(type(number) is int for number in slices):
        raise ConfigurationError(
            f"slices are {list(slices)}; give three integers [start, stop, step], such as "
            "[15, 96, 10]"
        )
    start, stop, step = slices
    chosen = range(start, stop, step) if step > 0 else range(0)
    n_slices = len(SLICE_DISTANCE_MODULUS)
    if not chosen or chosen[0] < 0 or chosen[-1] >= n_slices:
        raise ConfigurationError(
            f"slices {list(slices)} are the range {list(chosen)}; it must increase, hold at least "
            f"one slice, and stay within 0 to {n_slices - 1}"
        )
    return np.concatenate([[0.0], distance(SLICE_DISTANCE_MODULUS[chosen])])


def edges_from_kpc(edges: Sequence[float], name: str = "edges_kpc") -> np.ndarray:
    """Check distance edges that are given in kpc.

    Parameters
    ----------
    edges : (voxel_edge,) sequence [kpc]
        Increasing, the first is 0.

    name : str, optional
        What they are called, for messages.

    Returns
    -------
    (voxel_edge,) array [kpc]
        The same.

    Raises
    ------
    ConfigurationError
        If they are not numbers, do not start at 0, or do not increase.

    Examples
    --------
    >>> edges_from_kpc([0, 0.3, 1])
    array([0. , 0.3, 1. ])
    """
    array = np.asarray(edges)
    if array.dtype.kind not in "iuf":
        raise ConfigurationError(f"{name} is {edges!r}; it must be a list of numbers")
    array = array.astype(float)
    if array.ndim != 1 or array.size < 2 or not np.isfinite(array).all():
        raise ConfigurationError(
            f"{name} is {edges!r}; it must hold two or more finite distances, such as [0, 0.3, 1.0]"
        )
    if array[0] != 0:
        raise ConfigurationError(
            f"{name} starts at {array[0]:g} kpc; the first edge is the observer: did you mean "
            f"{[0.0, *array.tolist()]}?"
        )
    if not (np.diff(array) > 0).all():
        raise ConfigurationError(f"{name} {array.tolist()} must increase")
    if array[-1] > FARTHEST:
        raise ConfigurationError(
            f"{name} ends at {array[-1]:g} kpc, and no map reaches beyond {FARTHEST:g} kpc: are "
            "these distances in pc?"
        )
    return array


def edges_from_modulus(edges: Sequence[float]) -> np.ndarray:
    """Turn distance moduli of the voxels' far edges into distance edges.

    Parameters
    ----------
    edges : (voxel,) sequence [mag]
        Increasing. The first voxel runs from the observer to the first of them.

    Returns
    -------
    (voxel + 1,) array [kpc]
        Increasing; the first is 0.

    Raises
    ------
    ConfigurationError
        If they are not numbers, or do not increase.

    Examples
    --------
    >>> edges_from_modulus([5, 10, 12.5]).round(2)
    array([0.  , 0.1 , 1.  , 3.16])
    """
    try:
        modulus = np.asarray(edges, dtype=float)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"edges_modulus is {edges!r}; it must be a list of numbers"
        ) from error
    if modulus.ndim != 1 or not modulus.size or not np.isfinite(modulus).all():
        raise ConfigurationError(
            f"edges_modulus is {edges!r}; it must hold one or more distance moduli, such as "
            "[7.4, 10.0]"
        )
    if not (np.diff(modulus) > 0).all() or modulus[-1] > 25:
        raise ConfigurationError(
            f"edges_modulus {modulus.tolist()} must increase, and end at 25 mag at most, which "
            "is 1 Mpc"
        )
    return np.concatenate([[0.0], distance(modulus)])
