"""What was computed from a finished run: a folder of its own in it, for each way to compute.

A file of JSON says how; ``shards/`` has the results in parts, each published as shards are.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

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
from shardcam.engine.rundir.staging import fsync_directory
from shardcam.engine.types import shard_name

Array = npt.NDArray[Any]
SCHEMA_VERSION = 1
MOST_JSON = 1 << 24  # bytes of a JSON file
_PACKED = 1 << 14  # bytes of a dataset from which packing pays


@dataclass(frozen=True, kw_only=True)
class HowComputed:
    """How results were computed."""

    numbers: dict[str, Any]  # all that changes them; its hash is the fingerprint
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `numbers`."""
        return sha256(json.dumps(self.numbers, sort_keys=True).encode()).hexdigest()


M = TypeVar("M", bound=HowComputed)


class ResultsFolder(Generic[M]):
    """The results of one way to compute.

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

    kind: ClassVar[str]  # what has the name
    group: ClassVar[str]  # the folder of such folders
    json_name: ClassVar[str]
    done_before: ClassVar[str]  # what was done in another way
    anew: ClassVar[str]  # what helps where a file is damaged
    manifest_type: type[M]

    def __init__(self, run_dir: RunDir, name: str) -> None:
        group = run_dir.root / self.group
        if "/" in name or name in ("", ".", "..") or not name.isprintable():
            raise RunDirectoryError(
                f"{run_dir.place(group)}: {printable(name)!r} is not the name of a {self.kind}"
            )
        self.name = name
        for path in (group, group / name):
            try:
                require_plain(path)
            except OSError as error:
                raise RunDirectoryError(f"{path}: {error.strerror}") from None
        self.folder = RunDir.open(f"{run_dir.home}/{self.group}/{name}")
        self._json = self.folder.root / self.json_name

    @property
    def exists(self) -> bool:
        return self.folder.exists(self._json)

    def manifest(self) -> M:
        """Read the file that says how.

        Raises
        ------
        RunDirectoryError
            There is none, or it is damaged.
        """
        place = self.folder.place(self._json)
        try:
            if not self.folder.fetch(self._json):
                raise RunDirectoryError(f"{place}: missing")
            stored = parse_json(read_plain(self._json, MOST_JSON))
            if not isinstance(stored, dict):
                raise ValueError("it is not an object")
            fingerprint = stored.pop("fingerprint", None)
            manifest = self.manifest_type(**stored)
            if not all(isinstance(getattr(manifest, n), dict) for n in ("numbers", "versions")):
                raise ValueError("its numbers or versions are not an object")
            self.require_sound(manifest)
        except OSError as error:
            raise read_error(error, place) from error
        except (ValueError, TypeError) as error:
            words = str(error).partition("__init__() ")[2] or str(error)
            raise RunDirectoryError(f"{place}: damaged: {words[:200]}; {self.anew}") from error
        if fingerprint != manifest.fingerprint:
            raise RunDirectoryError(
                f"{place}: edited: its fingerprint is not that of its contents; {self.anew}"
            )
        return manifest

    def require_sound(self, manifest: M) -> None:
        """Raise ValueError where a part of what was stored is not what it should be."""

    def begin(self, manifest: M, replace: bool) -> None:
        """Write the file that says how, or find the same one.

        Raises
        ------
        ConfigError
            It was computed in another way, and `replace` is false.
        """
        if self.exists:
            try:
                stored = self.manifest()
            except RunDirectoryError:
                if not replace:
                    raise
                stored = None
            if stored is not None and stored.fingerprint == manifest.fingerprint:
                same = dataclasses.replace(manifest, versions=stored.versions)
                if stored != same:  # what changes no number, as where a file was found
                    self._write_manifest(same)
                return
            if stored is not None and not replace and self.folder.shard_numbers():
                changed = "; ".join(_differences(stored.numbers, manifest.numbers))
                raise ConfigError(
                    f"{self.folder.place(self.folder.root)}: {self.done_before} in another way "
                    f"({changed}); --replace does it anew"
                )
            self.clear()
        self.make()
        self._write_manifest(manifest)

    def make(self) -> None:
        """Make the folder, if need be."""
        try:
            self.folder.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder.root) from error

    def _write_manifest(self, manifest: M) -> None:
        stored = {"fingerprint": manifest.fingerprint, **dataclasses.asdict(manifest)}
        self.folder.write_atomically(self._json, json.dumps(stored, indent=2) + "\n")

    def clear(self) -> None:
        """Forget the results: how they were computed first, without which they are nothing."""
        self.folder.remove(self._json)
        for number in self.folder.shard_numbers():
            self.folder.remove(self.folder.shards / shard_name(number))
        if self.folder.shared:
            shutil.rmtree(self.folder.shards, ignore_errors=True)

    def publish(self, number: int, tables: Mapping[str, Array], **attributes: Any) -> bool:
        """Publish a part; False if somebody else did before.

        Raises
        ------
        DiskFull, RunDirectoryError
            No space, or no permission to write.
        """
        with self._staged(shard_name(number), tables, attributes) as staged:
            return self.folder.publish(staged, number)

    def put(self, name: str, tables: Mapping[str, Array], **attributes: Any) -> None:
        """Put a file beside the parts, in the place of an older one; raises as `publish`."""
        path = self.folder.root / name
        with self._staged(name, tables, attributes) as staged:
            staged.replace(path)
            fsync_directory(path.parent)
            self.folder.put(path)

    @contextmanager
    def _staged(
        self, name: str, tables: Mapping[str, Array], attributes: Mapping[str, Any]
    ) -> Iterator[Path]:
        """A complete file, to be published."""
        staged = StagedFile(self.folder.staging_path(name.removesuffix(".h5")), self.folder.shards)
        with staged.guarded():
            for dataset, values in tables.items():
                packed = {"compression": "gzip", "shuffle": True, "fletcher32": True}
                settings = packed if values.nbytes > _PACKED else {}
                staged.file.create_dataset(dataset, data=values, **settings)
            staged.file.attrs.update(schema=SCHEMA_VERSION, complete=True, **attributes)
            staged.seal()
            yield staged.path
            staged.discard()

    def read(
        self,
        path: ShardFile,
        names: Any = None,
        without: str | None = None,
        require: Callable[[Mapping[str, h5py.Dataset]], None] | None = None,
    ) -> dict[str, Array]:
        """Datasets of a part: all, those named that are in it, or those not of a group.

        `require`, else `require_table`, raises Unsound where they are not what they should be.

        Raises
        ------
        RunDirectoryError
            The file is missing or damaged.
        """
        with self.reading(path) as file:
            complete = file.attrs.get("complete")
            if not isinstance(complete, np.bool_) or not complete:
                raise Unsound("not complete")
            found = datasets(file)
            (require or self.require_table)(found)
            return {
                name: dataset[()]
                for name, dataset in found.items()
                if (names is None or name in names) and not (without and name.startswith(without))
            }

    def read_all(self) -> None:
        """Read every file; raises as `read` at the first that is damaged."""
        for _, path in self.folder.open_shards(self.folder.shard_numbers()):
            self.read(path)

    def is_of(self, path: ShardFile, fingerprint: str, source: str) -> bool:
        """Whether a file was computed in this way, and from this state of what it is of."""
        with self.reading(path) as file:
            stored = [str(file.attrs.get(name, "")) for name in ("fingerprint", "source")]
            return stored == [fingerprint, source]

    def require_table(self, found: Mapping[str, h5py.Dataset]) -> None:
        """Raise Unsound where a part does not hold what it should."""

    @contextmanager
    def reading(self, path: ShardFile) -> Iterator[h5py.File]:
        """As `hdf5_reading.reading`, and say what helps."""
        try:
            with reading(path) as file:
                yield file
        except RunDirectoryError as error:
            raise RunDirectoryError(f"{error}; {self.anew}") from error


def damaged_results(run_dir: RunDir, kind: type[ResultsFolder[Any]]) -> Iterator[str]:
    """Read every file of the results of a kind, and say in one line what is wrong with one."""
    for name in sorted(run_dir.names(run_dir.root / kind.group)):
        try:
            results = kind(run_dir, name)
            if not results.exists:
                continue
            results.manifest()
            results.read_all()
        except RunDirectoryError as error:
            yield str(error)


def read_json_objects(run_dir: RunDir, path: Path, again: str) -> dict[str, Any]:
    """A file of objects by the names of folders; empty where there is none.

    Raises
    ------
    RunDirectoryError
        It is damaged; `again` says what writes it again.
    """
    if not run_dir.fetch(path):
        return {}
    try:
        found = parse_json(read_plain(path, MOST_JSON))
        if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
            raise ValueError("it is no object of objects")
        if strange := [name for name in found if "/" in name or name in ("", ".", "..")]:
            raise ValueError(f"{strange[0]!r} is no name of a folder")
        return found
    except (OSError, ValueError) as error:
        raise RunDirectoryError(
            f"{run_dir.place(path)}: damaged: {error}; delete it, and {again} writes it again"
        ) from error


def stamp(source: ShardSummary) -> str:
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
