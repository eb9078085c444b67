"""A pure plan of a run: which samples, in which shards. The same listing gives the same plan."""

from __future__ import annotations

from dataclasses import dataclass

from shardcam.engine.rundir.listing import Listing, SampleRange
from shardcam.engine.types import Sample, Shard

_FEWEST, _BATCH, _SMALL, _LARGE, _MOST = 8, 32, 64, 512, 4096  # images of a shard
_FEW_SHARDS, _SHARDS, _MANY_SHARDS = 16, 64, 500


@dataclass(frozen=True)
class Plan:
    """How a listing is cut into shards; their samples are read when they are used."""

    listing: Listing
    shard_size: int

    @property
    def listed(self) -> int:
        return len(self.listing)

    @property
    def shards(self) -> int:
        return -(-self.listed // self.shard_size)

    def samples_in(self, shard: int) -> int:
        """Number of samples in a shard: `shard_size`, or fewer in the last."""
        return min(self.shard_size, self.listed - shard * self.shard_size)

    def shard(self, index: int) -> Shard:
        """A shard, whose samples are read from the listing when they are used."""
        start = index * self.shard_size
        return Shard(index, SampleRange(self.listing, start, start + self.samples_in(index)))

    def sample(self, position: int) -> Sample:
        return self.listing.read(position, position + 1)[0]


def make_plan(listing: Listing, shard_size: int | None) -> Plan:
    """Cut a listing into shards of `shard_size`, the last one shorter."""
    return Plan(listing, shard_size or default_shard_size(len(listing)))


def default_shard_size(count: int) -> int:
    """Images of a shard, in whole batches: the larger the source, the larger.

    ========================  =============  ==========
    images of the source      of a shard     shards
    ========================  =============  ==========
    up to 1,024               8 to 64        up to 16
    up to 4,096               64             up to 64
    up to 32,768              64 to 512      up to 64
    up to 256,000             512            up to 500
    up to 2,048,000           512 to 4,096   up to 500
    more                      4,096          count/4096
    ========================  =============  ==========

    Besides its images a shard costs as much as one image of a small network, so that of 64
    images is not noticed. Reading ``index.h5`` with plain h5py holds a file open for each
    shard, and most systems allow a process 1,024; 500 leave room for its own. A worker that
    is killed loses half a shard: at 30 images/s a minute of one worker for the largest, and of
    a run in 500 shards never more than 0.2 %. Larger ones would cost more than
    they save: a method of one image a second needs an hour for 4,096, and who reads a run
    shard by shard holds the maps of one, 0.8 MB of 4,096 maps of 7x7, 800 MB of 224x224. The
    size may depend on nothing but the source, or a run could not be resumed elsewhere.
    """
    wanted = max(
        min(-(-count // _FEW_SHARDS), _SMALL),
        min(-(-count // _SHARDS), _LARGE),
        -(-count // _MANY_SHARDS),
    )
    step = _FEWEST if wanted < _BATCH else _BATCH
    return min(-(-wanted // step) * step, _MOST)
