import pytest

from shardcam.engine.errors import ConfigError
from shardcam.jobs.cluster.node_checks import check_cluster, examine_node, versions
from shardcam.jobs.measuring.machine_checks import Finding
from tests.jobs.command import shardcam_process


@pytest.mark.ray
def test_a_working_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # not asked
    code, out, err = shardcam_process("doctor", "--out", tmp_path / "not" / "yet")
    assert code == 0, (out, err)
    for line in ("CPU build", "cached in", "an actor answered", "GiB free", "hard links"):
        assert line in out
    assert "RAY_ADDRESS=127.0.0.1:1: runs will join it" in out
    assert "none is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES" in out


@pytest.mark.ray
def test_a_place_that_cannot_be_written(tmp_path):
    code, out, err = shardcam_process("doctor", "--out", "/proc/1")
    assert code == 1
    assert "fail" in out
    assert "1 checks failed" in err, out


def test_a_node_of_other_versions_that_does_not_see_the_folder(tmp_path):
    here = versions()
    found = dict(examine_node(here | {"numpy": "2.0"}, str(tmp_path / "none")))
    assert found["versions"] == Finding(
        "fail", f"other than the driver's: numpy {here['numpy']}, not 2.0"
    )
    assert found["shared"] == Finding("fail", f"{tmp_path} is not the folder that the driver sees")
    assert found["python"].state == "ok"


def test_addresses_of_no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for address in ("http://head:8265", "auto"):
        with pytest.raises(ConfigError, match="takes HOST:PORT"):
            check_cluster(address, None)
