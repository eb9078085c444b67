"""The first principal component of (16,2048,7,7) activations, against an SVD for each image.

The SVD has full matrices, as in pytorch-grad-cam. One thread:

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest benchmarks/test_components.py
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from shardcam.engine.methods.components import first_component
from shardcam.engine.types import F4

SHAPE = (16, 2048, 7, 7)


def by_svd(terms: F4) -> F4:
    maps = []
    for image in terms:
        rows = image.reshape(image.shape[0], -1).T
        rows = rows - rows.mean(axis=0)
        _, _, components = np.linalg.svd(rows, full_matrices=True)
        maps.append((rows @ components[0]).reshape(image.shape[1:]))
    return np.stack(maps)


@pytest.mark.parametrize("contender", ["gram", "svd"])
def test_first_component(benchmark: BenchmarkFixture, contender: str) -> None:
    benchmark.group = "first component of (16,2048,7,7)"
    terms = np.maximum(np.random.RandomState(0).standard_normal(SHAPE), 0).astype(np.float32)
    terms += np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7)  # so that one direction leads
    if contender == "svd":
        found = benchmark.pedantic(by_svd, (terms,), rounds=2)
        expected = first_component(terms)
        sign = np.sign((found * expected).sum(axis=(1, 2), keepdims=True))
        assert np.abs(sign * found - expected).max() < 1e-3 * np.abs(expected).max()
    else:
        benchmark(first_component, terms)
