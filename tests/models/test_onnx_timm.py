"""Networks of timm, exported by export_timm.py into SHARDCAM_TORCH_EXPORTS/timm."""

import os
from pathlib import Path

import numpy as np
import pytest

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.onnx_file import load_onnx
from tests.models.onnx_gradcam import relative_error
from tests.models.onnx_models import run

SHARE = {"script": 0.95, "dynamo": 0.9}  # of the networks that are imported, at least
LOGITS = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("exporter", SHARE)
def test_networks_of_timm(exporter):
    """Logits are PyTorch's own; what is refused is listed."""
    place = Path(os.environ["SHARDCAM_TORCH_EXPORTS"]) / "timm"
    files = sorted(place.glob(f"*.{exporter}.onnx"))
    refused, wrong = {}, {}
    for path in files:
        name = path.name.partition(".")[0]
        stored = np.load(place / f"{name}.npz")
        try:
            error = relative_error(run(load_onnx(path), stored["images"]), stored["logits"])
        except ModelError as reason:
            refused[name] = str(reason)
        else:
            wrong |= {name: error} if error > LOGITS else {}
    print(*(f"{name}: {reason}" for name, reason in refused.items()), sep="\n")
    assert not wrong
    assert files and len(refused) <= (1 - SHARE[exporter]) * len(files), "\n".join(refused)
