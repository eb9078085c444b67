"""From JPEG files to published HDF5 maps: whole runs, side by side, in turns.

    python benchmarks/end_to_end.py [--peers PYTHON_WITH_TORCH] [--part NAME]... [--json FILE]

Photographs of 500x375, random weights (what a pass takes does not depend on them), all cores of
this process (`taskset -c 0,1` for two). Images per second are those of the running work, from each
worker's first shard to the end of the last one: start-up is left out on all sides. Each ratio is
taken within one round, and medians are over rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np

from benchmarks.photographs import write_photographs
from benchmarks.watching import watch
from shardcam import open_run
from shardcam.engine.rundir.event_log import read_events, worker_rate
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.measuring.measure import processor_name

EXTRACT = Path(__file__).parent / "peers" / "extract.py"
PRECISIONS = ("fp32", "int8")
IMAGES = {  # per round: shardcam in fp32, in int8, the peers
    "resnet50": (768, 2048, {"pytorch-grad-cam": 96, "torchcam": 192, "onnxruntime": 384}),
    "vgg16": (256, 768, {"pytorch-grad-cam": 64, "torchcam": 64}),
}
BATCHES = (8, 32)  # of the peers: where they were fastest, and ours
SAME = 8  # images that are compared
DIFFERENT, FEW, MANY = 1024, 1000, 20_000  # files
ZOO = {"resnet50": "resnet50_v1", "vgg16": "vgg16"}
SMALL = "efficientnet_lite0"  # where what is not the network's weighs most
CORES = len(os.sched_getaffinity(0))

Figures = dict[str, Any]


def peer(python: str, *arguments: object) -> str:
    """Run a peer; what it printed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    threads = {"OMP_NUM_THREADS": str(CORES)}
    done = subprocess.run(
        [python, str(EXTRACT), *map(str, arguments)],
        env=own | threads,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.strip()


def shardcam(*arguments: object) -> None:
    """Run a command; what it says is shown if it fails."""
    command = [sys.executable, "-m", "shardcam", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}")


def rate(run: Path) -> float:
    """Images/s of all workers together, without their start-up."""
    return worker_rate(read_events(RunDir(run)))[1]


def say(text: str) -> None:
    """Print at once: a round takes minutes."""
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")


def machine(python: str | None) -> Figures:
    """What the figures depend on."""
    packages = ("mxnet", "numpy", "numba", "opencv-python-headless", "h5py", "ray")
    versions = {name: version(name) for name in packages}
    if python:
        versions |= json.loads(peer(python, "versions"))
    return {"processor": processor_name(), "cores": CORES, "versions": versions}


class Bench:
    """The files, and a new run directory for each run."""

    def __init__(self, work: Path, rounds: int, python: str | None) -> None:
        self.work, self.rounds, self.python = work, rounds, python
        self.photographs = work / "photographs"
        write_photographs(self.photographs, DIFFERENT)
        for i in range(DIFFERENT, MANY):  # links: the same file is decoded as often
            (self.photographs / f"{i:07d}.jpg").symlink_to(f"{i % DIFFERENT:07d}.jpg")
        self._runs = 0

    def extract(self, *options: object, images: int, model: str | Path) -> float:
        """Images/s of one run."""
        self._runs += 1
        run = self.work / f"run-{self._runs}"
        source = ("extract", self.photographs, "--limit", images, "--model", model)
        shardcam(*source, "--out", run, *options)
        found = rate(run)
        subprocess.run(["rm", "-r", str(run)], check=True)
        return found

    def limits(self, model: Path | str, precision: str, images: int) -> Figures:
        """The whole beside each stage by itself."""
        file = self.work / "throughput.json"
        shardcam(
            "throughput", self.photographs, "--model", model, *_random(model), "--precision",
            precision, "--images", images, "--out", self.work, "--workers", CORES,
            "--json", file,
        )  # fmt: skip
        found = json.loads(file.read_text())
        alone = found["alone"]
        limit = CORES / sum(1 / alone[stage] for stage in ("decode", "forward", "head"))
        whole = found["whole"]["images_per_second"]
        return {"rate": whole, "reached": whole / limit, "alone": alone}


def _random(model: Path | str) -> tuple[str, ...]:
    return ("--params", "random") if model in ZOO.values() else ()


def peers(bench: Bench) -> Iterator[Figures]:
    """Grad-CAM with ResNet-50 and VGG16 in fp32 and int8, beside the peers."""
    for network, (plain, fast, theirs) in IMAGES.items():
        model: Path | str = ZOO[network]
        if bench.python:
            model = bench.work / f"{network}.onnx"
            peer(bench.python, "export", network, model)
            compare(bench, network, model)
        for turn in range(bench.rounds):
            figures: Figures = {"network": network, "round": turn}
            for precision, images in zip(PRECISIONS, (plain, fast), strict=True):
                figures[precision] = found = bench.limits(model, precision, images)
                say(f"{network} {precision} {found['rate']:.2f}/s, {found['reached']:.1%}")
            for tool in theirs if bench.python else ():
                figures[tool] = {}
                for batch in BATCHES:
                    out = bench.work / "peer.h5"
                    arguments = (network, bench.photographs, theirs[tool], batch, out)
                    speed = float(peer(str(bench.python), tool, *arguments))
                    figures[tool][str(batch)] = speed
                    say(f"{network} {tool}, batches of {batch}: {speed:.2f}/s")
            yield figures


def compare(bench: Bench, network: str, model: Path) -> None:
    """Raise unless all tools give the same heatmaps."""
    run = bench.work / f"same-{network}"
    options = ("--out", run, "--limit", SAME, "--executor", "local")
    shardcam("extract", bench.photographs, "--model", model, *options)
    with open_run(run) as found:
        maps = found.cam(found.layers[0])
        low, high = maps.normalized()[:, 0], maps.heatmap((224, 224))[:, 0] / 255
    for tool in IMAGES[network][2]:
        arguments = (network, bench.photographs, SAME, SAME, bench.work / "same.h5")
        peer(str(bench.python), tool, *arguments)
        with h5py.File(bench.work / "same.h5") as file:
            theirs = file["cam"][:]
        worst = float(np.abs(theirs - (low if theirs.shape == low.shape else high)).max())
        say(f"{network}: largest difference to {tool}'s heatmaps {worst:.4f}")
        if worst > 0.005:
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


PARTS: dict[str, Callable[[Bench], Iterator[Figures]]] = {
    "peers": peers,
    "workers": workers,
    "saving": saving,
    "growth": growth,
}


@click.command()
@click.option("--peers", "python", help="A Python with what peers/extract.py needs.")
@click.option("--part", "parts", multiple=True, type=click.Choice([*PARTS]), default=[*PARTS])
@click.option("--rounds", default=3)
@click.option("--json", "file", type=click.Path(path_type=Path), default="build/bench.json")
def main(python: str | None, parts: tuple[str, ...], rounds: int, file: Path) -> None:
    """Measure, and save each round as soon as it is done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    results: Figures = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory(dir=file.parent) as place:
        bench = Bench(Path(place).resolve(), rounds, python)
        for part in parts:
            results[part] = {"machine": machine(python), "rounds": []}
            for figures in PARTS[part](bench):
                results[part]["rounds"].append(figures)
                file.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
