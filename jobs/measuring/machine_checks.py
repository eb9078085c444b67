"""What a run needs of a machine: Python, libraries, kernels, threads, GPU, Ray, the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shardcam.engine.io.whole_file import nearest_folder
from shardcam.engine.models.system_libraries import ready_libraries
from shardcam.engine.workers.cores import usable_cores

GIB = 2**30
LITTLE_SPACE = 5 * GIB


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    state: str  # ok, note or fail
    text: str


Check = Callable[[Path], Iterator[Finding]]


def examine(checks: Mapping[str, Check], out: Path) -> list[tuple[str, Finding]]:
    """Findings of the checks, by name."""
    return [(name, finding) for name, check in checks.items() for finding in _run(check, out)]


def _run(check: Check, out: Path) -> Iterator[Finding]:
    """A check that raises is a check that failed."""
    try:
        yield from check(out)
    except Exception as error:
        yield Finding("fail", str(error).strip().splitlines()[0])


def _python(_: Path) -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    good = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Finding("ok", found) if good else Finding("fail", f"{found}; 3.10 to 3.13 is needed")


def _mxnet(_: Path) -> Iterator[Finding]:
    ready_libraries()
    from shardcam.engine.models.cuda import mxnet_has_cuda

    kind = "CUDA" if mxnet_has_cuda() else "CPU"
    yield Finding("ok", f"{kind} build")


def _torch(_: Path) -> Iterator[Finding]:
    """Nothing where it is not installed: it is needed for some GPUs only."""
    from shardcam.engine.run.runtime_choice import has_torch

    if has_torch():
        from shardcam.engine.models.torch.torch_device import version

        yield Finding("ok", version())


def _kernels(_: Path) -> Iterator[Finding]:
    from shardcam.kernels import cache_directory, warm_up

    warm_up()
    folder = cache_directory()
    if folder is None:
        yield Finding("note", "compiled; no writable cache, so every process compiles for 3 s")
    else:
        yield Finding("ok", f"compiled, cached in {folder}")


def _threads(_: Path) -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    usable = usable_cores()
    text = f"{usable} of {cores} cores usable"
    yield Finding("ok" if usable == cores else "note", text)


def _gpu(_: Path) -> Iterator[Finding]:
    from shardcam.engine.models.cuda import gpus

    found = gpus()
    if not found:
        yield Finding("note", "none is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES")
    for number, gpu in enumerate(found):
        capability = ".".join(map(str, gpu.capability))
        state, runtime = _runtime_of(gpu.capability)
        yield Finding(state, f"{number}: {gpu.name}, compute capability {capability}: {runtime}")
    if given := os.environ.get("CUDA_VISIBLE_DEVICES"):
        yield Finding("note", f"CUDA_VISIBLE_DEVICES={given}: runs see no others")


def _runtime_of(capability: tuple[int, int]) -> tuple[str, str]:
    """Whether a GPU can be used, by which runtime, and why by that."""
    from shardcam.engine.models.cuda import gpu_refusal, mxnet_has_cuda
    from shardcam.engine.run.runtime_choice import TORCH, has_torch, refusal_of

    reason = gpu_refusal(mxnet_has_cuda(), capability)
    if reason is None:
        return "ok", "MXNet"
    if not has_torch():
        return "note", f"not used: {reason}"
    refused = refusal_of(TORCH, capability)
    if refused is not None:
        return "note", f"not used: {refused}"
    return "ok", f"PyTorch, for {reason.partition(';')[0]}"


def _ray(_: Path) -> Iterator[Finding]:
    from shardcam.engine.workers.ray_nodes import try_ray

    yield Finding("ok", f"{try_ray()}: started on loopback, an actor answered")
    if os.environ.get("RAY_ADDRESS"):
        yield Finding("note", f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: runs will join it")


def _disk(out: Path) -> Iterator[Finding]:
    folder = nearest_folder(out)
    free = shutil.disk_usage(folder).free
    state = "ok" if free > LITTLE_SPACE else "note"
    yield Finding(state, f"{folder}: {free / GIB:.0f} GiB free")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        first = Path(scratch, "first")
        first.touch()
        yield _links(first)
        yield _locks(first)


def _links(file: Path) -> Finding:
    try:
        os.link(file, file.with_name("second"))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
        return Finding("note", "no hard links: shards are published by rename under a lock")
    return Finding("ok", "hard links")


def _locks(file: Path) -> Finding:
    try:
        with file.open("r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        text = f"no file locks ({error.strerror}): set HDF5_USE_FILE_LOCKING=BEST_EFFORT to read"
        return Finding("note", text)
    return Finding("ok", "file locks")


CHECKS: dict[str, Check] = {
    "python": _python,
    "mxnet": _mxnet,
    "torch": _torch,
    "kernels": _kernels,
    "threads": _threads,
    "gpu": _gpu,
    "ray": _ray,
    "disk": _disk,
}
