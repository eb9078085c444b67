"""mIoU: IRN's figures, every threshold against argmax, what the network did not see."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from shardcam.engine.analysis.class_scores import class_scores, seam_range
from shardcam.engine.evaluation.mean_iou import THRESHOLDS
from shardcam.engine.evaluation.metric import Reason
from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.truths.truth import ImageTruth, Region
from tests.evaluation.image_rows import boxes, figure, masked, merged, rows_of

HEIGHT, WIDTH = 20, 27


def taps(cells, pixels):
    """(pixels,cells) weights of bilinear interpolation with half-pixel centres."""
    place = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    low = place.astype(int)
    weights = np.zeros((pixels, cells))
    weights[np.arange(pixels), low] += 1 - (place - low)
    weights[np.arange(pixels), np.minimum(low + 1, cells - 1)] += place - low
    return weights


def bilinear(grid, size):
    return taps(grid.shape[0], size[0]) @ grid @ taps(grid.shape[1], size[1]).T


def irn_grids():
    """(3,h,w) of four scales, as IRN's recipe has them: rectified, mirrored ones added."""
    for k, (height, width) in enumerate([(2, 2), (1, 1), (2, 3), (3, 4)]):
        c, y, x = np.ogrid[:3, :height, :width]
        a, b = (c + 1) * (y + 1) - x / 2 + k / 4, (c + 2) * (x + 1) / 2 - y
        yield np.maximum(a, 0) + np.maximum(b, 0)[..., ::-1]


def irn_sums():
    """Of IRN's recipe: (2,20,27) summed over scales, each enlarged onto the padded size."""
    summed = sum(np.array([bilinear(one, (32, 32)) for one in maps]) for maps in irn_grids())
    return summed[[0, 2], :HEIGHT, :WIDTH]


def truth_of(levels):
    """Masks by their values less 1, and 255 for what does not count."""
    regions = [
        Region(int(value) - 1, None, lambda value=value: (levels == value).astype(np.uint8))
        for value in np.unique(levels[(levels > 0) & (levels < 255)])
    ]
    ignore = (levels == 255).astype(np.uint8)
    return ImageTruth(tuple(regions), lambda: ignore, empty=not regions)


def irn_truth():
    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    levels[:10, :14], levels[12:, 10:], levels[10:12] = 1, 3, 255
    return truth_of(levels)


def irn_rows(target=((0, 2),)):
    return rows_of([irn_truth()], target=target, size=(HEIGHT, WIDTH), view=(64, 64))


def test_golden_scores_of_irn():
    maps = irn_sums().astype(np.float32)
    classes = np.array([0, 2], np.int32)
    crop, size = np.array([0, 0, HEIGHT, WIDTH], float), np.array([HEIGHT, WIDTH])
    found, scores = class_scores(maps, classes, crop, size)
    assert found.tolist() == [0, 2] and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=(1, 2)), [412.28503, 405.24167], rtol=1e-6)
    np.testing.assert_allclose(scores.min(axis=(1, 2)), [0.439012, 0.486989], atol=1e-6)
    np.testing.assert_allclose((scores[0, 3, 5], scores[1, 19, 26]), (0.98034215, 0.62870276), 1e-6)
    swapped, other = class_scores(maps[::-1], classes[::-1], crop, size)
    np.testing.assert_array_equal(other, scores)
    assert swapped.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.15, 0.36425569564255694),
        (0.5, 0.3842725760367958),
        (0.6, 0.5209571937325573),
        (0.7, 0.49134156904130566),
        (0.9, 0.26687080193327284),
    ],
)
def test_golden_figures_of_chainercv(threshold, expected):
    found = figure(metric_named("miou"), irn_sums()[None].astype(np.float32), irn_rows())
    curve = found.details["curve"]
    assert curve[round(threshold * 1000)] == pytest.approx(expected, rel=1e-15)
    assert found.value == max(curve) >= expected
    assert curve[round(found.details["threshold"] * 1000)] == found.value


def test_golden_figures_from_maps_of_each_scale():
    """What a run of pictures at their own size stores; `maps` is for metrics that take one map."""
    grids = tuple(maps[[0, 2]].astype(np.float32) for maps in irn_grids())
    rows = replace(irn_rows(), grids=(grids,), scales=(1.0, 0.5, 1.5, 2.0))
    found = figure(metric_named("miou"), np.zeros((1, 2, 5, 7), np.float32), rows).details
    for threshold, expected in ((150, 0.36425569564255694), (600, 0.5209571937325573)):
        assert found["curve"][threshold] == pytest.approx(expected, rel=1e-15)


def test_classes_at_the_best_threshold_and_the_value_of_an_image():
    maps = irn_sums()[None].astype(np.float32)
    measured = metric_named("miou").measure(maps, irn_rows())
    np.testing.assert_allclose(measured.value, [[0.510949, 0.581818]], atol=1e-6)
    details = figure(metric_named("miou"), maps, irn_rows()).details
    assert [*details["classes"]] == ["background", "0", "2"]
    scores = maps[0] / (maps[0].max(axis=(1, 2), keepdims=True) + np.float32(1e-5))
    seeds = predicted(scores, [0, 2], np.float32(details["threshold"]))
    levels = levels_of(irn_truth())
    for name, plane in (("background", 0), ("0", 1), ("2", 3)):
        one, there = (seeds == plane) & (levels < 255), levels == plane
        both = (one & there).sum()
        found = details["classes"][name]
        assert found["iou"] == both / (one | there).sum()
        assert (found["precision"], found["recall"]) == (both / one.sum(), both / there.sum())


def predicted(scores, classes, threshold):
    """As IRN's eval_cam: a plane of the threshold first, argmax, and the keys."""
    planes = np.concatenate([np.full((1, *scores.shape[1:]), threshold), scores])
    return np.array([0, *(c + 1 for c in classes)])[planes.argmax(axis=0)]


def levels_of(truth):
    levels = np.zeros((HEIGHT, WIDTH), int)
    for region in truth.regions:
        levels[region.mask() > 0] = region.label + 1
    levels[truth.ignore() > 0] = 255
    return levels


def confusion(levels, seeds, planes):
    counted = levels < 255
    return np.histogram2d(levels[counted], seeds[counted], [np.arange(planes + 1)] * 2)[0]


def test_every_threshold_equals_argmax_on_maps_full_of_ties():
    rng = np.random.default_rng(3)
    n, planes = 6, 5
    maps = rng.integers(0, 21, (n, 3, HEIGHT, WIDTH)).astype(np.float32) / 20
    maps[:, :, 0, 0] = 1  # the maximum: x / (1 + 1e-5)
    target = np.array([[0, 1, 2], [3, 1, -1], [2, 0, 3], [-1, -1, -1], [1, 2, 3], [0, 3, 1]])
    levels = rng.choice(np.array([0, 1, 2, 3, 4, 255]), (n, HEIGHT, WIDTH))
    rows = [
        rows_of([truth_of(one)], target=[classes], size=(HEIGHT, WIDTH))
        for one, classes in zip(levels, target)
    ]
    metric = metric_named("miou")
    every = [metric.measure(maps[i : i + 1], one) for i, one in enumerate(rows)]
    state = {}
    for one in every:
        for name, counts in one.state.items():
            state[name] = state.get(name, 0) + counts
    high = np.float32(1) + np.float32(1e-5)
    for t in (*range(0, 1000, 11), *range(50, 1000, 100)):
        matrix = np.zeros((planes, planes))
        for i in range(n):
            keys = sorted(c for c in target[i] if c >= 0)
            scores = np.array([maps[i, [*target[i]].index(c)] / high for c in keys], np.float32)
            scores = scores.reshape(-1, HEIGHT, WIDTH)
            matrix += confusion(levels[i], predicted(scores, keys, THRESHOLDS[t]), planes)
        found = np.zeros((planes, planes))
        for name, counts in state.items():
            there, highest = map(int, name.split("-")[1:])
            found[there, highest] += counts[t + 1 :].sum()
            found[there, 0] += counts[: t + 1].sum()
        np.testing.assert_array_equal(found, matrix)


def test_the_view_lies_where_it_was_and_the_rest_is_background():
    rng = np.random.default_rng(0)
    raw = rng.random((1, 1, 4, 5), np.float32)
    inside = cv2.resize(raw[0, 0], (30, 40), interpolation=cv2.INTER_LINEAR)
    expected = np.zeros((50, 60), np.float32)
    expected[5:45, 10:40] = inside / (inside.max() + np.float32(1e-5))
    levels = np.where(expected > 0.5, 1, 0).astype(np.uint8)
    rows = rows_of([truth_of(levels)], size=(50, 60), crop=(5, 10, 45, 40))
    _, scores = class_scores(raw[0], rows.target[0], rows.crop[0], rows.image_size[0])
    np.testing.assert_allclose(scores[0], expected, atol=1e-6)
    found = figure(metric_named("miou"), raw, rows)
    assert found.value == 1 and found.details["threshold"] == pytest.approx(0.5, abs=0.01)
    assert found.details["pixels"] == 50 * 60
    padded = rows_of([truth_of(levels)], size=(50, 60), crop=(-20, 0, 80, 60))
    _, scores = class_scores(raw[0], padded.target[0], padded.crop[0], padded.image_size[0])
    inside = cv2.resize(raw[0, 0], (60, 100), interpolation=cv2.INTER_LINEAR)[20:70]
    np.testing.assert_allclose(scores[0], inside / inside.max(), atol=2e-5)


def test_normalisations_by_name():
    raw = np.array([[[-1, 2], [3, 6]]], np.float32)
    rows = rows_of([masked(np.ones((2, 2), np.uint8))], size=(2, 2))

    def scores(how):
        return class_scores(raw, rows.target[0], rows.crop[0], rows.image_size[0], how)[1][0]

    np.testing.assert_allclose(scores("psa"), np.array([[0, 2], [3, 6]]) / 6.00001, rtol=1e-6)
    np.testing.assert_allclose(scores("pgc"), np.array([[0, 2], [3, 6]]) / 6, rtol=1e-6)
    six = np.arange(1, 7, dtype=np.float32)
    assert seam_range(six)[0] == pytest.approx(-0.200002, abs=1e-6)
    expected = (np.array([[0, 2], [3, 6]]) - 1e-5) / 6.00001
    np.testing.assert_allclose(scores("seam"), expected, rtol=1e-4)
    assert scores("seam")[0, 0] < 0


def test_absent_classes_as_seam_counts_them():
    maps, rows = irn_sums()[None].astype(np.float32), irn_rows()
    left_out = figure(metric_named("miou"), maps, rows)
    counted = figure(metric_named("miou:21"), maps, rows)
    assert counted.value == pytest.approx(left_out.value * 3 / 21, rel=1e-9)
    assert "absent classes counting 0, of 21" in metric_named("miou:seam:21").convention


def test_why_a_class_has_no_value():
    metric, maps = metric_named("miou"), np.ones((6, 2, 3, 3), np.float32)
    maps[4, 0] = np.nan
    truth = [None, boxes((1, 1, 5, 5)), truth_of(np.zeros((6, 6), np.uint8))]
    truth += [truth_of(np.ones((6, 6), np.uint8))] * 2 + [ImageTruth()]
    target = [[0, 1], [0, 1], [0, -1], [-1, -1], [0, 1], [0, 1]]
    found = metric.measure(maps, rows_of(truth, target=target, size=(6, 6)))
    assert found.reason.tolist() == [
        [Reason.NO_TRUTH] * 2,
        [Reason.NO_MASK] * 2,
        [Reason.MEASURED, Reason.NO_CLASS],  # predicted where nothing is
        [Reason.NO_CLASS] * 2,
        [Reason.NO_MAP, Reason.MEASURED],
        [Reason.NO_REGION] * 2,
    ]
    assert found.value[2, 0] == 0
    assert {name: counts.sum() for name, counts in found.state.items()} == {
        "pixels-0-1": 36, "pixels-1-0": 36, "pixels-1-2": 36
    }  # fmt: skip
    nothing = metric.measure(maps[:2], rows_of(truth[:2], target=target[:2], size=(6, 6)))
    assert np.isnan(metric.figure(merged(rows_of(truth[:2], target=target[:2]), nothing)).value)
