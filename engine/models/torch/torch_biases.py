"""Gradients at every bias of a network, for methods that explain the whole network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from shardcam.engine.models.biases import added_bias
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.free_memory import HEAD_BYTES
from shardcam.engine.models.torch.torch_device import in_one_line, on_device
from shardcam.engine.models.torch.torch_program import Program, Weights
from shardcam.engine.types import F4


class TorchBiases:
    """The whole network in float32; the gradient at an output is that at its bias.

    Of convolutions and batch normalisations: see `engine.models.fullgrad_terms`.
    """

    def __init__(
        self,
        definition: NetworkDefinition,
        shapes: dict[int, tuple[int, ...]],
        batch_size: int,
        weights: Weights,
    ) -> None:
        nodes = definition.graph.nodes
        self._like = torch.zeros((), device=weights.device)
        self._biases: dict[int, Tensor] = {}
        for number, shape in shapes.items():
            bias = added_bias(nodes[number], definition) if len(shape) == 4 else None
            if bias is not None:
                self._biases[number] = on_device(bias, self._like)[:, None, None]
        per_row = 8 * sum(math.prod(shapes[number]) for number in self._biases) + 1
        self._rows = max(1, min(batch_size, HEAD_BYTES // per_row))
        self._program = Program(definition.graph, definition.graph.heads, weights)
        self._input_name = definition.input_name

    def terms(self, images: F4 | Tensor, direction: F4 | Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(N,...) images, (N,classes) -> some images at a time, (n,C,h,w) terms of the score.

        Input times gradient, then each bias times its gradient.
        """
        for start in range(0, len(images), self._rows):
            part = slice(start, min(start + self._rows, len(images)))
            given = on_device(images[part], self._like)
            gradients = self._gradients(given, on_device(direction[part], self._like))
            yield part, given * gradients[0]
            for bias, gradient in zip(self._biases.values(), gradients[1:], strict=True):
                yield part, (bias * gradient).contiguous()

    @in_one_line
    def _gradients(self, images: Tensor, direction: Tensor) -> tuple[Tensor, ...]:
        """Of the input, and of each output that has a bias."""
        found: dict[int, Tensor] = {}

        def note(number: int, value: Tensor) -> None:
            if number in self._biases:
                found[number] = value

        with torch.enable_grad():
            inputs = images.detach().requires_grad_()
            (logits,) = self._program({self._input_name: inputs}, note)
            wanted = [inputs, *(found[number] for number in self._biases)]
            gradients: tuple[Tensor, ...] = torch.autograd.grad(
                logits, wanted, direction, allow_unused=True, materialize_grads=True
            )
        return gradients
