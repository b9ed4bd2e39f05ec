"""Find models: by name in the gallery, in a file, as a class or an instance."""

import inspect
from importlib import import_module, util
from pathlib import Path
from pkgutil import iter_modules

from pymcdust.errors import ModelError, unknown
from pymcdust.modeling.voxel_mbb import VoxelMBB

GALLERY = "pymcdust.models"


def available() -> list[str]:
    """Return the names of the gallery's models."""
    return sorted(module.name for module in iter_modules(import_module(GALLERY).__path__))


def load(name_or_file: str | Path) -> type[VoxelMBB]:
    """Load a model class from the gallery, or from a file of your own.

    Parameters
    ----------
    name_or_file : str or path
        A name that `available` lists, or the path of a Python file that defines one model.

    Returns
    -------
    type of VoxelMBB
        The model class.

    Raises
    ------
    ModelError
        If there is no such model, or the file does not define exactly one.
    """
    text = str(name_or_file)
    if text in available():
        return _only_model(import_module(f"{GALLERY}.{text}"), text)
    if not text.endswith(".py"):
        raise ModelError(
            f"{unknown('model', text, available())}; a model of your own is named by its file, "
            "such as my_model.py"
        )
    path = Path(name_or_file)
    if not path.is_file():
        raise ModelError(f"there is no file {text!r} to load a model from")
    spec = util.spec_from_file_location(path.stem, path)
    module = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModelError:
        raise
    # A file of the user's may end in any way, sys.exit included.
    except (Exception, SystemExit) as error:
        raise ModelError(f"{text} cannot be run: {type(error).__name__}: {error}") from error
    return _only_model(module, text)


def resolve(model: str | Path | type[VoxelMBB] | VoxelMBB) -> VoxelMBB:
    """Return an instance of a model given by name, file, class or instance."""
    if isinstance(model, VoxelMBB):
        return model
    if inspect.isclass(model) and issubclass(model, VoxelMBB):
        return model()
    if isinstance(model, str | Path):
        return load(model)()
    raise ModelError(
        f"{model!r} is not a model; allowed are a name of the gallery, a file, a subclass of "
        "VoxelMBB and an instance of one"
    )


def _only_model(module: object, where: str) -> type[VoxelMBB]:
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, VoxelMBB)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(model.__name__ for model in found) or "none"
        raise ModelError(f"{where} must define one subclass of VoxelMBB; it defines {names}")
    return found[0]
