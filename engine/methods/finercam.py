"""Finer-CAM: Grad-CAM of how a class differs from those most like it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shardcam.engine.methods.class_gradients import one_hot, stacked
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine
from shardcam.engine.methods.scores import softmax
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

SIMILAR = 3  # classes compared with


def finercam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Explain the logit less the weighted logits of the nearest classes (equation 4)."""
    weights = (layer.gradient(d).mean(axis=(2, 3)) for d in _directions(layer.logits, targets))
    return combine.channels(layer.activation, stacked(weights))


def _directions(logits: F4, targets: I4) -> Iterator[F4]:
    """K times (N,classes): the gradient of ``z_t - sum_j p_j z_j`` with regard to the logits.

    j runs over the classes whose logits are nearest to the target's, and p is the softmax over
    these, itself a function of the logits, as in pytorch-grad-cam.
    """
    rows = np.arange(len(logits))[:, None]
    for column in targets.T:
        distance = np.abs(logits - logits[rows, column[:, None]])
        distance[rows, column[:, None]] = np.inf
        near = np.argsort(distance, axis=1, kind="stable")[:, : min(SIMILAR, logits.shape[1] - 1)]
        direction = one_hot(column, logits.shape[1])
        if near.shape[1]:
            scores = logits[rows, near]
            share = softmax(scores)
            mean = (share * scores).sum(axis=1, keepdims=True)
            direction[rows, near] -= share * (1 + scores - mean)
        yield direction


FINERCAM = CamMethod(
    finercam,
    "Zhang et al., CVPR 2025, arXiv:2501.11309",
    GRADIENT,
    cost=(1.01, 1.03),
)
