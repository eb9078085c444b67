"""What the processor can do, as Linux says."""

from __future__ import annotations

from pathlib import Path

AVX2 = frozenset({"avx2", "fma"})
AVX512 = frozenset({"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"})


def features(description: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Names of the features of an x86 processor; none where they are not known."""
    try:
        with description.open() as lines:
            return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
    except OSError:
        return frozenset()
