"""Shards that are computed again: the old file stays until the new one is published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from engine.errors import storage_error
from engine.types import RunPaths
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
        paths.set_aside.mkdir(exist_ok=True)
        for number in numbers:
            shard = paths.shard(number)
            shard.replace(paths.set_aside / shard.name)
        yield
    except OSError as error:
        raise storage_error(error, paths.shards) from error
    finally:
        bring_back(paths)


def bring_back(paths: RunPaths) -> None:
    """Publish what was set aside again, where nothing took its place; drop the rest.

    Whoever was killed in between left it: nothing is lost.
    """
    for old in sorted(paths.set_aside.glob("shard-*.h5")):
        publish(old, paths.shards / old.name)
        old.unlink(missing_ok=True)
    with suppress(OSError):
        paths.set_aside.rmdir()
