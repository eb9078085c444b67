"""Metrics of changed pictures beside torchcam's and pytorch-grad-cam's own, on real photographs.

``python -m benchmarks.evaluation_values --peers PYTHON [--images 8] RUN [RUN...]``, with finished
runs of EfficientNet-Lite0 over a folder, and a PYTHON that has torch, torchcam 0.5.0, grad-cam
1.5.7 and efficientnet-lite-pytorch 0.1.0. Both sides are given the stored maps and the same
pictures; the network is its own author's PyTorch on their side, with the same weights. ROAD is
without noise, which no two libraries draw alike, and of one image, where 20 and 40 % are removed
and its rule removes as many. A row of a Markdown table for each run: the largest difference of
any image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import benchmarks.all_cores  # noqa: F401
from shardcam import open_run
from shardcam.engine.config import RunConfig
from shardcam.engine.evaluation import explained_pairs
from shardcam.engine.evaluation.measure_shard import sampled
from shardcam.engine.evaluation.metric import ImageRows
from shardcam.engine.evaluation.pass_metrics import PASS_METRICS, measure_passes
from shardcam.engine.evaluation.passes import NetworkPasses
from shardcam.engine.methods import METHODS
from shardcam.engine.models.efficientnet_lite import packaged_weights
from shardcam.engine.models.layer_names import auto_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.normalise import normalised
from shardcam.engine.pictures.imaging import stacked, view_of
from shardcam.engine.types import Decoding

PEERS = Path(__file__).parent / "peers" / "evaluation_values.py"
MODEL, BATCH = "efficientnet_lite0", 8
NAMES = (
    *("average_drop:torchcam", "average_increase", "insertion:torchcam", "deletion:torchcam"),
    *("average_drop:pgc", "average_increase:pgc", "coherency:pgc", "morf:pgc", "lerf:pgc"),
)


def measured(folder: str, count: int, network: MxnetNetwork, layer: str) -> dict[str, np.ndarray]:
    """What the peers need of some images of a run, and our values."""
    definition = load_network(MODEL)
    preprocessing = definition.preprocessing
    decoding = Decoding(RunConfig.model_fields["max_pixels"].default)
    with open_run(folder) as run:
        rows = sampled(len(run.keys), count)
        maps = run.cam(run.layers[0])[rows]
        target, score = run["target"][rows].astype(np.int32), run["score"][rows]
        files = [Path(run.config["source"], run.keys[row]) for row in rows]
        method = METHODS[run.config["method"]]
    views = [view_of(file.read_bytes(), None, preprocessing, decoding) for file in files]
    pictures = normalised(stacked([v.pixels for v in views], preprocessing), preprocessing)
    images = ImageRows(
        rows, tuple(map(str, rows)), np.zeros(count, np.int32), target, score, target,
        np.zeros((count, 4)), np.zeros((count, 2), np.int32), pictures.shape[2:], (None,) * count,
    )  # fmt: skip
    passes = NetworkPasses(network, method, layer, preprocessing, BATCH)
    metrics = [PASS_METRICS[name] for name in NAMES]
    found = measure_passes(metrics, pictures, maps, images, passes)
    ours = {name: one.value[:, 0] for name, one in found.items()}
    ours |= {f"{n} curve": found[n].columns["curve"][:, 0] for n in ("morf:pgc", "lerf:pgc")}
    return {"pictures": pictures, "maps": maps[:, 0], "target": target[:, 0]} | ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", required=True)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("runs", nargs="+")
    options = parser.parse_args()
    explained_pairs.NOISE = 0.0
    definition = load_network(MODEL)
    layer = auto_layer(definition)
    network = MxnetNetwork(definition, (layer,), BATCH)
    columns: list[str] = []
    for folder in options.runs:
        with TemporaryDirectory() as scratch:
            arrays = Path(scratch, "arrays.npz")
            np.savez(arrays, **measured(folder, options.images, network, layer))
            command = [options.peers, str(PEERS), str(arrays), str(packaged_weights())]
            command.append(Path(folder).name)
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(told.splitlines()[-1])
        if not columns:
            columns = list(found)
            print("| method |", " | ".join(columns), "|")
            print("|---" * (len(columns) + 1) + "|")
        cells = ["" if found[name] is None else f"{found[name]:.1g}" for name in columns]
        print(f"| `{Path(folder).name}` |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
