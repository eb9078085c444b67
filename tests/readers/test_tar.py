import tarfile

import pytest

from shardcam.engine.errors import SourceError
from tests.readers.reader_conformance import check_content, check_listing
from tests.readers.sources import opened, write_tar

FORMS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_every_form(tmp_path, form):
    names = ["a.JPG", "./b/ü.png", "c/x.y.z.webp", ".hidden.jpg", "d/._e.jpg", "notes.txt"]
    names += ["/".join(["long" * 20] * 2) + ".png"]
    if form != "ustar":
        names += ["n" * 300 + ".png"]
    path = write_tar(tmp_path / "a.tar", [(n, n.encode()) for n in names], FORMS[form])
    images = [n for n in names if not (n.startswith(".h") or "._" in n or n.endswith("txt"))]
    keys = [n.removeprefix("./").rpartition(".")[0] for n in images]
    reader = opened(path)
    assert [s.key for s in check_listing(reader, len(images))] == keys
    check_content(reader, {k: n.encode() for k, n in zip(keys, images)})


def test_labels_come_from_neighbours_before_or_behind(tmp_path):
    members = [
        ("a.cls", b"3\n"), ("a.jpg", b"A"),
        ("b.jpg", b"B"), ("b.json", b'{"label": 4, "text": "x"}'),
        ("c.jpg", b"C"), ("c.json", b'{"cls": 5}'),
        ("d.jpg", b"D"), ("d.json", b'{"label": "dog"}'),
        ("e.jpg", b"E"), ("e.png", b"F"), ("e.cls", b"6"),
    ]  # fmt: skip
    listing = check_listing(opened(write_tar(tmp_path / "a.tar", members)), 6)
    assert [(s.key, s.label) for s in listing] == [
        ("a", 3), ("b", 4), ("c", 5), ("d", -1), ("e.jpg", 6), ("e.png", 6),
    ]  # fmt: skip


def test_a_location_is_a_range_of_the_archive(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"A" * 700), ("b.jpg", b"B")])
    listing = list(opened(path).samples())
    assert [s.location for s in listing] == [f"{path}#512:700", f"{path}#2048:1"]


def test_sets_of_archives(tmp_path):
    for name in ("x/a-8.tar", "x/a-9.tar", "y/a-10.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_tar(tmp_path / name, [("i.jpg", name.encode())])
    listing = check_listing(opened(f"{tmp_path}/*/a-*.tar"), 3)
    assert [s.key for s in listing] == ["x/a-8/i", "x/a-9/i", "y/a-10/i"]
    listing = check_listing(opened(f"{tmp_path}/x/a-{{8..9}}.tar"), 2)
    assert [s.key for s in listing] == ["a-8/i", "a-9/i"]
    for source, message in {
        "x/a-{8..10}.tar": "a-10.tar: No such file",
        "x/a-{9..8}.tar": "runs backwards",
        "z*.tar": "no archive matches the pattern",
        "x/[.tar": "'\\[' is not closed",
    }.items():
        with pytest.raises(SourceError, match=message):
            list(opened(f"{tmp_path}/{source}").samples())


def test_no_image(tmp_path):
    with pytest.raises(SourceError, match="no image member in it"):
        list(opened(write_tar(tmp_path / "a.tar", [("a.txt", b"")])).samples())
