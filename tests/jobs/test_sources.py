"""Sources of other kinds through the whole path: the same rows, boxes, refusals in one line."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.jobs.command import SMALL, contents, shardcam
from tests.jobs.images import make_folder
from tests.readers.sources import write_h5, write_tar

LABELS = [i % 10 for i in range(12)]
LOCAL = ("--executor", "local", "--save", "maps,logits")


def extract(source, out, *options):
    code, text, err = shardcam("extract", source, *SMALL, *LOCAL, "--out", out, *options)
    assert code == 0, err
    return text, contents(out)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """12 lossless pictures of one size as a folder, a manifest, a tar and an HDF5 file."""
    base = tmp_path_factory.mktemp("sources")
    make_folder(base / "jpeg", 12)
    names = sorted(str(p.relative_to(base / "jpeg")) for p in (base / "jpeg").rglob("*.jpg"))
    stack = []
    for i, name in enumerate(names):
        with Image.open(base / "jpeg" / name) as picture:
            stack.append(np.asarray(picture.convert("RGB").resize((120, 90))))
        (base / "png").mkdir(exist_ok=True)
        Image.fromarray(stack[-1]).save(base / "png" / f"{i:02d}.png")
    files = sorted((base / "png").iterdir())
    rows = [{"path": f"png/{path.name}", "label": LABELS[i]} for i, path in enumerate(files)]
    (base / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_tar(base / "all.tar", [(path.name, path.read_bytes()) for path in files])
    write_h5(base / "all.h5", np.stack(stack), LABELS)
    _, rows = extract(base / "png", base / "run")
    return base, np.stack(stack), rows


@pytest.mark.parametrize("name", ["list.jsonl", "all.tar", "all.h5"])
def test_the_same_rows_from_every_kind(held, tmp_path, name):
    base, _, expected = held
    options = ("--target", "label") if name != "all.tar" else ()
    _, rows = extract(base / name, tmp_path / "run", *options)
    for dataset in ("logits", "sample", "image_size", "crop", "top_class", "top_score"):
        np.testing.assert_array_equal(rows[dataset], expected[dataset])
    if options:
        assert rows["target"][:, 0].tolist() == rows["label"].tolist() == LABELS
    text, _ = extract(base / name, tmp_path / "run", *options)
    assert "of which 0 done now" in text


def test_boxes(held, tmp_path):
    """Two boxes of one picture and one outside it; other boxes are another run."""
    base, stack, _ = held
    text = (
        "path,x0,y0,x1,y1\n00.png,10,20,90,84\n00.png,,,,\n01.png,0,0,500,500\n01.png,120,0,130,9\n"
    )
    (tmp_path / "list.csv").write_text(text)
    source = (tmp_path / "list.csv", tmp_path / "run", "--root", base / "png")
    _, rows = extract(*source)
    keys = [key.decode() for key in rows["key"]]
    assert keys == ["00.png#10,20,90,84", "00.png", "01.png#0,0,500,500"]
    assert rows["image_size"].tolist() == [[90, 120]] * 3
    assert rows["crop"].tolist() == [[20, 18, 84, 82], [0, 15, 90, 105], [0, 15, 90, 105]]
    assert rows["failure/error"].tolist() == [b"box outside"]
    Image.fromarray(stack[0][20:84, 10:90]).save(tmp_path / "part.png")
    _, alone = extract(tmp_path / "part.png", tmp_path / "alone")
    np.testing.assert_allclose(alone["logits"][0], rows["logits"][0], atol=1e-4)
    keyed = text.replace("path,", "key,path,").replace("\n0", "\nk0,0")
    for i, moved in enumerate((keyed, keyed.replace("84", "80"))):
        lines = moved.splitlines()
        lines[1:] = [line.replace("k0", f"k{n}") for n, line in enumerate(lines[1:])]
        (tmp_path / "list.csv").write_text("\n".join(lines))
        (tmp_path / "moved" / "listing.zip").unlink(missing_ok=True)
        code, _, err = shardcam(
            "extract", tmp_path / "list.csv", *SMALL, *LOCAL, "--root", base / "png",
            "--out", tmp_path / "moved",
        )  # fmt: skip
        assert code == 2 * i, err
    assert "boxes" in err.replace("\n", " ")


def test_bad_sources_are_one_line(held, tmp_path):
    base, _, _ = held
    (tmp_path / "cut.tar").write_bytes((base / "all.tar").read_bytes()[:2000])
    np.save(tmp_path / "floats.npy", np.zeros((4, 8, 8), np.float32))
    cases = [
        ((tmp_path / "cut.tar",), 2, "cut.tar: member '00.png' at byte 512: the archive ends"),
        ((tmp_path / "floats.npy",), 2, "float32 (4, 8, 8) is not an array of images"),
        ((f"{base}/list.jsonl", "--label-from-folder"), 2, "--label-from-folder is for folders"),
        (("https://me:secret@host/a.tar",), 2, "give them in the environment"),
        ((base / "list.jsonl", "--root", "/nowhere"), 3, "none of 12 images gave a map"),
    ]
    for arguments, expected, message in cases:
        code, _, err = shardcam("extract", *arguments, *SMALL, *LOCAL, "--out", tmp_path / "run")
        assert (code, "secret" in err) == (expected, False), (arguments, err)
        assert message in err.replace("\n", ""), (arguments, err)
        assert "Traceback" not in err
