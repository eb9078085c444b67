"""Whole runs by PyTorch on the CPU, beside MXNet's."""

import gc
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from shardcam.engine.models.torch.torch_network import TorchNetwork
from shardcam.engine.models.torch.torch_operators import OPERATORS
from shardcam.jobs.measuring.machine_checks import CHECKS
from tests.jobs.command import LOCAL, SMALL, assert_same, contents, shardcam
from tests.jobs.images import make_folder

TORCH = ("--runtime", "torch", *LOCAL)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    make_folder(folder, 20, bad=2)
    np.save(f"{folder}.npy", np.arange(6.0))
    np.save(f"{folder}-mask.npy", np.tri(12, 16))
    return folder


def extract(images, out, *options, network=SMALL):
    code, printed, err = shardcam("extract", images, *network, "--out", out, *options)
    assert code == 0, (printed, err)
    return json.loads((out / "run.json").read_text()), contents(out)


@pytest.mark.parametrize("method", ["gradcam", "layercam", "scorecam", "fullgrad"])
def test_a_run_is_as_mxnets(images, tmp_path, method):
    options = ("--method", method, "--save", "maps,activations,pooled,logits,heatmaps")
    made, found = extract(images, tmp_path / "torch", *TORCH, *options)
    by_mxnet, expected = extract(images, tmp_path / "mxnet", *LOCAL, *options)
    assert (made["config"]["runtime"], made["numbers"]["runtime"]) == ("torch", "torch")
    assert by_mxnet["config"]["runtime"] == "mxnet"
    assert "runtime" not in by_mxnet["numbers"]  # as before there was a choice
    assert made["fingerprint"] != by_mxnet["fingerprint"]
    assert_near(found, expected)


def test_random_weights_are_mxnets(images, tmp_path):
    options = ("--randomise", "one", "--save", "maps,logits")
    _, found = extract(images, tmp_path / "torch", *TORCH, *options)
    _, expected = extract(images, tmp_path / "mxnet", *LOCAL, *options)
    assert_near(found, expected)


def assert_near(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if values.dtype.kind == "f" and values.size:
            largest = np.nanmax(np.abs(values), initial=0)
            np.testing.assert_allclose(
                found[name], values, rtol=0, atol=1e-3 * largest, err_msg=name
            )
        elif values.dtype == np.uint8 and values.size:
            assert np.abs(found[name].astype(int) - values).max() <= 1, name  # levels
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


FIXTURES = Path(__file__).parent.parent / "fixtures"
OTHERS = {  # what is asked of networks that do not end in a softmax, or whose layers are no maps
    "pixels": ("ends/pixels.onnx", "--target", "top2"),
    "pixels by sigmoid": ("ends/pixels.onnx", "--link", "sigmoid", "--target", "above:0.1,3"),
    "pixels of a mask": (
        *("ends/pixels.onnx", "--target", "class:0,2", "--target-mask", "{images}-mask.npy"),
    ),
    "pixels by tokens": (
        *("segformer/script.onnx", "--target", "class:0,2"),
        *("--layer", "/whole/segformer/stages.2/layer_norm/LayerNormalization"),
    ),
    "means of pixels": ("ends/pixels.onnx", "--link", "none", "--target", "class:0,3"),
    "binary": ("ends/binary.onnx", "--target", "class:0,1"),
    "embedding": ("ends/embedding.onnx", "--link", "none"),
    "similar": ("ends/embedding.onnx", "--target", "similar:{images}.npy"),
    **{
        name: (f"tokens/{name}.onnx", "--target", "top2")
        for name in (
            *("vit.script", "registers.dynamo", "swin.script", "swin.dynamo", "last.script"),
            *("mixer.dynamo", "hybrid.script"),
        )
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_runs_of_other_networks_are_as_mxnets(name, images, tmp_path):
    model, *options = OTHERS[name]
    options = [option.format(images=images) for option in options]
    save = "maps,activations,pooled,logits,heatmaps"
    _, (found, expected) = zip(
        *(
            extract(images, tmp_path / runtime, "--runtime", runtime, *LOCAL, "--save", save,
                    *options, network=("--model", FIXTURES / model))
            for runtime in ("torch", "mxnet")
        )
    )  # fmt: skip
    assert_near(found, expected)
    assert ("prediction" in found) == name.startswith("pixels")


def test_a_run_is_the_same_again_and_of_no_other_runtime(images, tmp_path):
    _, first = extract(images, tmp_path / "run", *TORCH)
    _, again = extract(images, tmp_path / "again", *TORCH)
    assert_same(first, again)
    extract(images, tmp_path / "run", *TORCH)  # resumes
    code, _, err = shardcam("extract", images, *SMALL, "--out", tmp_path / "run", *LOCAL)
    assert code == 2
    assert "holds another run (runtime: torch there, null now)" in err


def test_the_network_of_a_run_is_gone_when_another_begins(images, tmp_path):
    gc.collect()
    gc.disable()
    try:
        for name in "ab":
            extract(images, tmp_path / name, *TORCH)
        assert [type(thing) for thing in gc.get_objects()].count(TorchNetwork) == 1
    finally:
        gc.enable()


def test_an_operator_that_it_lacks_is_refused_before_there_is_a_run(images, tmp_path, monkeypatch):
    monkeypatch.delitem(OPERATORS, "Activation")
    out = tmp_path / "run"
    code, _, err = shardcam("extract", images, *SMALL, "--out", out, *TORCH)
    assert code == 2
    assert "operators that it lacks: Activation 'one_relu'; use --runtime mxnet" in err, err
    assert len(err.strip().splitlines()) == 1
    assert not out.exists()


def test_a_gpu_that_is_not_there_is_refused(images, tmp_path):
    options = (*TORCH, "--gpus-per-worker", 1)
    code, _, err = shardcam("extract", images, *SMALL, "--out", tmp_path / "run", *options)
    assert code == 2
    assert re.search("--gpus-per-worker: .*: PyTorch", err) and "nvidia-smi" in err


def test_doctor_tells_the_build():
    (found,) = CHECKS["torch"](None)
    assert found.state == "ok"
    assert found.text.startswith(torch.__version__) and found.text.endswith("build")


def test_bf16(images, tmp_path):
    _, exact = extract(images, tmp_path / "exact", *TORCH)
    _, half = extract(images, tmp_path / "half", *TORCH, "--precision", "bf16")
    maps = [run["cam/two_relu/map"].ravel() for run in (exact, half)]
    assert np.corrcoef(*maps)[0, 1] > 0.99
