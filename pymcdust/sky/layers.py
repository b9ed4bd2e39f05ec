"""From the surveys' files to maps of one resolution and one beam, one after the other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.physics.bands import K_CMB_TO_MJY_SR
from pymcdust.sky.configuration import Configuration
from pymcdust.sky.cuts import Mask
from pymcdust.sky.dipole import subtract_dipole
from pymcdust.sky.emission_settings import BandSettings
from pymcdust.sky.maps3d.gather import gather
from pymcdust.sky.maps3d.interface import ReddeningMap
from pymcdust.sky.smoothing import Smoother, kernel_width
from pymcdust.sky.stages import Stages
from pymcdust.sky.surveys import SurveyMap, check_band_file, check_cmb_file, read_band, read_cmb_map

#: Reasons for which a row of a reddening map is never used.
_REFUSED = Mask.NOT_CONVERGED | Mask.NO_STARS | Mask.NOT_FINITE


def emission_name(band: str) -> str:
    """Name the array of a band's emission, (pixel,) float32 [MJy/sr], NESTED."""
    return f"emission_{band}"


def variance_name(band: str) -> str:
    """Name the array of the variance of a band's emission, (pixel,) float32 [(MJy/sr)^2]."""
    return f"variance_{band}"


def interval_name(interval: int, sample: int | None = None) -> str:
    """Name the array of the reddening between two edges, of one posterior sample if given."""
    return f"reddening_{interval}" if sample is None else f"sample_{sample}_{interval}"


def check_inputs(settings: Configuration, source: ReddeningMap) -> None:
    """Check all that headers tell, before the work that would end in it.

    Parameters
    ----------
    settings : Configuration
        What to read.
    source : ReddeningMap
        The reddening map, opened.

    Raises
    ------
    FileFormatError
        If a file is not in the layout that it should have, or coarser than the sky.
    ConfigurationError
        If a map has a wider beam than the sky; if the reddening map ends before the last edge, or
        has too few samples.
    """
    _kernel(settings, source.beam)
    source.check_samples(settings.n_samples)
    source.check_edges(settings.voxels.edges)
    for band, entry in settings.emission.items():
        _kernel(settings, entry.beam)
        nside = check_band_file(entry.source, band, variance=entry.variance)
        _check_nside(settings, nside, entry.source.file)
    if (cmb := settings.cmb) is not None:
        _kernel(settings, cmb.beam)
        _check_nside(settings, check_cmb_file(cmb.file, cmb.column, cmb.unit), cmb.file)


def _check_nside(settings: Configuration, nside: int, path: Path) -> None:
    if nside < settings.nside:
        raise FileFormatError(
            f"{path}: nside {nside} is coarser than the sky's nside {settings.nside}; maps are "
            f"averaged, never refined: choose an nside of at most {nside}"
        )


def make_emission(settings: Configuration, stages: Stages, say: Callable[[str], None]) -> None:
    """Make the map of every band: dust emission at the resolution and beam of the sky.

    Parameters
    ----------
    settings : Configuration
        What to read.
    stages : Stages
        Where the arrays `emission_name`, and where asked for `variance_name`, are kept.
    say : callable
        Called with a line of text at the start of each step.

    Raises
    ------
    FileFormatError
        If a file is not in the layout that it should have, or coarser than the sky.
    ConfigurationError
        If a map has a wider beam than the sky.
    """
    for band, entry in settings.emission.items():
        names = [emission_name(band), *([variance_name(band)] if entry.variance else [])]
        if stages.has(*names):
            continue
        cmb = _cmb(settings, stages, say) if entry.cmb else None
        say(f"reading the emission at {band} GHz: {entry.source.file.name}")
        survey = read_band(entry.source, band, variance=entry.variance)
        if entry.dipole:
            subtract_dipole(survey.values, K_CMB_TO_MJY_SR[band])
        smoother = _smoother(settings, survey, entry.source.file, entry.beam, say)
        emission = smoother.smooth(survey.values)
        emission -= _beyond_dust(entry, band, cmb)
        if entry.variance:
            stages.save(variance_name(band), smoother.variance(survey.variance))
        stages.save(emission_name(band), emission)
    stages.remove("cmb")


def make_reddening(
    settings: Configuration, source: ReddeningMap, stages: Stages, say: Callable[[str], None]
) -> None:
    """Make the map of the reddening between each two edges, and what is known about its pixels.

    Parameters
    ----------
    settings : Configuration
        What to read.
    source : ReddeningMap
        The reddening map, opened.
    stages : Stages
        Where the arrays are kept: `interval_name`, (pixel,) float32 [mag], NESTED; ``weight``
        (pixel,) float32, the part of the beam that is observed; ``flags`` (pixel,) uint16 of
        `Mask`, why parts of a pixel are not used.
    say : callable
        Called with a line of text at the start of each step.

    Raises
    ------
    FileFormatError
        If the file is not in the layout that it should have.
    ConfigurationError
        If the map has a wider beam than the sky.
    """
    n_interval = len(settings.voxels.edges) - 1
    samples = [None, *range(settings.n_samples)]
    names = [interval_name(i, sample) for sample in samples for i in range(n_interval)]
    if stages.has("weight", "flags", *names):
        return
    fwhm = _kernel(settings, source.beam)
    if not stages.has("gathered", "area", "flags"):
        _gather(settings, source, stages, n_interval, say)
    gathered = stages.load("gathered")
    say("smoothing the reddening" if fwhm else "storing the reddening")
    smoother = Smoother(stages.load("area"), fwhm, settings.nside)
    for number, name in enumerate(names):
        if not stages.has(name):
            stages.save(name, smoother.smooth(gathered[number]))
    stages.save("weight", smoother.weight)
    stages.remove("gathered", "area")


def _gather(
    settings: Configuration,
    source: ReddeningMap,
    stages: Stages,
    n_interval: int,
    say: Callable[[str], None],
) -> None:
    """Put the reddening of a file, and of its posterior samples, on the pixels of the sky."""
    n_pixel = 12 * settings.nside**2
    names = ", ".join(source.file.name for source in settings.reddening)
    say(f"reading the reddening: {names}")
    refuse = _REFUSED | (Mask.UNRELIABLE if settings.reliable_distance else 0)
    rows = (1 + settings.n_samples) * n_interval
    with stages.writing(
        gathered=((rows, n_pixel), np.float32),
        area=((n_pixel,), np.float32),
        flags=((n_pixel,), np.uint16),
    ) as (out, area, flags):
        samples = out[n_interval:].reshape(settings.n_samples, n_interval, n_pixel)
        area[...], flags[...], _ = gather(
            source,
            settings.nside,
            settings.voxels.edges,
            out[:n_interval],
            refuse=int(refuse),
            samples_out=samples if settings.n_samples else None,
            reach=settings.voxels.reach(settings.superpixel_nside),
        )
        # What is masked has no weight in the smoothing.
        area[~np.isfinite(out[0])] = 0


def _cmb(settings: Configuration, stages: Stages, say: Callable[[str], None]) -> np.ndarray:
    """Return the CMB at the resolution and beam of the sky, (pixel,) [K_CMB]."""
    cmb = settings.cmb
    if cmb is None:
        raise ConfigurationError("a band holds the CMB, but no map of it is configured")
    if not stages.has("cmb"):
        say(f"reading the CMB: {cmb.file.name}")
        survey = read_cmb_map(cmb.file, cmb.column, cmb.unit)
        if cmb.dipole:
            subtract_dipole(survey.values)
        smoother = _smoother(settings, survey, cmb.file, cmb.beam, say)
        stages.save("cmb", smoother.smooth(survey.values))
    return stages.load("cmb")


def _smoother(
    settings: Configuration,
    survey: SurveyMap,
    path: Path,
    beam: float | None,
    say: Callable[[str], None],
) -> Smoother:
    fwhm = _kernel(settings, beam)
    if fwhm:
        say(f"smoothing {path.name} by {fwhm:.2f} arcmin")
    observed = np.isfinite(survey.values)
    if survey.variance is not None:
        observed &= np.isfinite(survey.variance)
    return Smoother(observed, fwhm, settings.nside)


def _kernel(settings: Configuration, beam: float | None) -> float | None:
    if settings.beam is None or beam is None:
        return None
    return kernel_width(beam, settings.beam)


def _beyond_dust(entry: BandSettings, band: str, cmb: np.ndarray | None) -> np.ndarray | float:
    """Return what a band's map holds besides dust [MJy/sr]: its zero level, and the CMB."""
    if cmb is None:
        return entry.zero_level
    return entry.zero_level + K_CMB_TO_MJY_SR[band] * cmb
