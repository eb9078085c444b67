"""The figures are of the right kind, agree with each other, and are saved and drawn."""

import json

import cv2
import pytest

from shardcam.jobs.measuring import stage_ceilings
from shardcam.jobs.measuring.stage_ceilings import seconds_per_image
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
        "throughput", images, *SMALL, "--sweep", "--json", figures, "--plot", picture,
        "--out", tmp_path, "--images", 32,
    )  # fmt: skip
    assert code == 0, err
    assert "32 images only: the figures are rough" in out
    assert "-bound: " in out
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
    assert tried[:3] == [(8, "fp32"), (32, "fp32"), (128, "fp32")]
    assert tried[3][1] == "int8"
    assert cv2.imread(str(picture)).shape[1] > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "sweep.png"]


@pytest.mark.slow
def test_two_workers_measure_at_once(images, tmp_path):
    figures = tmp_path / "figures.json"
    command = ("throughput", images, *SMALL[:4], "--workers", 2, "--json", figures)
    code, out, err = shardcam(*command)
    assert code == 0, err
    measured = json.loads(figures.read_text())
    per_image = sum(1 / rate for rate in measured["alone"].values())
    workers = measured["whole"]["workers"]  # the first may have done it all
    assert measured["limit"] == pytest.approx(workers / per_image)
    assert f"with {workers} x 1 cores" in out


def test_on_a_gpu_decoding_goes_on_beside_the_network():
    alone = {"read": 1000, "decode": 500, "forward": 400, "head": 400, "map": 400, "write": 400}
    on_cpu = alone | {"normalise": 1000}  # a GPU does it as a part of the pass
    assert seconds_per_image(on_cpu, gpu=False) == pytest.approx(0.014)
    assert seconds_per_image(alone, gpu=True) == pytest.approx(0.010)
    assert seconds_per_image(alone | {"decode": 50}, gpu=True) == pytest.approx(0.021)


def test_bad_input_is_one_line(images, tmp_path):
    code, _, err = shardcam("throughput", images, *SMALL, "--plot", tmp_path / "a.png")
    assert code == 2
    assert err == "shardcam: --plot: add --sweep, which it draws\n"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    code, _, err = shardcam("throughput", tmp_path / "broken", *SMALL)
    assert code == 1
    assert err.endswith("none of its first images can be used\n")
