"""FEM: channels weighted by how often they are far above their own mean."""

from __future__ import annotations

import numpy as np

from shardcam.engine.methods.combine import FORWARD, CamMethod, Combine
from shardcam.engine.methods.eigencam import for_each_target
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4
from shardcam.kernels import weighted_sum

DEVIATIONS = 2


def fem(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Weight each channel by the share of values above mean + 2 deviations, as pytorch-grad-cam.

    The class plays no part.
    """
    activation = layer.activation
    mean = activation.mean(axis=(2, 3), keepdims=True)
    deviation = activation.std(axis=(2, 3), keepdims=True)
    weights = (activation > mean + DEVIATIONS * deviation).mean(axis=(2, 3), dtype=np.float32)
    return for_each_target(weighted_sum(activation, weights[:, None])[:, 0], targets)


FEM = CamMethod(
    fem,
    "Fuad et al., IPTA 2020",
    FORWARD,
    cost=(1.01, 1.0),
    terms=False,
    per_class=False,
)
