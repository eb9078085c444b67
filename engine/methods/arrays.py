"""The kernels for every kind of array that a network may give: NumPy's and torch's.

A formula computes with whatever arrays it is given, through the array API
(`array_api_compat.array_namespace`); where F4 is written, a float32 torch tensor will do. NumPy
arrays go to `kernels` as they are, and so do tensors in the CPU's memory, without a copy. Tensors
on a GPU go to `kernels.cuda`, on the stream in use, and the result stays there. torch is imported
only where there are tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from shardcam import kernels
from shardcam.engine.errors import WorkerError, with_extra
from shardcam.engine.types import F4, U1

_T = TypeVar("_T")


def weighted_sum(activation: F4, weight: F4) -> F4:
    """See `kernels.weighted_sum`."""
    if not on_gpu(activation):
        return _on_cpu(kernels.weighted_sum, activation, weight)
    maps: F4 = _empty(activation, (*weight.shape[:2], *activation.shape[2:]))
    _launch("weighted_sum", activation, weight, maps)
    return maps


def product_sum(activation: F4, factor: F4, relu: str) -> F4:
    """See `kernels.product_sum`."""
    if not on_gpu(activation):
        return _on_cpu(kernels.product_sum, activation, factor, relu)
    maps: F4 = _empty(activation, (len(activation), *activation.shape[2:]))
    _launch("product_sum", activation, factor, relu, maps)
    return maps


def scale_maps(raw: F4) -> tuple[F4, F4, U1]:
    """See `kernels.scale_maps`."""
    if not on_gpu(raw):
        return _on_cpu(kernels.scale_maps, raw)
    unit, scale = _empty(raw, raw.shape), _empty(raw, raw.shape[:2])
    flags: U1 = _empty(raw, raw.shape[:2], "uint8")
    _launch("scale_maps", raw, unit, scale, flags)
    return unit, scale, flags


def normalize(maps: F4) -> F4:
    """See `kernels.normalize`."""
    if not on_gpu(maps):
        return _on_cpu(kernels.normalize, maps)
    normalized: F4 = _empty(maps, maps.shape)
    _launch("normalize", maps, normalized)
    return normalized


def upsample(maps: F4, size: tuple[int, int]) -> F4:
    """See `kernels.upsample`."""
    if not on_gpu(maps):
        return _on_cpu(kernels.upsample, maps, size)
    enlarged: F4 = _empty(maps, (len(maps), *size))
    _launch("upsample", maps, enlarged)
    return enlarged


def heatmap_u8(maps: F4, size: tuple[int, int]) -> U1:
    """See `kernels.heatmap_u8`."""
    if not on_gpu(maps):
        return _on_cpu(kernels.heatmap_u8, maps, size)
    levels: U1 = _empty(maps, (len(maps), *size), "uint8")
    _launch("heatmap_u8", maps, levels)
    return levels


def warm_up(array: F4) -> None:
    """Compile the kernels for the GPU that the array is on, before anything is timed.

    Raises
    ------
    WorkerError
        Numba does not find what it compiles with.
    """
    if not on_gpu(array):
        return
    maps: F4 = _empty(array, (1, 1, 1, 1))
    try:
        product_sum(maps, maps, "none")
        scale_maps(weighted_sum(maps, maps[0]))
        heatmap_u8(upsample(normalize(maps[0]), (1, 1)), (1, 1))
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise WorkerError(
            f"the kernels for the GPU cannot be compiled: {with_extra('torch')}, or for drivers of "
            f"CUDA 12 pip install 'numba-cuda[cu12]' ({reason})"
        ) from error


def like(values: npt.NDArray[Any] | F4, array: F4) -> F4:
    """The values as an array of the other one's kind, and where that one is."""
    if isinstance(array, np.ndarray):
        return values
    moved: F4 = array_namespace(array).asarray(values, device=device(array))
    return moved


def contiguous(array: F4) -> F4:
    """The array in C order, copied if need be."""
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(array)
    copied: F4 = _tensor(array).contiguous()
    return copied


def stacked(arrays: Iterable[F4]) -> F4:
    """K times (N,...) -> (N,K,...), C order."""
    each = list(arrays)
    return contiguous(array_namespace(*each).stack(each, axis=1))


def positive(array: F4) -> F4:
    """The array with 0 for what is negative; NaN stays."""
    kept: F4 = array_namespace(array).maximum(array, 0)
    return kept


def halved(array: F4) -> Any:
    """In half precision if it is on a GPU, so that half as much crosses; else as it is."""
    return _tensor(array).half() if on_gpu(array) else array


def on_gpu(array: Any) -> bool:
    """Whether it is a tensor in a GPU's memory."""
    return not isinstance(array, np.ndarray) and bool(_tensor(array).is_cuda)


def to_host(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Groups of arrays as NumPy arrays: what is on a GPU comes by pinned memory, at one wait."""
    sent = {group: {key: _sent(a) for key, a in some.items()} for group, some in groups.items()}
    if any(on_gpu(array) for some in groups.values() for array in some.values()):
        import torch

        torch.cuda.current_stream().synchronize()
    return {group: {key: _seen(a) for key, a in some.items()} for group, some in sent.items()}


def on_host(array: Any) -> npt.NDArray[Any]:
    """One array, as `to_host`."""
    return to_host({"": {"": array}})[""][""]


def _sent(array: Any) -> Any:
    """On its way to the host, if it is on a GPU. torch keeps the pinned memory for next time."""
    if not on_gpu(array):
        return array
    import torch

    pinned = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
    return pinned.copy_(array, non_blocking=True)


def _seen(array: Any) -> Any:
    """A tensor in the CPU's memory as a NumPy array, which shares it; all else as it is."""
    return array.numpy() if hasattr(array, "numpy") else array


def _on_cpu(kernel: Callable[..., _T], *arguments: Any) -> _T:
    """Run a kernel on NumPy arrays, or on tensors as if they were."""
    if isinstance(arguments[0], np.ndarray):
        return kernel(*arguments)
    found: Any = kernel(*map(_seen, arguments))
    asarray = array_namespace(arguments[0]).asarray
    tensors: Any = tuple(map(asarray, found)) if isinstance(found, tuple) else asarray(found)
    return cast(_T, tensors)


def _launch(kernel: str, *arguments: Any) -> None:
    """Begin a kernel of `kernels.cuda` on the stream in use."""
    import torch

    from shardcam.kernels import cuda

    stream = torch.cuda.current_stream(arguments[0].device).cuda_stream
    getattr(cuda, kernel)(*arguments, stream=stream)


def _empty(like: F4, shape: tuple[int, ...], dtype: str = "float32") -> Any:
    xp = array_namespace(like)
    return xp.empty(shape, dtype=getattr(xp, dtype), device=device(like))


def _tensor(array: Any) -> Any:
    return array
