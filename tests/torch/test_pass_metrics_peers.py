"""Metrics of changed pictures beside torchcam's and pytorch-grad-cam's own, on the same maps.

And of a network in PyTorch beside the same in MXNet.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from shardcam.engine.evaluation import explained_pairs
from shardcam.engine.evaluation.explained_pairs import PGC, UNIT, enlarged
from shardcam.engine.evaluation.metric import ImageRows, Reason
from shardcam.engine.evaluation.pass_metrics import PASS_METRICS, measure_passes
from shardcam.engine.evaluation.passes import NetworkPasses
from shardcam.engine.evaluation.score_changes import Coherency
from shardcam.engine.methods import METHODS
from shardcam.engine.methods.scores import softmax
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.torch.torch_network import TorchNetwork as EngineNetwork
from shardcam.engine.types import Preprocessing
from tests.models.networks import every_tap_kind
from tests.torch.tensor_network import TorchNetwork

SIZE = (40, 44)
COUNT = 6


class Network(TorchNetwork):
    """Takes inputs that are written."""

    def forward(self, images):
        if not isinstance(images, np.ndarray):
            given, shape = images, (len(images), *images.pictures.shape[1:])
            images = np.empty(shape, np.float32)
            given.write(images)
        return super().forward(images)


@pytest.fixture(scope="module")
def case():
    """A network in torch, passes over it, pictures, their maps of the likeliest class, rows."""
    network = Network(size=SIZE, closed=True)
    network.head[2].weight.data *= 20
    preprocessing = Preprocessing(*SIZE, mean=(0.0,) * 3, std=(255.0,) * 3)
    passes = NetworkPasses(network, METHODS["gradcam"], "relu", preprocessing, 4)
    pictures = np.random.default_rng(3).standard_normal((COUNT, 3, *SIZE), np.float32)
    scores = softmax(network.forward(pictures).logits)
    target = scores.argmax(axis=1).astype(np.int32)[:, None]
    maps = np.random.default_rng(4).standard_normal((COUNT, 1, 5, 6), np.float32)
    rows = ImageRows(
        sample=np.arange(COUNT),
        keys=tuple("abcdef"),
        label=np.zeros(COUNT, np.int32),
        target=target,
        score=np.take_along_axis(scores, target, axis=1),
        top_class=np.zeros((COUNT, 5), np.int32),
        crop=np.zeros((COUNT, 4)),
        image_size=np.zeros((COUNT, 2), np.int32),
        view_size=SIZE,
        truth=(None,) * COUNT,
    )
    model = torch.nn.Sequential(network.backbone, torch.nn.ReLU(), network.head).eval()
    return passes, pictures, maps, rows, model


def measured(case, *names):
    passes, pictures, maps, rows, _ = case
    found = measure_passes([PASS_METRICS[name] for name in names], pictures, maps, rows, passes)
    assert all((one.reason == Reason.MEASURED).all() for one in found.values())
    return {name: one.value[:, 0] for name, one in found.items()}


class Extractor:
    """The interface of torchcam's, with maps that are there already, stretched as torchcam's."""

    def __init__(self, model, maps):
        positive = torch.relu(torch.from_numpy(maps))
        self.model, self.maps = model, positive - positive.amin(dim=(1, 2), keepdim=True)
        self.maps /= self.maps.amax(dim=(1, 2), keepdim=True) + 1e-8

    def __call__(self, class_idx, scores=None, **kwargs):
        return [self.maps.clone()]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return nullcontext()


@pytest.mark.parametrize("whole", [True, False])
def test_torchcam(case, whole):
    metrics = pytest.importorskip("torchcam.metrics")
    passes, pictures, maps, rows, model = case
    one = "average_drop:torchcam", "average_increase"
    two = "insertion:torchcam", "deletion:torchcam"
    if whole:  # as large as the picture, with many equal pixels: none may change places
        maps = np.round(np.random.default_rng(5).standard_normal((COUNT, 1, *SIZE), np.float32), 1)
    ours = measured((passes, pictures, maps, rows, model), *one, *two)
    probability = torch.nn.Softmax(dim=-1)
    for i in range(COUNT):
        extractor = Extractor(model, maps[i])
        picture, klass = torch.from_numpy(pictures[i : i + 1]), int(rows.target[i, 0])
        classification = metrics.ClassificationMetric(extractor, probability)
        curves = metrics.DeletionInsertionMetric(extractor, probability)
        for metric in (classification, curves):
            metric.update(picture, klass)
        theirs = classification.summary() | curves.summary()
        keys = "avg_drop", "conf_increase", "insertion_auc", "deletion_auc"
        for name, key in zip((*one, *two), keys):
            near = 2e-5 if whole or name in one else 1e-3
            assert ours[name][i] == pytest.approx(theirs[key], abs=near), name


def test_pytorch_grad_cam(case):
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.metrics import arcc, cam_mult_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    passes, pictures, maps, rows, model = case
    given = torch.from_numpy(pictures)
    heat = enlarged(maps[:, 0].copy(), SIZE, PGC)
    targets = [ClassifierOutputSoftmaxTarget(int(k)) for k in rows.target[:, 0]]
    ours = measured(case, "average_drop:pgc", "average_increase:pgc", "coherency:pgc")
    drop = cam_mult_image.DropInConfidence()(given, heat, targets, model)
    np.testing.assert_allclose(ours["average_drop:pgc"], drop, atol=1e-5)
    increase = cam_mult_image.IncreaseInConfidence()(given, heat, targets, model)
    np.testing.assert_array_equal(ours["average_increase:pgc"], increase)

    def method(input_tensor, targets):
        forward = passes.network.forward(input_tensor.numpy())
        raw = METHODS["gradcam"](forward.layer("relu"), rows.target)[:, 0]
        return enlarged(np.ascontiguousarray(raw), SIZE, PGC)

    coherency = arcc.Coherency()(given, heat, targets, model, method)
    np.testing.assert_allclose(ours["coherency:pgc"], coherency, atol=1e-4)


@pytest.mark.parametrize(("name", "sign"), [("morf:pgc", 1), ("lerf:pgc", -1)])
def test_road_of_pytorch_grad_cam(case, name, sign, monkeypatch):
    """Without noise, and on maps without ties, where percentiles and ranks are the same pixels."""
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.metrics import perturbation_confidence, road
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    monkeypatch.setattr(explained_pairs, "NOISE", 0.0)
    passes, pictures, maps, rows, model = case
    maps = (
        np.random.default_rng(5)
        .permuted(np.tile(np.arange(1, 1 + np.prod(SIZE), dtype=np.float32), (COUNT, 1)), axis=1)
        .reshape(COUNT, 1, *SIZE)
    )
    heat = enlarged(maps[:, 0].copy(), SIZE, PGC)
    targets = [ClassifierOutputSoftmaxTarget(int(k)) for k in rows.target[:, 0]]
    imputer = road.NoisyLinearImputer(noise=0)
    way = {1: "RemoveMostRelevantFirst", -1: "RemoveLeastRelevantFirst"}[sign]
    theirs = [
        perturbation_confidence.PerturbationConfidenceMetric(
            getattr(perturbation_confidence, way)(percentile, imputer)
        )(torch.from_numpy(pictures), heat, targets, model)
        for percentile in range(10, 100, 10)
    ]
    (found,) = measure_passes([PASS_METRICS[name]], pictures, maps, rows, passes).values()
    for i in range(COUNT):
        expected = [one[i] for one in theirs][::-1]  # they name what is kept
        np.testing.assert_allclose(found.columns["curve"][i, 0], expected, atol=1e-3)
    np.testing.assert_allclose(found.value[:, 0], np.mean(theirs, axis=0), atol=1e-3)


def test_both_runtimes():
    definition = every_tap_kind()
    rng = np.random.default_rng(1)
    pictures = rng.standard_normal((5, 3, 12, 12), np.float32)
    maps = rng.standard_normal((5, 2, 6, 6), np.float32)
    found = []
    for network in (
        EngineNetwork(definition, ("e_relu",), 4),
        MxnetNetwork(definition, ("e_relu",), 4),
    ):
        scores = np.concatenate([softmax(network.forward(pictures[s]).logits)
                                 for s in (slice(4), slice(4, 5))])  # fmt: skip
        target = np.argsort(-scores, axis=1)[:, :2].astype(np.int32)
        rows = ImageRows(
            np.arange(5), tuple("abcde"), np.zeros(5, np.int32), target,
            np.take_along_axis(scores, target, axis=1), np.zeros((5, 5), np.int32),
            np.zeros((5, 4)), np.zeros((5, 2), np.int32), (12, 12), (None,) * 5,
        )  # fmt: skip
        method = METHODS["layercam"]
        passes = NetworkPasses(network, method, "e_relu", definition.preprocessing, 4)
        found.append(measure_passes(list(PASS_METRICS.values()), pictures, maps, rows, passes))
    for name, one in found[0].items():
        assert (one.reason == Reason.MEASURED).all()
        np.testing.assert_allclose(one.value, found[1][name].value, atol=1e-3, err_msg=name)


def test_coherency_of_a_map_with_itself(case):
    """A network that makes no map at all is coherent with none."""
    passes, pictures, maps, rows, _ = case
    zeros = NetworkPasses(passes.network, lambda layer, target: 0 * layer.activation[:, :1],
                          "relu", passes.preprocessing, 4)  # fmt: skip
    found = measure_passes([Coherency("coherency", UNIT)], pictures, maps, rows, zeros)
    np.testing.assert_array_equal(found["coherency"].value, 0)
