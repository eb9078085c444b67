"""Eigen-Grad-CAM: the first principal component of ``G_c A_c``."""

from __future__ import annotations

from shardcam.engine.methods.class_gradients import gradients
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine, FirstComponent
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def eigengradcam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Eigen-CAM with class discrimination: HiResCAM's terms in place of the activations."""
    return FirstComponent().elements(layer.activation, gradients(layer, targets))


EIGENGRADCAM = CamMethod(
    eigengradcam, "pytorch-grad-cam (no paper)", GRADIENT, cost=(1.06, 1.09), terms=False
)
