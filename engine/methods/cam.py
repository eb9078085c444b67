"""CAM: ``sum_c W[t,c] A_c``."""

from __future__ import annotations

from shardcam.engine.methods.combine import FORWARD, CamMethod, Combine
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def cam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Weight each channel by the dense layer's weight for the class (equation 2).

    Raises
    ------
    ConfigError
        The network has no global average pooling and dense layer after this one.
    """
    return combine.channels(layer.activation, layer.class_weights(targets))


CAM = CamMethod(cam, "Zhou et al., CVPR 2016", FORWARD, cost=(1, None))
