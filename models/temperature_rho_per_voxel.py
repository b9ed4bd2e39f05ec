"""Temperature and emission per reddening change along the sightline."""

from math import log

from pymcdust.modeling.parameter import Prior, per_voxel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel


class TemperatureRhoPerVoxel(TemperaturePerVoxel):
    """Temperature and rho per voxel; beta shared along the sightline.

    Grain growth in dense clouds raises the far-infrared opacity for the same reddening; rho also
    takes up what the reddening map gets wrong of a voxel's column.
    """

    rho = per_voxel(Prior("LogNormal", mu=log(1e-4), sigma=1.0), unit="mag-1")
