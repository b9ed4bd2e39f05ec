import errno
import hashlib
import json
from importlib.metadata import version

import healpy
import numpy as np
import pytest
import xarray as xr
from astropy.coordinates import SkyCoord
from planted import (
    K_CMB,
    NSIDE,
    SLICES,
    Planted,
    real_configuration,
    reasons,
    write_healpix,
)

from pymcdust.errors import ConfigurationError, FileFormatError, SkyError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.compression import compress
from pymcdust.sky.cuts import Mask
from pymcdust.sky.dataset import open_sky, save_sky
from pymcdust.sky.prepare import prepare_sky
from pymcdust.sky.validation import validate_sky
from pymcdust.sky.voxels import CutReason


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


def test_a_draft_stays_with_the_beginnings(planted, tmp_path, monkeypatch):
    """A killed run leaves nothing beside the sky that opens as one."""
    seen = []

    def look(dataset, partial, *arguments):
        seen.append(partial)
        raise Killed

    draft = tmp_path / "sky.zarr.stages" / "sky.partial"
    with monkeypatch.context() as patch:
        patch.setattr("pymcdust.sky.store._write_group", look)
        with pytest.raises(Killed):
            prepare_sky(planted.configuration(), tmp_path / "sky.zarr")
    assert seen == [draft]
    save_sky(prepare_sky(planted.configuration()), draft)
    again = prepare_sky(planted.configuration(), tmp_path / "sky.zarr")
    assert again.sizes["superpixel"] == 44
    assert not draft.parent.exists()


def test_killed_run_with_another_configuration_is_not_continued(planted, tmp_path):
    def kill(line):
        if "map.h5" in line:
            raise Killed

    with pytest.raises(Killed):
        prepare_sky(planted.configuration(), tmp_path / "sky.zarr", progress=kill)
    other = planted.configuration()
    other["emission"]["353"]["zero_level"] = 0.1
    with pytest.raises(ConfigurationError, match="a sky with another configuration"):
        prepare_sky(other, tmp_path / "sky.zarr")
    planted.dust += 1
    planted.write()
    with pytest.raises(ConfigurationError, match="a sky with another files"):
        prepare_sky(planted.configuration(), tmp_path / "sky.zarr")


def test_what_the_maps_do_not_depend_on_may_change(planted, tmp_path):
    lines = []
    configuration = planted.configuration(min_coverage=1.0)
    configuration["cuts"] = {"declination": [80.0, 90.0]}
    with pytest.raises(SkyError, match="lower min_coverage"):
        prepare_sky(configuration, tmp_path / "sky.zarr")
    configuration = planted.configuration()
    configuration["noise"]["sigma"]["353"] = 2.0
    sky = prepare_sky(configuration, tmp_path / "sky.zarr", progress=lines.append)
    assert not any("reading" in line for line in lines)
    xr.testing.assert_identical(sky.load(), prepare_sky(configuration))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emission": {"2998": {"column": "NONE"}}}, "unknown column 'NONE'"),
        ({"noise": {"variance": ["857"]}}, "857.fits: has no column of the variance"),
        ({"reddening": {"samples": 7}}, "7 posterior samples are asked"),
        ({"grid": {"nside": 16}}, "217.fits: nside 8 is coarser than the sky's nside 16"),
    ],
)
def test_what_headers_tell_is_said_before_the_work(planted, tmp_path, change, message):
    configuration, lines = planted.configuration(), []
    for section, entry in change.items():
        for key, value in entry.items():
            if isinstance(value, dict):
                configuration[section][key] |= value
            else:
                configuration[section][key] = value
    with pytest.raises((ConfigurationError, FileFormatError), match=message):
        prepare_sky(configuration, tmp_path / "sky.zarr", progress=lines.append)
    assert not lines
    assert not list(tmp_path.glob("*.stages"))


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


def test_distances_are_reliable_where_a_superpixel_has_its_edges(planted):
    """The edges of a direction are asked of its own superpixels alone."""
    planted.reliable_max[:] = 14.0  # 6.3 kpc
    planted.write()
    configuration = planted.configuration()
    configuration["reddening"]["slices"] = [20, 61, 20]
    far = {"name": "far", "center": [45.0, 0.0], "radius": 1.0, "slices": [20, 101, 40]}
    near = far | {"name": "near", "slices": [20, 41, 20]}
    configuration["cuts"] = {"reliable_distance": True}
    n_whole = prepare_sky(configuration).sizes["superpixel"]
    here = healpy.ang2pix(2, 45.0, 0.0, nest=True, lonlat=True)
    for direction, missing in ((far, 1), (near, 0)):
        configuration["cuts"]["direction"] = [direction]
        sky = prepare_sky(configuration)
        assert sky.sizes["superpixel"] == n_whole - missing
        assert (here in sky.superpixel) == (not missing)


def test_zero_levels_are_subtracted(planted):
    configuration = planted.configuration()
    configuration["emission"]["zero_level"] = "odegard2019"
    configuration["emission"]["2998"]["zero_level"] = -0.5
    sky = prepare_sky(configuration)
    difference = prepare_sky(planted.configuration()).emission - sky.emission
    expected = [0.060, 0.149, 0.371, 0.576, -0.5]
    np.testing.assert_allclose(difference.mean(("superpixel", "pixel")), expected, atol=1e-5)


def test_dipole_of_the_sun_is_subtracted(planted):
    """From maps of PR4, and from a map of the CMB that holds it."""
    expected = prepare_sky(planted.configuration())
    direction = healpy.ang2vec(263.986, 48.247, lonlat=True)
    centres = np.stack(healpy.pix2vec(NSIDE, np.arange(12 * NSIDE**2), nest=True))
    dipole = 3.3666e-3 * direction @ centres
    configuration = planted.configuration()
    for i, band in enumerate(K_CMB):
        values = planted.dust[:, i] / K_CMB[band] + planted.cmb + dipole
        write_healpix(planted.folder / f"{band}.fits", values, "K_CMB", nest=False)
        configuration["emission"][band]["release"] = "PR4"
    write_healpix(planted.folder / "cmb.fits", planted.cmb + dipole, "K_CMB")
    configuration["cmb"]["dipole"] = True
    sky = prepare_sky(configuration)
    np.testing.assert_allclose(sky.emission, expected.emission, atol=2e-6)
    configuration["cmb"]["dipole"] = False
    difference = prepare_sky(configuration).emission - expected.emission
    assert np.abs(difference.sel(band="217")).max() > 1.5


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
