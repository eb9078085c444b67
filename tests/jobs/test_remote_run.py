"""A run at a URL, as a person makes it: the same rows, whole files only, and nothing lost."""

import csv
import io
import json
import os
import re
import signal
import threading
import time

import fsspec
import pytest

from shardcam import open_run
from tests.jobs.command import LOCAL, assert_same, contents, shardcam, shardcam_process, start
from tests.jobs.images import make_folder

LITE0 = ("--model", "efficientnet_lite0", "--image-size", "64", "--max-pixels", 10**6)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """80 images with 4 broken ones, and the run over them on disk."""
    base = tmp_path_factory.mktemp("remote-run")
    make_folder(base / "images", 80, bad=4)
    saved = ("--save", "maps,logits,overlays")
    code, _, err = shardcam(
        "extract", base / "images", *LITE0, *LOCAL, *saved, "--out", base / "run"
    )
    assert code == 0, err
    return base


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("SHARDCAM_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def extract(base, url, *more):
    return ("extract", base / "images", *LITE0, "--save", "maps,logits,overlays", *more,
        "--out", url)  # fmt: skip


def held(url):
    """Names below a URL, by their folder."""
    system = fsspec.filesystem("s3", use_listings_cache=False)
    root = url.removeprefix("s3://")
    return {name.removeprefix(root + "/") for name in system.find(root)}


def downloaded(url, folder):
    fsspec.filesystem("s3", use_listings_cache=False).get(url, str(folder), recursive=True)
    return folder


def read(url):
    return fsspec.filesystem("s3", use_listings_cache=False).cat_file(url)


@pytest.mark.ray
def test_interrupted_and_resumed_it_equals_the_run_on_disk(here, s3, scratch, tmp_path):
    """Ray workers; SIGINT after the second shard."""
    run = f"{s3.bucket}/runs/photos"
    put = []
    s3.on_put = lambda path: put.append(path) if "/shards/" in path else None
    process = start(*extract(here, run, "--workers", 2))
    while process.poll() is None and len(put) < 2:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert "run the same command again" in err
    before = {name for name in held(run) if name.startswith("shards/")}
    assert 0 < len(before) < 10
    code, out, err = shardcam_process(*extract(here, run, "--workers", 2))
    assert code == 0, err
    assert f"resuming: {len(before)} of 10 shards are done" in out
    assert "80 listed = 76 ok + 4 failed" in out
    assert len([path for path in put if path.endswith(".h5")]) == 10, "no shard is uploaded twice"
    names = held(run)
    assert {name for name in names if not name.startswith(("shards/", "overlays/"))} == {
        "run.json", "listing.zip", "class_names.json", "index.h5", "report.json", "failures.csv",
        "events.jsonl",
    }  # fmt: skip
    assert len([name for name in names if name.startswith("overlays/")]) == 76
    copy = downloaded(run, tmp_path / "copy")
    assert_same(contents(copy), contents(here / "run"))
    for picture in (here / "run" / "overlays").iterdir():
        assert (copy / "overlays" / picture.name).read_bytes() == picture.read_bytes()
    with open_run(run) as there:
        assert len(there) == 76
        assert [failure.error for failure in there.failures]
    rows = list(csv.DictReader(io.StringIO(read(f"{run}/failures.csv").decode())))
    assert len(rows) == 4
    check_commands(here, run, s3, tmp_path)
    left = [folder for folder in scratch.iterdir() if f"-{os.getpid()}-" not in folder.name]
    assert left == [], "scratch of processes that are gone"


def check_commands(here, run, s3, tmp_path):
    code, out, err = shardcam("status", run)
    assert code == 0 and "10 of 10 done" in out and "complete" in out, err
    code, out, err = shardcam("verify", run, "--deep")
    assert code == 0 and "all shards good (every byte read)" in out, err
    code, _, err = shardcam("export", run, "--to", "npy", "--out", tmp_path / "maps.npy")
    assert code == 0 and (tmp_path / "maps.npy").exists(), err
    check_report(here, run, tmp_path)
    code, _, err = shardcam(*extract(here, run, *LOCAL, "--method", "cam"))
    assert code == 2 and "method: gradcam there, cam now" in err
    s3.asked.clear()
    code, out, err = shardcam(*extract(here, run, *LOCAL))
    assert code == 0 and "of which 0 done now" in out, err
    assert not [path for method, path, _ in s3.asked if method == "PUT" and "/." not in path]


def check_report(here, run, tmp_path):
    """The same page as of the copy on disk, but for what the two runs do not share."""
    code, out, err = shardcam("report", run, cwd=tmp_path)
    assert code == 0 and "look at photos-report.html  (76 of 76 images shown" in out, err
    page = (tmp_path / "photos-report.html").read_text()
    code, _, err = shardcam("report", run, cwd=tmp_path)  # no part of the run: it may be another's
    assert code == 2 and "photos-report.html: exists; --force replaces it\n" in err
    assert shardcam("report", here / "run", "--out", tmp_path / "here.html")[0] == 0
    pictures = re.findall('data:image/[^"]+', (tmp_path / "here.html").read_text())
    assert len(pictures) > 76 and re.findall('data:image/[^"]+', page) == pictures


def test_a_report_of_what_is_done(here, s3, scratch, tmp_path):
    run = f"{s3.bucket}/run"
    system = fsspec.filesystem("s3", use_listings_cache=False)
    for name in ("run.json", "listing.zip", "events.jsonl", "shards/shard-000003.h5"):
        system.pipe_file(f"{run}/{name}", (here / "run" / name).read_bytes())
    code, out, err = shardcam("report", run, "--out", tmp_path / "page.html")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"look at \S+/page\.html  \((\d) of \1 images shown, [\d.]+ kB\)\n", out)


@pytest.mark.slow
def test_failed_samples_are_tried_again_and_bad_shards_refilled(here, s3, scratch, tmp_path):
    run = f"{s3.bucket}/run"
    assert shardcam(*extract(here, run, *LOCAL))[0] == 0
    before = held(run)
    code, out, err = shardcam("retry-failed", run, *LOCAL)
    assert code == 0, err
    assert "80 listed = 76 ok + 4 failed" in out
    assert held(run) == before
    system = fsspec.filesystem("s3", use_listings_cache=False)
    good = system.cat_file(f"{run}/shards/shard-000001.h5")
    system.pipe_file(f"{run}/shards/shard-000001.h5", good[:3000])
    system.rm_file(f"{run}/shards/shard-000002.h5")
    code, _, err = shardcam(*extract(here, run, *LOCAL))
    assert code == 1 and "verify --repair moves it aside" in err
    code, _, err = shardcam("verify", run, "--repair")
    assert code == 1 and "2 of 10 shards missing or damaged; 1 moved to" in err
    assert shardcam(*extract(here, run, *LOCAL))[0] == 0
    assert_same(contents(downloaded(run, tmp_path / "copy")), contents(here / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("executor", [LOCAL, ("--workers", 1)], ids=["local", "ray"])
def test_a_server_that_goes_away_costs_nothing_but_time(here, s3, scratch, tmp_path, executor):
    run = f"{s3.bucket}/run"
    system = fsspec.filesystem("s3", use_listings_cache=False)
    process = start(*extract(here, run, *executor))
    put = []
    s3.on_put = lambda path: put.append(path) if "/shards/" in path else None
    while process.poll() is None and len(put) < 2:
        time.sleep(0.001)
    s3.stop()
    try:
        _, err = process.communicate(timeout=200)
    finally:
        s3.start()
    assert process.returncode == 1, err
    assert err.startswith(f"shardcam: {run}/") and "run the same command again" in err, err
    assert err.count("\n") == 1, err
    done = [name for name in held(run) if name.startswith("shards/")]
    assert 0 < len(done) < 10
    assert system.exists(f"{run}/run.json")
    assert shardcam(*extract(here, run, *LOCAL))[0] == 0
    assert_same(contents(downloaded(run, tmp_path / "copy")), contents(here / "run"))


@pytest.mark.process
def test_verify_deletes_nothing_because_a_server_is_away(here, s3, scratch, tmp_path):
    run = f"{s3.bucket}/run"
    assert shardcam(*extract(here, run, *LOCAL, "--limit", 16))[0] == 0
    before = held(run)
    s3.asked.clear()
    process = start("verify", run, "--repair", "--deep")
    while process.poll() is None and not any("/shards/" in path for _, path, _ in s3.asked[-3:]):
        time.sleep(0.001)
    s3.stop()
    try:
        _, err = process.communicate(timeout=100)
    finally:
        s3.start()
    assert process.returncode == 1, err
    assert "bad" not in err, err
    assert held(run) - {".lock"} == before


@pytest.mark.process
def test_a_second_command_is_refused(here, s3, scratch, tmp_path):
    run = f"{s3.bucket}/run"
    working, seen = threading.Event(), threading.Event()

    def wait(path):
        if "/shards/" in path:
            working.set()
            seen.wait(60)

    s3.on_put = wait
    first = start(*extract(here, run, *LOCAL))
    assert working.wait(100)
    code, out, err = shardcam(*extract(here, run, *LOCAL))
    assert (code, out) == (1, "")
    assert err.startswith(f"shardcam: {run}: process {first.pid} on "), err
    assert err.count("\n") == 1 and "is working on it; wait for it, or stop it first" in err
    assert f"running: process {first.pid} on " in shardcam("status", run)[1]
    seen.set()
    _, err = first.communicate(timeout=100)
    assert first.returncode == 0, err
    assert ".lock" not in held(run)
    assert_same(contents(downloaded(run, tmp_path / "copy")), contents(here / "run"))


@pytest.mark.slow
def test_two_commands_that_do_not_know_of_each_other(here, s3, scratch, tmp_path):
    """Nobody sees a lock: each shard is that of one of them, and both end well."""
    run = f"{s3.bucket}/run"
    s3.lost = "/.lock"
    both = [start(*extract(here, run, *LOCAL)) for _ in range(2)]
    ends = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert json.loads(read(f"{run}/report.json"))["ok"] == 76
    assert_same(contents(downloaded(run, tmp_path / "copy")), contents(here / "run"))


@pytest.mark.process
def test_refusals_come_before_the_work(here, s3, scratch, monkeypatch):
    code, out, err = shardcam(*extract(here, "s3://no-such-bucket/run", *LOCAL))
    assert (code, out) == (2, "")
    assert err == "shardcam: --out s3://no-such-bucket/run: cannot be written: no such bucket\n"
    fsspec.filesystem("s3").pipe_file(f"{s3.bucket}/mine/notes.txt", b"x")
    code, _, err = shardcam(*extract(here, f"{s3.bucket}/mine", *LOCAL))
    assert code == 2 and "not empty and not a run directory" in err
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    code, out, err = shardcam_process(*extract(here, f"{s3.bucket}/run", *LOCAL))
    assert (code, out) == (1, "")
    assert "credentials" in err and err.count("\n") == 1, err
