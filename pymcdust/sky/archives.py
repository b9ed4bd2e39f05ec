"""Where the surveys' public files are: addresses, sizes, checksums, and whom to cite.

DOIs, Zenodo's addresses and their MD5 sums are those of dustmaps 1.0.14. The MD5 sums of Planck's
2018 maps and of GNILC, and all addresses at IRSA, are those that public scripts of other
projects download from and check. What is not known with certainty is None, and is asked of the
archive or recorded when the file is fetched.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import healpy

from pymcdust.errors import ConfigurationError, unknown

_IRSA = "https://irsa.ipac.caltech.edu/data/Planck"
_PR2_PARTS = f"{_IRSA}/release_2/all-sky-maps/maps/component-maps"
_PR3_PARTS = f"{_IRSA}/release_3/all-sky-maps/maps/component-maps"
_NPIPE = "https://g-456d30.0ed28.75bc.data.globus.org/public/planck/planck_pr4/fullsky"
_ZENODO = "https://zenodo.org/records"

#: Planck's bands [GHz], and the columns of their maps: I, Q, U, hits and six covariances where the
#: detectors measure polarisation, else I, hits and the variance.
_COLUMNS = {"217": 10, "353": 10, "545": 3, "857": 3}


@dataclass(frozen=True)
class DataverseFile:
    """A file of a data set in Harvard's Dataverse, found by what its record says.

    `doi` of the data set; `wanted` what the file's record must hold, such as its ``filename``.
    """

    doi: str
    wanted: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"doi:{self.doi}"


@dataclass(frozen=True)
class DataFile:
    """A file of a product.

    `name` on disk; `source` its address; `size` the exact number of bytes; `about` roughly that
    number, where only this is known; `checksum` as ``md5:...``.
    """

    name: str
    source: str | DataverseFile
    size: int | None = None
    about: float | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Product:
    """What belongs together: a map, its files, and the paper to cite where it is used."""

    title: str
    citation: str
    files: tuple[DataFile, ...]


def _in_dataverse(doi: str, name: str) -> DataverseFile:
    return DataverseFile(doi, (("filename", name),))


def _map_bytes(columns: int, nside: int = 2048) -> float:
    """Size of a HEALPix table of float32, but for its headers [bytes]."""
    return 4.0 * columns * healpy.nside2npix(nside)


def _planck(
    release: int, version: str, paper: str, checksums: dict[str, str]
) -> dict[str, Product]:
    """Products of the frequency maps of a release."""
    found = {}
    for band, columns in _COLUMNS.items():
        name = f"HFI_SkyMap_{band}_2048_{version}_full.fits"
        url = f"{_IRSA}/release_{release}/all-sky-maps/maps/{name}"
        file = DataFile(name, url, about=_map_bytes(columns), checksum=checksums.get(band))
        title = f"Planck PR{release} at {band} GHz"
        found[f"planck-pr{release}-{band}"] = Product(title, paper, (file,))
    return found


def _single(
    title: str, citation: str, name: str, source: str | DataverseFile, **known: Any
) -> Product:
    """Return a product of one file, of which `known` is known."""
    return Product(title, citation, (DataFile(name, source, **known),))


_EDENHOFER = "Edenhofer et al. 2024, A&A 685, A82; doi:10.5281/zenodo.8187943"
_DECAPS = "Zucker, Saydjari, Speagle et al. 2025; doi:10.7910/DVN/J9JCKO"
_LEIKE = "Leike, Glatzle & Enßlin 2020, A&A 639, A138; doi:10.5281/zenodo.3993082"
_GNILC = "Planck Collaboration Int. XLVIII 2016, A&A 596, A109"
_SEPARATION_2015 = "Planck Collaboration IX 2016, A&A 594, A9"
_SEPARATION_2018 = "Planck Collaboration IV 2020, A&A 641, A4"

#: What can be downloaded.
PRODUCTS: dict[str, Product] = {
    "bayestar2019": _single(
        "Bayestar19, 3D reddening north of declination -30",
        "Green et al. 2019, ApJ 887, 93; doi:10.7910/DVN/2EJ9TX",
        "bayestar2019.h5",
        _in_dataverse("10.7910/DVN/2EJ9TX", "bayestar2019.h5"),
        size=727_902_836,
        checksum="md5:ab815d2fd3068d1b81a1bd61fb18a722",
    ),
    "bayestar2017": _single(
        "Bayestar17, 3D reddening north of declination -30",
        "Green et al. 2018, MNRAS 478, 651; doi:10.7910/DVN/LCYHJG",
        "bayestar2017.h5",
        _in_dataverse("10.7910/DVN/LCYHJG", "bayestar2017.h5"),
    ),
    "bayestar2015": _single(
        "Bayestar15, 3D reddening north of declination -30",
        "Green et al. 2015, ApJ 810, 25; doi:10.7910/DVN/40C44C",
        "bayestar2015.h5",
        DataverseFile("10.7910/DVN/40C44C", (("contentType", "application/x-hdf"),)),
    ),
    "edenhofer2023": _single(
        "Edenhofer's dust density to 1.25 kpc, mean and deviation",
        _EDENHOFER,
        "edenhofer2023_mean_and_std_healpix.fits",
        f"{_ZENODO}/8187943/files/mean_and_std_healpix.fits",
        about=3.25e9,
        checksum="md5:10c823a5fcf81b47b6e15530bcdf54dc",
    ),
    "edenhofer2023-samples": _single(
        "Edenhofer's dust density to 1.25 kpc, 12 samples",
        _EDENHOFER,
        "edenhofer2023_samples_healpix.fits",
        f"{_ZENODO}/8187943/files/samples_healpix.fits",
        about=19.5e9,
        checksum="md5:aa0aa435e013784fe18a5cb24e379b05",
    ),
    "edenhofer2023-2kpc": _single(
        "Edenhofer's dust density to 2 kpc from less data, mean and deviation",
        _EDENHOFER,
        "edenhofer2023_2kpc_mean_and_std_healpix.fits",
        f"{_ZENODO}/8187943/files/validation_with_less_data_but_2kpc_mean_and_std_healpix.fits",
        about=4.12e9,
        checksum="md5:0826b2f4cdfccad69bdc5e2d85bb4c54",
    ),
    "decaps-mean": _single(
        "DECaPS, 3D reddening of the southern plane, mean",
        _DECAPS,
        "decaps_mean.h5",
        _in_dataverse("10.7910/DVN/J9JCKO", "decaps_mean.h5"),
        about=7e9,
    ),
    "decaps": _single(
        "DECaPS, 3D reddening of the southern plane, mean and samples",
        _DECAPS,
        "decaps_mean_and_samples.h5",
        _in_dataverse("10.7910/DVN/J9JCKO", "decaps_mean_and_samples.h5"),
        about=33.8e9,
    ),
    "leike2020": _single(
        "Leike's dust density within 400 pc, mean and deviation",
        _LEIKE,
        "leike2020_mean_std.h5",
        f"{_ZENODO}/3993082/files/mean_std.h5",
        checksum="md5:1ea998fdaef58f53da639356362223ba",
    ),
    "leike2020-samples": _single(
        "Leike's dust density within 400 pc, samples",
        _LEIKE,
        "leike2020_samples.h5",
        f"{_ZENODO}/3993082/files/samples.h5",
        about=14e9,
        checksum="md5:581f9ebc4775d37fd431fc6c0984dcf6",
    ),
    **_planck(2, "R2.02", "Planck Collaboration VIII 2016, A&A 594, A8", {}),
    **_planck(
        3,
        "R3.01",
        "Planck Collaboration III 2020, A&A 641, A3",
        {
            "217": "md5:03101e030eb246e307c8e5e81c3cffd1",
            "353": "md5:4d9fe8caeb3fe31e1732664bcaefa16a",
            "545": "md5:4f031bdf33def2ab50aab30fc2308952",
            "857": "md5:468b924c6a8777b3ac4ab282ed61bd24",
        },
    ),
    # NPIPE's maps hold I, Q and U, or I alone; variances are files of their own.
    **{
        f"planck-pr4-{band}": _single(
            f"Planck PR4 (NPIPE) at {band} GHz",
            "Planck Collaboration Int. LVII 2020, A&A 643, A42",
            f"npipe6v20_{band}_map.fits",
            f"{_NPIPE}/npipe6v20_{band}_map.fits",
            about=_map_bytes(columns),
        )
        for band, columns in {"217": 3, "353": 3, "545": 1, "857": 1}.items()
    },
    **{
        f"planck-gnilc-{band}": _single(
            f"Thermal dust by GNILC at {band} GHz, Planck PR2",
            _GNILC,
            f"COM_CompMap_Dust-GNILC-F{band}_2048_R2.00.fits",
            f"{_PR2_PARTS}/foregrounds/COM_CompMap_Dust-GNILC-F{band}_2048_R2.00.fits",
            checksum=checksum,
        )
        for band, checksum in {
            "353": "md5:ae18f38139dcd426df1e7fc6c93e7670",
            "545": "md5:96de58c0df7a82feebdcf61d4bc5dd24",
            "857": "md5:6dafe091af608429a2c567737e472347",
        }.items()
    },
    "planck-gnilc-pr3-353": _single(
        "Thermal dust by GNILC at 353 GHz, Planck PR3",
        _SEPARATION_2018,
        "COM_CompMap_IQU-thermaldust-gnilc-unires_2048_R3.00.fits",
        f"{_PR3_PARTS}/foregrounds/COM_CompMap_IQU-thermaldust-gnilc-unires_2048_R3.00.fits",
        checksum="md5:bf0a5adb8a1828614850c217751818da",
    ),
    "smica-pr2": _single(
        "CMB by SMICA, Planck PR2, beam of 10 arcmin",
        _SEPARATION_2015,
        "COM_CMB_IQU-smica_1024_R2.02_full.fits",
        f"{_PR2_PARTS}/cmb/COM_CMB_IQU-smica_1024_R2.02_full.fits",
        about=_map_bytes(5, 1024),
    ),
    "smica-pr2-5arcmin": _single(
        "CMB by SMICA, Planck PR2, beam of 5 arcmin",
        _SEPARATION_2015,
        "COM_CMB_IQU-smica-field-Int_2048_R2.01_full.fits",
        f"{_PR2_PARTS}/cmb/COM_CMB_IQU-smica-field-Int_2048_R2.01_full.fits",
        about=_map_bytes(2),
    ),
    "smica-pr3": _single(
        "CMB by SMICA, Planck PR3, beam of 5 arcmin",
        _SEPARATION_2018,
        "COM_CMB_IQU-smica_2048_R3.00_full.fits",
        f"{_PR3_PARTS}/cmb/COM_CMB_IQU-smica_2048_R3.00_full.fits",
        size=2_013_312_960,
        checksum="md5:ee2fc49a2eb70c2eca0d582e4aae5d05",
    ),
    "commander-pr2": _single(
        "CMB by Commander, Planck PR2, beam of 5 arcmin",
        _SEPARATION_2015,
        "COM_CMB_IQU-commander-field-Int_2048_R2.01_full.fits",
        f"{_PR2_PARTS}/cmb/COM_CMB_IQU-commander-field-Int_2048_R2.01_full.fits",
        about=_map_bytes(2),
    ),
    "commander-pr3": _single(
        "CMB by Commander, Planck PR3, beam of 5 arcmin",
        _SEPARATION_2018,
        "COM_CMB_IQU-commander_2048_R3.00_full.fits",
        f"{_PR3_PARTS}/cmb/COM_CMB_IQU-commander_2048_R3.00_full.fits",
    ),
    "sfd-i100": Product(
        "SFD's 100 um, zodiacal light and CIB removed",
        "Schlegel, Finkbeiner & Davis 1998, ApJ 500, 525; doi:10.7910/DVN/EWCNL5",
        tuple(
            DataFile(name, _in_dataverse("10.7910/DVN/EWCNL5", name), about=4.0 * 4096**2)
            for name in ("SFD_i100_4096_ngp.fits", "SFD_i100_4096_sgp.fits")
        ),
    ),
    "iris-100": _single(
        "IRIS, IRAS at 100 um reprocessed, Nside 1024",
        "Miville-Deschênes & Lagache 2005, ApJS 157, 302",
        "IRIS_nohole_4_1024_v2.fits",
        "https://lambda.gsfc.nasa.gov/data/foregrounds/iris/IRIS_nohole_4_1024_v2.fits",
    ),
}

#: Products that are used together.
GROUPS: dict[str, tuple[str, ...]] = {
    # Zelko, Finkbeiner, Lee & Green 2022, Sec. 3.
    "paper": (
        "bayestar2019",
        *(f"planck-pr2-{band}" for band in _COLUMNS),
        "sfd-i100",
        "smica-pr2",
    ),
    **{
        prefix: tuple(f"{prefix}-{band}" for band in _COLUMNS if f"{prefix}-{band}" in PRODUCTS)
        for prefix in ("planck-pr2", "planck-pr3", "planck-pr4", "planck-gnilc")
    },
}


def expand(names: str | Iterable[str]) -> list[str]:
    """Name the products that are meant: groups become their products, each comes once.

    Raises
    ------
    ConfigurationError
        If a name is neither a product nor a group.

    Examples
    --------
    >>> expand(["smica-pr2", "paper"])[:3]
    ['smica-pr2', 'bayestar2019', 'planck-pr2-217']
    """
    found: dict[str, None] = {}
    for name in [names] if isinstance(names, str) else names:
        if name not in PRODUCTS and name not in GROUPS:
            raise ConfigurationError(unknown("product", name, [*GROUPS, *PRODUCTS]))
        found |= dict.fromkeys(GROUPS.get(name, (name,)))
    return list(found)
