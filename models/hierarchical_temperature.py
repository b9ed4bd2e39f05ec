"""The mean and the scatter of temperature are learnt from the sky."""

from pymcdust.modeling.parameter import Prior, per_voxel
from pymcdust.models.temperature_per_voxel import TemperaturePerVoxel


class HierarchicalTemperature(TemperaturePerVoxel):
    """One temperature per voxel, from a population whose mean and scatter are inferred.

    Voxels with much dust teach those with little what to expect. The scatter is kept above 0.5 K:
    a maximum of the joint density would otherwise shrink it, and with it every difference between
    voxels, to nothing. Judge the scatter by sampling.
    """

    temperature = per_voxel(
        Prior(
            "TruncatedNormal",
            mu=Prior("Normal", mu=18.1, sigma=3.0),
            sigma=Prior("TruncatedNormal", mu=2.0, sigma=2.0, lower=0.5, upper=10.0),
            lower=5.0,
            upper=100.0,
        ),
        unit="K",
    )
