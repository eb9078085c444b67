"""Eigen-CAM: the first principal component of A."""

from __future__ import annotations

import numpy as np

from shardcam.engine.methods.combine import FORWARD, CamMethod, Combine
from shardcam.engine.methods.components import first_component
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def eigencam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Project the activations on their main direction; the class plays no part."""
    return for_each_target(first_component(layer.activation), targets)


def for_each_target(maps: F4, targets: I4) -> F4:
    """(N,h,w), (N,K) -> (N,K,h,w): the same map for every class."""
    return np.repeat(maps[:, None], targets.shape[1], axis=1)


EIGENCAM = CamMethod(
    eigencam,
    "Muhammad & Yeasin, IJCNN 2020",
    FORWARD,
    cost=(1.03, 1.03),
    terms=False,
    per_class=False,
)
