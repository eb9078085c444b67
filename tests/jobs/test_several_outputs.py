"""--output and --input: which part of a model file a run explains."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from tests.jobs.command import shardcam
from tests.models.onnx_models import make, node, weight

NODES = [
    node("Conv", "x w", "c"), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "p"),
    node("Mul", "p keep", "k"), node("Flatten", "k", "f"),
    node("Gemm", "f t", "logits", transB=1), node("Gemm", "f e", "other", transB=1),
]  # fmt: skip


def files(tmp_path):
    """A network of two outputs and two inputs, and a picture."""
    weights = {"w": weight(8, 3, 3, 3), "t": weight(5, 8), "e": weight(6, 8)}
    model = make(NODES, weights, ("N", 3, 16, 16), flatten=False, output="logits")
    other = helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 6])
    model.graph.output.append(other)
    model.graph.input.append(helper.make_tensor_value_info("keep", TensorProto.FLOAT, [1]))
    onnx.save(model, tmp_path / "model.onnx")
    pixels = np.random.RandomState(0).randint(0, 256, (20, 20, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png", "--model", tmp_path / "model.onnx", "--executor", "local"


def test_run_of_one_output(tmp_path):
    given = files(tmp_path)
    code, _, err = shardcam("extract", *given, "--out", tmp_path / "run", "--input", "keep=1")
    assert code != 0
    assert "it has 2 outputs: 'logits' (?,?), 'other' (N,6); choose one by --output NAME" in err
    chosen = ("--out", tmp_path / "run", "--output", "other", "--input", "keep=0.5")
    assert shardcam("extract", *given, *chosen)[0] == 0
    numbers = json.loads((tmp_path / "run" / "run.json").read_text())["numbers"]
    assert (numbers["output"], numbers["input"]) == ("other", ["keep=0.5"])
    assert shardcam("extract", *given, *chosen)[0] == 0  # resumed
    code, _, err = shardcam("extract", *given, *chosen[:-1], "keep=1")
    assert code != 0 and "input" in err


def test_layers_of_one_output(tmp_path):
    given = files(tmp_path)
    code, out, _ = shardcam("layers", given[2], "--output", "logits", "--input", "keep=1")
    assert code == 0 and "5 classes" in out
    code, _, err = shardcam("layers", given[2], "--output", "logits", "--input", "keep")
    assert code != 0 and "--input: takes NAME=NUMBER[,NUMBER...]" in err
