"""What every sink promises. A sink's own test builds a `SinkCase` and runs `PROMISES` on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from shardcam.engine.errors import AccountingError
from shardcam.engine.protocols import Sink
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.types import Failure, LayerInfo, LayerMaps, ResultBatch, Sample, Shard, View

CLASSES, TARGETS, VIEW = 3, 2, (8, 10)
LAYER = LayerInfo("stage/conv", (4, 5, 7), closed_form=False)
KEY_BYTES = 19
SAVED = ("maps", "activations", "pooled", "logits", "heatmaps")
SPECS = dataset_specs((LAYER,), (LAYER,), CLASSES, TARGETS, VIEW, KEY_BYTES, SAVED)


@dataclass(frozen=True)
class SinkCase:
    """A sink, and how to look at what it has published."""

    sink: Sink
    rows: Callable[[Shard], dict[str, npt.NDArray[np.generic]]]  # by the name in the file
    failures: Callable[[Shard], list[Failure]]
    published: Callable[[Shard], bool]
    leftovers: Callable[[], list[str]]  # unpublished files


def make_shard(index: int = 0, size: int = 6) -> Shard:
    """A shard whose keys are not ASCII."""
    first = index * size
    samples = tuple(
        Sample(f"größe/{i:07d}.png", i, i % CLASSES, f"/photos/{i}", 100 + i)
        for i in range(first, first + size)
    )
    return Shard(index, samples)


def make_batch(samples: tuple[Sample, ...], seed: int = 0) -> ResultBatch:
    """Random results of some samples, everything filled."""
    count, random = len(samples), np.random.default_rng(seed)
    channels, height, width = LAYER.shape

    def floats(*shape: int) -> npt.NDArray[np.float32]:
        return random.uniform(-1, 1, (count, *shape)).astype(np.float32)

    def classes(*shape: int) -> npt.NDArray[np.int32]:
        return random.integers(0, CLASSES, (count, *shape), np.int32)

    pixels = np.zeros((*VIEW, 3), np.uint8)
    views = tuple(
        View(pixels, (100 + s.index, 200), (0.5, 1.0, 99.5, 2.0 + s.index)) for s in samples
    )
    return ResultBatch(
        samples=samples,
        views=views,
        target=classes(TARGETS),
        score=floats(TARGETS),
        top_class=classes(CLASSES),
        top_score=floats(CLASSES),
        flags=random.integers(0, 8, count, np.uint8),
        maps={LAYER.name: LayerMaps(floats(TARGETS, height, width), abs(floats(TARGETS)) / 300)},
        activations={LAYER.name: floats(channels, height, width)},
        pooled={LAYER.name: floats(channels)},
        logits=floats(CLASSES),
        heatmap=random.integers(0, 256, (count, TARGETS, *VIEW), np.uint8),
    )


def failure_of(sample: Sample, message: str = "truncated") -> Failure:
    return Failure(sample.key, sample.index, "decode", "undecodable", message)


def publish(sink: Sink, shard: Shard, failed: int = 0) -> bool:
    """Write a shard in two batches; its last `failed` samples fail."""
    good = shard.samples[: len(shard.samples) - failed]
    writer = sink.open(shard)
    for samples in (good[:2], good[2:]):
        if samples:
            writer.write(make_batch(samples, seed=samples[0].index))
    return writer.commit([failure_of(sample) for sample in shard.samples[len(good) :]])


def rows_of(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Every dataset of a shard file by its name, the failures apart."""
    with h5py.File(path) as file:
        found: dict[str, h5py.HLObject] = {}
        file.visititems(lambda name, item: found.update({name: item}))
        return {
            name: item[:]
            for name, item in found.items()
            if isinstance(item, h5py.Dataset) and not name.startswith("failure/")
        }


def rows_come_back_as_written(case: SinkCase) -> None:
    shard = make_shard(index=3)
    batch = make_batch(shard.samples)
    writer = case.sink.open(shard)
    writer.write(batch)
    assert writer.commit([])
    maps = batch.maps[LAYER.name]
    expected = {
        "key": [s.key.encode() for s in shard.samples],
        "sample": [s.index for s in shard.samples],
        "label": [s.label for s in shard.samples],
        "image_size": [v.image_size for v in batch.views],
        "crop": [v.crop for v in batch.views],
        "target": batch.target,
        "score": batch.score,
        "top_class": batch.top_class,
        "top_score": batch.top_score,
        "flags": batch.flags,
        "cam/stage.conv/map": maps.normalized.astype(np.float16),
        "cam/stage.conv/scale": maps.scale,
        "activation/stage.conv": batch.activations[LAYER.name],
        "pooled/stage.conv": batch.pooled[LAYER.name],
        "logits": batch.logits,
        "heatmap": batch.heatmap,
    }
    rows = case.rows(shard)
    assert rows.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(rows[name], values, err_msg=name)


def order_is_that_of_writing(case: SinkCase) -> None:
    shard = make_shard()
    writer = case.sink.open(shard)
    for numbers in ((4, 1), (5,), (0, 3, 2)):
        writer.write(make_batch(tuple(shard.samples[i] for i in numbers), seed=numbers[0]))
    assert writer.commit([])
    rows = case.rows(shard)
    assert rows["sample"].tolist() == [4, 1, 5, 0, 3, 2]
    last = make_batch(tuple(shard.samples[i] for i in (0, 3, 2)), seed=0)
    np.testing.assert_array_equal(rows["logits"][3:], last.logits)


def failures_come_back(case: SinkCase) -> None:
    shard = make_shard(index=2)
    assert publish(case.sink, shard, failed=2)
    assert case.rows(shard)["sample"].tolist() == [12, 13, 14, 15]
    assert case.failures(shard) == [failure_of(sample) for sample in shard.samples[4:]]


def all_may_fail(case: SinkCase) -> None:
    shard = make_shard()
    assert publish(case.sink, shard, failed=6)
    assert {len(values) for values in case.rows(shard).values()} == {0}
    assert len(case.failures(shard)) == 6


def first_publisher_wins(case: SinkCase) -> None:
    shard = make_shard()
    first, second = case.sink.open(shard), case.sink.open(shard)
    second.write(make_batch(shard.samples, seed=2))
    first.write(make_batch(shard.samples, seed=1))
    assert first.commit([]) is True
    assert second.commit([]) is False
    logits = make_batch(shard.samples, seed=1).logits
    np.testing.assert_array_equal(case.rows(shard)["logits"], logits)
    assert case.leftovers() == []


def discard_leaves_nothing(case: SinkCase) -> None:
    shard = make_shard()
    writer = case.sink.open(shard)
    writer.write(make_batch(shard.samples))
    writer.discard()
    writer.discard()
    assert not case.published(shard)
    assert case.leftovers() == []
    assert publish(case.sink, shard), "a discarded shard can be written again"


def nothing_is_seen_before_commit(case: SinkCase) -> None:
    shard = make_shard()
    writer = case.sink.open(shard)
    writer.write(make_batch(shard.samples))
    assert not case.published(shard)
    writer.discard()


def broken_accounts_raise(case: SinkCase) -> None:
    shard = make_shard()
    last = shard.samples[-1]
    stranger = replace(last, index=77)
    lost, twice, foreign, both = shard.samples[:5], (last, last), (stranger,), shard.samples
    for samples, failed in ((lost, []), (twice, []), (foreign, []), (both, [failure_of(last)])):
        writer = case.sink.open(shard)
        with pytest.raises(AccountingError, match="shard-000000"):
            _write_and_commit(writer, samples, failed)
        assert not case.published(shard)
        assert case.leftovers() == []


def _write_and_commit(writer, samples, failed):
    writer.write(make_batch(samples))
    writer.commit(failed)


PROMISES = (
    rows_come_back_as_written,
    order_is_that_of_writing,
    failures_come_back,
    all_may_fail,
    first_publisher_wins,
    discard_leaves_nothing,
    nothing_is_seen_before_commit,
    broken_accounts_raise,
)
