"""Networks of timm and torchvision, as export_families.py wrote them, against PyTorch.

Each is held to onnxruntime's logits, and to the Grad-CAM maps of autograd in float64 at the
layer that `auto` takes, laid out as pytorch-grad-cam's reshape_transform lays tokens out.
"""

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from shardcam.engine.errors import ShardcamError
from shardcam.engine.methods import METHODS
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from tests.models.onnx_gradcam import relative_error
from tests.models.onnx_models import reference_of_file

PLACE = Path(os.environ.get("SHARDCAM_TORCH_EXPORTS", ".")) / "families"
SHARE = {"script": 0.95, "dynamo": 0.9}  # of the networks that are imported, at least
FAMILIES = 80
LOGITS, MAPS = 1e-4, 1e-3
SAME = 1e-4  # of a sum of a layer's channels: it is what a module of PyTorch reads or makes
REFUSED = {  # what may be refused, and the operator that the refusal names
    "csatv2.dynamo": "GatherND",
    "sequencer2d_s.script": "LSTM",
    "sequencer2d_s.dynamo": "LSTM",
}


class Found(NamedTuple):
    """The layer that is explained, and relative errors."""

    layer: str
    logits: float  # from those of PyTorch in float64
    onnxruntime: float  # from those of onnxruntime
    theirs: float  # onnxruntime's from those of PyTorch in float64
    maps: float | None  # None: no module of PyTorch reads or makes the layer


def files():
    return sorted(PLACE.glob("*.onnx"))


@cache
def measured(path):
    """What was found, or the words of the refusal."""
    with np.load(PLACE / f"{path.name.partition('.')[0]}.npz") as stored:
        try:
            return compared(path, stored)
        except ShardcamError as reason:
            return str(reason)


def compared(path, stored):
    images = stored["images"]
    network = MxnetNetwork(load_network(str(path)), ("auto",), len(images))
    (info,) = network.layers
    forward = network.forward(images)
    layer = forward.layer(info.name)
    activation = layer.activation.reshape(len(images), layer.activation.shape[1], -1)
    total = np.einsum("ncp,c->np", activation, np.cos(np.arange(activation.shape[1])))
    theirs = {key: stored[key] for key in stored.files if key.startswith("sum:")}
    errors = {
        key.partition(":")[2]: relative_error(total, value)
        for key, value in theirs.items()
        if value.shape == total.shape
    }
    targets = np.tile(stored["targets"], (len(images), 1))
    maps = METHODS["gradcam"](layer, targets).reshape(*targets.shape, -1)
    same = [number for number, error in errors.items() if error < SAME]
    reference = reference_of_file(str(path), images)
    return Found(
        info.name,
        relative_error(forward.logits, stored["logits"]),
        relative_error(forward.logits, reference),
        relative_error(reference, stored["logits"]),
        min((relative_error(maps, stored[f"maps:{n}"]) for n in same), default=None),
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", files(), ids=lambda path: path.name.removesuffix(".onnx"))
def test_same_logits_and_maps(path):
    found = measured(path)
    if isinstance(found, str):
        assert REFUSED.get(path.name.removesuffix(".onnx"), "no refusal") in found, found
        return
    assert found.logits <= LOGITS
    assert found.onnxruntime <= LOGITS + found.theirs
    assert found.maps is not None, f"no module of PyTorch reads or makes {found.layer}"
    assert found.maps <= MAPS


@pytest.mark.slow
@pytest.mark.parametrize("exporter", SHARE)
def test_share_that_is_imported(exporter):
    tried = [path for path in files() if path.name.endswith(f".{exporter}.onnx")]
    results = {path.name.partition(".")[0]: measured(path) for path in tried}
    refused = {name: found for name, found in results.items() if isinstance(found, str)}
    for name, found in results.items():
        print(f"{name}: {found}")
    print(f"{exporter}: {len(results) - len(refused)} of {len(results)} networks are imported")
    assert len(results) >= FAMILIES
    assert len(refused) <= (1 - SHARE[exporter]) * len(results), refused
