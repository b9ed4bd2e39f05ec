"""Model classes: what they demand, how they change, what they build and draw."""

import inspect
import json

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import pymcdust
from pymcdust import Prior, VoxelMBB, fixed, models, over_sky, per_voxel
from pymcdust.errors import ModelError
from pymcdust.modeling.gallery import resolve
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.physics.bands import BANDS, FREQUENCY
from pymcdust.sky.simulate import simulate_sky

GALLERY = models.available()
NAMESPACE = {name: getattr(pymcdust, name) for name in pymcdust.__all__}
NORMAL = Prior("Normal", mu=18.0, sigma=3.0)

#: Tying of temperature, beta, rho and offset; values inferred for a superpixel of 9 voxels.
EXPECTED = {
    "all_per_voxel": ("vvvf", 27, False),
    "fixed_emissivity": ("vfff", 9, False),
    "hierarchical_temperature": ("vssf", 11, True),
    "offsets_over_sky": ("vsso", 11, True),
    "offsets_per_superpixel": ("vsss", 16, False),
    "single_temperature": ("sssf", 3, False),
    "temperature_beta_per_voxel": ("vvsf", 19, False),
    "temperature_per_voxel": ("vssf", 11, False),
    "temperature_rho_per_voxel": ("vsvf", 19, False),
}
LETTER = {"per voxel": "v", "per superpixel": "s", "over sky": "o", "fixed": "f"}


# Declarations


def test_every_model_of_the_gallery_is_as_the_design_says():
    assert set(GALLERY) == set(EXPECTED)
    for name in GALLERY:
        model = resolve(name)
        tying, n_free, couples = EXPECTED[name]
        assert "".join(LETTER[p.tying] for p in model.parameters.values()) == tying
        assert model.n_free(n_voxel=9) == n_free
        assert model.couples_superpixels == couples
        assert model.name == name
        assert len(inspect.getdoc(type(model)).splitlines()) > 2, "the science is stated"


def test_the_base_case_is_that_of_the_paper():
    model = TemperaturePerVoxel()
    assert model.temperature == per_voxel(
        Prior("TruncatedNormal", mu=18.1, sigma=9.0, lower=5.0, upper=100.0), unit="K"
    )
    assert model.offset == fixed(0.0, unit="MJy/sr")


@pytest.mark.parametrize("name", ["build", "emissivity"])
def test_code_of_its_own_is_refused(name):
    with pytest.raises(ModelError, match=f"Clever defines {name}, but a model is its four"):
        type("Clever", (TemperaturePerVoxel,), {name: lambda *_: None})


def test_a_missing_parameter_is_named():
    with pytest.raises(ModelError, match=r"Halfway does not declare beta, offset; .*per_voxel"):
        type("Halfway", (VoxelMBB,), {"temperature": fixed(18.0), "rho": fixed(1e-4)})


def test_a_misspelt_parameter_is_refused_with_what_was_meant():
    with pytest.raises(ModelError, match=r"Typo: unknown parameter 'temprature'.*'temperature'\?"):
        type("Typo", (TemperaturePerVoxel,), {"temprature": fixed(18.0)})
    with pytest.raises(ModelError, match=r"unknown parameter 'offsets'.*did you mean 'offset'\?"):
        TemperaturePerVoxel(offsets=fixed(0.0))


@pytest.mark.parametrize("value", [1.6, NORMAL, "1.6"])
def test_what_is_no_declaration_is_refused(value):
    complaint = r"beta is .* per_voxel, per_superpixel, over_sky or fixed"
    with pytest.raises(ModelError, match=complaint) as error:
        TemperaturePerVoxel(beta=value)
    assert ("did you mean fixed(1.6)?" in str(error.value)) == (value == 1.6)
    with pytest.raises(ModelError, match=complaint):
        type("Wrong", (TemperaturePerVoxel,), {"beta": value})


def test_an_offset_belongs_to_a_map_not_to_a_voxel():
    with pytest.raises(ModelError, match=r"offset cannot be per voxel.*per_superpixel, over_sky"):
        TemperaturePerVoxel(offset=per_voxel(NORMAL))


def test_the_base_class_is_no_model():
    with pytest.raises(ModelError, match=r"available\(\)"):
        VoxelMBB()


def test_the_signature_tells_the_truth():
    signature = inspect.signature(TemperaturePerVoxel)
    assert list(signature.parameters) == ["temperature", "beta", "rho", "offset"]
    assert signature.parameters["beta"].default is TemperaturePerVoxel.beta
    assert all(p.kind is p.KEYWORD_ONLY for p in signature.parameters.values())


def test_an_instance_changes_without_its_class():
    changed = TemperaturePerVoxel(beta=fixed(1.62))
    assert changed.beta == fixed(1.62)
    assert TemperaturePerVoxel.beta.free
    assert TemperaturePerVoxel().beta.free
    assert "beta" not in changed.free_parameters


@pytest.mark.parametrize("name", GALLERY)
def test_a_model_survives_json_and_its_own_repr(name):
    model = resolve(name)
    again = VoxelMBB.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again.name == name
    assert again.parameters == model.parameters
    assert again.to_dict() == model.to_dict()
    printed = eval(repr(model), NAMESPACE | {type(model).__name__: type(model)})
    assert printed.parameters == model.parameters


def test_a_changed_instance_survives_json():
    model = TemperaturePerVoxel(
        temperature=per_voxel(
            Prior("Normal", mu=Prior("Normal", mu=18.0, sigma=1.0), sigma=2.0, centered=False)
        )
    )
    again = VoxelMBB.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again.temperature == model.temperature
    assert not again.temperature.prior.centered
    assert again.couples_superpixels


def test_the_description_names_tying_prior_and_unit():
    rows = resolve("offsets_over_sky").describe()
    assert rows[0] == {
        "parameter": "temperature",
        "tying": "per voxel",
        "prior": "TruncatedNormal(18.1, 9, lower=5, upper=100)",
        "unit": "K",
    }
    assert rows[3]["tying"] == "over sky, per band"
    assert resolve("temperature_per_voxel").describe()[3]["tying"] == "fixed"


# Hierarchies


def test_what_couples_superpixels():
    def with_mean(**dims):
        mean = Prior("Normal", mu=18.0, sigma=1.0, **dims)
        return TemperaturePerVoxel(temperature=per_voxel(Prior("Normal", mu=mean, sigma=2.0)))

    assert with_mean().couples_superpixels
    assert with_mean(dims="voxel").couples_superpixels
    assert not with_mean(dims="superpixel").couples_superpixels
    assert TemperaturePerVoxel(rho=over_sky(NORMAL)).couples_superpixels
    assert with_mean().n_free(n_voxel=2) == 4
    assert with_mean(dims="superpixel").n_free(n_voxel=2) == 5, "its mean counts as well"


def test_the_prior_of_a_variable_is_found_at_every_level():
    scatter = Prior("HalfNormal", sigma=Prior("Exponential", lam=1.0))
    prior = Prior("Normal", mu=18.0, sigma=scatter)
    model = TemperaturePerVoxel(temperature=per_voxel(prior))
    assert model.prior_of("temperature") == prior
    assert model.prior_of("temperature_sigma") == scatter
    assert model.prior_of("temperature_sigma_sigma") == Prior("Exponential", lam=1.0)
    assert model.prior_of("temperature_mu") is None
    assert model.prior_of("beta") == model.beta.prior
    assert model.prior_of("offset") is None, "it is fixed"
    assert model.prior_of("albedo") is None


# Draws and graphs


COORDS = {"superpixel": np.arange(400), "voxel": np.arange(3), "band": list(BANDS)}


@pytest.mark.parametrize("name", GALLERY)
def test_a_draw_has_the_dimensions_of_its_tying(name):
    model = resolve(name)
    drawn = model.draw(COORDS, np.random.default_rng(0))
    for parameter, declared in model.parameters.items():
        assert drawn[parameter].dims == declared.dims
        if not declared.free:
            assert drawn[parameter] == declared.prior
    xr.testing.assert_identical(drawn, model.draw(COORDS, np.random.default_rng(0)))
    assert not drawn.equals(model.draw(COORDS, np.random.default_rng(1)))


def test_a_draw_follows_its_prior():
    drawn = resolve("offsets_per_superpixel").draw(COORDS, np.random.default_rng(3))
    laws = {
        "temperature": stats.truncnorm(-13.1 / 9, 81.9 / 9, 18.1, 9),
        "beta": stats.truncnorm(-2, 1.4 / 0.3, 1.6, 0.3),
        "rho": stats.lognorm(1, scale=1e-4),
        "offset": stats.norm(0, 5),
    }
    for name, law in laws.items():
        assert stats.kstest(drawn[name].values.ravel(), law.cdf).pvalue > 1e-4, name


def test_a_hierarchical_draw_shares_its_mean():
    mean = Prior("Normal", mu=18.0, sigma=5.0)
    model = TemperaturePerVoxel(
        temperature=per_voxel(Prior("Normal", mu=mean, sigma=0.1, centered=False))
    )
    skies = [model.draw(COORDS, np.random.default_rng(seed)).temperature for seed in range(5)]
    assert np.std([sky.mean() for sky in skies]) > 1.0
    assert max(float(sky.std()) for sky in skies) < 0.12


def test_a_sky_is_simulated_from_a_model():
    sky = simulate_sky(
        resolve("offsets_over_sky").draw,
        nside=16,
        superpixel_nside=4,
        superpixels=[3, 70],
        distance_edge=[0, 0.5, 2.0],
        noise=False,
    )
    assert sky.true_temperature.dims == ("superpixel", "voxel")
    assert sky.true_offset.dims == ("band",)
    x = 0.04799243073366221 * sky.frequency / sky.true_temperature
    planck = 1.4744994647625417e-3 * sky.frequency**3 / np.expm1(x)
    glow = sky.true_rho * (sky.frequency / 353) ** sky.true_beta * planck
    expected = sky.reddening.dot(glow, dim="voxel") + sky.true_offset
    np.testing.assert_allclose(sky.emission, expected.transpose(*sky.emission.dims), rtol=1e-9)


def test_the_pymc_model_speaks_the_names_of_the_sky():
    rng = np.random.default_rng(5)
    rows = xr.Dataset(
        {
            "reddening": (("superpixel", "pixel", "voxel"), rng.random((2, 4, 3))),
            "intercept": (("superpixel", "pixel"), np.ones((2, 4))),
            "emission": (("superpixel", "pixel", "band"), rng.random((2, 4, 5))),
            "sigma": ("band", np.ones(5)),
        },
        coords={
            "superpixel": [7, 9],
            "pixel": range(4),
            "voxel": range(3),
            "band": list(BANDS),
            "frequency": ("band", list(FREQUENCY.values())),
        },
    )
    model = resolve("offsets_per_superpixel").build(rows)
    assert [v.name for v in model.free_RVs] == ["temperature", "beta", "rho", "offset"]
    assert [v.name for v in model.observed_RVs] == ["emission"]
    assert set(model.named_vars["emissivity"].dims) == {"superpixel", "voxel", "band"}
    assert tuple(model.coords["superpixel"]) == (7, 9)
    temperature, beta, rho = model.free_RVs[:3]
    glow = model.named_vars["emissivity"].transpose("superpixel", "voxel", "band")
    found = glow.eval(
        {temperature: np.full((2, 3), 18.0), beta: np.full(2, 1.6), rho: np.array([1e-4, 2e-4])}
    )
    x = 0.04799243073366221 * rows.frequency.values / 18
    planck = 1.4744994647625417e-3 * rows.frequency.values**3 / np.expm1(x)
    spectrum = (rows.frequency.values / 353) ** 1.6 * planck
    expected = np.array([1e-4, 2e-4])[:, None, None] * spectrum
    np.testing.assert_allclose(found, np.broadcast_to(expected, (2, 3, 5)), rtol=1e-9)
