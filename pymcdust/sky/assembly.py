"""From maps to superpixels: which pixels are valid, which voxels there are, block by block."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr

from pymcdust.errors import SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.configuration import Configuration
from pymcdust.sky.cuts import Mask, declination_of
from pymcdust.sky.dataset import build_sky
from pymcdust.sky.layers import emission_name, interval_name, variance_name
from pymcdust.sky.quality import column_correlation, condition_number, singular_values
from pymcdust.sky.smoothing import LEAST_WEIGHT, pixels_per_beam
from pymcdust.sky.stages import Stages
from pymcdust.sky.validation import BLOCK_BYTES
from pymcdust.sky.voxels import CutReason, Voxels, between, padded

_REASONS = [reason.name.lower() for reason in Mask]


class Plan(NamedTuple):
    """What a sky will hold.

    `mask` (superpixel of the whole sky, pixel) uint16 of `Mask`, 0 where valid; `covered`
    (superpixel of the whole sky) the part that is valid; `kept` (superpixel,) NESTED indices of
    those that are kept; `voxels` of each of these.
    """

    mask: np.ndarray
    covered: np.ndarray
    kept: np.ndarray
    voxels: list[Voxels]

    @property
    def n_voxel(self) -> int:
        """Voxels of the superpixel that has most."""
        return max(len(voxels.edges) for voxels in self.voxels) - 1


def plan_sky(settings: Configuration, stages: Stages) -> Plan:
    """Find the valid pixels, the superpixels that are kept, and their voxels.

    Parameters
    ----------
    settings : Configuration
        The cuts.
    stages : Stages
        With the arrays that `make_emission` and `make_reddening` leave.

    Returns
    -------
    Plan

    Raises
    ------
    SkyError
        If no superpixel is covered well enough.
    """
    shape = (12 * settings.superpixel_nside**2, -1)
    mask = _mask(settings, stages).reshape(shape)
    covered = (mask == 0).mean(axis=1)
    kept = np.flatnonzero(covered >= settings.min_coverage)
    if not kept.size:
        raise SkyError(
            f"no superpixel has {settings.min_coverage:g} of its pixels valid, the best has "
            f"{covered.max():.3g}; lower min_coverage, or check that the maps overlap"
        )
    if settings.thin and settings.beam is not None:
        per_beam = pixels_per_beam(settings.beam, settings.nside)
        mask |= _bits(Mask.THINNED) * _thinned(mask == 0, per_beam)
    n_interval = len(settings.voxels.edges) - 1
    voxels: list[Voxels] = []
    for block in _blocks(kept, mask.shape[1] * n_interval):
        reddening = _reddening(stages, block, mask.shape, n_interval)
        voxels += settings.voxels.choose(
            block, settings.superpixel_nside, reddening, mask[block] == 0
        )
    return Plan(mask, covered, kept, voxels)


def superpixels_per_chunk(plan: Plan) -> int:
    """Count the superpixels whose largest array fills a chunk of the store, at least one."""
    largest = plan.mask.shape[1] * max(plan.n_voxel, len(BANDS)) * 4
    return max(1, BLOCK_BYTES // largest)


def sky_blocks(
    settings: Configuration, stages: Stages, plan: Plan, attrs: dict[str, object], unit: str
) -> Iterator[xr.Dataset]:
    """Build the sky, block by block of superpixels.

    Parameters
    ----------
    settings : Configuration
        The cuts and the noise.
    stages : Stages
        With the arrays that `make_emission` and `make_reddening` leave.
    plan : Plan
        What the sky will hold.
    attrs : dict
        Attributes of the sky.
    unit : str
        Unit of the reddening.

    Yields
    ------
    xarray.Dataset
        Each a sky by itself, `superpixels_per_chunk` long but the last.
    """
    step = superpixels_per_chunk(plan)
    everywhere = _everywhere(plan)
    one_cut = all(np.array_equal(v.edges, plan.voxels[0].edges) for v in plan.voxels)
    for start in range(0, len(plan.kept), step):
        block, voxels = plan.kept[start : start + step], plan.voxels[start : start + step]
        sky = _block(settings, stages, plan, block, voxels, one_cut, attrs, unit)
        yield sky.merge(everywhere, join="exact", combine_attrs="override")


def _block(
    settings: Configuration,
    stages: Stages,
    plan: Plan,
    block: np.ndarray,
    voxels: list[Voxels],
    one_cut: bool,
    attrs: dict[str, object],
    unit: str,
) -> xr.Dataset:
    valid = plan.mask[block] == 0
    shape = plan.mask.shape
    emission = np.stack(
        [stages.load(emission_name(band)).reshape(shape)[block] for band in BANDS], axis=-1
    )
    sigma = settings.sigma
    told = [position for position, band in enumerate(BANDS) if settings.emission[band].variance]
    if told:
        variance = np.zeros(emission.shape, dtype=np.float32)
        for position in told:
            stored = stages.load(variance_name(BANDS[position]))
            variance[..., position] = stored.reshape(shape)[block]
        sigma = np.sqrt(settings.sigma**2 + variance).astype(np.float32)
    every = settings.voxels.edges
    edges = np.stack([padded(every[v.edges], plan.n_voxel) for v in voxels])
    n_interval = len(every) - 1
    reddening = _voxel_reddening(_reddening(stages, block, shape, n_interval), voxels, plan.n_voxel)
    sky = build_sky(
        reddening,
        emission,
        sigma,
        edges[0] if one_cut else edges,
        block,
        nside=settings.nside,
        superpixel_nside=settings.superpixel_nside,
        valid=valid,
        reddening_unit=unit,
        attrs=attrs,
    )
    if settings.n_samples:
        samples = [
            _voxel_reddening(_reddening(stages, block, shape, n_interval, k), voxels, plan.n_voxel)
            for k in range(settings.n_samples)
        ]
        sky["reddening_sample"] = (("sample", *sky.reddening.dims), np.stack(samples))
        sky.reddening_sample.attrs = {
            **sky.reddening.attrs,
            "long_name": "differential reddening of posterior samples",
        }
    return sky.assign(_quality(sky, plan, block, voxels))


def _quality(
    sky: xr.Dataset, plan: Plan, block: np.ndarray, voxels: list[Voxels]
) -> dict[str, tuple]:
    """Describe the superpixels of a block."""
    reddening, valid = sky.reddening.values, sky.valid.values
    n_voxel = np.array([len(v.edges) - 1 for v in voxels])
    singular = singular_values(reddening, valid)
    # A voxel that is padding adds a singular value of zero at the end.
    singular[np.arange(singular.shape[1]) >= n_voxel[:, np.newaxis]] = np.nan
    count = [(plan.mask[block] & _bits(reason) != 0).sum(axis=1) for reason in Mask]
    emission = sky.emission.sel(band="353").values
    flags = {
        "flag_masks": np.array([reason.value for reason in CutReason], dtype=np.uint8),
        "flag_meanings": " ".join(reason.name.lower() for reason in CutReason),
    }
    one = ("superpixel",)
    return {
        "n_voxel": (one, n_voxel, {"long_name": "voxels that are no padding"}),
        "cut_reason": (one, np.array([v.reason for v in voxels], dtype=np.uint8), flags),
        "coverage": (one, plan.covered[block], {"long_name": "valid part of the pixels"}),
        "masked": (("superpixel", "reason"), np.stack(count, axis=1).astype(np.int32)),
        "singular_value": (("superpixel", "voxel"), singular),
        "condition": (one, condition_number(singular)),
        "correlation": (one, column_correlation(reddening, emission, valid)),
    }


def _everywhere(plan: Plan) -> xr.Dataset:
    """Describe all superpixels of the sky, whether they are kept or not."""
    masked = plan.mask & ~_bits(Mask.THINNED)
    count = np.stack([(masked & _bits(reason) != 0).sum(axis=1) for reason in Mask], axis=1)
    most = np.array([_bits(reason) for reason in Mask])[count.argmax(axis=1)]
    return xr.Dataset(
        {
            "sky_coverage": ("sky_superpixel", plan.covered),
            "sky_reason": (
                "sky_superpixel",
                np.where(count.any(axis=1), most, np.uint16(0)),
                {"flag_values": [r.value for r in Mask], "flag_meanings": " ".join(_REASONS)},
            ),
        },
        coords={"reason": _REASONS},
    )


def _mask(settings: Configuration, stages: Stages) -> np.ndarray:
    """Find why pixels are not valid, (pixel,) uint16 of `Mask`, 0 where they are."""
    flags = stages.load("flags")
    seen = stages.load("weight") > LEAST_WEIGHT
    # A pixel that is usable itself fails only for what lies around it.
    mask = np.where(flags == 0, _bits(Mask.MASK_EDGE), flags)
    mask[seen] = 0
    names = [emission_name(band) for band in BANDS]
    names += [variance_name(band) for band in BANDS if settings.emission[band].variance]
    for name in names:
        mask |= _bits(Mask.NO_EMISSION) * ~np.isfinite(stages.load(name))
    if settings.declination is not None:
        mask |= _bits(Mask.DECLINATION) * ~_within(settings.nside, *settings.declination)
    return mask


def _bits(reason: Mask) -> np.uint16:
    return np.uint16(reason.value)


def _within(nside: int, south: float, north: float) -> np.ndarray:
    """Tell which pixels of a Galactic NESTED map lie between two declinations [deg]."""
    inside = np.empty(12 * nside**2, dtype=bool)
    step = 2**20
    for start in range(0, len(inside), step):
        pixel = np.arange(start, min(start + step, len(inside)))
        declination = declination_of(nside, pixel)
        inside[pixel] = (declination >= south) & (declination <= north)
    return inside


def _thinned(valid: np.ndarray, per_beam: float) -> np.ndarray:
    """Find the valid pixels that go, so that one is left in each block at least a beam large."""
    length = 1
    while length < per_beam and length < valid.shape[1]:
        length *= 4
    blocks = valid.reshape(-1, length)
    goes = blocks.copy()
    goes[np.arange(len(goes)), blocks.argmax(axis=1)] = False
    return goes.reshape(valid.shape)


def _blocks(superpixels: np.ndarray, values_each: int) -> Iterator[np.ndarray]:
    step = max(1, BLOCK_BYTES // (4 * values_each))
    for start in range(0, len(superpixels), step):
        yield superpixels[start : start + step]


def _reddening(
    stages: Stages,
    block: np.ndarray,
    shape: tuple[int, ...],
    n_interval: int,
    sample: int | None = None,
) -> np.ndarray:
    """Return the reddening of a block of superpixels, (superpixel, pixel, interval)."""
    maps = (stages.load(interval_name(i, sample)) for i in range(n_interval))
    return np.stack([one.reshape(shape)[block] for one in maps], axis=-1)


def _voxel_reddening(reddening: np.ndarray, voxels: list[Voxels], n_voxel: int) -> np.ndarray:
    out = np.zeros((*reddening.shape[:2], n_voxel), dtype=np.float32)
    for i, one in enumerate(voxels):
        out[i, :, : len(one.edges) - 1] = between(reddening[i], one.edges)
    return out
