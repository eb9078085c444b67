"""What holds a run up, from the seconds of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NETWORK = ("wait", "forward", "head", "map", "write")  # one after the other in the worker
BESIDE = ("read", "decode")  # in a thread of their own, ahead of the network
_GRADIENT = 3  # passes of the head that a gradient takes: forward, and backward
_ADVICE = {
    "read": "More workers on a node would help, or faster storage.",
    "decode": "More CPU cores for each worker would help, or --fast-decode.",
    "network": "More cores or GPUs would help, or another --precision.",
    "backbone": "More cores or GPUs would help, or another --precision.",
    "head": "It is float32 whatever the --precision is; more cores or GPUs would help, or a "
    "--layer with less above it (shardcam layers).",
    "map": "A cheaper --method would help, or fewer targets.",
    "write": "--codec lz4 or none would help, or saving less.",
}


@dataclass(frozen=True)
class Bottleneck:
    """What a run is bound by, its share of the time, and a sentence on what would help.

    It is the time of the network and what follows it: of reading and decoding, which go on
    beside them, only what the network waits for counts.
    """

    part: str  # read, decode, backbone, head, map or write; network: backbone and head
    share: float
    advice: str

    def __str__(self) -> str:
        if self.part in BESIDE:
            why = f"the network waits for it {self.share:.0%} of the time"
        else:
            why = f"{self.share:.0%} of the time, not counting what goes on beside the network"
        return f"{self.part}-bound: {why}. {self.advice}"


def find_bottleneck(seconds: Mapping[str, float]) -> Bottleneck | None:
    """The bottleneck by the seconds of each stage (see `engine.pipeline.run_shard`), if any.

    While the network waits for pictures, the slower of reading and decoding is to blame. Where
    maps take no longer than gradients do, the head is: they are passes through it.
    """
    spent = {stage: seconds.get(stage, 0.0) for stage in NETWORK}
    total = sum(spent.values())
    if total <= 0:
        return None
    if spent["map"] <= _GRADIENT * spent["head"]:
        spent["head"] += spent.pop("map")
    part = max(spent, key=lambda name: spent[name])
    share = spent[part] / total
    if part == "wait":
        part = max(BESIDE, key=lambda name: seconds.get(name, 0.0))
    elif part == "forward":  # earlier versions timed both as one
        part = "backbone" if "head" in seconds else "network"
    return Bottleneck(part, share, _ADVICE[part])
