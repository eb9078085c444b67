"""2,000 damaged files of every format: none ends the process, and each is accounted for."""

import csv
import json

import h5py
import numpy as np
import pytest

from shardcam.engine.types import Flag
from tests.faults.damaged_images import DIED, FAILED, FLAGGED, outcomes, write_files
from tests.jobs.command import SMALL, shardcam_process

pytestmark = [pytest.mark.slow, pytest.mark.process]
COUNT = 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("damaged")
    (base / "files").mkdir()
    write_files(base / "files", COUNT)
    return base


def test_no_file_ends_the_process_and_each_has_a_row(folder, tmp_path):
    found, told = outcomes("ours", folder / "files", tmp_path / "ours.txt")
    assert len(found) == COUNT
    assert [name for name, outcome in found.items() if outcome == DIED] == []
    assert len(told.splitlines()) < COUNT / 20  # what the libraries print

    run = tmp_path / "run"
    code, _, err = shardcam_process(
        "extract", folder / "files", *SMALL, "--executor", "local", "--out", run
    )
    assert code == 0, err
    report = json.loads((run / "report.json").read_text())
    assert report["listed"] == COUNT == report["ok"] + report["failed"]
    with (run / "failures.csv").open(newline="") as stream:
        failed = {row["key"] for row in csv.DictReader(stream)}
    assert failed == {name for name, outcome in found.items() if outcome == FAILED}
    with h5py.File(run / "index.h5") as index:
        keys, flags = index["key"].asstr()[:], index["flags"][:]
    flagged = set(keys[np.bitwise_and(flags, Flag.DAMAGED) > 0])
    assert flagged == {name for name, outcome in found.items() if outcome == FLAGGED}
    assert failed | set(keys) == found.keys()
