"""The figures are of the right kind, agree with each other, and are saved and drawn."""

import json
import re
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import shardcam.jobs.measuring.sweep as sweeping
from shardcam.engine.config import RunConfig
from shardcam.jobs.commands.throughput import print_sweep
from shardcam.jobs.looking import evaluation_plots
from shardcam.jobs.measuring import stage_ceilings, start_together
from shardcam.jobs.measuring.stage_ceilings import seconds_per_image
from shardcam.jobs.measuring.timed_runs import Whole
from shardcam.jobs.terminal import make_console
from tests.jobs.command import shardcam
from tests.jobs.images import make_folder

SMALL = ("--model", "efficientnet_lite0", "--image-size", "64", "--executor", "local")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("throughput") / "images"
    make_folder(folder, 40)
    return folder


def test_stages_whole_and_sweep(images, tmp_path, monkeypatch):
    monkeypatch.setattr(stage_ceilings, "SECONDS", 0.2)
    figures, picture = tmp_path / "figures.json", tmp_path / "sweep.png"
    code, out, err = shardcam(
        "throughput", images, *SMALL, "--sweep", "--rounds", 2, "--json", figures,
        "--plot", picture, "--out", tmp_path, "--images", 32,
    )  # fmt: skip
    assert code == 0, err
    assert "32 images only: the figures are rough" in out
    assert "-bound: " in out
    assert "measuring each stage by itself: decode (2 of 7)" in out
    assert "resuming" not in out
    assert "best: " in out
    measured = json.loads(figures.read_text())
    assert list(measured["alone"]) == [
        "read",
        "decode",
        "normalise",
        "forward",
        "head",
        "map",
        "write",
    ]
    per_image = sum(1 / rate for rate in measured["alone"].values())
    whole = measured["whole"]
    assert (whole["workers"], whole["images"]) == (1, 32)
    assert measured["limit"] == pytest.approx(1 / per_image)
    assert measured["reached"] == pytest.approx(whole["images_per_second"] * per_image)
    tried = [(one["batch_size"], one["precision"]) for one in measured["sweep"]]
    assert tried[:3] == [(8, "fp32"), (32, "fp32"), (8, "int8")]  # none of them twice
    assert measured["sweep"][0] == whole
    for one in measured["sweep"]:
        assert len(one["rounds"]) >= 2
        assert one["images_per_second"] == pytest.approx(np.median(one["rounds"]))
    assert cv2.imread(str(picture)).shape[1] > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "sweep.png"]


def setting(*rounds, **more):
    """A setting with these images/s in its runs."""
    found = {"workers": 2, "cpus_per_worker": 1, "batch_size": 32, "precision": "fp32"} | more
    middle = float(np.median(rounds))
    return Whole(**found, images=256, rounds=rounds, images_per_second=middle, bottleneck=None)


def test_a_sweep_takes_turns_and_tries_what_helped_together(monkeypatch):
    """The machine gets slower from run to run: no setting may look slower for that alone."""
    order = []

    def run(config, images):
        order.append((config.batch_size, config.precision))
        rate = 100.0 * (1.5 if config.precision == "int8" else 1) * (1 + (config.batch_size == 128))
        return setting(rate - len(order) / 10, batch_size=config.batch_size,
                       precision=config.precision)  # fmt: skip

    monkeypatch.setattr(sweeping, "measure_whole", run)
    config = RunConfig(source="x", model="m", out="o", executor="local", workers=None)
    tried = sweeping.sweep(config, setting(100.0), 3, make_console())
    one_round = [(8, "fp32"), (128, "fp32"), (32, "int8")]
    assert order == [
        *one_round, *(2 * [(32, "fp32"), *one_round]), *(3 * [(32, "fp32"), (128, "int8")]),
    ]  # fmt: skip
    assert [len(one.rounds) for one in tried] == [6, 3, 3, 3, 3]
    assert max(tried, key=lambda one: one.images_per_second).name.endswith("of 128, int8")


def test_settings_whose_runs_overlap_are_not_ranked(capsys):
    first = setting(100.0, 110.0, 90.0)
    unlucky, slow = setting(120.0, 109.0, 130.0, batch_size=8), setting(50.0, 60.0, batch_size=9)
    print_sweep([first, unlucky, slow], make_console())
    out = capsys.readouterr().out
    assert re.search(r"batches of 8, fp32 +120\.0 +109\.0 to 130\.0 +no difference", out)
    assert re.search(r"batches of 9, fp32 +55\.0 +50\.0 to 60\.0 +0\.55x", out)
    assert "best: the first; no other setting was faster in every run" in out
    print_sweep([first, setting(111.0, 140.0, batch_size=8)], make_console())
    assert "best: 125.5 images/s with 2 x 1 core, batches of 8" in capsys.readouterr().out


def test_workers_begin_together(tmp_path, monkeypatch):
    """The first one that is ready waits for the second."""
    monkeypatch.setattr(start_together, "build_runner", lambda spec: None)
    monkeypatch.setattr(start_together.os, "getpid", threading.get_ident)
    config = RunConfig(source="x", model="m", out=str(tmp_path), workers=2)
    spec = SimpleNamespace(config=config)
    first = threading.Thread(target=start_together.StartTogether, args=(spec,))
    first.start()
    first.join(0.2)
    assert first.is_alive()
    start_together.StartTogether(spec)
    first.join(10)
    assert not first.is_alive()


@pytest.mark.slow
def test_two_workers_measure_at_once(images, tmp_path):
    figures = tmp_path / "figures.json"
    command = ("throughput", images, *SMALL[:4], "--workers", 2, "--json", figures)
    code, out, err = shardcam(*command)
    assert code == 0, err
    measured = json.loads(figures.read_text())
    per_image = sum(1 / rate for rate in measured["alone"].values())
    assert measured["limit"] == pytest.approx(2 / per_image)
    assert "with 2 x 1 core" in out


def test_on_a_gpu_decoding_goes_on_beside_the_network():
    alone = {"read": 1000, "decode": 500, "forward": 400, "head": 400, "map": 400, "write": 400}
    on_cpu = alone | {"normalise": 1000}  # a GPU does it as a part of the pass
    assert seconds_per_image(on_cpu, gpu=False) == pytest.approx(0.014)
    assert seconds_per_image(alone, gpu=True) == pytest.approx(0.010)
    assert seconds_per_image(alone | {"decode": 50}, gpu=True) == pytest.approx(0.021)


def test_bad_input_is_one_line(images, tmp_path, monkeypatch):
    code, _, err = shardcam("throughput", images, *SMALL, "--plot", tmp_path / "a.png")
    assert code == 2
    assert err == "shardcam: --plot: add --sweep, which it draws\n"
    code, out, err = shardcam("throughput", images, *SMALL, "--sweep", "--plot", tmp_path / "a.gif")
    assert (code, out) == (2, "") and "ends in .png or .svg or .pdf\n" in err
    monkeypatch.setattr(evaluation_plots, "find_spec", lambda name: None)
    code, out, err = shardcam("throughput", images, *SMALL, "--sweep", "--plot", tmp_path / "a.png")
    assert (code, out) == (2, "") and "needs matplotlib: install" in err
    code, _, err = shardcam("throughput", images, *SMALL, "--executor", "local", "--part", "1/2")
    assert code == 2
    assert err == "shardcam: --part: leave it out: whole runs are measured\n"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    code, _, err = shardcam("throughput", tmp_path / "broken", *SMALL)
    assert code == 2
    assert err.endswith("none of its first images can be used\n")
