"""The backbone on one input buffer, on a GPU recorded once and replayed from then on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class RecordedBackbone:
    """Runs a function whose inputs and outputs stay where they are.

    On a GPU its first run is followed by a recording of its kernels as a CUDA graph: later runs
    are one call, whatever else holds Python's lock. What cannot be recorded is run each time.

    Parameters
    ----------
    function
        Reads what it needs from tensors that stay, and returns new ones.
    stream
        The CUDA stream that it is run in; None on a CPU.
    """

    def __init__(
        self, function: Callable[[], list[Tensor]], stream: torch.cuda.Stream | None
    ) -> None:
        self._function, self._stream = function, stream
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: list[Tensor] = []
        self._may_record = stream is not None

    def __call__(self) -> list[Tensor]:
        """The outputs; valid until the next call."""
        if self._graph is not None:
            self._graph.replay()
            return self._outputs
        outputs = self._function()
        if self._may_record:
            self._may_record = False
            self._record()
        return outputs

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._outputs = self._function()
        except RuntimeError:
            return
        self._graph = graph
