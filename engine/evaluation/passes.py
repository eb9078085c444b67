"""What a network makes of changed pictures: scores and, by the run's own method, maps."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from shardcam.engine.methods.arrays import contiguous, on_host
from shardcam.engine.methods.scores import linked, won_pixels
from shardcam.engine.methods.smoothing import smoothed_maps
from shardcam.engine.pipeline.run_shard import Parts
from shardcam.engine.protocols import ForwardPass, Inputs, Method, Network
from shardcam.engine.types import F4, I4, I8, SOFTMAX, U1, U4, Preprocessing
from shardcam.kernels import add_noise, impute, multiply, switch


class Passes(Protocol):
    """Passes of a network over changed pictures, all of them as large as its batches."""

    @property
    def rows(self) -> int:
        """Pictures of a pass."""

    @property
    def pixel_range(self) -> F4:
        """(channels,) how far black is from white in what the network is given."""

    def tell(self, on_pass: Callable[[], None]) -> None:
        """Call this at each pass, so that a batch that takes an hour is not held to hang."""

    def scores(self, inputs: Inputs, classes: I4) -> F4:
        """M inputs, any number, (M,) classes -> (M,) scores by the network's link."""

    def explained(self, inputs: Inputs, classes: I4) -> tuple[F4, F4]:
        """The same, and (M,h,w) raw maps of the layer that is evaluated, by the run's method."""

    def blank(self, classes: I4) -> F4:
        """(M,) classes -> (M,) their scores where all that the network is given is zeros."""


@dataclass(frozen=True)
class NetworkPasses:
    """`Passes` of a run's network.

    Parameters
    ----------
    network, method
        The run's; either runtime's.
    layer
        Whose maps are evaluated.
    preprocessing
        Of the network.
    rows
        Its batch size.
    link
        From logits to scores.
    smooth
        Whether the run's maps are means over changed copies.
    prediction
        The layer of a segmentation network's logits of pixels.
    """

    network: Network
    method: Method
    layer: str
    preprocessing: Preprocessing
    rows: int
    link: str = SOFTMAX
    smooth: bool = False
    prediction: str | None = None

    @classmethod
    def of(cls, parts: Parts, layer: str, batch_size: int) -> NetworkPasses:
        """With what a worker of the run has."""
        return cls(
            parts.network,
            parts.method,
            layer,
            parts.preprocessing,
            batch_size,
            parts.link,
            parts.smooth,
            parts.prediction,
        )

    @property
    def pixel_range(self) -> F4:
        """See `Passes`."""
        found: F4 = np.float32(255) / np.array(self.preprocessing.std, np.float32)
        return found

    def tell(self, on_pass: Callable[[], None]) -> None:
        """See `Passes`."""
        self.network.on_pass = on_pass

    def scores(self, inputs: Inputs, classes: I4) -> F4:
        """See `Passes`."""
        found = np.empty(len(inputs), np.float32)
        for part, forward in self._passes(inputs):
            found[part] = self._scores(forward, classes[part])
        return found

    def every_score(self, inputs: Inputs) -> F4:
        """M inputs -> (M,classes) scores by the network's link."""
        return np.concatenate([self._all_scores(forward) for _, forward in self._passes(inputs)])

    def explained(self, inputs: Inputs, classes: I4) -> tuple[F4, F4]:
        """See `Passes`."""
        scores, maps = [np.empty(0, np.float32)], []
        for start in range(0, len(inputs), self.rows):  # a method may run passes in between
            some = classes[start : start + self.rows]
            forward = self.network.forward(inputs[start : start + self.rows])
            scores.append(self._scores(forward, some))
            maps.append(self._maps(forward, some))
        return np.concatenate(scores), np.concatenate(maps)

    def blank(self, classes: I4) -> F4:
        """See `Passes`."""
        found: F4 = self._of_nothing[classes]
        return found

    @functools.cached_property
    def _of_nothing(self) -> F4:
        forward = self.network.forward(np.zeros((1, *self.preprocessing.input_shape), np.float32))
        found: F4 = self._all_scores(forward)[0].copy()
        return found

    def _passes(self, inputs: Inputs) -> Iterator[tuple[slice, ForwardPass]]:
        """Each is begun before the results of the last are used, if the network holds both."""
        begun: deque[tuple[slice, ForwardPass]] = deque()
        for start in range(0, len(inputs), self.rows):
            part = slice(start, start + self.rows)
            begun.append((part, self.network.forward(inputs[part])))
            if len(begun) == self.network.buffers:
                yield begun.popleft()
        yield from begun

    def _scores(self, forward: ForwardPass, classes: I4) -> F4:
        found: F4 = np.take_along_axis(self._all_scores(forward), classes[:, None], axis=1)[:, 0]
        return found

    def _all_scores(self, forward: ForwardPass) -> F4:
        if self.prediction is None:
            return linked(forward.logits, self.link)
        _, shares = won_pixels(forward.activation(self.prediction), self.link)
        return on_host(shares)

    def _maps(self, forward: ForwardPass, classes: I4) -> F4:
        target = np.ascontiguousarray(classes[:, None])
        if self.smooth:
            made = smoothed_maps(self.network, self.method, forward.images, target)[self.layer]
        else:
            made = self.method(forward.layer(self.layer), target)
        return on_host(contiguous(made[:, 0]))


@dataclass(frozen=True)
class Masked:
    """Pictures times masks; see `kernels.multiply`."""

    pictures: F4  # (N,C,H,W)
    masks: F4  # (P,H,W)
    jobs: I8  # (M,2)

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, part: slice) -> Masked:
        return replace(self, jobs=self.jobs[part])

    def write(self, out: F4) -> None:
        """See `engine.protocols.Inputs`."""
        multiply(self.pictures, self.masks, self.jobs, out)


@dataclass(frozen=True)
class Switched:
    """Pictures with pixels of others; see `kernels.switch`."""

    pictures: F4  # (N,C,H,W)
    ranks: U4  # (P,H,W)
    jobs: I8  # (M,4)

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, part: slice) -> Switched:
        return replace(self, jobs=self.jobs[part])

    def write(self, out: F4) -> None:
        """See `engine.protocols.Inputs`."""
        switch(self.pictures, self.ranks, self.jobs, out)


@dataclass(frozen=True)
class Imputed:
    """Pictures whose pixels of some ranks are filled in from the others; see `kernels.impute`.

    Each job is a picture, its ranks, the first rank removed, the first above it that is not, and
    two numbers that with `seed` are the key of the noise.
    """

    pictures: F4  # (N,C,H,W)
    ranks: U4  # (P,H,W)
    jobs: I8  # (M,6)
    tolerance: float
    noise: F4  # (C,) standard deviation
    seed: int

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, part: slice) -> Imputed:
        return replace(self, jobs=self.jobs[part])

    def write(self, out: F4) -> None:
        """See `engine.protocols.Inputs`."""
        for row, (picture, order, first, last, *key) in zip(out, self.jobs.tolist(), strict=True):
            rank = self.ranks[order]
            removed: U1 = ((rank >= first) & (rank < last)).astype(np.uint8)
            impute(self.pictures[picture], removed, self.tolerance, row)
            add_noise(row, removed, self.noise, (self.seed, *key))
