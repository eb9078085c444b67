"""OpenBLAS uses what the processor has, also on one that is newer than it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardcam.engine.processor.blas_core import name_core
from shardcam.engine.processor.cpu_features import features

ROOT = Path(__file__).parent.parent.parent
AVX512 = "avx2 fma avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    ("flags", "before", "after"),
    [
        (AVX512, {}, {"OPENBLAS_CORETYPE": "SKYLAKEX"}),
        (AVX512.replace("avx512bw", ""), {}, {"OPENBLAS_CORETYPE": "HASWELL"}),
        ("avx2 fma", {}, {"OPENBLAS_CORETYPE": "HASWELL"}),
        ("avx sse4_2", {}, {}),
        (AVX512, {"OPENBLAS_CORETYPE": "Zen"}, {"OPENBLAS_CORETYPE": "Zen"}),
    ],
)
def test_the_core_is_named_by_its_features(tmp_path, flags, before, after):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")
    environment = dict(before)
    name_core(features(file), environment)
    assert environment == after


def test_no_core_is_named_where_features_are_not_known(tmp_path):
    environment = {}
    name_core(features(tmp_path / "missing"), environment)
    (tmp_path / "arm").write_text("Features\t: fp asimd\n")
    name_core(features(tmp_path / "arm"), environment)
    assert environment == {}


@pytest.mark.process
@pytest.mark.skipif(" avx2 " not in Path("/proc/cpuinfo").read_text(), reason="no AVX2")
def test_no_library_takes_the_processor_for_one_without_avx():
    code = "import shardcam\nimport numpy\nfrom shardcam.engine.models.import_mxnet import *\n"
    environment = {key: os.environ[key] for key in os.environ if key != "OPENBLAS_CORETYPE"}
    environment |= {"PYTHONPATH": str(ROOT), "OPENBLAS_VERBOSE": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code + "import_mxnet()"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert "Core: " in printed
    assert "Prescott" not in printed
