"""Shard descriptors on their way to a worker: small, and cheap to make.

A range of a listing that workers see travels as such, and they read it.  Other samples are plain
rows, because Ray pickles with a callback in Python for each object that is not built in.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from shardcam.engine.rundir.listing import SampleRange
from shardcam.engine.types import Sample, Shard

Descriptor = tuple[Any, ...]

_row = attrgetter("key", "index", "label", "location", "size", "box")


def pack(shard: Shard) -> Descriptor:
    """A shard as built-in types, except for its few samples that were given up."""
    samples = shard.samples
    known = isinstance(samples, SampleRange) and samples.shared
    rows = samples if known else tuple(map(_row, samples))
    return shard.index, shard.given_up, shard.trial, rows


def unpack(descriptor: Descriptor) -> Shard:
    index, lost, trial, rows = descriptor
    samples: Sequence[Sample] = rows
    if not isinstance(rows, SampleRange):
        samples = tuple(Sample(*row) for row in rows)
    return Shard(index, samples, lost, trial)
