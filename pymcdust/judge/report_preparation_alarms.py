"""What a reader of a sky's report must know before anything is fitted."""

from collections.abc import Collection, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import xarray as xr

from pymcdust.errors import listing
from pymcdust.judge.report_page import from_json
from pymcdust.judge.report_words import number, significant
from pymcdust.sky.colours import (
    TYPICAL_TEMPERATURE,
    colour_factors,
    kelvin_factor,
    typical_emissivity,
)
from pymcdust.sky.dataset import beam_of
from pymcdust.sky.quality import fit_emission
from pymcdust.sky.smoothing import pixels_per_beam

#: Condition numbers from which voxels are hard, and all but impossible, to tell apart.
HARD, HOPELESS = 30.0, 100.0

#: Beyond this a condition number is made of rounding, and a voxel as good as empty or a copy.
ROUNDING = 1e7

#: Part of the superpixels that may be beyond `HOPELESS` before that is alarming.
MOST_HOPELESS = 0.5

#: Median correlation of column and emission below which maps do not belong together; it is 0.9 to
#: 0.97 in Bayestar19, Planck and IRAS at Nside 64, and 0 when one of them is in the wrong order.
LEAST_CORRELATION = 0.3

#: The emissivity that the slope at 353 GHz may stand for [1/mag]; 6.7e-5 (Planck 2013 XI) to 1.1e-4
#: (Zelko et al. 2022) are published.
PLAUSIBLE_RHO = (1e-5, 1e-3)

#: Factor by which a band may be off typical dust. At 100 um dust between 15 and 23 K is off by 4.
COLOUR_FACTOR = {"2998": 5.0}
OTHER_COLOUR_FACTOR = 2.0

#: Part of the reddening that may be negative.
MOST_NEGATIVE = 0.01

#: Part of the pixels that may repeat their forerunner, or have the same emission in two bands.
MOST_REPEATED = 0.1

#: Standard errors from which a number is not noise.
_SIGNIFICANT = 5.0

#: Standard error of a median over that of a mean.
_MEDIAN_ERROR = 1.2533

#: Part of the variance of emission that may lie between neighbours: of white noise, all of it does.
_MOST_ROUGH = 0.5

#: How much more emission varies within a superpixel than within the quietest of the sky, below
#: which it may be noise: smooth noise is nearly as strong in one superpixel as in another.
_LIVELY = 10.0

#: Part of the superpixels that are the quietest.
_QUIETEST = 0.1

_FEWEST_SUPERPIXELS = 5


class Alarm(NamedTuple):
    """What was found, what it means and what to do; whether it is bad, or only to be known."""

    title: str
    meaning: str
    advice: str
    bad: bool = True


def alarms(sky: xr.Dataset, summary: xr.Dataset) -> list[Alarm]:
    """List what a reader must know before anything is fitted, the worst first.

    Parameters
    ----------
    sky : Dataset
        A sky.
    summary : Dataset
        What `summarise_sky` returned for it.
    """
    correlation = {band: float(np.median(one)) for band, one in correlations(summary).items()}
    unrelated = [band for band, value in correlation.items() if value < LEAST_CORRELATION]
    found = [
        _unrelated(correlation, unrelated),
        *_wrong_colours(sky, summary, unrelated),
        _implausible(summary),
        *_equal_bands(sky, summary),
        _negative(summary),
        _coarse(summary),
        _ill_conditioned(summary),
        _correlated_pixels(sky),
    ]
    return sorted((alarm for alarm in found if alarm is not None), key=lambda alarm: not alarm.bad)


def pixels_in_beam(sky: xr.Dataset) -> float | None:
    """Return the pixels of a beam; None where the sky does not tell its beam in arcmin."""
    beam = beam_of(sky)
    return None if beam is None else pixels_per_beam(beam, int(sky.attrs["nside"]))


def is_thinned(sky: xr.Dataset) -> bool:
    """Tell whether one pixel of each beam was kept."""
    return "masked" in sky and bool(sky["masked"].sel(reason="thinned").any())


def is_off(band: str, factor: float) -> bool:
    """Tell whether a band is further off typical dust than dust may be."""
    most = COLOUR_FACTOR.get(str(band), OTHER_COLOUR_FACTOR)
    return bool(factor > most or factor < 1 / most)


def emissivity_of(slope: float) -> float:
    """Return rho [1/mag] of typical dust with a slope of 353 GHz on the column [MJy/sr/mag]."""
    return slope / float(typical_emissivity(np.array(353.0)))


def correlations(summary: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the correlation of column and emission in superpixels, by band.

    Parameters
    ----------
    summary : Dataset
        What `summarise_sky` returned.

    Returns
    -------
    dict of (superpixel,) arrays
        Of the superpixels whose emission is more than noise: neither rough, as white noise is, nor
        as quiet as the quietest of the sky. Bands with too few of them are left out.
    """
    found = {}
    for name in summary["band"].values:
        band = summary.sel(band=name)
        column, light = band["column_variance"].values, band["emission_variance"].values
        told = (column > 0) & (light > 0)
        if told.any():
            quiet = np.quantile(light[told], _QUIETEST)
            told &= (light > _LIVELY * quiet) & (band["roughness"].values < _MOST_ROUGH * light)
        if told.sum() >= _FEWEST_SUPERPIXELS:
            found[str(name)] = band["covariance"].values[told] / np.sqrt(column * light)[told]
    return found


def equal_pairs(summary: xr.Dataset) -> list[tuple[str, str, float]]:
    """Return all pairs of bands, and the part of the pixels whose emission is equal in both."""
    equal, bands = summary["equal_bands"].values, summary["band"].values
    return [
        (str(bands[i]), str(bands[j]), float(equal[i, j]))
        for i, j in combinations(range(len(bands)), 2)
    ]


def typical_sigma(sky: xr.Dataset, summary: xr.Dataset) -> xr.DataArray:
    """Return sigma of each band; where pixels differ, that which the median S/N stands for."""
    if sky["sigma"].ndim == 1:
        return sky["sigma"]
    middle = summary.sel(quantile=0.5)
    return middle["emission_quantile"] / middle["signal_to_noise"]


def colours(sky: xr.Dataset, summary: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the factors by which medians and slopes are off; NaN where noise prevails."""
    median = summary["emission_quantile"].sel(quantile=0.5)
    certain = median > _SIGNIFICANT * _error_of_median(sky, summary)
    slope, frequency = fit_emission(summary)["slope"], sky["frequency"].values
    return {
        "median": colour_factors(median.where(certain).values, frequency),
        "slope": colour_factors(slope.where(_certain(summary)).values, frequency),
    }


def _error_of_median(sky: xr.Dataset, summary: xr.Dataset) -> xr.DataArray:
    count = summary["n_used"].sum("superpixel")
    return _MEDIAN_ERROR * typical_sigma(sky, summary) / np.sqrt(count)


def _certain(summary: xr.Dataset) -> xr.DataArray:
    """Tell of which bands the slope on the column is no noise."""
    # A slope over its standard error, which follows from the correlation; two points always agree.
    squared = fit_emission(summary)["correlation"] ** 2
    count = summary["n_used"].sum("superpixel")
    return (count > 2) & (count * squared > _SIGNIFICANT**2 * (1 - squared))


def _unrelated(correlation: Mapping[str, float], unrelated: Collection[str]) -> Alarm | None:
    if not unrelated:
        return None
    words = [f"{number(value, 2)} at {band} GHz" for band, value in correlation.items()]
    who = "Emission does"
    if len(unrelated) < len(correlation):
        who = f"{listing(unrelated)} GHz {'do' if len(unrelated) > 1 else 'does'}"
    return Alarm(
        f"{who} not follow reddening",
        "Where emission is more than noise, its correlation with the column within superpixels is "
        f"{listing(words)} (medians); maps of one and the same dust have more than "
        f"{LEAST_CORRELATION:g}.",
        "Look for a map in another ordering (RING, NESTED) or frame than was said, or for files "
        "that were interchanged.",
    )


def _wrong_colours(sky: xr.Dataset, summary: xr.Dataset, unrelated: Collection[str]) -> list[Alarm]:
    off = colours(sky, summary)
    error = _error_of_median(sky, summary)
    found = []
    interchanged = _interchanged(sky, off["slope"])
    for one, other in interchanged:
        found.append(
            Alarm(
                f"{one} and {other} GHz may be interchanged",
                "Each of the two grows with the column as dust does in the other one.",
                "Check which files were given for these bands.",
            )
        )
    explained = {*unrelated, *(band for pair in interchanged for band in pair)}
    for i, band in enumerate(summary["band"].values):
        slope, median = off["slope"][i], off["median"][i]
        if str(band) in explained:
            continue
        if is_off(band, slope):
            found.append(
                Alarm(
                    f"The unit of {band} GHz may be wrong",
                    f"Its emission grows with the column {significant(slope)} times as much as "
                    "that of dust which suits the other bands.",
                    _advice_on_unit(str(band)),
                )
            )
        elif is_off(band, median):
            found.append(
                Alarm(
                    f"The zero level of {band} GHz may be wrong",
                    f"Its median is {significant(median)} times that of dust which suits the other "
                    "bands, though it grows with the column as it should.",
                    "Set the zero level and the CIB monopole of this band, or fit an offset.",
                )
            )
    for band in summary["band"].values:
        typical = float(summary["emission_quantile"].sel(quantile=0.5, band=band))
        if typical < -_SIGNIFICANT * float(error.sel(band=band)):
            found.append(
                Alarm(
                    f"{band} GHz is negative",
                    f"Its median is {significant(typical)} MJy/sr, but dust emits.",
                    "Set the zero level of this band, or fit an offset.",
                )
            )
    return found


def _interchanged(sky: xr.Dataset, slope: np.ndarray) -> list[tuple[str, str]]:
    """Return pairs of bands that are off typical dust, but not if each were the other one."""
    dust, bands = typical_emissivity(sky["frequency"].values), sky["band"].values.astype(str)
    wrong = [i for i, band in enumerate(bands) if is_off(band, slope[i])]
    return [
        (str(bands[i]), str(bands[j]))
        for i, j in combinations(wrong, 2)
        if not is_off(bands[i], slope[j] * dust[j] / dust[i])
        and not is_off(bands[j], slope[i] * dust[i] / dust[j])
    ]


def _advice_on_unit(band: str) -> str:
    advice = "Compare TUNIT of the file with the convention of its release"
    if (factor := kelvin_factor(band)) is not None:
        advice += f": K_CMB at {band} GHz is {significant(factor, 4)} MJy/sr"
    return f"{advice}; and check which file was given for this band."


def _implausible(summary: xr.Dataset) -> Alarm | None:
    rho = emissivity_of(float(fit_emission(summary)["slope"].sel(band="353")))
    plausible = PLAUSIBLE_RHO[0] <= rho <= PLAUSIBLE_RHO[1]
    if plausible or not _certain(summary).sel(band="353"):
        return None
    return Alarm(
        "Reddening and emission do not have the sizes of dust",
        f"The slope of 353 GHz on the column stands for rho = {rho:.1e} per mag at "
        f"{TYPICAL_TEMPERATURE:g} K; between {PLAUSIBLE_RHO[0]:g} and {PLAUSIBLE_RHO[1]:g} would "
        "be plausible.",
        "Check the unit of the reddening and of the emission.",
    )


def _equal_bands(sky: xr.Dataset, summary: xr.Dataset) -> list[Alarm]:
    same = _bands_of_one_file(sky)
    found = []
    for one, other, part in equal_pairs(summary):
        if (one, other) in same:
            meaning = "The SHA-256 of a file is the same for both."
        elif part > MOST_REPEATED:
            meaning = f"In {100 * part:.0f} % of the pixels looked at the two bands are equal."
        else:
            continue
        found.append(
            Alarm(
                f"{one} and {other} GHz are the same map",
                meaning,
                "Check which files were given for these bands.",
            )
        )
    return found


def _bands_of_one_file(sky: xr.Dataset) -> set[tuple[str, str]]:
    """Return pairs of bands that were read from one column of equal files, where a sky tells."""
    files, settings = (_mapping(sky.attrs.get(name)) for name in ("files", "configuration"))
    emission = _mapping(settings.get("emission"))
    bands = [str(band) for band in sky["band"].values]
    sources: dict[str, set[tuple[str, str]]] = {band: set() for band in bands}
    for key, file in files.items():
        kind, _, rest = str(key).partition(".")
        band, checksum = rest.partition(".")[0], _mapping(file).get("sha256")
        if kind == "emission" and band in sources and checksum:
            column = _mapping(emission.get(band)).get("column")
            sources[band].add((str(checksum), str(column)))
    return {pair for pair in combinations(bands, 2) if sources[pair[0]] & sources[pair[1]]}


def _mapping(value: object) -> Mapping:
    """Return a mapping, or one that JSON holds; an empty one for all else."""
    value = from_json(value)
    return value if isinstance(value, Mapping) else {}


def _negative(summary: xr.Dataset) -> Alarm | None:
    whole = float(summary["amount"].sum())
    part = float(summary["negative_amount"].sum()) / whole if whole else 0.0
    if part <= MOST_NEGATIVE:
        return None
    return Alarm(
        "Much of the reddening is negative",
        f"Negative values make {100 * part:.1f} % of it. The ringing of smoothing makes less than "
        f"{100 * MOST_NEGATIVE:g} %.",
        "Look whether cumulative reddening decreases along sightlines of the map, and whether "
        "the cuts follow each other.",
    )


def _coarse(summary: xr.Dataset) -> Alarm | None:
    part = float(summary["repeated"].sum() / summary["n_valid"].sum())
    if part <= MOST_REPEATED:
        return None
    return Alarm(
        "The reddening map is coarser than the pixels",
        f"{100 * part:.0f} % of the pixels have the reddening of their forerunner: they are no "
        "data of their own, but count as such.",
        "Give the sky a beam that all maps are smoothed to, three pixels wide or more; or, where "
        "maps are matched already, the nside of the coarsest.",
    )


def _ill_conditioned(summary: xr.Dataset) -> Alarm | None:
    condition = summary["condition"].values
    hopeless = int((condition > HOPELESS).sum())
    if not hopeless:
        return None
    empty = int((condition > ROUNDING).sum())
    also = (
        f"; in {empty:,} of them a voxel holds no dust at all, or is a copy of others"
        if empty
        else ""
    )
    return Alarm(
        f"Voxels cannot be told apart in {hopeless:,} of {condition.size:,} superpixels",
        f"Their condition number is above {HOPELESS:g}{also}. What such voxels have of their own "
        "is the prior.",
        "Merge voxels: min_reddening joins those without dust, max_condition those that look "
        "alike; or choose fewer distance edges.",
        bad=hopeless > MOST_HOPELESS * condition.size,
    )


def _correlated_pixels(sky: xr.Dataset) -> Alarm | None:
    per_beam = pixels_in_beam(sky)
    if per_beam is None or per_beam <= 1 or is_thinned(sky):
        return None
    return Alarm(
        f"Neighbouring pixels are correlated: a beam holds {significant(per_beam)} of them",
        "A likelihood that takes pixels for independent gives posteriors that are about "
        f"{significant(per_beam**0.5)} times too narrow.",
        "Keep one pixel of each beam (thin = true), or multiply sigma by "
        f"{significant(per_beam**0.5)}; comparisons withhold whole blocks of pixels (block). Wider "
        "pixels are no help: maps ring where a pixel is wider than a third of the beam.",
        bad=False,
    )
