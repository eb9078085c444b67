"""Old and new Python, NumPy and OpenCV: runs equal to the byte, by `make test-versions`."""

import os
import subprocess
import sys

import pytest

from tests.jobs.command import ROOT, assert_same, contents
from tests.test_stored_run import OPTIONS, STORED

OTHER = os.environ["SHARDCAM_OTHER_PYTHON"]


@pytest.mark.process
@pytest.mark.parametrize(
    "options",
    [
        ("--target", "top2"),
        ("--activation-dtype", "f2", "--method", "layercam", "--fast-decode"),
        ("--precision", "int8"),
        ("--precision", "bf16", "--smooth", "aug"),
    ],
    ids=" ".join,
)
def test_runs_are_equal(tmp_path, options):
    model = STORED / "model" / "small-symbol.json"
    command = ("-m", "shardcam", "extract", STORED / "images", "--model", model, "--image-size", 32)
    found = []
    for python in (sys.executable, ROOT / OTHER):
        out = tmp_path / str(len(found))
        done = subprocess.run(
            [*map(str, (python, *command, *OPTIONS, *options, "--out", out))],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found.append(contents(out))
    assert_same(*found)
