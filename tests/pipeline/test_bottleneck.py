import pytest

from shardcam.engine.pipeline.bottleneck import find_bottleneck


@pytest.mark.parametrize(
    ("seconds", "part", "share", "advice"),
    [
        ({"decode": 9, "wait": 2, "forward": 90, "head": 1, "map": 4, "write": 3}, "backbone", 0.9,
         "--precision"),
        ({"read": 1, "decode": 60, "wait": 55, "forward": 40, "map": 4, "write": 1}, "decode", 0.55,
         "--fast-decode"),
        ({"read": 80, "decode": 9, "wait": 70, "forward": 28, "map": 1, "write": 1}, "read", 0.7,
         "faster storage"),
        ({"wait": 1, "forward": 10, "head": 33, "map": 50, "write": 6}, "head", 0.83, "--layer"),
        ({"wait": 1, "forward": 10, "head": 60, "map": 20, "write": 9}, "head", 0.8, "--layer"),
        ({"forward": 20, "head": 1, "map": 75, "write": 4}, "map", 0.75, "--method"),
        ({"forward": 20, "head": 2, "map": 3, "write": 75}, "write", 0.75, "--codec"),
        # earlier versions timed the head with the backbone
        ({"wait": 2, "forward": 8, "map": 4, "write": 6}, "network", 0.4, "--precision"),
        ({"forward": 1, "map": 5, "write": 2}, "map", 0.625, "--method"),
    ],
)  # fmt: skip
def test_what_holds_the_workers_up_and_what_would_help(seconds, part, share, advice):
    found = find_bottleneck(seconds)
    assert (found.part, found.share) == (part, share)
    waits = "the network waits for it " if part in ("read", "decode") else ""
    assert str(found).startswith(f"{part}-bound: {waits}{share:.0%} of the time")
    assert advice in found.advice
    assert str(found).endswith(".")


def test_no_time_no_bottleneck():
    assert find_bottleneck({}) is None
    assert find_bottleneck({"read": 1.0}) is None
