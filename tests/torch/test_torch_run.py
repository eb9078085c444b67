"""Whole runs by PyTorch on the CPU, beside MXNet's."""

import json

import numpy as np
import pytest
import torch

from shardcam.engine.models.torch.torch_operators import OPERATORS
from shardcam.jobs.measuring.machine_checks import CHECKS
from tests.jobs.command import SMALL, assert_same, contents, shardcam
from tests.jobs.images import make_folder
from tests.jobs.small_networks import extract as extract_small
from tests.jobs.small_networks import make_pictures, network
from tests.jobs.test_segmentation import network as segmenter
from tests.models.onnx_models import node

LOCAL = ("--executor", "local")
TORCH = ("--runtime", "torch", *LOCAL)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    make_folder(folder, 20, bad=2)
    return folder


def extract(images, out, *options):
    code, printed, err = shardcam("extract", images, *SMALL, "--out", out, *options)
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
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if values.dtype.kind == "f" and values.size:
            assert np.abs(found[name] - values).max() <= 1e-3 * np.abs(values).max(), name
        elif values.dtype == np.uint8 and values.size:
            assert np.abs(found[name].astype(int) - values).max() <= 1, name  # levels
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("target", ["top2", "above:0.6,3", "class:0,1", "similar:", "pixels"])
def test_heads_of_all_kinds_are_as_mxnets(target, tmp_path):
    """One output, several labels, an embedding, and pixels."""
    (tmp_path / "pictures").mkdir()
    pictures = make_pictures(tmp_path / "pictures")
    if target == "pixels":
        segmenter(tmp_path / "net.onnx", pictures[1], 4, [], never=(1, 2, 3))
    else:
        outputs, end = 1 if target == "class:0,1" else 5, [node("Sigmoid", "z", "y")]
        network(tmp_path / "net.onnx", pictures[1], outputs, end * (target != "similar:"))
    np.save(tmp_path / "v.npy", np.arange(5.0))
    target = {"pixels": "top2", "similar:": f"similar:{tmp_path}/v.npy"}.get(target, target)
    options = ("--target", target, "--layer", "r", "--save", "maps,logits,heatmaps")
    found = {}
    for runtime in ("torch", "mxnet"):
        code, out, err = extract_small(pictures, tmp_path, *options, "--runtime", runtime)
        assert code == 0, (out, err)
        (tmp_path / "run").rename(tmp_path / runtime)
        found[runtime] = contents(tmp_path / runtime)
    assert found["torch"].keys() == found["mxnet"].keys()
    for name, values in found["mxnet"].items():
        if values.dtype.kind == "f" and values.size:
            largest = np.nanmax(np.abs(values), initial=0)
            np.testing.assert_allclose(found["torch"][name], values, atol=1e-3 * largest)
        elif name != "heatmap":
            np.testing.assert_array_equal(found["torch"][name], values, err_msg=name)


def test_a_run_is_the_same_again_and_of_no_other_runtime(images, tmp_path):
    _, first = extract(images, tmp_path / "run", *TORCH)
    _, again = extract(images, tmp_path / "again", *TORCH)
    assert_same(first, again)
    extract(images, tmp_path / "run", *TORCH)  # resumes
    code, _, err = shardcam("extract", images, *SMALL, "--out", tmp_path / "run", *LOCAL)
    assert code == 1
    assert "holds another run (runtime: torch there, null now)" in err


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
    assert code == 1
    assert "--gpus-per-worker: PyTorch" in err and "nvidia-smi" in err


def test_doctor_tells_the_build():
    (found,) = CHECKS["torch"](None)
    assert found.state == "ok"
    assert found.text.startswith(torch.__version__) and found.text.endswith("build")


def test_bf16(images, tmp_path):
    _, exact = extract(images, tmp_path / "exact", *TORCH)
    _, half = extract(images, tmp_path / "half", *TORCH, "--precision", "bf16")
    maps = [run["cam/two_relu/map"].ravel() for run in (exact, half)]
    assert np.corrcoef(*maps)[0, 1] > 0.99
