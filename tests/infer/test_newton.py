"""The trust-region step against its optimality conditions, and the climb on known functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from pymcdust.infer.compiled import Evaluation
from pymcdust.infer.newton import TOLERANCE, Optimum, maximise, trust_region_step


def gain_of(step, gradient, curvature):
    return gradient @ step - 0.5 * step @ curvature @ step


def best_gain(gradient, curvature, radius):
    """Solve one block exactly by bracketing the multiplier, the hard case included."""
    value, vector = np.linalg.eigh(curvature)
    along = vector.T @ gradient
    scale = np.abs(value).max() + np.linalg.norm(gradient) / radius

    def excess(shift):
        return np.linalg.norm(along / (value + shift)) - radius

    lowest = max(0.0, -value[0])
    tiny = 1e-14 * scale
    with np.errstate(divide="ignore", invalid="ignore"):
        if value[0] > tiny and excess(0.0) <= 0:
            step = along / value
        elif excess(lowest + tiny) > 0:
            shift = brentq(excess, lowest + tiny, lowest + 2 * scale, xtol=1e-16 * scale)
            step = along / (value + shift)
        else:
            step = np.where(value + lowest > tiny, along / (value + lowest + 1e-300), 0.0)
            step[0] = np.sqrt(max(0.0, radius**2 - step @ step))
    return along @ step - 0.5 * value @ step**2


def assert_optimal(gradient, curvature, radius):
    [step], [gain] = trust_region_step(gradient[None], curvature[None], np.array([radius]))
    assert np.linalg.norm(step) <= radius * (1 + 1e-9)
    size = np.linalg.norm(gradient) * radius + np.abs(curvature).max() * radius**2
    assert gain == pytest.approx(gain_of(step, gradient, curvature), abs=1e-12 * size)
    best = best_gain(gradient, curvature, radius)
    # The multiplier is found to 1e-3 of the radius, which costs the square of it.
    assert gain >= best - 1e-4 * abs(best) - 1e-11 * size
    assert gain <= best + 1e-9 * size
    return step


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 6),
    signature=st.sampled_from(["convex", "indefinite", "concave", "singular"]),
    decades=st.floats(0, 6),
    log_radius=st.floats(-3, 3),
)
def test_the_step_is_optimal_whatever_the_curvature(seed, size, signature, decades, log_radius):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    value = 10.0 ** (decades * (rng.random(size) - 0.5))
    if signature == "concave":
        value = -value
    elif signature == "indefinite":
        value[::2] *= -1
    elif signature == "singular":
        value[::2] = 0.0
    curvature = basis * value @ basis.T
    gradient = rng.normal(size=size)
    assert_optimal(gradient, (curvature + curvature.T) / 2, 10.0**log_radius)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.floats(2.0, 100.0))
def test_the_step_is_optimal_in_the_hard_case(seed, radius):
    # No gradient along the lowest direction, and a radius that the others do not fill.
    rng = np.random.default_rng(seed)
    value = np.array([-1.0, 0.5, 2.0, 7.0])
    gradient = np.array([0.0, *rng.uniform(-1, 1, 3)])
    step = assert_optimal(gradient, np.diag(value), radius)
    assert np.linalg.norm(step) == pytest.approx(radius, rel=1e-3)


def test_a_step_that_fits_is_that_of_newton():
    curvature = np.array([[[3.0, 1.0], [1.0, 2.0]]])
    gradient = np.array([[0.1, -0.2]])
    step, gain = trust_region_step(gradient, curvature, np.array([1.0]))
    np.testing.assert_allclose(step[0], np.linalg.solve(curvature[0], gradient[0]), rtol=1e-9)
    np.testing.assert_allclose(gain, 0.5 * gradient[0] @ step[0], rtol=1e-9)


def test_the_boundary_step_keeps_the_conditions_of_kuhn_and_tucker():
    rng = np.random.default_rng(1)
    curvature = rng.normal(size=(50, 4, 4))
    curvature = curvature + curvature.transpose(0, 2, 1)
    gradient = rng.normal(size=(50, 4))
    step, _ = trust_region_step(gradient, curvature, np.full(50, 0.3))
    np.testing.assert_allclose(np.linalg.norm(step, axis=1), 0.3, rtol=1e-3)
    for p, g, B in zip(step, gradient, curvature, strict=True):
        shift = p @ (g - B @ p) / (p @ p)
        assert shift >= -1e-9
        assert np.linalg.eigvalsh(B)[0] + shift >= -1e-9
        assert np.linalg.norm(g - B @ p - shift * p) < 2e-3 * np.linalg.norm(g)


def test_blocks_do_not_feel_one_another():
    rng = np.random.default_rng(2)
    curvature = rng.normal(size=(20, 3, 3)) * 10.0 ** rng.uniform(-3, 3, (20, 1, 1))
    curvature = curvature + curvature.transpose(0, 2, 1)
    gradient = rng.normal(size=(20, 3))
    radius = 10.0 ** rng.uniform(-2, 1, 20)
    together, _ = trust_region_step(gradient, curvature, radius)
    for i in range(20):
        alone, _ = trust_region_step(gradient[[i]], curvature[[i]], radius[[i]])
        np.testing.assert_allclose(together[i], alone[0], rtol=2e-3, atol=1e-3 * radius[i])


@pytest.mark.parametrize("n_block", [1, 3])
def test_what_is_given_is_left_alone(n_block):
    curvature, gradient = np.tile(np.eye(2) * 3, (n_block, 1, 1)), np.ones((n_block, 2))
    for radius in (0.1, 10.0):
        trust_region_step(gradient, curvature, np.full(n_block, radius))
        np.testing.assert_array_equal(curvature, np.tile(np.eye(2) * 3, (n_block, 1, 1)))
        np.testing.assert_array_equal(gradient, np.ones((n_block, 2)))


def test_no_gradient_and_no_curvature_make_no_step():
    step, gain = trust_region_step(np.zeros((1, 3)), np.zeros((1, 3, 3)), np.ones(1))
    assert np.all(np.isfinite(step))
    assert gain[0] == 0


# The climb


def evaluation(value, gradient, hessian, theta):
    nothing = np.zeros(len(theta))
    ones, zeros = np.ones_like(theta), np.zeros_like(theta)
    return Evaluation(nothing, value, gradient, hessian, theta.copy(), ones, zeros)


def rosenbrock(theta, blocks, counts=None):
    x, y = theta.T
    if counts is not None:
        np.add.at(counts, blocks, 1)
    value = -((1 - x) ** 2) - 100 * (y - x**2) ** 2
    gradient = np.stack([2 * (1 - x) + 400 * x * (y - x**2), -200 * (y - x**2)], axis=1)
    hessian = np.empty((len(theta), 2, 2))
    hessian[:, 0, 0] = -2 + 400 * (y - x**2) - 800 * x**2
    hessian[:, 0, 1] = hessian[:, 1, 0] = 400 * x
    hessian[:, 1, 1] = -200
    return evaluation(value, gradient, hessian, theta)


def test_rosenbrock_is_climbed_from_everywhere():
    start = np.random.default_rng(3).uniform(-3, 3, size=(50, 2))
    kept, counts = start.copy(), np.zeros(50, int)
    end = maximise(lambda t, b: rosenbrock(t, b, counts), start)
    np.testing.assert_array_equal(start, kept)
    assert end.converged.all()
    np.testing.assert_allclose(end.theta, 1.0, atol=1e-3)
    assert np.all(end.gain <= TOLERANCE)
    np.testing.assert_array_equal(end.iterations, counts)
    assert counts.max() < 60
    assert counts.min() < counts.max(), "a block that is done is left alone"
    np.testing.assert_array_equal(end.evaluation.natural, end.theta)


def test_a_maximum_at_infinity_ends_without_harm():
    # A bound, in unconstrained coordinates: the log density rises for ever, ever less.
    def sigmoid(theta, blocks):
        s = 1 / (1 + np.exp(-theta))
        value, slope = -3 * (1 - s[:, 0]), 3 * s * (1 - s)
        return evaluation(value, slope, (slope * (1 - 2 * s))[:, :, None], theta)

    end = maximise(sigmoid, np.array([[-2.0], [3.0]]))
    assert end.converged.all()
    assert np.all(end.theta > 15)


def test_points_without_finite_derivatives_are_not_taken():
    # Finite value beyond 1, but no derivatives there.
    def broken(theta, blocks):
        bad = theta[:, 0] > 1
        gradient = np.where(bad[:, None], np.nan, 2 * (0.9 - theta))
        hessian = np.where(bad[:, None, None], np.nan, -0.2)
        return evaluation(
            np.where(bad, 10.0, -((0.9 - theta[:, 0]) ** 2)), gradient, hessian, theta
        )

    end = maximise(broken, np.array([[-3.0], [0.5]]))
    assert np.all(np.isfinite(end.theta))
    assert np.all(end.theta <= 1)


def test_too_few_iterations_leave_a_block_unconverged():
    end = maximise(rosenbrock, np.array([[-2.0, 2.0], [1.0, 1.0]]), max_iterations=3)
    assert end.converged.tolist() == [False, True]
    assert end.iterations.tolist() == [3, 1]


def test_the_better_of_two_searches_is_kept():
    def optimum(values, gains):
        theta = np.array(values, float)[:, None]
        at = evaluation(theta[:, 0], theta, theta[:, :, None], theta)
        return Optimum(theta, at, np.array(gains, float), np.full(len(values), 2))

    # Worse, higher, converged though lower, higher though not converged, as good.
    first = optimum([5, 5, 5, 5, 5], [0, 0, 1, 0, 0])
    other = optimum([4, 6, 4, 6, 5], [0, 0, 0, 1, 0])
    first.replace_where_better(np.arange(5), other)
    assert first.theta[:, 0].tolist() == [5, 6, 4, 5, 5]
    assert first.evaluation.log_posterior.tolist() == [5, 6, 4, 5, 5]
    assert first.gain.tolist() == [0, 0, 0, 0, 0]
    assert first.iterations.tolist() == [4] * 5
    first.replace_where_better(np.array([3]), optimum([9], [0]))
    assert first.theta[:, 0].tolist() == [5, 6, 4, 9, 5]
