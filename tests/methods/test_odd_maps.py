"""Maps of odd shapes and values: 1x1, 1xN, not square, constant, all-zero, not finite."""

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.methods.components import first_component, first_kernel_component
from shardcam.engine.methods.heatmaps import heatmaps
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph_forms import inference_form
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.symbol_json import parse
from shardcam.engine.types import LayerMaps, Preprocessing
from shardcam.kernels import ALL_ZERO, CONSTANT, NON_FINITE, scale_maps

PER_LAYER = sorted(set(METHODS) - {"cam", "fullgrad", "attention", "rollout"})
TARGETS = np.array([[0, 2], [1, 0]], np.int32)


def one_channel(kernel):
    """5x9 one-channel pictures; a convolution that leaves (6-kh) x (10-kw) positions."""
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", num_filter=4, kernel=kernel)
    x = mx.sym.Activation(x, name="relu", act_type="relu")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="hidden", num_hidden=6)
    x = mx.sym.Activation(x, name="tanh", act_type="tanh")
    x = mx.sym.FullyConnected(x, name="dense", num_hidden=3)
    shapes, _, _ = x.infer_shape(data=(1, 1, 5, 9))
    random = np.random.RandomState(0)
    parameters = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in zip(x.list_arguments(), shapes)
        if name != "data"
    }
    preprocessing = Preprocessing(5, 9, mean=(0.0,), std=(1.0,))
    return NetworkDefinition("odd", inference_form(parse(x.tojson())), parameters, preprocessing)


@pytest.mark.parametrize("kernel", [(5, 9), (5, 1), (1, 9), (2, 3)])
@pytest.mark.parametrize("name", PER_LAYER)
def test_every_method_at_every_shape(name, kernel):
    network = MxnetNetwork(one_channel(kernel), ("relu",), 2)
    images = np.random.RandomState(1).standard_normal((2, 1, 5, 9)).astype(np.float32)
    raw = METHODS[name](network.forward(images).layer("relu"), TARGETS)
    height, width = 6 - kernel[0], 10 - kernel[1]
    assert raw.shape == (2, 2, height, width)
    assert np.isfinite(raw).all()
    unit, scale, flags = scale_maps(raw)
    one_value = height * width == 1
    if name != "fem" or height * width > 5:  # of five values none is two deviations above
        assert (flags & CONSTANT > 0).all() if one_value else not (flags & CONSTANT).all()
    pictures = heatmaps({"relu": LayerMaps(unit, scale)}, (5, 9))
    assert pictures.shape == (2, 2, 5, 9)
    if one_value:
        assert not pictures.any()


@pytest.mark.parametrize("component", [first_component, first_kernel_component])
def test_components_of_constant_activations_are_zero(component):
    maps = component(np.ones((2, 5, 3, 4), np.float32))
    assert maps.shape == (2, 3, 4)
    np.testing.assert_allclose(maps, 0, atol=1e-6)


def test_components_read_what_is_no_number_as_zero():
    terms = np.random.RandomState(0).standard_normal((1, 5, 3, 4)).astype(np.float32)
    terms[0, 2, 1, 1] = 0
    expected = first_component(terms)
    terms[0, 2, 1, 1] = np.nan
    np.testing.assert_array_equal(first_component(terms), expected)


@pytest.mark.parametrize("channels", [3, 40])
def test_first_component_is_that_of_an_svd(channels):
    """More channels than positions, and fewer."""
    terms = np.random.RandomState(0).gamma(1, 1, (3, channels, 3, 4)).astype(np.float32)
    for found, image in zip(first_component(terms), terms):
        rows = image.reshape(channels, -1).T.astype(np.float64)
        rows -= rows.mean(axis=0)
        expected = (rows @ np.linalg.svd(rows)[2][0]).reshape(3, 4)
        sign = np.sign((expected * found).sum())
        np.testing.assert_allclose(found, sign * expected, atol=1e-4)
        assert (found.ravel() * rows.sum(axis=1)).sum() > 0


def test_maps_that_are_not_finite_or_all_zero_are_flagged():
    raw = np.zeros((4, 1, 2, 2), np.float32)
    raw[0, 0, 0, 0] = np.nan
    raw[1, 0, 0, 0] = np.inf
    raw[2, 0, 0, 0] = -1
    raw[3] = 3
    _, _, flags = scale_maps(raw)
    assert flags[:, 0].tolist() == [NON_FINITE, NON_FINITE, ALL_ZERO, CONSTANT]
