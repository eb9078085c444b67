"""Every network of the model zoo: builds, splits, runs, and its gradient at `auto` is right."""

import re

import numpy as np
import pytest

from shardcam.engine.methods.class_gradients import mean_gradient
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.zoo import NAMES
from tests.models.finite_differences import crossing_values, mean_slope

AUTO = {  # family: the layer, its height and width, whether its gradient is in closed form
    r"alexnet": ("conv4_relu_fwd", 13, False),
    r"vgg(11|13|16|19)(_bn)?": (r"relu\d+_fwd", 14, False),
    r"resnet\d+_v1": (r"stage4_activation\d", 7, True),
    r"resnet\d+_v2": ("relu1_fwd", 7, True),
    r"densenet\d+": ("relu4_fwd", 7, True),
    r"squeezenet1\.[01]": ("concat7", 13, False),
    r"inceptionv3": ("E2_concat2", 8, True),
    r"mobilenet[\d.]+": ("relu26_fwd", 7, True),
    r"mobilenetv2_[\d.]+": ("features_relu61_relu6", 7, True),
}
QUICK = ("squeezenet1.1", "mobilenetv2_0.25", "mobilenet0.25")


def expected_auto(name):
    (found,) = [auto for pattern, auto in AUTO.items() if re.fullmatch(pattern, name)]
    return found


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NAMES],
)
def test_auto_layer_and_its_gradient(name):
    definition = load_network(name, "random")
    layer, side, closed_form = expected_auto(name)
    info = resolve_layer(definition, "auto")
    assert re.fullmatch(layer, info.name)
    assert info.shape[1:] == (side, side)
    assert info.closed_form == closed_form
    shape = (1, *definition.preprocessing.input_shape)
    images = np.random.RandomState(5).standard_normal(shape).astype(np.float32)
    forward = MxnetNetwork(definition, ("auto",), 1).forward(images)
    targets = np.array([[3, 998]], np.int32)
    gradient = mean_gradient(forward.layer(info.name), targets)
    assert forward.logits.shape == (1, 1000)
    assert np.isfinite(gradient).all()
    inputs = crossing_values(definition, info.name, images)
    for channel in np.argsort(-abs(gradient).max(axis=(0, 1)))[:2]:
        slope = mean_slope(definition, info.name, inputs, channel)
        expected = np.take_along_axis(slope, targets, axis=1)
        scale = abs(gradient).max()
        np.testing.assert_allclose(gradient[:, :, channel], expected, atol=1e-3 * scale)
