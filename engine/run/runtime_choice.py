"""Which library computes the network: MXNet wherever it can, PyTorch where it has no code."""

from __future__ import annotations

from importlib.util import find_spec
from socket import gethostname

from shardcam.engine.config import RunConfig, flag
from shardcam.engine.errors import ConfigError, WorkerError, needs
from shardcam.engine.types import Note

MXNET, TORCH, AUTO = "mxnet", "torch", "auto"
_NOT_BY_GPU = {  # options that exclude decoding on a GPU
    "fast_decode": "JPEG files are decoded whole",
    "interpolation": "pictures are resized by area",
    "decode_processes": "the worker itself reads",
}


def with_runtime(config: RunConfig) -> tuple[RunConfig, tuple[Note, ...]]:
    """The options with the runtime that `auto` stands for, and what to tell of the choice.

    It is made once, by the driver, so that all workers of a run compute alike. For workers on
    other machines, if no GPU is visible here, what is installed here decides.

    Raises
    ------
    ConfigError
        PyTorch is asked for and not installed, or cannot compute at the precision, or
        the GPU cannot decode.
    """
    reason = None
    chosen: str = config.runtime
    if chosen == AUTO:
        reason = _without_mxnet() if config.gpus_per_worker else None
        chosen = TORCH if reason is not None and has_torch() else MXNET
    if chosen == TORCH and not has_torch():
        raise ConfigError(f"--runtime torch {needs('torch')}")
    _require_precision(config, chosen)
    _require_decoder(config, chosen)
    notes = (Note("runtime", f"PyTorch: {reason}"),) if reason and chosen == TORCH else ()
    return config.model_copy(update={"runtime": chosen}), notes


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def require_gpu(runtime: str) -> None:
    """Never fall back to the CPU in silence.

    Raises
    ------
    WorkerError
        The runtime cannot compute on a GPU of this process.
    """
    reason = refusal_of(runtime)
    if reason is None:
        return
    if runtime == MXNET and has_torch() and refusal_of(TORCH) is None:  # the driver has another GPU
        reason = f"{reason.partition(';')[0]}, which PyTorch serves: --runtime torch"
    raise WorkerError(f"--gpus-per-worker: {gethostname()}: {reason}")


def refusal_of(runtime: str, capability: tuple[int, int] | None = None) -> str | None:
    """Why a runtime cannot compute on a GPU of this process, and what to do; None if it can.

    By default it is the first GPU that is visible; else any of that compute capability.
    """
    if runtime == TORCH:
        from shardcam.engine.models.torch import torch_device

        return torch_device.gpu_refusal(capability)
    from shardcam.engine.models.cuda import compute_capability, gpu_refusal, mxnet_has_cuda

    return gpu_refusal(mxnet_has_cuda(), capability or compute_capability())


def _without_mxnet() -> str | None:
    """Why MXNet cannot compute on GPUs; None if it can, or if no GPU is visible to say so."""
    from shardcam.engine.models.cuda import compute_capability, gpu_refusal, mxnet_has_cuda

    capability, built = compute_capability(), mxnet_has_cuda()
    return None if capability is None and built else gpu_refusal(built, capability)


def _require_precision(config: RunConfig, runtime: str) -> None:
    precision, gpu = config.precision, config.gpus_per_worker > 0
    if runtime == TORCH and precision == "int8":
        raise ConfigError("--precision int8 is for MXNet on CPUs; --runtime torch takes bf16")
    if runtime == MXNET and precision == "tf32":
        raise ConfigError("--precision tf32 is for --runtime torch; MXNet takes fp16 or fp32")
    if runtime == MXNET and precision in ("bf16", "int8") and gpu:
        also = "; bf16 with --runtime torch" if precision == "bf16" else ""
        raise ConfigError(f"--precision {precision} is for CPUs; GPUs take fp16 or fp32{also}")


def _require_decoder(config: RunConfig, runtime: str) -> None:
    if config.decoder == "cpu":
        return
    if not config.gpus_per_worker:
        raise ConfigError("--decoder gpu needs a GPU (--gpus-per-worker) and --runtime torch")
    if runtime != TORCH:
        raise ConfigError("--decoder gpu is for --runtime torch; for MXNet the CPU decodes")
    if not any(map(find_spec, ("torchcodec", "torchvision"))):
        raise ConfigError(
            f"--decoder gpu {needs('torchcodec')}, or torchvision if PyTorch is older than 2.11"
        )
    for name, why in _NOT_BY_GPU.items():
        if getattr(config, name) != RunConfig.model_fields[name].default:
            raise ConfigError(f"{flag(name)}: with --decoder gpu {why}; leave one of them out")
