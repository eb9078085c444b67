"""What a machine with one GPU shows in eight minutes: the same maps, and how fast they come.

    python -m benchmarks.gpu [--smoke] [--device cpu] [--json FILE] [--part NAME]...

Needs the extra torch beside cpu, torchvision and onnx; pytorch-grad-cam and torchcam where they are
installed; no Ray. Weights are random, which changes no time. Each part is a process of its own with
a limit on its seconds, and every result is saved as it comes: what fails or takes too long costs
only itself. `--device cpu` runs all of it in small, to try the script; its times mean nothing.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np

EXTRACT = Path(__file__).parent / "peers" / "extract.py"
ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "torchcodec", "torchvision", "mxnet", "numpy", "numba", "numba-cuda",
            "cupy-cuda13x", "opencv-python-headless", "h5py", "grad-cam", "torchcam")  # fmt: skip
# Largest difference of two maps in fp32 as a share of the largest value of the CPU's; those of the
# other precisions are reported: rounding moves the maxima that pooling takes.
TOLERANCE = 1e-3
SECONDS = 5  # of a timed run
KERNEL_TOLERANCE = 1e-5  # of the largest value; levels may differ by 1, colours by 4

Figures = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    device: str
    networks: tuple[str, ...]
    precisions: tuple[str, ...]
    batch: int
    photographs: int  # different ones
    images: int  # of a timed run
    compared: int  # whose maps are compared
    seconds: float  # that a loop is timed for
    methods: tuple[str, ...] | None  # None: all
    total: float  # seconds for everything


FULL = Sizes("cuda", ("resnet50", "vgg16"), ("fp32", "tf32", "bf16", "fp16"), 128, 4096, 32_768, 4,
             0.6, None, 460)  # fmt: skip
SMOKE = Sizes("cuda", ("resnet50",), ("fp32", "fp16"), 32, 256, 512, 2, 0.2,
              ("gradcam", "layercam"), 120)  # fmt: skip
DRY = Sizes("cpu", ("resnet18",), ("fp32",), 4, 8, 8, 2, 0.01, ("gradcam", "layercam"), 2000)
SHARES = {  # of all seconds, at most
    "inputs": 0.1, "jpeg": 0.2, "decoder": 0.04, "ceilings": 0.15, "pixels": 0.13, "peers": 0.14,
    "shared": 0.08, "kernels": 0.05, "methods": 0.15, "tests": 0.13,
}  # fmt: skip
# In one process each, for PyTorch and MXNet take seconds to begin; what is least known comes first.
TOGETHER = (("inputs",), ("jpeg", "decoder", "ceilings", "pixels"), ("peers",), ("shared",),
            ("tests",), ("kernels", "methods"))  # fmt: skip
LEAST = 30  # seconds: to import and compile
_until = float("inf")  # when the part's seconds are over


def say(**figures: Any) -> None:
    """One result: a line that the parent process reads."""
    print("RESULT " + json.dumps(figures), flush=True)


def tried(name: Figures, work: Callable[[], Figures]) -> None:
    """Say what `work` finds, or how it fails."""
    if time.monotonic() > _until:
        say(**name, skipped="no time is left")
        return
    begun = time.perf_counter()
    try:
        found = work()
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    say(**name, **found, took=round(time.perf_counter() - begun, 2))


class Part:
    """What is measured, in a process of its own."""

    def __init__(self, sizes: Sizes, work: Path) -> None:
        self.sizes, self.work = sizes, work
        self.gpu = sizes.device == "cuda"
        self._runs, self._rate = 0, 0.0  # of the last one

    def model(self, network: str) -> Path:
        return self.work / f"{network}.onnx"

    @property
    def photographs(self) -> Path:
        return self.work / "photographs"

    @property
    def pixels(self) -> Path:
        return self.work / "pixels.npy"

    # -- what the others need ------------------------------------------------------------------

    def inputs(self) -> None:
        """Photographs of 500x375, the same as arrays of 224x224, and networks."""
        with ThreadPoolExecutor() as pool:
            for network in self.sizes.networks:
                command = (sys.executable, EXTRACT, "export", network, self.model(network))
                pool.submit(tried, {"what": network}, partial(_ran, *command))
            warm_up = "from shardcam.kernels import warm_up; warm_up()"
            pool.submit(tried, {"what": "kernels"}, partial(_ran, sys.executable, "-c", warm_up))
            tried({"what": "photographs"}, self._write_photographs)

    def _write_photographs(self) -> Figures:
        from benchmarks.photographs import write_photographs

        count = self.sizes.photographs
        cores = min(len(os.sched_getaffinity(0)), count // 4)
        each = count // cores
        self.photographs.mkdir()
        with ThreadPoolExecutor(cores) as pool:
            folders = [self.work / f"photographs-{i}" for i in range(cores)]
            list(pool.map(lambda i: write_photographs(folders[i], each, i), range(cores)))
        files = [file for folder in folders for file in sorted(folder.iterdir())]
        for i in range(self.sizes.images):  # links: the same file is decoded as often
            (self.photographs / f"{i:07d}.jpg").symlink_to(files[i % len(files)])
        views = np.lib.format.open_memmap(
            self.pixels, "w+", np.uint8, (self.sizes.images, 224, 224, 3)
        )
        different = min(len(files), 512)
        with ThreadPoolExecutor(cores) as pool:
            for i, view in enumerate(pool.map(_view, files[:different])):
                views[i] = view
        for first in range(different, len(views), different):
            part = views[first : first + different]
            part[:] = views[: len(part)]
        size = np.mean([file.stat().st_size for file in files])
        return {"files": len(files), "kilobytes": round(size / 1000, 1)}

    # -- correctness ---------------------------------------------------------------------------

    def kernels(self) -> None:
        """Each kernel beside its twin, its time, and the tests of all of them."""
        from shardcam.kernels import warm_up

        warm_up()
        for name, work in self._kernels():
            tried({"kernel": name}, work)

    def tests(self) -> None:
        """The tests of the CUDA kernels and of maps on the GPU."""
        if not self.gpu:
            return
        options = ("-q", "-p", "no:cacheprovider", "-W", "ignore", "--noconftest", "-m", "")
        for file in (
            *("kernels/cuda_kernels", "torch/test_jpeg_decoder", "torch/test_pixel_buffer"),
            "torch/test_tensor_maps",
        ):
            threads = "OMP_NUM_THREADS=2"  # which conftest.py would set
            command = ("env", threads, sys.executable, "-m", "pytest", *options, f"tests/{file}.py")
            tried({"tests": file}, lambda command=command: _ran(*command))

    def _kernels(self) -> Iterator[tuple[str, Callable[[], Figures]]]:
        import torch

        from shardcam import kernels
        from shardcam.engine.methods import arrays

        rng = np.random.default_rng(0)

        def normal(*shape: int) -> Any:
            return rng.standard_normal(shape, dtype=np.float32)

        n = self.sizes.batch
        activation, factor, weight = (
            normal(n, 2048, 7, 7),
            normal(n, 2048, 7, 7),
            normal(n, 1, 2048),
        )
        large, maps = normal(2, 64, 112, 112), normal(n, 7, 7)
        for name, *given in (
            ("weighted_sum", activation, weight),
            ("weighted_sum", large, normal(2, 5, 64)),
            ("product_sum", activation, factor, "none"),
            ("product_sum", activation, factor, "factor"),
            ("product_sum", activation, factor, "product"),
            ("scale_maps", maps[:, None]),
            ("normalize", maps),
            ("upsample", maps, (224, 224)),
            ("heatmap_u8", maps, (224, 224)),
        ):
            there = [_sent(value, self.sizes.device) for value in given]
            twin, kernel = getattr(kernels, name), getattr(arrays, name)
            shapes = "x".join(map(str, given[0].shape))
            options = [v for v in given[1:] if isinstance(v, str)]
            yield (
                " ".join((name, shapes, *options)),
                lambda twin=twin, kernel=kernel, given=given, there=there: self._beside(
                    lambda: twin(*given), lambda: kernel(*there)
                ),
            )
        if not self.gpu:
            return
        from shardcam.engine.rundir.colormaps import colour_table
        from shardcam.kernels import cuda

        device = self.sizes.device
        pictures = rng.integers(0, 256, (n, 224, 224, 3), np.uint8)
        jet = colour_table("jet")
        shown = kernels.normalize(maps)
        there = {
            name: _sent(value, device)
            for name, value in {"pictures": pictures, "jet": jet, "shown": shown}.items()
        }
        stream = torch.cuda.current_stream().cuda_stream

        def overlay() -> Any:
            out = torch.empty_like(there["pictures"])
            cuda.overlay(there["shown"], there["pictures"], there["jet"], out, 0.5, False, stream)
            return out

        def overlay_here() -> Any:
            pairs = zip(shown, pictures, strict=True)
            return np.stack([kernels.overlay(m, p, jet, 0.5, False) for m, p in pairs])

        yield f"overlay {n}x224x224x3", lambda: self._beside(overlay_here, overlay, 4)

    def _beside(self, here: Callable[[], Any], there: Callable[[], Any], most: int = 1) -> Figures:
        """The largest difference, as a share of the largest value; levels as they are."""
        expected, found = _arrays(here()), _arrays(there())
        differences = []
        for a, b in zip(expected, found, strict=True):
            gap = float(np.abs(a.astype(np.float64) - b).max())
            levels = a.dtype == np.uint8
            differences.append(gap if levels else gap / max(float(np.abs(a).max()), 1e-30))
            if gap > most if levels else differences[-1] > KERNEL_TOLERANCE:
                return {"differences": differences, "error": "too large a difference"}
        return {"differences": differences, "microseconds": self._microseconds(there)}

    def _microseconds(self, work: Callable[[], Any]) -> float:
        """Of the GPU, and where that is shorter of the host that asks for it."""
        import torch

        if not self.gpu:
            return _per_second(work, self.sizes.seconds) ** -1 * 1e6
        for _ in range(5):
            work()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(50):
            work()
        end.record()
        torch.cuda.synchronize()
        return round(start.elapsed_time(end) * 1000 / 50, 1)

    def methods(self) -> None:
        """The maps of every method beside those of MXNet on the CPU."""
        from shardcam.engine.methods import METHODS

        convolutional = [n for n, method in METHODS.items() if not method.reads_attention]
        for network in self.sizes.networks:
            names = self.sizes.methods or tuple(convolutional)
            slow = [name for name in names if METHODS[name].multi_pass]
            for name in [*(n for n in names if n not in slow), *slow]:
                for precision in self.sizes.precisions if name == "gradcam" else ("fp32",):
                    case = {"network": network, "method": name, "precision": precision}
                    tried(case, partial(self._compared, **case))
            tried({"network": network, "method": "layercam --smooth aug"},
                  partial(self._compared, network, "layercam", "fp32", smooth=True))  # fmt: skip

    def _compared(self, network: str, method: str, precision: str, smooth: bool = False) -> Figures:
        """The largest difference of two raw maps, as a share of the largest value of the CPU's."""
        from shardcam.engine.errors import ConfigError
        from shardcam.engine.methods import METHODS
        from shardcam.engine.methods.arrays import to_host
        from shardcam.engine.methods.smoothing import plain_maps, smoothed_maps
        from shardcam.engine.pipeline.targets import top_classes

        formula = METHODS[method]
        count = 1 if formula.multi_pass else self.sizes.compared
        pixels = np.array(np.load(self.pixels, mmap_mode="r")[:count])
        maps, logits = [], []
        for where in ("here", "there"):
            net = self._network(network, where, precision, formula.explains_input)
            forward = net.forward(pixels)
            logits.append(forward.logits)
            target = top_classes(logits[0], 1)
            try:
                if smooth:
                    made = smoothed_maps(net, formula, forward.images, target)
                else:
                    made = plain_maps(forward, net, formula, target)
            except ConfigError as error:
                return {"refused": str(error)}
            maps.append(next(iter(to_host({"": made})[""].values())))
        gaps = {"maps": _gap(*maps), "logits": _gap(*logits)}
        if precision == "fp32" and not gaps["maps"] <= TOLERANCE:
            return {**gaps, "error": f"the tolerance is {TOLERANCE}"}
        return gaps

    @cache  # noqa: B019  (there is one Part in a process)
    def _network(self, network: str, where: str, precision: str, whole: bool) -> Any:
        """MXNet's on the CPU, or PyTorch's; `whole`: for methods that explain the input."""
        definition = self._definition(network)
        layers = (definition.input_name if whole else _layer(definition),)
        if where == "here":
            from shardcam.engine.models.mxnet_network import MxnetNetwork

            return MxnetNetwork(definition, layers, self.sizes.compared)
        from shardcam.engine.models.torch.torch_network import TorchNetwork

        return TorchNetwork(definition, layers, self.sizes.compared, precision, self.gpu)

    # -- speed ---------------------------------------------------------------------------------

    def ceilings(self) -> None:
        """Passes of the network alone: torchvision's by PyTorch, and shardcam's own."""
        for network in self.sizes.networks:
            for precision in reversed(self.sizes.precisions):
                name = {"network": network, "precision": precision}
                tried(
                    name | {"forward": "torchvision"},
                    lambda n=network, p=precision: self._torchvision(n, p),
                )
                tried(
                    name | {"forward": "shardcam"}, lambda n=network, p=precision: self._own(n, p)
                )

    def _torchvision(self, network: str, precision: str) -> Figures:
        """Channels last, recorded as a CUDA graph: inputs stay in the GPU's memory."""
        import torch

        from benchmarks.peers.extract import build

        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = (
            precision == "tf32"
        )
        torch.backends.cudnn.benchmark = True
        net = copy.deepcopy(build(network))
        net = net.to(self.sizes.device, dtype, memory_format=torch.channels_last)
        images = torch.randn(self.sizes.batch, 3, 224, 224, device=self.sizes.device, dtype=dtype)
        images = images.to(memory_format=torch.channels_last)
        figures = {}
        with torch.no_grad():
            plain = _per_second(lambda: net(images), self.sizes.seconds, self._wait)
            figures["plain"] = plain * self.sizes.batch
            if self.gpu:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    net(images)
                rate = _per_second(graph.replay, self.sizes.seconds, self._wait)
                figures["recorded"] = rate * self.sizes.batch
        return figures | {"images_per_second": max(figures.values())} | self._memory()

    def _own(self, network: str, precision: str) -> Figures:
        """Bytes in, logits out, the next pass begun before those of this one are read."""
        from shardcam.engine.models.torch.torch_network import TorchNetwork

        batch = self.sizes.batch
        definition = self._definition(network)
        net = TorchNetwork(
            definition, (_layer(definition),), batch, precision, self.gpu,
            buffers=2,
        )  # fmt: skip
        pixels = np.load(self.pixels, mmap_mode="r")[:batch]
        pixels = np.resize(np.array(pixels), (batch, 224, 224, 3))
        ahead = [net.forward(pixels)]

        def step() -> None:
            now = ahead.pop()
            ahead.append(net.forward(pixels))
            _ = now.logits

        rate = _per_second(step, self.sizes.seconds, self._wait) * batch
        return {"images_per_second": rate} | self._memory()

    @cache  # noqa: B019  (there is one Part in a process)
    def _definition(self, network: str) -> Any:
        from shardcam.engine.models.load_network import load_network

        return load_network(str(self.model(network)), None)

    def pixels_alone(self) -> None:
        """Grad-CAM of arrays of the network's own size, to published HDF5 maps."""
        self._runs_of(self.work / "pixels.npy", "pixels", {})

    def jpeg(self) -> None:
        """Grad-CAM of JPEG files of 500x375, to published HDF5 maps, however they are decoded."""
        ways: dict[str, Figures] = {
            "jpeg": {},  # beside a GPU by a process for each core
            "jpeg, --decoder gpu": {"decoder": "gpu"},
            "jpeg, --decode-processes 0": {"decode_processes": 0},
            "jpeg, --fast-decode": {"fast_decode": True},
        }
        if not self.gpu:
            del ways["jpeg, --decoder gpu"]
        *others, last = (p for p in self.sizes.precisions if p != "tf32")
        first, *more = self.sizes.networks
        for name, options in ways.items():
            self._runs_of(self.photographs, name, options, (last,), (first,))
        if more:
            for name in ("jpeg", "jpeg, --decoder gpu"):
                if name in ways:
                    self._runs_of(self.photographs, name, ways[name], (last,), more)
        if others:
            self._runs_of(self.photographs, "jpeg", {}, others, (first,))

    def shared(self) -> None:
        """Processes that share the GPU: each has a part of one run, and of the cores."""
        tried({"from": "jpeg", "processes": 2}, partial(self._shared, 2))

    def _shared(self, count: int) -> Figures:
        from shardcam.engine.rundir.event_log import read_events, worker_rate
        from shardcam.engine.rundir.run_dir import RunDir

        batch, images = self.sizes.batch, min(self.sizes.images, 16_384)
        cores, out = len(os.sched_getaffinity(0)) // count, self.work / f"shared-{count}"
        options = {
            "model": self.model(self.sizes.networks[0]), "precision": self.sizes.precisions[-1],
            "limit": images, "batch-size": batch,
            "shard-size": max(batch, images // (8 * count) // batch * batch), "out": out,
            "decode-processes": max(1, cores), "gpus-per-worker": int(self.gpu),
            "runtime": "torch", "executor": "local",
        }  # fmt: skip
        command = [sys.executable, "-m", "shardcam", "extract", self.photographs]
        command += [text for name, value in options.items() for text in (f"--{name}", value)]
        with ThreadPoolExecutor(count) as pool:
            parts = (f"--part={number}/{count}" for number in range(1, count + 1))
            list(pool.map(partial(_ran, *command), parts))
        workers, rate = worker_rate(read_events(RunDir(out)))
        return {"images_per_second": rate, "workers": workers}

    def decoder(self) -> None:
        """JPEG files decoded on the device, beside the CPU's pixels and maps, and how fast."""
        for name, work in {"agreement": self._agreement, "alone": self._decoding_alone}.items():
            tried({"decoder": name}, work)

    def _loader(self, decoder: str) -> Any:
        """What makes batches of photographs, and the samples of one."""
        from shardcam.engine.config import RunConfig
        from shardcam.engine.pipeline.targets import parse_targets
        from shardcam.engine.run import build_worker

        batch, gpus = self.sizes.batch, float(self.gpu)
        config = RunConfig(
            source=str(self.photographs), model="-", out="-", executor="local",
            gpus_per_worker=gpus, decoder=decoder,
        )  # fmt: skip
        seen = self._definition(self.sizes.networks[0]).preprocessing
        loader = build_worker._loader(config, parse_targets("top1", 10), seen, batch)
        samples = tuple(islice(loader.reader.samples(), batch))
        if decoder == "gpu":
            others = build_worker._device_decoding(config, loader)
            loader = replace(loader, others=others)
        return loader, samples

    def _agreement(self) -> Figures:
        """Of views in levels, of logits as a share of the largest; how maps correlate."""
        from shardcam.engine.methods import METHODS
        from shardcam.engine.methods.arrays import to_host
        from shardcam.engine.methods.smoothing import plain_maps
        from shardcam.engine.models.torch.torch_network import TorchNetwork
        from shardcam.engine.pipeline.targets import top_classes
        from shardcam.engine.types import Shard

        definition = self._definition(self.sizes.networks[0])
        net = TorchNetwork(
            definition, (_layer(definition),), self.sizes.batch, "fp32", self.gpu,
        )  # fmt: skip
        views, logits, maps = [], [], []
        for decoder in ("cpu", "gpu"):
            loader, samples = self._loader(decoder)
            (batch,) = loader.batches(Shard(0, samples))
            views.append(np.stack([view.pixels for view in batch.views]).astype(np.int16))
            forward = net.forward(batch.images)
            logits.append(forward.logits.copy())
            made = plain_maps(forward, net, METHODS["gradcam"], top_classes(logits[0], 1))
            maps.append(to_host({"": made})[""][_layer(definition)].copy())
        gap = np.abs(views[0] - views[1])
        alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*maps, strict=True)]
        return {
            "images": len(alike), "levels": float(gap.mean()), "most_levels": int(gap.max()),
            "correlation": float(np.mean(alike)), "lowest": float(np.min(alike)),
            "logits": _gap(*logits),
        }  # fmt: skip

    def _decoding_alone(self) -> Figures:
        """Batches from files to views on the device, by one thread."""
        from shardcam.engine.types import Shard

        loader, samples = self._loader("gpu")
        rate = _per_second(lambda: list(loader.batches(Shard(0, samples))), self.sizes.seconds)
        return {"images_per_second": rate * len(samples)} | self._memory()

    def _runs_of(
        self,
        source: Path,
        name: str,
        options: Figures,
        precisions: Sequence[str] | None = None,
        networks: Sequence[str] | None = None,
    ) -> None:
        for network in networks or self.sizes.networks:
            for precision in reversed(precisions or self.sizes.precisions):
                tried(
                    {"network": network, "precision": precision, "from": name},
                    lambda n=network, p=precision: self._timed(n, p, source, options),
                )

    def _timed(self, network: str, precision: str, source: Path, options: Figures) -> Figures:
        """The first of a process after a short one, in which kernels are compiled."""
        from shardcam.engine.rundir.event_log import read_events
        from shardcam.engine.rundir.run_dir import RunDir

        batch = self.sizes.batch
        for _ in range(1 if self._rate else 2):
            wanted = int(self._rate * SECONDS) // batch * batch
            images = min(self.sizes.images, max(8 * batch, wanted))
            self._runs += 1
            out = self.work / f"timed-{os.getpid()}-{self._runs}"
            report = self._extract(
                network, precision, out, source=source, images=images, batch=batch, **options
            )
            self._rate = rate = _rate(read_events(RunDir(out)))
        return {
            "images_per_second": rate,
            "images": report.listed,
            "failed": report.failed,
            "stage_seconds": {k: round(v, 3) for k, v in report.stage_seconds.items()},
            "bottleneck": report.bottleneck,
        } | self._memory()

    def _extract(
        self,
        network: str,
        precision: str,
        out: Path,
        images: int,
        batch: int,
        **options: Any,
    ) -> Any:
        """By the local executor."""
        from shardcam import extract

        return extract(
            model=self.model(network), out=out, limit=images, batch_size=batch,
            shard_size=max(batch, images // 8 // batch * batch), precision=precision,
            runtime="torch", gpus_per_worker=float(self.gpu), executor="local",
            **options,
        )  # fmt: skip

    def peers(self) -> None:
        """pytorch-grad-cam and torchcam, on the same GPU, of files and of what is on the GPU."""
        from benchmarks.peers.extract import extract

        cores = len(os.sched_getaffinity(0)) if self.gpu else 0
        batch = self.sizes.batch
        cases: list[tuple[str, object, int]] = [
            ("jpeg", self.photographs, min(32, batch)), ("pixels", "memory", batch),
        ]  # fmt: skip
        if batch > 32:
            cases.append(("jpeg", self.photographs, batch))
        for kind, source, size in cases:
            for network in self.sizes.networks:
                for tool in ("torchcam", "pytorch-grad-cam"):
                    count = min(self.sizes.images, 12 * batch)
                    tried(
                        {"network": network, "tool": tool, "batch": size, "from": kind},
                        lambda t=tool, n=network, s=source, c=count, z=size: (
                            {
                                "images_per_second": extract(
                                    t, n, s, c, z, self.work / "peer.h5", self.sizes.device, cores
                                )
                            }
                            | self._memory()
                        ),
                    )

    # -- ---------------------------------------------------------------------------------------

    def _wait(self) -> None:
        import torch

        if self.gpu:
            torch.cuda.synchronize()

    def _memory(self) -> Figures:
        """GB that PyTorch held at most since the last call."""
        import torch

        if not self.gpu:
            return {}
        held = torch.cuda.max_memory_reserved() / 1e9
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return {"gigabytes": round(held, 2)}


def _rate(events: Iterable[Figures]) -> float:
    """Images per second after the first shard; peers' are those after the first batch."""
    done = [(e["time"], e["images"]) for e in events if e["kind"] == "shard_done"]
    seconds = done[-1][0] - done[0][0]
    return float(sum(images for _, images in done[1:]) / seconds)


def _layer(definition: Any) -> str:
    from shardcam.engine.models.layer_names import resolve_layer

    return resolve_layer(definition, "auto").name


def _gap(expected: Any, found: Any) -> float:
    """Of each image, as a share of the largest value; the largest of all."""
    axes = tuple(range(1, expected.ndim))
    largest = np.abs(expected).max(axis=axes)
    gaps = np.abs(found.astype(np.float64) - expected).max(axis=axes)
    return float((gaps / np.maximum(largest, 1e-30)).max())


def _view(file: Path) -> Any:
    import cv2

    pixels = cv2.imread(str(file))[:, 62:437, ::-1]
    return cv2.resize(np.ascontiguousarray(pixels), (224, 224), interpolation=cv2.INTER_AREA)


def _sent(value: Any, device: str) -> Any:
    import torch

    return torch.from_numpy(value).to(device) if isinstance(value, np.ndarray) else value


def _arrays(values: Any) -> list[Any]:
    several = values if isinstance(values, tuple) else (values,)
    return [v if isinstance(v, np.ndarray) else v.cpu().numpy() for v in several]


def _per_second(
    work: Callable[[], Any], seconds: float, wait: Callable[[], None] = lambda: None
) -> float:
    """Calls per second, after some that do not count, in groups between which it waits."""
    group = 5 if seconds > 0.1 else 1
    begun, done = time.perf_counter(), -group
    while done < group or time.perf_counter() - begun < seconds:
        for _ in range(group):
            work()
        wait()
        done += group
        if done == 0:
            begun = time.perf_counter()
    return done / (time.perf_counter() - begun)


def _place() -> str | None:
    """Memory, where there is enough: the files are written just before they are read."""
    memory = Path("/dev/shm")
    enough = memory.is_dir() and shutil.disk_usage(memory).free > 16e9
    return str(memory) if enough else None


def _ran(*command: object, limit: float = 120) -> Figures:
    """The end of what a command printed; it must succeed."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stdout[-3000:]}")
    return {"output": done.stdout.strip()[-500:]}


def _child(parts: str, sizes: Sizes, work: Path, limits: list[float]) -> list[str]:
    options = ["--child", parts, "--work", str(work), "--sizes", json.dumps(asdict(sizes))]
    options += ["--limits", json.dumps(limits)]
    return [sys.executable, "-m", "benchmarks.gpu", *options]


METHODS_OF = {"pixels": "pixels_alone"}  # of Part, where a part has another name


def _work(part: Part, names: list[str], limits: list[float]) -> None:
    """In a child process: one part after the other; what one leaves over is the next one's."""
    global _until
    _until = time.monotonic()
    for name, limit in zip(names, limits, strict=True):
        _until += limit
        say(begins=name)
        getattr(part, METHODS_OF.get(name, name))()


class Results:
    """The file, written anew with every result."""

    def __init__(self, file: Path, sizes: Sizes) -> None:
        self._file = file
        self.found: Figures = {"machine": machine(), "sizes": asdict(sizes), "parts": {}}
        file.parent.mkdir(parents=True, exist_ok=True)

    def save(self) -> None:
        self.found["table"] = table(self.found["parts"])
        self._file.write_text(json.dumps(self.found, indent=1) + "\n")

    def run(self, parts: tuple[str, ...], sizes: Sizes, work: Path, limits: list[float]) -> str:
        """Parts in one process: results as they come. It is ended when the seconds are over.

        Returns the part that was the last one to begin.
        """
        begun = time.perf_counter()
        child = subprocess.Popen(
            _child(",".join(parts), sizes, work, limits),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        timer = threading.Timer(sum(limits) + 10, _end, [child])
        timer.start()
        assert child.stdout is not None
        part, last = parts[0], [""]
        entry = self.found["parts"].setdefault(part, {"results": []})
        for line in child.stdout:
            if not line.startswith("RESULT "):
                last = [*last[-40:], line.rstrip()]
                continue
            result = json.loads(line.removeprefix("RESULT "))
            if "begins" in result:
                part = result["begins"]
                entry = self.found["parts"].setdefault(part, {"results": []})
                click.echo(f"== {part}, after {time.perf_counter() - begun:.0f} s of its process")
                continue
            entry["results"].append(result)
            shown = {k: _short(v) for k, v in result.items() if k != "traceback"}
            click.echo(" ".join(f"{k}={v}" for k, v in shown.items()))
            if "traceback" in result:
                click.echo(result["traceback"])
            self.save()
        code = child.wait()
        timer.cancel()
        entry["seconds"] = round(time.perf_counter() - begun, 1)
        if code:
            entry["error"] = f"exit code {code} after {entry['seconds']} s"
            entry["output"] = last
            click.echo("\n".join([entry["error"], *last]))
        self.save()
        return part


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, 9)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return [_short(v) for v in value]
    return value


def machine() -> Figures:
    """What the figures depend on."""
    from shardcam.jobs.measuring.measure import processor_name

    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    gpu = ""
    with suppress(OSError):
        fields = "name,memory.total,driver_version,clocks.max.sm,power.limit"
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        gpu = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.strip()
    return {
        "gpu": gpu,
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
    }


def table(parts: Figures) -> str:
    """Images per second as rows for the documentation: one for each network and precision."""

    def of(part: str) -> list[Figures]:
        results = parts.get(part, {}).get("results", [])
        return [r for r in results if "images_per_second" in r]

    def best(part: str, **wanted: Any) -> float | None:
        rates = [
            r["images_per_second"]
            for r in of(part)
            if all(r.get(key) == value for key, value in wanted.items())
        ]
        return max(rates, default=None)

    rows = [
        "| network | precision | forward alone | from pixels | of it | from JPEG | --decoder gpu "
        "| --decode-processes 0 | --fast-decode | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for network, precision in dict.fromkeys(
        (r["network"], r["precision"]) for r in (*of("jpeg"), *of("ceilings"))
    ):
        same = {"network": network, "precision": precision}
        ceiling, pixels = best("ceilings", **same), best("pixels", **same)
        held = max((r.get("gigabytes", 0) for r in of("pixels") if same.items() <= r.items()),
                   default=0)  # fmt: skip
        memory = f"{held:.1f} GB" if held else None
        share = f"{pixels / ceiling:.2f}" if pixels and ceiling else ""
        ways = ("", ", --decoder gpu", ", --decode-processes 0", ", --fast-decode")
        jpeg = [best("jpeg", **same, **{"from": f"jpeg{way}"}) for way in ways]
        rows.append(_row(network, precision, ceiling, pixels, share, *jpeg, memory))
    rows += ["", "| network | tool | from pixels | from JPEG |", "|---|---|---|---|"]
    for network, tool in dict.fromkeys((r["network"], r["tool"]) for r in of("peers")):
        same = {"network": network, "tool": tool}
        cells = [best("peers", **same, **{"from": kind}) for kind in ("pixels", "jpeg")]
        rows.append(_row(network, tool, *cells))
    rows += [_row(f"{r['processes']} processes, from JPEG", r["images_per_second"])
             for r in of("shared")]  # fmt: skip
    return "\n".join(rows)


def _row(*cells: object) -> str:
    shown = ("" if c is None else f"{c:.0f}" if isinstance(c, float) else str(c) for c in cells)
    return f"| {' | '.join(shown)} |"


@click.command()
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda")
@click.option("--smoke", is_flag=True, help="A minute, to see that everything runs.")
@click.option("--seconds", type=float, help="For everything  [default: 460]")
@click.option("--part", "parts", multiple=True, type=click.Choice([*SHARES]), default=[*SHARES])
@click.option("--json", "file", type=click.Path(path_type=Path), default="build/gpu.json")
@click.option("--child", hidden=True)
@click.option("--work", type=click.Path(path_type=Path), hidden=True)
@click.option("--sizes", "given", hidden=True)
@click.option("--limits", hidden=True)
def main(
    device: str,
    smoke: bool,
    seconds: float | None,
    parts: tuple[str, ...],
    file: Path,
    child: str | None,
    work: Path | None,
    given: str | None,
    limits: str | None,
) -> None:
    """Measure, and save each result as soon as it is there."""
    if child is not None:
        values = {
            k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(given or "").items()
        }
        assert work is not None
        _work(Part(Sizes(**values), work), child.split(","), json.loads(limits or ""))
        return
    sizes = DRY if device == "cpu" else SMOKE if smoke else FULL
    total = seconds or sizes.total
    end = time.perf_counter() + total
    results = Results(file, sizes)
    click.echo(json.dumps(results.found["machine"], indent=1))
    with tempfile.TemporaryDirectory(dir=_place()) as folder:
        place = Path(folder).resolve()
        for group in TOGETHER:
            wanted = [part for part in group if part in (*parts, "inputs")]
            while wanted and (left := end - time.perf_counter()) > 5:
                shares = [max(total * SHARES[part], LEAST) for part in wanted]
                fitting = min(1.0, left / sum(shares))
                last = results.run(tuple(wanted), sizes, place, [one * fitting for one in shares])
                wanted = wanted[wanted.index(last) + 1 :]  # another process, if this one died
    click.echo(results.found["table"])
    wrong = [
        r
        for part in results.found["parts"].values()
        for r in [*part["results"], part]
        if "error" in r
    ]
    click.echo(f"{len(wrong)} of the results are errors; all are in {file}")


if __name__ == "__main__":
    main()
