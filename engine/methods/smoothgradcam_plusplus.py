"""Smooth Grad-CAM++: Grad-CAM++ with gradients averaged over noisy copies of the image."""

from __future__ import annotations

import numpy as np

from shardcam.engine.methods.class_gradients import one_hot, spatial_sum, stacked
from shardcam.engine.methods.combine import CamMethod, Combine
from shardcam.engine.methods.gradcam_plusplus import alpha
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

COPIES = 4
DEVIATION = 0.3  # of the noise, in the unit of the network's input


def smoothgradcam_plusplus(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Average the powers of the gradient over noisy copies (section 3), as many as torchcam's.

    The noise is the same for every image and every run.
    """
    activation = layer.activation
    total = activation.sum(axis=(2, 3), keepdims=True)
    classes = layer.classes
    powers = [[np.zeros((), np.float32)] * 3 for _ in targets.T]
    for noise in _noise(layer.images.shape[1:]):
        noisy = layer.of(layer.images + noise)
        for k, column in enumerate(targets.T):
            gradient = noisy.gradient(one_hot(column, classes))
            powers[k] = [mean + gradient**p / COPIES for p, mean in enumerate(powers[k], start=1)]
    weights = (
        spatial_sum(alpha(second, third, total) * np.maximum(first, 0), layer)
        for first, second, third in powers
    )
    return combine.channels(activation, stacked(weights))


def _noise(shape: tuple[int, ...]) -> F4:
    noise: F4 = np.random.RandomState(0).normal(0, DEVIATION, (COPIES, *shape)).astype(np.float32)
    return noise


SMOOTHGRADCAM_PLUSPLUS = CamMethod(
    smoothgradcam_plusplus,
    "Omeiza et al., 2019, arXiv:1908.01224",
    f"{COPIES} forward passes, head backward",
    cost=(5.0, 5.2),
    many=True,
)
