"""What the imported graph looks like: its ends, its layouts, its batch, its names."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.defs import onnx_opset_version

from shardcam.engine.errors import ModelError
from shardcam.engine.methods.class_gradients import mean_gradient
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.links import at_logits
from shardcam.engine.models.mxnet_network import MxnetNetwork
from tests.models.onnx_models import (
    assert_same,
    images_for,
    ints,
    load,
    make,
    node,
    reference,
    run,
    weight,
)

NEWEST = min(onnx_opset_version(), 24)  # that onnxruntime is sure of
CONV = [node("Conv", "x w", "c"), node("Relu", "c", "r")]
WEIGHTS = {
    "w": weight(16, 3, 3, 3),
    "d": weight(16, 5),
    "t": weight(5, 16),
    "b": weight(5),
    "a": ints(2, 3),
    "row": ints(0, -1),
    "one_row": ints(1, -1),
}
POOLED = [*CONV, node("GlobalAveragePool", "r", "p"), node("Flatten", "p", "f")]
DENSE = node("Gemm", "f t b", "y", transB=1)


def operators(definition):
    return [n.op for n in definition.graph.nodes if n.op != "null"]


@pytest.mark.parametrize(
    "tail",
    [
        [node("GlobalAveragePool", "r", "p"), node("Flatten", "p", "f"), DENSE],
        [node("AveragePool", "r", "p", kernel_shape=[7, 9]), node("Reshape", "p row", "f"), DENSE],
        [node("ReduceMean", "r", "p", axes=[2, 3], keepdims=0), node("Gemm", "p d b", "y")],
        [
            node("ReduceMean", "r", "p", axes=[-1, -2], keepdims=1),
            node("Squeeze", "p a", "s"),
            node("Dropout", "s", "f"),
            node("MatMul", "f d", "m"),
            node("Add", "m b", "y"),
        ],
        [
            node("Transpose", "r", "l", perm=[0, 2, 3, 1]),
            node("ReduceMean", "l", "p", axes=[1, 2], keepdims=0),
            node("MatMul", "p d", "m"),
            node("Add", "b m", "y"),
        ],
    ],
    ids=["pool", "whole", "mean", "matmul", "channels-last"],
)
def test_pooled_dense_head_is_recognised(tail, tmp_path):
    """However it is spelled, its gradient is known without a backward pass."""
    definition = assert_same(make([*CONV, *tail], WEIGHTS, flatten=False), tmp_path)
    assert operators(definition) == [
        "Convolution", "Activation", "Pooling", "Flatten", "FullyConnected"
    ]  # fmt: skip
    layer = resolve_layer(definition, "auto")
    assert layer.name == "r" and layer.closed_form


@pytest.mark.parametrize(
    ("tail", "opset"),
    [
        ([node("Softmax", "y", "z", axis=1)], 17),
        ([node("Softmax", "y", "z")], 11),
        ([node("LogSoftmax", "y", "z", axis=-1), node("Identity", "z", "i")], 17),
        ([node("Softmax", "y", "s"), node("Reshape", "s row", "z")], 17),
    ],
)
def test_ends_at_the_logits(tail, opset, tmp_path):
    nodes = [*POOLED, DENSE]
    logits = make(nodes, WEIGHTS, flatten=False, opset=opset)
    model = make([*nodes, *tail], WEIGHTS, flatten=False, opset=opset, output=tail[-1].output[0])
    definition = at_logits(load(model, tmp_path))
    images = images_for(model)
    np.testing.assert_allclose(run(definition, images), reference(logits, images), rtol=1e-5)


def test_spatial_softmax_end(tmp_path):
    """SqueezeNet's: pooling, softmax over channels of one pixel, then flattening."""
    model = make([*POOLED[:-1], node("Softmax", "p", "y", axis=1)], WEIGHTS)
    logits = make(POOLED[:-1], WEIGHTS, output="p")
    images = images_for(model)
    np.testing.assert_allclose(
        run(at_logits(load(model, tmp_path)), images), reference(logits, images), rtol=1e-5
    )


def test_softmax_inside_the_network_stays(tmp_path):
    """A softmax over positions is attention, no end of a classifier."""
    nodes = [*CONV, node("Softmax", "r", "y", axis=3)]
    assert "softmax" in operators(assert_same(make(nodes, WEIGHTS), tmp_path))


def test_uneven_padding_grows_the_kernel(tmp_path):
    """A Pad operator would cost two reorders around each convolution."""
    pads = {"p": ints(0, 0, 0, 0, 0, 0, 1, 1), "w": weight(4, 3, 3, 3)}
    nodes = [node("Pad", "x p", "q"), node("Conv", "q w", "y", strides=[2, 2])]
    padded = assert_same(make(nodes, pads), tmp_path)
    same = node("Conv", "x w", "y", strides=[2, 2], auto_pad="SAME_UPPER")
    automatic = assert_same(make([same], WEIGHTS, shape=("N", 3, 8, 12)), tmp_path)
    for definition in (padded, automatic):
        assert operators(definition) == ["Convolution", "Flatten"]
        convolution = definition.graph.nodes[definition.graph.number("y")]
        assert convolution.attrs["kernel"] == "(4, 4)" and convolution.attrs["pad"] == "(1, 1)"


def channels_last():
    """As tf2onnx writes Keras: channels last outside, transposed around what needs it."""
    nodes = [
        node("Sub", "x mean", "x0"),
        node("Transpose", "x0", "x1", perm=[0, 3, 1, 2]),
        node("Pad", "x1 pads", "x2"),
        node("Conv", "x2 w", "c1", strides=[2, 2], name="conv"),
        node("Clip", "c1 low high", "c2"),
        node("Transpose", "c2", "c3", perm=[0, 2, 3, 1]),
        node("Mul", "c3 scale", "c4"),
        node("Transpose", "c4", "c5", perm=[0, 3, 1, 2]),
        node("MaxPool", "c5", "m", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Transpose", "m", "l", perm=[0, 2, 3, 1]),
        node("ReduceMean", "l", "p", axes=[1, 2], keepdims=0),
        node("MatMul", "p d", "k"),
        node("Add", "k b", "s"),
        node("Softmax", "s", "y"),
    ]
    weights = WEIGHTS | {
        "mean": weight(3),
        "pads": ints(0, 0, 0, 0, 0, 0, 1, 1),
        "low": np.float32(0),
        "high": np.float32(6),
        "scale": weight(16),
    }
    return make(nodes, weights, shape=("N", 20, 24, 3), flatten=False, opset=15)


def test_channels_last_input(tmp_path):
    model = channels_last()
    definition = at_logits(load(model, tmp_path))
    assert definition.preprocessing.input_shape == (3, 20, 24)
    images = images_for(model)
    logits = run(definition, images.transpose(0, 3, 1, 2))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = reference(model, images)
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), expected, rtol=1e-5)


def test_leading_transpose_is_cancelled(tmp_path):
    nodes = [node("Transpose", "x", "q", perm=[0, 3, 1, 2]), node("Conv", "q w", "y")]
    definition = load(make(nodes, WEIGHTS, shape=("N", 8, 8, 3)), tmp_path)
    assert operators(definition) == ["Convolution", "Flatten"]


@pytest.mark.parametrize("opset", range(7, NEWEST + 1))
def test_every_opset(opset, tmp_path):
    """A small network whose operators are spelled alike in all of them."""
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c s s s s", "n", epsilon=3.0),
        node("LeakyRelu", "n", "l", alpha=0.1), node("Add", "l c", "u"),
        node("MaxPool", "u", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Concat", "m m", "k", axis=1), node("GlobalAveragePool", "k", "p"),
        node("Reshape", "p row", "f"), node("Gemm", "f v b", "z", transB=1),
        node("Softmax", "z", "y", axis=1), node("Neg", "y", "q"),
    ]  # fmt: skip
    weights = WEIGHTS | {"s": weight(16), "v": weight(5, 32)}
    assert_same(make(nodes, weights, opset=opset, flatten=False, output="q"), tmp_path)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("shape", [(0, 4, -1), ("B", 4, -1), (-1, 4, 252), ("B", 4, 252)])
def test_file_written_for_one_batch_size_takes_any(batch, shape, tmp_path):
    target = ints(*(batch if n == "B" else n for n in shape))
    nodes = [
        *CONV,
        node("Reshape", "r s", "g"),
        node("Softmax", "g", "e", axis=2),
        node("Reshape", "e back", "y"),
    ]
    weights = WEIGHTS | {"s": target, "back": ints(batch, -1)}
    model = make(nodes, weights, shape=(batch, 3, 9, 11), flatten=False)
    images = images_for(model, batch=3 * batch)
    expected = [reference(model, part) for part in np.split(images, 3)]
    ours = run(load(model, tmp_path), images)
    np.testing.assert_allclose(ours, np.concatenate(expected), rtol=1e-5)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Concat", "x x", "y", axis=0)],
        [node("ReduceMean", "x", "y", axes=[0, 2])],
        [node("Transpose", "x", "t", perm=[1, 0, 2, 3]), node("Flatten", "t", "y")],
        [node("Softmax", "x", "y", axis=0)],
        [node("Slice", "x zero one", "y")],
        [node("Split", "x", "y z", axis=0)],
        [node("Slice", "x minus low none minus", "y")],
        [node("Gemm", "x x", "y", transA=1)],
    ],
    ids=lambda nodes: f"{nodes[0].op_type}-{nodes[0].input[-1]}",
)
def test_images_of_a_batch_stay_apart(nodes, tmp_path):
    weights = {
        "zero": ints(0), "one": ints(1), "none": ints(0),
        "minus": ints(-1), "low": ints(-(2**62)),
    }  # fmt: skip
    with pytest.raises(ModelError) as refused:
        load(make(nodes, weights), tmp_path)
    assert f"{nodes[-1].op_type} node 'y' (opset 17)" in str(refused.value)


def test_image_size(tmp_path):
    free = make(POOLED, WEIGHTS, shape=("N", 3, "h", "w"), output="p")
    assert load(free, tmp_path).preprocessing.input_shape == (3, 224, 224)
    assert "--image-size 224 was taken" in load(free, tmp_path).remarks[0]
    assert load(free, tmp_path, 96).preprocessing.input_shape == (3, 96, 96)
    fixed = make(POOLED, WEIGHTS, output="p", shape=("N", 3, 32, 32))
    assert load(fixed, tmp_path, 32).preprocessing.input_shape == (3, 32, 32)
    assert load(free, tmp_path, 96).remarks == load(fixed, tmp_path).remarks == ()
    with pytest.raises(ModelError, match="it takes images of 32 pixels, not 64"):
        load(fixed, tmp_path, 64)


def test_preprocessing_is_marked_as_assumed(tmp_path):
    definition = load(make(CONV, WEIGHTS, output="r"), tmp_path)
    assert definition.assumed
    assert definition.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))


def test_names(tmp_path):
    """Slashes stay; what MXNet's JSON cannot hold is replaced; two of one name become two."""
    nodes = [
        node("Relu", "x", "a", name="/layer1/layer1.0/Relu"),
        node("Neg", "a", "b", name="/layer1/layer1.0/Relu"),
        node("Neg", "b", "x_output", name='größe "1"\n'),
        node("Neg", "x_output", "y"),
    ]
    definition = load(make(nodes), tmp_path)
    run(definition, images_for(make(nodes)))
    names = [n.name for n in definition.graph.nodes if n.op != "null"]
    assert names == [
        "/layer1/layer1.0/Relu", "/layer1/layer1.0/Relu_1", "gr__e__1__", "y", "flatten"
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
@pytest.mark.parametrize("raw", [True, False])
def test_weights_of_other_precisions(dtype, raw, tmp_path):
    value = np.round(weight(4, 3, 3, 3) * 8) / 8
    listed = helper.make_tensor("w", dtype, value.shape, value.reshape(-1).tolist())
    if raw:
        listed = helper.make_tensor("w", dtype, value.shape, _raw(value, dtype), raw=True)
    convolution = [node("Conv", "x w", "y")]
    plain = make(convolution, {"w": value})
    images = images_for(plain)
    ours = run(load(make(convolution, {"w": listed}), tmp_path), images)
    np.testing.assert_allclose(ours, reference(plain, images), rtol=1e-5, atol=1e-5)


def _raw(value, dtype):
    if dtype == TensorProto.BFLOAT16:
        return (value.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return value.astype(np.float16 if dtype == TensorProto.FLOAT16 else np.float64).tobytes()


def test_initializers_may_be_listed_as_inputs(tmp_path):
    """As files before IR version 4 do."""
    model = make(CONV, WEIGHTS, output="r")
    info = helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 3, 3, 3])
    model.graph.input.insert(0, info)
    assert operators(load(model, tmp_path))[0] == "Convolution"


def test_weights_that_are_not_a_number_are_the_users_business(tmp_path):
    definition = load(
        make([node("Conv", "x w", "y")], {"w": np.full((4, 3, 3, 3), np.nan, np.float32)}), tmp_path
    )
    assert np.isnan(definition.parameters["w"]).all()


def test_gelu_is_one_operator(tmp_path):
    nodes = [
        node("Div", "x r", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"),
        node("Mul", "x a", "m"), node("Mul", "m half", "y"),
    ]  # fmt: skip
    numbers = {"r": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    assert operators(assert_same(make(nodes, numbers), tmp_path)) == ["LeakyReLU", "Flatten"]
    numbers["r"] = np.float32(1.5)  # nearly
    assert "erf" in operators(assert_same(make(nodes, numbers), tmp_path))


def test_backward_through_a_concatenation_of_odd_channels(tmp_path):
    """MXNet's Concat raises here: it cannot cut the blocks of a convolution's gradient."""
    nodes = [
        node("Conv", "x w", "c", name="first"), node("Relu", "c", "r"), node("Neg", "c", "n"),
        node("Concat", "r n", "k", axis=1), node("Conv", "k v", "y"),
    ]  # fmt: skip
    weights = {"w": weight(12, 3, 1, 1), "v": weight(24, 24, 1, 1)}
    definition = load(make(nodes, weights), tmp_path)
    network = MxnetNetwork(definition, ("first",), batch_size=2)
    view = network.forward(np.ones((2, 3, 9, 11), np.float32)).layer("first")
    assert np.isfinite(mean_gradient(view, np.zeros((2, 1), np.int32))).all()


def test_constants_may_be_attributes_of_nodes(tmp_path):
    value = numpy_helper.from_array(WEIGHTS["w"])
    nodes = [helper.make_node("Constant", [], ["w"], value=value), *CONV]
    assert_same(make(nodes, {}, output="r"), tmp_path)
