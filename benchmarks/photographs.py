"""JPEG files that cost what photographs cost: cuts of those that scikit-image ships."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from skimage import data

NAMES = ("astronaut", "chelsea", "coffee", "rocket")
SIZE, QUALITY = (500, 375), 90  # width, height


def write_photographs(
    folder: Path, count: int, seed: int = 0, sizes: Sequence[tuple[int, int]] = (SIZE,)
) -> None:
    """Write 0000000.jpg and so on: cuts of random place, and of `sizes` in turn.

    A cut of 500x375 has about 39 KB.
    """
    folder.mkdir(parents=True)
    rng = np.random.RandomState(seed)
    pictures = [getattr(data, name)()[..., ::-1] for name in NAMES]
    for i in range(count):
        picture = pictures[i % len(pictures)]
        size = across, down = sizes[i % len(sizes)]
        height = rng.randint(200, min(picture.shape[0], picture.shape[1] * down // across))
        width = height * across // down
        top = rng.randint(picture.shape[0] - height + 1)
        left = rng.randint(picture.shape[1] - width + 1)
        cut = np.ascontiguousarray(picture[top : top + height, left : left + width])
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
        path = folder / f"{i:07d}.jpg"
        assert cv2.imwrite(str(path), cut, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
