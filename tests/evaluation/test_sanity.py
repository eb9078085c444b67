"""``--randomise``, ``--target from:RUN`` and the cascade of ``shardcam sanity``."""

import json

import cv2
import numpy as np
import pytest

from shardcam.engine.evaluation.sanity_checks import sanity
from tests.jobs.command import LOCAL, SMALL, assert_same, contents, shardcam


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sanity") / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(4)
    for i in range(6):
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (50, 40)))
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def trained(pictures):
    run = pictures.parent / "trained"
    given = (*SMALL, *LOCAL, "--target", "top2", "--save", "maps,logits", "--shard-size", 4)
    code, _, err = shardcam("extract", pictures, *given, "--out", run)
    assert code == 0, err
    return run


def extract(pictures, out, *options):
    return shardcam("extract", pictures, *SMALL, *LOCAL, "--out", out, *options)


def test_from_run_explains_the_classes_of_that_run(pictures, trained, tmp_path):
    before = contents(trained)
    assert extract(pictures, tmp_path / "same", "--target", f"from:{trained}")[0] == 0
    same = contents(tmp_path / "same")
    kept = [name for name in before if name in same and not name.startswith("failure")]
    assert_same({n: before[n] for n in kept}, {n: same[n] for n in kept})
    code, _, err = extract(
        *(pictures, tmp_path / "lost", "--target", f"from:{trained}", "--randomise", "head"),
        *("--save", "maps,logits"),
    )
    assert code == 0, err
    lost = contents(tmp_path / "lost")
    np.testing.assert_array_equal(lost["target"], before["target"])
    assert not np.allclose(lost["logits"], before["logits"])


def test_from_run_is_the_same_run_wherever_the_other_lies(pictures, trained, tmp_path):
    first = tmp_path / "first"
    assert extract(pictures, first, "--target", f"from:{trained}")[0] == 0
    moved = tmp_path / "moved"
    trained.rename(moved)
    try:
        code, out, err = extract(pictures, first, "--target", f"from:{moved}")
        assert code == 0 and "0 done now" in " ".join(out.split()), err
    finally:
        moved.rename(trained)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--target", "from:{trained}", "--limit", 2), "a run of other images (7 of them; 2 here)"),
        (("--target", "from:nowhere"), "not a run directory"),
        (("--randomise", "nothing"), "--randomise: small has no layer 'nothing'"),
        (("--randomise", "dense", "--seed", -1), "--seed"),
        (("--seed", 3), "--seed 3: is for --randomise"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_and_leaves_nothing(
    pictures, trained, tmp_path, options, told
):
    given = (str(option).format(trained=trained) for option in options)
    code, _, err = extract(pictures, tmp_path / "run", *given)
    assert code == 2 and told in err
    assert not (tmp_path / "run" / "run.json").exists()


def test_random_weights_are_of_the_fingerprint_only_where_they_are_asked_for(
    pictures, trained, tmp_path
):
    numbers = {}
    for name, options in {"head": (), "seed": ("--seed", 1)}.items():
        code, out, err = extract(pictures, tmp_path / name, "--randomise", "head", *options)
        assert code == 0, err
        assert "weights of 1 layer, from dense to the logits, are random" in " ".join(out.split())
        numbers[name] = json.loads((tmp_path / name / "run.json").read_text())["numbers"]
    assert numbers["head"]["randomise"] == "head" and "seed" not in numbers["head"]
    assert numbers["seed"]["seed"] == 1 and numbers["seed"]["model"] != numbers["head"]["model"]
    plain = json.loads((trained / "run.json").read_text())["numbers"]
    assert not {"randomise", "seed"} & plain.keys()
    code, _, err = extract(pictures, tmp_path / "head", "--randomise", "one")
    assert code == 2 and "randomise" in err


def test_the_cascade_loses_the_maps_of_the_trained_network(pictures, trained, tmp_path):
    out = tmp_path / "sanity"
    code, printed, err = shardcam("sanity", trained, "--out", out, "--steps", 3, *LOCAL)
    assert code == 0, err
    steps = json.loads((out / "sanity.json").read_text())["steps"]
    assert [step["randomised_from"] for step in steps] == ["dense", "two", "one"]
    assert [step["layers"] for step in steps] == [1, 2, 3]
    for step in steps:
        assert step["comparison"]["images"] == 6
        (layer,) = step["comparison"]["layers"]
        assert layer["spearman"]["n"] == 12
    assert f"random from {steps[0]['randomised_from']}" in " ".join(printed.split()).replace(
        "random weights from", "random from"
    )
    assert cv2.imread(str(out / "curve.png")) is not None
    for step in steps:
        np.testing.assert_array_equal(contents(step["run"])["target"], contents(trained)["target"])


def test_the_cascade_resumes(pictures, trained, tmp_path):
    out = tmp_path / "sanity"
    first = sanity(trained, out, steps=2, executor="local")
    done = []
    assert sanity(trained, out, steps=2, executor="local", on_event=done.append) == first
    assert not [event for event in done if type(event).__name__ == "ShardDone"]


def test_runs_without_classes_or_of_random_weights_have_no_cascade(pictures, trained, tmp_path):
    assert extract(pictures, tmp_path / "random", "--randomise", "head")[0] == 0
    code, _, err = shardcam("sanity", tmp_path / "random", "--out", tmp_path / "out", *LOCAL)
    assert code == 2 and "its weights are random already" in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_cascade_is_not_put_into_the_run(trained):
    code, _, err = shardcam("sanity", trained, "--out", trained, "--executor", "local")
    assert code == 2 and "is a run directory" in err and not (trained / "sanity.json").exists()
