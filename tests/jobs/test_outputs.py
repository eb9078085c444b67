"""Files that commands write: refused before anything is computed, unless they can be written."""

from pathlib import Path

import pytest

from tests.jobs.command import shardcam

COMMANDS = [
    (("compare", "a", "b"), "--csv"),
    (("compare", "a", "b"), "--plot"),
    (("evaluate", "a", "--metrics", "gini"), "--csv"),
    (("evaluate", "a", "--metrics", "gini"), "--plot"),
    (("export", "a", "--to", "coco"), "--out"),
    (("index", "a", "--merge"), "--out"),
    (("report", "a"), "--out"),
    (("throughput", "a"), "--json"),
    (("throughput", "a", "--sweep"), "--plot"),
]


FOLDERS = [
    ("activations", "a", "--model", "b"),
    ("compare", "a", "b"),
    ("demo", "a"),
    ("export", "a", "--to", "heatmaps"),
    ("export", "a", "--to", "zarr"),
    ("extract", "a", "--model", "b"),
    ("filters", "a"),
    ("mosaic", "a"),
    ("sanity", "a"),
    ("train-mnist",),
]


@pytest.mark.parametrize("command", FOLDERS, ids=" ".join)
def test_a_folder_that_cannot_be_is_refused_before_the_work(tmp_path, command):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    for out in ("file/new", "file/new/er", "n" * 300, "loop/new", "/proc/new/er"):
        code, printed, err = shardcam(*command, "--out", tmp_path / out)
        assert (code, printed, err.count("\n")) == (2, "", 1), err
        assert err.startswith(f"shardcam: --out {tmp_path / out}"), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.parametrize(("command", "option"), COMMANDS)
def test_no_file_is_replaced_unasked_and_no_folder_made_for_one(tmp_path, command, option):
    there = tmp_path / "there.png"
    there.write_text("mine")
    told = {
        there: "exists; --force replaces it",
        tmp_path / "none" / "new.png": f"there is no folder {tmp_path / 'none'}",
        there / "new.png": f"{there} is a file, not a folder",
        tmp_path / ("n" * 300 + ".png"): "cannot be written: a name in it is too long",
        Path("/proc/new.png"): "cannot be written: No such file or directory",
    }
    for place, words in told.items():
        code, _, err = shardcam(*command, option, place)
        assert code == 2 and words in err and err.startswith(f"shardcam: {option} {place}: ")
    code, _, err = shardcam(*command, option, tmp_path)
    assert code == 2 and option in err
    assert there.read_text() == "mine" and sorted(tmp_path.iterdir()) == [there]
    _, _, err = shardcam(*command, option, there, "--force")
    assert option not in err
