"""MXNet as it is imported: with the names that NumPy and Python dropped, and no scikit-learn."""

import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
CODE = """
import sys
import numpy

before = {name: id(value) for name, value in vars(numpy).items()}
modules = {"distutils", "sklearn"} & set(sys.modules)
from shardcam.engine.models.import_mxnet import import_mxnet
import_mxnet()
import mxnet
from mxnet.contrib import amp  # which mxnet does not import itself
print(mxnet.nd.ones(3).sum().asscalar())
assert not {"scipy.stats", "requests"} & set(sys.modules)  # for modules that few use
assert amp.convert_model and mxnet.gluon.nn.Dense(1) and mxnet.mod.Module and mxnet.viz.plot_network
assert mxnet.contrib.quantization.quantize_graph and "scipy.stats" not in sys.modules
assert {"distutils", "sklearn"} & set(sys.modules) == modules
added = [name for name in vars(numpy) if name not in before]
assert all(f"numpy.{name}" in sys.modules for name in added), added  # its submodules alone
assert all(id(vars(numpy)[name]) == found for name, found in before.items())
import sklearn
print(sklearn.where)
"""


@pytest.mark.process
def test_nobody_elses_imports_change(tmp_path):
    """And MXNet does without scikit-learn, which others can import afterwards."""
    other = tmp_path / "sklearn"
    other.mkdir()
    (other / "__init__.py").write_text("where = 'imported afterwards'")
    (other / "base.py").write_text("raise RuntimeError('imported by MXNet')")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", CODE],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["3.0", "imported afterwards"]


def test_it_finds_what_numpy_had_when_it_was_written():
    """What its functions look up when they are called."""
    from mxnet import test_utils
    from mxnet.gluon.contrib.estimator import EarlyStoppingHandler

    seen = test_utils.np
    assert [seen.bool, seen.int, seen.object] == [bool, int, object]
    assert seen.ndarray is np.ndarray and seen.random is np.random
    handler = EarlyStoppingHandler(mx.metric.Loss(), mode="min")
    handler.train_begin(None)
    assert handler.best == np.inf
    assert seen.in1d([[1, 2], [3, 4]], [4]).tolist() == [False, False, False, True]
    assert seen.msort(np.array([[2, 0], [1, 3]])).tolist() == [[1, 0], [2, 3]]
    assert seen.trapz([1, 3]) == 2 and seen.product([2, 3]) == 6 and seen.sometrue([0, 1])
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = seen.nothing
    with pytest.raises(RuntimeError, match="no financial functions"):
        seen.mirr([1], 2, 3)


def test_it_packs_records():
    """By arrays' tostring, which is gone in NumPy 2.3."""
    header = mx.recordio.IRHeader(0, [7.0, 8.0], 1, 0)
    found, content = mx.recordio.unpack(mx.recordio.pack(header, b"image"))
    assert found.label.tolist() == [7, 8] and content == b"image"
    image = np.zeros((4, 5, 3), np.uint8)
    assert mx.recordio.unpack_img(mx.recordio.pack_img(header, image))[1].shape == image.shape


def test_numpys_functions_reach_its_arrays():
    values = mx.np.array([[2.0, 1.0], [0.0, 3.0]])
    assert isinstance(np.sum(values), mx.np.ndarray)
    assert np.sort(values, axis=0).asnumpy().tolist() == [[0, 1], [2, 3]]
    assert np.exp(values).asnumpy() == pytest.approx(np.exp(values.asnumpy()), rel=1e-6)
    assert mx.np.empty_like(values).dtype == np.float32  # compares versions with distutils


def test_functions_of_operators_are_written_when_they_are_called():
    """They do and say what they would else."""
    assert mx.nd.relu(mx.nd.array([-1, 2])).asnumpy().tolist() == [0, 2]
    assert "rectified" in mx.nd.relu.__doc__ and mx.sym.relu.__name__ == "relu"
    with pytest.raises(TypeError, match="relu"):
        mx.nd.relu(1, 2, 3, 4, 5)
