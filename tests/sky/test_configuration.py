import copy
from pathlib import Path

import numpy as np
import pytest

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.physics.bands import BANDS
from pymcdust.sky.configuration import read_configuration

TOML = """
[grid]
nside = 64
superpixel_nside = 8
beam = "matched"
min_coverage = 0.9
[reddening]
map = "bayestar2019"
file = "maps/bayestar.h5"
slices = [15, 96, 10]
[emission.217]
file = "maps/217.fits"
column = "I_STOKES"
unit = "K_CMB"
release = "PR3"
[emission.353]
file = "maps/353.fits"
[emission.545]
file = "maps/545.fits"
[emission.857]
file = "maps/857.fits"
[emission.2998]
file = "maps/2998.fits"
[cmb]
file = "maps/cmb.fits"
[noise]
sigma = { 217 = 0.5, 353 = 3.0, 545 = 9.0, 857 = 25.0, 2998 = 30.0 }
"""


@pytest.fixture
def toml(tmp_path):
    (tmp_path / "maps").mkdir()
    for name in ("bayestar.h5", "cmb.fits", *(f"{band}.fits" for band in BANDS)):
        (tmp_path / "maps" / name).touch()
    path = tmp_path / "prepare.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def given(toml):
    """The same as a mapping, with the bands as integers, as Python users may write them."""
    folder = toml.parent / "maps"
    return {
        "grid": {"nside": 64, "superpixel_nside": 8, "beam": "matched", "min_coverage": 0.9},
        "reddening": {
            "map": "bayestar2019",
            "file": folder / "bayestar.h5",
            "slices": [15, 96, 10],
        },
        "emission": {int(band): {"file": str(folder / f"{band}.fits")} for band in BANDS},
        "cmb": {"file": folder / "cmb.fits"},
        "noise": {"sigma": {217: 0.5, 353: 3.0, 545: 9.0, 857: 25.0, 2998: 30.0}},
    }


def changed(given, section, key, value):
    """Set a key, or take it away where the value is None; ``section`` may be dotted."""
    given = copy.deepcopy(given)
    table = given
    for name in filter(None, section.split(".")):
        table = table[int(name) if name.isdigit() else name]
    if value is None:
        del table[key]
    else:
        table[key] = value
    return given


def test_toml_file_with_paths_beside_it(toml, monkeypatch):
    monkeypatch.chdir("/")
    configuration = read_configuration(toml)
    assert (configuration.nside, configuration.superpixel_nside) == (64, 8)
    assert configuration.min_coverage == 0.9
    assert configuration.reddening.unit == "bayestar2019"
    assert configuration.cmb == toml.parent / "maps/cmb.fits"
    assert configuration.sigma.tolist() == [0.5, 3, 9, 25, 30]
    assert len(configuration.edges) == 10
    assert list(configuration.emission) == list(BANDS)
    assert configuration.emission["217"].unit == "K_CMB"
    assert configuration.emission["217"].release == "PR3"
    assert configuration.emission["353"].column is None
    assert list(configuration.files) == [
        "reddening",
        *(f"emission.{band}" for band in BANDS),
        "cmb",
    ]


def test_mapping_means_the_same(toml, given):
    one, other = read_configuration(str(toml)), read_configuration(given)
    np.testing.assert_array_equal(one.edges, other.edges)
    np.testing.assert_array_equal(one.sigma, other.sigma)
    assert [p.resolve() for p in one.files.values()] == [p.resolve() for p in other.files.values()]


def test_what_was_given_holds_names_of_files_only(toml, given):
    for configuration in (read_configuration(toml), read_configuration(given)):
        assert configuration.given["emission"]["353"]["file"] == "353.fits"
        assert str(toml.parent) not in str(configuration.given)
        assert "maps" not in str(configuration.given)


def test_edges_in_kpc(given):
    del given["reddening"]["slices"]
    given["reddening"]["edges_kpc"] = np.array([0, 0.3, 1.0])
    configuration = read_configuration(given)
    assert configuration.edges.tolist() == [0, 0.3, 1.0]
    assert configuration.given["reddening"]["edges_kpc"] == [0, 0.3, 1.0]


@pytest.mark.parametrize(
    ("section", "key", "value", "match"),
    [
        ("", "grids", {}, "unknown section 'grids'.*did you mean 'grid'"),
        ("", "cmb", None, "section cmb is missing"),
        ("", "grid", 3, r"\[grid\] must be a table"),
        ("grid", "beem", 1, r"unknown key 'beem'.*did you mean 'beam'\? in \[grid\]"),
        ("grid", "beam", None, r"key beam is missing in \[grid\]"),
        ("grid", "beam", "10 arcmin", "all of them must share one beam"),
        ("grid", "nside", 100, "power of two; did you mean 128"),
        ("grid", "nside", 64.0, "power of two; did you mean 64"),
        ("grid", "nside", -1, "grid.nside is -1"),
        ("grid", "nside", "64", "grid.nside is '64'"),
        ("grid", "superpixel_nside", 128, "finer than grid.nside 64; were they interchanged"),
        ("grid", "min_coverage", 90, "did you mean 0.9"),
        ("grid", "min_coverage", 0, "min_coverage is 0"),
        ("grid", "min_coverage", "most", "min_coverage is 'most'"),
        ("reddening", "map", "bayestar19", "did you mean 'bayestar2019'"),
        ("reddening", "edges_kpc", [0, 1], "and not both"),
        ("reddening", "slices", None, "needs either slices"),
        ("reddening", "slices", 15, "must be a list"),
        ("reddening", "slices", [15, 300, 10], "within 0 to 119"),
        ("reddening", "file", "", "reddening.file is ''"),
        ("reddening", "file", 3, "reddening.file is 3"),
        ("emission", 353, None, r"key 353 is missing in \[emission\]"),
        ("emission", 143, {"file": "x"}, "unknown key '143'; allowed are 217, 353"),
        ("emission", 353, "353.fits", r"\[emission.353\] must be a table"),
        ("emission.353", "file", None, r"key file is missing in \[emission.353\]"),
        ("emission.353", "units", "K_CMB", "did you mean 'unit'"),
        ("emission.353", "column", 1, "emission.353.column is 1; it must be a text"),
        ("emission.353", "release", "PR5", "emission.353: unknown release 'PR5'"),
        ("noise", "sigma", 0.5, r"\[noise.sigma\] must be a table"),
        ("noise.sigma", 857, None, r"key 857 is missing in \[noise.sigma\]"),
        ("noise.sigma", 857, 0, "noise.sigma of band 857 is 0; it must be a positive"),
        ("noise.sigma", 857, 0.0, "noise.sigma of band 857"),
        ("noise.sigma", 857, float("nan"), "noise.sigma of band 857 is nan"),
        ("noise.sigma", 857, -25.0, "noise.sigma of band 857"),
        ("noise.sigma", 857, True, "noise.sigma of band 857"),
        ("noise.sigma", 857, "25", "noise.sigma of band 857"),
    ],
)
def test_impossible_configurations(given, section, key, value, match):
    read_configuration(given)
    with pytest.raises(ConfigurationError, match=match):
        read_configuration(changed(given, section, key, value))


def test_file_that_is_not_there(given, toml):
    (toml.parent / "maps/545.fits").unlink()
    with pytest.raises(FileFormatError, match=r"545\.fits: there is no such file; emission\.545"):
        read_configuration(given)


def test_no_toml_file():
    with pytest.raises(FileFormatError, match=r"nowhere\.toml: cannot be read"):
        read_configuration(Path("nowhere.toml"))


def test_toml_that_does_not_parse(toml):
    toml.write_text("[grid\nnside = 64")
    with pytest.raises(ConfigurationError, match=r"prepare\.toml: not valid TOML"):
        read_configuration(toml)
