"""`shardcam.compare` and ``shardcam compare`` against SciPy and scikit-image."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
from scipy import stats
from skimage.metrics import structural_similarity

import shardcam as api
from shardcam import kernels, open_run
from shardcam.engine.errors import ConfigError
from shardcam.engine.evaluation.running_mean import RunningMean
from tests.jobs.command import SMALL, contents, shardcam

SIZE = 32


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(11):
        cv2.imwrite(str(folder / f"{i:02d}.png"), rng.integers(0, 256, (40, 50, 3), np.uint8))
    return folder


def make(pictures, name, *options):
    run = pictures.parent / name
    if not run.exists():
        code, _, err = shardcam(
            *("extract", pictures, *SMALL, "--out", run, "--executor", "local", *options)
        )
        assert code == 0, err
    return run


@pytest.fixture(scope="module")
def gradcam(pictures):
    return make(pictures, "gradcam", "--shard-size", 4, "--target", "top3")


@pytest.fixture(scope="module")
def layercam(pictures):
    """Other shards, another order of classes, and two images fewer."""
    return make(
        *(pictures, "layercam", "--shard-size", 3, "--method", "layercam"),
        *("--target", "class:5,1,3", "--limit", 9),
    )


def raw_maps(run):
    rows = contents(run)
    (layer,) = {name.split("/")[1] for name in rows if name.startswith("cam/")}
    maps = rows[f"cam/{layer}/map"].astype(np.float32)
    return layer, rows, maps * rows[f"cam/{layer}/scale"][..., None, None]


def enlarged(raw):
    large = kernels.upsample(np.ascontiguousarray(raw[None]), (SIZE, SIZE))[0].astype(float)
    return (large - large.min()) / (large.max() - large.min())


def expected_of(first, second):
    """Of every map of a class that both runs explain, by the libraries that define them."""
    (_, a, maps), (_, b, others) = raw_maps(first), raw_maps(second)
    found = []
    for i, key in enumerate(a["key"]):
        for j in np.flatnonzero(b["key"] == key):
            for k, cls in enumerate(a["target"][i]):
                for other in np.flatnonzero(b["target"][j] == cls):
                    x, y = maps[i, k].ravel(), others[j, other].ravel()
                    if x.min() == x.max() or y.min() == y.max():
                        continue
                    high = [set(np.argsort(-v)[: -(-v.size // 5)]) for v in (x, y)]
                    found.append(
                        (
                            stats.pearsonr(x.astype(float), y.astype(float)).statistic,
                            stats.spearmanr(x, y).statistic,
                            stats.spearmanr(abs(x), abs(y)).statistic,
                            structural_similarity(
                                enlarged(maps[i, k]), enlarged(others[j, other]),
                                gaussian_weights=True, data_range=1,
                            ),
                            len(high[0] & high[1]) / len(high[0] | high[1]),
                        )
                    )  # fmt: skip
    return np.array(found)


def test_means_and_intervals_are_those_of_the_libraries(gradcam, layercam):
    (found,) = api.compare(gradcam, layercam)
    (layer,) = found.layers
    expected = expected_of(gradcam, layercam)
    assert len(expected) > 5
    for (name, figure), values in zip(layer.figures.items(), expected.T):
        least = 0 if name == "iou_top20" else -1
        spread = 1.96 * values.std(ddof=1) / len(values) ** 0.5
        np.testing.assert_allclose(
            (figure.value, figure.low, figure.high, figure.n),
            (
                values.mean(),
                max(values.mean() - spread, least),
                min(values.mean() + spread, 1),
                len(values),
            ),
            atol=2e-6,
        )
    assert (found.images, found.only_reference, found.only_other) == (9, 2, 0)
    assert found.first_class_equal.value == 1
    wilson = stats.binomtest(9, 9).proportion_ci(method="wilson")
    interval = found.first_class_equal.low, found.first_class_equal.high
    assert interval == pytest.approx((wilson.low, wilson.high), abs=1e-5)
    assert layer.worst[0]["spearman"] == pytest.approx(expected[:, 1].min())
    assert [row["spearman"] for row in layer.worst] == sorted(r["spearman"] for r in layer.worst)


def test_a_run_is_like_itself(gradcam):
    (found,) = api.compare(gradcam, gradcam)
    for figure in found.layers[0].figures.values():
        assert figure.value == pytest.approx(1, abs=1e-6)
    assert found.notes == () and found.without_pair == 0


def test_classes_that_only_one_run_explains_are_told(gradcam, pictures):
    other = make(pictures, "class", "--target", "class:7")
    targets = contents(gradcam)["target"]
    (found,) = api.compare(gradcam, other)
    assert found.without_pair == int((targets != 7).all(axis=1).sum()) > 0
    assert any("without a class that both runs explain" in note.text for note in found.notes)
    (found,) = api.compare(gradcam, other, match="position")
    assert found.layers[0].figures["pearson"].n + found.layers[0].left_out == 11


def test_layers_of_other_sizes_are_enlarged_to_a_common_grid(gradcam, pictures):
    first, _, maps = raw_maps(gradcam)
    earlier = "one_relu"
    other = make(pictures, "earlier", "--layer", earlier, "--target", "top3")
    _, _, others = raw_maps(other)
    assert others.shape[2:] != maps.shape[2:]
    (found,) = api.compare(gradcam, other)
    assert (found.layers[0].layer, found.layers[0].other_layer) == (first, earlier)
    grid = tuple(np.maximum(maps.shape[2:], others.shape[2:]).tolist())
    x = kernels.upsample(maps.reshape(-1, *maps.shape[2:]), grid)
    y = kernels.upsample(others.reshape(-1, *others.shape[2:]), grid)
    expected = kernels.similarity(x, y)[:, 0]
    assert found.layers[0].figures["pearson"].value == pytest.approx(np.nanmean(expected))
    (same,) = api.compare(gradcam, other, layer=[first, earlier])
    assert same.layers == found.layers


def test_the_command_writes_tables_rows_and_json(gradcam, layercam, tmp_path):
    out, table = tmp_path / "out", tmp_path / "table.csv"
    asked = ("compare", gradcam, layercam, gradcam, "--out", out, "--csv", table)
    code, printed, err = shardcam(*asked)
    assert code == 0, err
    files = out / "compare.json", out / "images.csv", table
    assert printed.split()[-4:] == ["written", *map(str, files)]
    assert f"{layercam} against {gradcam}" in " ".join(printed.split())
    assert "2 images of" in printed
    assert printed.count("least alike") == 1  # a run is like itself
    told = json.loads((out / "compare.json").read_text())
    rows = list(csv.DictReader((out / "images.csv").read_text().splitlines()))
    assert [one["images"] for one in told] == [9, 11]
    for one in told:
        values = [float(r["pearson"]) for r in rows if r["other"] == one["other"] and r["pearson"]]
        assert one["layers"][0]["pearson"]["mean"] == pytest.approx(np.mean(values))
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert {line["measure"] for line in lines} >= {"spearman", "ssim", "first class equal"}
    code, _, err = shardcam(*asked)
    assert code == 2 and "exists; --force replaces it" in err
    assert shardcam(*asked, "--force")[0] == 0


def test_the_least_alike_are_named_by_class(gradcam, layercam, tmp_path):
    run = shutil.copytree(gradcam, tmp_path / "named")
    assert " class " in shardcam("compare", run, layercam)[1].partition("least alike")[2]
    (run / "class_names.json").write_text(json.dumps({n: f"animal {n}" for n in range(1000)}))
    least = shardcam("compare", run, layercam)[1].partition("least alike")[2]
    assert " animal " in least and " class " not in least.partition("\n")[2].partition("\n")[2]


@pytest.fixture
def copies(gradcam, layercam, tmp_path):
    """Of both runs, to be measured."""
    return [shutil.copytree(run, tmp_path / run.name) for run in (gradcam, layercam)]


def test_metrics_of_both_runs_are_compared_pair_by_pair(copies):
    values = []
    for run in copies:
        api.evaluate(run, "gini", executor="local")
        with open_run(run) as opened:
            values.append((opened["target"][:], opened.metric("gini")))
    (found,) = api.compare(*copies)
    (classes, mine), (others, theirs) = values
    image, k, other_k = np.nonzero(classes[:9, :, None] == others[:, None, :])
    expected = theirs[image, other_k].astype(float) - mine[image, k]
    expected = expected[np.isfinite(expected)]
    assert found.metrics["gini"].n == len(expected) > 5
    assert found.metrics["gini"].value == pytest.approx(expected.mean())


@pytest.mark.parametrize("convention", ["pxap", "max_box_acc"])
def test_metrics_of_other_truths_are_left_out_and_told(copies, tmp_path, convention):
    for run, size in zip(copies, (20, 30), strict=True):
        rows = [f"{i:02d}.png,{c},0,0,{size},{size}" for i in range(11) for c in range(8)]
        (truth := tmp_path / f"{size}.csv").write_text("\n".join(rows))
        api.evaluate(run, ["gini", convention], truth=truth, executor="local")
    (found,) = api.compare(*copies)
    assert list(found.metrics) == ["gini"]
    assert [n.text for n in found.notes if f"other truths: {convention}" in n.text]


def test_differences_of_images_are_told_from_those_of_figures(copies, tmp_path):
    rows = [f"{i:02d}.png,{c},0,0,20,20" for i in range(11) for c in range(8)]
    (truth := tmp_path / "truth.csv").write_text("\n".join(rows))
    for run in copies:
        api.evaluate(run, ["gini", "pxap"], truth=truth, executor="local")
    (found,) = api.compare(*copies)
    assert found.of_images == ("pxap",) and found.as_json()["of_images"] == ["pxap"]
    _, out, _ = shardcam("compare", *copies)
    assert "difference of pxap, of images" in out and "difference of gini, of" not in out
    assert "pxap: differences of what each image has, not of the figures of the whole sets" in out


def test_rows_have_columns_of_metrics_that_some_other_run_has_too(copies, layercam, tmp_path):
    for run, metrics in zip(copies, (["gini", "entropy"], ["gini", "complexity"]), strict=True):
        api.evaluate(run, metrics, executor="local")
    api.compare(copies[0], layercam, copies[1], out=tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "images.csv").read_text().splitlines()))
    assert [name for name in rows[0] if name.endswith("_difference")] == ["gini_difference"]
    assert {row["other"] for row in rows if row["gini_difference"]} == {str(copies[1])}


def test_a_url_is_no_folder(gradcam, layercam, tmp_path):
    for option in ("--out", "--csv"):
        code, _, err = shardcam("compare", gradcam, layercam, option, "memory://x/y", cwd=tmp_path)
        assert code == 2 and f"{option} memory://x/y: takes a path of this machine" in err
    with pytest.raises(ConfigError, match="not a URL"):
        api.compare(gradcam, layercam, out="memory://x/y")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--layer", "nothing"), "nothing: .* has no maps of it; it has"),
        (("--layer", "a", "--layer", "b", "--layer", "c"), "one for all 2 runs"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(gradcam, layercam, options, told):
    code, _, err = shardcam("compare", gradcam, layercam, *options)
    assert code == 2 and err.count("\n") == 1
    with pytest.raises(ConfigError, match=told):
        api.compare(gradcam, layercam, layer=options[1::2])


def test_runs_without_a_common_image_and_one_run_alone(gradcam, tmp_path, pictures):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.png").write_bytes((pictures / "00.png").read_bytes())
    run = tmp_path / "run"
    assert shardcam("extract", other, *SMALL, "--out", run, "--executor", "local")[0] == 0
    code, _, err = shardcam("compare", gradcam, run)
    assert code == 2 and "share no image: keys such as '00.png' there and 'x.png' here" in err
    code, _, err = shardcam("compare", gradcam)
    assert code == 2 and "two runs or more" in err


def test_memory_holds_no_map_longer_than_a_block(gradcam, monkeypatch):
    from shardcam.engine.evaluation import paired_images

    whole = api.compare(gradcam, gradcam)
    monkeypatch.setattr(paired_images, "TOGETHER", 2)
    read = []
    cam = paired_images.Samples.cam

    def counting(self, layer):
        maps = cam(self, layer)
        plain = maps.read
        maps.read = lambda rows, part: (read.append(len(rows)), plain(rows, part))[1]
        return maps

    monkeypatch.setattr(paired_images.Samples, "cam", counting)
    (blocks,) = api.compare(gradcam, gradcam)
    assert blocks.layers[0].worst == whole[0].layers[0].worst
    assert max(read) == 2
    with open_run(gradcam) as run:
        assert sum(read) == 2 * len(run)


def test_intervals_of_shares_are_within_0_and_1():
    """14 of 15, of which a normal interval goes to 1.02."""
    mean = RunningMean()
    mean.add(np.array([1.0] * 14 + [0.0]))
    share, wilson = mean.share(), stats.binomtest(14, 15).proportion_ci(method="wilson")
    assert (share.low, share.high) == pytest.approx((wilson.low, wilson.high), abs=1e-5)
    assert mean.figure().high > 1 and mean.figure(0, 1).high == 1
    assert np.isnan(RunningMean().share().value)
