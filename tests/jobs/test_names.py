"""Names of layers, files and classes, whatever they are, are stored and printed."""

import io
import json
import shutil
import sys

import h5py
import pytest

from shardcam import open_run
from shardcam.jobs.cli import print_anything
from shardcam.jobs.terminal import make_console
from tests.jobs.command import CHECKPOINT, shardcam, shardcam_process
from tests.jobs.images import make_folder

LOCAL = ("--executor", "local", "--image-size", 32)


def with_layer(folder, name):
    """The small network, its last layer called so."""
    symbol = json.loads(CHECKPOINT.read_text())
    (node,) = [node for node in symbol["nodes"] if node["name"] == "two_relu"]
    node["name"] = name
    (folder / "net-symbol.json").write_text(json.dumps(symbol))
    shutil.copy(CHECKPOINT.with_name("small-0000.params"), folder / "net-0000.params")
    return folder / "net-symbol.json"


@pytest.mark.parametrize("name", ["/", ".", "..", "/a/b", "L" * 300, "50%b"])
def test_a_layer_of_any_name(tmp_path, name):
    make_folder(tmp_path / "images", 2)
    model = with_layer(tmp_path, name)
    run = tmp_path / "run"
    code, _, err = shardcam(
        *("extract", tmp_path / "images", "--model", model, "--out", run, *LOCAL),
        *("--save", "maps,activations,pooled,overlays"),
    )
    assert code == 0, err
    with h5py.File(run / "index.h5") as file:
        (stored,) = file["cam"]
        assert set(file["cam"][stored]) == {"map", "scale"}
    with open_run(run) as opened:
        assert opened.layers == opened.activation_layers == (stored,)
        assert (opened.cam(name)[:] == opened.cam(stored)[:]).all()
        assert opened.activation(name).shape == (2, 16, 8, 8)
    assert len([*(run / "overlays").iterdir()]) == 2
    for command in (
        ("verify", run),
        ("export", run, "--to", "masks", "--layer", name, "--out", tmp_path / "masks"),
        ("report", run),
        ("layers", model),
    ):
        code, _, err = shardcam(*command)
        assert (code, err) == (0, "")


def test_a_console_prints_names_as_far_as_it_can(monkeypatch):
    terminal = io.BytesIO()
    ascii_only = io.TextIOWrapper(terminal, "ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", ascii_only)
    print_anything()
    make_console().print("größe :smile: [bold] \x1b[31m \udcff", soft_wrap=True)
    assert terminal.getvalue() == b"gr\\xf6\\xdfe :smile: [bold] \\x1b[31m \\xdcff\n"


@pytest.mark.process
def test_a_terminal_that_has_no_such_letters(tmp_path, monkeypatch):
    make_folder(tmp_path / "größe", 1)
    (tmp_path / "names.txt").write_text("\n".join(["größe"] * 10))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    command = ("extract", "größe", "--model", CHECKPOINT, "--out", "größe-run", *LOCAL)
    command += ("--labels", "names.txt")
    for arguments in (command, ("status", "größe-run")):
        code, out, err = shardcam_process(*arguments, cwd=tmp_path)
        assert (code, err) == (0, "")
        assert r"gr\xf6\xdfe" in out
    code, out, err = shardcam_process(*command, "--print-config", cwd=tmp_path)
    assert "source: " + str(tmp_path / "größe") in out  # a file, and not for reading
    code, _, err = shardcam_process("status", "größe-none", cwd=tmp_path)
    assert (code, "not a run directory" in err) == (2, True)
