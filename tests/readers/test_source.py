"""What is typed as SOURCE, and what it is taken for."""

import os

import numpy as np
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, SourceError
from shardcam.engine.pictures.imaging import view_of
from shardcam.engine.types import Preprocessing
from tests.pictures.decoded import HOW
from tests.readers.reader_conformance import check_listing
from tests.readers.sources import opened, pictures, png, write_folder, write_h5, write_tar


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["top.png"]),
        ("**/*.png", ["a/b/4.png", "a/c/x.png", "a/1.png", "a/22.png", "top.png"]),
        ("a/?.png", ["1.png"]),
        ("a/[!1]*.png", ["22.png"]),
        ("a/**", ["b/4.png", "c/x.png", "1.png", "22.png"]),
        ("*/[bc]/*", ["a/b/4.png", "a/c/x.png"]),
    ],
)
def test_patterns(tmp_path, pattern, found):
    for key in ("a/1.png", "a/22.png", "a/b/4.png", "a/c/x.png", "top.png", "a/.git/h.png"):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(b"x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    listing = check_listing(opened(tmp_path / pattern), len(found))
    assert [sample.key for sample in listing] == sorted(found)


def test_names_with_signs_of_patterns_are_names_if_they_exist(tmp_path):
    write_folder(tmp_path / "photos[1]", pictures(3))
    (tmp_path / "what?.png").write_bytes(png(pictures(1)[0]))
    check_listing(opened(tmp_path / "photos[1]"), 3)
    assert check_listing(opened(tmp_path / "what?.png"), 1)[0].key == "what?.png"
    pattern = tmp_path / "photos[1]" / "group[0]" / "*.png"
    assert check_listing(opened(pattern), 3)[0].key == "group0/0000.png"
    (tmp_path / "photos[1]" / "group[0]").mkdir()
    (tmp_path / "photos[1]" / "group[0]" / "x.png").write_bytes(b"")
    assert check_listing(opened(pattern), 1)[0].key == "x.png"
    write_tar(tmp_path / "photos[1]" / "a-1.tar", [("i.png", b"")])
    archives = opened(tmp_path / "photos[1]" / "a-*.tar")
    assert check_listing(archives, 1)[0].key == "a-1/i"
    write_h5(tmp_path / "a[1].h5", pictures(2))
    check_listing(opened(f"{tmp_path}/a[1].h5::images"), 2)


def test_what_a_worker_is_told_does_not_depend_on_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, root, absolute in [
        ("photos/*.jpg", None, f"{tmp_path}/photos/*.jpg"),
        ("a.h5::x/y", None, f"{tmp_path}/a.h5::x/y"),
        ("a.csv", "images", f"{tmp_path}/a.csv"),
        ("s3://bucket/a.csv", "gs://bucket//x", "s3://bucket/a.csv"),
    ]:
        config = RunConfig(source=source, root=root, model="m", out="o").absolute()
        assert config.source == absolute
        assert config.root == (f"{tmp_path}/images" if root == "images" else root)


def test_refusals(tmp_path):
    (tmp_path / "notes.pdf").write_bytes(b"x")
    for name, message in {
        "notes.pdf": "not a known kind of source; known are a folder, an image, a pattern",
        "nowhere.npy": "no such file or folder",
        "nowhere/*.png": "no such file or folder",
        "*.png": "no image file in it matches the pattern",
        "none.h5::x": "none.h5: No such file",
        "notes.pdf::x": "no such file or folder",
        "a[.png": "'\\[' is not closed",
        "[z-a].png": "not a valid pattern",
    }.items():
        with pytest.raises(SourceError, match=message) as caught:
            list(opened(tmp_path / name).samples())
        assert str(tmp_path) in str(caught.value)
    np.save(tmp_path / "a.npy", pictures(2))
    with pytest.raises(ConfigError, match="--label-from-folder is for folders"):
        opened(tmp_path / "a.npy", label_from_folder=True)
    with pytest.raises(ConfigError, match="--root is for manifests"):
        opened(tmp_path, root="x")


def test_nothing_is_read_until_it_is_asked_for(tmp_path):
    """A worker builds a reader; only the driver lists."""
    for name in ("a.csv", "a.rec", "a.tar", "a.npy", "a.h5", "a-idx3-ubyte"):
        os.mkfifo(tmp_path / name)  # opening one would wait for ever
        reader = opened(tmp_path / name)
        with pytest.raises(SourceError, match="not a regular file"):
            list(reader.samples())


def test_a_file_that_changes_after_the_listing_is_a_failure(tmp_path):
    np.save(tmp_path / "a.npy", pictures(4))
    sample = list(opened(tmp_path / "a.npy").samples())[3]
    np.save(tmp_path / "a.npy", pictures(2))
    with pytest.raises(OSError, match=r"cut short|bytes for a picture"):
        opened(tmp_path / "a.npy").read(sample)
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(OSError, match=r"not an \.npy file"):
        opened(tmp_path / "a.npy").read(sample)


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_a_box_is_a_crop_in_pixels_of_the_picture(resize):
    """The view is that of the part cut out; its geometry is that of the whole picture."""
    picture = pictures(1, 80, 120)[0]
    wanted = Preprocessing(16, 16, (0.0,) * 3, (1.0,) * 3, resize)
    part = np.ascontiguousarray(picture[10:51, 20:100])
    alone = view_of(png(part), None, wanted, HOW)
    boxed = view_of(picture, (10.5, 20.0, 50.2, 99.1), wanted, HOW)
    np.testing.assert_array_equal(boxed.pixels, alone.pixels)
    assert boxed.image_size == (80, 120)
    assert boxed.crop == pytest.approx(np.add(alone.crop, (10, 20, 10, 20)))
