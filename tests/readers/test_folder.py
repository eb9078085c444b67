import os
import random
import subprocess

import pytest

from shardcam.engine.errors import SourceError
from shardcam.engine.readers.finding import parse_pattern
from shardcam.engine.readers.folder import FolderReader
from shardcam.engine.readers.labels import Names
from tests.readers.reader_conformance import check_content, check_listing

EXTENSIONS = (".jpg", ".png")


def make(root, *keys):
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())
    return FolderReader(root, EXTENSIONS)


def test_conformance(tmp_path):
    keys = ["b/2.png", "b/10.png", "a.JPG", "z.jpg", "ü/ß.png"]
    reader = make(tmp_path, *keys, "notes.txt", ".hidden.jpg", ".git/x.jpg")
    listing = check_listing(reader, 5)
    assert [sample.key for sample in listing] == sorted(keys)
    check_content(reader, {key: key.encode() for key in keys})


def test_the_order_is_that_of_the_keys_whatever_is_in_a_name(tmp_path):
    """Folder by folder, and yet sorted as a whole: ``a-b/`` and ``a.jpg`` come before ``a/``."""
    rng = random.Random(3)
    names = ["a", "a-b", "a.", "a0", "A", "ä", "a b", "\udcff", "\N{SNOWMAN}", "10", "2", "a!"]
    keys = {
        "/".join(rng.choices(names, k=depth)) + rng.choice(("/", "/x", "-")) + f"{i % 7}.jpg"
        for depth in (1, 2, 3)
        for i in range(150)
    }
    reader = make(tmp_path, "a.jpg", "a-.jpg", "a0.jpg")
    for key in keys:
        path = os.path.join(tmp_path, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    listing = check_listing(reader, len(keys) + 3)
    found = [sample.key for sample in listing]
    assert found == sorted(found)
    assert {os.path.relpath(sample.location, tmp_path) for sample in listing} == keys | {
        "a.jpg", "a-.jpg", "a0.jpg",
    }  # fmt: skip


@pytest.mark.process
def test_a_tree_deeper_than_python_recurses(tmp_path):
    depth = 1200
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        with open("deep.jpg", "wb"):
            pass
        found = [sample.key for sample in FolderReader(tmp_path, EXTENSIONS).samples()]
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest cannot remove it
    assert found == ["d/" * depth + "deep.jpg"]


def test_single_file(tmp_path):
    make(tmp_path, "one.jpg", "other.jpg")
    (sample,) = check_listing(FolderReader(tmp_path / "one.jpg", EXTENSIONS), 1)
    assert sample.key == "one.jpg"


def labelled(root, names=Names, pattern=None):
    """Labels by key, the class of each folder, and what is told, of the classes in `root`."""
    reader = FolderReader(root, EXTENSIONS, label_from_folder=True, pattern=pattern, names=names)
    labels = {sample.key: sample.label for sample in reader.samples()}
    met = reader.notes()
    return labels, met.classes, [note.text for note in met.notes if note.kind == "labels"]


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        (["cat/1.jpg", "dog/1.jpg", "ant/1.jpg"], [0, 1, 2]),
        (["10/1.jpg", "2/1.jpg"], [10, 2]),
        (["cat/1.jpg", "loose.jpg"], [0, -1]),
        (["a-b/1.jpg", "a/1.jpg", "a0/1.jpg"], [1, 0, 2]),  # the order of names, not of keys
        (["bat/x/y/1.jpg", "ant/notes.txt", "ant/.x/1.jpg", "cat/1.jpg"], [1, 2]),
        (["7/1.jpg", "notes/readme.txt", "9/1.txt"], [7]),  # none of the others has an image
    ],
)
def test_labels_from_folders(tmp_path, keys, labels):
    make(tmp_path, *keys)
    assert [*labelled(tmp_path)[0].values()] == labels


def test_every_folder_that_is_there_is_a_class(tmp_path):
    """As torchvision's ImageFolder numbers them: sorted, whatever is in them; hidden ones aside."""
    make(tmp_path, "bird/1.jpg", "dog/1.jpg", "unknown/1.xyz", "zebra/deep/er/1.png", ".x/1.jpg")
    (tmp_path / "ant").mkdir()
    (tmp_path / "cat").symlink_to(tmp_path / "bird")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    labels, classes, (table, empty) = labelled(tmp_path)
    there = sorted(e.name for e in os.scandir(tmp_path) if e.is_dir() and e.name != ".x")
    assert classes == {name: number for number, name in enumerate(there)}
    assert labels == {"bird/1.jpg": 1, "dog/1.jpg": 3, "zebra/deep/er/1.png": 5}
    assert table == (
        "6 class folders, in sorted order: 0 ant, 1 bird, 2 cat, 3 dog, 4 unknown, 5 zebra"
    )
    assert empty == "no image in 3 folders: ant, cat, unknown"
    subset = labelled(tmp_path, pattern=parse_pattern(f"{tmp_path}/[b-d]*/*.jpg"))
    assert subset[:2] == ({"bird/1.jpg": 1, "dog/1.jpg": 3}, classes)


def test_runs_and_loops_are_no_classes(tmp_path):
    """Else a run that is written into its source would move the classes of the next."""
    make(tmp_path, "dog/1.jpg", "a/run.json", "b/c/run.json", "c/d/.listing-1.zip", "e/listing.zip")
    make(tmp_path, "a/overlays/1.jpg", "cat/run/run.json", "cat/2.jpg")
    (tmp_path / "latest").symlink_to(tmp_path / "a")
    (tmp_path / "all").symlink_to(tmp_path)
    labels, classes, _ = labelled(tmp_path)
    assert classes == {"cat": 0, "dog": 1}
    assert labels == {"cat/2.jpg": 0, "dog/1.jpg": 1}


def test_folders_called_as_classes_are(tmp_path):
    names = Names({"dog": [0], "cat": [1], "n02123": [1], "crane": [2, 5], "ant": [3]}, "n.txt")
    make(tmp_path, "dog/1.jpg", "cat/1.jpg", "empty/1.txt", "ant/1.txt")
    labels, classes, (table, empty) = labelled(tmp_path, lambda: names)
    assert labels == {"cat/1.jpg": 1, "dog/1.jpg": 0}
    assert classes == {"ant": 3, "cat": 1, "dog": 0}
    assert table == "3 class folders, by their names: 0 dog, 1 cat, 3 ant"
    assert empty == "no image in 2 folders: ant, empty"
    for key, problem in {
        "bird/1.jpg": "'cat' has the name of a class and 'bird' has not: not a name in --labels n",
        "crane/1.jpg": "'crane' has not: the classes 2 and 5 are both called so",
        "n02123/1.jpg": "the folders 'cat' and 'n02123' are the same class",
    }.items():
        make(tmp_path, key)
        with pytest.raises(SourceError, match=problem):
            labelled(tmp_path, lambda: names)
        os.remove(tmp_path / key)
        os.rmdir((tmp_path / key).parent)
    _, classes, (table, *_) = labelled(tmp_path, lambda: Names({"rat": [0]}, "n.txt"))
    assert classes == {"ant": 0, "cat": 1, "dog": 2, "empty": 3}
    assert "in sorted order (none is a name in --labels n.txt): 0 ant" in table


def test_a_long_table_is_cut(tmp_path):
    make(tmp_path, *(f"class{i:03d}/1.jpg" for i in range(200)))
    _, classes, (table,) = labelled(tmp_path)
    assert len(classes) == 200
    assert table == (
        "200 class folders, in sorted order: 0 class000, 1 class001, 2 class002, 3 class003, "
        "4 class004, ..., 199 class199"
    )


def test_folders_of_which_some_are_numbers_are_refused(tmp_path):
    """Else adding a folder would give all others another class."""
    make(tmp_path, "281/1.jpg", "zebra/1.jpg")
    with pytest.raises(SourceError, match="'281' is a class number and 'zebra' is not"):
        list(FolderReader(tmp_path, EXTENSIONS, label_from_folder=True).samples())


def test_folders_of_one_number_are_refused(tmp_path):
    make(tmp_path, "1/1.jpg", "01/1.txt", "2/1.jpg")
    assert labelled(tmp_path)[1] == {"01": 1, "1": 1, "2": 2}
    make(tmp_path, "01/1.jpg")
    with pytest.raises(SourceError, match="folders '01' and '1' are the same class number"):
        list(FolderReader(tmp_path, EXTENSIONS, label_from_folder=True).samples())


def test_refusals(tmp_path):
    with pytest.raises(SourceError, match="no such file or folder"):
        list(FolderReader(tmp_path / "nowhere", EXTENSIONS).samples())
    with pytest.raises(SourceError, match="no image file in it"):
        list(make(tmp_path, "notes.txt").samples())
    make(tmp_path, "a.jpg")
    with pytest.raises(SourceError, match=r"needs a folder for each class, .* leave it out"):
        labelled(tmp_path)
    with pytest.raises(SourceError, match=r"a.jpg: --label-from-folder is for folders"):
        labelled(tmp_path / "a.jpg")


def test_names_that_are_not_utf8_and_links_that_lead_nowhere(tmp_path):
    make(tmp_path, "a.jpg")
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb") as stream:
        stream.write(b"x")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path)
    reader = FolderReader(tmp_path, EXTENSIONS)
    listing = check_listing(reader, 3)
    assert [sample.key for sample in listing] == ["\\xff.jpg", "a.jpg", "dangling.jpg"]
    assert reader.read(listing[0]) == b"x"
    with pytest.raises(OSError):
        reader.read(listing[2])
