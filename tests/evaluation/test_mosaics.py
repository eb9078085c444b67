"""``shardcam mosaic`` and the grid pointing game, on a network that knows four colours."""

import csv
import json

import cv2
import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.evaluation.grid_pointing import GridPointing
from shardcam.engine.evaluation.metric import ImageRows, Reason
from shardcam.engine.truths.truth import ImageTruth, Region
from tests.jobs.command import contents, shardcam

SIZE = 16
COLOURS = {0: (250, 20, 20), 1: (20, 250, 20), 2: (20, 20, 250), 3: (20, 20, 20)}


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Of any size; each channel is there where one colour is."""
    folder = tmp_path_factory.mktemp("mosaics")
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", num_filter=4, kernel=(1, 1))
    x = mx.sym.Activation(x, name="relu", act_type="relu")
    x = mx.sym.Pooling(x, name="pool", global_pool=True, pool_type="avg", kernel=(1, 1))
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=4)
    weight = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [-1, -1, -1]], np.float32)
    parameters = {
        "arg:conv_weight": weight.reshape(4, 3, 1, 1),
        "arg:conv_bias": np.array([0, 0, 0, 0.5], np.float32),
        "arg:dense_weight": 40 * np.eye(4, dtype=np.float32),
        "arg:dense_bias": np.zeros(4, np.float32),
    }
    x.save(str(folder / "colours-symbol.json"))
    mx.nd.save(
        str(folder / "colours-0000.params"), {n: mx.nd.array(v) for n, v in parameters.items()}
    )
    return ("--model", folder / "colours-symbol.json", "--mean", "0,0,0", "--std", "255,255,255")


@pytest.fixture(scope="module")
def run(network, tmp_path_factory):
    """Five pictures of each colour, one of them in the wrong folder, and two of no colour."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(22):
        colour = i % 4
        image = np.array(COLOURS[colour] if i < 20 else (130, 130, 20))
        noisy = (image + rng.integers(-15, 16, (24, 20, 3))).clip(0, 255).astype(np.uint8)
        label = colour if i else 1
        (folder / str(label)).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / str(label) / f"{i:02d}.png"), noisy[..., ::-1])
    out = folder.parent / "run"
    code, _, err = shardcam(
        *("extract", folder, *network, "--image-size", SIZE, "--label-from-folder"),
        *("--out", out, "--executor", "local", "--shard-size", 6),
    )
    assert code == 0, err
    return out


def test_cells_are_what_the_network_saw_of_images_that_it_is_sure_of(run, tmp_path):
    out = tmp_path / "mosaics"
    code, printed, err = shardcam("mosaic", run, "--grid", 2, "--out", out)
    assert code == 0, err
    assert "4 mosaics" in printed and "of the 500 asked for: images did not suffice" in printed
    manifest, truth = rows(out / "manifest.csv"), rows(out / "truth.csv")
    origin = json.loads((out / "mosaics.json").read_text())["mosaics"]
    assert len(manifest) == len({row["key"] for row in manifest}) == 4 and len(truth) == 16
    stored = contents(run)
    keys = [key.decode() for key in stored["key"]]
    used = []
    for cell, box in enumerate(truth):
        source = manifest[cell // 4]
        assert source["key"] == box["key"] and source["labels"].split(";")[cell % 4] == box["class"]
        picture = cv2.imread(str(out / source["path"]))[..., ::-1]
        assert picture.shape == (2 * SIZE, 2 * SIZE, 3)
        x0, y0, x1, y1 = (int(box[side]) for side in ("x0", "y0", "x1", "y1"))
        colour = COLOURS[int(box["class"])]
        assert abs(picture[y0:y1, x0:x1].mean(axis=(0, 1)) - colour).max() < 10
        told = origin[source["path"]][cell % 4]
        used.append(told["key"])
        row = keys.index(told["key"])
        assert stored["label"][row] == stored["top_class"][row, 0] == told["class"]
        assert told["score"] >= 0.99
    assert len(set(used)) == 16
    for row in manifest:
        assert len(set(row["labels"].split(";"))) == 4
    again = tmp_path / "again"
    assert shardcam("mosaic", run, "--grid", 2, "--out", again)[0] == 0
    assert (again / "mosaic-00000.png").read_bytes() == (out / "mosaic-00000.png").read_bytes()


def test_the_network_finds_every_cell(run, network, tmp_path):
    out = tmp_path / "mosaics"
    code, printed, _ = shardcam("mosaic", run, run, "--grid", 2, "--count", 3, "--out", out)
    assert code == 0 and "--target labels --image-size 32" in printed
    code, _, err = shardcam(
        *("extract", out / "manifest.csv", *network, "--target", "labels", "--image-size", 32),
        *("--out", tmp_path / "run", "--executor", "local"),
    )
    assert code == 0, err
    stored, boxes = contents(tmp_path / "run"), rows(out / "truth.csv")
    assert stored["target"].shape == (3, 4), "one pass for all cells of a mosaic"
    assert {
        (key.decode(), str(cls)) for key, row in zip(stored["key"], stored["target"]) for cls in row
    } == {(box["key"], box["class"]) for box in boxes}
    maps = stored["cam/relu/map"] * stored["cam/relu/scale"][..., None, None]
    values = GridPointing().measure(maps.astype(np.float32), image_rows(stored, boxes)).value
    assert values.min() > 0.97


def image_rows(stored, boxes):
    regions = {}
    for box in boxes:
        sides = tuple(float(box[s]) for s in ("x0", "y0", "x1", "y1"))
        regions.setdefault(box["key"], []).append(Region(int(box["class"]), sides))
    truth = {key: ImageTruth(tuple(those)) for key, those in regions.items()}
    keys = tuple(key.decode() for key in stored["key"])
    return ImageRows(
        stored["sample"], keys, stored["label"], stored["target"], stored["score"],
        stored["top_class"], stored["crop"].astype(float), stored["image_size"], (32, 32),
        tuple(truth.get(key) for key in keys),
    )  # fmt: skip


def rows_of(count, boxes, crop=(0, 0, 12, 12), view=(12, 12), target=1):
    truth = ImageTruth(tuple(Region(1, box) for box in boxes))
    n = np.arange(count)
    return ImageRows(
        n, tuple(map(str, n)), np.full(count, -1), np.full((count, 1), target), np.ones((count, 1)),
        np.zeros((count, 5)), np.tile(np.array(crop, float), (count, 1)), np.full((count, 2), 12),
        view, (truth,) * count,
    )  # fmt: skip


def test_shares_against_torch_style_enlarging_by_hand():
    """Enlarged by OpenCV, then cut off at 0; 1/9 for a uniform map, 0 where nothing is positive."""
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((4, 1, 3, 5)).astype(np.float32)
    maps[2], maps[3] = 1, -1
    found = GridPointing().measure(maps, rows_of(4, [(4.0, 8.0, 8.0, 12.0)]))
    for i in range(4):
        large = cv2.resize(maps[i, 0], (12, 12), interpolation=cv2.INTER_LINEAR).clip(0)
        expected = large[8:12, 4:8].sum() / large.sum() if large.sum() > 1e-7 else 0
        assert found.value[i, 0] == pytest.approx(expected, abs=1e-6)
    assert found.value[2, 0] == pytest.approx(1 / 9) and found.value[3, 0] == 0
    assert not found.reason.any()


def test_boxes_go_through_the_crop_and_may_cover_parts_of_pixels():
    maps = np.ones((1, 1, 2, 2), np.float32)
    measure = GridPointing().measure
    half = measure(maps, rows_of(1, [(0.0, 0.0, 6.0, 12.0)], view=(24, 24))).value
    moved = measure(maps, rows_of(1, [(5.0, 0.0, 20.0, 10.0)], crop=(0, 0, 10, 10))).value
    part = measure(maps, rows_of(1, [(0.5, 0.0, 3.0, 12.0)])).value
    both = measure(maps, rows_of(1, [(0.0, 0.0, 6.0, 12.0), (3.0, 0.0, 9.0, 12.0)])).value
    found = [float(one[0, 0]) for one in (half, moved, part, both)]
    np.testing.assert_allclose(found, [0.5, 0.5, 2.5 / 12, 0.75], rtol=1e-6)


def test_what_has_no_value_says_why():
    maps = np.ones((1, 1, 2, 2), np.float32)
    box = [(0.0, 0.0, 6.0, 12.0)]
    unknown = rows_of(1, box)
    object.__setattr__(unknown, "truth", (None,))
    for given, of, reason in (
        (maps, rows_of(1, box, target=-1), Reason.NO_CLASS),
        (maps, rows_of(1, box, target=2), Reason.NO_REGION),
        (maps, unknown, Reason.NO_TRUTH),
        (maps * np.float32(np.nan), rows_of(1, box), Reason.NO_MAP),
    ):
        found = GridPointing().measure(given, of)
        assert np.isnan(found.value).all() and found.reason[0, 0] == reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--grid", 3), "a mosaic needs images of 9 classes"),
        (("--grid", 2, "--min-score", 1), "images of 4 classes that the network is sure of"),
    ],
)
def test_too_few_images_are_told_in_one_line(run, tmp_path, options, told):
    code, _, err = shardcam("mosaic", run, *options, "--out", tmp_path / "out")
    assert code == 2 and told in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_of_the_users_is_written_over(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = shardcam("mosaic", run, "--grid", 2, "--out", tmp_path)
    assert code == 2 and "not empty" in err
