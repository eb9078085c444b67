"""Metrics that ask the network about changed pictures.

Against golden values of the references' rules, and of a small network against a loop in NumPy that
makes each changed picture by itself and runs it alone.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from scipy.stats import binomtest

from shardcam.engine.evaluation import explained_pairs
from shardcam.engine.evaluation.explained_pairs import PGC, SIGNED, UNIT, XPLIQUE, enlarged
from shardcam.engine.evaluation.metric import ImageRows, Merged, Reason
from shardcam.engine.evaluation.pass_metrics import PASS_METRICS, measure_passes
from shardcam.engine.evaluation.passes import NetworkPasses
from shardcam.engine.evaluation.pixel_curves import Curve, Road
from shardcam.engine.evaluation.score_changes import harmonic_mean
from shardcam.engine.methods import METHODS
from shardcam.engine.methods.scores import linked
from shardcam.engine.methods.smoothing import smoothed_maps
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.types import NO_CLASS, SOFTMAX, Preprocessing
from shardcam.kernels import add_noise, normalize
from tests.evaluation import xplique_values
from tests.kernels import reference
from tests.models.networks import HAND_INPUT, every_tap_kind, hand_checked

LAYER = "e_relu"
OF_XPLIQUE = {  # as xplique_values.py prints them
    "insertion:xplique": [0.226675, 0.5670551, 0.2467887],
    "deletion:xplique": [0.6515915, 0.153578, 0.3489048],
    "average_drop:xplique": [0.6513184, 0.0, 0.0],
    "average_increase:xplique": [0.0, 1.0, 1.0],
    "average_gain:xplique": [0.0, 0.02794, 0.0031625],
}
NAMES = sorted(PASS_METRICS)


@dataclass
class Weighted:
    """The score is a weighted sum of the input; how many inputs there were is counted."""

    weights: np.ndarray
    rows: int = 4
    counted: int = 0
    pixel_range = np.full(1, 255, np.float32)

    def scores(self, inputs, classes):
        assert len(inputs) == len(classes)
        out = np.empty((len(inputs), *self.weights.shape), np.float32)
        inputs.write(out)
        self.counted += len(out)
        return (out * self.weights).sum(axis=(1, 2, 3)).astype(np.float32)

    def blank(self, classes):
        return np.zeros(len(classes), np.float32)


def rows_of(target, score, view_size=(8, 8), first=0):
    count = len(target)
    return ImageRows(
        sample=np.arange(first, first + count),
        keys=tuple(map(str, range(count))),
        label=np.zeros(count, np.int32),
        target=target.astype(np.int32),
        score=score.astype(np.float32),
        top_class=np.zeros((count, 5), np.int32),
        crop=np.zeros((count, 4)),
        image_size=np.full((count, 2), 8, np.int32),
        view_size=view_size,
        truth=(None,) * count,
    )


@pytest.fixture(scope="module")
def golden():
    """A picture of 8x8 whose score is a weighted sum, and the map that is that sum's terms."""
    y, x = np.mgrid[:8, :8]
    picture = 1 + (3 * x + 5 * y) % 7
    weight = np.exp(-((x - 5) ** 2 + (y - 2) ** 2) / 6)
    saliency = (weight * picture).astype(np.float32)
    passes = Weighted((weight / saliency.sum())[None].astype(np.float64))
    rows = rows_of(np.zeros((1, 1)), np.ones((1, 1)))
    return picture[None, None].astype(np.float32), saliency[None, None], rows, passes


@pytest.mark.parametrize(
    ("steps", "torchcam", "points", "deletion", "insertion"),
    [
        ("1 row a step", False, 9, 0.1864698741803633, 0.8135301258196368),
        ("13 steps", False, 14, 0.17836147639575956, 0.8216385236042407),
        ("20 steps", True, 17, 0.17970572754024094, 0.8202942724597593),
        ("10 steps", True, 11, 0.18471312100650694, 0.8152868789934933),
    ],
)
def test_golden_curves(golden, steps, torchcam, points, deletion, insertion):
    *given, passes = golden
    ties = "rising" if torchcam else "falling"
    how = {"ties": ties, "steps": steps, "blurs": False, "true_fractions": torchcam}
    both = Curve("deletion", False, **how), Curve("insertion", True, **how)
    before = passes.counted
    found = measure_passes(both, *given, passes)
    assert passes.counted - before == 2 * (points - 2)  # the ends cost nothing
    assert found["deletion"].columns["curve"].shape == (1, 1, points)
    assert found["deletion"].value[0, 0] == pytest.approx(deletion, rel=1e-6)
    assert found["insertion"].value[0, 0] == pytest.approx(insertion, rel=1e-6)
    assert found["insertion"].columns["curve"][0, 0, [0, -1]].tolist() == [0, 1]


@dataclass
class Dense:
    """The softmax of one dense layer, over pictures flattened with their channels last."""

    weights: np.ndarray
    rows: int = 4

    def all_scores(self, pictures):
        return linked(
            pictures.transpose(0, 2, 3, 1).reshape(len(pictures), -1) @ self.weights, SOFTMAX
        )

    def scores(self, inputs, classes):
        out = np.empty((len(inputs), *inputs.pictures.shape[1:]), np.float32)
        inputs.write(out)
        return self.all_scores(out)[np.arange(len(out)), classes]

    def blank(self, classes):
        return np.full(len(classes), 1 / self.weights.shape[1], np.float32)


def test_values_of_xplique():
    pictures, maps, weights, classes = xplique_values.inputs()
    pictures = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    passes = Dense(weights)
    target = classes[:, None]
    score = np.take_along_axis(passes.all_scores(pictures), target, axis=1)
    rows = rows_of(target, score, view_size=maps.shape[1:])
    metrics = [PASS_METRICS[name] for name in OF_XPLIQUE]
    found = measure_passes(metrics, pictures, maps[:, None], rows, passes)
    for name, expected in OF_XPLIQUE.items():
        np.testing.assert_allclose(found[name].value[:, 0], expected, atol=2e-6, err_msg=name)


def test_the_points_of_each_rule():
    rise, row = PASS_METRICS["insertion"], PASS_METRICS["insertion:row"]
    counts = rise.counts((224, 224))
    assert (len(counts), counts[1], counts[-1]) == (29, 224 * 8, 224 * 224)
    assert len(row.counts((224, 224))) == 225
    assert rise.counts((20, 30)) == (0, 240, 480, 600)
    counts = PASS_METRICS["deletion:torchcam"].counts((224, 224))
    assert (len(counts), counts[1], counts[-2:]) == (21, 2509, (47671, 50176))
    assert PASS_METRICS["deletion:xplique"].counts((5, 5)) == (
        0,
        2,
        5,
        7,
        10,
        12,
        15,
        17,
        20,
        22,
        25,
    )


def test_adcc_of_known_parts():
    coherency, complexity, drop = np.array([[0.9, 0.3, 0.2], [0.5, 0.5, 1], [0, 0.2, 0]]).T
    found = harmonic_mean(coherency, 1 - complexity, 1 - drop)
    np.testing.assert_allclose(found, [0.7916230366492147, 0, 0], rtol=1e-12)


@pytest.fixture(scope="module")
def network():
    definition = every_tap_kind()
    size = Preprocessing(12, 12, mean=(0.0,) * 3, std=(50.0, 60.0, 70.0))
    return replace(definition, preprocessing=size)


def passes_of(definition, rows=4, method="layercam", **options):
    built = MxnetNetwork(definition, (LAYER,), rows)
    preprocessing = definition.preprocessing
    return NetworkPasses(built, METHODS[method], LAYER, preprocessing, rows, **options)


@pytest.fixture(scope="module")
def case(network):
    """Seven images with two classes each, their maps and scores; some classes are left out."""
    passes = passes_of(network, rows=7)
    pictures = np.random.default_rng(1).standard_normal((7, 3, 12, 12), np.float32)
    forward = passes.network.forward(pictures)
    scores = linked(forward.logits, "softmax")
    target = np.argsort(-scores, axis=1)[:, :2].astype(np.int32)
    maps = METHODS["layercam"](forward.layer(LAYER), target).copy()
    maps -= maps.mean(axis=(2, 3), keepdims=True)  # on both sides of 0
    score = np.take_along_axis(scores, target, axis=1)
    target[1, 1], maps[1, 1] = NO_CLASS, np.nan
    maps[2, 0] = 3
    maps[3, 1] = -abs(maps[3, 1])
    maps[4, 0, 0, 0] = np.inf
    score[5, 0] = np.nan
    return pictures, maps, rows_of(target, score, (12, 12), first=40)


REASONS = {
    (1, 1): Reason.NO_CLASS,
    (2, 0): Reason.NO_MAP,
    (3, 1): Reason.NO_MAP,
    (4, 0): Reason.NO_MAP,
    (5, 0): Reason.NO_SCORE,
}


class Alone:
    """Every metric of one class of one image, from its formula, a picture at a time."""

    def __init__(self, passes, picture, raw, klass, score, sample):
        self.passes, self.picture, self.raw = passes, picture.astype(np.float64), raw
        self.klass, self.p, self.sample = klass, float(score), sample

    def of(self, name):
        metric, _, rule = name.partition(":")
        kind = {"pgc": PGC, "xplique": XPLIQUE, "signed": SIGNED}.get(rule, UNIT)
        if metric in ("insertion", "deletion"):
            return self.area(metric == "insertion", rule, kind)
        if metric in ("morf", "lerf", "road"):
            return self.road(metric, rule)
        if metric == "arcc":
            road = self.road("road", "", PGC, pixels=False)
            parts = self.coherency(PGC, 1e-8), 1 - self.mask(PGC).mean(), np.clip(2 * road, 0, 1)
            return 3 / sum(1 / (part + 1e-8) for part in parts)
        after = self.score(self.picture * self.mask(kind))
        epsilon = {"torchcam": 1e-7, "xplique": 1e-8}.get(rule, 0)
        drop = max(0, self.p - after) / (1 if rule == "pgc" else self.p + epsilon)
        if metric == "coherency":
            return self.coherency(kind, 1e-8 if rule == "pgc" else 0)
        if metric == "adcc":
            parts = self.coherency(UNIT, 0), 1 - self.mask(UNIT).mean(), 1 - drop
            return 3 / sum(1 / part for part in parts) if min(parts) else 0.0
        gain = max(0, after - self.p) / ((1 - self.p + epsilon) or 1)
        return {"average_drop": drop, "average_gain": gain,
                "average_increase": after > self.p}[metric]  # fmt: skip

    def score(self, picture):
        forward = self.passes.network.forward(picture[None].astype(np.float32))
        return float(linked(forward.logits, "softmax")[0, self.klass])

    def mask(self, kind, raw=None):
        raw = np.asarray(self.raw if raw is None else raw, np.float64)
        positive = raw if kind == SIGNED else np.maximum(raw, 0)
        if kind in (UNIT, PGC):
            shifted = positive - positive.min()
            positive = shifted / (shifted.max() + (1e-7 if kind == PGC else 0))
        large = cv2.resize(positive, self.picture.shape[:0:-1])
        if kind in (XPLIQUE, PGC):
            shifted = large - large.min()
            large = shifted / (shifted.max() + (1e-7 if kind == PGC else 1e-8))
        return large

    def strength(self, kind):
        """Of each pixel, to the last bit: where two are nearly equal it decides."""
        found = enlarged(np.ascontiguousarray(self.raw[None]), (12, 12), kind)[0]
        np.testing.assert_allclose(found, self.mask(kind), rtol=1e-5, atol=1e-6)
        return found.ravel()

    def coherency(self, kind, epsilon):
        mask = self.mask(kind)
        forward = self.passes.network.forward((self.picture * mask)[None].astype(np.float32))
        made = self.passes.method(
            forward.layer(self.passes.layer), np.array([[self.klass]], np.int32)
        )[0, 0]
        with np.errstate(invalid="ignore"):
            one, other = mask.ravel(), self.mask(kind, made).ravel()
            covariance = np.cov(one, other)
            spread = np.sqrt(covariance[0, 0] * covariance[1, 1]) + epsilon
            value = (covariance[0, 1] / spread + 1) / 2
        return value if np.isfinite(value) else 0.0

    def area(self, inserts, rule, kind):
        large = self.strength(kind)
        order = np.argsort(-large, kind="stable")
        if rule != "torchcam":
            order = np.argsort(large, kind="stable")[::-1]
        steps = {"": 96, "signed": 96, "row": 12, "torchcam": 8}.get(rule)
        counts = [*range(0, 144, steps), 144] if steps else np.linspace(0, 144, 11).astype(int)
        other = np.zeros_like(self.picture)
        if inserts and rule in ("", "row", "signed"):
            other = reference.blur(self.picture[None].astype(np.float32), 11, 5.0)[0]
        points = []
        for count in counts:
            first = np.zeros(144, bool)
            first[order[:count]] = True
            kept = first if inserts else ~first
            points.append(self.score(np.where(kept.reshape(12, 12), self.picture, other)))
        if rule == "torchcam":
            middle = (np.array(points[1:]) + points[:-1]) / 2
            return (middle * np.diff(counts)).sum() / 144
        return (sum(points) - points[0] / 2 - points[-1] / 2) / (len(points) - 1)

    def road(self, metric, rule, kind=None, pixels=True):
        kind = kind or (PGC if rule == "pgc" else SIGNED)
        large = self.strength(kind)
        order = np.argsort(large, kind="stable")[::-1]
        scale = np.full(3, 0.01, np.float32)
        if pixels and rule != "pgc":
            scale *= 255 / np.array(self.passes.preprocessing.std, np.float32)
        found = {"morf": [], "lerf": []}
        for percent in range(10, 100, 10) if rule == "pgc" else (20, 40, 60, 80):
            count = 144 * percent // 100
            for way, gone in (("morf", order[:count]), ("lerf", order[144 - count :])):
                removed = np.zeros(144, np.uint8)
                removed[gone] = 1
                removed = removed.reshape(12, 12)
                picture = self.picture.astype(np.float32)
                filled = reference.impute(picture, removed, 0, picture.copy())
                add_noise(filled, removed, scale, (5, self.sample, percent))
                found[way].append(self.score(filled))
        means = {way: np.mean(scores) for way, scores in found.items()}
        if metric == "road":
            return (means["lerf"] - means["morf"]) / 2
        return means[metric] - (self.p if rule == "pgc" else 0)


def test_every_metric_against_a_loop_of_single_pictures(network, case, monkeypatch):
    monkeypatch.setattr(explained_pairs, "TOLERANCE", 1e-7)
    pictures, maps, rows = case
    found = measure_passes(list(PASS_METRICS.values()), *case, passes_of(network), seed=5)
    alone = passes_of(network, rows=1)
    for (i, k), reason in np.ndenumerate(found["insertion"].reason):
        assert reason == REASONS.get((i, k), Reason.MEASURED)
        one = Alone(alone, pictures[i], maps[i, k], rows.target[i, k], rows.score[i, k], 40 + i)
        for name in NAMES:
            measured = found[name]
            assert measured.reason[i, k] == reason, name
            expected = np.nan if reason else one.of(name)
            close = pytest.approx(float(expected), abs=1e-4, nan_ok=True)
            assert measured.value[i, k] == close, name
            for column in measured.columns.values():
                assert np.isfinite(column[i, k]).all() == (reason == 0), name


def test_values_do_not_depend_on_what_is_measured_with_them(network, case):
    """Nor on the batch size."""
    pictures, maps, rows = case
    together = measure_passes(list(PASS_METRICS.values()), *case, passes_of(network), seed=5)
    some = slice(2, 7)
    part = replace(rows, **{
        name: getattr(rows, name)[some]
        for name in ("sample", "keys", "label", "target", "score", "top_class", "crop",
                     "image_size", "truth")
    })  # fmt: skip
    other = passes_of(network, rows=8)
    for name in ("average_drop", "coherency", "insertion", "road", "morf:pgc"):
        (one,) = measure_passes(
            [PASS_METRICS[name]], pictures[some], maps[some], part, other, seed=5
        ).values()
        np.testing.assert_allclose(one.value, together[name].value[some], atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(one.reason, together[name].reason[some])


def test_the_seed_is_that_of_the_noise(network, case):
    metrics = PASS_METRICS["road"], PASS_METRICS["insertion"]
    first, again, other = (
        measure_passes(metrics, *case, passes_of(network), seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first["road"].value, again["road"].value)
    assert (first["road"].value != other["road"].value).any()
    np.testing.assert_array_equal(first["insertion"].value, other["insertion"].value)


def test_passes_are_shared_and_full(network, case):
    """One more pass for all of kind B; insertion costs 2 of 3 points, deletion 1 of 3 here."""
    passes = passes_of(network)
    passes.blank(np.zeros(1, np.int32))
    begun = []
    forward = passes.network.forward

    def counted(images):
        begun.append(len(images))
        return forward(images)

    passes.network.forward = counted
    pairs = int((measure_passes([], *case, passes) == {}) and 14 - len(REASONS))

    def sizes(*names):
        begun.clear()
        measure_passes([PASS_METRICS[name] for name in names], *case, passes)
        return begun

    every = "average_drop", "average_increase", "average_gain", "coherency", "adcc"
    assert sizes(*every) == sizes("average_drop") == [4, 4, 1]
    assert sum(sizes("insertion", "deletion")) == pairs * 3
    assert sum(sizes("road", "morf", "lerf")) == sum(sizes("road")) == pairs * 8
    assert sizes("road")[:4] == [4, 4, 4, 4]


def test_a_mean_over_changed_copies_is_one_for_coherency_too(network, case):
    pictures, maps, rows = case
    passes = passes_of(network, smooth=True)
    found = measure_passes([PASS_METRICS["coherency"]], *case, passes)["coherency"]
    same = 0
    for i, k in np.argwhere(found.reason == Reason.MEASURED):
        mask = enlarged(maps[i, k][None].copy(), (12, 12), UNIT)
        masked, target = pictures[i] * mask[:, None], rows.target[i, k].reshape(1, 1)
        made = smoothed_maps(passes.network, passes.method, masked, target)[LAYER][:, 0]
        if np.ptp(made):
            after = enlarged(made.copy(), (12, 12), UNIT)
            expected = (np.corrcoef(mask.ravel(), after.ravel())[0, 1] + 1) / 2
            assert found.value[i, k] == pytest.approx(expected, abs=1e-4)
            same += 1
        else:
            assert found.value[i, k] == 0
    assert same > 3


def test_a_grey_picture_of_a_few_pixels_and_more_classes_than_a_batch():
    """Eight rows are more than the picture has: curves are from end to end."""
    definition = hand_checked()
    network = MxnetNetwork(definition, ("relu",), 2)
    passes = NetworkPasses(network, METHODS["layercam"], "relu", definition.preprocessing, 2)
    picture = HAND_INPUT + 3
    target = np.arange(4, dtype=np.int32)[None]
    scores = linked(network.forward(picture).logits, "softmax")
    maps = np.random.default_rng(0).standard_normal((1, 4, 2, 2), np.float32)
    maps[..., 0, 0] = 1
    rows = rows_of(target, np.take_along_axis(scores, target, axis=1), (4, 4))
    found = measure_passes(list(PASS_METRICS.values()), picture, maps, rows, passes)
    assert all((one.reason == Reason.MEASURED).all() for one in found.values())
    np.testing.assert_array_equal(found["deletion"].columns["curve"][..., 0], rows.score)
    assert found["insertion"].columns["curve"].shape == (1, 4, 2)
    alone = Alone(passes, picture[0], maps[0, 2], 2, scores[0, 2], 0)
    for name in ("average_drop", "coherency", "average_gain"):
        assert found[name].value[0, 2] == pytest.approx(alone.of(name), abs=1e-5)


def test_a_score_that_is_no_probability(network, case):
    pictures, maps, rows = case
    logits = replace(rows, score=np.where(np.isfinite(rows.score), rows.score - 2, np.nan))
    names = "average_drop", "average_gain", "adcc", "average_increase", "insertion"
    metrics = [PASS_METRICS[name] for name in names]
    found = measure_passes(metrics, pictures, maps, logits, passes_of(network, link="none"))
    for name in names[:3]:
        assert (found[name].reason[0] == Reason.NO_SCORE).all(), name
    for name in names[3:]:
        assert (found[name].reason[0] == Reason.MEASURED).all(), name


def test_nothing_to_measure(network, case):
    pictures, maps, rows = case
    maps = np.full_like(maps, np.nan)
    found = measure_passes(list(PASS_METRICS.values()), pictures, maps, rows, passes_of(network))
    assert all(np.isnan(one.value).all() and one.reason.all() for one in found.values())


def test_the_figure_of_curves(network, case):
    metric = PASS_METRICS["insertion"]
    measured = measure_passes([metric], *case, passes_of(network))["insertion"]
    fine = measured.reason == Reason.MEASURED
    curves, values = measured.columns["curve"][fine], measured.value[fine].astype(np.float64)
    blocks = [curves[:2], curves[2:]]
    figure = metric.figure(Merged(values, np.zeros(len(values)), {}, lambda name: iter(blocks)))
    assert figure.n == len(values)
    assert figure.value == pytest.approx(values.mean())
    curve = figure.details["curve"]
    np.testing.assert_allclose(curve["mean"], curves.mean(axis=0), rtol=1e-6)
    error = 1.96 * curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
    np.testing.assert_allclose(np.subtract(curve["high"], curve["mean"]), error, atol=1e-6)
    none = metric.figure(Merged(np.empty(0), np.empty(0), {}, lambda name: iter(())))
    assert none.n == 0 and np.isnan(none.value)


@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_masks_do_not_depend_on_the_scale_of_a_map(scale):
    raw = np.random.default_rng(0).standard_normal((3, 4, 5), np.float32)
    found = enlarged(raw * np.float32(scale), (20, 21), UNIT)
    np.testing.assert_allclose(found, enlarged(raw, (20, 21), UNIT), atol=1e-6)
    np.testing.assert_allclose(enlarged(raw, (4, 5), PGC), normalize(raw), atol=1e-6)


def test_each_metric_says_how_it_is_measured():
    for name, metric in PASS_METRICS.items():
        assert metric.name == name
        assert metric.needs_truth is False
        assert "\n" not in metric.convention and len(metric.convention) < 240
    assert len({metric.convention for metric in PASS_METRICS.values()}) == len(PASS_METRICS)
    assert isinstance(PASS_METRICS["road"], Road)


def test_the_interval_of_a_share_of_images_is_wilsons():
    values = np.zeros(12)
    merged = Merged(values, np.zeros(12, np.int32), {}, lambda name: iter(()))
    found = PASS_METRICS["average_increase"].figure(merged)
    expected = binomtest(0, 12).proportion_ci(method="wilson")
    assert (found.value, found.n) == (0, 12)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-4)


@pytest.mark.parametrize("name", ["average_drop", "average_gain", "coherency", "adcc", "arcc"])
def test_the_interval_of_shares_stays_within_0_and_1(name):
    merged = Merged(np.array([0.01, 0, 0.9]), np.zeros(3, np.int32), {}, lambda name: iter(()))
    found = PASS_METRICS[name].figure(merged)
    assert found.low == 0 < found.value < found.high <= 1
