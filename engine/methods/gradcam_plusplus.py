"""Grad-CAM++: ``sum_c (sum alpha_c relu(G_c)) A_c``."""

from __future__ import annotations

import numpy as np

from shardcam.engine.methods.class_gradients import gradients, spatial_sum, stacked
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

_EPSILON = np.float32(1e-6)


def gradcam_plusplus(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Weight each channel by its positive gradients, each by its alpha (equations 10, 11, 19)."""
    activation = layer.activation
    total = activation.sum(axis=(2, 3), keepdims=True)
    weights = (
        spatial_sum(alpha(g**2, g**3, total) * np.maximum(g, 0), layer)
        for g in gradients(layer, targets)
    )
    return combine.channels(activation, stacked(weights))


def alpha(second: F4, third: F4, total: F4) -> F4:
    """``G^2 / (2 G^2 + (sum A) G^3 + 1e-6)``, 0 where there is no gradient.

    As in pytorch-grad-cam; torchcam has ``sum(A G^3)`` in the denominator.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # the map is flagged
        coefficient: F4 = second / (2 * second + total * third + _EPSILON)
    return np.where(second != 0, coefficient, np.float32(0))


GRADCAM_PLUSPLUS = CamMethod(
    gradcam_plusplus, "Chattopadhay et al., WACV 2018", GRADIENT, cost=(1.01, 1.03)
)
