import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.run.class_names import class_names


def names(labels=None, model="net-symbol.json"):
    return class_names(RunConfig(source="s", model=model, out="o", labels=labels))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.txt", "cat\ndog\n"),
        ("a.json", '["cat", "dog"]'),
        ("b.json", '{"1": "dog", "0": "cat"}'),
        ("c.json", '{"0": ["n02123", "cat"], "1": ["n02084", "dog"]}'),
    ],
)
def test_forms(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    name_of = names(str(tmp_path / file))
    assert [name_of(n) for n in (0, 1, 2)] == ["cat", "dog", "class 2"]


def test_blank_lines_at_the_end_are_no_classes(tmp_path):
    (tmp_path / "a.txt").write_text("cat\n\ndog\n \n\n")
    name_of = class_names(
        RunConfig(source="s", model="m", out="o", labels=str(tmp_path / "a.txt")), classes=3
    )
    assert [name_of(n) for n in range(4)] == ["cat", "", "dog", "class 3"]


def test_without_a_file():
    assert names()(285) == "class 285"
    assert names(model="resnet50_v1")(285) == "Egyptian cat"
    assert names(model="resnet50_v1")(5000) == "class 5000"


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        names(str(tmp_path / "gone.txt"))
    (tmp_path / "bad.json").write_text("{'a'")
    with pytest.raises(ConfigError, match="not a list of names"):
        names(str(tmp_path / "bad.json"))
