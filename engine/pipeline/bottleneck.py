"""What holds a run up, from the seconds of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NETWORK = ("wait", "forward", "map", "write")  # one after the other in the worker
BESIDE = ("read", "decode")  # in a thread of their own, ahead of the network
_ADVICE = {
    "read": "storage is slow: more workers on a node, or faster storage",
    "decode": "more CPU cores for each worker, or --fast-decode",
    "forward": "more cores or GPUs, or --precision",
    "map": "a cheaper --method or fewer targets",
    "write": "--codec lz4 or none, or save less",
}


@dataclass(frozen=True)
class Bottleneck:
    """The stage that a run is bound by, its share of the time, and what would help.

    It is the time of the network and what follows it: of reading and decoding, which go on
    beside them, only what the network waits for counts.
    """

    stage: str
    share: float
    advice: str

    def __str__(self) -> str:
        if self.stage in BESIDE:
            why = f"the network waits for it {self.share:.0%} of the time"
        else:
            why = f"{self.share:.0%} of the time, not counting what goes on beside the network"
        return f"{self.stage}-bound: {why}; to go faster: {self.advice}"


def find_bottleneck(seconds: Mapping[str, float]) -> Bottleneck | None:
    """The bottleneck by the seconds of each stage (see `engine.pipeline.run_shard`), if any.

    While the network waits for pictures, the slower of reading and decoding is to blame.
    """
    total = sum(seconds.get(stage, 0.0) for stage in NETWORK)
    if total <= 0:
        return None
    stage = max(NETWORK, key=lambda name: seconds.get(name, 0.0))
    share = seconds[stage] / total
    if stage == "wait":
        stage = max(BESIDE, key=lambda name: seconds.get(name, 0.0))
    return Bottleneck(stage, share, _ADVICE[stage])
