"""Shard descriptors on their way to a worker: plain rows instead of one object a sample.

Ray pickles with a callback in Python for each object that is not built in.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from engine.types import Sample, Shard

Descriptor = tuple[Any, ...]

_row = attrgetter("key", "index", "label", "location", "size", "box")


def pack(shard: Shard) -> Descriptor:
    """A shard as built-in types, but for what was given up in it, which is seldom much."""
    return shard.index, shard.lost, shard.trial, tuple(map(_row, shard.samples))


def unpack(descriptor: Descriptor) -> Shard:
    """The shard again."""
    index, lost, trial, rows = descriptor
    return Shard(index, tuple(Sample(*row) for row in rows), lost, trial)
