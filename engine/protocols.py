"""The seams of the engine: what each exchangeable part promises.

A reader gives samples, a network gives activations, a method gives maps, a sink
takes batches, an executor runs shards.  ``pipeline`` knows these and nothing
more; ``jobs/`` chooses the classes behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from engine.types import F4, I4, Failure, LayerInfo, ResultBatch, Sample, Shard, ShardReport


class Reader(Protocol):
    """A source of images."""

    def samples(self) -> Iterator[Sample]:
        """List the source, always in the same order.

        Raises
        ------
        SourceError
            The source is missing, empty or ambiguous.
        """
        ...

    def read(self, sample: Sample) -> bytes:
        """Return the encoded image.

        Raises
        ------
        OSError
            It cannot be read; the sample becomes a failure row.
        """
        ...


class LayerView(Protocol):
    """One layer of one forward pass, as a CAM method sees it."""

    @property
    def activation(self) -> F4:
        """(N,C,h,w) activations."""
        ...

    def mean_gradient(self, targets: I4) -> F4:
        """(N,K) classes -> (N,K,C) spatial mean of d logit / d activation."""
        ...

    def class_weights(self, targets: I4) -> F4:
        """(N,K) classes -> (N,K,C) rows of the dense layer behind global average pooling.

        Raises
        ------
        ConfigError
            The network does not end that way after this layer.
        """
        ...


class ForwardPass(Protocol):
    """The result of one forward pass over N images."""

    @property
    def logits(self) -> F4:
        """(N,classes) scores before the softmax."""
        ...

    def layer(self, name: str) -> LayerView:
        """The named layer of this pass; valid until the next one."""
        ...


class Network(Protocol):
    """A convolutional network, cut at the layers to explain."""

    @property
    def layers(self) -> tuple[LayerInfo, ...]:
        """The layers it was cut at."""
        ...

    def forward(self, images: F4) -> ForwardPass:
        """(N,3,H,W) preprocessed images -> activations and logits; N at most the batch size."""
        ...


class Method(Protocol):
    """A class activation map method."""

    def __call__(self, layer: LayerView, targets: I4) -> F4:
        """(N,K) classes -> (N,K,h,w) raw maps, signed, before ReLU."""
        ...


class ShardWriter(Protocol):
    """An open, unpublished shard."""

    def write(self, batch: ResultBatch) -> None:
        """Append the rows of a batch."""
        ...

    def commit(self, failures: Iterable[Failure]) -> bool:
        """Publish the shard; False if it was published by somebody else already."""
        ...

    def discard(self) -> None:
        """Forget everything written since the shard was opened."""
        ...


class Sink(Protocol):
    """Where results go."""

    def open(self, shard: Shard) -> ShardWriter:
        """Begin a shard."""
        ...


class ShardRunner(Protocol):
    """A worker's whole job: one shard in, one small report out."""

    def __call__(self, shard: Shard) -> ShardReport:
        """Read, decode, run, map, write and publish the shard."""
        ...


class Executor(Protocol):
    """Runs shards, somewhere, in any order."""

    def run(self, shards: Iterable[Shard]) -> Iterator[ShardReport]:
        """Yield one report for each shard, as they finish.

        Raises
        ------
        WorkerError
            A worker cannot start, or a shard kills every worker that takes it.
        """
        ...
