"""A pure plan of a run: which samples, in which shards. The same source gives the same plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from engine.errors import SourceError
from engine.types import Sample, Shard

_FEWEST, _MOST, _SHARDS = 8, 512, 64


@dataclass(frozen=True)
class Plan:
    """All shards of a run, and the hash of the listing they cut up."""

    shards: tuple[Shard, ...]
    shard_size: int
    key_bytes: int  # length of the longest key, in UTF-8
    listing: str  # SHA-256 of every key, label and size

    def samples(self) -> Iterator[Sample]:
        """Every sample, in order."""
        return (sample for shard in self.shards for sample in shard.samples)

    @property
    def listed(self) -> int:
        """Samples in all shards."""
        return sum(len(shard.samples) for shard in self.shards)


def make_plan(samples: Iterable[Sample], limit: int | None, shard_size: int | None) -> Plan:
    """Cut a listing into shards of `shard_size`, the last one shorter.

    Raises
    ------
    SourceError
        Two samples have the same key.
    """
    listing = tuple(islice(samples, limit))
    size = shard_size or default_shard_size(len(listing))
    key_bytes = max((len(sample.key.encode()) for sample in listing), default=1)
    shards = tuple(
        Shard(number, listing[start : start + size])
        for number, start in enumerate(range(0, len(listing), size))
    )
    return Plan(shards, size, key_bytes, _digest(listing))


def default_shard_size(count: int) -> int:
    """About 64 shards, each of 8 to 512 images and of whole batches of 8.

    It may depend on nothing but the source, or a run could not be resumed elsewhere.
    """
    wanted = -(-count // _SHARDS)
    return min(max(-(-wanted // _FEWEST) * _FEWEST, _FEWEST), _MOST)


def _digest(listing: tuple[Sample, ...]) -> str:
    state = hashlib.sha256()
    seen: set[str] = set()
    for sample in listing:
        if sample.key in seen:
            raise SourceError(f"two samples have the key {sample.key!r}")
        seen.add(sample.key)
        state.update(f"{sample.key}\0{sample.label}\0{sample.size}\n".encode())
    return state.hexdigest()
