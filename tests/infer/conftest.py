"""The paper's equations by hand, a small sky, and compiled posteriors that tests share."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from astropy import constants
from scipy.optimize import least_squares

from pymcdust import Prior, fixed
from pymcdust.infer import engine, sampling
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.modeling.gallery import resolve
from pymcdust.modeling.parameter import Parameter
from pymcdust.sky.dataset import build_sky

FREQUENCY = np.array([217.0, 353.0, 545.0, 857.0, 2998.0])
SIGMA = np.array([0.5, 3.0, 9.0, 25.0, 30.0])
LOG_FREQUENCY = np.log(FREQUENCY / 353.0)
X_SCALE = (constants.h / constants.k_B).si.value * 1e9
B_SCALE = (2 * constants.h / constants.c**2).si.value * 1e27 * 1e20
EDGES = (0.0, 0.3, 1.0, 3.0)


def planck(temperature):
    """B_nu(T) and its first two derivatives by T, (..., band), with the errata of Eq. A7."""
    x = X_SCALE * FREQUENCY / temperature[..., None]
    b = B_SCALE * FREQUENCY**3 / np.expm1(x)
    first = b * x / temperature[..., None] / -np.expm1(-x)
    second = first / temperature[..., None] * (x / np.tanh(x / 2) - 2)
    return b, first, second


@dataclass
class Paper:
    """Eq. A1 without its priors, and A8-A27, for the untied parameters of one superpixel.

    The vector is (O_nu, rho^n, beta^n, T^n); data are raw pixels with weights 0 or 1.
    """

    reddening: np.ndarray  # (pixel, voxel)
    emission: np.ndarray  # (pixel, band)
    valid: np.ndarray  # (pixel, band)
    sigma: np.ndarray  # (pixel, band)

    @classmethod
    def of(cls, sky, position):
        """Take the raw pixels of one superpixel of a sky."""
        one = sky.isel(superpixel=position)
        valid = one.valid.broadcast_like(one.emission).transpose("pixel", "band").values
        sigma = one.sigma.broadcast_like(one.emission).transpose("pixel", "band").values
        reddening = np.where(valid.any(axis=1)[:, None], one.reddening, 0.0).astype(float)
        emission = np.where(valid, one.emission, 0.0).astype(float)
        return cls(reddening, emission, valid, np.where(valid, sigma, 1.0).astype(float))

    def split(self, vector):
        n = self.reddening.shape[1]
        return vector[:5], vector[5 : 5 + n], vector[5 + n : 5 + 2 * n], vector[5 + 2 * n :]

    def residual(self, vector):
        """Model minus data over sigma, (pixel, band); complex vectors are welcome."""
        offset, rho, beta, temperature = self.split(vector)
        mbb = rho[:, None] * np.exp(beta[:, None] * LOG_FREQUENCY) * planck(temperature)[0]
        return self.valid * (offset + self.reddening @ mbb - self.emission) / self.sigma

    def chi2(self, vector):
        return (self.residual(vector) ** 2).sum()

    def derivatives(self, vector):
        """Gradient and Hessian of chi2 by the sums of the appendix."""
        _, rho, beta, temperature = self.split(vector)
        n_voxel = len(rho)
        b, first, second = planck(temperature)
        power = np.exp(beta[:, None] * LOG_FREQUENCY)
        weight = 2 * self.valid / self.sigma**2
        g = 2 * self.residual(vector) / self.sigma  # A2
        dust = self.reddening[:, :, None]  # (pixel, voxel, band)
        A = dust * power * b  # A3
        B = dust * rho[:, None] * power * b * LOG_FREQUENCY  # A4
        C = dust * rho[:, None] * power * first  # A5
        D = dust * power * first  # A6
        F = dust * rho[:, None] * power * second  # A7
        columns = np.einsum("kb,knb->n", g, A), np.einsum("kb,knb->n", g, B)
        gradient = np.concatenate([g.sum(axis=0), *columns, np.einsum("kb,knb->n", g, C)])

        hessian = np.zeros((len(vector), len(vector)), dtype=np.result_type(vector, float))
        hessian[:5, :5] = np.diag(weight.sum(axis=0))  # A20
        blocks = {
            name: slice(5 + i * n_voxel, 5 + (i + 1) * n_voxel) for i, name in enumerate("rbt")
        }
        for name, first_derivative in (("r", A), ("b", B), ("t", C)):
            hessian[:5, blocks[name]] = np.einsum("kb,knb->bn", weight, first_derivative)  # A21
            hessian[blocks[name], :5] = hessian[:5, blocks[name]].T
        log = LOG_FREQUENCY
        for i, j, left, right, bent in (
            ("r", "r", A, A, 0 * A),  # A22
            ("r", "b", A, B, A * log),  # A23
            ("r", "t", A, C, D),  # A24
            ("b", "b", B, B, B * log),  # A25
            ("t", "b", C, B, C * log),  # A26
            ("t", "t", C, C, F),  # A27
        ):
            block = np.einsum("kb,knb,kmb->nm", weight, left, right)
            block = block + np.diag(np.einsum("kb,knb->n", g, bent))
            hessian[blocks[i], blocks[j]] = block
            hessian[blocks[j], blocks[i]] = block.T
        return gradient, hessian


def prior_terms(prior, x):
    """Minus twice the log density up to a constant, with two derivatives, by hand."""
    p = prior.parameters
    if prior.distribution in ("Normal", "TruncatedNormal"):
        z = (x - p["mu"]) / p["sigma"]
        return z**2, 2 * z / p["sigma"], np.full(x.shape, 2 / p["sigma"] ** 2)
    if prior.distribution == "LogNormal":
        z, s = (np.log(x) - p["mu"]) / p["sigma"], p["sigma"]
        return z**2 + 2 * np.log(x), 2 * (z / s + 1) / x, 2 * (1 / s**2 - z / s - 1) / x**2
    assert prior.distribution == "Uniform"
    return np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape)


def support(prior):
    if prior.distribution in ("TruncatedNormal", "Uniform"):
        return prior.parameters["lower"], prior.parameters["upper"]
    return (0.0, np.inf) if prior.distribution == "LogNormal" else (-np.inf, np.inf)


@dataclass
class Tied:
    """The tying matrix of a model of numbers only, and Eq. A1 with it, for raw pixels of a sky.

    The vector holds the natural parameters of all superpixels in the order of `slots`.
    """

    model: object
    papers: list
    slots: tuple  # of compiled posterior: names and order of parameters

    @property
    def joint(self):
        return self.model.couples_superpixels

    def layout(self, superpixel):
        """Tying matrix P (untied, tied), and the untied vector's fixed part, of a superpixel."""
        n = self.papers[0].reddening.shape[1]
        start = {"offset": 0, "rho": 5, "beta": 5 + n, "temperature": 5 + 2 * n}
        length = {"offset": 5, "rho": n, "beta": n, "temperature": n}
        P, constant = np.zeros((5 + 3 * n, self.slots[-1].stop)), np.zeros(5 + 3 * n)
        for name, parameter in self.model.parameters.items():
            rows = np.arange(start[name], start[name] + length[name])
            if not parameter.free:
                constant[rows] = parameter.prior
                continue
            [slot] = [s for s in self.slots if s.name == name]
            columns = np.arange(slot.start, slot.stop)
            if self.joint and "superpixel" in slot.dims:
                columns = columns.reshape(len(self.papers), -1)[superpixel]
            P[rows, np.broadcast_to(columns, rows.shape)] = 1
        return P, constant

    def objective(self, vector, superpixels):
        """Eq. A1 of the superpixels with its gradient P^T g and Hessian P^T H P."""
        value, gradient = 0.0, np.zeros(len(vector))
        hessian = np.zeros((len(vector), len(vector)))
        for s in superpixels:
            P, constant = self.layout(s)
            untied = P @ vector + constant
            g, H = self.papers[s].derivatives(untied)
            value += self.papers[s].chi2(untied)
            gradient += P.T @ g
            hessian += P.T @ H @ P
        for slot in self.slots:
            c = slot.columns
            terms = prior_terms(self.model.parameters[slot.name].prior, vector[c])
            value += terms[0].sum()
            gradient[c] += terms[1]
            hessian[np.arange(c.start, c.stop), np.arange(c.start, c.stop)] += terms[2]
        return value, gradient, hessian

    def best(self, superpixels, rng, starts):
        """Return the lowest of many least-squares ends: A1 as a sum of squares, ln rho for rho.

        With y = ln rho a log-normal prior is the square of (y - mu + s^2) / s, up to a constant.
        """
        lower, upper = np.full((2, self.slots[-1].stop), -np.inf)
        upper = -upper
        log = np.zeros(len(lower), bool)
        for slot in self.slots:
            prior = self.model.parameters[slot.name].prior
            lower[slot.columns], upper[slot.columns] = support(prior)
            log[slot.columns] = slot.name == "rho"
        with np.errstate(divide="ignore"):
            lower = np.where(log, np.log(np.maximum(lower, 0)), lower)
            upper = np.where(log, np.log(np.maximum(upper, 0)), upper)
        layouts = {s: self.layout(s) for s in superpixels}

        def residuals(y):
            vector = np.where(log, np.exp(np.where(log, y, 0)), y)
            out = [self.papers[s].residual(P @ vector + c).ravel() for s, (P, c) in layouts.items()]
            for slot in self.slots:
                p = self.model.parameters[slot.name].prior.parameters
                if "mu" in p:
                    shift = p["sigma"] ** 2 if slot.name == "rho" else 0.0
                    out.append((y[slot.columns] - p["mu"] + shift) / p["sigma"])
            return np.concatenate(out)

        ends = []
        for _ in range(starts):
            y = np.empty(len(lower))
            for slot in self.slots:
                centre, width = {
                    "temperature": (18.0, 3.0),
                    "beta": (1.6, 0.2),
                    "rho": (np.log(1e-4), 0.5),
                    "offset": (0.0, 1.0),
                }[slot.name]
                y[slot.columns] = centre + width * rng.normal(size=slot.stop - slot.start)
            y = np.clip(y, lower + 1e-3, upper - 1e-3)
            end = least_squares(
                residuals, y, bounds=(lower, upper), xtol=1e-14, ftol=1e-14, gtol=1e-14
            )
            ends.append(2 * end.cost)
        return min(ends)


def gaussian(model):
    """Return a model with the same tying and the Gaussian priors of Eq. A1."""
    priors = {
        "temperature": Prior("Normal", mu=18.1, sigma=9.0),
        "beta": Prior("Normal", mu=1.6, sigma=0.3),
        "rho": Prior("Normal", mu=1e-4, sigma=5e-5),
        "offset": Prior("Normal", mu=0.0, sigma=5.0),
    }
    return type(model)(
        **{
            name: Parameter(priors[name], p.tying, p.unit) if p.free else fixed(p.prior, p.unit)
            for name, p in model.parameters.items()
        }
    )


def make_sky(n_superpixel=3, n_pixel=16, n_voxel=3, seed=0, noise=1.0, **truth):
    """Make a sky of clouds that glow as chosen, some pixels masked."""
    rng = np.random.default_rng(seed)
    truth = {"temperature": [19.0, 17.0, 21.0][:n_voxel], "beta": 1.6, "rho": 1e-4} | truth
    reddening = rng.lognormal(-1.0, 1.0, size=(n_superpixel, n_pixel, n_voxel))
    temperature, beta, rho = (
        np.broadcast_to(truth[name], (n_superpixel, n_voxel)).astype(float)
        for name in ("temperature", "beta", "rho")
    )
    glow = rho[..., None] * np.exp(beta[..., None] * LOG_FREQUENCY) * planck(temperature)[0]
    emission = reddening @ glow + truth.get("offset", 0.0)
    emission += noise * SIGMA * rng.normal(size=emission.shape)
    nside = int(np.sqrt(n_pixel)) * 16
    return build_sky(
        reddening,
        emission,
        truth.get("sigma", SIGMA),
        EDGES[: n_voxel + 1],
        np.arange(n_superpixel) + 40,
        nside=nside,
        superpixel_nside=16,
        valid=truth.get("valid", rng.random((n_superpixel, n_pixel)) > 0.15),
        reddening_unit="bayestar2019",
    )


def pad(rows, n_row):
    """Append rows of zeros: of any number of rows one compiled function serves."""
    missing = n_row - rows.sizes["pixel"]
    rows = rows.drop_vars("pixel").pad(pixel=(0, missing), constant_values=0)
    return rows.assign_coords(pixel=np.arange(n_row))


_COMPILED = {}


def compiled_posterior(model, rows, coordinates="unconstrained"):
    """Compile a model once for each kind of rows, however many tests ask for it."""
    model = resolve(model)
    sizes = {k: v for k, v in rows.sizes.items() if k != "superpixel" or model.couples_superpixels}
    key = (repr(model), rows.reddening.dims, str(sorted(sizes.items())), coordinates)
    if key not in _COMPILED:
        _COMPILED[key] = CompiledPosterior(model, rows, coordinates)
    return _COMPILED[key]


@pytest.fixture(scope="session")
def compiled():
    return compiled_posterior


@pytest.fixture
def shared_compilation(monkeypatch):
    """Let `fit_map` and `sample` take their compiled posteriors from those of other tests."""
    monkeypatch.setattr(engine, "CompiledPosterior", compiled_posterior)
    monkeypatch.setattr(sampling, "CompiledPosterior", compiled_posterior)


@pytest.fixture(scope="session")
def paper():
    return Paper


@pytest.fixture(scope="session")
def tied():
    """Return Eq. A1 of a model on a sky, with the layout of the model's compiled posterior."""

    def make(model, sky, posterior):
        model = resolve(model)
        papers = [Paper.of(sky, s) for s in range(sky.sizes["superpixel"])]
        return Tied(model, papers, posterior.slots)

    return make


@pytest.fixture(scope="session")
def sky_of():
    return make_sky


@pytest.fixture(scope="session")
def padded():
    return pad


@pytest.fixture(scope="session")
def gaussian_priors():
    return gaussian


@pytest.fixture(scope="session")
def sky() -> xr.Dataset:
    """Three superpixels, 16 pixels, three voxels."""
    return make_sky()
