import hashlib
import json
from importlib.metadata import version

import h5py
import healpy
import numpy as np
import pytest
import xarray as xr

from pymcdust.errors import FileFormatError, SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.dataset import open_sky, save_sky
from pymcdust.sky.prepare import prepare_sky

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
        info = np.zeros(
            len(pixel),
            dtype=[
                ("nside", "<u4"),
                ("healpix_index", "<u8"),
                ("converged", "u1"),
                ("DM_reliable_min", "<f4"),
                ("DM_reliable_max", "<f4"),
            ],
        )
        info["nside"], info["healpix_index"], info["converged"] = NSIDE, pixel, 1
        with h5py.File(self.folder / "map.h5", "w") as file:
            file["pixel_info"] = info
            file["pixel_info"].attrs["DM_bin_edges"] = SLICES
            file["samples"] = self.increments[pixel].cumsum(axis=1)[:, np.newaxis]

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


@pytest.fixture
def planted(tmp_path):
    return Planted(tmp_path)


def test_planted_sky_comes_back(planted):
    sky = prepare_sky(planted.configuration())
    assert sky["superpixel"].values.tolist() == [s for s in range(48) if s // 4 != 4]
    pixel = sky["superpixel"].values[:, None] * 16 + np.arange(16)
    np.testing.assert_allclose(sky["emission"].values, planted.dust[pixel], rtol=2e-6)
    increments = planted.increments.astype(float)[pixel]
    expected = [
        increments[..., begin:end].sum(axis=2) for begin, end in ((0, 21), (21, 51), (51, 81))
    ]
    np.testing.assert_allclose(
        sky["reddening"].values, np.stack(expected, axis=2), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        sky["distance_edge"].values, [0, *10 ** (SLICES[[20, 50, 80]] / 5 - 2)]
    )
    assert sky["sigma"].values.tolist() == [0.5, 3, 9, 25, 30]
    assert sky["valid"].all()
    assert sky["reddening"].dtype == sky["emission"].dtype == np.float32


def test_pixels_without_a_band_are_masked_and_thin_superpixels_left_out(planted):
    planted.dust[[0, 17, 18], 3] = np.nan
    planted.write()
    sky = prepare_sky(planted.configuration())
    # One of 16 pixels is lost in superpixel 0, two in superpixel 1: 0.9375 and 0.875.
    assert 0 in sky["superpixel"]
    assert 1 not in sky["superpixel"]
    assert sky["valid"].sel(superpixel=0).values.tolist() == [False] + [True] * 15
    assert sky["valid"].sum() == sky["valid"].size - 1
    assert sky.attrs["superpixels_kept"] == 43
    assert sky.attrs["superpixels_dropped"] == 5
    assert sky.attrs["superpixels_outside"] == 4


def test_pixels_without_cmb_are_masked(planted):
    planted.cmb[40] = np.nan
    planted.write()
    valid = prepare_sky(planted.configuration())["valid"]
    assert valid.where(~valid, drop=True).coords["superpixel"].values.tolist() == [2]
    assert (~valid).sum() == 1


def test_coarser_sky_is_the_mean(planted):
    sky = prepare_sky(planted.configuration(nside=4))
    pixel = sky["superpixel"].values[:, None] * 4 + np.arange(4)
    expected = planted.dust.reshape(-1, 4, 5).mean(axis=1)[pixel]
    np.testing.assert_allclose(sky["emission"].values, expected, rtol=2e-6)


def test_provenance(planted, tmp_path):
    configuration = planted.configuration()
    sky = prepare_sky(configuration)
    files = json.loads(sky.attrs["files"])
    assert files["emission.2998"]["name"] == "2998.fits"
    content = (tmp_path / "2998.fits").read_bytes()
    assert files["emission.2998"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(files) == 7
    given = json.loads(sky.attrs["configuration"])
    assert given["reddening"] == {
        "map": "bayestar2019",
        "file": "map.h5",
        "slices": [20, 81, 30],
    }
    assert json.loads(sky.attrs["versions"])["numpy"] == version("numpy")
    assert str(tmp_path) not in str(sky.attrs)


def test_prepared_sky_comes_back_from_disk(planted, tmp_path):
    planted.dust[0, 3] = np.nan
    planted.write()
    sky = prepare_sky(planted.configuration())
    save_sky(sky, tmp_path / "sky.zarr")
    xr.testing.assert_identical(open_sky(tmp_path / "sky.zarr").load(), sky)


def test_progress_tells_each_step(planted):
    lines = []
    prepare_sky(planted.configuration(), progress=lines.append)
    for name in ("cmb.fits", "217.fits", "2998.fits", "map.h5", "44 of 48"):
        assert sum(name in line for line in lines) == 1


def test_no_superpixel_is_covered(planted):
    planted.mapped[:] = np.arange(768) % 16 == 0
    planted.write()
    with pytest.raises(SkyError, match=r"no superpixel has 0\.9 .* the best has 0\.0625"):
        prepare_sky(planted.configuration())


@pytest.mark.parametrize("name", ["353.fits", "cmb.fits", "map.h5"])
def test_file_cut_short_is_named(planted, tmp_path, name):
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(FileFormatError, match=f"{name}: cut short"):
        prepare_sky(planted.configuration())


@pytest.mark.realsky
def test_real_sky(realsky):
    emission = {
        band: {"file": realsky / f"HFI_SkyMap_{band}_0064_full.fits", "release": "PR2"}
        for band in K_CMB
    }
    emission["2998"] = {"file": realsky / "SFD_i100_0064.fits"}
    sky = prepare_sky(
        {
            "grid": {
                "nside": 64,
                "superpixel_nside": 8,
                "beam": "matched",
                "min_coverage": 1.0,
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
    )
    # 547 superpixels lie wholly in the footprint; 198 of these have 5 < |b| < 30.
    assert sky.attrs["superpixels_kept"] == sky.sizes["superpixel"] == 547
    latitude = healpy.pix2ang(8, sky["superpixel"].values, nest=True, lonlat=True)[1]
    assert ((np.abs(latitude) > 5) & (np.abs(latitude) < 30)).sum() == 198
    assert sky.sizes["voxel"] == 9
    assert sky["valid"].all()
    # Emission is a dust model without noise: positive once the CMB is off, and steeply rising.
    medians = sky["emission"].median(("superpixel", "pixel")).values
    assert (sky["emission"] > 0).all()
    assert (np.diff(medians) > 0).all()
    # All of the dust in front of the last edge, against the 2D map.
    column = sky["reddening"].sum("voxel").values.ravel()
    ebv = healpy.read_map(realsky / "SFD_ebv_0064.fits", nest=True).reshape(768, 64)
    correlation = np.corrcoef(np.log(column + 0.01), np.log(ebv[sky["superpixel"]].ravel() + 0.01))
    assert correlation[0, 1] > 0.9
