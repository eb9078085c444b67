"""What reads constants only is computed once, whatever the operator, as onnxruntime does it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shardcam.engine.errors import ModelError
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

NONE = np.zeros(0, np.float32)
A, B, LOGIC = weight(3, 4), weight(3, 4, seed=1, low=0.5), np.array([[True], [False], [True]])
F, I = TensorProto.FLOAT, TensorProto.INT64  # noqa: E741
ROW = ints(2, 0, 1)

# Operator, constant inputs, attributes, opset. The first output is added up and added to x.
FOLDED = {
    **{op: (op, [A], {}, 17) for op in
       ("Abs", "Neg", "Exp", "Sigmoid", "Tanh", "Relu", "Softplus", "Softsign", "Erf", "Floor",
        "Ceil", "Round", "Sign", "Sin", "Cos", "Tan", "Atan", "Asinh", "Elu", "Selu", "LeakyRelu",
        "HardSigmoid", "HardSwish", "Celu", "ThresholdedRelu", "Shrink", "Identity", "Softmax",
        "LogSoftmax", "Hardmax", "LpNormalization", "Size")},
    **{f"{op}-9": (op, [weight(2, 3, 4)], {}, 9) for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{op: (op, [B], {}, 17) for op in ("Sqrt", "Log", "Reciprocal")},
    **{op: (op, [A], {}, 20) for op in ("Gelu", "Mish", "IsNaN", "IsInf")},
    **{op: (op, [A, B], {}, 17) for op in
       ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Equal", "Less", "Greater",
        "GreaterOrEqual", "LessOrEqual", "PRelu")},
    "Pow": ("Pow", [B, A], {}, 17), "Mod": ("Mod", [A, B], {"fmod": 1}, 17),
    "Div-whole": ("Div", [ints(-7, 7, 8), ints(2, 2, -3)], {}, 17),
    "Mod-whole": ("Mod", [ints(-7, 7, 8), ints(2, 3, -3)], {}, 17),
    "Clip": ("Clip", [A, np.float32(-0.3), np.float32(0.4)], {}, 17),
    "Clip-6": ("Clip", [A], {"min": -0.2, "max": 0.4}, 9),
    "CumSum": ("CumSum", [A, np.array(1)], {"reverse": 1}, 17),
    "Not": ("Not", [LOGIC], {}, 17), "And": ("And", [LOGIC, LOGIC.T], {}, 17),
    "Or": ("Or", [LOGIC, LOGIC.T], {}, 17), "Xor": ("Xor", [LOGIC, LOGIC.T], {}, 17),
    "Where": ("Where", [LOGIC, A, B], {}, 17), "Cast": ("Cast", [A], {"to": I}, 17),
    **{op: (op, [A], {"axes": [1], "keepdims": 0}, 12) for op in
       ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
        "ReduceLogSumExp", "ReduceSumSquare")},
    **{f"{op}-18": (op, [B, ints(0)], {}, 18) for op in
       ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceProd", "ReduceL2", "ReduceLogSum")},
    "ArgMax": ("ArgMax", [A], {"axis": 1}, 17), "ArgMin": ("ArgMin", [A], {"keepdims": 0}, 17),
    "TopK": ("TopK", [A, ints(2)], {}, 17), "NonZero": ("NonZero", [LOGIC], {}, 17),
    "Unique": ("Unique", [ROW], {}, 17),
    "Compress": ("Compress", [A, LOGIC[:, 0]], {"axis": 0}, 17),
    "Range": ("Range", [np.array(1), np.array(9), np.array(3)], {}, 17),
    "ConstantOfShape": ("ConstantOfShape", [ints(2, 3)], {}, 17),
    "EyeLike": ("EyeLike", [A], {"k": 1}, 17), "Trilu": ("Trilu", [A], {}, 17),
    "Expand": ("Expand", [A, ints(2, 1, 4)], {}, 17), "Tile": ("Tile", [A, ints(2, 3)], {}, 17),
    "OneHot": ("OneHot", [ROW, np.array(4), np.float32([0.5, 2])], {}, 17),
    "Gather": ("Gather", [A, ROW], {"axis": 1}, 17),
    "GatherElements": ("GatherElements", [A, ints(*[[0, 1, 2, 3]] * 3)], {"axis": 1}, 17),
    "GatherND": ("GatherND", [A, ints([0, 1], [2, 3])], {}, 17),
    "ScatterND": ("ScatterND", [A, ints([0], [2]), B[:2]], {}, 17),
    "ScatterND-places": ("ScatterND", [A, ints([0, 1], [-1, 3]), B[0, :2]], {}, 17),
    **{f"ScatterND-{kind}": ("ScatterND", [A, ints([2], [2]), B[:2]], {"reduction": kind}, 18)
       for kind in ("add", "mul", "max", "min")},
    "ScatterElements": ("ScatterElements", [A, ints([1, 0, 2, 1]), B[:1]], {}, 17),
    "Slice": ("Slice", [A, ints(-1), ints(-9), ints(1), ints(-2)], {}, 17),
    "Split": ("Split", [A, ints(1, 3)], {"axis": 1}, 17),
    "Split-11": ("Split", [A], {"axis": 1}, 11),
    "Squeeze": ("Squeeze", [A[None], ints(0)], {}, 17),
    "Squeeze-9": ("Squeeze", [A[None]], {}, 9),
    "Unsqueeze": ("Unsqueeze", [A, ints(0, 3)], {}, 17),
    "Unsqueeze-9": ("Unsqueeze", [A], {"axes": [1]}, 9),
    "Reshape": ("Reshape", [A, ints(0, 2, -1)], {}, 17), "Flatten": ("Flatten", [A], {}, 17),
    "Transpose": ("Transpose", [A], {}, 17), "Concat": ("Concat", [A, B], {"axis": -1}, 17),
    "Shape": ("Shape", [A], {"start": 1}, 17),
    "Pad": ("Pad", [A, ints(1, 0, 0, 2), np.float32(0.5)], {}, 17),
    "Pad-reflect": ("Pad", [A, ints(1, 0, 0, 2)], {"mode": "reflect"}, 17),
    "Pad-9": ("Pad", [A], {"pads": [1, 0, 0, 2], "value": 0.5}, 9),
    "DepthToSpace": ("DepthToSpace", [weight(1, 4, 2, 3)], {"blocksize": 2}, 17),
    "SpaceToDepth": ("SpaceToDepth", [weight(1, 1, 4, 6)], {"blocksize": 2}, 17),
    "MatMul": ("MatMul", [A, B.T], {}, 17),
    "Gemm": ("Gemm", [A, B], {"transB": 1, "alpha": 0.5}, 17),
    "Einsum": ("Einsum", [A, B], {"equation": "ij,kj->ik"}, 17),
    "LayerNormalization": ("LayerNormalization", [A, B[0]], {}, 17),
    "InstanceNormalization": (
        "InstanceNormalization", [weight(2, 3, 4, 4), B[:, 0], A[:, 0]], {}, 17),
    **{f"BatchNormalization-{opset}": (
        "BatchNormalization", [weight(2, 3, 4, 4), B[:, 0], A[:, 0], A[:, 1], B[:, 1]], {}, opset)
       for opset in (9, 13, 15)},
    "GlobalAveragePool": ("GlobalAveragePool", [weight(1, 3, 4, 5)], {}, 17),
    "MaxPool": ("MaxPool", [weight(1, 2, 4, 5)], {"kernel_shape": [2, 2]}, 17),
    "Conv": ("Conv", [weight(1, 2, 4, 5), weight(3, 2, 2, 2)], {}, 17),
    "Resize": ("Resize", [weight(1, 1, 3, 4), NONE, NONE, ints(1, 1, 6, 8)], {"mode": "cubic"}, 17),
    **{f"Resize-{name}": ("Resize", [weight(1, 4, 4, 3), np.float32(part), NONE, size], kind, 18)
       for name, size, part, kind in (
        ("channels-last", ints(1, 6, 5, 3), [], {"mode": "linear"}),
        ("batch", ints(2, 4, 4, 3), [], {}),
        ("without-outside", ints(1, 4, 6, 5), [], {"mode": "cubic", "exclude_outside": 1}),
        ("of-a-part", ints(1, 4, 6, 5), [0, 0, 0.1, 0.1, 1, 1, 0.9, 0.8],
         {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}),
    )},
    "QuantizeLinear": ("QuantizeLinear", [A, np.float32(0.02), np.int8(3)], {}, 17),
    "BitShift": ("BitShift", [np.uint8([1, 2, 3]), np.uint8([1, 2, 1])], {"direction": "LEFT"}, 17),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_constant_operator_equals_onnxruntime(name, tmp_path):
    op, operands, attributes, opset = FOLDED[name]
    weights = {f"k{i}": np.asarray(value) for i, value in enumerate(operands)}
    outputs = ["r", "more"] if op in ("TopK", "Split") else ["r"]
    nodes = [
        helper.make_node(op, list(weights), outputs, **attributes),
        node("Cast", "r", "f", to=F),
        node("ReduceL2", "f", "s", keepdims=0),
        node("Add", "x s", "y"),
    ]
    definition = assert_same(make(nodes, weights, opset=opset), tmp_path)
    assert [n.op for n in definition.graph.nodes] == ["null", "_plus_scalar", "Flatten"]


@pytest.mark.parametrize(
    ("op", "operands"),
    [
        ("MatMul", [weight(2000, 2), weight(2, 2000)]),
        ("ScatterND", [weight(800, 800), np.argwhere(np.ones((800, 800))), weight(640_000)]),
        ("Resize", [weight(1, 96, 7, 7), *[np.zeros(0, np.float32)] * 2, ints(1, 96, 56, 56)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_large_tables(op, operands, tmp_path):
    """As those of relative positions: what they cost is not overestimated."""
    weights = {f"k{i}": value for i, value in enumerate(operands)}
    attributes = {"mode": "cubic"} if op == "Resize" else {}
    nodes = [
        node(op, " ".join(weights), "r", **attributes),
        node("ReduceMax", "r", "s", keepdims=0),
    ]
    assert_same(make([*nodes, node("Add", "x s", "y")], weights), tmp_path)


def test_weight_standardisation(tmp_path):
    """As timm's BiT and NFNet export it: BatchNormalization in training mode over a weight."""
    nodes = [
        node("Reshape", "w one_row", "rows"),
        node("BatchNormalization", "rows g b m v", "normal m2 v2", training_mode=1, momentum=0.0),
        node("Reshape", "normal shape", "k"), node("Conv", "x k", "y"),
    ]  # fmt: skip
    weights = {
        "w": weight(4, 3, 3, 3), "one_row": ints(1, 4, -1), "shape": ints(4, 3, 3, 3),
        "g": weight(4), "b": np.zeros(4, np.float32), "m": np.zeros(4, np.float32),
        "v": np.ones(4, np.float32),
    }  # fmt: skip
    definition = load(make(nodes, weights, opset=15), tmp_path)
    images = images_for(make(nodes, weights))
    flat = weights["w"].reshape(4, -1)
    normal = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 1e-5)
    normal = (normal * weights["g"][:, None]).reshape(4, 3, 3, 3)
    plain = make([node("Conv", "x k", "y")], {"k": normal})
    np.testing.assert_allclose(run(definition, images), reference(plain, images), 1e-4, 1e-5)


def branch(name, *nodes, outputs, weights=()):
    values = [helper.make_tensor_value_info(o, F, None) for o in outputs]
    constants = [onnx.numpy_helper.from_array(v, n) for n, v in dict(weights).items()]
    return helper.make_graph(list(nodes), name, [], values, constants)


def either(condition, **options):
    """An If whose branches read from around it."""
    yes = branch(
        "yes", node("Mul", "x two", "double"), outputs=["double"], weights={"two": np.float32(2)}
    )
    no = branch("no", node("Neg", "around", "negative"), outputs=["negative"])
    nodes = [
        node("Relu", "x", "around"), *condition,
        node("If", "c", "y", then_branch=yes, else_branch=no),
    ]  # fmt: skip
    return make(nodes, options.pop("weights", {}), **options)


@pytest.mark.parametrize(("value", "operator"), [(True, "_mul_scalar"), (False, "negative")])
def test_if_with_a_known_condition(value, operator, tmp_path):
    model = either([], weights={"c": np.array(value)})
    definition = assert_same(model, tmp_path)
    assert operator in [n.op for n in definition.graph.nodes]


def test_if_that_asks_for_a_shape(tmp_path):
    """As PyTorch writes squeeze(): the number of channels decides, not that of images."""
    asked = [
        node("Shape", "x", "s"), node("Gather", "s one", "n"), node("Less", "n nine", "c"),
    ]  # fmt: skip
    weights = {"one": np.array(1), "nine": np.array(9)}
    assert_same(either(asked, weights=weights), tmp_path)
    with pytest.raises(ModelError, match="depends on the batch size"):
        load(either(asked, weights=weights | {"one": np.array(0)}), tmp_path)


def test_if_with_a_condition_of_the_images(tmp_path):
    asked = [node("ReduceMax", "x", "m", keepdims=0), node("Cast", "m", "c", to=TensorProto.BOOL)]
    with pytest.raises(ModelError, match="ReduceMax node 'm'"):
        load(either(asked), tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_unsorted_nodes(seed, tmp_path):
    """onnxruntime takes them too."""
    nodes = [
        node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Neg", "c", "n"),
        node("Add", "r n", "a"), node("Neg", "a", "y"), node("Flatten", "y", "flat"),
    ]  # fmt: skip
    np.random.RandomState(seed).shuffle(nodes)
    weights = {"w": weight(4, 3, 3, 3)}
    assert_same(make(nodes, weights, output="flat", flatten=False), tmp_path)


def test_what_no_output_needs_is_left_alone(tmp_path):
    nodes = [node("Neg", "x", "y"), node("NonMaxSuppression", "x x", "z")]
    assert [n.op for n in load(make(nodes), tmp_path).graph.nodes][1:] == ["negative", "Flatten"]
