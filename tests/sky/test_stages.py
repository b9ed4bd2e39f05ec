import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pymcdust.errors import ConfigurationError
from pymcdust.sky.stages import Stages


@pytest.fixture
def out(tmp_path):
    return tmp_path / "sky.zarr"


def test_arrays_come_back(out):
    stages = Stages(out, {"configuration": {"nside": 4}})
    values = np.arange(12, dtype=np.float32)
    stages.save("one", values)
    with stages.writing(two=((2, 3), np.uint16), three=((4,), float)) as (two, three):
        two[1] = 7
        three[:] = 0.5
    again = Stages(out, {"configuration": {"nside": 4}})
    assert again.has("one", "two", "three")
    np.testing.assert_array_equal(again.load("one"), values)
    assert again.load("two").tolist() == [[0, 0, 0], [7, 7, 7]]
    assert again.load("two").dtype == np.uint16
    assert again.load("three").tolist() == [0.5] * 4


def test_what_was_not_finished_is_not_there(out):
    stages = Stages(out, {})
    with pytest.raises(RuntimeError), stages.writing(one=((3,), float), two=((3,), float)) as _:
        raise RuntimeError
    assert not stages.has("one")
    assert {path.name for path in stages.folder.iterdir()} == {"fingerprint.json", "lock"}


def test_removed_and_cleared(out):
    stages = Stages(out, {})
    stages.save("one", np.zeros(2))
    stages.remove("one", "never there")
    assert not stages.has("one")
    stages.clear()
    assert not stages.folder.exists()


def test_beginning_of_something_else_is_refused(out):
    Stages(out, {"files": "a", "configuration": 1})
    with pytest.raises(ConfigurationError, match="a sky with another configuration; start that"):
        Stages(out, {"files": "a", "configuration": 2})


def test_what_nobody_knows_the_beginning_of_is_refused(out):
    """Such as what a clearing leaves that was cut short."""
    stages = Stages(out, {"files": "a"})
    stages.save("one", np.zeros(2))
    (stages.folder / "fingerprint.json").unlink()
    with pytest.raises(ConfigurationError, match="does not say what it holds the beginning of"):
        Stages(out, {"files": "b"})


def test_a_clearing_that_is_cut_short_leaves_nothing_to_go_on_with(out, monkeypatch):
    stages = Stages(out, {"files": "a"})
    stages.save("one", np.zeros(2))
    monkeypatch.setattr("pymcdust.sky.stages.shutil.rmtree", lambda path: (path / "lock").unlink())
    stages.clear()
    assert not Stages(out, {"files": "b"}).has("one")


def test_two_processes_do_not_share_a_folder(out):
    stages = Stages(out, {"files": "a"})
    code = f"""
from pathlib import Path
from pymcdust.errors import ConfigurationError
from pymcdust.sky.stages import Stages
try:
    Stages(Path({str(out)!r}), {{"files": "a"}})
except ConfigurationError as error:
    print(error)
"""

    def answer():
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout

    assert "another process makes the same sky" in answer()
    del stages
    assert answer() == ""


def test_damaged_note_is_refused(out):
    stages = Stages(out, {"files": "a"})
    (stages.folder / "fingerprint.json").write_text(json.dumps({"files": "a"})[:-3])
    with pytest.raises(ConfigurationError, match="is damaged"):
        Stages(out, {"files": "a"})


def test_taken_place_is_refused(out):
    out.mkdir()
    (out / "zarr.json").touch()
    with pytest.raises(ConfigurationError, match="exists already"):
        Stages(out, {})
    Stages(out, {}, overwrite=True)


def test_no_room_is_an_error_and_not_a_crash(out):
    """A file may not grow beyond a limit, as on a disk that is full."""
    program = f"""
import resource
from pathlib import Path
from pymcdust.sky.stages import Stages
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
stages = Stages(Path({str(out)!r}), {{}})
try:
    with stages.writing(large=((1_000_000,), float)) as (large,):
        large[:] = 1.0
except OSError as error:
    raise SystemExit(error.errno)
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert ended.returncode == errno.EFBIG, ended.stderr.decode()
    left = {path.name for path in out.with_name("sky.zarr.stages").iterdir()}
    assert left == {"fingerprint.json", "lock"}


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot take room")
def test_room_is_taken_before_anything_is_written(out):
    """A file of nothing but holes would take none, until a page of it is touched."""
    stages = Stages(out, {})
    with stages.writing(large=((1_000_000,), float)):
        [draft] = stages.folder.glob("*.partial")
        assert draft.stat().st_blocks * 512 >= 8_000_000
