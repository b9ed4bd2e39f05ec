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
        for field, column in {
            "in_footprint": "in_footprint",
            "converged": "converged",
            "flag": "fit_flag",
            "padding": "padding",
            "prior_dominated": "temperature_prior_dominated",
        }.items():
            np.testing.assert_array_equal(result[column], flags[field])


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
    edges = result["distance_edge"]
    assert edges.unit == u.kpc
    inside = result["in_footprint"]
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
        np.testing.assert_array_equal(again["converged"], table["converged"])
        assert again["emission_353"].unit == u.MJy / u.sr
    with pytest.raises(ConfigurationError, match="has a column 'temperature' already"):
        query_table(query, table)


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
