"""Which picture and which class of a run a truth means."""

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.config import RunConfig
from shardcam.engine.errors import SourceError
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.truths.truth_classes import TruthClasses, run_classes
from shardcam.engine.truths.truth_pictures import SEVERAL, matched, run_pictures
from shardcam.engine.types import NO_CLASS
from tests.truths.truths import coco, found, read, told


def pairs(names, keys):
    numbers = {key: number for number, key in enumerate(keys)}
    there = {numbers[name] for name in names if name in numbers}
    return matched([name for name in names if name not in numbers], numbers, there)[0]


@pytest.mark.parametrize(
    "names, keys, expected",
    [
        (["val/a.jpg"], ["a.jpg"], [0]),
        (["a.jpg"], ["x/val/a.jpg", "x/val/ba.jpg"], [0]),
        (["val\\a.jpg", "./b.jpg"], ["x/val/a.jpg", "c/b.jpg"], [0, 1]),
        (["x/a.jpg", "y/a.jpg"], ["in/x/a.jpg", "in/y/a.jpg"], [0, 1]),
        (["val/a"], ["val/a.JPEG"], [0]),
        (["n1/n1_5"], ["train/n1/n1_5.JPEG"], [0]),
        (["Annotations/a.xml"], ["JPEGImages/a.jpg"], [0]),
        (["000123.png"], ["000123"], [0]),
        (["b.jpg"], ["a.jpg"], [-1]),
        (["a.left"], ["a.right"], [-1]),  # no ending of pictures
        (["a.jpg"], ["x/a.jpg", "y/a.jpg"], [SEVERAL]),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], [SEVERAL, SEVERAL]),
        (["a.jpg", "old/a.jpg"], ["a.jpg"], [SEVERAL]),  # the first is that picture's own name
        (["p/a.png", "q/a.png"], ["a.jpg"], [SEVERAL, SEVERAL]),
    ],
)
def test_names_of_pictures(names, keys, expected):
    assert pairs(names, keys) == expected


def test_many_pictures_of_one_name_take_no_longer():
    keys = [f"{i}/a.jpg" for i in range(20_000)]
    assert pairs([f"in/{key}" for key in keys], keys) == list(range(20_000))
    assert pairs(["a.jpg"] * 3, keys) == [SEVERAL] * 3


def test_several_images_of_one_picture_have_its_truth(tmp_path):
    """Rows of a manifest look at boxes of a picture; their keys say so behind a #."""
    (tmp_path / "t.csv").write_text("a#b.jpg,0,1,2,3,4\n")
    keys = "a#b.jpg#0,0,50,50", "a#b.jpg#50.5,0,99,50"
    truth = read(tmp_path / "t.csv", *keys)
    assert [found(truth, key) for key in keys] == [[(0, (1, 2, 3, 4))]] * 2
    assert "1 region in 1 picture of 1" in told(truth)


def test_how_pictures_were_found_is_told(tmp_path):
    (tmp_path / "t.csv").write_text("a.jpg,0,1,2,3,4\nval/b.jpg,0,1,2,3,4\nc.png,0,1,2,3,4\n")
    text = told(read(tmp_path / "t.csv", "a.jpg", "b.jpg", "x/c.jpg"))
    assert "1 picture found by the end of the path" in text
    assert "1 picture found by the path without its ending" in text


@pytest.mark.parametrize(
    "value, expected",
    [
        ("traffic light", 1),
        ("Traffic_Light", 1),
        ("trafficlight", 1),
        ("tench", 0),
        ("n01440764", 0),
        ("n99", 7),
        ("2", 2),
        (2, 2),
        ("2.0", 2),
        ("class 2", 2),
        ("8", NO_CLASS),
        ("-1", NO_CLASS),
        ("2.5", NO_CLASS),
        ("crane", NO_CLASS),  # two are called so
        ("", NO_CLASS),
        ("aeroplane", NO_CLASS),
    ],
)
def test_classes(value, expected):
    names = {0: "n01440764 tench", 1: "traffic light", 3: "crane", 4: "crane"}
    assert TruthClasses(8, names, {"n99": 7}).of(value) == expected


def test_a_stored_run_says_what_its_pictures_and_classes_are(tmp_path):
    """Those that failed are its pictures too; class folders are names."""
    stored = Path(__file__).parent.parent / "fixtures" / "run-0.1.0" / "run"
    run = shutil.copytree(stored, tmp_path / "run")
    run_dir = RunDir.open(run)
    with open_run(run) as opened, closing(Listing(run_dir.listing)) as listing:
        found = run_pictures(listing, opened)
    assert len(found.keys) == 11 and found.keys[3] == "other/cut.png"
    assert found.label.tolist() == [0] * 3 + [1] * 8
    assert found.size[3].tolist() == [0, 0] and (np.delete(found.size, 3, axis=0) > 0).all()
    config = RunConfig(source="x", model="x-symbol.json", out="x")
    classes = run_classes(run_dir, config, 4, {"cats": 0, "other": 1})
    assert run_classes(run_dir, config, 1 << 30, {}).of("1000000") == 1_000_000
    assert [classes.of(name) for name in ("cats", "other", "3", "dog")] == [0, 1, 3, NO_CLASS]


def test_pictures_of_another_size_than_the_truth_says(tmp_path):
    """Copies made smaller have the same objects; pictures of another shape are others."""
    images = [
        {"id": 1, "file_name": "a.jpg", "width": 401, "height": 200},
        {"id": 2, "file_name": "b.jpg", "width": 100, "height": 200},
    ]
    square = [[20, 20, 60, 20, 60, 60, 20, 60]]
    objects = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [20, 20, 40, 40],
            "segmentation": square,
        },
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [20, 20, 40, 40]},
    ]
    truth = read(coco(tmp_path / "c.json", objects, images), "a.jpg", "b.jpg")
    scale = 200 / 401
    assert truth.of("a.jpg").boxes(1)[0] == pytest.approx([20 * scale, 10, 60 * scale, 30])
    mask = truth.of("a.jpg").mask(1, (100, 200))
    assert np.argwhere(mask).min(axis=0).tolist() == [10, 10] and mask.sum() == 400
    assert truth.of("b.jpg").regions == ()
    assert "1 picture of another size than the truth says" in told(truth)
    assert "a.jpg, 401x200 there and 200x100 here" in told(truth)
    assert "1 picture left out, of another shape than the truth says" in told(truth)


def test_a_truth_of_other_pictures_says_what_both_are_called(tmp_path):
    (tmp_path / "t.csv").write_text("x.jpg,0,1,2,3,4\ny.jpg,0,1,2,3,4\n")
    with pytest.raises(SourceError, match=r"picture of the run is a.jpg; 2 names .* first: x.jpg"):
        read(tmp_path / "t.csv", "a.jpg")
