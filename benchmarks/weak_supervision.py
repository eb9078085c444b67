"""IRN's step from a classifier to maps: images/s and bytes, beside its loop in PyTorch.

    python -m benchmarks.weak_supervision --peers PYTHON [--images N] [--rounds 3] [--threads N]

PYTHON has torch and torchvision. Photographs of five sizes, one or two labels each; the network
has the same random weights on both sides, and maps are compared before anything is told. Runs of
ours in fp32 and int8 and of theirs alternate on the same cores, without start-up, and medians of
the rounds' ratios are told. With one thread it is the processor's time that is measured, which
others that work on the machine change little. With more there are at least two shards of eight
pictures for each worker, all full, so that none waits for another.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.photographs import write_photographs
from shardcam import extract, open_run
from shardcam.engine.rundir.event_log import read_events, worker_rate
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.events import Event, ShardDone, ShardStarted

PEER = Path(__file__).parent / "peers" / "weak_supervision.py"
SIZES = ((500, 375), (500, 333), (375, 500), (333, 500), (500, 281))  # usual ones of Pascal VOC
SCALES = ("1", "1,0.5,1.5,2")  # each with the mirror image
PRECISIONS = ("fp32", "int8")
CLASSES = 20


class Step:
    """The pictures, their labels and the weights; each run is a new one."""

    def __init__(self, work: Path, python: str, images: int, threads: int) -> None:
        self.work, self.python, self.threads = work, python, threads
        self.photographs, self.labels = work / "photographs", work / "labels.csv"
        self.weights = work / "res50_cam.pth"
        write_photographs(self.photographs, images, sizes=SIZES)
        rng = np.random.RandomState(0)
        rows = [
            f"{path.name},{';'.join(map(str, sorted(rng.permutation(CLASSES)[: 1 + i % 2])))}"
            for i, path in enumerate(sorted(self.photographs.iterdir()))
        ]
        self.labels.write_text("\n".join(["path,labels", *rows]) + "\n")
        self._peer("weights", self.weights)
        self._runs = 0

    def _peer(self, *arguments: object) -> str:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [self.python, str(PEER), *map(str, arguments)]
        done = subprocess.run(command, env=own, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    def ours(self, scales: str, precision: str) -> tuple[Path, float, float]:
        """The run, images/s, and the share of the workers' time that forward passes take."""
        self._runs += 1
        out, moments, shards = self.work / f"run-{self._runs}", [], []

        def see(event: Event) -> None:
            if isinstance(event, ShardStarted | ShardDone):
                moments.append(time.process_time())
            if isinstance(event, ShardDone):
                shards.append(event)

        alone = {"executor": "local"} if self.threads == 1 else {"workers": self.threads}
        extract(
            self.photographs, model="resnet50_irn", params=self.weights, out=out, on_event=see,
            method="cam", target=f"labels:{self.labels}", resize="none", scales=scales, flip=True,
            precision=precision, **alone,
        )  # fmt: skip
        images = sum(shard.images for shard in shards)
        rate = images / (moments[-1] - moments[0])
        if self.threads > 1:
            rate = worker_rate(read_events(RunDir(out)))[1]
        took = sum(shard.took for shard in shards)
        return out, rate, sum(shard.seconds["forward"] for shard in shards) / took

    def theirs(self, scales: str) -> tuple[Path, float]:
        """The files, and images/s."""
        out = self.work / f"irn-{scales}"
        out.mkdir(exist_ok=True)
        told = self._peer(
            "maps", self.weights, self.photographs, self.labels, out, scales, self.threads
        )
        return out, 1 / float(told)

    def difference(self, run: Path, files: Path) -> float:
        """The largest of IRN's `cam`, whose maximum is 1."""
        with open_run(run) as samples:
            maps = samples.cam(samples.layers[0])
            found = {Path(key).stem: maps[row] for row, key in enumerate(samples.keys)}
        np.savez(self.work / "ours.npz", **found)
        return float(self._peer("compare", files, self.work / "ours.npz"))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@click.command()
@click.option("--peers", "python", required=True)
@click.option("--images", type=int, help="16 for each thread, but 32 at least, by default.")
@click.option("--rounds", default=3)
@click.option("--threads", default=os.cpu_count() or 1)
def main(python: str, images: int | None, rounds: int, threads: int) -> None:
    """Measure rounds, then tell medians."""
    images = images or max(32, 16 * threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        step = Step(Path(place), python, images, threads)
        for number in range(rounds):
            for scales in SCALES:
                turn: dict[str, Any] = {"scales": scales}
                runs = {}
                for precision in PRECISIONS:
                    runs[precision], turn[precision], turn[f"forward {precision}"] = step.ours(
                        scales, precision
                    )
                files, turn["IRN"] = step.theirs(scales)
                turn["bytes"] = size_of(files) / size_of(runs["fp32"] / "shards")
                if scales == SCALES[-1]:  # a sum of scales, as IRN's on a grid of its own
                    turn["difference"] = step.difference(runs["fp32"], files)
                print(number, json.dumps(turn), flush=True)
                found.append(turn)
    for scales in SCALES:
        turns = [turn for turn in found if turn["scales"] == scales]
        for name in turns[0]:
            if name != "scales":
                print(f"scales {scales}: {name} {np.median([t[name] for t in turns]):.3g}")
        for precision in PRECISIONS:
            ratio = np.median([turn[precision] / turn["IRN"] for turn in turns])
            print(f"scales {scales}: {precision} is {ratio:.2f} times as fast as IRN's loop")


if __name__ == "__main__":
    main()
