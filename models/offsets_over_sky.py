"""Zero levels of the maps, one for the whole sky."""

from pymcdust.modeling.parameter import Prior, over_sky
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel


class OffsetsOverSky(TemperaturePerVoxel):
    """The base case plus one offset of every band, the same over the sky.

    The O_nu of Eq. 3 (Zelko et al. 2022): a monopole, such as the cosmic infrared background or
    the zero level of a map. It couples all superpixels.
    """

    offset = over_sky(Prior("Normal", mu=0.0, sigma=5.0), unit="MJy/sr")
