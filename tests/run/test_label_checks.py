import re

import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.readers.class_folders import number_folders
from shardcam.engine.readers.labels import Names
from shardcam.engine.run.class_numbers import class_numbers
from shardcam.engine.run.label_checks import label_notes, require_labels
from shardcam.engine.rundir.listing import ListingFacts


def facts(folders=(), low=None, high=None, samples=9, labelled=9, notes=()):
    classes = dict(folders)
    label_range = [] if low is None else [low, high]
    return ListingFacts(
        "", {}, [], samples, 1, labelled, 1, "", list(notes), classes, label_range
    )  # fmt: skip


def warnings(found, classes, names=()):
    return [n.text for n in label_notes(found, classes, Names(dict(names))) if n.kind == "warning"]


def by_position(*names):
    return {name: number for number, name in enumerate(names)}


def numbered(*numbers):
    return {str(number): number for number in numbers}


GOOD = {
    "as many folders as classes": (facts(by_position("ant", "bee", "cat"), 0, 2), 3),
    "folders by some of the numbers": (facts(numbered(0, 7), 0, 7), 1000),
    "folders by numbers with gaps": (facts(numbered(1, 2, 4), 1, 4), 1000),
    "a single folder": (facts(numbered(1), 1, 1), 1000),
    "folders by names": (facts({"bee": 1, "cat": 2}, 1, 2), 3, {"bee": [1], "cat": [2]}),
    "labels from 0": (facts(low=0, high=9), 10),
    "some labels": (facts(low=1, high=9), 10),
    "no labels": (facts(labelled=0), 10),
}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_told_where_all_is_well(name):
    found, classes, *names = GOOD[name]
    assert list(label_notes(found, classes, Names(*names))) == []


def test_names_of_some_classes_need_no_warning():
    folders = by_position("ant", "bee")
    assert warnings(facts(folders, 0, 1), 5, {"ant": [0], "bee": [1], "cat": [2]}) == []
    assert len(warnings(facts(folders, 0, 1), 5)) == 1


@pytest.mark.parametrize(
    ("found", "classes", "text"),
    [
        (facts(by_position("ant", "bee"), 0, 1), 3, "2 class folders, but the network has 3"),
        (facts(by_position("ant", "bee"), 0, 1), 1, "2 class folders, but the network has 1"),
        (
            facts(numbered(1, 2, 3), 1, 2),
            3,
            "the class folders are numbered 1 to 3, but the network has classes 0 to 2; if they "
            "are counted from 1, take 1 off each",
        ),
        (
            facts(numbered(1, 2), 1, 2),
            1000,
            "the class folders are numbered 1 to 2, but classes are counted from 0; if these",
        ),
        (facts({"01": 1, "02": 2}, 1, 2), 9, "the class folders are numbered 1 to 2, but classes"),
        (facts(numbered(0, 3), 0, 0), 3, "the class folders are numbered 0 to 3, but the network"),
        (facts(low=1, high=10), 10, "the labels are 1 to 10, .* 0 to 9; if they are counted from"),
        (facts(low=0, high=10), 10, "the labels are 0 to 10, but the network has classes 0 to 9$"),
        (facts(low=99, high=99), 10, "the labels are 99, but the network has classes 0 to 9$"),
        (facts(low=2, high=99), 10, "the labels are 2 to 99, but the network has classes 0 to 9$"),
    ],
)
def test_labels_that_the_network_cannot_have(found, classes, text):
    (warning,) = warnings(found, classes)
    assert re.match(text, warning), warning


def test_samples_without_a_label_are_counted():
    (note,) = label_notes(facts(low=0, high=1, samples=9, labelled=7), 10, Names())
    assert (note.kind, note.text) == ("labels", "7 of 9 images have a label")


def test_a_source_without_labels_cannot_have_them_explained():
    require_labels(facts(labelled=1))
    told = [["skipped", "x"], ["labels", "2 labels were not understood"]]
    with pytest.raises(ConfigError, match=r"no sample has a label \(2 labels were not under"):
        require_labels(facts(labelled=0, notes=told))
    with pytest.raises(ConfigError, match=r"need --label-from-folder, .* tar files a \.cls"):
        require_labels(facts(labelled=0))


def test_classes_by_name(tmp_path):
    path = tmp_path / "synset.txt"
    path.write_text("n01440764 tench, Tinca tinca\ncrane\n\ncrane\n")
    config = RunConfig(source="s", model="m.onnx", out="o", labels=str(path))
    names = class_numbers(config, 4)
    assert names.classes == {
        "n01440764 tench, Tinca tinca": [0], "n01440764": [0], "tench, Tinca tinca": [0],
        "crane": [1, 3],
    }  # fmt: skip
    assert names.of("crane") is None
    plain = config.model_copy(update={"labels": None})
    assert class_numbers(plain, 999).classes == {}
    wnids = class_numbers(plain, 1000)
    assert (wnids.of("n01440764"), wnids.of("n15075141")) == (0, 999)
    assert len(wnids.classes) == 1000


def test_classes_are_understood_as_a_run_prints_them():
    known = RunConfig(source="s", model="efficientnet_lite0", out="o")
    names = class_numbers(known, 1000)
    found = {name: names.of(name) for name in ("Egyptian cat", "coffee mug", "crane", "cat")}
    assert found == {"Egyptian cat": 285, "coffee mug": 504, "crane": None, "cat": None}
    assert "the classes 134 and 517 are both called so" in names.problem("crane")
    assert class_numbers(known.model_copy(update={"model": "m.onnx"}), 1000).of("crane") is None
    every = ["Egyptian cat", "coffee mug"]
    assert number_folders("f", every, every, names)[0] == {"Egyptian cat": 285, "coffee mug": 504}
    some = ["Egyptian cat", "mugs"]
    assert number_folders("f", some, some, names)[0] == {"Egyptian cat": 0, "mugs": 1}
