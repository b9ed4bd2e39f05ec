"""pymcdust: the temperature of interstellar dust in three dimensions."""

from pymcdust import models
from pymcdust.infer.engine import fit_map
from pymcdust.infer.posterior import open_posterior
from pymcdust.infer.sampling import sample
from pymcdust.judge.comparison import compare, open_comparison
from pymcdust.judge.prior_study import PriorStudy
from pymcdust.judge.report import report
from pymcdust.judge.sensitivity import sensitivity
from pymcdust.modeling.mock import simulate_sky
from pymcdust.modeling.parameter import Prior, fixed, over_sky, per_superpixel, per_voxel
from pymcdust.modeling.voxel_mbb import VoxelMBB
from pymcdust.products.query import DustTemperatureQuery
from pymcdust.sky.compression import compress
from pymcdust.sky.dataset import build_sky, open_sky, save_sky, split_superpixels
from pymcdust.sky.download import download
from pymcdust.sky.prepare import prepare_sky

__version__ = "0.1.0"

__all__ = [
    "DustTemperatureQuery",
    "Prior",
    "PriorStudy",
    "VoxelMBB",
    "build_sky",
    "compare",
    "compress",
    "download",
    "fit_map",
    "fixed",
    "models",
    "open_comparison",
    "open_posterior",
    "open_sky",
    "over_sky",
    "per_superpixel",
    "per_voxel",
    "prepare_sky",
    "report",
    "sample",
    "save_sky",
    "sensitivity",
    "simulate_sky",
    "split_superpixels",
]
