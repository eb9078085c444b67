"""What OpenBLAS is told of the processor.

MXNet 1.9.1 and NumPy 1.23 bring copies of OpenBLAS that take a processor newer than they are for
one without AVX, where a matrix product of NumPy takes five times as long.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

CORES = {  # the features that a core's kernels use, the best first
    "SKYLAKEX": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
    "HASWELL": {"avx2", "fma"},
}


def name_core(
    processor: Path = Path("/proc/cpuinfo"), environment: MutableMapping[str, str] = os.environ
) -> None:
    """Name the core by its features, unless somebody has; libraries look when they load."""
    try:
        with processor.open() as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return
    known = {*flags.split()}
    core = next((name for name, needed in CORES.items() if needed <= known), None)
    if core:
        environment.setdefault("OPENBLAS_CORETYPE", core)
