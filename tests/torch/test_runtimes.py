"""The comparison of both runtimes, in small."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import runtimes
from benchmarks.photographs import write_photographs
from shardcam.engine.methods import METHODS

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.mark.parametrize("name", ["onnx/tiny.script", "tokens/vit.script"])
def test_both_are_compared_with_each_other_and_with_float64(name, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "NETWORKS", {name: (FIXTURES / f"{name}.onnx", None)})
    monkeypatch.setattr(runtimes, "MAPS", 0)  # all are compared with float64
    monkeypatch.setattr(runtimes, "LEAST_CHANNELS", 1)
    write_photographs(tmp_path / "photographs", 3)
    files = sorted((tmp_path / "photographs").iterdir())
    found = runtimes.Comparison(name, files, runtimes.Counts(3, 2, 1)).run()
    methods = {case.partition(" ")[0].rstrip(",") for case in found["gaps"]}
    reads = {method for method in METHODS if METHODS[method].reads_attention}
    assert methods - {"cam"} == METHODS.keys() - {"cam"} - (reads if "tiny" in name else set())
    assert max(found["logits"]) < runtimes.LOGITS
    assert all(found["same"])
    for case, values in found["gaps"].items():
        assert max(values) < (1e-3 if case.startswith(runtimes.DIVIDES) else 1e-4), case
    assert all(found["exact"][case] for case in found["gaps"] if "scorecam" in case)
    for case, rows in found["exact"].items():
        for *_, ours, theirs in rows:  # from float64
            assert max(ours, theirs) < (1e-3 if case.startswith(runtimes.DIVIDES) else 1e-4), case
    assert runtimes.row(name, found).count("|") == 9


def test_gaps():
    ours = np.array([[[4.0, 2.0]], [[0, 0]], [[0, 0]], [[np.nan, 1]], [[np.nan, 1]]])
    theirs = np.array([[[4.0, 1.0]], [[0, 0]], [[0, 1]], [[np.nan, 1]], [[1, 1]]])
    assert runtimes.gaps(ours, theirs).tolist() == [0.25, 0, np.inf, 0, np.inf]
