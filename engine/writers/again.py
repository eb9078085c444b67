"""Shards that are computed again: the old file stays until the new one is published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import storage_error
from engine.store import exists, move, names, remove
from engine.types import RunPaths, is_shard_name, shard_name
from engine.writers.staging import publish


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
