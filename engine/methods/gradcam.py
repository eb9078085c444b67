"""Grad-CAM: ``sum_c mean(G_c) A_c``."""

from __future__ import annotations

from shardcam.engine.methods.class_gradients import mean_gradient
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def gradcam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Weight each channel by the spatial mean of its gradient (equations 1 and 2)."""
    return combine.channels(layer.activation, mean_gradient(layer, targets))


GRADCAM = CamMethod(gradcam, "Selvaraju et al., ICCV 2017", GRADIENT, cost=(1.01, 1.03))
