"""Networks of timm, exported by export_timm.py into SHARDCAM_TORCH_EXPORTS/timm."""

import os
from pathlib import Path

import numpy as np
import pytest

from shardcam.engine.errors import ShardcamError
from shardcam.engine.methods import METHODS
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from tests.models.onnx_gradcam import relative_error

SHARE = {"script": 0.95, "dynamo": 0.9}  # of the networks that are imported, at least
COMPARED = 0.9  # of these: the layer that is explained is the output of one of timm's modules
LOGITS, MAPS = 1e-4, 1e-3


def compared(path, stored):
    """The layer that is explained, the errors of logits and maps; None of maps not known."""
    network = MxnetNetwork(load_network(str(path)), ("auto",), len(stored["images"]))
    (info,) = network.layers
    forward = network.forward(stored["images"])
    logits = relative_error(forward.logits, stored["logits"])
    layer = forward.layer(info.name)
    mean = layer.activation.mean(1).reshape(len(stored["images"]), -1)
    numbers = [key.partition(":")[2] for key in stored.files if key.startswith("mean:")]
    alike = {
        number: relative_error(mean, stored[f"mean:{number}"])
        for number in numbers
        if stored[f"mean:{number}"].shape == mean.shape
    }
    same = [number for number, error in alike.items() if error < LOGITS]
    if not same:
        return info.name, logits, None
    targets = np.tile(stored["targets"], (len(mean), 1))
    maps = METHODS["gradcam"](layer, targets).reshape(*targets.shape, -1)
    return info.name, logits, min(relative_error(maps, stored[f"maps:{n}"]) for n in same)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", SHARE)
def test_networks_of_timm(exporter):
    """Logits and Grad-CAM maps at `auto` are PyTorch's own; what is refused is listed."""
    place = Path(os.environ["SHARDCAM_TORCH_EXPORTS"]) / "timm"
    files = sorted(place.glob(f"*.{exporter}.onnx"))
    refused, wrong, unknown = {}, {}, []
    for path in files:
        name = path.name.partition(".")[0]
        with np.load(place / f"{name}.npz") as stored:
            try:
                layer, logits, maps = compared(path, stored)
            except ShardcamError as reason:
                refused[name] = str(reason)
                continue
        print(
            f"{name}: {layer}, logits {logits:.1e}, maps {maps if maps is None else f'{maps:.1e}'}"
        )
        if maps is None:
            unknown.append(name)
        if logits > LOGITS or (maps or 0) > MAPS:
            wrong[name] = logits, maps
    print(*(f"{name}: {reason}" for name, reason in refused.items()), sep="\n")
    assert not wrong
    assert files and len(refused) <= (1 - SHARE[exporter]) * len(files), "\n".join(refused)
    assert len(unknown) <= (1 - COMPARED) * len(files), unknown
