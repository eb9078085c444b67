"""Shared by the readers of arrays: (N,H,W), (N,H,W,1) or (N,H,W,3) uint8 -> RGB pictures."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from shardcam.engine.errors import SourceError
from shardcam.engine.io.files import LARGEST
from shardcam.engine.types import U1


@dataclass(frozen=True)
class Stack:
    """N pictures of one shape in an array."""

    count: int
    picture: tuple[int, ...]  # (H,W), (H,W,1) or (H,W,3)

    @property
    def picture_bytes(self) -> int:
        """H * W, or H * W * 3."""
        return prod(self.picture)

    def key(self, index: int) -> str:
        """The number of a picture, with as many digits as the last one has."""
        return f"{index:0{len(str(self.count - 1))}d}"


def is_stack(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bool:
    """Whether an array holds pictures."""
    return dtype == np.uint8 and (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3)))


def require_stack(where: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Stack:
    """The pictures of an array.

    Raises
    ------
    SourceError
        It holds none, or something else.
    """
    if not is_stack(shape, dtype):
        raise SourceError(
            f"{where}: {dtype} {shape} is not an array of images; expected uint8 (N,H,W), "
            "(N,H,W,1) or (N,H,W,3)"
        )
    if min(shape) <= 0:
        raise SourceError(f"{where}: no picture in it: its shape is {shape}")
    stack = Stack(shape[0], shape[1:])
    if stack.picture_bytes > LARGEST:
        raise SourceError(f"{where}: pictures of {shape[1:]} are larger than {LARGEST} bytes")
    return stack


def picture_of(data: bytes, stack: Stack) -> U1:
    """The bytes of one picture -> (H,W,3).

    Raises
    ------
    OSError
        They are too many or too few.
    """
    if len(data) != stack.picture_bytes:
        raise OSError(f"{len(data)} bytes for a picture of {stack.picture_bytes}")
    return rgb(np.frombuffer(data, np.uint8).reshape(stack.picture))


def rgb(picture: U1) -> U1:
    """(H,W), (H,W,1) or (H,W,3) -> (H,W,3)."""
    gray = picture[:, :, None] if picture.ndim == 2 else picture
    return np.ascontiguousarray(np.broadcast_to(gray, (*gray.shape[:2], 3)))
