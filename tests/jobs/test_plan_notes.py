"""What is said of a run before it begins."""

from datetime import datetime, timezone

from shardcam.engine.config import RunConfig
from shardcam.engine.run.extraction import RunPlanned
from shardcam.jobs.plan_notes import size_note

LISTED = datetime(2026, 1, 2, tzinfo=timezone.utc)
SIZES = {"key": 20_000, "activation/conv": 12_544_000, "cam/conv/map": 196_000, "flags": 1000}


def planned(free, **options):
    config = RunConfig(source="s", model="m", out="run", **options)
    return RunPlanned(config, 1000, 10, LISTED, True, 1000, SIZES, free, None)


def test_the_largest_datasets_are_named():
    assert size_note(planned(10**9)) == (
        "about 12.8 MB before gzip: activation/conv 12.5 MB, cam/conv/map 196 kB, key 20 kB; "
        "1 GB free"
    )
    assert size_note(planned(None, codec="none", save=("maps", "overlays"))) == (
        "about 12.8 MB: activation/conv 12.5 MB, cam/conv/map 196 kB, key 20 kB; pictures apart"
    )


def test_what_compression_must_do_is_said():
    note = size_note(planned(sum(SIZES.values()) // 4))
    assert note.endswith("3.19 MB free: enough only if gzip makes it 4 times smaller")
