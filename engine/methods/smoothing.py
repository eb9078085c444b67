"""Maps averaged over changed copies of the images: pytorch-grad-cam's `aug_smooth`."""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace

from shardcam.engine.methods.arrays import contiguous, normalize, positive, upsample
from shardcam.engine.protocols import ForwardPass, Method, Network
from shardcam.engine.types import F4, I4

FACTORS = (0.9, 1.0, 1.1)  # on the normalised input
COPIES = tuple((factor, mirrored) for mirrored in (False, True) for factor in FACTORS)


def plain_maps(forward: ForwardPass, network: Network, method: Method, target: I4) -> dict[str, F4]:
    """(N,K) classes -> (N,K,h,w) raw maps of every layer of a forward pass."""
    return {info.name: method(forward.layer(info.name), target) for info in network.layers}


def smoothed_maps(network: Network, method: Method, images: F4, target: I4) -> dict[str, F4]:
    """(N,K) classes -> (N,K,h,w) maps of every layer, none negative: the mean over six copies.

    The images are multiplied by 0.9, 1 and 1.1 and mirrored left to right; each copy's map is
    stretched as its heatmap would be, and mirrored back. Enlarging the mean is the mean of the
    enlarged maps, but for a constant: a map that dips below 0 between the heatmap's pixels is
    raised to 0. Earlier passes of the network are no longer valid.
    """
    mean: dict[str, F4] = {}
    for factor, mirrored in COPIES:
        copies = images * np.float32(factor)
        forward = network.forward(_mirror(copies) if mirrored else copies)
        for name, raw in plain_maps(forward, network, method, target).items():
            part = _stretched(raw, images.shape[2:]) / len(COPIES)
            mean[name] = (_mirror(part) if mirrored else part) + mean.get(name, 0.0)
    return {name: _raised(maps) for name, maps in mean.items()}


def _raised(maps: F4) -> F4:
    lowest = array_namespace(maps).min(maps, axis=(2, 3), keepdims=True)
    return maps + positive(-lowest)


def _mirror(pictures: F4) -> F4:
    return contiguous(array_namespace(pictures).flip(pictures, axis=-1))


def _stretched(raw: F4, size: tuple[int, ...]) -> F4:
    """(N,K,h,w): to [0, 1], so that the enlarged map reaches 0 and 1 (see `kernels.heatmap_u8`)."""
    xp = array_namespace(raw)
    normalized = normalize(raw.reshape(-1, *raw.shape[2:]))
    enlarged = upsample(normalized, (size[0], size[1]))
    low = xp.min(enlarged, axis=(1, 2), keepdims=True)
    high = xp.max(enlarged, axis=(1, 2), keepdims=True)
    stretched = (normalized - low) / (high - low + 1e-7)
    finite = xp.all(xp.isfinite(raw), axis=(2, 3), keepdims=True)  # else the mean is flagged
    part: F4 = xp.where(finite, stretched.reshape(raw.shape), np.nan)
    return part
