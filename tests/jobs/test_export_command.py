"""A real run, from pictures to maps, masks and boxes in other programs' formats."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shardcam import export, open_run
from shardcam.engine.analysis.class_scores import class_scores
from shardcam.engine.analysis.dense_crf import DenseCrf
from shardcam.engine.analysis.export_seeds import seed_of
from shardcam.engine.config import RunConfig
from shardcam.engine.run.class_names import class_names
from tests.jobs.command import SMALL, contents, shardcam, start
from tests.jobs.images import make_folder

EXTRACT = ("--model", "efficientnet_lite0", "--image-size", "64", "--executor", "local")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """14 pictures, one of them broken, labelled by their folders; padded, two targets each."""
    base = tmp_path_factory.mktemp("real")
    make_folder(base / "pictures", 14, bad=1)
    code, _, err = shardcam(
        *("extract", base / "pictures", *EXTRACT, "--out", base / "run", "--resize", "pad"),
        *("--shard-size", 5, "--label-from-folder", "--target", "class:285,281"),
    )
    assert code == 0, err
    return base


def test_the_library_reads_what_the_command_wrote(real):
    rows = contents(real / "run")
    with open_run(real / "run") as run:
        assert len(run) == 13
        assert len(run.failures) == 1
        (layer,) = run.layers
        table, maps = run.table, run.cam(layer)
        assert set(table.label) == {0, 1, 2}
        assert set(table.target_0) == {285}
        scale = rows[f"cam/{layer}/scale"][..., None, None]
        raw = rows[f"cam/{layer}/map"].astype(np.float32) * scale
        np.testing.assert_array_equal(maps[::-1, 1], raw[::-1, 1])
        means = export.class_means(run, layer, by="label")
        assert means.counts.tolist() == np.bincount(table.label).tolist()
        for part in run.shards():
            for i, key in enumerate(part.keys):
                picture = cv2.imread(str(real / "pictures" / key))
                assert part.cam(layer).on_original(i).shape == picture.shape[:2]
                assert part.cam(layer).overlay(i, picture).shape == picture.shape
        best = run.select(predicted=int(table.top_class_0[0]))
        assert table.key[0] in best.keys


def test_npy(real, tmp_path):
    code, out, err = shardcam(
        *("export", real / "run", "--to", "npy", "--out", tmp_path / "m.npy", "--target-index", 1)
    )
    assert (code, err) == (0, "")
    assert f"13 maps of head_relu6 written to {tmp_path / 'm.npy'}" in out
    with open_run(real / "run") as run:
        np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), run.cam("head_relu6")[:, 1])


def test_masks(real, tmp_path):
    arguments = ("--to", "masks", "--out", tmp_path / "masks", "--layer", "head_relu6")
    code, out, err = shardcam("export", real / "run", *arguments, "--threshold", 0.4)
    assert (code, err) == (0, "")
    assert "13 masks of head_relu6" in out
    names = sorted(os.listdir(tmp_path / "masks"))
    with open_run(real / "run") as run:
        for i, name in enumerate(names):
            mask = cv2.imread(str(tmp_path / "masks" / name), cv2.IMREAD_UNCHANGED)
            heat = run.cam("head_relu6").on_original(i)
            np.testing.assert_array_equal(mask, np.where(heat / 255 >= 0.4, 255, 0))


def test_coco_names_the_classes(real, tmp_path):
    code, out, err = shardcam("export", real / "run", "--to", "coco", "--out", tmp_path / "c.json")
    assert (code, err) == (0, "")
    coco = json.loads((tmp_path / "c.json").read_text())
    assert f"{len(coco['annotations'])} regions of 13 pictures" in out
    assert coco["categories"] == [{"id": 285, "name": "Egyptian cat"}]
    with open_run(real / "run") as run:
        assert class_names(RunConfig(**run.config))(285) == "Egyptian cat"


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (("--to", "npy", "--layer", "nose"), 2, "no maps of layer 'nose'"),
        (
            ("--to", "npy", "--threshold", 0.5),
            2,
            "--threshold: it is for masks, coco, crops, seeds, not for npy",
        ),
        (("--to", "masks", "--of", "maps"), 2, "--of: it is for thingsvision, clip-retrieval"),
        (
            ("--to", "faiss", "--of", "pooled"),
            2,
            "has no pooled; extract with --save pooled",
        ),
        (("--to", "faiss", "--target-index", 2), 2, "--target-index 2: 2 explained, from 0"),
        (
            ("--to", "masks", "--threshold", 0),
            2,
            "--threshold 0: expected a number between 0 and 1",
        ),
        (("--to", "coco", "--target-index", 2), 2, "--target-index 2: 2 explained, from 0"),
        (("--to", "seeds", "--threshold", "0.3,0.1"), 2, "--threshold 0.3,0.1: expected a number"),
        (("--to", "seeds", "--threshold", 2), 2, "--threshold 2: expected a number from 0 to 1"),
        (
            ("--to", "seeds"),
            2,
            "class 285: seeds are PNG files of 8 bits, for the classes 0 to 253",
        ),
        (("--to", "seeds", "--classes", "285,cat"), 2, "--classes 285,cat: takes numbers of"),
        (("--to", "seeds", "--classes", "285,285"), 2, "classes of seeds: one is given twice"),
        (("--to", "seeds", "--classes", "1000"), 2, "--classes 1000: the network has classes 0 to"),
        (("--to", "psa", "--out", __file__), 2, f"--out {__file__}: is a file; name a folder"),
        (("--to", "psa", "--classes", "285"), 2, "--classes: it is for seeds, not for psa"),
        (("--to", "tiff"), 2, "'tiff' is not one of 'npy', 'masks', 'coco', 'heatmaps'"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line(real, tmp_path, arguments, expected, words):
    code, _, err = shardcam("export", real / "run", "--out", tmp_path / "out", *arguments)
    assert code == expected
    assert words in err.splitlines()[-1]
    assert os.listdir(tmp_path) == []


def test_a_damaged_run_and_a_bad_place_are_one_line(real, tmp_path):
    run = shutil.copytree(real / "run", tmp_path / "run")
    (tmp_path / "file").write_text("")
    words = f"{tmp_path / 'file'} is a file, not a folder"
    for form in ("npy", "coco", "masks", "psa"):
        code, _, err = shardcam("export", run, "--to", form, "--out", tmp_path / "file" / "x")
        assert code == 2
        assert words in err
        assert err.count("\n") == 1
    code, _, err = shardcam("export", run, "--to", "npy", "--out", tmp_path / "file")
    assert (code, err.count("\n")) == (2, 1)
    assert "exists; --force replaces it" in err
    assert (tmp_path / "file").read_text() == ""
    assert shardcam("export", run, "--to", "npy", "--out", tmp_path / "file", "--force")[0] == 0
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "mine.png").write_text("")
    code, _, err = shardcam("export", run, "--to", "masks", "--out", tmp_path / "masks")
    assert (code, err.count("\n")) == (2, 1)
    assert "not empty; --force" in err
    (run / "shards" / "shard-000001.h5").write_bytes(b"")
    code, _, err = shardcam("export", run, "--to", "npy", "--out", tmp_path / "m.npy")
    assert code == 1
    assert "shard-000001.h5: unreadable" in err
    assert err.count("\n") == 1
    code, _, err = shardcam("export", tmp_path, "--to", "npy", "--out", tmp_path / "m.npy")
    assert (code, err.count("\n")) == (2, 1)
    assert "not a run directory" in err


@pytest.mark.parametrize("form", ["masks", "heatmaps", "irn", "parquet", "zarr", "virelay"])
def test_folders_are_made_with_those_above_them(real, tmp_path, form):
    out = tmp_path / "result" / "of" / form
    code, _, err = shardcam("export", real / "run", "--to", form, "--out", out)
    assert (code, err) == (0, "") and os.listdir(out)


def wait_until_stuck(pid):
    """Wait until a process has not computed for a second."""
    before, now = None, ""
    while now != before:
        time.sleep(1)
        before, now = now, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]


STUCK = """
import os
os.replace = lambda *names: os.read(os.pipe()[0], 1)
from shardcam.jobs.cli import main
main()
"""


@pytest.mark.process
def test_an_interrupted_export_leaves_nothing(real, tmp_path):
    """It waits where the file that is written would get its name."""
    arguments = ("export", real / "run", "--to", "npy", "--out", tmp_path / "m.npy")
    process = start(*arguments, program=("-c", STUCK))
    wait_until_stuck(process.pid)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "stopped by SIGTERM; the same command begins anew\n" in err
    assert os.listdir(tmp_path) == []


def seed_files(folder):
    return {name: (folder / name).stat().st_mtime_ns for name in os.listdir(folder)}


def test_seeds_go_on_where_they_were_stopped(real, tmp_path):
    command = ("export", real / "run", "--to", "irn", "--out", tmp_path / "irn")
    code, out, err = shardcam(*command)
    assert (code, err) == (0, "")
    assert f"13 files of head_relu6 written to {tmp_path / 'irn'}; 1 image failed in the run" in out
    first = seed_files(tmp_path / "irn")
    assert len(first) == 14 and "export.json" in first
    gone = sorted(first)[3]
    (tmp_path / "irn" / gone).unlink()
    code, out, err = shardcam(*command)
    assert (code, err) == (0, "") and "1 file of head_relu6" in out and "12 were there" in out
    again = seed_files(tmp_path / "irn")
    assert [name for name in again if again[name] != first[name]] == [gone]
    code, _, err = shardcam(*command[:3], "psa", *command[4:])
    assert code == 2 and "holds another export (to: irn there, psa now); --force replaces" in err
    assert seed_files(tmp_path / "irn") == again
    code, _, err = shardcam(*command[:3], "psa", *command[4:], "--force")
    assert (code, err) == (0, "")
    found = np.load(tmp_path / "irn" / gone, allow_pickle=True).item()
    assert sorted(found) == [281, 285]


def test_files_that_would_be_called_otherwise_are_not_mixed(tmp_path):
    """Of a run that grew by a picture that is called as another is."""
    folder, run = tmp_path / "pictures", tmp_path / "run"
    for name in ("a.png", "b.png", "c/a.png"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (40, 30), "red").save(folder / name)
    command = ("extract", folder, *SMALL, "--executor", "local", "--out", run)
    export = ("export", run, "--to", "psa", "--out", tmp_path / "psa")
    assert shardcam(*command, "--limit", 2)[0] == shardcam(*export)[0] == 0
    code, _, err = shardcam(*command)
    assert code == 0, err
    code, _, err = shardcam(*export)
    assert (
        code == 2 and "holds another export (names: not given there, numbered now); --force" in err
    )


def test_a_folder_that_only_says_what_was_to_be_made_is_no_export(real, tmp_path):
    made_of = tmp_path / "out" / "export.json"
    made_of.parent.mkdir()
    command = ("export", real / "run", "--to", "psa", "--out", made_of.parent)
    made_of.write_text('{"of": "mine"}')
    assert shardcam(*command)[0] == 2 and made_of.read_text() == '{"of": "mine"}'
    made_of.write_text(json.dumps({"run": "other", "to": "seeds", "layer": "x", "scores": "irn"}))
    code, _, err = shardcam(*command)
    assert (code, err) == (0, "") and len(seed_files(made_of.parent)) == 14


def test_seeds_of_labels(real, tmp_path):
    """Classes of 8 bits; the pair of thresholds; what was made of other options is not mixed."""
    labels = "".join(f"{key},{i % 4};7\n" for i, key in enumerate(sorted(
        str(p.relative_to(real / "pictures")) for p in (real / "pictures").rglob("*.jpg")
    )))  # fmt: skip
    (tmp_path / "labels.csv").write_text(f"path,labels\n{labels}")
    code, _, err = shardcam(
        *("extract", real / "pictures", *EXTRACT, "--out", tmp_path / "run", "--shard-size", 5),
        *("--target", f"labels:{tmp_path}/labels.csv"),
    )
    assert code == 0, err
    command = ("export", tmp_path / "run", "--to", "seeds", "--out", tmp_path / "seeds")
    code, _, err = shardcam(*command, "--threshold", "0.05,0.3", "--scores", "seam")
    assert (code, err) == (0, "")
    names = sorted(name for name in os.listdir(tmp_path / "seeds") if name.endswith(".png"))
    with open_run(tmp_path / "run") as run:
        assert len(names) == len(run) == 13
        met = set()
        for i, name in enumerate(names):
            levels = np.asarray(Image.open(tmp_path / "seeds" / name))
            assert levels.shape == tuple(run["image_size"][i])
            assert set(np.unique(levels)) <= {0, 255, *(run["target"][i] + 1).tolist()}
            met |= {*np.unique(levels).tolist()}
        assert {0, 8, 255} < met
    code, _, err = shardcam(*command)
    told = "(threshold: 0.05,0.3 there, 0.15 now; scores: seam there, irn now)"
    assert code == 2 and f"holds another export {told}; --force" in err
    code, _, err = shardcam(*command, "--threshold", "0.1,0.2,0.3")
    assert code == 2 and "--threshold 0.1,0.2,0.3: takes a number, or two for seeds" in err


def test_seeds_of_chosen_classes(real, tmp_path):
    """Of a thousand, by their place among those: 281 is the second, 285 does not count."""
    command = ("export", real / "run", "--to", "seeds", "--out", tmp_path / "seeds")
    code, _, err = shardcam(*command, "--classes", "7,281")
    assert (code, err) == (0, "")
    with open_run(real / "run") as run:
        (layer,) = run.layers
        for i, path in enumerate(sorted((tmp_path / "seeds").glob("*.png"))):
            rest = run["target"][i], run["crop"][i], run["image_size"][i]
            classes, scores = class_scores(run.cam(layer)[i], *rest)
            assert classes.tolist() == [281, 285]
            expected = np.where(scores[0] > np.float32(0.15), 2, 0)
            np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)
    code, _, err = shardcam(*command, "--classes", "281,7")
    assert code == 2 and "holds another export (classes: 7,281 there, 281,7 now); --force" in err


def test_seeds_that_follow_the_pictures(real, tmp_path):
    """Each by the dense CRF of its own picture, which the run's source has."""
    command = ("export", real / "run", "--to", "seeds", "--classes", "281", "--out")
    options = ("--threshold", "0.05,0.3", "--crf")
    code, _, err = shardcam(*command, tmp_path / "seeds", *options)
    assert code == 0, err  # which tells of compiling, the first time on a machine
    paths, changed = sorted((tmp_path / "seeds").glob("*.png")), 0
    with open_run(real / "run") as run:
        (layer,) = run.layers
        for i, (path, key) in enumerate(zip(paths, run.keys)):
            rest = run["target"][i], run["crop"][i], run["image_size"][i]
            _, scores = class_scores(run.cam(layer)[i], *rest)
            crf = DenseCrf(cv2.imread(str(real / "pictures" / key))[..., ::-1].copy())
            expected = seed_of(np.zeros(1, "i4"), scores[:1], 0.05, 0.3, crf.refine)
            found = np.asarray(Image.open(path))
            assert (found != expected).mean() < 0.01  # another decoder of JPEG
            changed += (found != seed_of(np.zeros(1, "i4"), scores[:1], 0.05, 0.3)).mean() > 0.02
    assert changed
    code, _, err = shardcam(*command, tmp_path / "seeds")
    told = "(threshold: 0.05,0.3 there, 0.15 now; crf: given there, not given now)"
    assert code == 2 and f"holds another export {told}; --force" in err
    code, _, err = shardcam(*command, tmp_path / "seeds", *options[:2])
    assert code == 2 and "holds another export (crf: given there, not given now); --force" in err
    code, _, err = shardcam(*command[:3], "psa", "--crf", "--out", tmp_path / "psa")
    assert code == 2 and "--crf: it is for seeds, not for psa" in err
