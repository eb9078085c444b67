"""A run's options in a file: written, read, overridden, refused in one line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardcam.engine.config import SAVEABLE, RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.jobs.commands.extract import extract
from shardcam.jobs.config_file import config_yaml, read_config_file
from shardcam.jobs.options import make_config
from tests.jobs.command import shardcam

NEEDED = {"source": "/photos", "model": "vgg16", "out": "/run"}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


def typed(*arguments):
    """The configuration of a command line."""
    given = extract.make_context("extract", list(map(str, arguments))).params
    del given["print_config"]
    return make_config(given)


@settings(deadline=None, max_examples=40)
@given(
    st.fixed_dictionaries(
        {"source": TEXT.map("/data/{}".format), "model": st.just("vgg16"), "out": st.just("/run")},
        optional={
            "target": TEXT,
            "layer": st.lists(TEXT, min_size=1, max_size=3),
            "save": st.lists(st.sampled_from(SAVEABLE), min_size=1),
            "mean": st.lists(st.floats(-300, 300), min_size=1, max_size=3),
            "fast_decode": st.booleans(),
            "limit": st.integers(1, 10**9),
            "max_failed": st.floats(0, 1),
        },
    )
)
def test_what_is_printed_is_what_is_read(tmp_path_factory, values):
    file = tmp_path_factory.getbasetemp() / "printed.yaml"
    config = RunConfig(**values)
    file.write_text(config_yaml(config))
    assert typed("--config", file) == config.absolute()


def test_the_command_line_wins(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "source: photos\nmodel: vgg16\nout: run\nbatch_size: 4\nfast_decode: true\n"
        "save: [maps, logits]\nlayer: [a, b]\nmax_failed: 0.5\n"
    )
    config = typed(
        *("others", "--config", file, "--batch-size", 2, "--no-fast-decode"),
        *("--save", "pooled", "--layer", "c", "--max-failed", 0),
    )
    assert (config.source, config.model, config.out) == ("others", "vgg16", "run")
    assert (config.batch_size, config.fast_decode, config.save) == (2, False, ("pooled",))
    assert (config.layer, config.max_failed) == (("c",), 0.0)


def test_a_file_need_not_say_all(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: vgg16\n")
    assert typed("photos", "--config", file, "--out", "run").model == "vgg16"
    with pytest.raises(ConfigError, match="--out is missing: give it here or in --config"):
        typed("photos", "--config", file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batchsize: 3", "unknown key 'batchsize'; nearest: batch_size"),
        ("yes: 3", "unknown key 'true'"),
        ("batch_size: '8'", "batch_size: Input should be a valid integer"),
        ("batch_size: true", "batch_size: Input should be a valid integer"),
        ("fast_decode: 1", "fast_decode: Input should be a valid boolean"),
        ("target: 1", "target: Input should be a valid string"),
        ("save: maps", "save: must be a list, such as [A, B]"),
        ("save: [mops]", "save: takes maps, activations"),
        ("mean: [1, a, 3]", "mean: Input should be a valid number"),
        ("precision: fp64", "precision: Input should be 'fp32', 'bf16', 'int8', 'fp16' or 'tf32'"),
        ("model: vgg16\nsave: [", "line 2: not YAML: "),
        ("out: !!python/object/apply:os.system [id]", "line 1: not YAML: could not determine"),
        ("just words", "must hold lines of the form `batch_size: 8`"),
        ("", "must hold lines of the form `batch_size: 8`"),
        ("a: \x01", "not YAML: "),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, words):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config_file(file)
    said = str(caught.value)
    assert said.startswith(f"{file}: ") and words in said and "\n" not in said


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="binary: not UTF-8 text"):
        read_config_file(tmp_path / "binary")
    with pytest.raises(ConfigError, match=r"--config .*none: No such file"):
        read_config_file(tmp_path / "none")


def test_print_config_prints_and_does_nothing_else(tmp_path):
    given = ("photos", "--model", "vgg16", "--out", "run", "--params", "random")
    code, out, err = shardcam("extract", *given, "--print-config", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert f"source: {tmp_path}/photos\nmodel: vgg16\nout: {tmp_path}/run\nparams: random\n" in out
    assert not list(tmp_path.iterdir())
