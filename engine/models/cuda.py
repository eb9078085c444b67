"""Finding out, before anything is computed, whether this machine's GPU can run MXNet.

MXNet 1.9.1's GPU wheels hold machine code for compute capabilities 5.0 to 8.6 and no
PTX: on 8.9 (Ada) the 8.6 code runs, on 9.0 (Hopper) and later nothing does.
"""

from __future__ import annotations

import ctypes
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardcam.engine.errors import with_extra

OLDEST, NEWEST = (5, 0), (8, 9)
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*, cuda.h
# In the order in which they need each other.
LIBRARIES = (
    "libcudart.so.11.0",
    "libnvToolsExt.so.1",
    "libnvrtc.so.11.2",
    "libcublasLt.so.11",
    "libcublas.so.11",
    "libcufft.so.10",
    "libcurand.so.10",
    "libcusparse.so.11",
    "libcusolver.so.11",
    "libcudnn.so.8",
    "libnccl.so.2",
)
Loader = Callable[[str], Any]


def preload_libraries(packages: Path | None = None) -> list[str]:
    """Load NVIDIA's libraries from their PyPI packages, so that MXNet's GPU wheel finds them.

    Returns
    -------
    list of str
        What was loaded; a library that is not there is left to the system's loader.
    """
    root = (packages or Path(sysconfig.get_paths()["purelib"])) / "nvidia"
    loaded: list[str] = []
    if not any(root.glob(f"*/lib/{LIBRARIES[0]}")):  # PyTorch brings some of the others
        return loaded
    for name in LIBRARIES:
        for path in sorted(root.glob(f"*/lib/{name}")):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            loaded.append(name)
    return loaded


@dataclass(frozen=True)
class Gpu:
    """What the driver says of a GPU, or of a part of one."""

    name: str
    capability: tuple[int, int]  # of computing: 9.0 is Hopper


def gpus(load: Loader = ctypes.CDLL) -> tuple[Gpu, ...]:
    """Those that this process may see, in the order of their numbers."""
    try:
        cuda = load("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_gpu(cuda, number) for number in range(count.value))


def _gpu(cuda: Any, number: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), number)
    cuda.cuDeviceGetName(name, len(name), device)
    values = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        values.append(value.value)
    return Gpu(name.value.decode(errors="replace"), (values[0], values[1]))


def visible_gpus(load: Loader = ctypes.CDLL) -> int:
    """How many GPUs this process may see."""
    return len(gpus(load))


def compute_capability(load: Loader = ctypes.CDLL) -> tuple[int, int] | None:
    """Compute capability of the first visible GPU; None if there is none."""
    found = gpus(load)
    return found[0].capability if found else None


def gpu_refusal(built_with_cuda: bool, capability: tuple[int, int] | None) -> str | None:
    """Why this process cannot compute on a GPU, and what to do; None if it can."""
    if not built_with_cuda:
        return (
            f"this MXNet was built without CUDA; {with_extra('torch')}, or with cu117 or cu112 in "
            "place of cpu"
        )
    if capability is None:
        return "no GPU is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES"
    found = ".".join(map(str, capability))
    if capability > NEWEST:
        return (
            f"the GPU has compute capability {found}; MXNet 1.9.1 has code for at most "
            f"8.6, which runs up to 8.9 (Ada). For Hopper and later {with_extra('torch')}; else "
            "leave --gpus-per-worker out"
        )
    if capability < OLDEST:
        return f"the GPU has compute capability {found}; MXNet 1.9.1 needs at least 5.0"
    return None


def mxnet_has_cuda() -> bool:
    """Whether the installed MXNet was built for GPUs."""
    import mxnet as mx

    return bool(mx.runtime.Features().is_enabled("CUDA"))
