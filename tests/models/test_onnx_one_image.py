"""Files written for one image, its axis squeezed, merged or moved: any batch, image by image."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.onnx_file import ONE_BY_ONE
from tests.models.onnx_models import images_for, ints, load, make, node, reference, run, weight

WEIGHTS = {
    "w": weight(4, 3, 3, 3), "d": weight(4, 5), "rows": weight(99, 5), "wide": weight(5, 4),
    "first": ints(0), "second": ints(1), "zero": np.array(0), "one_row": ints(1, -1),
    "row": ints(-1), "grid": ints(4, 63), "image": ints(1, 4, 7, 9), "two": ints(0, 1),
    "per_row": weight(4, 1), "three": ints(3), "last": ints(-1), "low": ints(-9),
    "pads": ints(0, 1, 0, 2), "swap": ints(2, 0),
}  # fmt: skip
CONV = [node("Conv", "x w", "c"), node("Relu", "c", "r")]
GRID = [*CONV, node("Squeeze", "r first", "s"), node("Reshape", "s grid", "g")]  # (4,63)
POOL = [*CONV, node("GlobalAveragePool", "r", "p")]

TAILS = {
    "view": [*POOL, node("Reshape", "p one_row", "f"), node("Gemm", "f d", "y")],
    "flat": [*POOL, node("Reshape", "p row", "f"), node("MatMul", "f d", "y")],
    "squeeze-all": [*POOL, node("Squeeze", "p", "f"), node("MatMul", "f d", "y")],
    "squeeze-relu-gemm": [
        *POOL, node("Squeeze", "p", "f"), node("Relu", "f", "a"),
        node("Unsqueeze", "a first", "u"), node("Gemm", "u d", "y")],
    "image-taken-out": [
        *CONV, node("Gather", "r zero", "s", axis=0), node("ReduceMean", "s", "m", axes=[1, 2],
                                                           keepdims=0), node("MatMul", "m d", "y")],
    "slice": [*CONV, node("Slice", "r first second first", "s"),
              node("GlobalAveragePool", "s", "p"), node("Flatten", "p", "f"),
              node("Gemm", "f d", "y")],
    "transposed": [*GRID, node("Transpose", "g", "t", perm=[1, 0]), node("MatMul", "t d", "m"),
                   node("ReduceMean", "m", "y", axes=[0], keepdims=1)],
    "softmax-of-rows": [*GRID, node("Softmax", "g", "e", axis=0), node("ReduceMax", "e", "m"),
                        node("Mul", "g m", "o"), node("ReduceSum", "o last", "y", keepdims=0)],
    "constant-of-rows": [*GRID, node("Mul", "g per_row", "o"), node("ReduceMean", "o", "y",
                                                                    axes=[1], keepdims=0)],
    "constant-on-the-left": [*GRID, node("MatMul", "wide g", "m"),
                             node("ReduceMean", "m", "y", axes=[-1], keepdims=0)],
    "product": [*GRID, node("Transpose", "g", "t"), node("MatMul", "g t", "m"),
                node("Softmax", "m", "a"), node("MatMul", "a g", "o"),
                node("ReduceMean", "o", "y", axes=[1], keepdims=0)],
    "channels-moved": [*CONV, node("Transpose", "r", "t", perm=[1, 0, 2, 3]),
                       node("GlobalMaxPool", "t", "p"), node("Squeeze", "p", "y")],
    "concat-of-channels": [*CONV, node("Squeeze", "r first", "s"), node("Neg", "s", "n"),
                           node("Concat", "s n", "k", axis=0),
                           node("ReduceMean", "k", "y", axes=[1, 2], keepdims=0)],
    "split-of-channels": [*CONV, node("Squeeze", "r first", "s"), node("Split", "s", "a b", axis=0),
                          node("Sub", "a b", "k"),
                          node("ReduceMean", "k", "y", axes=[1, 2], keepdims=0)],
    "some-channels": [*CONV, node("Squeeze", "r first", "s"), node("Gather", "s swap", "k", axis=0),
                      node("ReduceMean", "k", "y", axes=[1, 2], keepdims=0)],
    "channels-back-to-front": [
        *CONV, node("Squeeze", "r first", "s"), node("Slice", "s last low first last", "k"),
        node("ReduceMax", "k", "y", axes=[1, 2], keepdims=0)],
    "image-and-no-image": [*CONV, node("Squeeze", "r first", "s"), node("Add", "r s", "k"),
                           node("ReduceMean", "k", "y", axes=[2, 3], keepdims=0)],
    "back-to-an-image": [*GRID, node("Reshape", "g image", "i"), node("GlobalMaxPool", "i", "p"),
                         node("Flatten", "p", "y")],
    "shape-of-one": [*CONV, node("Shape", "r", "sh"), node("Gather", "sh two", "nc"),
                     node("Concat", "nc last", "t", axis=0), node("Reshape", "r t", "g"),
                     node("ReduceMean", "g", "y", axes=[2], keepdims=0)],
    "flatten-all": [*POOL, node("Flatten", "p", "f", axis=0), node("Gemm", "f d", "y")],
}  # fmt: skip


def assert_each_alone(model, tmp_path):
    definition = load(model, tmp_path)
    images = images_for(model, batch=3)
    expected = [reference(model, image[None]).reshape(1, -1) for image in images]
    np.testing.assert_allclose(run(definition, images), np.concatenate(expected), 1e-4, 1e-5)
    return definition


@pytest.mark.parametrize("name", TAILS)
def test_written_for_one_image(name, tmp_path):
    model = make(TAILS[name], WEIGHTS, shape=(1, 3, 9, 11), flatten=False, opset=13, rank=1)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert assert_each_alone(model, tmp_path).remarks == ()


@pytest.mark.parametrize("name", ["view", "flat", "flatten-all", "image-taken-out"])
def test_batch_declared_open_that_only_fits_one(name, tmp_path):
    model = make(TAILS[name], WEIGHTS, flatten=False, opset=13, rank=1)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert assert_each_alone(model, tmp_path).remarks == (ONE_BY_ONE,)


def test_branch_that_only_fits_one(tmp_path):
    """What fails inside of an If is what counts."""
    graphs = {
        key: helper.make_graph([node("Reshape", "p one_row", "f")], key, [], [
            helper.make_tensor_value_info("f", TensorProto.FLOAT, None)])
        for key in ("then_branch", "else_branch")
    }  # fmt: skip
    nodes = [*POOL, node("If", "yes", "flat", **graphs), node("Gemm", "flat d", "y")]
    model = make(nodes, WEIGHTS | {"yes": np.array(True)}, flatten=False, opset=13)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert assert_each_alone(model, tmp_path).remarks == (ONE_BY_ONE,)


@pytest.mark.parametrize("tail", [[], [node("Squeeze", "r first", "y")]], ids=["image", "classes"])
def test_segmentation_of_one_image(tail, tmp_path):
    nodes = [*CONV, *tail]
    output = "y" if tail else "r"
    model = make(nodes, WEIGHTS, (1, 3, 9, 11), 13, output, flatten=False)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    images = images_for(model, batch=2)
    expected = np.stack([reference(model, image[None]).reshape(4, 7, 9) for image in images])
    np.testing.assert_allclose(run(load(model, tmp_path), images), expected, 1e-4, 1e-5)


def test_open_batch_that_is_really_mixed(tmp_path):
    """Minus the mean of the batch: what it computes of one image alone is another thing."""
    nodes = [node("ReduceMean", "x", "m", axes=[0]), node("Sub", "x m", "y")]
    with pytest.raises(ModelError, match=r"ReduceMean node 'm'.*mix the images"):
        load(make(nodes), tmp_path)
