"""What one worker's process could feed to a GPU: whole runs whose network costs nothing.

    python -m benchmarks.feeding [--images N] [--rounds N]

Pictures are read, decoded, explained and written as in any run; each pass is the first one again.
Decoding in threads, in as many processes, and on a GPU whose own work is left out take turns. CPU
time of the worker's process bounds what it can feed, however many cores decode: only one thread at
a time runs Python.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.photographs import write_photographs
from shardcam.engine.config import RunConfig
from shardcam.engine.pipeline.device_decoding import DeviceDecoding
from shardcam.engine.pipeline.forward_ahead import ForwardAhead
from shardcam.engine.pipeline.prefetch import Prefetcher
from shardcam.engine.pipeline.run_shard import ShardPipeline
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.run.build_worker import build_parts
from shardcam.engine.run.prepare import prepare
from shardcam.engine.types import U1, DeviceJpeg, Preprocessing
from shardcam.engine.workers.threads import limit_threads

MODEL = Path(__file__).parents[1] / "tests/fixtures/run-0.1.0/model/small-symbol.json"
BATCH, SHARD = 128, 512
CORES = len(os.sched_getaffinity(0))


class NoNetwork:
    """Its only pass is one over the first batch."""

    buffers = 2

    def __init__(self, network: Any) -> None:
        self.layers, self._network, self._pass = network.layers, network, None

    def forward(self, images: Any) -> Any:
        if self._pass is None:
            self._pass = self._network.forward(images)
        return self._pass


class NoDecoder:
    """A GPU's decoder, and a batch of it, whose views of all files are the same."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        shape = BATCH, preprocessing.height, preprocessing.width, 3
        self._views = np.zeros(shape, np.uint8)

    def begin(self, rows: int) -> NoDecoder:
        return self

    def decode(self, files: Mapping[int, DeviceJpeg]) -> dict[int, bool]:
        return dict.fromkeys(files, False)

    def put(self, views: Mapping[int, U1]) -> None:
        assert not views

    def close(self, rows: Sequence[int]) -> tuple[U1, U1]:
        return self._views[: len(rows)], self._views[: len(rows)]


class Case:
    """A worker of a run over a source, made once."""

    def __init__(self, source: Path, out: Path, processes: int, gpu: bool = False) -> None:
        config = RunConfig(
            source=str(source),
            model=str(MODEL),
            image_size=224,
            out=str(out),
            executor="local",
            batch_size=BATCH,
            shard_size=SHARD,
            decode_processes=processes,
        )
        self._prepared = prepare(config)
        loader, parts = build_parts(self._prepared.worker)
        if gpu:
            decoder = NoDecoder(loader.preprocessing)
            loader = replace(loader, others=DeviceDecoding(loader, decoder))
        self._loader = loader
        self._parts: Any = replace(parts, network=NoNetwork(parts.network))  # type: ignore[arg-type]
        self.run()  # what is loaded and compiled once

    def run(self) -> tuple[float, float]:
        """Images per second, and seconds of this process's CPU time for an image."""
        ahead = ForwardAhead(Prefetcher(self._loader.batches), self._parts.network)
        pipeline, plan, images = ShardPipeline(self._parts, ahead), self._prepared.plan, 0
        shards = [plan.shard(number) for number in range(plan.shards)]
        cpu, wall = time.process_time(), time.perf_counter()
        for shard, after in zip(shards, [*shards[1:], None], strict=True):
            images += pipeline.run(shard, StageTimer(), after).ok
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        for number in range(plan.shards):
            self._prepared.run_dir.shard(number).unlink()
        return images / wall, cpu / images


@click.command()
@click.option("--images", default=1024, help="A multiple of 512.")
@click.option("--rounds", default=3)
def main(images: int, rounds: int) -> None:
    """Print each round: images/s, and what one process could feed."""
    limit_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_photographs(base / "photographs", images)
        pixels = np.random.RandomState(0).randint(0, 256, (images, 224, 224, 3), np.uint8)
        np.save(base / "pixels.npy", pixels)
        for source in ("photographs", "pixels.npy"):
            cases = {
                name: Case(base / source, base / f"{source}-{name}", count)
                for name, count in (("threads", 0), ("processes", CORES))
            }
            if source == "photographs":
                cases["GPU"] = Case(base / source, base / f"{source}-GPU", 0, gpu=True)
            for _ in range(rounds):
                for name, case in cases.items():
                    rate, cpu = case.run()
                    print(
                        f"{source}, {CORES} cores, {name}: {rate:,.0f} images/s; the worker's "
                        f"process {cpu * 1e6:.0f} us an image, so at most {1 / cpu:,.0f} images/s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
