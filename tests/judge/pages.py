"""Reports as a reader's machine sees them: whole, self-contained, no wider than a phone."""

import base64
import json
import re
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree

from matplotlib.image import imread

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


def sections(text):
    """Return the names of the sections of a page."""
    return [attrs["id"] for attrs in Outline(text).all("section")]


def alts(text):
    """Return what the pictures of a page show, in words."""
    return [image["alt"] for image in Outline(text).all("img")]


def cells(text, table_number):
    """Return the rows of a table as lists of text."""
    body = text.split("<tbody>")[table_number + 1].split("</tbody>")[0]
    rows = re.findall(r"<tr.*?</tr>", body)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def check_in_browser(browser, out, folder):
    """Open a page in a browser, then as wide as a phone: nothing fails, nothing sticks out."""
    _, said = browse(browser, out, folder)
    assert not said
    phone = folder / "phone.html"
    phone.write_text(PHONE.replace("PAGE", base64.b64encode(out.read_bytes()).decode()))
    dom, said = browse(browser, phone, folder)
    assert not said
    found = json.loads(re.search(r'<pre id="said">(.*?)</pre>', dom).group(1))
    assert found["width"] == 390
    assert found["overflow"] <= 0
    assert found["images"] == out.read_text().count("<img ") > 5
    assert found["broken"] == 0
    assert found["requests"] == []
    assert found["font"] == "16px"
