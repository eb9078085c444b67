"""Numba kernels for class activation maps; `tests/kernels/reference.py` has a NumPy twin of each.

Every function takes C-contiguous arrays of one dtype, read-only or not, and refuses others
with a TypeError or ValueError that names the argument. The first line of its docstring gives
the shapes. All release the GIL and none starts a thread.
"""

from __future__ import annotations

import numpy as np

from shardcam.kernels._jit import cache_directory
from shardcam.kernels.argmax_histogram import argmax_histogram
from shardcam.kernels.blurring import blur
from shardcam.kernels.box_overlaps import IOU_UNIT, box_overlaps
from shardcam.kernels.checksum import fletcher32
from shardcam.kernels.component_boxes import contour_boxes, largest_boxes
from shardcam.kernels.half_precision import to_half
from shardcam.kernels.heatmap import heatmap_u8, normalize, upsample
from shardcam.kernels.imputation import add_noise, impute
from shardcam.kernels.map_similarity import similarity, ssim
from shardcam.kernels.masking import multiply, switch
from shardcam.kernels.overlay import overlay
from shardcam.kernels.packing import lzw_length, packbits_length
from shardcam.kernels.permutohedral import Permutohedral
from shardcam.kernels.preprocess import planar
from shardcam.kernels.ranking import ranks
from shardcam.kernels.regions import run_lengths
from shardcam.kernels.resizing import resize
from shardcam.kernels.score_histogram import score_histogram
from shardcam.kernels.weighting import (
    ALL_ZERO,
    CONSTANT,
    NON_FINITE,
    product_sum,
    scale_maps,
    weighted_sum,
)

__all__ = [
    "ALL_ZERO",
    "CONSTANT",
    "IOU_UNIT",
    "NON_FINITE",
    "Permutohedral",
    "add_noise",
    "argmax_histogram",
    "blur",
    "box_overlaps",
    "cache_directory",
    "contour_boxes",
    "fletcher32",
    "heatmap_u8",
    "impute",
    "largest_boxes",
    "lzw_length",
    "multiply",
    "normalize",
    "overlay",
    "packbits_length",
    "planar",
    "product_sum",
    "ranks",
    "resize",
    "run_lengths",
    "scale_maps",
    "score_histogram",
    "similarity",
    "ssim",
    "switch",
    "to_half",
    "upsample",
    "warm_up",
    "weighted_sum",
]


def warm_up() -> None:
    """Run every kernel that extraction may use once, so that each is compiled, or loaded, before
    anything is timed. Those of metrics are not among them.

    Takes about 5 s the first time on a machine and 0.3 s in each process after that. A
    damaged cache is deleted and compiled anew.
    """
    maps = np.ones((1, 1, 1, 1), np.float32)
    image = np.zeros((1, 1, 3), np.uint8)
    ones = np.ones(3, np.float32)
    scale_maps(weighted_sum(maps, maps[0]))
    product_sum(maps, maps, "none")
    normalize(maps[0])
    upsample(maps[0], (1, 1))
    heatmap_u8(maps[0], (1, 1))
    overlay(maps[0, 0], image, np.zeros((256, 3), np.uint8), peak_normalize=True)
    fletcher32(image.reshape(-1))
    to_half(ones, out=np.empty(3, np.float16))
    lzw_length(image.reshape(-1))
    packbits_length(image.reshape(-1))
    planar(image, ones, ones, out=np.empty((3, 1, 1), np.float32))
    resize(image, (0, 0, 1, 1), (2, 2))
    run_lengths(np.ones((1, 1), np.int32), 1, (0, 0, 1, 1))
