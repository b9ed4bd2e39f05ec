"""How mock dust is spread: clouds upon clouds, inside a thin disc.

The logarithm of the reddening is a Gaussian random field, built on the NESTED tree itself: every
pixel hands its four children a smooth value (subdivision of a biquadratic B-spline, which puts
them a quarter of a pixel from their parent's centre, where HEALPix has them), and each octave
adds fresh noise. The noise of a pixel follows from its index alone, so that a patch is exactly a
cut-out of the full sky, costs only its own pixels, and a finer Nside adds detail to the same
clouds.
"""

from collections.abc import Sequence
from numbers import Integral

import healpy
import numpy as np
import xarray as xr
from scipy.special import ndtri

from pymcdust.errors import ConfigurationError
from pymcdust.sky.edges import edges_from_kpc
from pymcdust.sky.validation import check_nside

#: Where chance enters, into mock skies and into what is inferred of them; each place has a stream
#: of numbers of its own, all from one seed.
STREAMS: dict[str, int] = {
    "reddening": 0,
    "truth": 1,
    "noise": 2,
    "draws": 3,
    "folds": 4,
    "evidence": 5,
    "priors": 6,
}

#: Pixels whose clouds are made at once, which bounds the memory.
BLOCK: int = 1 << 19

#: Mean over positions of the squared weights of a biquadratic B-spline, (11/20)^2: how much of an
#: octave's variance is left when its noise has been made smooth.
SPLINE_VARIANCE: float = (11 / 20) ** 2

#: Nside at which the field starts: no cloud is much larger than a pixel of 15 degrees, so that
#: the mean of a mock sky does not hang on a few draws.
OUTER_NSIDE: int = 4

#: The neighbours (as `healpy.get_all_neighbours` orders them: SW W NW N NE E SE S) that lend to
#: each child of a pixel: the two beyond its sides, then the one beyond its corner.
LENDERS: tuple[tuple[int, int, int], ...] = ((0, 6, 7), (4, 6, 5), (0, 2, 1), (4, 2, 3))


def mock_reddening(
    *,
    nside: int = 256,
    superpixel_nside: int = 8,
    superpixels: Sequence[int] | None = None,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
    distance_edge: Sequence[float] = (0.0, 0.3, 1.0, 3.0),
    density: float = 0.5,
    scale_height: float = 0.1,
    contrast: float = 1.0,
    slope: float = 2.8,
    seed: int = 0,
) -> xr.Dataset:
    """Make the reddening of clouds in a thin disc, different in every voxel.

    Parameters
    ----------
    nside : int, optional
        Nside of the pixels.
    superpixel_nside : int, optional
        Nside of the superpixels.
    superpixels : sequence of int, optional
        NESTED superpixels of the patch; the full sky if neither these nor a centre are given.
    center : (float, float), optional
        Galactic longitude and latitude of a round patch [deg]: all superpixels that it touches.
    radius : float, optional
        Radius of that patch [deg].
    distance_edge : sequence of float, optional
        Edges of the voxels [kpc]; the first is 0.
    density : float, optional
        Mean reddening per distance in the plane [mag/kpc]: about one hydrogen atom per cm3.
    scale_height : float, optional
        Scale height of the disc [kpc].
    contrast : float, optional
        Standard deviation of the logarithm of the reddening.
    slope : float, optional
        The logarithm's angular spectrum falls as l^-slope; more than 2.
    seed : int, optional
        The same seed gives the same clouds.

    Returns
    -------
    xarray.Dataset
        `reddening` (superpixel, pixel, voxel) [mag] and `distance_edge` (voxel_edge) [kpc], laid
        out as in a sky.

    Raises
    ------
    ConfigurationError
        If a setting is impossible or the patch is empty.
    """
    _check_nside(nside, superpixel_nside)
    edge = edges_from_kpc(distance_edge, "distance_edge")
    for name, value, bound in (
        ("density", density, 0.0),
        ("scale_height", scale_height, 0.0),
        ("slope", slope, 2.0),
    ):
        if not bound < value < np.inf:
            raise ConfigurationError(f"{name} is {value}; allowed is a number above {bound:g}")
    if not 0 <= contrast < np.inf:
        raise ConfigurationError(f"contrast is {contrast}; allowed is a number not below 0")
    superpixel = _patch(superpixel_nside, superpixels, center, radius)

    pixels, voxels = (nside // superpixel_nside) ** 2, len(edge) - 1
    reddening = np.empty((len(superpixel), pixels, voxels))
    step = max(1, BLOCK // pixels)
    for first in range(0, len(superpixel), step):
        rows = slice(first, first + step)
        pixel = (superpixel[rows, None] * pixels + np.arange(pixels)).ravel()
        _, latitude = healpy.pix2ang(nside, pixel, nest=True, lonlat=True)
        column = disc_reddening(edge, latitude, density=density, scale_height=scale_height)
        column *= clouds(
            pixel,
            nside=nside,
            voxels=voxels,
            contrast=contrast,
            slope=slope,
            seed=random_stream(seed, "reddening"),
        )
        reddening[rows] = column.reshape(-1, pixels, voxels)
    return xr.Dataset(
        {
            "reddening": (("superpixel", "pixel", "voxel"), reddening, {"unit": "mag"}),
            "distance_edge": ("voxel_edge", edge, {"unit": "kpc"}),
        },
        coords={"superpixel": superpixel},
        attrs={
            "nside": nside,
            "superpixel_nside": superpixel_nside,
            "ordering": "nested",
            "frame": "galactic",
            "reddening_unit": "E(B-V)",
            "reddening_map": "mock",
            "reddening_seed": int(seed),
        },
    )


def random_stream(seed: int, name: str, *index: int) -> np.random.SeedSequence:
    """Return the seed of one stream of random numbers, independent of all others.

    Parameters
    ----------
    seed : int
        The seed of the whole sky.
    name : str
        A key of `STREAMS`.
    *index : int
        Which of the streams of that name, such as a superpixel's.

    Returns
    -------
    numpy.random.SeedSequence
        The seed of the stream.

    Raises
    ------
    ConfigurationError
        If `seed` is not an integer, or negative.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
        raise ConfigurationError(f"seed is {seed!r}; allowed is an integer not below 0")
    return np.random.SeedSequence(int(seed), spawn_key=(STREAMS[name], *map(int, index)))


def numbered_normal(key: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the standard normal number that a stream has at each index.

    SplitMix64 (Steele, Lea & Flood 2014) computes its n-th number without those before it.

    Parameters
    ----------
    key : (voxel,) uint64 array
        Where each stream starts.
    index : (pixel,) integer array
        Which numbers of each stream.

    Returns
    -------
    (pixel, voxel) array
        Independent standard normal numbers.
    """
    z = key + (index.astype(np.uint64)[:, None] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ndtri(((z >> np.uint64(11)) + 0.5) * 2.0**-53)


def gaussian_field(
    pixel: np.ndarray, *, nside: int, voxels: int, slope: float, seed: np.random.SeedSequence
) -> np.ndarray:
    """Return a smooth Gaussian random field with a power-law spectrum, independent in each voxel.

    The power law holds beyond l = 3 `OUTER_NSIDE`, and is flat before.

    Parameters
    ----------
    pixel : (pixel,) integer array
        NESTED pixels, of any part of the sky.
    nside : int
        Their Nside.
    voxels : int
        How many independent fields.
    slope : float
        C_l falls as l^-slope; more than 2.
    seed : numpy.random.SeedSequence
        What the field follows from.

    Returns
    -------
    (pixel, voxel) array
        The field. Its variance tends to 1 as Nside grows.
    """
    order = nside.bit_length() - 1
    start = min(OUTER_NSIDE.bit_length() - 1, order)
    octaves = order - start + 1
    # Each octave holds the variance of the power law, l^2 C_l; all octaves together hold 1.
    ratio = 2.0 ** (2.0 - slope)
    amplitude = np.sqrt((1 - ratio) / SPLINE_VARIANCE * ratio ** np.arange(octaves))
    keys = seed.generate_state(voxels * octaves, np.uint64).reshape(octaves, voxels)

    wanted, neighbours = [pixel], []
    for level in reversed(range(start, order)):
        parent = np.unique(wanted[-1] >> 2)
        around = healpy.get_all_neighbours(1 << level, parent, nest=True)
        # Where three base pixels meet, the one beyond the corner is missing.
        neighbours.append(np.where(around < 0, parent, around))
        wanted.append(np.unique(np.concatenate([parent, neighbours[-1].ravel()])))

    here = wanted.pop()
    field = amplitude[0] * numbered_normal(keys[0], here)
    for octave in range(1, octaves):
        below, around = wanted.pop(), neighbours.pop()
        parent, row = np.unique(below >> 2, return_inverse=True)
        middle = np.searchsorted(here, parent)[row]
        lenders = np.asarray(LENDERS).T[:, below & 3]
        side_a, side_b, corner = (np.searchsorted(here, around[which, row]) for which in lenders)
        field = (9 * field[middle] + 3 * (field[side_a] + field[side_b]) + field[corner]) / 16
        # The last octave stays smooth: a beam spans two pixels at least.
        if octave < octaves - 1:
            field += amplitude[octave] * numbered_normal(keys[octave], below)
        here = below
    return field


def clouds(
    pixel: np.ndarray,
    *,
    nside: int,
    voxels: int,
    contrast: float,
    slope: float,
    seed: np.random.SeedSequence,
) -> np.ndarray:
    """Return the log-normal of a Gaussian random field, with a mean of one.

    Parameters
    ----------
    pixel, nside, voxels, slope, seed
        As for `gaussian_field`.
    contrast : float
        Standard deviation of the logarithm.

    Returns
    -------
    (pixel, voxel) array
        Reddening over its mean; positive.
    """
    field = gaussian_field(pixel, nside=nside, voxels=voxels, slope=slope, seed=seed)
    return np.exp(contrast * field - contrast**2 / 2)


def disc_reddening(
    distance_edge: np.ndarray, latitude: np.ndarray, *, density: float, scale_height: float
) -> np.ndarray:
    """Return the mean reddening of each voxel in a thin disc seen from its middle.

    The density falls as exp(-abs(z) / scale height); looked through to its end, the disc has the
    column density x scale height x csc|b|.

    Parameters
    ----------
    distance_edge : (voxel_edge,) array
        Edges of the voxels [kpc].
    latitude : (pixel,) array
        Galactic latitude [deg].
    density : float
        Reddening per distance in the plane [mag/kpc].
    scale_height : float
        Scale height of the dust [kpc].

    Returns
    -------
    (pixel, voxel) array
        Reddening [mag].

    Examples
    --------
    >>> disc_reddening([0.0, 1.0, 3.0], [0.0], density=0.5, scale_height=0.1)
    array([[0.5, 1. ]])
    """
    edge = np.asarray(distance_edge, dtype=float)
    start, depth = edge[:-1], np.diff(edge)
    falloff = np.abs(np.sin(np.radians(latitude)))[:, None] / scale_height
    scaled = falloff * depth
    # (1 - exp(-x)) / x tends to 1 in the plane.
    share = np.divide(-np.expm1(-scaled), scaled, out=np.ones_like(scaled), where=scaled > 0)
    return density * depth * np.exp(-falloff * start) * share


def _check_nside(nside: int, superpixel_nside: int) -> None:
    """Refuse an Nside that HEALPix lacks, and superpixels smaller than pixels."""
    for name, value in (("nside", nside), ("superpixel_nside", superpixel_nside)):
        check_nside(value, name)
    if nside < superpixel_nside:
        raise ConfigurationError(
            f"nside is {nside} and superpixel_nside {superpixel_nside}: a superpixel must hold "
            "at least one pixel; did you exchange them?"
        )


def _patch(
    nside: int,
    superpixels: Sequence[int] | None,
    center: tuple[float, float] | None,
    radius: float | None,
) -> np.ndarray:
    """Return the superpixels of a list, of a round patch, or of the full sky."""
    if (center is None) != (radius is None):
        raise ConfigurationError(
            f"center is {center} and radius {radius}; a round patch needs both, in degrees"
        )
    if superpixels is not None and center is not None:
        raise ConfigurationError(
            "superpixels and center were both given; name the patch in one way only"
        )
    if center is not None:
        longitude, latitude = center
        if not (np.isfinite(longitude) and -90 <= latitude <= 90):
            raise ConfigurationError(
                f"center is {center}; allowed are a longitude and a latitude from -90 to 90 [deg]"
            )
        if not 0 < radius <= 180:
            raise ConfigurationError(
                f"radius is {radius}; allowed is an angle above 0, to 180 [deg]"
            )
        direction = healpy.ang2vec(longitude, latitude, lonlat=True)
        disc = healpy.query_disc(nside, direction, np.radians(radius), inclusive=True, nest=True)
        return np.sort(disc)
    if superpixels is None:
        return np.arange(healpy.nside2npix(nside))
    chosen = np.asarray(superpixels)
    if chosen.size == 0:
        raise ConfigurationError("the patch is empty: superpixels names none; name one at least")
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise ConfigurationError(f"superpixels is {superpixels}; allowed is a list of integers")
    outside = chosen[(chosen < 0) | (chosen >= healpy.nside2npix(nside))]
    if outside.size:
        raise ConfigurationError(
            f"superpixel {outside[0]} is out of range; at superpixel_nside {nside} allowed are "
            f"0 to {healpy.nside2npix(nside) - 1}; is it a number of another Nside?"
        )
    if len(np.unique(chosen)) < len(chosen):
        raise ConfigurationError("superpixels names a superpixel twice; name each once")
    return np.sort(chosen)
