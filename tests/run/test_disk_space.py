"""What a run will write is told before, and refused where the disk cannot hold it."""

import shutil
from types import SimpleNamespace

import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import DiskFull
from shardcam.engine.run import disk_space as budget
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.types import LayerInfo

LAYER = LayerInfo("stage/conv", (64, 7, 7), closed_form=False)
SPECS = dataset_specs((LAYER,), (LAYER,), 1000, 2, (224, 224), 20, ("maps", "activations"))
ROW = 64 * 49 * 4 + 2 * 49 * 2 + 2 * 4  # activations, maps, scales
FIXED = 20 + 8 + 4 + 2 * 4 + 4 * 4 + 2 * 4 + 2 * 4 + 5 * 4 + 5 * 4 + 1
WHOLE = 1000 * (ROW + FIXED) + budget.STRUCTURE * len(SPECS) * 10


def planned(tmp_path, samples=1000, codec="none"):
    config = RunConfig(source="s", model="m", out=str(tmp_path / "run"), codec=codec)
    return config, SPECS, SimpleNamespace(listed=samples, shards=10)


@pytest.fixture
def free(monkeypatch):
    def set_free(number):
        usage = SimpleNamespace(free=number)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    return set_free


def test_readable():
    sizes = (999, 1000, 999_499, 999_500, 1_234_567, 5 * 10**12)
    assert [budget.readable(size) for size in sizes] == [
        "999 B", "1 kB", "999 kB", "1 MB", "1.23 MB", "5 TB",
    ]  # fmt: skip


def test_sizes_are_of_the_rows_and_of_the_files(tmp_path, free):
    free(10**9)
    config, specs, plan = planned(tmp_path)
    sizes = budget.dataset_sizes(specs, plan)
    assert sum(sizes.values()) == WHOLE
    assert sizes["activation/stage.conv"] == 64 * 49 * 4 * 1000
    assert RunDir.open(config.out).free_bytes() == 10**9


def test_too_little_room_is_refused_without_compression(tmp_path, free):
    free(WHOLE - 1)
    with pytest.raises(
        DiskFull, match=r"13.3 MB to write, 13.3 MB free \(activation/stage.conv alone"
    ):
        budget.require_room(*planned(tmp_path))
    budget.require_room(*planned(tmp_path, codec="gzip"))  # nobody knows


def test_only_what_is_left_counts(tmp_path, free):
    free(WHOLE - 1)
    shards = tmp_path / "run" / "shards"
    shards.mkdir(parents=True)
    (shards / "shard-000003.h5").touch()
    budget.require_room(*planned(tmp_path))
