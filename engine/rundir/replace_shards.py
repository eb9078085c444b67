"""Shards out of the way: to be computed again, or because they are damaged.

One that is computed again stays until the new one is published, a damaged one for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from shardcam.engine.errors import storage_error
from shardcam.engine.io.store import exists, move, names, remove
from shardcam.engine.rundir.staging import publish
from shardcam.engine.types import Place, RunPaths, is_shard_name, shard_name


@contextmanager
def set_aside(paths: RunPaths, numbers: Iterable[int]) -> Iterator[None]:
    """Move shards out of the way; those that were not replaced come back at the end.

    Raises
    ------
    RunDirectoryError
        No permission to move them.
    """
    try:
        if paths.url is None:
            paths.set_aside.mkdir(exist_ok=True)
        for number in numbers:
            move(paths.shard(number), paths.place(paths.set_aside / shard_name(number)))
        yield
    except OSError as error:
        raise storage_error(error, paths.shards) from error
    finally:
        bring_back(paths)


def bring_back(paths: RunPaths) -> None:
    """Publish what was set aside again, where nothing took its place; drop the rest.

    Whoever was killed in between left it: nothing is lost.
    """
    for name in sorted(names(paths, paths.set_aside)):
        if not is_shard_name(name):
            continue
        old, final = (paths.place(folder / name) for folder in (paths.set_aside, paths.shards))
        if isinstance(old, Path):
            publish(old, final)
        elif not exists(final):
            move(old, final)
            continue
        remove(old)
    with suppress(OSError):
        paths.set_aside.rmdir()


def move_to_damaged(paths: RunPaths, number: int) -> Place:
    """Move a damaged shard out of the way; where to.

    Raises
    ------
    RunDirectoryError, StoreError
        No permission to move it.
    """
    held, stem = names(paths, paths.damaged), Path(shard_name(number)).stem
    free = (name for n in count() if (name := f"{stem}{f'.{n}' * (n > 0)}.h5") not in held)
    target = paths.place(paths.damaged / next(free))
    try:
        if paths.url is None:
            paths.damaged.mkdir(exist_ok=True)
        move(paths.shard(number), target)
    except OSError as error:
        raise storage_error(error, paths.damaged) from error
    return target
