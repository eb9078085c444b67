"""A new process imports MXNet without scikit-learn, and scikit-learn afterwards if it wants."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CODE = """
from shardcam.engine.models.import_mxnet import import_mxnet
import_mxnet()
import mxnet
print(mxnet.nd.ones(3).sum().asscalar())
import sklearn
print(sklearn.where)
"""


@pytest.mark.process
def test_mxnet_does_without_scikit_learn(tmp_path):
    other = tmp_path / "sklearn"
    other.mkdir()
    (other / "__init__.py").write_text("where = 'imported afterwards'")
    (other / "base.py").write_text("raise RuntimeError('imported by MXNet')")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["3.0", "imported afterwards"]
