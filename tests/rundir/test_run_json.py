import json
from dataclasses import replace

import pytest

from shardcam.engine.errors import RunDirectoryError, StoreError
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest, begin_run, holds_run, read_manifest


def manifest(**numbers):
    return Manifest(
        {"source": "x"},
        {"method": "gradcam", **numbers},
        {"samples": 8, "shards": 1},
        {"numpy": "1"},
    )


def test_created_then_resumed(tmp_path):
    paths = RunDir(tmp_path / "run")
    assert not holds_run(paths, manifest())
    begin_run(paths, manifest())
    assert holds_run(paths, manifest())
    assert read_manifest(paths) == manifest()
    assert json.loads(paths.run_json.read_text())["fingerprint"] == manifest().fingerprint


def test_another_run_is_refused_and_the_difference_named(tmp_path):
    paths = RunDir(tmp_path)
    begin_run(paths, manifest(layer=("a", "b")))
    assert holds_run(paths, manifest(layer=("a", "b")))
    with pytest.raises(RunDirectoryError, match="method: gradcam there, cam now"):
        holds_run(paths, manifest(layer=("a", "b"), method="cam"))
    more = replace(manifest(layer=("a", "b"), source="beef"), plan={"samples": 9, "shards": 1})
    with pytest.raises(RunDirectoryError, match=r"\(8 images there, 9 now\)"):
        holds_run(paths, more)


def test_other_files_are_not_written_among(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="not empty and not a run directory"):
        holds_run(RunDir(tmp_path), manifest())


@pytest.mark.parametrize(
    "left",
    [
        ".run.json.17",
        ".run.json-0a1b",
        ".calibration.json.17",
        ".listing-host-17-ab.zip",
        ".shardcam-0a1b",
        "listing.zip",
        "calibration.json",
        "class_names.json",
    ],
)
def test_what_a_run_leaves_that_was_killed_while_it_began_is_in_nobodys_way(tmp_path, left):
    """So is what another command writes there at this very moment."""
    (tmp_path / left).write_text("{")
    assert not holds_run(RunDir(tmp_path), manifest())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": "x"}', "{"])
def test_damaged_manifest(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"run\.json: damaged"):
        read_manifest(RunDir(tmp_path))


def test_what_the_operating_system_refuses_is_not_called_damage(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(StoreError, match=r"run\.json: cannot be read now: Is a directory$"):
        read_manifest(RunDir(tmp_path))


def test_edited_manifest(tmp_path):
    paths = RunDir(tmp_path)
    begin_run(paths, manifest())
    paths.run_json.write_text(paths.run_json.read_text().replace("gradcam", "cam"))
    with pytest.raises(RunDirectoryError, match="not that of its contents"):
        read_manifest(paths)


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("config", 5, "its 'config' is not an object"),
        ("plan", {"samples": 8}, "its plan has no number of shards"),
        ("plan", {"samples": "x", "shards": 1}, "its plan has no number of samples"),
    ],
)
def test_what_the_fingerprint_does_not_cover_is_checked_too(tmp_path, part, value, reason):
    paths = RunDir(tmp_path)
    begin_run(paths, manifest())
    stored = json.loads(paths.run_json.read_text())
    paths.run_json.write_text(json.dumps(stored | {part: value}))
    with pytest.raises(RunDirectoryError, match=rf"run\.json: damaged: {reason}; restore it"):
        read_manifest(paths)


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        begin_run(RunDir(tmp_path / "file" / "run"), manifest())
