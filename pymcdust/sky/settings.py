"""Values of a configuration: read from TOML, and checked one by one."""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pymcdust.errors import ConfigurationError, FileFormatError, listing, unknown


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    FileFormatError
        If it cannot be read.
    ConfigurationError
        If it is not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error


def plain(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn nested mappings into what TOML would have given: string keys, plain numbers."""
    return {str(key): _plain_value(value) for key, value in mapping.items()}


def names_only(given: Any) -> Any:
    """Put the name of a file in the place of its path, which means nothing elsewhere."""
    if isinstance(given, Mapping):
        return {
            key: Path(value).name if key == "file" and _is_path(value) else names_only(value)
            for key, value in given.items()
        }
    return [names_only(item) for item in given] if isinstance(given, list) else given


def keys(
    given: Any, section: str, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Any]:
    """Check the keys of a section, and return it.

    Parameters
    ----------
    given : Any
        What stands there.
    section : str
        Its dotted name; empty for the whole configuration.
    required, optional : sequence of str
        The keys that must be and may be there.

    Raises
    ------
    ConfigurationError
        If it is no table, a key is unknown, or one is missing.
    """
    kind, place = ("key", f" in [{section}]") if section else ("section", "")
    if not isinstance(given, Mapping):
        allowed = listing(required or optional)
        raise ConfigurationError(f"[{section}] must be a table, with keys such as {allowed}")
    for key in given:
        if key not in (*required, *optional):
            raise ConfigurationError(unknown(kind, key, (*required, *optional)) + place)
    missing = [key for key in required if key not in given]
    if missing:
        raise ConfigurationError(f"{kind} {listing(missing)} is missing{place}")
    return dict(given)


def number(
    value: Any,
    name: str,
    allowed: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> float:
    """Check a number.

    Parameters
    ----------
    value : Any
        What stands there.
    name, allowed : str
        For the message: the dotted key, and what it must be.
    least, most, above : float
        The range: from `least` to `most`, and greater than `above`.

    Raises
    ------
    ConfigurationError
        If it is no finite number in the range.
    """
    if is_number(value) and least <= value <= most and value > above:
        return float(value)
    hint = ""
    if is_number(value) and 1 < value <= 100 and above < value / 100 and most == 1:
        hint = f"; did you mean {value / 100:g}?"
    raise ConfigurationError(f"{name} is {value!r}; it must be {allowed}{hint}")


def numbers(value: Any, name: str, allowed: str, length: int) -> tuple[float, ...]:
    """Check a list of so many finite numbers.

    Raises
    ------
    ConfigurationError
        If it is not.
    """
    if (
        isinstance(value, list | tuple | np.ndarray)
        and len(value) == length
        and all(map(is_number, value))
    ):
        return tuple(float(one) for one in value)
    raise ConfigurationError(f"{name} is {value!r}; it must be {allowed}")


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number."""
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def choice(value: Any, name: str, allowed: Iterable[str]) -> str:
    """Check a text that is one of several.

    Raises
    ------
    ConfigurationError
        If it is not.
    """
    if text(value, name) not in allowed:
        raise ConfigurationError(unknown(name, value, allowed))
    return value


def map_beam(entry: Mapping[str, Any], name: str) -> float | None:
    """Check the beam of a map [arcmin], None where it is not given.

    Raises
    ------
    ConfigurationError
        If it is no FWHM.
    """
    if "beam" not in entry:
        return None
    return number(entry["beam"], f"{name}.beam", "the FWHM of the map [arcmin], 0 or more", least=0)


def switch(value: Any, name: str, otherwise: str = "") -> bool:
    """Check a value that is true or false; `otherwise` is what else is allowed, for the message.

    Raises
    ------
    ConfigurationError
        If it is not.
    """
    if isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name} is {value!r}; it must be true or false {otherwise}".rstrip())


def text(value: Any, name: str) -> str:
    """Check a text.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    if isinstance(value, str):
        return value
    raise ConfigurationError(f"{name} is {value!r}; it must be a text")


def file_path(folder: Path, value: Any, name: str) -> Path:
    """Check the path of a file, and place it in the folder to which it is relative.

    Raises
    ------
    ConfigurationError
        If it is no path.
    """
    if not _is_path(value):
        raise ConfigurationError(f"{name} is {value!r}; it must be the path of a file")
    return folder / Path(value).expanduser()


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path) and bool(str(value))


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    return value
