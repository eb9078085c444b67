"""Changed pictures, written where the network reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import F4, require, require_out
from shardcam.kernels._jit import Kernel
from shardcam.kernels.ranking import U4

I8 = NDArray[np.int64]


def multiply(pictures: F4, masks: F4, jobs: I8, out: F4) -> F4:
    """(N,C,H,W), (P,H,W), (M,2) -> (M,C,H,W), float32, C order.

    Each job is a picture times a mask, the same for all channels.

    Parameters
    ----------
    pictures : (N, C, H, W) float32
        What a network is given.
    masks : (P, H, W) float32
        Without unit.
    jobs : (M, 2) int64
        Which picture, and which mask.
    out : (M, C, H, W) float32
        Written, and returned.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape, is not C-contiguous, or a job names what there
        is not.
    """
    n, c, h, w = require("pictures", pictures, np.float32, "N", "C", "H", "W")
    p, _, _ = require("masks", masks, np.float32, "M", h, w)
    count = _require_jobs(jobs, n, p)
    require_out("out", out, np.float32, count, c, h, w)
    flat = (c, h * w)
    inputs = pictures.reshape(n, *flat), masks.reshape(p, -1), jobs
    _multiply(*inputs, out=(out.reshape(count, *flat),))
    return out


def switch(pictures: F4, ranks: U4, jobs: I8, out: F4) -> F4:
    """(N,C,H,W), (P,H,W), (M,4) -> (M,C,H,W), float32 and uint32, C order.

    Each job is a picture with the pixels of the lowest ranks taken from another one.

    Parameters
    ----------
    pictures : (N, C, H, W) float32
        What a network is given.
    ranks : (P, H, W) uint32
        As `kernels.ranks` makes them.
    jobs : (M, 4) int64
        From which picture the pixels of the lowest ranks are, from which the others, by which
        ranks, and how many of the lowest.
    out : (M, C, H, W) float32
        Written, and returned.

    Raises
    ------
    TypeError, ValueError
        If an array has another dtype or shape, is not C-contiguous, or a job names what there
        is not.
    """
    n, c, h, w = require("pictures", pictures, np.float32, "N", "C", "H", "W")
    p, _, _ = require("ranks", ranks, np.uint32, "M", h, w)
    count = _require_jobs(jobs, n, n, p, h * w + 1)
    require_out("out", out, np.float32, count, c, h, w)
    flat = (c, h * w)
    inputs = pictures.reshape(n, *flat), ranks.reshape(p, -1), jobs
    _switch(*inputs, out=(out.reshape(count, *flat),))
    return out


def _require_jobs(jobs: I8, *limits: int) -> int:
    """The number of jobs, whose numbers are each from 0 to below its column's limit."""
    count, _ = require("jobs", jobs, np.int64, "M", len(limits))
    if count and not (jobs.min() >= 0 and (jobs < limits).all()):
        raise ValueError(f"jobs: expected numbers from 0 to below {', '.join(map(str, limits))}")
    return count


@Kernel
def _multiply(pictures: F4, masks: F4, jobs: I8, out: F4) -> None:
    _, channels, pixels = out.shape
    for m in range(len(jobs)):
        picture, mask = pictures[jobs[m, 0]], masks[jobs[m, 1]]
        for c in range(channels):
            for p in range(pixels):
                out[m, c, p] = picture[c, p] * mask[p]


@Kernel
def _switch(pictures: F4, ranks: U4, jobs: I8, out: F4) -> None:
    _, channels, pixels = out.shape
    for m in range(len(jobs)):
        lowest, others, rank = pictures[jobs[m, 0]], pictures[jobs[m, 1]], ranks[jobs[m, 2]]
        count = np.uint32(jobs[m, 3])
        for c in range(channels):
            for p in range(pixels):  # both are read: then LLVM vectorises it
                low, other = lowest[c, p], others[c, p]
                out[m, c, p] = low if rank[p] < count else other
