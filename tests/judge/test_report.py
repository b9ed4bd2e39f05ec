import json

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from pages import alts, cells, check, check_in_browser, sections

from pymcdust.errors import ConfigurationError, FileFormatError, ResultError
from pymcdust.judge import report_closeup
from pymcdust.judge.convergence import diagnose
from pymcdust.judge.report import report
from pymcdust.judge.report_page import Section, page, paragraph, picture, table

pytestmark = pytest.mark.usefixtures("small_images")


@pytest.fixture(autouse=True)
def few_plots(monkeypatch):
    monkeypatch.setattr(report_closeup, "MOST_TRACED", 2)


def draws_of(posterior, name):
    return posterior["posterior"][name].values


def stats_of(posterior, name):
    return posterior["sample_stats"][name].values


def test_one_superpixel_that_passed(make_posterior, write):
    posterior = make_posterior(superpixels=[100])
    text = write(posterior)
    assert "<strong>Superpixel 100 passed.</strong>" in text
    assert "Nothing was found to be wrong" in text
    assert "single chain" not in text.split("<section")[0]
    assert sections(text) == ["next", "closeup", "provenance", "thresholds"]
    rows = {row[0]: row[1:] for row in cells(text, 0)}
    # Voxels are counted from 1.
    assert [label.split(" (")[0] for label in rows] == [
        "temperature, voxel 1",
        "temperature, voxel 2",
        "beta",
        "rho",
    ]
    draws = draws_of(posterior, "rho") * 1e4
    assert rows["rho"][:2] == [f"{draws.mean():.2f}", f"{draws.std(ddof=1):.2f}"]
    low, high = np.quantile(draws, [0.055, 0.945])
    assert rows["rho"][3] == f"{low:.2f} … {high:.2f}"
    assert rows["rho"][4] == "10⁻⁴ mag⁻¹"
    found = diagnose(posterior)
    assert rows["beta"][5] == f"{float(found['beta_rhat'][0]):.3f}"
    assert rows["beta"][6] == f"{float(found['beta_ess_bulk'][0]):,.0f}"
    assert rows["beta"][7] == f"{float(found['beta_ess_tail'][0]):,.0f}"
    assert rows["beta"][8].startswith(f"{float(found['beta_mcse'][0]):.4f}"[:5])
    assert any("1.5\u2060–\u20603\u00a0kpc" in label for label in rows)
    kinds = " ".join(alts(text))
    for kind in ("Trace plot", "ranks", "pairs", "energy"):
        assert kind in kinds


def test_many_superpixels_of_which_some_fail(make_posterior, write):
    posterior = make_posterior(superpixels=range(40, 100))
    draws_of(posterior, "temperature")[0, :, 7, 1] += 2.0
    stats_of(posterior, "diverging")[:, :25, 9] = True
    stats_of(posterior, "diverging")[0, :5, 11] = True
    text = write(posterior)
    assert "<strong>58 of 60 superpixels passed; 2 did not.</strong>" in text
    assert "High R-hat (1 superpixel)" in text
    assert "Divergences (1 superpixel)" in text
    assert "1 further superpixel has divergent transitions as well, at most 0.25 %" in text
    assert sections(text)[:4] == ["next", "sky", "failures", "closeup"]
    failed = {row[0]: row for row in cells(text, 0)}
    assert list(failed) == ["47", "49"]
    assert failed["47"][3:5] == ["high R-hat, low ESS", "temperature, voxel 2"]
    assert failed["49"][3:5] == ["divergences", "–"]
    assert failed["49"][-1] == "5.00"
    # The worst is looked at, with the parameter that makes it so.
    assert "The worst: superpixel 47 (l = " in text
    assert alts(text)[7].startswith("Trace plot of temperature, voxel 2")
    assert "from 1.00" in next(alt for alt in alts(text) if alt.startswith("Histogram of R-hat"))
    assert "1 of 60 are beyond the threshold" in text


def test_only_the_worst_of_many_failures_are_listed(make_posterior, write):
    posterior = make_posterior(superpixels=range(70), draws=120)
    draws_of(posterior, "beta")[0] += 0.2
    draws_of(posterior, "beta")[0, :, 33] += 5
    text = write(posterior)
    assert "None of 70 superpixels passed." in text
    assert "the worst first: 50 of 70." in text
    listed = [row[0] for row in cells(text, 0)]
    assert len(listed) == 50
    assert listed[0] == "33"


def test_a_superpixel_of_choice(make_posterior, write):
    posterior = make_posterior()
    assert "Superpixel 6 (l = " in write(posterior, superpixel=6)
    with pytest.raises(ResultError, match="no superpixel 7"):
        write(posterior, superpixel=7)


def test_independent_draws(make_posterior, write):
    posterior = make_posterior("laplace", range(12), chains=1, draws=2000)
    stats_of(posterior, "pareto_k")[5] = 0.93
    text = write(posterior)
    assert "11 of 12 superpixels passed" in text
    assert "Sample these with the method nuts" in text
    assert cells(text, 0)[0][0] == "5"
    assert cells(text, 0)[0][-1] == "0.93"
    assert '<th scope="col" class="number">R-hat</th>' not in text
    assert not any("Trace" in alt or "ranks" in alt or "nergy" in alt for alt in alts(text))
    assert "Map of Pareto k-hat." in alts(text)
    assert "Map of the largest R-hat." not in alts(text)


def test_a_mixture_of_methods(make_posterior, write):
    posterior = make_posterior("auto", range(12))
    draws_of(posterior, "beta")[0, :, 3] += 1.0
    text = write(posterior)
    assert "11 of 12 superpixels passed" in text
    assert "9 superpixels have independent draws, and no R-hat" in text
    assert "were left to NUTS" in text
    # The k-hat of what NUTS has replaced is not told.
    assert cells(text, 0)[0][-1] == "–"
    assert "The worst: superpixel 3 " in text
    assert any(alt.startswith("Trace plot of beta, 4 chains") for alt in alts(text))


@pytest.mark.parametrize("dims", [("draw",), ("chain", "draw"), ("chain", "draw", "superpixel")])
def test_parallel_tempering(make_posterior, write, dims):
    posterior = make_posterior("ptemcee", [7], chains=1, draws=4000)
    stats = posterior["sample_stats"].dataset
    step = (
        stats["step"]
        .broadcast_like(stats["lp"])
        .isel({dim: 0 for dim in stats["lp"].dims if dim not in dims}, drop=True)
    )
    posterior["sample_stats"] = xr.DataTree(stats.assign(step=step))
    text = write(posterior)
    assert "tempering" in sections(text)
    assert "the walkers of the ensemble" in text
    assert "the two halves of the chain" in text
    assert "there is a single chain" in text
    assert "down to 0.078" in text


def test_sequential_monte_carlo(make_posterior, write):
    posterior = make_posterior("smc", [7])
    text = write(posterior)
    mean = stats_of(posterior, "ln_evidence").mean()
    assert f"−{-mean:.2f} ± " in text


def test_a_coupled_sky(make_posterior, write):
    posterior = make_posterior(superpixels=range(5, 12), coupled=True)
    text = write(posterior)
    assert "The sky, sampled as one problem, passed." in text
    assert "failures" not in sections(text)
    assert "Map of the largest R-hat." in alts(text)
    assert "temperature mu" in [row[0] for row in cells(text, 0)]
    draws_of(posterior, "temperature_mu")[0] += 1.0
    text = write(posterior)
    assert "The sky, sampled as one problem, did not pass." in text
    assert any(alt.startswith("Trace plot of temperature mu") for alt in alts(text))


def test_offsets_of_each_band(make_posterior, write):
    posterior = make_posterior(coupled=True, draws=200)
    draws = 0.3 * np.random.default_rng(2).standard_normal((4, 200, 2))
    dims = ("chain", "draw", "band")
    offset = xr.DataArray(
        draws, dims=dims, attrs={"unit": "MJy/sr"}, coords={"band": ["217", "353"]}
    )
    posterior["posterior"] = posterior["posterior"].assign(offset=offset)
    rows = {row[0]: row[1:] for row in cells(write(posterior), 0)}
    assert list(rows)[:3] == ["offset, 217 GHz", "offset, 353 GHz", "temperature mu"]
    assert rows["offset, 353 GHz"][0] == f"{draws[..., 1].mean():.2f}".replace("-", "−")
    offset[0, :, 1] += 2
    posterior["posterior"] = posterior["posterior"].assign(offset=offset)
    assert "Trace plot of offset, 353 GHz [MJy/sr], 4 chains of 200 draws." in alts(
        write(posterior)
    )


def test_parameters_of_the_sky_alone(make_posterior, write):
    posterior = make_posterior(coupled=True)
    shared = posterior["posterior"].dataset[["temperature_mu"]]
    posterior["posterior"] = xr.DataTree(shared)
    text = write(posterior)
    assert sections(text) == ["next", "closeup", "provenance", "thresholds"]
    assert "The sky</h2>" in text
    with pytest.raises(ResultError, match="all parameters are those of the sky"):
        write(posterior, superpixel=5)


@pytest.mark.parametrize(("chains", "draws"), [(1, 1), (1, 3), (4, 3), (1, 7), (2, 8)])
def test_few_draws(make_posterior, write, chains, draws):
    text = write(make_posterior(chains=chains, draws=draws))
    assert "None of 3 superpixels passed." in text
    assert f"{chains * draws} draws ({chains} x {draws}) are too few" in text


def test_draws_that_are_not_finite(make_posterior, write):
    posterior = make_posterior()
    draws_of(posterior, "temperature")[0, 3, 1, 0] = np.nan
    draws_of(posterior, "beta")[0, 3, 1] = -np.inf
    text = write(posterior)
    assert "NaN or infinite draws (1 superpixel)" in text
    assert "1 superpixel has no finite R-hat" in text
    assert [row[1] for row in cells(text, 1)][:1] == ["–"]


def test_draws_that_stand_still(make_posterior, write):
    posterior = make_posterior(superpixels=[5])
    draws_of(posterior, "beta")[:] = 1.6
    stats_of(posterior, "energy")[:] = 3.0
    text = write(posterior)
    assert "did not pass" in text
    assert not any("energy" in alt for alt in alts(text))


def test_a_lazy_posterior_without_what_is_not_needed(make_posterior, write, tmp_path):
    posterior = make_posterior("auto", range(6), draws=200)
    expected = write(posterior)
    posterior.to_zarr(tmp_path / "posterior.zarr", zarr_format=3, consolidated=False)
    options = {"engine": "zarr", "chunks": None, "consolidated": False}
    lazy = xr.open_datatree(tmp_path / "posterior.zarr", **options)
    assert write(lazy) == expected
    del posterior["constant_data"]
    for name in ("superpixel_nside", "model_definition", "settings", "model"):
        posterior.attrs.pop(name)
    text = write(posterior)
    assert "superpixel" in text
    assert not any("Map" in alt for alt in alts(text))


def test_edges_of_each_superpixel(make_posterior, write):
    posterior = make_posterior()
    edges = np.array([[0, 0.4, 1.0], [0, 0.5, 2.5], [0, 1, 3]])
    posterior["constant_data"] = xr.DataTree(
        xr.Dataset(
            {"distance_edge": (("superpixel", "voxel_edge"), edges)}, {"superpixel": [5, 6, 40]}
        )
    )
    assert "0.5\u2060–\u20602.5\u00a0kpc" in write(posterior, superpixel=6)


def test_whatever_is_told_is_text(make_posterior, write):
    posterior = make_posterior(superpixels=[5])
    evil = "<script>alert(\"x\")</script> & 'more'"
    posterior.attrs |= {"model": evil, "settings": '{"a": "<b>"}', "files": "{not JSON"}
    posterior["posterior"]["beta"].attrs["unit"] = "<i>"
    text = write(posterior)
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#x27;more&#x27;" in text
    assert "a = &lt;b&gt;" in text
    assert "{not JSON" in text


def test_attributes_of_any_length_and_kind(make_posterior, write):
    posterior = make_posterior(superpixels=[5])
    posterior.attrs |= {
        "settings": '{"grid": {"nside": 64}, "b": [1, 2]}',
        "list": "[1, 2]",
        "long": 2000 * "x",
        "longer": json.dumps({"a": {"b": 2000 * "y"}}),
    }
    rows = dict(cells(write(posterior), 2))
    assert rows["settings"] == "grid.nside = 64, b = [1, 2]"
    assert rows["list"] == "[1, 2]"
    assert rows["long"] == 1500 * "x" + " … (2,000 characters)"
    assert rows["longer"].startswith("a.b = yyy")
    assert len(rows["longer"]) < 1550
    assert rows["method"] == "the No-U-Turn sampler (nuts)"


def test_a_diagnosis_that_was_made_before_is_used(make_posterior, write):
    posterior = make_posterior()
    found = diagnose(posterior)
    found["passed"][0] = False
    assert "2 of 3 superpixels passed" in write(posterior, diagnosis=found)


def test_progress_is_that_of_the_diagnosis(make_posterior, write):
    done = []
    write(make_posterior(), progress=lambda *numbers: done.append(numbers))
    assert done == [(3, 3)]


def test_further_sections_come_before_the_provenance(make_posterior, write):
    more = [Section("comparison", "Against other models", paragraph("a < b"))]
    text = write(make_posterior(superpixels=[5]), more=more)
    assert sections(text) == ["next", "closeup", "comparison", "provenance", "thresholds"]
    assert '<a href="#comparison">Against other models</a>' in text


def test_the_page_is_the_same_whatever_the_style_and_the_time(make_posterior, write):
    posterior = make_posterior(superpixels=[5])
    expected = write(posterior)
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20}):
        assert write(posterior) == expected
    assert dict(matplotlib.rcParams) == before


def test_the_file_is_written_whole_or_not_at_all(make_posterior, tmp_path, monkeypatch):
    posterior, out = make_posterior(superpixels=[5]), tmp_path / "new" / "report.html"
    assert report(posterior, str(out)) == out
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    before = out.read_bytes()
    with pytest.raises(ConfigurationError, match=r"already holds report.html.*ask to overwrite"):
        report(posterior, out)

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("pymcdust.judge.report.page", fail)
    with pytest.raises(OSError, match="disk is full"):
        report(posterior, out, overwrite=True)
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert out.read_bytes() == before


def test_a_taken_place_is_refused_before_the_work(make_posterior, tmp_path, monkeypatch):
    monkeypatch.setattr("pymcdust.judge.report.diagnose", None)
    with pytest.raises(ConfigurationError, match=r"is a folder; .* such as .*report.html"):
        report(make_posterior(), tmp_path)
    (tmp_path / "report.html").touch()
    with pytest.raises(ConfigurationError, match="already holds"):
        report(make_posterior(), tmp_path / "report.html")


def test_what_is_no_posterior_leaves_nothing(tmp_path):
    with pytest.raises(ResultError, match="no report of a dataset"):
        report(xr.Dataset(), tmp_path / "new" / "report.html")
    with pytest.raises(FileFormatError, match=r"no\.zarr: there is no such file"):
        report(tmp_path / "no.zarr", tmp_path / "new" / "report.html")
    assert not (tmp_path / "new").exists()


def test_the_check_sees_what_is_wrong():
    figure = Figure()
    figure.add_subplot()
    good = table("c", ["a", "b"], [["1", "2"]]) + picture(figure, "an empty pair of axes", "c")
    check(page("A title of a page", "", [Section("s", "S", good)], ""))
    for bad in (
        table("c", ["a", "b"], [["1", "2"]]).replace("<td", "<td></td><td", 1),
        good.replace("</figure>", ""),
        good.replace("data:image", "http://example.org/data:image"),
        good.replace("an empty pair of axes", ""),
        "<script></script>",
    ):
        with pytest.raises((AssertionError, ValueError)):
            check(page("A title of a page", "", [Section("s", "S", bad)], ""))


@pytest.mark.parametrize("method", ["nuts", "laplace"])
def test_in_a_browser_as_wide_as_a_phone(make_posterior, browser, tmp_path, method):
    posterior = make_posterior(method, range(40, 60), draws=400 if method == "nuts" else 2000)
    draws_of(posterior, "temperature")[0, :, 7, 1] += 2.0
    posterior.attrs["files"] = 40 * "averylongnamewithoutanyspace"
    out = report(posterior, tmp_path / "report.html")
    check_in_browser(browser, out, tmp_path)
