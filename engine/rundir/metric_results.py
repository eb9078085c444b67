"""What was measured of a run's maps: files of their own beside it, a folder for each metric.

``metrics/NAME/metric.json`` says how; ``metrics/NAME/shards/`` has a file for each shard of the
run, published as those are. A file holds the rows of its shard that were measured: ``sample``,
``value`` and ``reason`` (n,K), what else a metric keeps of them (``column/...``), and arrays that
add up over all files (``state/...``); the same of each baseline under its name.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ConfigError, RunDirectoryError, read_error, storage_error
from shardcam.engine.io.plain_file import parse_json, read_plain, require_plain
from shardcam.engine.io.plain_text import printable
from shardcam.engine.rundir.hdf5_reading import reading
from shardcam.engine.rundir.hdf5_sink import StagedFile
from shardcam.engine.rundir.own_datasets import Unsound, datasets
from shardcam.engine.rundir.run_dir import RunDir, ShardFile
from shardcam.engine.rundir.shard_file import ShardSummary
from shardcam.engine.types import shard_name

Array = npt.NDArray[Any]
SCHEMA_VERSION = 1
_MOST = 1 << 24  # bytes of a JSON file
_ANEW = "evaluate --replace measures anew"
_PACKED = 1 << 14  # bytes of a dataset from which packing pays


@dataclass(frozen=True)
class MetricManifest:
    """How the maps of a run were measured."""

    metric: str  # as it was asked for
    convention: str  # one line
    numbers: dict[str, Any]  # all that changes the values; its hash is the fingerprint
    higher_is_better: bool | None = None
    versions: dict[str, str] = field(default_factory=dict)
    truth: str | None = None  # where it was; `numbers` has its digest

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `numbers`."""
        return sha256(json.dumps(self.numbers, sort_keys=True).encode()).hexdigest()


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


class MetricResults:
    """The folder of one metric of a run.

    Parameters
    ----------
    run_dir
        Of the run.
    name
        Of the folder.

    Raises
    ------
    RunDirectoryError
        It is no name of a folder, or there is a link in its place.
    """

    def __init__(self, run_dir: RunDir, name: str) -> None:
        if "/" in name or name in ("", ".", "..") or not name.isprintable():
            raise RunDirectoryError(
                f"{run_dir.place(run_dir.metrics)}: {printable(name)!r} is not the name of a metric"
            )
        self.name = name
        for path in (run_dir.metrics, run_dir.metrics / name):
            try:
                require_plain(path)
            except OSError as error:
                raise RunDirectoryError(f"{path}: {error.strerror}") from None
        self.folder = RunDir.open(f"{run_dir.home}/metrics/{name}")
        self._json = self.folder.root / "metric.json"
        self._agreement = self.folder.root / "agreement.json"

    @property
    def exists(self) -> bool:
        return self.folder.exists(self._json)

    def manifest(self) -> MetricManifest:
        """Read ``metric.json``.

        Raises
        ------
        RunDirectoryError
            There is none, or it is damaged.
        """
        place = self.folder.place(self._json)
        try:
            if not self.folder.fetch(self._json):
                raise RunDirectoryError(f"{place}: missing")
            stored = parse_json(read_plain(self._json, _MOST))
            if not isinstance(stored, dict):
                raise ValueError("it is not an object")
            fingerprint = stored.pop("fingerprint", None)
            manifest = MetricManifest(**stored)
            if not all(isinstance(getattr(manifest, n), dict) for n in ("numbers", "versions")):
                raise ValueError("its numbers or versions are not an object")
            if not isinstance(manifest.truth, str | None):
                raise ValueError("its truth is no path")
        except OSError as error:
            raise read_error(error, place) from error
        except (ValueError, TypeError) as error:
            words = str(error).removeprefix("MetricManifest.__init__() ")[:200]
            raise RunDirectoryError(f"{place}: damaged: {words}; {_ANEW}") from error
        if fingerprint != manifest.fingerprint:
            raise RunDirectoryError(
                f"{place}: edited: its fingerprint is not that of its contents; {_ANEW}"
            )
        return manifest

    def begin(self, manifest: MetricManifest, replace: bool) -> None:
        """Write ``metric.json``, or find the same one.

        Raises
        ------
        ConfigError
            The maps were measured in another way, and `replace` is false.
        """
        if self.exists:
            try:
                stored = self.manifest()
            except RunDirectoryError:
                if not replace:
                    raise
                stored = None
            if stored is not None and stored.fingerprint == manifest.fingerprint:
                if stored.truth != manifest.truth:  # the same, found elsewhere
                    self._write_manifest(dataclasses.replace(stored, truth=manifest.truth))
                return
            if stored is not None and not replace:
                changed = "; ".join(_differences(stored.numbers, manifest.numbers))
                raise ConfigError(
                    f"{self.folder.place(self.folder.root)}: measured in another way ({changed}); "
                    "--replace measures anew"
                )
            self.clear()
        try:
            self.folder.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder.root) from error
        self._write_manifest(manifest)

    def _write_manifest(self, manifest: MetricManifest) -> None:
        text = json.dumps({"fingerprint": manifest.fingerprint, **asdict(manifest)}, indent=2)
        self.folder.write_atomically(self._json, text + "\n")

    def clear(self) -> None:
        """Forget what was measured: ``metric.json`` first, without which the rest is nothing."""
        self.folder.remove(self._json)
        self.folder.remove(self._agreement)
        for number in self.folder.shard_numbers():
            self.folder.remove(self.folder.shards / shard_name(number))
        if self.folder.shared:
            shutil.rmtree(self.folder.shards, ignore_errors=True)

    def write_agreement(self, fingerprint: str, found: Agreement) -> None:
        """Keep how well a few images agree with float32 where they are measured in less."""
        text = json.dumps({"fingerprint": fingerprint, **asdict(found)}, indent=2)
        self.folder.write_atomically(self._agreement, text + "\n")

    def agreement(self, fingerprint: str) -> Agreement | None:
        """What `write_agreement` kept; None where that is nothing, damaged, or of other values."""
        try:
            if not self.folder.fetch(self._agreement):
                return None
            stored = parse_json(read_plain(self._agreement, _MOST))
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
        staged = StagedFile(
            self.folder.staging_path(shard_name(number).removesuffix(".h5")), self.folder.shards
        )
        with staged.guarded():
            for name, values in tables.items():
                packed = {"compression": "gzip", "shuffle": True, "fletcher32": True}
                settings = packed if values.nbytes > _PACKED else {}
                staged.file.create_dataset(name, data=values, **settings)
            staged.file.attrs.update(
                schema=SCHEMA_VERSION,
                fingerprint=fingerprint,
                shard=number,
                source=_stamp(source),
                rows=len(tables["sample"]),
                complete=True,
            )
            staged.seal()
            published = self.folder.publish(staged.path, number)
            staged.discard()
        return published

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
                if source is not None and self._is_of(path, fingerprint, source):
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

    def _is_of(self, path: ShardFile, fingerprint: str, source: ShardSummary) -> bool:
        """Whether a file is of this way to measure, and of this state of its shard."""
        with self._reading(path) as file:
            stored = [str(file.attrs.get(name, "")) for name in ("fingerprint", "source")]
            return stored == [fingerprint, _stamp(source)]

    def read(
        self, path: ShardFile, names: Collection[str] | None = None, without: str | None = None
    ) -> dict[str, Array]:
        """Datasets of a file: all, those named that are in it, or those not of a group.

        Raises
        ------
        RunDirectoryError
            The file is missing or damaged.
        """
        with self._reading(path) as file:
            complete = file.attrs.get("complete")
            if not isinstance(complete, np.bool_) or not complete:
                raise Unsound("not complete")
            found = datasets(file)
            _require_table(found)
            return {
                name: dataset[()]
                for name, dataset in found.items()
                if (names is None or name in names) and not (without and name.startswith(without))
            }

    @contextmanager
    def _reading(self, path: ShardFile) -> Iterator[h5py.File]:
        """As `reading`, and say what helps."""
        try:
            with reading(path) as file:
                yield file
        except RunDirectoryError as error:
            raise RunDirectoryError(f"{error}; {_ANEW}") from error


def damaged_metrics(run_dir: RunDir) -> Iterator[str]:
    """Read every file of what was measured, and say in one line what is wrong with one."""
    for name in sorted(run_dir.names(run_dir.metrics)):
        try:
            results = MetricResults(run_dir, name)
            if not results.exists:
                continue
            results.manifest()
            for _, path in results.folder.open_shards(results.folder.shard_numbers()):
                results.read(path)
        except RunDirectoryError as error:
            yield str(error)


def read_summary(run_dir: RunDir) -> dict[str, Any]:
    """``metrics/summary.json``; empty where there is none.

    Raises
    ------
    RunDirectoryError
        It is damaged.
    """
    path = run_dir.metrics / "summary.json"
    if not run_dir.fetch(path):
        return {}
    try:
        found = parse_json(read_plain(path, _MOST))
        if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
            raise ValueError("it is no object of objects")
        if strange := [name for name in found if "/" in name or name in ("", ".", "..")]:
            raise ValueError(f"{strange[0]!r} is no name of a folder")
        return found
    except (OSError, ValueError) as error:
        raise RunDirectoryError(
            f"{run_dir.place(path)}: damaged: {error}; delete it, and evaluate writes it again"
        ) from error


def _require_table(found: Mapping[str, h5py.Dataset]) -> None:
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


def _stamp(source: ShardSummary) -> str:
    """Changes when a shard of the run is computed again with another outcome."""
    return f"{source.fingerprint[:16]} {source.listed} {source.ok} {source.bytes}"


def _differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        there, now = before.get(name), after.get(name)
        if there != now:
            yield f"{name}: {_short(there)} there, {_short(now)} now"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else "none" if value is None else json.dumps(value)
    return text if len(text) <= 40 else text[:12] + "..."
