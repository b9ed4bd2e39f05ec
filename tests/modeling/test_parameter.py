"""Declarations: what they allow, what they say when they do not, and the round trip."""

import json
from math import inf, isnan, log

import numpy as np
import pytest
from scipy import stats

from pymcdust import Prior, fixed, over_sky, per_superpixel, per_voxel
from pymcdust.errors import ModelError
from pymcdust.modeling.parameter import (
    TYINGS,
    Parameter,
    describe_prior,
    is_root,
    log_peak,
    prior_sd,
)

NORMAL = Prior("Normal", mu=18.0, sigma=3.0)


def hierarchical():
    return Prior(
        "Normal",
        mu=Prior("Normal", mu=18.0, sigma=2.0),
        sigma=Prior("HalfNormal", sigma=2.0),
        centered=False,
    )


@pytest.mark.parametrize(
    ("parameter", "tying", "dims", "by_band"),
    [
        (per_voxel(NORMAL), "per voxel", ("superpixel", "voxel"), None),
        (per_superpixel(NORMAL), "per superpixel", ("superpixel",), ("superpixel", "band")),
        (over_sky(NORMAL), "over sky", (), ("band",)),
        (fixed(18.0), "fixed", (), ()),
    ],
)
def test_a_tying_is_the_dimensions_of_a_prior(parameter, tying, dims, by_band):
    assert parameter.tying == tying
    assert parameter.dims == dims
    assert parameter.free == (tying != "fixed")
    if by_band is not None:
        assert parameter.for_each_band().dims == by_band
    assert not parameter.by_band


def test_an_unknown_tying_is_refused_with_what_was_meant():
    with pytest.raises(ModelError, match=r"unknown tying 'per voxels'.*did you mean 'per voxel'"):
        Parameter(NORMAL, "per voxels")


@pytest.mark.parametrize("declare", [per_voxel, per_superpixel, over_sky])
def test_a_number_in_the_place_of_a_prior_is_refused(declare):
    with pytest.raises(ModelError, match=r"takes a Prior, not 18\.0.*fixed\(number\)"):
        declare(18.0)


@pytest.mark.parametrize("value", [NORMAL, "18", None, inf, float("nan")])
def test_only_a_finite_number_is_fixed(value):
    with pytest.raises(ModelError, match="finite number"):
        fixed(value)


def test_a_transformed_prior_is_refused():
    with pytest.raises(ModelError, match=r"transformed.*LogNormal"):
        per_voxel(Prior("Normal", mu=0.0, sigma=1.0, transform="exp"))


@pytest.mark.parametrize("dims", ["voxel", ("superpixel", "voxel")])
def test_a_prior_with_dimensions_is_refused(dims):
    with pytest.raises(ModelError, match="follow from the tying"):
        per_voxel(Prior("Normal", mu=0.0, sigma=1.0, dims=dims))


@pytest.mark.parametrize(
    "parameter",
    [
        per_voxel(NORMAL, unit="K"),
        per_superpixel(Prior("LogNormal", mu=log(1e-4), sigma=1.0), unit="mag-1"),
        over_sky(Prior("TruncatedNormal", mu=1.6, sigma=0.3, lower=1.0, upper=3.0)),
        per_voxel(hierarchical(), unit="K"),
        fixed(0.25, unit="MJy/sr"),
        fixed(1),
    ],
)
def test_a_declaration_survives_json_and_its_own_repr(parameter):
    again = Parameter.from_dict(json.loads(json.dumps(parameter.to_dict())))
    assert again == parameter
    names = {f.__name__: f for f in (per_voxel, per_superpixel, over_sky, fixed, Prior)}
    assert eval(repr(parameter), names) == parameter


def test_making_a_variable_leaves_the_declaration_as_it_was():
    import pymc as pm

    parameter = per_voxel(hierarchical())
    before = repr(parameter)
    with pm.Model(coords={"superpixel": range(2), "voxel": range(3)}) as model:
        parameter.create("temperature")
    assert repr(parameter) == before
    assert "temperature_mu" in model.named_vars


def test_centred_reaches_every_level():
    inner = Prior("Normal", mu=hierarchical(), sigma=1.0, centered=False)
    parameter = per_voxel(inner)
    centred = parameter.centred().prior
    assert centred.centered
    assert centred.parameters["mu"].centered
    assert not parameter.prior.centered, "the original must stay as it was"
    assert not parameter.prior.parameters["mu"].centered
    assert fixed(1.0).centred() == fixed(1.0)


def test_a_root_has_numbers_only():
    assert is_root(NORMAL)
    assert is_root(Prior("Normal", mu=np.array([1.0, 2.0]), sigma=1.0))
    assert not is_root(hierarchical())


# Statistics, against scipy

LAWS = [
    (NORMAL, stats.norm(18, 3), 18.0),
    (Prior("LogNormal", mu=log(1e-4), sigma=1.0), stats.lognorm(1, scale=1e-4), 1e-4 / np.e),
    (
        Prior("TruncatedNormal", mu=18.1, sigma=9.0, lower=5.0, upper=100.0),
        stats.truncnorm(-13.1 / 9, 81.9 / 9, 18.1, 9),
        18.1,
    ),
    (
        Prior("TruncatedNormal", mu=1.0, sigma=2.0, lower=5.0),
        stats.truncnorm(2, inf, 1, 2),
        5.0,
    ),
    (
        Prior("TruncatedNormal", mu=9.0, sigma=2.0, upper=5.0),
        stats.truncnorm(-inf, -2, 9, 2),
        5.0,
    ),
    (Prior("Uniform", lower=1.0, upper=3.0), stats.uniform(1, 2), 2.0),
    (Prior("HalfNormal", sigma=2.0), stats.halfnorm(scale=2), 0.0),
    (Prior("Gamma", alpha=4.0, beta=0.2), stats.gamma(4, scale=5), 15.0),
    (Prior("StudentT", nu=3.0, mu=18.0, sigma=3.0), stats.t(3, 18, 3), 18.0),
]


@pytest.mark.parametrize(("prior", "law", "mode"), LAWS, ids=lambda x: str(x)[:40])
def test_width_and_peak_of_a_prior_are_those_of_scipy(prior, law, mode):
    assert prior_sd(prior) == pytest.approx(law.std(), rel=1e-6)
    # In double precision, but for PyMC's own constants.
    assert log_peak(prior) == pytest.approx(law.logpdf(mode), rel=0, abs=2e-8)


def test_priors_without_width_or_peak():
    assert isnan(prior_sd(hierarchical()))
    assert log_peak(hierarchical()) == 0.0
    assert isnan(prior_sd(Prior("Flat")))
    assert log_peak(Prior("Flat")) == 0.0
    assert not np.isfinite(prior_sd(Prior("Cauchy", alpha=18.0, beta=2.0)))
    assert log_peak(Prior("Cauchy", alpha=18.0, beta=2.0)) == pytest.approx(-log(2 * np.pi))


def test_an_array_of_priors_has_one_peak_for_each():
    prior = Prior("Normal", mu=np.array([17.0, 20.0]), sigma=np.array([1.0, 2.0]))
    np.testing.assert_allclose(log_peak(prior), stats.norm.logpdf(0, scale=[1.0, 2.0]), atol=1e-7)


def test_a_prior_is_written_on_one_line():
    assert describe_prior(0.0) == "0"
    prior = Prior("TruncatedNormal", mu=18.1, sigma=9.0, lower=5.0, upper=100.0)
    assert describe_prior(prior) == "TruncatedNormal(18.1, 9, lower=5, upper=100)"
    assert describe_prior(hierarchical()) == "Normal(Normal(18, 2), HalfNormal(2))"


def test_tyings_name_dimensions_of_the_model_only():
    assert {d for dims in TYINGS.values() for d in dims} == {"superpixel", "voxel"}
