"""Element-wise Grad-CAM: ``sum_c relu(G_c A_c)``."""

from __future__ import annotations

from shardcam.engine.methods.class_gradients import gradients
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def gradcam_elementwise(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Multiply element by element and keep what speaks for the class, channel by channel."""
    return combine.elements(layer.activation, gradients(layer, targets), relu="product")


GRADCAM_ELEMENTWISE = CamMethod(
    gradcam_elementwise, "pytorch-grad-cam (no paper)", GRADIENT, cost=(1.01, 1.03)
)
