"""Classes of images that are measured together, and the passes that metrics of them share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from shardcam.engine.evaluation.passes import Imputed, Masked, Passes, Switched
from shardcam.engine.types import F4, I4, I8, U4
from shardcam.kernels import blur, normalize, ranks, upsample

_Method = TypeVar("_Method", bound=Callable[..., Any])

UNIT, PGC, XPLIQUE, SIGNED = "unit", "pgc", "xplique", "signed"  # maps as large as the picture
BLUR = 11, 5.0  # pixels and sigma, of RISE
TOLERANCE, NOISE = 1e-4, 0.01  # of an imputed pixel, black to white being 1


def _once(method: _Method) -> _Method:
    """Compute what the arguments ask for when it is first asked for."""

    @functools.wraps(method)
    def wrapped(self: Pairs, *args: Any) -> Any:
        key = method.__name__, *args
        if key not in self.made:
            self.made[key] = method(self, *args)
        return self.made[key]

    return cast(_Method, wrapped)


@dataclass(frozen=True)
class Pairs:
    """P classes of N images, each with a map that is not constant.

    What several metrics ask for is computed once. All is in the order of the classes.
    """

    passes: Passes
    pictures: F4  # (N,C,H,W) normalised
    picture: I8  # (P,) which of them
    sample: I8  # (P,) its position in the listing
    maps: F4  # (P,h,w) raw, signed
    classes: I4  # (P,)
    score: F4  # (P,) of the picture as it is
    seed: int = 0
    explained: frozenset[str] = frozenset()  # masks: of which of them maps are asked for
    made: dict[Any, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.picture)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.pictures.shape[2], self.pictures.shape[3]

    @_once
    def enlarged(self, kind: str) -> F4:
        """(P,H,W) the maps, enlarged."""
        return enlarged(self.maps, self.size, kind)

    @_once
    def masked(self, kind: str) -> tuple[F4, F4 | None]:
        """(P,) scores of the pictures times their maps, and, if some metric asks, their maps."""
        rows = np.arange(len(self))
        inputs = Masked(self.pictures, self.enlarged(kind), np.stack([self.picture, rows], axis=1))
        if kind in self.explained:
            return self.passes.explained(inputs, self.classes)
        return self.passes.scores(inputs, self.classes), None

    @_once
    def curve(
        self, counts: tuple[int, ...], inserts: bool, kind: str, ties: str, blurs: bool
    ) -> F4:
        """(P,len(counts)) scores with so many of the strongest pixels deleted, or inserted.

        Into, or for, zeros, or a blurred picture. The first and the last point are those of the
        picture as it is and, where they are, of zeros alone, which cost no pass.
        """
        scores = np.empty((len(self), len(counts)), np.float32)
        none, every = 0, self.size[0] * self.size[1]
        whole, empty = (every, none) if inserts else (none, every)
        asked = []
        for point, count in enumerate(counts):
            if count == whole:
                scores[:, point] = self.score
            elif count == empty and not blurs:
                scores[:, point] = self.passes.blank(self.classes)
            else:
                asked.append(point)
        number = len(self.pictures)
        pictures = self._beside_blurred() if blurs else self._beside_zeros()
        others = self.picture + number if blurs else np.full(len(self), number)
        lowest, rest = (self.picture, others) if inserts else (others, self.picture)
        rows = np.arange(len(self))
        jobs = np.empty((len(self), len(asked), 4), np.int64)
        for column, values in enumerate((lowest, rest, rows)):
            jobs[..., column] = values[:, None]
        jobs[..., 3] = [counts[point] for point in asked]
        inputs = Switched(pictures, self._ranks(kind, ties), jobs.reshape(-1, 4))
        found = self.passes.scores(inputs, np.repeat(self.classes, len(asked)))
        scores[:, asked] = found.reshape(len(self), -1)
        return scores

    @_once
    def imputed(self, percents: tuple[int, ...], most: bool, kind: str, pixels: bool) -> F4:
        """(P,len(percents)) scores with so many of the most or the least relevant pixels imputed.

        The noise is a share of what is between black and white if it is in `pixels`, else of 1.
        """
        area, steps = self.size[0] * self.size[1], len(percents)
        counts = [area * percent // 100 for percent in percents]
        jobs = np.empty((len(self), steps, 6), np.int64)
        for column, values in enumerate((self.picture, np.arange(len(self)))):
            jobs[..., column] = values[:, None]
        jobs[..., 2] = [0 if most else area - count for count in counts]
        jobs[..., 3] = [count if most else area for count in counts]
        jobs[..., 4], jobs[..., 5] = self.sample[:, None], percents
        scale = self.passes.pixel_range
        noise = np.float32(NOISE) * (scale if pixels else np.ones_like(scale))
        inputs = Imputed(
            self.pictures,
            self._ranks(kind, "falling"),
            jobs.reshape(-1, 6),
            TOLERANCE * float(scale.min()),
            noise,
            self.seed,
        )
        return self.passes.scores(inputs, np.repeat(self.classes, steps)).reshape(-1, steps)

    @_once
    def _ranks(self, kind: str, ties: str) -> U4:
        return ranks(self.enlarged(kind), ties)

    @_once
    def _beside_zeros(self) -> F4:
        return np.concatenate([self.pictures, np.zeros_like(self.pictures[:1])])

    @_once
    def _beside_blurred(self) -> F4:
        return np.concatenate([self.pictures, blur(self.pictures, *BLUR)])


def enlarged(maps: F4, size: tuple[int, int], kind: str) -> F4:
    """(P,h,w) raw maps -> (P,H,W), bilinear with half-pixel centres.

    Rectified and, at their own resolution, stretched to [0, 1]; `PGC`: pytorch-grad-cam's
    heatmap, stretched before and after; `XPLIQUE`: stretched after; `SIGNED`: as they are.
    """
    if kind == SIGNED:
        return upsample(maps, size)
    if kind == PGC:
        return normalize(upsample(normalize(maps), size))
    positive = np.maximum(maps, np.float32(0))
    if kind == XPLIQUE:
        return _stretched(upsample(positive, size), 1e-8)
    return upsample(_stretched(positive), size)


def _stretched(maps: F4, epsilon: float = 0.0) -> F4:
    shifted = maps - maps.min(axis=(1, 2), keepdims=True)
    stretched: F4 = shifted / (shifted.max(axis=(1, 2), keepdims=True) + np.float32(epsilon))
    return stretched
