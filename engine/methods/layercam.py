"""LayerCAM: ``sum_c relu(G_c) A_c``."""

from __future__ import annotations

from shardcam.engine.methods.class_gradients import gradients
from shardcam.engine.methods.combine import GRADIENT, CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def layercam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Weight each value by its own positive gradient; meant for early layers too (equation 6)."""
    return combine.elements(layer.activation, gradients(layer, targets), relu="factor")


LAYERCAM = CamMethod(layercam, "Jiang et al., TIP 2021", GRADIENT, cost=(1.01, 1.03))
