"""A mistake in a command line is one line that names the option, whatever the command."""

import pytest

from tests.jobs.command import shardcam
from tests.jobs.test_help import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_of_any_command_is_one_line(name):
    line = f"shardcam: --nowhere: no such option; see shardcam {name} --help\n"
    code, out, err = shardcam(*name.split(), "--nowhere")
    assert (code, out) == (2, "")
    assert err.partition("; nearest:")[0] == line.partition("; see")[0] or err == line
    assert err.endswith(f"; see shardcam {name} --help\n") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (("extrct",), "no such command 'extrct'; nearest: extract, export; see shardcam --help"),
        (("layers", "--jsn"), "--jsn: no such option; nearest: --json; see shardcam layers --help"),
        (("layers",), "MODEL is missing; see shardcam layers --help"),
        (("layers", "a", "b"), "got unexpected extra argument (b); see shardcam layers --help"),
        (("extract", "a", "--model"), "--model: requires an argument"),
        (("extract", "--batch-size", "x"), "--batch-size: 'x' is not a valid integer"),
        (("extract", "--executor", "x"), "--executor: 'x' is not one of 'auto', 'ray', 'local'"),
        (("report", "--port", "-1", "run"), "--port: -1 is not in the range 0<=x<=65535"),
        (("methods", "--json=1"), "--json: no such option"),
        (("export", "run", "--out", "a"), "--to is missing: one of npy, masks, coco"),
        (("sanity", "run"), "--out is missing; see shardcam sanity --help"),
    ],
)
def test_what_is_wrong_is_named(typed, line):
    code, out, err = shardcam(*typed)
    assert (code, out) == (2, "")
    assert err.startswith(f"shardcam: {line}") and err.count("\n") == 1, err


@pytest.mark.parametrize("typed", [(), ("render",)])
def test_a_group_alone_shows_its_help(typed):
    code, out, err = shardcam(*typed)
    assert (code, out) == (2, "") and err.startswith("Usage: shardcam")
