"""Without its extras, shardcam reads runs: no Numba, MXNet, ONNX or Ray is needed for that."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shardcam import open_run
from tests.test_stored_run import STORED

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent
EXTRAS = ("mxnet", "numba", "llvmlite", "onnx", "ray", "requests", "torch", "pandas", "xarray",
          "matplotlib", "skimage", "scipy", "sklearn", "threadpoolctl", "hdf5plugin", "pyarrow",
          "fsspec", "aiohttp")  # fmt: skip
BLOCK = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {EXTRAS}:
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
"""
READ = """
import json
import shardcam

run = shardcam.open_run(sys.argv[1])
maps = run.cam("two_relu")
shardcam.export.coco(run, sys.argv[2], "two_relu")
print(json.dumps({
    "key": run.keys[0],
    "raw": maps[0].tolist(),
    "heatmap": maps.heatmap((9, 11))[0].tolist(),
    "original": maps.on_original(0).tolist(),
}))
"""
COMMAND = """
from shardcam.jobs.cli import main

main()
"""


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCK + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def test_runs_are_read(tmp_path):
    done = python(READ, STORED / "run", tmp_path / "regions.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with open_run(STORED / "run") as run:
        maps = run.cam("two_relu")
        assert found["key"] == run.keys[0]
        np.testing.assert_array_equal(found["raw"], maps[0])
        compiled = {"heatmap": maps.heatmap((9, 11))[0], "original": maps.on_original(0)}
        for name, levels in compiled.items():
            assert abs(np.array(found[name]) - levels.astype(int)).max() <= 1, name
    assert json.loads((tmp_path / "regions.json").read_text())["annotations"]


def test_commands_look_at_runs():
    for command in (("status", STORED / "run"), ("verify", STORED / "run", "--deep")):
        done = python(COMMAND, *command)
        assert done.returncode == 0, done.stderr


def test_what_needs_more_says_so_in_a_line(tmp_path):
    extract = ("extract", STORED / "images", "--model", STORED / "model" / "small-symbol.json")
    for command, told in {
        (*extract, "--out", tmp_path): "this needs numba: install shardcam with its extra cpu",
        (
            *extract,
            "--out",
            tmp_path,
            "--executor",
            "ray",
        ): "needs ray: install shardcam with its extra cpu",
        ("layers", "resnet18_v1"): "this needs numba: install shardcam",
        ("cluster", STORED / "run"): "install shardcam with its extra clusters",
        ("doctor", "--address", "127.0.0.1:1"): "this needs ray: install shardcam",
    }.items():
        done = python(COMMAND, *command)
        assert done.returncode == 2
        assert done.stderr.startswith("shardcam: ") and told in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
