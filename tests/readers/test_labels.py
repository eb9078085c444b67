"""One rule for labels, written by pandas, h5py, NumPy, MXNet and WebDataset."""

import json
import struct
from decimal import Decimal
from math import inf, nan
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcam.engine.errors import ConfigError, SourceError
from shardcam.engine.readers.labels import Labels, Names
from tests.readers.reader_conformance import check_listing
from tests.readers.sources import opened, pictures, png, write_h5, write_idx, write_rec, write_tar

NAMES = Names({"cat": [0], "dog": [1], "crane": [134, 517], "7": [8], "maybe": [3]}, "names.txt")
UNDERSTOOD = [
    (0, 0), (3, 3), (3.0, 3), (True, 1), (False, 0), (Decimal("3.00"), 3), ([3], 3), ((3.0,), 3),
    ("3", 3), (" 03\n", 3), ("3.0", 3), ("3.", 3), ("+3", 3), ("3.000000000000000000e+00", 3),
    ("True", 1), ("false", 0), (b"3", 3), ("dog", 1), (" dog ", 1), (b"cat", 0), ("7", 7),
    (2**31 - 1, 2**31 - 1), (-1, -1), ("-1", -1), (-1.0, -1), (None, -1), ("", -1), (" ", -1),
    (nan, -1), ("nan", -1), ([None], -1),
]  # fmt: skip
UNKNOWN = [
    (1.5, "whole number"), ("1.5", "whole number"), (-2, "whole number"), (inf, "whole number"),
    (2**31, "whole number"), ("9" * 5000, "whole number"), ([1, 2], "whole number"),
    ({}, "whole number"), ("Dog", "not a name in --labels names.txt"), ("1_0", "not a name"),
    ("0x3", "not a name"), ("\uff13", "not a name"), ("crane", "classes 134 and 517 are both"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "label"), UNDERSTOOD)
def test_understood(value, label):
    labels = Labels(lambda: NAMES)
    assert labels.of(value, "line", 2) == label
    assert type(labels.of(value)) is int
    assert labels.met().notes == ()


@pytest.mark.parametrize(("value", "remedy"), UNKNOWN)
def test_not_understood(value, remedy):
    labels = Labels(lambda: NAMES)
    assert labels.of(value, "line", 2) == labels.of("other", "line", 3) == -1
    (note,) = labels.met().notes
    assert note.text.startswith("2 labels were not understood, the first ")
    assert (
        f"(line 2): {remedy}" in note.text
        or f"(line 2): a label is a {remedy}" in note.text
        or (f"(line 2): the {remedy}" in note.text)
    )
    assert len(note.text) < 300
    labels.forget()
    assert labels.met().notes == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)


@given(json_values | st.decimals(allow_nan=False) | st.binary())
def test_any_value_is_a_label_or_told(value):
    labels = Labels(lambda: NAMES)
    label = labels.of(value)
    assert type(label) is int and -1 <= label < 2**31
    told = [note.text for note in labels.met().notes]
    assert bool(told) == (labels.understood(value) is None)
    assert not told or (label == -1 and "\n" not in told[0])


def labels_of(source, **options):
    """The labels of a source, and what was told of them."""
    reader = opened(source, **options)
    listing = check_listing(reader, len(list(reader.samples())))
    return [sample.label for sample in listing], [note.text for note in reader.notes().notes]


TABLES = {  # what a column holds, and its classes
    "whole numbers with a gap": ([3, None, 0], [3, -1, 0]),  # pandas makes it 3.0, NaN, 0.0
    "nullable": (pd.array([3, None, 0], "Int64"), [3, -1, 0]),
    "texts": (["3", "03", "3.0"], [3, 3, 3]),
    "truth": ([True, False, True], [1, 0, 1]),
    "names": (["dog", "cat", None], [1, 0, -1]),
    "categories": (pd.Categorical(["dog", "cat", "dog"]), [1, 0, 1]),
    "small": (np.array([1, 2, 3], "u1"), [1, 2, 3]),
}


def written(table, path):
    """A table of pandas as a manifest."""
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", TABLES)
def test_tables_of_pandas(tmp_path, name, kind):
    column, expected = TABLES[name]
    table = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "label": column})
    path = written(table, tmp_path / f"list.{kind}")
    assert labels_of(path, names=lambda: NAMES) == (expected, [])


def test_what_is_not_understood_stops_nothing_and_is_told_once(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\na.png,0\nb.png,dog\nc.png,cat\n")
    labels, (note,) = labels_of(tmp_path / "list.csv")
    assert labels == [0, -1, -1]
    assert note == (
        "2 labels were not understood, the first 'dog' (line 3): --labels FILE gives classes their "
        "names"
    )


def test_texts_for_nothing_are_no_labels_unless_a_class_is_called_so(tmp_path):
    path = tmp_path / "list.jsonl"
    texts = ["<NA>", "NULL", "None", "nan", "n/a"]
    path.write_text("".join(f'{{"path": "{i}", "label": "{t}"}}\n' for i, t in enumerate(texts)))
    assert labels_of(path) == ([-1] * 5, [])
    assert labels_of(path, names=lambda: Names({"None": [4]})) == ([-1, -1, 4, -1, -1], [])


@pytest.mark.parametrize("text", ["3,0", "{'label': 3", "12:30"])
def test_only_what_may_be_a_name_is_looked_for_in_a_file_of_names(text):
    labels = Labels()
    assert labels.of(text, "line", 2) == -1
    (note,) = labels.met().notes
    assert note.text.endswith(
        "(line 2): a label is a whole number of 0 or more, or the name of a class"
    )


def test_records(tmp_path):
    path = write_rec(tmp_path / "a.rec", [b"a"] * 4, [3.0, 0.5, nan, [7.0, 8.0]])
    labels, (note,) = labels_of(path)
    assert labels == [3, -1, -1, 7]
    assert note.startswith("1 label was not understood, the first 0.5 (record 1): a label is a")


def test_an_archive_of_webdataset_itself():
    """Written by webdataset 1.0.2; the samples are those that it reads from it."""
    path = Path(__file__).parent.parent / "fixtures" / "webdataset.tar"
    reader = opened(path)
    assert [(s.key, s.label) for s in check_listing(reader, 12)] == [
        ("a/000.input", 3),  # 000.input.png, 000.cls
        ("a/001", 3),  # {"label": "3"}
        ("a/002", 3),  # {"label": 3.0}
        ("a/003.left", 4),
        ("a/003.right", 4),
        ("a/004", -1),  # 004.cls holds dog
        ("a/005", -1),  # JSON and text without a label
        ("a/006", 5),  # 006.class
        ("a/007", 7),  # 007.txt
        ("a/008", 8),  # 008.cls; 008.meta.json is of neither image
        ("a/008.seg", 8),
        ("a/009", 9),  # a number as JSON
    ]
    (note,) = reader.notes().notes
    assert f"the first 'dog' ({path}: a/004.cls): --labels FILE gives" in note.text
    assert labels_of(path, names=lambda: NAMES)[0][5] == 1


def test_labels_beside_images_in_archives(tmp_path):
    def label_of(*members):
        path = write_tar(tmp_path / "a.tar", [("v1.0_1.png", b""), *members])
        return labels_of(path, names=lambda: NAMES)

    assert label_of(("v1.0_1.cls", b"03")) == ([3], [])
    assert label_of(("v1.0_1.cls", b"3"), ("v1.cls", b"4")) == ([3], [])
    assert label_of(("v1.0_1.cls", b""), ("v1.cls", b"4")) == ([4], [])
    stray = "no image has a label; 1 .cls member beside no image; it must be called as its image is"
    assert label_of(("v1.0_2.cls", b"4")) == ([-1], [stray])
    assert label_of(("v1.CLS", b"4")) == ([4], [])
    assert label_of(("v1.json", b'{"cls": "dog", "class": 5}')) == ([1], [])
    assert label_of(("v1.json", b'{"label": null, "class": 5}')) == ([5], [])
    assert label_of(("v1.json", b'{"label": "Dog", "target": 5}')) == ([5], [])
    assert label_of(("v1.cls", b"Dog"), ("v1.json", b"5")) == ([5], [])
    assert label_of(("v1.txt", b"a dog")) == label_of(("v1.txt", b" " * 200 + b"4")) == ([-1], [])
    for bad in (("v1.cls", b"3 4"), ("v1.json", b'{"label": [3, 4]}'), ("v1.json", b"{")):
        labels, (note,) = label_of(bad)
        assert labels == [-1]
        assert f"a.tar: {bad[0]})" in note


def test_an_archive_whose_names_have_dots_for_other_reasons(tmp_path, monkeypatch):
    """All members are one sample for WebDataset; they are taken by pieces."""
    monkeypatch.setattr("shardcam.engine.readers.tar._LARGEST_SAMPLE", 7)
    members = [(f"v1.0_{i}.{end}", b"%d" % i) for i in range(50) for end in ("jpg", "cls", "png")]
    labels, notes = labels_of(write_tar(tmp_path / "a.tar", members))
    assert labels == [i for i in range(50) for _ in range(2)]
    assert notes == []


STORED = {
    "(N,1,1,1)": np.array([3, 0, 1], np.uint8).reshape(3, 1, 1, 1),
    "(N,1)": np.array([[3], [0], [1]]),
    "floats": np.array([3.0, 0.0, 1.0]),
    "texts": np.array(["3", "cat", "dog"]),
    "truth": np.array([True, False, True]),
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("kind", ["h5", "npy"])
def test_label_data(tmp_path, name, kind):
    values, expected = STORED[name], [1, 0, 1] if name == "truth" else [3, 0, 1]
    path = tmp_path / f"y.{kind}"
    if kind == "npy":
        np.save(path, values)
    else:
        with h5py.File(path, "w") as file:
            text = values.dtype.kind == "U"
            file["y"] = values.astype(h5py.string_dtype()) if text else values
            file["other"] = np.arange(4)
    stack = pictures(3, gray=True)
    write_h5(tmp_path / "x.h5", stack, name="x")
    np.save(tmp_path / "x.npy", stack)
    images = write_idx(tmp_path, stack, [9, 9, 9])
    for source in (tmp_path / "x.h5", tmp_path / "x.npy", images):
        for data in (str(path), f"{path}::y") if kind == "h5" else (str(path),):
            assert labels_of(source, label_data=data, names=lambda: NAMES) == (expected, [])


def test_labels_beside_pictures_in_hdf5(tmp_path):
    for values in STORED.values():
        write_h5(
            tmp_path / "a.h5",
            pictures(3),
            values.astype("S") if values.dtype.kind == "U" else values,
        )
        assert labels_of(tmp_path / "a.h5", names=lambda: NAMES)[0][1:] == [0, 1]
    write_h5(tmp_path / "a.h5", pictures(3), [3.0, nan, 0.5])
    labels, (note,) = labels_of(tmp_path / "a.h5")
    assert labels == [3, -1, -1]
    assert "the first 0.5 (picture 2)" in note
    write_h5(tmp_path / "a.h5", pictures(3), np.eye(3))
    labels, (note,) = labels_of(tmp_path / "a.h5")
    assert labels == [-1, -1, -1]
    assert "a.h5::labels is float64 (3, 3), not a label for each picture: not used" in note


def test_label_data_of_other_kinds(tmp_path):
    np.save(tmp_path / "x.npy", pictures(3))
    (tmp_path / "y.txt").write_text("\ufeff3\n\ndog\n\n")
    (tmp_path / "y-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 3) + bytes([5, 6, 7]))
    source = {"source": tmp_path / "x.npy", "names": lambda: NAMES}
    assert labels_of(**source, label_data=str(tmp_path / "y.txt")) == ([3, -1, 1], [])
    data = str(tmp_path / "y-labels-idx1-ubyte")
    assert labels_of(**source, label_data=data) == ([5, 6, 7], [])


REFUSED = {
    "y.npy": "y.npy: int64 [(]2,[)] for 3 pictures; there must be one",
    "y.h5": "no dataset of 3 labels, one for each picture, in it; it has many/0 .*, many/4 float64 "
    "[(]3, 2[)], [.]{3}$",
    "y.h5::y": "y.h5::y: int64 [(]2,[)] for 3 pictures",
    "y.h5::z": "dataset 'z': 'z' is not there; it has many/0 float64 [(]3, 2[)], many/1 ",
    "y.h5::many": "'many' is a group, not a dataset; it has many/0 ",
    "no.h5": "no dataset of 3 labels, one for each picture, in it; it has none",
    "y.txt": "y.txt: 2 lines for 3 pictures; there must be one for each",
    "objects.npy": "objects.npy: not an .npy file: Object arrays cannot be loaded",
    "y-idx1-ubyte": "2 labels for 3 pictures",
    "gone.npy": "gone.npy: No such file",
    "y.csv": "--label-data .*y.csv: not a known kind of file; known are .h5",
}


@pytest.mark.parametrize("name", REFUSED)
def test_label_data_that_does_not_fit_is_one_line(tmp_path, name):
    np.save(tmp_path / "x.npy", pictures(3))
    np.save(tmp_path / "y.npy", [1, 2])
    np.save(tmp_path / "objects.npy", np.array([{}] * 3), allow_pickle=True)
    (tmp_path / "y.txt").write_text("1\n2\n")
    (tmp_path / "y-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 2) + bytes([5, 6]))
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["y"] = np.arange(2)
        for number in range(6):
            file[f"many/{number}"] = np.zeros((3, 2))
    h5py.File(tmp_path / "no.h5", "w").close()
    with pytest.raises(SourceError, match=REFUSED[name]) as caught:
        list(opened(tmp_path / "x.npy", label_data=str(tmp_path / name)).samples())
    assert "\n" not in str(caught.value)


def test_label_data_is_for_arrays_of_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(png(pictures(1)[0]))
    for source in (tmp_path, tmp_path / "a.png", write_tar(tmp_path / "a.tar", [])):
        with pytest.raises(ConfigError, match=r"--label-data is for .h5 .hdf5, .npy and idx"):
            opened(source, label_data="y.npy")


def test_names_are_read_only_where_a_label_is_no_number(tmp_path):
    def names():
        raise ConfigError("read")

    rows = [{"path": f"{label}.png", "label": label} for label in (1, 2)]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert labels_of(tmp_path / "list.jsonl", names=names) == ([1, 2], [])
    with pytest.raises(ConfigError, match="read"):
        Labels(names).of("dog")


def label_notes(reader):
    assert {sample.label for sample in reader.samples()} == {-1}
    return [note.text for note in reader.notes().notes if note.kind == "labels"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("column", ["target", "class", "y", "Category", "class_id", "x", "note"])
def test_columns_that_may_have_labels_are_named(tmp_path, kind, column):
    table = pd.DataFrame({"path": ["a.png", "b.png"], column: [0, 1]})
    path = written(table, tmp_path / f"list.{kind}")
    told = f"no image has a label; columns: path, {column} (labels are read from a column label)"
    assert label_notes(opened(path)) == [told] * (column not in ("x", "note"))


def test_a_place_is_no_label(tmp_path):
    (tmp_path / "list.csv").write_text("path,x,y\na.png,3,4\n")
    assert label_notes(opened(tmp_path / "list.csv")) == []


MEMBERS = {  # beside 0.input.jpg and 1.input.jpg
    "output.cls": (b"1", "2 .cls members beside no image; it must be called as its image is"),
    "cls.txt": (b"1", "2 .txt members beside no image; it must be called as its image is"),
    "output.json": (b"1", "2 .json members beside no image; it must be called as its image is"),
    "json": (
        b'{"class_id": 1}',
        "2 .json members with 'class_id'; labels are read from label, cls, class, target",
    ),
    "pyd": (b"1", "2 .pyd members cannot be read; labels are in .cls .class .json .jsn .txt"),
    "caption.txt": (b"a dog", None),
    "input.json": (b'{"width": 3}', None),
}


@pytest.mark.parametrize("ending", MEMBERS)
def test_members_that_may_be_labels_are_named(tmp_path, ending):
    data, told = MEMBERS[ending]
    members = [(f"{i}.{end}", b) for i in "01" for end, b in (("input.jpg", b"1"), (ending, data))]
    reader = opened(write_tar(tmp_path / "a.tar", members))
    assert label_notes(reader) == ([f"no image has a label; {told}"] if told else [])


def test_a_list_of_several_labels_is_told(tmp_path):
    reader = opened(write_tar(tmp_path / "a.tar", [("0.jpg", b"1"), ("0.json", b"[1, 2]")]))
    (note,) = label_notes(reader)
    assert note.startswith("1 label was not understood, the first [1, 2] ")


def test_datasets_that_may_be_labels_are_named(tmp_path):
    path = write_h5(tmp_path / "x.h5", pictures(3), name="x")
    assert label_notes(opened(path)) == []
    with h5py.File(path, "a") as file:
        file["ids"] = np.arange(3)
        file["y"] = np.arange(3)
    told = f"no image has a label; y (3,) lies beside the pictures: --label-data {path}::y"
    assert label_notes(opened(path)) == [told]
