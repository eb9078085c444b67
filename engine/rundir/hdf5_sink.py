"""One HDF5 file per shard, published complete or not at all.

A shard is written under ``shards/.tmp``, closed, given its checksum, synchronised, opened
again and checked, and only then linked to its name: a writer killed on the way leaves a
file that is never read, and of two writers of a shard the first wins.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from shardcam.engine.errors import AccountingError, RunDirectoryError, storage_error
from shardcam.engine.rundir.codec import Codec
from shardcam.engine.rundir.codec import codec as codec_of
from shardcam.engine.rundir.column import Column, create_column
from shardcam.engine.rundir.result_rows import failure_columns, sample_columns
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import CELLS, FAILURES, SCHEMA_VERSION, DatasetSpec
from shardcam.engine.rundir.shard_file import check_shard
from shardcam.engine.rundir.staging import (
    GuardedStream,
)
from shardcam.engine.rundir.user_block import SIZE, write_user_block
from shardcam.engine.types import Failure, ResultBatch, Shard, flag_counts

_WRITEBACK_BYTES = 8 << 20
_FORMAT = ("v108", "v114")  # "latest" would write files that HDF5 1.14 cannot read


class Hdf5Sink:
    """Writes each shard of a run to its own file; see `engine.protocols.Sink`.

    Parameters
    ----------
    run_dir
        The run directory.
    specs
        Every dataset of a shard file, from `engine.rundir.schema.dataset_specs`.
    fingerprint
        Of the run; stored in every file.
    codec
        See `engine.rundir.codec.codec`.

    Raises
    ------
    ConfigError
        The codec is not installed.
    """

    def __init__(
        self,
        run_dir: RunDir,
        specs: tuple[DatasetSpec, ...],
        fingerprint: str,
        codec: str = "gzip",
    ) -> None:
        self._run_dir = run_dir
        self._specs = specs
        self._fingerprint = fingerprint
        self._codec = codec_of(codec)

    def open(self, shard: Shard) -> Hdf5ShardWriter:
        """Begin a shard.

        Raises
        ------
        DiskFull, RunDirectoryError
            No space, or no permission to write.
        """
        return Hdf5ShardWriter(self._run_dir, self._specs, self._fingerprint, self._codec, shard)


class Hdf5ShardWriter:
    """An open, unpublished shard. A writer that has raised is discarded already."""

    def __init__(
        self,
        run_dir: RunDir,
        specs: tuple[DatasetSpec, ...],
        fingerprint: str,
        codec: Codec,
        shard: Shard,
    ) -> None:
        self._run_dir, self._specs, self._shard = run_dir, specs, shard
        self._fingerprint, self._codec = fingerprint, codec
        self._awaited = {sample.index for sample in shard.samples}
        self._flagged = np.zeros(8, np.int64)  # rows with each bit of their flags
        blank = _blank_shard(specs, len(shard.samples), codec.name)
        self._staged = StagedFile(run_dir.staging_path(shard.name), run_dir.shards, blank)
        with self._staged.guarded():
            self._columns = {
                spec.name: Column(
                    self._staged.file[spec.name],
                    None if CELLS.fullmatch(spec.name) else len(shard.samples),
                    codec,
                )
                for spec in specs
                if not spec.name.startswith(FAILURES)
            }

    def write(self, batch: ResultBatch) -> None:
        """Append the rows of a batch.

        Raises
        ------
        AccountingError
            A sample is not of this shard, or came before.
        DiskFull, RunDirectoryError
            No space, or no permission to write.
        """
        with self._staged.guarded():
            self._account(sample.index for sample in batch.samples)
            rows = sample_columns(batch)
            for name, column in self._columns.items():
                if name not in rows:
                    raise ValueError(f"the batch has no {name}")
                ragged = CELLS.fullmatch(name)
                column.append(rows[name], len(rows[name]) if ragged else len(batch.samples))
            self._flagged += flag_counts(batch.flags)
        self._staged.begin_writeback()

    def commit(self, failures: Iterable[Failure]) -> bool:
        """Publish the shard; False if it was published by somebody else already.

        Raises
        ------
        AccountingError
            Samples listed do not equal samples written plus failures.
        DiskFull, RunDirectoryError
            No space, no permission to write, or what was written does not read back.
        """
        with self._staged.guarded():
            failed = tuple(failures)
            self._account(failure.sample for failure in failed)
            if self._awaited:
                raise AccountingError(
                    f"{self._shard.name}: {len(self._awaited)} of {len(self._shard.samples)} "
                    f"samples neither done nor failed, sample {min(self._awaited)} first"
                )
            self._finish(failed)
            self._staged.seal()
            problem = check_shard(self._staged.path, self._shard.index, self._fingerprint)
            if problem:
                raise RunDirectoryError(f"written, but does not read back: {problem}")
            published = self._run_dir.publish(self._staged.path, self._shard.index)
            self._staged.discard()
            return published

    def discard(self) -> None:
        """Forget everything written since the shard was opened."""
        self._staged.discard()

    def _account(self, samples: Iterable[int]) -> None:
        for index in samples:
            if index not in self._awaited:
                raise AccountingError(
                    f"{self._shard.name}: sample {index} came twice or is of another shard"
                )
            self._awaited.remove(index)

    def _finish(self, failed: tuple[Failure, ...]) -> None:
        for column in self._columns.values():
            column.finish()
        for name, texts in failure_columns(failed).items() if failed else ():
            column = Column(self._staged.file[name], len(failed), codec_of("gzip"))
            column.append(texts, len(failed))
            column.finish()
        listed = len(self._shard.samples)
        attributes = self._staged.file.attrs
        attributes["schema"] = SCHEMA_VERSION
        attributes["fingerprint"] = self._fingerprint
        attributes["shard"] = self._shard.index
        attributes["samples_listed"] = listed
        attributes["samples_ok"] = listed - len(failed)
        attributes["samples_failed"] = len(failed)
        attributes["samples_flagged"] = self._flagged
        attributes["complete"] = True


@lru_cache(maxsize=4)
def _blank_shard(specs: tuple[DatasetSpec, ...], rows: int, codec: str) -> bytes:
    """A shard file with every dataset and nothing in them.

    To make 17 datasets takes HDF5 4 ms, and to open a copy of such a file 0.5 ms.
    """
    stream = io.BytesIO()
    options = {"libver": _FORMAT, "track_order": True, "userblock_size": SIZE}
    with h5py.File(stream, "w", **options) as file:
        for spec in specs:
            failure = spec.name.startswith(FAILURES)
            own = codec_of("gzip" if failure else codec)
            unknown = failure or CELLS.fullmatch(spec.name)
            create_column(file, spec, 0 if unknown else rows, rows, own)
    return stream.getvalue()


class StagedFile:
    """An HDF5 file under another name, to be sealed and published, or discarded.

    Parameters
    ----------
    path
        The file.
    directory
        Where it will be published; errors of the disk name it.
    blank
        The bytes of an HDF5 file, with a user block, to go on from; without, an empty one is made.
    """

    def __init__(self, path: Path, directory: Path, blank: bytes = b"") -> None:
        self.path, self._directory = path, directory
        self._handed = 0  # bytes that the disk has been asked to take
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = GuardedStream(self.path)
            self._stream.write(blank)
            if self._stream.error:
                raise self._stream.error
        except BaseException as error:
            with suppress(OSError):
                self.path.unlink()
            if isinstance(error, OSError):
                raise storage_error(error, self._directory) from error
            raise
        mode, size = ("r+", None) if blank else ("w", SIZE)
        self.file = h5py.File(
            self._stream, mode, libver=_FORMAT, track_order=True, userblock_size=size
        )

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Whatever goes wrong inside, the file is discarded; the disk's errors become ours."""
        try:
            yield
            if self._stream.error:
                raise self._stream.error
        except BaseException as error:
            self.discard()
            cause = self._stream.error or error
            if isinstance(cause, OSError):
                raise storage_error(cause, self._directory) from error
            if cause is error:
                raise
            raise cause from error

    def begin_writeback(self) -> None:
        """Let the disk begin with what is written, so that the end of a shard waits less."""
        size = os.fstat(self._stream.fileno()).st_size
        if size >= self._handed + _WRITEBACK_BYTES:
            # Linux hands changed pages to the disk before it forgets any.
            os.posix_fadvise(
                self._stream.fileno(), self._handed, size - self._handed, os.POSIX_FADV_DONTNEED
            )
            self._handed = size

    def seal(self) -> None:
        """Close the file, give it its checksum and wait until the disk has it."""
        self.file.close()
        if not self._stream.error:
            write_user_block(self._stream)
        if self._stream.error:
            raise self._stream.error
        os.fsync(self._stream.fileno())
        self._stream.close()

    def discard(self) -> None:
        """Remove the file from the staging directory; harmless when done twice."""
        with suppress(OSError, RuntimeError):
            self.file.close()
        with suppress(OSError):
            self._stream.close()
        with suppress(OSError):
            self.path.unlink()
