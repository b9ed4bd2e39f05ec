"""The exceptions of the package: what was given, what is allowed, what was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


class PymcdustError(Exception):
    """Base of every error that the package raises on purpose."""


class SkyError(PymcdustError, ValueError):
    """A sky that does not keep the sky contract."""


class ModelError(PymcdustError, ValueError):
    """A model that is unknown, ill-declared, or does not fit the sky."""


class ConfigurationError(PymcdustError, ValueError):
    """A setting with an unknown name or an impossible value."""


class FileFormatError(PymcdustError, ValueError):
    """A file that is missing, cut short, or not in the layout that it should have."""


class DownloadError(PymcdustError):
    """A file that could not be fetched, or is not what it should be."""


class ResultError(PymcdustError, ValueError):
    """A result (a fit, a posterior) that lacks what was asked of it."""


def listing(names: Iterable[object]) -> str:
    """Write names as a readable list: ``a, b and c``."""
    words = [str(name) for name in names]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def unknown(kind: str, given: object, allowed: Iterable[object]) -> str:
    """Say that a name is unknown, which names are allowed, and which was probably meant.

    Parameters
    ----------
    kind : str
        What the name stands for, such as ``"model"``.
    given : object
        The name that was given.
    allowed : iterable
        The names that are allowed.

    Returns
    -------
    str
        A message for an exception of this module.

    Examples
    --------
    >>> unknown("band", "356", ["217", "353"])
    "unknown band '356'; allowed are 217 and 353; did you mean '353'?"
    """
    allowed = [str(name) for name in allowed]
    message = f"unknown {kind} {str(given)!r}; allowed are {listing(allowed)}"
    close = get_close_matches(str(given), allowed, n=1, cutoff=0.5)
    return f"{message}; did you mean {close[0]!r}?" if close else message
