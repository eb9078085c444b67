"""Metrics beside quantus' own, where those are what they say: see docs/evaluation.md."""

import numpy as np
import pytest
import torch

from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.evaluation.pass_metrics import PASS_METRICS, measure_passes
from shardcam.engine.evaluation.passes import NetworkPasses
from shardcam.engine.methods import METHODS
from shardcam.engine.methods.scores import softmax
from shardcam.engine.types import Preprocessing
from tests.evaluation.image_rows import masked, rows_of
from tests.torch.test_pass_metrics_peers import Network

quantus = pytest.importorskip("quantus")

SIZE, COUNT = (48, 44), 5  # a step of quantus divides the number of pixels
QUIET = {"disable_warnings": True, "display_progressbar": False}
MAPS = np.random.default_rng(3).standard_normal((COUNT, 1, *SIZE), np.float32)
PICTURES = np.random.default_rng(4).standard_normal((COUNT, 3, *SIZE), np.float32)


@pytest.fixture(scope="module")
def network():
    found = Network(size=SIZE, closed=True)
    found.head[2].weight.data *= 20
    return found


@pytest.fixture(scope="module")
def model(network):
    return torch.nn.Sequential(network.backbone, torch.nn.ReLU(), network.head).eval()


def theirs(metric, model, maps, classes, **more):
    """Of each picture alone: quantus divides a batch by its largest value."""
    found = [
        metric(
            model=model, x_batch=PICTURES[i : i + 1], y_batch=classes[i : i + 1],
            a_batch=maps[i : i + 1], device="cpu", **{k: v[i : i + 1] for k, v in more.items()},
        )[0]
        for i in range(COUNT)
    ]  # fmt: skip
    return np.array(found)


@pytest.mark.parametrize(
    ("ours", "name", "near"), [("entropy", "Complexity", 1e-4), ("gini", "Sparseness", 1e-5)]
)
def test_sparseness(model, ours, name, near):
    metric = getattr(quantus, name)(**QUIET)
    expected = theirs(metric, model, MAPS, np.zeros(COUNT, np.int64))
    found = metric_named(ours).measure(MAPS, rows_of([None] * COUNT, size=SIZE, view=SIZE))
    np.testing.assert_allclose(found.value[:, 0], expected, rtol=near)


@pytest.mark.parametrize(
    ("ours", "name"), [("mass", "RelevanceMassAccuracy"), ("rank", "RelevanceRankAccuracy")]
)
def test_shares_on_objects(model, ours, name):
    maps = MAPS + np.float32(1.5)  # a signed sum near 0 divides both alike, and by nothing
    masks = np.zeros((COUNT, 1, *SIZE), np.uint8)
    for i, mask in enumerate(masks):
        mask[0, 3 * i : 3 * i + 20, 5 + i : 30] = 1
    rows = rows_of([masked(mask[0]) for mask in masks], size=SIZE, view=SIZE)
    metric = getattr(quantus, name)(abs=False, normalise=False, **QUIET)
    expected = theirs(metric, model, maps, np.zeros(COUNT, np.int64), s_batch=masks.astype(bool))
    found = metric_named(ours).measure(maps, rows)
    np.testing.assert_allclose(found.value[:, 0], expected, rtol=1e-5)


def test_pixel_flipping(network, model):
    """It has no first point, and replaces by the number that it is told to."""
    scores = softmax(np.concatenate([network.forward(p[None]).logits for p in PICTURES]))
    target = scores.argmax(axis=1).astype(np.int32)
    maps = np.abs(MAPS)
    preprocessing = Preprocessing(*SIZE, mean=(0.0,) * 3, std=(255.0,) * 3)
    passes = NetworkPasses(network, METHODS["gradcam"], "relu", preprocessing, 4)
    rows = rows_of([None] * COUNT, target=target[:, None], size=SIZE, view=SIZE,
                   score=np.take_along_axis(scores, target[:, None], axis=1))  # fmt: skip
    found = measure_passes([PASS_METRICS["deletion"]], PICTURES, maps, rows, passes)["deletion"]
    step = 8 * SIZE[1] * 3  # all channels of a pixel have its value, and go together
    metric = quantus.PixelFlipping(
        features_in_step=step, perturb_baseline=0.0, normalise=False, **QUIET
    )
    with torch.no_grad():
        probable = torch.nn.Sequential(model, torch.nn.Softmax(dim=1)).eval()
        expected = theirs(metric, probable, maps, target)
    np.testing.assert_allclose(found.columns["curve"][:, 0, 1:], expected, atol=1e-5)
