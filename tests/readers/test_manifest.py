import json
import string
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from shardcam.engine.errors import SourceError
from shardcam.engine.pictures.decode_image import EXTENSIONS
from shardcam.engine.readers.manifest import ManifestReader
from shardcam.engine.types import NO_LABEL
from tests.readers.reader_conformance import check_content, check_listing


def manifest(base, text, ending="csv", root=None):
    path = base / f"list.{ending}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ManifestReader(str(path), root, endings=EXTENSIONS)


def test_keys_labels_and_boxes(tmp_path):
    (tmp_path / "ü b.jpg").write_bytes(b"1")
    (tmp_path / "c.jpg").write_bytes(b"2")
    reader = manifest(
        tmp_path,
        "\ufefflabel,path,x0,y0,x1,y1,note\r\n"
        "3,ü b.jpg,1,2.5,30,40,kept out\r\n"
        ",./c.jpg,,,,,\r\n"
        '-1,"x/../c.jpg",0,0,5,5,\r\n',
    )
    first, second, third = check_listing(reader, 3)
    assert (first.key, first.label, first.box) == ("ü b.jpg#1,2.5,30,40", 3, (2.5, 1, 40, 30))
    assert (second.key, second.label, second.box) == ("c.jpg", NO_LABEL, None)
    assert (third.key, third.label, third.size) == ("c.jpg#0,0,5,5", NO_LABEL, -1)
    check_content(reader, {first.key: b"1", second.key: b"2", third.key: b"2"})


def test_a_given_key_wins_and_a_missing_image_fails_when_it_is_read(tmp_path):
    reader = manifest(tmp_path, '{"path": "gone.jpg", "key": "cat 1"}\n', "jsonl")
    (sample,) = check_listing(reader, 1)
    assert sample.key == "cat 1"
    with pytest.raises(FileNotFoundError):
        reader.read(sample)


def test_root(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"a")
    root = str(tmp_path / "images")
    reader = manifest(tmp_path, f"a.jpg\n{root}/b.jpg\n", "txt", root)
    first, second = check_listing(reader, 2)
    assert (first.key, second.key) == ("a.jpg", "b.jpg")
    assert reader.read(first) == b"a"
    everything = manifest(tmp_path, f"{root}/a.jpg\n", "txt", "/")
    (sample,) = everything.samples()
    assert "/" + sample.key == sample.location == f"{root}/a.jpg"


BAD = {  # ending, content, what the line must say
    "empty file": ("txt", b"", "list.txt: empty"),
    "empty line": ("txt", b"a.jpg\n\nb.jpg\n", "line 2: empty"),
    "header only": ("csv", b"path\n", "no image in it"),
    "no path": ("csv", b"file,label\na,1\n", "line 1: no column 'path'; the columns are file"),
    "twice": ("csv", b"path,label,path\na,1,b\n", "line 1: the column 'path' appears twice"),
    "twice but for case": ("csv", b"path,Path \na,1\n", "the column 'path' appears twice"),
    "twice in json": ("jsonl", b'{"path": "a", "Path": "b"}', "line 1: 'path' appears twice"),
    "empty lines": ("csv", b"\n\n", "list.csv: empty"),
    "half a box": ("csv", b"path,x0,y0,x1\na,1,1,2\n", "line 1: a box needs the column 'y1' too"),
    "a column less": (
        "csv",
        b"path,label\na,1\nb\n",
        "line 3: 1 columns, the header has 2; put values",
    ),
    "path type": ("jsonl", b'{"path": 3}', "line 1: the path 3 is not a text"),
    "missing path": (
        "jsonl",
        b'{"path": "a"}\n{"key": "a"}',
        "line 2: no 'path' in it; its names are .*. Call the one",
    ),
    "surrogate": ("jsonl", b'{"path": "\\ud800"}', "line 1: the path '.*' is not a text"),
    "nul in json": ("jsonl", b'{"path": "a\\u0000b"}', "line 1: the path .* is not a text"),
    "old Mac": ("csv", b"path,label\ra.jpg,1\r", "lines end in CR alone; save it with LF"),
    "no object": ("jsonl", b"[1]\n", "line 1: not a JSON object"),
    "no json": ("jsonl", b"{'path': 1}\n", "line 1: not JSON: Expecting"),
    "name twice": ("jsonl", b'{"path": "a", "path": "b"}', "line 1: not JSON: a name appears"),
    "nul": ("txt", b"a.jpg\nb\0.jpg\n", "line 2: it contains a NUL character"),
    "not utf-8": ("csv", b"path\na\xff.jpg\n", "line 2: not UTF-8"),
    "utf-16": ("csv", "path\na.jpg\n".encode("utf-16"), "text in UTF-16; save it as UTF-8"),
    "empty box": ("csv", b"path,x0,y0,x1,y1\na,5,1,5,2\n", "line 2: the box 5,1,5,2 is empty"),
    "nan": ("csv", b"path,x0,y0,x1,y1\na,nan,1,5,2\n", "line 2: the box side nan is not a number"),
    "part of a box": ("csv", b"path,x0,y0,x1,y1\na,1,,5,2\n", "line 2: the box side None"),
    "drive": ("txt", b"C:\\a.jpg\n", "line 1: the path 'C:.*' names a drive of Windows"),
    "url": ("txt", b"http://127.0.0.1/a.jpg\n", "line 1: the path 'http.*' is not below .*--root"),
    "folder": ("txt", b"./\n", "does not name a file below"),
    "folder above": ("txt", b"a/../..\n", "does not name a file below"),
    "all": ("txt", b"/\n", "does not name a file below"),
    "long": ("txt", b"a" * 5000 + b"\n", "line 1: the path '.*… is not a text of 1 to 4096 bytes"),
    "quote": ("csv", b'path\n"a"b\n', "line 2: .*expected after"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_line_with_its_number(tmp_path, name):
    ending, content, message = BAD[name]
    with pytest.raises(SourceError, match=message) as caught:
        list(manifest(tmp_path, content, ending).samples())
    assert "\n" not in str(caught.value)
    assert str(tmp_path / f"list.{ending}") in str(caught.value)


OUTSIDE = ["../x.jpg", "..\\x.jpg", "/etc/x.jpg", "a/../../x.jpg", "/ROOT/../x.jpg"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_with_a_root_no_path_leads_outside(tmp_path, path):
    text = path.replace("/ROOT", str(tmp_path))
    with pytest.raises(SourceError, match=r"line 1: the path .*(not below|outside of) .*--root"):
        list(manifest(tmp_path, text, "txt", str(tmp_path)).samples())


def test_a_manifest_of_this_machine_names_any_file_of_it(tmp_path):
    """Keys are the paths as given, relative to the manifest's folder below it."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    lines = {
        "a.jpg": b"a", "../b.jpg": b"b", f"{tmp_path}/b.jpg": b"b",
        f"{tmp_path}//lists/./a.jpg": b"a", f"/{tmp_path}/lists/../b.jpg": b"b",
    }  # fmt: skip
    keys = ["a.jpg", "../b.jpg", f"{tmp_path}/b.jpg", "a.jpg", f"{tmp_path}/b.jpg"]
    for (line, content), key in zip(lines.items(), keys, strict=True):
        reader = manifest(tmp_path / "lists", line, "txt")
        check_content(reader, {key: content})


TABLES = {  # content: key and label of each row
    "semicolons": ("csv", "path;label\na,b.jpg;3\n", [("a,b.jpg", 3)]),
    "tabs": ("csv", "label\tpath\n3\ta b.jpg\n", [("a b.jpg", 3)]),
    "tsv": ("tsv", "path\tlabel\na;b.jpg\t3\n", [("a;b.jpg", 3)]),
    "upper case": ("TSV", "path\tlabel\na.jpg\t3\n", [("a.jpg", 3)]),
    "bars": ("csv", "path|label\na.jpg|3\n", [("a.jpg", 3)]),
    "quotes": ("csv", '"path";"label"\n"a;b.jpg";3\n', [("a;b.jpg", 3)]),
    "commas win": ("csv", "path,a;b,label\na;b.jpg,x;y,3\n", [("a;b.jpg", 3)]),
    "one column": ("csv", "path\na;b.jpg\n", [("a;b.jpg", -1)]),
    "header": ("csv", "Path , LABEL\na.jpg, 3\n", [("a.jpg", 3)]),
    "spaces in names": ("csv", "path,label\n a.jpg,3\n", [(" a.jpg", 3)]),
    "index": ("csv", ",path,,label\n0,a.jpg,,3\n", [("a.jpg", 3)]),
    "last lines": ("csv", "path,label\r\na.jpg,3\r\n\r\n  \n", [("a.jpg", 3)]),
    "json names": ("jsonl", '{"Path": "a.jpg", "LABEL ": 3, "x": 1}\n\n', [("a.jpg", 3)]),
    "json slashes": ("jsonl", '{"path": "x\\/a.jpg", "label": 3}', [("x/a.jpg", 3)]),
    "mark": ("csv", "\ufeffpath;label\na.jpg;3\n", [("a.jpg", 3)]),
    "mark in txt": ("txt", "\ufeffa.jpg\n\n", [("a.jpg", -1)]),
    "imagenet": ("txt", "v_1.JPEG 65\nv_2.JPEG  9\n", [("v_1.JPEG", 65), ("v_2.JPEG", 9)]),
    "comma in txt": ("txt", "a.jpg,3\nb.jpg, 4\n", [("a.jpg", 3), ("b.jpg", 4)]),
    "tab in txt": ("txt", "a b.jpg\t3\n", [("a b.jpg", 3)]),
    "names in txt": (
        "txt",
        "a.jpg 1.jpg\nb 2\nc.jpg 1 0\nd.jpg (3)\nf.jpg  \n",
        [(key, -1) for key in ("a.jpg 1.jpg", "b 2", "c.jpg 1 0", "d.jpg (3)", "f.jpg")],
    ),
    "backslashes": ("csv", "path\nx\\y\\a.jpg\n.\\b.jpg\n", [("x/y/a.jpg", -1), ("b.jpg", -1)]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_what_people_write(tmp_path, name):
    ending, text, expected = TABLES[name]
    reader = manifest(tmp_path, text, ending)
    assert [(s.key, s.label) for s in check_listing(reader, len(expected))] == expected


def test_pandas_writes_what_is_read(tmp_path):
    table = pd.DataFrame({"path": ["a;b.jpg", "c,d.jpg", 'e"f.jpg'], "label": [1, 2, 3]})
    for separator, ending in ((",", "csv"), (";", "csv"), ("\t", "tsv"), ("\t", "csv")):
        for index in (False, True):
            text = table.to_csv(sep=separator, index=index)
            listing = list(manifest(tmp_path, text, ending).samples())
            assert [(s.key, s.label) for s in listing] == [*zip(table.path, table.label)]


def test_spaces_around_a_path_are_left_out_where_only_the_file_without_them_is_there(tmp_path):
    for name in ("a.jpg", "b.jpg", "b.jpg "):
        (tmp_path / name).write_bytes(name.encode())
    reader = manifest(tmp_path, "path,label\na.jpg ,1\nb.jpg ,2\nc.jpg ,3\n")
    assert [sample.key for sample in reader.samples()] == ["a.jpg", "b.jpg ", "c.jpg "]
    (note,) = reader.notes().notes
    assert note.text.endswith("spaces around them, without which they are there: 1")


def test_a_backslash_in_a_name_that_is_there_stays(tmp_path):
    (tmp_path / "x\\a.jpg").write_bytes(b"1")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.jpg").write_bytes(b"2")
    reader = manifest(tmp_path, "x\\a.jpg\nx\\b.jpg\n", "txt")
    check_content(reader, {"x\\a.jpg": b"1", "x/b.jpg": b"2"})
    (note,) = reader.notes().notes
    assert note.text == "paths of list.txt with backslashes, read as slashes: 1"


def test_labels_in_a_text_file_are_told(tmp_path):
    reader = manifest(tmp_path, "a.jpg 3\nb.jpg\nc.jpg 4\n", "txt")
    list(reader.samples())
    (note,) = reader.notes().notes
    assert note.text == "lines of list.txt with a number behind the path, its label: 2"


def test_parquet_names_in_any_case(tmp_path):
    table = pa.table({"Label": [3], "x": [0], "PATH ": ["a.jpg"]})
    parquet.write_table(table, tmp_path / "list.parquet")
    (sample,) = ManifestReader(str(tmp_path / "list.parquet")).samples()
    assert (sample.key, sample.label) == ("a.jpg", 3)


def test_parquet(tmp_path):
    table = pa.table({
        "path": [f"{i}.jpg" for i in range(25)], "label": pa.array(range(25), pa.uint8()),
        "x0": [None, *[1.0] * 24], "y0": [None, *[2] * 24], "x1": [None, *[3.5] * 24],
        "y1": [None, *[4] * 24], "other": [{"a": 1}] * 25,
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "list.parquet", row_group_size=10)
    listing = check_listing(ManifestReader(str(tmp_path / "list.parquet")), 25)
    assert [sample.label for sample in listing] == list(range(25))
    assert listing[0].box is None
    assert (listing[7].key, listing[7].box) == ("7.jpg#1.0,2,3.5,4", (2.0, 1.0, 4.0, 3.5))
    parquet.write_table(pa.table({"file": ["a"]}), tmp_path / "bad.parquet")
    with pytest.raises(SourceError, match="no column 'path'"):
        list(ManifestReader(str(tmp_path / "bad.parquet")).samples())


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_parquet_of_other_writers(tmp_path, encoding):
    """Which store texts as such, or by what differs between them."""
    names = [f"{number:05}.png" for number in range(1200)]
    table = pa.table({"path": names, "label": range(1200)})
    how = {"use_dictionary": False, "column_encoding": {"path": encoding}}
    parquet.write_table(table, tmp_path / "list.parquet", **how)
    samples = list(ManifestReader(str(tmp_path / "list.parquet")).samples())
    assert [(one.key, one.label) for one in samples] == list(zip(names, range(1200), strict=True))


def test_parquet_without_pyarrow_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("shardcam.engine.readers.parquet.find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"needs pyarrow: .* its extra parquet$"):
        ManifestReader(str(tmp_path / "list.parquet"))


names = st.text(string.ascii_letters + "äöü ,\"'#;|", min_size=1, max_size=20).filter(str.strip)
labels = st.one_of(st.none(), st.integers(-1, 2**31 - 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, labels), min_size=1, max_size=20))
def test_what_is_written_is_read(rows):
    import csv

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with (base / "list.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("path", "label"), *rows])
        written = [{"path": path, "label": label} for path, label in rows]
        text = "".join(json.dumps(row) + "\n" for row in written)
        (base / "list.jsonl").write_text(text)
        for ending in ("csv", "jsonl"):
            listing = list(ManifestReader(str(base / f"list.{ending}")).samples())
            found = [(s.key, None if s.label == NO_LABEL else s.label) for s in listing]
            assert found == [(p, None if n == NO_LABEL else n) for p, n in rows]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["txt", "csv", "jsonl"]), st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_listing_or_one_line(ending, data, with_header):
    with tempfile.TemporaryDirectory() as folder:
        data = b"path,label,x0,y0,x1,y1\n" + data if with_header and ending == "csv" else data
        reader = manifest(Path(folder), data, ending, root=folder)
        try:
            for sample in reader.samples():
                location = Path(sample.location)
                assert location.is_relative_to(folder)
                assert ".." not in location.parts
        except SourceError as error:
            assert "\n" not in str(error)
