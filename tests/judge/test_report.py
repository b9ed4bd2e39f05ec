import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import imread

from pymcdust.errors import ConfigurationError, FileFormatError, ResultError
from pymcdust.judge import report_closeup, report_page
from pymcdust.judge.convergence import diagnose
from pymcdust.judge.report import report
from pymcdust.judge.report_page import Section, page, paragraph, picture, table
from pymcdust.products import projection

#: Elements of HTML that have no end.
VOID = {"meta", "link", "img"}

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Outline(HTMLParser):
    """What is in a page: elements, their attributes, text; and whether they are nested well."""

    def __init__(self, text):
        super().__init__()
        self.open, self.faults, self.elements, self.text = [], [], [], {}
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_data(self, data):
        for tag in set(self.open):
            self.text[tag] = self.text.get(tag, "") + data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(autouse=True)
def few_and_small_images(monkeypatch):
    monkeypatch.setattr(report_closeup, "MOST_TRACED", 2)
    monkeypatch.setattr(projection, "RESOLUTION", 100)
    monkeypatch.setattr(report_page, "DOTS_PER_INCH", 40)


@pytest.fixture
def write(tmp_path):
    """Return the text of the report of a posterior, after a look at its structure."""

    def written(posterior, **options):
        out = report(posterior, tmp_path / "report.html", overwrite=True, **options)
        text = out.read_text(encoding="utf-8")
        check(text)
        return text

    return written


def check(text):
    """Whatever is reported, the page is whole, needs nothing else, and can be read by all."""
    outline = Outline(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not outline.faults
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.text["title"]) > 10
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in outline.all(
        "meta"
    )
    assert not outline.all("script")
    addresses = [
        value
        for _, attrs in outline.elements
        for key, value in attrs.items()
        if key in ("src", "href", "srcset", "data", "action")
    ]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\(|@import|https?://", text)
    ids = [attrs["id"] for _, attrs in outline.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in outline.all("a")} <= set(ids)
    assert len(outline.all("figure")) == len(outline.all("img")) == text.count("<figcaption>")
    for image in outline.all("img"):
        assert len(image["alt"]) > 15
        kind, data = image["src"].split(";base64,")
        if kind == "data:image/png":
            assert imread(BytesIO(base64.b64decode(data))).ndim == 3
        else:
            ElementTree.fromstring(base64.b64decode(data))
    for number in range(text.count("<table>")):
        one = Outline(text.split("<table>")[number + 1].split("</table>")[0])
        heads = [head for head in one.all("th") if head["scope"] == "col"]
        rows = text.split("<table>")[number + 1].split("<tbody>")[1].split("</table>")[0]
        for row in rows.split("<tr")[1:]:
            assert row.count("<td") + row.count("<th") == len(heads)
    assert text.count("<caption>") == text.count('class="scroll"') == text.count("<table>")
    assert "nan" not in re.sub(r"data:[^\"]*", "", text).replace("NaN", "").split()


def draws_of(posterior, name):
    return posterior["posterior"][name].values


def stats_of(posterior, name):
    return posterior["sample_stats"][name].values


def sections(text):
    return [attrs["id"] for attrs in Outline(text).all("section")]


def alts(text):
    return [image["alt"] for image in Outline(text).all("img")]


def cells(text, table_number):
    """Return the rows of a table as lists of text."""
    body = text.split("<tbody>")[table_number + 1].split("</tbody>")[0]
    rows = re.findall(r"<tr.*?</tr>", body)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_one_superpixel_that_passed(make_posterior, write):
    posterior = make_posterior(superpixels=[100])
    text = write(posterior)
    assert "<strong>Superpixel 100 passed.</strong>" in text
    assert "Nothing was found to be wrong" in text
    assert "single chain" not in text.split("<section")[0]
    assert sections(text) == ["next", "closeup", "provenance", "thresholds"]
    rows = {row[0]: row[1:] for row in cells(text, 0)}
    assert list(rows)[2:] == ["beta", "rho"]
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
    assert failed["47"][3:5] == ["high R-hat, low ESS", "temperature, voxel 1"]
    assert failed["49"][3:5] == ["divergences", "–"]
    assert failed["49"][-1] == "5.00"
    # The worst is looked at, with the parameter that makes it so.
    assert "The worst: superpixel 47 (l = " in text
    assert alts(text)[7].startswith("Trace plot of temperature, voxel 1")
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
    with pytest.raises(ResultError, match="a Dataset is no posterior"):
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


PHONE = """<!DOCTYPE html><body><iframe id="phone" style="width:390px;height:800px"></iframe>
<pre id="said"></pre><script>
const phone = document.getElementById("phone");
phone.srcdoc = new TextDecoder().decode(Uint8Array.from(atob("PAGE"), c => c.charCodeAt(0)));
phone.onload = () => {
  const page = phone.contentDocument, view = phone.contentWindow;
  const images = [...page.images];
  document.getElementById("said").textContent = JSON.stringify({
    width: view.innerWidth,
    overflow: page.documentElement.scrollWidth - view.innerWidth,
    images: images.length,
    broken: images.filter(image => !image.naturalWidth).length,
    requests: view.performance.getEntriesByType("resource")
      .map(entry => entry.name).filter(name => !name.startsWith("data:")),
    font: view.getComputedStyle(page.body).fontSize,
  });
};
</script></body>"""


@pytest.fixture(scope="module")
def browser():
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"none of the browsers {', '.join(BROWSERS)} is on PATH")
    return found[0]


def browse(browser, page, folder):
    """Return the document that a headless browser makes of a page, and what it complains of."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", f"--user-data-dir={folder / 'profile'}"]
    command += ["--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, said


@pytest.mark.parametrize("method", ["nuts", "laplace"])
def test_in_a_browser_as_wide_as_a_phone(make_posterior, browser, tmp_path, method):
    posterior = make_posterior(method, range(40, 60), draws=400 if method == "nuts" else 2000)
    draws_of(posterior, "temperature")[0, :, 7, 1] += 2.0
    posterior.attrs["files"] = 40 * "averylongnamewithoutanyspace"
    out = report(posterior, tmp_path / "report.html")
    _, said = browse(browser, out, tmp_path)
    assert not said
    phone = tmp_path / "phone.html"
    phone.write_text(PHONE.replace("PAGE", base64.b64encode(out.read_bytes()).decode()))
    dom, said = browse(browser, phone, tmp_path)
    assert not said
    found = json.loads(re.search(r'<pre id="said">(.*?)</pre>', dom).group(1))
    assert found["width"] == 390
    assert found["overflow"] <= 0
    assert found["images"] == out.read_text().count("<img ") > 5
    assert found["broken"] == 0
    assert found["requests"] == []
    assert found["font"] == "16px"
