"""How much memory the constants of a file may take at one time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ModelError
from shardcam.engine.models.free_memory import gigabytes

Array = npt.NDArray[Any]
ROOM, FOR_EACH_BYTE = 2**30, 4  # bytes for any file, and more for each byte of its weights


class Room:
    """Counts what is held: memory that several arrays share counts once."""

    def __init__(self) -> None:
        self._size, self._held = ROOM, 0
        self._owners: dict[int, tuple[Array, int]] = {}  # of memory, and how often they are held

    def grow(self, weights: int) -> None:
        """Make room for what is computed from so many bytes of weights."""
        self._size += FOR_EACH_BYTE * weights

    def require(self, size: int) -> None:
        """See that so many bytes are left.

        Raises
        ------
        ModelError
            They are not.
        """
        if self._held + size > self._size:
            raise ModelError(
                f"its constants would take more than {gigabytes(self._size)} of memory at one "
                "time; onnxruntime can compute them once: SessionOptions.optimized_model_filepath "
                "with ORT_ENABLE_BASIC"
            )

    def take(self, arrays: Iterable[Array]) -> None:
        """Hold arrays, until they are given back.

        Raises
        ------
        ModelError
            There is no room for them.
        """
        for owner in map(_owner, arrays):
            _, count = self._owners.get(id(owner), (owner, 0))
            if not count:
                self.require(owner.nbytes)
                self._held += owner.nbytes
            self._owners[id(owner)] = owner, count + 1

    def give_back(self, arrays: Iterable[Array]) -> None:
        """Hold arrays no longer."""
        for owner in map(_owner, arrays):
            _, count = self._owners.pop(id(owner))
            if count > 1:
                self._owners[id(owner)] = owner, count - 1
            else:
                self._held -= owner.nbytes


def _owner(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
