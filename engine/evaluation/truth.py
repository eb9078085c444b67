"""What is known of pictures: where the objects of which classes are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shardcam.engine.types import U1

Mask = Callable[[], U1]  # reads (height,width), above 0 where the object is


@dataclass(frozen=True)
class Region:
    """An object of a picture."""

    label: int
    box: tuple[float, float, float, float] | None  # x0, y0, x1, y1 in pixels of the picture
    mask: Mask | None = None
    difficult: bool = False


@dataclass(frozen=True)
class ImageTruth:
    """The objects of a picture."""

    regions: tuple[Region, ...] = field(default=())
    ignore: Mask | None = None  # pixels that do not count

    def boxes(self, label: int) -> npt.NDArray[np.float64]:
        """(m,4) x0, y0, x1, y1 of a class's objects."""
        found = [r.box for r in self.regions if r.label == label and r.box is not None]
        return np.array(found, np.float64).reshape(-1, 4)
