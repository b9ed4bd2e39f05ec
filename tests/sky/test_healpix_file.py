import gzip
import tracemalloc

import healpy
import numpy as np
import pytest
from astropy.io import fits

from pymcdust.errors import FileFormatError
from pymcdust.sky import healpix_file
from pymcdust.sky.healpix_file import open_healpix

NSIDE = 64
N_PIXELS = 12 * NSIDE**2


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    names = ["I_STOKES", "Q_STOKES", "U_STOKES", "HITS", "II_COV", "IQ_COV", "IU_COV"]
    return {name: rng.normal(size=N_PIXELS).astype(np.float32) for name in names}


@pytest.fixture
def path(tmp_path, columns):
    """A map of seven columns."""
    path = tmp_path / "map.fits"
    healpy.write_map(
        path,
        list(columns.values()),
        nest=True,
        coord="G",
        column_names=list(columns),
        column_units="K_CMB",
        dtype=np.float32,
    )
    return path


@pytest.fixture
def ring_path(tmp_path, columns):
    """The same columns, RING."""
    path = tmp_path / "ring.fits"
    healpy.write_map(
        path,
        list(columns.values()),
        coord="G",
        column_names=list(columns),
        column_units="K_CMB",
        dtype=np.float32,
    )
    return path


@pytest.mark.parametrize("block_bytes", [1, 50_000, 2**25])
def test_blocks_do_not_matter(path, ring_path, columns, monkeypatch, block_bytes):
    """Healpy writes rows of 1024 pixels, 28 kB here."""
    monkeypatch.setattr(healpix_file, "BLOCK_BYTES", block_bytes)
    for name in ("I_STOKES", "IU_COV"):
        np.testing.assert_array_equal(open_healpix(path).column(name), columns[name])
        expected = healpy.reorder(columns[name], r2n=True)
        np.testing.assert_array_equal(open_healpix(ring_path).column(name), expected)


@pytest.mark.parametrize("ordering", ["nested", "ring"])
def test_memory_is_that_of_one_column(path, ring_path, columns, monkeypatch, ordering):
    """The file is seven times as large as what is read of it; ordering needs no second map."""
    monkeypatch.setattr(healpix_file, "BLOCK_BYTES", 20000)
    table = open_healpix(path if ordering == "nested" else ring_path)
    tracemalloc.start()
    try:
        table.column("U_STOKES")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 7 * columns["U_STOKES"].nbytes
    assert peak < 1.6 * columns["U_STOKES"].nbytes


def test_gzipped_file(path, columns, tmp_path):
    packed = tmp_path / "packed.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    np.testing.assert_array_equal(open_healpix(packed).column("HITS"), columns["HITS"])
    cut = packed.read_bytes()
    packed.write_bytes(cut[: len(cut) // 2])
    with pytest.raises(FileFormatError, match="cut short"):
        open_healpix(packed).column("HITS")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_rows_missing(path, pack):
    """A compressed file may be whole, and what is in it not."""
    content = path.read_bytes()
    path.write_bytes(pack(content[: len(content) * 2 // 3]))
    with pytest.raises(FileFormatError, match=r"map\.fits: cut short"):
        open_healpix(path).column("I_STOKES")


def test_scaled_integers(tmp_path):
    """TSCAL, TZERO and TNULL, as FITS has them; astropy is the witness."""
    path = tmp_path / "scaled.fits"
    stored = np.arange(12, dtype=np.int16) - 3
    column = fits.Column(name="I", format="I", array=stored, unit="MJy/sr", null=5)
    table = fits.BinTableHDU.from_columns([column])
    table.header.update({"NSIDE": 1, "ORDERING": "NESTED", "COORDSYS": "G"})
    table.header["TSCAL1"], table.header["TZERO1"] = 0.5, 10.0
    table.writeto(path)
    with fits.open(path) as hdus:
        expected = hdus[1].data["I"].astype(np.float32)
    expected[stored == 5] = np.nan
    np.testing.assert_array_equal(open_healpix(path).column("I"), expected)


def test_unknown_column(path):
    with pytest.raises(FileFormatError, match="did you mean 'II_COV'"):
        open_healpix(path).column("II_COVAR")


def explicit(path, pixel, values, **keywords):
    """Write a part of the sky of nside 4, one pixel a row."""
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("PIXEL", "J", array=np.asarray(pixel)),
            fits.Column("I", f"{np.asarray(values)[0].size}E", array=values, unit="MJy/sr"),
        ]
    )
    header = {"NSIDE": 4, "ORDERING": "RING", "COORDSYS": "G", "INDXSCHM": "EXPLICIT", **keywords}
    table.header.update(header)
    table.writeto(path)
    return open_healpix(path)


@pytest.mark.parametrize("block_bytes", [1, 2**20])
def test_explicit_ring(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(healpix_file, "BLOCK_BYTES", block_bytes)
    pixel = [190, 3, 55]
    values = explicit(tmp_path / "part.fits", pixel, [1.0, 2.0, 3.0]).column("I")
    assert values[healpy.ring2nest(4, pixel)].tolist() == [1, 2, 3]
    assert np.isnan(values).sum() == 189


@pytest.mark.parametrize("block_bytes", [1, 2**20])
def test_pixel_twice(tmp_path, monkeypatch, block_bytes):
    """Both in one block and in two."""
    monkeypatch.setattr(healpix_file, "BLOCK_BYTES", block_bytes)
    table = explicit(tmp_path / "part.fits", [190, 3, 190], [1.0, 2.0, 3.0])
    with pytest.raises(FileFormatError, match="more than once"):
        table.column("I")


def test_index_for_several_pixels(tmp_path):
    table = explicit(tmp_path / "grain.fits", [1, 2], np.ones((2, 4)), GRAIN=4)
    with pytest.raises(FileFormatError, match="has 4 values for each pixel index"):
        table.column("I")


def test_unsigned_integers(tmp_path):
    """FITS writes them as signed ones with an offset."""
    path = tmp_path / "hits.fits"
    hits = np.arange(12, dtype=np.uint32) + 2**31
    table = fits.BinTableHDU.from_columns([fits.Column("HITS", "J", bzero=2**31, array=hits)])
    table.header.update({"NSIDE": 1, "ORDERING": "NESTED", "COORDSYS": "G"})
    table.writeto(path)
    np.testing.assert_array_equal(open_healpix(path).column("HITS"), hits.astype(np.float32))
