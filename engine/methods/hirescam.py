"""HiResCAM: ``sum_c G_c A_c``."""

from __future__ import annotations

from shardcam.engine.methods.class_gradients import gradients
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def hirescam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Multiply element by element, so that the map shows what the class score used (equation 4)."""
    return combine.elements(layer.activation, gradients(layer, targets))


HIRESCAM = CamMethod(
    hirescam,
    "Draelos & Carin, 2020, arXiv:2011.08891",
    GRADIENT,
    cost=(1.01, 1.02),
)
