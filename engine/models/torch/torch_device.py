"""Where PyTorch computes, and what goes there and comes back."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shardcam.engine.errors import WorkerError
from shardcam.engine.types import F4, U1

_NO_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def version() -> str:
    """Of PyTorch, and of the CUDA that it was built for."""
    kind = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return f"{torch.__version__}, {kind} build"


def gpu_refusal(capability: tuple[int, int] | None = None) -> str | None:
    """Why PyTorch cannot compute on a GPU of this process, and what to do; None if it can.

    By default it is the first GPU that is visible; else any of that compute capability.
    """
    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA; install the torch of PyPI for Linux"
    if not torch.cuda.is_available():
        return (
            f"PyTorch {torch.__version__} finds no GPU that it can use: see nvidia-smi, "
            "CUDA_VISIBLE_DEVICES and whether the driver is new enough for CUDA "
            f"{torch.version.cuda}"
        )
    capability = capability or torch.cuda.get_device_capability(0)
    built = torch.cuda.get_arch_list()
    if not any(_runs(code, capability) for code in built):
        found = ".".join(map(str, capability))
        return (
            f"the GPU has compute capability {found}; PyTorch {torch.__version__} has code for "
            f"{', '.join(built)}: install one that was built for it"
        )
    return None


def _runs(code: str, capability: tuple[int, int]) -> bool:
    """Whether a GPU runs what was compiled for ``sm_86`` or, as PTX, for ``compute_86``.

    Machine code runs on what is later and has the same major version, PTX on all that is later.
    """
    kind, _, version = code.partition("_")
    major, minor = divmod(int(version.rstrip("af")), 10)
    return (major, minor) <= capability and (kind == "compute" or major == capability[0])


def on_device(value: npt.NDArray[np.generic] | Tensor, like: Tensor) -> Tensor:
    """An array or tensor as a tensor where another one is, of its type if it is of floats."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.require(value, requirements=["C", "W"]))
    return value.to(like.device, like.dtype if value.is_floating_point() else None)


class HostCopy:
    """A tensor of floats on its way to the host, in float32."""

    def __init__(self, value: Tensor) -> None:
        value = value.detach().float()
        self._event: torch.cuda.Event | None = None
        self._value = value
        if value.is_cuda:
            self._value = torch.empty(value.shape, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def wait(self) -> F4:
        """The array, once it is there."""
        if self._event is not None:
            self._event.synchronize()
        array: F4 = self._value.contiguous().numpy()
        return array


def ahead_of_passes() -> Callable[[], AbstractContextManager[object]]:
    """A stream to enter, of which a GPU takes what is next before that of the passes."""
    return functools.partial(_on, torch.cuda.Stream(priority=-1))


@contextmanager
def _on(stream: torch.cuda.Stream) -> Iterator[None]:
    outside = torch.cuda.current_stream()
    stream.wait_stream(outside)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        outside.wait_stream(stream)


def lock_pages(memory: U1) -> Callable[[], None]:
    """Lock memory where it is, so that a GPU reads it by itself; call the result to unlock it.

    Where that fails nothing is locked, and copies from there go by way of memory that is.
    """
    where, runtime = memory.ctypes.data, torch.cuda.cudart()
    if runtime.cudaHostRegister(where, memory.nbytes, 0) == runtime.cudaError.success:
        return functools.partial(runtime.cudaHostUnregister, where)
    with suppress(RuntimeError):  # the error would be told of by the next call
        torch.zeros(1, device="cuda")
    return lambda: None


def forbid_tf32() -> None:
    """Products in float32 are products in float32, throughout this process."""
    _set_tf32(False)


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Products of 10 bits within, if wanted."""
    _set_tf32(wanted)
    try:
        yield
    finally:
        _set_tf32(False)


def _set_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def in_one_line(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Turn PyTorch's lack of memory into an exception of ours.

    Raises
    ------
    WorkerError
        Memory ran out.
    """

    @functools.wraps(function)
    def wrapped(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            if not _NO_MEMORY.search(str(error)):
                raise
            reason = str(error).strip().splitlines()[0][:200]
            raise WorkerError(
                f"out of memory: {reason}; run it again with a smaller --batch-size, "
                "--image-size or fewer --workers"
            ) from error

    return wrapped
