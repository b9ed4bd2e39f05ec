import healpy
import numba
import numpy as np
import pytest

from pymcdust.errors import ConfigurationError
from pymcdust.products.raycast import CHANNELS, integrate_rays


def noise(nside, n_voxel=3, seed=0):
    """Return a volume in which no voxel is like its neighbours."""
    rng = np.random.default_rng(seed)
    shape = (n_voxel, healpy.nside2npix(nside), CHANNELS)
    return rng.lognormal(0, 0.5, shape).astype(np.float32)


def uneven_edges(rows, n_voxel=3, seed=1):
    """Return edges that differ from row to row; the first does not lie at the origin."""
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.uniform(1.0, 3.0, (rows, n_voxel + 1)), axis=1)


def directions(count, seed=2):
    rays = np.random.default_rng(seed).standard_normal((count, 3))
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def cells(volume, edges, places):
    """Return the number of the voxel that each place, (place, 3), is in, by healpy; -1 for none."""
    n_voxel, n_pixel, _ = volume.shape
    pixel = healpy.vec2pix(healpy.npix2nside(n_pixel), *places.T, nest=True)
    mine = edges[pixel // (n_pixel // len(edges))]
    voxel = (np.linalg.norm(places, axis=1)[:, None] >= mine).sum(axis=1) - 1
    return np.where((voxel >= 0) & (voxel < n_voxel), voxel * n_pixel + pixel, -1)


def by_bisection(volume, edges, camera, ray, samples=20_000):
    """Add up a ray between its borders, each of them found by bisection.

    Samples are fine both in angle, as seen from the origin, and in length; only what is thinner
    than their distance is overlooked.
    """
    closest = -camera @ ray
    impact = np.linalg.norm(camera + closest * ray)
    last = max(closest, 0.0) + edges.max() * 1.0001
    psi = np.linspace(np.arctan2(-closest, impact), np.arctan2(last - closest, impact), samples)
    by_angle = closest + impact * np.tan(psi)
    length = np.sort(np.concatenate([by_angle, np.linspace(0.0, last, samples)]))
    length = length[(length >= 0) & (length <= last)]
    cell = cells(volume, edges, camera + length[:, None] * ray)
    (changes,) = np.nonzero(np.diff(cell))
    low, high, before = length[changes], length[changes + 1], cell[changes]
    for _ in range(45):
        middle = 0.5 * (low + high)
        same = cells(volume, edges, camera + middle[:, None] * ray) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    border = np.concatenate([[0.0], high, [last]])
    inside = np.append(before, cell[-1])
    light = np.where(inside[:, None] >= 0, volume.reshape(-1, CHANNELS)[inside], 0.0)
    return (light * np.diff(border)[:, None]).sum(axis=0)


@pytest.mark.parametrize("rows", [1, 12, 48, 768])
def test_from_the_origin_a_ray_is_its_sightline(rows):
    volume, edges, rays = noise(8), uneven_edges(rows), directions(2000)
    pixel = healpy.vec2pix(8, *rays.T, nest=True)
    depth = np.diff(edges)[pixel // (768 // rows)]
    expected = np.einsum("vpc,pv->pc", volume[:, pixel], depth)
    found = integrate_rays(volume, edges, np.zeros(3), rays)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("nside", [1, 2, 64])
@pytest.mark.parametrize("rows", [1, 12])
@pytest.mark.parametrize(
    "camera", [(0.01, 0.02, -0.01), (1.0, -2.0, 0.5), (0.3, 0.1, 4.0), (-40.0, 25.0, 30.0)]
)
def test_a_ray_is_what_its_parts_add_up_to(nside, rows, camera):
    volume, edges, camera = noise(nside), uneven_edges(rows), np.array(camera)
    rays = directions(12, seed=nside)
    if np.linalg.norm(camera) > edges.max():
        rays = 0.15 * rays - camera / np.linalg.norm(camera)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    expected = [by_bisection(volume, edges, camera, ray) for ray in rays]
    found = integrate_rays(volume, edges, camera, rays)
    np.testing.assert_allclose(found, expected, rtol=3e-4)
    assert np.std(found - expected) < 5e-5 * np.mean(expected)


@pytest.mark.parametrize("impact", [0.0, 1e-9, 1e-3, 1.0, 3.0, 4.999, 5.5, 9.0])
def test_a_shell_from_outside_is_as_deep_as_geometry_says(impact):
    volume = np.ones((1, healpy.nside2npix(32), CHANNELS))
    ray = directions(1)[0]
    aside = np.cross(ray, [0.3, 0.5, -1.0])
    camera = impact * aside / np.linalg.norm(aside) - 30.0 * ray
    found = integrate_rays(volume, np.array([[3.0, 5.0]]), camera, ray[None])
    chords = [2 * np.sqrt(max(radius**2 - impact**2, 0.0)) for radius in (3.0, 5.0)]
    np.testing.assert_allclose(found[0], chords[1] - chords[0], rtol=1e-6, atol=1e-6)


def test_nothing_is_seen_outwards_from_outside():
    assert not integrate_rays(noise(4), uneven_edges(1), np.array([50.0, 0, 0]), np.eye(3)).any()


def test_a_ray_ends_where_its_own_sightline_ends():
    """A sightline that ends early is empty, though others go on."""
    edges = np.tile([0.0, 1.0, 2.0, 3.0], (12, 1))
    edges[5:] *= 4
    rays = directions(200)
    base = healpy.vec2pix(1, *rays.T, nest=True)
    found = integrate_rays(np.ones((3, 48, CHANNELS)), edges, np.zeros(3), rays)
    np.testing.assert_allclose(found[:, 0], np.where(base < 5, 3.0, 12.0), rtol=1e-6)


@pytest.mark.parametrize("camera", [(0.2, -0.3, 0.1), (2.0, 1.0, -3.0)])
@pytest.mark.parametrize("rows", [1, 192])
def test_forwards_and_backwards_is_the_whole_line(camera, rows):
    volume, edges, rays = noise(16, seed=3), uneven_edges(rows), directions(80, seed=4)
    forwards = integrate_rays(volume, edges, np.array(camera), rays)
    backwards = integrate_rays(volume, edges, np.array(camera), -rays)
    far = [integrate_rays(volume, edges, camera - 100 * ray, ray[None])[0] for ray in rays]
    # Cubics begin elsewhere, so that borders of pixels are where they were only almost.
    np.testing.assert_allclose(forwards + backwards, far, rtol=6e-4)


def test_rays_through_the_origin_see_one_sightline_and_the_opposite_one():
    volume, edges = noise(8), uneven_edges(48)
    rays = np.concatenate([directions(50), [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]])
    for ray in rays:
        both = integrate_rays(volume, edges, np.zeros(3), np.array([ray, -ray])).sum(axis=0)
        for miss in (0.0, 1e-10, 1e-6):
            aside = np.cross(ray, [0.48, 0.6, 0.64])
            camera = miss * aside - 60.0 * ray
            found = integrate_rays(volume, edges, camera, ray[None])[0]
            if miss > 1e-7 and 1.0 in np.abs(ray):
                continue  # beside an axis, but not on it: another pixel
            np.testing.assert_allclose(found, both, rtol=1e-4)


@pytest.mark.parametrize("nside", [1, 32])
@pytest.mark.parametrize("miss", [0.0, 1e-13, 1e-6, 0.02])
@pytest.mark.parametrize("turn", [0.25, 1.0])
def test_rays_over_a_pole_and_along_the_meridians_of_base_pixels(nside, miss, turn):
    """Rings are the same on both sides of a meridian, where rounding decides about pixels."""
    n_pixel = healpy.nside2npix(nside)
    ring = healpy.pix2ring(nside, np.arange(n_pixel), nest=True)
    value = np.random.default_rng(5).lognormal(0, 0.5, (3, 4 * nside, CHANNELS))
    volume = value[:, ring].astype(np.float32)
    edges = np.array([[0.0, 1.0, 2.0, 4.0]])
    angle = turn * np.pi / 2
    ray = np.array([np.cos(angle), np.sin(angle), 0.0])
    aside = np.array([-np.sin(angle), np.cos(angle), 0.0])
    for height in (0.5, -1.5):
        camera = miss * aside + [0, 0, height] - 5 * ray
        expected = by_bisection(volume, edges, camera, ray)
        found = integrate_rays(volume, edges, camera, ray[None])[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_camera_on_an_edge_sees_as_from_beside_it():
    volume, edges = noise(4), np.array([[0.0, 1.0, 2.0, 4.0]])
    rays = directions(200)
    for radius in (1.0, 2.0, 4.0):
        place = radius * directions(1, seed=9)[0]
        on = integrate_rays(volume, edges, place, rays)
        beside = integrate_rays(volume, edges, place * (1 + 1e-7), rays)
        np.testing.assert_allclose(on, beside, rtol=1e-4, atol=1e-3)


def test_the_same_bytes_on_any_number_of_processors():
    arguments = noise(16), uneven_edges(12), np.array([0.1, 0.2, 0.3]), directions(3000)
    many = integrate_rays(*arguments)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert integrate_rays(*arguments).tobytes() == many.tobytes()
    finally:
        numba.set_num_threads(threads)


@pytest.mark.parametrize(
    ("volume", "edges", "message"),
    [
        ((2, 12, 3), (1, 3), r"shape \(2, 12, 3\)"),
        ((2, 13, 4), (1, 3), "13 pixels"),
        ((2, 108, 4), (1, 3), "power of two"),
        ((2, 48, 4), (1, 2), "needs 3 edges"),
        ((2, 48, 4), (3,), "needs 3 edges"),
        ((2, 48, 4), (24, 3), "lower Nside"),
        ((2, 48, 4), (192, 3), "lower Nside"),
    ],
)
def test_arrays_that_do_not_belong_together(volume, edges, message):
    with pytest.raises(ConfigurationError, match=message):
        integrate_rays(np.ones(volume), np.ones(edges), np.zeros(3), np.eye(3))
