"""The rules that no single room can keep: who imports whom, who compiles, how long a file is."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import pymcdust

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 450

#: What each room may import of ours, besides itself and the exceptions.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "physics": set(),
    "sky": {"physics"},
    "modeling": {"physics", "sky"},
    "models": {"modeling"},
    "infer": {"modeling", "sky"},
    "judge": {"infer", "modeling", "sky", "products"},
    "products": {"sky", "physics"},
}

#: The modules that may import every room: top of the package, command line, demonstration.
FREE = {"pymcdust", "pymcdust.cli", "pymcdust.demo", "pymcdust.terminal"}

#: The folder whose modules may as well: the commands of the command line.
FREE_ROOM = "commands"

#: The only modules that compile: PyTensor's graphs are compiled in one place, once for each model.
#: Rays through a volume are no graph, and one by one no library follows them.
COMPILERS = {"pymcdust.infer.compiled", "pymcdust.products.raycast"}

COMPILES = {
    "numba.jit",
    "numba.njit",
    "numba.guvectorize",
    "numba.vectorize",
    "nutpie.compile_pymc_model",
    "pymc.compile",
    "pymc.pytensorf.compile",
    "pytensor.function",
    "pytensor.compile.function",
}

#: Methods of models and of graphs that compile, whatever object they are called on.
COMPILING_METHODS = {"compile_fn", "compile_logp", "compile_dlogp", "compile_d2logp"}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the file of every module of the package and the gallery."""
    for folder, package in ((ROOT / "pymcdust", "pymcdust"), (ROOT / "models", "pymcdust.models")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__"))), path


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the local name and the full dotted name of everything that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.asname or alias.name, alias.name
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                yield node.lineno, alias.asname or alias.name, f"{source}.{alias.name}"


def room(module: str) -> str:
    """Return the room of a module of ours: ``pymcdust.sky.dataset`` lies in ``sky``."""
    return module.partition(".")[2].partition(".")[0]


def wrong_arrows(module: str, source: str) -> list[str]:
    """List the imports that run against the direction of the rooms."""
    here = room(module)
    if module in FREE or here == FREE_ROOM:
        return []
    if here not in ARROWS:
        return [f"{module}: {here!r} is none of the rooms"]
    allowed = ARROWS[here] | {here, "errors"}
    wrong = []
    for line, _, name in imports(ast.parse(source)):
        ours = name.split(".")[0] == "pymcdust"
        if name.startswith(".") or (ours and room(name) not in allowed):
            wrong.append(f"{module}:{line}: {here} may not import {name}")
    return wrong


def compilations(module: str, source: str) -> list[str]:
    """List the places that compile a function."""
    if module in COMPILERS:
        return []
    tree = ast.parse(source)
    known = {local: name for _, local, name in imports(tree)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            compiles = known.get(node.id) in COMPILES
        elif isinstance(node, ast.Attribute):
            # `pt.function` is `pytensor.function` where `import pytensor as pt` says so.
            first, *rest = ast.unparse(node).split(".")
            full = ".".join((known.get(first, first), *rest))
            compiles = full in COMPILES or node.attr in COMPILING_METHODS
        else:
            continue
        if compiles:
            found.append(f"{module}:{node.lineno}: {ast.unparse(node)} compiles")
    return found


def bad_habits(module: str, source: str) -> list[str]:
    """List the prints, the assertions, and the file itself if it is too long."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            found.append(f"{module}:{node.lineno}: assert; raise one of pymcdust.errors")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            found.append(f"{module}:{node.lineno}: print; only the command line speaks")
    length = source.count("\n")
    if length > LONGEST_FILE:
        found.append(f"{module}: {length} lines, more than {LONGEST_FILE}")
    return found


@pytest.mark.parametrize("check", [wrong_arrows, compilations, bad_habits])
def test_the_package_keeps_the_rule(check):
    found = [fault for module, path in modules() for fault in check(module, path.read_text())]
    assert not found, "\n".join(found)


def test_every_room_is_looked_at():
    seen = {room(module) for module, _ in modules()}
    assert {"physics", "sky", "modeling", "models", "infer", "judge", "products"} <= seen


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pymcdust.physics.blackbody", "from pymcdust.sky.dataset import open_sky"),
        ("pymcdust.sky.cuts", "import pymcdust.modeling.parameter as parameter"),
        ("pymcdust.sky.cuts", "from pymcdust import infer"),
        ("pymcdust.products.maps", "def late():\n    import pymcdust.infer.newton"),
        ("pymcdust.models.all_per_voxel", "from pymcdust.infer import newton"),
        ("pymcdust.infer.newton", "from pymcdust.physics.blackbody import planck"),
        ("pymcdust.infer.newton", "import pymcdust"),
        ("pymcdust.sky.cuts", "from .dataset import open_sky"),
        ("pymcdust.sky.cuts", "from pymcdust.commands import sky"),
        ("pymcdust.errors", "from pymcdust.sky import dataset"),
        ("pymcdust.utilities", ""),
    ],
)
def test_a_wrong_arrow_is_seen(module, source):
    assert len(wrong_arrows(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pymcdust.sky.cuts", "from pymcdust.errors import SkyError\nfrom pymcdust import errors"),
        ("pymcdust.sky.cuts", "import numpy\nfrom pymcdust.sky.dataset import open_sky"),
        ("pymcdust.models.all_per_voxel", "from pymcdust.modeling.voxel_mbb import VoxelMBB"),
        ("pymcdust.cli", "import pymcdust.infer.newton, pymcdust.products.maps"),
        ("pymcdust.commands.sky", "from pymcdust.infer.newton import fit_map"),
        ("pymcdust", "from pymcdust.infer.newton import fit_map"),
    ],
)
def test_a_right_arrow_passes(module, source):
    assert wrong_arrows(module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pytensor\nf = pytensor.function([], x)",
        "import pytensor as pt\nf = pt.function([], x)",
        "from pytensor import function\nf = function([], x)",
        "from pytensor.compile import function as make\nf = make([], x)",
        "import pymc as pm\nf = pm.compile([], x)",
        "import numba\n@numba.njit\ndef f(x): return x",
        "from numba import njit\n@njit(cache=True)\ndef f(x): return x",
        "import nutpie\nf = nutpie.compile_pymc_model(model)",
        "f = model.compile_logp()",
    ],
)
def test_a_compilation_is_seen(source):
    assert len(compilations("pymcdust.modeling.voxel_mbb", source)) == 1
    assert [compilations(module, source) for module in COMPILERS] == [[], []]


@pytest.mark.parametrize(
    "source",
    [
        "import re\nf = re.compile('x')",
        "function = 1\nf = function",
        "import ast\nast.literal_eval",
    ],
)
def test_what_only_looks_like_a_compilation_passes(source):
    assert compilations("pymcdust.modeling.voxel_mbb", source) == []


@pytest.mark.parametrize("source", ["print('x')", "assert x > 0", "x = 1\n" * (LONGEST_FILE + 1)])
def test_a_bad_habit_is_seen(source):
    assert len(bad_habits("pymcdust.sky.cuts", source)) == 1


def test_good_habits_pass():
    source = "console.print('x')\nraise AssertionError\n" + "x = 1\n" * (LONGEST_FILE - 2)
    assert bad_habits("pymcdust.sky.cuts", source) == []


def told_names(text: str) -> set[str]:
    """Return the dotted names of ours that a notebook or a page imports, or speaks of in full."""
    found = set(re.findall(r"\bpymcdust(?:\.\w+)+", text))
    line = r"^[ >]*from (pymcdust[\w.]*) import (\([^)]*\)|.*)$"
    for module, listed in re.findall(line, text, re.MULTILINE):
        names = re.sub(r"#.*|[()]", "", listed).split(",")
        found |= {f"{module}.{name.split()[0]}" for name in names if name.strip()}
    return found


def unknown_names(text: str) -> list[str]:
    """List those of `told_names` that do not exist."""
    unknown = []
    for name in sorted(told_names(text)):
        try:
            pkgutil.resolve_name(name)
        except (AttributeError, ImportError):
            unknown.append(name)
    return unknown


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every notebook and every page of the documentation."""
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.*")]):
        text = path.read_text()
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        yield path.name, text


def test_notebooks_and_pages_speak_of_what_exists():
    wrong = [f"{page}: {name}" for page, text in pages() for name in unknown_names(text)]
    assert not wrong, "\n".join(wrong)


def test_a_name_that_does_not_exist_is_seen():
    text = "from pymcdust.sky.cuts import (\n    Mask,  # and\n    nil as no,\n)\npymcdust.nix(1)"
    assert unknown_names(text) == ["pymcdust.nix", "pymcdust.sky.cuts.nil"]


def test_version_is_the_same_everywhere():
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert getattr(pymcdust, "__version__", version) == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_examples_in_docstrings_run():
    """Every module can be imported, and every example in a docstring gives what it says."""
    attempted = 0
    for module, _ in modules():
        result = doctest.testmod(importlib.import_module(module))
        assert not result.failed, f"{module}: {result.failed} examples fail"
        attempted += result.attempted
    assert attempted


def test_the_model_in_the_readme_is_that_of_the_gallery():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (source,) = (block for block in blocks if "class " in block)
    names = {"__name__": "readme"}
    exec(source, names)
    declared = names["TemperaturePerVoxel"]().to_dict()
    assert declared == pymcdust.models.load("temperature_per_voxel")().to_dict()
