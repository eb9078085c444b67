import numpy as np
import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.methods.scores import linked, softmax
from shardcam.engine.pipeline.targets import MOST_ABOVE, parse_targets, top_classes
from shardcam.engine.types import NO_CLASS, Sample

LOGITS = np.array([[1, 5, 3, 5], [9, 0, 0, -1]], np.float32)
SAMPLES = [Sample("a", 0, 2, "", 0), Sample("b", 1, 0, "", 0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top1", [[1], [0]]),
        ("top3", [[1, 3, 2], [0, 1, 2]]),
        ("label", [[2], [0]]),
        ("class:3,0", [[3, 0], [3, 0]]),
        ("above:0.4", [[1, 3, -1, -1], [0, -1, -1, -1]]),
        ("above:0.9,2", [[-1, -1], [0, -1]]),
    ],
)
def test_classes_chosen(text, expected):
    chosen = parse_targets(text, 4).choose(LOGITS, softmax(LOGITS), SAMPLES)
    assert chosen.dtype == np.int32
    assert chosen.tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best", r"takes top1, topK, label, labels\[:FILE\], class"),
        ("top0", "1 to 4 classes"),
        ("top5", "1 to 4 classes"),
        ("class:4", "no class 4; the network has classes 0 to 3"),
        ("class:1,1", "named twice"),
        ("class:", "takes top1"),
        ("class:-1", "no class -1"),
        ("above:1", "from 0 to 1"),
        ("above:nan", "from 0 to 1"),
        ("above:0.5,9", "1 to 4 classes"),
        ("above:half", "takes top1"),
    ],
)
def test_bad_target_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_targets(text, 4)


def test_an_image_without_labels_is_refused():
    given = np.array([[1, 3], [NO_CLASS, NO_CLASS]], np.int32)
    targets = parse_targets("labels:cls.npy", 4, given=given)
    assert targets.choose(LOGITS, softmax(LOGITS), SAMPLES[:1]).tolist() == [[1, 3]]
    assert targets.refusal(SAMPLES[0]) is None
    assert targets.refusal(SAMPLES[1]) == "the image has no label of a class of the network"


@pytest.mark.parametrize(("label", "refused"), [(-1, "no label"), (4, "label 4, but"), (3, None)])
def test_label_without_class(label, refused):
    reason = parse_targets("label", 4).refusal(Sample("k", 0, label, "", 0))
    assert (reason is None) if refused is None else (refused in reason)


def test_classes_above_a_score_by_each_link():
    z = np.array([[-3, 2, 0, 1], [-1, -2, -3, -4]], np.float32)
    assert parse_targets("above:0.5", 4, "sigmoid").choose(
        z, linked(z, "sigmoid"), SAMPLES
    ).tolist() == [
        [1, 3, -1, -1],
        [-1, -1, -1, -1],
    ]
    assert parse_targets("above:1.5", 4, "none").choose(z, z, SAMPLES)[0].tolist() == [
        1,
        -1,
        -1,
        -1,
    ]
    assert parse_targets("above:0", 80, "sigmoid").count == MOST_ABOVE
    with pytest.raises(ConfigError, match="claims no class"):
        parse_targets("label", 4, "none")


def test_a_sigmoid_does_not_overflow():
    z = np.array([-1e4, -np.log(3), 0, np.log(3), 1e4, np.nan], np.float32)
    expected = [0, 0.25, 0.5, 0.75, 1, np.nan]
    np.testing.assert_allclose(linked(z, "sigmoid"), expected, rtol=1e-6)


def test_softmax_does_not_overflow():
    probability = softmax(np.array([[1e4, 1e4 - np.log(3)]], np.float32))
    np.testing.assert_allclose(probability, [[0.75, 0.25]], rtol=1e-3)


@pytest.mark.parametrize("logits", [[0, np.nan], [np.inf, 0], [-np.inf, -np.inf], [np.nan] * 2])
def test_no_class_has_no_probability(logits):
    logits = np.array([logits, [0, 1]], np.float32)
    assert top_classes(logits, 2).tolist() == [[NO_CLASS] * 2, [1, 0]]
    assert np.isnan(softmax(logits)).tolist() == [[True] * 2, [False] * 2]


def test_top_classes_are_those_of_a_stable_sort() -> None:
    """Ties and infinities among few classes; none where the highest logit is not finite."""
    rng = np.random.RandomState(0)
    for _ in range(500):
        logits = rng.randint(-3, 4, (3, rng.randint(1, 12))).astype(np.float32)
        odd = rng.rand(*logits.shape)
        logits[odd < 0.05], logits[odd > 0.95] = np.nan, np.inf
        logits[(odd > 0.8) & (odd < 0.9)] = -np.inf
        count = rng.randint(1, logits.shape[1] + 1)
        expected = np.argsort(-logits, axis=1, kind="stable")[:, :count]
        expected[~np.isfinite(logits.max(axis=1))] = NO_CLASS
        np.testing.assert_array_equal(top_classes(logits, count), expected)
