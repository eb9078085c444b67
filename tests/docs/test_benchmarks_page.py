"""The tables that ``python -m benchmarks.summary --docs`` writes have their places."""

import pytest

from benchmarks import summary


@pytest.mark.parametrize("part", summary.TABLES)
def test_the_page_has_one_place_for_each_table(part, monkeypatch):
    monkeypatch.chdir(summary.__file__.removesuffix("benchmarks/summary.py"))
    page = summary.TABLES[part][0].read_text()
    assert "| a row |" in summary.put(page, part, ["| a row |"])


def measured():
    """A round of each part."""
    ours = {"fp32": {"rate": 30.0, "reached": 0.95}, "int8": {"rate": 90.0, "reached": 0.9}}
    peers = {"torchcam": {"8": {"rate": 10.0, "start": 6.0}, "32": {"rate": 6.0, "start": 9.0}}}
    peers["openvino-xai int8"] = {"1": {"rate": 60.0, "start": 20.0}}
    ways = dict.fromkeys(("one", "all", "ray", "local", "maps", "none", "gzip"), 2.0)
    two = [{"model": "efficientnet_lite0"} | ways, {"model": "resnet50_v1"} | ways]
    commands = ("small", "small ray", "int8", "int8 again", "status", "help")
    precision = {"rates": [5.0, 6.0], "top1_agreement": 1.0, "map_correlation": 0.99}
    parts = {
        part: dict.fromkeys(("fp32", "bf16", "int8"), precision) for part in ("backbone", "network")
    }
    passes = {"seconds": [2.0, 4.0], "logits_off": 2e-7}
    agreement = {"top1_agreement": 1.0, "map_correlation": 0.99}
    transformers = {
        "onnxruntime, fp32": passes,
        "MXNet, int8": passes | agreement | {"seconds": [1.0, 1.0]},
    }
    clusters = {"seconds": 2.0, "cpu": 3.0, "GB": 0.25}
    return {
        "peers": [{"network": "resnet50"} | ours | peers],
        "commands": [dict.fromkeys(commands, 1.5)],
        "workers": two,
        "saving": two,
        "growth": [{"1000": [9.0], "20000": 9.0, "megabytes": {"driver0": (1, 2, 3)}}],
        "costs": {"gradcam": {"resnet50_v1": 1.01, "vgg16 torchcam": 1.2}},
        "precision": {"resnet50_v1": parts},
        "transformers": {"deit_tiny_patch16_224": transformers},
        "clusters": {
            "10000 of 1": [clusters],
            "CoRelAy": [{name: 10 * value for name, value in clusters.items()}],
        },
    }


def test_every_row_of_a_table_has_as_many_cells():
    figures = measured()
    for part, (_, _, table) in summary.TABLES.items():
        assert len({row.count("|") for row in table(figures[part])}) == 1, part
    told = "\n".join(summary.peers_table(figures["peers"]))
    assert "| ResNet-50, torchcam, batches of 8 | 10.0 | | 3.00x | 9.00x | 6 |" in told
    assert "| ResNet-50, openvino-xai int8 | 60.0 | | 0.50x | 1.50x | 20 |" in told
    told = summary.transformers_table(figures["transformers"])
    assert told[2:] == ["| MXNet, int8 | 3.00 (2.00 to 4.00) | logits within 2e-07; 100 %, 0.990 |"]
    told = "\n".join(summary.clusters_table(figures["clusters"]))
    assert "| CoRelAy over 10,000 of a class | 10x | 10x | 10x |" in told
