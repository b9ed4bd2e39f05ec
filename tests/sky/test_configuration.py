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
    assert configuration.reddening[0].kind == "bayestar2019"
    assert configuration.beam is None
    assert configuration.cmb.file == toml.parent / "maps/cmb.fits"
    assert configuration.sigma.tolist() == [0.5, 3, 9, 25, 30]
    assert len(configuration.voxels.given) == 10
    assert list(configuration.emission) == list(BANDS)
    assert configuration.emission["217"].source.unit == "K_CMB"
    assert configuration.emission["217"].source.release == "PR3"
    assert configuration.emission["353"].source.column is None
    assert list(configuration.files) == [
        "reddening",
        *(f"emission.{band}" for band in BANDS),
        "cmb",
    ]


def test_mapping_means_the_same(toml, given):
    one, other = read_configuration(str(toml)), read_configuration(given)
    np.testing.assert_array_equal(one.voxels.given, other.voxels.given)
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
    assert configuration.voxels.given.tolist() == [0, 0.3, 1.0]
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
        ("grid", "beam", 0, "grid.beam is 0; it must be the FWHM"),
        ("grid", "beam", 100.0, "emission.217.beam is missing|reddening"),
        ("grid", "beam", 10.0, r"too narrow for the pixels of nside 64.* 90\.1 or more"),
        ("", "cmb", {"file": 3}, "cmb.file is 3; it must be the path of a file"),
        ("reddening", "map", ["bayestar2019"], "reddening.map is .* it must be a text"),
        ("emission", "zero_level", ["none"], "emission.zero_level is .* it must be a text"),
        ("emission.2998", "cmb", True, r"emission\.2998\.cmb is true, but .* 545 and 857 GHz"),
        ("emission.2998", "dipole", True, r"emission\.2998\.dipole is true"),
        ("noise", "variance", [353, 354], "unknown band in noise.variance '354'"),
        (
            "",
            "cuts",
            {"merge": 3},
            r"\[cuts.merge\] must be a table, with keys such as min_reddening",
        ),
        ("grid", "thin", 1, "grid.thin is 1; it must be true or false"),
        ("grid", "thin", True, "for which the beam must be known"),
        ("grid", "nside", 100, "power of two.* did you mean 128"),
        ("grid", "nside", 64.0, "power of two.* did you mean 64"),
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
        ("reddening", "beam", -3.4, "reddening.beam is -3.4; it must be the FWHM"),
        ("reddening", "samples", 2.5, "reddening.samples is 2.5; it must be the number"),
        ("reddening", "samples", -1, "reddening.samples is -1"),
        ("reddening", "convert", 0.884, "reddening.convert is 0.884; it must be a text"),
        ("reddening", "options", [1], r"reddening.options is \[1\]; it must be a table"),
        ("reddening", "edges_modulus", [5, 10], "and not both"),
        ("reddening", "seam", {}, "unknown key 'seam'"),
        (
            "emission",
            "zero_level",
            "odegard",
            "unknown emission.zero_level 'odegard'",
        ),
        ("emission.353", "zero_level", "high", "emission.353.zero_level is 'high'"),
        ("emission.353", "beam", "5", "emission.353.beam is '5'"),
        ("emission.353", "cmb", 0, "emission.353.cmb is 0; it must be true or false"),
        ("cmb", "beam", -1, "cmb.beam is -1"),
        ("cmb", "column", 3, "cmb.column is 3"),
        ("noise", "variance", "yes", "noise.variance is 'yes'"),
        ("", "cuts", {"declinations": 1}, r"unknown key 'declinations'.*'declination'\? in"),
        ("", "cuts", {"declination": [30, -30]}, r"is \[30, -30\]; it must be a range"),
        ("", "cuts", {"declination": 30}, "cuts.declination is 30; it must be a range"),
        ("", "cuts", {"reliable_distance": 1}, "cuts.reliable_distance is 1"),
        ("", "cuts", {"one_voxel_above": 95}, "cuts.one_voxel_above is 95; it must be a lat"),
        ("", "cuts", {"one_voxel_below": -0.1}, "cuts.one_voxel_below is -0.1"),
        ("", "cuts", {"merge": {"max_condition": 0.5}}, "cuts.merge.max_condition is 0.5"),
        ("", "cuts", {"merge": {"minimum": 1}}, "unknown key 'minimum'"),
        ("", "cuts", {"direction": "cepheus"}, r"must be a list of names, such as .\Wcepheus"),
        ("", "cuts", {"direction": ["cephesu"]}, "did you mean 'cepheus'"),
        ("", "cuts", {"direction": [{"name": "a", "center": [0, 0]}]}, "key radius is missing"),
        (
            "",
            "cuts",
            {"direction": [{"name": "a", "center": [0, 99], "radius": 1, "edges_kpc": [0, 1]}]},
            "cuts.direction.center is 99",
        ),
        (
            "",
            "cuts",
            {"direction": [{"name": "a", "center": [0, 9], "radius": 1}]},
            "cuts.direction. needs either slices",
        ),
        ("emission", 353, None, r"key 353 is missing in \[emission\]"),
        ("emission", 143, {"file": "x"}, "unknown key '143'; allowed are 217, 353"),
        ("emission", 353, "353.fits", r"\[emission.353\] must be a table"),
        ("emission.353", "file", None, r"key file is missing in \[emission.353\]"),
        ("emission.353", "units", "K_CMB", "did you mean 'unit'"),
        ("emission.353", "column", 1, "emission.353.column is 1; it must be a text"),
        ("emission.353", "release", "PR5", "unknown emission.353.release 'PR5'"),
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


def smoothed(given):
    """The same, smoothed to one beam, with the beam of each map."""
    given = copy.deepcopy(given)
    given["grid"] |= {"nside": 1024, "beam": 10.0}
    for entry in given["emission"].values():
        entry["beam"] = 5.0
    given["cmb"]["beam"] = 10.0
    return given


def test_beams(given):
    given = smoothed(given)
    given["reddening"]["beam"] = 3.5
    configuration = read_configuration(given)
    assert configuration.beam == 10
    assert configuration.reddening[0].beam == 3.5
    assert [entry.beam for entry in configuration.emission.values()] == [5] * 5
    del given["cmb"]["beam"]
    with pytest.raises(ConfigurationError, match=r"cmb\.beam is missing"):
        read_configuration(given)


def test_beam_of_the_release(given):
    given = smoothed(given)
    del given["emission"][353]["beam"]
    with pytest.raises(ConfigurationError, match=r"emission\.353\.beam is missing"):
        read_configuration(given)
    given["emission"][353]["release"] = "PR3"
    assert read_configuration(given).emission["353"].beam == 4.94


def test_effective_beams_of_planck(given):
    """Planck 2015 results VIII, Table 6."""
    given = smoothed(given)
    for band, beam in {217: 5.02, 353: 4.94, 545: 4.83, 857: 4.64}.items():
        del given["emission"][band]["beam"]
        for release in ("PR2", "PR3", "PR4"):
            given["emission"][band]["release"] = release
            assert read_configuration(given).emission[str(band)].beam == beam


def test_maps_that_share_a_beam_have_one(given):
    given["emission"][353]["beam"] = 10.0
    given["cmb"]["beam"] = 10
    read_configuration(given)
    given["reddening"]["beam"] = 3.4
    told = r"reddening 3\.4, emission\.353 10\.0 and cmb 10; give the beam"
    with pytest.raises(ConfigurationError, match=told):
        read_configuration(given)


def test_what_a_release_still_holds(given):
    given["emission"][353]["release"] = "GNILC"
    given["emission"][2998]["release"] = "IRIS"
    given["emission"][217]["cmb"] = False
    emission = read_configuration(given).emission
    assert [entry.cmb for entry in emission.values()] == [False, False, True, True, False]


def test_cmb_may_be_left_out_where_no_map_holds_it(given):
    del given["cmb"]
    with pytest.raises(ConfigurationError, match="subtracted from 217, 353, 545 and 857"):
        read_configuration(given)
    for band in (217, 353, 545, 857):
        given["emission"][band]["cmb"] = False
    configuration = read_configuration(given)
    assert configuration.cmb is None
    assert "cmb" not in configuration.files


def test_variance_allows_a_sigma_of_zero(given):
    given["noise"]["variance"] = True
    given["noise"]["sigma"][857] = 0
    configuration = read_configuration(given)
    assert all(entry.variance for entry in configuration.emission.values())
    assert configuration.sigma[3] == 0


def test_variance_of_some_bands(given):
    given["noise"]["variance"] = ["217", 857]
    given["noise"]["sigma"][857] = 0
    emission = read_configuration(given).emission
    assert [band for band, entry in emission.items() if entry.variance] == ["217", "857"]
    given["noise"]["sigma"][353] = 0
    with pytest.raises(ConfigurationError, match=r"noise\.sigma of band 353 is 0"):
        read_configuration(given)


def test_what_holds_the_dipole_of_the_sun(given):
    for band in (217, 353, 545):
        given["emission"][band]["release"] = "PR4"
    given["emission"][545]["dipole"] = False
    emission = read_configuration(given).emission
    assert [entry.dipole for entry in emission.values()] == [True, True, False, False, False]
    assert not read_configuration(given).cmb.dipole


def test_cuts(given):
    given["cuts"] = {
        "declination": [-29, 90],
        "reliable_distance": True,
        "one_voxel_above": 60,
        "one_voxel_below": 0.02,
        "direction": [
            "cepheus",
            {"name": "here", "center": [353, 17], "radius": 4, "edges_modulus": [5, 10]},
        ],
        "merge": {"min_reddening": 0.01, "max_condition": 30},
    }
    configuration = read_configuration(given)
    assert configuration.declination == (-29, 90)
    assert configuration.reliable_distance
    rules = configuration.voxels
    assert (rules.one_voxel_above, rules.one_voxel_below) == (60, 0.02)
    assert (rules.min_reddening, rules.max_condition) == (0.01, 30)
    assert [direction.name for direction in rules.directions] == ["cepheus", "here"]
    np.testing.assert_allclose(rules.directions[1].edges, [0, 0.1, 1])


def test_two_reddening_maps(given, toml):
    (toml.parent / "maps/decaps.h5").touch()
    north = {key: given["reddening"].pop(key) for key in ("map", "file")}
    north["convert"] = "green2019_g_r"
    given["reddening"]["north"] = north
    south = {"map": "decaps", "file": toml.parent / "maps/decaps.h5"}
    given["reddening"]["south"] = south
    with pytest.raises(ConfigurationError, match=r"key seam is missing in \[reddening\]"):
        read_configuration(given)
    given["reddening"]["seam"] = {"declination": -29, "width": 2}
    configuration = read_configuration(given)
    assert [source.kind for source in configuration.reddening] == ["bayestar2019", "decaps"]
    assert (configuration.seam.declination, configuration.seam.width) == (-29, 2)
    assert list(configuration.files)[:2] == ["reddening.north", "reddening.south"]
    assert configuration.given["reddening"]["south"] == {"map": "decaps", "file": "decaps.h5"}


def test_pair_of_files(given, toml):
    given["emission"][2998] = {"file": toml.parent / "maps/i100_{ngp,sgp}.fits", "release": "SFD"}
    with pytest.raises(FileFormatError, match=r"i100_ngp\.fits: there is no such file"):
        read_configuration(given)
    for name in ("ngp", "sgp"):
        (toml.parent / f"maps/i100_{name}.fits").touch()
    files = read_configuration(given).files
    assert files["emission.2998.sgp"].name == "i100_sgp.fits"


def test_options_of_a_map_are_refused_when_it_is_opened(given):
    given["reddening"]["options"] = {"file": 3}
    with pytest.raises(ConfigurationError, match="bayestar2019 has no options, and 'file' is"):
        read_configuration(given).open_reddening()
