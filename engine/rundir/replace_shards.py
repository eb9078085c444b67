"""Shards out of the way: to be computed again, or because they are damaged.

One that is computed again stays until the new one is published, a damaged one for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from shardcam.engine.errors import storage_error
from shardcam.engine.rundir.run_dir import Place, RunDir
from shardcam.engine.types import is_shard_name, shard_name


@contextmanager
def set_aside(run_dir: RunDir, numbers: Iterable[int]) -> Iterator[None]:
    """Move shards out of the way; those that were not replaced come back at the end.

    Raises
    ------
    RunDirectoryError
        No permission to move them.
    """
    try:
        try:
            for name in map(shard_name, numbers):
                run_dir.move(run_dir.shards / name, run_dir.set_aside / name)
        except OSError as error:
            raise storage_error(error, run_dir.shards) from error
        yield
    finally:
        bring_back(run_dir)


def bring_back(run_dir: RunDir) -> None:
    """Publish what was set aside again, where nothing took its place; drop the rest.

    A process killed in between left it: nothing is lost.
    """
    for name in sorted(filter(is_shard_name, run_dir.names(run_dir.set_aside))):
        run_dir.bring_back(run_dir.set_aside / name, run_dir.shards / name)
    with suppress(OSError):
        run_dir.set_aside.rmdir()


def move_to_damaged(run_dir: RunDir, number: int) -> Place:
    """Move a damaged shard out of the way; where to.

    Raises
    ------
    RunDirectoryError, StoreError
        No permission to move it.
    """
    held, stem = run_dir.names(run_dir.damaged), Path(shard_name(number)).stem
    free = (name for n in count() if (name := f"{stem}{f'.{n}' * (n > 0)}.h5") not in held)
    target = run_dir.damaged / next(free)
    try:
        run_dir.move(run_dir.shards / shard_name(number), target)
    except OSError as error:
        raise storage_error(error, run_dir.damaged) from error
    return run_dir.place(target)
