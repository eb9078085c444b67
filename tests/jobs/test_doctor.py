from tests.jobs.command import shardcam


def test_a_working_machine(tmp_path):
    code, out, err = shardcam("doctor", "--out", tmp_path / "not" / "yet")
    assert code == 0, err
    for line in ("CPU build", "cached in", "an actor answered", "GiB free", "hard links"):
        assert line in out
    assert "not used: this MXNet was built without CUDA" in out


def test_a_place_that_cannot_be_written(tmp_path):
    code, out, err = shardcam("doctor", "--out", "/proc/1")
    assert code == 1
    assert "fail" in out
    assert "1 checks failed" in err
