"""A bug is told from an error of the user's: by its traceback, and a line that asks for it."""

import pytest

from shardcam.engine.errors import InternalError, ModelError
from shardcam.jobs.commands.methods import methods
from tests.jobs.command import shardcam

ASKED = "please report it with all of the text above\n"
TRACE = "Traceback (most recent call last):\n  somewhere\nKeyError: 'x'"


@pytest.mark.parametrize(
    ("error", "first", "last"),
    [
        (
            KeyError("x"),
            "Traceback (most recent",
            f"KeyError: 'x'\nshardcam: this is a bug; {ASKED}",
        ),
        (
            InternalError("KeyError: 'x'", "at sample 'a.jpg'", TRACE),
            TRACE,
            f"KeyError: 'x'\nshardcam: this is a bug, met at sample 'a.jpg'; {ASKED}",
        ),
        (ModelError("a.onnx: damaged"), "shardcam: a.onnx: damaged\n", "damaged\n"),
    ],
)
def test_a_bug_ends_with_its_traceback_and_a_line(monkeypatch, error, first, last):
    def fail():
        raise error

    monkeypatch.setattr(methods, "callback", fail)
    code, out, err = shardcam("methods")
    assert (code, out) == (getattr(error, "exit_code", 1), "")
    assert err.startswith(first)
    assert err.endswith(last)
    assert err.count("Traceback") == ("Traceback" in first)
