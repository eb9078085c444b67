"""The values that travel between the stages of a run.

N images of a batch, K targets of an image, C channels, h x w a map, H x W the
network's input, S scales of it, D numbers of a dense layer.  All of them are frozen: a stage
makes a new one, it never edits what it was given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
I2 = npt.NDArray[np.int16]
I4 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int64]
U1 = npt.NDArray[np.uint8]
U4 = npt.NDArray[np.uint32]
Box = tuple[float, float, float, float]  # y0, x0, y1, x1 in pixels of the picture

NO_LABEL = -1
NO_CLASS = -1  # predicted where the highest logit is not finite, or the network claims none
SOFTMAX, SIGMOID, NO_LINK = "softmax", "sigmoid", "none"  # from logits to scores
SIMILAR = "similar:"  # how a target begins that is a picture or a vector
FROM_RUN = "from:"  # how a target begins that is a run
LABELS = "labels"  # a target: all classes of an image that a manifest, or a file behind :, has
AUTO = "auto"  # the name of the layer that is chosen for the user
TOP = 5  # classes kept as the prediction


class Flag(IntFlag):
    """What is unusual about a sample or its results. The first three are bits of the kernels."""

    NON_FINITE = 1
    ALL_ZERO = 2
    CONSTANT = 4
    TOO_LARGE = 8
    DAMAGED = 16
    SMALL_RANGE = 32

    @property
    def words(self) -> str:
        """What a single flag says."""
        return _FLAG_WORDS[self]


def flag_counts(flags: U1) -> tuple[int, ...]:
    """(N,) flags -> how many have each bit, the lowest first."""
    bits = np.unpackbits(flags[:, None], axis=1, bitorder="little")
    return tuple(bits.sum(axis=0).tolist())


NO_FLAG = Flag(0)
_FLAG_WORDS = {
    Flag.NON_FINITE: "non-finite map",
    Flag.ALL_ZERO: "all-zero map after ReLU",
    Flag.CONSTANT: "constant map",
    Flag.TOO_LARGE: "activation too large for f2",  # it is saved as infinity
    Flag.DAMAGED: "damaged file",  # and a picture all the same
    Flag.SMALL_RANGE: "picture uses little of its range",
}


@dataclass(frozen=True)
class Note:
    """Something that a run assumed, left out or met; it is told once, at the end."""

    kind: str  # a word to group by: assumed, labels, skipped, flagged, warning
    text: str  # one line, which says what to do about it if there is something to do


@dataclass(frozen=True)
class Sizes:
    """The sizes of pictures that are listed by them: height, then width."""

    distinct: int
    largest: tuple[int, int]  # that with the most pixels
    pixels: int  # of all pictures


@dataclass(frozen=True)
class SourceNotes:
    """What a reader met while it listed, besides samples."""

    notes: tuple[Note, ...] = ()
    classes: dict[str, int] = field(default_factory=dict)  # class of each folder, if asked for
    named: bool = False  # what classes are called can decide labels
    sizes: Sizes | None = None  # of pictures that are listed by size


@dataclass(frozen=True)
class Sample:
    """One image of the source, before it is read."""

    key: str  # stable and unique in the source
    index: int  # position in the listing
    label: int  # class given by the source, NO_LABEL where there is none
    location: str  # where the reader finds it
    size: int  # bytes, -1 where the listing does not know
    box: Box | None = None  # the part to look at, None: all of it


def counted(number: float, noun: str, form: str = "") -> str:
    """``1 image``, ``2 images``, ``3 classes``; `form` is how to format the number."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:{form}} {noun}{ending}"


def shard_name(number: int) -> str:
    """File name of a published shard."""
    return f"shard-{number:06d}.h5"


def is_shard_name(name: str) -> bool:
    """Whether a file is called as published shards are."""
    return re.fullmatch(r"shard-\d{6,}\.h5", name) is not None


@dataclass(frozen=True)
class Failure:
    """A sample that failed, and why."""

    key: str
    sample: int
    stage: str  # read, decode, target, forward, worker
    error: str  # a short class of reasons, to group by
    message: str


@dataclass(frozen=True)
class Shard:
    """A fixed, contiguous slice of the source: the unit of work, of retry and of output."""

    index: int
    samples: Sequence[Sample]
    given_up: tuple[Failure, ...] = ()  # samples that crash their workers: they are not read
    trial: bool = False  # run only to see whether it crashes its worker: nothing is published

    @property
    def name(self) -> str:
        """File name of the shard, without its ending."""
        return f"shard-{self.index:06d}"


@dataclass(frozen=True)
class Decoding:
    """From an image file to a picture of 8-bit RGB."""

    max_pixels: int  # larger pictures are refused
    fast: bool = False  # JPEG files no larger than the view needs
    background: tuple[int, ...] | None = None  # RGB; None: transparency is ignored
    depth_range: tuple[float, float] | str = "auto"  # black and white of deep pictures; auto, full


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded picture to the network's input: ``(pixel - mean) / std``, 0-255 scale.

    With the resize ``none`` pictures keep their size, and height and width are an example.
    """

    height: int
    width: int
    mean: tuple[float, ...]  # one number for each input channel, in the order of `channels`
    std: tuple[float, ...]
    resize: str = "crop"  # crop, squash, pad, shorter:N,crop or none
    interpolation: str = "area"  # a key of engine.pictures.imaging.INTERPOLATIONS
    channels: str = "rgb"  # or bgr: the order in which the network takes three

    @classmethod
    def stored(cls, numbers: Mapping[str, Any]) -> Preprocessing:
        """That of a run, as its manifest has it."""
        pairs = {name: tuple(numbers[name]) for name in ("mean", "std")}
        return cls(**{**numbers, **pairs})

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return len(self.mean), self.height, self.width

    @property
    def shorter(self) -> int | None:
        """What the shorter side becomes before the centre is cut out; None: nothing fixed."""
        side = self.resize.removesuffix(",crop").partition("shorter:")[2]
        return int(side) if side else None

    @property
    def takes_rgb(self) -> bool:
        """The network takes pictures as they are decoded."""
        return self.channels == "rgb" and len(self.mean) == 3

    def in_rgb(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """A value for each channel, from the network's order to RGB, or from RGB to that."""
        return values[::-1] if self.channels == "bgr" else values


@dataclass(frozen=True)
class Fit:
    """How a part of a picture becomes the network's view of it."""

    box: tuple[int, int, int, int]  # the part: top, left, bottom, right, in pixels
    size: tuple[int, int]  # rows and columns that it is resized to
    start: tuple[int, int]  # row and column of these where the view begins; < 0: in a border
    crop: Box  # where the view lies in the picture

    def window(self, view: tuple[int, int]) -> tuple[int, int, int, int]:
        """What is seen of the resized part, in a view of so many rows and columns, as a box."""
        (top, left), (rows, columns) = self.start, self.size
        bottom, right = min(top + view[0], rows), min(left + view[1], columns)
        return max(top, 0), max(left, 0), bottom, right

    def place(self, view: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the view where that lies."""
        y0, x0, y1, x1 = self.window(view)
        top, left = self.start
        return slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


@dataclass(frozen=True)
class DeviceJpeg:
    """A JPEG file that a device decodes, and what is seen of it."""

    data: bytes
    size: tuple[int, int]  # height, width of the picture
    part: tuple[int, int, int, int]  # that is looked at: top, left, bottom, right, in pixels
    fit: Fit


@dataclass(frozen=True)
class View:
    """What the network sees of a picture."""

    pixels: U1  # (H,W,3) RGB
    image_size: tuple[int, int]  # height, width of the picture
    crop: Box  # where the view lies in the picture
    flags: Flag = NO_FLAG  # of the picture


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained, or whose values can be saved."""

    name: str
    shape: tuple[int, ...]  # of one image: (C,h,w), or (D,) for a dense layer
    closed_form: bool  # global average pooling and one dense layer follow: no backward pass
    has_map: bool = True  # if it has three axes, they are channels, rows and columns
    lies_as: str = ""  # in the network, if that is no (C,h,w): 7x7x512, 1+196 tokens

    @property
    def spatial(self) -> bool:
        """It is (C,h,w), and not a row of numbers or a table of another kind."""
        return len(self.shape) == 3 and self.has_map


@dataclass(frozen=True)
class Quantization:
    """How a backbone becomes int8; the same for every worker of a run."""

    ranges: dict[str, tuple[float, float]]  # smallest and largest value of each tensor
    keep_first: bool  # the first convolution stays in float32
    rounding: dict[str, str] = field(default_factory=dict)  # steps off the nearest, of weights
    shifts: dict[str, str] = field(default_factory=dict)  # of channels, by the operator's name
    folded: bool = False  # normalisations are in the weights; runs of before leave that to MXNet


@dataclass(frozen=True)
class LayerMaps:
    """Signed maps of one layer."""

    normalized: F4  # (N,K,h,w) in [-1,1]; raw map = normalized * scale
    scale: F4  # (N,K)


@dataclass(frozen=True)
class Copies:
    """Which copies of pictures are explained at their own size."""

    scales: tuple[float, ...] = (1.0,)  # S of them
    flip: bool = False  # each mirrored left to right, too


@dataclass(frozen=True)
class GridMaps:
    """Maps of one layer of images of one size, at S scales of it.

    Signed; mirrored copies are added to them once both are rectified.
    """

    normalized: tuple[F4, ...]  # S times (N,K,h,w) in [-1,1]; raw map = normalized * scale
    scale: F4  # (N,K,S)


@dataclass(frozen=True)
class ResultBatch:
    """Everything known about N images; the optional parts are there if they were asked for."""

    samples: tuple[Sample, ...]
    views: tuple[View, ...]
    target: I4  # (N,K), NO_CLASS where there is none
    score: F4  # (N,K) of each target: its logit through the network's link, NaN without one
    top_class: I4  # (N,T), T = min(5, classes), NO_CLASS where there is none
    top_score: F4  # (N,T), NaN where there is no class
    flags: U1  # (N,) of Flag
    maps: dict[str, LayerMaps] = field(default_factory=dict)
    grids: dict[str, GridMaps] = field(default_factory=dict)  # in their place, at native sizes
    activations: dict[str, F4] = field(default_factory=dict)  # (N,C,h,w) or (N,D)
    pooled: dict[str, F4] = field(default_factory=dict)  # (N,C)
    prediction: I2 | None = None  # (N,h,w) class of each pixel, of segmentation networks
    logits: F4 | None = None  # (N,classes)
    heatmap: U1 | None = None  # (N,K,H,W)


@dataclass(frozen=True)
class Part:
    """A part of a run's shards, for one of several commands that work on them at once."""

    number: int  # from 1
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """``3/8`` -> the third part of eight.

        Raises
        ------
        ValueError
            It is not of that form.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        part = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= part.number <= part.of:
            raise ValueError(f"takes I/N such as 3/8, with I from 1 to N; not {text}")
        return part

    def shards(self, count: int) -> range:
        """Every `of`-th shard of so many: what is slow in a source is often side by side."""
        return range(self.number - 1, count, self.of)

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"


@dataclass(frozen=True)
class ShardReport:
    """What a worker reports to the driver about a finished shard."""

    shard: int
    listed: int
    ok: int
    failed: int
    published: bool  # False: somebody else had published this shard first
    seconds: dict[str, float]  # by stage
    room: int = 0  # images that its batches had room for, where pictures keep their size


@dataclass(frozen=True)
class RunReport:
    """The closed account of a finished run: listed = ok + failed."""

    fingerprint: str
    shards: int
    shards_done_now: int  # by this command; the others were there before
    listed: int
    ok: int
    failed: int
    failures: dict[str, int]  # by reason
    seconds: float  # wall clock of this command's shards
    images_per_second: float
    stage_seconds: dict[str, float]  # summed over this command's workers
    bottleneck: str | None  # what held the run up, from the stage timers
    notes: tuple[Note, ...] = ()  # what was assumed, left out and met


@dataclass(frozen=True)
class Event:
    """Something that happens to a run; see `engine.rundir.events`."""

    kind: ClassVar[str | None] = None  # in events.jsonl; None: it is not logged
