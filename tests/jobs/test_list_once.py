"""A source is listed once for a run, and whoever resumes is told of when the listing is."""

import io
import re

import pytest
from rich.console import Console

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, Interrupted, RunDirectoryError
from shardcam.engine.readers.folder import FolderReader
from shardcam.engine.run import source_listing
from shardcam.engine.run.prepare import prepare
from shardcam.jobs import progress
from shardcam.jobs.progress import ProgressDisplay
from tests.jobs.command import CHECKPOINT, SMALL, shardcam
from tests.jobs.images import make_folder


@pytest.fixture
def config(tmp_path):
    make_folder(tmp_path / "images", 9)
    return RunConfig(
        source=str(tmp_path / "images"),
        model=str(CHECKPOINT),
        image_size=32,
        out=str(tmp_path / "run"),
    )


def options(config, **changed):
    return RunConfig(**{**config.model_dump(), **changed})


def test_resuming_does_not_list_the_source(config, monkeypatch):
    first = prepare(config)
    assert (first.listed, first.resumed) == (True, False)
    monkeypatch.setattr(FolderReader, "samples", lambda self: pytest.fail("listed again"))
    second = prepare(config)
    assert (second.listed, second.resumed) == (False, True)
    assert second.manifest == first.manifest
    assert [second.plan.shard(i) for i in range(2)] == [first.plan.shard(i) for i in range(2)]


def test_a_run_without_its_listing_is_listed_again_and_held_to_it(config, tmp_path):
    prepare(config)
    (tmp_path / "run" / "listing.zip").unlink()
    assert prepare(config).listed
    assert not prepare(config).listed
    (tmp_path / "run" / "listing.zip").unlink()
    make_folder(tmp_path / "images", 10)
    with pytest.raises(RunDirectoryError, match=r"\(9 images there, 10 now\)"):
        prepare(config)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_run_is_resumed_in_the_shards_it_was_begun_with(config, monkeypatch):
    """The default may be another by then."""
    with monkeypatch.context() as patch:
        patch.setattr("shardcam.engine.run.plan.default_shard_size", lambda count: 5)
        prepare(config)
    assert prepare(config).plan.shard_size == 5
    with pytest.raises(RunDirectoryError, match="shard_size: 5 there, 8 now"):
        prepare(options(config, shard_size=8))


def test_other_files_than_a_runs_are_said_before_anything_is_listed(config, tmp_path, monkeypatch):
    monkeypatch.setattr(FolderReader, "samples", lambda self: pytest.fail("listed"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="not empty and not a run directory"):
        prepare(config)


def test_the_source_at_another_place_is_the_same_run(config, tmp_path):
    """Its listing is made anew: the old one says where the files were."""
    first = prepare(config)
    (tmp_path / "images").rename(tmp_path / "moved")
    second = prepare(options(config, source=str(tmp_path / "moved")))
    assert (second.listed, second.resumed) == (True, True)
    assert second.manifest.fingerprint == first.manifest.fingerprint
    assert "/moved/" in second.plan.sample(0).location


def test_a_manifest_with_another_root_is_listed_again(config, tmp_path):
    images = sorted(p.relative_to(tmp_path / "images") for p in tmp_path.rglob("*.jpg"))
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in images))
    told = options(config, source=str(tmp_path / "list.txt"), root=str(tmp_path / "images"))
    first = prepare(told)
    assert not prepare(told).listed
    second = prepare(options(told, root=str(tmp_path / "moved")))
    assert (second.listed, second.manifest.fingerprint) == (True, first.manifest.fingerprint)
    assert "/moved/" in second.plan.sample(0).location


def test_limit_takes_the_first(config):
    plan = prepare(options(config, limit=5)).plan
    assert [s.index for s in plan.listing] == [0, 1, 2, 3, 4]
    assert len(prepare(options(config, limit=6)).plan.listing) == 6


def test_nothing_is_left_of_what_is_stopped_or_refused(config, tmp_path, monkeypatch):
    def stopped(event):
        if event.images == 4:
            raise Interrupted("stopped")

    monkeypatch.setattr(source_listing, "EVERY", 2)

    with pytest.raises(Interrupted):
        prepare(config, stopped)
    with pytest.raises(ConfigError, match="no sample has a label"):
        prepare(options(config, target="label"))
    assert not (tmp_path / "run").exists()


def test_as_a_person_sees_it(tmp_path):
    make_folder(tmp_path / "images", 9)
    run, said = tmp_path / "run", r"9 images as listed on \d{4}-\d\d-\d\d \d\d:\d\d UTC"
    command = ("extract", tmp_path / "images", *SMALL, "--executor", "local", "--out", run)
    code, out, _ = shardcam(*command)
    assert (code, "as listed on" in out) == (0, False)
    code, out, _ = shardcam(*command)
    assert code == 0
    assert re.search(said + "$", out, re.MULTILINE)
    (tmp_path / "images" / "another.jpg").write_bytes(b"")
    code, out, _ = shardcam(*command)
    assert code == 0
    line = " ".join(out.split())  # a long path breaks it
    assert re.search(
        said + "; .*images has changed since, and this run does not see it; give another", line
    )
    assert "9 listed = 9 ok" in out
    assert re.search("listing +9 images, ", shardcam("status", run)[1])
    assert shardcam("verify", run, "--deep")[0] == 0
    listing = run / "listing.zip"
    listing.write_bytes(listing.read_bytes()[:-100])
    for arguments in (command, ("verify", run)):
        code, _, err = shardcam(*arguments)
        assert code == 1
        assert "listing.zip: cannot be used" in err
        assert len(err.strip().splitlines()) == 1
    assert "listing.zip: cannot be used" in shardcam("status", run)[1]


@pytest.mark.parametrize("terminal", [False, True])
def test_listing_is_no_silent_wait(config, monkeypatch, terminal):
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    monkeypatch.setattr(source_listing, "EVERY", 2)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with ProgressDisplay(console) as display:
        prepare(config, display.show)
    said = console.file.getvalue()
    assert "listing: 8 images" in said
    assert ("\x1b" in said) == terminal


def test_the_option_that_makes_the_listing_another_is_named(config, tmp_path):
    first = min((tmp_path / "images").rglob("*.jpg"))
    first.with_suffix(".xyz").write_bytes(first.read_bytes())
    prepare(config)
    for name, value, told in (
        ("label_from_folder", True, "--label-from-folder: not given there, given now"),
        ("extensions", ("jpg", "xyz"), "--extensions: not given there, .jpg,.xyz now"),
    ):
        with pytest.raises(RunDirectoryError, match=rf"\({told}\); give another --out"):
            prepare(options(config, **{name: value}))
