import healpy
import numpy as np
import pytest

from pymcdust.errors import ConfigurationError
from pymcdust.sky.edges import edges_from_slices
from pymcdust.sky.voxels import (
    CutReason,
    Direction,
    VoxelRules,
    between,
    condition,
    direction,
    padded,
)

GIVEN = np.array([0.0, 0.2, 0.5, 1.0, 2.0])


def random_reddening(dust, n_pixel=64, seed=0):
    """Voxels with independent patterns, and so much dust each."""
    rng = np.random.default_rng(seed)
    return np.asarray(dust) * rng.lognormal(0, 0.5, (n_pixel, len(dust)))


def choose(rules, reddening, superpixel=0, superpixel_nside=1):
    """The voxels of one superpixel; by default it lies at latitude 42 deg."""
    valid = np.ones((1, len(reddening)), dtype=bool)
    return rules.choose(np.array([superpixel]), superpixel_nside, reddening[np.newaxis], valid)[0]


def edges_of(rules, voxels):
    return rules.edges[voxels.edges].tolist()


def test_as_given():
    rules = VoxelRules(GIVEN)
    voxels = choose(rules, random_reddening([0.1, 0.1, 0.1, 0.1]))
    assert edges_of(rules, voxels) == GIVEN.tolist()
    assert voxels.reason == CutReason.AS_GIVEN


def test_high_latitude_has_one_voxel():
    rules = VoxelRules(GIVEN, one_voxel_above=60.0)
    north, low = healpy.ang2pix(8, [10.0, 10.0], [80.0, 5.0], nest=True, lonlat=True)
    reddening = random_reddening([0.1, 0.1, 0.1, 0.1])
    voxels = choose(rules, reddening, north, 8)
    assert edges_of(rules, voxels) == [0, 2]
    assert voxels.reason == CutReason.HIGH_LATITUDE
    south = healpy.ang2pix(8, 10.0, -80.0, nest=True, lonlat=True)
    assert choose(rules, reddening, south, 8).reason == CutReason.HIGH_LATITUDE
    assert choose(rules, reddening, low, 8).reason == CutReason.AS_GIVEN


def test_little_dust_has_one_voxel():
    rules = VoxelRules(GIVEN, one_voxel_below=0.05)
    assert choose(rules, random_reddening([0.01] * 4)).reason == CutReason.LITTLE_DUST
    assert choose(rules, random_reddening([0.05] * 4)).reason == CutReason.AS_GIVEN


@pytest.mark.parametrize("superpixel_nside", [8, 32, 64, 128])
def test_cepheus_has_two_voxels(superpixel_nside):
    rules = VoxelRules(edges_from_slices((15, 96, 10)), [direction("cepheus")])
    here = healpy.ang2pix(superpixel_nside, 98.4375, 8.3855, nest=True, lonlat=True)
    dust = np.full(len(rules.edges) - 1, 0.1)
    voxels = choose(rules, random_reddening(dust), here, superpixel_nside)
    np.testing.assert_allclose(edges_of(rules, voxels), [0, 0.841, 3.758], atol=5e-4)
    assert voxels.reason == CutReason.DIRECTION
    elsewhere = healpy.ang2pix(superpixel_nside, 140.0, 8.0, nest=True, lonlat=True)
    voxels = choose(rules, random_reddening(dust), elsewhere, superpixel_nside)
    np.testing.assert_allclose(edges_of(rules, voxels), edges_from_slices((15, 96, 10)))


def test_papers_cepheus_superpixels():
    cepheus = direction("cepheus")
    for superpixel_nside, superpixel in ((32, 5908), (64, 23633), (128, 94534)):
        assert cepheus.holds(superpixel_nside)[superpixel]
    holding = cepheus.holds(128)
    assert holding.sum() == pytest.approx(12 * 128**2 * (1 - np.cos(np.deg2rad(3))) / 2, rel=0.05)


def test_edges_are_those_of_all_directions_once():
    rules = VoxelRules(GIVEN, [Direction("a", (0, 0), 1, np.array([0, 0.2 * (1 + 1e-12), 0.7]))])
    np.testing.assert_allclose(rules.edges, [0, 0.2, 0.5, 0.7, 1, 2])


def test_thin_voxels_join_the_neighbour_with_less_dust():
    rules = VoxelRules(GIVEN, min_reddening=0.02)
    voxels = choose(rules, random_reddening([0.3, 0.001, 0.05, 0.2]))
    assert edges_of(rules, voxels) == [0, 0.2, 1, 2]
    assert voxels.reason == CutReason.MERGED_THIN
    voxels = choose(rules, random_reddening([0.05, 0.001, 0.3, 0.2]))
    assert edges_of(rules, voxels) == [0, 0.5, 1, 2]
    # The first and the last have one neighbour only.
    assert edges_of(rules, choose(rules, random_reddening([0.001, 0.1, 0.1, 0.1]))) == [
        0,
        0.5,
        1,
        2,
    ]
    assert edges_of(rules, choose(rules, random_reddening([0.1, 0.1, 0.1, 0.001]))) == [
        0,
        0.2,
        0.5,
        2,
    ]


def test_joining_goes_on_until_each_voxel_has_enough():
    rules = VoxelRules(GIVEN, min_reddening=0.02)
    voxels = choose(rules, random_reddening([0.009, 0.009, 0.009, 0.009]))
    dust = np.median(between(random_reddening([0.009] * 4), voxels.edges), axis=0)
    assert (dust >= 0.02).all()
    voxels = choose(rules, random_reddening([1e-4] * 4))
    assert edges_of(rules, voxels) == [0, 2]


def test_voxels_with_one_pattern_are_joined():
    rules = VoxelRules(GIVEN, max_condition=30.0)
    reddening = random_reddening([0.1, 0.1, 0.1, 0.1])
    assert choose(rules, reddening).reason == CutReason.AS_GIVEN
    reddening[:, 2] = 2 * reddening[:, 1] * (1 + 1e-4 * np.arange(64))
    assert condition(reddening) > 30
    voxels = choose(rules, reddening)
    assert edges_of(rules, voxels) == [0, 0.2, 1, 2]
    assert voxels.reason == CutReason.MERGED_ILL_CONDITIONED
    assert condition(between(reddening, voxels.edges)) <= 30


def test_masked_pixels_do_not_count():
    rules = VoxelRules(GIVEN, min_reddening=0.02)
    reddening = random_reddening([0.3, 0.1, 0.1, 0.2])
    valid = np.ones((1, 64), dtype=bool)
    reddening[32:, 1] = np.nan
    valid[0, 32:] = False
    voxels = rules.choose(np.array([0]), 1, reddening[np.newaxis], valid)[0]
    assert voxels.reason == CutReason.AS_GIVEN


def test_directions_are_not_merged():
    rules = VoxelRules(
        GIVEN, [Direction("a", (45.0, 42.0), 10.0, GIVEN[[0, 1, 4]])], min_reddening=0.02
    )
    voxels = choose(rules, random_reddening([1e-4] * 4))
    assert edges_of(rules, voxels) == [0, 0.2, 2]


def test_condition_does_not_depend_on_the_amounts():
    reddening = random_reddening([0.1, 0.2, 0.3])
    expected = np.linalg.cond(reddening / np.linalg.norm(reddening, axis=0))
    assert condition(reddening) == pytest.approx(expected)
    assert condition(reddening * [1, 10, 1e-3]) == pytest.approx(expected)
    assert condition(reddening * [1, 1, 0]) == np.inf


def test_padding_is_beyond_the_last_edge():
    edges = padded(GIVEN[:3], 4)
    assert edges.tolist() == pytest.approx([0, 0.2, 0.5, 0.501, 0.502])
    assert padded(GIVEN, 4).tolist() == GIVEN.tolist()


def test_unknown_direction():
    with pytest.raises(ConfigurationError, match="did you mean 'cepheus'"):
        direction("cephheus")
