"""The explorer: a fit as one HTML page that needs nothing but itself."""

import json
import re
from html import escape
from importlib import resources
from pathlib import Path

import xarray as xr
from plotly.offline import get_plotlyjs

from pymcdust.errors import ConfigurationError, unknown
from pymcdust.products.explorer_data import explorer_data
from pymcdust.products.staging import staged

#: Endings of the page.
ENDINGS: tuple[str, ...] = (".html", ".htm")

#: The page's own scripts, in the order in which they need each other.
SCRIPTS: tuple[str, ...] = (
    "style.js",
    "healpix.js",
    "dust.js",
    "map.js",
    "panels.js",
    "space.js",
    "explorer.js",
)


def explore(
    fit: xr.Dataset,
    sky: xr.Dataset,
    out: str | Path = "explore.html",
    posterior: xr.DataTree | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a page on which a fit can be looked at in the browser, without server or network.

    It shows a map of the sky for a chosen quantity and distance; for a chosen superpixel the
    parameters along the sightline with their errors, the spectrum, chi2 and flags; and the dust
    in three dimensions.

    Parameters
    ----------
    fit, sky : Dataset
        The fit, and the sky that was fitted. The fit may cover a part of the sky.
    out : path
        The page, whose name ends in ``.html`` or ``.htm``.
    posterior : DataTree, optional
        Draws of the same superpixels, or of some of them: the page can then show their median and
        quantiles in the place of the maximum a posteriori.
    overwrite : bool
        Replace a file that is already there.

    Returns
    -------
    Path
        The page: 5 MB for the library that draws (plotly.js), and about 30 bytes for each voxel
        of a fit whose temperature alone differs between voxels.

    Raises
    ------
    ResultError
        If the fit lacks a variable, or fit, sky and posterior do not belong together.
    ConfigurationError
        If `out` exists and may not be replaced, is a folder, or has another ending.
    """
    out = Path(out)
    if out.is_dir():
        raise ConfigurationError(f"{out} is a folder; give the name of a file, such as {out}.html")
    if out.suffix.lower() not in ENDINGS:
        raise ConfigurationError(unknown("ending of the page", out.suffix or out.name, ENDINGS))
    with staged(out.parent, [out.name], overwrite) as unfinished:
        page = _page(explorer_data(fit, sky, posterior))
        (unfinished / out.name).write_text(page, encoding="utf-8")
    return out


def _page(data: dict) -> str:
    """Fill in the page's parts, whatever is in them, in one pass."""
    source = resources.files("pymcdust.products") / "explorer_page"
    count = data["arrays"]["superpixel"]["shape"][0]
    superpixels = f"{count:,} superpixel{'s' if count > 1 else ''}"
    parts = {
        "title": escape(f"pymcdust: {data['model']}, {superpixels}"),
        "subtitle": escape(
            f"Model {data['model']}; {superpixels} of Nside {data['nside']}; "
            f"reddening in the unit of {data['reddening_unit']}."
        ),
        "footer": escape(f"Made by pymcdust {data['version']}. Drawn by plotly.js."),
        "style": (source / "explorer.css").read_text(encoding="utf-8"),
        "plotly": get_plotlyjs(),
        # A "<" inside of a script could end it.
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        "script": "".join((source / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    template = (source / "explorer.html").read_text(encoding="utf-8")
    return re.sub("@([a-z]+)@", lambda part: parts[part[1]], template)
