"""Files that commands write: refused before anything is computed, unless they can be written."""

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


@pytest.mark.parametrize(("command", "option"), COMMANDS)
def test_no_file_is_replaced_unasked_and_no_folder_made_for_one(tmp_path, command, option):
    there = tmp_path / "there.png"
    there.write_text("mine")
    told = {
        there: "exists; --force replaces it",
        tmp_path / "none" / "new.png": f"there is no folder {tmp_path / 'none'}",
    }
    for place, words in told.items():
        code, _, err = shardcam(*command, option, place)
        assert code == 2 and words in err and err.startswith(f"shardcam: {option} {place}: ")
    code, _, err = shardcam(*command, option, tmp_path)
    assert code == 2 and option in err
    assert there.read_text() == "mine" and sorted(tmp_path.iterdir()) == [there]
    _, _, err = shardcam(*command, option, there, "--force")
    assert option not in err
