"""A run that version 0.1.0 wrote is opened, checked, exported and resumed by every later one.

Its command was ``shardcam extract images --model model/small-symbol.json --image-size 32 --mean
120,115,100 --std 60,60,60 --layer auto --layer one_relu --target top2 --label-from-folder --save
maps,activations,pooled,logits,heatmaps --shard-size 4 --executor local``.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shardcam import open_run
from tests.jobs.command import SMALL, contents, shardcam

STORED = Path(__file__).parent / "fixtures" / "run-0.1.0"
KEYS = [*(f"cats/größe {i}.png" for i in (0, 4, 8)),
        *(f"other/größe {i}.png" for i in (1, 2, 3, 5, 6, 7, 9))]  # fmt: skip
OPTIONS = (
    *("--mean", "120,115,100", "--std", "60,60,60", "--layer", "auto", "--layer", "one_relu"),
    *("--target", "top2", "--label-from-folder", "--shard-size", 4, "--executor", "local"),
    *("--save", "maps,activations,pooled,logits,heatmaps"),
)


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(STORED / "run", tmp_path / "run")


def assert_close(found, expected):
    """The same rows; another processor may round otherwise."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=1e-4, err_msg=name)
        elif name == "heatmap":
            assert abs(found[name].astype(int) - values).max() <= 1
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_it_is_opened(run):
    with open_run(run) as opened:
        assert opened.keys == KEYS
        assert opened.layers == opened.activation_layers == ("two_relu", "one_relu")
        assert opened["label"][:].tolist() == [0] * 3 + [1] * 7
        assert opened["flags"][:].tolist() == [0] * 10
        assert opened["target"][:, 0].tolist() == [3, 3, 3, 3, 3, 2, 3, 3, 2, 3]
        assert opened["score"][0] == pytest.approx([0.6784471, 0.0955503])
        assert opened["logits"][0, 3] == pytest.approx(2.5337496)
        assert opened["crop"][0].tolist() == [4, 0, 44, 40]
        assert opened.cam("two_relu")[:].shape == (10, 2, 8, 8)
        assert opened.cam("two_relu")[0, 0, 0, 1] == pytest.approx(0.05603074, rel=1e-6)
        (failure,) = opened.failures
        assert (failure.key, failure.sample, failure.error) == ("other/cut.png", 3, "undecodable")


@pytest.mark.parametrize("how", [(), ("--deep",)], ids=["", "deep"])
def test_it_is_verified(run, how):
    code, out, err = shardcam("verify", run, *how)
    assert (code, err) == (0, "")
    assert "11 listed = 10 ok + 1 failed; all shards good" in out


def test_it_is_exported(run, tmp_path):
    code, _, err = shardcam(
        "export", run, "--to", "coco", "--layer", "two_relu", "--out", tmp_path / "coco.json"
    )
    assert (code, err) == (0, "")
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == KEYS
    assert {category["id"] for category in coco["categories"]} == {2, 3}
    assert {one["image_id"] for one in coco["annotations"]} == {i["id"] for i in coco["images"]}


def test_its_index_is_made_anew(run):
    before = contents(run)
    (run / "index.h5").unlink()
    for merge in ((), ("--merge",)):
        code, _, err = shardcam("index", run, *merge)
        assert (code, err) == (0, "")
        assert_close(contents(run), before)


def test_it_is_resumed(run):
    before, manifest = contents(run), json.loads((run / "run.json").read_text())
    (run / "shards" / "shard-000001.h5").unlink()
    code, out, err = shardcam("extract", STORED / "images", *SMALL, *OPTIONS, "--out", run)
    assert code == 0, err
    assert "3, of which 1 done now" in out
    assert "11 listed = 10 ok + 1 failed" in out
    assert json.loads((run / "run.json").read_text())["fingerprint"] == manifest["fingerprint"]
    assert_close(contents(run), before)
    assert shardcam("verify", run, "--deep")[0] == 0
