"""The gallery: one model in each file, its docstring the science behind it."""

if __name__ != "pymcdust.models":
    raise ImportError(
        f"the gallery was imported as {__name__!r}; import it as 'pymcdust.models', so that every "
        "model class exists once"
    )

from pymcdust.modeling.gallery import available, load

__all__ = ["available", "load"]
