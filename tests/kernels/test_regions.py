"""Runs of a label: as a plain search finds them, wherever its box touches the picture's edges."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from shardcam import kernels
from tests.kernels import reference


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 5), (6, 8)])
def test_equals_its_twin_in_every_box(shape: tuple[int, int]) -> None:
    random, (height, width) = np.random.default_rng(0), shape
    for top, bottom, left, right in product(
        *(range(n + 1) for n in (height, height, width, width))
    ):
        if top >= bottom or left >= right:
            continue
        for values in (3, 1):  # also nothing but the label
            labels = np.zeros(shape, np.int32)
            inner = labels[top:bottom, left:right]
            inner[:] = random.integers(4 - values, 4, inner.shape)
            found = kernels.run_lengths(labels, 3, (top, left, bottom, right))
            np.testing.assert_array_equal(found, reference.run_lengths(labels, 3))


def test_refuses_and_names_the_argument() -> None:
    labels = np.zeros((4, 6), np.int32)
    for wrong in (labels.astype(np.int64), labels[None], labels[:, ::2]):
        with pytest.raises((TypeError, ValueError), match=r"^labels: "):
            kernels.run_lengths(wrong, 1, (0, 0, 4, 3))
    for box in ((0, 0, 5, 6), (-1, 0, 4, 6), (2, 0, 2, 6), (0, 0, 4, 7)):
        with pytest.raises(ValueError, match=r"^box: expected a part of 4x6 pixels, got"):
            kernels.run_lengths(labels, 1, box)
