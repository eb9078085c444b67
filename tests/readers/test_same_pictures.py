"""Five hundred pictures give the same pixels, maps and order, whatever holds them."""

import numpy as np
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.run.extraction import run_extraction
from tests.jobs.command import contents
from tests.models.small_checkpoint import write_checkpoint
from tests.readers.reader_conformance import check_pixels
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

COUNT = 500
LABELS = [i // 10 for i in range(COUNT)]
PART = 200  # pictures in the first of two archives


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Every kind of source of the same colour pictures."""
    base = tmp_path_factory.mktemp("sources")
    stack = pictures(COUNT)
    names = write_folder(base / "folder", stack)
    files = [png(picture) for picture in stack]
    manifests = write_manifests(base / "folder", names, LABELS)
    members = [
        member
        for name, data, label in zip(names, files, LABELS)
        for member in ((name, data), (name[:-4] + ".cls", b"%d" % label))
    ]
    write_tar(base / "all.tar", members)
    write_tar(base / "part-09.tar", members[: 2 * PART])
    write_tar(base / "part-10.tar", members[2 * PART :])
    write_rec(base / "indexed.rec", files, LABELS)
    write_rec(base / "plain.rec", files, LABELS, index=False)
    write_h5(base / "one.h5", stack, LABELS)
    write_h5(base / "chunked.h5", stack, LABELS, chunks=(7, 12, 9, 3), compression="gzip")
    np.save(base / "stack.npy", stack)
    sources = {
        "folder": base / "folder",
        "pattern": f"{base}/folder/**/*.png",
        **{path.suffix[1:]: path for path in manifests},
        "tar": base / "all.tar",
        "tar braces": f"{base}/part-{{09..10}}.tar",
        "tar pattern": f"{base}/part-*.tar",
        "rec with idx": base / "indexed.rec",
        "rec": base / "plain.rec",
        "h5": base / "one.h5",
        "h5 dataset": f"{base}/chunked.h5::images",
        "npy": base / "stack.npy",
    }
    return stack, names, sources


KEYS = {
    "tar": lambda i, name: name[:-4],
    "tar braces": lambda i, name: f"part-{'09' if i < PART else '10'}/{name[:-4]}",
    "tar pattern": lambda i, name: f"part-{'09' if i < PART else '10'}/{name[:-4]}",
    "rec with idx": lambda i, name: str(i),
    "rec": lambda i, name: str(i),
    "h5": lambda i, name: f"{i:03d}",
    "h5 dataset": lambda i, name: f"{i:03d}",
    "npy": lambda i, name: f"{i:03d}",
}
WITHOUT_LABELS = ("folder", "pattern", "txt", "npy")
KINDS = ("folder", "pattern", "txt", "csv", "jsonl", "parquet", *KEYS)


@pytest.mark.parametrize("kind", KINDS)
def test_same_pictures(held, kind):
    stack, names, sources = held
    listing = check_pixels(opened(sources[kind]), stack)
    key_of = KEYS.get(kind, lambda _, name: name)
    assert [s.key for s in listing] == [key_of(i, name) for i, name in enumerate(names)]
    expected = [-1] * COUNT if kind in WITHOUT_LABELS else LABELS
    assert [sample.label for sample in listing] == expected
    other = opened(sources[kind])  # a worker's: it never lists
    for i in (499, 0, 170):
        first, second = other.read(listing[i]), opened(sources[kind]).read(listing[i])
        assert np.array_equal(first, second)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model"), 8)


def extract(source, model, run):
    """The rows of a run over a source."""
    config = RunConfig(
        source=str(source), model=model, out=str(run), image_size=8, executor="local",
        shard_size=96, batch_size=16, save=("maps", "logits"),
    )  # fmt: skip
    report = run_extraction(config)
    assert (report.listed, report.ok, report.failed) == (COUNT, COUNT, 0)
    return contents(run)


@pytest.fixture(scope="module")
def expected(held, model, tmp_path_factory):
    """The rows of the pictures as one array."""
    return extract(held[2]["npy"], model, tmp_path_factory.mktemp("expected") / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_same_maps(held, model, expected, tmp_path, kind):
    _, names, sources = held
    rows = extract(sources[kind], model, tmp_path / "run")
    key_of = KEYS.get(kind, lambda _, name: name)
    keys = [key.decode() for key in rows.pop("key")]
    assert keys == [key_of(i, name) for i, name in enumerate(names)]
    labels = rows.pop("label").tolist()
    assert labels == ([-1] * COUNT if kind in WITHOUT_LABELS else LABELS)
    assert rows["cam/two_relu/map"].shape == (COUNT, 1, 2, 2)
    assert (rows["cam/two_relu/scale"] > 0).mean() > 0.9
    assert rows.keys() | {"key", "label"} == expected.keys()
    for name, values in rows.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize("kind", ["idx", "idx.gz", "npy", "h5", "png"])
def test_gray_pictures_have_three_channels(tmp_path, kind):
    gray = pictures(COUNT, gray=True)
    source = tmp_path / f"gray.{kind}"
    if kind.startswith("idx"):
        source = write_idx(tmp_path, gray, LABELS, packed=kind.endswith("gz"))
    elif kind == "npy":
        np.save(source, gray[..., None])
    elif kind == "h5":
        write_h5(source, gray)
    else:
        write_folder(tmp_path, gray)
        source = tmp_path
    listing = check_pixels(opened(source), np.repeat(gray[..., None], 3, axis=-1))
    assert [s.label for s in listing] == (LABELS if kind.startswith("idx") else [-1] * COUNT)
