"""Every voxel a modified blackbody of its own."""

from math import log

from pymcdust.modeling.parameter import Prior, per_voxel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel


class AllPerVoxel(TemperaturePerVoxel):
    """Temperature, beta and rho per voxel: nothing is tied.

    The most general form of Eq. 4 (Zelko et al. 2022). Five bands can just carry three parameters
    for each voxel, where the voxels' morphologies differ enough to be told apart.
    """

    beta = per_voxel(Prior("TruncatedNormal", mu=1.6, sigma=0.3, lower=1.0, upper=3.0))
    rho = per_voxel(Prior("LogNormal", mu=log(1e-4), sigma=1.0), unit="mag-1")
