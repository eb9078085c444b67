import os

import pytest

from shardcam.engine.errors import ShardcamError
from shardcam.engine.models import system_libraries as system


def test_a_gpu_build_without_a_driver_is_one_line(monkeypatch):
    monkeypatch.setattr(system, "preload_libraries", lambda: ["libcudart.so.11.0"])
    with pytest.raises(ShardcamError, match=r"libcuda.so.1 is missing.*driver, or .* extra cpu"):
        system.ready_libraries()


def test_a_cpu_build_needs_no_driver(monkeypatch):
    monkeypatch.setattr(system, "preload_libraries", list)
    system.ready_libraries()


def test_mxnet_keeps_a_bounded_number_of_operators(monkeypatch):
    monkeypatch.setattr(system, "preload_libraries", list)
    monkeypatch.setattr(system, "import_mxnet", lambda: None)
    name, number = system.OPERATORS_KEPT
    monkeypatch.setenv(name, "7")
    system.ready_libraries()
    assert os.environ[name] == "7"  # the user's
    monkeypatch.delenv(name)
    system.ready_libraries()
    assert os.environ[name] == number
