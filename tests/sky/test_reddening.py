"""How rows of maps come onto a sky, on maps that are planted; and the kinds of maps."""

import numpy as np
import pytest

from pymcdust.errors import ConfigurationError, FileFormatError
from pymcdust.sky.cuts import Mask
from pymcdust.sky.maps3d.converted import Converted
from pymcdust.sky.maps3d.gather import gather
from pymcdust.sky.maps3d.interface import ReddeningMap, Rows
from pymcdust.sky.reddening import REDDENING_MAPS, open_reddening
from pymcdust.sky.validation import REDDENING_UNITS

EDGES = np.array([0, 0.5, 1.0])


class Planted(ReddeningMap):
    """A map that yields what it is given: (nside, index, cumulative, flags) for each block."""

    unit, beam, nside = "E(B-V)", 3.44, 1024

    def __init__(self, *blocks, samples=None):
        self.blocks, self.samples = blocks, samples
        self.n_samples = 0 if samples is None else samples.shape[1]

    def rows(self, edges, nside, n_samples=0, reach=None):
        self.check_samples(n_samples)
        for block_nside, index, cumulative, flags in self.blocks:
            index = np.atleast_1d(index).astype(np.int64)
            yield Rows(
                nside=block_nside,
                index=index,
                cumulative=np.broadcast_to(cumulative, (len(index), 2)).astype(np.float32),
                flags=np.broadcast_to(flags, len(index)).astype(np.uint16),
                samples=None if not n_samples else self.samples[:, :n_samples],
            )


def on_sky(source, nside, refuse=0, n_samples=0):
    out = np.full((2, 12 * nside**2), 7.0, dtype=np.float32)
    samples = np.full((n_samples, *out.shape), 7.0, dtype=np.float32) if n_samples else None
    area, flags, _ = gather(source, nside, EDGES, out, refuse=refuse, samples_out=samples)
    assert area.dtype == np.float32
    assert flags.dtype == np.uint16
    return out, area, flags, samples


def test_coarser_pixels_are_replicated():
    out, area, flags, _ = on_sky(Planted((1, [3, 8], [[1.0, 3.0], [2.0, 2.5]], 0)), 4)
    expected = np.full((2, 192), np.nan)
    expected[:, 48:64] = [[1.0], [2.0]]
    expected[:, 128:144] = [[2.0], [0.5]]
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(area, np.isfinite(expected[0]))
    np.testing.assert_array_equal(flags, np.where(area == 1, 0, Mask.OUTSIDE))


def test_finer_pixels_are_averaged_by_area_whatever_the_blocks():
    fine = (4, np.arange(16, 28), [1.0, 1.0], 0)
    coarse = (2, 7, [5.0, 7.0], 0)
    for blocks in ((fine, coarse), (coarse, fine)):
        out, area, _, _ = on_sky(Planted(*blocks), 1)
        np.testing.assert_allclose(out[:, 1], [0.75 * 1 + 0.25 * 5, 0.25 * 2])
        assert area.tolist() == [0, 1, *[0] * 10]


def test_refused_parts_have_no_weight_and_leave_their_reasons():
    source = Planted(
        (2, [4, 5], [1.0, 2.0], 0),
        (2, 6, [9.0, 9.0], Mask.NOT_CONVERGED | Mask.UNRELIABLE),
        (2, 7, [9.0, 9.0], Mask.NO_STARS),
    )
    refuse = Mask.NOT_CONVERGED | Mask.NO_STARS
    out, area, flags, _ = on_sky(source, 1, refuse)
    np.testing.assert_allclose(out[:, 1], [1.0, 1.0])
    assert area[1] == 0.5
    # What is not refused is no reason.
    assert flags[1] == Mask.NOT_CONVERGED | Mask.NO_STARS
    out, area, flags, _ = on_sky(source, 1)
    np.testing.assert_allclose(out[:, 1], [5.0, 0.5])
    assert (area[1], flags[1]) == (1, 0)


def test_less_than_half_is_no_value():
    out, area, flags, _ = on_sky(Planted((4, np.arange(7), [1.0, 2.0], 0)), 1)
    assert np.isnan(out[:, 0]).all()
    assert area[0] == 7 / 16
    out, area, flags, _ = on_sky(Planted((4, np.arange(8), [1.0, 2.0], 0)), 1)
    np.testing.assert_array_equal(out[:, 0], [1.0, 1.0])
    # A part of it is not in the map.
    assert (area[0], flags[0]) == (0.5, Mask.OUTSIDE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_used(bad):
    values = [[1.0, 2.0], [bad, 2.0], [1.0, bad], [bad, bad]]
    flags = [0, 0, 0, Mask.NOT_CONVERGED]
    source = Planted((1, np.arange(4), values, flags))
    assert next(source.rows(EDGES, 1)).flags[:3].tolist() == [0, Mask.NOT_FINITE, Mask.NOT_FINITE]
    out, area, found, _ = on_sky(source, 1, Mask.NOT_CONVERGED)
    assert area[:4].tolist() == [1, 0, 0, 0]
    assert np.isnan(out[:, 1:]).all()
    # Where it is known why a value is missing, that is the reason.
    assert found[1:4].tolist() == [Mask.NOT_FINITE, Mask.NOT_FINITE, Mask.NOT_CONVERGED]


def test_samples_are_spread_like_the_median():
    rng = np.random.default_rng(0)
    samples = rng.exponential(1, (12, 4, 2)).cumsum(axis=2).astype(np.float32)
    source = Planted((2, np.arange(12), np.median(samples, axis=1), 0), samples=samples)
    _, _, _, kept = on_sky(source, 1, n_samples=3)
    assert kept.shape == (3, 2, 12)
    expected = np.diff(samples[:, :3], axis=2, prepend=0).reshape(3, 4, 3, 2).mean(axis=1)
    np.testing.assert_allclose(kept[:, :, :3], expected.transpose(1, 2, 0), rtol=1e-5)
    assert np.isnan(kept[:, :, 3:]).all()
    with pytest.raises(ConfigurationError, match="it has 4"):
        on_sky(source, 1, n_samples=5)


def test_sample_that_is_not_finite():
    samples = np.ones((12, 4, 2), dtype=np.float32)
    samples[5, 1, 0] = np.nan
    source = Planted((1, np.arange(12), [1.0, 1.0], 0), samples=samples)
    *_, flags, _ = on_sky(source, 1, n_samples=2)
    assert flags.tolist() == [0] * 5 + [Mask.NOT_FINITE] + [0] * 6
    *_, flags, _ = on_sky(source, 1, n_samples=1)
    assert not flags.any()


@pytest.mark.parametrize(
    "blocks",
    [
        [(1, [3, 3], [1.0, 2.0], 0)],
        [(1, 3, [1.0, 2.0], 0), (4, 50, [1.0, 2.0], 0)],
        [(1, 3, [1.0, 2.0], 0), (4, 50, [1.0, 2.0], Mask.NOT_CONVERGED)],
    ],
)
def test_maps_that_overlap_themselves(blocks):
    with pytest.raises(FileFormatError, match=r"more than one value for parts of pixel (3|1[0-9])"):
        on_sky(Planted(*blocks), 2)


def test_out_may_be_on_disk(tmp_path):
    source = Planted((1, np.arange(12), [1.0, 3.0], 0))
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float32, (2, 192))
    gather(source, 4, EDGES, out, refuse=0)
    out.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.tile([[1.0], [2.0]], 192))


def test_size_of_the_parts_does_not_matter(monkeypatch):
    source = Planted((4, np.arange(150), [1.0, 3.0], 0))
    expected, *_ = on_sky(source, 2)
    monkeypatch.setattr("pymcdust.sky.maps3d.gather._PIXELS", 7)
    found, *_ = on_sky(source, 2)
    np.testing.assert_array_equal(found, expected)


def test_kinds():
    assert set(REDDENING_MAPS) == {
        "bayestar2019",
        "bayestar2017",
        "bayestar2015",
        "decaps",
        "edenhofer2023",
        "leike2020",
        "shells",
    }
    with pytest.raises(ConfigurationError, match="did you mean 'bayestar2019'"):
        open_reddening("bayestar19", "bayestar2019.h5")


@pytest.mark.parametrize("kind", ["bayestar2019", "decaps", "edenhofer2023", "leike2020", "shells"])
def test_options_that_are_unknown(tmp_path, kind):
    with pytest.raises(ConfigurationError, match=f"(unknown option of {kind}|{kind} has no opt)"):
        open_reddening(kind, tmp_path, n_side=4)


@pytest.mark.parametrize("kind", REDDENING_MAPS)
def test_file_that_is_missing(tmp_path, kind):
    with pytest.raises(FileFormatError, match="there is no such file"):
        open_reddening(kind, tmp_path / "nowhere")


def write_shells(path, unit):
    np.savez(
        path,
        reddening=np.tile([0.1, 0.3], (12, 1)),
        distance=[0.5, 1.0],
        distance_unit="kpc",
        quantity="cumulative",
        unit=unit,
        nside=1,
        ordering="nested",
        frame="galactic",
    )
    return path


def test_conversion_is_made_only_when_it_is_asked_for(tmp_path):
    path = write_shells(tmp_path / "shells.npz", "bayestar2019")
    plain = open_reddening("shells", path)
    converted = Converted(plain, "green2019_g_r")
    assert (plain.unit, converted.unit) == ("bayestar2019", "E(B-V)")
    assert (plain.nside, plain.beam) == (converted.nside, converted.beam)
    np.testing.assert_allclose(on_sky(plain, 1)[0], np.tile([[0.1], [0.2]], 12), rtol=1e-6)
    expected = 0.884 * np.array([[0.1], [0.2]])
    np.testing.assert_allclose(on_sky(converted, 1)[0], np.tile(expected, 12), rtol=1e-6)


def test_conversion_of_another_unit(tmp_path):
    path = write_shells(tmp_path / "shells.npz", "E(B-V)")
    with pytest.raises(ConfigurationError, match="is for reddening in 'bayestar2019'"):
        Converted(open_reddening("shells", path), "green2019_g_r")


def test_conversion_of_samples(tmp_path):
    samples = np.ones((12, 2, 2), dtype=np.float32)
    source = Planted((1, np.arange(12), [1.0, 1.0], 0), samples=samples)
    source.unit = "sfd"
    _, _, _, kept = on_sky(Converted(source, "schlafly2011"), 1, n_samples=1)
    np.testing.assert_allclose(kept[0, 0], 0.86, rtol=1e-6)


def test_units_of_the_maps_are_known():
    for unit in ("bayestar2019", "bayestar2017", "bayestar2015", "edenhofer2023", "leike2020"):
        assert unit in REDDENING_UNITS
