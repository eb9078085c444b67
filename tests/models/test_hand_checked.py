"""A network small enough to check by hand, through the real code path."""

import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.kernels import normalize, upsample
from tests.models.networks import HAND_INPUT, HAND_LOGIT, hand_checked

# Computed by hand; captum's own test suite expects the same Grad-CAM at the convolution.
MAPS = {
    ("gradcam", "conv"): [[11.25, 13.5], [20.25, 22.5]],
    ("gradcam", "relu"): [[0, 4], [28, 32.5]],
    ("hirescam", "conv"): [[0, 4], [25, 25]],
    ("hirescam", "relu"): [[0, 4], [25, 25]],
    ("layercam", "conv"): [[0, 4], [31, 40]],
    ("layercam", "relu"): [[0, 4], [31, 40]],
    ("gradcamelementwise", "conv"): [[0, 4], [31, 40]],
    ("gradcamelementwise", "relu"): [[0, 4], [31, 40]],
    ("xgradcam", "conv"): [[-26.3571, -10.4143], [37.4143, 53.3571]],
    ("xgradcam", "relu"): [[0, 4], [25, 25]],
    ("gradcam++", "conv"): [[-0.208333, 0.166667], [1.291667, 1.666667]],
    ("gradcam++", "relu"): [[0, 0.207792], [1.871259, 2.730096]],
    # Without the first channel the logit is 0, without the second 75: weights 1 and -21/54.
    ("ablationcam", "relu"): [[0, 4], [31 - 6 * 21 / 54, 40 - 15 * 21 / 54]],
    ("ablationcam", "conv"): [
        [-5 + 30 * 21 / 54, 4 + 21 * 21 / 54],
        [31 - 6 * 21 / 54, 40 - 15 * 21 / 54],
    ],
    # Both channels are v = (-22.5, -13.5, 13.5, 22.5) but for a constant: sqrt(2) v.
    ("eigencam", "conv"): [[-31.819805, -19.091883], [19.091883, 31.819805]],
    ("shapleycam", "relu"): [[0, 4], [28, 32.5]],
    # All four logits are the same function: nothing tells the class from the others.
    ("finercam", "relu"): [[0, 0], [0, 0]],
    # Of four values none can be two standard deviations above their mean.
    ("fem", "relu"): [[0, 0], [0, 0]],
}
ENLARGED = [
    [0, 1, 3, 4],
    [7, 8.03125, 10.09375, 11.125],
    [21, 22.09375, 24.28125, 25.375],
    [28, 29.125, 31.375, 32.5],
]
CLASS_0 = np.zeros((1, 1), np.int32)


@pytest.mark.parametrize(("name", "layer"), MAPS)
def test_maps(name, layer):
    network = MxnetNetwork(hand_checked(), (layer,), batch_size=1)
    forward = network.forward(HAND_INPUT)
    assert forward.logits[0, 0] == HAND_LOGIT
    raw = METHODS[name](forward.layer(layer), CLASS_0)
    np.testing.assert_allclose(raw[0, 0], MAPS[name, layer], rtol=1e-5, atol=1e-5)


def test_enlarged_heatmap():
    network = MxnetNetwork(hand_checked(), ("relu",), batch_size=1)
    raw = METHODS["gradcam"](network.forward(HAND_INPUT).layer("relu"), CLASS_0)
    heatmap = upsample(normalize(raw[0]), (4, 4))
    np.testing.assert_allclose(heatmap[0] * 32.5, ENLARGED, atol=1e-4)


def test_both_layers_at_once_equal_each_alone():
    both = MxnetNetwork(hand_checked(), ("conv", "relu"), batch_size=1).forward(HAND_INPUT)
    for layer in ("conv", "relu"):
        raw = METHODS["gradcam"](both.layer(layer), CLASS_0)
        np.testing.assert_allclose(raw[0, 0], MAPS["gradcam", layer], rtol=1e-6)
