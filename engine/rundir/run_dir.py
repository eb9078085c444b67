"""A run directory, here or at a URL: what its files are called, and how they get there.

Every file is made below `root`, on this machine. For a run here that is the run itself; for a
run at a URL it is a scratch directory of this process, and each file is uploaded when it is
complete. So methods take paths below `root`, of files and folders that need not be there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlsplit

from shardcam.engine.errors import RunDirectoryError, read_error, storage_error
from shardcam.engine.io import store
from shardcam.engine.io.plain_file import beside
from shardcam.engine.io.remote_file import Blocks, open_together
from shardcam.engine.io.urls import is_url
from shardcam.engine.io.whole_file import nearest_folder
from shardcam.engine.rundir.lock import FileLock
from shardcam.engine.rundir.run_files import PART_LOCK, RunFiles
from shardcam.engine.rundir.scratch import scratch_directory
from shardcam.engine.rundir.staging import fsync_directory, new_directory, publish
from shardcam.engine.rundir.url_lock import UrlLock, read_holder
from shardcam.engine.types import Part, is_shard_name, shard_name

Place = Path | str  # of a published file: a path here, or a URL
ShardFile = Place | Blocks  # one that is open already
_PAUSE = 0.5  # seconds between two tries to begin a run


class RunDir(RunFiles):
    """A run directory on a disk that this machine and its workers see, or the base of another.

    Parameters
    ----------
    root
        The run directory, or the scratch directory of one at a URL. It may be a link, but
        nothing in it.

    Raises
    ------
    RunDirectoryError
        See `require_plain`.

    Attributes
    ----------
    home : Path or str
        The run, as the user calls it.
    shared : bool
        Whether `root` is the run itself, which workers see.
    """

    shared = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.home: Place = root
        self.require_plain()

    @staticmethod
    def open(place: str | Path) -> RunDir:
        """A run directory by its path or URL, whether it exists or not.

        Raises
        ------
        ConfigError
            A URL that cannot be written to.
        RunDirectoryError, DiskFull
            No scratch directory can be made, or there are links in the run.
        """
        name = str(place)
        if not is_url(name):
            return RunDir(Path(name))
        if name.startswith("file://"):
            return RunDir(Path(unquote(urlsplit(name).path)))
        store.require_writable_url(name)
        url = name.rstrip("/")
        return UrlRunDir(scratch_directory(url), url)

    def place(self, path: Path) -> Place:
        """Where a file or folder below `root` is published."""
        return path

    def here(self) -> RunDir:
        """The run on this machine, to be read only: itself, or what was fetched of it."""
        return self

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.root.resolve().name

    def names(self, folder: Path) -> set[str]:
        """Names in a folder; none if it does not exist."""
        try:
            return {entry.name for entry in folder.iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise read_error(error, folder) from error

    def exists(self, path: Path) -> bool:
        """Whether a file is published."""
        return path.exists()

    def fetch(self, path: Path) -> bool:
        """Have a published file at `path`; False if there is none."""
        return path.exists()

    def fetch_all(self, paths: Sequence[Path]) -> None:
        """Have published files at their paths; all of them must be there."""

    def put(self, path: Path) -> None:
        """Publish a file that is complete at `path`, in the place of an older one."""

    def hand_over(self, paths: Sequence[Path]) -> None:
        """Publish files of one folder that this process does not need any more."""

    def publish(self, staged: Path, number: int) -> bool:
        """Give a sealed shard its name; False if the name is taken."""
        published = publish(staged, self.shards / shard_name(number))
        fsync_directory(self.shards)
        return published

    def move(self, source: Path, target: Path) -> None:
        """Give a published file another name."""
        target.parent.mkdir(exist_ok=True)
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Delete a published file, if it is there."""
        path.unlink(missing_ok=True)

    def bring_back(self, source: Path, target: Path) -> None:
        """Give a published file another name, or delete it where that name is taken."""
        publish(source, target)
        self.remove(source)

    def open_shards(self, numbers: Iterable[int]) -> Iterator[tuple[int, ShardFile]]:
        """Shards by their numbers, to be read one after the other in this order.

        One that is missing is reported when it is read.
        """
        yield from ((number, self.shard(number)) for number in numbers)

    def require_writable(self) -> None:
        """Raise now what would be raised after the work; a local run fails early anyway."""

    def free_bytes(self) -> int | None:
        """Free bytes where the run is written; None if unknown."""
        return shutil.disk_usage(nearest_folder(self.root)).free

    def lock_holder(self) -> str | None:
        """Who is working on the run, or on parts of it; None if no one is."""
        return self._holder(self.lock_file) or self._part_holders()

    def beginner(self) -> str | None:
        """Who writes what the run begins with; None if no one does."""
        return self._holder(self.begin_file)

    def _part_holders(self) -> str | None:
        """Who is working on parts of the run."""
        locks = sorted(name for name in self.names(self.root) if name.startswith(PART_LOCK))
        held = {name: holder for name in locks if (holder := self._holder(self.root / name))}
        if not held:
            return None
        (name, holder), others = next(iter(held.items())), len(held) - 1
        more = f" and {others} other part{'s' * (others > 1)}" if others else ""
        return f"{holder} for part {name.removeprefix(PART_LOCK)}{more}"

    def _holder(self, path: Path) -> str | None:
        """Who holds a lock; None if no one does."""
        return FileLock(path).holder()

    def _lock(self, path: Path) -> FileLock | UrlLock:
        return FileLock(path, keep=path == self.lock_file)

    @contextmanager
    def lock(self, part: Part | None = None) -> Iterator[bool]:
        """Hold the lock of the run, which must exist: one driver works on it at a time.

        Or the lock of a part: as many drivers as there are parts may work on the run then, and
        no other. Gives whether the last holder died: it did not give the lock back.

        Raises
        ------
        RunDirectoryError
            Another process holds it; the message says which, and since when.
        """
        lock = self._lock(self.lock_file if part is None else self.part_lock(part))
        try:
            holder = lock.take()
            if holder is None:  # taken first, for others may look at the same moment
                holder = self._part_holders() if part is None else self._holder(self.lock_file)
            if holder is not None:
                raise self._refusal(holder)
            yield lock.abandoned
        finally:
            lock.release()

    @contextmanager
    def beginning(self, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Let one process at a time write what a run begins with.

        Others wait, and then find it; where it failed, the next one tries. `on_wait` is called
        with who is waited for, once. What is made here is removed again if the block raises.
        """
        if self.exists(self.run_json):
            yield
            return
        told = False
        while True:
            with new_directory(self.root):  # who began before removes it again where that fails
                lock = self._lock(self.begin_file)
                try:
                    holder = lock.take()
                    if holder is None:
                        yield
                        return
                finally:
                    lock.release()
            if not told:
                on_wait(str(holder))
            told = True
            time.sleep(_PAUSE)

    def require_no_driver(self, part: Part | None = None) -> None:
        """Refuse early, before anything is loaded, what `lock` would refuse later.

        Raises
        ------
        RunDirectoryError
            Another process works on the run.
        """
        if part is None:
            holder = self.lock_holder()
        else:
            holder = self._holder(self.lock_file) or self._holder(self.part_lock(part))
        if holder:
            raise self._refusal(holder)

    def _refusal(self, holder: object) -> RunDirectoryError:
        return RunDirectoryError(
            f"{self.home}: {holder} is working on it; wait for it, or stop it first"
        )

    def shard(self, number: int) -> Place:
        """File of one shard; it exists if and only if the shard is complete."""
        return self.place(self.shards / shard_name(number))

    def shard_numbers(self) -> list[int]:
        """Numbers of the shards that are published, in order.

        Raises
        ------
        RunDirectoryError, StoreError
            The run cannot be listed.
        """
        held = filter(is_shard_name, self.names(self.shards))
        return sorted(int(name.removeprefix("shard-").removesuffix(".h5")) for name in held)

    @contextmanager
    def atomic_file(self, path: Path) -> Iterator[TextIO]:
        """A text file of the run that is there whole, or not at all if the block raises."""
        try:
            with beside(path) as temporary:
                with temporary.open("x", encoding="utf-8", newline="") as stream:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(path)
            fsync_directory(path.parent)
            self.put(path)
        except OSError as error:
            raise storage_error(error, self.root) from error

    def write_atomically(self, path: Path, text: str) -> None:
        """Write a small file of the run so that it is there whole or not at all."""
        with self.atomic_file(path) as stream:
            stream.write(text)


class UrlRunDir(RunDir):
    """A run at a URL: what is done to a published file raises ``StoreError`` where it fails.

    Parameters
    ----------
    root
        The scratch directory.
    url
        The run.
    """

    shared = False

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        self.home = self.url = url

    def place(self, path: Path) -> str:
        return self.url if path == self.root else f"{self.url}/{path.relative_to(self.root)}"

    def here(self) -> RunDir:
        fetched = RunDir(self.root)
        fetched.home = self.url
        return fetched

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def names(self, folder: Path) -> set[str]:
        return store.names(self.place(folder))

    def exists(self, path: Path) -> bool:
        return store.exists(self.place(path))

    def fetch(self, path: Path) -> bool:
        return store.download(self.place(path), path)

    def fetch_all(self, paths: Sequence[Path]) -> None:
        store.download_all(self.url, {self.place(path): path for path in paths})

    def put(self, path: Path) -> None:
        store.upload(path, self.place(path))

    def hand_over(self, paths: Sequence[Path]) -> None:
        if paths:
            store.upload_all(paths, self.place(paths[0].parent))
        for path in paths:
            path.unlink(missing_ok=True)

    def publish(self, staged: Path, number: int) -> bool:
        return store.upload(staged, self.place(self.shards / shard_name(number)), create=True)

    def move(self, source: Path, target: Path) -> None:
        store.move(self.place(source), self.place(target))

    def remove(self, path: Path) -> None:
        if self.exists(path):
            store.remove(self.place(path))

    def bring_back(self, source: Path, target: Path) -> None:
        if self.exists(target):
            self.remove(source)
        else:
            self.move(source, target)

    def open_shards(self, numbers: Iterable[int]) -> Iterator[tuple[int, ShardFile]]:
        """Many are opened at once: one after the other, each would wait for the server."""
        wanted = list(numbers)
        held = store.sizes(self.place(self.shards)) if wanted else {}
        there = [number for number in wanted if shard_name(number) in held]
        opened = open_together({str(self.shard(n)): held[shard_name(n)] for n in there})
        missing = set(wanted) - set(there)
        for number in wanted:
            yield number, self.shard(number) if number in missing else next(opened)

    def require_writable(self) -> None:
        store.require_writing(self.url)

    def free_bytes(self) -> int | None:
        return None

    def _holder(self, path: Path) -> str | None:
        found = read_holder(self.place(path), path)
        return str(found) if found is not None and found.lives() else None

    def _lock(self, path: Path) -> UrlLock:
        return UrlLock(self.place(path), path)
