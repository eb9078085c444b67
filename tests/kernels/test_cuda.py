"""The CUDA kernels in Numba's simulator of a GPU, which takes Numba's place when it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).with_name("cuda_kernels.py")


@pytest.mark.process
def test_in_the_simulator():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    child = subprocess.run(
        [*command, "-m", "", TESTS],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stdout[-3000:]
    assert " passed" in child.stdout
