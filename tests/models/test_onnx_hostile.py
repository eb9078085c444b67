"""More files that mean harm: sizes that grow, loops, cycles, types that lie, one line for each."""

import time
import tracemalloc
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shardcam.engine.errors import ModelError
from tests.models.onnx_models import ints, load_onnx, make, node, weight
from tests.models.test_onnx_folding import branch

W = {"w": weight(4, 3, 3, 3)}
MEBI = 100 * 2**20  # far below what these files ask for


def grown(op, *constants, opset=17, **attributes):
    """A constant that becomes large, added to the images."""
    weights = {f"k{i}": np.asarray(value) for i, value in enumerate(constants)}
    made = helper.make_node(op, list(weights), ["g"], **attributes)
    return make([made, node("Add", "x g", "y")], weights, opset=opset)


def many(op, count, *constants, **attributes):
    """The same again and again, each kept for the sum at the end."""
    weights = {f"k{i}": np.asarray(value) for i, value in enumerate(constants)}
    made = [helper.make_node(op, list(weights), [f"g{n}"], **attributes) for n in range(count)]
    names = " ".join(f"g{n}" for n in range(count))
    return make([*made, node("Sum", names, "s"), node("Add", "x s", "y")], weights)


def doubling(op, times, **attributes):
    """Each node reads the one before twice."""
    nodes = [node(op, f"d{i} d{i}", f"d{i + 1}", **attributes) for i in range(times)]
    return make([*nodes, node("Add", f"x d{times}", "y")], {"d0": np.ones((2, 2), np.float32)})


def nested(depth):
    """Branches within branches."""
    inner = branch("b0", node("Neg", "x", "n0"), outputs=["n0"])
    for i in range(1, depth):
        step = node("If", "c", f"n{i}", then_branch=inner)
        inner = branch(f"b{i}", step, outputs=[f"n{i}"])
    last = node("If", "c", "y", then_branch=inner)
    return make([last], {"c": np.array(True)})


def loop():
    body = branch("body", node("Add", "v v", "w2"), outputs=["w2"])
    repeat = node("Loop", "times go start", "g", body=body)
    weights = {"times": np.array(2**60), "go": np.array(True), "start": np.float32(1)}
    return make([repeat, node("Add", "x g", "y")], weights)


def ring(count):
    nodes = [node("Neg", f"n{(i + 1) % count}", f"n{i}") for i in range(count)]
    return make([*nodes, node("Add", "x n0", "y")])


def chain(count):
    """Back to front, so that a recursion would be as deep."""
    names = ["x", *(f"n{i}" for i in range(count - 1)), "y"]
    nodes = [node("Relu", a, b) for a, b in pairwise(names)]
    return make(nodes[::-1], opset=17)


def stacked(count):
    """One constant of 64 MiB as a weight of each of many nodes."""
    nodes = [node("ConstantOfShape", "s", "c"), node("Add", "x c", "a0")]
    nodes += [node("Add", f"a{i} c", f"a{i + 1}") for i in range(count)]
    nodes.append(node("GlobalMaxPool", f"a{count}", "y"))
    return make(nodes, {"s": ints(1, 3, 2048, 2730)}, shape=("N", 3, 2048, 2730))


def laughing(depth, width=30):
    """Functions that use the one before many times."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = [helper.make_function("f", "F0", ["a"], ["b"], [node("Neg", "a", "b")], opset)]
    for i in range(1, depth):
        names = ["a", *(f"v{n}" for n in range(width - 1)), "b"]
        steps = [node(f"F{i - 1}", p, q, domain="f") for p, q in pairwise(names)]
        functions.append(helper.make_function("f", f"F{i}", ["a"], ["b"], steps, opset))
    return with_functions(functions)


def with_functions(functions):
    model = make([node(functions[-1].name, "x", "y", domain="f")])
    model.opset_import.append(helper.make_opsetid("f", 1))
    model.functions.extend(functions)
    return model


def in_itself():
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    again = [node("F", "a", "b", domain="f")]
    return with_functions([helper.make_function("f", "F", ["a"], ["b"], again, opset)])


def large_when_written_out(attribute):
    """A small file that copies a megabyte into each of a thousand nodes."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    long = "n" * 2**20
    names = ["a", *(f"v{i}" for i in range(999)), "b"]
    steps = [node("Gelu", p, q) for p, q in pairwise(names)]
    if attribute:
        for step in steps:
            step.attribute.append(
                onnx.AttributeProto(name="approximate", ref_attr_name="how", type=3)
            )
        given, last = {"how": long}, node("Neg", "b", "y")
    else:
        steps += [node("Neg", "b", "b2")] * 999
        given, last = {}, node("Neg", long, "y")
    function = helper.make_function("f", "F", ["a"], ["b"], steps, opset, list(given))
    model = make([node("F", "x", "b" if attribute else long, domain="f", **given), last])
    model.opset_import.append(helper.make_opsetid("f", 1))
    model.functions.append(function)
    return model


def of_whole_numbers(*nodes):
    """A file whose input is of bytes."""
    model = make([*nodes, node("Cast", "m", "y", to=TensorProto.FLOAT)])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


def doubly(times):
    """Each value is moved twice, and both ways meet: as many ways as two to that power."""
    nodes, last = [], "x"
    for i in range(times):
        nodes += [node("Identity", last, f"a{i}"), node("Identity", last, f"b{i}")]
        nodes.append(node("Gather", f"a{i} b{i}", last := f"g{i}" if i < times - 1 else "m"))
    return of_whole_numbers(*nodes)


def typed(kind, **fields):
    proto = TensorProto(name="q", dims=[2**33], data_type=kind, **fields)
    nodes = [node("DequantizeLinear", "q s", "f"), node("Add", "x f", "y")]
    return make(nodes, {"q": proto, "s": np.float32(1)}, opset=21)


def conv_of(nodes, weights):
    return make([*nodes, node("Conv", "x k", "y")], W | weights)


Q = {"s": np.float32(0.1), "z": np.uint8(3)}
EMPTY = np.zeros(0, np.float32)
IMAGE = np.ones((1, 1, 64, 64), np.float32)

# What the file is, and what its one line must say.
HOSTILE = {
    "tile": (grown("Tile", np.float32([1]), ints(2**40)), "numbers is too large"),
    "tile-overflows": (grown("Tile", np.ones((2, 3), np.float32), ints(2**62, 2**62)), "Tile node"),
    "expand": (grown("Expand", np.float32(1), ints(2**20, 2**20)), "numbers is too large"),
    "pad": (grown("Pad", np.float32([1]), ints(2**40, 0)), "numbers is too large"),
    "pad-overflows": (grown("Pad", np.float32([1]), ints(2**62, 2**62)), "Pad node 'g'"),
    "one-hot": (grown("OneHot", ints(1), np.array(2**40), np.float32([0, 1])), "too large"),
    "range-of-nothing": (
        grown("Range", np.float32(0), np.float32(1), np.float32(0)), "Range node 'g'"
    ),
    "range-of-tiny-steps": (
        grown("Range", np.float32(0), np.float32(1), np.float32(1e-38)), "Range node 'g'"
    ),
    "resize": (
        grown("Resize", IMAGE, EMPTY, np.float32([1, 1, 1e5, 1e5]), mode="linear"), "too large"
    ),
    "resize-slowly": (
        grown("Resize", IMAGE[0], EMPTY, np.float32([1, 9, 9]), mode="cubic"), "asks for too much"
    ),
    "upsample": (grown("Upsample", IMAGE, np.float32([1, 1, 1e5, 1e5]), opset=9), "too large"),
    "product": (
        grown("MatMul", np.ones((2**15, 1), np.float32), np.ones((1, 2**15), np.float32)),
        "numbers is too large",
    ),
    "einsum": (
        grown("Einsum", *[np.ones(200, np.float32)] * 5, equation="a,b,c,d,e->"), "too large"
    ),
    "conv-slowly": (
        grown("Conv", np.ones((1, 64, 999, 999), np.float32), np.ones((99, 64, 9, 9), np.float32)),
        "asks for too much",
    ),
    "boxes-slowly": (
        grown("NonMaxSuppression", np.zeros((1, 5000, 4), np.float32),
              np.zeros((1, 1, 5000), np.float32)),
        "NonMaxSuppression node 'g'",
    ),
    "window": (grown("HannWindow", np.array(2**40)), "not supported on constants"),
    "center-crop-pad": (
        grown("CenterCropPad", np.float32([1]), ints(2**40), opset=18), "not supported on const"
    ),
    "many-constants": (many("ConstantOfShape", 40, ints(2**13, 2**13)), "asks for too much"),
    "many-random": (many("RandomNormal", 1, shape=[2**20]), "not supported on constants"),
    "doubling-concat": (doubling("Concat", 60, axis=0), "Concat node"),
    "one-weight-many-times": (stacked(200), "asks for too much"),
    "loop": (loop(), "Loop node 'g' (opset 17): loops are not supported; cut the file"),
    "functions-of-functions": (laughing(20), "at most 50000 are read"),
    "function-in-itself": (in_itself(), "its function 'F' uses itself"),
    "too-many-nodes": (ring(60_000), "it has 60002 nodes; at most 50000 are read"),
    "names-of-functions": (large_when_written_out(False), "written out, have more than"),
    "attributes-of-functions": (large_when_written_out(True), "written out, have more than"),
    "whole-numbers-in-a-ring": (
        of_whole_numbers(node("Pad", "x m", "n"), node("Identity", "n", "m")), "it has a cycle"
    ),
    "whole-numbers-doubly": (doubly(60), "Gather node 'g0'"),
    "places-of-many-axes": (
        grown("NonZero", np.ones((2**23, *[1] * 31), np.int8)), "numbers is too large"
    ),
    "constants-of-strangers": (
        make([node("Identity", "w", "k", domain="stranger"), node("Conv", "x k", "y")], W),
        "this operator is not supported on constants",
    ),
    "ring": (ring(3000), "it has a cycle"),
    "nested-cycle": (
        make([node("If", "c", "y", then_branch=branch("b", node("Neg", "y", "n"), outputs=["n"]))],
             {"c": np.array(True)}),
        "it has a cycle",
    ),
    "branch-missing": (make([node("If", "c", "y")], {"c": np.array(True)}), "branch is missing"),
    "branch-without-outputs": (
        make([node("If", "c", "y", then_branch=helper.make_graph([], "b", [], []))],
             {"c": np.array(True)}),
        "If node 'y'",
    ),
    "branch-shadows": (
        make([node("If", "c", "y", then_branch=branch("b", node("Neg", "x", "x"), outputs=["x"]))],
             {"c": np.array(True)}),
        "If node 'y'",
    ),
    "condition-of-many": (
        make([node("If", "c", "y", then_branch=branch("b", outputs=["x"]))],
             {"c": np.array([True, False])}),
        "not one truth value",
    ),
    "four-bits-short": (typed(TensorProto.INT4, raw_data=b"12"), "does not fit its 2 bytes"),
    "four-bits-listed": (typed(TensorProto.UINT4, int32_data=[1]), "declared, 1 are there"),
    "scale-shape": (
        conv_of([node("DequantizeLinear", "q t", "k", axis=0)],
                {"q": np.ones((4, 3, 3, 3), np.int8), "t": weight(3)}),
        "a scale of (3,) does not fit",
    ),
    "scale-axis": (
        conv_of([node("DequantizeLinear", "q t", "k", axis=9)],
                {"q": np.ones((4, 3, 3, 3), np.int8), "t": weight(4)}),
        "axis 9 is out of range",
    ),
    "scale-block": (
        conv_of([node("DequantizeLinear", "q t", "k", axis=0, block_size=2**40)],
                {"q": np.ones((4, 3, 3, 3), np.int8), "t": weight(4, 3, 3, 3)}),
        "DequantizeLinear node 'k'",
    ),
    "scale-of-nothing": (
        make([node("QuantizeLinear", "x o z", "q"), node("DequantizeLinear", "q s z", "y")],
             Q | {"o": np.float32(0)}),
        "its scale is no positive number",
    ),
    "scale-from-images": (
        make([node("ReduceMax", "x", "m", axes=[1, 2]), node("QuantizeLinear", "x m z", "y")], Q),
        "depends on the images",
    ),
    "zero-of-many": (
        make([node("QuantizeLinear", "x s t", "q"), node("DequantizeLinear", "q s z", "y")],
             Q | {"t": np.uint8([1, 2])}),
        "a scale for each channel",
    ),
    "qlinear-without-inputs": (make([node("QLinearConv", "x s z", "y")], Q), "input 3 is missing"),
    "fused-activation": (
        make([node("FusedConv", "x w", "y", domain="com.microsoft", activation="Softmax")], W),
        "activation 'Softmax' is not supported",
    ),
    "layout-of-one-processor": (
        make([node("Conv", "x w", "y", domain="com.microsoft.nchwc")], W), "ORT_ENABLE_EXTENDED"
    ),
    "fused-unknown": (
        make([node("Attention", "x w", "y", domain="com.microsoft")], W),
        "this operator is not supported",
    ),
    "unknown-attribute-of-constants": (grown("Neg", np.float32(1), colour=3), "attribute colour"),
    "unknown-operator-of-constants": (grown("Frobnicate", np.float32(1)), "is not supported"),
    "invalid-constants": (
        grown("Gather", np.float32([1]), ints(7)), "its constant inputs are not valid"
    ),
    "image-decoder": (
        grown("ImageDecoder", np.uint8([1, 2, 3]), opset=20), "not supported on constants"
    ),
    "padding-wraps": (
        make([node("Pad", "x p", "y", mode="wrap")], {"p": ints(0, 0, 0, 0, 0, 0, 0, 2**40)},
             opset=19),
        "is too large",
    ),
    "padding-cuts-all": (
        make([node("Pad", "x p", "y")], {"p": ints(0, 0, -5, 0, 0, 0, -5, 0)}), "nothing is left"
    ),
    "padding-of-images": (
        make([node("Pad", "x p", "y")], {"p": ints(1, 0, 0, 0, 0, 0, 0, 0)}), "pads the batch"
    ),
}  # fmt: skip


SLOWLY = {"many-constants", "one-weight-many-times"}  # refused when gigabytes are used up


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOWLY else n for n in HOSTILE]
)
def test_one_clear_line(name, tmp_path):
    model, line = HOSTILE[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    began = time.process_time()
    with pytest.raises(ModelError) as refused:
        load_onnx(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert line in message
    assert "\n" not in message
    assert len(message) < 1000
    assert name in SLOWLY or time.process_time() - began < 5


@pytest.mark.parametrize("name", ["tile", "expand", "pad", "one-hot", "resize", "product"])
def test_nothing_is_allocated_before_it_is_refused(name, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(HOSTILE[name][0].SerializeToString())
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            load_onnx(path)
        assert tracemalloc.get_traced_memory()[1] < MEBI
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("model", [nested(20), chain(3000)], ids=["nested", "chain"])
def test_deep_but_harmless(model, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert load_onnx(path).graph.heads


def test_functions_are_written_out(tmp_path):
    definition = load_onnx_from(laughing(3, 2).SerializeToString(), tmp_path)
    assert [n.op for n in definition.graph.nodes] == ["null", *["negative"] * 4, "Flatten"]


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_in_what_is_folded(seed, tmp_path):
    """Damage to constants and to the nodes that read them is harmless or refused."""
    rng = np.random.RandomState(seed)
    nodes = [
        node("Shape", "w", "s"), node("Gather", "s i", "n"), node("Range", "o n one", "r"),
        node("Tile", "r two", "t"), node("Cast", "t", "f", to=TensorProto.FLOAT),
        node("ReduceMax", "f", "m", keepdims=0), node("Pad", "w p", "k"), node("Mul", "k m", "v"),
        node("Conv", "x v", "y"),
    ]  # fmt: skip
    weights = W | {
        "i": np.array(0), "o": np.array(0), "one": np.array(1), "two": ints(2),
        "p": ints(0, 0, 0, 0, 0, 0, 1, 1),
    }  # fmt: skip
    data = bytearray(make(nodes, weights).SerializeToString())
    load_onnx_from(bytes(data), tmp_path)
    for at in rng.randint(0, len(data), 1 + seed % 4):
        data[at] ^= 1 << rng.randint(8)
    try:
        load_onnx_from(bytes(data), tmp_path)
    except ModelError as error:
        assert "\n" not in str(error)


def test_functions_take_attributes(tmp_path):
    """Those of the node, else the function's own, else none; its values keep apart."""
    slope = onnx.AttributeProto(name="alpha", ref_attr_name="steep", type=onnx.AttributeProto.FLOAT)
    leak, other = (node("LeakyRelu", "a", "v"), node("LeakyRelu", "v", "b"))
    leak.attribute.append(slope)
    other.attribute.append(slope)
    other.attribute[0].ref_attr_name = "missing"
    opset = [helper.make_opsetid("", 17)]
    leaking = helper.make_function("f", "Leak", ["a"], ["b"], [leak, other], opset, ["steep"])
    model = make([node("Leak", "x", "u", domain="f", steep=0.5),
                  node("Leak", "u", "y", domain="f", steep=0.25)])  # fmt: skip
    model.opset_import.append(helper.make_opsetid("f", 1))
    model.functions.append(leaking)
    nodes = load_onnx_from(model.SerializeToString(), tmp_path).graph.nodes
    assert [n.attrs.get("slope") for n in nodes[1:-1]] == ["0.5", "0.01", "0.25", "0.01"]


def load_onnx_from(data, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return load_onnx(path)


def test_as_many_as_are_promised():
    assert len(HOSTILE) >= 30
    assert all(isinstance(model, onnx.ModelProto) for model, _ in HOSTILE.values())
