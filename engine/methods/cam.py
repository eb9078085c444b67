"""CAM (Zhou et al., CVPR 2016, equation 2): ``sum_c W[t,c] A_c``."""

from __future__ import annotations

from engine.protocols import LayerView
from engine.types import F4, I4
from kernels import weighted_sum


def cam(layer: LayerView, targets: I4) -> F4:
    """Weight each channel by the dense layer's weight for the class.

    ``(N,C,h,w) . (N,K) -> (N,K,h,w)`` raw maps, float32, before ReLU.

    Raises
    ------
    ConfigError
        The network has no global average pooling and dense layer after this one.
    """
    return weighted_sum(layer.activation, layer.class_weights(targets))
