"""A run grows by a larger ``--limit``; what it has stays as it is."""

import json
import os
import shutil
from contextlib import suppress

import fsspec
import h5py
import pytest

from shardcam import open_run
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import Interrupted, RunDirectoryError
from shardcam.engine.run import driver
from shardcam.engine.run.extraction import extract
from shardcam.engine.run.prepare import prepare
from tests.jobs.command import CHECKPOINT, LOCAL, SMALL, assert_same, contents, shardcam
from tests.jobs.images import make_folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """21 images, the later ones with longer keys."""
    root = tmp_path_factory.mktemp("grow") / "images"
    make_folder(root, 21)
    for i, path in enumerate(sorted(root.rglob("*.jpg"))):
        path.rename(root / (f"{i:02d}.jpg" if i < 9 else f"{i:02d}-with-a-long-name.jpg"))
        with suppress(OSError):
            path.parent.rmdir()
    return root


@pytest.fixture
def run(images, tmp_path):
    """A function that extracts up to a limit; and where to."""

    def command(limit, out="run", *more):
        limited = () if limit is None else ("--limit", limit)
        place = out if "://" in out else tmp_path / out
        return shardcam("extract", images, *SMALL, *LOCAL, *limited, "--out", place, *more)

    return command


def test_a_run_that_grows_has_the_rows_of_one_that_began_so(run, tmp_path):
    """Twice, from within a shard and from its end; the shards that were full are not touched."""
    out = tmp_path / "run"
    assert run(5)[0] == 0
    manifest = json.loads((out / "run.json").read_text())
    for limit, count, done_now, kept in ((16, 16, 2, []), (None, 21, 1, [0, 1])):
        before = {n: os.stat(out / "shards" / f"shard-{n:06d}.h5").st_ino for n in kept}
        code, printed, err = run(limit)
        assert code == 0, err
        assert f"to {count} images" in printed
        assert f"{count} listed = " in printed
        assert f"of which {done_now} done now" in " ".join(printed.split())
        for number, inode in before.items():
            assert os.stat(out / "shards" / f"shard-{number:06d}.h5").st_ino == inode
        assert shardcam("verify", out, "--deep")[0] == 0
        assert run(count, f"fresh-{count}", "--shard-size", 8)[0] == 0
        assert_same(contents(out), contents(tmp_path / f"fresh-{count}"))
        with open_run(out) as opened:
            assert [k.decode() for k in opened["key"]] == [k.decode() for k in contents(out)["key"]]
    grown = json.loads((out / "run.json").read_text())
    assert grown["fingerprint"] == manifest["fingerprint"]
    assert (grown["plan"]["samples"], grown["config"]["limit"]) == (21, None)
    code, printed, _ = run(None)
    assert (code, "the run grows" in printed) == (0, False)
    assert "of which 0 done now" in " ".join(printed.split())
    assert shardcam("index", out, "--merge")[0] == 0
    with h5py.File(out / "index.h5") as merged, h5py.File(tmp_path / "fresh-21/index.h5") as fresh:
        assert merged["key"].dtype == fresh["key"].dtype
        assert (merged["key"][:] == fresh["key"][:]).all()


def test_growth_that_is_stopped_loses_nothing_and_goes_on(run, images, tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert run(5)[0] == 0
    before = contents(out)

    def stop(*_):
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(driver, "logged", stop)
        assert run(16)[0] == 4
    assert_same(contents(out), before)  # the short shard came back
    code, _, err = shardcam("verify", out)
    assert (code, "missing or damaged" in err) == (1, True)
    code, printed, _ = run(16)
    assert (code, "16 listed = " in printed) == (0, True)


@pytest.mark.parametrize(
    ("first", "then", "change", "told"),
    [
        (
            5,
            3,
            None,
            "5 there, --limit 3 now: it has 5 images already, and can grow, but not shrink)",
        ),
        (None, 3, None, "no --limit there, --limit 3 now: it has 21 images already, and can grow"),
        (5, 9, "new", "--limit 5 there, --limit 9 now, and not the same first 5 images"),
        (5, None, "few", "5 images there, 3 now"),
        (5, 9, "method", "method: gradcam there, layercam now"),
    ],
)
def test_what_is_no_growth_is_refused_and_says_why(images, tmp_path, first, then, change, told):
    here = shutil.copytree(images, tmp_path / "images")
    common = {"source": str(here), "model": str(CHECKPOINT), "image_size": 32}
    config = RunConfig(**common, out=str(tmp_path / "run"), limit=first)
    prepare(config)
    files = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    if change == "new":
        shutil.copy(here / "04.jpg", here / "00-first.jpg")
    if change == "few":
        for path in sorted(here.iterdir())[3:]:
            path.unlink()
    method = "layercam" if change == "method" else "gradcam"
    with pytest.raises(RunDirectoryError) as caught:
        prepare(config.model_copy(update={"limit": then, "method": method}))
    assert told in str(caught.value)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == files


def test_another_run_names_the_options_to_go_on_with(run):
    ways = {
        "with --save maps,overlays": (("--save", "maps,overlays"), ()),
        "with --alpha 0.5": (("--save", "overlays"), ("--save", "overlays", "--alpha", 0.7)),
        "with --no-fast-decode": ((), ("--fast-decode",)),
        "without --mean": ((), ("--mean", "1,2,3")),
        "with --mean 1.0,2.0,3.0 and without --std": (("--mean", "1,2,3"), ("--std", "4,5,6")),
        "without --limit": ((), ("--limit", 2)),
        "with --method gradcam": ((), ("--method", "cam")),
    }
    for i, (way, (first, then)) in enumerate(ways.items()):
        assert run(None, f"run-{i}", *first)[0] == 0
        code, _, err = run(None, f"run-{i}", *then)
        assert code == 2 and err.endswith(f"; give another --out, delete it, or go on {way}\n")


def test_a_grown_run_does_not_shrink_to_what_it_was_begun_with(images, tmp_path):
    """Though the fingerprint is of that."""
    options = {"model": CHECKPOINT, "image_size": 32, "out": tmp_path / "run", "executor": "local"}
    extract(images, **options, limit=5)
    assert extract(images, **options, limit=16).listed == 16
    with pytest.raises(
        RunDirectoryError, match="limit 16 there, limit 5 now: it has 16 images already"
    ):
        extract(images, **options, limit=5)
    (tmp_path / "run" / "listing.zip").unlink()
    assert extract(images, **options, limit=16).listed == 16


@pytest.mark.process
def test_a_run_at_a_url_grows(run, images, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("SHARDCAM_SCRATCH", str(tmp_path / "scratch"))
    url = f"{s3.bucket}/run"
    assert run(5, url)[0] == 0
    code, printed, err = run(16, url)
    assert (code, "16 listed = " in printed) == (0, True), err
    assert shardcam("verify", url, "--deep")[0] == 0
    assert run(16, "fresh", "--shard-size", 8)[0] == 0
    fsspec.filesystem("s3", use_listings_cache=False).get(url, str(tmp_path / "c"), recursive=True)
    assert_same(contents(tmp_path / "c"), contents(tmp_path / "fresh"))
