"""Files that are damaged or mean harm end in one clear line, and nothing else happens."""

import os
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.onnx_file import OnnxFile
from tests.models.onnx_models import images_for, ints, load_onnx, make, node, reference, run, weight

CONV = node("Conv", "x w", "y", name="/conv")
WEIGHTS = {"w": weight(4, 3, 3, 3)}


def tensor(dims, data_type=TensorProto.FLOAT, **fields):
    return TensorProto(name="w", dims=dims, data_type=data_type, **fields)


def conv_with(proto):
    return make([CONV], {"w": proto})


def edited(edit, nodes=(CONV,), weights=None, **options):
    model = make(list(nodes), WEIGHTS | (weights or {}), **options)
    edit(model)
    return model


def external(location, **where):
    proto = tensor([4, 3, 3, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **where}.items():
        proto.external_data.add(key=key, value=str(value))
    return conv_with(proto)


def single(op, inputs="x", weights=None, opset=17, outputs="y", **attributes):
    return make([node(op, inputs, outputs, **attributes)], weights, opset=opset)


def set_opset(version):
    return lambda model: setattr(model.opset_import[0], "version", version)


GOOD = make([CONV], WEIGHTS).SerializeToString()
BIG = ints(2**40, 2**20)
HUGE = {
    "low": np.array(0, np.int64), "high": np.array(2**60, np.int64), "one": np.array(1, np.int64)
}  # fmt: skip

# What the file is: its bytes or model; and what the line must say.
HOSTILE = {
    "empty": (b"", "not an ONNX file"),
    "text": (b"<!DOCTYPE html><html>404</html>", "not an ONNX file"),
    "pickle": (b"\x80\x04\x95\x10cposix\nsystem\n(S'true'\ntR.", "not an ONNX file"),
    "zeros": (bytes(1000), "not an ONNX file"),
    "truncated": (GOOD[: len(GOOD) // 2], "not an ONNX file"),
    "one-byte-short": (GOOD[:-1], "not an ONNX file"),
    "no-graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "it contains no network"),
    "opset-6": (edited(set_opset(6)), "opset 6 is not supported; 7 to"),
    "opset-999": (edited(set_opset(999)), "opset 999 is not supported"),
    "no-opset": (edited(lambda m: m.ClearField("opset_import")), "opset 0 is not supported"),
    "cyclic": (
        make([node("Add", "x b", "a"), node("Add", "a a", "b"), node("Neg", "b", "y")]),
        "it has a cycle: 'a' and 'b' need each other",
    ),
    "twice": (make([node("Neg", "x", "y"), node("Neg", "x", "y")]), "'y' is defined twice"),
    "missing-weight": (make([CONV]), "its input 'w' comes from nowhere"),
    "huge-dims": (conv_with(tensor([2**40, 2**20], raw_data=b"1234")), "does not fit its 4 bytes"),
    "overflowing-dims": (conv_with(tensor([2**62, 2**62], raw_data=b"")), "does not fit"),
    "negative-dims": (conv_with(tensor([-4, 3, 3, 3], raw_data=b"")), "is impossible"),
    "rank": (conv_with(tensor([1] * 40, raw_data=b"1234")), "is impossible"),
    "too-few-numbers": (
        conv_with(tensor([4, 3, 3, 3], float_data=[1.0])), "108 numbers are declared, 1 are there"
    ),
    "strings": (conv_with(tensor([1], TensorProto.STRING)), "data type 8 is not supported"),
    "unknown-type": (conv_with(tensor([1], 77, raw_data=b"1")), "data type 77 is not supported"),
    "sparse": (edited(lambda m: m.graph.sparse_initializer.add()), "sparse weights"),
    "external-absolute": (external("/etc/hostname"), "points outside of the model's directory"),
    "external-up": (external("../secret"), "points outside of the model's directory"),
    "external-nothing": (external(""), "points outside of the model's directory"),
    "external-link": (external("link"), "points outside of the model's directory"),
    "external-missing": (external("nowhere.bin"), "does not exist"),
    "external-directory": (external("folder"), "is no regular file"),
    "external-short": (external("short.bin"), "has no such piece"),
    "external-offset": (external("long.bin", offset=2**40), "has no such piece"),
    "external-negative": (external("long.bin", offset=-4, length=432), "has no such piece"),
    "external-no-number": (external("long.bin", offset="x"), "invalid literal"),
    "fold-huge": (
        make([node("ConstantOfShape", "s", "c"), node("Add", "x c", "y")], {"s": BIG}), "too large"
    ),
    "fold-range": (
        make([node("Range", "low high one", "c"), node("Add", "x c", "y")], HUGE), "too large"
    ),
    "fold-divides-by-zero": (
        make([node("Div", "a z", "s"), node("Reshape", "x s", "y")], {"a": ints(6), "z": ints(0)}),
        "Reshape node 'y'",
    ),
    "resize-huge": (
        single("Resize", "x r s", {"r": np.zeros(0, np.float32),
                                   "s": np.array([1, 1, 1e6, 1e6], np.float32)}),
        "are not supported",
    ),
    "pad-huge": (single("Pad", "x p", {"p": ints(0, 0, 2**20, 0, 0, 0, 0, 2**20)}), "too large"),
    "expand-huge": (single("Expand", "x s", {"s": ints(1, 3, 9, 11)[[0]] * 2**40}), "opset 17"),
    "image-huge": (make([CONV], WEIGHTS, shape=("N", 3, 2**20, 2**20)), "are too large"),
    "stride-zero": (edited(lambda m: m.graph.node[0].attribute.append(
        helper.make_attribute("strides", [0, 0]))), "strides (0, 0) is not supported"),
    "dilation-negative": (edited(lambda m: m.graph.node[0].attribute.append(
        helper.make_attribute("dilations", [-1, 1]))), "dilations (-1, 1) is not supported"),
    "pads-negative": (edited(lambda m: m.graph.node[0].attribute.append(
        helper.make_attribute("pads", [-1, 0, 0, 0]))), "padding (-1, 0, 0, 0)"),
    "group-zero": (edited(lambda m: m.graph.node[0].attribute.append(
        helper.make_attribute("group", 0))), "in 0 groups does not fit 3 channels"),
    "kernel-zero": (single("MaxPool", kernel_shape=[0, 0]), "kernel_shape (0, 0)"),
    "kernel-larger-than-image": (single("MaxPool", kernel_shape=[20, 20]), "does not fit 9"),
    "wrong-attribute-kind": (single("MaxPool", kernel_shape=3.0), "not a list of integers"),
    "subgraph": (
        single("If", "x", then_branch=onnx.GraphProto(name="t")), "depends on the images"
    ),
    "unknown-operator": (
        single("NonMaxSuppression"), "NonMaxSuppression node 'y' (opset 17): this operator is not"
    ),
    "unknown-attribute": (single("Relu", colour=3), "attribute colour is not supported"),
    "own-domain": (
        single("Relu", domain="com.acme"), "operators of 'com.acme' are not supported"
    ),
    "two-inputs": (edited(lambda m: m.graph.input.append(
        helper.make_tensor_value_info("z", 1, ["N", 3, 9, 11]))), "it has 2 inputs"),
    "two-outputs": (edited(lambda m: m.graph.output.append(m.graph.output[0])), "it has 2 outputs"),
    "no-output": (edited(lambda m: m.graph.ClearField("output")), "it has 0 outputs"),
    "unknown-output": (
        edited(lambda m: setattr(m.graph.output[0], "name", "z")), "does not depend on the images"
    ),
    "one-channel": (make([CONV], WEIGHTS, shape=("N", 1, 9, 3, 3)), "does not take images"),
    "four-channels": (edited(lambda m: setattr(
        m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 4)),
        "in 1 groups does not fit 4 channels"),
    "bytes-as-input": (edited(lambda m: setattr(
        m.graph.input[0].type.tensor_type, "elem_type", 2)), "computes in whole numbers"),
    "no-logits": (
        make([CONV, node("Reshape", "y rows", "z")], WEIGHTS | {"rows": np.array([0, 4, -1])},
             flatten=False, output="z", rank=3),
        "(4, 63) for each image is not a vector of logits, nor maps",
    ),
    "training-dropout": (
        make([node("Dropout", "x r t", "y")], {"r": np.float32(0.5), "t": np.array(True)}),
        "training mode",
    ),
    "training-norm": (
        single("BatchNormalization", "x s s s s", {"s": weight(3)}, training_mode=1),
        "training_mode=1",
    ),
    "pool-indices": (single("MaxPool", outputs="y i", kernel_shape=[2, 2]), "indices"),
    "pool-dilated": (
        single("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), "dilations (2, 2)"
    ),
    "antialias": (
        single("Resize", "x r s", {"r": np.zeros(0, np.float32),
                                   "s": np.array([1, 1, 2, 2], np.float32)},
               mode="cubic", antialias=1),
        "attribute antialias=1 is not supported",
    ),
    "weight-from-images": (single("Conv", "x x"), "input 1 depends on the images"),
    "bias-shape": (
        make([node("Conv", "x w b", "y")], WEIGHTS | {"b": weight(7)}), "a bias of (7,)"
    ),
    "norm-shape": (
        single("BatchNormalization", "x s s s s", {"s": weight(4)}), "does not fit (3, 9, 11)"
    ),
    "shapes": (single("Add", "x c", {"c": weight(3, 9, 5)}), "do not fit"),
}  # fmt: skip


@pytest.fixture
def directory(tmp_path):
    """A model's directory with things around it that it must not reach."""
    (tmp_path / "secret").write_bytes(bytes(432))
    place = tmp_path / "model"
    place.mkdir()
    (place / "folder").mkdir()
    (place / "short.bin").write_bytes(bytes(10))
    (place / "long.bin").write_bytes(bytes(1000))
    (place / "link").symlink_to(tmp_path / "secret")
    return place


@pytest.mark.parametrize("name", HOSTILE)
def test_one_clear_line(name, directory):
    source, line = HOSTILE[name]
    path = directory / "model.onnx"
    path.write_bytes(source if isinstance(source, bytes) else source.SerializeToString())
    began = time.process_time()
    with pytest.raises(ModelError) as refused:
        load_onnx(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert line in message
    assert "\n" not in message
    assert time.process_time() - began < 5


def test_networks_of_two_sizes_share_the_weights_of_the_file(tmp_path):
    path = tmp_path / "model.onnx"
    shape = ("N", 3, "h", "w")
    nodes = [CONV, node("GlobalAveragePool", "y", "p")]
    model = make(nodes, {"w": weight(4, 3, 3, 3)}, shape, output="p")
    path.write_bytes(model.SerializeToString())
    file = OnnxFile(path)
    first, second = (file.network(size) for size in (8, 16))
    assert first.parameters["w"] is second.parameters["w"]


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        load_onnx(tmp_path / "none.onnx")


def test_directory(tmp_path):
    with pytest.raises(ModelError, match="is a directory"):
        load_onnx(tmp_path)


def test_external_data_next_to_the_model(tmp_path):
    """And weights may not be made of the same bytes again and again."""
    value = weight(4, 3, 3, 3)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(bytes(16) + value.tobytes())
    model = external("weights/w.bin", offset=16, length=432)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    plain = make([CONV], {"w": value})
    images = images_for(plain)
    np.testing.assert_allclose(
        run(load_onnx(path), images), reference(plain, images), rtol=1e-5, atol=1e-5
    )
    for number in range(5):
        model.graph.initializer.append(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"again{number}"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="more weights than"):
        load_onnx(path)


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_do_not_crash(seed, tmp_path):
    """Any damage is either harmless or refused."""
    rng = np.random.RandomState(seed)
    data = bytearray(GOOD)
    for at in rng.randint(0, len(data), 1 + seed % 4):
        data[at] ^= 1 << rng.randint(8)
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(data))
    try:
        load_onnx(path)
    except ModelError as error:
        assert os.linesep not in str(error)
