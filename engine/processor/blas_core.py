"""What OpenBLAS is told of the processor.

MXNet 1.9.1 and NumPy 1.23 bring copies of OpenBLAS that take a processor newer than they are for
one without AVX, where a matrix product of NumPy takes five times as long.
"""

from __future__ import annotations

import os
from collections.abc import Collection, MutableMapping

from shardcam.engine.processor.cpu_features import AVX2, AVX512, features

CORES = {"SKYLAKEX": AVX512, "HASWELL": AVX2}  # what a core's kernels use, the best first


def name_core(
    known: Collection[str] | None = None, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Name the core by its features, unless somebody has; libraries look when they load."""
    known = features() if known is None else known
    core = next((name for name, needed in CORES.items() if needed <= {*known}), None)
    if core:
        environment.setdefault("OPENBLAS_CORETYPE", core)
