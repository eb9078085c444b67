"""XGrad-CAM: ``sum_c (sum(G_c A_c) / sum(A_c)) A_c``."""

from __future__ import annotations

import numpy as np

from shardcam.engine.methods.class_gradients import gradients, stacked
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

_EPSILON = np.float32(1e-7)


def xgradcam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Weight each channel by its gradient, averaged with the activation as weight (equation 8)."""
    activation = layer.activation
    total = activation.sum(axis=(2, 3)) + _EPSILON
    weights = ((g * activation).sum(axis=(2, 3)) / total for g in gradients(layer, targets))
    return combine.channels(activation, stacked(weights))


XGRADCAM = CamMethod(xgradcam, "Fu et al., BMVC 2020", GRADIENT, cost=(1.01, 1.03))
