"""The report of a comparison: what it says, against the comparison it is made from."""

import numpy as np
import pytest
from pages import alts, cells, check_in_browser, sections

from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.judge.preference import differences, summarise_variants, winner
from pymcdust.judge.report import report
from pymcdust.judge.report_comparison import verdict
from pymcdust.sky.store import write_store

pytestmark = pytest.mark.usefixtures("small_images")

REFERENCE = "temperature_per_voxel"


def test_the_whole_page(make_comparison, write):
    comparison = make_comparison()
    text = write(comparison, reference=REFERENCE)
    assert sections(text) == ["variants", "sky", "places", "checks", "trust", "models"]
    assert text.count("<img ") == 8
    predicts, evidence = verdict(comparison)
    assert f"<strong>{predicts}</strong>" in text
    assert evidence in text
    rows = cells(text, 0)
    expected = summarise_variants(comparison, REFERENCE)
    assert [row[0] for row in rows] == [row["model"].replace("_", " ") for row in expected]
    assert rows[0][0] == "temperature per voxel"
    assert rows[0][1] == "0.0"
    against = differences(comparison, REFERENCE)
    for row, one in zip(rows, expected, strict=True):
        assert row[-2] == str(int((winner(comparison) == _position(comparison, one)).sum()))
        if one["model"] != REFERENCE:
            here = against.sel(model=one["model"])
            difference = float(here.elpd_difference_sky), float(here.elpd_difference_sky_error)
            assert row[1] == "{:,.1f} ± {:,.1f}".format(*difference).replace("-", "−")
            assert row[3].startswith(f"{float(here.ln_bayes_factor_sky):,.1f}".replace("-", "−"))
    assert "Map of the variant that each superpixel prefers." in alts(text)
    assert "pixel by pixel" in text


def _position(comparison, row):
    return comparison.model.values.tolist().index(row["model"])


def test_the_verdict_tells_a_difference_from_chance(make_comparison):
    comparison = make_comparison()
    predicts, evidence = verdict(comparison)
    assert predicts.startswith("temperature per voxel predicts best")
    assert "highest for temperature per voxel" in evidence
    score = comparison["elpd_block"].values
    # The second is the first plus noise that means nothing.
    score[2] = score[1] + 0.01 * (score[0] - score[0].mean())
    comparison["elpd_sky"].values[2] = score[2].sum()
    predicts, _ = verdict(comparison)
    assert "predict equally well" in predicts


def test_evidence_that_cannot_be_relied_on_is_told(make_comparison):
    comparison = make_comparison()
    assert "cannot be relied on" not in verdict(comparison)[1]
    comparison["evidence_reliable"].values[1, [3, 5]] = False
    assert "In 2 of 60 superpixels" in verdict(comparison)[1]


def test_blocks_of_several_pixels_are_told(make_comparison, write):
    comparison = make_comparison()
    comparison.attrs["block"] = 16
    assert "over blocks of 16 pixels" in write(comparison)


def test_one_superpixel_has_no_maps(make_comparison, write):
    text = write(make_comparison([3]))
    assert sections(text) == ["variants", "checks", "trust", "models"]


def test_a_model_that_couples_superpixels(make_comparison, write):
    comparison = make_comparison()
    comparison["ln_evidence"].values[2] = float("nan")
    comparison["probability"].values[:] = float("nan")
    text = write(comparison)
    assert "Map of the variant" in " ".join(alts(text))
    comparison["ln_evidence"].values[:] = float("nan")
    comparison["ln_evidence_sky"].values[:] = float("nan")
    text = write(comparison)
    assert "Fewer than two variants have an evidence." in text
    assert "Map of the variant" not in " ".join(alts(text))


def test_a_store_is_reported_as_well(make_comparison, write, tmp_path):
    comparison = make_comparison()
    write_store(comparison, tmp_path / "comparison.zarr", superpixels_per_chunk=32)
    text = report(tmp_path / "comparison.zarr", tmp_path / "stored.html").read_text()
    assert text == write(comparison)


def test_what_does_not_belong_is_refused(make_comparison, make_posterior, tmp_path):
    out = tmp_path / "report.html"
    with pytest.raises(ConfigurationError, match="superpixel was given, which means nothing"):
        report(make_comparison(), out, superpixel=3)
    with pytest.raises(ConfigurationError, match="reference was given, which means nothing"):
        report(make_posterior(), out, reference=REFERENCE)
    with pytest.raises(ResultError, match="did you mean 'temperature_per_voxel'"):
        report(make_comparison(), out, reference="temperature_pervoxel")
    assert not out.exists()


def test_in_a_browser(make_comparison, browser, tmp_path):
    out = report(make_comparison(range(192)), tmp_path / "report.html")
    check_in_browser(browser, out, tmp_path)


def test_superpixels_without_data_in_a_band_neither_fit_nor_misfit(make_comparison, write):
    comparison = make_comparison()
    share = comparison["chi2_p"].copy(data=np.full(comparison["chi2_p"].shape, 0.5))
    share[{"superpixel": 0}] = 0.001
    share[{"superpixel": slice(2, None), "band": 0}] = np.nan
    text = write(comparison.assign(chi2_p=share))
    n_superpixel = comparison.sizes["superpixel"]
    number = text[: text.index("whose chi-square is larger")].count("<tbody>")
    [row] = [row for row in cells(text, number) if row[0] == "single temperature"]
    assert row[1:3] == ["50.0", f"{100 / n_superpixel:.1f}"]
