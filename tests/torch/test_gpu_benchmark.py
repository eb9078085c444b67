"""The benchmark of a GPU, in small on the CPU: every part runs, and nothing in it is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import SHARES, TOGETHER, table

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(
    "SHARDCAM_TORCH_PACKAGES" in os.environ, reason="its processes do not find that PyTorch"
)
def test_it_runs_on_the_cpu(tmp_path):
    for name in ("torchvision", "skimage", "mxnet", "shardcam.engine.models.torch"):
        pytest.importorskip(name)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--device",
            "cpu",
            "--json",
            tmp_path / "gpu.json",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["parts"].keys() == SHARES.keys() == {name for group in TOGETHER for name in group}
    for name, part in found["parts"].items():
        assert "error" not in part, part
        peers = name == "peers"  # which may not be installed
        assert peers or not [r for r in part["results"] if "error" in r or "skipped" in r]
    assert "| resnet18 | fp32 |" in found["table"]


def test_the_table_has_the_best_of_each():
    same = {"network": "vgg16", "precision": "fp16"}
    peer = {"network": "vgg16", "tool": "torchcam", "from": "jpeg"}
    rows = table(
        {
            "ceilings": {
                "results": [
                    *({**same, "images_per_second": rate} for rate in (90.0, 100.0)),
                    {**same, "precision": "fp32", "images_per_second": 50.0},
                ]
            },
            "pixels": {"results": [{**same, "images_per_second": 80.0, "gigabytes": 1.5}]},
            "jpeg": {
                "results": [
                    {**same, "from": "jpeg", "error": "it failed"},
                    {**same, "from": "jpeg, --decoder gpu", "images_per_second": 70.0},
                ]
            },
            "shared": {"results": [{"processes": 2, "images_per_second": 60.0}]},
            "peers": {"results": [{**peer, "images_per_second": rate} for rate in (20.0, 10.0)]},
        }
    ).split("\n")
    assert "| vgg16 | fp16 | 100 | 80 | 0.80 |  | 70 |  |  | 1.5 GB |" in rows
    assert "| vgg16 | fp32 | 50 |  |  |  |  |  |  |  |" in rows
    assert "| 2 processes, from JPEG | 60 |" in rows
    assert "| vgg16 | torchcam |  | 20 |" in rows
