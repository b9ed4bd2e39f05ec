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


@pytest.mark.parametrize("block_bytes", [1, 5000, 2**25])
def test_blocks_do_not_matter(path, columns, monkeypatch, block_bytes):
    monkeypatch.setattr(healpix_file, "BLOCK_BYTES", block_bytes)
    for name in ("I_STOKES", "IU_COV"):
        np.testing.assert_array_equal(open_healpix(path).column(name), columns[name])


def test_memory_is_that_of_one_column(path, columns, monkeypatch):
    """The file is seven times as large as what is read of it."""
    monkeypatch.setattr(healpix_file, "BLOCK_BYTES", 20000)
    table = open_healpix(path)
    tracemalloc.start()
    try:
        table.column("U_STOKES")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 7 * columns["U_STOKES"].nbytes
    assert peak < 2.5 * columns["U_STOKES"].nbytes


def test_gzipped_file(path, columns, tmp_path):
    packed = tmp_path / "packed.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    np.testing.assert_array_equal(open_healpix(packed).column("HITS"), columns["HITS"])
    cut = packed.read_bytes()
    packed.write_bytes(cut[: len(cut) // 2])
    with pytest.raises(FileFormatError, match="cut short"):
        open_healpix(packed).column("HITS")


def test_rows_missing(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
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
