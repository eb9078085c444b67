"""Files of each sample of a run, written by several processes: the bytes are those of one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from shardcam.engine.analysis.export_files import ImageFiles, file_stems, made_images, write_files
from shardcam.engine.analysis.samples import ClosedSamples, Samples
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import InternalError, ShardcamError, WorkerError, bugs_named
from shardcam.engine.io.whole_file import make_folder
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.types import counted
from shardcam.engine.workers.child_process import ChildProcess
from shardcam.engine.workers.cores import usable_cores
from shardcam.engine.workers.threads import limit_threads
from shardcam.jobs.progress import LINE_EVERY
from shardcam.jobs.source_pictures import SourcePictures

TOGETHER = 32  # samples that a process is given at once
ENOUGH = 8 * TOGETHER  # for another process, which takes a second to start, without a CRF
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}")


@dataclass(frozen=True)
class Part:
    """Samples of a shard, and how their files are called, without an ending."""

    samples: ClosedSamples
    stems: list[str]


@dataclass(frozen=True)
class Writer:
    """Writes the files of parts. Travels to the processes that do it."""

    folder: Path
    files: ImageFiles
    listing: Path  # of the run
    config: RunConfig

    @cached_property
    def _pictures(self) -> SourcePictures:
        return SourcePictures(Listing(self.listing), self.config)

    def write(self, part: Part) -> Iterator[str]:
        """The name of each file that is written; those that are there are whole, and kept."""
        with part.samples.opened() as shard:
            pictures = self._pictures.read if self.files.needs_pictures else None
            made = made_images(shard, part.stems, self.folder, self.files, True, pictures)
            yield from write_files(self.folder, made)


def write_all(samples: Samples, writer: Writer, workers: int | None, console: Console) -> int:
    """Write the files of samples, where they are not there; how many there were not.

    Parameters
    ----------
    workers
        Processes; None: as many as there are cores, and fewer for few samples.

    Raises
    ------
    WorkerError
        A process died.
    ShardcamError
        What one of them met: no space, a damaged shard.
    """
    stems = iter(file_stems(samples.keys, samples["sample"][:].tolist()))
    closed = samples.closed_shards(TOGETHER)
    parts = [Part(one, [next(stems) for _ in range(len(one))]) for one in closed]
    if workers is not None and workers > len(parts):
        console.print(f"--workers {workers}: there is work for {len(parts)}")
    if workers is None:
        enough = TOGETHER if writer.files.needs_pictures else ENOUGH
        workers = min(usable_cores(), -(-len(samples) // enough))
    workers = min(workers, len(parts))
    make_folder(writer.folder)
    _remove_temporary(writer)
    try:
        with _Display(console, len(samples)) as display:
            if workers > 1:
                return sum(map(display.advance, _by_processes(parts, writer, workers)))
            return sum(
                display.advance((len(part.stems), sum(1 for _ in writer.write(part))))
                for part in parts
            )
    finally:
        _remove_temporary(writer)


def _by_processes(parts: Sequence[Part], writer: Writer, workers: int) -> Iterator[tuple[int, int]]:
    """Of each part, when it is done: how many samples it has, and how many files were written."""
    rest, given = iter(parts), dict[Connection, tuple[ChildProcess, Part]]()
    with ExitStack() as ended:

        def give(child: ChildProcess) -> None:
            part = next(rest, None)
            if part is None:
                given.pop(child.pipe, None)
                return
            given[child.pipe] = child, part
            with suppress(OSError):  # it died: that shows where its answer is read
                child.pipe.send(part)

        for _ in range(workers):
            child = ChildProcess(serve)
            ended.callback(child.end)
            with suppress(OSError):
                child.pipe.send(writer)
            give(child)
        while given:
            for pipe in wait([*given]):
                assert isinstance(pipe, Connection)
                child, part = given[pipe]
                try:
                    found = pipe.recv()
                except (EOFError, OSError):
                    raise WorkerError(
                        f"a process that writes files {child.end()}; the same command goes on"
                    ) from None
                if isinstance(found, Exception):
                    raise found
                give(child)
                yield len(part.stems), found


def serve(parent: Connection) -> None:
    """Be one of the processes: write parts until there are no more."""
    limit_threads(1)
    try:
        writer: Writer = parent.recv()
        while True:
            part = parent.recv()
            with bugs_named():
                written = sum(1 for _ in writer.write(part))
            parent.send(written)
    except (ShardcamError, InternalError) as error:
        parent.send(error)
    except (EOFError, OSError):
        return


def _remove_temporary(writer: Writer) -> None:
    """What processes that were killed had begun to write."""
    with suppress(OSError):
        for path in writer.folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found and found[1].endswith(writer.files.ending):
                path.unlink(missing_ok=True)


class _Display:
    """How far it is: a bar on a terminal, elsewhere a line from time to time."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._done = console, total, 0
        self._told = time.monotonic()
        columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        self._bar = Bar(*columns, console=console, transient=True)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> _Display:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def advance(self, done: tuple[int, int]) -> int:
        """Count so many samples; of the files that were written for them, how many."""
        samples, written = done
        self._done += samples
        self._bar.update(self._task, completed=self._done)
        if not self._console.is_terminal and time.monotonic() - self._told >= LINE_EVERY:
            self._told = time.monotonic()
            self._console.print(f"{self._done}/{counted(self._total, 'image')}")
        return written
