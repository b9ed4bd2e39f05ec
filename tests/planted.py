"""Files with a known sky, small enough to be prepared in a blink."""

import h5py
import healpy
import numpy as np

from pymcdust.physics.bands import BANDS
from pymcdust.sky.smoothing import beam_window

NSIDE = 8
K_CMB = {"217": 483.690, "353": 287.450, "545": 58.0356, "857": 2.2681}
SLICES = 4 + 0.125 * np.arange(120)


def write_healpix(path, values, unit, nest=True):
    values = np.where(np.isnan(values), healpy.UNSEEN, values)
    if not nest:
        values = healpy.reorder(values, n2r=True)
    healpy.write_map(
        path, values, nest=nest, coord="G", column_units=unit, dtype=np.float64, overwrite=True
    )


class Planted:
    """Files with a known dust sky, on pixels of nside 8, plus CMB; base pixel 4 has no map."""

    def __init__(self, folder):
        self.folder = folder
        rng = np.random.default_rng(5)
        n_pixels = 12 * NSIDE**2
        self.dust = rng.uniform(0.1, 3.0, (n_pixels, 5))
        self.cmb = rng.normal(0, 1e-4, n_pixels)
        self.increments = rng.exponential(1e-2, (n_pixels, 120)).astype(np.float32)
        self.mapped = np.arange(n_pixels) // 64 != 4
        self.converged = np.ones(n_pixels)
        self.stars = np.ones(n_pixels, dtype=bool)
        self.reliable_max = np.full(n_pixels, 30.0)
        self.n_samples = 1
        self.write()

    def write(self):
        write_healpix(self.folder / "cmb.fits", self.cmb, "K_CMB", nest=False)
        for i, band in enumerate(BANDS):
            values, unit = self.dust[:, i], "MJy/sr"
            if band in K_CMB:
                values = values + K_CMB[band] * self.cmb
            if band in ("217", "353"):
                values, unit = values / K_CMB[band], "K_CMB"
            write_healpix(self.folder / f"{band}.fits", values, unit, nest=band != "2998")
        pixel = np.flatnonzero(self.mapped)
        self.write_reddening(
            NSIDE,
            pixel,
            self.increments[pixel],
            converged=self.converged[pixel],
            DM_reliable_min=np.where(self.stars, 0, np.nan)[pixel],
            DM_reliable_max=self.reliable_max[pixel],
            n_samples=self.n_samples,
        )

    def write_reddening(self, nside, pixel, increments, n_samples=1, **fields):
        names = ("nside", "healpix_index", "converged", "DM_reliable_min", "DM_reliable_max")
        types = ("<u4", "<u8", "u1", "<f4", "<f4")
        info = np.zeros(len(pixel), dtype=list(zip(names, types, strict=True)))
        info["nside"], info["healpix_index"], info["converged"] = nside, pixel, 1
        info["DM_reliable_max"] = 30
        for name, values in fields.items():
            info[name] = values
        cumulative = increments.cumsum(axis=1)[:, np.newaxis]
        if n_samples > 1:
            scale = np.arange(1, n_samples + 1, dtype=np.float32)[:, np.newaxis]
            cumulative = cumulative * scale / 2
        with h5py.File(self.folder / "map.h5", "w") as file:
            file["pixel_info"] = info
            file["pixel_info"].attrs["DM_bin_edges"] = SLICES
            file["samples"] = cumulative

    def configuration(self, **grid):
        return {
            "grid": {
                "nside": NSIDE,
                "superpixel_nside": 2,
                "beam": "matched",
                "min_coverage": 0.9,
                **grid,
            },
            "reddening": {
                "map": "bayestar2019",
                "file": self.folder / "map.h5",
                "slices": [20, 81, 30],
            },
            "emission": {band: {"file": self.folder / f"{band}.fits"} for band in BANDS},
            "cmb": {"file": self.folder / "cmb.fits"},
            "noise": {"sigma": dict(zip(BANDS, [0.5, 3.0, 9.0, 25.0, 30.0], strict=True))},
        }


BEAMS = {"217": 110.0, "353": 100.0, "545": 100.0, "857": 100.0, "2998": 122.0, "cmb": 200.0}


class Convolved(Planted):
    """Files at nside 64, each map with a beam of its own, of one smooth sky; one hole."""

    NSIDE = 64
    BEAM = 200.0

    def __init__(self, folder):
        self.folder = folder
        self.lmax = 2 * self.NSIDE
        self.rng = np.random.default_rng(11)
        self.fields = {name: self.field() for name in (*BANDS, "near", "far")}
        # The CMB is bluer than dust, so that the beam matters.
        self.fields["cmb"] = 3 * self.field(slope=-0.5)
        for i, band in enumerate(BANDS):
            self.values(band, BEAMS[band], 10.0 * (i + 1), 2 * self.NSIDE)
        self.write()

    def field(self, slope=-1.5):
        """Harmonics of a spectrum, by default a red one."""
        size = healpy.Alm.getsize(self.lmax)
        harmonics = self.rng.normal(size=size) + 1j * self.rng.normal(size=size)
        harmonics[: self.lmax + 1] = harmonics[: self.lmax + 1].real
        multipole = np.arange(self.lmax + 1)
        return healpy.almxfl(harmonics, (1.0 + multipole) ** slope)

    def values(self, name, beam, mean, nside):
        """Map of a field, NESTED."""
        smoothed = healpy.almxfl(self.fields[name], beam_window(beam, self.lmax))
        ring = healpy.alm2map(smoothed, nside, lmax=self.lmax)
        return mean + healpy.reorder(ring, r2n=True)

    def write(self):
        fine = 2 * self.NSIDE
        cmb = 1e-4 * self.values("cmb", BEAMS["cmb"], 0.0, fine)
        write_healpix(self.folder / "cmb.fits", cmb, "K_CMB")
        for i, band in enumerate(BANDS):
            values, unit = self.values(band, BEAMS[band], 10.0 * (i + 1), fine), "MJy/sr"
            if band in K_CMB:
                own = 1e-4 * self.values("cmb", BEAMS[band], 0.0, fine)
                values = values + K_CMB[band] * own
            if band in ("217", "353"):
                values, unit = values / K_CMB[band], "K_CMB"
            if band == "545":
                values[1000:1010] = np.nan
            write_healpix(self.folder / f"{band}.fits", values, unit, nest=band != "857")
        near = self.values("near", 60.0, 5.0, self.NSIDE)
        far = self.values("far", 60.0, 5.0, self.NSIDE)
        increments = np.zeros((len(near), 120), dtype=np.float32)
        increments[:, 10], increments[:, 40] = near, far
        self.write_reddening(self.NSIDE, np.arange(len(near)), increments)

    def configuration(self, **grid):
        configuration = super().configuration()
        configuration["grid"] = {
            "nside": self.NSIDE,
            "superpixel_nside": 4,
            "beam": self.BEAM,
            "min_coverage": 0.5,
            **grid,
        }
        configuration["reddening"] |= {"beam": 60.0, "slices": [20, 51, 30]}
        configuration["cmb"]["beam"] = BEAMS["cmb"]
        for band in BANDS:
            configuration["emission"][band]["beam"] = BEAMS[band]
        return configuration


def reasons(sky, superpixel):
    """Pixels of a superpixel that are masked, by reason."""
    counts = sky.masked.sel(superpixel=superpixel)
    return {
        str(name): int(n) for name, n in zip(sky.reason.values, counts.values, strict=True) if n
    }


def on_sky(sky, values):
    """Values of NESTED pixels, by superpixel."""
    return values.reshape(12 * sky.attrs["superpixel_nside"] ** 2, -1)[sky.superpixel.values]


def real_configuration(realsky, min_coverage=1.0):
    """What makes a sky of the small real one, cut as the published map."""
    emission = {
        band: {"file": realsky / f"HFI_SkyMap_{band}_0064_full.fits", "release": "PR2"}
        for band in K_CMB
    }
    emission["2998"] = {"file": realsky / "SFD_i100_0064.fits"}
    return {
        "grid": {
            "nside": 64,
            "superpixel_nside": 8,
            "beam": "matched",
            "min_coverage": min_coverage,
        },
        "reddening": {
            "map": "bayestar2019",
            "file": realsky / "bayestar2019_nside64.h5",
            "slices": [15, 96, 10],
        },
        "emission": emission,
        "cmb": {"file": realsky / "COM_CMB_IQU-smica_0064_full.fits"},
        "noise": {"sigma": dict(zip(BANDS, [0.5, 3.0, 9.0, 25.0, 30.0], strict=True))},
    }
