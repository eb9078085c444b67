"""What a run assumed and met is told at once or at its end, each time, and kept with it."""

import json
import shutil

import pytest

from tests.jobs.command import CHECKPOINT, SMALL, shardcam, shardcam_process, words_of
from tests.jobs.images import make_folder

WARNING = "--mean without --std: --std 58.395,57.12,57.375 was taken, ImageNet's"
SIZE = "the model file leaves the input's size open: --image-size 224 was taken"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run of the latest of two epochs, and what its command printed the first time."""
    base = tmp_path_factory.mktemp("notes") / "a <i> & b"
    base.mkdir()
    shutil.copy(CHECKPOINT, base / "net-symbol.json")
    for epoch in ("0003", "0012"):
        shutil.copy(CHECKPOINT.with_name("small-0000.params"), base / f"net-{epoch}.params")
    make_folder(base / "images", 2)
    command = ("extract", base / "images", "--model", base / "net-symbol.json", "--out")
    command += (base / "run", "--mean", "120,115,100", "--executor", "local")
    code, out, err = shardcam(*command)
    assert code == 0, err
    return base, command, " ".join(out.split())


def test_warnings_come_before_the_work(told):
    before, after = told[2].split("loading the network")
    assert f"WARNING: {WARNING}" in before
    assert f"warning {WARNING}" in after
    assert SIZE not in before


def test_all_of_it_comes_at_the_end_each_time_and_is_kept(told):
    base, command, out = told
    epoch = f"of 2 epochs the latest was taken: --params {base / 'net-0012.params'}"
    stored = json.loads((base / "run" / "report.json").read_text())["notes"]
    expected = [("warning", WARNING), ("assumed", epoch), ("assumed", SIZE)]
    assert [(note["kind"], note["text"]) for note in stored[:3]] == expected
    assert "--link softmax was taken" in stored[3]["text"]
    again = shardcam(*command)[1]
    status = shardcam("status", base / "run")[1]
    assert shardcam("report", base / "run")[0] == 0
    page = words_of(base / "run" / "report.html")
    assert "<i>" not in (base / "run" / "report.html").read_text()
    for text in (WARNING, epoch, SIZE):
        for where in (out, " ".join(again.split()), " ".join(status.split()), page):
            assert text in where


def test_a_report_that_cannot_be_read_is_no_obstacle(told, tmp_path):
    run = shutil.copytree(told[0] / "run", tmp_path / "run")
    for text in ("", "[]", '{"notes": [1]}', '{"notes": null}'):
        (run / "report.json").write_text(text)
        code, out, err = shardcam("status", run)
        assert (code, err) == (0, "")
        assert "warning" not in out


@pytest.mark.process
def test_the_choice_of_the_executor_is_told_once_and_not_kept(tmp_path):
    make_folder(tmp_path / "images", 2)
    command = ("extract", tmp_path / "images", *SMALL, "--out", tmp_path / "run")
    code, out, err = shardcam_process(*command)
    assert code == 0, err
    assert out.count("executor: local, for 2 images") == out.count("overrides it") == 1
    assert "overrides it" not in (tmp_path / "run" / "report.json").read_text()
