"""Files with several outputs or inputs, and where a file is cut."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.models.load_network import load_network
from tests.models.onnx_models import images_for, load_onnx, make, node, reference, run, weight

WEIGHTS = {"w": weight(8, 3, 3, 3), "t": weight(5, 8), "e": weight(6, 8)}
NODES = [
    node("Conv", "x w", "c"), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "p"),
    node("Flatten", "p", "f"), node("Gemm", "f t", "logits", transB=1),
    node("Gemm", "f e", "embedding", transB=1), node("ArgMax", "logits", "label", axis=1),
]  # fmt: skip
INFO = {
    "logits": (TensorProto.FLOAT, ["N", 5]), "embedding": (TensorProto.FLOAT, ["N", 6]),
    "label": (TensorProto.INT64, ["N", 1]), "map": (TensorProto.FLOAT, ["N", 8, 7, 9]),
}  # fmt: skip


def with_outputs(*names):
    model = make(NODES, WEIGHTS, flatten=False, output="logits")
    model.graph.ClearField("output")
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, *INFO[name]))
    return model


def written(model, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_output_by_name(tmp_path):
    path = written(with_outputs("embedding", "logits", "label"), tmp_path)
    for name in ("logits", "embedding"):
        alone = with_outputs(name)
        images = images_for(alone)
        ours = run(load_onnx(path, output=name), images)
        np.testing.assert_allclose(ours, reference(alone, images), rtol=1e-5, atol=1e-6)


def test_several_outputs_are_listed(tmp_path):
    path = written(with_outputs("logits", "embedding"), tmp_path)
    listed = r"2 outputs: 'logits' \(N,5\), 'embedding' \(N,6\); choose one by --output NAME"
    with pytest.raises(ModelError, match=listed):
        load_onnx(path)
    with pytest.raises(ModelError, match=r"--output nothing: .* 'logits' \(N,5\)"):
        load_onnx(path, output="nothing")


def test_labels_are_left_out(tmp_path):
    """Probabilities and the number of the most probable class, as Azure Custom Vision exports."""
    both = load_onnx(written(with_outputs("label", "logits"), tmp_path))
    alone = load_onnx(written(with_outputs("logits"), tmp_path))
    assert both.digest() == alone.digest()
    assert both.remarks == ("of 2 outputs 'logits' was taken: --output logits",)
    assert alone.remarks == ()


def test_scores_with_the_names_of_classes(tmp_path):
    """A ZipMap, which makes a list of dictionaries of them."""
    model = with_outputs("logits")
    model.graph.node.append(
        helper.make_node(
            "ZipMap",
            ["logits"],
            ["named"],
            domain="ai.onnx.ml",
            classlabels_strings=["a", "b", "c", "d", "e"],
        )
    )
    model.graph.output[0].name = "named"
    named, plain = (load_onnx(written(m, tmp_path)) for m in (model, with_outputs("logits")))
    assert named.graph == plain.graph


def test_output_inside_of_the_network(tmp_path):
    """What comes behind may be anything."""
    nodes = [*NODES, node("NonMaxSuppression", "logits logits", "boxes")]
    model = make(nodes, WEIGHTS, flatten=False, output="boxes")
    path = written(model, tmp_path)
    with pytest.raises(
        ModelError, match=r"NonMaxSuppression.*is not supported; .* --output NAME takes"
    ):
        load_onnx(path)
    images = images_for(model)
    expected = reference(with_outputs("logits"), images)
    np.testing.assert_allclose(run(load_onnx(path, output="logits"), images), expected, 1e-4)


SCALED = [node("Mul", "x keep", "k"), node("Add", "k shift", "s"), node("Conv", "s w", "y")]


def with_inputs():
    model = make(SCALED, {"w": WEIGHTS["w"]})
    model.graph.input.append(helper.make_tensor_value_info("keep", TensorProto.FLOAT, []))
    shift = helper.make_tensor_value_info("shift", TensorProto.FLOAT, ["N", 3, 1, 1])
    model.graph.input.append(shift)
    return model


def test_constants_for_inputs(tmp_path):
    path = written(with_inputs(), tmp_path)
    definition = load_onnx(path, inputs={"keep": "0.5", "shift": "1,-2,3"})
    numbers = {"keep": np.float32(0.5), "shift": np.float32([1, -2, 3]).reshape(1, 3, 1, 1)}
    plain = make(SCALED, {"w": WEIGHTS["w"], **numbers})
    images = images_for(plain)
    np.testing.assert_allclose(run(definition, images), reference(plain, images), 1e-5, 1e-5)


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        (
            {},
            r"3 inputs without weights: 'x' \(N,3,9,11\), 'keep' \(\), .*--input NAME=VALUE",
        ),
        ({"keep": "1"}, r"2 inputs without weights: 'x' .*, 'shift' \(N,3,1,1\)"),
        ({"keep": "1", "shift": "0", "more": "1"}, r"--input more: it has no such input, but 'x'"),
        ({"keep": "1", "shift": "1,2"}, r"--input shift: takes a number, or 3 .*; not 1,2"),
        ({"keep": "much", "shift": "0"}, r"--input keep: takes a number.*; not much"),
        ({"keep": "1", "shift": "0", "x": "0"}, "no input left that could take images"),
    ],
)
def test_inputs_that_are_not_given_right(inputs, line, tmp_path):
    with pytest.raises(ModelError, match=line):
        load_onnx(written(with_inputs(), tmp_path), inputs=inputs)


def test_only_files_have_several(tmp_path):
    with pytest.raises(ConfigError, match="--output: efficientnet_lite0 has one output"):
        load_network("efficientnet_lite0", output="fc")
    with pytest.raises(ConfigError, match="--input: efficientnet_lite0 has no further inputs"):
        load_network("efficientnet_lite0", inputs={"a": "1"})
