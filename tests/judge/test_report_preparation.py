"""The report of a sky: its numbers against brute force, and skies of which little is known."""

import html

import healpy as hp
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from pages import alts, cells, check_in_browser, sections
from planted import real_configuration
from report_skies import BANDS, FAINT, prepared, rows_of, simulated

from pymcdust import compress, open_sky, report, save_sky
from pymcdust.errors import ConfigurationError, FileFormatError, ResultError, SkyError
from pymcdust.judge.preparation_figures import MASK_COLOURS, MASK_WORDS
from pymcdust.judge.report_preparation import sky_page
from pymcdust.judge.report_preparation_alarms import alarms
from pymcdust.physics.emission import emissivity
from pymcdust.sky.cuts import Mask
from pymcdust.sky.prepare import prepare_sky
from pymcdust.sky.quality import summarise_sky
from pymcdust.sky.store import write_store

EVERY = [
    "next",
    "coverage",
    "masked",
    "voxels",
    "reddening",
    "conditioning",
    "follows",
    "emission",
    "oddities",
    "beam",
    "provenance",
]


def without(sky, *bands):
    """Return a sky that does not know some bands in any pixel."""
    known = ~sky.band.isin(bands) & sky.valid
    known = known.transpose("superpixel", "pixel", "band").drop_vars(["band", "frequency"])
    return sky.assign(valid=known, emission=sky.emission.where(known))


@pytest.fixture(scope="module")
def plain():
    return simulated()


def test_a_simulated_sky(plain, write):
    text = write(plain)
    assert sections(text) == EVERY
    assert "Nothing alarming was found in this sky." in text
    assert "192 superpixels of Nside 4 cover 41,253 deg², 100.0 % of the sky" in text
    assert "each has 64 pixels of Nside 32 and 3 voxels" in text
    assert "No pixel is masked." in text
    assert "The sky does not tell of superpixels that it does not hold." in text
    assert "0 of 12,288 pixels are masked; the sky does not tell why" in text
    assert "The sky does not tell its beam." in text
    assert "verdict bad" not in text.split("<main>")[0].split("</style>")[1]


def test_one_superpixel(write):
    text = write(simulated(superpixels=[7]))
    assert "Quality of a sky of one superpixel, 7" in text
    assert "1 superpixel of Nside 4 covers 215 deg²" in text
    assert len(alts(text)) == 1


def test_a_prepared_sky_tells_what_was_masked(write):
    sky = prepared()
    text = write(sky)
    n_pixel = sky.valid.size
    valid = int(sky.valid.sum())
    assert f"{100 * (1 - valid / n_pixel):.1f} % of the pixels are masked" in text
    count = dict(zip(sky.reason.values, sky.masked.sum("superpixel").values, strict=True))
    first, second = (100 * count[name] / n_pixel for name in ("unreliable", "declination"))
    assert (
        f"The main reasons: unreliable distances ({first:.1f} %) and declination ({second:.1f} %)"
        in text
    )
    rows = rows_of(text, "masked")
    assert set(rows) == set(MASK_WORDS.values())
    for mask in Mask:
        n = count[mask.name.lower()]
        row = rows[MASK_WORDS[mask]]
        assert row[:2] == [f"{n:,}", f"{100 * n / n_pixel:.2f}"]
    assert rows["outside of the reddening map"][2] == "30"
    assert rows["a band is missing"][2] == "42"
    assert rows["unreliable distances"][2] == "0"  # these are kept
    assert rows["thinned"][2] == "–"


def test_coverage_of_the_whole_sky(write):
    sky = prepared()
    text = write(sky)
    rows = rows_of(text, "coverage")
    mean = 100 * float(sky.valid.mean())
    assert rows["kept"] == ["100", f"{100 / 1.92:.2f}", f"{mean:.1f}"]
    assert rows["dropped, valid in part"] == ["10", f"{10 / 1.92:.2f}", "40.0"]
    assert rows["without valid pixels"] == ["82", f"{82 / 1.92:.2f}", "0.0"]
    assert "92 of the 192 superpixels of the sky were not kept." in text
    shown = " ".join(alts(text))
    assert "100 superpixels are kept, 10 are dropped though valid in part" in shown
    assert "Map of the reason that masks most pixels" in shown


def test_voxels_and_why(write):
    sky = prepared()
    text = write(sky)
    number = sky.n_voxel.values
    rows = rows_of(text, "voxels")
    assert rows["one voxel, at high latitude"] == [
        f"{(number == 1).sum()}",
        f"{(number == 1).mean() * 100:.1f}",
        "1",
    ]
    assert rows["voxels without dust were merged"][2] == "2"
    assert rows["voxels that look alike were merged"][0] == f"{(number == 2).sum()}"
    assert "one voxel, with little dust" not in rows
    edges = {row[2]: row[:2] for row in cells(text.split('id="voxels"')[1], 1)}
    # Padding is no voxel: its edges are not told.
    assert edges["0, 0.300"] == ["1", f"{(number == 1).sum()}"]
    assert edges["0, 0.300, 1.00"] == ["2", f"{(number == 2).sum()}"]
    assert "between 1 and 3" in " ".join(alts(text))


def test_reddening_of_each_voxel(write):
    sky = prepared()
    rows = rows_of(write(sky), "reddening")
    number, valid = sky.n_voxel.values, sky.valid.values
    for voxel in range(3):
        here = (number > voxel)[:, None] & valid
        values = sky.reddening.values[..., voxel][here].astype(float)
        low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
        row = rows[f"voxel {voxel + 1}"]
        assert row[0] == f"{(number > voxel).sum()}"
        assert float(row[2]) == pytest.approx(middle, rel=0.01)
        told = [float(part) for part in row[3].split(" … ")]
        assert told == pytest.approx([low, high], rel=0.06)
        assert row[4] == f"{100 * (values < 0).mean():.2f}"


def test_conditioning(write):
    sky = prepared()
    sky["reddening"][:7, :, 0] = 0.0
    condition = np.empty(100)
    for i, (design, valid, n) in enumerate(
        zip(sky.reddening.values, sky.valid.values, sky.n_voxel.values, strict=True)
    ):
        design = design[valid, :n]
        norm = np.linalg.norm(design, axis=0)
        values = np.linalg.svd(design / np.where(norm > 0, norm, 1), compute_uv=False)
        condition[i] = values[0] / values[-1] if values[-1] > 0 else np.inf
    assert np.isinf(condition).sum() == 7
    text = write(sky)
    rows = rows_of(text, "conditioning")
    assert rows["worse than 30"][0] == f"{(condition > 30).sum()}"
    assert rows["worse than 100"][0] == f"{(condition > 100).sum()}"
    assert rows["beyond 10⁷: a voxel is empty, or a copy"] == ["7", "7.0"]
    singular = rows_of(text, "conditioning", 1)
    assert singular["3"][0] == f"{(sky.n_voxel.values == 3).sum()}"


def test_emission_follows_reddening_by_latitude(plain, write):
    text = write(plain)
    of_bands = rows_of(text, "follows", 1)
    column = plain.reddening.sum("voxel").values
    light = plain.emission.sel(band="353").values
    slope, intercept = np.polyfit(column.ravel(), light.ravel(), 1)
    assert f"353 GHz = {slope:.2f} MJy/sr per mag" in text
    rho = slope / emissivity(353.0, 18.1, 1.6, 1.0)
    assert f"has rho = {rho * 1e4:.2f} × 10⁻⁴ mag⁻¹" in text
    rows = rows_of(text, "follows")
    latitude = np.abs(hp.pix2ang(4, plain.superpixel.values, nest=True, lonlat=True)[1])
    assert sum(int(row[0]) for row in rows.values()) == 192
    here = (latitude >= 10) & (latitude < 20)
    row = rows["10 – 20"]
    assert row[0] == f"{here.sum()}"
    correlation = [np.corrcoef(c, e)[0, 1] for c, e in zip(column[here], light[here], strict=True)]
    assert row[2] == f"{np.median(correlation):.2f}"
    slope, _ = np.polyfit(column[here].ravel(), light[here].ravel(), 1)
    assert row[3] == f"{slope:.2f}"
    assert intercept == pytest.approx(0, abs=0.01)
    for i, band in enumerate(BANDS):
        whole = np.corrcoef(column.ravel(), plain.emission.values[..., i].ravel())[0, 1]
        assert of_bands[f"{band} GHz"][0] == f"{whole:.2f}"
        assert float(of_bands[f"{band} GHz"][1]) > 0.9
        assert int(of_bands[f"{band} GHz"][2]) > 50


def test_emission_of_each_band(plain, write):
    text = write(plain)
    rows, colours = rows_of(text, "emission"), rows_of(text, "emission", 1)
    for i, band in enumerate(plain.band.values):
        values = plain.emission.values[..., i].ravel()
        low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
        row = rows[f"{band} GHz"]
        assert [float(cell) for cell in row[:3]] == pytest.approx([middle, low, high], rel=0.006)
        assert float(row[3]) == FAINT[band]
        assert float(row[4]) == pytest.approx(middle / FAINT[band], rel=0.06)
        assert row[5] == f"{100 * (values < 0).mean():.2f}"
        for off in (colours[f"{band} GHz"][1], colours[f"{band} GHz"][3]):
            assert float(off[2:]) == pytest.approx(1, abs=0.03)


def test_provenance(write):
    text = write(prepared())
    assert rows_of(text, "provenance")["reddening"] == ["map.h5", 64 * "a"]
    assert rows_of(text, "provenance", 1) == {"grid.nside": ["32"], "noise.sigma.217": ["0.5"]}
    rest = rows_of(text, "provenance", 2)
    assert not {"files", "configuration"} & set(rest)
    assert rest["versions"] == ["pymcdust = 7.8.9, numpy = 2.0"]
    assert rest["superpixel nside"] == ["4"]
    assert "prepared by its version 7.8.9." in text


def test_bands_that_are_masked_and_noise_of_each_pixel(plain, write):
    sky = plain.copy(deep=True)
    valid = np.ones(sky.emission.shape, dtype=bool)
    valid[:, :, 4] = False
    valid[3, :, 1] = False
    sky["valid"] = (("superpixel", "pixel", "band"), valid)
    sky["sigma"] = sky.sigma.broadcast_like(sky.emission).transpose(*sky.emission.dims).copy()
    sky["emission"].loc[{"band": "2998"}] = np.nan
    rows = rows_of(write(sky), "emission")
    assert rows["2998 GHz"] == ["–", "–", "–", "–", "–", "–", "12,288"]
    assert float(rows["353 GHz"][3]) == pytest.approx(FAINT["353"], rel=0.01)


@pytest.mark.parametrize("band", BANDS)
def test_a_band_that_is_nowhere_known(write, band):
    others = [other for other in BANDS if other != band]
    for sky in (simulated(superpixels=range(12)), prepared(), simulated(superpixels=[7])):
        text = write(without(sky, band))
        assert sections(text) == EVERY
        assert ("No line can be laid through 353 GHz" in text) == (band == "353")
        assert any("353 GHz emission" in alt for alt in alts(text)) == (band != "353")
        text = write(without(sky, *others))
        assert ("No line can be laid through 353 GHz" in text) == (band != "353")
        assert rows_of(text, "emission")[f"{band} GHz"][0] != "–"
        assert rows_of(text, "emission")[f"{others[0]} GHz"][0] == "–"


def test_353_ghz_in_a_few_pixels_that_are_not_looked_at(write, monkeypatch):
    monkeypatch.setattr("pymcdust.sky.quality.MOST_PIXELS", 100)
    full = simulated(superpixels=range(12))
    sky = without(full, "353")
    sky["valid"][3, 2:5, 1] = True
    sky["emission"] = full.emission.where(sky.valid)
    text = write(sky)
    assert "Over all pixels, 353 GHz =" in text
    assert not any("353 GHz emission" in alt for alt in alts(text))


def test_353_ghz_away_from_the_plane_only(plain, write):
    latitude = np.abs(hp.pix2ang(4, plain.superpixel.values, nest=True, lonlat=True)[1])
    sky = without(plain)
    sky["valid"][latitude < 20, :, 1] = False
    rows = rows_of(write(sky), "follows")
    assert rows["10 – 20"][2:] == ["–", "–", "–"]
    assert "–" not in rows["20 – 30"]


@pytest.mark.parametrize("superpixels", [[7], range(12)])
def test_one_voxel(write, superpixels):
    text = write(simulated(superpixels=superpixels, distance_edge=[0, 1.0]))
    assert sections(text) == EVERY
    assert list(rows_of(text, "reddening")) == ["voxel 1, 0–1.0 kpc"]


def test_one_pixel_in_each_superpixel(write):
    sky = simulated(superpixels=range(12))
    sky["valid"][:] = np.arange(sky.sizes["pixel"]) == 5
    sky["emission"] = sky.emission.where(sky.valid)
    sky["reddening"] = sky.reddening.where(sky.valid)
    assert sections(write(sky)) == EVERY


def test_a_sky_without_dust_or_light(write):
    sky = simulated(superpixels=range(12))
    assert "No line can be laid" in write(sky.assign(reddening=0 * sky.reddening))
    assert sections(write(sky.assign(emission=0 * sky.emission))) == EVERY


def test_a_superpixel_without_valid_pixels():
    sky = simulated(superpixels=range(12))
    sky["valid"][4] = False
    assert sections(sky_page(sky)) == EVERY


@pytest.mark.parametrize("told", ["1.2.3", "[1, 2]", "3", "null", '"{"', "", "{}", '{"a": 1}', 7])
def test_provenance_that_was_not_made_here(write, told):
    sky = simulated(superpixels=[7])
    names = ("versions", "files", "configuration", "settings")
    text = write(sky.assign_attrs(dict.fromkeys(names, told)))
    assert "Written by pymcdust." in text
    if told not in ("{}", '{"a": 1}'):
        rest = rows_of(text, "provenance")
        assert {html.unescape(rest[name][0]) for name in names} == {str(told)}


def test_a_lazy_sky_gives_the_same_page(plain, tmp_path):
    save_sky(plain, tmp_path / "sky.zarr")
    calls = []
    report(tmp_path / "sky.zarr", tmp_path / "a.html", progress=lambda *call: calls.append(call))
    report(open_sky(tmp_path / "sky.zarr"), tmp_path / "b.html")
    report(plain, tmp_path / "c.html")
    a, b, c = ((tmp_path / f"{name}.html").read_text() for name in "abc")
    assert a == b == c
    assert calls[-1] == (192, 192)


def test_what_is_no_sky(plain, tmp_path):
    out = tmp_path / "report.html"
    with pytest.raises(SkyError, match="'sigma' is missing"):
        report(plain.drop_vars("sigma"), out)
    with pytest.raises(ResultError, match="no report of a compressed sky"):
        report(compress(plain), out)
    write_store(compress(plain), tmp_path / "rows.zarr", superpixels_per_chunk=10)
    with pytest.raises(FileFormatError, match="no report of a compressed sky"):
        report(tmp_path / "rows.zarr", out)
    for arguments in ({"superpixel": 3}, {"reference": "mine"}):
        [name] = arguments
        with pytest.raises(ConfigurationError, match=f"{name} was given.* report of a sky"):
            report(plain, out, **arguments)
    assert not out.exists()


def test_every_reason_has_words_and_a_colour_of_its_own():
    assert set(MASK_WORDS) == set(Mask)
    assert set(MASK_COLOURS) == set(Mask) - {Mask.THINNED}
    assert len({to_rgb(colour) for colour in MASK_COLOURS.values()}) == len(MASK_COLOURS)


@pytest.mark.realsky
def test_the_real_sky(realsky, write):
    sky = prepare_sky(real_configuration(realsky, min_coverage=0.9))
    # Nine voxels are too many away from the plane; nothing else is amiss.
    [alarm] = alarms(sky, summarise_sky(sky))
    assert alarm.title.startswith("Voxels cannot be told apart")
    text = write(sky)
    assert sections(text) == EVERY
    assert "217 of the 768 superpixels of the sky were not kept" in text
    assert rows_of(text, "coverage")["kept"][0] == "551"


def test_it_opens_in_a_browser(browser, tmp_path, small_images):
    sky = prepared()
    sky.attrs["source"] = 60 * "averylongname"
    out = report(sky, tmp_path / "sky.html")
    check_in_browser(browser, out, tmp_path)
