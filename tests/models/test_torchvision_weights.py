"""torchvision's weights in Gluon's networks, against PyTorch (slow: needs exports by PyTorch)."""

import os
from pathlib import Path

import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork

NETWORKS = (
    "alexnet", "densenet121", "resnet18_v1", "resnet34_v1", "squeezenet1.1", "vgg16", "vgg11_bn",
)  # fmt: skip


@pytest.fixture(scope="module")
def exports():
    folder = os.environ.get("SHARDCAM_TORCH_EXPORTS")
    assert folder, "run by make test-all, which has PyTorch write what this test reads"
    return Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_logits_and_maps_equal_pytorch(exports, name, form):
    definition = load_network(name, str(exports / f"{name}.{form}"))
    with np.load(exports / f"{name}.weights.npz") as stored:
        expected = dict(stored)
    network = MxnetNetwork(definition, ("auto",), 2)
    forward = network.forward(expected["images"])
    scale = abs(expected["logits"]).max()
    assert abs(forward.logits - expected["logits"]).max() < 1e-4 * scale
    targets = np.tile(expected["targets"], (2, 1))
    maps = METHODS["gradcam"](forward.layer(network.layers[0].name), targets)
    assert abs(maps - expected["maps"]).max() < 1e-3 * abs(expected["maps"]).max()


@pytest.mark.slow
def test_a_fine_tuned_checkpoint_equals_pytorch(exports):
    definition = load_network("resnet18_v1", str(exports / "fine_tuned.pth"))
    with np.load(exports / "fine_tuned.npz") as stored:
        images, expected = stored["images"], stored["logits"]
    logits = MxnetNetwork(definition, ("auto",), 2).forward(images).logits
    assert logits.shape == (2, 5)
    assert abs(logits - expected).max() < 1e-4 * abs(expected).max()
