"""A network small enough to check by hand, through the real code path."""

import numpy as np
import pytest

from engine.methods import METHODS
from engine.models.mxnet_network import MxnetNetwork
from kernels import normalize, upsample
from tests.models.networks import HAND_INPUT, HAND_LOGIT, hand_checked

# Computed by hand; captum's own test suite expects the same Grad-CAM at the convolution.
GRADCAM = {
    "conv": [[11.25, 13.5], [20.25, 22.5]],
    "relu": [[0, 4], [28, 32.5]],
}
ENLARGED = [
    [0, 1, 3, 4],
    [7, 8.03125, 10.09375, 11.125],
    [21, 22.09375, 24.28125, 25.375],
    [28, 29.125, 31.375, 32.5],
]
CLASS_0 = np.zeros((1, 1), np.int32)


@pytest.mark.parametrize("layer", GRADCAM)
def test_gradcam(layer):
    network = MxnetNetwork(hand_checked(), (layer,), batch_size=1)
    forward = network.forward(HAND_INPUT)
    assert forward.logits[0, 0] == HAND_LOGIT
    raw = METHODS["gradcam"](forward.layer(layer), CLASS_0)
    np.testing.assert_allclose(raw[0, 0], GRADCAM[layer], rtol=1e-6)


def test_enlarged_heatmap():
    network = MxnetNetwork(hand_checked(), ("relu",), batch_size=1)
    raw = METHODS["gradcam"](network.forward(HAND_INPUT).layer("relu"), CLASS_0)
    heatmap = upsample(normalize(raw[0]), (4, 4))
    np.testing.assert_allclose(heatmap[0] * 32.5, ENLARGED, atol=1e-4)


def test_both_layers_at_once_equal_each_alone():
    both = MxnetNetwork(hand_checked(), ("conv", "relu"), batch_size=1).forward(HAND_INPUT)
    for layer, expected in GRADCAM.items():
        raw = METHODS["gradcam"](both.layer(layer), CLASS_0)
        np.testing.assert_allclose(raw[0, 0], expected, rtol=1e-6)
