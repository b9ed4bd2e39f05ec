"""Temperature and emissivity index change along the sightline."""

from pymcdust.modeling.parameter import Prior, per_voxel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel


class TemperatureBetaPerVoxel(TemperaturePerVoxel):
    """Temperature and beta per voxel; rho shared along the sightline.

    Grains of another composition emit with another slope. Line-of-sight frequency decorrelation
    (Pelgrims et al. 2021) needs such changes: 0.29 in beta does what 11 K do.
    """

    beta = per_voxel(Prior("TruncatedNormal", mu=1.6, sigma=0.3, lower=1.0, upper=3.0))
