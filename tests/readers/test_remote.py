"""Sources at URLs: fsspec's memory file system, and a web server of our own on loopback."""

from pathlib import Path

import fsspec
import numpy as np
import pytest

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files, urls
from shardcam.engine.types import Sample
from tests.readers.reader_conformance import check_listing, check_pixels
from tests.readers.sources import (
    opened,
    pictures,
    png,
    write_folder,
    write_h5,
    write_idx,
    write_manifests,
    write_rec,
    write_tar,
)

COUNT = 12


def build(base):
    """Sources by name, the pictures of each, all in one folder."""
    stack, gray = pictures(COUNT), pictures(COUNT, gray=True)
    data, labels = [png(picture) for picture in stack], list(range(COUNT))
    names = write_folder(base, stack)
    write_manifests(base, names, labels)
    write_tar(base / "a-0.tar", [(f"{i:02d}.png", data[i]) for i in range(6)])
    write_tar(base / "a-1.tar", [(f"{i:02d}.png", data[i]) for i in range(6, COUNT)])
    write_rec(base / "a.rec", data, labels)
    write_rec(base / "b.rec", data, labels, index=False)
    write_h5(base / "a.h5", stack, labels, chunks=(5, 12, 9, 3), compression="gzip")
    np.save(base / "a.npy", stack)
    write_idx(base, gray, labels)
    write_idx(base, gray, labels, packed=True)
    kinds = "list.txt list.csv list.jsonl list.parquet a-{0..1}.tar a.rec b.rec a.h5 a.h5::images"
    expected = dict.fromkeys([*kinds.split(), "a.npy"], stack)
    threes = np.repeat(gray[..., None], 3, axis=-1)
    return expected | dict.fromkeys(
        ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"], threes
    )


def upload(system, base):
    for path in base.rglob("*"):
        if path.is_file():
            system.pipe(f"/bucket/{path.relative_to(base)}", path.read_bytes())


def test_every_kind_over_http(web):
    for kind, stack in build(web.root).items():
        check_pixels(opened(f"{web.url}/{kind}"), stack)


def test_every_kind_in_memory(memory, tmp_path):
    expected = build(tmp_path)
    upload(memory, tmp_path)
    stack = expected["list.txt"]
    for kind in (*expected, "", "group?/*.png", "**/*.png", "a-*.tar"):
        if kind != "group?/*.png":  # in a URL a ? begins the query
            pictures_of = expected.get(kind, stack)
            check_pixels(opened(f"memory://bucket/{kind}"), pictures_of)


def test_every_kind_on_s3(s3, tmp_path):
    expected = build(tmp_path)
    system = fsspec.filesystem("s3")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            system.put_file(str(path), f"{s3.bucket}/{path.relative_to(tmp_path)}")
    stack = expected["list.txt"]
    for kind in (*expected, "", "**/*.png", "a-*.tar"):
        check_pixels(opened(f"{s3.bucket}/{kind}"), expected.get(kind, stack))


def test_many_samples_of_every_kind_are_fetched_at_once(web):
    for kind, stack in build(web.root).items():
        reader = opened(f"{web.url}/{kind}")
        samples = list(reader.samples())
        one_by_one = [reader.read(sample) for sample in samples]
        web.asked.clear()
        for a, b in zip(one_by_one, reader.read_many(samples), strict=True):
            np.testing.assert_array_equal(a, b)
        if kind.startswith("list"):
            assert [span for _, span in web.asked] == ["bytes=0-"] * len(stack)
        elif ".h5" not in kind:  # HDF5 fetches for itself
            assert len(web.asked) == len({path for path, _ in web.asked}), web.asked


def test_a_batch_of_files_is_asked_for_at_once(s3, tmp_path):
    write_folder(tmp_path, pictures(40))
    fsspec.filesystem("s3").put(str(tmp_path), f"{s3.bucket}/tree", recursive=True)
    reader = opened(f"{s3.bucket}/tree")
    samples = list(reader.samples())
    s3.asked.clear()
    s3.delay, s3.most = 0.25, 0  # long enough to meet on a busy machine
    assert list(reader.read_many(samples)) == [png(picture) for picture in pictures(40)]
    assert len(s3.asked) == len(samples)
    assert s3.most >= 16


def test_what_does_not_come_with_its_batch_is_asked_for_by_itself(web):
    write_tar(web.root / "a.tar", [(f"{i}.png", bytes([i]) * 99) for i in range(4)])
    first, second, _ = write_folder(web.root, pictures(3))
    (web.root / "empty.png").write_bytes(b"")
    names = [first, "empty.png", first, "gone.png", second]
    (web.root / "l.txt").write_text("\n".join(names[:2]))
    tar, folder = opened(f"{web.url}/a.tar"), opened(f"{web.url}/l.txt")
    members = list(tar.samples())
    files = [Sample(name, i, 0, f"{web.url}/{name}", -1) for i, name in enumerate(names)]
    web.failing = 2
    assert list(tar.read_many(members)) == [bytes([i]) * 99 for i in range(4)]
    web.ranges = False
    assert ["only whole files" in str(error) for error in tar.read_many(members)] == [True] * 4
    web.asked.clear()
    one, empty, again, gone, two = folder.read_many(files)
    assert (one, empty, again, two) == (png(pictures(3)[0]), b"", one, png(pictures(3)[1]))
    assert isinstance(gone, FileNotFoundError)
    assert len(web.asked) == 5, "each once, and what did not come once more"
    web.asked.clear()
    folder.read(files[0])
    assert len(web.asked) == 1, "nothing is kept beyond the batch"


def test_what_is_no_image_is_not_fetched_with_the_others(web):
    (web.root / "a.tar").write_bytes(bytes(2000))
    places = [f"{web.url}/a.tar#0:{files.LARGEST + 1}", f"{web.url}/a.tar#0:1000"]
    samples = [Sample(place, i, -1, place, -1) for i, place in enumerate(places)]
    too_large, good = opened(f"{web.url}/a.tar").read_many(samples)
    assert "an image has at most" in str(too_large)
    assert good == bytes(1000)
    assert web.asked == [("/a.tar", "bytes=0-999")]


def test_a_remote_folder_has_the_keys_of_a_local_one(memory, tmp_path):
    write_folder(tmp_path / "tree", pictures(COUNT))
    (tmp_path / "tree" / ".hidden").mkdir()
    for extra in (".hidden/x.png", "a/notes.txt", "run/run.json", "run/overlays.png"):
        (tmp_path / "tree" / extra).parent.mkdir(exist_ok=True)
        (tmp_path / "tree" / extra).write_bytes(b"x")
    upload(memory, tmp_path)
    local = opened(tmp_path / "tree", label_from_folder=True)
    remote = opened("memory://bucket/tree", label_from_folder=True)
    here, there = list(local.samples()), check_listing(remote, COUNT)
    assert remote.notes() == local.notes()
    assert {*remote.notes().classes} >= {"a", "group0"}
    assert [(s.key, s.label, s.size) for s in there] == [(s.key, s.label, s.size) for s in here]
    assert there[0].location.endswith("/bucket/tree/group0/0000.png")
    (single,) = check_listing(opened("memory://bucket/tree/group0/0000.png"), 1)
    assert single.key == "0000.png"


def test_labels_in_a_file_there(memory, tmp_path):
    write_h5(tmp_path / "x.h5", pictures(3))
    write_h5(tmp_path / "y.h5", np.array([[2], [0], [1]]), name="y")
    upload(memory, tmp_path)
    reader = opened("memory://bucket/x.h5", label_data="memory://bucket/y.h5::y")
    assert [sample.label for sample in check_listing(reader, 3)] == [2, 0, 1]


def test_a_manifest_here_of_images_there(web, tmp_path):
    write_folder(web.root, pictures(2))
    lines = ["group0/0000.png", f"{web.url}/group0/0001.png"]
    (tmp_path / "l.txt").write_text("\n".join(lines))
    check_pixels(opened(tmp_path / "l.txt", root=web.url), pictures(2))
    for line in ("http://127.0.0.1:1/a.png", "../a.png", "%2e%2e/a.png", "a/%2E./b.png"):
        (tmp_path / "l.txt").write_text(line)
        with pytest.raises(SourceError, match="line 1: the path"):
            list(opened(tmp_path / "l.txt", root=f"{web.url}/deep").samples())


def test_a_few_failures_are_waited_out(web):
    write_folder(web.root, pictures(1))
    write_manifests(web.root, ["group0/0000.png"], [0])
    reader = opened(f"{web.url}/list.txt")
    (sample,) = reader.samples()
    web.failing, web.asked[:] = 2, []
    assert reader.read(sample) == png(pictures(1)[0])
    assert len(web.asked) == 3
    web.failing = 3  # a size is asked for by HEAD, then by GET
    check_listing(reader, 1)
    web.failing, web.asked[:] = 99, []
    with pytest.raises(OSError, match="the server answers 503"):
        reader.read(sample)
    assert len(web.asked) == 3


def test_a_server_in_trouble_is_not_a_missing_index(web):
    """Else the same source would have other keys."""
    write_rec(web.root / "a.rec", [b"a"], [0])
    web.failing_at = ".idx"
    with pytest.raises(SourceError, match=r"a\.rec: the server answers 503"):
        list(opened(f"{web.url}/a.rec").samples())


def test_what_is_not_there_is_asked_for_once(web):
    with pytest.raises(SourceError, match=r"list.txt: No such file or directory"):
        list(opened(f"{web.url}/list.txt").samples())
    (web.root / "list.txt").write_text("gone.png\n")
    reader = opened(f"{web.url}/list.txt")
    (sample,) = reader.samples()
    web.asked.clear()
    with pytest.raises(FileNotFoundError):
        reader.read(sample)
    assert len(web.asked) == 1


def test_only_ranges_of_a_container_are_fetched(web):
    np.save(web.root / "a.npy", pictures(50, 64, 64))
    reader = opened(f"{web.url}/a.npy")
    sample = list(reader.samples())[30]
    web.asked.clear()
    reader.read(sample)
    start = int(sample.location.rpartition("#")[2].split(":")[0])
    assert web.asked == [("/a.npy", f"bytes={start}-{start + 64 * 64 * 3 - 1}")]


def test_a_server_without_ranges_is_one_line(web):
    write_tar(web.root / "a.tar", [("a.png", bytes(5 << 20))])
    web.ranges = False
    with pytest.raises(SourceError, match=r"a.tar: the server sends only whole files"):
        list(opened(f"{web.url}/a.tar").samples())


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@host/a.txt",
        "s3://AKIA:hunter2@bucket/a.txt",
        "https://host/a.txt?X-Amz-Credential=x&X-Amz-Signature=hunter2",
        "https://host/a.txt?sig=hunter2",
        "https://host/a.txt?access_token=hunter2",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_printed(tmp_path, url):
    (tmp_path / "l.txt").write_text("a.png\n")
    for source, root in ((url, None), (str(tmp_path / "l.txt"), url)):
        with pytest.raises(SourceError, match=r"with credentials.*environment") as caught:
            opened(source, root=root)
        assert "hunter2" not in str(caught.value)


def test_refusals(web, monkeypatch):
    for url, message in {
        "ftp://host/a.tar": "unknown scheme; known are http, https, s3, gs, memory",
        "file:///etc/passwd": "unknown scheme",
        "http://[::1/a.tar": "not a valid URL",
        f"{web.url}/folder/": "not a known kind of source",
        "memory://bucket/none": "No such file or directory",
    }.items():
        with pytest.raises(SourceError, match=message):
            list(opened(url).samples())
    monkeypatch.setattr(urls, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"needs fsspec and s3fs: .* its extra remote$"):
        opened("s3://bucket/a.tar")
    with pytest.raises(SourceError, match=r"needs fsspec: .* its extra remote$"):
        opened("memory://bucket/a.tar")
    monkeypatch.setattr(urls, "find_spec", lambda name: name == "fsspec" or None)
    with pytest.raises(SourceError, match=r"s3:// needs s3fs: .* its extra remote$"):
        opened("s3://bucket/a.tar")
    with pytest.raises(SourceError, match=r"gs:// needs gcsfs: .* its extra remote$"):
        opened("gs://bucket/a.tar")


def test_nobody_is_listening():
    with pytest.raises(SourceError, match=r"a\.tar: .*onnect"):
        list(opened("http://127.0.0.1:9/a.tar").samples())
    assert not Path("a.tar").exists()
