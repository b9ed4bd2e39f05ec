"""A model that is linear in its parameters, whose predictions are known in closed form."""

from dataclasses import dataclass
from math import log

import numpy as np
import xarray as xr
from astropy import constants
from scipy.stats import multivariate_normal

from pymcdust import Prior, VoxelMBB, fixed, per_superpixel
from pymcdust.infer.compiled import CompiledPosterior
from pymcdust.infer.posterior import to_tree
from pymcdust.infer.target import Draws, Target
from pymcdust.sky.compression import compress
from pymcdust.sky.dataset import build_sky

FREQUENCY = np.array([217.0, 353.0, 545.0, 857.0, 2998.0])
SIGMA = np.array([0.5, 3.0, 9.0, 25.0, 30.0])
TEMPERATURE, BETA = 18.0, 1.6
RHO, OFFSET = (1e-4, 4e-5), (0.0, 2.0)


class Linear(VoxelMBB):
    """Dust of known spectrum, its amount and the offsets being normal beforehand."""

    temperature = fixed(TEMPERATURE, unit="K")
    beta = fixed(BETA)
    rho = per_superpixel(Prior("Normal", mu=RHO[0], sigma=RHO[1]), unit="mag-1")
    offset = per_superpixel(Prior("Normal", mu=OFFSET[0], sigma=OFFSET[1]), unit="MJy/sr")


class Nonlinear(Linear):
    """The same with an unknown temperature and a known offset."""

    temperature = per_superpixel(Prior("Normal", mu=18.0, sigma=2.0), unit="K")
    rho = per_superpixel(Prior("LogNormal", mu=log(1e-4), sigma=0.3), unit="mag-1")
    offset = fixed(0.0, unit="MJy/sr")


def emissivity(temperature, beta=BETA, rho=1.0):
    """Return rho (nu / 353 GHz)^beta B_nu(T) [MJy/sr/mag], by SI units: (..., band)."""
    temperature, beta, rho = (
        np.asarray(x, dtype=float)[..., None] for x in (temperature, beta, rho)
    )
    nu, h, c, k = (
        FREQUENCY * 1e9,
        constants.h.si.value,
        constants.c.si.value,
        constants.k_B.si.value,
    )
    planck = 2 * h * nu**3 / c**2 / np.expm1(h * nu / (k * temperature)) * 1e20
    return rho * (FREQUENCY / 353.0) ** beta * planck


def linear_sky(n_superpixel=2, n_pixel=16, seed=0, outlier=None, valid=None, sigma=SIGMA):
    """Return a sky of the linear model; an outlier is a pixel and its shift [sigma]."""
    rng = np.random.default_rng(seed)
    reddening = rng.lognormal(-0.5, 0.5, size=(n_superpixel, n_pixel, 2))
    rho = rng.normal(*RHO, size=n_superpixel)
    offset = rng.normal(*OFFSET, size=(n_superpixel, 1, 5))
    glow = reddening.sum(axis=2)[..., None] * emissivity(TEMPERATURE)
    emission = rho[:, None, None] * glow + offset
    emission += sigma * rng.normal(size=emission.shape)
    if outlier is not None:
        pixel, shift = outlier
        emission[:, pixel] += shift * SIGMA
    return build_sky(
        reddening,
        emission,
        sigma,
        [0.0, 0.5, 2.0],
        np.arange(n_superpixel) + 40,
        nside=int(np.sqrt(n_pixel)) * 16,
        superpixel_nside=16,
        valid=rng.random((n_superpixel, n_pixel)) > 0.15 if valid is None else valid,
        reddening_unit="bayestar2019",
    )


@dataclass
class Exact:
    """Posterior and predictions of the linear model of one superpixel, in closed form."""

    design: np.ndarray  # (pixel, band, parameter): rho, then the offset of each band
    emission: np.ndarray  # (pixel, band)
    sigma: np.ndarray  # (pixel, band)
    valid: np.ndarray  # (pixel, band)

    @classmethod
    def of(cls, sky, position):
        one = sky.isel(superpixel=position)
        valid = one.valid.broadcast_like(one.emission).transpose("pixel", "band").values
        sigma = one.sigma.broadcast_like(one.emission).transpose("pixel", "band").values
        design = np.zeros((*valid.shape, 6))
        design[..., 0] = one.reddening.values.sum(axis=1)[:, None] * emissivity(TEMPERATURE)
        design[..., 1:] = np.eye(5)
        return cls(design, one.emission.values, sigma, valid)

    def posterior(self, seen):
        """Return mean and covariance of the parameters, given the valid data of some pixels."""
        used = self.valid & seen[:, None]
        sigma = self.sigma[used]
        rows, data = self.design[used] / sigma[:, None], self.emission[used] / sigma
        mean = np.array([RHO[0], *5 * [OFFSET[0]]])
        sd = np.array([RHO[1], *5 * [OFFSET[1]]])
        precision = np.diag(1 / sd**2) + rows.T @ rows
        covariance = np.linalg.inv(precision)
        return covariance @ (mean / sd**2 + rows.T @ data), covariance

    def elpd(self, block, withheld):
        """Return the log predictive density of the pixels `block`, `withheld` not being seen."""
        mean, covariance = self.posterior(~withheld)
        used = self.valid & block[:, None]
        rows = self.design[used]
        spread = rows @ covariance @ rows.T + np.diag(self.sigma[used] ** 2)
        return multivariate_normal(rows @ mean, spread).logpdf(self.emission[used])


_COMPILED = {}


def compiled(model, rows):
    """Compile a model once for each kind of rows."""
    key = (repr(model), rows.reddening.dims)
    if key not in _COMPILED:
        _COMPILED[key] = CompiledPosterior(model, rows, "quantile")
    return _COMPILED[key]


def exact_posterior(sky, n_draw=4000, seed=1) -> xr.DataTree:
    """Return independent draws of the linear model's posterior, by the closed form."""
    rng = np.random.default_rng(seed)
    rows = compress(sky)
    target = Target(compiled(Linear(), rows), rows, [None] * sky.sizes["superpixel"])
    mean = np.array([RHO[0], *5 * [OFFSET[0]]])
    sd = np.array([RHO[1], *5 * [OFFSET[1]]])
    theta = np.empty((4, n_draw // 4, target.n_block, target.n_parameter))
    everything = np.ones(sky.sizes["pixel"], dtype=bool)
    for position in range(target.n_block):
        centre, covariance = Exact.of(sky, position).posterior(everything)
        natural = rng.multivariate_normal(centre, covariance, size=theta.shape[:2])
        standard = (natural - mean) / sd
        for slot in target.posterior.slots:
            own = slice(0, 1) if slot.name == "rho" else slice(1, 6)
            theta[:, :, position, slot.columns] = standard[..., own]
    attrs = {"method": "nuts", "settings": "{}", "seed": seed}
    return to_tree(target, Draws(theta), attrs)
