"""Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2): ``sum_c mean(G_c) A_c``."""

from __future__ import annotations

from engine.protocols import LayerView
from engine.types import F4, I4
from kernels import weighted_sum


def gradcam(layer: LayerView, targets: I4) -> F4:
    """Weight each channel by the spatial mean of its gradient.

    ``(N,C,h,w) . (N,K) -> (N,K,h,w)`` raw maps, float32, before ReLU.
    """
    return weighted_sum(layer.activation, layer.mean_gradient(targets))
