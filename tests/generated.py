"""A generated archive: files in the layouts of the surveys, at any size, of a sky that is known.

Dust lies in a few screens, each at one distance and of one temperature. Every map is that sky under
its own beam: the maps of the bands and of the CMB are synthesised from smoothed harmonics, and the
reddening is what its pixels average over. At nside 1024 the beams are the real ones; at another
resolution they keep their ratio to the pixels.
"""

import json
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import ducc0
import h5py
import healpy
import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.modeling.physical_models import BlackBody
from astropy.wcs import WCS
from generated_files import BAD_DATA, lambert_header, write_table

BANDS = ("217", "353", "545", "857", "2998")
BEAMS = {"217": 5.5, "353": 5.0, "545": 5.0, "857": 5.0, "2998": 6.1, "cmb": 10.0, "map": 3.44}
K_CMB = {"217": 483.690, "353": 287.450, "545": 58.0356, "857": 2.2681}
UNITS = {
    "PR2": {"217": "K_CMB", "353": "K_CMB", "545": "MJy/sr", "857": "MJy/sr"},
    "PR4": dict.fromkeys(K_CMB, "K_CMB"),
}
ORDERING = {"PR2": "NESTED", "PR4": "RING"}
IRIS_BEAM = 4.3
NOISE = {"217": 0.02, "353": 0.05, "545": 0.1, "857": 0.1}  # MJy/sr per pixel of a band's map
RHO, BETA = 1e-4, 1.6
ROWS = 2**16


@dataclass
class Screen:
    """Dust at one distance [kpc], of one temperature [K], with so much reddening [mag]."""

    distance: float
    temperature: float
    reddening: float


SCREENS = (
    Screen(0.12, 22.0, 0.02),
    Screen(0.35, 17.0, 0.08),
    Screen(0.60, 19.0, 0.05),
    Screen(1.10, 20.0, 0.08),
    Screen(2.00, 18.0, 0.06),
    Screen(5.00, 16.0, 0.04),
)


@dataclass
class Archive:
    """The files of an archive; `write` makes them, the other methods know the truth.

    Parameters
    ----------
    folder : Path
        Where the files are.
    nside : int
        Finest resolution of the reddening map. The maps of the bands have twice that.
    n_slices, n_samples : int
        Distances and posterior samples of the reddening map.
    mixed : bool
        Give the reddening coarser pixels away from the plane, as Bayestar has.
    noise : bool
        Add noise to the bands, with the variance that the files tell.
    release : str
        Planck's: PR2; or PR4, whose maps are all in K_CMB and RING, and hold the dipole.
    iris : bool
        Give 100 um as IRIS does, a RING map, in the place of SFD's images.
    sfd_size : int
        Side of the images at 100 um.
    """

    folder: Path
    nside: int = 64
    n_slices: int = 120
    n_samples: int = 5
    mixed: bool = True
    noise: bool = True
    release: str = "PR2"
    iris: bool = False
    sfd_size: int = 512
    seed: int = 0
    screens: tuple[Screen, ...] = field(default=SCREENS)

    @property
    def scale(self) -> float:
        """By how much the beams are wider than the real ones."""
        return 1024 / self.nside

    @property
    def lmax(self) -> int:
        return 3 * self.nside - 1

    @property
    def modulus(self) -> np.ndarray:
        """Distance modulus of the slices."""
        return np.linspace(4, 18.875, self.n_slices)

    @cached_property
    def harmonics(self) -> list[np.ndarray]:
        """Harmonics of each screen [mag], from a lognormal field with a Galactic plane."""
        rng = np.random.default_rng(self.seed)
        latitude = _latitude(2 * self.nside)
        screens = []
        for screen in self.screens:
            # Gas lies in a layer 100 pc deep: farther dust is nearer to the plane.
            plane = np.arctan(0.1 / screen.distance)
            profile = np.exp(-np.abs(latitude) / plane) + 0.02
            screen_field = synthesise(_random_harmonics(rng, self.lmax, -2.6), 2 * self.nside)
            dust = np.exp(0.7 * screen_field / screen_field.std()) * profile
            dust *= screen.reddening / dust[np.abs(latitude) < 0.5].mean()
            screens.append(analyse(dust, self.lmax))
        return screens

    @cached_property
    def cmb_harmonics(self) -> np.ndarray:
        """Harmonics of the CMB [K_CMB]."""
        harmonics = _random_harmonics(np.random.default_rng(self.seed + 1), self.lmax, -2.2)
        return 1e-4 * harmonics / np.sqrt(np.sum(np.abs(harmonics) ** 2) / (2 * np.pi))

    def emission_harmonics(self, band: str) -> np.ndarray:
        """Harmonics of the dust's emission [MJy/sr]."""
        weights = [modified_blackbody(float(band), screen.temperature) for screen in self.screens]
        return sum(w * a for w, a in zip(weights, self.harmonics, strict=True))

    def reddening(self, near: float, far: float, beam: float, nside: int) -> np.ndarray:
        """The truth: reddening between two distances [kpc] under a beam [real arcmin], NESTED."""
        inside = [
            a
            for s, a in zip(self.screens, self.harmonics, strict=True)
            if near < self.shown_distance(s) <= far
        ]
        return _nested(_smoothed(sum(inside), beam * self.scale), nside)

    def emission(self, band: str, beam: float, nside: int) -> np.ndarray:
        """The truth: emission of the dust [MJy/sr] under a beam [real arcmin], NESTED."""
        return _nested(_smoothed(self.emission_harmonics(band), beam * self.scale), nside)

    def shown_distance(self, screen: Screen) -> float:
        """Distance of the slice at which a screen appears [kpc]."""
        return float(10 ** (self.modulus[self._slice(screen)] / 5 - 2))

    def file(self, band: str) -> str:
        """Name of a band's file, or of that of the CMB."""
        if band == "cmb":
            return f"COM_CMB_IQU-smica_{self.nside}_R2.02_full.fits"
        if band == "2998":
            return f"IRIS_{2 * self.nside}.fits" if self.iris else "SFD_i100_4096_{ngp,sgp}.fits"
        name = {"PR2": "R2.02_full", "PR4": "R4.00_full"}[self.release]
        return f"HFI_SkyMap_{band}_{2 * self.nside}_{name}.fits"

    def configuration(self, **grid: object) -> dict:
        """What `prepare` needs to know."""
        scale = self.scale
        kinds = dict.fromkeys(K_CMB, self.release) | {"2998": "IRIS" if self.iris else "SFD"}
        beams = BEAMS | ({"2998": IRIS_BEAM} if self.iris else {})
        return {
            "grid": {
                "nside": self.nside,
                "superpixel_nside": self.nside // 32,
                "beam": 10.0 * scale,
                "min_coverage": 0.9,
                **grid,
            },
            "reddening": {
                "map": "bayestar2019" if self.n_slices == 120 else "bayestar2017",
                "file": str(self.folder / "bayestar2019.h5"),
                "beam": BEAMS["map"] * scale,
                "edges_modulus": (4.0 + 0.125 * np.arange(15, 96, 10)).tolist(),
            },
            "emission": {
                band: {
                    "file": str(self.folder / self.file(band)),
                    "beam": beams[band] * scale,
                    "release": kinds[band],
                }
                for band in BANDS
            },
            "cmb": {
                "file": str(self.folder / self.file("cmb")),
                "beam": BEAMS["cmb"] * scale,
            },
            "noise": {"sigma": dict(zip(BANDS, [0.5, 3.0, 9.0, 25.0, 30.0], strict=True))},
        }

    def write(self) -> "Archive":
        """Write all files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_reddening()
        for band in K_CMB:
            self.write_planck(band)
        cmb = _nested(_smoothed(self.cmb_harmonics, BEAMS["cmb"] * self.scale), self.nside)
        write_table(self.folder / self.file("cmb"), {"I": cmb}, ["K_CMB"], self.nside)
        if self.iris:
            self.write_iris()
        else:
            self.write_sfd()
        return self

    def write_planck(self, band: str) -> None:
        """Write a frequency map as in Planck's releases of 2015 or 2020."""
        nside, beam = 2 * self.nside, BEAMS[band] * self.scale
        harmonics = self.emission_harmonics(band) + K_CMB[band] * self.cmb_harmonics
        values = _nested(_smoothed(harmonics, beam), nside)
        rng = np.random.default_rng([self.seed, int(band)])
        hits = rng.integers(50, 150, len(values)).astype(np.int32)
        variance = NOISE[band] ** 2 * 100 / hits
        if self.noise:
            values += rng.standard_normal(len(values)) * np.sqrt(variance)
        unit = UNITS[self.release][band]
        factor = 1.0 if unit == "MJy/sr" else K_CMB[band]
        values /= factor
        if self.release == "PR4":
            values += _dipole(nside)
        variance /= factor**2
        values[rng.integers(0, len(values), len(values) // 500_000 + 1)] = BAD_DATA
        write_table(
            self.folder / self.file(band),
            {"I_STOKES": values, "HITS": hits, "II_COV": variance},
            [unit, "", f"{unit}^2"],
            nside,
            ORDERING[self.release],
            FREQ=band,
        )

    def write_iris(self) -> None:
        """Write a map at 100 um."""
        nside = 2 * self.nside
        values = _smoothed(self.emission_harmonics("2998"), IRIS_BEAM * self.scale)
        columns = {"I_STOKES": _nested(values, nside)}
        write_table(self.folder / self.file("2998"), columns, ["MJy/sr"], nside, "RING")

    def write_sfd(self) -> None:
        """Write the pair of images at 100 um."""
        nside = 2 * self.nside
        harmonics = _smoothed(self.emission_harmonics("2998"), BEAMS["2998"] * self.scale)
        ring = synthesise(harmonics, nside)
        for name, sign in (("ngp", 1), ("sgp", -1)):
            header = lambert_header(self.sfd_size, sign)
            wcs = WCS(header)
            image = np.empty((self.sfd_size, self.sfd_size), dtype=np.float32)
            columns = np.arange(self.sfd_size)
            for row in range(0, self.sfd_size, 128):
                y, x = np.mgrid[row : min(row + 128, self.sfd_size), 0 : len(columns)]
                longitude, latitude = wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)
                values = healpy.get_interp_val(ring, longitude, latitude, lonlat=True)
                image[row : row + 128] = values.reshape(y.shape)
            fits.PrimaryHDU(image, header).writeto(
                self.folder / f"SFD_i100_4096_{name}.fits", overwrite=True
            )

    def write_reddening(self) -> None:
        """Write the reddening map as Bayestar's of 2019: cumulative samples of mixed resolution."""
        layers = [
            _nested(_smoothed(a, BEAMS["map"] * self.scale), self.nside) for a in self.harmonics
        ]
        levels = self._levels()
        size = sum(len(index) for _, index in levels)
        names = ("nside", "healpix_index", "converged", "DM_reliable_min", "DM_reliable_max")
        info = np.zeros(
            size, dtype=list(zip(names, ("<u4", "<u8", "u1", "<f4", "<f4"), strict=True))
        )
        rng = np.random.default_rng(self.seed + 2)
        info["nside"] = np.concatenate([np.full(len(index), n) for n, index in levels])
        info["healpix_index"] = np.concatenate([index for _, index in levels])
        info["converged"] = rng.random(size) > 0.0002
        info["DM_reliable_min"] = np.where(rng.random(size) > 0.0001, 5.0, np.nan)
        info["DM_reliable_max"] = 19.0
        begins = [self._slice(screen) for screen in self.screens]
        with h5py.File(self.folder / "bayestar2019.h5", "w") as file:
            file["pixel_info"] = info
            file["pixel_info"].attrs["DM_bin_edges"] = self.modulus
            shape = (size, self.n_samples, self.n_slices)
            samples = file.create_dataset(
                "samples",
                shape,
                np.float32,
                chunks=(256, *shape[1:]),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
            best = file.create_dataset("best_fit", (size, self.n_slices), np.float32)
            row = 0
            for map_nside, index in levels:
                coarse = [one.reshape(12 * map_nside**2, -1).mean(axis=1) for one in layers]
                for start in range(0, len(index), ROWS):
                    pixel = index[start : start + ROWS]
                    truth = np.zeros((len(pixel), self.n_slices), dtype=np.float32)
                    for begin, one in zip(begins, coarse, strict=True):
                        truth[:, begin:] += one[pixel, np.newaxis].astype(np.float32)
                    rows = slice(row, row + len(pixel))
                    samples[rows] = self._scatter(rng, truth)
                    best[rows] = truth
                    row += len(pixel)

    def _scatter(self, rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
        """Posterior samples whose median is the truth: it times 1 - 2 s ... 1 + 2 s, shuffled."""
        size = 0.05 * (np.arange(self.n_samples) - (self.n_samples - 1) / 2)
        order = rng.permuted(np.tile(size, (len(truth), 1)), axis=1).astype(np.float32)
        return truth[:, np.newaxis] * (1 + order[:, :, np.newaxis])

    def _slice(self, screen: Screen) -> int:
        """The first slice behind a screen."""
        return int(np.searchsorted(self.modulus, 5 * (np.log10(screen.distance) + 2)))

    def _levels(self) -> list[tuple[int, np.ndarray]]:
        """Resolutions of the reddening map, and the pixels that it has of each."""
        coarsest = self.nside // 4
        pixel = np.arange(12 * coarsest**2)
        longitude, latitude = healpy.pix2ang(coarsest, pixel, nest=True, lonlat=True)
        position = SkyCoord(longitude, latitude, unit="deg", frame="galactic")
        pixel = pixel[position.icrs.dec.deg > -30]
        latitude = np.abs(latitude[pixel])
        if not self.mixed:
            return [(self.nside, _children(pixel, 16))]
        return [
            (coarsest, pixel[latitude > 30]),
            (2 * coarsest, _children(pixel[(latitude > 10) & (latitude <= 30)], 4)),
            (self.nside, _children(pixel[latitude <= 10], 16)),
        ]


def modified_blackbody(frequency: float, temperature: float) -> float:
    """Emission of a magnitude of reddening [MJy/sr], by astropy's black body."""
    intensity = BlackBody(temperature * u.K)(frequency * u.GHz).to_value(u.MJy / u.sr)
    return RHO * (frequency / 353) ** BETA * intensity


def synthesise(harmonics: np.ndarray, nside: int) -> np.ndarray:
    """Make a map of harmonics, RING."""
    rings = ducc0.healpix.Healpix_Base(nside, "RING").sht_info()
    lmax = healpy.Alm.getlmax(len(harmonics))
    return ducc0.sht.synthesis(alm=harmonics[None], lmax=lmax, spin=0, nthreads=0, **rings)[0]


def analyse(values: np.ndarray, lmax: int) -> np.ndarray:
    """Find the harmonics of a map, RING."""
    nside = healpy.npix2nside(len(values))
    rings = ducc0.healpix.Healpix_Base(nside, "RING").sht_info()
    area = np.full(4 * nside - 1, 4 * np.pi / len(values))
    return ducc0.sht.adjoint_synthesis(
        map=values[None], lmax=lmax, spin=0, nthreads=0, ringfactor=area, **rings
    )[0]


def _nested(harmonics: np.ndarray, nside: int) -> np.ndarray:
    return healpy.reorder(synthesise(harmonics, nside), r2n=True)


def _smoothed(harmonics: np.ndarray, beam: float) -> np.ndarray:
    lmax = healpy.Alm.getlmax(len(harmonics))
    return healpy.almxfl(harmonics, healpy.gauss_beam(np.deg2rad(beam / 60), lmax))


def _random_harmonics(rng: np.random.Generator, lmax: int, slope: float) -> np.ndarray:
    size = healpy.Alm.getsize(lmax)
    harmonics = rng.standard_normal(size) + 1j * rng.standard_normal(size)
    harmonics[: lmax + 1] = np.sqrt(2) * harmonics[: lmax + 1].real
    multipole = np.arange(lmax + 1.0)
    return healpy.almxfl(harmonics, np.where(multipole > 1, (1 + multipole) ** (slope / 2), 0))


def _latitude(nside: int) -> np.ndarray:
    """Latitude of the pixels [rad], RING."""
    return np.pi / 2 - healpy.pix2ang(nside, np.arange(12 * nside**2))[0]


def _children(pixel: np.ndarray, number: int) -> np.ndarray:
    return (pixel[:, np.newaxis] * number + np.arange(number)).ravel()


def main() -> None:
    """Write an archive: ``python generated.py FOLDER NSIDE [N_SLICES]``."""
    folder, nside, *rest = sys.argv[1:]
    n_slices = int(rest[0]) if rest else 120
    archive = Archive(Path(folder), int(nside), n_slices, sfd_size=4 * int(nside)).write()
    configuration = json.dumps(archive.configuration(), indent=1)
    (Path(folder) / "configuration.json").write_text(configuration)


if __name__ == "__main__":
    main()


def _dipole(nside):
    """The dipole of the Sun's motion [K_CMB], NESTED."""
    axis = healpy.ang2vec(263.986, 48.247, lonlat=True)
    return 3366.6e-6 * axis @ healpy.pix2vec(nside, np.arange(12 * nside**2), nest=True)
