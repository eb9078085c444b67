"""What a run was made of, and what it consists of: no command writes over it, even with --force."""

import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shardcam.engine.errors import ConfigError
from shardcam.jobs.commands.demo import PHOTOGRAPHS, example_photographs
from tests.jobs.command import LOCAL, SMALL, shardcam

FILES = [("--to", "npy"), ("--to", "coco")]
FOLDERS = [
    ("--to", "crops"),
    ("--to", "heatmaps"),
    ("--to", "masks"),
    ("--to", "seeds", "--classes", "0,1"),
    ("--to", "irn"),
    ("--to", "thingsvision"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four pictures, as files of which one is a link, and in an archive; a run of each."""
    base = tmp_path_factory.mktemp("made")
    (base / "pictures" / "below").mkdir(parents=True)
    (base / "elsewhere").mkdir()
    rng = np.random.RandomState(0)
    for name in ("pictures/a", "pictures/b", "pictures/below/c", "elsewhere/d"):
        Image.fromarray(rng.randint(0, 256, (40, 40, 3), np.uint8)).save(base / f"{name}.png")
    (base / "packed").mkdir()
    with tarfile.open(base / "packed" / "pictures.tar", "w") as archive:
        archive.add(base / "pictures" / "a.png", "a.png")
    (base / "pictures" / "linked.png").symlink_to(base / "elsewhere" / "d.png")
    (base / "same").symlink_to("pictures")
    (base / "labels.txt").write_text("\n".join(f"name {i}" for i in range(10)))
    for source, run in (("pictures", "run"), ("packed/pictures.tar", "packed-run")):
        labels = ("--labels", base / "labels.txt")
        command = ("extract", base / source, *SMALL, *LOCAL, *labels, "--out", base / run)
        code, _, err = shardcam(*command)
        assert code == 0, err
    shutil.copytree(base / "run", base / "pictures" / "inside")
    return base


def contents(base):
    """All files, but for logs and locks, by their names."""
    return {
        path: path.readlink() if path.is_symlink() else path.read_bytes()
        for path in base.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def refused(base, *command):
    """The message of a command that must change nothing, with and without --force."""
    before = contents(base)
    for arguments in (command, (*command, "--force")):
        code, out, err = shardcam(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), (code, err)
        assert contents(base) == before
    return err


@pytest.mark.parametrize("form", FOLDERS, ids=" ".join)
@pytest.mark.parametrize("out", ["pictures", "same", "elsewhere", "pictures/below", "."])
def test_no_export_goes_where_the_pictures_are(made, form, out):
    err = refused(made, "export", made / "run", *form, "--out", made / out)
    assert err.startswith(f"shardcam: --out {made / out}: holds what {made / 'run'} was made of (")
    assert "; name another folder" in err


def test_nor_where_the_archive_is_that_they_are_in(made):
    err = refused(made, "export", made / "packed-run", "--to", "masks", "--out", made / "packed")
    assert f"({made / 'packed' / 'pictures.tar'})" in err


def test_without_a_listing_the_source_is_looked_at(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "run" / "listing.zip").unlink()
    out = ("--out", made / "pictures")
    assert "was made of" in refused(made, "export", tmp_path / "run", "--to", "masks", *out)


def test_a_new_folder_among_the_pictures_is_made_and_forced(made, tmp_path):
    shutil.copytree(made, tmp_path / "made", symlinks=True)
    run, out = tmp_path / "made" / "run", tmp_path / "made" / "pictures" / "new"
    for more in ((), ("--force",)):
        code, _, err = shardcam("export", made / "run", "--to", "crops", "--out", out, *more)
        assert (code, err) == (0, "")
        assert len([*out.glob("*.png")]) == 4 and run.is_dir()


def test_force_replaces_files_of_the_same_names_and_leaves_others(made, tmp_path):
    for name in ("a.png", "mine.png"):
        (tmp_path / name).write_text("mine")
    command = ("export", made / "run", "--to", "heatmaps", "--out", tmp_path)
    code, _, err = shardcam(*command)
    assert code == 2
    assert "not empty; --force replaces files of the same names, and leaves others" in err
    assert shardcam(*command, "--force")[0] == 0
    assert (tmp_path / "mine.png").read_text() == "mine"
    assert cv2.imread(str(tmp_path / "a.png")).shape == (40, 40, 3)


PICTURE, LABELS = "pictures/a.png", "labels.txt"
COMMANDS = [
    ("export", "run", "--to", "npy", "--out", PICTURE),
    ("export", "run", "--to", "coco", "--out", LABELS),
    ("export", "run", "--to", "coco", "--out", "elsewhere/d.png"),
    ("report", "run", "--out", "pictures/linked.png"),
    ("compare", "run", "packed-run", "--csv", "packed/pictures.tar"),
    ("compare", "run", "run", "--plot", PICTURE),
    ("cluster", "run", "--csv", LABELS),
    ("evaluate", "run", "--metrics", "gini", "--plot", PICTURE),
    ("index", "run", "--merge", "--out", PICTURE),
    ("similarity", "run", "--json", PICTURE),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_file_that_a_run_was_made_of_is_replaced(made, command):
    *words, place = command
    words = [made / word if word in ("run", "packed-run") else word for word in words]
    err = refused(made, *words, made / place)
    assert err.startswith(f"shardcam: {words[-1]} {made / place}: is what {made}"), err
    assert err.endswith(" was made of; name another file\n")


@pytest.mark.parametrize("truth", ["truth.csv", "truth/a.csv"])
def test_nor_a_truth_that_is_measured_with(made, tmp_path, truth):
    place = tmp_path / truth
    place.parent.mkdir(exist_ok=True)
    place.write_text("key,class,x0,y0,x1,y1\na.png,0,0,0,9,9\n")
    given = place if place.parent == tmp_path else place.parent
    command = ("evaluate", made / "run", "--metrics", "pointing", "--truth", given, "--csv", place)
    assert "name another file" in refused(tmp_path, *command)


@pytest.mark.parametrize(("option", "place"), [("--plot", PICTURE), ("--json", LABELS)])
def test_nor_what_is_measured_with(made, option, place):
    more = ("--labels", made / LABELS, "--sweep", option, made / place)
    before = contents(made)
    code, _, err = shardcam("throughput", made / "pictures", *SMALL, *more, "--force")
    words = f"{option} {made / place}: is an input; name another file"
    assert (code, contents(made)) == (2, before) and words in err


OWN = [
    *("run.json", "index.h5", "listing.zip", "report.json", "failures.csv", "events.jsonl"),
    *("class_names.json", "shards/shard-000000.h5", "shards/new", ".lock", "calibration.json"),
]


@pytest.mark.parametrize("name", OWN)
def test_no_part_of_a_run_is_replaced_or_added(made, name):
    run, copy = made / "run", made / "packed-run"
    (copy / "metrics").mkdir(exist_ok=True)
    for command in (
        ("report", run, "--out"),
        ("export", run, "--to", "npy", "--out"),
        ("evaluate", run, "--metrics", "gini", "--csv"),
        ("throughput", made / "pictures", *SMALL, "--json"),
    ):
        for place in (copy / name, made / "same" / "inside" / name):
            err = refused(made, *command, place)
            owner = Path(*place.resolve().parts[: -len(Path(name).parts)])
            assert f"{place}: is a part of the run {owner}; choose another name" in err


def test_pages_of_other_runs_stay(made):
    other = made / "packed-run" / "report.html"
    assert "is a part of the run" in refused(made, "report", made / "run", "--out", other)


@pytest.mark.parametrize("form", FOLDERS, ids=" ".join)
def test_nothing_is_exported_into_the_root_of_a_run_or_its_parts(made, form):
    export = ("export", made / "run", *form, "--out")
    assert "is a run directory" in refused(made, *export, made / "run")
    assert "is a run directory" in refused(made, *export, made / "packed-run")
    for part in ("shards", "shards/new", "overlays", "metrics/gini"):
        assert "is a part of the run" in refused(made, *export, made / "packed-run" / part)


def test_so_do_other_commands_that_write_into_folders(made):
    run, before = made / "run", contents(made)
    for command in (
        ("compare", run, run),
        ("filters", SMALL[1]),
        ("mosaic", run),
        ("sanity", run),
    ):
        code, _, err = shardcam(*command, "--out", run)
        assert code == 2 and "is a run directory" in err
        code, _, err = shardcam(*command, "--out", run / "metrics")
        assert code == 2 and "is a part of the run" in err
    code, _, err = shardcam("extract", made / "elsewhere", *SMALL, "--out", run / "metrics")
    assert code == 2 and "is a part of the run" in err
    code, _, err = shardcam("train-mnist", "--out", run / "shards" / "lenet")
    assert code == 2 and "is a part of the run" in err
    assert contents(made) == before


def test_new_names_in_the_folder_of_a_run_are_the_users(made, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(made / "run", run)
    for more in ((), ("--force",)):
        for out in (("--to", "masks", "--out", run / "masks"), ("--to", "npy", "--out", run / "m")):
            code, _, err = shardcam("export", run, *out, *more)
            assert (code, err) == (0, "")
    assert shardcam("report", run)[0] == shardcam("report", run, "--out", run / "report.html")[0]
    assert shardcam("verify", run)[0] == 0


def test_sanity_and_mosaics_go_elsewhere(made):
    before = contents(made)
    for command in ("sanity", "mosaic"):
        for out in (made / "pictures", made / "elsewhere"):
            code, _, err = shardcam(command, made / "run", "--out", out)
            assert code == 2 and err.startswith(f"shardcam: --out {out}: ")
    assert contents(made) == before


def test_the_demo_links_its_photographs_in_no_files_place(tmp_path):
    pytest.importorskip("skimage")
    for _ in range(2):
        assert len([*example_photographs(tmp_path).iterdir()]) == len(PHOTOGRAPHS)
    mine = tmp_path / PHOTOGRAPHS[0]
    mine.unlink()
    mine.write_text("mine")
    with pytest.raises(ConfigError, match="move that file away"):
        example_photographs(tmp_path)
    assert mine.read_text() == "mine"
