"""The published method: Powell's, by SciPy, on the pixels of one superpixel after the other."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import xarray as xr
from scipy.optimize import minimize

from pymcdust.modeling.parameter import Prior, per_superpixel, per_voxel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel
from pymcdust.physics.bands import REFERENCE_FREQUENCY
from pymcdust.physics.blackbody import PLANCK_OVER_BOLTZMANN, RADIANCE_SCALE

#: Bounds and start of the published code, prior of T of the paper (Zelko et al. 2022, Sec. 3.1.1).
BOUNDS: dict[str, tuple[float, float]] = {
    "rho": (1e-6, 1e3),
    "beta": (1.0, 3.0),
    "temperature": (5.0, 100.0),
}
START: dict[str, float] = {"rho": 1e-4, "beta": 1.53, "temperature": 18.8}
PRIOR_MEAN, PRIOR_SD = 18.1, 9.0


@dataclass(frozen=True)
class PowellFit:
    """Where Powell's method ended, and what it took."""

    objective: float
    seconds: float
    evaluations: int


class Objective:
    """Minus twice the log posterior of one superpixel (Eq. A1), of ``[rho, beta, T_1 ... T_N]``.

    What does not depend on the parameters is computed beforehand, the pixels enter by one matrix
    product: this is less than half the work of the published code's expression.

    Parameters
    ----------
    superpixel : xarray.Dataset
        A sky, without its dimension `superpixel`.
    """

    def __init__(self, superpixel: xr.Dataset) -> None:
        sigma = superpixel.sigma.values
        frequency = superpixel.frequency.values
        self.reddening = superpixel.reddening.values.astype(float)
        self.emission = superpixel.emission.values.astype(float) / sigma
        self.relative_frequency = frequency / REFERENCE_FREQUENCY
        self.energy = PLANCK_OVER_BOLTZMANN * frequency
        self.scale = RADIANCE_SCALE * frequency**3 / sigma

    def __call__(self, parameters: np.ndarray) -> float:
        """Evaluate the objective."""
        rho, beta, temperature = parameters[0], parameters[1], parameters[2:]
        power_law = rho * self.relative_frequency**beta * self.scale
        emissivity = power_law / np.expm1(self.energy / temperature[:, None])
        residual = self.reddening @ emissivity - self.emission
        return np.vdot(residual, residual) + (((temperature - PRIOR_MEAN) / PRIOR_SD) ** 2).sum()


class PublishedExpression(Objective):
    """The same number by the steps of the published code.

    Frequencies, outer products and the division by an array of sigmas, one for each pixel and
    band, are part of every evaluation; so are offsets, which are zero.
    """

    def __init__(self, superpixel: xr.Dataset) -> None:
        self.reddening = superpixel.reddening.values.astype(float)
        self.emission = superpixel.emission.values.astype(float)
        self.frequency = superpixel.frequency.values
        self.sigma = np.tile(superpixel.sigma.values, (len(self.emission), 1))
        self.offset = np.zeros(len(self.frequency))

    def __call__(self, parameters: np.ndarray) -> float:
        """Evaluate the objective."""
        temperature = parameters[2:]
        ones = np.ones(len(temperature))
        rho, beta = parameters[0] * ones, parameters[1] * ones
        energy = np.outer(1 / temperature, PLANCK_OVER_BOLTZMANN * self.frequency)
        black_body = RADIANCE_SCALE * self.frequency**3 / (np.exp(energy) - 1)
        power_law = rho * np.outer(self.frequency / REFERENCE_FREQUENCY, ones) ** beta
        emission = np.dot(self.reddening, power_law.T * black_body) + self.offset
        chi2 = np.sum(((self.emission - emission) / self.sigma) ** 2)
        return chi2 + np.sum(((temperature - PRIOR_MEAN) / PRIOR_SD) ** 2)


@dataclass(frozen=True, eq=False)
class Rival:
    """A way to run Powell's method.

    Parameters
    ----------
    name : str
        What it is called in tables.
    expression : type of Objective
        How the objective is computed.
    options : dict
        Options of SciPy's method.
    """

    name: str
    expression: type[Objective]
    options: dict[str, float]


#: The published call leaves SciPy's tolerances (1e-4) as they are; the tight one is written in the
#: same code, but not handed on.
RIVALS: tuple[Rival, ...] = (
    Rival("Powell, as published", PublishedExpression, {}),
    Rival("Powell, leaner objective", Objective, {}),
    Rival("the same, `ftol=1e-9`", Objective, {"ftol": 1e-9}),
)


def powell(superpixel: xr.Dataset, rival: Rival) -> PowellFit:
    """Fit one superpixel by Powell's method.

    Parameters
    ----------
    superpixel : xarray.Dataset
        A sky, without its dimension `superpixel`.
    rival : Rival
        How.
    """
    objective = rival.expression(superpixel)
    n_voxel = superpixel.sizes["voxel"]
    start = [START["rho"], START["beta"], *[START["temperature"]] * n_voxel]
    bounds = [BOUNDS["rho"], BOUNDS["beta"], *[BOUNDS["temperature"]] * n_voxel]
    # In units of the start, as in the published code.
    scale = np.array(start)
    began = perf_counter()
    result = minimize(
        lambda scaled: objective(scaled * scale),
        np.ones(len(scale)),
        method="Powell",
        bounds=np.array(bounds) / scale[:, None],
        options=rival.options,
    )
    return PowellFit(float(result.fun), perf_counter() - began, int(result.nfev))


def published_model() -> TemperaturePerVoxel:
    """Return the model with the published priors: flat in beta and rho, inside their bounds."""

    def flat(name: str) -> Prior:
        lower, upper = BOUNDS[name]
        return Prior("Uniform", lower=lower, upper=upper)

    lower, upper = BOUNDS["temperature"]
    around = Prior("TruncatedNormal", mu=PRIOR_MEAN, sigma=PRIOR_SD, lower=lower, upper=upper)
    return TemperaturePerVoxel(
        temperature=per_voxel(around, unit="K"),
        beta=per_superpixel(flat("beta")),
        rho=per_superpixel(flat("rho"), unit="mag-1"),
    )
