"""ShapleyCAM: ``sum_c mean(G_c - (H A)_c / 2) A_c``, H the Hessian of the score."""

from __future__ import annotations

import numpy as np

from shardcam.engine.methods.class_gradients import mean_gradient, one_hot
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

STEP = 0.01


def shapleycam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Add the second order to Grad-CAM's weights (equation 17).

    The Hessian times A is the slope of the gradient along A, taken as a central difference
    over 1 % of A each way: MXNet's operators have no second derivatives. It is 0 where all
    operators of the head are piecewise linear, as automatic differentiation has it. In a head
    that has both kinds it counts the kinks of ReLU and max-pooling that these 2 % cross, which
    automatic differentiation does not.
    """
    weights = mean_gradient(layer, targets)
    if not layer.piecewise_linear:
        weights = weights - _curvature(layer, targets) / 2
    return combine.channels(layer.activation, weights)


def _curvature(layer: LayerView, targets: I4) -> F4:
    """(N,K,C) spatial means of the Hessian times A."""
    activation, classes = layer.activation, layer.classes
    images, targets_each = targets.shape
    curvature = np.empty((images, targets_each, activation.shape[1]), np.float32)
    for start in range(0, images, layer.head_rows):
        part = np.arange(start, min(start + layer.head_rows, images), dtype=np.int32)
        for k in range(targets_each):
            direction = one_hot(targets[part, k], classes)
            up, down = (
                layer.at(activation[part] * np.float32(1 + step), part, True).gradient(direction)
                for step in (STEP, -STEP)
            )
            curvature[part, k] = (up - down).mean(axis=(2, 3)) / np.float32(2 * STEP)
    return curvature


SHAPLEYCAM = CamMethod(shapleycam, "Cai, 2025, arXiv:2501.06261", GRADIENT, cost=(1.01, 1.03))
