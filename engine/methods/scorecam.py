"""Score-CAM: ``sum_c softmax_c(logit of the image masked by A_c) A_c``."""

from __future__ import annotations

import numpy as np

from shardcam.engine.methods.combine import CamMethod, Combine
from shardcam.engine.methods.scores import softmax
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

_EPSILON = np.float32(1e-8)


def scorecam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Weight each channel by the score of what it lets through (algorithm 1)."""
    activation = layer.activation
    images, channels = activation.shape[:2]
    scores = np.empty((images, targets.shape[1], channels), np.float32)
    for n in range(images):
        for start in range(0, channels, layer.network_rows):
            part = slice(start, start + layer.network_rows)
            masked = masks(activation[n, part], layer.images.shape[2:])[:, None] * layer.images[n]
            scores[n, :, part] = layer.of(masked).logits[:, targets[n]].T
    weights = softmax(scores.reshape(-1, channels)).reshape(scores.shape)
    return combine.channels(activation, weights)


def masks(channels: F4, size: tuple[int, ...]) -> F4:
    """(M,h,w) -> (M,H,W): enlarged, each stretched to [0, 1]."""
    down, across = (_bilinear(*axis) for axis in zip(channels.shape[1:], size, strict=True))
    enlarged = down @ channels @ across.T
    low = enlarged.min(axis=(1, 2), keepdims=True)
    high = enlarged.max(axis=(1, 2), keepdims=True)
    stretched: F4 = (enlarged - low) / (high - low + _EPSILON)
    return stretched


def _bilinear(source: int, target: int) -> F4:
    """(target,source) weights; the corners' centres meet (PyTorch's `align_corners`).

    Heatmaps have half-pixel centres; Score-CAM as it is known, pytorch-grad-cam's, has not.
    """
    position = np.linspace(0, source - 1, target)[:, None]
    return np.maximum(0, 1 - np.abs(position - np.arange(source))).astype(np.float32)


SCORECAM = CamMethod(
    scorecam, "Wang et al., CVPRW 2020", "C forward passes", cost=(2050, 513), many=True
)
