"""`shardcam evaluate`: what it writes, resumes, refuses and tells."""

import json
import random
import re
import shutil
import signal
import time

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

import shardcam as product
from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.evaluation.summary import counted_places
from shardcam.engine.rundir.metric_results import MetricResults
from tests.jobs.command import SMALL, shardcam, shardcam_process, start, words_of
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


def test_maps_that_a_gpu_made_are_measured_without_one(run):
    """Only what needs the network is refused, for its precision."""
    on_gpu = {"executor": "local", "precision": "fp16"}
    assert product.evaluate(run, "gini", **on_gpu).images == 41
    with pytest.raises(ConfigError, match="precision fp16 needs a GPU"):
        product.evaluate(run, "deletion", **on_gpu)


def test_values_are_columns_of_the_run(run):
    code, out, err = evaluate(run, "--csv", run.parent / "table.csv")
    assert code == 0, err
    assert "complexity" in out and "centre" in out and "1 image that failed in the run" in out
    assert out.split()[-2:] == ["written", str(run.parent / "table.csv")]
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
    assert code == 2 and "(sample: none there, 10 of 41 now)" in err and "--replace" in err
    code, _, _ = evaluate(run, "--sample", 10, "--replace", metrics="gini")
    assert code == 0
    with product.open_run(run) as opened:
        measured = np.isfinite(opened.metric("gini")[:, 0])
        samples = opened["sample"][:][measured]
    assert set(samples) <= set(np.arange(10) * 41 // 10) and 9 <= len(samples) <= 10


def test_a_sample_of_all_is_no_sample_and_those_without_maps_are_told(run):
    assert evaluate(run, metrics="gini")[0] == 0
    assert "resuming: 6 of 6" in evaluate(run, "--sample", 100, metrics="gini")[1]
    code, out, _ = evaluate(run, "--sample", 10, metrics="entropy")
    assert code == 0 and "1 image that failed in the run" in out


def test_names_may_be_one_or_given_twice(run):
    assert list(product.evaluate(run, "gini", executor="local").results) == ["gini"]
    twice = product.evaluate(run, ["gini", "entropy", "gini"], baselines="centre", replace=True,
                             executor="local")  # fmt: skip
    assert list(twice.results) == ["gini", "entropy"]


def test_what_was_measured_is_kept_when_the_run_grows(tmp_path):
    make_folder(tmp_path / "pictures", 10)
    extract = "extract", tmp_path / "pictures", *SMALL, "--out", tmp_path / "run", "--executor"
    for limit, done in ((6, 0), (10, 1)):  # the shard that was not full is another one now
        size = "--shard-size", 4, "--limit", limit
        assert shardcam(*extract, "local", *size)[0] == 0
        code, out, _ = evaluate(tmp_path / "run", metrics="gini")
        assert code == 0 and (f"resuming: {done} of 3" in out) == bool(done)
    assert evaluate(tmp_path / "run", "--sample", 5, metrics="entropy")[0] == 0
    shutil.copytree(tmp_path / "run", other := tmp_path / "other")
    shutil.rmtree(other / "metrics")
    assert evaluate(other, metrics="gini")[0] == 0
    assert shards(other, "gini") == shards(tmp_path / "run", "gini")


def test_pictures_that_vanished_or_changed_are_counted_and_maps_measured_all_the_same(tmp_path):
    make_folder(pictures := tmp_path / "pictures", 8)
    run = tmp_path / "run"
    shardcam("extract", pictures, *SMALL, "--out", run, "--executor", "local")
    first, second, *_ = sorted(pictures.glob("*/*.jpg"))
    before = {path: path.read_bytes() for path in (first, second)}
    first.unlink()
    Image.new("RGB", (50, 70)).save(second)
    baselines = "--baselines", "edges,uniform"
    code, out, _ = evaluate(run, *baselines, metrics="gini,average_drop,entropy")
    assert (
        code == 0
        and "2 (picture or mask cannot be read any more" in out
        and ": average_drop" in out
    )
    with product.open_run(run) as opened:
        assert opened.metrics["gini"]["n"] == opened.metrics["entropy"]["n"] == 8
        assert opened.metrics["gini"]["baselines"]["edges"]["n"] == 6
        assert opened.metrics["average_drop"]["n"] == 6
        assert np.isnan(opened.metric("average_drop")[:2]).all()
    for path, data in before.items():
        path.write_bytes(data)
    code, out, _ = evaluate(run, *baselines, "--retry-unreadable", metrics="average_drop")
    assert code == 0 and "left out" not in out
    with product.open_run(run) as opened:
        assert opened.metrics["average_drop"]["n"] == 8


def test_figures_of_values_that_are_being_replaced_are_not_shown(run, monkeypatch):
    evaluate(run)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MetricResults, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        product.evaluate(run, "gini", seed=1, replace=True, executor="local")
    with product.open_run(run) as opened:
        assert list(opened.metrics) == ["complexity"]
        assert "gini" not in opened.table


def test_a_truth_that_no_value_comes_from_is_refused_before_any_is_forgotten(run):
    with product.open_run(run) as opened:
        last, size = opened.keys[-1], opened["image_size"][-1].tolist()
    truth = run.parent / BOXES
    truth.write_text(f"{last},0,0,0,9,9\n")
    assert evaluate(run, "--truth", truth, metrics="pointing")[0] == 0
    before = {p: p.read_bytes() for p in (run / "metrics").rglob("*") if p.is_file()}
    for metric, options, words in (
        ("pointing", ("--sample", 3), "none of the 3 images asked for is in the truth"),
        ("pointing,miou", (), "table of boxes without a mask"),
    ):
        code, _, err = evaluate(run, "--truth", truth, "--replace", *options, metrics=metric)
        assert code == 2 and words in err and err.count("\n") == 1
        assert before == {p: p.read_bytes() for p in (run / "metrics").rglob("*") if p.is_file()}
    mask = (run.parent / "masks" / last).with_suffix(".png")
    mask.parent.mkdir(parents=True)
    cv2.imwrite(str(mask), np.full(size, 1, np.uint8))
    shown = f"{run.parent}/masks::from-1"
    code, _, err = evaluate(run, "--truth", shown, "--sample", 3, metrics="miou")
    assert code == 2 and "none of the 3 images asked for is in the truth with a mask" in err
    assert not (run / "metrics" / "miou").exists()
    code, out, err = evaluate(run, "--truth", shown, metrics="max_box_acc_v2")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert f"max_box_acc_v2: --truth {shown}: PNG masks (from-1) without a box; give boxes" in err
    code, _, err = evaluate(run, "--truth", f"{run.parent}/masks::object", metrics="pointing")
    assert code != 0 and err.count("\n") == 1 and "row" not in err
    assert f"the first: {last.removesuffix('.jpg')}; extract with labels" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--metrics", "nothing"), "nothing"),
        (("--metrics", "gini:nothing"), "nothing"),
        (("--metrics", ","), "--metrics"),
        (("--metrics", "gini", "--seed", "-1"), "--seed"),
        (("--metrics", "gini", "--csv", "memory://x/y"), "not a URL"),
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
    assert code == 2 and words in err and err.count("\n") == 1
    assert not (run / "metrics").exists()


def test_a_target_is_named_as_it_was_given(made, tmp_path):
    labels = tmp_path / "labels.csv"
    with product.open_run(made) as opened:
        labels.write_text("path,labels\n" + "".join(f"{key},1\n" for key in opened.keys[:3]))
    target = f"labels:{labels}"
    options = ("--target", target, "--limit", 4, "--executor", "local")
    code, _, err = shardcam(
        "extract", made.parent / "pictures", *SMALL, *options, "--out", tmp_path / "run"
    )
    assert code == 0, err
    (tmp_path / BOXES).write_text(f"{opened.keys[0]},1,0,0,9,9\n")
    code, _, err = evaluate(tmp_path / "run", "--truth", tmp_path / BOXES, metrics="gt_known")
    assert code == 2 and err.endswith(f"this one was made with --target {target}\n")


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
    if "summary" not in spoilt:
        assert "--replace" in err and evaluate(run, "--replace", metrics="gini")[0] == 0


def _without(name):
    return lambda file: file.pop(name)


def _with(name, values):
    def put(file):
        file.pop(name)
        file[name] = values

    return put


@pytest.mark.parametrize(
    "spoil",
    [
        _without("value"),
        _without("reason"),
        _with("value", np.zeros((8, 2), np.float32)),
        _with("value", np.full((8, 1), b"text")),
        _with("reason", np.full((8, 1), 99, np.uint8)),
        _with("sample", np.arange(8) + 1000),
        _with("random/value", np.zeros((8, 2), np.float32)),
        lambda file: file.attrs.create("complete", np.zeros(3)),
    ],
)
def test_a_file_that_is_none_of_ours_is_one_line(run, tmp_path, spoil):
    evaluate(run, metrics="gini")
    path = run / "metrics" / "gini" / "shards" / "shard-000000.h5"
    shutil.copy(path, other := tmp_path / "other.h5")
    with h5py.File(other, "r+") as file:
        spoil(file)
    shutil.copy(other, path)
    code, _, err = evaluate(run, metrics="gini")
    assert code == 1 and path.name in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["../../other", "gini/../gini", ".", "", "a\x1b[31m"])
def test_a_summary_names_folders_of_its_own(run, name):
    evaluate(run, metrics="gini")
    path = run / "metrics" / "summary.json"
    path.write_text(json.dumps({name: json.loads(path.read_text())["gini"]}))
    with product.open_run(run) as opened, pytest.raises(RunDirectoryError, match="name"):
        _ = opened.table


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


def test_seeds_against_masks(made, tmp_path):
    """mIoU from the stored maps, by OpenCV and NumPy, pictures of several sizes and a crop."""
    code, _, err = shardcam(
        "extract", made.parent / "pictures", *SMALL, "--out", tmp_path / "run", "--executor",
        "local", "--shard-size", 16, "--target", "class:7,2", "--limit", 20,
    )  # fmt: skip
    assert code == 0, err
    rng, matrix, values = np.random.default_rng(1), np.zeros((11, 11)), []
    with product.open_run(tmp_path / "run") as opened:
        maps = opened.cam(opened.layers[0])
        for i, key in enumerate(opened.keys):
            height, width = opened["image_size"][i].tolist()
            levels = rng.choice(np.array([0, 3, 8, 255], np.uint8), (height, width))
            masks = tmp_path / "masks" / key
            masks.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(masks.with_suffix(".png")), levels)
            y0, x0, y1, x1 = opened["crop"][i].round().astype(int).tolist()
            scores = np.zeros((3, height, width), np.float32)
            scores[0] = np.float32(0.15)
            for plane, raw in ((2, maps[i, 0]), (1, maps[i, 1])):  # by rising class
                size = (x1 - x0, y1 - y0)
                high = cv2.resize(np.maximum(raw, 0), size, interpolation=cv2.INTER_LINEAR)
                scores[plane, y0:y1, x0:x1] = high / (high.max() + np.float32(1e-5))
            seeds = np.array([0, 3, 8])[scores.argmax(axis=0)]
            counted = levels < 255
            np.add.at(matrix, (levels[counted], seeds[counted]), 1)
            both, either = (seeds == 8) & (levels == 8), (seeds == 8) & counted | (levels == 8)
            values.append(both.sum() / either.sum())
    code, out, err = evaluate(
        tmp_path / "run", "--truth", f"{tmp_path}/masks::from-1", metrics="miou"
    )
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "metrics" / "summary.json").read_text())["miou"]
    with np.errstate(invalid="ignore"):
        iou = matrix.diagonal() / (matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal())
    assert summary["details"]["curve"][150] == pytest.approx(np.nanmean(iou), abs=1e-4)
    assert summary["mean"] == max(summary["details"]["curve"])
    assert summary["details"]["pixels"] == matrix.sum()
    assert set(summary["details"]["classes"]) == {"background", "2", "7"}
    words = " ".join(out.split())
    assert f"best threshold {summary['details']['threshold']:g}" in words
    for name, one in summary["details"]["classes"].items():
        columns = (one[column] for column in ("iou", "precision", "recall"))
        assert " ".join((name, *(f"{value:.4g}" for value in columns))) in words
    with product.open_run(tmp_path / "run") as opened:
        np.testing.assert_allclose(opened.metric("miou")[:, 0], values, atol=2e-3)
    assert "miou" in out and "best of 1001 thresholds" in " ".join(out.split())


def test_agreement_of_a_lower_precision_is_measured(made, tmp_path):
    pictures, run = made.parent / "pictures", tmp_path / "int8"
    low = ("extract", pictures, *SMALL, "--precision", "int8", "--executor", "local")
    assert shardcam(*low, "--shard-size", 8, "--out", run)[0] == 0
    code, out, err = evaluate(run, metrics="average_drop,deletion:torchcam,gini")
    assert code == 0, err
    summary = json.loads((run / "metrics" / "summary.json").read_text())
    found = summary["deletion-torchcam"]["details"]["agreement"]
    assert found["precision"] == "int8"
    assert (found["images"], found["pictures"]) == (7, 7 * 19)  # one of eight is no picture
    assert 0.5 < found["first_class"] <= 1
    assert 0 < found["mean_difference"] < found["largest_difference"] < 0.5
    assert summary["average_drop"]["details"]["agreement"]["pictures"] == 7
    assert "agreement" not in summary["gini"].get("details", {})
    assert "140 changed pictures of 7 images" in " ".join(out.split())
    assert "changed pictures in int8 with fp32: images: 8" in out
    before = {p: p.stat().st_mtime_ns for p in run.rglob("agreement.json")}
    code, out, _ = evaluate(run, metrics="deletion:torchcam")
    assert code == 0 and "133 changed pictures" in " ".join(out.split())
    assert "comparing changed" not in out
    assert {p: p.stat().st_mtime_ns for p in before} == before and len(before) == 2
    (run / "metrics" / "deletion-torchcam" / "agreement.json").write_text("{")
    assert "comparing changed" in evaluate(run, metrics="deletion:torchcam")[1]
    after = json.loads((run / "metrics" / "summary.json").read_text())
    assert after == summary


def test_verify_reads_what_was_measured(run):
    evaluate(run, metrics="gini")
    assert shardcam("verify", "--deep", run)[0] == 0
    (run / "metrics" / "gini" / "shards" / "shard-000001.h5").write_bytes(bytes(500))
    code, out, err = shardcam("verify", "--deep", run)
    assert code == 1 and "shard-000001.h5" in out and "evaluate --replace" in err


def test_a_metric_is_found_as_it_was_asked_for(run):
    evaluate(run, metrics="deletion:torchcam")
    with product.open_run(run) as opened:
        asked = opened.metric("deletion:torchcam")
        assert np.array_equal(asked, opened.metric("deletion-torchcam"))


def test_a_metric_that_was_stopped_is_told_with_what_goes_on(run, monkeypatch):
    write, written = MetricResults.write, []

    def killed(self, *arguments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(arguments)
        return write(self, *arguments)

    monkeypatch.setattr(MetricResults, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        product.evaluate(run, "gini", sample=20, seed=3, baselines=(), executor="local")
    monkeypatch.undo()
    resume = f"shardcam evaluate {run} --metrics gini --sample 20 --seed 3 --baselines none"
    told = f"gini: 8 of 20 images measured; resume with {resume}"
    assert f"metrics  {told}" in re.sub(" {2,}", "  ", shardcam("status", run)[1])
    assert f"not done  {told}" in re.sub(" {2,}", "  ", evaluate(run, metrics="complexity")[1])
    assert shardcam("report", run, "--no-photographs")[0] == 0
    assert told in words_of(run / "report.html")
    assert shardcam(*resume.split()[1:], "--executor", "local")[0] == 0
    assert "gini" not in shardcam("status", run)[1]


def test_metrics_that_were_stopped_together_go_on_by_one_command(run, monkeypatch):
    with product.open_run(run) as opened:
        rows = zip(opened.keys, opened["target"][:, 0].tolist())
        truth = run.parent / BOXES
        truth.write_text("".join(f"{key},{cls},1,1,9,9\n" for key, cls in rows))

    def killed(*arguments):
        raise KeyboardInterrupt

    def stopped(metrics, **options):
        with pytest.raises(KeyboardInterrupt):
            product.evaluate(run, metrics, executor="local", **options)

    monkeypatch.setattr(MetricResults, "write", killed)
    stopped(["gini", "deletion", "mass"], truth=truth, baselines=("centre",), sample=20)
    stopped(["complexity"])
    monkeypatch.undo()
    lines = [line for line in shardcam("status", run)[1].splitlines() if "resume with" in line]
    assert len(lines) == 2 and lines[0].endswith(f"evaluate {run} --metrics complexity")
    resume = (
        f"shardcam evaluate {run} --metrics deletion,gini,mass --truth {truth} --sample 20 "
        "--baselines centre"
    )
    counts = "deletion: 0 of 20, gini: 0 of 20, mass: 0 of 20 images measured"
    assert lines[1].strip() == f"{counts}; resume with {resume}"
    assert shardcam(*resume.split()[1:], "--executor", "local")[0] == 0
    assert "deletion" not in shardcam("status", run)[1]


def test_what_is_left_out_is_told_once_for_all_metrics(run, tmp_path):
    with product.open_run(run) as opened:
        rows = zip(opened.keys[:30], opened["target"][:30, 0].tolist())
        (tmp_path / BOXES).write_text("".join(f"{key},{cls},1,1,9,9\n" for key, cls in rows))
    _, out, _ = evaluate(run, "--truth", tmp_path / BOXES, metrics="energy,mass,pointing")
    told = [line for line in out.splitlines() if "picture not in the truth" in line]
    (line,) = told
    assert line.endswith("10 (picture not in the truth): energy, mass, pointing")


def test_places_without_a_class_are_no_images_without_one(made, tmp_path):
    with product.open_run(made) as opened:
        keys = opened.keys[:4]
    rows = zip(keys, ("1;2;3", "4", "", "5;6"))
    (tmp_path / "labels.csv").write_text(
        "".join(f"{a},{b}\n" for a, b in (("path", "labels"), *rows))
    )
    code, _, err = shardcam(
        "extract", made.parent / "pictures", *SMALL, "--out", tmp_path / "run", "--limit", 5,
        "--target", f"labels:{tmp_path}/labels.csv", "--executor", "local",
    )  # fmt: skip
    assert code == 0, err
    code, out, err = evaluate(tmp_path / "run", metrics="gini")
    assert code == 0, err
    assert "6" in out.split() and "no class to explain" not in out
    classes = np.array([[1, 2, 3], [4, -1, -1], [-1, -1, -1]])
    expected = [[True, True, True], [True, False, False], [True, False, False]]
    assert counted_places(classes).tolist() == expected
