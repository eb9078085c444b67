import os
import random
import subprocess

import pytest

from shardcam.engine.errors import SourceError
from shardcam.engine.readers.folder import FolderReader
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


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        (["cat/1.jpg", "dog/1.jpg", "ant/1.jpg"], [0, 1, 2]),
        (["10/1.jpg", "2/1.jpg"], [10, 2]),
        (["cat/1.jpg", "loose.jpg"], [0, -1]),
        (["a-b/1.jpg", "a/1.jpg", "a0/1.jpg"], [1, 0, 2]),  # the order of names, not of keys
        (["bat/x/y/1.jpg", "ant/notes.txt", "ant/.x/1.jpg", "cat/1.jpg"], [0, 1]),
    ],
)
def test_labels_from_folders(tmp_path, keys, labels):
    make(tmp_path, *keys)
    reader = FolderReader(tmp_path, EXTENSIONS, label_from_folder=True)
    assert [sample.label for sample in reader.samples()] == labels


def test_folders_of_which_some_are_numbers_are_refused(tmp_path):
    """Else adding a folder would give all others another class."""
    make(tmp_path, "281/1.jpg", "zebra/1.jpg")
    with pytest.raises(SourceError, match="'281' is a class number and 'zebra' is not"):
        list(FolderReader(tmp_path, EXTENSIONS, label_from_folder=True).samples())


def test_folders_of_one_number_are_refused(tmp_path):
    make(tmp_path, "1/1.jpg", "01/1.jpg", "2/1.jpg")
    with pytest.raises(SourceError, match="folders '01' and '1' are the same class number"):
        list(FolderReader(tmp_path, EXTENSIONS, label_from_folder=True).samples())


def test_refusals(tmp_path):
    with pytest.raises(SourceError, match="no such file or folder"):
        list(FolderReader(tmp_path / "nowhere", EXTENSIONS).samples())
    with pytest.raises(SourceError, match="no image file in it"):
        list(make(tmp_path, "notes.txt").samples())
    make(tmp_path, "a.jpg")
    with pytest.raises(SourceError, match="needs class folders"):
        list(FolderReader(tmp_path, EXTENSIONS, label_from_folder=True).samples())


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
