import pickle

from engine.types import Failure, Sample, Shard
from engine.workers.descriptors import pack, unpack


def test_a_shard_arrives_as_it_left():
    samples = tuple(
        Sample(f"key {i}", i, i - 1, f"/data/{i}", -1, (0.0, 1.5, 2.0, 3.0) if i % 2 else None)
        for i in range(5)
    )
    lost = (Failure("key 3", 3, "worker", "ends its worker", "killed"),)
    for shard in (Shard(7, samples), Shard(7, samples, lost), Shard(7, samples, trial=True)):
        assert unpack(pickle.loads(pickle.dumps(pack(shard)))) == shard
