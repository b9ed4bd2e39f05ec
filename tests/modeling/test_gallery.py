"""Models by name, by file, by class and by instance."""

import importlib.util
import pickle
from pathlib import Path

import pytest

from pymcdust import VoxelMBB, fixed, models
from pymcdust.errors import ModelError
from pymcdust.modeling.gallery import available, load, resolve
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel

FILE = """
from pymcdust import Prior, fixed, per_voxel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel

class Mine(TemperaturePerVoxel):
    '''A model of my own.'''
    temperature = per_voxel(Prior("Normal", mu=20.0, sigma=2.0), unit="K")
"""


def test_the_gallery_lists_its_files():
    folder = Path(models.__path__[0])
    assert available() == sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__")
    assert models.available() == available()


@pytest.mark.parametrize("name", models.available())
def test_a_name_gives_the_class_of_its_file(name):
    found = load(name)
    assert issubclass(found, VoxelMBB)
    assert found.__module__ == f"pymcdust.models.{name}"
    assert models.load(name) is found


def test_an_unknown_name_is_refused_with_what_was_meant():
    with pytest.raises(ModelError, match=r"did you mean 'single_temperature'.*my_model.py"):
        load("single_temprature")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_of_your_own(tmp_path, kind):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    model = resolve(kind(path))
    assert model.name == "mine"
    assert model.temperature.prior.parameters["mu"] == 20.0
    assert VoxelMBB.from_dict(model.to_dict()).parameters == model.parameters


@pytest.mark.parametrize("stem", ["json", "numpy", "temperature_per_voxel", "my-model"])
def test_a_file_of_any_name_leaves_modules_alone(tmp_path, stem):
    path = tmp_path / f"{stem}.py"
    path.write_text(FILE)
    assert load(path).__name__ == "Mine"
    import json

    assert hasattr(json, "dumps")


def test_a_file_that_is_not_there():
    with pytest.raises(ModelError, match=r"no file 'nowhere/mine\.py'"):
        load("nowhere/mine.py")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def broken(:\n", r"cannot be run: SyntaxError"),
        ("import no_such_module_at_all\n", r"cannot be run: ModuleNotFoundError"),
        ("1 / 0\n", r"cannot be run: ZeroDivisionError"),
        ("x = 1\n", r"must define one subclass of VoxelMBB; it defines none"),
        (
            "from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel\n",
            r"it defines none",
        ),
        (FILE + "\nclass Other(Mine):\n    pass\n", r"it defines Mine, Other"),
        (FILE.replace("temperature =", "temprature ="), r"unknown parameter 'temprature'"),
        (FILE + "\nimport sys\nsys.exit(3)\n", r"cannot be run: SystemExit"),
    ],
)
def test_a_file_that_is_wrong(tmp_path, text, complaint):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ModelError, match=complaint):
        load(path)


def test_what_resolves_to_a_model():
    instance = TemperaturePerVoxel(beta=fixed(1.6))
    assert resolve(instance) is instance
    assert type(resolve(TemperaturePerVoxel)) is TemperaturePerVoxel
    assert type(resolve("temperature_per_voxel")) is TemperaturePerVoxel


@pytest.mark.parametrize("other", [None, 3, int, VoxelMBB.__init__, ["temperature_per_voxel"]])
def test_what_does_not(other):
    with pytest.raises(ModelError, match="is not a model; allowed are"):
        resolve(other)


def test_the_base_class_does_not():
    with pytest.raises(ModelError, match="declares no parameters"):
        resolve(VoxelMBB)


def test_the_gallery_has_one_name():
    init = Path(models.__file__)
    spec = importlib.util.spec_from_file_location("models", init)
    with pytest.raises(ImportError, match=r"import it as 'pymcdust\.models'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_instances_can_be_sent_to_other_processes():
    model = TemperaturePerVoxel(beta=fixed(1.6))
    assert pickle.loads(pickle.dumps(model)).parameters == model.parameters
