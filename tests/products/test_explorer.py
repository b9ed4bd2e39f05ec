"""The explorer's page as a browser sees it: every number it shows against the fit."""

import base64
import json
import re
import shutil
import subprocess

import healpy as hp
import numpy as np
import pytest
import typer
import xarray as xr
from matplotlib import colormaps
from typer.testing import CliRunner

from pymcdust.commands.explore import explore as explore_command
from pymcdust.errors import ConfigurationError, ResultError
from pymcdust.physics.emission import emissivity
from pymcdust.products.explorer import explore
from pymcdust.products.explorer_data import explorer_data
from pymcdust.products.projection import Mollweide
from pymcdust.products.reconstruction import reconstruct
from pymcdust.products.reliability import PRIOR_DOMINATED
from pymcdust.sky.dataset import cuts_of, save_sky
from pymcdust.sky.store import write_store

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

EDGES = (0.0, 0.5, 2.0, 4.0)

#: Gathers what goes wrong, from before the page's own scripts.
WATCH = """<script>
const faults = [];
addEventListener("error", (event) => faults.push(event.message));
addEventListener("unhandledrejection", (event) => faults.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => faults.push(event.blockedURI));
for (const kind of ["error", "warn"]) console[kind] = (...words) => faults.push(words.join(" "));
</script>"""

#: Asks the page once it is there; `answer` is a function, of which promises are awaited.
ASK = """<pre id="said"></pre><script>
const soon = (time = 50) => new Promise((done) => setTimeout(done, time));
addEventListener("load", async () => {
  const answer = async () => { QUESTION };
  const said = { faults };
  try { said.answer = await answer(); } catch (error) { faults.push(String(error.stack)); }
  said.requests = performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith("data:"));
  document.getElementById("said").textContent = JSON.stringify(said);
  if (parent !== window) parent.postMessage(JSON.stringify(said), "*");
});
</script>"""

FRAME = """<!DOCTYPE html><body><iframe src="asked.html" style="width:390px;height:800px"></iframe>
<pre id="said"></pre><script>
addEventListener("message", (event) => document.getElementById("said").textContent = event.data);
</script></body>"""

#: Presses the mouse on the middle of a superpixel of the map.
CLICK = """
const click = async (row) => {
  const [x, y] = toMollweide(...pix2ang(fit.nside, fit.superpixel(row)));
  const box = element("map").querySelector(".nsewdrag").getBoundingClientRect();
  const { range } = state;
  const place = {
    clientX: box.left + (x - range.x[0]) / (range.x[1] - range.x[0]) * box.width,
    clientY: box.top + (range.y[1] - y) / (range.y[1] - range.y[0]) * box.height,
    bubbles: true, view: window,
  };
  for (const kind of ["mousemove", "mousedown", "mouseup", "click"]) {
    const target = document.elementFromPoint(place.clientX, place.clientY);
    target.dispatchEvent(new MouseEvent(kind, place));
    await soon();
  }
  await soon(400);
};
const cells = (id) => [...element(id).querySelectorAll("tbody tr")]
  .map((line) => [...line.children].map((cell) => cell.textContent));
"""


@pytest.fixture(scope="session")
def ask(tmp_path_factory):
    """Return a function that opens a page in a browser, asks it, and returns the answer."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"none of the browsers {', '.join(BROWSERS)} is on PATH")
    folder = tmp_path_factory.mktemp("browser")

    def answer(page, question, address="", phone=False, options=()):
        text = page.read_text().replace("<style>", WATCH + "<style>", 1)
        asked = folder / "asked.html"
        asked.write_text(text.replace("</body>", ASK.replace("QUESTION", question) + "</body>"))
        if phone:
            asked = folder / "phone.html"
            asked.write_text(FRAME)
        command = [found[0], "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--enable-unsafe-swiftshader", "--disable-background-networking"]
        command += ["--disable-component-update", "--disable-sync", "--window-size=1400,1200"]
        command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000"]
        done = subprocess.run(
            [*command, *options, "--dump-dom", asked.as_uri() + address],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        (said,) = re.findall(r'<pre id="said">(.*)</pre>', done.stdout)
        said = json.loads(said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        assert said["faults"] == []
        assert said["requests"] == []
        return said["answer"]

    return answer


@pytest.fixture(scope="module")
def observed_sky(make_sky):
    sky = make_sky(np.arange(192), EDGES, nside=8)
    sky["valid"][3, 1] = False
    return sky


@pytest.fixture(scope="module")
def fitted(observed_sky, make_fit):
    """A fit of all of a small sky, some of it prior, one superpixel not converged, one flagged."""
    fit = make_fit(observed_sky)
    fit["temperature_sd"][::7, 1] = 8.9
    fit["converged"][20] = False
    fit["flag"][20], fit["flag"][21] = 1, 2
    return fit


@pytest.fixture(scope="module")
def page(fitted, observed_sky, tmp_path_factory):
    return explore(fitted, observed_sky, tmp_path_factory.mktemp("page") / "explore.html")


def numbers(text):
    """Return the numbers of a cell, such as "18.7 ± 0.3 *"."""
    return [float(word) for word in re.findall(r"[\d.]+(?:e-?\d+)?", text.replace("−", "-"))]


def spoken(values):
    """Return what JSON made of numbers: those that are not finite are null."""
    return np.array(values, dtype=float)


def test_the_page_needs_nothing_else(page):
    text = page.read_text()
    own = re.sub(r"<script>/\*\*\n\* plotly.*?</script>", "", text, flags=re.DOTALL)
    assert len(own) < len(text) - 4e6
    assert not re.search(r"https?:|@import|url\(|\bsrc=|@[a-z]+@", own)
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'; ", own)
    assert page.stat().st_size < 6e6
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in own


def test_javascript_has_the_geometry_of_healpy(page, ask):
    rng = np.random.default_rng(1)
    longitude = rng.uniform(-400, 400, 1000)
    latitude = np.degrees(np.arcsin(rng.uniform(-1, 1, 1000)))
    # The poles, and what is near to one.
    latitude[:2] = 90, -90
    latitude[2:60] = 90 - 10 ** rng.uniform(-7, 0, 58)
    answer = ask(
        page,
        f"""const l = {longitude.tolist()}, b = {latitude.tolist()};
        return Object.fromEntries([1, 4, 32, 1024].map((nside) => {{
          const pixels = l.map((x, k) => ang2pix(nside, x, b[k]));
          return [nside, [pixels, pixels.map((p) => pix2ang(nside, p)),
            pixels.map((p) => pixelOutline(nside, p, 1).slice(0, 4))]];
        }}).concat([["map", l.map((x, k) => toMollweide(x, b[k]))],
          ["back", l.map((x, k) => fromMollweide(...toMollweide(x, b[k])))]]));""",
    )
    for nside in (1, 4, 32, 1024):
        pixels, centres, corners = answer[str(nside)]
        np.testing.assert_array_equal(
            pixels, hp.ang2pix(nside, longitude, latitude, nest=True, lonlat=True)
        )
        known = hp.pix2ang(nside, pixels, nest=True, lonlat=True)
        np.testing.assert_allclose(np.transpose(centres), known, atol=1e-9)
        found = hp.ang2vec(*np.reshape(corners, (-1, 2)).T, lonlat=True).reshape(-1, 4, 3)
        known = np.moveaxis(hp.boundaries(nside, pixels, nest=True), 1, -1)
        # healpy begins at the northern corner, the page at the southern one.
        np.testing.assert_allclose(found, np.roll(known, 2, axis=1), atol=1e-9)
    np.testing.assert_allclose(
        np.transpose(answer["map"]), Mollweide().forward(longitude, latitude), atol=3e-5
    )
    away = np.abs(latitude) < 89.9
    back = np.array([place or [np.nan, np.nan] for place in answer["back"]])[away]
    np.testing.assert_allclose(back[:, 1], latitude[away], atol=1e-5)
    np.testing.assert_allclose((back[:, 0] - longitude[away] + 180) % 360, 180, atol=1e-2)


def test_javascript_has_the_physics_of_the_package(page, fitted, observed_sky, ask):
    rng = np.random.default_rng(2)
    frequency, temperature = rng.uniform(100, 4000, 1000), rng.uniform(3, 60, 1000)
    beta, rho = rng.uniform(1, 3, 1000), 10 ** rng.uniform(-6, -2, 1000)
    given = json.dumps(np.transpose([frequency, temperature, beta, rho]).tolist())
    found, spectra = ask(
        page,
        f"""return [{given}.map((one) => emissivity(fit.physics, ...one)),
          Array.from({{ length: fit.count }}, (_, row) =>
            fit.frequency.map((f, band) => fit.emission(row, f, null, band)))];""",
    )
    np.testing.assert_allclose(found, emissivity(frequency, temperature, beta, rho), rtol=1e-12)
    # The same pixels as those of the data: a model is linear in reddening.
    valid = observed_sky["valid"]
    known = reconstruct(fitted, observed_sky).where(valid).mean("pixel")
    np.testing.assert_allclose(spectra, known, rtol=1e-5)


def test_every_quantity_is_that_of_the_fit(page, fitted, observed_sky, ask):
    answer = ask(
        page,
        """return Object.fromEntries(quantities(fit, "fit").map((quantity) => [quantity.id,
          Array.from({ length: fit.count }, (_, row) => [0, 1, 2].map((voxel) =>
            quantity.get(row, voxel)))]));""",
    )
    shape = (192, 3)
    reddening = observed_sky["reddening"].where(observed_sky["valid"]).mean("pixel").values
    known = {"reddening": reddening, "cumulative": reddening.cumsum(axis=1)}
    for name, factor in (("temperature", 1), ("beta", 1), ("rho", 1e4)):
        for key in (name, f"{name}_sd"):
            values = fitted[key].values * factor
            known[key] = values if values.ndim == 2 else values[:, np.newaxis]
        sd, prior_sd = fitted[f"{name}_sd"].values, fitted[name].attrs["prior_sd"]
        dominated = sd > PRIOR_DOMINATED * prior_sd
        known[f"{name}_prior"] = dominated if dominated.ndim == 2 else dominated[:, np.newaxis]
    known["chi2"] = (fitted["chi2"] / fitted["n_data"]).values[:, np.newaxis]
    for bit, name in enumerate(("not_converged", "at_bound")):
        known[f"flag_{name}"] = (fitted["flag"].values >> bit & 1)[:, np.newaxis]
    assert set(answer) == set(known)
    for name, values in known.items():
        found = np.array(answer[name], dtype=float)
        np.testing.assert_allclose(found, np.broadcast_to(values, shape), rtol=1e-5, err_msg=name)
    assert known["temperature_prior"].sum() == 28


def test_a_click_shows_the_numbers_of_that_superpixel(page, fitted, observed_sky, ask):
    rows = [7, 20, 100]
    answer = ask(
        page,
        CLICK
        + f"""const found = [];
        for (const row of {rows}) {{
          await click(row);
          found.push({{ voxels: cells("voxels"), bands: cells("bands"), hash: location.hash,
            title: element("choice-title").textContent, facts: element("facts").textContent,
            readout: element("readout").textContent, drawn: element("sightline").data[1].y
              .concat(element("sightline").data[3].y),
            l: element("longitude").value, points: element("spectrum").data.at(-1).y,
            curve: element("spectrum").data.at(-2).y[30] }});
        }}
        return found;""",
    )
    valid = observed_sky["valid"]
    emission = observed_sky["emission"].where(valid).mean("pixel").values
    scatter = observed_sky["emission"].where(valid).std("pixel").values
    model = reconstruct(fitted, observed_sky).where(valid).mean("pixel").values
    for row, found in zip(rows, answer, strict=True):
        here = fitted.isel(superpixel=row)
        assert found["title"] == f"Superpixel {row}"
        assert [line[0] for line in found["voxels"]] == ["0–0.5", "0.5–2", "2–4"]
        for voxel, line in enumerate(found["voxels"]):
            for cell, name, factor, place in (
                (line[1], "temperature", 1, {"voxel": voxel}),
                (line[2], "beta", 1, {}),
                (line[3], "rho", 1e4, {}),
            ):
                value, sd = (float(here[key].isel(place)) * factor for key in (name, f"{name}_sd"))
                assert numbers(cell)[0] == pytest.approx(value, abs=0.6 * sd)
                assert numbers(cell)[1] == pytest.approx(sd, rel=0.2)
            dominated = float(here["temperature_sd"][voxel]) > 0.7 * 9
            assert line[1].endswith("*") == dominated
        drawn = sorted(found["drawn"])
        np.testing.assert_allclose(drawn, np.sort(here["temperature"].values), rtol=1e-6)
        shown = emission[row] - float(fitted["offset"])
        np.testing.assert_allclose(found["points"], shown, rtol=1e-6)
        for band, line in enumerate(found["bands"]):
            assert line[0] == str(fitted["band"].values[band])
            error = 0.06 * scatter[row, band]
            difference = emission[row, band] - model[row, band]
            assert numbers(line[1])[0] == pytest.approx(emission[row, band], abs=error)
            assert numbers(line[1])[1] == pytest.approx(scatter[row, band], rel=0.2)
            noise = float(observed_sky["sigma"][band])
            error = 0.06 * min(scatter[row, band], noise)
            assert numbers(line[2])[0] == pytest.approx(noise, rel=0.2)
            assert numbers(line[3])[0] == pytest.approx(model[row, band], abs=error)
            assert numbers(line[4])[0] == pytest.approx(abs(difference), abs=error)
        longitude, latitude = hp.pix2ang(4, row, nest=True, lonlat=True)
        assert f"{longitude:.2f}°" in found["facts"]
        assert float(found["l"]) == pytest.approx(longitude, abs=1e-3)
        assert f"l={longitude:.4f}&b={latitude:.4f}" in found["hash"]
        assert f"Superpixel {row} at" in found["readout"]
    assert "did not converge" in answer[1]["facts"]
    assert "Flagsnot converged" in answer[1]["facts"]
    assert "Flagsnone" in answer[0]["facts"]


def test_plots_keep_their_height_when_the_width_changes(page, ask):
    answer = ask(
        page,
        CLICK
        + """const found = [];
        for (const width of [700, 1280, 1100, 390]) {
          await click(100);
          document.body.style.width = `${width}px`;
          dispatchEvent(new Event("resize"));
          await soon(800);
          found.push({ over: document.documentElement.scrollWidth - innerWidth,
            plots: ["sightline", "spectrum", "space"].map((id) => {
              const drawn = element(id).querySelector(".main-svg").getBoundingClientRect();
              return [element(id).offsetHeight, drawn.width - element(id).clientWidth];
            }) });
          const { value } = [...element("reach").options].find((one) => !one.selected);
          element("reach").value = value;
          element("reach").dispatchEvent(new Event("change"));
        }
        return found;""",
    )
    for found in answer:
        assert found["over"] <= 0
        heights, over = np.transpose(found["plots"])
        assert (heights > 300).all()
        np.testing.assert_allclose(over, 0, atol=1)


def test_greys_what_is_no_measurement_and_nothing_else(page, ask):
    answer = ask(
        page,
        """const found = [];
        for (const row of [7, 20, 100]) {
          update({ row });
          const grey = [...element("voxels").querySelectorAll("tbody tr")].map((line) =>
            [...line.children].map((cell) => getComputedStyle(cell).color !== "rgb(27, 31, 36)"));
          const points = element("sightline").data.filter((trace) => trace.mode === "markers");
          found.push({ grey, told: points.flatMap((trace) => trace.text).join(),
            measured: points.filter((trace) => trace.marker.color === BLUE)
              .map((trace) => trace.x.length) });
        }
        return found;""",
    )
    temperature, failed, all_known = (np.array(found["grey"]) for found in answer)
    assert np.argwhere(temperature).tolist() == [[1, 1]]
    assert np.argwhere(failed.all(axis=0)).ravel().tolist() == [1, 2, 3]
    assert not failed[:, [0, 4]].any()
    assert not all_known.any()
    # Temperature in three voxels, beta and rho.
    assert [sum(found["measured"]) for found in answer] == [4, 0, 5]
    assert answer[1]["told"].count("did not converge") == 5
    assert "did not converge" not in answer[0]["told"]


def test_the_spectrum_is_without_offsets_as_its_points_are(make_sky, make_fit, tmp_path, ask):
    sky = make_sky([5, 6, 40])
    fit = make_fit(sky, offset="per_superpixel")
    seen = sky["emission"].mean("pixel").values
    fit["offset"][1] = seen[1] + [-0.5, 0.0, -0.5, 0.1, -0.5]
    fit["offset"][2] = 0.0
    answer = ask(
        explore(fit, sky, tmp_path / "page.html"),
        """return [0, 1, 2].map((row) => {
          update({ row });
          const { data } = element("spectrum");
          return { points: data.at(-1).y, name: data.at(-1).name, curve: data.at(-2).y,
            sum: FREQUENCIES.map((f) => fit.emission(row, f)),
            model: bandTable(fit, row).map(({ cells }) => cells[3]),
            note: element("spectrum-note").textContent };
        });""",
    )
    for row, found in enumerate(answer):
        expected = seen[row] - fit["offset"].values[row]
        np.testing.assert_allclose(found["points"], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["curve"], found["sum"])
        model = reconstruct(fit, sky).mean("pixel").values[row]
        np.testing.assert_allclose([numbers(cell)[0] for cell in found["model"]], model, rtol=0.1)
    assert [found["name"] for found in answer] == [
        *["data − offset ± scatter"] * 2,
        "data ± scatter",
    ]
    assert answer[0]["note"].startswith("The offset of each band is taken from the data")
    assert answer[1]["note"].endswith(
        "2 of 5 points are not positive, and cannot be drawn: 353, 857 GHz."
    )
    assert answer[2]["note"] == ""


def test_the_noise_is_that_of_the_pixels_seen(make_sky, make_fit, tmp_path, ask):
    sky = make_sky([5, 6])
    sigma = np.random.default_rng(4).uniform(0.5, 2, sky["emission"].shape)
    sky["sigma"] = (sky["emission"].dims, sigma)
    sky["valid"][0, :4] = False
    answer = ask(
        explore(make_fit(sky), sky, tmp_path / "page.html"),
        "return [0, 1].map((row) => fit.frequency.map((_, band) => fit.arrays.sigma(row, band)));",
    )
    known = [np.sqrt((sigma[0, 4:] ** 2).mean(axis=0)), np.sqrt((sigma[1] ** 2).mean(axis=0))]
    np.testing.assert_allclose(answer, known, rtol=1e-6)


def test_words_for_one_and_for_nothing(make_sky, make_fit, tmp_path, ask):
    sky = make_sky([5], edges=(0.0, 0.5))
    answer = ask(
        explore(make_fit(sky), sky, tmp_path / "page.html"),
        """update({ reach: 0.5 });
        const found = { head: document.querySelector("header p").textContent,
          title: document.title, space: element("space-note").textContent,
          zeros: [format(-0.001, 1), format(-0.04, 3), format(-0.04, 1), format(-1, 9)] };
        const marked = () => [element("sightline").layout.shapes
          .some(({ fillcolor }) => fillcolor === BAND), element("sightline-note").textContent
          .includes("Yellow"), document.querySelectorAll("#voxels .here").length];
        found.temperature = marked();
        update({ quantity: "chi2" });
        found.chi2 = marked();
        update({ quantity: "temperature" });
        return { ...found, again: marked() };""",
    )
    assert "; 1 superpixel of Nside 4;" in answer["head"]
    assert answer["title"].endswith(", 1 superpixel")
    assert answer["space"].startswith("The only voxel whose middle")
    assert answer["zeros"] == ["0.0", "0", "0.0", "−1"]
    # What is the same along the whole sightline has no distance to be marked.
    assert answer["temperature"] == answer["again"] == [True, True, 1]
    assert answer["chi2"] == [False, False, 0]


def test_the_slider_changes_the_map(page, fitted, ask):
    answer = ask(
        page,
        """const slider = element("distance"), found = [];
        const colour = (row) => {
          const [x, y] = toMollweide(...pix2ang(fit.nside, fit.superpixel(row)));
          const [left, right] = state.range.x, [bottom, top] = state.range.y;
          const i = Math.floor((x - left) / (right - left) * view.width);
          const j = Math.floor((top - y) / (top - bottom) * view.height);
          return [...canvas.getContext("2d").getImageData(i, j, 1, 1).data];
        };
        update({ row: 50 });
        for (let place = 0; place <= Number(slider.max); place++) {
          slider.value = place;
          slider.dispatchEvent(new Event("input"));
          found.push({ text: element("distance-text").textContent, ...element("readout").dataset,
            colours: Array.from({ length: fit.count }, (_, row) => colour(row)),
            source: element("map").layout.images[0].source === canvas.toDataURL(),
            bar: element("map").data.at(-1).marker.colorbar.title.text,
            ends: [fit.scales.temperature.low, fit.scales.temperature.high] });
        }
        return found;""",
    )
    assert len(answer) == 3
    stripes = [(194, 194, 194), (148, 148, 148)]
    failed = [(51, 51, 51), (115, 115, 115)]
    for voxel, found in enumerate(answer):
        assert found["text"].endswith(f"(voxel {voxel + 1} of 3)")
        assert found["source"]
        assert found["bar"] == "Temperature [K]"
        values = fitted["temperature"].values[:, voxel]
        assert float(found["value"]) == pytest.approx(values[50], rel=1e-6)
        low, high = found["ends"]
        expected = colormaps["inferno"](np.clip((values - low) / (high - low), 0, 1))[:, :3] * 255
        colours = np.array(found["colours"])
        # Half of those on the edge of the map lies on either side of it.
        inside = hp.pix2ang(4, np.arange(192), nest=True, lonlat=True)[0] != 180
        assert (colours[inside, 3] == 255).all()
        dominated = fitted["temperature_sd"].values[:, voxel] > 0.7 * 9
        assert dominated.sum() == (28 if voxel == 1 else 0)
        grey = [tuple(colour) in stripes for colour in colours[:, :3]]
        np.testing.assert_array_equal(np.array(grey)[inside], dominated[inside])
        assert tuple(colours[20, :3]) in failed
        shown = inside & ~dominated & (np.arange(192) != 20)
        np.testing.assert_allclose(colours[shown, :3], expected[shown], atol=6)


def test_controls_keys_and_the_address(page, fitted, ask):
    longitude, latitude = hp.pix2ang(4, 77, nest=True, lonlat=True)
    answer = ask(
        page,
        """const found = [], note = (name) => found.push([name, { ...state, hash: location.hash,
          disabled: element("distance").disabled, superpixel: fit.superpixel(state.row),
          legend: element("legend").textContent, text: element("readout").textContent }]);
        const press = (key) => element("map").dispatchEvent(new KeyboardEvent("keydown", { key }));
        note("opened");
        element("quantity").value = "temperature";
        element("quantity").dispatchEvent(new Event("change"));
        note("temperature");
        element("grey").click();
        note("coloured");
        press("ArrowLeft"); note("left"); press("ArrowRight"); note("right");
        press("ArrowUp"); note("up"); press("+"); note("near");
        press("-"); press("0"); note("whole");
        element("longitude").value = 10; element("latitude").value = 20;
        element("goto").requestSubmit(); note("gone");
        await Plotly.relayout("map", { "xaxis.range": [0, 1], "yaxis.range": [0, 2.12 / 4.12] });
        await soon(); note("dragged");
        location.hash = "#q=chi2&l=200&b=-30&d=3"; await soon(200); note("addressed");
        location.hash = "#q=nonsense&l=x&b=99&d=-1&e=5"; await soon(200); note("nonsense");
        return found;""",
        address=f"#q=beta&d=1&l={longitude}&b={latitude}",
    )
    found = dict(answer)
    assert found["opened"]["quantity"] == "beta"
    assert found["opened"]["superpixel"] == 77
    assert 0.5 < found["opened"]["distance"] < 2
    assert found["opened"]["disabled"]
    assert not found["temperature"]["disabled"]
    assert "prior dominates" in found["temperature"]["legend"]
    assert "prior dominates" not in found["coloured"]["legend"]
    assert found["coloured"]["hash"].endswith("grey=0")
    steps = {
        name: hp.pix2ang(4, found[name]["superpixel"], nest=True, lonlat=True)
        for name in ("left", "right", "up")
    }
    # Longitude grows to the left.
    assert 0 < (steps["left"][0] - longitude) % 360 < 60
    assert found["right"]["superpixel"] == 77
    assert 0 < steps["up"][1] - latitude < 30
    width = {name: np.ptp(found[name]["range"]["x"]) for name in ("up", "near", "whole", "dragged")}
    assert width["near"] == pytest.approx(0.6 * width["up"])
    assert width["whole"] == width["up"]
    assert width["dragged"] == pytest.approx(1)
    assert found["gone"]["superpixel"] == hp.ang2pix(4, 10, 20, nest=True, lonlat=True)
    assert found["addressed"]["superpixel"] == hp.ang2pix(4, 200, -30, nest=True, lonlat=True)
    assert found["addressed"]["quantity"] == "chi2"
    assert 2 < found["addressed"]["distance"] < 4
    assert {**found["nonsense"], "hash": ""} == {**found["addressed"], "hash": ""}


def test_space_holds_the_dustiest_voxels(page, fitted, observed_sky, ask):
    answer = ask(
        page,
        """update({ reach: 3, row: 60 });
        const { data } = element("space");
        const { shown, total } = dustiest(fit, state, 3);
        return { total, shown: shown.map((p) => [p.row, p.voxel]),
          traces: data.slice(0, 2).map((t) => [t.x, t.y, t.z, t.marker.color, t.customdata]),
          line: [data.at(-1).x[1], data.at(-1).y[1], data.at(-1).z[1]], reaches: reaches(fit),
          few: spaceFigure(fit, state, 0.25, false).count };""",
    )
    reddening = observed_sky["reddening"].where(observed_sky["valid"]).mean("pixel").values
    middle = np.array([0.25, 1.25, 3.0])
    # All voxels are nearer than 3 kpc; the first begins at the Sun.
    assert answer["total"] == 576
    assert answer["few"] == 192
    order = np.argsort(-reddening.astype(np.float32), axis=None, kind="stable")
    known = np.transpose(np.unravel_index(order, reddening.shape))
    assert {tuple(pair) for pair in answer["shown"]} == {tuple(pair) for pair in known}
    first = [reddening[*pair] for pair in answer["shown"]]
    assert (np.diff(first) < 1e-6).all()
    dominated = fitted["temperature_sd"].values > 0.7 * 9
    dominated[20] = True
    grey, measured = answer["traces"]
    assert len(grey[0]) == dominated.sum()
    assert len(measured[0]) == 576 - dominated.sum()
    for x, y, z, colour, places in answer["traces"]:
        rows, distance = np.array(places).T
        vector = np.transpose(hp.pix2vec(4, rows.astype(int), nest=True)) * distance[:, np.newaxis]
        np.testing.assert_allclose(np.transpose([x, y, z]), vector, atol=1e-6)
        voxels = np.abs(distance[:, np.newaxis] - middle).argmin(axis=1)
        if not isinstance(colour, str):
            values = fitted["temperature"].values[rows.astype(int), voxels]
            np.testing.assert_allclose(colour, values, rtol=1e-6)
    known = np.array(hp.pix2vec(4, 60, nest=True)) * 3
    np.testing.assert_allclose(answer["line"], known, atol=1e-6)
    assert answer["reaches"] == [0.25, 0.5, 1, 2, 4]


@pytest.mark.parametrize(
    "tying",
    [
        {"temperature": "over_sky", "beta": "fixed", "rho": "per_voxel"},
        {"temperature": "per_superpixel", "beta": "over_sky", "offset": "per_superpixel"},
    ],
)
def test_every_tying(make_sky, make_fit, tmp_path, ask, tying):
    sky = make_sky([5, 6, 40, 41, 100, 7])
    fit = make_fit(sky, **tying)
    page = explore(fit, sky, tmp_path / "page.html")
    answer = ask(
        page,
        """return { ids: list.map((quantity) => quantity.id), table: voxelTable(fit, state, 2),
          values: ["temperature", "beta", "rho"].map((name) => [0, 1].map((voxel) =>
            fit.parameter("fit", name, 2, voxel).value)),
          emission: Array.from({ length: fit.count }, (_, row) =>
            fit.frequency.map((f, band) => fit.emission(row, f, null, band))),
          range: state.range, home: WHOLE_SKY };""",
    )
    shape = {"superpixel": 6, "voxel": 2}
    for name, values in zip(("temperature", "beta", "rho"), answer["values"], strict=True):
        known = fit[name].variable.set_dims(shape).transpose("superpixel", "voxel")[2]
        np.testing.assert_allclose(values, known, rtol=1e-6)
        assert (f"{name}_sd" in answer["ids"]) == (tying.get(name) != "fixed")
    np.testing.assert_allclose(answer["emission"], reconstruct(fit, sky).mean("pixel"), rtol=1e-5)
    assert len(answer["table"]) == 2
    # Six superpixels far apart: the whole sky.
    assert answer["range"] == answer["home"]


def test_edges_that_differ_and_padding(make_sky, make_fit, tmp_path, ask):
    sky = make_sky([368, 369, 370], (0, 1, 2, 3), nside=32, superpixel_nside=8)
    edges = np.array([[0, 0.2, 0.9, 3.0], [0, 0.5, 0.501, 0.502], [0, 0.3, 2.0, 2.001]])
    sky["distance_edge"] = (("superpixel", "voxel_edge"), edges)
    sky["n_voxel"] = ("superpixel", [3, 1, 2])
    page = explore(make_fit(sky), sky, tmp_path / "page.html")
    distances = np.geomspace(0.05, 5, 60)
    answer = ask(
        page,
        f"""const found = {distances.tolist()}.map((d) =>
          [0, 1, 2].map((row) => fit.voxelAt(row, d)));
        update({{ distance: 1.0, row: 1 }});
        const text = element("distance-text").textContent, kind = element("readout").dataset.kind;
        return {{ found, text, kind, edges: [0, 1, 2].map((row) => fit.edges(row)), stops,
          legend: element("legend").textContent, range: state.range,
          lines: voxelTable(fit, state, 2).length,
          labels: [...element("distance-ticks").children].map((label) => label.textContent) }};""",
    )
    for row, count in enumerate((3, 1, 2)):
        own = edges[row, : count + 1]
        np.testing.assert_allclose(answer["edges"][row], own, rtol=1e-6)
        known = np.searchsorted(own, distances, side="right") - 1
        known[known >= count] = -1
        np.testing.assert_array_equal(np.array(answer["found"])[:, row], known)
    assert answer["kind"] == "none"
    assert answer["text"] == "1 kpc; the chosen superpixel’s voxel: beyond 0.5 kpc: no voxel"
    assert "no data" in answer["legend"]
    assert answer["lines"] == 2
    assert min(answer["stops"]) < 0.2 < 2.9 < max(answer["stops"]) < 3
    assert answer["labels"][:2] == ["0.2", "0.5"]
    # A patch is shown as such.
    assert np.ptp(answer["range"]["x"]) < 2


def with_draws(fit, rows, seed=5):
    """Return a posterior whose draws scatter around a fit, of some of its superpixels."""
    rng = np.random.default_rng(seed)
    draws = {}
    for name in ("temperature", "beta", "rho"):
        part = fit[name].isel(superpixel=rows).drop_vars("band", errors="ignore")
        noise = rng.lognormal(0, 0.1, (2, 50, *part.shape))
        draws[name] = (("chain", "draw", *part.dims), part.values * noise)
    group = xr.Dataset(draws, coords={"superpixel": fit["superpixel"].values[rows]})
    root = xr.Dataset(attrs={"superpixel_nside": fit.attrs["superpixel_nside"]})
    cuts = xr.Dataset(cuts_of(fit)).isel(superpixel=rows, missing_dims="ignore")
    return xr.DataTree.from_dict({"/": root, "posterior": group, "constant_data": cuts})


def test_a_posterior_beside_the_fit(fitted, observed_sky, tmp_path, ask):
    rows = [30, 4, 20]
    posterior = with_draws(fitted, rows)
    posterior["posterior"]["temperature"][:, ::2, 1, 2] *= 3
    posterior["posterior"]["beta"][:, :, 1] = 1.5
    page = explore(fitted, observed_sky, tmp_path / "page.html", posterior)
    answer = ask(
        page,
        f"""const found = {{}};
        for (const name of ["temperature", "beta", "rho"]) {{
          found[name] = {rows}.map((row) => [0, 1, 2].map((voxel) => {{
            const p = fit.parameter("posterior", name, row, voxel);
            return [p.value, p.sd, p.low, p.high, Number(p.priorDominated)]; }}));
        }}
        const visible = !element("estimate-label").hidden;
        element("estimate").value = "posterior";
        element("estimate").dispatchEvent(new Event("change"));
        update({{ row: 20, reach: 4 }});
        const kind = element("readout").dataset.kind;
        update({{ row: 0 }});
        return {{ found, kind, visible, absent: element("readout").dataset.kind,
          hash: location.hash,
          note: element("sightline-note").textContent,
          points: element("space").data[0].x.length + element("space").data[1].x.length }};""",
    )
    draws = posterior["posterior"].dataset
    for name in ("temperature", "beta", "rho"):
        values = draws[name].values.reshape(100, 3, -1)
        known = [np.median(values, 0), values.std(0, ddof=1), *np.quantile(values, (0.16, 0.84), 0)]
        known.append(known[1] > 0.7 * fitted[name].attrs["prior_sd"])
        known = np.broadcast_to(np.moveaxis(known, 0, -1), (3, 3, 5))
        np.testing.assert_allclose(answer["found"][name], known, rtol=1e-5)
    assert np.array(answer["found"]["temperature"])[..., 4].sum() == 1
    assert answer["visible"]
    # That the maximum was not found says nothing of draws.
    assert answer["kind"] == "value"
    assert answer["absent"] == "none"
    assert "e=posterior" in answer["hash"]
    assert answer["note"].startswith("Posterior median")
    assert answer["points"] == 9


@pytest.mark.parametrize(("decades", "kind"), [(9, "u2"), (14, "f4")])
def test_error_bars_are_written_down_closely_whatever_their_range(fit, sky, decades, kind):
    posterior = with_draws(fit, slice(0, 5))
    draws = posterior["posterior"]["rho"].values
    width = 10.0 ** np.linspace(-decades, 0, 4)
    draws[..., :4] = np.sqrt(np.arange(100.0)).reshape(2, 50, 1) * width
    draws[..., 4] = 1e-4
    array = explorer_data(fit, sky, posterior)["estimates"]["posterior"]["rho_up"]
    assert array["type"] == kind
    found = np.frombuffer(base64.b64decode(array["data"]), f"<{kind}").astype(float)
    if kind == "u2":
        decoded = np.exp(array["least"] + array["step"] * (found - 2))
        found = np.select([found == 0, found == 1], [np.nan, 0.0], decoded)
    median, high = np.quantile(draws.reshape(100, 5), (0.5, 0.84), axis=0)
    known = [*(high - median), np.nan]  # of the last superpixel there are no draws
    np.testing.assert_allclose(found, known, rtol=2.2e-4)


def test_the_prior_is_drawn(make_sky, make_fit, tmp_path):
    sky = make_sky([5, 6])
    priors = {
        "temperature": {"dist": "Normal", "kwargs": {"mu": 18.0, "sigma": 2.0}},
        "beta": {"dist": "Uniform", "kwargs": {"lower": 1.0, "upper": 3.0}},
        "rho": {"dist": "LogNormal", "kwargs": {"mu": {"dist": "Normal"}, "sigma": 1.0}},
        "offset": 0.0,
    }
    definition = {"parameters": {name: {"prior": prior} for name, prior in priors.items()}}
    fit = make_fit(sky).assign_attrs(model_definition=json.dumps(definition))
    text = explore(fit, sky, tmp_path / "page.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    found = {name: about["prior"] for name, about in data["parameters"].items()}
    assert found["temperature"] == pytest.approx([16.011, 19.989], abs=1e-3)
    assert found["beta"] == pytest.approx([1.32, 2.68])
    # What a hierarchy expects is inferred itself.
    assert found["rho"] is None
    assert found["offset"] is None


def test_as_wide_as_a_phone(page, ask):
    answer = ask(
        page,
        """await soon(500);
        const wide = [...document.querySelectorAll("body *")].filter((one) =>
          one.getBoundingClientRect().right > innerWidth + 1
          && !one.closest(".scroll, .plot, #map"));
        return { width: innerWidth, over: document.documentElement.scrollWidth - innerWidth,
          wide: wide.map((one) => one.outerHTML.slice(0, 80)),
          font: getComputedStyle(document.body).fontSize,
          map: element("map").getBoundingClientRect().width, tops: ["sky", "choice", "volume"]
            .map((id) => element(id).getBoundingClientRect().top),
          focus: [...document.querySelectorAll("select, input, button, [tabindex]")]
            .filter((one) => one.tabIndex < 0).length };""",
        phone=True,
    )
    assert answer["width"] == 390
    assert answer["over"] <= 0
    assert answer["wide"] == []
    assert answer["font"] == "16px"
    assert 300 < answer["map"] < 390
    assert answer["tops"] == sorted(answer["tops"])
    assert answer["focus"] == 0


def test_names_of_files_and_models_are_no_html(fitted, observed_sky, tmp_path, ask):
    name = '</script><img src="x" onerror="throw 1">&@data@'
    page = explore(fitted.assign_attrs(model=name), observed_sky, tmp_path / "page.html")
    answer = ask(page, "return [document.querySelector('header p').textContent, fit.model];")
    assert answer[0].startswith(f"Model {name}; 192 superpixels")
    assert answer[1] == name


def test_a_full_sky_stays_small(make_sky, make_fit, tmp_path):
    """All that there can be: 17 voxels of 12,288 superpixels, all per voxel, and a posterior."""
    sky = make_sky(np.arange(12288), np.linspace(0, 15, 18), nside=32, superpixel_nside=32)
    edges = np.broadcast_to(sky["distance_edge"].values, (12288, 18))
    sky["distance_edge"] = (("superpixel", "voxel_edge"), edges)
    fit = make_fit(sky, beta="per_voxel", rho="per_voxel", offset="per_superpixel")
    posterior = with_draws(fit, slice(None))
    posterior = posterior.isel(chain=[0], draw=[0, 1])
    page = explore(fit, sky, tmp_path / "page.html", posterior)
    assert page.stat().st_size < 28e6
    assert explore(fit, sky, page, overwrite=True).stat().st_size < 17e6


def test_what_cannot_be_shown(fit, sky, tmp_path):
    out = tmp_path / "page.html"
    with pytest.raises(ResultError, match="the fit lacks flag"):
        explore(fit.drop_vars("flag"), sky, out)
    with pytest.raises(ResultError, match="give the sky that was fitted"):
        explore(fit, sky.assign_attrs(nside=32), out)
    with pytest.raises(ResultError, match="posterior is of type Dataset"):
        explore(fit, sky, out, posterior=fit)
    posterior = with_draws(fit, [0, 1])
    other = posterior.copy()
    other.attrs["superpixel_nside"] = 8
    with pytest.raises(ResultError, match="Nside 8, the fit of 4"):
        explore(fit, sky, out, other)
    lacking = posterior.copy()
    lacking["posterior"] = xr.DataTree(lacking["posterior"].dataset.drop_vars("beta"))
    with pytest.raises(ResultError, match="has no draws of beta, which is free in the fit"):
        explore(fit, sky, out, lacking)
    longer = posterior.copy()
    longer["constant_data"]["distance_edge"] = fit["distance_edge"] * 2
    with pytest.raises(ResultError, match="different distance edges"):
        explore(fit, sky, out, longer)
    with pytest.raises(ResultError, match="none of the fit's superpixels"):
        explore(fit.isel(superpixel=[2]), sky, out, posterior)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match="is a folder; give the name of a file"):
        explore(fit, sky, tmp_path)
    for name in ("page.png", "page"):
        with pytest.raises(
            ConfigurationError, match=r"unknown ending .* allowed are .html and .htm"
        ):
            explore(None, None, tmp_path / "new" / name)
    assert not list(tmp_path.iterdir())
    explore(fit, sky, out)
    with pytest.raises(ConfigurationError, match=r"already holds page.html"):
        explore(fit, sky, out)
    assert explore(fit, sky, out, overwrite=True) == out


def test_the_command(fit, sky, tmp_path):
    places = {dim: np.arange(sky.sizes[dim]) for dim in ("pixel", "voxel")}
    save_sky(sky.assign_coords(places).assign_attrs(reddening_unit="sfd"), tmp_path / "sky.zarr")
    write_store(fit, tmp_path / "fit.zarr", superpixels_per_chunk=4)
    app = typer.Typer()
    app.command()(explore_command)
    paths = [str(tmp_path / name) for name in ("fit.zarr", "sky.zarr", "page.html")]
    done = CliRunner().invoke(app, [*paths[:2], "--out", paths[2]])
    assert done.exit_code == 0, done.output
    assert "The page in" in done.output
    assert (tmp_path / "page.html").stat().st_size > 4e6
    with pytest.raises(ConfigurationError, match="already holds"):
        CliRunner().invoke(app, [*paths[:2], "--out", paths[2]], catch_exceptions=False)
