"""Where a file comes from, said in the header of FITS files or in attributes."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from astropy.io import fits

from pymcdust.products.reconstruction import GRID

#: Bibcode of the paper whose method is followed.
REFERENCE = "2022arXiv221107667Z"

#: Attributes of a fit with a header card of their own; the others go together into PROVENAN.
CARDS: dict[str, tuple[str, str]] = {
    "model": ("MODEL", "model of the fit"),
    "model_definition": ("MODELDEF", "its declaration, as JSON"),
    "pymcdust_version": ("PYMCDUST", "version of the package that fitted"),
    "reddening_unit": ("REDDUNIT", "unit of the reddening"),
    "files": ("FILES", "inputs and their checksums, as JSON"),
    "versions": ("VERSIONS", "of the software, as JSON"),
    "configuration": ("CONFIG", "of the preparation, as JSON"),
}


def provenance_cards(attrs: dict[str, Any]) -> fits.Header:
    """Return header cards for the provenance of a fit or a sky.

    Parameters
    ----------
    attrs : dict
        The attributes of the fit or sky.

    Returns
    -------
    Header
        ``DATE``, ``ORIGIN``, ``CREATOR``, ``REFERENC``; a card for each attribute of `CARDS`; all
        other attributes as JSON in ``PROVENAN``. Values are printable ASCII, as FITS demands.
    """
    header = fits.Header()
    header["DATE"] = (_now(), "[UTC] when this file was written")
    header["ORIGIN"] = ("pymcdust", "what made the data")
    header["CREATOR"] = (f"pymcdust {version('pymcdust')}", "what wrote this file")
    header["REFERENC"] = (REFERENCE, "paper of the method")
    header["LONGSTRN"] = ("OGIP 1.0", "long strings use CONTINUE")
    for attribute, (keyword, comment) in CARDS.items():
        if attribute in attrs:
            header[keyword] = _printable(attrs[attribute])
            header.comments[keyword] = comment
    rest = {key: attrs[key] for key in attrs if key not in CARDS and key not in GRID}
    header["PROVENAN"] = _printable(rest)
    return header


def provenance_attributes(attrs: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a fit or sky, with those that tell who wrote the file, and when."""
    return {
        **attrs,
        "creator": f"pymcdust {version('pymcdust')}",
        "date_created": _now(),
        "references": REFERENCE,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _printable(value: Any) -> str:
    r"""Return a text, or other values as JSON, in the printable ASCII that FITS headers allow.

    The rest is escaped as in JSON. An apostrophe is escaped too: astropy may break a long string
    between the two halves of a doubled one, which other readers take for the end. JSON means the
    same as before.
    """
    text = value if isinstance(value, str) else json.dumps(value, default=_plain)
    allowed = {chr(code) for code in range(32, 127)} - {"'"}
    return "".join(
        letter
        if letter in allowed
        else " "
        if letter.isspace()
        else "\\u0027"
        if letter == "'"
        else json.dumps(letter)[1:-1]
        for letter in text
    )


def _plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays as JSON knows them."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
