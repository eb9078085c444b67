import pickle
from pathlib import Path

from shardcam.engine.run.plan import make_plan
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import Failure, Sample, Shard
from shardcam.engine.workers.shard_descriptor import pack, unpack

SAMPLES = tuple(
    Sample(f"key {i}", i, i - 1, f"/data/{i}", -1, (0.0, 1.5, 2.0, 3.0) if i % 2 else None)
    for i in range(5000)
)


def sent(shard):
    travelling = pickle.dumps(pack(shard))
    return unpack(pickle.loads(travelling)), len(travelling)


def test_a_shard_arrives_as_it_left():
    given_up = (Failure("key 3", 3, "worker", "worker crashed", "killed"),)
    samples = SAMPLES[:5]
    for shard in (Shard(7, samples), Shard(7, samples, given_up), Shard(7, samples, trial=True)):
        assert sent(shard)[0] == shard


def test_a_listed_shard_travels_as_its_place_and_is_read_by_who_gets_it(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    with run_listing(RunDir(Path("run")), {}, lambda: SAMPLES) as saved:
        plan = make_plan(saved, 3000)
    shards = [plan.shard(number) for number in range(plan.shards)]
    arrived = [sent(shard) for shard in shards]
    monkeypatch.chdir("/")  # a worker is elsewhere
    assert all(size < 500 for _, size in arrived)
    assert [len(shard.samples) for shard, _ in arrived] == [3000, 2000]
    assert tuple(s for shard, _ in arrived for s in shard.samples) == SAMPLES
    assert arrived[0][0] == sent(arrived[0][0])[0]
    assert arrived[0][0] != arrived[1][0]
    assert arrived[1][0].samples[-2:] == SAMPLES[-2:]


def test_a_listing_that_workers_do_not_see_is_not_their_business(tmp_path):
    with run_listing(RunDir(tmp_path / "scratch"), {}, lambda: SAMPLES) as saved:
        saved.shared = False
        plan = make_plan(saved, 3000)
    arrived, _ = sent(plan.shard(1))
    assert arrived.samples == SAMPLES[3000:]
