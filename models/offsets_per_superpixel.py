"""Zero levels of the maps, inferred in each superpixel."""

from pymcdust.modeling.parameter import Prior, per_superpixel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel


class OffsetsPerSuperpixel(TemperaturePerVoxel):
    """The base case plus an offset of every band in every superpixel.

    Takes up the cosmic infrared background, a wrong zero level, and dust beyond the last voxel as
    far as it is smooth. Wide on purpose: it costs little where dust is structured.
    """

    offset = per_superpixel(Prior("Normal", mu=0.0, sigma=5.0), unit="MJy/sr")
