import pytest

from engine.errors import SourceError
from engine.planning import default_shard_size, make_plan
from engine.types import Sample


def samples(count):
    return [Sample(f"k{i}", i, -1, "", 10) for i in range(count)]


def test_shards_cover_the_listing_once_and_in_order():
    plan = make_plan(samples(11), limit=None, shard_size=4)
    assert [len(s.samples) for s in plan.shards] == [4, 4, 3]
    assert [x.index for s in plan.shards for x in s.samples] == list(range(11))
    assert plan.listed == 11


def test_limit_takes_the_first():
    assert make_plan(samples(11), limit=5, shard_size=4).listed == 5


@pytest.mark.parametrize(
    ("count", "size"), [(1, 8), (300, 8), (5000, 80), (100_000, 512), (10**8, 512)]
)
def test_default_shard_size(count, size):
    assert default_shard_size(count) == size


def test_listing_hash_sees_keys_labels_and_sizes():
    base = make_plan(samples(3), None, None).listing
    changed = [
        [Sample("other", 0, -1, "", 10), *samples(3)[1:]],
        [Sample("k0", 0, 7, "", 10), *samples(3)[1:]],
        [Sample("k0", 0, -1, "", 11), *samples(3)[1:]],
        samples(4),
    ]
    assert base == make_plan(samples(3), None, 2).listing
    assert base not in [make_plan(listing, None, None).listing for listing in changed]


def test_two_samples_of_one_key_are_refused():
    with pytest.raises(SourceError, match="'k0'"):
        make_plan([*samples(2), Sample("k0", 2, -1, "", 1)], None, None)
