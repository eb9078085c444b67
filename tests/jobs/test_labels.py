"""Labels through the whole command: what is told, what fails, what is kept in run.json."""

import json

import h5py
import numpy as np
import pytest

from tests.jobs.command import SMALL, contents, shardcam
from tests.readers.sources import pictures, png, write_h5, write_tar

CLASSES = 10  # of the network
PICTURES = [png(picture) for picture in pictures(4)]


def extract(source, out, *options):
    """Labels and targets by key, what a run told, and its run.json."""
    command = ("extract", source, *SMALL, "--executor", "local", "--out", out, *options)
    code, text, err = shardcam(*command)
    assert code == 0, err
    rows = contents(out)
    labels = dict(zip(map(bytes.decode, rows["key"]), rows["label"].tolist()))
    notes = json.loads((out / "report.json").read_text())["notes"]
    notes = [note["text"] for note in notes if note["kind"] in ("labels", "warning")]
    for note in notes:
        assert note in " ".join(text.split())
    return labels, notes, json.loads((out / "run.json").read_text()), rows


def test_class_folders(tmp_path):
    for name in ("bee", "cat", "ant"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    for name in ("bee", "cat"):
        (tmp_path / "photos" / name / "1.png").write_bytes(PICTURES[0])
    source, out = tmp_path / "photos", tmp_path / "photos" / "runs" / "1"  # in the source itself
    labels, notes, run, _ = extract(source, out, "--label-from-folder")
    assert labels == {"bee/1.png": 1, "cat/1.png": 2}
    assert run["classes"] == {"ant": 0, "bee": 1, "cat": 2}
    assert notes[:2] == [
        "3 class folders, in sorted order: 0 ant, 1 bee, 2 cat",
        "no image in 1 folder: ant",
    ]
    assert notes[2].startswith(f"3 class folders, but the network has {CLASSES} classes")
    (tmp_path / "names.txt").write_text("\n".join([*"0123456", "cat", "dog", "bee"]))
    named = ("--label-from-folder", "--labels", tmp_path / "names.txt")
    labels, notes, run, _ = extract(source, tmp_path / "named", *named)
    assert labels == {"bee/1.png": 9, "cat/1.png": 7}
    assert run["classes"] == {"bee": 9, "cat": 7}
    assert notes == [
        "2 class folders, by their names: 7 cat, 9 bee", "no image in 1 folder: ant"
    ]  # fmt: skip


def test_labels_that_are_not_understood_fail_only_where_they_are_needed(tmp_path):
    members = [(f"{i}.{end}", data) for i in range(4) for end, data in (("png", PICTURES[i]),)]
    members[1:1] = [("0.cls", b"03")]
    members += [("3.cls", b"dog")]
    source = write_tar(tmp_path / "a.tar", members)
    labels, notes, _, _ = extract(source, tmp_path / "top1")
    assert labels == {"0": 3, "1": -1, "2": -1, "3": -1}
    told = f"1 label was not understood, the first 'dog' ({source}: 3.cls): --labels FILE gives"
    assert notes[0].startswith(told)
    assert notes[1:] == ["1 of 4 images has a label"]
    labels, _, _, rows = extract(source, tmp_path / "label", "--target", "label")
    assert labels == {"0": 3}
    assert [*map(bytes.decode, rows["failure/error"])] == ["no target"] * 3
    (tmp_path / "names.txt").write_text("\n".join([*"0123456", "cat", "dog", "bee"]))
    names = ("--labels", tmp_path / "names.txt")
    labels, notes, _, _ = extract(source, tmp_path / "named", *names)
    assert labels == {"0": 3, "1": -1, "2": -1, "3": 8}
    code, _, err = shardcam(
        *("extract", source, *SMALL, "--executor", "local", "--out", tmp_path / "top1", *names)
    )
    assert code == 2  # the labels are read again: it is another run
    assert f"(--labels: not given there, {tmp_path / 'names.txt'} now); give another --out" in err


def test_a_source_whose_labels_are_all_names_says_how_to_use_them(tmp_path):
    (tmp_path / "1.png").write_bytes(PICTURES[0])
    (tmp_path / "list.csv").write_text("path,label\n1.png,dog\n")
    command = ("extract", tmp_path / "list.csv", *SMALL, "--executor", "local", "--target", "label")
    code, _, err = shardcam(*command, "--out", tmp_path / "run")
    assert code == 2
    assert "no sample has a label (1 label was not understood, the first 'dog' (line 2)" in err
    assert not (tmp_path / "run").exists()


def test_patch_camelyon(tmp_path):
    """Pictures as x in one file, labels as y, (N,1,1,1), in another."""
    stack = pictures(4, 96, 96)
    write_h5(tmp_path / "x.h5", stack, name="x", chunks=(1, 96, 96, 3))
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["y"] = np.array([1, 0, 0, 1], np.uint8).reshape(4, 1, 1, 1)
    options = ("--label-data", f"{tmp_path}/y.h5::y", "--target", "label")
    labels, notes, run, rows = extract(f"{tmp_path}/x.h5::x", tmp_path / "run", *options)
    assert [*labels.values()] == rows["target"][:, 0].tolist() == [1, 0, 0, 1]
    assert notes == []
    assert run["config"]["label_data"] == f"{tmp_path}/y.h5::y"


@pytest.mark.parametrize("first", [0, 1])
def test_labels_counted_from_1(tmp_path, first):
    for number in range(first, first + CLASSES):
        (tmp_path / "photos" / str(number)).mkdir(parents=True)
        (tmp_path / "photos" / str(number) / "1.png").write_bytes(PICTURES[0])
    _, notes, _, _ = extract(tmp_path / "photos", tmp_path / "run", "--label-from-folder")
    assert notes[0].startswith("10 class folders, by their numbers: ")
    assert notes[1:] == [
        "the class folders are numbered 1 to 10, but the network has classes 0 to 9; if they are "
        "counted from 1, take 1 off each"
    ] * first  # fmt: skip
