"""What slides over pixels, enlarges or normalises them, as MXNet 1.9.1 defines it, in PyTorch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Sides = tuple[int, ...]


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel: Sides,
    stride: Sides = (),
    dilate: Sides = (),
    pad: Sides = (),
    num_group: int = 1,
) -> Tensor:
    """(N,C,...) in one to three dimensions."""
    rank = len(kernel)
    convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    ones = (1,) * rank
    return convolve(x, weight, bias, stride or ones, pad or (0,) * rank, dilate or ones, num_group)


def deconvolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel: Sides,
    stride: Sides = (),
    dilate: Sides = (),
    pad: Sides = (),
    adj: Sides = (),
    num_group: int = 1,
    target_shape: Sides = (),  # none but zeros pass the reader
) -> Tensor:
    """The transpose of a convolution; `adj` more pixels at the end."""
    rank = len(kernel)
    convolve: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    ones, zeros = (1,) * rank, (0,) * rank
    return convolve(
        x, weight, bias, stride or ones, pad or zeros, adj or zeros, num_group, dilate or ones
    )


def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, flatten: bool = True) -> Tensor:
    """A dense layer of everything behind the first axis, or of the last axis."""
    return F.linear(x.flatten(1) if flatten else x, weight, bias)


def pooling(
    x: Tensor,
    *,
    kernel: Sides = (),
    stride: Sides = (),
    pad: Sides = (),
    pool_type: str = "max",
    pooling_convention: str = "valid",
    global_pool: bool = False,
    p_value: int | None = None,
    count_include_pad: bool | None = None,
) -> Tensor:
    """Maxima, means, sums or p-norms of windows.

    With the convention `full` a last window counts though it reaches beyond the padding, or
    begins there, and a mean divides by its part within the padding; it is 0 without such a part.
    """
    sizes = tuple(x.shape[2:])
    rank = len(sizes)
    if global_pool:
        kernel, stride, pad = sizes, (), ()
    stride, pad = stride or (1,) * rank, pad or (0,) * rank
    rooms = [n + 2 * p - k for n, p, k in zip(sizes, pad, kernel, strict=True)]
    up = pooling_convention == "full"
    counts = [(-(-r // s) if up else r // s) + 1 for r, s in zip(rooms, stride, strict=True)]
    beyond = [  # at the end of each axis
        max((count - 1) * s + k - n - p, 0)
        for count, s, k, n, p in zip(counts, stride, kernel, sizes, pad, strict=True)
    ]
    # What PyTorch pads by itself: as much at both ends, at most half a window.
    even = all(b <= p <= k // 2 for b, p, k in zip(beyond, pad, kernel, strict=True))
    widths = [w for pair in zip(pad[::-1], beyond[::-1], strict=True) for w in pair]
    window = kernel, stride, pad if even else (0,) * rank
    if pool_type == "max":
        largest: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        return largest(x if even else F.pad(x, widths, value=torch.finfo(x.dtype).min), *window)
    mean: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    area = math.prod(kernel)
    if pool_type == "lp":
        power = p_value or 2
        total = mean((x**power) if even else F.pad(x**power, widths), *window) * area
        return total if power == 1 else total.sqrt() if power == 2 else root3(total)
    if pool_type == "avg" and kernel == sizes and not any(pad):
        return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
    if even:
        included = pool_type == "sum" or count_include_pad is not False
        means: Tensor = mean(x, *window, count_include_pad=included)
        return means * area if pool_type == "sum" else means
    total = mean(F.pad(x, widths), *window) * area
    if pool_type == "sum":
        return total
    pixels = torch.ones((), device=x.device)
    for n, k, s, p, count in zip(sizes, kernel, stride, pad, counts, strict=True):
        covered = _covered(n, k, s, p, count, count_include_pad is not False)
        pixels = pixels[..., None] * constant((*covered,), x.device)
    return total / pixels.clamp(min=1).to(x.dtype)


@functools.lru_cache(maxsize=1000)
def constant(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Numbers on a device, kept: while a CUDA graph is recorded nothing may be copied there."""
    return torch.tensor(numbers, device=device)


def _covered(
    size: int, kernel: int, stride: int, pad: int, count: int, padding_counts: bool
) -> list[int]:
    """Of each window of an axis: how many of its pixels count."""
    low, high = (-pad, size + pad) if padding_counts else (0, size)
    starts = [i * stride - pad for i in range(count)]
    return [max(min(start + kernel, high) - max(start, low), 0) for start in starts]


def root3(x: Tensor) -> Tensor:
    """The real cube root."""
    return x.sign() * x.abs() ** (1 / 3)


def padded(
    x: Tensor, *, pad_width: Sides, mode: str = "constant", constant_value: float = 0.0
) -> Tensor:
    """(before, after) of each axis, of which the first two are 0."""
    widths = [w for i in range(x.ndim - 1, 1, -1) for w in pad_width[2 * i : 2 * i + 2]]
    if mode == "constant":
        return F.pad(x, widths, value=constant_value)
    return F.pad(x, widths, mode="replicate" if mode == "edge" else mode)


def nearest(x: Tensor, *, scale: int) -> Tensor:
    """Every pixel `scale` times in each direction."""
    return F.interpolate(x, scale_factor=scale, mode="nearest")


def bilinear(x: Tensor, *, height: int, width: int, align_corners: bool = True) -> Tensor:
    """Resized, without averaging."""
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=align_corners)


def adaptive_mean(x: Tensor, *, output_size: Sides = ()) -> Tensor:
    """Means of as many parts as asked for, one by default."""
    size = output_size or (1,)
    return F.adaptive_avg_pool2d(x, size * 2 if len(size) == 1 else size)


def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    eps: float = 1e-3,
    fix_gamma: bool = True,
    axis: int = 1,
) -> Tensor:
    """With the stored statistics."""
    moved = x if axis == 1 else x.movedim(axis, 1)
    y = F.batch_norm(moved, mean, variance, None if fix_gamma else gamma, beta, eps=eps)
    return y if axis == 1 else y.movedim(1, axis)


def instance_norm(x: Tensor, gamma: Tensor, beta: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Over the pixels of each channel."""
    return torch.group_norm(x, x.shape[1], _like(gamma, x), _like(beta, x), eps)


def group_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, *, num_groups: int = 1, eps: float = 1e-5
) -> Tensor:
    """Over groups of channels; a weight for each group."""
    y = torch.group_norm(x, num_groups, eps=eps)
    each = x.shape[1] // num_groups
    shape = (-1,) + (1,) * (x.ndim - 2)
    scale, shift = (_like(v, x).repeat_interleave(each).reshape(shape) for v in (gamma, beta))
    return y * scale + shift


def layer_norm(
    x: Tensor, gamma: Tensor, beta: Tensor, *, axis: int = -1, eps: float = 1e-5
) -> Tensor:
    """Over one axis."""
    y = F.layer_norm(x.movedim(axis, -1), gamma.shape, _like(gamma, x), _like(beta, x), eps)
    return y.movedim(-1, axis)


def response_norm(
    x: Tensor, *, nsize: int, alpha: float = 1e-4, beta: float = 0.75, knorm: float = 2.0
) -> Tensor:
    """Over neighbouring channels."""
    return F.local_response_norm(x, nsize, alpha, beta, knorm)


def unit_length(x: Tensor, *, eps: float = 1e-10, mode: str = "instance") -> Tensor:
    """Divided by the length of each image, position or channel."""
    axes = {"instance": range(1, x.ndim), "channel": (1,), "spatial": range(2, x.ndim)}[mode]
    return x / (x.square().sum(dim=tuple(axes), keepdim=True) + eps).sqrt()


def _like(weight: Tensor, x: Tensor) -> Tensor:
    return weight.to(x.dtype)


WINDOWS: dict[str, Callable[..., Tensor]] = {
    "BatchNorm": batch_norm,
    "Convolution": convolution,
    "Deconvolution": deconvolution,
    "FullyConnected": dense,
    "GroupNorm": group_norm,
    "InstanceNorm": instance_norm,
    "L2Normalization": unit_length,
    "LRN": response_norm,
    "LayerNorm": layer_norm,
    "Pad": padded,
    "Pooling": pooling,
    "UpSampling": nearest,
    "_contrib_AdaptiveAvgPooling2D": adaptive_mean,
    "_contrib_BilinearResize2D": bilinear,
}
