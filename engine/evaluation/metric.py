"""What a metric is: from the maps of some images to a value for each, and to one figure.

n images, K classes explained of each, h x w a map, H x W the network's input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from shardcam.engine.run.intervals import of_mean, of_mean_share
from shardcam.engine.truths.truth import ImageTruth
from shardcam.engine.types import F4, F8, I4, I8, U1

if TYPE_CHECKING:
    from shardcam.engine.evaluation.explained_pairs import Pairs

Array = npt.NDArray[Any]
Columns = dict[str, F4]  # (P,...) each
Grids = tuple[F4, ...]  # (K,h,w) of an image at each scale, raw


class Reason(IntEnum):
    """Why a class of an image has no value."""

    MEASURED = 0
    NO_CLASS = 1
    NO_MAP = 2
    NO_TRUTH = 3
    NO_REGION = 4
    UNREADABLE = 5
    NO_SCORE = 6
    NO_MASK = 7
    NO_BOX = 8

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Reason.MEASURED: "measured",
    Reason.NO_CLASS: "no class to explain",
    Reason.NO_MAP: "empty, constant or non-finite map",
    Reason.NO_TRUTH: "picture not in the truth",
    Reason.NO_REGION: "no region of the class in the truth",
    Reason.UNREADABLE: "picture or mask cannot be read any more, or is another one now",
    Reason.NO_SCORE: "no usable score",
    Reason.NO_MASK: "the truth has boxes in place of masks",
    Reason.NO_BOX: "the truth has masks in place of boxes",
}


@dataclass(frozen=True)
class ImageRows:
    """What a run and the truth say of n images."""

    sample: I8  # (n,) positions in the listing
    keys: tuple[str, ...]
    label: I4  # (n,), NO_LABEL where there is none
    target: I4  # (n,K), NO_CLASS where there is none
    score: F4  # (n,K)
    top_class: I4  # (n,T)
    crop: F8  # (n,4) y0, x0, y1, x1 of the view in the picture's pixels
    image_size: I4  # (n,2) height, width of the picture
    view_size: tuple[int, int]  # H, W of all of them
    truth: tuple[ImageTruth | None, ...]
    grids: tuple[Grids, ...] | None = None  # of pictures at their own size
    scales: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.sample)


@dataclass(frozen=True)
class Measured:
    """What a metric says of n images: each value, or why there is none."""

    value: F4  # (n,K), NaN where there is none
    reason: U1  # (n,K) of Reason
    columns: Mapping[str, Array] = field(default_factory=dict)  # more of each image, (n,K,...)
    state: Mapping[str, Array] = field(default_factory=dict)  # int64 or float64, adds up


@dataclass(frozen=True)
class Merged:
    """What was measured of a whole run."""

    values: F8  # (M,) of the classes of images that have one
    classes: I4  # (M,) their classes
    state: Mapping[str, Array]
    column: Callable[[str], Iterator[Array]]  # of those M, (m,...) at a time, in the same order


@dataclass(frozen=True)
class Figure:
    """The metric of a data set."""

    value: float  # the mean, or what the metric makes of all images
    low: float  # 95 % interval; NaN where there is none
    high: float
    n: int  # classes of images that it is of
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON


class MapMetric(Protocol):
    """A metric of the stored maps, which needs neither the network nor the pictures."""

    @property
    def name(self) -> str: ...

    @property
    def convention(self) -> str:
        """One line that says how it is measured, such as ``MaxBoxAccV2 (cubic, 0.001, 224)``."""

    @property
    def higher_is_better(self) -> bool | None:
        """None: neither is."""

    @property
    def needs_truth(self) -> bool: ...

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        """(n,K,h,w) raw signed maps of one layer, NaN where there is none."""

    def figure(self, merged: Merged) -> Figure:
        """Of the whole run."""


def mean_figure(merged: Merged, share: bool = False) -> Figure:
    """The mean of the values with a normal 95 % interval, of shares within 0 and 1."""
    values, n = merged.values, len(merged.values)
    if not n:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    low, high = of_mean_share(values) if share else of_mean(values)
    return Figure(float(values.mean()), low, high, n)


def is_mean(figure: float, values: F4) -> bool:
    """(N,K) of images -> whether a figure is their mean, and not one of the whole data set."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return not len(finite) or bool(np.isclose(finite.mean(), figure, 1e-4, 1e-6))


@dataclass(frozen=True)
class PassMetric(ABC):
    """A metric of what the network makes of changed pictures."""

    name: str
    needs_truth: ClassVar[bool] = False
    share: ClassVar[bool] = False  # whether it is from 0 to 1 with any network

    @property
    @abstractmethod
    def convention(self) -> str:
        """One line that says how it is measured."""

    @property
    @abstractmethod
    def higher_is_better(self) -> bool: ...

    @property
    def explained(self) -> str | None:
        """The mask of the pictures whose maps it asks for, and not only their scores."""
        return None

    @abstractmethod
    def of(self, pairs: Pairs) -> tuple[F8 | F4, Columns]:
        """(P,) values, NaN where the score is no usable one, and more columns."""

    def figure(self, merged: Merged) -> Figure:
        """Of the whole run."""
        return mean_figure(merged, self.share)
