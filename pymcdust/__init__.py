"""pymcdust: the temperature of interstellar dust in three dimensions."""

from pymcdust import models
from pymcdust.modeling.parameter import Prior, fixed, over_sky, per_superpixel, per_voxel
from pymcdust.modeling.voxel_mbb import VoxelMBB

__version__ = "0.1.0"

__all__ = [
    "Prior",
    "VoxelMBB",
    "fixed",
    "models",
    "over_sky",
    "per_superpixel",
    "per_voxel",
]
