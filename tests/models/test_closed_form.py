"""A 1x1 convolution before global average pooling is the dense layer behind it."""

from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.models.mxnet_network import MxnetNetwork
from tests.models.finite_differences import crossing_values, mean_slope
from tests.models.networks import define

SHAPE = (1, 3, 9, 12)
IMAGES = np.random.RandomState(2).standard_normal((2, *SHAPE[1:])).astype(np.float32)


def network(pool, **changes):
    """A convolution and ReLU; a 1x1 convolution to five classes; a pooling."""
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", num_filter=8, kernel=(3, 3), pad=(1, 1))
    x = mx.sym.Activation(x, name="relu", act_type="relu")
    options = {"num_filter": 5, "kernel": (1, 1), **changes}
    x = mx.sym.Convolution(x, name="classes", **options)
    if pool == "mean":
        x = mx.sym.mean(x, axis=(2, 3), name="pool")
    else:
        whole = {"global_pool": True} if pool == "global" else {"kernel": (9, 12)}
        x = mx.sym.Pooling(x, name="pool", pool_type="avg", **{"kernel": (1, 1), **whole})
        x = mx.sym.Flatten(x)
    shapes, _, _ = x.infer_shape(data=SHAPE)
    rng = np.random.RandomState(3)
    values = {
        name: (0.3 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in zip(x.list_arguments(), shapes, strict=True)
        if name != "data"
    }
    definition = define(x, values, channels=3, size=12)
    return replace(definition, preprocessing=replace(definition.preprocessing, height=9))


@pytest.mark.parametrize("no_bias", [True, False])
@pytest.mark.parametrize("pool", ["global", "whole", "mean"])
def test_convolution_then_pooling(pool, no_bias):
    definition = network(pool, no_bias=no_bias)
    view = MxnetNetwork(definition, ("relu",), 2).forward(IMAGES).layer("relu")
    assert view.closed_form
    targets = np.array([[0], [3]], np.int32)
    found = view.gradient(np.eye(5, dtype=np.float32)[targets[:, 0]])
    inputs = crossing_values(definition, "relu", IMAGES)
    for channel in range(8):
        slope = mean_slope(definition, "relu", inputs, channel)
        expected = slope[[0, 1], targets[:, 0]]
        np.testing.assert_allclose(found[:, channel, 0, 0], expected, rtol=1e-4, atol=1e-7)
    weight = definition.parameters["classes_weight"]
    bias = 0 if no_bias else definition.parameters["classes_bias"]
    scores = np.einsum("kc,nchw->nkhw", weight[:, :, 0, 0], view.activation)
    np.testing.assert_allclose(view.logits, scores.mean((2, 3)) + bias, rtol=1e-4, atol=1e-5)
    maps = METHODS["cam"](view, targets)
    np.testing.assert_allclose(maps[:, 0], scores[[0, 1], targets[:, 0]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"stride": (2, 2)}, {"pad": (1, 1)}, {"num_filter": 4, "num_group": 2}]
)
def test_other_convolutions_have_no_closed_form(changes):
    layer = MxnetNetwork(network("global", **changes), ("relu",), 2).layers[0]
    assert not layer.closed_form
