"""Scores of pixels in bins, as NumPy's histogram has them."""

from __future__ import annotations

import numpy as np
import pytest

from shardcam import kernels


@pytest.mark.parametrize("interval", [0.1, 0.01, 0.001, 0.3])
def test_equals_numpy_also_on_the_edges(interval: float, rng: np.random.Generator) -> None:
    edges = np.append(np.arange(0, 1, interval), [1, 2])
    scores = np.concatenate([rng.random(3000), edges, np.nextafter(edges, 0).clip(0)])
    scores = scores[: len(scores) // 2 * 2].reshape(2, -1)
    kinds = rng.integers(0, 3, scores.shape).astype(np.uint8)
    found = kernels.score_histogram(scores, kinds, edges)
    for kind in (0, 1):
        expected, _ = np.histogram(scores[kinds == kind], np.append(edges, np.inf))
        np.testing.assert_array_equal(found[kind], expected)


def test_refuses_and_names_the_argument() -> None:
    scores, kinds, edges = np.ones((3, 4)), np.ones((3, 4), np.uint8), np.arange(3.0)
    for arguments, name in (
        ((scores.astype(np.float32), kinds, edges), "scores"),
        ((scores, kinds[:2], edges), "kinds"),
        ((scores, kinds, edges[None]), "edges"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
            kernels.score_histogram(*arguments)
