"""What a person sees of compilation, and of signals that come meanwhile."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from shardcam.kernels import _jit
from shardcam.kernels._jit import Kernel
from shardcam.kernels._signals import held_signals
from tests.kernels.table import only_compiled


class Stopped(BaseException):
    """As what a handler of the command line raises."""


@pytest.fixture
def handled() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield
    assert signal.signal(signal.SIGTERM, before) is stop


@pytest.mark.usefixtures("handled")
def test_signals_wait_for_the_end_or_until_they_are_let_in() -> None:
    done = []
    with pytest.raises(Stopped), held_signals():
        signal.raise_signal(signal.SIGTERM)
        done.append("end")
    with pytest.raises(Stopped), held_signals() as let_in:
        let_in()
        signal.raise_signal(signal.SIGTERM)
        done.append("let in")
        let_in()
        done.append("too late")
    assert done == ["end", "let in"]


def _double(values: NDArray[Any], out: NDArray[Any]) -> None:
    signal_comes()
    for i in range(values.size):
        out[i] = 2 * values[i]


def signal_comes() -> None:
    """A function that Numba compiles, and during which a signal comes."""


@numba.extending.overload(signal_comes)
def _signal_comes() -> Any:
    signal.raise_signal(signal.SIGTERM)  # raised here it would be taken for an error of typing
    return lambda: None


@only_compiled
@pytest.mark.usefixtures("handled")
def test_what_compiles_is_told_once_and_a_signal_meanwhile_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    _jit._tell.cache_clear()
    out = np.zeros(2, np.float32)
    with caplog.at_level(logging.INFO, "shardcam.kernels"), pytest.raises(Stopped):
        Kernel(_double)(np.array([1, 2], np.float32), out=(out,))
    assert [r.getMessage().split(",")[0] for r in caplog.records] == ["compiling kernels"]
