import pytest

from shardcam.engine.pipeline.bottleneck import find_bottleneck


@pytest.mark.parametrize(
    ("seconds", "stage", "share"),
    [
        ({"read": 1, "decode": 9, "wait": 2, "forward": 90, "map": 4, "write": 4}, "forward", 0.9),
        (
            {"read": 1, "decode": 60, "wait": 55, "forward": 40, "map": 4, "write": 1},
            "decode",
            0.55,
        ),
        ({"read": 80, "decode": 9, "wait": 70, "forward": 28, "map": 1, "write": 1}, "read", 0.7),
        ({"decode": 9, "wait": 2, "forward": 8, "map": 4, "write": 6}, "forward", 0.4),
        ({"forward": 1, "map": 5, "write": 2}, "map", 0.625),
    ],
)
def test_the_stage_that_holds_the_workers_up(seconds, stage, share):
    found = find_bottleneck(seconds)
    assert (found.stage, found.share) == (stage, share)
    waits = "the network waits for it " if stage in ("read", "decode") else ""
    assert str(found).startswith(f"{stage}-bound: {waits}{share:.0%} of the time")


def test_no_time_no_bottleneck():
    assert find_bottleneck({}) is None
    assert find_bottleneck({"read": 1.0}) is None
