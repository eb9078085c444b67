"""Normalisations folded and signed values moved: nothing changes but how int8 rounds."""

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.models import unsigned
from shardcam.engine.models.bound_program import backbone
from shardcam.engine.models.folded_norms import with_folded_norms
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.observed import Unrounded, observe
from shardcam.engine.models.unsigned import from_text, in_the_middle, moved
from tests.models.networks import define

MOVED = ["narrow_bn", "add0", "add1", "add2", "down_bn"]
IMAGES = np.random.RandomState(1).standard_normal((8, 3, 12, 12)).astype(np.float32)


def relu(x, name):
    return mx.sym.Activation(x, name=name, act_type="relu")


def blocks():
    """Inverted residuals as MobileNetV2 has them, and a residual block as ResNet begins with."""

    def conv_bn(x, name, channels, kernel=1, **more):
        pad = (kernel // 2, kernel // 2)
        x = mx.sym.Convolution(
            x, name=name, num_filter=channels, kernel=(kernel, kernel), pad=pad, **more
        )
        return mx.sym.BatchNorm(x, name=f"{name}_bn", fix_gamma=False)

    x = relu(conv_bn(mx.sym.var("data"), "stem", 32, 3, no_bias=True), name="stem_relu")
    x = conv_bn(x, "narrow", 16, no_bias=True)
    for i in range(3):
        y = mx.sym.clip(conv_bn(x, f"wide{i}", 64), 0, 6, name=f"wide{i}_clip")
        y = mx.sym.clip(conv_bn(y, f"apart{i}", 64, 3, num_group=64), 0, 6, name=f"apart{i}_clip")
        x = mx.sym.elemwise_add(conv_bn(y, f"narrow{i}", 16), x, name=f"add{i}")
    x = relu(conv_bn(x, "top", 32), name="top_relu")
    y = relu(conv_bn(x, "inside", 16, 3), name="inside_relu")
    y, x = conv_bn(y, "outside", 48), conv_bn(x, "down", 48)
    x = relu(mx.sym.elemwise_add(y, x, name="sum"), name="sum_relu")
    x = relu(conv_bn(x, "last", 24, 3), name="last_relu")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=5)
    shapes, _, states = x.infer_shape(data=(1, 3, 12, 12))
    random = np.random.RandomState(0)
    names = [*zip(x.list_arguments(), shapes, strict=True)]
    names += zip(x.list_auxiliary_states(), states, strict=True)
    values = {name: random.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in names}
    values = {
        n: v if "_bn_" in n and "mean" not in n else (4 * v - 4) / v[0].size ** 0.5
        for n, v in values.items()
    }
    del values["data"]
    return define(x, values, channels=3, size=12)


@pytest.fixture(scope="module")
def network():
    return blocks()


def values(program):
    (value,) = program.bind({"data": mx.nd.array(IMAGES)}).forward(is_train=False)
    return value.asnumpy()


def test_folded_norms_change_no_value(network):
    entries = [(network.graph.number("last_relu"), 0)]
    folded = with_folded_norms(network, entries)
    before, after = (backbone(n, entries, mx.cpu()) for n in (network, folded))
    assert "BatchNorm" not in {node.op for node in folded.graph.nodes if "relu" not in node.name}
    assert not after.states
    np.testing.assert_allclose(values(after), values(before), rtol=1e-3, atol=1e-4)


def test_a_norm_stays_where_its_convolution_is_read_too(network):
    entries = [(network.graph.number(name), 0) for name in ("wide1", "last_relu")]
    folded = with_folded_norms(network, entries)
    assert [n.name for n in folded.graph.nodes if n.op == "BatchNorm"] == ["wide1_bn"]


def test_what_is_moved_is_taken_back(network, monkeypatch):
    observed = observe(Unrounded(network, ("last_relu",), 8), [IMAGES])
    assert [*observed.extremes] == MOVED
    shifts = {
        name: in_the_middle(low - 9, high + 9)[0] for name, (low, high) in observed.extremes.items()
    }
    monkeypatch.setattr(unsigned, "nearest", lambda weight: weight)  # float32 rounds none
    ours = moved(observed.program, shifts)
    assert len([name for name in ours.arguments if name.endswith("_moved_bias")]) == 0
    expected = values(observed.program)
    np.testing.assert_allclose(values(ours), expected, atol=2e-5 * expected.max())


def test_the_range_of_each_channel_is_in_the_middle():
    low, high = np.array([-1, 2, -5], np.float32), np.array([3, 3, -3], np.float32)
    shift, width = in_the_middle(low, high)
    assert width == 4
    np.testing.assert_array_equal([low + shift, high + shift], [[0, 1.5, 1], [4, 2.5, 3]])


@pytest.mark.parametrize(
    ("layer", "shifts"),
    [
        ("last_relu", MOVED),
        ("add2", []),  # it keeps its sign, and so do the terms that are added to it
        ("top_relu", ["narrow_bn", "add0", "add1", "add2"]),
    ],
)
def test_int8_agrees_better(network, layer, shifts):
    found = observe(Unrounded(network, (layer,), 8), [IMAGES]).quantization(keep_first=False)
    assert [*found.shifts] == shifts
    assert all(from_text(text).dtype == np.float32 for text in found.shifts.values())
    expected = MxnetNetwork(network, (layer,), 8).forward(IMAGES).layer(layer).activation
    lowered = MxnetNetwork(network, (layer,), 8, "int8", found)
    error = lowered.forward(IMAGES).layer(layer).activation - expected
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(expected)


def test_nothing_that_is_multiplied_is_signed(network):
    """But the pictures."""
    found = observe(Unrounded(network, ("last_relu",), 8), [IMAGES]).quantization(keep_first=False)
    program = MxnetNetwork(network, ("last_relu",), 8, "int8", found).programs.backbone
    symbol = program.symbol.get_internals()
    types = dict(zip(symbol.list_outputs(), symbol.infer_type(data=np.float32)[1], strict=True))
    outputs = [
        kind for name, kind in types.items()
        if name.startswith("quantized_sg_mkldnn_conv") and name.endswith("_output")
    ]  # fmt: skip
    assert len(outputs) == 16
    assert {*outputs} == {np.uint8}
