"""int8 from the command line: calibrated once, told honestly, resumable."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import StoreError
from shardcam.engine.run import prepare as wiring
from shardcam.engine.run.calibration import Calibration, read_calibration
from shardcam.engine.run.prepare import prepare
from shardcam.engine.rundir.run_dir import RunDir
from tests.jobs.command import assert_same, contents, shardcam
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
    low, high = stored["top1_interval"]
    hits = round(18 * stored["top1_agreement"])
    scipy = binomtest(hits, 18).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((scipy.low, scipy.high), abs=1e-4)
    assert f"first class {hits / 18:.0%} (95 % interval {low:.0%} to {high:.0%}), maps" in out
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
    assert code == 2
    assert "precision: int8 there, fp32 now" in err


def test_the_next_run_finds_the_calibration(tmp_path, monkeypatch):
    make_folder(tmp_path / "images", 6)
    common = ("extract", tmp_path / "images", *LITE0, "--precision", "int8", "--out")

    def extract(number, *options):
        code, out, err = shardcam(*common, tmp_path / f"run{number}", *options)
        assert code == 0, err
        assert "calibrated on 3 images" in out
        return "int8: the calibration is that of an earlier run" in out

    assert not extract(0)
    assert not extract(1, "--calibration-cache", "off")
    with monkeypatch.context() as patch:
        patch.setattr(wiring, "calibrate_on_source", None)
        assert extract(2)
    assert_same(contents(tmp_path / "run2"), contents(tmp_path / "run0"))
    stored = [json.loads((tmp_path / f"run{n}" / "calibration.json").read_text()) for n in range(3)]
    assert stored[0] == stored[1] == stored[2]
    assert set(stored[0]["rounding"])


def test_a_calibration_of_before_has_the_digest_of_before(tmp_path):
    run_dir = RunDir(tmp_path)
    old = {"ranges": {"data": [-1.0, 1.0]}, "keep_first": False, "images": 1, "held_out": 0}
    run_dir.calibration.write_text(
        json.dumps({**old, "top1_agreement": None, "map_correlation": None})
    )
    numbers = json.dumps([old["ranges"], False], sort_keys=True)
    found = read_calibration(run_dir)
    assert found.digest == hashlib.sha256(numbers.encode()).hexdigest()
    assert not found.quantization.folded
    assert dataclasses.replace(found, folded=True).digest != found.digest


def test_nothing_to_calibrate_on(tmp_path):
    make_folder(tmp_path / "images", 4, bad=4)
    code, _, err = shardcam(
        "extract", tmp_path / "images", *LITE0, "--max-pixels", 10**6, "--precision", "int8",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert "nothing to calibrate int8 on" in err
    assert not (tmp_path / "run").exists()


@pytest.fixture
def int8(tmp_path, monkeypatch):
    """Options of a run, and the calibrations that are made for it, each another one."""
    make_folder(tmp_path / "images", 4)
    made = []

    def calibrate(*_, **__):
        made.append(Calibration({"data": (0.0, len(made) + 1.0)}, False, 2, 2, 1.0, 1.0, (1.0,)))
        return made[-1]

    monkeypatch.setattr(wiring, "calibrate_on_source", calibrate)
    options = {"source": str(tmp_path / "images"), "out": str(tmp_path / "run")}
    options |= {"model": "efficientnet_lite0", "precision": "int8", "calibration_cache": "off"}
    return RunConfig(**options), made


@pytest.mark.parametrize("killed", ["listing.zip", "calibration.json", "run.json"])
def test_killed_while_it_begins_a_run_is_none_or_whole(int8, killed, monkeypatch):
    """Whatever machine comes next: its calibration is another one, and it can be resumed."""
    config, made = int8
    replace = Path.replace

    def until(path, target):
        if Path(target).name == killed:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", until)
        prepare(config)
    assert not (Path(config.out) / "run.json").exists()
    begun = prepare(config)
    assert (begun.resumed, begun.listed) == (False, True)
    assert read_calibration(begun.run_dir) == begun.calibration == made[-1]
    count = len(made)
    assert prepare(config).resumed
    assert len(made) == count


def test_a_calibration_that_cannot_be_read_now_is_not_called_damaged(tmp_path):
    run_dir = RunDir(tmp_path)
    run_dir.calibration.mkdir()
    with pytest.raises(StoreError, match=r"calibration\.json: cannot be read now: Is a directory$"):
        read_calibration(run_dir)


def test_a_calibration_that_is_missing_is_written_when_the_run_is_resumed(int8):
    config, made = int8
    paths = prepare(config).run_dir
    paths.calibration.unlink()
    made.clear()
    assert prepare(config).resumed
    assert read_calibration(paths) == made[0]


def test_at_a_url_run_json_is_uploaded_last(int8, memory):
    config, _ = int8
    prepare(config.model_copy(update={"out": "memory://bucket/run"}))
    published = [name for name in memory.store if not name.rpartition("/")[2].startswith(".")]
    assert published == [
        f"/bucket/run/{name}"
        for name in ("listing.zip", "calibration.json", "class_names.json", "run.json")
    ]
