import errno
import hashlib
import json
from importlib.metadata import version

import h5py
import healpy
import numpy as np
import pytest
import xarray as xr
from astropy.coordinates import SkyCoord

from pymcdust.errors import ConfigurationError, FileFormatError, SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.compression import compress
from pymcdust.sky.cuts import Mask
from pymcdust.sky.dataset import open_sky, save_sky
from pymcdust.sky.prepare import prepare_sky
from pymcdust.sky.smoothing import beam_window
from pymcdust.sky.validation import validate_sky
from pymcdust.sky.voxels import CutReason

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
    assert not any("smoothing" in line for line in lines)


def test_store_is_the_same_as_memory(planted, tmp_path):
    lazily = prepare_sky(planted.configuration(), tmp_path / "out" / "sky.zarr")
    xr.testing.assert_identical(lazily.load(), prepare_sky(planted.configuration()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sky.zarr"]


def test_store_of_several_blocks_is_the_same(planted, tmp_path, monkeypatch):
    whole = prepare_sky(planted.configuration())
    monkeypatch.setattr("pymcdust.sky.assembly.BLOCK_BYTES", 3000)
    blocks = prepare_sky(planted.configuration(), tmp_path / "sky.zarr")
    xr.testing.assert_identical(blocks.load(), whole)


def test_taken_place_is_refused_before_the_work(planted, tmp_path):
    prepare_sky(planted.configuration(), tmp_path / "sky.zarr")
    lines = []
    with pytest.raises(ConfigurationError, match="exists already"):
        prepare_sky(planted.configuration(), tmp_path / "sky.zarr", progress=lines.append)
    assert lines == []
    prepare_sky(planted.configuration(), tmp_path / "sky.zarr", overwrite=True)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["857.fits", "map.h5", "writing"])
def test_killed_run_goes_on(planted, tmp_path, step):
    def kill(line):
        if step in line:
            raise Killed

    out = tmp_path / "sky.zarr"
    with pytest.raises(Killed):
        prepare_sky(planted.configuration(), out, progress=kill)
    assert not out.exists()
    lines = []
    again = prepare_sky(planted.configuration(), out, progress=lines.append)
    # What was finished is not read again.
    assert not any("353.fits" in line for line in lines)
    assert any(step in line for line in lines)
    xr.testing.assert_identical(again.load(), prepare_sky(planted.configuration()))
    assert not list(tmp_path.glob("*.stages"))


def test_killed_run_with_another_configuration_is_not_continued(planted, tmp_path):
    def kill(line):
        if "map.h5" in line:
            raise Killed

    with pytest.raises(Killed):
        prepare_sky(planted.configuration(), tmp_path / "sky.zarr", progress=kill)
    other = planted.configuration(min_coverage=0.5)
    with pytest.raises(ConfigurationError, match="a sky with another configuration"):
        prepare_sky(other, tmp_path / "sky.zarr")
    planted.dust += 1
    planted.write()
    with pytest.raises(ConfigurationError, match="a sky with another files"):
        prepare_sky(planted.configuration(), tmp_path / "sky.zarr")


def test_disk_too_small_is_said_before_the_work(planted, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(
        ConfigurationError, match=r"0\.0 GB free, but the maps and the sky may need"
    ):
        prepare_sky(planted.configuration(), tmp_path / "sky.zarr")


@pytest.mark.parametrize("full", ["stages", "store"])
def test_disk_that_fills_up_leaves_no_sky(planted, tmp_path, monkeypatch, full):
    def no_room(*args, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    name = {"stages": "os.posix_fallocate", "store": "pymcdust.sky.store._append_group"}[full]
    monkeypatch.setattr("pymcdust.sky.assembly.BLOCK_BYTES", 3000)
    with monkeypatch.context() as patch:
        patch.setattr(name, no_room)
        with pytest.raises(OSError, match="No space left"):
            prepare_sky(planted.configuration(), tmp_path / "sky.zarr")
    assert not (tmp_path / "sky.zarr").exists()
    assert prepare_sky(planted.configuration(), tmp_path / "sky.zarr").sizes["superpixel"] == 44


def reasons(sky, superpixel):
    counts = sky.masked.sel(superpixel=superpixel)
    return {
        str(name): int(n) for name, n in zip(sky.reason.values, counts.values, strict=True) if n
    }


def test_why_pixels_are_masked(planted):
    planted.dust[0, 3] = np.nan
    planted.converged[1] = 0
    planted.stars[1] = planted.stars[17] = False
    planted.write()
    sky = prepare_sky(planted.configuration(min_coverage=0.8))
    assert reasons(sky, 0) == {"no_emission": 1, "not_converged": 1, "no_stars": 1}
    assert sky.valid.sel(superpixel=0).values.tolist() == [False, False] + [True] * 14
    assert sky.coverage.sel(superpixel=0) == 14 / 16
    assert reasons(sky, 1) == {"no_stars": 1}
    assert reasons(sky, 2) == {}
    assert sky.sky_coverage.values[16:20].tolist() == [0] * 4
    assert sky.sky_reason.values[16:20].tolist() == [Mask.OUTSIDE] * 4
    assert sky.sky_reason.values[[1, 2]].tolist() == [Mask.NO_STARS, 0]


def test_declination(planted):
    configuration = planted.configuration(min_coverage=0.01)
    configuration["cuts"] = {"declination": [-30, 60]}
    sky = prepare_sky(configuration)
    pixel = sky.superpixel.values[:, None] * 16 + np.arange(16)
    longitude, latitude = healpy.pix2ang(NSIDE, pixel, nest=True, lonlat=True)
    declination = SkyCoord(longitude, latitude, unit="deg", frame="galactic").icrs.dec.deg
    np.testing.assert_array_equal(sky.valid, (declination > -30) & (declination < 60))
    out = int((~sky.valid).sum())
    assert int(sky.masked.sel(reason="declination").sum()) == out > 50


@pytest.mark.parametrize("refused", [False, True])
def test_edges_beyond_the_reliable_distances(planted, refused):
    planted.reliable_max[5] = 10.0
    planted.write()
    configuration = planted.configuration()
    configuration["cuts"] = {"reliable_distance": refused}
    sky = prepare_sky(configuration)
    assert sky.valid.sel(superpixel=0, pixel=5) == (not refused)
    assert reasons(sky, 0) == ({"unreliable": 1} if refused else {})


def test_zero_levels_are_subtracted(planted):
    configuration = planted.configuration()
    configuration["emission"]["zero_level"] = "odegard2019"
    configuration["emission"]["2998"]["zero_level"] = -0.5
    sky = prepare_sky(configuration)
    difference = prepare_sky(planted.configuration()).emission - sky.emission
    expected = [0.060, 0.149, 0.371, 0.576, -0.5]
    np.testing.assert_allclose(difference.mean(("superpixel", "pixel")), expected, atol=1e-5)


def test_noise_of_the_variance_columns(planted):
    rng = np.random.default_rng(8)
    variance = rng.uniform(0.1, 2.0, (12 * NSIDE**2, 5))
    variance[20, 2] = healpy.UNSEEN
    for i, band in enumerate(BANDS):
        factor = K_CMB[band] if band in ("217", "353") else 1.0
        unit = "K_CMB" if band in ("217", "353") else "MJy/sr"
        healpy.write_map(
            planted.folder / f"{band}.fits",
            [
                planted.dust[:, i] / factor,
                np.where(variance[:, i] > 0, variance[:, i] / factor**2, healpy.UNSEEN),
            ],
            nest=True,
            coord="G",
            column_names=["I_STOKES", "II_COV"],
            column_units=[unit, f"{unit}^2"],
            dtype=np.float64,
            overwrite=True,
        )
    configuration = planted.configuration()
    configuration["noise"]["variance"] = True
    configuration["noise"]["sigma"]["217"] = 0.0
    sky = prepare_sky(configuration)
    assert sky.sigma.dims == ("superpixel", "pixel", "band")
    assert not sky.valid.sel(superpixel=1, pixel=4)
    assert reasons(sky, 1) == {"no_emission": 1}
    pixel = sky.superpixel.values[:, None] * 16 + np.arange(16)
    floor = np.array([0.0, 3.0, 9.0, 25.0, 30.0])
    expected = np.sqrt(floor**2 + np.maximum(variance, 0)[pixel])
    valid = sky.valid.values
    np.testing.assert_allclose(sky.sigma.values[valid], expected[valid], rtol=1e-5)
    assert compress(sky).chi2_floor.min() >= 0


def test_two_reddening_maps_become_one(planted):
    """North of the seam the first map, south of it the second, which is three times as thick."""
    (planted.folder / "map.h5").rename(planted.folder / "north.h5")
    planted.write_reddening(NSIDE, np.arange(12 * NSIDE**2), 3 * planted.increments)
    (planted.folder / "map.h5").rename(planted.folder / "south.h5")
    configuration = planted.configuration()
    configuration["reddening"] = {
        "slices": [20, 81, 30],
        "seam": {"declination": 0.0, "width": 0.0},
        "north": {
            "map": "bayestar2019",
            "file": planted.folder / "north.h5",
            "convert": "green2019_g_r",
        },
        "south": {
            "map": "bayestar2019",
            "file": planted.folder / "south.h5",
            "convert": "green2019_g_r",
        },
    }
    sky = prepare_sky(configuration)
    assert sky.attrs["reddening_unit"] == "E(B-V)"
    assert sky.sizes["superpixel"] == 48
    pixel = sky.superpixel.values[:, None] * 16 + np.arange(16)
    longitude, latitude = healpy.pix2ang(NSIDE, pixel, nest=True, lonlat=True)
    declination = SkyCoord(longitude, latitude, unit="deg", frame="galactic").icrs.dec.deg
    first = (declination > 0) & planted.mapped[pixel]
    expected = planted.increments[pixel, 51:81].sum(axis=2) * np.where(first, 0.884, 3 * 0.884)
    np.testing.assert_allclose(sky.reddening.values[..., 2], expected, rtol=1e-5)
    del configuration["reddening"]["south"]["convert"]
    with pytest.raises(ConfigurationError):
        prepare_sky(configuration)


def test_map_without_cmb_keeps_what_it_has(planted):
    configuration = planted.configuration()
    for band in K_CMB:
        configuration["emission"][band]["cmb"] = False
    del configuration["cmb"]
    sky = prepare_sky(configuration)
    pixel = sky.superpixel.values[:, None] * 16 + np.arange(16)
    expected = planted.dust[pixel, 1] + K_CMB["353"] * planted.cmb[pixel]
    np.testing.assert_allclose(sky.emission.sel(band="353"), expected, rtol=2e-6)


def test_superpixels_have_the_voxels_of_their_place(planted):
    configuration = planted.configuration()
    configuration["cuts"] = {
        "one_voxel_above": 60.0,
        "direction": [
            {"name": "here", "center": [45.0, 0.0], "radius": 1.0, "edges_kpc": [0, 0.2, 0.4]}
        ],
    }
    sky = prepare_sky(configuration)
    latitude = healpy.pix2ang(2, sky.superpixel.values, nest=True, lonlat=True)[1]
    here = healpy.ang2pix(2, 45.0, 0.0, nest=True, lonlat=True)
    high = np.abs(latitude) > 60
    assert high.any()
    assert (sky.n_voxel[high] == 1).all()
    assert (sky.cut_reason[high] == CutReason.HIGH_LATITUDE).all()
    assert sky.n_voxel.sel(superpixel=here) == 2
    assert sky.cut_reason.sel(superpixel=here) == CutReason.DIRECTION
    assert (sky.n_voxel[~high & (sky.superpixel != here)] == 3).all()
    edges = sky.distance_edge.sel(superpixel=here).values
    assert edges.tolist() == pytest.approx([0, 0.2, 0.4, 0.401])
    # The dust of one voxel is that of all; padding has none, and no singular value.
    one = sky.isel(superpixel=int(np.argmax(high)))
    pixel = int(one.superpixel) * 16 + np.arange(16)
    np.testing.assert_allclose(
        one.reddening.values[:, 0], planted.increments[pixel, :81].sum(axis=1), rtol=1e-5
    )
    assert (one.reddening.values[:, 1:] == 0).all()
    assert np.isnan(one.singular_value.values[1:]).all()
    assert one.condition == 1
    validate_sky(sky)


def test_conditioning_is_that_of_the_valid_pixels(planted):
    planted.dust[3, 3] = np.nan
    planted.write()
    sky = prepare_sky(planted.configuration()).sel(superpixel=0)
    design = sky.reddening.values[sky.valid.values].astype(float)
    singular = np.linalg.svd(design / np.linalg.norm(design, axis=0), compute_uv=False)
    np.testing.assert_allclose(sky.singular_value, singular, rtol=1e-4)
    assert sky.condition == pytest.approx(singular[0] / singular[-1], rel=1e-4)
    column = design.sum(axis=1)
    emission = sky.emission.sel(band="353").values[sky.valid.values]
    assert sky.correlation == pytest.approx(np.corrcoef(column, emission)[0, 1], rel=1e-4)


def test_posterior_samples_of_the_reddening(planted):
    planted.n_samples = 3
    planted.write()
    configuration = planted.configuration()
    configuration["reddening"]["samples"] = 3
    sky = prepare_sky(configuration)
    assert sky.reddening_sample.dims == ("sample", "superpixel", "pixel", "voxel")
    # The samples are multiples of the first, by 1, 2 and 3; the median over them is the second.
    for k in range(3):
        np.testing.assert_allclose(
            sky.reddening_sample[k], sky.reddening * (k + 1) / 2, rtol=1e-5, atol=1e-8
        )


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


@pytest.fixture(scope="module")
def convolved(tmp_path_factory):
    return Convolved(tmp_path_factory.mktemp("convolved"))


def on_sky(sky, values):
    """Values of NESTED pixels, by superpixel."""
    return values.reshape(12 * sky.attrs["superpixel_nside"] ** 2, -1)[sky.superpixel.values]


def test_all_maps_come_to_one_beam(convolved):
    sky = prepare_sky(convolved.configuration())
    valid = sky.valid.values
    hole = on_sky(sky, np.arange(12 * 64**2) // 2 == 125)
    assert 0.99 < valid.mean() < 1
    assert not valid[hole].any()
    assert int(sky.masked.sel(reason="no_emission").sum()) == (~valid).sum()
    for i, band in enumerate(BANDS):
        expected = on_sky(sky, convolved.values(band, 200.0, 10.0 * (i + 1), 64))[valid]
        found = sky.emission.values[..., i][valid]
        assert np.abs(found - expected).max() < 0.02 * expected.std()
    for i, name in enumerate(("near", "far")):
        expected = on_sky(sky, convolved.values(name, 200.0, 5.0, 64))[valid]
        found = sky.reddening.values[..., i][valid]
        assert np.abs(found - expected).max() < 0.02 * expected.std()
        assert np.std(found - expected) < 2e-3 * expected.std()
    assert sky.attrs["beam"] == 200.0
    assert sky.attrs["pixels_per_beam"] == pytest.approx(15.0, abs=0.1)


def test_subtracting_at_unequal_beams_would_leave_the_cmb(convolved):
    configuration = convolved.configuration()
    configuration["cmb"]["beam"] = 100.0
    wrong = prepare_sky(configuration).emission.sel(band="353")
    right = prepare_sky(convolved.configuration()).emission.sel(band="353")
    assert (wrong - right).std() > 0.1 * right.std()


def test_missing_variance_does_not_spread(convolved, tmp_path):
    """A pixel whose variance is missing has no weight, in smoothing as well."""
    planted = Convolved.__new__(Convolved)
    planted.__dict__.update(convolved.__dict__)
    planted.folder = tmp_path
    planted.write()
    fine = 2 * planted.NSIDE
    for band in BANDS:
        path = tmp_path / f"{band}.fits"
        values, header = healpy.read_map(path, nest=True, h=True, dtype=np.float64)
        variance = np.full(12 * fine**2, 1e-4)
        variance[7000:7010] = healpy.UNSEEN
        unit = dict(header)["TUNIT1"]
        healpy.write_map(
            path,
            [values, variance],
            nest=True,
            coord="G",
            column_names=["I_STOKES", "II_COV"],
            column_units=[unit, f"{unit}^2"],
            dtype=np.float64,
            overwrite=True,
        )
    configuration = planted.configuration()
    configuration["noise"] = {"variance": True, "sigma": dict.fromkeys(BANDS, 0.0)}
    sky = prepare_sky(configuration)
    assert 0.99 < sky.valid.mean() < 1
    added = sky.sigma.sel(band="857").values[sky.valid.values] ** 2
    # Averaged over a beam of many pixels, in which the kernel is narrower than the beam.
    kernel = np.deg2rad(np.sqrt(200.0**2 - 100.0**2) / 60) / np.sqrt(8 * np.log(2))
    per_pixel = 4 * np.pi / (12 * fine**2) / (4 * np.pi * kernel**2)
    assert np.median(added) == pytest.approx(1e-4 * per_pixel, rel=0.05)


def test_one_pixel_of_each_beam_is_left(convolved):
    sky = prepare_sky(convolved.configuration(thin=True))
    blocks = sky.valid.values.reshape(-1, 16)
    assert blocks.sum(axis=1).max() == 1
    assert blocks.any(axis=1).mean() > 0.99
    assert int(sky.masked.sel(reason="thinned").sum()) == pytest.approx(
        sky.valid.size * 15 / 16, rel=0.01
    )
    assert sky.coverage.min() > 0.5
    # What thinning takes away is no reason for a superpixel to be poorly covered.
    assert not (sky.sky_reason.values & Mask.THINNED).any()


def test_reddening_beside_its_edge_is_masked_for_that(convolved, tmp_path):
    planted = Convolved.__new__(Convolved)
    planted.__dict__.update(convolved.__dict__)
    pixel = np.flatnonzero(np.arange(12 * 64**2) // 1024 != 40)
    planted.folder = tmp_path
    planted.write()
    planted.write_reddening(64, pixel, np.full((len(pixel), 120), 0.01, dtype=np.float32))
    sky = prepare_sky(planted.configuration())
    count = sky.masked.sum("superpixel")
    assert count.sel(reason="mask_edge") > 100
    assert sky.sky_reason.values[160:164].tolist() == [Mask.OUTSIDE] * 4
    # A constant stays what it is up to the edge of the mask.
    found = sky.reddening.values[sky.valid.values]
    np.testing.assert_allclose(found, np.broadcast_to([0.21, 0.3], found.shape), rtol=2e-6)
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), rtol=1e-6)


def test_pixel_of_which_too_little_is_mapped_has_no_weight(convolved, tmp_path):
    planted = Convolved.__new__(Convolved)
    planted.__dict__.update(convolved.__dict__)
    planted.folder = tmp_path
    planted.write()
    pixel = np.arange(12 * 128**2)
    # Of one pixel of the sky a quarter is in the map, of another three quarters.
    pixel = np.delete(pixel, [4001, 4002, 4003, 8001])
    planted.write_reddening(128, pixel, np.full((len(pixel), 120), 0.01, dtype=np.float32))
    sky = prepare_sky(planted.configuration())
    assert 0.99 < sky.valid.mean() < 1
    found = sky.reddening.values[sky.valid.values]
    np.testing.assert_allclose(found, np.broadcast_to([0.21, 0.3], found.shape), rtol=2e-6)


def test_wider_beam_than_the_skys_is_refused(convolved):
    configuration = convolved.configuration()
    configuration["emission"]["857"]["beam"] = 250.0
    with pytest.raises(ConfigurationError, match="must be at least 250 arcmin"):
        prepare_sky(configuration)


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


def real_configuration(realsky):
    emission = {
        band: {"file": realsky / f"HFI_SkyMap_{band}_0064_full.fits", "release": "PR2"}
        for band in K_CMB
    }
    emission["2998"] = {"file": realsky / "SFD_i100_0064.fits"}
    return {
        "grid": {"nside": 64, "superpixel_nside": 8, "beam": "matched", "min_coverage": 1.0},
        "reddening": {
            "map": "bayestar2019",
            "file": realsky / "bayestar2019_nside64.h5",
            "slices": [15, 96, 10],
        },
        "emission": emission,
        "cmb": {"file": realsky / "COM_CMB_IQU-smica_0064_full.fits"},
        "noise": {"sigma": dict(zip(BANDS, [0.5, 3.0, 9.0, 25.0, 30.0], strict=True))},
    }


@pytest.mark.realsky
def test_voxels_of_the_real_sky(realsky):
    """One voxel at high latitude, two towards Cepheus; elsewhere as many as the dust can tell."""
    configuration = real_configuration(realsky)
    configuration["cuts"] = {
        "one_voxel_above": 60.0,
        "direction": ["cepheus"],
        "merge": {"min_reddening": 0.005, "max_condition": 30.0},
    }
    sky = prepare_sky(configuration)
    latitude = np.abs(healpy.pix2ang(8, sky.superpixel.values, nest=True, lonlat=True)[1])
    assert (latitude > 60).sum() > 50
    assert (sky.n_voxel.values[latitude > 60] == 1).all()
    cepheus = healpy.ang2pix(8, 98.4375, 8.3855, nest=True, lonlat=True)
    assert sky.n_voxel.sel(superpixel=cepheus) == 2
    assert sky.cut_reason.sel(superpixel=cepheus) == CutReason.DIRECTION
    np.testing.assert_allclose(
        sky.distance_edge.sel(superpixel=cepheus)[:3], [0, 0.841, 3.758], atol=5e-4
    )
    merged = sky.n_voxel.values > 1
    merged &= (sky.cut_reason != CutReason.DIRECTION).values
    assert (sky.condition.values[merged] <= 30).all()
    plain = prepare_sky(real_configuration(realsky))
    assert (plain.n_voxel == 9).all()
    # What is merged is moved, not lost.
    kept = (sky.cut_reason != CutReason.DIRECTION).values
    np.testing.assert_allclose(
        sky.reddening.sum("voxel")[kept], plain.reddening.sum("voxel")[kept], atol=1e-5
    )


@pytest.mark.realsky
def test_real_sky(realsky):
    sky = prepare_sky(real_configuration(realsky))
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
