import json

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table

from pymcdust.errors import ConfigurationError, FileFormatError, ResultError
from pymcdust.products.query import DustTemperatureQuery
from pymcdust.products.query_table import query_table, read_table, table_coordinates, write_table


@pytest.fixture(scope="module")
def query(make_sky, make_fit, make_posterior):
    sky = make_sky(np.arange(150), edges=(0.0, 0.5, 2.0))
    fit = make_fit(sky)
    fit["converged"][3] = False
    return DustTemperatureQuery(fit, sky, make_posterior(fit))


def places(n=40, frame="galactic", seed=7):
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    lon, d = rng.uniform(0, 360, n), rng.uniform(0, 2.2, n)
    return SkyCoord(lon * u.deg, lat * u.deg, distance=d * u.kpc, frame=frame)


def test_galactic_columns_in_any_unit(query):
    coords = places()
    expected, flags = query(coords, return_flags=True)
    assert 0 < np.isnan(expected).sum() < len(expected) / 2
    tables = [
        Table({"l": coords.l.deg, "b": coords.b.deg, "distance": coords.distance.kpc}),
        QTable({"L": coords.l.to(u.rad), "B": coords.b, "Distance": coords.distance.to(u.pc)}),
        Table([coords.l.hourangle, coords.b.deg, coords.distance.pc], names=["l", "b", "distance"]),
    ]
    tables[2]["l"].unit, tables[2]["distance"].unit = u.hourangle, u.pc
    for table in tables:
        result = query_table(query, table)
        np.testing.assert_array_equal(result["temperature"].value, expected)
        assert result["temperature"].unit == u.K
        assert len(table.colnames) == 3
        for field in ("in_footprint", "converged", "flag", "padding", "prior_dominated"):
            np.testing.assert_array_equal(result[f"temperature_{field}"], flags[field])


def test_equatorial_columns(query):
    coords = places(frame="icrs")
    table = Table({"RA": coords.ra.deg, "Dec": coords.dec.deg, "distance": coords.distance.kpc})
    result = query_table(query, table, "emission", frequency=353, cumulative=True)
    expected = query(coords, quantity="emission", frequency=353, cumulative=True)
    np.testing.assert_array_equal(result["cumulative_emission_353"].value, expected)
    assert result["cumulative_emission_353"].unit == u.MJy / u.sr


def test_galactic_columns_count_first(query):
    coords = places()
    table = Table({"l": coords.l.deg, "b": coords.b.deg, "ra": coords.l.deg, "dec": coords.b.deg})
    assert table_coordinates(table).frame.name == "galactic"


def test_without_distances_each_row_has_all_voxels(query):
    coords = places(10)
    result = query_table(query, Table({"l": coords.l.deg, "b": coords.b.deg}))
    assert result["temperature"].shape == (10, 2)
    directions = SkyCoord(coords.l, coords.b, frame="galactic")
    np.testing.assert_array_equal(result["temperature"].value, query(directions))
    edges = result["temperature_distance_edge"]
    assert edges.unit == u.kpc
    inside = result["temperature_in_footprint"]
    np.testing.assert_array_equal(edges[inside], np.tile([0, 0.5, 2], (inside.sum(), 1)))


def test_masked_and_negative_places_have_no_answer(query):
    distance = MaskedColumn([0.3, 0.3, -1.0, np.nan], mask=[False, True, False, False])
    table = Table({"l": [100.0] * 4, "b": [10.0] * 4, "distance": distance})
    result = query_table(query, table)
    assert list(np.isnan(result["temperature"])) == [False, True, True, True]


def test_several_answers_in_one_table(query, tmp_path):
    coords = places()
    table = Table({"l": coords.l.deg, "b": coords.b.deg, "distance": coords.distance.kpc})
    for kwargs in (
        {},
        {"mode": "std"},
        {"quantity": "emission", "frequency": 353},
        {"quantity": "emission", "frequency": 217.5},
        {"mode": "percentile", "pct": [16, 84]},
        {"quantity": "reddening"},
        {"mode": "samples"},
    ):
        table = query_table(query, table, **kwargs)
    names = {"temperature", "temperature_std", "emission_353", "emission_217.5", "reddening"}
    assert names < set(table.colnames)
    assert table["temperature_percentile"].shape == (40, 2)
    assert table["temperature_samples"].shape == (40, 10)
    assert "bayestar19" in table["reddening"].description
    for name in ("all.ecsv", "all.fits", "all.vot"):
        write_table(table, tmp_path / name)
        again = read_table(tmp_path / name)
        np.testing.assert_allclose(again["temperature"], table["temperature"], rtol=1e-6)
        np.testing.assert_array_equal(
            again["temperature_converged"], table["temperature_converged"]
        )
        assert again["emission_353"].unit == u.MJy / u.sr
        # A table that an earlier query made can be asked again, and only the same is refused.
        assert "rho" in query_table(query, again, "rho").colnames
        with pytest.raises(ConfigurationError, match="already has temperature, temperature_in_"):
            query_table(query, again)
    assert table["temperature_percentile"].description.endswith("percentile 16 and 84")


FLAGS = ("in_footprint", "converged", "flag", "prior_dominated", "padding", "distance_edge")


def test_no_column_of_the_user_is_replaced(query):
    mine = {"l": [100.0], "b": [10.0]}
    names = ["converged", "padding", "in_footprint", "fit_flag", "distance_edge"]
    result = query_table(query, Table({**mine, **{name: ["mine"] for name in names}}))
    assert all(list(result[name]) == ["mine"] for name in names)
    for name in ("temperature", *(f"temperature_{flag}" for flag in FLAGS)):
        with pytest.raises(
            ConfigurationError, match=rf"already has {name};.*rename_column\('{name}'"
        ):
            query_table(query, Table({**mine, name: ["mine"]}))
    with_distance = Table({**mine, "distance": [0.3], "temperature_distance_edge": ["mine"]})
    assert list(query_table(query, with_distance)["temperature_distance_edge"]) == ["mine"]


@pytest.mark.parametrize("ending", ["ecsv", "fits"])
def test_a_table_tells_where_its_answers_come_from(
    make_sky, make_fit, make_posterior, tmp_path, ending
):
    sky = make_sky(np.arange(150))
    fit = make_fit(sky)
    posterior = make_posterior(fit)
    posterior.attrs |= {"method": "nuts"}
    query = DustTemperatureQuery(fit, sky, posterior)
    table = Table({"l": [100.0], "b": [10.0]}, meta={"ORIGIN": "my telescope"})
    for number, kwargs in enumerate(({}, {"mode": "mean"})):
        path = tmp_path / f"{number}.{ending}"
        write_table(query_table(query, table, **kwargs), path)
        table = read_table(path)
    assert table.meta["ORIGIN"] == "my telescope"
    told = json.loads(table.meta["QUERIES"])
    assert list(told) == ["temperature", "temperature_mean"]
    for cards in told.values():
        assert cards["MODEL"] == "temperature_per_voxel"
        assert cards["PYMCDUST"] == "0.1.0"
        assert cards["CREATOR"].startswith("pymcdust ")
        assert json.loads(cards["MODELDEF"]) == json.loads(fit.attrs["model_definition"])
        assert json.loads(cards["FILES"]) == json.loads(sky.attrs["files"])
    methods = [json.loads(cards["PROVENAN"]).get("method") for cards in told.values()]
    assert methods == [None, "nuts"]


@pytest.mark.parametrize("mine", ["mine", 3, ["mine"]])
def test_meta_of_the_user_is_not_replaced(query, mine):
    table = Table({"l": [100.0], "b": [10.0]}, meta={"QUERIES": mine})
    with pytest.raises(ConfigurationError, match="meta has 'QUERIES' already"):
        query_table(query, table)


def test_a_table_without_rows(query, tmp_path):
    for names in (["l", "b"], ["ra", "dec", "distance"]):
        empty = Table({name: np.zeros(0) for name in names})
        result = query_table(query, empty)
        assert len(result) == 0
        assert result["temperature"].shape == (0, 2) if len(names) == 2 else (0,)
        assert ("temperature_distance_edge" in result.colnames) == (len(names) == 2)
        write_table(result, tmp_path / f"{len(names)}.ecsv")


def test_latitudes_beyond_the_poles_are_named_by_row(query):
    table = Table({"l": [10.0, 20.0, 30.0], "b": MaskedColumn([5.0, 96.0, -91.0])})
    with pytest.raises(ConfigurationError, match=r"latitude.*: 96 in row 1 and -91 in row 2"):
        query_table(query, table)
    table["b"].mask[1:] = True
    assert np.isnan(query_table(query, table)["temperature"][1:]).all()


def test_distances_in_single_precision(query):
    table = Table({"l": [100.0], "b": [10.0], "distance": np.array([0.3], ">f4")})
    assert table_coordinates(table).distance.dtype == np.float32


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0], "dec": [2.0]}, "columns x and dec; needed are l and b"),
        ({"l": [1.0] * u.kpc, "b": [2.0]}, "column 'l' is in kpc"),
        ({"l": [1.0], "b": [2.0], "distance": [3.0] * u.deg}, "column 'distance' is in deg"),
        ({"ra": ["10h"], "dec": ["3d"]}, "does not hold numbers"),
    ],
)
def test_tables_without_places(query, columns, message):
    with pytest.raises(ConfigurationError, match=message):
        query_table(query, Table(columns))


def test_requests_are_checked(query, make_sky, make_fit):
    table = Table({"l": [1.0], "b": [2.0]})
    with pytest.raises(ConfigurationError, match="unknown mode"):
        query_table(query, table, mode="mode")
    sky = make_sky([3])
    with pytest.raises(ResultError, match="needs a posterior"):
        query_table(DustTemperatureQuery(make_fit(sky), sky), table, mode="mean")


def test_files(tmp_path):
    table = Table({"l": [1.0], "many": [[1.0, 2.0]]})
    with pytest.raises(FileFormatError, match="no such file"):
        read_table(tmp_path / "none.ecsv")
    (tmp_path / "bad.fits").write_text("nothing")
    with pytest.raises(FileFormatError, match="cannot be read as a table"):
        read_table(tmp_path / "bad.fits")
    with pytest.raises(ConfigurationError, match=r"name it \.ecsv"):
        write_table(table, tmp_path / "table.unknown")
    with pytest.raises(ConfigurationError, match=r"name it \.ecsv"):
        write_table(table, tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()
    write_table(table, tmp_path / "new" / "table.ecsv")
    with pytest.raises(ConfigurationError, match=r"already holds table\.ecsv"):
        write_table(table, tmp_path / "new" / "table.ecsv")
    write_table(table, tmp_path / "new" / "table.ecsv", overwrite=True)
