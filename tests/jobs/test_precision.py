"""int8 from the command line: calibrated once, told honestly, resumable."""

import json

import numpy as np
import pytest

from tests.jobs.command import assert_same, contents, refused, shardcam
from tests.jobs.images import make_folder

LITE0 = ("--model", "efficientnet_lite0", "--image-size", "64", "--executor", "local")


def test_int8_run_is_calibrated_once_and_resumed(tmp_path):
    make_folder(tmp_path / "images", 40, bad=4)
    common = ("extract", tmp_path / "images", *LITE0, "--max-pixels", 10**6, "--precision", "int8")
    code, out, err = shardcam(*common, "--out", tmp_path / "run")
    assert code == 0, err
    assert "calibrated on 18 images" in out
    assert "on 18 other images: first class" in out
    stored = json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert (stored["images"], stored["held_out"]) == (18, 18)
    assert 0 <= stored["top1_agreement"] <= 1
    assert 0.5 < stored["map_correlation"] < 1
    each = stored["correlations"]
    assert len(each) == 18
    assert np.mean(each) == pytest.approx(stored["map_correlation"])
    assert f"{min(each):.3f} at least" in out
    loud = stored["top1_agreement"] < 0.9 or stored["map_correlation"] < 0.95
    assert ("WARNING" in out) == loud
    before = contents(tmp_path / "run")
    (tmp_path / "run" / "shards" / "shard-000001.h5").unlink()
    code, out, err = shardcam(*common, "--out", tmp_path / "run")
    assert code == 0, err
    assert "1 done now" in out
    assert_same(contents(tmp_path / "run"), before)
    code, _, err = shardcam(*common[:-1], "fp32", "--out", tmp_path / "run")
    assert code == 1
    assert "precision: int8 there, fp32 now" in err


def test_nothing_to_calibrate_on(tmp_path):
    make_folder(tmp_path / "images", 4, bad=4)
    code, _, err = refused(
        "extract", tmp_path / "images", *LITE0, "--max-pixels", 10**6, "--precision", "int8",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 1
    assert "nothing to calibrate int8 on" in err
    assert not (tmp_path / "run").exists()
