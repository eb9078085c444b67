"""Every tap equals the unfused value, and every gradient equals MXNet's float64 one.

MXNet 1.9.1 gives silently wrong numbers here in several ways; each test names its own.
"""

import ast

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.methods.class_gradients import mean_gradient
from shardcam.engine.models.mxnet_network import MxnetNetwork
from tests.models.networks import (
    axes_in_place,
    dense_read_twice,
    every_tap_kind,
    sum_with_its_own_convolution,
)

KINDS = ("b_conv", "b_bn", "b_relu", "c_bn", "add", "add_relu", "concat", "pool", "e_relu")
TARGETS = np.array([[0, 3], [1, 2], [4, 0]], np.int32)


@pytest.fixture(scope="module")
def definition():
    return every_tap_kind()


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(1).standard_normal((3, 3, 12, 12)).astype(np.float32)


def eager(definition, images, name, shift=None):
    """Value of a node and the logits, operator by operator in float64; `shift` is added to it."""
    values = []
    parameters = {k: mx.nd.array(v, dtype="float64") for k, v in definition.parameters.items()}
    parameters["data"] = mx.nd.array(images, dtype="float64")
    tap = None
    for node in definition.graph.nodes:
        if node.op == "null":
            values.append(parameters[node.name])
            continue
        inputs = [values[number] for number, _ in node.inputs]
        attrs = {k: v for k, v in node.attrs.items() if not k.startswith("__")}
        function = getattr(mx.nd._internal if node.op.startswith("_") else mx.nd, node.op)
        out = function(*inputs, **{k: _literal(v) for k, v in attrs.items()})
        out = out[0] if isinstance(out, list) else out
        if node.name == name:
            tap = out.asnumpy()
            out = out if shift is None else out + mx.nd.array(shift, dtype="float64")
        values.append(out)
    return tap, values[definition.graph.heads[0][0]].asnumpy()


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@pytest.mark.parametrize("kind", KINDS)
def test_tap_is_not_the_value_after_fusion(definition, images, kind):
    """Fused, a tap inside conv+BN+ReLU or conv+add returns what comes after it."""
    expected, logits = eager(definition, images, kind)
    forward = MxnetNetwork(definition, (kind,), batch_size=3).forward(images)
    np.testing.assert_allclose(forward.layer(kind).activation, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(forward.logits, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_equals_finite_differences(definition, images, kind):
    """Max-pooling's workspace, batch statistics, fused graphs and Dropout each break this."""
    require_gradient(definition, images, kind)


def test_gradient_through_a_transpose_that_moves_no_axis(images):
    """It cannot be spelled by exchanges of axes, as others are: oneDNN's fails."""
    require_gradient(axes_in_place(), images, "conv")


def require_gradient(definition, images, kind):
    """That it is the slope of finite differences in float64."""
    view = MxnetNetwork(definition, (kind,), batch_size=4).forward(images).layer(kind)
    ours = mean_gradient(view, TARGETS)
    shape = view.activation.shape
    step = 1e-6
    for channel in (0, shape[1] - 1):
        shift = np.zeros(shape)
        shift[:, channel] = step
        change = [eager(definition, images, kind, sign * shift)[1] for sign in (1, -1)]
        slope = (change[0] - change[1]) / (2 * step) / np.prod(shape[2:])
        expected = np.take_along_axis(slope, TARGETS, axis=1)
        np.testing.assert_allclose(ours[:, :, channel], expected, rtol=1e-3, atol=1e-5)
        assert abs(expected).max() > 1e-3


def test_all_taps_at_once(definition, images):
    """Several layers of one pass give what each gives alone."""
    together = MxnetNetwork(definition, KINDS, batch_size=3).forward(images)
    for kind in KINDS:
        alone = MxnetNetwork(definition, (kind,), batch_size=3).forward(images).layer(kind)
        view = together.layer(kind)
        np.testing.assert_allclose(view.activation, alone.activation, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(
            mean_gradient(view, TARGETS), mean_gradient(alone, TARGETS), rtol=1e-4, atol=1e-6
        )


def test_gradient_does_not_change_from_call_to_call(definition, images):
    view = MxnetNetwork(definition, ("add",), batch_size=3).forward(images).layer("add")
    first = mean_gradient(view, TARGETS)
    assert all(np.array_equal(mean_gradient(view, TARGETS), first) for _ in range(5))


def test_frozen_batchnorm_keeps_its_statistics(definition, images):
    """The head runs in training mode, and must not learn from what it sees."""
    network = MxnetNetwork(definition, ("add",), batch_size=3)
    first = network.forward(images).logits
    for _ in range(3):
        mean_gradient(network.forward(images).layer("add"), TARGETS)
    np.testing.assert_array_equal(network.forward(images).logits, first)


def test_a_map_does_not_depend_on_its_batch(definition, images):
    network = MxnetNetwork(definition, ("concat",), batch_size=3)
    view = network.forward(images).layer("concat")
    together = view.activation, mean_gradient(view, TARGETS)
    for i in range(len(images)):
        alone = network.forward(images[i : i + 1]).layer("concat")
        np.testing.assert_allclose(alone.activation[0], together[0][i], rtol=1e-5, atol=1e-6)
        gradient = mean_gradient(alone, TARGETS[i : i + 1])
        np.testing.assert_allclose(gradient[0], together[1][i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["conv", "relu", "add", "add_relu"])
def test_a_convolution_added_to_what_follows_from_it(images, kind):
    """MXNet's fusion gives wrong values for this, with no error."""
    definition = sum_with_its_own_convolution()
    expected, logits = eager(definition, images, kind)
    forward = MxnetNetwork(definition, (kind,), batch_size=3).forward(images)
    np.testing.assert_allclose(forward.layer(kind).activation, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(forward.logits, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("read", [("last",), ("gate", "tanh", "relu"), ("hidden", "bent", "dense")])
def test_a_dense_layer_that_is_read_twice(images, read):
    """By two operators, or by one and a tap: MXNet's fusion gives one the value of the other."""
    definition = dense_read_twice()
    network = MxnetNetwork(
        definition, ("last",), batch_size=3, extra_layers=read[0 if len(read) > 1 else 1 :]
    )
    forward = network.forward(images)
    for name in read:
        expected, logits = eager(definition, images, name)
        np.testing.assert_allclose(forward.activation(name), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(forward.logits, logits, rtol=1e-4, atol=1e-4)


def test_a_head_with_a_dense_layer_that_is_read_twice(images):
    """Heads that need no gradient are fused as well."""
    definition = dense_read_twice()
    view = MxnetNetwork(definition, ("first",), batch_size=3).forward(images).layer("first")
    shift = np.random.RandomState(2).standard_normal(view.activation.shape)
    _, expected = eager(definition, images, "first", shift)
    changed = view.at((view.activation + shift).astype(np.float32), np.arange(3, dtype=np.int32))
    np.testing.assert_allclose(changed.logits, expected, rtol=1e-4, atol=1e-4)
