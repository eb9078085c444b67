"""``--target labels``: several classes of an image, from a table, IRN's file, VOC and COCO."""

import json
import pickle

import numpy as np
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import SourceError
from shardcam.engine.run.label_dictionary import label_dictionary
from tests.jobs.command import SMALL, contents, shardcam
from tests.readers.sources import pictures, png
from tests.truths.truths import annotation, coco, xml

CLASSES = 10  # of the network
KEYS = ("2007_000032.png", "2007_000039.png", "2008_000003.png")
EXPECTED = [[1, 7, 9], [4, -1, -1], [0, 7, -1]]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for key, picture in zip(KEYS, pictures(3), strict=True):
        (tmp_path / "photos" / key).write_bytes(png(picture))
    names = ["ant", *"123456", "cat", "dog", "bee"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    return tmp_path


def extract(folder, source, target, *options, out="run"):
    names = ("--labels", folder / "names.txt")
    return shardcam(
        *("extract", folder / source, *SMALL, *names, "--executor", "local"),
        *("--out", folder / out, "--target", target, *options),
    )


def explained(folder, source, target, *options, out="run"):
    code, text, err = extract(folder, source, target, *options, out=out)
    assert code == 0, err
    rows = contents(folder / out)
    assert [*map(bytes.decode, rows["key"])] == [*KEYS[: len(rows["key"])]]
    return rows["target"].tolist(), " ".join(text.split()), rows


TABLES = {
    "numbers.csv": 'path,labels\n{0},7;1;9\n{1},4\n{2},"[7, 0]"\n',
    "names.csv": 'path,labels\n{0},cat;1;bee\n{1},4\n{2},"[""ant"", 7]"\n',
    "list.tsv": "key\tpath\tLabels\n{0}\t{0}\t9;1;7;7\n{1}\t{1}\t4\n{2}\t{2}\t7; 0\n",
    "list.jsonl": '{{"path": "{0}", "labels": [1, 9, "cat"]}}\n{{"path": "{1}", "labels": 4}}\n'
    '{{"path": "{2}", "labels": ["7", 0]}}\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_column_of_the_manifest(folder, name):
    (folder / name).write_text(TABLES[name].format(*(f"photos/{key}" for key in KEYS)))
    keyed = ("--root", folder)
    code, text, err = extract(folder, name, "labels", *keyed)
    assert code == 0, err
    rows = contents(folder / "run")
    assert rows["target"].tolist() == EXPECTED
    assert "3 of 3 images have labels, 2.0 on average and 3 at most" in " ".join(text.split())
    none = rows["target"] == -1
    maps = next(rows[name] for name in rows if name.endswith("/map"))
    assert np.isnan(rows["score"][none]).all() and not np.isnan(rows["score"][~none]).any()
    assert maps.shape[1] == 3 and np.abs(maps[~none]).sum() > 0


def dictionary(folder, **options):
    rows = {}
    for key, classes in zip(KEYS, EXPECTED, strict=True):
        row = np.zeros(CLASSES, np.float32)
        row[[c for c in classes if c >= 0]] = 1
        rows[int(key[:4] + key[5:11])] = row
    np.save(folder / "cls_labels.npy", rows, **options)
    return folder / "cls_labels.npy"


def test_a_table_beside_the_source_and_every_other_form(folder):
    by_name = '"2008_000003",7;0\n"elsewhere/2007_000032.jpg",1;7;9\n2007_000039.png,4\nno.jpg,3\n'
    (folder / "beside.csv").write_text("path,labels\n" + by_name)
    found, told, rows = explained(folder, "photos", f"labels:{folder}/beside.csv")
    assert found == EXPECTED
    assert "1 name not of an image of the source, the first: no.jpg" in told

    (folder / "xml").mkdir()
    names = {-1: None, 0: "ant", 1: "1", 4: "4", 7: "cat", 9: "bee"}
    for key, classes in zip(KEYS, EXPECTED, strict=True):
        objects = [(names[c], 1 + i, 1, 8, 9) for i, c in enumerate(classes) if c >= 0]
        (folder / "xml" / f"{key[:11]}.xml").write_text(xml(*objects, size=(8, 9)))
    images = [{"id": i, "file_name": key} for i, key in enumerate(KEYS)]
    categories = [{"id": 20 + c, "name": name} for c, name in names.items() if name]
    rows = [(i, c) for i, some in enumerate(EXPECTED) for c in some if c >= 0]
    rows = [annotation(image_id=i, category_id=20 + c, bbox=[c, 0, 2, 2]) for i, c in rows]
    coco(folder / "coco.json", rows, images, categories)
    for file in (dictionary(folder), folder / "xml", folder / "coco.json"):
        out = f"run-{file.name}"
        found, _, _ = explained(folder, "photos", f"labels:{file}", out=out)
        assert found == EXPECTED
        ours, first = (json.loads((folder / n / "run.json").read_text()) for n in (out, "run"))
        assert ours["fingerprint"] == first["fingerprint"]  # wherever the labels are from
        assert ours["config"]["target"] == f"labels:{file}"


def test_images_without_labels_fail_and_other_labels_are_another_run(folder):
    (folder / "some.csv").write_text(f"path,labels\n{KEYS[0]},7;12;-1\n{KEYS[1]},-1\n{KEYS[2]},x\n")
    found, told, rows = explained(folder, "photos", f"labels:{folder}/some.csv")
    assert found == [[7]]
    assert [*map(bytes.decode, rows["failure/error"])] == ["no target"] * 2
    assert b"the image has no label of a class of the network" in rows["failure/message"][0]
    left_out = "3 labels left out, the first 12 (line 2): the network has classes 0 to 9"
    assert left_out in " ".join(told.split())
    assert "1 label was not understood, the first 'x' (line 4)" in told
    (folder / "some.csv").write_text(f"path,labels\n{KEYS[0]},7\n{KEYS[1]},2\n")
    code, _, err = extract(folder, "photos", f"labels:{folder}/some.csv")
    assert code == 2 and "target" in err


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("path,label\n{0},7\n", "labels", "list.csv has no column 'labels', but path, label"),
        ("path,labels\n{0},\n", "labels", "no image has a label"),
        ("path,labels\n{0},dog cat\n", "labels", "the first 'dog cat' (line 2): not a name in"),
        ("path\n{0}\n", "labels:{folder}/photos", "no PNG file in it is a mask"),
        ("path\n{0}\n", "labels:{folder}/none.npy", "none.npy: No such file"),
        ("path\n{0}\n", "labels:{folder}/few.npy", "it has 3 classes, the network 10"),
    ],
)
def test_refused_in_one_line(folder, text, target, message):
    np.save(folder / "few.npy", {"a": np.ones(3)})
    (folder / "list.csv").write_text(text.format(f"photos/{KEYS[0]}"))
    code, _, err = extract(folder, "list.csv", target.format(folder=folder))
    assert code and message in err and not (folder / "run").exists()


def test_a_source_without_columns_says_what_to_do(folder):
    code, _, err = extract(folder, "photos", "labels")
    assert code == 2 and "the source has no column 'labels'; labels:FILE reads them" in err


def test_the_file_is_a_path():
    config = RunConfig(source="a", model="m", out="o", target="labels:cls.npy")
    assert config.paths()["target"] == "cls.npy"
    assert "target" not in config.model_copy(update={"target": "labels"}).paths()


@pytest.mark.parametrize("protocol", range(5))
def test_what_numpy_pickles(tmp_path, protocol):
    """Keys of NumPy's integers and texts, other types of numbers, older protocols."""
    rows = {
        np.int64(2007000032): np.array([1, 0, 1], np.float32),
        9: np.array([0, 1, 0], bool),
        "COCO_train2014_000000000025": np.array([0, 0, 2], np.int64),
    }
    head = (
        b"\x93NUMPY\x01\x00\x3a\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }      \n"
    )
    array = np.empty((), object)
    array[()] = rows
    found, classes = label_dictionary(tmp_path, head + pickle.dumps(array, protocol))
    assert {name: some.tolist() for name, some in found.items()} == {
        "2007_000032": [0, 2],
        "000000000009": [1],
        "COCO_train2014_000000000025": [2],
    }
    assert classes == 3


class Call:
    def __reduce__(self):
        return print, ("called",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: Call()}, "asks for (builtins|__builtin__).print"),
        (Call(), "asks for (builtins|__builtin__).print"),
        ({1: np.array(["a"])}, "an array of U1"),
        ({1: np.array([None, None])}, "an array of objects that holds more than one"),
        ({1: [0, 1]}, "1: not an array"),
        ({}, "no dictionary of pictures"),
        ([1], "no dictionary of pictures"),
        ({1: np.ones(2), 2: np.ones(3)}, "some pictures have 2 classes and some 3"),
        ({1: np.array([1, np.nan])}, "1: has nan where 0 or 1 is expected"),
        ({1: np.array([1, 0]), 2: np.array([1, -1])}, "2: has -1 where 0 or 1 is expected"),
        ({1: np.ones(2, ">f4")}, "another order of bytes"),
    ],
)
def test_a_hostile_dictionary_calls_nothing(tmp_path, capsys, value, message):
    path = tmp_path / "cls.npy"
    array = np.empty((), object)
    array[()] = value
    np.save(path, array)
    with pytest.raises(SourceError, match=message):
        label_dictionary(path, path.read_bytes())
    assert not capsys.readouterr().out


def test_a_damaged_dictionary_is_refused(folder):
    data = dictionary(folder).read_bytes()
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(SourceError):
            label_dictionary(folder, data[:end])
    with pytest.raises(SourceError, match="not a dictionary"):
        label_dictionary(folder, b"\x93NUMPY\x01\0" + data[8:60].replace(b"|O", b"f4"))
