"""A pure plan of a run: which samples, in which shards. The same listing gives the same plan."""

from __future__ import annotations

from dataclasses import dataclass

from engine.listing import Listing, Stretch
from engine.types import Sample, Shard

_FEWEST, _BATCH, _SMALL, _MOST = 8, 32, 64, 512  # images of a shard
_SHARDS, _FEW_SHARDS = 64, 16


@dataclass(frozen=True)
class Plan:
    """How a listing is cut into shards; their samples are read when they are asked for."""

    listing: Listing
    shard_size: int

    @property
    def listed(self) -> int:
        """Samples in all shards."""
        return len(self.listing)

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.listed // self.shard_size)

    def samples_in(self, shard: int) -> int:
        """How many a shard has: `shard_size`, or fewer if it is the last."""
        return min(self.shard_size, self.listed - shard * self.shard_size)

    def shard(self, index: int) -> Shard:
        """A shard, whose samples are read when they are looked at."""
        start = index * self.shard_size
        return Shard(index, Stretch(self.listing, start, start + self.samples_in(index)))

    def sample(self, position: int) -> Sample:
        """Read one sample."""
        return self.listing.read(position, position + 1)[0]


def make_plan(listing: Listing, shard_size: int | None) -> Plan:
    """Cut a listing into shards of `shard_size`, the last one shorter."""
    return Plan(listing, shard_size or default_shard_size(len(listing)))


def default_shard_size(count: int) -> int:
    """About 64 shards, or of a small source 16, each of 8 to 512 images and of whole batches.

    Besides its images a shard costs as much as one image of a small network, so that of 64
    images is not noticed. The size may depend on nothing but the source, or a run could not be
    resumed elsewhere.
    """
    wanted = max(-(-count // _SHARDS), min(-(-count // _FEW_SHARDS), _SMALL))
    step = _FEWEST if wanted < _BATCH else _BATCH
    return min(-(-wanted // step) * step, _MOST)
