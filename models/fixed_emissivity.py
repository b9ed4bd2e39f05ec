"""Only temperature is inferred."""

from pymcdust.modeling.parameter import fixed
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel


class FixedEmissivity(TemperaturePerVoxel):
    """One temperature per voxel, with beta and rho at the values of the diffuse sky.

    What is left when the grains are taken to be known: beta = 1.62, the mean over the sky, and
    rho = 6.7e-5 per magnitude, both of Planck 2013 results XI.
    """

    beta = fixed(1.62)
    rho = fixed(6.7e-5, unit="mag-1")
