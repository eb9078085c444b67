"""Networks whose input may be of any size: which they are, and that odd sizes come out exact."""

import mxnet as mx
import numpy as np
import onnxruntime
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.models import model_files
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.onnx import onnx_file
from shardcam.engine.models.open_size import OpenSize
from shardcam.engine.models.sized_networks import bind_sizes
from shardcam.engine.run.own_size import limits_of, open_size
from tests.models.networks import define
from tests.models.onnx_models import OTHER_AVERAGES, ints, load_onnx, make, node, weight

SIZES = ((37, 50), (33, 49), (97, 131), (375, 500))
OPEN = ("N", 3, "height", "width")

CONV = node("Conv", "x w", "c", strides=[2, 2], pads=[1, 1, 1, 1])
RELU = node("Relu", "c", "r", name="r")
GLOBAL = node("GlobalAveragePool", "r", "p")
GEMM = node("Gemm", "p dense", "y", transB=1)
DENSE = [node("Flatten", "p", "f"), node("Gemm", "f dense", "y", transB=1)]
WEIGHTS = {"w": weight(8, 3, 3, 3), "dense": weight(5, 8)}


def conv(name, source, **attributes):
    return node("Conv", f"{source} deep", name, **attributes)


def pooled(*between, last="r"):
    """A convolution, what comes between it and global pooling, and a dense layer."""
    tail = node("GlobalAveragePool", last, "p")
    return [CONV, RELU, *between, tail, *DENSE]


SHAPE = [
    node("Shape", "r", "shape"),
    node("Slice", "shape two four", "sides"),
    node("Mul", "sides two", "double"),
    node("Concat", "zero_two double", "sizes", axis=0),
]

OPEN_NETWORKS = {
    "plain": pooled(),
    "mean": [CONV, RELU, node("ReduceMean", "r", "p", axes=[2, 3], keepdims=0), GEMM],
    "ceil": pooled(
        node("MaxPool", "r", "a", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node(
            "AveragePool",
            "a",
            "b",
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
            ceil_mode=1,
            count_include_pad=1,
        ),
        last="b",
    ),
    "ceil that divides at its own size": pooled(
        node("MaxPool", "r", "a", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("MaxPool", "a", "b", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("MaxPool", "b", "d", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        last="d",
    ),
    "same": pooled(
        conv("a", "r", strides=[2, 2], auto_pad="SAME_UPPER"),
        conv("b", "a", strides=[2, 2], auto_pad="SAME_LOWER"),
        last="b",
    ),
    "enlarged": pooled(
        node(
            "Resize",
            "r none scales",
            "a",
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        last="a",
    ),
    "as large as": pooled(
        *SHAPE,
        node("Resize", "r none none sizes", "a", mode="linear"),
        last="a",
    ),
    "of one size inside": [
        CONV,
        RELU,
        node("Resize", "r none none inner", "a", mode="linear"),
        node("Flatten", "a", "f"),
        node("Gemm", "f whole", "y", transB=1),
    ],
    "sliced": pooled(node("Slice", "r two four axes", "a"), last="a"),
    "in a row": [
        CONV,
        RELU,
        node("Reshape", "r row", "a"),
        node("ReduceMean", "a", "p", axes=[2], keepdims=0),
        GEMM,
    ],
}
CONSTANTS = {
    "deep": weight(8, 8, 3, 3),
    "none": np.zeros(0, np.float32),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "two": ints(2),
    "four": ints(4),
    "axes": ints(2),
    "zero_two": ints(2, 8),
    "inner": ints(2, 8, 4, 4),
    "whole": weight(5, 128),
    "row": ints(0, 8, -1),
}


def opened(tmp_path, nodes, shape=OPEN, **weights):
    read = {name for one in nodes for name in one.input}
    known = {**WEIGHTS, **CONSTANTS, **weights}
    model = make(nodes, {n: v for n, v in known.items() if n in read}, shape, flatten=False)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path, OpenSize(lambda size: load_onnx(path, size))


@pytest.mark.parametrize("name", [n for n in OPEN_NETWORKS if not (OTHER_AVERAGES and n == "ceil")])
def test_odd_sizes_equal_onnxruntime(tmp_path, name):
    path, network = opened(tmp_path, OPEN_NETWORKS[name])
    networks = bind_sizes(network, ("r",), threads=2)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for height, width in SIZES:
        images = np.random.RandomState(1).standard_normal((2, 3, height, width)).astype(np.float32)
        forward = networks.forward(images)
        (expected,) = session.run(None, {"x": images})
        atol = 3e-5 * abs(expected).max()
        np.testing.assert_allclose(forward.logits, expected, rtol=1e-4, atol=atol)
        assert forward.activation("r").shape[2:] == (-(-height // 2), -(-width // 2))


REFUSED = {
    "flattened": (
        [CONV, RELU, node("Flatten", "r", "f"), node("Gemm", "f wide", "y", transB=1)],
        {"wide": weight(5, 8 * 112 * 112)},
        "Gemm .* ",
    ),
    "positions": (
        pooled(node("Add", "r places", "a"), last="a"),
        {"places": weight(1, 8, 112, 112)},
        "Add",
    ),
    "window": (
        [CONV, RELU, node("AveragePool", "r", "p", kernel_shape=[112, 112]), *DENSE],
        {},
        "Gemm .* ",
    ),
    "reshaped": (
        pooled(node("Reshape", "r fixed", "a"), last="a"),
        {"fixed": ints(0, 8, 112, 112)},
        "Reshape",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_of_one_size_is_refused(tmp_path, name):
    nodes, weights, why = REFUSED[name]
    with pytest.raises(ConfigError, match=rf"^--resize none: model .*{why}") as caught:
        opened(tmp_path, nodes, **weights)
    assert str(caught.value).endswith("; give --image-size without --resize none")
    assert "\n" not in str(caught.value)


def windowed(size=None):
    """A convolution, a pooling of the whole map at 12x12 and a dense layer, as a symbol has it."""
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", num_filter=4, kernel=(1, 1))
    x = mx.sym.Pooling(x, name="pool", kernel=(12, 12), pool_type="avg")
    x = mx.sym.FullyConnected(x, name="dense", num_hidden=5)
    values = {"conv": (4, 3, 1, 1), "dense": (5, 4)}
    parameters = {f"{name}_weight": weight(*shape) for name, shape in values.items()}
    parameters |= {"conv_bias": weight(4), "dense_bias": weight(5)}
    return define(x, parameters, channels=3, size=12)


def test_a_window_for_one_size_is_named():
    match = r"^--resize none: test .* at 44,47 FullyConnected 'dense': .*; 'pool' pools .* at 12 "
    with pytest.raises(ConfigError, match=match):
        OpenSize(windowed)


def test_zoo_networks_pool_globally():
    """Gluon's SqueezeNet, DenseNet and Inception have a window for their own size."""
    network = OpenSize(lambda size: load_network("squeezenet1.1", "random", size))
    assert network.too_small(20, 30) == "30x20 pixels are too few for squeezenet1.1"
    assert network.too_small(20, 1 << 20) == "1048576x20 pixels are too few for squeezenet1.1"
    assert network.too_small(48, 1 << 20) is None
    networks = bind_sizes(network, ("concat7",), extra_layers=("relu25_fwd",))
    forward = networks.forward(np.zeros((1, 97, 131, 3), np.uint8))
    scores = forward.activation("relu25_fwd")
    assert scores.shape == (1, 1000, 6, 8)
    np.testing.assert_allclose(forward.logits, scores.mean((2, 3)), rtol=1e-4, atol=1e-6)


def test_a_file_that_fits_another_size_is_refused_as_it_can_be_used(tmp_path):
    nodes = [CONV, RELU, node("Flatten", "r", "f"), node("Gemm", "f wide", "y", transB=1)]
    with pytest.raises(ConfigError) as caught:
        opened(tmp_path, nodes, wide=weight(5, 8 * 16 * 16))
    assert str(caught.value).startswith("--resize none: ")
    assert str(caught.value).endswith(
        "may need another (--image-size HEIGHT,WIDTH); give --image-size without --resize none"
    )


@pytest.mark.parametrize("name", ["plain", "ceil that divides at its own size", "same"])
def test_a_file_is_read_once_whatever_is_asked(tmp_path, monkeypatch, name):
    read = []
    monkeypatch.setattr(
        onnx_file, "read_model_file", lambda path: read.append(path) or reading(path)
    )
    reading = model_files.read_model_file
    path, _ = opened(tmp_path, OPEN_NETWORKS[name])
    read.clear()
    config = RunConfig(source="x", model=str(path), out="y", resize="none")
    network = open_size(config)
    assert network.one_graph == (name == "plain")
    for height, width in SIZES:
        assert network.too_small(height, width) is None
        assert network.at(height, width).preprocessing.input_shape == (3, height, width)
    assert read == [path]


def test_what_no_graph_can_be_made_for_is_too_large(tmp_path):
    path, _ = opened(tmp_path, OPEN_NETWORKS["same"])
    config = RunConfig(source="x", model=str(path), out="y", resize="none")
    limits = limits_of(config, open_size(config), ("r",), here=False)
    assert limits.refuse(300, 200) is None
    for size in ((300, 1 << 15), (1 << 14, 1 << 14), (9, 1 << 15)):
        refusal = limits.refuse(*size)
        assert refusal.error == "too large" and "too large" in refusal.message
    assert limits.refuse(1 << 13, 9) is None


@pytest.mark.parametrize("shape", [("N", 3, 224, 224), ("N", 3, "height", 224)])
def test_a_file_that_fixes_a_side_is_refused(tmp_path, shape):
    with pytest.raises(ConfigError, match=r"^--resize none: model: the file fixes .*dynamic axes"):
        opened(tmp_path, pooled(), shape)
