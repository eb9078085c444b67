"""The seams of the engine: what each exchangeable part promises.

A reader gives samples, a network gives activations, a method gives maps, a sink
takes batches, an executor runs shards.  ``pipeline`` knows these and nothing
more; `engine.run.build_worker` chooses the classes behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from shardcam.engine.types import (
    F4,
    I4,
    U1,
    Event,
    Failure,
    LayerInfo,
    ResultBatch,
    Sample,
    Shard,
    ShardReport,
    SourceNotes,
)

Observer = Callable[[Event], None]
"""Is called with each event of a run, in the driver: a log, a display."""


class Reader(Protocol):
    """A source of images.

    Each worker builds its own: the constructor does not look at the source, and `read`
    needs nothing but the sample.
    """

    def samples(self) -> Iterator[Sample]:
        """List the source, always in the same order.

        Raises
        ------
        SourceError
            The source is missing, empty or ambiguous.
        """

    def read(self, sample: Sample) -> bytes | U1:
        """Return the encoded image, or (H,W,3) RGB pixels where the source holds pixels.

        Raises
        ------
        OSError
            It cannot be read; the sample becomes a failure row.
        """

    def read_many(self, samples: Sequence[Sample]) -> Iterator[bytes | U1 | OSError]:
        """`read` each sample, in order; what it would raise is given in its place.

        A reader may fetch all of them at once, and hold them until the last is taken: the
        caller bounds how many, and how large, they are.
        """
        for sample in samples:
            try:
                yield self.read(sample)
            except OSError as error:
                yield error

    def read_start(self, sample: Sample, length: int) -> bytes | U1:
        """Return at least the first bytes of an encoded image, or all that `read` returns.

        Raises
        ------
        OSError
            It cannot be read.
        """
        return self.read(sample)

    def notes(self) -> SourceNotes:
        """What was met besides samples, as far as `samples` has come."""
        return SourceNotes()


class Inputs(Protocol):
    """Inputs of a network that are made where it reads them."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> Inputs: ...

    def write(self, out: F4) -> None:
        """Fill (M,channels,H,W), C order, with all of them, normalised."""


class HeadView(Protocol):
    """The head run on M activations."""

    @property
    def logits(self) -> F4:
        """(M,classes) scores before the softmax."""

    def gradient(self, direction: F4) -> F4:
        """(M,classes) -> (M,C,h,w); see `LayerView.gradient`."""


class LayerView(Protocol):
    """One layer of one forward pass over N images, as a CAM method sees it."""

    @property
    def activation(self) -> F4:
        """(N,C,h,w) activations."""

    @property
    def logits(self) -> F4:
        """(N,classes) scores before the softmax, as this layer's own head computes them."""

    @property
    def classes(self) -> int:
        """Number of classes the network has."""

    @property
    def images(self) -> F4:
        """(N,channels,H,W) what the network was given."""

    @property
    def piecewise_linear(self) -> bool:
        """Whether nothing between the layer and the logits has a second derivative."""

    @property
    def closed_form(self) -> bool:
        """Whether global average pooling and one dense layer follow."""

    def gradient(self, direction: F4) -> F4:
        """(N,classes) -> (N,C,h,w) gradient of the sum of `direction * logits`.

        (N,C,1,1) in closed form, where it does not vary over space. One backward pass
        through the head else, and none below the layer.
        """

    def bias_terms(self, direction: F4) -> Iterator[tuple[slice, F4]]:
        """(N,classes) -> some images at a time, (n,C,h,w) terms of the sum of direction * logits.

        Input times gradient, and bias times gradient of every convolution and batch
        normalisation: a backward pass through the whole network. Biases of other operators
        are left out.
        """

    @property
    def attention(self) -> Iterator[F4]:
        """(N,heads,Q,T) of blocks that the network was told to read, in order.

        How much each query attends to each token, of which the last h*w are the picture's.
        """

    def class_weights(self, targets: I4) -> F4:
        """(N,K) classes -> (N,K,C) rows of the dense layer behind global average pooling.

        Raises
        ------
        ConfigError
            The network does not end that way after this layer.
        """

    def at(self, activation: F4, image: I4, differentiable: bool = False) -> HeadView:
        """The head run on other activations: (M,C,h,w), row j those of image `image[j]`.

        M is at most `head_rows`. What else the head reads, as inside a residual block, is
        that image's. The result is valid until the next call, and has a gradient only if it
        is `differentiable`.
        """

    @property
    def head_rows(self) -> int:
        """How many rows `at` takes, so that the head's memory stays within a fixed budget."""

    def of(self, images: F4) -> LayerView:
        """The same layer in a forward pass over other images, (M,channels,H,W).

        M is at most `network_rows`. This pass stays as it is; the result is valid until
        the next call.
        """

    @property
    def network_rows(self) -> int:
        """How many images `of` takes: the batch size of the network."""


class ForwardPass(Protocol):
    """The result of one forward pass over N images, which has been begun."""

    def wait(self) -> None:
        """Wait for the layers' values; the logits may take longer."""

    @property
    def logits(self) -> F4:
        """(N,classes) scores before the softmax."""

    @property
    def images(self) -> F4:
        """(N,channels,H,W) what the network was given, normalised."""

    def layer(self, name: str) -> LayerView:
        """The named layer of this pass; valid until as many others as `buffers` are begun."""

    def activation(self, name: str) -> F4:
        """(N,C,h,w) or (N,D) of a layer that is explained or only read."""


class Network(Protocol):
    """A convolutional network, cut at the layers to explain."""

    on_pass: Callable[[], None]
    """Called when a layer is asked for, and before each pass of the network or a part of it.

    Some methods make a thousand passes for one image: this shows that they make progress.
    """

    @property
    def layers(self) -> tuple[LayerInfo, ...]:
        """The layers it was cut at, which can be explained."""

    @property
    def buffers(self) -> int:
        """How many of the last passes have valid results."""

    def forward(self, images: F4 | U1 | Inputs) -> ForwardPass:
        """Begin a pass over N images, at most the batch size; its results are waited for.

        (N,H,W,channels) uint8, which it normalises, (N,channels,H,W) float32, which it does not,
        or what writes such.
        """


class SizedNetwork(Network, Protocol):
    """A network that takes images of any size, those of a pass having the same."""

    def rows_for(self, height: int, width: int) -> int:
        """The most images of a size that `forward` takes."""

    def let_go(self) -> None:
        """Give back memory that is held for sizes that may come again."""


class Method(Protocol):
    """A class activation map method, ready to be used."""

    def __call__(self, layer: LayerView, targets: I4) -> F4:
        """(N,K) classes -> (N,K,h,w) raw maps, signed, before ReLU."""


class ShardWriter(Protocol):
    """An open, unpublished shard."""

    def write(self, batch: ResultBatch) -> None:
        """Append the rows of a batch."""

    def commit(self, failures: Iterable[Failure]) -> bool:
        """Publish the shard; False if it was published by somebody else already."""

    def discard(self) -> None:
        """Forget everything written since the shard was opened."""


class Sink(Protocol):
    """Where the results of shards go."""

    def open(self, shard: Shard) -> ShardWriter:
        """Begin a shard, of which nothing is visible until it is committed."""


class Timer(Protocol):
    """Where a shard's stages report; see `engine.pipeline.stage_timer.StageTimer`."""

    @property
    def seconds(self) -> dict[str, float]:
        """Wall-clock seconds by stage."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time what happens inside the `with`."""

    def add(self, stage: str, seconds: float) -> None:
        """Add time that was measured elsewhere."""

    def pass_begun(self) -> None:
        """Count one more pass of the network, or of a part of it."""

    def batch_done(self, images: int) -> None:
        """Count `images` more as done or failed."""


class ShardRunner(Protocol):
    """A worker's whole job: one shard in, one small report out."""

    def run(self, shard: Shard, timer: Timer, next_shard: Shard | None = None) -> ShardReport:
        """Read, decode, run, map, write and publish the shard; `timer` shows how far it is.

        `next_shard` is the shard that probably comes next.
        """


class Executor(Protocol):
    """Runs shards, somewhere, in any order."""

    def run(self, shards: Iterable[Shard], on_event: Observer) -> Iterator[ShardReport]:
        """Yield one report for each shard, as they finish.

        Shards are taken when there is a worker for them: together they do not fit in memory.
        A sample that crashes every worker that reads it becomes a failure of its shard.

        Raises
        ------
        WorkerError
            A worker cannot start, or a shard crashes every worker, whatever is left out of it.
        InternalError
            Any exception but those of `engine.errors`, with its traceback.
        """
