"""More model files that lie, repeat themselves or ask for much: one line, or right numbers."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.jobs.command import shardcam
from tests.models.onnx_models import assert_same, ints, load, make, node, weight
from tests.models.test_onnx_files import external
from tests.models.test_onnx_folding import branch
from tests.security.limited import Reader
from tests.security.test_symbol_files import changed, network
from tests.security.test_weight_files import array, params, safetensors

pytestmark = pytest.mark.process
W = {"w": weight(4, 3, 3, 3)}
CONV = node("Conv", "x w", "y")
F, INT = TensorProto.FLOAT, onnx.AttributeProto.INT


@pytest.fixture(scope="module")
def read():
    with Reader() as reader:
        yield reader


def of(op, inputs="x", weights=None, opset=17, **attributes):
    """A file of one node."""
    return make([node(op, inputs, "y", **attributes)], weights, opset=opset)


def edited(edit, nodes=(CONV,), weights=W):
    model = make(nodes, weights)
    edit(model)
    return model


def wide(op, count, **attributes):
    return make([helper.make_node(op, ["x"] * count, ["y"], **attributes)])


def split(outputs, count):
    names = ["y", *(f"o{i}" for i in range(1, outputs))]
    return make([helper.make_node("Split", ["x"], names, axis=1, num_outputs=count)], opset=18)


def with_attributes(op, *protos):
    made = node(op, "x", "y")
    made.attribute.extend(protos)
    return make([made])


def function(*nodes, opset=17, overload="", domain="f", name="F"):
    ids = [helper.make_opsetid("", opset)]
    made = helper.make_function(domain, name, ["a"], ["b"], list(nodes), ids)
    made.overload = overload
    return made


def calling(*functions, overload=""):
    """A file that uses the function F of the domain f."""
    used = node("F", "x", "y", domain="f")
    used.overload = overload
    model = make([used])
    model.opset_import.append(helper.make_opsetid("f", 1))
    model.functions.extend(functions)
    return model


def tokens(*shape, axis=1):
    """A class token of this shape before 99 tokens of four numbers each."""
    nodes = [
        node("Conv", "x w", "c", pads=[1] * 4), node("Reshape", "c r", "t"),
        node("Transpose", "t", "u", perm=[0, 2, 1]), node("Concat", "k u", "v", axis=axis),
        node("ReduceMean", "v", "y", axes=[1], keepdims=0),
    ]  # fmt: skip
    return make(nodes, W | {"r": ints(0, 4, -1), "k": weight(*shape)}, flatten=False)


def quantised(scale, zero=None):
    zero = np.uint8(3) if zero is None else zero
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    return make(nodes, {"s": np.asarray(scale, np.float32), "z": zero})


def shadowing():
    """A branch whose weight has the name of the images."""
    weights = [numpy_helper.from_array(np.float32(1), "x")]
    outputs = [helper.make_tensor_value_info("n", F, None)]
    inside = helper.make_graph([node("Add", "x w", "n")], "b", [], outputs, weights)
    return make([node("If", "c", "y", then_branch=inside)], W | {"c": np.array(True)})


def add_opset(domain, version):
    return edited(lambda m: m.opset_import.append(helper.make_opsetid(domain, version)))


def named(name):
    return onnx.AttributeProto(name=name, i=1, type=INT)


REFUSED = {
    "node-of-many-inputs": (wide("Sum", 300_000), "a node of it has 300000 inputs"),
    "concat-of-many": (wide("Concat", 100_000, axis=1), "at most 4096 are read"),
    "sums-of-many": (
        make([helper.make_node("Sum", ["x"] * 4096, [f"s{i}"]) for i in range(9)]
             + [node("Sum", " ".join(f"s{i}" for i in range(9)), "y")]),
        "more than 50000 nodes and edges",
    ),
    "split-into-many": (split(10_000, 10_000), "Split node 'y' (opset 18): pieces (1, 1, 1"),
    "split-that-counts-wrong": (split(1, 2**40), "it has 1 outputs, not 1099511627776"),
    "weight-twice": (edited(lambda m: m.graph.initializer.append(m.graph.initializer[0])), "twice"),
    "input-twice": (edited(lambda m: m.graph.input.append(m.graph.input[0])), "it has 2 inputs"),
    "node-named-as-its-weight": (make([node("Conv", "x w", "w")], W, output="w"), "defined twice"),
    "output-is-the-images": (
        edited(lambda m: setattr(m.graph.output[0], "name", "x")), "output 'x' is the images"
    ),
    "output-is-a-weight": (
        edited(lambda m: setattr(m.graph.output[0], "name", "w")), "does not depend on the images"
    ),
    "functions-of-one-name": (
        calling(function(node("Neg", "a", "b")), function(node("Abs", "a", "b"))),
        "two of its functions have one name",
    ),
    "function-of-an-operator's-name": (
        calling(function(node("Neg", "a", "b")), function(node("Neg", "a", "b"), domain="",
                                                          name="Relu")),
        "function 'Relu' has the name of an operator",
    ),
    "function-of-another-opset": (
        calling(function(node("Softmax", "a", "b"), opset=11)),
        "is of opset 11, where Softmax means another thing than in the file's opset 17",
    ),
    "function-without-result": (calling(function(node("Neg", "a", "c"))), "'y' comes from nowhere"),
    "function-that-defines-its-input": (
        calling(function(node("Neg", "a", "a"), node("Neg", "a", "b"))), "'x' is defined twice"
    ),
    "opset-twice": (add_opset("", 9), "it states opsets [9, 17]"),
    "opset-by-both-names": (add_opset("ai.onnx", 11), "it states opsets [11, 17]"),
    "attribute-twice": (with_attributes("Softmax", named("axis"), named("axis")), "given twice"),
    "attribute-of-no-function": (
        with_attributes(
            "Softmax", onnx.AttributeProto(name="axis", ref_attr_name="q", type=INT)
        ),
        "attribute axis is a function's, but the node is in none",
    ),
    "attribute-without-a-kind": (
        with_attributes("Softmax", onnx.AttributeProto(name="axis", i=1)), "is of a kind that"
    ),
    "attribute-of-many-numbers": (
        of("MaxPool", kernel_shape=[2, 2], pads=[1] * 10**6), "MaxPool node 'y'"
    ),
    "attribute-of-a-long-name": (with_attributes("Relu", named("a" * 10**6)), "attribute aaaa"),
    "attribute-that-writes-to-a-terminal": (
        with_attributes("Relu", named("a\nb\x1b[31m")), r"attribute a\x0ab\x1b[31m is not"
    ),
    "operator-that-writes-to-a-terminal": (
        make([node("Re\nlu\x1b[31m", "x", "y")]), r"Re\x0alu\x1b[31m node 'y'"
    ),
    "operator-of-a-long-name": (make([node("R" * 10**6, "x", "y")]), "RRRR"),
    "node-of-a-long-name": (
        make([helper.make_node("Foo", ["x"], ["y"], name="n" * 10**6)]), "this operator is not"
    ),
    "slice-of-one-axis-twice": (
        of("Slice", "x a b c", {"a": ints(0, 1), "b": ints(2, 3), "c": ints(2, 2)}),
        "axes (2, 2) name one axis twice",
    ),
    "slice-by-the-least-number": (
        of("Slice", "x a b c d", {"a": ints(5), "b": ints(0), "c": ints(2), "d": ints(-2**63)}),
        "Slice node 'y'",
    ),
    "clip-to-no-number": (
        of("Clip", "x a b", {"a": np.float32(np.nan), "b": np.float32(1)}), "are no range"
    ),
    "clip-to-many-numbers": (of("Clip", "x a", {"a": np.float32([0, 1])}), "is not one number"),
    "sum-with-no-number": (of("Add", "x a", {"a": np.float32(np.nan)}), "its scalar is nan"),
    "product-with-infinity": (of("Mul", "x a", {"a": np.float32(np.inf)}), "its scalar is inf"),
    "slope-of-no-number": (of("LeakyRelu", alpha=float("nan")), "its slope is nan"),
    "padding-with-no-number": (
        of("Pad", "x p v", {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(np.nan)}),
        "its constant_value is nan",
    ),
    "places-of-the-images": (
        of("ScatterND", "k x u", {"k": weight(4, 4), "u": weight(4)}), "places depend on the images"
    ),
    "places-that-are-no-numbers": (
        of("Gather", "x i", {"i": np.float32([np.nan])}, axis=1), "holds a NaN"
    ),
    "scale-of-no-number": (quantised(np.nan), "its scale is no positive number"),
    "scale-without-end": (quantised(np.inf), "its scale is no positive number"),
    "scale-below-nothing": (quantised(-1), "its scale is no positive number"),
    "scale-for-more-channels": (
        quantised(np.ones(5), np.zeros(5, np.uint8)), "a scale of (5,) does not fit (3, 9, 11)"
    ),
    "zero-point-of-floats": (quantised(1, np.float32(0)), "its zero point no whole number"),
    "tokens-of-three-images": (tokens(3, 1, 4), "Concat node 'v'"),
    "token-of-another-length": (tokens(1, 1, 5), "Concat node 'v'"),
    "token-of-another-rank": (tokens(1, 1, 1, 4), "Concat node 'v'"),
    "token-of-nothing": (tokens(1, 0, 4), "is empty"),
    "token-along-the-batch": (tokens(1, 99, 4, axis=0), "works along the batch axis"),
    "branch-that-shadows-the-images": (shadowing(), "'x' is defined twice"),
    "constant-of-texts": (
        make([helper.make_node("Constant", [], ["c"], value_string="a"), node("Add", "x c", "y")]),
        "attribute value_string is not supported",
    ),
    "constant-that-lies-outside": (
        make([helper.make_node(
            "Constant", [], ["w"], value=external("../secret").graph.initializer[0]), CONV]),
        "points outside of the model's directory",
    ),
    "data-of-a-long-name": (external("n" * 5000), "File name too long"),
    "data-is-the-model": (external("net.onnx"), "has no such piece"),
    "images-of-no-tensor": (
        edited(lambda m: setattr(
            m.graph.input[0].type.sequence_type.elem_type.tensor_type, "elem_type", F)),
        "input 'x' takes undefined",
    ),
    "images-of-an-unknown-type": (
        edited(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77)),
        "input 'x' takes an unknown type",
    ),
    "many-inputs": (
        edited(lambda m: m.graph.input.extend(
            helper.make_tensor_value_info(f"in{i}", F, [1]) for i in range(50_000))),
        "and 49993 more",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, tmp_path, read):
    model, said = REFUSED[name]
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    text = read.refusal(path)
    assert said in text
    assert text.isprintable()
    assert len(text) <= 1000


@pytest.mark.parametrize("name", ["output-is-the-images", "opset-twice", "attribute-twice"])
def test_the_command_fails(name, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(REFUSED[name][0].SerializeToString())
    code, out, err = shardcam("layers", path)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert REFUSED[name][1] in err


def unread_texts(model):
    proto = TensorProto(name="cats", dims=[1], data_type=TensorProto.STRING, string_data=[b"cat"])
    model.graph.initializer.append(proto)


def shape_that_lies(model):
    model.graph.value_info.append(helper.make_tensor_value_info("y", F, [1, 2, 3]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 77


HARMLESS = {
    "texts-that-nobody-reads": edited(unread_texts),
    "shapes-that-lie": edited(shape_that_lies),
    "overloaded-functions": calling(
        function(node("Neg", "a", "b"), overload="p"),
        function(node("Abs", "a", "b"), overload="q"),
        overload="q",
    ),
    "function-of-an-opset-that-agrees": calling(function(node("Sigmoid", "a", "b"), opset=14)),
    "nodes-of-one-name": make(
        [helper.make_node("Conv", ["x", "w"], ["a"], name="n"),
         helper.make_node("Neg", ["a"], ["b"], name="n"),
         helper.make_node("Abs", ["b"], ["y"], name="n_output")], W),
    "two-class-tokens": tokens(1, 2, 4),
    "names-of-the-terminal": make(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="a\n\x1b[31m\0\u202e")], W),
    "clip-from-nowhere": make(
        [CONV, helper.make_node("Clip", ["y", "", ""], ["z"])], W, output="z"),
    "many-weights": edited(lambda m: m.graph.initializer.extend(
        TensorProto(name=f"i{i}", dims=[1], data_type=F, raw_data=b"1234") for i in range(20_000))),
    "branches-in-branches": make(
        [node("If", "c", "y", then_branch=branch(
            "a", node("If", "c", "n", then_branch=branch("b", CONV, outputs=["y"])),
            outputs=["n"]))], W | {"c": np.array(True)}),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name, tmp_path, read):
    path = tmp_path / "net.onnx"
    path.write_bytes(HARMLESS[name].SerializeToString())
    ended, text = read(path)
    assert ended == "good", text


# onnxruntime refuses these, or batches of more than one image.
OURS = {"overloaded-functions", "two-class-tokens", "branches-in-branches", "nodes-of-one-name"}


@pytest.mark.parametrize("name", sorted({*HARMLESS} - OURS))
def test_right_numbers(name, tmp_path):
    assert_same(HARMLESS[name], tmp_path)


def test_the_function_of_the_overload(tmp_path):
    operators = [n.op for n in load(HARMLESS["overloaded-functions"], tmp_path).graph.nodes]
    assert operators == ["null", "abs", "Flatten"]


def symbol(tmp_path, graph):
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(graph))
    return path


def declaring(**attributes):
    return changed(lambda g: g["nodes"][0]["attrs"].update(attributes))


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (changed(lambda g: g["nodes"][4].update(name="")), "has the name ''"),
        (changed(lambda g: g.update(heads=[[0, 0, 0]])), "no convolution takes its input"),
        (changed(lambda g: g.update(heads=g["heads"] * 9000)), "has 9000 outputs"),
        (declaring(__mean__="x" * 10**6, __std__="(1,1,1)"), "which is not 3 numbers"),
        (declaring(__mean__="(1e300,0,0)", __std__="(1,1,1)"), "which is not 3 numbers"),
        (declaring(__mean__="(0,0,0)", __std__="(1e-300,1,1)"), "which must be positive"),
    ],
)
def test_symbol_files(tmp_path, read, graph, said):
    text = read.refusal(symbol(tmp_path, graph))
    assert said in text
    assert len(text) <= 1000


WEIGHTS = {
    "arg:w": (8, 3, 3, 3),
    "arg:b": (8,),
    "arg:dense_weight": (10, 256),
    "arg:dense_bias": (10,),
}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([*WEIGHTS, "arg:w"], "two of its arrays have one name"),
        ([*WEIGHTS, "aux:w"], "both an argument and an auxiliary state"),
        ([*WEIGHTS, "arg:data"], "should lack one variable"),
    ],
)
def test_weights_of_one_name(tmp_path, names, said):
    shapes = [*WEIGHTS.values(), (8, 3, 3, 3)]
    arrays = [array(shape, np.ones(shape, np.float32).tobytes()) for shape in shapes]
    (tmp_path / "net-0000.params").write_bytes(params(*arrays, names=names))
    code, _, err = shardcam("layers", symbol(tmp_path, network()))
    assert code == 2
    assert said in err


def test_tensors_of_one_name(tmp_path, read):
    one = b'"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors(b"{" + one + b"," + one + b"}", bytes(8)))
    assert "a name is given twice" in read.refusal(path, "weights")
