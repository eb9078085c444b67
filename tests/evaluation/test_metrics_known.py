"""Metrics by name: what each is, and one line for those that are not."""

import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.metrics_known import METRICS, metric_named
from shardcam.engine.evaluation.pass_metrics import PASS_METRICS


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_what_the_list_says(name):
    known, metric = METRICS[name], metric_named(name)
    assert metric.name == name and "\n" not in metric.convention + known.description
    assert metric.needs_truth == known.needs_truth
    assert metric.higher_is_better == known.higher_is_better


def test_every_metric_of_passes_is_known():
    for name in PASS_METRICS:
        assert metric_named(name) is PASS_METRICS[name]
        base, _, convention = name.partition(":")
        assert not convention or convention in METRICS[base].conventions


@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("max_box_acc", "MaxBoxAcc (cubic, 0.001, largest contour, IoU 0.5)"),
        ("max_box_acc:0.01", "MaxBoxAcc (cubic, 0.01, largest contour, IoU 0.5)"),
        ("max_box_acc_v2:linear", "MaxBoxAccV2 (linear, 0.001, all contours, IoU 0.3/0.5/0.7)"),
        ("pxap:linear:0.01", "PxAP (linear, 0.01, boxes filled where there are no masks)"),
        (
            "miou:21:seam",
            "mIoU (seam scores, best of 1001 thresholds, absent classes counting 0, of 21; an "
            "image at 0.26)",
        ),
        (
            "top1:cam2016",
            "top-1 localisation (cubic, above 0.2 of the maximum, largest contour, IoU 0.5)",
        ),
        (
            "gt_known",
            "GT-known localisation (cubic, MaxBoxAcc's best threshold, 0.001, largest contour, "
            "IoU 0.5)",
        ),
    ],
)
def test_conventions(name, convention):
    assert metric_named(name).convention == convention


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "max_box_ac",
            "unknown metric 'max_box_ac'; nearest: max_box_acc, max_box_acc_v2; known: ",
        ),
        ("", "unknown metric ''; known: max_box_acc, "),
        ("max_box_acc:nearest", "max_box_acc has no convention 'nearest'; known: 0.001, 0.01 or"),
        ("pxap:0", "pxap has no convention '0'"),
        ("pxap:nan", "pxap has no convention 'nan'"),
        ("pxap:1e-2", "pxap has no convention '1e-2'"),
        ("pxap: 0.01", "pxap has no convention ' 0.01'"),
        ("pxap:0.01:0.02", "pxap:0.01:0.02: takes one step of the threshold, and one of cubic"),
        ("pxap:cubic:linear", "pxap:cubic:linear: takes one step"),
        ("pxap:", "pxap has no convention ''"),
        ("miou:voc", "miou has no convention 'voc'; known: irn, psa, seam, pgc, 21 or another"),
        ("miou:021", "miou has no convention '021'"),
        ("miou:psa:seam", "miou:psa:seam: takes one of irn, psa, seam, pgc, and one number"),
        (
            "insertion:quantus",
            "insertion has no convention 'quantus'; known: row, signed, torchcam",
        ),
        ("energy:quantus", "energy has no convention 'quantus'; it has none"),
        ("max_box_acc:cam2016", "max_box_acc has no convention 'cam2016'"),
    ],
)
def test_one_line_for_what_is_not_known(name, message):
    with pytest.raises(ConfigError) as caught:
        metric_named(name)
    assert str(caught.value).startswith(f"--metrics: {message}")
    assert "\n" not in str(caught.value)
