"""Whole networks that PyTorch's two exporters wrote: logits and Grad-CAM.

The small ones lie with the tests. The large ones are written by export_torchvision.py,
which needs PyTorch; SHARDCAM_TORCH_EXPORTS names the directory that it wrote to.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.mxnet_network import MxnetNetwork
from tests.models.onnx_gradcam import gradcam_errors, relative_error
from tests.models.onnx_models import load_onnx, reference_of_file, run

FIXTURES = Path(__file__).parent.parent / "fixtures" / "onnx"
EXPORTERS = ("script", "dynamo")
NETWORKS = (
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "densenet121",
    "efficientnet_b0",
    "convnext_tiny",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "googlenet",
    "inception_v3",
    "squeezenet1_1",
    "vgg16_bn",
)
LOGITS, MAPS = 1e-4, 1e-3


@pytest.fixture(scope="module")
def exports():
    place = os.environ.get("SHARDCAM_TORCH_EXPORTS")
    if not place:
        pytest.fail(
            "set SHARDCAM_TORCH_EXPORTS to the directory that "
            "tests/models/export_torchvision.py wrote to"
        )
    return Path(place)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("written_for", ["tiny", "tiny1"])
def test_small_network(exporter, written_for):
    """tiny1 was written for a batch of one, and takes any here."""
    definition = load_onnx(FIXTURES / f"{written_for}.{exporter}.onnx")
    expected = np.load(FIXTURES / "tiny.npz")
    assert relative_error(run(definition, expected["images"]), expected["logits"]) < LOGITS
    errors = gradcam_errors(definition, expected)
    assert max(errors.values()) < MAPS, errors


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_equal_onnxruntime(exports, name, exporter):
    path = exports / f"{name}.{exporter}.onnx"
    images = np.load(exports / f"{name}.npz")["images"]
    error = relative_error(run(load_onnx(path), images), reference_of_file(path, images))
    assert error < LOGITS


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradcam_equals_autograd(exports, name, exporter):
    """At the layer that `auto` finds and at two inside the network."""
    definition = load_onnx(exports / f"{name}.{exporter}.onnx")
    errors = gradcam_errors(definition, np.load(exports / f"{name}.npz"))
    assert len(errors) == 3
    assert max(errors.values()) < MAPS, errors


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ["irn", "convolution_first"])
def test_networks_of_weak_supervision(exports, name, exporter):
    """Of any height and width; their maps without a backward pass."""
    expected = np.load(exports / f"{name}.npz")
    images, logits = expected["images"], expected["logits"]
    definition = load_onnx(exports / f"{name}.{exporter}.onnx", images.shape[2:])
    info = resolve_layer(definition, "auto")
    assert info.closed_form
    forward = MxnetNetwork(definition, ("auto",), 2).forward(images)
    every = np.tile(np.arange(logits.shape[1], dtype=np.int32), (2, 1))
    maps = np.maximum(METHODS["cam"](forward.layer(info.name), every), 0)
    assert relative_error(forward.logits, logits) < LOGITS
    assert relative_error(maps, expected["maps"]) < LOGITS
