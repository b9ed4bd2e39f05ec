"""What commands share: arguments, options, and how they are read."""

from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pymcdust.errors import ConfigurationError

SkyPath = Annotated[Path, typer.Argument(metavar="SKY", help="a sky (Zarr)")]
FitPath = Annotated[Path, typer.Argument(metavar="FIT", help="a fit (Zarr)")]
ModelName = Annotated[
    str, typer.Option(help="a model of the gallery, or a Python file that defines one")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there already")]
SettingOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="a setting of the method, such as draws=500"),
]
Seed = Annotated[int, typer.Option(help="seed of everything random")]


def read_setting(text: str) -> tuple[str, float | str]:
    """Read NAME=VALUE; a value that looks like a number or a truth value is one."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigurationError(f"--set takes NAME=VALUE, such as draws=500, not {text!r}")
    try:
        return name.strip(), literal_eval(value.strip().capitalize())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()


def read_numbers(vary: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Read NAME.NUMBER=VALUE,VALUE: values of a prior's number, by parameter and number."""
    numbers: dict[str, dict[str, list[float]]] = {}
    for text in vary:
        path, _, values = text.partition("=")
        name, _, number = path.strip().rpartition(".")
        try:
            given = [float(value) for value in values.split(",")]
        except ValueError:
            given = []
        if not name or not number or not given:
            raise ConfigurationError(
                f"--vary takes NAME.NUMBER=VALUE,VALUE, such as temperature.mu=14,20, not {text!r}"
            )
        numbers.setdefault(name, {})[number] = given
    return numbers
