"""Every operator and attribute gives what onnxruntime gives, forwards and backwards."""

import numpy as np
import pytest

from shardcam.engine.models.symbol_json import parse, to_json
from tests.models.onnx_cases import CASES
from tests.models.onnx_models import (
    OTHER_AVERAGES,
    assert_same,
    images_for,
    load,
    make,
    node,
    reference,
    run,
    slope,
    weight,
)

# Operators whose backward pass a head may need, in a form that MXNet treats specially.
DIFFERENTIATED = [
    "Conv-uneven-dilated", "ConvTranspose-uneven", "MaxPool-ceil-9", "MaxPool-uneven-start-10",
    "MaxPool-upper-9", "AveragePool-ceil-pad-9-include0", "AveragePool-ceil-pad-9-include1",
    "AveragePool-uneven-start-9-include0", "AveragePool-upper-10-include0", "BatchNormalization-17",
    "InstanceNormalization", "LayerNormalization1", "GroupNormalization-21", "LRN", "Mish", "Gelu",
    "Gelu-exported", "HardSwish", "Swish-exported", "PRelu-channel", "Pad-edge", "Pad-reflect",
    "Pad-reflect-channels", "Slice-steps-17", "Gather", "Expand", "Resize-sizes-half_pixel",
    "Resize-11-nearest-half_pixel-uneven", "MatMul-tensors", "Softmax-13-1", "DepthToSpace-CRD",
    "ReduceMax-23-0", "Pow-full", "Reshape-shuffle", "ReduceL1-23-1", "ReduceL2-23-1",
    "ReduceLogSumExp-1-0", "ReduceProd-1-1", "GlobalResponseNormalization", "Pad-wrap-three-axes",
    "Pad-reflect-rank-3", "Pad-cuts-off", "MatMul-one-on-the-left", "MatMul-constants-left",
    "FusedConv-sum", "SkipLayerNormalization-bias", "ScatterND-block", "ScatterND-rows",
    "ScatterND-before-the-batch", "Col2Im-pads",
]  # fmt: skip


_DIFFERENT_BEFORE = {
    "AveragePool-uneven-end-10-include1",
    "AveragePool-uneven-one-9-include1",
    "AveragePool-uneven-one-10-include1",
    "AveragePool-upper-10-include1",
    "AveragePool-upper-even-9-include1",
    "ReduceMean-noop",
}


@pytest.mark.parametrize(
    "name", [n for n in CASES if not (OTHER_AVERAGES and n in _DIFFERENT_BEFORE)]
)
def test_equals_onnxruntime(name, tmp_path):
    nodes, weights, options = CASES[name]
    definition = assert_same(make(nodes, weights, **options), tmp_path)
    parse(to_json(definition.graph))  # made of operators and attributes that both runtimes know


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_backward_equals_differences_of_onnxruntime(name, tmp_path):
    nodes, weights, options = CASES[name]
    model = make(nodes, weights, **options)
    images = images_for(model)
    direction = np.random.RandomState(5).standard_normal(images.shape).astype(np.float32)
    step = 1e-3
    ahead, behind = (reference(model, images + s * step * direction) for s in (1, -1))
    one = np.random.RandomState(6).standard_normal(ahead.shape).astype(np.float32)
    expected = float(((ahead - behind).astype(np.float64) * one).sum()) / (2 * step)
    ours = slope(load(model, tmp_path), images, direction, one)
    assert ours == pytest.approx(expected, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_with_dilation(auto, tmp_path):
    """onnxruntime does not do this, so the reference has the padding written out."""
    weights = {"w": weight(4, 3, 3, 2)}
    pads = [3, 1, 3, 2] if auto == "SAME_UPPER" else [3, 2, 3, 1]
    attrs = {"dilations": [3, 3], "strides": [1, 1]}
    automatic = make([node("Conv", "x w", "y", auto_pad=auto, **attrs)], weights)
    explicit = make([node("Conv", "x w", "y", pads=pads, **attrs)], weights)
    images = images_for(explicit)
    ours = run(load(automatic, tmp_path), images)
    np.testing.assert_allclose(ours, reference(explicit, images), rtol=1e-5, atol=1e-5)
