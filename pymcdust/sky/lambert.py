"""The maps of Schlegel, Finkbeiner & Davis (1998): two images, one of each Galactic hemisphere."""

import warnings
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates

from pymcdust.errors import FileFormatError

#: What stands for the hemisphere in the name of a pair of files.
HEMISPHERES = "{ngp,sgp}"

# Pixels that are looked up at a time.
_PIXELS = 2**17


def pair(path: str | Path) -> dict[str, Path]:
    """Find the files of both hemispheres, north first, from ``..._{ngp,sgp}.fits``.

    Raises
    ------
    FileFormatError
        If the name has no such part.

    Examples
    --------
    >>> [path.name for path in pair("SFD_i100_4096_{ngp,sgp}.fits").values()]
    ['SFD_i100_4096_ngp.fits', 'SFD_i100_4096_sgp.fits']
    """
    text = str(path)
    if HEMISPHERES not in text:
        raise FileFormatError(
            f"{path}: SFD's maps are pairs of files; name both, as in SFD_i100_4096_{HEMISPHERES}"
            ".fits"
        )
    return {name: Path(text.replace(HEMISPHERES, name)) for name in ("ngp", "sgp")}


def read_lambert(path: str | Path, nside: int) -> np.ndarray:
    """Sample a pair of zenithal equal-area images at the centres of HEALPix pixels.

    Values are interpolated bilinearly between those of the image, as dustmaps does.

    Parameters
    ----------
    path : path
        Name of the pair, with ``{ngp,sgp}`` for the hemisphere.
    nside : int
        HEALPix resolution at which they are sampled.

    Returns
    -------
    (12 nside^2,) array of float32
        NESTED, Galactic, in the unit of the images; NaN where these have no value.

    Raises
    ------
    FileFormatError
        If a file is missing or cut short, or its header has no zenithal projection that is
        centred on the pole of its hemisphere.
    """
    values = np.full(12 * nside**2, np.nan, dtype=np.float32)
    for hemisphere, file in pair(path).items():
        image, wcs = _open(file, 90.0 if hemisphere == "ngp" else -90.0)
        for start in range(0, len(values), _PIXELS):
            pixel = np.arange(start, min(start + _PIXELS, len(values)))
            longitude, latitude = healpy.pix2ang(nside, pixel, nest=True, lonlat=True)
            here = latitude >= 0 if hemisphere == "ngp" else latitude < 0
            x, y = wcs.wcs_world2pix(longitude[here], latitude[here], 0)
            values[pixel[here]] = map_coordinates(image, [y, x], order=1, mode="nearest")
        # The next image is not read while this one takes memory.
        del image
    return values


def _open(path: Path, pole: float) -> tuple[np.ndarray, WCS]:
    if not path.exists():
        raise FileFormatError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as stream, fits.open(stream, memmap=False) as hdus:
                header = hdus[0].header.copy()
                expected = (header["NAXIS2"], header["NAXIS1"])
                image = np.asarray(hdus[0].data, dtype=np.float32)
            wcs = WCS(header)
    # Astropy raises many kinds of exception for damaged files.
    except Exception as error:
        raise FileFormatError(
            f"{path}: cut short, or not a FITS image ({error}); download it again"
        ) from error
    kinds = [str(kind) for kind in wcs.wcs.ctype]
    if image.shape != expected or kinds != ["GLON-ZEA", "GLAT-ZEA"]:
        raise FileFormatError(
            f"{path}: CTYPE is {kinds}; SFD's images are Galactic zenithal equal-area ones, "
            "GLON-ZEA and GLAT-ZEA"
        )
    unit = str(header.get("BUNIT", "MJy/sr")).replace(" ", "")
    if unit.lower() != "mjy/sr":
        raise FileFormatError(f"{path}: BUNIT is {unit!r}; SFD's map at 100 um is in MJy/sr")
    if abs(wcs.wcs.crval[1] - pole) > 1e-6:
        raise FileFormatError(
            f"{path}: centred on the latitude {wcs.wcs.crval[1]:g}, not {pole:g}; were the files "
            "of the two hemispheres interchanged?"
        )
    return image, wcs
