"""Which kernel an array goes to, without a GPU or PyTorch; `tests/torch` has the rest."""

import numpy as np
import pytest

from shardcam.engine.errors import WorkerError
from shardcam.engine.methods import arrays


def test_numpy_arrays_come_back_as_they_are():
    given = {"a": {"x": np.ones(3)}, "b": {}}
    assert arrays.to_host(given)["a"]["x"] is given["a"]["x"]
    one, other = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    assert arrays.like(one, other) is one
    assert arrays.halved(one) is one
    arrays.warm_up(one)  # nothing to do


def test_what_compiles_for_a_gpu_is_missing(monkeypatch):
    def launch(*_):
        raise ImportError("libNVVM cannot be found.\nDo `conda install cudatoolkit`")

    monkeypatch.setattr(arrays, "on_gpu", lambda _: True)
    monkeypatch.setattr(arrays, "_launch", launch)
    with pytest.raises(WorkerError) as caught:
        arrays.warm_up(np.ones((1, 1, 1, 1), np.float32))
    text = str(caught.value)
    assert text.startswith("the kernels for the GPU cannot be compiled: install shardcam with its")
    assert "\n" not in text
