"""The HDF5 sink beside plain writing of the same bytes, and what it costs the forward passes.

What is written are the results of EfficientNet-Lite0 for 512 cuts of scikit-image's
photographs, in batches of 8. Plain writing goes in pieces of 1 MB, straight from memory,
and ends with an fsync, as the sink does. In each round all take their turn; shares are
medians of the shares within a round.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.pictures.decode_image import EXTENSIONS
from shardcam.engine.pipeline.background_sink import BackgroundSink
from shardcam.engine.pipeline.forward_ahead import ForwardAhead
from shardcam.engine.pipeline.run_shard import Parts, ShardPipeline
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.protocols import Sink
from shardcam.engine.run.build_worker import build_runner
from shardcam.engine.run.prepare import prepare
from shardcam.engine.rundir.codec import CODECS
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.result_rows import sample_columns
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import FAILURES, DatasetSpec, dataset_specs
from shardcam.engine.types import Failure, LayerInfo, ResultBatch, Shard

ROWS, ROUNDS, PIECE = 512, 7, 1 << 20
RELU, DENSE = "head_relu6", "head_conv"
LAYERS = tuple(LayerInfo(name, (1280, 7, 7), True) for name in (RELU, DENSE))
CASES = {  # what is saved, of which layers, in which type
    "activations, f4": (("activations",), LAYERS[:1], "f4"),
    "activations, f2": (("activations",), LAYERS[:1], "f2"),
    "before ReLU, f4": (("activations",), LAYERS[1:], "f4"),
    "pooled": (("pooled",), LAYERS[:1], "f4"),
    "logits": (("logits",), (), "f4"),
    "maps": (("maps",), (), "f4"),
}


class Memory:
    """A sink that keeps what it is given, or not even that."""

    def __init__(self, keep: bool) -> None:
        self.keep, self.batches = keep, list[ResultBatch]()

    def open(self, _shard: Shard) -> Memory:
        return self

    def write(self, batch: ResultBatch) -> None:
        if self.keep:
            self.batches.append(batch)

    def commit(self, failures: Iterable[Failure]) -> bool:
        assert not list(failures)
        return True

    def discard(self) -> None:
        pass


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shard, Parts, ForwardAhead]:
    """One shard of cuts, and what turns it into results."""
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    folder, random = tmp_path_factory.mktemp("cuts"), np.random.RandomState(0)
    sizes = {
        path: picture.shape[:2]
        for path in sorted((Path(spec.origin).parent / "data").iterdir())
        if path.suffix in EXTENSIONS and (picture := cv2.imread(str(path))) is not None
    }
    with (folder / "cuts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("key", "path", "x0", "y0", "x1", "y1"))
        for i in range(ROWS):
            path, (height, width) = list(sizes.items())[i % len(sizes)]
            side = int(min(height, width) * random.uniform(0.5, 1))
            top, left = random.randint(height - side + 1), random.randint(width - side + 1)
            table.writerow((i, path, left, top, left + side, top + side))
    config = RunConfig(
        source=str(folder / "cuts.csv"),
        root="/",
        out=str(folder / "run"),
        shard_size=ROWS,
        model="efficientnet_lite0",
        save=("maps", "activations", "pooled", "logits"),
        activation_layer=(RELU, DENSE),
    )
    prepared = prepare(config)
    runner = build_runner(prepared.worker)
    assert isinstance(runner, ShardPipeline)
    return prepared.plan.shard(0), runner.parts, runner.forward_ahead


@pytest.fixture(scope="module")
def batches(work: tuple[Shard, Parts, ForwardAhead]) -> list[ResultBatch]:
    shard, parts, ahead = work
    memory = Memory(keep=True)
    ShardPipeline(replace(parts, sink=memory), ahead).run(shard, StageTimer())
    return memory.batches


def specs_of(case: str) -> tuple[DatasetSpec, ...]:
    save, read, dtype = CASES[case]
    return dataset_specs(LAYERS[:1], read, 1000, 1, (224, 224), 200, save, dtype)


def as_stored(batch: ResultBatch, specs: tuple[DatasetSpec, ...]) -> list[npt.NDArray[np.uint8]]:
    """The bytes of every dataset."""
    columns = sample_columns(batch)
    return [
        np.ascontiguousarray(columns[s.name].astype(s.dtype)).reshape(-1).view(np.uint8)
        for s in specs
        if not s.name.startswith(FAILURES)
    ]


def write_plainly(path: Path, contents: list[npt.NDArray[np.uint8]]) -> None:
    with path.open("wb", buffering=0) as file:
        for content in contents:
            for start in range(0, len(content), PIECE):
                file.write(content[start : start + PIECE])
        os.fsync(file.fileno())


def write_shard(sink: Hdf5Sink, shard: Shard, given: list[ResultBatch]) -> None:
    writer = sink.open(shard)
    for batch in given:
        writer.write(batch)
    assert writer.commit([])


def seconds(call: Callable[..., None], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


@pytest.mark.parametrize("case", CASES)
def test_write(
    work: tuple[Shard, Parts, ForwardAhead], batches: list[ResultBatch], tmp_path: Path, case: str
) -> None:
    specs, (shard, *_) = specs_of(case), work
    paths = {codec: RunDir(tmp_path / codec) for codec in CODECS}
    sinks = {codec: Hdf5Sink(paths[codec], specs, "f00d", codec) for codec in CODECS}
    contents = [content for batch in batches for content in as_stored(batch, specs)]
    if len(contents) and max(map(len, contents)) < PIECE:  # small ones together
        contents = [np.concatenate(contents)]
    size = sum(map(len, contents))
    plain: list[float] = []
    taken: dict[str, list[float]] = {codec: [] for codec in CODECS}
    for _ in range(ROUNDS + 1):
        (tmp_path / "plain").unlink(missing_ok=True)  # to free an old one takes a quarter as long
        plain.append(seconds(write_plainly, tmp_path / "plain", contents))
        for codec in CODECS:
            paths[codec].shard(0).unlink(missing_ok=True)
            taken[codec].append(seconds(write_shard, sinks[codec], shard, batches))
    disk = np.array(plain[1:])
    print(f"\n{case}: {size / 1e6:.1f} MB; the disk {size / 1e6 / np.median(disk):.0f} MB/s")
    for codec in CODECS:
        own = np.array(taken[codec][1:])
        print(
            f"  {codec:4s} ratio {size / paths[codec].shard(0).stat().st_size:5.2f}  "
            f"{size / 1e6 / np.median(own):5.0f} MB/s  {np.median(disk / own):6.1%} of the disk's  "
            f"{1e3 * np.median(own):6.1f} ms a shard"
        )


def test_forward_goes_on(work: tuple[Shard, Parts, ForwardAhead], tmp_path: Path) -> None:
    """Whole shards with every codec: how long the forward passes wait for the sink."""
    shard, parts, ahead = work
    parts = replace(parts, activation_layers=(RELU,), save=frozenset({"activations"}))
    specs = specs_of("activations, f4")
    paths = {codec: RunDir(tmp_path / codec) for codec in CODECS}
    sinks: dict[str, Sink] = {
        codec: BackgroundSink(Hdf5Sink(paths[codec], specs, "f00d", codec)) for codec in CODECS
    }
    sinks["nothing"] = Memory(keep=False)
    whole: dict[str, list[float]] = {name: [] for name in sinks}
    waited: dict[str, list[float]] = {name: [] for name in sinks}
    for _ in range(3):
        for name, sink in sinks.items():
            if name in paths:
                paths[name].shard(0).unlink(missing_ok=True)
            start = time.perf_counter()
            report = ShardPipeline(replace(parts, sink=sink), ahead).run(shard, StageTimer())
            whole[name].append(time.perf_counter() - start)
            waited[name].append(report.seconds["write"])
    print()
    for name in sinks:
        rate, idle = np.array(whole[name][1:]), np.array(waited[name][1:])
        share = np.median(np.array(whole["nothing"][1:]) / rate)
        print(
            f"  {name:7s} {ROWS / np.median(rate):4.0f} images/s, {share:.0%} of the rate with "
            f"nothing written; {np.median(idle / rate):.1%} of the time waited for the sink"
        )
