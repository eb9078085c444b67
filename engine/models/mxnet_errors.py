"""MXNet's errors in one line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import mxnet as mx

from shardcam.engine.errors import NO_MEMORY, ModelError, OutOfMemory

_PLACE = re.compile(r"MXNetError: |Error in operator operator: |\[[\d:]+\] \S+:\d+: ")
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def reason(error: Exception) -> str:
    """The line that says what is wrong, without where in MXNet's source."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return _PLACE.sub("", lines[-1])[:200]


def in_one_line(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Turn what MXNet raises in a function into exceptions of ours.

    MXNet computes in the background: an error comes out wherever a result is waited for.

    Raises
    ------
    OutOfMemory
        Memory ran out.
    ModelError
        MXNet cannot run the network.
    """

    @functools.wraps(function)
    def wrapped(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except mx.MXNetError as error:
            if NO_MEMORY.search(str(error)):
                raise OutOfMemory(
                    f"out of memory: {reason(error)}; run it again with a smaller --batch-size, "
                    "--image-size or fewer --workers"
                ) from error
            raise ModelError(f"MXNet cannot run the network: {reason(error)}") from error

    return wrapped
