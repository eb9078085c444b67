"""One output, embeddings and pixels against pytorch-grad-cam 1.5.7 with its targets.

`fixtures/ends` was written by export_ends.py: `BinaryClassifierOutputTarget`, the cosine of its
documentation and `SemanticSegmentationTarget`, of networks that end in a sigmoid, in an embedding
and in a softmax of each pixel.
"""

from pathlib import Path

import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.methods.scores import linked, won_pixels
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.similar_outputs import similar_to
from shardcam.kernels import normalize, upsample

FIXTURES = Path(__file__).parent.parent / "fixtures" / "ends"
LAYER = "/0/features/features.1/Relu"


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "expected.npz") as stored:
        return {key.replace("__", "/"): value for key, value in stored.items()}


@pytest.fixture(scope="module")
def passes(expected):
    """A forward pass of each network, and its definition."""
    found = {}
    for kind in ("binary", "embedding", "pixels"):
        definition = load_network(str(FIXTURES / f"{kind}.onnx"))
        if kind == "embedding":
            none = load_network(str(FIXTURES / f"{kind}.onnx"), link="none")
            definition = similar_to(none, expected["embedding/vector"][None])
        extra = (definition.prediction.name,) if definition.prediction else ()
        network = MxnetNetwork(definition, (LAYER,), 3, extra_layers=extra)
        found[kind] = definition, network.forward(expected["images"])
    return found


def test_scores(passes, expected):
    definition, forward = passes["binary"]
    scores = linked(forward.logits, definition.link)
    p = expected["binary/output"]
    np.testing.assert_allclose(scores, np.concatenate([1 - p, p], axis=1), atol=1e-5)
    _, forward = passes["embedding"]
    embedding, vector = expected["embedding/output"], expected["embedding/vector"]
    lengths = np.linalg.norm(embedding, axis=1) * np.linalg.norm(vector)
    np.testing.assert_allclose(forward.logits[:, 0], embedding @ vector / lengths, atol=1e-5)
    definition, forward = passes["pixels"]
    classes, share = won_pixels(forward.activation(definition.prediction.name), definition.link)
    np.testing.assert_array_equal(classes, expected["pixels/best"])
    counts = [(expected["pixels/best"] == k).mean(axis=(1, 2)) for k in range(4)]
    np.testing.assert_allclose(share.T, counts, atol=1e-6)


def test_maps(passes, expected):
    compared = 0
    for key, theirs in expected.items():
        kind, name, number = (*key.split("/"), "", "")[:3]
        if name not in METHODS:
            continue
        targets = np.full((3, 1), int(number), np.int32)
        raw = METHODS[name](passes[kind][1].layer(LAYER), targets)
        ours = normalize(upsample(normalize(np.ascontiguousarray(raw[:, 0])), (12, 16)))
        worst = abs(ours - theirs).max()
        assert worst < (1 / 255 if name == "shapleycam" else 1e-3), key
        compared += 1
    assert compared == 39
