"""Calibrations kept for the user: found again, bounded, and never in the way."""

import os

import numpy as np
import pytest

from shardcam.engine.run import calibration_cache
from shardcam.engine.run.calibration import Calibration
from shardcam.engine.types import Preprocessing, View

KEPT = Calibration({"data": (0.0, 1.0)}, True, 2, 1, 1.0, 0.5, (0.5,), {"w": "eA=="})
SIZE = Preprocessing(4, 4, (0.0,) * 3, (1.0,) * 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration_cache, "user_folder", lambda: tmp_path / "kept")
    return tmp_path / "kept"


def test_what_is_kept_is_found(folder):
    assert calibration_cache.find("a") is None
    calibration_cache.keep("a", KEPT)
    assert calibration_cache.find("a") == KEPT
    assert [path.name for path in folder.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ranges": 1}', "[" * 99])
def test_a_damaged_one_is_none(folder, text):
    folder.mkdir()
    (folder / "a.json").write_text(text)
    assert calibration_cache.find("a") is None


def test_a_link_is_not_followed(folder, tmp_path):
    calibration_cache.keep("a", KEPT)
    (folder / "b.json").symlink_to(folder / "a.json")
    assert calibration_cache.find("b") is None


def test_the_newest_stay(folder, monkeypatch):
    monkeypatch.setattr(calibration_cache, "KEPT", 2)
    for age, key in enumerate("abc"):
        calibration_cache.keep(key, KEPT)
        os.utime(folder / f"{key}.json", (age, age))
    calibration_cache.find("b")
    calibration_cache.keep("d", KEPT)
    assert sorted(path.name for path in folder.iterdir()) == ["b.json", "d.json"]
    monkeypatch.setattr(calibration_cache, "MOST", 1)
    calibration_cache.keep("e", KEPT)
    assert [path.name for path in folder.iterdir()] == ["e.json"]


def test_no_place_to_keep_it_is_no_error(folder):
    folder.write_text("a file")
    calibration_cache.keep("a", KEPT)
    assert calibration_cache.find("a") is None


def test_the_key_is_of_all_that_it_depends_on():
    def view(value):
        return View(
            np.full((4, 4, 3), value, np.uint8), *[None] * (len(View.__dataclass_fields__) - 1)
        )

    def key(model="m", views=(1, 2), *others):
        return calibration_cache.key_of(model, SIZE, [view(value) for value in views], *others)

    assert key() == key()
    assert len({key(), key("n"), key("m", (2, 1)), key("m", (1, 2), "gradcam")}) == 4
