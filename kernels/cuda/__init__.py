"""The kernels of maps and of resizing once more, for arrays in the memory of an NVIDIA GPU.

Each equals its twin in `shardcam.kernels`, not finite numbers included, but for the last bit of
a sum and the rounding of a level, and refuses the same arrays by the same messages. It takes
arrays of any library that has `__cuda_array_interface__` (torch, CuPy, Numba), where they are.
The caller allocates what it writes, `out`, and says on which CUDA stream, by number, it is to run:
0 is the default one. A call returns before the kernel has run, on the current device. Two calls
give the same bits: nothing is added up by atomic operations.

Importing this package needs no GPU. A kernel is compiled when it is first called.
"""

from __future__ import annotations

from shardcam.kernels.cuda.device_maps import product_sum, scale_maps, weighted_sum
from shardcam.kernels.cuda.device_pictures import (
    heatmap_u8,
    normalize,
    overlay,
    upsample,
)
from shardcam.kernels.cuda.device_resizing import fit_pictures, small_ranges

__all__ = [
    "fit_pictures",
    "heatmap_u8",
    "normalize",
    "overlay",
    "product_sum",
    "scale_maps",
    "small_ranges",
    "upsample",
    "weighted_sum",
]
