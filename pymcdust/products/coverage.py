"""Where a fit or a sky is valid, as a Multi-Order Coverage map (MOC) of the IVOA."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import healpy
import numpy as np
import xarray as xr
from astropy.coordinates import CartesianRepresentation, SkyCoord

from pymcdust.errors import ConfigurationError, ResultError, unknown
from pymcdust.products.provenance import provenance_cards
from pymcdust.products.reconstruction import match, require
from pymcdust.products.reliability import flag_bits
from pymcdust.products.staging import staged

if TYPE_CHECKING:
    from mocpy import MOC

#: Flags that tell of a voxel, not of the fit as a whole.
TOLERATED = ("voxel_without_dust",)

#: Orders of HEALPix by which the smallest cells are finer than superpixels, and than pixels: the
#: border of a mask of pixels is long, and its shape of less interest.
FINER_THAN_SUPERPIXELS, FINER_THAN_PIXELS = 3, 1

#: Orders by which the cells that are looked at are finer than the pixels that settle them. A cell
#: whose centre lies in a pixel then ends inside of that pixel or a neighbour: its radius is at most
#: 0.27, the narrowest neighbour 0.48 wide, in units of the square root of the pixel's area.
MARGIN = 2

#: The largest order of HEALPix that a MOC may have.
LARGEST_ORDER = 29

#: Names of the files: where the fit is valid, and where the data are.
FILES = ("fit.moc.fits", "data.moc.fits")


def export_mocs(
    fit: xr.Dataset, sky: xr.Dataset, folder: str | Path, overwrite: bool = False
) -> list[Path]:
    """Write where the fit (``fit.moc.fits``) and the data (``data.moc.fits``) are valid.

    The files are MOCs as `validity_moc` makes them, with the provenance in their headers.

    Parameters
    ----------
    fit : Dataset
        The fit; it may cover a part of the sky.
    sky : Dataset
        The sky that was fitted.
    folder : path
        Folder for the files, made where it is missing.
    overwrite : bool
        Whether files of an earlier export may be replaced.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ResultError
        If the fit lacks a variable, or fit and sky do not belong together.
    ConfigurationError
        If mocpy is missing; if `folder` holds such files already and `overwrite` is false.
    """
    match(fit, sky)
    mocs = [validity_moc(fit), validity_moc(sky)]
    folder = Path(folder)
    with staged(folder, FILES, overwrite) as unfinished:
        for name, moc, source in zip(FILES, mocs, (fit, sky), strict=True):
            cards = provenance_cards(source.attrs)
            keywords = {card.keyword: (card.value, card.comment) for card in cards.cards}
            moc.save(unfinished / name, format="fits", fits_keywords=keywords)
    return [folder / name for name in FILES]


def validity_moc(
    data: xr.Dataset, max_order: int | None = None, tolerate: Sequence[str] = TOLERATED
) -> "MOC":
    """Return the part of the sky in which a fit, or a sky, is valid.

    A MOC is in equatorial coordinates (ICRS) by its standard, while the pixels are Galactic: no
    pixel of the one is a pixel of the other. A cell of the MOC is one whose centre lies in a valid
    pixel. Area is kept on average, and the MOC is exact but for cells of `max_order` that the
    border of a valid pixel crosses: a direction further from all borders than
    ``healpy.max_pixrad(2**max_order)`` is told rightly.

    Parameters
    ----------
    data : Dataset
        A fit: valid is a superpixel that has converged and has no flag but those tolerated. Or a
        sky: valid is a pixel that has weight in any band.
    max_order : int, optional
        Order of the smallest cells; by default they are an eighth as wide as the superpixels of a
        fit, and half as wide as the pixels of a sky.
    tolerate : sequence of str
        Flags of a fit that do not make it invalid; by default those of a single voxel. A fit with
        voxels that are padding has them everywhere.

    Returns
    -------
    mocpy.MOC
        The coverage.

    Raises
    ------
    ResultError
        If `data` is neither a fit nor a sky, or not Galactic and NESTED.
    ConfigurationError
        If mocpy is missing, `max_order` is impossible, or a flag unknown.

    References
    ----------
    IVOA Recommendation MOC 2.0, 2022: MOCs of the sky are in ICRS and in no other frame.
    """
    moc_class = load_mocpy()
    valid, nside = _valid_pixels(data, tolerate)
    order = nside.bit_length() - 1
    if max_order is None:
        finer = FINER_THAN_PIXELS if "valid" in data else FINER_THAN_SUPERPIXELS
        largest = min(order + finer, LARGEST_ORDER)
    elif order <= max_order <= LARGEST_ORDER:
        largest = max_order
    else:
        raise ConfigurationError(
            f"max_order is {max_order}; allowed are {order}, the order of the pixels, "
            f"to {LARGEST_ORDER}"
        )
    ids, orders = [], []
    for cells, at_order in _icrs_cells(valid, order, largest):
        ids.append(cells)
        orders.append(np.full(cells.size, at_order, np.uint8))
    return moc_class.from_healpix_cells(
        np.concatenate(ids).astype(np.uint64), np.concatenate(orders), largest
    )


def load_mocpy() -> type["MOC"]:
    """Return the class of mocpy's coverages, or raise a ConfigurationError if it is missing."""
    try:
        from mocpy import MOC
    except ImportError as error:
        raise ConfigurationError(
            "a MOC needs the package mocpy: pip install 'pymcdust[exchange]'"
        ) from error
    return MOC


def _valid_pixels(data: xr.Dataset, tolerate: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return whether each pixel of the whole sky is valid, and the Nside of the pixels."""
    if (data.attrs.get("ordering"), data.attrs.get("frame")) != ("nested", "galactic"):
        raise ResultError(
            f"ordering and frame are {data.attrs.get('ordering')!r} and "
            f"{data.attrs.get('frame')!r}; needed are 'nested' and 'galactic'"
        )
    superpixels = data["superpixel"].values.astype(np.int64)
    if "valid" in data:
        nside = int(data.attrs["nside"])
        valid = data["valid"].transpose("superpixel", "pixel", ...).values
        valid = valid.reshape(*valid.shape[:2], -1).any(axis=2)
        pixels = superpixels[:, None] * valid.shape[1] + np.arange(valid.shape[1])
    else:
        require(data, ["converged", "flag"])
        nside, pixels = int(data.attrs["superpixel_nside"]), superpixels
        tolerated = _tolerated_bits(flag_bits(data), tolerate)
        flag = data["flag"].values.astype(np.int64)
        valid = data["converged"].values.astype(bool) & (flag & ~tolerated == 0)
    whole = np.zeros(healpy.nside2npix(nside), bool)
    whole[pixels] = valid
    return whole, nside


def _tolerated_bits(bits: dict[str, int], names: Sequence[str]) -> int:
    """Return the bits of flags that are given by name, together."""
    for name in names:
        # The default must serve fits of models that know no such flag.
        if name not in bits and name not in TOLERATED:
            raise ConfigurationError(unknown("flag", name, bits))
    return sum(bits.get(name, 0) for name in set(names))


def _icrs_cells(valid: np.ndarray, order: int, largest: int) -> Iterator[tuple[np.ndarray, int]]:
    """Find the ICRS cells whose centres lie in valid Galactic pixels, the largest that will do.

    A cell is settled where the Galactic pixel around its centre, `MARGIN` orders coarser, and all
    its neighbours are wholly valid, or wholly not; the others are cut in four. Work and memory go
    with the length of the border.

    Parameters
    ----------
    valid : (pixel,) array of bool
        The whole sky, NESTED, Galactic.
    order : int
        Order of its pixels.
    largest : int
        Order of the smallest cells.

    Yields
    ------
    cells : (cell,) array of int
        NESTED indices.
    at_order : int
        Their order.
    """
    to_galactic = _icrs_to_galactic()
    full = [valid.reshape(12 * 4**level, -1).all(axis=1) for level in range(order + 1)]
    void = [~valid.reshape(12 * 4**level, -1).any(axis=1) for level in range(order + 1)]
    first = min(MARGIN, largest)
    for start in range(12 * 4**first):
        # One by one, so that a border that is everywhere need not fit into memory.
        cells = np.array([start])
        for at_order in range(first, largest + 1):
            centre = to_galactic @ np.array(healpy.pix2vec(2**at_order, cells, nest=True))
            if at_order == largest:
                yield cells[valid[healpy.vec2pix(2**order, *centre, nest=True)]], at_order
                break
            level = at_order - MARGIN
            pixel = healpy.vec2pix(2**level, *centre, nest=True)
            around = np.vstack([pixel, healpy.get_all_neighbours(2**level, pixel, nest=True)])
            around = np.where(around < 0, pixel, around)  # Some pixels have 7 neighbours.
            if level > order:
                around //= 4 ** (level - order)  # A part of a pixel is as valid as the whole.
            inside = full[min(level, order)][around].all(axis=0)
            outside = void[min(level, order)][around].all(axis=0)
            yield cells[inside], at_order
            cells = (4 * cells[~(inside | outside), None] + np.arange(4)).ravel()
            if not cells.size:
                break


def _icrs_to_galactic() -> np.ndarray:
    """Return the matrix that turns ICRS into Galactic vectors."""
    axes = SkyCoord(CartesianRepresentation(np.eye(3)), frame="icrs")
    return axes.galactic.cartesian.xyz.value
