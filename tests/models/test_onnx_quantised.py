"""Files that onnxruntime quantised, against the file in floating point that they were made of."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.quantised import REMARK, ROUNDED
from tests.models.onnx_gradcam import relative_error
from tests.models.onnx_models import (
    images_for,
    ints,
    load,
    load_onnx,
    make,
    node,
    reference,
    reference_of_file,
    run,
    slope,
    weight,
)

FIXTURES = Path(__file__).parent.parent / "fixtures" / "onnx" / "quantised"
KINDS = sorted(path.stem for path in FIXTURES.glob("*.onnx") if path.stem != "float")


@pytest.mark.parametrize("kind", KINDS)
def test_close_to_the_file_in_floating_point(kind):
    """Closer than onnxruntime's own logits of the quantised file are."""
    images = np.random.RandomState(3).standard_normal((16, 3, 9, 11)).astype(np.float32)
    path = FIXTURES / f"{kind}.onnx"
    expected = reference_of_file(FIXTURES / "float.onnx", images)
    definition = load_onnx(path)
    error = relative_error(run(definition, images), expected)
    assert error < 0.03
    assert error < relative_error(reference_of_file(path, images), expected) or "16" in kind
    assert definition.remarks == (REMARK,)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dynamic"])
def test_rounding_is_kept(kind):
    """As onnxruntime computes the file, but for a step here and there that is nearly a tie."""
    images = np.random.RandomState(3).standard_normal((16, 3, 9, 11)).astype(np.float32)
    path = FIXTURES / f"{kind}.onnx"
    definition, plain = load_onnx(path, keep_rounding=True), load_onnx(path)
    expected = reference_of_file(path, images)
    error = abs(run(definition, images) - expected).mean()
    assert error < 0.2 * abs(run(plain, images) - expected).mean()
    assert definition.remarks == (ROUNDED,)


def test_gradients_pass_what_is_rounded(tmp_path):
    """Where a value is in the range of the whole numbers, as if it were not rounded."""
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    model = make(nodes, Q)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    definition, x = load_onnx(path, keep_rounding=True), 3 * images_for(model)
    np.testing.assert_allclose(run(definition, x), reference(model, x), atol=1e-5)
    inside = (x > -100 * Q["s"]) & (x < 155 * Q["s"])
    ones = np.ones_like(x)
    assert 0.5 < inside.mean() < 1
    assert slope(definition, x, ones, ones.reshape(len(x), -1)) == pytest.approx(inside.sum())


def test_every_kind_is_there():
    assert len(KINDS) == 8


def test_weights_only(tmp_path):
    """Dequantised weights alone: exactly what onnxruntime computes."""
    rng = np.random.RandomState(0)
    nodes = [
        node("DequantizeLinear", "q s z", "w", axis=0), node("Conv", "x w", "y"),
    ]  # fmt: skip
    weights = {
        "q": rng.randint(-128, 128, (4, 3, 3, 3)).astype(np.int8),
        "s": np.float32([0.01, 0.02, 0.03, 0.04]), "z": np.int8([0, 1, -2, 3]),
    }  # fmt: skip
    model = make(nodes, weights)
    definition = load(model, tmp_path)
    assert [n.op for n in definition.graph.nodes] == ["null", "null", "Convolution", "Flatten"]
    x = images_for(model)
    np.testing.assert_allclose(run(definition, x), reference(model, x), 1e-4, 1e-4)


@pytest.mark.parametrize("signed", [True, False])
def test_four_bits(signed, tmp_path):
    """Two numbers in a byte, in blocks of one scale each."""
    low = -8 if signed else 0
    kind = TensorProto.INT4 if signed else TensorProto.UINT4
    values = np.random.RandomState(0).randint(low, low + 16, (33, 5))
    q = helper.make_tensor("q", kind, values.shape, values)
    scale = weight(11, 5, low=0.1)
    nodes = [
        node("DequantizeLinear", "q s", "w", axis=0, block_size=3), node("MatMul", "x w", "y"),
    ]  # fmt: skip
    model = make(nodes, {"q": q, "s": scale}, opset=21, shape=("N", 3, 4, 33))
    plain = make([node("MatMul", "x w", "y")],
                 {"w": (values * np.repeat(scale, 3, 0)).astype(np.float32)},
                 shape=("N", 3, 4, 33))  # fmt: skip
    x = images_for(plain)
    np.testing.assert_allclose(run(load(model, tmp_path), x), reference(plain, x), 1e-4, 1e-4)


Q = {"s": np.float32(0.05), "z": np.uint8(100), "s2": np.float32(0.1), "z2": np.uint8(40)}


def test_other_scale_behind(tmp_path):
    """A DequantizeLinear that does not undo what QuantizeLinear did multiplies and shifts."""
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s2 z2", "y")]
    model = make(nodes, Q)
    x = images_for(model)
    ours, theirs = run(load(model, tmp_path), x), reference(model, x)
    assert np.abs(ours - theirs).max() <= 0.051  # half a step of 0.1


@pytest.mark.parametrize(
    ("moving", "weights"),
    [
        (node("Pad", "q p", "m"), {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
        (node("Transpose", "q", "m", perm=[0, 2, 3, 1]), {}),
        (node("Concat", "q q", "m", axis=1), {}),
        (node("MaxPool", "q", "m", kernel_shape=[2, 2]), {}),
        (node("Reshape", "q t", "m"), {"t": ints(0, -1)}),
    ],
    ids=lambda value: getattr(value, "op_type", ""),
)
def test_quantised_numbers_are_moved(moving, weights, tmp_path):
    nodes = [
        node("QuantizeLinear", "x s z", "q"), moving, node("DequantizeLinear", "m s z", "y"),
    ]  # fmt: skip
    model = make(nodes, Q | weights)
    x = images_for(model)
    ours, theirs = run(load(model, tmp_path), x), reference(model, x)
    assert np.abs(ours - theirs).max() <= 0.026


def test_computing_with_quantised_numbers_is_refused(tmp_path):
    nodes = [node("QuantizeLinear", "x s z", "q"), node("Add", "q z", "m"),
             node("DequantizeLinear", "m s z", "y")]  # fmt: skip
    with pytest.raises(ModelError, match=r"Add node 'm'.*computes with quantised numbers"):
        load(make(nodes, Q), tmp_path)


def test_range_that_stands_for_a_relu_is_kept(tmp_path):
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    model = make(nodes, Q | {"z": np.uint8(0)})
    assert [n.op for n in load(model, tmp_path).graph.nodes] == ["null", "clip", "Flatten"]
    after_relu = make([node("Relu", "x", "r"), node("QuantizeLinear", "r s z", "q"),
                       node("DequantizeLinear", "q s z", "y")], Q | {"z": np.uint8(0)})  # fmt: skip
    kept = [n.op for n in load(after_relu, tmp_path).graph.nodes]
    assert kept == ["null", "Activation", "Flatten"]
