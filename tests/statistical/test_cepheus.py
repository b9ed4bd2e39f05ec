"""Two clouds behind each other (Zelko et al. 2022, Fig. 11): what larger superpixels gain."""

from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from pymcdust.infer.sampling import sample
from pymcdust.sky.dataset import split_superpixels
from pymcdust.sky.edges import edges_from_slices
from pymcdust.sky.maps3d.gather import gather
from pymcdust.sky.reddening import open_reddening
from pymcdust.sky.simulate import CEPHEUS_SUPERPIXEL, simulate_sky, two_cloud_sightline

pytestmark = pytest.mark.statistical

#: The paper's near cloud, and a colder one behind it [K].
TEMPERATURE = (19.83, 17.2)

#: Chance that a test of this file fails by bad luck, for each number that it looks at.
FALSE_ALARM = 1e-4

#: The laws of the widths hold for Gaussians without a prior. A posterior this part as wide as the
#: prior is near to that: the prior takes a tenth of its square. Wider ones are one-sided, too.
INFORMED = 1 / 3

#: How far widths may be from the laws: the prior's 5 %, 2 to 5 % from 4,000 weighted draws, and
#: the rest for the curvature, which is taken at another maximum in every superpixel.
TOLERANCE = 0.2


class Size(NamedTuple):
    """A sky cut into superpixels of one size, and its posteriors (draw, superpixel, voxel)."""

    sky: xr.Dataset
    temperature: np.ndarray
    prior_sd: float

    @property
    def sd(self):
        return self.temperature.std(axis=0)

    @property
    def contrast(self):
        return self.sky.reddening.std("pixel").median("superpixel").values


def sizes_of(sky):
    """Return superpixels of 64, 256 and 1,024 pixels, in this order, with their posteriors."""
    assert sky.sizes["pixel"] == 1024
    sizes = []
    for finer in (4, 2, 1):
        smaller = split_superpixels(sky, finer * sky.superpixel_nside)
        posterior = sample("temperature_per_voxel", smaller, method="laplace", draws=4000)
        draws = posterior.posterior.temperature.isel(chain=0)
        values = draws.transpose("draw", "superpixel", "voxel").values
        sizes.append(Size(smaller, values, draws.attrs["prior_sd"]))
    return sizes


@pytest.fixture(scope="module")
def simulated():
    return sizes_of(two_cloud_sightline(temperature=TEMPERATURE))


@pytest.fixture(scope="module")
def real(realsky):
    """Cepheus as Bayestar19 has it, with emission whose truth is known."""
    superpixel = np.array([CEPHEUS_SUPERPIXEL // (32 // 8) ** 2])
    edge = edges_from_slices((45, 72, 26))
    file = realsky / "bayestar2019_nside256_regions.h5"
    reddening = np.empty((len(edge) - 1, 12 * 256**2), dtype=np.float32)
    gather(open_reddening("bayestar2019", file), 256, edge, reddening, refuse=0)
    reddening = reddening.T.reshape(12 * 8**2, -1, len(edge) - 1)[superpixel]
    assert np.isfinite(reddening).all()
    clouds = xr.Dataset(
        {
            "reddening": (("superpixel", "pixel", "voxel"), reddening.astype(float)),
            "distance_edge": ("voxel_edge", edge),
        },
        coords={"superpixel": superpixel},
        attrs={"nside": 256, "superpixel_nside": 8, "reddening_unit": "bayestar2019"},
    )
    truth = {"temperature": ("voxel", list(TEMPERATURE)), "beta": 1.6, "rho": 1e-4}
    return sizes_of(simulate_sky(truth, reddening=clouds, seed=1))


def assert_four_times_the_pixels_halve_the_width(sizes):
    """Check the two laws wherever the data say more than the prior; return how often that was."""
    checked = 0
    # Information adds up over the parts of a superpixel, and the inverse of a matrix is convex: a
    # whole is at most as wide as the root mean square of its four parts over two, which it is
    # where the parts are alike; it is narrower where they complement each other.
    for part, whole in pairwise(sizes):
        parts = part.sd.reshape(-1, 4, 2)
        informed = parts.max(axis=1) < INFORMED * part.prior_sd
        bound = np.sqrt(np.mean(parts**2, axis=1)) / 2
        assert np.all((whole.sd < bound * (1 + TOLERANCE))[informed])
        checked += informed.sum()
    # The median gains the square root of the pixels, and at most as much more as a larger
    # superpixel sees more contrast: what is known without contrast, from the mean, gains less.
    for part, whole in combinations(sizes, 2):
        width = np.median(part.sd, axis=0)
        informed = width < INFORMED * part.prior_sd
        root = np.sqrt(whole.sky.sizes["pixel"] / part.sky.sizes["pixel"])
        gain = width / np.median(whole.sd, axis=0)
        assert np.all(gain > 1)
        assert np.all((gain > root * (1 - TOLERANCE))[informed]), gain
        most = root * whole.contrast / part.contrast
        assert np.all((gain < most * (1 + TOLERANCE))[informed]), gain
        checked += informed.sum()
    return checked


def assert_the_truth_is_covered(sizes):
    for size in sizes:
        tail = np.mean(size.temperature < TEMPERATURE, axis=0)
        inside = np.sum((tail > 0.025) & (tail < 0.975), axis=0)
        fewest = stats.binom.ppf(FALSE_ALARM, len(tail), 0.95)
        assert np.all(inside >= fewest), (size.sky.superpixel_nside, inside)


def test_the_widths_of_two_simulated_clouds(simulated):
    # All but the far cloud where it is thinnest.
    assert assert_four_times_the_pixels_halve_the_width(simulated) == 2 * (5 + 3) - 1


def test_the_temperatures_of_two_simulated_clouds(simulated):
    assert_the_truth_is_covered(simulated)
    # In the largest superpixel the clouds differ by far more than their errors.
    near, far = np.moveaxis(simulated[-1].temperature[:, 0], 1, 0)
    assert np.mean(near - far) > 5 * np.std(near - far)


@pytest.mark.realsky
def test_the_widths_of_two_real_clouds(real):
    # The far cloud is thin: small superpixels know little of it.
    assert assert_four_times_the_pixels_halve_the_width(real) >= 5


@pytest.mark.realsky
def test_the_temperatures_of_two_real_clouds(real):
    assert_the_truth_is_covered(real)
