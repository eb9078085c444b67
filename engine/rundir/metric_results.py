"""What was measured of a run's maps: files of their own beside it, a folder for each metric.

``metrics/NAME/metric.json`` says how; ``metrics/NAME/shards/`` has a file for each shard of the
run, published as those are. A file holds the rows of its shard that were measured: ``sample``,
``value`` and ``reason`` (n,K), what else a metric keeps of them (``column/...``), and arrays that
add up over all files (``state/...``); the same of each baseline under its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.io.plain_file import parse_json, read_plain
from shardcam.engine.rundir.own_datasets import Unsound
from shardcam.engine.rundir.results_folder import (
    MOST_JSON,
    Array,
    HowComputed,
    ResultsFolder,
    damaged_results,
    read_json_objects,
    stamp,
)
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_file import ShardSummary
from shardcam.engine.types import shard_name


@dataclass(frozen=True, kw_only=True)
class MetricManifest(HowComputed):
    """How the maps of a run were measured."""

    metric: str  # as it was asked for
    convention: str  # one line
    higher_is_better: bool | None = None
    truth: str | None = None  # where it was; `numbers` has its digest


@dataclass(frozen=True)
class Agreement:
    """How scores of changed pictures agree with those of the network in float32; it adds up."""

    images: int = 0
    pictures: int = 0  # changed ones of these images, with scores in both
    first_class: int = 0  # of them, those of which it is the same
    difference: float = 0.0  # of the scores of the explained class, absolute: the sum
    largest: float = 0.0  # of these differences

    def __add__(self, other: Agreement) -> Agreement:
        """Of the same images."""
        return Agreement(
            max(self.images, other.images),
            self.pictures + other.pictures,
            self.first_class + other.first_class,
            self.difference + other.difference,
            max(self.largest, other.largest),
        )


class MetricResults(ResultsFolder[MetricManifest]):
    """The folder of one metric of a run; see `ResultsFolder`."""

    kind, group, json_name = "metric", "metrics", "metric.json"
    done_before, anew = "measured", "evaluate --replace measures anew"
    manifest_type = MetricManifest

    def require_sound(self, manifest: MetricManifest) -> None:
        if not isinstance(manifest.truth, str | None):
            raise ValueError("its truth is no path")

    @property
    def _agreement(self) -> Path:
        return self.folder.root / "agreement.json"

    def clear(self) -> None:
        super().clear()
        self.folder.remove(self._agreement)

    def write_agreement(self, fingerprint: str, found: Agreement) -> None:
        """Keep how well a few images agree with float32 where they are measured in less."""
        text = json.dumps({"fingerprint": fingerprint, **asdict(found)}, indent=2)
        self.folder.write_atomically(self._agreement, text + "\n")

    def agreement(self, fingerprint: str) -> Agreement | None:
        """What `write_agreement` kept; None where that is nothing, damaged, or of other values."""
        try:
            if not self.folder.fetch(self._agreement):
                return None
            stored = parse_json(read_plain(self._agreement, MOST_JSON))
            if stored.pop("fingerprint") != fingerprint:
                return None
            return Agreement() + Agreement(**stored)  # which numbers add up to
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return None

    def write(
        self, number: int, fingerprint: str, source: ShardSummary, tables: Mapping[str, Array]
    ) -> bool:
        """Publish what was measured of a shard; False if somebody else did before.

        Raises
        ------
        DiskFull, RunDirectoryError
            No space, or no permission to write.
        """
        return self.publish(
            number, tables, fingerprint=fingerprint, shard=number, source=stamp(source),
            rows=len(tables["sample"]),
        )  # fmt: skip

    def done(
        self,
        fingerprint: str,
        sources: Mapping[int, ShardSummary],
        replace: bool = False,
        again: int | None = None,
    ) -> set[int]:
        """Shards of the run that are measured; what is of an older state of them is removed.

        So are those with a `reason` that is `again`, if that is given.

        Raises
        ------
        RunDirectoryError
            A file is damaged, and `replace` is false: else it is removed, too.
        """
        found = set()
        for number, path in self.folder.open_shards(self.folder.shard_numbers()):
            source = sources.get(number)
            try:
                if source is not None and self.is_of(path, fingerprint, stamp(source)):
                    every = replace or again is not None
                    table = self.read(path, names=None if replace else ("reason",)) if every else {}
                    if again is None or not (table["reason"] == again).any():
                        found.add(number)
                        continue
            except RunDirectoryError:
                if not replace:
                    raise
            self.folder.remove(self.folder.shards / shard_name(number))
        return found

    def require_table(self, found: Mapping[str, h5py.Dataset]) -> None:
        """Numbers: a row for each sample, but of what adds up; of all maps a value and a reason."""
        sample, shape = found.get("sample"), found["value"].shape if "value" in found else ()
        if sample is None or sample.dtype != np.int64 or sample.ndim != 1 or len(shape) != 2:
            raise Unsound("there are no samples and values in it")
        for name, dataset in found.items():
            if dataset.dtype.kind not in "fiu":
                raise Unsound(f"{name} does not hold numbers")
            if "state" not in name.split("/") and len(dataset) != len(sample):
                raise Unsound(f"{name} has {len(dataset)} rows, not {len(sample)}")
        groups = {name.partition("/")[0] + "/" for name in found if "/" in name}
        for group in {"", *groups} - {"column/", "state/"}:
            for name, dtype in ((f"{group}value", np.float32), (f"{group}reason", np.uint8)):
                if name not in found or (found[name].shape, found[name].dtype) != (shape, dtype):
                    raise Unsound(f"{name} is not {np.dtype(dtype)} of {shape}")


def damaged_metrics(run_dir: RunDir) -> Iterator[str]:
    """Read every file of what was measured, and say in one line what is wrong with one."""
    return damaged_results(run_dir, MetricResults)


def read_summary(run_dir: RunDir) -> dict[str, Any]:
    """``metrics/summary.json``; empty where there is none.

    Raises
    ------
    RunDirectoryError
        It is damaged.
    """
    return read_json_objects(run_dir, run_dir.metrics / "summary.json", "evaluate")
