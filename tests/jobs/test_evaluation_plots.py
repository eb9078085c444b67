"""`--plot` draws what the table says, whatever there is and is not."""

import json

import cv2
import numpy as np
import pytest

from shardcam import compare
from shardcam.engine.evaluation.metric import Figure
from shardcam.engine.evaluation.pass_metrics import PASS_METRICS
from shardcam.engine.evaluation.summary import Result, stored_result
from shardcam.jobs.gallery.run_metrics import CurveChart, charts_of
from shardcam.jobs.looking import evaluation_plots
from shardcam.jobs.looking.evaluation_plots import draw_comparisons, draw_evaluation
from tests.jobs.command import shardcam
from tests.jobs.evaluated import evaluate, make_evaluated

NAN = float("nan")
HOSTILE = "$\\frac{x}$\n\x1b[31m"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_evaluated(tmp_path_factory.mktemp("plotted"))


def picture(path):
    found = cv2.imread(str(path))
    assert found is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    return found


def curve(mean, spread=0.1, **more):
    mean = np.array(mean, float)
    band = {"low": (mean - spread).tolist(), "high": (mean + spread).tolist()}
    return {"curve": {"mean": mean.tolist(), **band, **more}}


def result(name="insertion", figure=None, **baselines):
    figure = figure or Figure(0.5, 0.4, 0.6, 10, curve([0.1, 0.9]))
    return Result(name, "convention", True, figure, {}, baselines)


def test_evaluate_and_compare_draw(made, tmp_path):
    evaluate(made.run, made.truth, "--plot", tmp_path / "figures.png")
    assert min(picture(tmp_path / "figures.png").shape[:2]) > 300
    plot = ("--plot", tmp_path / "compared.png")
    code, _, err = shardcam("compare", made.run, made.other, *plot)
    assert code == 0, err
    assert min(picture(tmp_path / "compared.png").shape[:2]) > 300
    code, _, err = shardcam("compare", made.run, made.other, *plot)
    assert code == 2 and "exists; --force replaces it" in err


def test_likeness_has_the_words_of_the_table_and_an_axis_that_fits(made, monkeypatch):
    drawn = []
    monkeypatch.setattr(evaluation_plots, "_save", lambda figure, path: drawn.append(figure))
    draw_comparisons(compare(made.run, made.run), None)
    axis = drawn[0].axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names[0] == "Pearson" and names[2] == "Spearman of absolute values"
    assert axis.get_xlim()[0] > 0.9
    _, out, _ = shardcam("compare", made.run, made.run)
    assert all(name in out for name in names)


def test_a_bar_is_as_long_as_its_figure(tmp_path):
    """Half of the axis, in the run's colour."""
    path = tmp_path / "plot.png"
    draw_evaluation({"gini": result("gini", Figure(0.5, NAN, NAN, 1))}, path)
    lengths = []
    for value in (0.25, 0.5, 1.0):
        draw_evaluation({"gini": result("gini", Figure(value, NAN, NAN, 1))}, path)
        found = picture(path)
        lengths.append((found == (0x75, 0x6B, 0x0B)).all(axis=2).any(axis=0).sum())
    assert lengths[2] > 100
    np.testing.assert_allclose(np.array(lengths) / lengths[2], [0.25, 0.5, 1], atol=0.02)


@pytest.mark.parametrize(
    "results",
    [
        [result(figure=Figure(NAN, NAN, NAN, 0))],
        [result(HOSTILE, **{HOSTILE: Figure(NAN, NAN, NAN, 0)})],
        [result(figure=Figure(-3.0, -4.0, 2.0, 5), centre=Figure(1e9, NAN, NAN, 1))],
        [result(figure=Figure(0.0, 0.1, 0.2, 5))],
        [result(figure=Figure(0.5, NAN, NAN, 1, curve([0.5, 0.5], NAN)))],
        [result("road:pgc", Figure(0.1, 0, 0.2, 3, curve([-0.3, 2.5], at=[0.1, 0.9])))],
        [result(figure=Figure(0.5, 0.4, 0.6, 5, {"curve": {"mean": "no"}}))],
        [result(f"metric{i}") for i in range(7)],
    ],
    ids=["nothing", "names", "beyond", "outside", "one image", "road", "no curve", "many"],
)
def test_whatever_there_is_is_drawn(tmp_path, results):
    draw_evaluation({one.name: one for one in results}, tmp_path / "plot.png")
    picture(tmp_path / "plot.png")


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_plot_that_cannot_be_is_refused_before_the_work(made, tmp_path, monkeypatch, command):
    options = {"evaluate": (made.run, "--metrics", "gini"), "compare": (made.run, made.other)}
    code, out, err = shardcam(command, *options[command], "--plot", tmp_path / "plot.pdf")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "ends in .png" in err
    monkeypatch.setattr(evaluation_plots, "find_spec", lambda name: None)
    code, out, err = shardcam(command, *options[command], "--plot", tmp_path / "plot.png")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "needs matplotlib: install shardcam with its extra plots" in err


def test_curves_begin_where_pixels_were_removed(made):
    """ROAD's four points are at 20 to 80 %, RISE's evenly from none to all."""
    metric = PASS_METRICS["morf"]

    class Merged:
        values = np.array([0.5, 0.6])

        def column(self, name):
            yield np.array([[0.9, 0.7, 0.5, 0.3], [0.8, 0.6, 0.4, 0.2]], np.float32)

    stored = json.loads(json.dumps({"morf": {**result("morf").as_json()}}))["morf"]
    stored["details"] = dict(metric.figure(Merged()).details)
    insertion = result().as_json()
    found = {
        "morf": stored_result("morf", stored),
        "insertion": stored_result("insertion", insertion),
    }
    rise, road = charts_of(("run",), (found,))
    assert road.series[0].at.tolist() == [0.2, 0.4, 0.6, 0.8]
    np.testing.assert_allclose(road.series[0].mean, [0.85, 0.65, 0.45, 0.25], atol=1e-6)
    assert rise.series[0].at.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("mean", "bounds"),
    [([0.2, 0.7], (0, 1)), ([-0.23, 0.41], (-0.4, 0.6)), ([3.2, 17], (0, 20)), ([0, 0], (0, 1))],
)
def test_axes_end_at_round_numbers(mean, bounds):
    found = {"insertion": result("insertion", Figure(0, 0, 0, 1, curve(mean)))}
    (chart,) = charts_of(("run",), (found,))
    assert isinstance(chart, CurveChart)
    assert chart.bounds == pytest.approx(bounds)


def test_differences_have_an_axis_of_their_own():
    of = {
        "morf": "Mean score",
        "lerf@layer": "Mean score",
        "lerf-pgc": "Mean change of the score",
        "road": "Mean of (LeRF - MoRF) / 2",
        "road-pgc@layer": "Mean of (LeRF - MoRF) / 2",
    }
    found = {n: result(n, Figure(0, 0, 0, 1, curve([0, 0.25]))) for n in of}
    charts = charts_of(("run",), (found,))
    assert {s.name: chart.of for chart in charts for s in chart.series} == of
    assert [chart.bounds for chart in charts] == [
        (0, 1),
        pytest.approx((-0.2, 0.4)),
        pytest.approx((-0.2, 0.4)),
    ]


@pytest.mark.parametrize("highest", [0.199, 0.2, 0.201, 0.95])
def test_a_band_of_differences_is_within_the_axis(highest):
    found = {"road": result("road", Figure(0, 0, 0, 1, curve([0, highest], 0.03)))}
    (chart,) = charts_of(("run",), (found,))
    low, high = chart.bounds
    assert low < -0.03 and highest + 0.03 < high < 1.5 * (highest + 0.1)


def test_the_mean_iou_is_drawn_over_thresholds_with_the_best_marked(tmp_path):
    """As evaluate has it, and as `summary.json` does."""
    mean = 0.5 - np.abs(np.arange(1001) / 1000 - 0.314)
    figure = Figure(0.5, NAN, NAN, 3, {"curve": mean, "threshold": 0.314})
    written = result("miou-seam", figure).as_json()
    stored = stored_result("miou-seam", json.loads(json.dumps(written)))
    for one in (result("miou-seam", figure), stored):
        (chart,) = charts_of(("run",), ({one.name: one},))
        (series,) = chart.series
        assert chart.by_threshold and series.best == (0.314, 0.5)
        np.testing.assert_array_equal(series.mean, mean)
        np.testing.assert_allclose(series.at, np.arange(1001) / 1000, atol=1e-12)
    without = result("gini", Figure(0.5, NAN, NAN, 3))
    heights = []
    for name, one in (("curve", stored), ("bars", without)):
        draw_evaluation({one.name: one}, tmp_path / f"{name}.png")
        heights.append(len(picture(tmp_path / f"{name}.png")))
    assert heights[0] > heights[1] + 200


def test_a_result_is_read_as_it_was_written():
    written = result(centre=Figure(NAN, NAN, NAN, 0))
    assert stored_result("insertion", json.loads(json.dumps(written.as_json()))).as_json() == (
        written.as_json()
    )
