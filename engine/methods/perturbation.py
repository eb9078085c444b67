"""Channels weighted by what the score becomes with one of them alone, or without it."""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace, device

from shardcam.engine.methods.arrays import contiguous, like
from shardcam.engine.methods.class_gradients import spatial_mean
from shardcam.engine.methods.combine import Combine
from shardcam.engine.methods.registry import cam_method
from shardcam.engine.methods.scores import softmax
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

MASK_EPSILON = 1e-8


@cam_method(
    "scorecam",
    paper="Wang et al., CVPRW 2020",
    needs="a forward pass per channel",
    multi_pass=True,
    passes=lambda layer: (layer.shape[0], 0),
)
def scorecam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c softmax_c(logit of the image masked by A_c) A_c`` (algorithm 1)."""
    activation = layer.activation
    images, channels = activation.shape[:2]
    scores = np.empty((images, targets.shape[1], channels), np.float32)
    pictures = like(layer.images, activation)
    for n in range(images):
        for start in range(0, channels, layer.network_rows):
            part = slice(start, start + layer.network_rows)
            masked = _masks(activation[n, part], pictures.shape[2:])[:, None] * pictures[n]
            scores[n, :, part] = layer.of(masked).logits[:, targets[n]].T
    weights = softmax(scores.reshape(-1, channels)).reshape(scores.shape)
    return combine.channels(activation, weights)


def _masks(channels: F4, size: tuple[int, ...]) -> F4:
    """(M,h,w) -> (M,H,W): enlarged, each stretched to [0, 1]."""
    xp = array_namespace(channels)
    axes = zip(channels.shape[1:], size, strict=True)
    down, across = (like(_bilinear(*axis), channels) for axis in axes)
    enlarged = down @ channels @ across.T
    low = xp.min(enlarged, axis=(1, 2), keepdims=True)
    high = xp.max(enlarged, axis=(1, 2), keepdims=True)
    stretched: F4 = (enlarged - low) / (high - low + MASK_EPSILON)
    return stretched


def _bilinear(source: int, target: int) -> F4:
    """(target,source) weights; the corners' centres meet (PyTorch's `align_corners`).

    Heatmaps have half-pixel centres; Score-CAM as it is known, pytorch-grad-cam's, does not.
    """
    position = np.linspace(0, source - 1, target)[:, None]
    return np.maximum(0, 1 - np.abs(position - np.arange(source))).astype(np.float32)


@cam_method(
    "ablationcam",
    paper="Ramaswamy & Desai, WACV 2020",
    needs="closed form, or a pass of the head per channel",
    multi_pass=True,
    passes=lambda layer: (0, 0 if layer.closed_form else layer.shape[0]),
)
def ablationcam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c ((S - S without channel c) / S) A_c`` (equation 3)."""
    score = np.take_along_axis(layer.logits, targets, axis=1)[..., None]
    lost = _closed_form(layer, targets) if layer.closed_form else score - _ablated(layer, targets)
    with np.errstate(divide="ignore", invalid="ignore"):  # a score of 0: the map is flagged
        weights: F4 = lost / like(score, lost)
    return combine.channels(layer.activation, contiguous(weights))


def _closed_form(layer: LayerView, targets: I4) -> F4:
    """(N,K,C): behind global average pooling a channel adds weight * mean to the score."""
    lost: F4 = layer.class_weights(targets) * spatial_mean(layer.activation)[:, None]
    return lost


def _ablated(layer: LayerView, targets: I4) -> F4:
    """(N,K,C) scores with one channel zeroed, through the head only."""
    activation = layer.activation
    xp = array_namespace(activation)
    images, channels = activation.shape[:2]
    scores = np.empty((images, targets.shape[1], channels), np.float32)
    for n in range(images):
        for start in range(0, channels, layer.head_rows):
            stop = min(start + layer.head_rows, channels)
            each = xp.eye(stop - start, channels, k=start, dtype=xp.bool, device=device(activation))
            variants = xp.where(each[..., None, None], 0.0, activation[n])
            head = layer.at(variants, np.full(stop - start, n, np.int32))
            scores[n, :, start:stop] = head.logits[:, targets[n]].T
    return scores
