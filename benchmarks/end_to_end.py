"""From JPEG files to published HDF5 maps: whole runs, side by side, in turns.

    python -m benchmarks.end_to_end [--peers PYTHON_WITH_TORCH] [--openvino PYTHON] [--part NAME]...
        [--rounds N] [--network NAME]... [--quick]

Photographs of 500x375, random weights (what a pass takes does not depend on them), all cores of
this process (`taskset -c 0,1` for two). Images per second are those of the running work, from each
worker's first shard to the end of the last one: start-up is left out on all sides, and that of
peers told apart. Each has a process of its own, one after the other, for their threads spin. Each
ratio is taken within one round, and medians are over rounds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np

from benchmarks.figures import CORES, FIGURES, saved_figures
from benchmarks.photographs import write_photographs
from benchmarks.watching import watch
from shardcam import open_run
from shardcam.engine.rundir.event_log import read_events, worker_rate
from shardcam.engine.rundir.run_dir import RunDir

EXTRACT, RECIPROCAM = (
    Path(__file__).parent / "peers" / name for name in ("extract.py", "reciprocam.py")
)
PRECISIONS = ("fp32", "int8")
IMAGES = {  # per round: shardcam in fp32, in int8, the peers
    "resnet50": (
        *(768, 2048),
        {"pytorch-grad-cam": 96, "torchcam": 192, "onnxruntime": 384}
        | {"openvino-xai": 384, "openvino-xai int8": 768},
    ),
    "vgg16": (256, 768, {"pytorch-grad-cam": 64, "torchcam": 64}),
}
BATCHES = (8, 32)  # of the peers: where they were fastest, and ours
SAME = 8  # images that are compared
DIFFERENT, FEW, MANY = 1024, 1000, 20_000  # files
ZOO = {"resnet50": "resnet50_v1", "vgg16": "vgg16"}
SMALL = "efficientnet_lite0"  # where what is not the network's weighs most

Figures = dict[str, Any]


def peer(python: str, script: Path, *arguments: object) -> str:
    """Run a peer; the last line that it printed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    threads = {"OMP_NUM_THREADS": str(CORES)}
    done = subprocess.run(
        [python, str(script), *map(str, arguments)],
        env=own | threads,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


def shardcam(*arguments: object, cache: Path | None = None) -> float:
    """Run a command, and return its seconds; what it says is shown if it fails."""
    command = [sys.executable, "-m", "shardcam", *map(str, arguments)]
    own = {"XDG_CACHE_HOME": str(cache)} if cache else {}
    started = time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}")
    return time.perf_counter() - started


def rate(run: Path) -> float:
    """Images/s of all workers together, without their start-up."""
    return worker_rate(read_events(RunDir(run)))[1]


def say(text: str) -> None:
    """Print at once: a round takes minutes."""
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


class Bench:
    """The files, and a new run directory for each run."""

    def __init__(
        self, work: Path, rounds: int, networks: tuple[str, ...], quick: bool,
        torch: str | None, openvino: str | None,
    ) -> None:  # fmt: skip
        self.work, self.rounds, self.networks, self.quick = work, rounds, networks, quick
        self.torch, self.openvino = torch, openvino
        self.photographs = work / "photographs"
        write_photographs(self.photographs, DIFFERENT)
        for i in range(DIFFERENT, MANY):  # links: the same file is decoded as often
            (self.photographs / f"{i:07d}.jpg").symlink_to(f"{i % DIFFERENT:07d}.jpg")
        self._runs = 0

    def tools(self, network: str) -> dict[str, tuple[int, ...]]:
        """The peers that there is a Python for, and their batch sizes."""
        usual = BATCHES[:1] if self.quick else BATCHES
        sizes = {tool: (1,) if is_xai(tool) else usual for tool in IMAGES[network][2]}
        there = {False: self.torch, True: self.torch and self.openvino}
        return {tool: batches for tool, batches in sizes.items() if there[is_xai(tool)]}

    def theirs(self, tool: str, network: str, images: int, batch: int, out: Path) -> Figures:
        """Images/s of a peer, and the seconds that its process takes besides."""
        started = time.perf_counter()
        if is_xai(tool):
            precision = "int8" if tool.endswith("int8") else "fp32"
            model = self.work / f"{network}.onnx"
            arguments = (precision, model, self.photographs, images, out)
            rate = float(peer(str(self.openvino), RECIPROCAM, *arguments))
        else:
            arguments = (tool, network, self.photographs, images, batch, out)
            rate = float(peer(str(self.torch), EXTRACT, *arguments))
        took = time.perf_counter() - started
        return {"rate": rate, "start": took - images / rate if rate else took}

    def extract(self, *options: object, images: int, model: str | Path) -> float:
        """Images/s of one run."""
        self._runs += 1
        run = self.work / f"run-{self._runs}"
        source = ("extract", self.photographs, "--limit", images, "--model", model)
        shardcam(*source, "--out", run, *options)
        found = rate(run)
        shutil.rmtree(run)
        return found

    def limits(self, model: Path | str, precision: str, images: int) -> Figures:
        """The whole beside each stage by itself."""
        file = self.work / "throughput.json"
        shardcam(
            "throughput", self.photographs, "--model", model, *_random(model), "--precision",
            precision, "--images", images, "--out", self.work, "--workers", CORES,
            "--json", file, "--force",
        )  # fmt: skip
        found = json.loads(file.read_text())
        alone = found["alone"]
        limit = CORES / sum(1 / alone[stage] for stage in ("decode", "forward", "head"))
        whole = found["whole"]["images_per_second"]
        return {"rate": whole, "reached": whole / limit, "alone": alone}


def is_xai(tool: str) -> bool:
    return tool.startswith("openvino")


def _random(model: Path | str) -> tuple[str, ...]:
    return ("--params", "random") if model in ZOO.values() else ()


def peers(bench: Bench) -> Iterator[Figures]:
    """Grad-CAM with ResNet-50 and VGG16 in fp32 and int8, beside the peers."""
    for network in bench.networks:
        plain, fast, theirs = IMAGES[network]
        model: Path | str = ZOO[network]
        if bench.torch:
            model = bench.work / f"{network}.onnx"
            peer(bench.torch, EXTRACT, "export", network, model)
            compare(bench, network, model)
        for turn in range(bench.rounds):
            figures: Figures = {"network": network, "round": turn}
            for precision, images in zip(PRECISIONS, (plain, fast), strict=True):
                found = bench.limits(model, precision, images // (1 + bench.quick))
                figures[precision] = found
                say(f"{network} {precision} {found['rate']:.2f}/s, {found['reached']:.1%}")
            for tool, batches in bench.tools(network).items():
                figures[tool] = {}
                for batch in batches:
                    out = bench.work / "peer.h5"
                    images = theirs[tool] // (1 + bench.quick)
                    found = bench.theirs(tool, network, images, batch, out)
                    figures[tool][str(batch)] = found
                    say(
                        f"{network} {tool}, batches of {batch}: {found['rate']:.2f}/s, "
                        f"and {found['start']:.1f} s"
                    )
            yield figures


def compare(bench: Bench, network: str, model: Path) -> None:
    """Raise unless all tools give the same heatmaps."""
    run = bench.work / f"same-{network}"
    options = ("--out", run, "--limit", SAME, "--executor", "local")
    shardcam("extract", bench.photographs, "--model", model, *options)
    with open_run(run) as found:
        maps = found.cam(found.layers[0])
        low, high = maps.normalized()[:, 0], maps.heatmap((224, 224))[:, 0] / 255
    for tool, batches in bench.tools(network).items():
        bench.theirs(tool, network, SAME, min(SAME, batches[0]), bench.work / "same.h5")
        with h5py.File(bench.work / "same.h5") as file:
            theirs = file["cam"][:]
        ours = low if theirs.shape == low.shape else high
        worst = float(np.abs(theirs - ours).max())
        pairs = zip(theirs, ours, strict=True)
        alike = np.mean([np.corrcoef(a.flat, b.flat)[0, 1] for a, b in pairs])
        say(f"{network}: {tool}'s heatmaps differ by {worst:.4f}, correlation {alike:.4f}")
        if alike < 0.9 if tool.endswith("int8") else worst > 0.005:
            raise SystemExit(f"{network}: {tool} and shardcam give other maps")


def in_turns(bench: Bench, ways: dict[str, tuple[object, ...]]) -> Iterator[Figures]:
    """Runs with some options, one after the other in each round, of a small and a large network."""
    for model, images in ((SMALL, 6144), (ZOO["resnet50"], 1024)):
        for turn in range(bench.rounds):
            figures: Figures = {"model": model, "round": turn}
            for name, options in ways.items():
                options = (*_random(model), "--shard-size", 64, *options)
                figures[name] = bench.extract(*options, images=images, model=model)
                say(f"{model} {name} {figures[name]:.2f}/s")
            yield figures


def workers(bench: Bench) -> Iterator[Figures]:
    """One worker of one core against one for each core, and Ray against no Ray."""
    ways: dict[str, tuple[object, ...]] = {
        "one": ("--workers", 1),
        "all": ("--workers", CORES),
        "ray": ("--workers", 1, "--cpus-per-worker", CORES),
        "local": ("--executor", "local"),
    }
    yield from in_turns(bench, ways)


def saving(bench: Bench) -> Iterator[Figures]:
    """Maps alone against maps with the explained layer's activations."""
    activations = ("--save", "maps,activations", "--codec")
    ways = {"maps": (), "none": (*activations, "none"), "gzip": (*activations, "gzip")}
    yield from in_turns(bench, ways)


def growth(bench: Bench) -> Iterator[Figures]:
    """1,000 images against 20,000, with the default shard size; memory of driver and workers."""

    def short() -> float:
        return bench.extract("--workers", CORES, images=FEW, model=SMALL)

    before = [short(), short()]
    long = bench.work / "long"
    options = ["extract", str(bench.photographs), "--model", SMALL, "--workers", str(CORES)]
    watched = watch(long, options)
    assert watched.code == 0, watched.output
    after = [short(), short()]
    working = [look for look in watched.looks if 8 < look.shards < 60]
    held = {
        name: [look.processes[name].megabytes for look in working if name in look.processes]
        for name in working[-1].processes
    }
    figures: Figures = {
        "model": SMALL,
        "1000": before + after,
        "20000": rate(long),
        "megabytes": {
            name.split()[0] + str(i): (values[0], values[-1], max(values))
            for i, (name, values) in enumerate(sorted(held.items()))
        },
    }
    say(f"{figures}")
    yield figures


def commands(bench: Bench) -> Iterator[Figures]:
    """Whole commands from start to end, after one that compiles the kernels."""
    cache, run, sets = bench.work / "cache", bench.work / "whole", {}
    for count in (200, 600):
        sets[count] = bench.work / f"photographs-{count}"
        sets[count].mkdir()
        for i in range(count):
            (sets[count] / f"{i}.jpg").symlink_to(bench.photographs / f"{i:07d}.jpg")
    small = ("extract", sets[200], "--model", SMALL, "--out", run)
    large = ("extract", sets[600], "--model", ZOO["resnet50"], *_random(ZOO["resnet50"]))
    int8 = (*large, "--precision", "int8", "--out", run)
    ways: dict[str, tuple[object, ...]] = {
        "small": small,
        "small ray": (*small, "--executor", "ray"),
        "int8": int8,
        "int8 again": int8,
        "status": ("status", run),
        "help": ("--help",),
    }
    shardcam(*small, cache=cache)
    for turn in range(bench.rounds):
        shutil.rmtree(cache / "shardcam" / "int8", ignore_errors=True)
        figures: Figures = {"round": turn}
        for name, command in ways.items():
            if command[0] == "extract":
                shutil.rmtree(run)
            figures[name] = shardcam(*command, cache=cache)
            say(f"{name} {figures[name]:.2f} s")
        yield figures


PARTS: dict[str, Callable[[Bench], Iterator[Figures]]] = {
    "peers": peers,
    "workers": workers,
    "saving": saving,
    "growth": growth,
    "commands": commands,
}


@click.command()
@click.option("--peers", "torch", help="A Python with what peers/extract.py needs.")
@click.option("--openvino", help="With --peers, a Python with what peers/reciprocam.py needs.")
@click.option("--network", "networks", multiple=True, help="Of the part peers.",
              type=click.Choice([*IMAGES]), default=[*IMAGES])  # fmt: skip
@click.option("--quick", is_flag=True, help="In the part peers, half the images, batches of 8.")
@click.option("--part", "parts", multiple=True, type=click.Choice([*PARTS]), default=[*PARTS])
@click.option("--rounds", default=3)
def main(
    torch: str | None, openvino: str | None, networks: tuple[str, ...], quick: bool,
    parts: tuple[str, ...], rounds: int,
) -> None:  # fmt: skip
    """Measure, and save each round as soon as it is done."""
    FIGURES.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FIGURES.parent) as place:
        bench = Bench(Path(place).resolve(), rounds, networks, quick, torch, openvino)
        versions: dict[str, str] = {}
        for python, script in ((torch, EXTRACT), (openvino, RECIPROCAM)):
            versions |= json.loads(peer(python, script, "versions")) if python else {}
        for part in parts:
            done: list[Figures] = []
            for figures in PARTS[part](bench):
                done.append(figures)
                with saved_figures(part, versions) as saved:
                    saved["rounds"] = done


if __name__ == "__main__":
    main()
