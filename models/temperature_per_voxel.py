"""The model of the paper."""

from math import log

from pymcdust.modeling.parameter import Prior, fixed, per_superpixel, per_voxel
from pymcdust.modeling.voxel_mbb import VoxelMBB


class TemperaturePerVoxel(VoxelMBB):
    """One temperature per voxel; beta and rho shared along the sightline.

    The base case of Zelko et al. (2022, Sec. 4.1): the radiation field, and with it the
    temperature, changes along the sightline, while the grains stay the same.
    """

    temperature = per_voxel(
        Prior("TruncatedNormal", mu=18.1, sigma=9.0, lower=5.0, upper=100.0), unit="K"
    )
    beta = per_superpixel(Prior("TruncatedNormal", mu=1.6, sigma=0.3, lower=1.0, upper=3.0))
    rho = per_superpixel(Prior("LogNormal", mu=log(1e-4), sigma=1.0), unit="mag-1")
    offset = fixed(0.0, unit="MJy/sr")
