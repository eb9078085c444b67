"""`shardcam evaluate`: what it writes, resumes, refuses and tells."""

import json
import random
import shutil
import signal
import time

import h5py
import numpy as np
import pytest

import shardcam as product
from shardcam.engine.errors import ConfigError
from tests.jobs.command import SMALL, shardcam, shardcam_process, start
from tests.jobs.images import make_folder

METRICS = "complexity,gini"
BOXES = "boxes.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of 40 pictures in five shards, and one picture that is none."""
    folder = tmp_path_factory.mktemp("evaluated")
    make_folder(folder / "pictures", 40)
    (folder / "pictures" / "broken.jpg").write_bytes(b"nothing")
    code, _, err = shardcam(
        "extract", folder / "pictures", *SMALL, "--out", folder / "run", "--executor", "local",
        "--shard-size", 8,
    )  # fmt: skip
    assert code == 0, err
    return folder / "run"


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def evaluate(run, *more, metrics=METRICS):
    return shardcam("evaluate", run, "--metrics", metrics, "--executor", "local", *more)


def shards(run, name):
    return {
        p.name: p.read_bytes() for p in sorted((run / "metrics" / name / "shards").glob("*.h5"))
    }


def test_values_are_columns_of_the_run(run):
    code, out, err = evaluate(run, "--csv", run.parent / "table.csv")
    assert code == 0, err
    assert "complexity" in out and "centre" in out and "1 image that failed in the run" in out
    summary = json.loads((run / "metrics" / "summary.json").read_text())
    with product.open_run(run) as opened:
        values = opened.metric("gini")
        table = opened.table
        assert list(opened.metrics) == ["complexity", "gini"]
        assert table["gini"].to_numpy().tolist() == values[:, 0].tolist()
        kept = opened.select(min_gini=float(np.median(values)))
        assert (kept.metric("gini") >= np.median(values)).all() and 0 < len(kept) < len(opened)
        with pytest.raises(ConfigError, match="min_complexity, max_complexity"):
            opened.select(min_nothing=1)
    mean = np.nanmean(values.astype(float))
    assert summary["gini"]["mean"] == pytest.approx(mean, abs=1e-7)
    low, high = summary["gini"]["ci95"]
    half = 1.96 * np.nanstd(values.astype(float), ddof=1) / len(values) ** 0.5
    assert (high - low) / 2 == pytest.approx(half, rel=1e-6)
    assert summary["gini"]["n"] == 40 and set(summary["gini"]["baselines"]) >= {"centre", "random"}
    assert (run.parent / "table.csv").read_text().startswith("metric,maps,value,low,high,n,conv")


def test_the_run_is_not_touched_and_stays_good(run):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    evaluate(run)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert shardcam("verify", "--deep", run)[0] == 0


def test_what_is_measured_is_not_measured_again(run):
    evaluate(run)
    first = shards(run, "gini")
    (run / "metrics" / "gini" / "shards" / "shard-000002.h5").unlink()
    code, out, _ = evaluate(run, metrics="gini")
    assert code == 0 and "resuming: 5 of 6 shards are done" in out
    assert shards(run, "gini") == first


def test_a_shard_that_was_computed_again_is_measured_again(run, tmp_path):
    evaluate(run, metrics="gini")
    path = run / "metrics" / "gini" / "shards" / "shard-000001.h5"
    changed = tmp_path / "changed.h5"
    shutil.copy(path, changed)
    with h5py.File(changed, "r+") as file:
        file.attrs["source"] = "of an older state"
    shutil.copy(changed, path)
    assert "resuming: 5 of 6" in evaluate(run, metrics="gini")[1]


def test_other_settings_are_refused_and_replaced_when_asked(run):
    evaluate(run, metrics="gini")
    code, _, err = evaluate(run, "--sample", 10, metrics="gini")
    assert code == 2 and "sample: null there, 10 now" in err and "--replace" in err
    code, _, _ = evaluate(run, "--sample", 10, "--replace", metrics="gini")
    assert code == 0
    with product.open_run(run) as opened:
        measured = np.isfinite(opened.metric("gini")[:, 0])
        samples = opened["sample"][:][measured]
    assert set(samples) <= set(np.arange(10) * 41 // 10) and 9 <= len(samples) <= 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--metrics", "nothing"), "nothing"),
        (("--metrics", "gini:nothing"), "nothing"),
        (("--metrics", ","), "--metrics"),
        (("--metrics", "gini", "--layer", "no"), "layers with maps"),
        (("--metrics", "gini", "--baselines", "no"), "no"),
        (("--metrics", "max_box_acc"), "--truth"),
        (("--metrics", "max_box_acc", "--truth", "nowhere.csv"), "nowhere.csv"),
        (("--metrics", "top1", "--truth", BOXES), "--target label"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run, options, words):
    with product.open_run(run) as opened:
        rows = [f"{key},{number},0,0,9,9" for key, number in zip(
            opened.keys, opened["target"][:, 0].tolist(), strict=True)]  # fmt: skip
    (run.parent / BOXES).write_text("\n".join(rows))
    code, _, err = shardcam("evaluate", run, "--executor", "local", *options, cwd=run.parent)
    assert code in (1, 2) and words in err and err.count("\n") == 1
    assert not (run / "metrics").exists()


def test_an_unfinished_run_is_refused(run):
    (run / "shards" / "shard-000003.h5").unlink()
    code, _, err = evaluate(run)
    assert code == 1 and err.count("\n") == 1


@pytest.mark.parametrize("place", ["metrics", "metrics/gini"])
def test_no_link_leads_out(run, tmp_path, place):
    outside = tmp_path / "outside"
    outside.mkdir()
    (run / place).parent.mkdir(exist_ok=True)
    (run / place).symlink_to(outside)
    code, _, err = evaluate(run, metrics="gini")
    assert code == 1 and "link" in err and not list(outside.iterdir())


@pytest.mark.parametrize("spoilt", ["metric.json", "shards/shard-000000.h5", "../summary.json"])
def test_damage_is_told(run, spoilt):
    evaluate(run, metrics="gini")
    path = run / "metrics" / "gini" / spoilt
    path.write_bytes(path.read_bytes()[:50])
    code, _, err = evaluate(run, metrics="gini")
    assert code == 1 and path.resolve().name in err and err.count("\n") == 1


@pytest.mark.process
def test_killed_five_times_and_resumed_it_is_equal_to_the_byte(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    assert evaluate(other)[0] == 0
    for attempt in range(5):
        process = start("evaluate", run, "--metrics", METRICS, "--executor", "local")
        end, seed = time.monotonic() + 60, random.Random(attempt)
        while not (held := list((run / "metrics").glob("*/shards/*.h5"))) and (
            process.poll() is None and time.monotonic() < end
        ):
            time.sleep(0.005)
        time.sleep(seed.random() / 20)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert held or attempt
        for name in ("complexity", "gini"):  # so that there is something left to do
            published = sorted((run / "metrics" / name / "shards").glob("*.h5"))
            for path in published[attempt % 2 :: 2]:
                path.unlink()
    code, _, err = shardcam_process("evaluate", run, "--metrics", METRICS, "--executor", "local")
    assert code == 0, err
    for name in ("complexity", "gini"):
        assert shards(run, name) == shards(other, name)
    assert (run / "metrics/summary.json").read_text() == (
        other / "metrics/summary.json"
    ).read_text()


@pytest.mark.ray
def test_on_ray_it_is_equal_to_the_byte(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    assert evaluate(other)[0] == 0
    code, _, err = shardcam_process("evaluate", run, "--metrics", METRICS, "--workers", 2)
    assert code == 0, err
    assert shards(run, "gini") == shards(other, "gini")


def test_a_run_at_a_url(made, memory):
    memory.put(str(made), "/bucket/run", recursive=True)
    code, _, err = evaluate("memory://bucket/run", metrics="gini")
    assert code == 0, err
    summary = json.loads(memory.cat("/bucket/run/metrics/summary.json"))
    assert summary["gini"]["n"] == 40
    with product.open_run("memory://bucket/run") as opened:
        assert np.isfinite(opened.metric("gini")).all()
