"""Ablation-CAM: ``sum_c ((S - S without channel c) / S) A_c``."""

from __future__ import annotations

import numpy as np

from shardcam.engine.methods.combine import CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def ablationcam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Weight each channel by the share of the score that is lost without it (equation 3)."""
    score = np.take_along_axis(layer.logits, targets, axis=1)[..., None]
    lost = _closed_form(layer, targets) if layer.closed_form else score - _ablated(layer, targets)
    with np.errstate(divide="ignore", invalid="ignore"):  # a score of 0: the map is flagged
        weights: F4 = lost / score
    return combine.channels(layer.activation, np.ascontiguousarray(weights))


def _closed_form(layer: LayerView, targets: I4) -> F4:
    """(N,K,C): behind global average pooling a channel adds weight * mean to the score."""
    means = layer.activation.mean(axis=(2, 3))
    lost: F4 = layer.class_weights(targets) * means[:, None]
    return lost


def _ablated(layer: LayerView, targets: I4) -> F4:
    """(N,K,C) scores with one channel zeroed, through the head only."""
    activation = layer.activation
    images, channels = activation.shape[:2]
    scores = np.empty((images, targets.shape[1], channels), np.float32)
    for n in range(images):
        for start in range(0, channels, layer.head_rows):
            stop = min(start + layer.head_rows, channels)
            variants = np.repeat(activation[n : n + 1], stop - start, axis=0)
            variants[np.arange(stop - start), np.arange(start, stop)] = 0
            head = layer.at(variants, np.full(stop - start, n, np.int32))
            scores[n, :, start:stop] = head.logits[:, targets[n]].T
    return scores


ABLATIONCAM = CamMethod(
    ablationcam, "Ramaswamy & Desai, WACV 2020", "C head forwards", cost=(1.02, 6.4), many=True
)
