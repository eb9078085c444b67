import pytest

from shardcam.engine.errors import SourceError
from shardcam.engine.run.plan import default_shard_size, make_plan
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import Sample


def samples(count):
    return [Sample(f"k{i}", i, -1, "", 10) for i in range(count)]


@pytest.fixture
def list_into(tmp_path):
    """List samples into a run directory of their own."""

    def made(listed):
        paths = RunDir(tmp_path / str(len(list(tmp_path.iterdir()))))
        with run_listing(paths, {}, lambda: listed) as listing:
            return listing

    return made


def test_shards_cover_the_listing_once_and_in_order(list_into):
    plan = make_plan(list_into(samples(11)), shard_size=4)
    shards = [plan.shard(i) for i in range(plan.shards)]
    assert [len(s.samples) for s in shards] == [4, 4, 3]
    assert [plan.samples_in(i) for i in range(plan.shards)] == [4, 4, 3]
    assert [x.index for s in shards for x in s.samples] == list(range(11))
    assert [s.index for s in shards] == [0, 1, 2]
    assert plan.listed == 11
    assert plan.sample(9) == samples(11)[9]


@pytest.mark.parametrize("size", [1, 7, 2048, 5000])
def test_shards_of_any_size_across_the_blocks_of_a_listing(list_into, size):
    listing = list_into(samples(4500))
    plan = make_plan(listing, size)
    numbers = range(0, plan.shards, max(1, plan.shards // 20))
    for i in reversed(numbers):
        assert list(plan.shard(i).samples) == samples(4500)[i * size : (i + 1) * size]
    assert sum(map(plan.samples_in, range(plan.shards))) == 4500


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (1, 8),
        (128, 8),
        (129, 16),
        (500, 32),
        (1000, 64),
        (4097, 96),
        (20_000, 320),
        (256_000, 512),
        (256_001, 544),
        (1_281_167, 2592),
        (10**8, 4096),
    ],
)
def test_default_shard_size(count, size):
    assert default_shard_size(count) == size


def test_an_index_has_at_most_500_sources_up_to_two_million_images():
    """And plain h5py holds a file open for each."""
    counts = [*range(1, 70_000, 7), *range(70_000, 2_048_000, 999), 2_048_000]
    assert max(-(-count // default_shard_size(count)) for count in counts) == 500


def test_default_shard_size_is_that_of_what_was_listed(list_into):
    assert make_plan(list_into(samples(5000)), None).shard_size == 96


def test_listing_hash_sees_keys_labels_and_sizes(list_into):
    base = list_into(samples(3)).facts.digest
    changed = [
        [Sample("other", 0, -1, "", 10), *samples(3)[1:]],
        [Sample("k0", 0, 7, "", 10), *samples(3)[1:]],
        [Sample("k0", 0, -1, "", 11), *samples(3)[1:]],
        samples(4),
    ]
    assert base == list_into(samples(3)).facts.digest
    assert base not in [list_into(listing).facts.digest for listing in changed]


def test_two_samples_of_one_key_are_refused(list_into):
    with pytest.raises(SourceError, match="'k0'"):
        list_into([*samples(2), Sample("k0", 2, -1, "", 1)])
