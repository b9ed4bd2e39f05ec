"""The classical modified blackbody."""

from pymcdust.modeling.parameter import Prior, per_superpixel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel


class SingleTemperature(TemperaturePerVoxel):
    """One temperature, beta and rho for the whole sightline: the null hypothesis.

    The modified blackbody that two-dimensional dust maps fit (Planck 2013 results XI), which
    distance cannot help: only the total reddening matters.
    """

    temperature = per_superpixel(
        Prior("TruncatedNormal", mu=18.1, sigma=9.0, lower=5.0, upper=100.0), unit="K"
    )
