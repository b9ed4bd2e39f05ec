"""Modified blackbodies: their laws, their libraries, and their sum along the sightline."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from astropy import units as u
from astropy.modeling.physical_models import BlackBody
from hypothesis import given
from hypothesis import strategies as st
from pytensor.xtensor import as_xtensor, xtensor

from pymcdust.physics.bands import FREQUENCY, REFERENCE_FREQUENCY
from pymcdust.physics.emission import emissivity, sightline_emission

FREQUENCIES = np.array(list(FREQUENCY.values()))

frequencies = st.floats(100.0, 3000.0)
temperatures = st.floats(3.0, 100.0)
betas = st.floats(1.0, 3.0)
rhos = st.floats(1e-6, 1e3)


@pytest.fixture
def rng():
    return np.random.default_rng(20221114)


def test_modified_blackbody_of_astropy():
    body = BlackBody(18.1 * u.K)(FREQUENCIES * u.GHz).to_value(u.MJy / u.sr)
    expected = [1.1e-4 * (nu / 353) ** 1.53 * b for nu, b in zip(FREQUENCIES, body, strict=True)]
    np.testing.assert_allclose(emissivity(FREQUENCIES, 18.1, 1.53, 1.1e-4), expected, rtol=1e-12)


@given(frequencies, temperatures, betas, rhos, st.floats(1e-3, 1e3))
def test_linear_in_rho(frequency, temperature, beta, rho, factor):
    expected = factor * emissivity(frequency, temperature, beta, rho)
    scaled = emissivity(frequency, temperature, beta, factor * rho)
    assert scaled == pytest.approx(expected, rel=1e-14, abs=0.0)


@given(temperatures, betas, betas, rhos)
def test_beta_does_not_matter_at_the_reference_frequency(temperature, beta, other, rho):
    assert emissivity(REFERENCE_FREQUENCY, temperature, beta, rho) == emissivity(
        REFERENCE_FREQUENCY, temperature, other, rho
    )


@given(frequencies, temperatures, betas, rhos)
def test_beta_is_the_slope_in_frequency(frequency, temperature, beta, rho):
    ratio = emissivity(frequency, temperature, beta + 1, rho) / emissivity(
        frequency, temperature, beta, rho
    )
    assert ratio == pytest.approx(frequency / REFERENCE_FREQUENCY, rel=1e-13)


def test_one_expression_for_every_library(rng):
    """Temperature per voxel, beta and rho per superpixel, frequency per band."""
    shape = {"superpixel": 3, "voxel": 4}
    temperature = rng.uniform(5, 100, (3, 4))
    beta = rng.uniform(1, 3, 3)
    rho = rng.lognormal(np.log(1e-4), 1, 3)
    parameters = {
        "temperature": (tuple(shape), temperature),
        "beta": (("superpixel",), beta),
        "rho": (("superpixel",), rho),
    }
    expected = emissivity(
        FREQUENCIES, temperature[..., None], beta[:, None, None], rho[:, None, None]
    )

    named = emissivity(
        xr.DataArray(FREQUENCIES, dims="band"),
        *(xr.DataArray(value, dims=dims) for dims, value in parameters.values()),
    )
    result = named.transpose("superpixel", "voxel", "band")
    np.testing.assert_array_equal(result, expected)

    tensors = [pt.tensor(name, shape=value.shape) for name, (_, value) in parameters.items()]
    graph = emissivity(
        FREQUENCIES, tensors[0][..., None], tensors[1][:, None, None], tensors[2][:, None, None]
    )
    compiled = pytensor.function(tensors, graph, mode="FAST_COMPILE")
    np.testing.assert_allclose(compiled(temperature, beta, rho), expected, rtol=1e-14)

    tensors = [xtensor(name, dims=dims) for name, (dims, _) in parameters.items()]
    graph = emissivity(as_xtensor(FREQUENCIES, dims=("band",)), *tensors)
    compiled = pytensor.function(
        tensors, graph.transpose("superpixel", "voxel", "band"), mode="FAST_COMPILE"
    )
    np.testing.assert_allclose(compiled(temperature, beta, rho), expected, rtol=1e-14)


@pytest.mark.parametrize("offset_shape", [(), (5,), (2, 5)])
def test_sightline_emission_is_the_sum_over_voxels(rng, offset_shape):
    reddening = rng.exponential(0.1, (2, 7, 3))
    per_reddening = rng.exponential(100.0, (2, 3, 5))
    offset = rng.normal(size=offset_shape)
    expected = np.zeros((2, 7, 5))
    for superpixel, pixel, band in np.ndindex(expected.shape):
        expected[superpixel, pixel, band] = np.broadcast_to(offset, (2, 5))[superpixel, band]
        for voxel in range(3):
            expected[superpixel, pixel, band] += (
                reddening[superpixel, pixel, voxel] * per_reddening[superpixel, voxel, band]
            )
    result = sightline_emission(reddening, per_reddening, offset)
    np.testing.assert_allclose(result, expected, rtol=1e-13)


def test_sightline_without_offset_or_superpixels(rng):
    reddening, per_reddening = rng.exponential(size=(7, 3)), rng.exponential(size=(3, 5))
    result = sightline_emission(reddening, per_reddening)
    assert result.shape == (7, 5)
    np.testing.assert_allclose(result, np.einsum("kn,nb->kb", reddening, per_reddening), rtol=1e-13)
