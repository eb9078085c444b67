"""What a source has besides the images that are taken: counted, told, or taken after all."""

import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, SourceError
from shardcam.engine.readers.left_out import LeftOut
from shardcam.engine.run.source_listing import make_reader
from tests.readers.reader_conformance import check_listing
from tests.readers.sources import opened, write_tar

FILES = [
    *("a.jpg", "B.JPG", "sub/c.png", "sub/.hidden.psd", ".cache/x.psd", "Thumbs.db"),
    *("sub/desktop.ini", "sub/note.txt", "sub/NOTE.TXT", "d.psd", "d.1", "README", "e."),
    *("run/run.json", "run/overlays/o.jpg"),
]
ENDINGS = "6 files left out by their endings: 3 without an ending, 2 .txt, 1 .psd"
TAKES = "; --extensions takes other endings, all that are wanted: jpg,png,xyz"
CONVERT = "; .psd cannot be read: convert them"
RUN = "1 run directory (run), by its run.json"


def make(root, names=FILES):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def told(reader):
    """Keys, and the lines of what was left out."""
    keys = [sample.key for sample in reader.samples()]
    notes = reader.notes().notes
    assert {note.kind for note in notes} <= {"skipped"}
    return keys, [note.text for note in notes]


TREES = {  # source below the folder: keys, lines
    "": (["B.JPG", "a.jpg", "sub/c.png"], [ENDINGS + TAKES + CONVERT, RUN]),
    "/**/*": (["B.JPG", "a.jpg", "sub/c.png"], [ENDINGS + TAKES + CONVERT, RUN]),
    "/*.jpg": (["a.jpg"], []),
    "/*": (
        ["B.JPG", "a.jpg"],
        ["4 files left out by their endings: 3 without an ending, 1 .psd" + TAKES + CONVERT],
    ),
    "/sub/c*": (["c.png"], []),
    "/sub/c.png": (["c.png"], []),
}


@pytest.mark.parametrize("source", TREES)
def test_folders_and_patterns(tmp_path, source):
    assert told(opened(f"{make(tmp_path)}{source}")) == TREES[source]


@pytest.mark.parametrize("source", [source for source in TREES if "c.png" not in source])
def test_at_a_url(memory, tmp_path, source):
    memory.put(str(make(tmp_path / "f")), "/bucket/f", recursive=True)
    assert told(opened(f"memory://bucket/f{source}")) == TREES[source]


def test_members_of_archives(tmp_path):
    names = ["a.jpg", "a.cls", "a.txt", "b.json", "._b.psd", "c.psd", "d/e.psd", "d/f"]
    path = write_tar(tmp_path / "a.tar", [(name, b"1") for name in names])
    line = "3 files left out by their endings: 2 .psd, 1 without an ending"
    assert told(opened(path)) == (["a"], [line + TAKES + CONVERT])
    path = write_tar(tmp_path / "b.tar", [(name, b"1") for name in names[1:]])
    with pytest.raises(SourceError, match=r"no image member in it .*; 6 files .*2 \.psd, 1 \.cls"):
        list(opened(path).samples())


def test_endings_that_help_nobody_are_not_advised(tmp_path):
    make(tmp_path, ["a.jpg", "b.heic", "b.txt", "c.jpg.crdownload"])
    line = "3 files left out by their endings: 1 .heic, 1 .txt, 1 .crdownload"
    assert told(opened(tmp_path)) == (["a.jpg"], [f"{line}; .heic cannot be read: convert them"])


def test_where_nothing_is_taken_the_error_says_what_there_is(tmp_path):
    make(tmp_path, ["a.xyz", "b.xyz", "c"])
    (tmp_path / "link").symlink_to(tmp_path.parent)
    for source in (tmp_path, f"{tmp_path}/**/*"):
        with pytest.raises(SourceError) as caught:
            list(opened(source).samples())
        assert str(caught.value).endswith(
            ".webp); 3 files left out by their endings: 2 .xyz, 1 without an ending"
            f"{TAKES}; 1 linked folder (link); --follow-links follows it"
        )
    with pytest.raises(SourceError, match="--extensions any takes a file"):
        opened(tmp_path / "a.xyz")


def test_other_endings(tmp_path):
    make(tmp_path, ["a.jpg", "b.xyz", "c", "d/e.tar.x"])
    config = {"source": str(tmp_path), "model": "m", "out": "o"}
    for extensions, keys in {
        ("xyz",): ["b.xyz"],
        (".XYZ", "*.jpg"): ["a.jpg", "b.xyz"],
        ("tar.x",): ["d/e.tar.x"],
        ("any",): ["a.jpg", "b.xyz", "c", "d/e.tar.x"],
    }.items():
        listing = check_listing(make_reader(RunConfig(**config, extensions=extensions)), len(keys))
        assert [sample.key for sample in listing] == keys
    (single,) = opened(tmp_path / "c", other_extensions=("",)).samples()
    assert single.location == str(tmp_path / "c")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name in ("a.jpg", "b.xyz", "c", "d/e.tar.x"):
            archive.add(tmp_path / name, name)
        (tmp_path / "b.cls").write_text("3")
        archive.add(tmp_path / "b.cls", "b.cls")
    reader = opened(tmp_path / "t.tar", other_extensions=("",))
    assert [sample.location for sample in check_listing(reader, 4)]
    for value in ((), ("",), ("any", "jpg"), ("a/b",)):
        if value:
            with pytest.raises(ConfigError, match="takes endings such as jpg,png, or any"):
                RunConfig.of(**config, extensions=value)
    for option in ({"other_extensions": (".x",)}, {"follow_links": True}):
        with pytest.raises(ConfigError, match="is for folders"):
            (tmp_path / "l.csv").write_text("path\na.jpg\n")
            opened(tmp_path / "l.csv", **option)


def test_linked_folders(tmp_path):
    """Without loops, each once, in the order of the keys, which are the paths as seen."""
    root, other = make(tmp_path / "root", ["m/1.jpg", "z.jpg"]), tmp_path / "other"
    make(other, ["2.jpg", "deep/3.jpg"])
    links = {
        "a": other, "b": other / "deep", "m/up": root, "m/self": root / "m" / "self",
        "other-again": other, "gone": tmp_path / "gone", "link.jpg": other / "2.jpg",
    }  # fmt: skip
    for name, target in links.items():
        (root / name).symlink_to(target)
    (other / "back").symlink_to(root / "m")
    assert told(opened(root)) == (
        ["link.jpg", "m/1.jpg", "z.jpg"],
        [
            "2 links that lead nowhere (gone, m/self)",
            "4 linked folders (a, b, other-again, ...); --follow-links follows them",
        ],
    )
    reader = opened(root, follow_links=True)
    keys = ["a/2.jpg", "a/back/1.jpg", "a/deep/3.jpg", "b/3.jpg", "link.jpg", "m/1.jpg", "z.jpg"]
    found, lines = told(reader)
    assert [key for key in found if "/up/" not in key] == keys
    assert found == sorted(found)
    assert "links to folders that were listed already (" in lines[-1]
    listing = check_listing(reader, len(found))
    assert [Path(s.location).resolve().name for s in listing] == [
        "2.jpg" if s.key == "link.jpg" else Path(s.key).name for s in listing
    ]
    keys, _ = told(opened(f"{root}/*/*.jpg", follow_links=True))
    assert keys == ["a/2.jpg", "b/3.jpg", "m/1.jpg"]


def test_linked_classes(tmp_path):
    make(tmp_path, ["root/a/1.jpg", "root/c/1.jpg", "other/1.jpg"])
    (tmp_path / "root" / "b").symlink_to(tmp_path / "other")
    (tmp_path / "root" / "aa").symlink_to(tmp_path / "root")  # is none
    reader = opened(tmp_path / "root", follow_links=True, label_from_folder=True)
    assert [(s.key, s.label) for s in reader.samples()] == [
        ("a/1.jpg", 0), ("b/1.jpg", 1), ("c/1.jpg", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("folders", [2, 9])
def test_folders_that_link_to_each_other_are_soon_listed(tmp_path, folders):
    """Nine of them have half a million paths without a loop."""
    for i in range(folders):
        make(tmp_path, [f"{i}/{i}.jpg"])
        for j in range(folders):
            if i != j:
                (tmp_path / str(i) / f"to{j}").symlink_to(tmp_path / str(j))
    keys, lines = told(opened(tmp_path, follow_links=True))
    assert {Path(key).name for key in keys} == {f"{i}.jpg" for i in range(folders)}
    assert len(keys) <= 2 * folders
    assert len(lines) == 1


def test_memory_does_not_grow_with_what_is_left_out():
    left = LeftOut()
    tracemalloc.start()
    try:
        for i in range(20_000):
            left.file(f"name.x{i}")
        before, _ = tracemalloc.get_traced_memory()
        for i in range(20_000, 60_000):
            left.file(f"name.x{i}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000
    (line,) = left.lines()
    assert line.startswith("60000 files left out by their endings: 59000 with others, 1 .x0")


def test_a_name_that_is_not_text(tmp_path):
    make(tmp_path, ["a.jpg"])
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).symlink_to(tmp_path)
    _, (line,) = told(opened(tmp_path))
    assert line.startswith("1 linked folder (\\xff)")
