"""Refusals that need no GPU to be tested, and the order in which libraries are loaded."""

import ctypes
import re

import pytest

from shardcam.engine.models import cuda


@pytest.mark.parametrize(
    ("built", "capability", "message"),
    [
        (False, (8, 0), "built without CUDA; install shardcam"),
        (True, None, "no GPU is visible"),
        (True, (9, 0), "compute capability 9.0.*Hopper"),
        (True, (12, 0), "compute capability 12.0"),
        (True, (3, 7), "needs at least 5.0"),
    ],
)
def test_refusals(built, capability, message):
    assert re.search(message, cuda.gpu_refusal(built, capability))


@pytest.mark.parametrize("capability", [(5, 0), (7, 5), (8, 6), (8, 9)])
def test_gpus_that_run(capability):
    assert cuda.gpu_refusal(True, capability) is None


class FakeDriver:
    """libcuda with the given GPUs."""

    def __init__(self, *capabilities):
        self._capabilities = capabilities

    def cuInit(self, _flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self._capabilities)
        return 0

    def cuDeviceGet(self, device, number):
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name, length, device):
        name.value = f"GPU {device.value}".encode()
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self._capabilities[device.value][attribute - 75]
        return 0


def test_compute_capability_is_that_of_the_first_visible_gpu():
    assert cuda.compute_capability(lambda _: FakeDriver((8, 6), (9, 0))) == (8, 6)
    assert cuda.compute_capability(lambda _: FakeDriver()) is None
    assert cuda.visible_gpus(lambda _: FakeDriver((8, 6), (9, 0))) == 2
    assert cuda.visible_gpus(lambda _: FakeDriver()) == 0


def test_gpus_have_names():
    found = cuda.gpus(lambda _: FakeDriver((8, 6), (9, 0)))
    assert found == (cuda.Gpu("GPU 0", (8, 6)), cuda.Gpu("GPU 1", (9, 0)))


def test_no_driver_is_no_gpu():
    def missing(name):
        raise OSError(name)

    assert cuda.compute_capability(missing) is None


def test_libraries_are_loaded_from_their_packages_in_order(tmp_path, monkeypatch):
    for folder, name in [("cudnn", "libcudnn.so.8"), ("cuda_runtime", "libcudart.so.11.0")]:
        (tmp_path / "nvidia" / folder / "lib").mkdir(parents=True)
        (tmp_path / "nvidia" / folder / "lib" / name).touch()
    opened = []
    monkeypatch.setattr(ctypes, "CDLL", lambda path, mode: opened.append((path, mode)))
    assert cuda.preload_libraries(tmp_path) == ["libcudart.so.11.0", "libcudnn.so.8"]
    assert [mode for _, mode in opened] == [ctypes.RTLD_GLOBAL] * 2


def test_libraries_of_pytorch_are_not_taken_for_those_of_mxnet(tmp_path):
    for name in ("cu13/lib/libcurand.so.10", "nccl/lib/libnccl.so.2"):
        file = tmp_path / "nvidia" / name
        file.parent.mkdir(parents=True)
        file.touch()
    assert cuda.preload_libraries(tmp_path) == []
