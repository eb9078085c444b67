"""Metrics of pictures at their own sizes: each is measured at its own, and no two are mixed."""

import h5py
import numpy as np
import pytest

from shardcam import compare, open_run
from shardcam.engine.evaluation.measure_shard import ShardEvaluator, Wanted
from shardcam.engine.evaluation.metrics_known import METRICS, metric_named
from shardcam.engine.evaluation.shown_boxes import ShownBoxes
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.rundir.metric_results import MetricResults
from shardcam.engine.truths.truth import ImageTruth, Region
from shardcam.engine.types import NO_CLASS, Sample, Shard
from tests.analysis.native_runs import FOUR, LAYER, MAP, ONE, SIZES, make_native_run
from tests.evaluation.image_rows import rows_of

NAMES = [name for name, known in METRICS.items() if known.kind == "A" and name != "miou"]
BASELINES = "centre", "uniform", "random"


class Objects:
    """The truth of made runs: of each class a box and a mask, on the middle of each picture."""

    def __init__(self, sizes, samples):
        self.of_key = {f"{s:04d}.png": self.truth(size) for s, size in zip(samples, sizes)}

    def of(self, key):
        return self.of_key.get(key)

    @staticmethod
    def truth(size):
        (height, width), mask = size, np.zeros(size, np.uint8)
        box = width // 4, height // 4, 3 * width // 4, 3 * height // 4
        mask[box[1] : box[3], box[0] : box[2]] = 1
        return ImageTruth(
            tuple(Region(label, tuple(map(float, box)), lambda: mask) for label in range(6)),
            size=size,
        )


def measured(made, sizes, names=(*NAMES, "miou")):
    """Of every metric the datasets of all shards, in the order of the rows."""
    found = {name: [] for name in names}
    with open_run(made.paths.root) as run:
        samples = run["sample"][:].tolist()
    evaluator = ShardEvaluator(
        made.paths, MAP, sizes[0], tuple(Wanted(n, "f00d", metric_named(n)) for n in names),
        Objects(sizes, samples), BASELINES, 0, None,
    )  # fmt: skip
    for name in names:
        MetricResults(made.paths, name).folder.root.mkdir(parents=True)
    for number in made.paths.shard_numbers():
        with h5py.File(made.paths.shard(number)) as file:
            asked = [*file["sample"][:], *file["failure/sample"][:]]
        shard = Shard(number, tuple(Sample(f"{i:04d}.png", int(i), -1, "", 0) for i in asked))
        evaluator.run(shard, StageTimer())
        for name in names:
            with h5py.File(MetricResults(made.paths, name).folder.shard(number)) as file:
                found[name].append({})
                file.visititems(
                    lambda key, item, into=found[name][-1]: (
                        into.update({key: item[:]}) if isinstance(item, h5py.Dataset) else None
                    )
                )
    return found


def test_of_pictures_of_one_size_figures_are_those_of_a_run_that_has_one(tmp_path):
    sizes = ((41, 63),) * 6
    native, twin = (
        measured(make_native_run(tmp_path / kind, sizes, twin=kind == "twin"), sizes, NAMES)
        for kind in ("native", "twin")
    )
    for name in NAMES:
        for mine, other in zip(native[name], twin[name], strict=True):
            assert mine.keys() == other.keys() and len(mine) > 8
            for key, values in mine.items():
                np.testing.assert_array_equal(values, other[key], f"{name} {key}")


@pytest.mark.parametrize("copies", [ONE, FOUR], ids=["one", "four"])
def test_each_picture_is_measured_at_its_own_size(tmp_path, copies):
    made = make_native_run(tmp_path / "run", copies=copies)
    found = measured(made, SIZES, NAMES)
    with open_run(made.paths.root) as run:
        maps, columns = run.cam(MAP)[:], {n: run[n][:] for n in ("target", "label", "top_class")}
    for i, (raw, size) in enumerate(zip(maps, SIZES, strict=True)):
        row = {n: column[i : i + 1] for n, column in columns.items()}
        rows = rows_of([Objects.truth(size)], size=size, view=size, **row)
        for name in NAMES:
            alone = metric_named(name).measure(raw[None], rows)
            values = np.concatenate([part["value"] for part in found[name]])
            np.testing.assert_array_equal(values[i], alone.value[0], name)
    counted = sum(part["state/pixels"].sum() for part in found["pxap"])
    explained = (made.target != NO_CLASS).sum(axis=1)
    assert counted == sum(n * h * w for n, (h, w) in zip(explained, SIZES, strict=True))


def test_runs_of_one_size_and_of_several_are_compared_picture_by_picture(tmp_path):
    sizes = ((41, 63),) * 6
    native, twin = (
        make_native_run(tmp_path / kind, sizes, twin=kind == "twin").paths.root
        for kind in ("native", "twin")
    )
    (found,) = compare(native, twin, worst=0)
    assert found.images == 6 and found.without_pair == 1
    for name, figure in found.layers[0].figures.items():
        assert figure.value == pytest.approx(1, abs=1e-6), name
        assert figure.n == 8
    large = make_native_run(tmp_path / "large", copies=FOUR).paths.root
    small = make_native_run(tmp_path / "small").paths.root
    (found,) = compare(large, small)
    assert found.images == 6 and found.layers[0].figures["ssim"].n == 8
    (back,) = compare(small, large)
    for name, figure in found.layers[0].figures.items():
        assert figure.value == pytest.approx(back.layers[0].figures[name].value, abs=1e-6)


def test_boxes_are_shown_where_they_lie_in_each_picture(tmp_path):
    made = make_native_run(tmp_path / "run")
    with open_run(made.paths.root) as run:
        truth = Objects(SIZES, run["sample"][:].tolist())
        best = lambda raw, size: np.array([[0, 0, size[1], size[0] // 2]])  # noqa: E731
        shown = ShownBoxes(LAYER.name, "", truth, (224, 224), best)
        for i, (height, width) in enumerate(SIZES):
            if made.target[i, 0] == NO_CLASS:
                continue
            one = shown.of(run, i)[0]
            np.testing.assert_allclose(one.found, [[0, 0, 1, height // 2 / height]])
            (x0, y0, x1, y1) = one.truth[0] * (width, height, width, height)
            wanted = width // 4, height // 4, 3 * width // 4, 3 * height // 4
            assert (x0, y0, x1, y1) == pytest.approx(wanted)
