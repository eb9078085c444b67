"""Passes over inputs that are written where the network reads them."""

from dataclasses import replace

import numpy as np
import pytest

from shardcam.engine.evaluation.evaluation import evaluate
from shardcam.engine.evaluation.passes import Masked, NetworkPasses, Switched
from shardcam.engine.evaluation.precision_agreement import ComparedPasses
from shardcam.engine.methods import METHODS
from shardcam.engine.methods.scores import linked, won_pixels
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.pipeline.stage_timer import StageTimer
from tests.jobs.command import SMALL, shardcam
from tests.jobs.images import make_folder
from tests.methods.test_ends import FIXTURES
from tests.methods.test_ends import LAYER as LAYER_OF_PIXELS
from tests.models.networks import every_tap_kind

LAYER = "e_relu"


@pytest.fixture(scope="module")
def definition():
    return every_tap_kind()


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(2)
    pictures = rng.standard_normal((3, 3, 12, 12), np.float32)
    masks = rng.random((5, 12, 12), np.float32)
    return Masked(pictures, masks, np.array([[i % 3, i % 5] for i in range(11)]))


def written(inputs):
    out = np.full((len(inputs), 3, 12, 12), np.nan, np.float32)
    inputs.write(out)
    return out


@pytest.mark.parametrize("buffers", [1, 2])
@pytest.mark.parametrize("rows", [2, 4, 7])
def test_written_inputs_are_those_of_an_array(definition, inputs, rows, buffers):
    network = MxnetNetwork(definition, (LAYER,), rows, buffers=buffers)
    passes = NetworkPasses(network, METHODS["gradcam"], LAYER, definition.preprocessing, rows)
    classes = np.arange(11, dtype=np.int32) % 5
    pictures = written(inputs)
    for start in range(0, 11, rows):
        part = slice(start, start + rows)
        forward = network.forward(inputs[part])
        np.testing.assert_array_equal(forward.images, pictures[part])
        logits = forward.logits.copy()
        np.testing.assert_array_equal(network.forward(pictures[part]).logits, logits)
    alone = MxnetNetwork(definition, (LAYER,), 1)
    expected, maps = [], []
    for picture, klass in zip(pictures, classes):
        forward = alone.forward(picture[None])
        expected.append(linked(forward.logits, "softmax")[0, klass])
        maps.append(METHODS["gradcam"](forward.layer(LAYER), np.array([[klass]], np.int32))[0, 0])
    np.testing.assert_allclose(passes.scores(inputs, classes), expected, atol=1e-5)
    scores, made = passes.explained(inputs, classes)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(made, maps, rtol=1e-3, atol=1e-5)


def test_the_scores_of_zeros_cost_one_pass(definition):
    network = MxnetNetwork(definition, (LAYER,), 4)
    passes = NetworkPasses(network, METHODS["gradcam"], LAYER, definition.preprocessing, 4)
    begun = []
    network.on_pass = lambda: begun.append(1)
    classes = np.array([4, 0, 0, 2], np.int32)
    first, again = passes.blank(classes), passes.blank(classes)
    assert len(begun) == 1
    zeros = Switched(np.zeros((1, 3, 12, 12), np.float32), np.zeros((1, 12, 12), np.uint32),
                     np.zeros((4, 4), np.int64))  # fmt: skip
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, passes.scores(zeros, classes), atol=1e-6)


def test_scores_are_compared_with_those_of_another_network(definition, inputs):
    other = replace(definition, parameters={k: 1.05 * v for k, v in definition.parameters.items()})
    both = [
        NetworkPasses(
            MxnetNetwork(one, (LAYER,), 4), METHODS["gradcam"], LAYER, one.preprocessing, 4
        )
        for one in (definition, other)
    ]
    classes = np.arange(11, dtype=np.int32) % 5
    low, exact = (
        np.concatenate([
            linked(passes.network.forward(written(inputs)[s : s + 4]).logits, "softmax")
            for s in range(0, 11, 4)
        ])
        for passes in both
    )  # fmt: skip
    compared = ComparedPasses(*both)
    rows = np.arange(11), classes
    np.testing.assert_allclose(compared.scores(inputs, classes), low[rows], atol=1e-6)
    scores, maps = compared.explained(inputs, classes)
    np.testing.assert_array_equal(scores, both[0].explained(inputs, classes)[0])
    found, difference = compared.found, np.abs(low[rows] - exact[rows])
    assert (found.pictures, found.largest) == (22, pytest.approx(difference.max(), abs=1e-6))
    assert found.first_class == 2 * (low.argmax(axis=1) == exact.argmax(axis=1)).sum()
    assert found.difference == pytest.approx(2 * difference.sum(), abs=1e-5)
    assert len(maps) == 11


def test_the_timer_sees_each_pass_within_a_batch(tmp_path, monkeypatch):
    """A worker is not held to hang because the curves of a batch take an hour."""
    make_folder(tmp_path / "pictures", 3)
    code, _, err = shardcam(
        "extract", tmp_path / "pictures", *SMALL, "--out", tmp_path / "run", "--executor", "local"
    )
    assert code == 0, err
    begun = []
    monkeypatch.setattr(StageTimer, "pass_begun", lambda timer: begun.append(timer.current))
    found = evaluate(tmp_path / "run", ["insertion:row"], executor="local")
    assert found.results["insertion-row"].figure.n == 3
    assert begun.count("measure") >= 3


def test_the_share_of_pixels_is_the_score_of_a_segmentation_network():
    with np.load(FIXTURES / "expected.npz") as stored:
        pictures = stored["images"]
    definition = load_network(str(FIXTURES / "pixels.onnx"))
    name = definition.prediction.name
    network = MxnetNetwork(definition, (LAYER_OF_PIXELS,), 3, extra_layers=(name,))
    passes = NetworkPasses(
        network, METHODS["gradcam"], LAYER_OF_PIXELS, definition.preprocessing, 3,
        definition.link, prediction=name,
    )  # fmt: skip
    ones = np.ones((1, *pictures.shape[2:]), np.float32)
    inputs = Masked(pictures, ones, np.array([[0, 0], [1, 0], [2, 0], [0, 0]]))
    classes = np.array([0, 1, 2, 3], np.int32)
    _, shares = won_pixels(network.forward(pictures).activation(name), definition.link)
    expected = shares[[0, 1, 2, 0], classes]
    np.testing.assert_allclose(passes.scores(inputs, classes), expected, atol=1e-6)
    scores, maps = passes.explained(inputs, classes)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert maps.shape[0] == 4 and np.isfinite(maps).all()
