"""Which class wins each pixel by how many thresholds, as NumPy counts it."""

from __future__ import annotations

import numpy as np
import pytest

from shardcam import kernels


@pytest.mark.parametrize("evenly", [True, False])
@pytest.mark.parametrize("classes", [1, 4])
def test_equals_numpy_on_scores_full_of_ties(
    classes: int, evenly: bool, rng: np.random.Generator
) -> None:
    grid = (np.arange(101) / 100).astype(np.float32)
    thresholds = np.ascontiguousarray(grid[1:-1]) if evenly else np.sort(rng.choice(grid, 9, False))
    scores = grid[rng.integers(0, 101, (classes, 23, 18))] - np.float32(rng.integers(0, 2))
    scores += rng.choice(np.array([0, 1e-7], np.float32), scores.shape)
    kinds = rng.choice(np.array([0, 1, 2, 255], np.uint8), (23, 18))
    found = kernels.argmax_histogram(scores, kinds, thresholds, 3)
    expected = np.zeros((3, classes, len(thresholds) + 1), np.int64)
    known = kinds < 3
    below = np.searchsorted(thresholds, scores.max(axis=0))
    np.add.at(expected, (kinds[known], scores.argmax(axis=0)[known], below[known]), 1)
    np.testing.assert_array_equal(found, expected)


def test_refuses_and_names_the_argument() -> None:
    scores, kinds = np.ones((2, 3, 4), np.float32), np.ones((3, 4), np.uint8)
    thresholds = np.arange(3, dtype=np.float32)
    for arguments, name in (
        ((scores.astype(np.float64), kinds, thresholds), "scores"),
        ((scores[:0], kinds, thresholds), "scores"),
        ((scores, kinds[:2], thresholds), "kinds"),
        ((scores, kinds, thresholds[None]), "thresholds"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
            kernels.argmax_histogram(*arguments, 2)
